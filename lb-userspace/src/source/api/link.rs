//! The client that all followers share, made anew when it has failed.

use kube::Client;
use tokio::sync::{Mutex, Notify, mpsc};

use super::access::{Access, AccessError};
use super::gather::News;

/// Numbers clients; 0 is before the first.
pub(super) type Generation = u64;

/// A way to the server that mends itself.
pub(super) struct Link {
    access: Access,
    client: Mutex<(Generation, Option<Client>)>,
    news: mpsc::Sender<News>,
    /// Told when the server answers again.
    pub(super) back: Notify,
}

impl Link {
    pub(super) fn new(access: Access, news: mpsc::Sender<News>) -> Self {
        Self { access, client: Mutex::new((0, None)), news, back: Notify::new() }
    }

    /// A client that is newer than `failed`, with its number. Credentials and names are looked up anew for it.
    pub(super) async fn client(&self, failed: Generation) -> Result<(Generation, Client), AccessError> {
        let mut current = self.client.lock().await;
        if let (generation, Some(client)) = &*current
            && *generation > failed
        {
            return Ok((*generation, client.clone()));
        }
        let (client, server) = self.access.connect().await?;
        // It fails when the source is about to end.
        let _ = self.news.send(News::Server(server)).await;
        *current = (current.0 + 1, Some(client.clone()));
        Ok((current.0, client))
    }
}
