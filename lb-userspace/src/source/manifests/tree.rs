//! Which files there are, and which of them changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::UnboundedSender;

use super::document::Reading;
use super::files::Files;
use crate::source::{Extent, Update};

/// A change is taken up when nothing more has come for so long: an editor writes, renames and removes in a row.
const QUIET: Duration = Duration::from_millis(3);
/// A change waits no longer than this for others.
const PATIENCE: Duration = Duration::from_millis(30);
/// How often things are looked at that send no event.
const TICK: Duration = Duration::from_secs(1);
/// Larger files are refused.
const MAX_FILE: u64 = 256 << 20;

/// Device and inode.
type Identity = (u64, u64);
/// Identity, size, and times of content and inode in seconds and nanoseconds: equal for a file that did not change.
type Stamp = (Identity, u64, (i64, i64), (i64, i64));

/// The folder with everything below it.
pub(super) struct Tree {
    root: PathBuf,
    watcher: RecommendedWatcher,
    /// Every folder that was entered, with its identity: another path to the same one is not followed.
    folders: BTreeMap<PathBuf, Identity>,
    stamps: BTreeMap<PathBuf, Stamp>,
    /// Files that are symbolic links: watched by themselves, since their folder's watch does not see their content change.
    links: BTreeSet<PathBuf>,
    /// Folders that could not be watched.
    unwatched: BTreeSet<PathBuf>,
    /// Some folder was met by a second path; if the first goes, the second must be found.
    twins: bool,
    files: Files,
}

impl Tree {
    pub(super) fn new(root: PathBuf, watcher: RecommendedWatcher) -> Self {
        Self {
            root,
            watcher,
            folders: BTreeMap::new(),
            stamps: BTreeMap::new(),
            links: BTreeSet::new(),
            unwatched: BTreeSet::new(),
            twins: false,
            files: Files::default(),
        }
    }

