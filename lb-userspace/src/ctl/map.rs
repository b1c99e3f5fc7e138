//! `sluice map`.

use std::io::{self, Write};

use anyhow::Context as _;
use lb_common::maps::{self, MapKind, MapSpec};
use serde::Serialize;

use super::Context;
use super::args::Named;
use super::out::{Document, Out, Row};
use super::text;
use crate::bpf::inspect;
use crate::bpf::pin::PinDir;
use crate::counts::maps::entries;

pub(super) const EXAMPLES: &str = "\
Examples:
  sluice map                  all maps: size, fill, memory
  sluice map show flows4      one of them, and what it is for

The maps are pinned: `bpftool map dump pinned PIN_DIR/vSCHEMA/maps/NAME` shows their raw content.";

/// One map.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct MapRow {
    name: &'static str,
    id: u32,
    kind: &'static str,
    /// Entries in use. Absent for arrays, whose records all exist, and for socket storage, which cannot be walked.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<usize>,
    capacity: u32,
    key_size: usize,
    value_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    purpose: &'static str,
}

impl MapRow {
    fn read(pins: &PinDir, spec: &'static MapSpec) -> anyhow::Result<Self> {
        let map = inspect::map(pins, spec.name)?;
        Ok(Self {
            name: spec.name,
            id: map.id,
            kind: kind(spec.kind),
            entries: entries(pins, spec.name)?,
            capacity: map.capacity,
            key_size: spec.key_size,
            value_size: spec.value_size,
            memory_bytes: map.memory,
            purpose: spec.purpose,
        })
    }
}

/// bpftool's name of a kind of map.
fn kind(kind: MapKind) -> &'static str {
    match kind {
        MapKind::Hash => "hash",
        MapKind::Array => "array",
        MapKind::PerCpuArray => "percpu_array",
        MapKind::LruHash => "lru_hash",
        MapKind::LpmTrie => "lpm_trie",
        MapKind::SkStorage => "sk_storage",
    }
}

impl Row for MapRow {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "ID", "KIND", "ENTRIES", "CAPACITY", "KEY", "VALUE", "MEMORY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.id.to_string(),
            self.kind.to_owned(),
            text::or_none(self.entries),
            self.capacity.to_string(),
            self.key_size.to_string(),
            self.value_size.to_string(),
            text::or_none(self.memory_bytes.map(text::memory)),
        ]
    }
}

impl Document for MapRow {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        text::fields(
            writer,
            &[
                ("Map", self.name.to_owned()),
                ("Purpose", self.purpose.to_owned()),
                ("Id", self.id.to_string()),
                ("Kind", self.kind.to_owned()),
                ("Entries", text::or_none(self.entries)),
                ("Capacity", self.capacity.to_string()),
                ("Key", format!("{} bytes", self.key_size)),
                ("Value", format!("{} bytes", self.value_size)),
                ("Memory", text::or_none(self.memory_bytes.map(text::memory))),
            ],
        )
    }
}

pub(super) fn run(args: &Named<String>, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
    let pins = context.datapath()?;
    match args.name() {
        Some(name) => {
            let spec = maps::ALL.iter().find(|spec| spec.name == name);
            let spec = spec.with_context(|| format!("there is no map {name}: see `sluice map list`"))?;
            Ok(out.document(&MapRow::read(pins, spec)?)?)
        }
        None => out.list(maps::ALL.iter().map(|spec| MapRow::read(pins, spec))),
    }
}
