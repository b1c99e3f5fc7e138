//! The synchronous core.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use lb_common::Proto;
use tracing::{debug, info, warn};

use super::addresses::Addresses;
use super::progress::{Attempt, Book, concerned};
use super::trouble::Troubles;
use super::{Change, Report};
use crate::model::{ServicePort, ServicePortKey};
use crate::plan::{FrontendAddr, Op, Shadow, frontends_of, plan};
use crate::status::Problem;
use crate::tables::{Grace, TableError, Tables};

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Operations that the tables took.
    pub operations: u64,
    /// What had been changed from outside and was put right.
    pub repairs: u64,
}

/// Service ports by the frontends that they are to have.
type Claims = HashMap<FrontendAddr, ServicePortKey>;

/// The tables, their mirror, and what they should be.
pub struct Reconciler<T> {
    tables: T,
    shadow: Shadow,
    desired: BTreeMap<ServicePortKey, Arc<ServicePort>>,
    dirty: BTreeSet<ServicePortKey>,
    /// Service ports of a former agent that stay until the list is whole.
    kept: BTreeSet<ServicePortKey>,
    addresses: Addresses,
    troubles: Troubles,
    /// Whether the full list has come.
    listed: bool,
    /// Whether an operation failed that may have been carried out: the mirror may be wrong where there is trouble.
    doubtful: bool,
    /// Whether everything is to be compared.
    audit: bool,
    /// Why the last reading failed.
    unread: Option<String>,
    book: Book,
    /// What the current step, or the last one, did.
    attempts: [Attempt; 2],
    /// When whoever calls began; `None`: not known.
    started: Option<Timestamp>,
    report: Report,
}

