//! Manifests: a file of any text, its documents, their objects, the Service ports that follow from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_userspace::model::{Change, Index, Object, ObjectKey, ServicePort, ServicePortKey};
use lb_userspace::source::manifests::Reading;

/// Stands before the text, ten lines.
const BEFORE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: before
spec:
  clusterIP: 10.96.0.1
  ports:
  - port: 80
# the line before the separator
---
";

/// Stands behind it.
const BEHIND: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: behind, labels: {app: a}}
";

const JSON: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "before"}}"#;

/// Objects of every kind that is used, each field that is read among them.
const GOOD: &str = include_str!("manifests.yaml");

/// Reads `input`, JSON if its first byte is odd, else YAML, between documents that are good.
///
/// # Panics
/// If something in it hides what stands before or behind it, is told of at a line that is not its own, or makes the
/// Service ports depend on the order of objects.
pub fn run(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let reading = if kind & 1 == 0 { yaml(&text) } else { json(&text) };
    model(reading.objects.into_iter().map(|(_, object)| object).collect());
}

fn yaml(text: &str) -> Reading {
    let alone = Reading::yaml(text);
    let before = BEFORE.lines().count() as u64;
    let end = before + 1 + text.matches('\n').count() as u64;
    // A carriage return alone ends a line for YAML, though for hardly anybody else.
    let own = before + 1..=end + text.matches('\r').count() as u64;
    // A byte order mark is one at the beginning of a file only.
    if !text.starts_with('\u{feff}') {
        let between = Reading::yaml(&[BEFORE, text, BEHIND].concat());
        let (first, last) = (between.objects.first(), between.objects.last());
        let names = [first, last].map(|it| it.map(|(line, object)| (*line, object.key().name.to_string())));
        let expected = [(1, "before"), (end + 2, "behind")];
        assert_eq!(
            names,
            expected.map(|(line, name)| Some((line, name.to_owned()))),
            "a neighbour is hidden"
        );
        let [_, inner @ .., _] = between.objects.as_slice() else { panic!("two neighbours are there") };
        let inner: Vec<_> = inner.iter().map(|(line, object)| (line - before, object)).collect();
        assert_eq!(inner, alone.objects.iter().map(|(line, object)| (*line, object)).collect::<Vec<_>>());
        assert_eq!(between.faults.len(), alone.faults.len(), "{:?} {:?}", between.faults, alone.faults);
        for fault in &between.faults {
            assert!(own.contains(&fault.line), "{fault:?} is not in {own:?}");
        }
    }
    if alone.objects.is_empty() && alone.faults.is_empty() && alone.skipped.is_empty() {
        let bare = |line: &str| {
            let line = line.strip_prefix("---").unwrap_or(line).trim();
            line.is_empty()
                || line.starts_with(['#', '%', '\u{feff}'])
                || matches!(line, "~" | "null" | "...")
        };
        assert!(text.lines().all(bare) || nothing(text), "nothing is said of {text:?}");
    }
    alone
}

/// Whether YAML calls the text null, which no check by lines can tell.
fn nothing(text: &str) -> bool {
    ["null", "Null", "NULL", "~", "&", "!", "#"].iter().any(|word| text.contains(word))
}

fn json(text: &str) -> Reading {
    let reading = Reading::json(&[JSON, "\n", text].concat());
    assert!(reading.objects.first().is_some_and(|(line, _)| *line == 1), "what stands before is hidden");
    let lines = 2 + text.matches('\n').count() as u64;
    for fault in &reading.faults {
        assert!((2..=lines).contains(&fault.line), "{fault:?} of {lines} lines");
    }
    reading
}

/// Service ports that changes add up to.
type Ports = BTreeMap<ServicePortKey, Arc<ServicePort>>;

fn add_up(ports: &mut Ports, changes: Vec<Change>) {
    for (key, port) in changes {
        match port {
            Some(port) => drop(ports.insert(key, port)),
            None => assert!(ports.remove(&key).is_some(), "{key:?} goes and never came"),
        }
    }
}

/// One by one, all at once or in the other order: the same Service ports follow; without objects none.
fn model(objects: Vec<Object>) {
    let objects: BTreeMap<ObjectKey, Object> = objects.into_iter().map(|it| (it.key(), it)).collect();
    let (mut one_by_one, mut ports) = (Index::new("n1"), Ports::new());
    for object in objects.values() {
        one_by_one.apply(object);
        add_up(&mut ports, one_by_one.take_changes());
    }
    let (mut backward, mut others) = (Index::new("n1"), Ports::new());
    backward.replace(objects.values().rev());
    add_up(&mut others, backward.take_changes());
    assert_eq!(ports, others, "the order of objects matters");
    for port in ports.values() {
        let endpoints = port.cluster.iter().chain(&port.local);
        assert!(endpoints.clone().all(|it| port.serving.contains(it)), "{port:?}");
        let families = port.frontends.iter().map(|it| it.addr.is_ipv4());
        let families = families.chain(endpoints.map(std::net::SocketAddr::is_ipv4));
        assert!(families.collect::<std::collections::BTreeSet<_>>().len() < 2, "two families: {port:?}");
    }
    for key in objects.keys() {
        one_by_one.delete(key);
        add_up(&mut ports, one_by_one.take_changes());
    }
    assert!(ports.is_empty() && one_by_one.problems().next().is_none(), "something stays: {ports:?}");
}

/// Each document of [`GOOD`], all of them, and them as JSON.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let documents = GOOD.split("---\n").chain([GOOD]);
    let yaml = documents.map(|text| [b"0", text.as_bytes()].concat());
    yaml.chain([[b"1", JSON.as_bytes(), b" ", JSON.as_bytes()].concat()]).collect()
}
