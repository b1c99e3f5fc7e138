//! What the files of a folder hold, and which file each object is taken from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use super::document::Reading;
use crate::model::{Object, ObjectKey};
use crate::source::{Event, Extent, Update};
use crate::status::Problem;

/// One file.
#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<ObjectKey, (u64, Arc<Object>)>,
    faults: Vec<(Option<u64>, String)>,
    /// Something in it could never be read: it may hold more objects than these.
    unknown: bool,
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Files {
    by_path: BTreeMap<Arc<Path>, Content>,
    /// The files that hold an object, in path order: it is taken from the first.
    holders: HashMap<ObjectKey, Vec<Arc<Path>>>,
    /// Objects that more than one file holds.
    shared: BTreeSet<ObjectKey>,
    /// Files of which not everything could be read.
    faulty: BTreeSet<Arc<Path>>,
    published: HashMap<ObjectKey, Arc<Object>>,
    touched: BTreeSet<ObjectKey>,
    skipped: BTreeSet<String>,
    reported: BTreeSet<Problem>,
}

impl Files {
    /// Takes over what was read from the file at `path`. Of what could not be read the last good version stays; while
    /// it is unknown which object that is, everything stays that the file held before.
    pub(super) fn set(&mut self, path: &Path, reading: Reading) {
        let Reading { objects, faults, skipped } = reading;
        for kind in skipped {
            if self.skipped.insert(kind.clone()) {
                tracing::info!("{}: objects of kind {kind} are not used: skipped", path.display());
            }
        }
        let path: Arc<Path> = path.into();
        let mut content =
            Content { unknown: !faults.is_empty() && self.is_unknown(&path), ..Content::default() };
        let mut former = self.take(&path).objects;
        for (line, object) in objects {
            let key = object.key();
            if let Some((first, _)) = content.objects.get(&key) {
                let text = format!("{key} stands in line {first} of this file already: left out");
                content.faults.push((Some(line), text));
                continue;
            }
            // The former copy is kept where nothing changed: it is the one that was handed out.
            let same = former.remove(&key).map(|(_, former)| former).filter(|former| **former == object);
            content.objects.insert(key, (line, same.unwrap_or_else(|| Arc::new(object))));
        }
        for fault in faults {
            let mut text = fault.reason;
            match &fault.object {
                Some(key) => {
                    text = format!("{key}: {text}");
                    if let Some(last_good) = former.remove(key) {
                        content.objects.entry(key.clone()).or_insert(last_good);
                        text.push_str("; its last good version stays");
                    }
                }
                None if !former.is_empty() => text.push_str("; what this file held before stays"),
                None => {}
            }
            content.faults.push((Some(fault.line), text));
            if fault.object.is_none() {
                for (key, last_good) in &former {
                    content.objects.entry(key.clone()).or_insert_with(|| last_good.clone());
                }
            }
        }
        self.put(path, content);
    }

    /// Notes that the file or folder at `path` cannot be read; what it held stays.
    pub(super) fn unreadable(&mut self, path: &Path, reason: String) {
        let path: Arc<Path> = path.into();
        let unknown = self.is_unknown(&path);
        let mut content = self.take(&path);
        content.faults = vec![(None, reason)];
        content.unknown = unknown;
        self.put(path, content);
    }

    /// Forgets the file at `path`, or what was wrong with the folder at `path`; returns whether there was any.
    pub(super) fn remove(&mut self, path: &Path) -> bool {
        let known = self.by_path.contains_key(path);
        self.take(path);
        known
    }

    /// Forgets all files below the folder `path`.
    pub(super) fn remove_below(&mut self, path: &Path) {
        // Paths are ordered by their components: those below one stand in a row.
        let from = self.by_path.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
        let below = from.map(|(file, _)| file).take_while(|file| file.starts_with(path));
        for file in below.cloned().collect::<Vec<_>>() {
            self.take(&file);
        }
    }

    /// What changed since the last call; `None` if nothing did.
    pub(super) fn update(&mut self) -> Option<Update> {
        let problems = self.problems();
        let mut update = Update { connected: true, ..Update::default() };
        for key in mem::take(&mut self.touched) {
            let holder = self.holders.get(&key).and_then(|holders| holders.first());
            let object = holder.and_then(|path| self.by_path.get(path)?.objects.get(&key));
            match (object, self.published.get(&key)) {
                (Some((_, object)), Some(former)) if object == former => {}
                (Some((_, object)), _) => {
                    update.events.push(Event::Set(object.clone()));
                    self.published.insert(key, object.clone());
                }
                (None, Some(_)) => {
                    self.published.remove(&key);
                    update.events.push(Event::Gone(key));
                }
                (None, None) => {}
            }
        }
        let changed = problems != self.reported || !update.events.is_empty();
        for problem in problems.difference(&self.reported) {
            tracing::warn!("{problem}");
        }
        self.reported = problems;
        let unknown = self.faulty.iter().any(|path| self.is_unknown(path));
        update.extent = if unknown { Extent::Partial } else { Extent::Whole };
        update.problems = self.reported.iter().cloned().collect();
        changed.then_some(update)
    }

    fn problems(&self) -> BTreeSet<Problem> {
        let mut problems = BTreeSet::new();
        for path in &self.faulty {
            let faults = self.by_path.get(path).map(|content| content.faults.as_slice()).unwrap_or_default();
            problems.extend(faults.iter().map(|(line, text)| Problem::in_file(path, *line, &**text)));
        }
        for key in &self.shared {
            let holders = self.holders.get(key).map(Vec::as_slice).unwrap_or_default();
            let Some((first, others)) = holders.split_first() else {
                continue;
            };
            problems.extend(others.iter().map(|path| {
                let line = self.by_path.get(path).and_then(|content| Some(content.objects.get(key)?.0));
                let text = format!("{key} stands in {} already: left out here", first.display());
                Problem::in_file(path, line, text)
            }));
        }
        problems
    }

    /// Whether the file at `path` has never been read in full.
    fn is_unknown(&self, path: &Path) -> bool {
        self.by_path.get(path).is_none_or(|content| content.unknown)
    }

    fn take(&mut self, path: &Path) -> Content {
        self.faulty.remove(path);
        let content = self.by_path.remove(path).unwrap_or_default();
        for key in content.objects.keys() {
            self.touched.insert(key.clone());
            if let Some(holders) = self.holders.get_mut(key) {
                holders.retain(|holder| **holder != *path);
                if holders.len() < 2 {
                    self.shared.remove(key);
                }
                if holders.is_empty() {
                    self.holders.remove(key);
                }
            }
        }
        content
    }

    fn put(&mut self, path: Arc<Path>, content: Content) {
        if !content.faults.is_empty() {
            self.faulty.insert(path.clone());
        }
        for key in content.objects.keys() {
            self.touched.insert(key.clone());
            let holders = self.holders.entry(key.clone()).or_default();
            if let Err(position) = holders.binary_search(&path) {
                holders.insert(position, path.clone());
            }
            if holders.len() > 1 {
                self.shared.insert(key.clone());
            }
        }
        self.by_path.insert(path, content);
    }
}
