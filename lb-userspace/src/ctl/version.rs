//! `sluice version`.

use std::io::{self, Write};

use lb_common::SCHEMA;
use serde::Serialize;

use super::args::OnlyShow;
use super::out::{Document, Out};
use super::text;
use crate::bpf::object::embedded;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<OnlyShow>,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// Number of the layout of maps, part of the pin path.
    schema: u32,
    /// Whether the binary holds the eBPF programs, so that it can be an agent.
    programs_embedded: bool,
}

impl Document for Version {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        let embedded = if self.programs_embedded { "yes" } else { "no: run cargo xtask build" };
        text::fields(
            writer,
            &[
                ("sluice", self.version.to_owned()),
                ("Schema", self.schema.to_string()),
                ("eBPF programs embedded", embedded.to_owned()),
            ],
        )
    }
}

impl Args {
    pub(super) fn run(&self, out: &mut Out<'_>) -> anyhow::Result<()> {
        let programs_embedded = embedded().is_ok();
        Ok(out.document(&Version {
            version: env!("CARGO_PKG_VERSION"),
            schema: SCHEMA,
            programs_embedded,
        })?)
    }
}