    /// Reads everything, then follows `events` until nobody wants updates any more.
    pub(super) fn follow(
        mut self,
        events: &Receiver<notify::Result<Event>>,
        updates: &UnboundedSender<Update>,
    ) {
        self.visit(&self.root.clone());
        let nothing = || Update { extent: Extent::Whole, connected: true, ..Update::default() };
        let mut update = Some(self.files.update().unwrap_or_else(nothing));
        let mut ticked = Instant::now();
        loop {
            if update.take().is_some_and(|update| updates.send(update).is_err()) || updates.is_closed() {
                return;
            }
            match events.recv_timeout(TICK) {
                Ok(event) => self.take_up(&Batch::collect(event, events)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if ticked.elapsed() >= TICK {
                self.tick();
                ticked = Instant::now();
            }
            update = self.files.update();
        }
    }

    fn take_up(&mut self, batch: &Batch) {
        // What moved away must be forgotten first: inotify knows a folder by its inode, and a watch on the new path is
        // the one on the old path.
        for path in batch.paths.iter().filter(|path| !path.exists()) {
            self.visit(path);
        }
        for path in &batch.paths {
            if hidden(path) {
                // A mounted ConfigMap or Secret replaces the link `..data` that all its files go through.
                if let (true, Some(folder)) = (name(path).starts_with(".."), path.parent()) {
                    self.list(folder);
                }
            } else {
                self.visit(path);
            }
        }
        if batch.overflow {
            self.rescan();
        }
    }

    fn tick(&mut self) {
        if self.unwatched.is_empty() {
            self.visit(&self.root.clone());
        } else {
            self.rescan();
        }
    }

    /// Brings what is known of `path` up to date.
    fn visit(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.enter(path, identity(&metadata)),
            Ok(metadata) if metadata.is_file() && is_manifest(path) => self.read(path, &metadata),
            Err(error) if *path == *self.root => {
                self.files.unreadable(path, format!("{error}: what the folder held before stays"));
            }
            Err(error) if error.kind() != ErrorKind::NotFound && is_manifest(path) => {
                self.files.unreadable(path, format!("{error}: what the file held before stays"));
            }
            Ok(_) | Err(_) => self.forget(path),
        }
    }

    fn enter(&mut self, folder: &Path, identity: Identity) {
        if self.folders.get(folder) == Some(&identity) {
            if self.files.remove(folder) {
                self.watch(folder);
                self.list(folder);
            }
            return;
        }
        self.forget(folder);
        let twin = self.folders.iter().find(|(_, other)| **other == identity).map(|(path, _)| path.clone());
        if let Some(twin) = twin {
            if fs::metadata(&twin).is_ok_and(|metadata| self::identity(&metadata) == identity) {
                self.twins = true;
                return;
            }
            self.forget(&twin);
        }
        self.folders.insert(folder.to_owned(), identity);
        // Watched before it is listed: what comes in between is seen twice rather than never.
        self.watch(folder);
        self.list(folder);
    }

    fn watch(&mut self, folder: &Path) {
        match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.unwatched.remove(folder);
            }
            Err(error) => {
                self.unwatched.insert(folder.to_owned());
                let reason = format!(
                    "inotify: {error}: changes are seen late until fs.inotify.max_user_watches allows another watch"
                );
                self.files.unreadable(folder, reason);
            }
        }
    }

    /// Visits everything in `folder`, and forgets what is no longer there.
    fn list(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<BTreeSet<_>>>());
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                self.files.unreadable(folder, format!("{error}: what the folder held before stays"));
                return;
            }
        };
        let known =
            self.stamps.range::<Path, _>((Bound::Included(folder), Bound::Unbounded)).map(|(path, _)| path);
        let known = known.take_while(|path| path.starts_with(folder));
        let known = known.chain(self.folders.keys()).filter(|path| path.parent() == Some(folder));
        let gone: Vec<_> = known.filter(|path| !entries.contains(*path)).cloned().collect();
        for path in gone {
            self.forget(&path);
        }
        for path in entries.iter().filter(|path| !hidden(path)) {
            self.visit(path);
        }
    }

    /// Looks at everything again; only what changed is read.
    fn rescan(&mut self) {
        self.visit(&self.root.clone());
        let folders: Vec<_> = self.folders.keys().cloned().collect();
        for folder in folders {
            if self.folders.contains_key(&folder) {
                self.visit(&folder);
                self.list(&folder);
            }
        }
    }

    fn read(&mut self, path: &Path, metadata: &Metadata) {
        let stamp = stamp(metadata);
        if self.stamps.get(path) == Some(&stamp) {
            return;
        }
        if self.folders.contains_key(path) {
            self.forget(path);
        }
        self.stamps.insert(path.to_owned(), stamp);
        self.follow_link(path);
        if metadata.len() > MAX_FILE {
            self.files.unreadable(path, format!("it is larger than {} MiB", MAX_FILE >> 20));
            return;
        }
        match fs::read_to_string(path) {
            Ok(text) if path.extension().is_some_and(|extension| extension == "json") => {
                self.files.set(path, Reading::json(&text));
            }
            Ok(text) => self.files.set(path, Reading::yaml(&text)),
            Err(error) => self.files.unreadable(path, format!("{error}: what the file held before stays")),
        }
    }

    /// Watches the file behind a symbolic link, which may be another one than before.
    fn follow_link(&mut self, path: &Path) {
        // Both calls fail where there is no watch yet and where the file is gone again; events of its folder tell.
        if self.links.remove(path) {
            drop(self.watcher.unwatch(path));
        }
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
            drop(self.watcher.watch(path, RecursiveMode::NonRecursive));
            self.links.insert(path.to_owned());
        }
    }

    /// Forgets the file or folder at `path`.
    fn forget(&mut self, path: &Path) {
        let below = |known: &&PathBuf| known.starts_with(path);
        let folders: Vec<_> = self.folders.keys().filter(below).cloned().collect();
        if folders.is_empty() {
            self.stamps.remove(path);
            self.files.remove(path);
            if self.links.remove(path) {
                drop(self.watcher.unwatch(path));
            }
            return;
        }
        for folder in &folders {
            drop(self.watcher.unwatch(folder));
            self.folders.remove(folder);
            self.unwatched.remove(folder);
        }
        self.stamps.retain(|known, _| !known.starts_with(path));
        self.files.remove_below(path);
        if std::mem::take(&mut self.twins) {
            self.rescan();
        }
    }
}

/// Paths that something happened to.
#[derive(Default)]
struct Batch {
    paths: BTreeSet<PathBuf>,
    /// The kernel dropped events.
    overflow: bool,
}

impl Batch {
    /// `first` and what comes shortly after it.
    fn collect(first: notify::Result<Event>, events: &Receiver<notify::Result<Event>>) -> Self {
        let mut batch = Self::default();
        batch.add(first);
        let end = Instant::now() + PATIENCE;
        while let Ok(event) = events.recv_timeout(QUIET.min(end.saturating_duration_since(Instant::now()))) {
            batch.add(event);
        }
        batch
    }

    fn add(&mut self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            self.overflow = true;
            return;
        };
        self.overflow |= event.need_rescan();
        // A file that is being written is left alone until the writer closes it: half a manifest would take away the
        // objects of the other half.
        let counts = match event.kind {
            EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
            EventKind::Modify(kind) => !matches!(kind, ModifyKind::Data(_)),
            _ => true,
        };
        if counts {
            self.paths.extend(event.paths);
        }
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn hidden(path: &Path) -> bool {
    name(path).starts_with('.')
}

fn is_manifest(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json"))
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

fn stamp(metadata: &Metadata) -> Stamp {
    let content = (metadata.mtime(), metadata.mtime_nsec());
    let inode = (metadata.ctime(), metadata.ctime_nsec());
    (identity(metadata), metadata.size(), content, inode)
}
