//! What a process has taken: CPU and memory.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use procfs::process::Process;

/// How long a process must have done nearly nothing to be called idle.
const CALM: Duration = Duration::from_secs(1);

/// The share of one CPU that is nearly nothing.
const LITTLE: f64 = 0.05;

/// A process that is being looked at.
#[derive(Debug)]
pub(super) struct Usage(Process);

impl Usage {
    /// Looks at the process `id`.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn of(id: u32) -> Result<Self> {
        let process = i32::try_from(id).ok().and_then(|id| Process::new(id).ok());
        Ok(Self(process.with_context(|| format!("no process {id}"))?))
    }

    /// Seconds of CPU that it has taken, with the programs that it has run and waited for.
    ///
    /// # Errors
    /// As [`Usage::of`].
    pub(super) fn cpu(&self) -> Result<f64> {
        let stat = self.0.stat().context("read the times of a process")?;
        let children = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
        Ok((stat.utime + stat.stime + children) as f64 / procfs::ticks_per_second() as f64)
    }

    /// Mebibytes of memory that are resident now, and that were at most. What it runs besides is not counted.
    ///
    /// # Errors
    /// As [`Usage::of`].
    pub(super) fn memory(&self) -> Result<[f64; 2]> {
        let status = self.0.status().context("read the memory of a process")?;
        let [now, peak] = [status.vmrss, status.vmhwm].map(|kib| kib.unwrap_or(0) as f64 / 1024.0);
        Ok([now, peak])
    }

    /// Waits until it has nearly nothing to do, or for `limit`.
    ///
    /// # Errors
    /// As [`Usage::of`].
    pub(super) fn settle(&self, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut before = self.cpu()?;
        while begun.elapsed() < limit {
            thread::sleep(CALM);
            let now = self.cpu()?;
            if now - before <= LITTLE * CALM.as_secs_f64() {
                break;
            }
            before = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_taken_something() {
        let own = Usage::of(std::process::id()).unwrap();
        let [now, peak] = own.memory().unwrap();
        assert!(now > 0.0 && peak >= now, "{now} {peak}");
        assert!(own.cpu().unwrap() >= 0.0);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
