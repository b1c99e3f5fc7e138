//! The grammar: `sluice [-j|-p] [--pin-dir DIR] OBJECT [COMMAND] [NAME] [options]`.
//!
//! Each flag is declared once, on the object that has it; help and the errors about wrong usage follow from that.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::bpf::pin::PinDir;

use super::out::Format;
use super::target::{ServiceName, Target};
use super::{
    affinity, backend, bench, cleanup, completion, doctor, event, flow, link, map, prog, service, stats,
    status, version,
};

/// Title of the options of every object in their help.
const GLOBAL: &str = "Global options";

const EXAMPLES: &str = "\
Examples:
  sluice service                          all Services
  sluice svc show default/web             one of them, with its endpoints
  sluice flow list --service default/web  who is connected to it
  sluice -j stats                         what became of packets, as JSON

Exit status: 0 done, 1 failed, 2 wrong usage.";

/// eBPF Service load balancer for Kubernetes: the agent, and a look at what it has programmed.
#[derive(Parser)]
#[command(name = "sluice", version, after_help = EXAMPLES, arg_required_else_help = true)]
#[command(subcommand_value_name = "OBJECT", subcommand_help_heading = "Objects")]
pub(super) struct Cli<A: Args> {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) object: Object<A>,
}

/// Options of every object; they may stand before it or after it.
#[derive(Args, Debug)]
pub(super) struct Global {
    /// Print one JSON document, errors too
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// Print JSON, indented
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pretty: bool,
    /// Where the datapath is pinned
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", default_value = PinDir::DEFAULT)]
    pub(super) pin_dir: PathBuf,
}

impl Global {
    /// The format asked for.
    pub(super) fn format(&self) -> Format {
        match (self.json, self.pretty) {
            (_, true) => Format::Pretty,
            (true, false) => Format::Json,
            (false, false) => Format::Text,
        }
    }
}

/// What a command is about. The flags of the agent are its own business.
#[derive(Subcommand)]
pub(super) enum Object<A: Args> {
    /// Services: addresses, usable endpoints, counters
    #[command(visible_alias = "svc", after_help = service::EXAMPLES)]
    Service(Namespaced<ServiceName>),
    /// Endpoints of Services: state and counters
    #[command(after_help = backend::EXAMPLES)]
    Backend(Namespaced<Target>),
    /// Connections that the packet path translates
    Flow(flow::Args),
    /// Which client keeps which endpoint
    Affinity(affinity::Args),
    /// Packets that were dropped or refused, as it happens
    Event(event::Args),
    /// What became of packets and socket calls, and how full the tables are
    Stats(stats::Args),
    /// The eBPF maps
    #[command(after_help = map::EXAMPLES)]
    Map(Named<String>),
    /// The eBPF programs
    #[command(after_help = prog::EXAMPLES)]
    Prog(Named<String>),
    /// Where the programs are attached
    #[command(after_help = link::EXAMPLES)]
    Link(Named<String>),
    /// Whether the agent is alive and what it has to say
    Status(status::Args),
    /// What of this kernel, host and datapath is not as it should be, and what to do
    Doctor(doctor::Args),
    /// Measure this machine: what a packet or a call takes, beside controls
    Bench(bench::Args),
    /// Take the datapath away: every link, program and map under the pin directory
    Cleanup(cleanup::Args),
    /// Version of this binary and of what is pinned
    Version(version::Args),
    /// Completions for a shell
    Completion(completion::Args),
    /// Write the man pages
    #[command(hide = true)]
    Man(completion::ManArgs),
    /// Run the agent: program the datapath as the Kubernetes API, or a folder of manifests, says
    Agent(Agent<A>),
}

const AGENT_EXAMPLES: &str = "\
Examples:
  sluice agent                                       in a pod of a DaemonSet
  sluice agent --kubeconfig /etc/sluice/kubeconfig
  sluice agent --manifests . --log-level debug --socket-lb host
  sluice agent --config /etc/sluice/config.yaml

It stays in the foreground, logs to standard error and ends on SIGTERM. The datapath stays: see `sluice cleanup`.";

#[derive(Args)]
#[command(after_help = AGENT_EXAMPLES, disable_help_subcommand = true)]
pub(super) struct Agent<A: Args> {
    #[command(flatten)]
    pub(super) flags: A,
    #[command(subcommand)]
    pub(super) help: Option<OnlyHelp>,
}

/// What elements of an object are called.
pub(super) trait Name:
    FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static
{
    /// How it stands in a usage.
    const VALUE: &'static str;
    /// What it is.
    const HELP: &'static str;
}

