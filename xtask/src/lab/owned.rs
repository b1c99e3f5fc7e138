//! A process that somebody has to end.

use std::io::{BufRead, BufReader};
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Owned(Child);

impl Owned {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.spawn().map(Self).with_context(|| format!("start {command:?}"))
    }

    /// Starts `command` and waits until it says `ready`, which is its first line.
    ///
    /// # Errors
    /// When it cannot be started, ends or says something else.
    pub fn ready(command: &mut Command) -> Result<Self> {
        let mut owned = Self::start(command.stdout(Stdio::piped()))?;
        let mut said = String::new();
        let stdout = owned.stdout.take().context("a process without output")?;
        BufReader::new(stdout).read_line(&mut said).with_context(|| format!("read from {command:?}"))?;
        ensure!(said == "ready\n", "{command:?} said {said:?}");
        Ok(owned)
    }
}

impl Deref for Owned {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
