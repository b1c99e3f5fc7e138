//! Programs of others on the hooks of pods' interfaces, before and behind Sluice's: they run, and their verdicts hold.

use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, SchedClassifier};
use serde_json::Value;
use xtask::compiler::LLVM;
use xtask::lab::Pod;

use crate::support::{Case, Mode, WAYS, Way, World, lab};

/// `TCX_NEXT`.
pub(crate) const NEXT: i32 = -1;
/// `TCX_DROP`.
pub(crate) const DROP: i32 = 2;

/// The object file of a program that does nothing but return `verdict`; `name` is for the file.
fn object(name: &str, verdict: i32) -> Vec<u8> {
    let (source, object) = (lab().dir().join(format!("{name}.s")), lab().dir().join(format!("{name}.o")));
    let text = format!(
        ".section classifier,\"ax\",@progbits\n.globl verdict\n.type verdict,@function\n\
         verdict:\n r0 = {verdict}\n exit\n.size verdict, .-verdict\n\
         .section license,\"aw\",@progbits\n.asciz \"GPL\"\n"
    );
    std::fs::write(&source, text).unwrap();
    let mut assembler = Command::new(format!("/usr/lib/llvm-{LLVM}/bin/llvm-mc"));
    assembler.args(["-triple", "bpfel", "-filetype", "obj", "-o"]).args([&object, &source]);
    assert!(assembler.stdin(Stdio::null()).status().unwrap().success());
    std::fs::read(object).unwrap()
}

/// Attaches a program that returns `verdict` to the interface of `pod`, until it is dropped.
pub(crate) fn attach(world: &World, pod: &Pod, verdict: i32, hook: TcAttachType, order: LinkOrder) -> Ebpf {
    let object = object(&format!("{}-{}-{verdict}", world.node.name(), pod.name()), verdict);
    let attach = || -> Result<Ebpf> {
        let mut ebpf = Ebpf::load(&object)?;
        let program: &mut SchedClassifier =
            ebpf.program_mut("verdict").context("the object has its program")?.try_into()?;
        program.load()?;
        program.attach_with_options(pod.interface(), hook, TcAttachOptions::TcxOrder(order))?;
        Ok(ebpf)
    };
    world.node.host().within(attach).unwrap()
}

/// How many flows `pod` has.
fn flows(world: &World, pod: &Pod, way: Way) -> usize {
    let client = pod.ips()[way.family].to_string();
    let flows = world.node.sluice_json(&["flow", "--client", &client]).unwrap();
    flows.as_array().map_or(0, Vec::len)
}

#[test]
fn programs_that_pass_packets_on_are_passed_through() {
    let world = World::new("foreign", Mode::Host, &[]);
    let service = world.service("any", &[&world.a]);
    let foreign = [
        attach(&world, &world.client, NEXT, TcAttachType::Ingress, LinkOrder::first()),
        attach(&world, &world.client, NEXT, TcAttachType::Ingress, LinkOrder::last()),
        attach(&world, &world.client, NEXT, TcAttachType::Egress, LinkOrder::first()),
        attach(&world, &world.client, NEXT, TcAttachType::Egress, LinkOrder::last()),
    ];
    for restarted in [false, true] {
        if restarted {
            world.take_agent().kill().unwrap();
            world.start_agent();
        }
        for way in WAYS {
            Case(&world, "pod", way).answered_by("a", service.ask(&world.client, way));
        }
    }
    drop(foreign);
}

#[test]
fn programs_that_drop_have_their_way_before_ours_and_behind() {
    let world = World::new("foreign-drop", Mode::Host, &[]);
    let service = world.service("any", &[&world.a]);
    let way = WAYS[1];
    let _before = attach(&world, &world.b, DROP, TcAttachType::Ingress, LinkOrder::first());
    let _behind = attach(&world, &world.client, DROP, TcAttachType::Ingress, LinkOrder::last());
    let _back = attach(&world, &world.c, DROP, TcAttachType::Egress, LinkOrder::last());
    let clients = [(&world.b, 0), (&world.client, 1), (&world.c, 1)];
    // Each waits for an answer in vain.
    thread::scope(|scope| {
        for (pod, _) in clients {
            let (world, service) = (&world, &service);
            scope.spawn(move || {
                let answer = service.ask(pod, way);
                assert!(answer.is_err(), "{}: {answer:?}", Case(world, pod.name(), way));
            });
        }
    });
    for (pod, expected) in clients {
        assert_eq!(flows(&world, pod, way), expected, "flows of {}", pod.name());
    }
    let replies =
        world.node.sluice_json(&["flow", "--client", &world.c.ips()[way.family].to_string()]).unwrap();
    let counted = |flow: &Value| flow["packets_out"].as_u64();
    assert_eq!(replies.as_array().unwrap().iter().map(counted).collect::<Vec<_>>(), [Some(1)], "{replies}");
}