impl Name for String {
    const VALUE: &'static str = "NAME";
    const HELP: &'static str = "Its name";
}

/// What an object is asked whose elements have a name.
#[derive(Args, Debug)]
pub(super) struct Named<N: Name> {
    #[command(subcommand)]
    command: Option<Verb<N>>,
}

#[derive(Subcommand, Debug)]
enum Verb<N: Name> {
    /// List all (the default)
    List,
    /// Show those of this name; without a name, list all
    Show {
        #[arg(value_name = N::VALUE, help = N::HELP, value_parser = str::parse::<N>)]
        name: Option<N>,
    },
}

impl<N: Name> Named<N> {
    /// The name that is asked for; `None` if all are.
    pub(super) fn name(&self) -> Option<&N> {
        match self.command.as_ref()? {
            Verb::List => None,
            Verb::Show { name } => name.as_ref(),
        }
    }
}

/// The same of an object whose elements belong to a Kubernetes namespace.
#[derive(Args, Debug)]
pub(super) struct Namespaced<N: Name> {
    /// Only those of this namespace
    #[arg(short, long, global = true, value_name = "NS")]
    pub(super) namespace: Option<String>,
    #[command(flatten)]
    pub(super) named: Named<N>,
}

/// Commands of objects that are one thing.
#[derive(Subcommand, Clone, Copy, Debug)]
pub(super) enum OnlyShow {
    /// Show it (the default)
    #[command(visible_alias = "list")]
    Show,
}

/// Commands of objects that only act.
#[derive(Subcommand, Clone, Copy, Debug)]
pub(super) enum OnlyHelp {
    /// Print this help
    Help,
}

/// The format that a command line asks for which clap has refused: errors about it are answered in that format.
pub(super) fn format_of_refused(args: &[OsString]) -> Format {
    let flags = || args.iter().skip(1).filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--");
    // Flags of one letter may be joined, `-jp`; what follows a letter that takes a value is no flag.
    let given = |long: &str, letter: char| {
        flags().any(|arg| match arg.strip_prefix('-') {
            Some(rest) if !rest.starts_with('-') => {
                rest.chars().take_while(|c| "jp".contains(*c)).any(|c| c == letter)
            }
            _ => arg == long,
        })
    };
    match (given("--json", 'j'), given("--pretty", 'p')) {
        (_, true) => Format::Pretty,
        (true, false) => Format::Json,
        (false, false) => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Args)]
    struct Flags {
        #[arg(long)]
        manifests: Option<String>,
        #[arg(long, default_value = "info")]
        log_level: String,
    }

    #[test]
    fn the_agent_has_its_own_flags_and_help() {
        let flags = |line: &str| match Cli::<Flags>::try_parse_from(line.split(' ')).map(|cli| cli.object) {
            Ok(Object::Agent(Agent { flags, help })) => {
                Ok((flags.manifests.unwrap_or_default() + &flags.log_level, help.is_some()))
            }
            Ok(_) => panic!("{line}"),
            Err(error) => Err(error.kind()),
        };
        assert_eq!(flags("sluice agent --manifests m"), Ok(("minfo".to_owned(), false)));
        assert_eq!(flags("sluice agent help"), Ok(("info".to_owned(), true)));
        assert_eq!(flags("sluice agent"), Ok(("info".to_owned(), false)));
        assert_eq!(flags("sluice agent --nonsense"), Err(clap::error::ErrorKind::UnknownArgument));
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::<Flags>::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after() {
        for line in [
            "sluice -j --pin-dir /x service list",
            "sluice service -j list --pin-dir /x",
            "sluice service list -j --pin-dir=/x",
            "sluice svc --pin-dir /x --json",
        ] {
            let cli = Cli::<Flags>::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.format(), Format::Json, "{line}");
            assert_eq!(cli.global.pin_dir, PathBuf::from("/x"), "{line}");
        }
    }

    #[test]
    fn the_format_of_a_refused_line_is_that_of_the_same_line_accepted() {
        for (line, format) in [
            ("sluice -j nonsense", Format::Json),
            ("sluice nonsense --json", Format::Json),
            ("sluice -jp nonsense", Format::Pretty),
            ("sluice nonsense -p", Format::Pretty),
            ("sluice service -njoe --nonsense", Format::Text),
            ("sluice nonsense -- -j", Format::Text),
            ("sluice", Format::Text),
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(format_of_refused(&args), format, "{line}");
        }
    }
}
