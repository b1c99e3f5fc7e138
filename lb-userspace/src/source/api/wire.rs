//! What is asked, and what is answered, item by item.

use std::sync::Arc;

use http::Request as Question;
use kube::api::{ListParams, WatchParams};
use kube::core::request::Error as RequestError;
use kube::core::{Request, Status};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::value::RawValue;

use crate::model::{Kind, Object, ObjectKey};

/// Objects in a page of an ordinary list.
const PAGE: u32 = 500;
/// Services and slices of other proxies (B1).
const OF_OTHERS: &str = "service.kubernetes.io/service-proxy-name";
/// Slices of headless Services (B2).
const HEADLESS: &str = "service.kubernetes.io/headless";
/// The annotation of the bookmark at the end of a streaming list.
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// What is followed: a kind of objects, or a part of them.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    path: &'static str,
    labels: Option<String>,
    fields: Option<String>,
}

impl Resource {
    /// All that is followed, for the node called `node`.
    pub(super) fn all(node: &str) -> [Self; 4] {
        let of = |kind, path| Self { kind, path, labels: None, fields: None };
        [
            Self {
                labels: Some(format!("!{OF_OTHERS}")),
                fields: Some("spec.clusterIP!=None".to_owned()),
                ..of(Kind::Service, "/api/v1/services")
            },
            Self {
                labels: Some(format!("!{OF_OTHERS},!{HEADLESS}")),
                ..of(Kind::EndpointSlice, "/apis/discovery.k8s.io/v1/endpointslices")
            },
            Self { fields: Some(format!("metadata.name={node}")), ..of(Kind::Node, "/api/v1/nodes") },
            of(Kind::ServiceCidr, "/apis/networking.k8s.io/v1/servicecidrs"),
        ]
    }

    /// The request for a page of a list: the one after `next`, or the first; of one object if all that is asked for is
    /// where the server stands.
    pub(super) fn list(
        &self,
        next: Option<String>,
        limit: Option<u32>,
    ) -> Result<Question<Vec<u8>>, RequestError> {
        let params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(limit.unwrap_or(PAGE)),
            continue_token: next,
            ..ListParams::default()
        };
        Request::new(self.path).list(&params)
    }

    /// The request for what comes after `version`; without one, for everything there is and what comes then.
    pub(super) fn watch(
        &self,
        version: Option<&str>,
        seconds: u32,
    ) -> Result<Question<Vec<u8>>, RequestError> {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: version.is_none(),
        };
        Request::new(self.path).watch(&params, version.unwrap_or_default())
    }
}

/// A page of a list.
pub(super) struct Page {
    /// The state of the server that it shows.
    pub(super) version: String,
    /// Where the next page begins; `None`: this is the last one.
    pub(super) next: Option<String>,
    /// Its objects.
    pub(super) items: Vec<Item>,
}

/// An object, or what keeps it from being one.
pub(super) type Item = Result<Arc<Object>, Fault>;

/// An object that could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    /// Which one it would have been; `None` if not even that could be read.
    pub(super) key: Option<ObjectKey>,
    /// What is wrong, with the path of the field.
    pub(super) reason: String,
}

/// A line of a watch.
pub(super) enum Event {
    /// The object is like this now.
    Set(Item),
    /// There is no such object any more.
    Gone(ObjectKey),
    /// Nothing has changed up to here.
    Mark {
        /// Everything that was there has been told: the end of a streaming list.
        end_of_list: bool,
    },
    /// The server ends the watch.
    Error(Box<Status>),
    /// Something newer servers may say.
    Unknown,
}

#[derive(Deserialize)]
struct RawList<'a> {
    metadata: RawMetadata,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What is read of an object whose kind does not matter, and of a list.
#[derive(Deserialize)]
struct RawObject {
    metadata: RawMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMetadata {
    name: String,
    namespace: String,
    resource_version: String,
    r#continue: String,
    annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Reads a page of a list of objects of `kind`.
///
/// # Errors
/// It is no list.
pub(super) fn page(kind: Kind, text: &[u8]) -> serde_json::Result<Page> {
    let RawList { metadata, items } = serde_json::from_slice(text)?;
    // Whatever answers here without a version is no API server: what it does not name is not gone.
    if metadata.resource_version.is_empty() {
        return Err(serde_json::Error::custom("a list without metadata.resourceVersion"));
    }
    Ok(Page {
        version: metadata.resource_version,
        next: Some(metadata.r#continue).filter(|next| !next.is_empty()),
        items: items.unwrap_or_default().into_iter().map(|text| item(kind, text.get())).collect(),
    })
}

/// Reads a line of a watch of objects of `kind`, and which state of the server it leads to; empty if it does not say.
///
/// # Errors
/// It is no event.
pub(super) fn event(kind: Kind, line: &[u8]) -> serde_json::Result<(String, Event)> {
    let RawEvent { r#type, object } = serde_json::from_slice(line)?;
    let text = object.get();
    let seen = |metadata: RawMetadata, event| Ok((metadata.resource_version, event));
    match r#type {
        "ADDED" | "MODIFIED" => match item(kind, text) {
            Ok(object) => Ok((object.metadata().resource_version.clone(), Event::Set(Ok(object)))),
            fault => seen(metadata(text), Event::Set(fault)),
        },
        "DELETED" => {
            let metadata = metadata(text);
            let key = key(kind, &metadata);
            seen(metadata, key.map_or(Event::Unknown, Event::Gone))
        }
        "BOOKMARK" => {
            let metadata = metadata(text);
            let end_of_list = metadata
                .annotations
                .as_ref()
                .is_some_and(|annotations| annotations.contains_key(END_OF_LIST));
            seen(metadata, Event::Mark { end_of_list })
        }
        "ERROR" => Ok((String::new(), Event::Error(Box::new(serde_json::from_str(text)?)))),
        _ => Ok((String::new(), Event::Unknown)),
    }
}

fn item(kind: Kind, text: &str) -> Item {
    let object = match kind {
        Kind::Service => typed(text).map(Object::Service),
        Kind::EndpointSlice => typed(text).map(Object::EndpointSlice),
        Kind::Endpoints => typed(text).map(Object::Endpoints),
        Kind::Node => typed(text).map(Object::Node),
        Kind::Pod => typed(text).map(Object::Pod),
        Kind::ServiceCidr => typed(text).map(Object::ServiceCidr),
    };
    object
        .and_then(|object| match object.metadata().name.as_str() {
            "" => Err("it has no metadata.name".to_owned()),
            _ => Ok(Arc::new(object)),
        })
        .map_err(|reason| Fault { key: key(kind, &metadata(text)), reason })
}

/// Reads `text` as a `T`; the error has the path of the field.
fn typed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    // Paths cost time: they are asked for only where something is wrong.
    serde_json::from_str(text).map_err(|error| {
        let again: Result<T, _> =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text));
        again.err().map_or_else(|| error.to_string(), |error| error.to_string())
    })
}

fn metadata(text: &str) -> RawMetadata {
    serde_json::from_str(text).map(|object: RawObject| object.metadata).unwrap_or_default()
}

fn key(kind: Kind, metadata: &RawMetadata) -> Option<ObjectKey> {
    let RawMetadata { name, namespace, .. } = metadata;
    (!name.is_empty()).then(|| ObjectKey::new(kind, namespace.as_str(), name.as_str()))
}
