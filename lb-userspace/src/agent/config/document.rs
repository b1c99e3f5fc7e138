//! A YAML text as documents of fields, each with its line.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::Fault;
use crate::source::manifests::document::{documents, line_of, options, reason};

/// The fields of a map.
pub(super) type Fields = BTreeMap<String, Field>;

/// A value and the line, counted from 1, that it begins at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Field {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What YAML can say, scalars as they are written on a command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Field>),
    Map(Fields),
}

/// One document.
#[derive(Debug)]
pub(super) struct Document {
    /// The line that it begins at.
    pub(super) line: u64,
    pub(super) version: String,
    pub(super) kind: String,
    /// All others.
    pub(super) fields: Fields,
}

impl Document {
    /// The documents of `text`; those without content are left out.
    ///
    /// # Errors
    /// It is no YAML, or not made of maps with `apiVersion` and `kind`.
    pub(super) fn all(text: &str) -> Result<Vec<Self>, Fault> {
        let mut all = Vec::new();
        for (line, text) in documents(text.trim_start_matches('\u{feff}')) {
            let read = serde_saphyr::from_str_with_options::<Value>(text, options());
            let value =
                read.map_err(|error| Fault::new(line_of(&error, line), reason(&error)))?.moved(line - 1);
            let mut fields = match value {
                Value::Null => continue,
                Value::Map(fields) => fields,
                Value::Scalar(_) | Value::List(_) => {
                    return Err(Fault::new(line, "a map with apiVersion, kind and fields is wanted"));
                }
            };
            let mut take = |name: &str| match fields.remove(name) {
                Some(Field { value: Value::Scalar(text), .. }) => Ok(text),
                _ => Err(Fault::new(line, format!("{name} is missing: it says what the fields mean"))),
            };
            all.push(Self { line, version: take("apiVersion")?, kind: take("kind")?, fields });
        }
        Ok(all)
    }
}

impl Value {
    /// The same, with lines that count from where the document begins.
    fn moved(self, by: u64) -> Self {
        let field = |field: Field| Field { line: field.line + by, value: field.value.moved(by) };
        match self {
            Self::List(items) => Self::List(items.into_iter().map(field).collect()),
            Self::Map(fields) => Self::Map(fields.into_iter().map(|(key, it)| (key, field(it))).collect()),
            other => other,
        }
    }

    /// As it stands on a command line: the items of a list separated by commas, the entries of a map as NAME=VALUE.
    /// `None`: it is nested deeper than that.
    pub(super) fn flag(&self) -> Option<String> {
        match self {
            Self::Null => Some(String::new()),
            Self::Scalar(text) => Some(text.clone()),
            Self::List(items) => {
                let items = items.iter().map(|item| item.value.scalar().map(str::to_owned));
                items.collect::<Option<Vec<_>>>().map(|items| items.join(","))
            }
            Self::Map(fields) => {
                let entry =
                    |(key, field): (&String, &Field)| Some(format!("{key}={}", field.value.scalar()?));
                fields.iter().map(entry).collect::<Option<Vec<_>>>().map(|entries| entries.join(","))
            }
        }
    }

    /// Whether it says nothing: what a program writes for a field that nobody has set.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Scalar(text) => matches!(text.as_str(), "" | "0" | "0s" | "false"),
            Self::List(items) => items.is_empty(),
            Self::Map(fields) => fields.values().all(|field| field.value.is_zero()),
        }
    }

    fn scalar(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

impl From<Spanned<Value>> for Field {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { line: spanned.referenced.line(), value: spanned.value }
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Fields::new();
        while let Some((key, value)) = entries.next_entry::<String, Spanned<Value>>()? {
            fields.insert(key, value.into());
        }
        Ok(Value::Map(fields))
    }
}
