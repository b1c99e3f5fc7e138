//! What the command line shows of the node, and how to look further.

use anyhow::Result;

use super::report::line;
use crate::lab::{Lab, Node, Pod, Space, binary};
use crate::sh;

/// Prints the Services, some flows and the counters as `sluice` shows them.
pub(super) fn print(node: &Node) -> Result<()> {
    for args in [&["service", "show"][..], &["flow", "list", "--limit", "6"], &["stats"]] {
        line(&format!("\n$ sluice {}", args.join(" ")));
        line(sh::read(&mut node.sluice(args))?.trim_end());
    }
    Ok(())
}

/// Prints the commands to explore a node that is kept.
pub(super) fn explore(lab: &Lab, node: &Node, client: &Pod) {
    let sluice = format!("{} --pin-dir {}", binary().display(), node.pin_dir().display());
    line(&format!(
        "\nThe node is left running. Look around:\n  \
         {sluice} service show\n  \
         {sluice} status\n\
         Ask the Service, from the client pod and from the host:\n  \
         {}\n  \
         {}\n\
         Change what the agent watches, read its log:\n  \
         {}/\n  \
         {}/\n\
         Take it away:\n  \
         cargo xtask demo --down",
        curl(client),
        curl(node.host()),
        node.manifests().display(),
        lab.dir().join(node.name()).display(),
    ));
}

/// A command line that runs curl in `space`. A socket is the host's or a pod's by its control group, so that has to be
/// entered together with the namespace.
fn curl(space: &Space) -> String {
    format!(
        "sh -c 'echo $$ > {}/cgroup.procs; exec nsenter --net=/run/netns/{} curl http://10.96.0.80/'",
        space.cgroup().display(),
        space.netns(),
    )
}
