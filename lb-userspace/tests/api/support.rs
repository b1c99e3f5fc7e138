//! A cluster in a few lines, and what following it tells.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lb_userspace::http::Requests;
use lb_userspace::model::{Object, ObjectKey};
use lb_userspace::source::api::{Access, Api};
use lb_userspace::source::{Event, Extent};
use lb_userspace::status::Problem;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout_at;

use super::fake::{Answer, Fake, Lines, Question};

/// Longer than anything takes.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What a server holds, and how it serves it.
#[derive(Default)]
pub(crate) struct Content {
    /// Objects by resource, such as `services`.
    pub(crate) objects: BTreeMap<&'static str, Vec<Value>>,
    /// Its version.
    pub(crate) version: u64,
    /// Whether it has streaming lists.
    pub(crate) streams: bool,
    /// Those who feed its open watches, by resource.
    pub(crate) watches: BTreeMap<String, Lines>,
}

impl Content {
    /// A server with the own Node and nothing else.
    pub(crate) fn new(streams: bool) -> Self {
        let node = json!({"kind": "Node", "metadata": {"name": "n1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}});
        Self { objects: BTreeMap::from([("nodes", vec![node])]), version: 100, streams, ..Self::default() }
    }

    /// Answers as a real server does.
    pub(crate) fn answer(&mut self, question: &Question) -> Answer {
        let objects = self.objects.get(question.resource()).cloned().unwrap_or_default();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        if question.get("watch").is_empty() {
            return Answer::Text(200, json!({"metadata": metadata, "items": objects}).to_string());
        }
        let initial = question.get("sendInitialEvents") == "true";
        if initial && !self.streams {
            return refusal(422, "sendInitialEvents is forbidden for watch");
        }
        let (lines, answer) = Lines::new();
        if initial {
            objects.iter().for_each(|object| lines.send(&json!({"type": "ADDED", "object": object})));
            lines.send(&end_of_list(self.version));
        }
        self.watches.insert(question.resource().to_owned(), lines);
        answer
    }
}

/// A Status.
pub(crate) fn refusal(code: u16, message: &str) -> Answer {
    Answer::Text(code, json!({"kind": "Status", "code": code, "message": message}).to_string())
}

/// The bookmark at the end of a streaming list.
pub(crate) fn end_of_list(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version.to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"}}}})
}

/// A Service in the namespace `d`, at this version.
pub(crate) fn service(name: &str, port: u32, version: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "d", "resourceVersion": version.to_string()},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": port}]}})
}

/// A server that is followed, and what its updates add up to.
pub(crate) struct Followed {
    pub(crate) fake: Fake,
    pub(crate) content: Arc<Mutex<Content>>,
    /// The Services, as `name:port`.
    pub(crate) names: Vec<String>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) extent: Extent,
    pub(crate) connected: bool,
    pub(crate) dir: TempDir,
    /// What was asked, counted.
    pub(crate) requests: Requests,
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    api: Api,
    runtime: Runtime,
}

impl Followed {
    /// Follows a server that holds `content`.
    pub(crate) fn of(content: Content) -> Self {
        Self::with(content, Content::answer)
    }

    /// The same; `answer` may say something else.
    pub(crate) fn with(
        content: Content,
        answer: impl FnMut(&mut Content, &Question) -> Answer + Send + 'static,
    ) -> Self {
        Self::through(content, None, answer)
    }

    /// The same; through the proxy of this URL, if the kubeconfig names one.
    pub(crate) fn through(
        content: Content,
        proxy: Option<&str>,
        mut answer: impl FnMut(&mut Content, &Question) -> Answer + Send + 'static,
    ) -> Self {
        let content = Arc::new(Mutex::new(content));
        let shared = Arc::clone(&content);
        let fake = Fake::start(move |question| answer(&mut shared.lock().unwrap(), question));
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("token"), "old").unwrap();
        let access = Access::new(Some(kubeconfig(&dir, &fake.url(), proxy)), None).unwrap();
        let requests = access.requests().clone();
        let api = Api::open(access, "n1").unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self {
            fake,
            content,
            names: Vec::new(),
            problems: Vec::new(),
            extent: Extent::Begun,
            connected: false,
            dir,
            requests,
            objects: BTreeMap::new(),
            api,
            runtime,
        }
    }

    /// Takes up updates until `check` is satisfied.
    pub(crate) fn until(&mut self, what: &str, mut check: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + SOON;
        while !check(self) {
            let next = self.runtime.block_on(async { timeout_at(end.into(), self.api.next()).await });
            let Ok(next) = next else {
                panic!("{what}: {:?} {:?} {:#?}", self.extent, self.names, self.problems)
            };
            let update = next.expect("the thread lives");
            for event in update.events {
                match event {
                    Event::Set(object) => drop(self.objects.insert(object.key(), object)),
                    Event::Gone(key) => drop(self.objects.remove(&key)),
                    Event::Listed(kind, seen) => {
                        self.objects.retain(|key, _| key.kind != kind || seen.contains(key));
                    }
                }
            }
            self.names = self.objects.values().filter_map(|object| name(object)).collect();
            (self.problems, self.extent, self.connected) = (update.problems, update.extent, update.connected);
        }
    }

    /// Waits until these are the Services, as `name:port`, and everything has been told.
    pub(crate) fn expect(&mut self, services: &[&str]) {
        self.until(&format!("{services:?}"), |followed| {
            followed.extent == Extent::Whole && followed.names == services
        });
    }

    /// Waits until exactly these problems are there, each given by a part of it.
    pub(crate) fn expect_problems(&mut self, parts: &[&str]) {
        self.until(&format!("{parts:?}"), |followed| {
            let texts = followed.problems.iter().map(ToString::to_string);
            followed.problems.len() == parts.len() && texts.zip(parts).all(|(text, part)| text.contains(part))
        });
    }

    /// Sends an event to the watch of a resource.
    pub(crate) fn send(&self, resource: &str, kind: &str, object: &Value) {
        self.watch(resource).send(&json!({"type": kind, "object": object}));
    }

    /// The watch of a resource, once there is one.
    pub(crate) fn watch(&self, resource: &str) -> Lines {
        loop {
            if let Some(lines) = self.content.lock().unwrap().watches.get(resource) {
                return lines.clone();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Changes what the server holds, and ends its watches: those that come then begin with it.
    pub(crate) fn restart(&self, change: impl FnOnce(&mut Content)) {
        let mut content = self.content.lock().unwrap();
        change(&mut content);
        content.watches.clear();
    }
}

fn name(object: &Object) -> Option<String> {
    let Object::Service(service) = object else { return None };
    Some(format!("{}:{}", service.metadata.name, service.spec.ports.first()?.port))
}

fn kubeconfig(dir: &TempDir, url: &str, proxy: Option<&str>) -> PathBuf {
    let path = dir.path().join("kubeconfig");
    let text = json!({
        "clusters": [{"name": "c", "cluster": {"server": url, "proxy-url": proxy}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}
