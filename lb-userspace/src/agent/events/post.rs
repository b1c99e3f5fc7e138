//! Events on the wire.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::ledger::{Fate, Post};
use crate::source::api::{Access, Connector};

/// Who says so (`reportingController`).
const CONTROLLER: &str = "sluice";
/// What Sluice was about to do (`action`).
const ACTION: &str = "Serve";
/// The longest that an API server takes, in bytes.
const NOTE: usize = 1024;
/// The longest `reportingInstance` that it takes.
const INSTANCE: usize = 128;
/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// Posts Events of one node.
pub(super) struct Poster {
    connector: Connector,
    node: String,
    client: Option<Client>,
}

/// As much of an Event as is read.
#[derive(Deserialize)]
struct Answer {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

impl Poster {
    pub(super) fn new(access: Access, node: &str) -> Self {
        Self { connector: Connector::new(access), node: cut(node, INSTANCE).to_owned(), client: None }
    }

    /// Posts `post` about the object that has this `uid`, or has its Event tell it again.
    ///
    /// # Errors
    /// The API server cannot be reached, or does not take it.
    pub(super) async fn post(&mut self, post: &Post, uid: &str) -> anyhow::Result<Fate> {
        let answer = timeout(ANSWER, self.try_post(post, uid)).await;
        let result = answer.unwrap_or_else(|_| Err(anyhow!("no answer after {} s", ANSWER.as_secs())));
        // Credentials may have changed, and the connection may lead nowhere: the next one is new.
        if result.is_err() {
            self.client = None;
        }
        result
    }

    async fn try_post(&mut self, post: &Post, uid: &str) -> anyhow::Result<Fate> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.connector.connect().await?.0,
        };
        let client = &*self.client.insert(client);
        let Post { subject: (key, _), series, .. } = post;
        let namespace = &*key.namespace;
        let request = Request::new(format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"));
        let question = match series {
            Some((name, count)) => {
                let series = json!({"series": {"count": count, "lastObservedTime": now()}});
                request.patch(name, &PatchParams::default(), &Patch::Merge(series))
            }
            None => {
                request.create(&PostParams::default(), event(post, uid, &self.node).to_string().into_bytes())
            }
        };
        match client.request::<Answer>(question.context("make the request")?).await {
            Ok(answer) => Ok(Fate::Posted(answer.metadata.name)),
            Err(kube::Error::Api(status)) if series.is_some() && status.code == 404 => Ok(Fate::Expired),
            Err(kube::Error::Api(status)) if series.is_none() && status.code == 409 => Ok(Fate::Known),
            // The rest of such an error says the same twice more.
            Err(kube::Error::Api(status)) => Err(anyhow!("{}", status.message)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The Event that says what `post` does, about a Service.
fn event(post: &Post, uid: &str, node: &str) -> Value {
    let Post { subject: (key, reason), note, .. } = post;
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name(post, uid, node), "namespace": &*key.namespace},
        "eventTime": now(),
        "type": "Warning",
        "reason": reason.name(),
        "action": ACTION,
        "note": cut(note, NOTE),
        "reportingController": CONTROLLER,
        "reportingInstance": node,
        "regarding": {
            "apiVersion": "v1", "kind": key.kind.name(), "namespace": &*key.namespace, "name": &*key.name, "uid": uid,
        },
    })
}

/// The same for the same on all nodes, unless it is about the node, and after a restart: an Event of this name says it.
fn name(post: &Post, uid: &str, node: &str) -> String {
    let Post { subject: (key, reason), note, .. } = post;
    let mut hasher = DefaultHasher::new();
    (uid, reason.name(), note, reason.is_of_node().then_some(node)).hash(&mut hasher);
    format!("{}.{:016x}", key.name, hasher.finish())
}

/// RFC 3339 with microseconds, as the API server wants it.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// As much of `text` as fits `most` bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, ObjectKey, Reason};

    #[test]
    fn an_event_is_the_same_on_all_nodes_unless_it_is_about_the_node() {
        let named = |reason, note: &str, uid, node| {
            let subject = (ObjectKey::new(Kind::Service, "shop", "web"), reason);
            name(&Post { subject, note: note.to_owned(), series: None }, uid, node)
        };
        let one = named(Reason::InvalidAddress, "bad", "7", "n1");
        assert!(one.starts_with("web.") && one.len() == 20, "{one}");
        assert_eq!(one, named(Reason::InvalidAddress, "bad", "7", "n2"));
        for other in [
            named(Reason::InvalidAddress, "worse", "7", "n1"),
            named(Reason::InvalidPort, "bad", "7", "n1"),
            named(Reason::InvalidAddress, "bad", "8", "n1"),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(named(Reason::NoRoom, "full", "7", "n1"), named(Reason::NoRoom, "full", "7", "n2"));
    }

    #[test]
    fn an_event_names_its_object_and_fits_what_the_server_takes() {
        let subject = (ObjectKey::new(Kind::Service, "shop", "web"), Reason::InvalidAddress);
        let post = Post { subject, note: "ä".repeat(600), series: None };
        let event = event(&post, "7", "n1");
        assert_eq!(event["regarding"]["uid"], "7");
        assert_eq!(
            (&event["metadata"]["namespace"], &event["reason"]),
            (&json!("shop"), &json!("InvalidAddress"))
        );
        assert_eq!(event["note"].as_str().map(str::len), Some(NOTE));
        let time: Timestamp = event["eventTime"].as_str().unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(time).as_secs() < 60);
    }
}
