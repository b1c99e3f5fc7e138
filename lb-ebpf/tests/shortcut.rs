//! What goes past the host stack, and what does not.

use std::collections::BTreeMap;

use lb_common::{Point, Reason};
use lb_ebpf::stage;
use lb_ebpf::testing::fixtures::{Exchange, Scene, shortcut};
use lb_ebpf::testing::host;
use lb_ebpf::testing::routes::POD;
use lb_ebpf::testing::schedule::Schedule;
use lb_ebpf::testing::tables::Tables;
use lb_ebpf::testing::wire;
use lb_ebpf::testing::world::{Sizes, World};
use lb_ebpf::verdict::Verdict;

#[test]
fn packets_for_pods_go_past_the_stack_and_what_needs_it_goes_up_untouched() {
    for scene in Scene::ALL {
        let world = World::new(scene.config(), Sizes::default(), &Schedule::default());
        world.program(&Tables::of(&[scene.service(1)]));
        let cpu = world.on_cpu(0);
        let mut first = Exchange::ingress(&scene.first(scene.client(), scene.web())).input;
        host::run(&cpu, Point::PodIngress, &mut first);
        for entry in shortcut::entries(&scene) {
            let case = format!("{scene}, {}", entry.name);
            let before = world.counters().reasons;
            let mut packet = entry.input.clone();
            let verdict = stage::shortcut(&mut packet, &cpu);
            let after = world.counters().reasons;
            let grown: BTreeMap<Reason, u64> = after
                .into_iter()
                .map(|(reason, count)| (reason, count - before.get(&reason).unwrap_or(&0)))
                .filter(|(_, count)| *count != 0)
                .collect();
            match entry.delivered {
                Some((output, reason)) => {
                    assert_eq!((verdict, cpu.take_sent()), (Verdict::Route, Some(POD)), "{case}");
                    assert_eq!(wire::difference(&output, packet.data()), None, "{case}");
                    assert_eq!(grown, [(reason, 1), (Reason::PastStack, 1)].into(), "{case}");
                }
                None => {
                    assert_eq!((verdict, grown), (Verdict::Pass, BTreeMap::new()), "{case}");
                    assert_eq!(packet, entry.input, "{case}");
                }
            }
        }
    }
}
