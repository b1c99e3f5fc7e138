//! What goes past the host stack, as the library says it.

use anyhow::{Result, ensure};
use lb_common::{POD_SHORTCUT, Point, Reason};
use lb_ebpf::testing::fixtures::{Exchange, Scene, shortcut};
use lb_ebpf::testing::packet::Checksum;
use lb_ebpf::testing::tables::Tables;
use lb_ebpf::testing::world::Sizes;
use lb_ebpf::verdict::Verdict;

use crate::kernel::{Arrival, Kernel};
use crate::node;

#[test]
fn the_kernel_hands_packets_to_pods_as_the_library_does() -> Result<()> {
    node::enter()?;
    let mut kernel = Kernel::load(Sizes::default())?;
    for scene in Scene::ALL.into_iter().filter(|scene| scene.checksum != Checksum::Partial) {
        kernel.reset(&scene.config())?;
        kernel.program(&Tables::of(&[scene.service(1)]))?;
        let first = Exchange::ingress(&scene.first(scene.client(), scene.web())).input;
        kernel.run_from(Arrival::of(&first), Point::PodIngress, &mut first.data().to_vec())?;
        for entry in shortcut::entries(&scene) {
            let mut packet = entry.input.data().to_vec();
            let before = kernel.counters()?.reasons;
            let verdict = kernel.run_classifier(Arrival::of(&entry.input), POD_SHORTCUT, &mut packet)?;
            let after = kernel.counters()?.reasons;
            let counted = |reason| after.get(&reason).unwrap_or(&0) - before.get(&reason).unwrap_or(&0);
            let name = entry.name;
            match entry.delivered {
                Some((output, reason)) => {
                    ensure!(
                        verdict == Some(Verdict::Redirect) && packet == output,
                        "{scene}, {name}: {verdict:?}"
                    );
                    ensure!((counted(reason), counted(Reason::PastStack)) == (1, 1), "{scene}, {name}");
                }
                None => {
                    ensure!(verdict == Some(Verdict::Pass), "{scene}, {name}: {verdict:?}");
                    ensure!(
                        packet == entry.input.data() && before == after,
                        "{scene}, {name}: not untouched"
                    );
                }
            }
        }
    }
    Ok(())
}
