//! News of all followers, put together.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::access::Server;
use super::wire::Fault;
use crate::model::{Kind, Object, ObjectKey};
use crate::source::{Event, Extent, Update};
use crate::status::Problem;
use crate::tasks::Ended;

/// How long the own Node and the ranges of Services are waited for once everything else is known (B5, B112).
const PATIENCE: Duration = Duration::from_secs(30);
/// News in one update at most.
const BATCH: usize = 500;
/// Objects that cannot be read are named up to this number.
const NAMED: usize = 20;

/// What a follower has to tell.
pub(super) enum News {
    /// A client was made for this server.
    Server(Server),
    /// The server answers what it is asked about the kind.
    Up(Kind),
    /// It does not, and why.
    Down(Kind, String),
    /// The object is like this now.
    Object(Arc<Object>),
    /// An object of the kind cannot be read.
    Fault(Kind, Fault),
    /// There is no such object any more.
    Gone(ObjectKey),
    /// All objects of the kind have been told since the last time: these.
    Listed(Kind, HashSet<ObjectKey>),
}

/// What is known of the source as a whole.
#[derive(Debug)]
pub(super) struct Gather {
    node: String,
    server: Option<Server>,
    /// Addresses of Service `kubernetes`, as it writes them.
    kubernetes: Vec<String>,
    listed: BTreeSet<Kind>,
    down: BTreeMap<Kind, String>,
    /// Objects that cannot be read; the key is `None` if it is not known which.
    faults: BTreeMap<(Kind, Option<ObjectKey>), String>,
    /// Whether there is the own Node with an address.
    addressed: bool,
    /// When the Node is waited for no longer.
    patience: Option<Instant>,
    extent: Extent,
    told: BTreeSet<Problem>,
}

impl Gather {
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            server: None,
            kubernetes: Vec::new(),
            listed: BTreeSet::new(),
            down: BTreeMap::new(),
            faults: BTreeMap::new(),
            addressed: false,
            patience: None,
            extent: Extent::Begun,
            told: BTreeSet::new(),
        }
    }

    /// Makes updates of `news` until one of the ends is gone.
    pub(super) async fn run(
        mut self,
        mut news: mpsc::Receiver<News>,
        updates: &mpsc::Sender<Result<Update, Ended>>,
    ) {
        let mut batch = Vec::new();
        loop {
            let patience = self.patience.filter(|_| self.extent == Extent::Begun);
            tokio::select! {
                count = news.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {}
            }
            let update = self.update(batch.drain(..), Instant::now());
            if updates.send(Ok(update)).await.is_err() {
                return;
            }
        }
    }

    /// What `news` add up to.
    fn update(&mut self, news: impl Iterator<Item = News>, now: Instant) -> Update {
        let mut update = Update::default();
        for news in news {
            self.take(news, &mut update);
        }
        if [Kind::Service, Kind::EndpointSlice].iter().all(|kind| self.listed.contains(kind)) {
            let patience = *self.patience.get_or_insert(now + PATIENCE);
            if self.addressed && self.has_ranges() || patience <= now {
                self.extent = Extent::Whole;
            }
        }
        let problems = self.problems();
        for problem in problems.difference(&self.told) {
            warn!("{problem}");
        }
        for problem in self.told.difference(&problems) {
            info!("no longer: {problem}");
        }
        self.told.clone_from(&problems);
        Update {
            problems: problems.into_iter().collect(),
            extent: self.extent,
            connected: self.server.is_some() && self.down.is_empty(),
            ..update
        }
    }

    /// Whether the ranges of Services are known, or cannot be: those of a former agent hold until then.
    fn has_ranges(&self) -> bool {
        self.listed.contains(&Kind::ServiceCidr) || self.down.contains_key(&Kind::ServiceCidr)
    }

    fn take(&mut self, news: News, update: &mut Update) {
        let event = match news {
            News::Server(server) => {
                self.server = Some(server);
                return;
            }
            News::Up(kind) => {
                self.down.remove(&kind);
                return;
            }
            News::Down(kind, reason) => {
                self.down.insert(kind, reason);
                return;
            }
            News::Fault(kind, Fault { key, reason }) => {
                self.faults.insert((kind, key), reason);
                return;
            }
            News::Object(object) => {
                self.look(&object);
                if !self.faults.is_empty() {
                    let key = object.key();
                    self.faults.remove(&(key.kind, Some(key)));
                }
                Event::Set(object)
            }
            News::Gone(key) => {
                self.forget(key.kind, |known| *known == key);
                Event::Gone(key)
            }
            News::Listed(kind, seen) => {
                self.down.remove(&kind);
                self.forget(kind, |known| !seen.contains(known));
                self.listed.insert(kind);
                Event::Listed(kind, seen)
            }
        };
        update.events.push(event);
    }

    /// Notes what the source itself needs of an object.
    fn look(&mut self, object: &Object) {
        match object {
            Object::Node(node) => self.addressed = !node.status.addresses.is_empty(),
            Object::Service(service) if is_kubernetes(&object.key()) => {
                self.kubernetes.clone_from(&service.spec.cluster_ips);
            }
            _ => {}
        }
    }

    /// Objects of `kind` that are `gone`.
    fn forget(&mut self, kind: Kind, gone: impl Fn(&ObjectKey) -> bool) {
        if kind == Kind::Node && gone(&ObjectKey::new(Kind::Node, "", self.node.as_str())) {
            self.addressed = false;
        }
        self.faults.retain(|(of, key), _| *of != kind || key.as_ref().is_some_and(|key| !gone(key)));
    }

    fn problems(&self) -> BTreeSet<Problem> {
        let url = self.server.as_ref().map_or("API server", |server| &server.url);
        let mut problems = BTreeSet::new();
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, reason) in &self.down {
            by_reason.entry(reason).or_default().push(kind.name());
        }
        problems.extend(by_reason.into_iter().map(|(reason, kinds)| {
            let text = format!("{} not followed, what is known stays: {reason}", kinds.join(", "));
            Problem::new(url, text)
        }));
        if let Some(server) = self.server.as_ref().filter(|server| self.is_service(server)) {
            let text = "this is the address of Service kubernetes, which Sluice provides itself: a node that has \
                        just begun cannot reach it. Name an address of the API server itself by --master or in a \
                        kubeconfig";
            problems.insert(Problem::new(&*server.url, text));
        }
        if self.extent != Extent::Begun && !self.addressed {
            let text = if self.listed.contains(&Kind::Node) {
                "the API server has no such Node, or it has no address: hints for zones do not count, and without a \
                 Node it counts as not eligible. --hostname-override names another one"
            } else {
                "the API server has not told of this Node yet: hints for zones do not count"
            };
            problems.insert(Problem::new(format!("Node {}", self.node), text));
        }
        problems.extend(self.faults.iter().take(NAMED).map(|((kind, key), reason)| {
            let object = key.as_ref().map_or_else(|| format!("{kind} without a name"), ToString::to_string);
            Problem::new(object, format!("it cannot be read and is left as it was: {reason}"))
        }));
        if let Some(more) = self.faults.len().checked_sub(NAMED).filter(|more| *more > 0) {
            problems.insert(Problem::new(url, format!("{more} more objects cannot be read")));
        }
        problems
    }

    /// Whether the server is reached through a Service (B117).
    fn is_service(&self, server: &Server) -> bool {
        let addresses = self.kubernetes.iter().filter_map(|text| text.parse().ok());
        server.is_service || addresses.into_iter().any(|address: IpAddr| server.addresses.contains(&address))
    }
}

