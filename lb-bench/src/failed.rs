//! Rows that failed, beside others that did not.

use anyhow::{Error, Result, bail};

/// Errors that are told when all is over: what was measured before, or is afterwards, is not lost by them.
#[derive(Debug, Default)]
pub struct Failed(Vec<Error>);

impl Failed {
    /// What `result` has, unless that is an error, which is kept.
    pub fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// The end.
    ///
    /// # Errors
    /// Those that were kept, as one.
    pub fn end(mut self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => {
                let told: Vec<_> = self.0.iter().map(|error| format!("{error:#}")).collect();
                bail!("{}", told.join("\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_succeeds_is_had_and_what_fails_is_told_at_the_end() {
        let mut failed = Failed::default();
        assert_eq!(failed.keep(Ok(1)), Some(1));
        assert!(Failed::default().end().is_ok());
        assert_eq!(failed.keep::<u8>(Err(anyhow!("gone").context("the row rr"))), None);
        assert_eq!(failed.keep(Ok(2)), Some(2));
        assert_eq!(failed.keep::<u8>(Err(anyhow!("full"))), None);
        assert_eq!(failed.end().unwrap_err().to_string(), "the row rr: gone\nfull");
    }
}
