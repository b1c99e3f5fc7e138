//! Network namespaces: what is done in one.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sh;

/// Moves the calling thread into the namespace that `ip netns` calls `name`.
///
/// # Errors
/// When there is no such namespace.
pub(super) fn join(name: &str) -> Result<()> {
    let path = Path::new("/run/netns").join(name);
    let netns = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("setns to {}", path.display()))
}

/// Runs `work` on a thread that enters the namespace.
///
/// # Errors
/// The work's own, and when there is no such namespace.
pub(super) fn within<T: Send>(netns: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let body = || join(netns).and_then(|()| work());
    sh::joined(thread::scope(|scope| scope.spawn(body).join()))
}

/// Writes settings of a namespace: /proc/sys/net is that of the thread.
///
/// # Errors
/// When one cannot be written.
pub(super) fn set_sysctls(netns: &str, settings: &[(&str, &str)]) -> Result<()> {
    within(netns, || {
        for (name, value) in settings {
            fs::write(Path::new("/proc/sys/net").join(name), value).with_context(|| format!("set {name}"))?;
        }
        Ok(())
    })
}

/// Runs `ip -batch` in the namespace `netns`.
///
/// # Errors
/// With the output of `ip` when a line fails.
pub(super) fn ip(netns: &str, batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-netns", netns, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ip (Debian package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes()).context("write to ip")?;
    }
    let output = child.wait_with_output().context("wait for ip")?;
    if !output.status.success() {
        bail!("ip -netns {netns} -batch: {}{batch}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
