//! What the command line shows of the node, and how to look further.

use std::path::Path;

use anyhow::Result;

use super::report::line;
use crate::lab::{Lab, Node, Pod, Space, binary};
use crate::sh;

/// Prints the Services, some flows and the counters as `sluice` shows them.
pub(super) fn print(node: &Node) -> Result<()> {
    for args in [
        &["service", "show"][..],
        &["flow", "list", "--limit", "6"],
        &["stats"],
    ] {
        line(&format!("\n$ sluice {}", args.join(" ")));
        line(sh::read(&mut node.sluice(args))?.trim_end());
    }
    Ok(())
}

/// Prints the commands to explore a node that is kept.
pub(super) fn explore(lab: &Lab, node: &Node, client: &Pod, helper: &Path) {
    let sluice = format!(
        "nsenter --net=/run/netns/{} {} --pin-dir {}",
        node.host().netns(),
        binary().display(),
        node.pin_dir().display(),
    );
    line(&format!(
        "\nThe node is left running. Look around:\n  \
         {sluice} service show\n  \
         {sluice} status\n  \
         {}/        the manifests that the agent watches\n  \
         {}/        logs of the agent and of the pods\n  \
         {}    from the client pod\n  \
         {}    from the host\n\
         Take it away:\n  cargo xtask demo --down",
        node.manifests().display(),
        lab.dir().join(node.name()).display(),
        curl(client, helper),
        curl(node.host(), helper),
    ));
}

/// A command line that runs curl in `space`. Sockets of the host are translated by its control group, so it has to be
/// entered together with the namespace.
fn curl(space: &Space, helper: &Path) -> String {
    format!(
        "{} lab-helper enter --netns {} --cgroup {} -- curl http://10.96.0.80/",
        helper.display(),
        space.netns(),
        space.cgroup().display(),
    )
}
