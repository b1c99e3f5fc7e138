//! `sluice event`: what was refused, as the operator sees it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;
use xtask::lab::helper::wire::Socket;
use xtask::lab::wait_for;

use crate::support::{Mode, SOON, Svc, worlds};

/// The events of `service` so far.
fn events(service: &Svc<'_>) -> Vec<Value> {
    let name = format!("default/{}", service.name);
    let list = service.world.node.sluice_json(&["event", "list", "--service", &name]).unwrap();
    list.as_array().unwrap().clone()
}

#[test]
fn every_refusal_is_recorded_with_whom_it_met_and_where() {
    for world in worlds() {
        let service = world.service("events", &[]);
        let mut known = 0;
        world.everywhere(|case, client, way| {
            case.refused(service.ask(client, way));
            let events = events(&service);
            // A TCP client may try more than once.
            let new = &events[known..];
            assert!(!new.is_empty(), "{case}: no record");
            known = events.len();
            let by_socket = case.1 == "host" || way.socket == Socket::Tcp && world.mode == Mode::All;
            for event in new {
                let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                assert_eq!(text("address"), service.addresses[way.family].to_string(), "{case}: {event}");
                assert_eq!((&event["port"], text("effect").as_str()), (&Value::from(80), "reject"), "{case}");
                assert_eq!(text("service"), service.name, "{case}");
                assert!(event["port_name"].is_string(), "{case}: {event}");
                if by_socket {
                    assert_eq!(text("reason"), "sock_no_endpoints", "{case}: {event}");
                    assert!(
                        event["pid"].as_u64() > Some(0) && !text("command").is_empty(),
                        "{case}: {event}"
                    );
                } else {
                    assert_eq!(text("reason"), "no_endpoints", "{case}: {event}");
                    assert_eq!(text("source"), world.client.ips()[way.family].to_string(), "{case}");
                    assert_eq!(text("point"), "pod-ingress", "{case}");
                    assert!(event["ifindex"].as_u64() > Some(0) && event["interface"].is_string(), "{case}");
                }
            }
        });
    }
}

/// The exit status of `child`, once it has ended.
fn status(child: &mut Child) -> Option<i32> {
    wait_for(SOON, || child.try_wait().unwrap().is_some()).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_follower_sees_history_and_news_and_ends_well() {
    let [world, _] = worlds();
    let service = world.service("follow", &[]);
    let host = world.node.host();
    let to = (service.addresses[0], 80).into();
    let follow = || {
        let name = format!("default/{}", service.name);
        let mut command = world.node.sluice(&["event", "-j", "--service", &name]);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    assert!(host.ask(Socket::Tcp, to).is_err());

    let mut followers = [follow(), follow()];
    let mut lines = followers.each_mut().map(|child| BufReader::new(child.stdout.take().unwrap()).lines());
    let mut next = || {
        lines.each_mut().map(|lines| {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            event["number"].as_u64().unwrap()
        })
    };
    let [first, same] = next();
    assert_eq!(first, same, "readers take nothing from each other");
    assert!(host.ask(Socket::Tcp, to).is_err());
    let [second, same] = next();
    assert!(second == same && second > first, "{first}, {second}, {same}");

    let [interrupted, deserted] = &mut followers;
    let pid = rustix::process::Pid::from_child(interrupted);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(status(interrupted), Some(0));
    drop(lines);
    assert_eq!(status(deserted), Some(0), "nobody reads any more");
}
