//! `sluice status`.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use lb_common::SCHEMA;
use serde::Serialize;

use super::Context;
use super::args::OnlyShow;
use super::crowd::{self, Crowd};
use super::out::{Document, Out, Row};
use super::shadowed;
use super::text;
use super::unserved;
use crate::bpf::inspect;
use crate::bpf::pin::Holder;
use crate::status::{Problem, Status, StatusFile, Xdp};

const EXAMPLES: &str = "\
Examples:
  sluice status            the agent, what it follows, what it could not do
  sluice -j status         \"synced\" is true once everything has been programmed

The exit status is 0 also when no agent is running: the datapath works without it.";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<OnlyShow>,
}

/// The agent and what it left behind. What only a status file can tell is absent without one.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether an agent holds the pin directory.
    running: bool,
    /// Its process id, if that can be seen from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Whether that agent has programmed all that its source held at the start.
    synced: bool,
    pin_dir: PathBuf,
    schema: u32,
    /// Programs that are loaded and pinned.
    programs: Vec<String>,
    /// The flow tables, where they are installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<[Crowd; 2]>,
    /// Sockets of the host at node ports of Services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadowed: Vec<String>,
    /// Interfaces with endpoints behind them that are neither pods' nor uplinks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unserved: Vec<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    told: Option<Told>,
}

/// What the agent last said.
#[derive(Debug, Serialize)]
struct Told {
    version: String,
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_server: Option<String>,
    /// Whether the source answers.
    connected: bool,
    /// Whether it has told everything that was there at the start.
    listed: bool,
    /// Where addresses of Services are allocated.
    service_ranges: Vec<String>,
    interfaces: Vec<String>,
    /// Uplinks and overlays that have their programs.
    uplinks: Vec<String>,
    /// How uplinks, not overlays, are served.
    xdp: Vec<Xdp>,
    /// Interfaces from which packets for pods of this node go past the host stack; absent if `--redirect-peer` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_peer: Option<Vec<String>>,
    /// Addresses of Services that interfaces of the node have.
    held: Vec<IpAddr>,
    problems: Vec<Problem>,
}

/// What is read where a datapath is installed.
#[derive(Default)]
struct Tables {
    flows: Option<[Crowd; 2]>,
    shadowed: Vec<String>,
    unserved: Vec<String>,
}

impl Told {
    /// What is followed, in words.
    fn source(&self) -> String {
        let source = match (&self.manifests, &self.api_server) {
            (Some(folder), _) => folder.display().to_string(),
            (None, Some(url)) => url.clone(),
            (None, None) => String::new(),
        };
        let state = match (self.connected, self.listed) {
            (true, true) => "followed",
            (true, false) => "being listed",
            (false, true) => "does not answer: what it said last stands",
            (false, false) => "has not answered yet",
        };
        format!("{source}: {state}")
    }
}

impl Report {
    fn new(
        pin_dir: PathBuf,
        holder: Option<Holder>,
        programs: Vec<String>,
        Tables { flows, shadowed, unserved }: Tables,
        status: Option<Status>,
    ) -> Self {
        let synced = holder.zip(status.as_ref()).is_some_and(|(holder, status)| status.synced_by(holder.pid));
        Self {
            running: holder.is_some(),
            pid: holder.and_then(|holder| holder.pid),
            synced,
            pin_dir,
            schema: SCHEMA,
            programs,
            flows,
            shadowed,
            unserved,
            told: status.map(|status| Told {
                version: status.version,
                node: status.node,
                manifests: status.manifests,
                api_server: status.api_server,
                connected: holder.is_some() && status.connected,
                listed: status.listed,
                service_ranges: status.service_ranges,
                interfaces: status.interfaces,
                uplinks: status.uplinks,
                xdp: status.xdp,
                redirect_peer: status.redirect_peer,
                held: status.held,
                problems: status.problems,
            }),
        }
    }
}

