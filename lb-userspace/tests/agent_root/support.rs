//! What the tests share: directories of their own, and commands that must succeed.

use std::fs;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use lb_userspace::bpf::pin::PinDir;

/// A name that no other test, in this run or another one, has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{prefix}{}x{}",
        process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A pin directory that is removed with everything in it.
pub(crate) struct TestPins(pub(crate) PinDir);

impl TestPins {
    pub(crate) fn new() -> Self {
        Self(PinDir::new(format!("/sys/fs/bpf/{}", unique("sluice-test-"))))
    }
}

impl Drop for TestPins {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.root());
    }
}

/// Runs `command`, split at white space; returns its standard output.
pub(crate) fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command}: {}{}",
        text,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
