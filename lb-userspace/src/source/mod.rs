//! Where objects come from: a folder of manifests, or an API server.

pub mod api;
pub mod manifests;

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::{Kind, Object, ObjectKey};
use crate::status::Problem;
use crate::tasks::Ended;
use api::Api;
use manifests::Folder;

/// What is followed.
#[derive(Debug)]
pub enum Source {
    /// A folder of manifests.
    Folder(Folder),
    /// An API server.
    Api(Api),
}

impl Source {
    /// The next change.
    ///
    /// # Errors
    /// A task or thread of the source has ended: there are no more changes.
    pub async fn next(&mut self) -> Result<Update, Ended> {
        match self {
            Self::Folder(folder) => folder.next().await,
            Self::Api(api) => api.next().await,
        }
    }
}

/// What changed.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// What became of objects, in this order.
    pub events: Vec<Event>,
    /// Everything that is wrong now, in files, with objects that cannot be read, with the server. What is new among it has
    /// been logged.
    pub problems: Vec<Problem>,
    /// How much has been told, with this update.
    pub extent: Extent,
    /// Whether the source answers. While it does not, what has been told stands.
    pub connected: bool,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub enum Event {
    /// It is new, or not as it was.
    Set(Arc<Object>),
    /// It is gone.
    Gone(ObjectKey),
    /// Of this kind there are these alone; all of them have been told.
    Listed(Kind, HashSet<ObjectKey>),
}

/// How much of what there is has been told. It only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Extent {
    /// Too little for anything to be done (B6).
    #[default]
    Begun,
    /// Everything that could be read, and there is more.
    Partial,
    /// Everything: what has not been told is not there.
    Whole,
}