impl Row for Problem {
    const COLUMNS: &'static [&'static str] = &["OBJECT", "PROBLEM"];

    fn cells(&self) -> Vec<String> {
        vec![self.object.clone(), self.text.clone()]
    }
}

impl Document for Report {
    fn text(&self, writer: &mut dyn Write) -> io::Result<()> {
        let agent = match (self.running, self.programs.is_empty()) {
            (true, _) => format!("running, {}", Holder { pid: self.pid }),
            (false, false) => "not running; the datapath goes on with what it was told last".to_owned(),
            (false, true) => "not running".to_owned(),
        };
        let datapath = if self.programs.is_empty() {
            format!("not installed under {}", self.pin_dir.display())
        } else {
            format!("{} programs under {}", self.programs.len(), self.pin_dir.display())
        };
        let mut fields = vec![
            ("Agent", agent),
            ("Synced", text::yes(self.synced)),
            ("Datapath", datapath),
            ("Schema", self.schema.to_string()),
        ];
        if let Some([v4, v6]) = &self.flows {
            fields.push(("Flows", format!("{}; {}", v4.summary(), v6.summary())));
        }
        if !self.shadowed.is_empty() {
            let meaning = "sockets of the host at node ports, which Services have";
            fields.push(("Shadowed", format!("{}: {meaning}", text::comma(&self.shadowed))));
        }
        if !self.unserved.is_empty() {
            fields.push(("Unserved", format!("{}: {}", text::comma(&self.unserved), unserved::MEANING)));
        }
        if let Some(told) = &self.told {
            fields.extend([
                ("Version", told.version.clone()),
                ("Node", told.node.clone()),
                ("Source", told.source()),
                ("Service ranges", text::comma(&told.service_ranges)),
                ("Interfaces", text::comma(&told.interfaces)),
            ]);
            if !told.uplinks.is_empty() {
                let meaning = "clients of other machines come by them";
                fields.push(("Uplinks", format!("{}: {meaning}", text::comma(&told.uplinks))));
            }
            fields.extend(told.xdp.iter().map(|xdp| ("XDP", xdp.to_string())));
            if let Some(interfaces) = &told.redirect_peer {
                let meaning = "what comes by them for pods of this node goes past the host stack";
                fields.push(("Redirect peer", format!("{}: {meaning}", text::comma(interfaces))));
            }
            if !told.held.is_empty() {
                let meaning = "interfaces of this node have them, so packets to them are left to the host";
                fields.push(("Held", format!("{}: {meaning}", text::comma(&told.held))));
            }
            fields.push(("Problems", told.problems.len().to_string()));
        }
        text::fields(writer, &fields)?;
        match &self.told {
            Some(told) if !told.problems.is_empty() => {
                writeln!(writer)?;
                text::table(writer, &told.problems)
            }
            _ => Ok(()),
        }
    }
}

