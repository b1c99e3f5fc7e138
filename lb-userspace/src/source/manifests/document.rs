//! The text of a file, taken apart into documents and read as objects.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_saphyr::options::Options;
use serde_saphyr::{Spanned, UserMessageFormatter};

use crate::model::{Kind, Object, ObjectKey};

/// What a file holds.
#[derive(Debug, Default)]
pub struct Reading {
    /// Objects in the order of the file, with the line, counted from 1, that each begins at.
    pub objects: Vec<(u64, Object)>,
    /// What could not be read.
    pub faults: Vec<Fault>,
    /// Kinds that are not used, as `apiVersion kind`.
    pub skipped: BTreeSet<String>,
}

/// A document, or an item of a list, that could not be read.
#[derive(Debug)]
pub struct Fault {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
    /// Which object it would have been; `None` if not even that could be read.
    pub object: Option<ObjectKey>,
}

impl Reading {
    /// Reads YAML: documents are told apart by their separator lines before anything is parsed, so that a bad one ends
    /// where the next begins.
    pub fn yaml(text: &str) -> Self {
        let mut reading = Self::default();
        for (line, text) in documents(text.trim_start_matches('\u{feff}')) {
            match serde_saphyr::from_str_with_options::<Value>(text, options()) {
                Ok(value) => reading.document(value, &Origin { line, yaml: Some(text) }),
                Err(error) => {
                    let line = line_of(&error, line);
                    reading.faults.push(Fault { line, reason: reason(&error), object: None });
                }
            }
        }
        reading
    }

    /// Reads JSON: one document, or several in a row. What follows a bad one cannot be told apart from it.
    pub fn json(text: &str) -> Self {
        let mut reading = Self::default();
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let mut line = 1;
        let mut counted = 0;
        loop {
            let begin = values.byte_offset();
            let blank = text[begin..].len() - text[begin..].trim_start().len();
            line += text[counted..begin + blank].matches('\n').count() as u64;
            counted = begin + blank;
            match values.next() {
                None => return reading,
                Some(Ok(value)) => reading.document(value, &Origin { line, yaml: None }),
                Some(Err(error)) => {
                    let line = error.line() as u64;
                    reading.faults.push(Fault { line, reason: error.to_string(), object: None });
                    return reading;
                }
            }
        }
    }

    fn document(&mut self, value: Value, origin: &Origin<'_>) {
        if value.is_null() {
            return;
        }
        let (version, kind) = (text(&value, "apiVersion"), text(&value, "kind"));
        match (kind.strip_suffix("List"), value) {
            (Some(of), Value::Object(mut list)) if list.get("items").is_some_and(Value::is_array) => {
                let items = match list.remove("items") {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                };
                self.list(items, &version, of, origin);
            }
            (_, value) => match object(value, &version, &kind, origin) {
                Outcome::Object(object) => self.objects.push((origin.line, *object)),
                Outcome::Skipped => drop(self.skipped.insert(format!("{version} {kind}"))),
                Outcome::Fault(fault) => self.faults.push(fault),
            },
        }
    }

    /// Reads the items of a list. Those of a typed list (`ServiceList`) need not say again what they are.
    fn list(&mut self, items: Vec<Value>, version: &str, of: &str, origin: &Origin<'_>) {
        let lines = origin.item_lines();
        for (position, mut item) in items.into_iter().enumerate() {
            if let (Value::Object(item), false) = (&mut item, of.is_empty()) {
                item.entry("apiVersion").or_insert_with(|| version.into());
                item.entry("kind").or_insert_with(|| of.into());
            }
            let line = lines.get(position).map_or(origin.line, |&line| origin.line + line - 1);
            self.document(item, &Origin { line, yaml: None });
        }
    }
}

/// Where a document comes from.
struct Origin<'a> {
    /// The line that it begins at.
    line: u64,
    /// Its text, if it is a YAML document by itself.
    yaml: Option<&'a str>,
}

/// The lines, counted from 1, that the items of a list begin at.
#[derive(Deserialize)]
struct ItemLines {
    items: Vec<Spanned<IgnoredAny>>,
}

impl Origin<'_> {
    fn item_lines(&self) -> Vec<u64> {
        let lines = |text| serde_saphyr::from_str_with_options::<ItemLines>(text, options()).ok();
        let items = self.yaml.and_then(lines).map(|lines| lines.items).unwrap_or_default();
        items.iter().map(|item| item.referenced.line()).collect()
    }
}

/// What became of a document.
enum Outcome {
    Object(Box<Object>),
    Skipped,
    Fault(Fault),
}

fn object(value: Value, version: &str, kind: &str, origin: &Origin<'_>) -> Outcome {
    let fault =
        |reason: &str, object| Outcome::Fault(Fault { line: origin.line, reason: reason.to_owned(), object });
    if version.is_empty() || kind.is_empty() {
        return fault("it has no apiVersion and kind: not a Kubernetes object", None);
    }
    let kind = match (version, kind) {
        ("v1", "Service") => Kind::Service,
        ("discovery.k8s.io/v1", "EndpointSlice") => Kind::EndpointSlice,
        ("v1", "Endpoints") => Kind::Endpoints,
        ("v1", "Node") => Kind::Node,
        ("v1", "Pod") => Kind::Pod,
        ("networking.k8s.io/v1", "ServiceCIDR") => Kind::ServiceCidr,
        _ => return Outcome::Skipped,
    };
    let Some(key) = key(&value, kind) else {
        return fault("it has no metadata.name", None);
    };
    let object = match kind {
        Kind::Service => typed(value, origin).map(Object::Service),
        Kind::EndpointSlice => typed(value, origin).map(Object::EndpointSlice),
        Kind::Endpoints => typed(value, origin).map(Object::Endpoints),
        Kind::Node => typed(value, origin).map(Object::Node),
        Kind::Pod => typed(value, origin).map(Object::Pod),
        Kind::ServiceCidr => typed(value, origin).map(Object::ServiceCidr),
    };
    match object {
        Ok(Object::Service(service)) if let Some(reason) = service.refused() => fault(&reason, Some(key)),
        Ok(mut object) => {
            set_defaults(&mut object, &key);
            Outcome::Object(Box::new(object))
        }
        Err((line, reason)) => Outcome::Fault(Fault { line, reason, object: Some(key) }),
    }
}

