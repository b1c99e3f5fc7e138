//! `cargo xtask demo`: one node, the pods of the tutorial, and what Sluice does for them, each thing in one line.

mod cluster;
mod outside;
mod report;
mod sessions;
mod steps;
mod tour;

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use self::cluster::Cluster;
use self::report::Report;
pub(crate) use self::report::line;
use self::steps::Demo;
use crate::build;
use crate::lab::{Agent, Lab, Node};

/// Flags of the demo.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the node running afterwards and print the commands to explore it; the next demo takes it away
    #[arg(long)]
    keep: bool,
    /// Only take away what `--keep` left
    #[arg(long, conflicts_with = "keep")]
    down: bool,
}

/// Builds what the demo needs and runs it. With `SLUICE_BIN` set, that binary is shown and nothing is built.
///
/// # Errors
/// When something did not hold, or the node could not be made.
pub fn run(args: &DemoArgs) -> Result<()> {
    if args.down {
        return Lab::remove_kept();
    }
    build::for_lab("the demo")?;
    Lab::remove_kept()?;
    let start = Instant::now();
    let lab = Lab::own()?;
    let node = Node::new(&lab, "node")?;
    let client = node.pod("client")?;
    let mut cluster = Cluster::new(&node)?;
    cluster.scale_up(cluster.wanted())?;
    let agent = Agent::start(&node, steps::AGENT_FLAGS)?;
    line(&format!(
        "one node, {} replicas of python-api, a client pod and the agent: set up in {:.1} s\n",
        cluster.replicas().len(),
        start.elapsed().as_secs_f32(),
    ));
    let mut report = Report::default();
    let mut demo = Demo { node: &node, client: &client, cluster, agent: Some(agent) };
    demo.all(&mut report);
    tour::print(&node)?;
    let held = report.finish();
    if args.keep {
        lab.keep()?;
        tour::explore(&lab, &node, &client);
    }
    if !held {
        bail!("the demo did not show what it is to show");
    }
    Ok(())
}
