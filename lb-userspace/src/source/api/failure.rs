//! Why an attempt ended, by what follows from it.

use std::error::Error;
use std::fmt::{self, Display};
use std::time::Duration;

use kube::core::Status;

/// Why an attempt ended.
#[derive(Debug)]
pub(super) enum Failure {
    /// What comes after the known state cannot be had any more: a list is needed.
    Expired(String),
    /// The server does not take the question.
    Refused(String),
    /// The server has no streaming lists.
    NoStreams,
    /// The server does not know the kind.
    Absent,
    /// Anything else: tried again, with new credentials.
    Broken(String),
}

impl Failure {
    pub(super) fn broken(reason: impl Display) -> Self {
        Self::Broken(reason.to_string())
    }

    pub(super) fn silent(limit: Duration) -> Self {
        Self::Broken(format!("the server has said nothing for {} s", limit.as_secs()))
    }

    /// What `status` means.
    pub(super) fn of(status: &Status) -> Self {
        let Status { code, message, reason, .. } = status;
        let text = format!("{} (status {code})", if message.is_empty() { reason } else { message });
        match code {
            404 => Self::Absent,
            410 => Self::Expired(text),
            // A version from before the server lost changes; also "not yet", which a list answers as well.
            504 if message.contains("Too large resource version") => Self::Expired(text),
            400 | 405 | 406 | 415 | 422 => Self::Refused(text),
            401 => Self::Broken(format!("the credentials are not accepted: {text}")),
            403 => Self::Broken(format!("not permitted: {text}")),
            _ => Self::Broken(text),
        }
    }
}

impl From<&kube::Error> for Failure {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of(status),
            // The outer ones only say that something else failed.
            error => Self::broken(innermost(error)),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(reason) | Self::Refused(reason) | Self::Broken(reason) => f.write_str(reason),
            Self::NoStreams => f.write_str("no streaming lists"),
            Self::Absent => {
                f.write_str("the server does not have this kind of objects: is it an API server?")
            }
        }
    }
}

fn innermost<'e>(mut error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}
