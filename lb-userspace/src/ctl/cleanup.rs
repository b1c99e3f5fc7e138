//! `sluice cleanup`.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::args::OnlyHelp;
use super::out::{Document, Out};
use crate::bpf::cleanup::cleanup;

const EXAMPLES: &str = "\
Examples:
  sluice cleanup                                  stop balancing on this node
  sluice --pin-dir /sys/fs/bpf/other cleanup      of an agent with another pin directory

The agent must not be running. Connections through Services end with the datapath.";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) help: Option<OnlyHelp>,
}

#[derive(Serialize)]
struct Done {
    pin_dir: PathBuf,
    /// Whether there was anything to take away.
    removed: bool,
}

impl Document for Done {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        let dir = self.pin_dir.display();
        if self.removed {
            writeln!(writer, "removed the datapath under {dir}")
        } else {
            writeln!(writer, "nothing is installed under {dir}")
        }
    }
}

impl Args {
    pub(super) fn run(&self, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
        let removed = cleanup(&context.pins)?;
        Ok(out.document(&Done { pin_dir: context.pins.root().to_owned(), removed })?)
    }
}
