//! The client that all followers share, made anew when it has failed.

use kube::Client;
use tokio::sync::{Mutex, Notify, mpsc};

use super::access::{Access, AccessError, Connector};
use super::gather::News;

/// Numbers clients; 0 is before the first.
pub(super) type Generation = u64;

struct State {
    connector: Connector,
    generation: Generation,
    client: Option<Client>,
}

/// A way to the server that mends itself.
pub(super) struct Link {
    state: Mutex<State>,
    news: mpsc::Sender<News>,
    /// Told when the server answers again.
    pub(super) back: Notify,
}

impl Link {
    pub(super) fn new(access: Access, news: mpsc::Sender<News>) -> Self {
        let state = State { connector: Connector::new(access), generation: 0, client: None };
        Self { state: Mutex::new(state), news, back: Notify::new() }
    }

    /// A client that is newer than `failed`, with its number. Credentials and names are looked up anew for it.
    pub(super) async fn client(&self, failed: Generation) -> Result<(Generation, Client), AccessError> {
        let mut state = self.state.lock().await;
        let State { connector, generation, client } = &mut *state;
        if let Some(client) = client.as_ref().filter(|_| *generation > failed) {
            return Ok((*generation, client.clone()));
        }
        let (made, server) = connector.connect().await?;
        // It fails when the source is about to end.
        let _ = self.news.send(News::Server(server)).await;
        *generation += 1;
        *client = Some(made.clone());
        Ok((*generation, made))
    }
}
