//! Where objects come from.

pub mod manifests;

use std::fmt;
use std::sync::Arc;

use crate::model::{Object, ObjectKey};
use manifests::Folder;

/// What is followed.
#[derive(Debug)]
pub enum Source {
    /// A folder of manifests.
    Folder(Folder),
}

impl Source {
    /// The next change. The first one comes at once. `None`: the source has ended, which it never does by itself.
    pub async fn next(&mut self) -> Option<Update> {
        match self {
            Self::Folder(folder) => folder.next().await,
        }
    }

    /// Whether it has the Node object of every node, so that one which is missing has been deleted (B91). A folder needs to
    /// have none.
    #[must_use]
    pub const fn has_nodes(&self) -> bool {
        match self {
            Self::Folder(_) => false,
        }
    }
}

/// What changed.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Objects that are new or not as they were.
    pub upserts: Vec<Arc<Object>>,
    /// Objects that are gone.
    pub deletes: Vec<ObjectKey>,
    /// Everything that is wrong now. What is new among it has been logged.
    pub problems: Vec<Problem>,
    /// How much has been told, with this update.
    pub extent: Extent,
}

/// How much of what there is has been told. It only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Extent {
    /// Everything that could be read, and there is more.
    #[default]
    Partial,
    /// Everything: what has not been told is not there.
    Whole,
}

/// Something that could not be used, or not all of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// The file, folder or object.
    pub object: String,
    /// The line of the file, counted from 1, if it is about one.
    pub line: Option<u64>,
    /// What is wrong and what is done about it.
    pub text: String,
}

impl Problem {
    /// What it concerns, with the line.
    #[must_use]
    pub fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.object),
            None => self.object.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.text)
    }
}
