//! The rows of conversations.

use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::bpf::space::Space;
use serde_json::Value;

use crate::{bench, samples};

/// What one round of `row` answers, which tells as much of its ways as several.
fn once(row: &str, runs: &str, ipv6: bool) -> Result<Value> {
    let tiny = [row, "--rounds", "1", "--runs", runs, "--services", "3"];
    bench(&[&tiny[..], if ipv6 { &["--ipv6"] } else { &[] }].concat())
}

#[test]
fn conversations_are_had_each_way_by_both_families() -> Result<()> {
    // TCP by IPv4 goes through another namespace below.
    for (row, ipv6) in [("rr", true), ("crr", true), ("udp", false), ("udp", true)] {
        // It fails if calls go another way than the one that is measured.
        let answer = once(row, "20", ipv6)?;
        for services in [1, 3] {
            // Datagrams of pods are left alone at the socket.
            let ways = ["direct", "packet", "packet_past", "node_port", "socket", "socket_past"];
            for way in &ways[..if row == "udp" { 4 } else { 6 }] {
                for (figure, side) in [
                    ("", "sluice"),
                    ("", "control"),
                    ("_p50", "sluice"),
                    ("_p99", "ceiling"),
                    ("_over_direct", "sluice"),
                    ("_over_direct", "control"),
                    ("_over_direct", "ceiling"),
                ] {
                    let name = format!("{way}{figure}_{services}");
                    assert_eq!(samples(&answer, &name, side), 1, "{row}: {name}: {side}");
                }
            }
            let name = format!("idle_over_direct_{services}");
            assert_eq!(samples(&answer, &name, "ceiling"), 1, "{row}");
        }
    }
    Ok(())
}

#[test]
fn streams_flow_each_way_in_both_families() -> Result<()> {
    for ipv6 in [false, true] {
        let answer = once("stream", "200", ipv6)?;
        for streams in [1, 4] {
            for way in ["direct", "socket", "packet", "socket_past", "packet_past", "node_port"] {
                assert_eq!(samples(&answer, &format!("{way}_{streams}"), "sluice"), 1, "{way}");
                assert_eq!(samples(&answer, &format!("{way}_over_direct_{streams}"), "control"), 1, "{way}");
            }
        }
    }
    Ok(())
}

/// Answers at these ports of the namespace of this thread, a byte for a byte.
fn answer(ports: [u16; 2]) -> io::Result<()> {
    for port in ports {
        let listener = TcpListener::bind(("0.0.0.0", port))?;
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut byte = [0];
                while matches!(stream.read(&mut byte), Ok(1..)) && stream.write_all(&byte).is_ok() {}
            }
        });
    }
    Ok(())
}

#[test]
fn conversations_go_through_another_namespace_that_serves() -> Result<()> {
    // It has the addresses of the Services itself, where others have rules.
    let space = Space::new()?;
    space.run(|| {
        for line in
            ["link set lo up", "addr add 10.96.15.1/32 dev lo", "route add local 10.96.16.0/31 dev lo"]
        {
            ensure!(Command::new("ip").args(line.split_whitespace()).status()?.success(), "ip {line}");
        }
        Ok(answer([80, 30_080])?)
    })?;
    let name = format!("/proc/{}/fd/{}", std::process::id(), space.net().as_raw_fd());
    // Twice: the second finds what the first may have left for a moment.
    let beside = |row, others| {
        let tiny = [row, "--rounds", "3", "--runs", "20", "--services", "3"];
        bench(&[&tiny[..], &["--beside", &name, "--beside-services", others]].concat())
    };
    for (row, others) in [("rr", "0"), ("crr", "2")] {
        let answer = beside(row, others)?;
        assert_eq!(answer["rows"][0]["settings"]["beside_services"].to_string(), others, "{answer:#}");
        for (figure, side) in [
            ("direct_3", "kube_proxy"),
            ("socket_p99_3", "kube_proxy"),
            ("packet_over_direct_3", "kube_proxy"),
            ("node_port_3", "kube_proxy"),
            ("node_port_over_kube_proxy_1", "sluice"),
            ("socket_over_kube_proxy_3", "control"),
        ] {
            assert_eq!(samples(&answer, figure, side), 3, "{row}: {figure}: {side}");
        }
    }
    // All of them are called, where one is not there.
    let error = beside("crr", "3").err().context("nobody called 10.96.16.2")?.to_string();
    ensure!(error.contains("10.96.16.2"), "{error}");
    Ok(())
}