/// Sets what the API server would set in an object that leaves it out.
fn set_defaults(object: &mut Object, key: &ObjectKey) {
    if let Object::EndpointSlice(object) = object {
        for port in &mut object.ports {
            port.name.get_or_insert_default();
        }
    }
    let metadata = object.metadata_mut();
    metadata.namespace = key.namespace.to_string();
    // A file that was written by an API server has one: another one alone is no change.
    metadata.resource_version.clear();
}

/// Reads `value` as a `T`. The error is the line and the reason, with the path of the field.
fn typed<T: DeserializeOwned>(value: Value, origin: &Origin<'_>) -> Result<T, (u64, String)> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        // A `Value` has no lines: the text is read once more for the one that is wanted.
        let again =
            origin.yaml.and_then(|text| serde_saphyr::from_str_with_options::<T>(text, options()).err());
        let line = again.map_or(origin.line, |error| line_of(&error, origin.line));
        (line, error.to_string())
    })
}

fn key(value: &Value, kind: Kind) -> Option<ObjectKey> {
    let metadata = value.get("metadata")?;
    let name = text(metadata, "name");
    let namespace = match text(metadata, "namespace") {
        _ if !kind.is_namespaced() => String::new(),
        namespace if namespace.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    (!name.is_empty()).then(|| ObjectKey::new(kind, namespace, name))
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The documents of a YAML text, each with the line that it begins at. A separator is the beginning of the document
/// after it: it may have content beside it.
pub(crate) fn documents(text: &str) -> Vec<(u64, &str)> {
    let mut documents = Vec::new();
    let (mut begin, mut first, mut offset) = (0, 1, 0);
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        let rest = content.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((first, &text[begin..offset]));
            (begin, first) = (offset, line);
        }
        offset += content.len();
    }
    documents.push((first, &text[begin..]));
    documents.into_iter().filter_map(|(first, text)| without_preamble(first, text)).collect()
}

/// A document without the separator, directives, comments and blank lines before it; `None` if nothing is left.
fn without_preamble(mut first: u64, text: &str) -> Option<(u64, &str)> {
    let mut rest = text;
    for line in text.split_inclusive('\n') {
        let content = line.strip_prefix("---").unwrap_or(line).trim_start();
        if !content.is_empty() && !content.starts_with(['#', '%']) {
            return Some((first, rest));
        }
        first += 1;
        rest = &rest[line.len()..];
    }
    None
}

/// Room for a list of a whole cluster's Services, none for aliases that multiply.
pub(crate) fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000_000,
            max_nodes: 20_000_000,
            max_total_scalar_bytes: 1 << 30,
            max_depth: 128,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

pub(crate) fn line_of(error: &serde_saphyr::Error, first: u64) -> u64 {
    error.location().map_or(first, |location| first + location.line().saturating_sub(1))
}

/// The reason without what the crate adds for terminals.
pub(crate) fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().render_with_formatter(&UserMessageFormatter);
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Reading, documents};

    const MANIFEST: &str = "# Services\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, \
         metadata: {name: a}, spec: {ports: [{port: 80}]}}\n--- # next\napiVersion: v1\nkind: Pod\nmetadata:\n  \
         name: \"b\"\nstatus: {podIP: 10.0.0.1}\n";

    #[test]
    fn documents_begin_where_their_content_does() {
        let text = "%YAML 1.2\n---\n# only a comment\n---\na: 1\n--- {b: 2}\n---x: 3\n---";
        assert_eq!(documents(text), [(5, "a: 1\n"), (6, "--- {b: 2}\n---x: 3\n")]);
        assert_eq!(documents(""), []);
    }

    #[test]
    fn b23_the_fixture_is_good() {
        let reading = Reading::yaml(MANIFEST);
        let seen: Vec<_> =
            reading.objects.iter().map(|(line, object)| (*line, object.key().to_string())).collect();
        assert_eq!(seen, [(6, "Service default/a".to_owned()), (8, "Pod default/b".to_owned())]);
        assert!(reading.faults.is_empty());
    }

    proptest! {
        #[test]
        fn b23_no_text_panics(text in "(.|\\n|---\\n|[&*!|>{}\\[\\]:,-] ){0,80}") {
            Reading::yaml(&text);
            Reading::json(&text);
        }

        #[test]
        fn b23_no_slip_panics(at in 0..MANIFEST.len(), length in 0..20_usize, typed in "(\\PC|\\n| |\"|\\{){0,5}") {
            let end = (at + length).min(MANIFEST.len());
            let text = [&MANIFEST[..at], &typed, &MANIFEST[end..]].concat();
            let reading = Reading::yaml(&text);
            let lines = text.split('\n').count() as u64;
            prop_assert!(reading.faults.iter().all(|fault| (1..=lines).contains(&fault.line)));
            Reading::json(&text);
        }
    }
}