fn is_kubernetes(key: &ObjectKey) -> bool {
    (&*key.namespace, &*key.name) == ("default", "kubernetes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::{Node, NodeAddress};

    fn node(addresses: usize) -> News {
        let mut node = Node::default();
        node.metadata.name = "n1".to_owned();
        node.status.addresses = vec![NodeAddress::default(); addresses];
        News::Object(Arc::new(Object::Node(node)))
    }

    #[test]
    fn b112_the_own_node_is_waited_for_but_not_for_ever() {
        let mut gather = Gather::new("n1");
        let begin = Instant::now();
        let mut after = |seconds, news: Vec<News>| {
            let update = gather.update(news.into_iter(), begin + Duration::from_secs(seconds));
            (update.extent, update.problems.iter().map(|problem| problem.object.clone()).collect::<Vec<_>>())
        };
        let listed = |kind| News::Listed(kind, HashSet::new());
        assert_eq!(after(100, vec![listed(Kind::Service), listed(Kind::ServiceCidr)]).0, Extent::Begun);
        assert_eq!(after(200, vec![listed(Kind::EndpointSlice), node(0)]).0, Extent::Begun);
        assert_eq!(after(229, Vec::new()).0, Extent::Begun);
        assert_eq!(after(230, Vec::new()), (Extent::Whole, vec!["Node n1".to_owned()]));
        assert_eq!(after(231, vec![node(1)]), (Extent::Whole, Vec::new()));
        assert_eq!(after(232, vec![listed(Kind::Node)]).1, ["Node n1"]);
    }

    #[test]
    fn b112_with_a_node_that_has_an_address_there_is_no_wait() {
        let mut gather = Gather::new("n1");
        let lists = [Kind::Service, Kind::EndpointSlice, Kind::ServiceCidr]
            .map(|kind| News::Listed(kind, HashSet::new()));
        let update = gather.update([node(1)].into_iter().chain(lists), Instant::now());
        assert_eq!((update.extent, update.problems), (Extent::Whole, Vec::new()));
    }

    #[test]
    fn b5_the_ranges_of_services_are_waited_for_unless_they_cannot_be_had() {
        let now = Instant::now();
        let lists = || [Kind::Service, Kind::EndpointSlice].map(|kind| News::Listed(kind, HashSet::new()));
        for (news, waits) in [
            (None, true),
            (Some(News::Down(Kind::ServiceCidr, "not permitted".to_owned())), false),
            (Some(News::Listed(Kind::ServiceCidr, HashSet::new())), false),
        ] {
            let mut gather = Gather::new("n1");
            let news = [node(1)].into_iter().chain(lists()).chain(news);
            assert_eq!(gather.update(news, now).extent == Extent::Begun, waits);
            assert_eq!(gather.update([].into_iter(), now + PATIENCE).extent, Extent::Whole);
        }
    }

    #[test]
    fn b17_of_many_faults_some_are_named_and_all_are_counted() {
        let mut gather = Gather::new("n1");
        let fault = |number: usize| {
            let key = Some(ObjectKey::new(Kind::Service, "d", format!("s{number}").as_str()));
            News::Fault(Kind::Service, Fault { key, reason: "bad".to_owned() })
        };
        let update = gather.update((0..NAMED + 5).map(fault), Instant::now());
        assert_eq!(update.problems.len(), NAMED + 1);
        assert!(update.problems.iter().any(|problem| problem.text == "5 more objects cannot be read"));
    }
}