impl Args {
    pub(super) fn run(&self, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
        let pins = &context.pins;
        let file = StatusFile::of(pins.root())?;
        // The holder first: what is read after it is the holder's, or older.
        let holder = pins.holder();
        let status = file.read().with_context(|| format!("read {}", file.path().display()))?;
        let programs: Vec<_> = inspect::progs(pins)?.into_iter().map(|prog| prog.name).collect();
        let tables = if programs.is_empty() {
            Tables::default()
        } else {
            Tables {
                flows: Some(crowd::read(pins)?),
                shadowed: shadowed::read(pins)?,
                unserved: unserved::read(pins)?,
            }
        };
        Ok(out.document(&Report::new(pins.root().to_owned(), holder, programs, tables, status))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::crowd::tests::flooded;
    use crate::ctl::out::Format;
    use crate::ctl::tests::{NOBODY, documented, shape};

    fn status() -> Status {
        Status {
            synced: true,
            node: "a".to_owned(),
            api_server: Some("https://192.0.2.1:6443".to_owned()),
            xdp: vec![Xdp {
                interface: "eth0".to_owned(),
                native: false,
                why: Some("no driver".to_owned()),
                remedy: Some("get one".to_owned()),
            }],
            redirect_peer: Some(vec!["veth3".to_owned()]),
            problems: vec![Problem::new("default/web", "no room")],
            ..Status::default()
        }
    }

    fn written(format: Format, holder: Option<Holder>, programs: &[&str], status: Option<Status>) -> String {
        let programs = programs.iter().map(|name| (*name).to_owned()).collect();
        let shadowed = holder.map(|_| "0.0.0.0:30080/TCP of shop/web".to_owned()).into_iter().collect();
        let unserved = holder.map(|_| "eth7 (10.244.7.3)".to_owned()).into_iter().collect();
        let tables = Tables { flows: holder.map(|_| flooded()), shadowed, unserved };
        let report = Report::new(PathBuf::from("/p"), holder, programs, tables, status);
        let mut text = Vec::new();
        Out::to(format, &mut text).document(&report).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn only_the_running_agent_can_be_synced() {
        let holder = |pid| Some(Holder { pid });
        for (holder, synced) in [(holder(Some(NOBODY)), true), (holder(None), true), (None, false)] {
            let json: serde_json::Value =
                serde_json::from_str(&written(Format::Json, holder, &["connect4"], Some(status()))).unwrap();
            assert_eq!(json["synced"], synced, "{holder:?}");
            if holder.is_some_and(|holder| holder.pid.is_some()) {
                assert_eq!(shape(&json), shape(&documented("status")));
            }
            assert_eq!(json["running"], holder.is_some());
            assert_eq!(json["flows"][0]["embryonic"].as_u64(), holder.map(|_| 50));
            assert_eq!(json["problems"][0]["text"], "no room");
        }
    }

    #[test]
    fn held_addresses_are_listed_with_what_it_means() {
        let held = vec!["10.96.0.10".parse().unwrap(), "fd00::a".parse().unwrap()];
        let status = Status { held, ..status() };
        let holder = Some(Holder { pid: Some(NOBODY) });
        let json = written(Format::Json, holder, &["x"], Some(status.clone()));
        assert!(json.contains(r#""held":["10.96.0.10","fd00::a"]"#), "{json}");
        let text = written(Format::Text, holder, &["x"], Some(status));
        let line = text.lines().find(|line| line.starts_with("Held:")).unwrap();
        assert!(line.contains("10.96.0.10,fd00::a: ") && line.contains("left to the host"), "{line}");
    }

    #[test]
    fn each_uplink_has_a_line_that_says_how_it_is_served() {
        let native = Xdp { interface: "eth1".to_owned(), native: true, ..Xdp::default() };
        let status = Status { xdp: [status().xdp, vec![native]].concat(), ..status() };
        let text = written(Format::Text, Some(Holder { pid: Some(NOBODY) }), &["x"], Some(status));
        let lines: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("XDP:")).map(str::trim).collect();
        assert_eq!(lines, ["eth0: tc alone: no driver; get one", "eth1: native XDP"]);
    }

    #[test]
    fn without_an_agent_there_is_an_answer_too() {
        assert_eq!(
            written(Format::Text, None, &[], None),
            format!(
                "Agent:     not running\nSynced:    no\nDatapath:  not installed under /p\nSchema:    {SCHEMA}\n"
            )
        );
        assert!(written(Format::Text, None, &["x"], Some(status())).contains("the datapath goes on"));
        let text = written(Format::Text, Some(Holder { pid: None }), &["x"], None);
        assert!(text.contains("Unserved:  eth7 (10.244.7.3): clients outside"), "{text}");
        assert!(
            written(Format::Text, Some(Holder { pid: Some(NOBODY) }), &["x"], Some(status()))
                .ends_with("\nOBJECT       PROBLEM\ndefault/web  no room\n")
        );
    }
}
