//! `sluice completion` and `sluice man`: what the grammar says of itself, for shells and for readers.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, Subcommand};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use serde::Serialize;

use super::out::{Document, Out};

const EXAMPLES: &str = "\
Examples:
  source <(sluice completion bash)
  sluice completion zsh > /usr/local/share/zsh/site-functions/_sluice
  sluice completion fish > ~/.config/fish/completions/sluice.fish";

/// Where the pages belong: commands of users.
const SECTION: &str = "1";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
#[command(subcommand_value_name = "SHELL", subcommand_help_heading = "Shells")]
pub(super) struct Args {
    #[command(subcommand)]
    shell: For,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum For {
    /// For bash
    Bash,
    /// For zsh
    Zsh,
    /// For fish
    Fish,
}

impl Args {
    /// Prints the completions of `command` for the shell.
    pub(super) fn run(&self, mut command: Command, out: &mut Out<'_>) -> anyhow::Result<()> {
        let shell = match self.shell {
            For::Bash => Shell::Bash,
            For::Zsh => Shell::Zsh,
            For::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        generate(shell, &mut command, "sluice", &mut script);
        Ok(out.raw(&script)?)
    }
}

#[derive(clap::Args, Debug)]
pub(super) struct ManArgs {
    /// Folder to write the pages to; it is made if there is none
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// The pages that were written.
#[derive(Serialize)]
struct Pages {
    pages: Vec<PathBuf>,
}

impl Document for Pages {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        self.pages.iter().try_for_each(|page| writeln!(writer, "{}", page.display()))
    }
}

impl ManArgs {
    /// Writes a page for `command` and one for each of its objects.
    pub(super) fn run(&self, command: Command, out: &mut Out<'_>) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("make {}", self.dir.display()))?;
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let mut pages = vec![write(&self.dir, &command, |man, roff| man.render_subcommands_section(roff))?];
        for object in command.get_subcommands().filter(|object| !object.is_hide_set()) {
            pages.push(write(&self.dir, object, |_, page| commands(object).to_writer(page))?);
        }
        Ok(out.document(&Pages { pages })?)
    }
}

/// Writes the page of `command`; `about_commands` is what it says of commands below.
fn write(
    dir: &Path,
    command: &Command,
    about_commands: impl FnOnce(&Man, &mut Vec<u8>) -> io::Result<()>,
) -> anyhow::Result<PathBuf> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let source = concat!("sluice ", env!("CARGO_PKG_VERSION"));
    let mut described = command.clone();
    if described.get_subcommand_value_name().is_none() {
        described = described.subcommand_value_name("COMMAND");
    }
    let man = Man::new(described).title(name.to_uppercase()).section(SECTION).source(source);
    let path = dir.join(format!("{name}.{SECTION}"));
    let mut page = Vec::new();
    man.render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| about_commands(&man, &mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| examples(command).to_writer(&mut page))
        .and_then(|()| fs::write(&path, &page))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// The commands of an object, which have no pages of their own.
fn commands(object: &Command) -> Roff {
    let mut roff = Roff::new();
    if !object.has_subcommands() {
        return roff;
    }
    roff.control("SH", [object.get_subcommand_help_heading().unwrap_or("COMMANDS").to_uppercase().as_str()]);
    for command in object.get_subcommands() {
        let mut line = vec![bold(command.get_name())];
        for value in command.get_positionals().filter_map(|arg| arg.get_value_names()).flatten() {
            line.extend([roman(" "), italic(value.as_str())]);
        }
        for alias in command.get_visible_aliases() {
            line.extend([roman(", "), bold(alias)]);
        }
        roff.control("TP", []).text(line);
        roff.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    roff
}

/// What follows the options in the help: examples, and remarks. Lines stay as they are.
fn examples(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let Some(text) = command.get_after_help().map(ToString::to_string) else { return roff };
    roff.control("SH", ["EXAMPLES"]).control("nf", []);
    let lines = text.lines().skip_while(|line| *line == "Examples:");
    for line in lines {
        roff.text([if line.is_empty() { Inline::LineBreak } else { roman(line) }]);
    }
    roff.control("fi", []);
    roff
}
