//! The sweep: programs that walk the flow tables and remove what has ended, run from a thread of their own.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use lb_common::maps::{FLOWS4, FLOWS6, SWEEP};
use lb_common::{Addr4, Addr6, FlowKey, FlowValue, SweepReport};
use tokio::sync::oneshot;
use tracing::{debug, error};

use super::load::{Datapath, LoadError};
use super::map::{Array, Hash, MapError};
use super::sys;

/// Why a sweep failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The kernel did not run the program.
    #[error("BPF_PROG_TEST_RUN of {program}: {source}")]
    Run {
        /// Name of the program.
        program: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The report cannot be read.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// One flow table and the program that sweeps it and its LRU table.
#[derive(Debug)]
struct Table {
    program: &'static str,
    prog: OwnedFd,
    capacity: u32,
}

/// Runs the sweeps.
#[derive(Debug)]
pub struct Sweeper {
    tables: [Table; 2],
    report: Array<SweepReport>,
    longest: Duration,
}

impl Sweeper {
    /// Sweeps the tables of `datapath`, at least every `longest`.
    ///
    /// # Errors
    /// A map or program is missing.
    pub fn new(datapath: &Datapath, longest: Duration) -> Result<Self, LoadError> {
        let table = |program, capacity| -> Result<Table, LoadError> {
            let prog = datapath.program(program)?.try_clone_to_owned();
            let prog = prog.map_err(|source| MapError::Syscall { call: "dup", map: SWEEP, source })?;
            Ok(Table { program, prog, capacity })
        };
        let pins = datapath.pins();
        let flows4: Hash<FlowKey<Addr4>, FlowValue<Addr4>> = Hash::open(pins, FLOWS4)?;
        let flows6: Hash<FlowKey<Addr6>, FlowValue<Addr6>> = Hash::open(pins, FLOWS6)?;
        Ok(Self {
            tables: [table("sweep4", flows4.capacity())?, table("sweep6", flows6.capacity())?],
            report: Array::open(pins, SWEEP)?,
            longest,
        })
    }

    /// For [`lb_common::Config::embryonic`]: pairs that may be embryonic in the flow table of a family, half of those
    /// that it has room for.
    #[must_use]
    pub fn embryonic(&self) -> u32 {
        let [v4, v6] = &self.tables;
        // A pair takes two entries.
        v4.capacity.min(v6.capacity) / 4
    }

    /// For [`lb_common::Config::patience`]: after so many seconds without a sweep there is no agent.
    #[must_use]
    pub fn patience(&self) -> u32 {
        let seconds = self.longest.as_secs().saturating_mul(3).max(60);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    /// Sweeps both tables once; returns how full the fuller one is afterwards, 0 to 1.
    ///
    /// Takes a tenth of a second for a million entries: not for a thread that has something else to do.
    ///
    /// # Errors
    /// The kernel did not run a program.
    pub fn sweep(&self) -> Result<f64, SweepError> {
        let mut fullest = 0.0f64;
        for table in &self.tables {
            sys::test_run(table.prog.as_fd(), &[])
                .map_err(|source| SweepError::Run { program: table.program, source })?;
            let report = self.report.get(0)?;
            let SweepReport { scanned, pairs, expired, orphans, lru_left, embryonic, moved, .. } = report;
            debug!(
                program = table.program,
                scanned, pairs, expired, orphans, lru_left, embryonic, moved, "swept"
            );
            fullest = fullest.max(2.0 * pairs as f64 / f64::from(table.capacity));
        }
        Ok(fullest)
    }

    /// Sweeps from a new thread for as long as the process lives; what is returned ends if the thread does.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn spawn(self) -> io::Result<oneshot::Receiver<Infallible>> {
        let (alive, ended) = oneshot::channel();
        let body = move || {
            let _alive = alive;
            let mut failing = false;
            loop {
                let began = Instant::now();
                let fill = match self.sweep() {
                    Ok(fill) => {
                        failing = false;
                        fill
                    }
                    Err(problem) => {
                        if !failing {
                            error!("ended flows stay in their tables: {problem}");
                        }
                        failing = true;
                        0.0
                    }
                };
                thread::sleep(pause(fill, began.elapsed(), self.longest));
            }
        };
        thread::Builder::new().name("sweep".into()).spawn(body).map(|_| ended)
    }
}

/// How long to wait after a sweep that took `took` and left the tables `fill` full. Sweeping never takes more than a
/// fifth of a CPU.
fn pause(fill: f64, took: Duration, longest: Duration) -> Duration {
    let wanted = if fill >= 0.75 {
        Duration::from_millis(200)
    } else if fill >= 0.5 {
        Duration::from_secs(1)
    } else {
        longest
    };
    wanted.min(longest).max(took * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuller_table_is_swept_more_often() {
        let quick = Duration::from_millis(1);
        let [short, second, long] = [200, 1000, 10_000].map(Duration::from_millis);
        assert_eq!(pause(0.0, quick, long), long);
        assert_eq!(pause(0.6, quick, long), second);
        assert_eq!(pause(0.8, quick, long), short);
        assert_eq!(pause(0.0, quick, short), short);
        assert_eq!(pause(1.0, second, long), second * 4);
    }
}
