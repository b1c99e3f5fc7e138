//! More flows than the tables have room for.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::lab::helper::wire::Socket;
use xtask::lab::{Conn, Pod, wait_for};

use crate::support::{Mode, Svc, WAYS, World, long};

const FLOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/floods/flood.py");

/// How long expired flows may take to be gone.
pub(crate) const SWEPT: Duration = Duration::from_secs(20);

/// A pod that floods a Service, until it is dropped at the latest.
pub(crate) struct Flood(Vec<Child>);

impl Flood {
    /// From `count` ports for `seconds`, both families.
    fn start(pod: &Pod, kind: &str, service: &Svc<'_>, count: u32, seconds: u32) -> Self {
        Self::of(pod, kind, service.addresses.map(|addr| SocketAddr::new(addr, 80)), (count, seconds))
    }

    /// Of these places, one of each family, from so many ports each for so many seconds.
    pub(crate) fn of(pod: &Pod, kind: &str, to: [SocketAddr; 2], (count, seconds): (u32, u32)) -> Self {
        let start = |family: usize| {
            let (source, addr) = (pod.ips()[family].to_string(), to[family].ip().to_string());
            let mut command = pod.command("python3");
            let numbers = [to[family].port().into(), count, seconds].map(|number| number.to_string());
            command.args([FLOOD, kind, &source, &addr]).args(numbers);
            command.stdout(Stdio::piped()).spawn().unwrap()
        };
        Self([0, 1].map(start).into())
    }

