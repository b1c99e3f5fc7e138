//! One kind of objects, listed and watched for ever.
//!
//! ```text
//! no version ──list──> version ──watch──> next version ...
//!     ^                   |  the watch broke: where does the server stand? ──further back──┐
//!     └──────── gone (410), restored from a backup ────────────────────────────────────────┘
//! ```

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use http::Request;
use kube::Client;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::backoff::Backoff;
use super::failure::Failure;
use super::gather::News;
use super::link::{Generation, Link};
use super::wire::{self, Event, Item, Resource};
use crate::model::{Kind, ObjectKey};

/// The server has so long to begin an answer, and for each part of a list.
const ANSWER: Duration = Duration::from_secs(60);
/// A watch brings a bookmark each minute: one that has been silent for longer has lost its server.
const SILENCE: Duration = Duration::from_secs(150);
/// A streaming list has ended by then, or the server does not know what that is: it may have ignored the question.
const LIST: Duration = Duration::from_secs(60);
/// Watches are ended by the server after so many seconds, not all at once.
const WATCH: std::ops::Range<u32> = 300..600;
/// A watch that has lived for so long was a good one.
const GOOD: Duration = Duration::from_secs(5);
/// How often a server is asked again for what it does not have: it may have been upgraded, or was but slow.
const ABSENT: Duration = Duration::from_secs(600);

/// Follows one kind.
pub(super) struct Follower {
    resource: Resource,
    link: Arc<Link>,
    news: mpsc::Sender<News>,
    backoff: Backoff,
    /// The state of the server that everything is known up to; `None`: a list is needed.
    version: Option<String>,
    /// Whether the server stands where it stood is to be asked before it is watched again.
    doubt: bool,
    /// Waits before everything is listed once more.
    relists: Backoff,
    /// Whether no watch has been taken since one was refused: lists alone do not follow.
    refused: bool,
    /// Since when the present watch is one.
    since: Option<Instant>,
    /// Until when lists are not asked for as streams: the server had none.
    no_streams: Option<Instant>,
    /// The last client that failed.
    failed: Generation,
    /// Whether the server has done what it was asked for since the last failure.
    up: bool,
}

impl Follower {
    pub(super) fn new(resource: Resource, link: Arc<Link>, news: mpsc::Sender<News>) -> Self {
        Self {
            resource,
            link,
            news,
            backoff: Backoff::default(),
            version: None,
            doubt: false,
            relists: Backoff::default(),
            refused: false,
            since: None,
            no_streams: None,
            failed: 0,
            up: false,
        }
    }

    /// Follows until nobody wants news any more.
    pub(super) async fn run(mut self) {
        while !self.news.is_closed() {
            let mut generation = self.failed;
            let end = self.step(&mut generation).await;
            let good = self.since.take().is_some_and(|since| since.elapsed() >= GOOD);
            if good {
                self.backoff.reset();
                self.relists.reset();
            }
            let pause = match end {
                // The server ends watches in good order every few minutes; what changes meanwhile must not wait.
                Ok(()) if good => Duration::ZERO,
                Ok(()) => self.backoff.next(),
                Err(failure) => self.fail(failure, generation).await,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.link.back.notified(), if !self.up => {}
            }
        }
    }

    /// Takes note of a failure, and says how long to wait.
    async fn fail(&mut self, failure: Failure, generation: Generation) -> Duration {
        let kind = self.resource.kind;
        debug!("{kind}: {failure}");
        match failure {
            Failure::Expired(reason) => {
                info!("{kind}: everything is listed again: {reason}");
                self.version = None;
                self.relists.next()
            }
            // Another server may have given the version.
            Failure::Refused(reason) if self.version.is_some() => {
                info!("{kind}: everything is listed again, a watch from where it stood is refused: {reason}");
                if self.refused {
                    // From where a list has just ended, too.
                    self.up = false;
                    self.tell(News::Down(kind, format!("watches are refused: {reason}"))).await;
                }
                self.refused = true;
                self.version = None;
                self.relists.next()
            }
            Failure::NoStreams => {
                info!("{kind}: the server has no streaming lists");
                self.no_streams = Some(Instant::now() + ABSENT);
                Duration::ZERO
            }
            Failure::Absent if kind == Kind::ServiceCidr => {
                self.tell(News::Listed(kind, HashSet::new())).await;
                // A server that has them again has to tell them all: another one may have answered this time.
                self.version = None;
                self.up = false;
                ABSENT
            }
            failure => {
                self.failed = generation;
                self.doubt = true;
                // A watch that breaks is news only if no other can be had.
                if !self.up {
                    self.tell(News::Down(kind, failure.to_string())).await;
                }
                self.up = false;
                self.backoff.next()
            }
        }
    }

    /// Lists or watches once. `generation` becomes the number of the client that was used.
    async fn step(&mut self, generation: &mut Generation) -> Result<(), Failure> {
        let (number, client) = self.link.client(self.failed).await.map_err(Failure::broken)?;
        *generation = number;
        let streams = self.no_streams.is_none_or(|until| until <= Instant::now());
        if self.version.is_none() && !streams {
            self.list(&client).await?;
        }
        let version = self.version.clone();
        if let (true, Some(version)) = (self.doubt, &version) {
            self.compare(&client, version).await?;
        }
        self.watch(&client, version.as_deref()).await
    }

