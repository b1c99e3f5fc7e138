//! What test programs print: their closing lines, the tests that passed, and what those said that failed.

use std::collections::BTreeSet;
use std::fmt;

use crate::tally::Tally;

/// Lines that are kept of what a failed test said: enough for its message, not for a document that it prints.
const KEPT: usize = 40;

/// What was read of one test program, or of several.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The sum of the closing lines.
    pub tally: Tally,
    /// The names of the tests that passed, without their modules.
    pub passed: BTreeSet<String>,
    /// The tests that failed.
    pub failures: Vec<Failure>,
    /// Whether the line that comes is part of the last one.
    within: bool,
}

/// A test that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    test: String,
    said: Vec<String>,
}

impl Transcript {
    /// Reads one more line of a program; several programs have a transcript each.
    pub fn add(&mut self, line: &str) {
        let line = line.trim_end();
        self.tally.add(line);
        let passed = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... ok"));
        self.passed.extend(passed.and_then(|path| path.rsplit("::").next()).map(str::to_owned));
        let begins = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        if let Some(test) = begins {
            self.failures.push(Failure { test: test.to_owned(), said: Vec::new() });
            self.within = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.within = false;
        } else if let (true, Some(Failure { said, .. })) = (self.within, self.failures.last_mut())
            && (said.len() < KEPT && !(said.is_empty() && line.is_empty()))
        {
            said.push(line.to_owned());
        }
    }

    /// Puts what another one read after what this one has.
    pub fn append(&mut self, other: Self) {
        self.tally += other.tally;
        self.passed.extend(other.passed);
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "failed: {}", self.test)?;
        self.said.iter().filter(|line| !line.is_empty()).try_for_each(|line| writeln!(f, "  {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "
running 3 tests
test a::fine ... ok
test a::wrong ... FAILED
test b::worse ... FAILED

failures:

---- a::wrong stdout ----

thread 'a::wrong' (7) panicked at a.rs:1:2:
left is not right

---- b::worse stdout ----
Error: a reason


failures:
    a::wrong
    b::worse

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn read(text: &str) -> Transcript {
        let mut transcript = Transcript::default();
        text.lines().for_each(|line| transcript.add(line));
        transcript
    }

    #[test]
    fn what_failed_tests_said_is_kept() {
        let mut transcript = read(PRINTED);
        assert_eq!(transcript.tally, Tally { passed: 1, failed: 2, skipped: 0 });
        assert_eq!(transcript.passed, BTreeSet::from(["fine".to_owned()]));
        let told: Vec<_> = transcript.failures.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "failed: a::wrong\n  thread 'a::wrong' (7) panicked at a.rs:1:2:\n  left is not right\n",
                "failed: b::worse\n  Error: a reason\n"
            ]
        );
        transcript.append(read(PRINTED));
        assert_eq!((transcript.tally.failed, transcript.failures.len()), (4, 4));
    }

    #[test]
    fn of_much_the_beginning_is_kept() {
        let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let transcript = read(&format!("---- long stdout ----\n{lines}\nfailures:\nnot this\n"));
        let [failure] = transcript.failures.as_slice() else { panic!("{transcript:?}") };
        assert_eq!((failure.said.len(), failure.said[0].as_str()), (KEPT, "line 0"));
    }
}
