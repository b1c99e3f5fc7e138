//! `sluice bench` with tiny counts: all that it measures is read, whatever it is, and nothing is left. Needs root.

mod conversations;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::EbpfLoader;
use aya::maps::loaded_maps;
use aya::programs::{Xdp, XdpMode};
use lb_userspace::bpf::probe::cgroup_root;
use lb_userspace::bpf::space::Space;
use serde_json::{Value, json};

/// The answer of `sluice -j bench ARGUMENTS`.
fn bench(arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let child = command
        .args(["-j", "bench"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let id = child.id();
    let output = child.wait_with_output()?;
    let (answer, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{answer}{said}");
    let group = |name| Ok::<_, anyhow::Error>(cgroup_root(None)?.join(format!("sluice-bench-{id}-{name}")));
    for place in ["/sys/fs/bpf/sluice-bench".into(), group("plain")?, group("hooked")?] {
        ensure!(!place.exists(), "{} is left", place.display());
    }
    Ok(serde_json::from_str(&answer)?)
}

/// How many samples the `side` of the figure `name` of the only row has.
fn samples(answer: &Value, name: &str, side: &str) -> usize {
    let figures = answer["rows"][0]["figures"].as_array().into_iter().flatten();
    let mut named = figures.filter(|figure| figure["name"] == name);
    named.next().and_then(|figure| figure[side]["samples"].as_array()).map_or(0, Vec::len)
}

#[test]
fn prog_ns_drives_every_path_of_both_families() -> Result<()> {
    for family in [&[][..], &["--ipv6"][..]] {
        let tiny = ["prog-ns", "--rounds", "3", "--runs", "20", "--flows", "9", "--services", "3"];
        let answer = bench(&[&tiny[..], family].concat())?;
        for size in ["1_1", "1_3", "9_1"] {
            assert_eq!(samples(&answer, &format!("empty_{size}"), "control"), 3);
            for path in [
                "not_ours",
                "established",
                "snat",
                "reply",
                "reject",
                "new",
                "xdp_not_ours",
                "xdp_snat",
                "xdp_reply",
                "xdp_new",
                "connect",
                "connect_first",
            ] {
                assert_eq!(samples(&answer, &format!("{path}_{size}"), "sluice"), 3, "{path}");
            }
        }
        assert_eq!(samples(&answer, "established_any_9_1", "sluice"), 3);
    }
    Ok(())
}

/// The addresses of the senders whose datagrams reach `to`, an address of one end of a pair whose other end sends.
fn heard(to: SocketAddr, arguments: &[&str]) -> Result<(BTreeSet<SocketAddr>, Value)> {
    let space = Space::new()?;
    let work = || {
        let address = format!("addr add {}/{} dev far nodad", to.ip(), if to.is_ipv4() { 24 } else { 64 });
        for line in ["link add near type veth peer name far", "link set near up", "link set far up", &address]
        {
            let words = line.split_whitespace().filter(|word| to.is_ipv6() || *word != "nodad");
            ensure!(Command::new("ip").args(words).status()?.success(), "ip {line}");
        }
        // One end of a pair sends what XDP redirects if the other has a program.
        let object = std::env::var("SLUICE_BENCH_OBJECT").context("run by `cargo xtask test prog`")?;
        let mut ebpf = EbpfLoader::new().load_file(object)?;
        let passes: &mut Xdp = ebpf.program_mut("empty_xdp").context("no empty program")?.try_into()?;
        passes.load()?;
        passes.attach("far", XdpMode::Driver)?;
        let link = Command::new("ip").args(["-j", "link", "show", "far"]).output()?;
        let link: Value = serde_json::from_slice(&link.stdout)?;
        let socket = UdpSocket::bind(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (mac, to) = (link[0]["address"].as_str().context("no address")?, to.to_string());
        let load = ["generate", "--interface", "near", "--mac", mac, "--to", &to, "--count", "40"];
        let answer = bench(&[&load[..], arguments].concat())?;
        let mut senders = BTreeSet::new();
        for _ in 0..40 {
            senders.insert(socket.recv_from(&mut [0; 64])?.1);
        }
        Ok::<_, anyhow::Error>((senders, answer))
    };
    space.run(work)
}

#[test]
fn generated_frames_of_both_families_reach_sockets() -> Result<()> {
    for (to, from) in [("192.0.2.2:9", "198.18.0.1"), ("[2001:db8::2]:9", "2001:2::1")] {
        let (senders, answer) = heard(to.parse()?, &["--flows", "40"])?;
        let from: IpAddr = from.parse()?;
        let expected: BTreeSet<_> = (2000..2040).map(|port| SocketAddr::new(from, port)).collect();
        assert_eq!(senders, expected);
        assert_eq!((&answer["frames"], &answer["taken"]), (&json!(40), &json!(40)), "{answer}");
        // One flow in a hundred has nearly everything.
        let (senders, _) = heard(to.parse()?, &["--flows", "100", "--zipf", "5"])?;
        assert!(senders.len() < 20, "{senders:?}");
        assert!(senders.contains(&SocketAddr::new(from, 2000)), "{senders:?}");
    }
    Ok(())
}

#[test]
fn an_interface_that_takes_no_frames_is_named() {
    let space = Space::new().unwrap();
    let work = || {
        // Nothing else may be sent.
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        for line in ["link add near type veth peer name far", "link set near up", "link set far up"] {
            assert!(Command::new("ip").args(line.split_whitespace()).status()?.success(), "ip {line}");
        }
        for (interface, expected) in
            [("near", "near takes no such frames"), ("lost", "no interface is called lost")]
        {
            let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
                .args(["bench", "generate", "--interface", interface, "--mac", "02:00:00:00:00:02"])
                .args(["--to", "192.0.2.2:9", "--count", "5"])
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(expected), "{said}");
        }
        Ok::<_, io::Error>(())
    };
    space.run(work).unwrap();
}

#[test]
fn veth_mpps_carries_frames_each_way() -> Result<()> {
    for family in [&[][..], &["--ipv6"][..]] {
        let tiny = ["veth-mpps", "--rounds", "3", "--runs", "40", "--flows", "9", "--services", "3"];
        let answer = bench(&[&tiny[..], family].concat())?;
        for (name, side) in [
            ("floor", "ceiling"),
            ("xdp_tx", "ceiling"),
            ("tc_redirect", "ceiling"),
            ("forward", "control"),
            ("tc", "sluice"),
            ("xdp", "sluice"),
            ("xdp_many", "sluice"),
            ("tc_few", "sluice"),
            ("xdp_few", "sluice"),
            ("control", "control"),
            ("xdp_many_over_one", "sluice"),
            ("tc_over_forward", "sluice"),
            ("xdp_over_ceiling", "sluice"),
        ] {
            assert_eq!(samples(&answer, name, side), 3, "{name}");
        }
    }
    Ok(())
}

#[test]
fn veth_mpps_fails_without_the_rules_and_takes_no_other_row_with_it() -> Result<()> {
    let space = Space::new()?;
    let name = format!("/proc/{}/fd/{}", std::process::id(), space.net().as_raw_fd());
    let tiny = ["veth-mpps", "mem", "--rounds", "3", "--runs", "40", "--flows", "90", "--services", "3"];
    let error = bench(&[&tiny[..], &["--beside", &name]].concat()).err().context("there is a rate")?;
    let told = format!("{error:#}");
    ensure!(told.contains("frames arrived") && told.contains("\"endpoint_user\""), "{told}");
    Ok(())
}

#[test]
fn established_connections_outlive_a_flood() -> Result<()> {
    let tiny = ["flood", "--rounds", "3", "--runs", "40", "--flows", "90", "--services", "7"];
    let answer = bench(&tiny)?;
    for (name, count) in [("before", 3), ("calm", 3), ("flood", 3), ("flood_over_calm", 3), ("begun", 3)] {
        assert_eq!(samples(&answer, name, "sluice"), count, "{name}");
    }
    assert_eq!(samples(&answer, "flood", "ceiling"), 3);
    assert_eq!(samples(&answer, "flood_over_calm", "control"), 3);
    assert_eq!(samples(&answer, "lost", "control"), 1);
    let figures = answer["rows"][0]["figures"].as_array().context("no figures")?;
    let evicted = figures.iter().find(|figure| figure["name"] == "evicted").context("no evicted")?;
    ensure!(evicted["sluice"]["value"] == 0.0 && evicted["verdict"] == "held", "{evicted:#}");
    ensure!(answer["machine"]["offloads"].as_array().is_some_and(|names| !names.is_empty()), "{answer:#}");
    Ok(())
}

#[test]
fn mem_knows_what_each_thing_takes() -> Result<()> {
    let answer = bench(&["mem", "--services", "50"])?;
    for name in ["flow4", "flow6", "flow_lru4", "service", "service_user", "endpoint", "endpoint_user"] {
        assert_eq!(samples(&answer, name, "sluice"), 1, "{name}");
    }
    // What is said of a flow does not depend on how many there are.
    let figures = answer["rows"][0]["figures"].as_array().context("no figures")?;
    let flow = figures.iter().find(|figure| figure["name"] == "flow4").context("no flow4")?;
    let [takes, least] = ["sluice", "ceiling"].map(|side| flow[side]["value"].as_f64());
    ensure!(takes > least && takes < Some(400.0), "{flow:#}");
    Ok(())
}

/// What the descriptors of process `id` have after `key` in `/proc/PID/fdinfo`.
fn descriptors(id: u32, key: &str) -> Result<BTreeSet<u32>> {
    let files = fs::read_dir(format!("/proc/{id}/fdinfo"))?.flatten();
    // One that is closed meanwhile cannot be read.
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let found = texts.flat_map(|text| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        lines.collect::<Vec<u32>>()
    });
    Ok(found.collect())
}

/// Whether `holds` within a minute.
fn within_a_minute(mut holds: impl FnMut() -> Result<bool>) -> Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_mins(1) {
        if holds()? {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

#[test]
fn one_that_is_killed_leaves_no_maps() -> Result<()> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["bench", "veth-mpps", "--rounds", "200", "--flows", "9", "--services", "3"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Something is attached once all is loaded.
    let loaded = within_a_minute(|| Ok(!descriptors(child.id(), "link_id:")?.is_empty()));
    let maps = descriptors(child.id(), "map_id:");
    child.kill()?;
    child.wait()?;
    let maps = maps?;
    ensure!(loaded? && !maps.is_empty(), "it did not load");
    let gone = within_a_minute(|| Ok(!loaded_maps().flatten().any(|map| maps.contains(&map.id()))))?;
    ensure!(gone, "maps are left of {maps:?}");
    Ok(())
}
