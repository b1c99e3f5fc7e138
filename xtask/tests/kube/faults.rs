//! What happens to traffic and tables when parts of the control plane, agents and connections between them fail.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use xtask::kube::Part;
use xtask::lab::{Agent, Network};
use xtask::sh;

use crate::own::{Traffic, cut, own};
use crate::support::SOCKETS;

#[test]
fn b7_the_api_server_is_killed_and_started_again() {
    let cluster = own();
    let traffic = Traffic::start(&cluster, "killed");
    let open = traffic.open();
    cluster.plane().kill(Part::ApiServer).unwrap();
    // Long enough that the agents have noticed, and have tried in vain.
    thread::sleep(Duration::from_secs(2));
    for (conn, first) in &open {
        assert_eq!(conn.ask().unwrap(), *first);
    }
    cluster.plane().launch(Part::ApiServer).unwrap();
    cluster.plane().wait_ready().unwrap();
    traffic.lose(0);
    traffic.end(&open);
}

#[test]
fn b7_etcd_pauses() {
    let cluster = own();
    let traffic = Traffic::start(&cluster, "paused");
    let open = traffic.open();
    cluster.plane().pause(Part::Etcd).unwrap();
    thread::sleep(Duration::from_secs(4));
    cluster.plane().resume(Part::Etcd).unwrap();
    cluster.plane().wait_ready().unwrap();
    traffic.lose(1);
    traffic.end(&open);
}

/// The store comes back as it was before the latest changes: versions of objects that the agents have seen are in the
/// future of the API server.
#[test]
fn b7_the_store_is_restored_from_a_backup() {
    const PARTS: [Part; 3] = [Part::ControllerManager, Part::ApiServer, Part::Etcd];
    let cluster = own();
    let traffic = Traffic::start(&cluster, "restored");
    let open = traffic.open();
    let plane = cluster.plane();
    let (store, backup) = (plane.dir().join("etcd"), plane.dir().join("backup"));
    let stop = || PARTS.iter().for_each(|part| plane.kill(*part).unwrap());
    let start = || {
        plane.launch(Part::Etcd).unwrap();
        plane.launch(Part::ApiServer).unwrap();
        plane.wait_ready().unwrap();
        plane.launch(Part::ControllerManager).unwrap();
    };
    stop();
    sh::read(Command::new("cp").arg("-a").args([&store, &backup])).unwrap();
    start();
    // What the backup knows nothing of.
    traffic.many(10);
    traffic.pods[0].delete().unwrap();
    traffic.agree();
    stop();
    fs::remove_dir_all(&store).unwrap();
    fs::rename(&backup, &store).unwrap();
    start();
    traffic.agree();
    traffic.lose(1);
    traffic.end(&open);
}

/// What an agent has not seen is gone from the store and from the memory of the API server: only a list can tell it.
#[test]
fn b7_the_store_is_compacted_behind_an_agent() {
    let cluster = own();
    let (traffic, plane) = (Traffic::start(&cluster, "compacted"), cluster.plane());
    let open = traffic.open();
    let agent = cluster.take_agent(0).unwrap();
    agent.pause().unwrap();
    // Or what happens would wait in its socket.
    cut(&cluster.nodes()[0]).unwrap();
    traffic.many(10);
    let list = plane.api().get("/api/v1/services?limit=1").unwrap();
    let question = json!({"revision": list["metadata"]["resourceVersion"], "physical": true}).to_string();
    let mut curl = plane.space().command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--data", &question]);
    sh::read(curl.arg("http://127.0.0.1:2379/v3/kv/compaction")).unwrap();
    plane.kill(Part::ApiServer).unwrap();
    plane.launch(Part::ApiServer).unwrap();
    plane.wait_ready().unwrap();
    agent.resume().unwrap();
    traffic.agree();
    let log = agent.log();
    assert!(log.contains("Service: everything is listed again: too old resource version"), "{log}");
    agent.kill().unwrap();
    cluster.start_agent(0).unwrap();
    traffic.end(&open);
}

#[test]
fn b6_b7_an_agent_is_killed_in_the_midst_of_a_relist() {
    let cluster = own();
    let traffic = Traffic::start(&cluster, "relist");
    traffic.many(40);
    traffic.agree();
    let open = traffic.open();
    let machine = &cluster.nodes()[0];
    cluster.take_agent(0).unwrap().kill().unwrap();
    // What it has to find out by listing: some are gone, some are others.
    for number in 0..40 {
        traffic.change(number, number + 1);
    }
    for milliseconds in [30, 80, 150, 300] {
        let agent = Agent::spawn(machine, SOCKETS).unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        agent.kill().unwrap();
    }
    cluster.start_agent(0).unwrap();
    traffic.agree();
    traffic.end(&open);
}

#[test]
fn b7_watches_are_cut() {
    let cluster = own();
    let traffic = Traffic::start(&cluster, "cut");
    let open = traffic.open();
    let [control, _] = Network::control_ips();
    // Reset in mid-stream, while things change.
    for round in 0..3 {
        traffic.pods[0].ready(round % 2 == 0).unwrap();
        for machine in cluster.nodes() {
            let killed = cut(machine).unwrap();
            assert!(round > 0 || killed.contains(&control.to_string()), "{killed}");
        }
    }
    traffic.pods[0].ready(true).unwrap();
    traffic.agree();
    // Silence: nothing arrives and nobody is told.
    let silence = |verb: &str| {
        for machine in cluster.nodes() {
            machine.host().ip(&format!("route {verb} blackhole {control}\n")).unwrap();
        }
    };
    silence("add");
    traffic.pods[0].delete().unwrap();
    thread::sleep(Duration::from_secs(1));
    silence("del");
    traffic.agree();
    traffic.end(&open);
}

/// A thousand changes a second, as far as the API server takes them: Services and slices come, change and go.
#[test]
fn b8_b9_a_storm_of_changes() {
    const SERVICES: usize = 100;
    const WRITERS: u64 = 10;
    let cluster = own();
    let traffic = Traffic::start(&cluster, "storm");
    traffic.many(SERVICES);
    let open = traffic.open();
    let seconds = if std::env::var_os("SLUICE_TEST_LONG").is_some() { 60 } else { 4 };
    let (begun, made) = (Instant::now(), AtomicU64::new(0));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (traffic, made) = (&traffic, &made);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(writer);
                // Each has its turn once in so many milliseconds.
                for due in (writer..seconds * 1000).step_by(WRITERS as usize).map(Duration::from_millis) {
                    thread::sleep(due.saturating_sub(begun.elapsed()));
                    if begun.elapsed().as_secs() >= seconds {
                        break;
                    }
                    traffic.change(random.usize(..SERVICES), random.usize(..6));
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    traffic.agree();
    traffic.end(&open);
    println!("{} changes in {seconds} s", made.into_inner());
}
