//! A folder that is followed as the agent follows it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use lb_userspace::model::object::Service;
use lb_userspace::model::{Object, ObjectKey};
use lb_userspace::source::manifests::Folder;
use lb_userspace::source::{Event, Extent};
use lb_userspace::status::Problem;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// A folder that is followed, and what its updates add up to.
pub(crate) struct Watched {
    pub(crate) dir: TempDir,
    pub(crate) folder: Folder,
    pub(crate) runtime: Runtime,
    pub(crate) objects: BTreeMap<ObjectKey, Object>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) complete: bool,
}

impl Watched {
    /// Follows a folder that holds `files` from the start.
    pub(crate) fn with(files: &[(&str, String)]) -> Self {
        let dir = TempDir::new().unwrap();
        for (path, text) in files {
            write(&dir.path().join(path), text);
        }
        let folder = Folder::open(dir.path()).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut watched =
            Self { dir, folder, runtime, objects: BTreeMap::new(), problems: Vec::new(), complete: false };
        assert!(watched.next(Duration::from_secs(60)), "the first update comes at once");
        watched
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text);
    }

    /// Takes up the next update, if one comes within `limit`.
    pub(crate) fn next(&mut self, limit: Duration) -> bool {
        let next = self.runtime.block_on(async { timeout(limit, self.folder.next()).await });
        let Ok(update) = next else { return false };
        let update = update.expect("the thread lives");
        for event in update.events {
            match event {
                Event::Set(object) => drop(self.objects.insert(object.key(), (*object).clone())),
                Event::Gone(key) => assert!(self.objects.remove(&key).is_some(), "{key} was not there"),
                Event::Listed(kind, _) => panic!("a folder lists no {kind}"),
            }
        }
        self.problems = update.problems;
        self.complete = update.extent == Extent::Whole;
        true
    }

    /// Waits until the folder is seen to hold exactly these objects, written as `name=clusterIP`.
    pub(crate) fn expect(&mut self, expected: &[&str]) {
        while self.seen() != expected {
            let came = self.next(Duration::from_secs(5));
            assert!(came, "expected {expected:?}, have {:?}, problems {:?}", self.seen(), self.problems);
        }
    }

    /// Waits until exactly these problems are reported, each given by a part of it.
    pub(crate) fn expect_problems(&mut self, expected: &[&str]) {
        let told = |problems: &[Problem]| {
            problems.len() == expected.len()
                && problems.iter().zip(expected).all(|(problem, part)| problem.to_string().contains(part))
        };
        while !told(&self.problems) {
            let came = self.next(Duration::from_secs(5));
            assert!(came, "expected {expected:?}, have {:#?}", self.problems);
        }
    }

    /// Asserts that nothing more comes.
    pub(crate) fn expect_quiet(&mut self) {
        assert!(!self.next(Duration::from_millis(150)), "{:?} {:?}", self.seen(), self.problems);
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        let text = |(key, object): (&ObjectKey, &Object)| match object {
            Object::Service(Service { spec, .. }) => format!("{}={}", key.name, spec.cluster_ip),
            _ => key.to_string(),
        };
        self.objects.iter().map(text).collect()
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  clusterIP: {ip}\n  ports:\n  - port: 80\n"
    )
}

pub(crate) fn services(all: &[(&str, &str)]) -> String {
    all.iter().map(|(name, ip)| service(name, ip)).collect::<Vec<_>>().join("---\n")
}

pub(crate) const BROKEN: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: [oops\n";
