//! What the tests share: directories of their own, and commands that must succeed.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use lb_userspace::bpf::cleanup::cleanup;
use lb_userspace::bpf::pin::PinDir;
use lb_userspace::bpf::probe::cgroup_root;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A name that no other test, in this run or another one, has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}x{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Repeats `body` while it fails, for a second. A lock that this process has given up may be held for a moment by a child
/// that another test forks.
pub(crate) fn patiently<T, E>(mut body: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 0..100 {
        if let Ok(done) = body() {
            return Ok(done);
        }
        thread::sleep(Duration::from_millis(10));
    }
    body()
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
        let _ = patiently(|| cleanup(&self.0));
    }
}

/// Runs `command`, split at white space; returns its standard output.
pub(crate) fn run(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {}{}", text, String::from_utf8_lossy(&output.stderr));
    text
}

/// A network namespace that is removed at the end.
pub(crate) struct Netns(pub(crate) String);

impl Netns {
    pub(crate) fn new() -> Self {
        let name = unique("slt");
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
        Self(name)
    }

    /// Runs `body` on a thread inside of the namespace.
    pub(crate) fn within<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let file = fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Adds a veth pair with both ends inside; returns the index of the first.
    pub(crate) fn veth(&self, name: &str) -> u32 {
        run(&format!("ip -n {0} link add {name} type veth peer name peer-{name}", self.0));
        let shown = run(&format!("ip -n {0} -o link show {name}", self.0));
        shown.split(':').next().unwrap().parse().unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// A cgroup without processes that is removed at the end.
pub(crate) struct TestCgroup(pub(crate) PathBuf);

impl TestCgroup {
    pub(crate) fn new() -> Self {
        let path = cgroup_root(None).unwrap().join(unique("sluice-test-"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
