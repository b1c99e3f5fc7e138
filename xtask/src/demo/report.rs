//! One line for each thing that the demo shows: whether it held, how long it took, what was expected, what came.

use std::time::Instant;

use anyhow::Result;

/// The lines written so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    steps: u32,
    failed: u32,
}

impl Report {
    /// Does a step and writes its line. `check` gives the outcome; an error is an outcome that was not expected.
    pub(super) fn step(&mut self, expectation: &str, check: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        let (verdict, outcome) = match check() {
            Ok(outcome) => ("ok", outcome),
            Err(error) => {
                self.failed += 1;
                ("FAILED", format!("{error:#}").replace('\n', " | "))
            }
        };
        self.steps += 1;
        line(&format!("{verdict:<6} {:>5.1} s  {expectation:<72} {outcome}", start.elapsed().as_secs_f32()));
    }

    /// Writes the last line; whether everything held.
    #[must_use]
    pub(super) fn finish(self) -> bool {
        let Self { steps, failed } = self;
        match failed {
            0 => line(&format!("\nall {steps} steps held")),
            _ => line(&format!("\n{failed} of {steps} steps FAILED")),
        }
        failed == 0
    }
}

/// A line on standard output.
#[expect(clippy::print_stdout, reason = "the demo is there to be read")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}
