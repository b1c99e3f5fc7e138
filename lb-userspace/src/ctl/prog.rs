//! `sluice prog`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::Context;
use super::args::Named;
use super::out::{Out, Row};
use super::text;
use crate::bpf::inspect::{self, Prog};

pub(super) const EXAMPLES: &str = "\
Examples:
  sluice prog                          all programs
  sluice prog show pod_ingress         one of them
  sysctl kernel.bpf_stats_enabled=1    makes the kernel count runs and their time";

/// One program.
#[derive(PartialEq, Debug, Serialize)]
struct ProgRow {
    name: String,
    id: u32,
    tag: String,
    verified_instructions: u32,
    jited_bytes: u32,
    /// Counted only while the kernel is told to.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    runs: Option<Runs>,
}

#[derive(PartialEq, Debug, Serialize)]
struct Runs {
    run_count: u64,
    run_time_ns: u64,
}

impl From<Prog> for ProgRow {
    fn from(prog: Prog) -> Self {
        let tag = prog.tag.iter().fold(String::new(), |mut tag, byte| {
            // A String takes whatever is written to it.
            let _ = write!(tag, "{byte:02x}");
            tag
        });
        Self {
            name: prog.name,
            id: prog.id,
            tag,
            verified_instructions: prog.verified,
            jited_bytes: prog.jited,
            runs: (prog.runs > 0).then(|| Runs {
                run_count: prog.runs,
                run_time_ns: u64::try_from(prog.run_time.as_nanos()).unwrap_or(u64::MAX),
            }),
        }
    }
}

impl Row for ProgRow {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "ID", "TAG", "INSNS", "JITED", "RUNS", "TIME", "NS/RUN"];

    fn cells(&self) -> Vec<String> {
        let runs = self.runs.as_ref();
        vec![
            self.name.clone(),
            self.id.to_string(),
            self.tag.clone(),
            self.verified_instructions.to_string(),
            format!("{}B", self.jited_bytes),
            text::or_none(runs.map(|runs| runs.run_count)),
            text::or_none(runs.map(|runs| text::duration(Duration::from_nanos(runs.run_time_ns)))),
            text::or_none(runs.and_then(|runs| runs.run_time_ns.checked_div(runs.run_count))),
        ]
    }
}

pub(super) fn run(args: &Named<String>, context: &Context, out: &mut Out<'_>) -> anyhow::Result<()> {
    let mut progs = inspect::progs(context.datapath()?)?;
    if let Some(name) = args.name() {
        progs.retain(|prog| prog.name == *name);
        if progs.is_empty() {
            bail!("no program {name} is pinned: see `sluice prog list`");
        }
    }
    out.list(progs.into_iter().map(|prog| Ok(ProgRow::from(prog))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::out::Format;
    use crate::ctl::tests::documented;

    fn prog(runs: u64) -> Prog {
        Prog {
            name: "pod_ingress".to_owned(),
            id: 7,
            tag: [0, 1, 2, 3, 4, 5, 6, 0xff],
            verified: 5000,
            jited: 4096,
            runs,
            run_time: Duration::from_nanos(runs * 60),
        }
    }

    fn list(format: Format, runs: u64) -> String {
        let mut text = Vec::new();
        Out::to(format, &mut text).list([Ok(ProgRow::from(prog(runs)))]).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn runs_are_absent_unless_counted() {
        assert_eq!(
            list(Format::Json, 0),
            "[{\"name\":\"pod_ingress\",\"id\":7,\"tag\":\"00010203040506ff\",\"verified_instructions\":5000,\"jited_bytes\":4096}]\n"
        );
        let counted: serde_json::Value = serde_json::from_str(&list(Format::Json, 3)).unwrap();
        assert_eq!(counted, documented("prog list"));
        assert!(
            list(Format::Text, 0).ends_with("5000   4096B  -     -     -\n"),
            "{}",
            list(Format::Text, 0)
        );
        assert!(list(Format::Text, 3).ends_with("3     0s    60\n"), "{}", list(Format::Text, 3));
    }
}
