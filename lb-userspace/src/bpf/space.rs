//! A network namespace of one's own, and a BPF file system.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace: one without a name ends with this value, and with whatever is in it.
#[derive(Debug)]
pub struct Space {
    net: File,
}

impl Space {
    /// A new one, with a loopback interface that is down.
    ///
    /// # Errors
    /// The kernel refused: it takes `CAP_SYS_ADMIN`.
    pub fn new() -> io::Result<Self> {
        let net = in_thread(|| {
            // SAFETY: what this thread has of its own from here on is the network namespace; descriptors stay shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            File::open("/proc/thread-self/ns/net")
        })?;
        Ok(Self { net })
    }

    /// A descriptor of it, for as long as the value lives.
    #[must_use]
    pub fn net(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }

    /// The one that `ip netns` calls `name`, or that is at this absolute path.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> io::Result<Self> {
        Ok(Self { net: File::open(Path::new("/run/netns").join(name))? })
    }

    /// Runs `work` in a thread that is in it.
    ///
    /// # Errors
    /// The thread cannot be had or moved; what `work` says.
    pub fn run<R: Send, E: From<io::Error> + Send>(
        &self,
        work: impl FnOnce() -> Result<R, E> + Send,
    ) -> Result<R, E> {
        in_thread(|| {
            move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(io::Error::from)?;
            work()
        })
    }
}

/// Gives this thread, and those that it starts, a BPF file system at `/sys/fs/bpf` that nobody else sees. It ends with the
/// last of them, however that ends, and what is pinned there with it.
///
/// # Errors
/// The kernel refused: it takes `CAP_SYS_ADMIN`.
pub fn own_bpffs() -> io::Result<()> {
    // SAFETY: what this thread has of its own from here on are the mounts and its directory; descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    // What the node unmounts meanwhile goes here, too; what is mounted here it does not get.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(mount("bpffs", "/sys/fs/bpf", "bpf", MountFlags::empty(), None)?)
}

/// Runs `work` in a thread of its own, whose panic goes on here.
fn in_thread<R: Send, E: From<io::Error> + Send>(work: impl FnOnce() -> Result<R, E> + Send) -> Result<R, E> {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, work)?.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
