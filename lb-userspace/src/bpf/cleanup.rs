//! Everything taken away that an agent leaves behind.

use std::fs;
use std::io;
use std::path::Path;

use super::attach;
use super::pin::{PinDir, PinError, names};
use crate::net::reserved::{self, ReservedError};
use crate::status::StatusFile;

/// What could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// An agent is running, or a pin cannot be removed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The status file cannot be removed.
    #[error("remove the status file {path}: {source}")]
    Status {
        /// The file.
        path: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Port numbers stay reserved.
    #[error(transparent)]
    Reserved(#[from] ReservedError),
}

/// Detaches and unpins everything below the root of `pins`, whatever version made it, gives back reserved ports and
/// removes the status file. Returns whether there was anything.
///
/// Links go first: from then on no packet meets a program that is being taken apart.
///
/// # Errors
/// [`PinError::Held`] while an agent runs. What was removed before an error stays removed; running it again goes on.
pub fn cleanup(pins: &PinDir) -> Result<bool, CleanupError> {
    let dirs = pins.of_all_schemas()?;
    let locks = dirs.iter().map(PinDir::try_lock);
    let _locks: Vec<_> = locks.collect::<Result<_, _>>()?;
    // Under the locks: a running agent's ports and status file are its own.
    let reserved = reserved::release(pins.root())?;
    let status = remove_status(pins)?;
    for dir in &dirs {
        take_down(dir)?;
    }
    // Pins of somebody else may be there.
    let _ = fs::remove_dir(pins.root());
    Ok(!dirs.is_empty() | reserved | status)
}

/// The same of what agents of other schemas left below the root of `pins`, but for ports and status file, which are those
/// of the agent that runs. Returns how many there were.
///
/// # Errors
/// [`PinError::Held`] while another agent runs; a pin cannot be removed.
pub fn retire(pins: &PinDir) -> Result<usize, CleanupError> {
    let mut dirs = pins.of_all_schemas()?;
    dirs.retain(|dir| dir.base() != pins.base());
    for dir in &dirs {
        let _lock = dir.try_lock()?;
        take_down(dir)?;
    }
    Ok(dirs.len())
}

/// Detaches and unpins everything of one schema.
fn take_down(pins: &PinDir) -> Result<(), CleanupError> {
    for link in pins.links()? {
        attach::remove(&pins.link(&link))?;
    }
    for kind in PinDir::KINDS.into_iter().rev() {
        let dir = pins.base().join(kind);
        for name in names(&dir)? {
            let pin = dir.join(name);
            fs::remove_file(&pin).map_err(PinError::of("unlink", &pin))?;
        }
        remove_dir(&dir)?;
    }
    Ok(remove_dir(pins.base())?)
}

/// Removes the status file; whether there was one.
fn remove_status(pins: &PinDir) -> Result<bool, CleanupError> {
    let removed = StatusFile::of(pins.root()).and_then(|file| {
        let was = file.path().exists();
        file.remove().map(|()| was)
    });
    removed.map_err(|source| CleanupError::Status { path: pins.root().display().to_string(), source })
}

fn remove_dir(dir: &Path) -> Result<(), PinError> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinError::of("rmdir", dir)(error)),
        _ => Ok(()),
    }
}