impl<T: Tables> Reconciler<T> {
    /// Takes over `tables` as they are; writes nothing. `node` is the node's name. Blocks for a grace period, after which
    /// no program reads what a former agent had given back.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn adopt(tables: T, node: &str) -> Result<Self, TableError> {
        tables.grace()();
        Ok(Self {
            shadow: Shadow::new(tables.read()?, node),
            tables,
            desired: BTreeMap::new(),
            dirty: BTreeSet::new(),
            kept: BTreeSet::new(),
            addresses: Addresses::default(),
            troubles: Troubles::default(),
            listed: false,
            doubtful: false,
            audit: false,
            unread: None,
            book: Book::default(),
            attempts: Default::default(),
            started: None,
            report: Report::default(),
        })
    }

    /// The tables.
    pub const fn tables(&self) -> &T {
        &self.tables
    }

    /// The tables, to change them behind the reconciler's back.
    pub const fn tables_mut(&mut self) -> &mut T {
        &mut self.tables
    }

    /// Gives the tables back, as they are.
    pub fn into_tables(self) -> T {
        self.tables
    }

    /// The tables' mirror.
    pub const fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// Notes what is desired; [`Reconciler::step`] does it.
    pub fn desire(&mut self, change: Change) {
        let changes = match change {
            Change::Update(changes) => changes,
            Change::Replace(changes) => {
                self.kept.clear();
                self.start_over();
                changes
            }
            Change::Partial(changes) => {
                self.kept = self.shadow.keys_with_backends().cloned().collect();
                self.start_over();
                changes
            }
            Change::Whole => {
                self.dirty.append(&mut self.kept);
                return;
            }
            Change::Own(own) => {
                if own.node != self.addresses.own.node {
                    let guarded = self.desired.iter().filter(|(_, port)| port.is_guarded());
                    self.dirty.extend(guarded.map(|(key, _)| key.clone()));
                }
                return self.addresses.follow(own);
            }
            Change::Seen(seen) => return self.book.see(seen, self.started),
        };
        for (key, desired) in changes {
            let after = desired.as_deref();
            self.book.desire(&key, self.desired.get(&key).map(AsRef::as_ref), after);
            match desired {
                Some(desired) => self.desired.insert(key.clone(), desired),
                None => self.desired.remove(&key),
            };
            self.dirty.insert(key);
        }
    }

    /// Counts from now on how long it takes from what happens in the cluster to its effect here. `now`: by the clock on the
    /// wall.
    pub const fn watch(&mut self, now: Timestamp) {
        self.started = Some(now);
    }

    /// Notes at `now` that what is desired waits to be programmed. True if nothing of a family has been waiting so far.
    pub fn queue(&mut self, now: Instant) -> bool {
        self.listed && self.book.queue(concerned(self.dirty.iter().map(|key| key.family)), now)
    }

    /// Notes that the step that began at `began` is over at `now`, which is `wall` by the clock on the wall.
    pub fn end(&mut self, began: Instant, now: Instant, wall: Timestamp) {
        self.book.end(self.attempts, self.unread.is_none(), began, now, wall);
    }

    fn start_over(&mut self) {
        self.listed = true;
        self.audit = true;
        let gone = mem::take(&mut self.desired);
        gone.iter().for_each(|(key, port)| self.book.desire(key, Some(port), None));
        self.dirty.extend(gone.into_keys());
        self.dirty.extend(self.shadow.keys().cloned());
    }

    /// Has the next step compare the tables with their mirror, and repair what differs.
    pub const fn verify(&mut self) {
        self.audit = true;
    }

    /// When the next step has something to do.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.listed {
            return None;
        }
        if self.audit || self.book.news || !self.dirty.is_empty() {
            return Some(now);
        }
        self.addresses.due(now).into_iter().chain(self.troubles.next()).min()
    }

    /// Programs what has changed and what is due for another attempt. One Service port's failure holds up no other.
    pub fn step(&mut self, now: Instant) -> Outcome {
        if !self.listed {
            return Outcome::default();
        }
        let before = (self.report.operations, self.report.repairs);
        self.attempts = Default::default();
        self.book.news = false;
        self.kept.retain(|key| self.desired.get(key).is_none_or(|it| it.serving.is_empty()));
        let mut changed = mem::take(&mut self.dirty);
        changed.extend(self.troubles.due(now).cloned());
        let mut audit = mem::take(&mut self.audit);
        let retries = changed.iter().filter(|key| self.troubles.concern(key)).count();
        self.report.retries += retries as u64;
        let address_due = self.addresses.due(now);
        let readdress = address_due.is_some_and(|due| due <= now);
        let read = (audit || self.doubtful && (readdress || retries > 0)).then(|| self.read_again());
        if read == Some(false) {
            audit = false;
            if self.doubtful {
                self.troubles.postpone(now);
                changed.retain(|key| !self.troubles.concern(key));
            }
        }
        let mut keys = changed.clone();
        if audit {
            keys.extend(self.desired.keys().chain(self.shadow.keys()).cloned());
        }
        keys.retain(|key| !self.kept.contains(key));
        let (kept, gone): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| self.desired.contains_key(key));
        // A frontend that moves goes over in one write: its new Service port comes before the old one would remove it.
        let claims = self.claims(&kept);
        for key in kept.into_iter().chain(gone) {
            let operations = self.program(&key, &claims, now);
            if operations > 0 && !changed.contains(&key) {
                warn!(service = %key, operations, "the tables had been changed from outside; repaired");
                self.report.repairs += 1;
            }
        }
        for (frontend, claimant) in &claims {
            let holder = self.shadow.holder(frontend).filter(|holder| *holder != claimant);
            if let Some(holder) = holder.cloned() {
                self.program(&holder, &Claims::new(), now);
            }
        }
        if read == Some(true) {
            self.remove_strays();
        }
        if readdress || read == Some(true) {
            self.put_addresses(address_due.is_none(), now);
        }
        self.report.synced = true;
        Outcome { operations: self.report.operations - before.0, repairs: self.report.repairs - before.1 }
    }

    /// How things stand.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut problems = self.troubles.problems();
        if let Some(text) = &self.unread {
            problems.push(Problem::new("tables", &**text));
        }
        let text = "it stays as a former agent left it until all manifests can be read";
        problems.extend(self.kept.iter().map(|key| Problem::new(key.to_string(), text)));
        problems.extend(self.addresses.problem());
        let held = self.addresses.own.held.iter().copied().filter(|addr| self.shadow.is_held(addr)).collect();
        Report {
            service_ports: self.desired.len(),
            families: self.book.families.clone(),
            seen: self.book.seen,
            pending: self.book.pending,
            objects: self.book.objects.clone(),
            used: self.shadow.used().to_vec(),
            held,
            problems,
            ..self.report.clone()
        }
    }

    /// A wait that must end before what was given back can be handed out again, if anything was. To be called where
    /// blocking does no harm, and followed by [`Reconciler::end_grace`].
    pub fn begin_grace(&mut self) -> Option<Grace> {
        self.shadow.begin_grace().then(|| self.tables.grace())
    }

    /// The wait is over: what did not fit is tried again.
    pub fn end_grace(&mut self) {
        if self.shadow.end_grace() {
            self.dirty.extend(self.troubles.without_room().cloned());
        }
    }

    /// Which of `keys` is to have which frontend.
    fn claims(&self, keys: &[ServicePortKey]) -> Claims {
        let desired = keys.iter().filter_map(|key| Some((key, self.desired.get(key)?)));
        desired
            .flat_map(|(key, service)| {
                frontends_of(key, service).map(|(frontend, _)| (frontend, key.clone()))
            })
            .collect()
    }

    /// Carries out what `key` needs; how many operations that were. Frontends that others claim are left to them.
    fn program(&mut self, key: &ServicePortKey, claims: &Claims, now: Instant) -> u64 {
        let before = self.report.operations;
        let known = self.shadow.service_id(key).is_some();
        let failure = match plan(
            &self.shadow,
            key,
            self.desired.get(key).map(AsRef::as_ref),
            |frontend| claims.contains_key(frontend),
            &self.addresses.own,
        ) {
            Err(no_room) => Some((no_room.to_string(), true)),
            Ok(ops) => self.carry_out(&ops).err().map(|error| (error.to_string(), error.is_full())),
        };
        let operations = self.report.operations - before;
        let attempt = &mut self.attempts[key.family as usize];
        attempt.tried += 1;
        attempt.refused += u64::from(matches!(failure, Some((_, false))));
        self.report.failures += u64::from(failure.is_some());
        if key.proto == Proto::Udp {
            self.report.datagrams += operations;
        }
        match failure {
            None => {
                if self.troubles.succeeded(key) {
                    info!(service = %key, "programmed after all");
                } else if operations > 0 {
                    debug!(service = %key, operations, "programmed");
                }
            }
            Some((text, no_room)) => {
                // A map was full although there should have been room: a new Service port is left out whole.
                if no_room
                    && !known
                    && operations > 0
                    && let Ok(ops) = plan(&self.shadow, key, None, |_| false, &self.addresses.own)
                {
                    // What fails here is tried again, too: the mirror still holds it.
                    let _ = self.carry_out(&ops);
                }
                if self.troubles.failed(key, text.clone(), no_room, now) {
                    warn!(service = %key, error = text, "cannot be programmed; will be tried again");
                }
            }
        }
        operations
    }

    fn carry_out(&mut self, ops: &[Op]) -> Result<(), TableError> {
        for op in ops {
            if let Err(error) = self.tables.apply(op) {
                if !error.is_full() {
                    self.shadow.doubt(op);
                    self.doubtful = true;
                }
                return Err(error);
            }
            self.shadow.apply(op);
            self.report.operations += 1;
        }
        Ok(())
    }

    /// Makes addresses known as what they are, those too that no Service port has; `repair`: if they should have been.
    fn put_addresses(&mut self, repair: bool, now: Instant) {
        let ops = self.shadow.readdress(&self.addresses.own);
        let before = self.report.operations;
        let result = self.carry_out(&ops);
        let written = self.report.operations - before;
        if repair && written > 0 {
            warn!(written, "the table of addresses had been changed from outside; repaired");
            self.report.repairs += written;
        }
        self.addresses.written(result, now);
    }

    /// Makes a new mirror; `false` if the tables cannot be read.
    fn read_again(&mut self) -> bool {
        match self.tables.read() {
            Ok(snapshot) => {
                self.shadow.renew(snapshot);
                self.doubtful = false;
                self.unread = None;
                true
            }
            Err(error) => {
                let text = format!("cannot be read: {error}");
                if self.unread.as_ref() != Some(&text) {
                    warn!(error = text, "the tables cannot be compared");
                }
                self.unread = Some(text);
                false
            }
        }
    }

    fn remove_strays(&mut self) {
        let strays = self.shadow.strays(&self.addresses.own);
        if strays.is_empty() {
            return;
        }
        let before = self.report.operations;
        let result = self.carry_out(&strays);
        let removed = self.report.operations - before;
        self.report.repairs += removed;
        warn!(removed, "the tables held entries of no Service port; removed");
        if let Err(error) = result {
            warn!(%error, "some could not be removed; the next comparison tries again");
        }
    }
}