    /// An ordinary list, page by page.
    async fn list(&mut self, client: &Client) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let mut next = None;
        loop {
            let page = self.page(client, next, None).await?;
            for item in page.items {
                self.take(item, Some(&mut seen)).await;
            }
            next = page.next;
            if next.is_none() {
                self.listed(seen, page.version).await;
                return Ok(());
            }
        }
    }

    async fn page(
        &self,
        client: &Client,
        next: Option<String>,
        limit: Option<u32>,
    ) -> Result<wire::Page, Failure> {
        let question = self.resource.list(next, limit).map_err(Failure::broken)?;
        let mut answer = self.ask(client, question).await?;
        let mut text = Vec::new();
        let read = timeout(ANSWER, answer.read_to_end(&mut text)).await;
        read.map_err(|_| Failure::silent(ANSWER))?.map_err(Failure::broken)?;
        wire::page(self.resource.kind, &text).map_err(Failure::broken)
    }

    /// Whether the server still stands at `version` or beyond. One that was restored from a backup does not, and would
    /// keep silent about everything until it came there again.
    async fn compare(&mut self, client: &Client, version: &str) -> Result<(), Failure> {
        let page = self.page(client, None, Some(1)).await?;
        let number = |version: &str| version.parse::<u64>().ok();
        if number(&page.version) < number(version) {
            let reason = format!("the server is at {}, before {version}: it has lost changes", page.version);
            return Err(Failure::Expired(reason));
        }
        self.doubt = false;
        Ok(())
    }

    /// Watches until the server ends it. Without a version the watch begins with a list.
    async fn watch(&mut self, client: &Client, version: Option<&str>) -> Result<(), Failure> {
        let seconds = fastrand::u32(WATCH);
        let due = Instant::now() + Duration::from_secs(u64::from(seconds)) - GOOD;
        let question = self.resource.watch(version, seconds).map_err(Failure::broken)?;
        let mut lines = match self.ask(client, question).await {
            Err(Failure::Refused(reason)) if version.is_none() => {
                debug!("streaming list: {reason}");
                return Err(Failure::NoStreams);
            }
            answer => answer?,
        };
        if version.is_some() {
            self.since = Some(Instant::now());
            self.refused = false;
            self.answered().await;
        }
        let mut line = Vec::new();
        let mut seen = version.is_none().then(HashSet::new);
        let list_ends = Instant::now() + LIST;
        loop {
            line.clear();
            let patience = if seen.is_some() { list_ends - Instant::now() } else { SILENCE };
            match timeout(patience, lines.read_until(b'\n', &mut line)).await {
                Err(_) if seen.is_some() => return Err(Failure::NoStreams),
                Err(_) => return Err(Failure::silent(SILENCE)),
                Ok(read) => drop(read.map_err(Failure::broken)?),
            }
            if !line.ends_with(b"\n") {
                if !line.is_empty() || seen.is_some() {
                    return Err(Failure::broken("the answer ends midway"));
                }
                // Early: the server itself may have ended.
                self.doubt = Instant::now() < due;
                return Ok(());
            }
            let (version, event) = wire::event(self.resource.kind, &line).map_err(Failure::broken)?;
            match event {
                Event::Set(item) => self.take(item, seen.as_mut()).await,
                Event::Gone(key) => {
                    if let Some(seen) = &mut seen {
                        seen.remove(&key);
                    }
                    self.tell(News::Gone(key)).await;
                }
                Event::Mark { end_of_list: true } if let Some(seen) = seen.take() => {
                    self.refused = false;
                    self.listed(seen, version).await;
                    continue;
                }
                Event::Mark { .. } | Event::Unknown => {}
                Event::Error(status) => return Err(Failure::of(&status)),
            }
            if seen.is_none() && !version.is_empty() {
                self.version = Some(version);
            }
        }
    }

    async fn ask(
        &self,
        client: &Client,
        question: Request<Vec<u8>>,
    ) -> Result<impl AsyncBufRead + Unpin + use<>, Failure> {
        let answer = timeout(ANSWER, client.request_stream(question)).await;
        answer.map_err(|_| Failure::silent(ANSWER))?.map_err(|error| Failure::from(&error))
    }

    /// Takes note that the kind can be followed: it was listed or is watched. That the server answers, or says where it
    /// stands, is not enough, for what comes next may be refused or nonsense.
    async fn answered(&mut self) {
        if !self.up {
            self.up = true;
            self.link.back.notify_waiters();
            self.tell(News::Up(self.resource.kind)).await;
        }
    }

    async fn take(&mut self, item: Item, seen: Option<&mut HashSet<ObjectKey>>) {
        let key = match &item {
            Ok(object) => Some(object.key()),
            Err(fault) => fault.key.clone(),
        };
        if let (Some(seen), Some(key)) = (seen, key) {
            seen.insert(key);
        }
        let kind = self.resource.kind;
        let news = match item {
            Ok(object) => News::Object(object),
            Err(fault) => News::Fault(kind, fault),
        };
        self.tell(news).await;
    }

    async fn listed(&mut self, seen: HashSet<ObjectKey>, version: String) {
        self.since = Some(Instant::now());
        if !self.refused {
            self.answered().await;
        }
        self.version = Some(version);
        self.doubt = false;
        self.backoff.reset();
        self.tell(News::Listed(self.resource.kind, seen)).await;
    }

    /// It fails when the source is about to end.
    async fn tell(&self, news: News) {
        let _ = self.news.send(news).await;
    }
}
