//! A folder of manifests as a user edits it: real files, real inotify.

#![expect(clippy::unwrap_used, reason = "a test that cannot make its files has failed")]

mod edits;
mod faults;
mod support;