    fn runs(&mut self) -> bool {
        self.0.iter_mut().any(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits for its end; how many packets it sent.
    pub(crate) fn sent(mut self) -> u64 {
        let outputs = self.0.drain(..).map(|child| child.wait_with_output().unwrap());
        let number = |text: Vec<u8>| String::from_utf8(text).unwrap().trim().parse::<u64>().unwrap();
        outputs.map(|output| number(output.stdout)).sum()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until nothing of a flood that has ended is under way any more: what is yet to come takes entries as well.
fn subside(world: &World) {
    let (mut last, mut calm) = (Value::Null, 0);
    wait_for(SWEPT, || {
        let reasons = world.node.sluice_json(&["stats"]).unwrap()["reasons"].take();
        calm = if reasons == last { calm + 1 } else { 0 };
        last = reasons;
        calm == 10
    })
    .unwrap();
}

/// Opens `count` conversations with port 80 of `service`, over both families by turns.
fn converse<'w>(pod: &'w Pod, service: &Svc<'_>, count: usize) -> Vec<Conn<'w>> {
    let to = |n: usize| SocketAddr::new(service.addresses[n % 2], 80);
    (0..count).map(|n| pod.open(Socket::Tcp, Some(to(n))).unwrap()).collect()
}

/// Asks in each conversation, one after the other; none may have ended. How long an answer takes.
fn ask_all(conversations: &[Conn<'_>]) -> Duration {
    let begun = Instant::now();
    for (n, conversation) in conversations.iter().enumerate() {
        if let Err(failure) = conversation.ask() {
            panic!("conversation {n} of {}: {failure}", conversations.len());
        }
    }
    begun.elapsed() / u32::try_from(conversations.len()).unwrap()
}

/// What `sluice status` says of the flow tables of both families.
fn flows(world: &World) -> Vec<Value> {
    world.node.sluice_json(&["status"]).unwrap()["flows"].as_array().unwrap().clone()
}

fn all(world: &World, key: &str, value: impl Into<Value>) -> bool {
    let value = value.into();
    flows(world).iter().all(|family| family[key] == value)
}

/// How many flows of the conversations' pod each table holds.
fn held(world: &World) -> [usize; 2] {
    let flows = world.client.ips().map(|ip| {
        let of_pod = ["flow", "--client", &ip.to_string(), "--proto", "tcp", "--limit", "100000"];
        world.node.sluice_json(&of_pod).unwrap().as_array().unwrap().clone()
    });
    ["main", "lru"].map(|table| flows.iter().flatten().filter(|flow| flow["table"] == table).count())
}

#[test]
fn a_flood_ends_none_of_a_thousand_conversations() {
    let lifetimes = "tcp-syn-sent=4";
    let flags = ["--max-flows", "8192", "--sweep-interval", "1", "--flow-lifetime", lifetimes];
    let world = World::new("flood", Mode::Host, &flags);
    let flooder = world.node.pod("flooder").unwrap();
    let service = world.service("flooded", &[&world.a, &world.b, &world.c]);
    let conversations = converse(&world.client, &service, 1000);
    let before = ask_all(&conversations);
    assert!(all(&world, "embryonic", 0), "{:?}", flows(&world));
    assert_eq!(held(&world), [1000, 0]);

    // 60 000 flows of each family, where there is room for 4096 and 512.
    let mut flood = Flood::start(&flooder, "syn", &service, 60_000, if long() { 60 } else { 3 });
    wait_for(SWEPT, || all(&world, "lru_used", true)).unwrap();
    let (mut during, mut rounds) = (Duration::ZERO, 0);
    while flood.runs() {
        during = during.max(ask_all(&conversations));
        rounds += 1;
        // Whoever comes now waits in the LRU table for the end of his handshake, and stays. A datagram may wait there for
        // a busy server too long.
        for way in WAYS.into_iter().filter(|way| way.socket == Socket::Tcp) {
            assert!(service.ask(&world.client, way).is_ok(), "{way:?} during the flood");
        }
    }
    let state = flows(&world);
    assert!(state.iter().all(|family| family["embryonic"].as_u64() >= Some(1000)), "{state:?}");
    let sent = flood.sent();
    let after = ask_all(&conversations);
    println!(
        "a conversation's answer takes {before:?}, during a flood of {sent} flows at worst {during:?} on \
         average over {rounds} rounds, {after:?} after it"
    );
    assert!(sent >= 100_000, "only {sent} packets");
    let [main, lru] = held(&world);
    assert!(main >= 1000 && lru == 0, "{main} in the main table, {lru} in the LRU table");
    // The flood's own flows go, and with them all traces of it.
    wait_for(SWEPT, || all(&world, "embryonic", 0) && all(&world, "lru_used", false))
        .unwrap_or_else(|error| panic!("{error}: {:?}", flows(&world)));
    ask_all(&conversations);
}

#[test]
fn a_table_that_fills_up_without_an_agent_leaves_the_lru_table() {
    let flags =
        ["--max-flows", "4096", "--sweep-interval", "1", "--flow-lifetime", "udp-replied=6,udp-unreplied=6"];
    let world = World::new("unswept", Mode::Host, &flags);
    let flooder = world.node.pod("flooder").unwrap();
    let service = world.service("filled", &[&world.a, &world.b]);
    let conversations = converse(&world.client, &service, 100);
    ask_all(&conversations);
    world.take_agent().kill().unwrap();
    // Answered, so confirmed, if not the first time then later: they fill the main table, and nobody removes them.
    let flood = Flood::start(&flooder, "udp", &service, 3000, 20);
    wait_for(SWEPT, || all(&world, "full", true))
        .unwrap_or_else(|error| panic!("{error}: {:?}", flows(&world)));
    drop(flood);
    subside(&world);
    ask_all(&conversations);
    let late = converse(&world.client, &service, 40);
    for way in WAYS {
        assert!(service.ask(&world.client, way).is_ok(), "{way:?} without room in the main table");
    }
    ask_all(&late);
    ask_all(&conversations);
    let [main, lru] = held(&world);
    assert!(main >= 100 && lru >= 40, "{main} in the main table, {lru} in the LRU table");

    world.start_agent();
    // What was filled in expires, and the conversations that waited move over; those that are closed stay to their end.
    wait_for(SWEPT, || all(&world, "full", false) && held(&world)[0] >= 140)
        .unwrap_or_else(|error| panic!("{error}: {:?}, {:?}", flows(&world), held(&world)));
    ask_all(&conversations);
    ask_all(&late);
}
