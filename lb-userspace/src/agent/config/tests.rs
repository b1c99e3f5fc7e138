use clap::Parser;

use super::*;
use crate::agent::args::XdpMode;

#[derive(Parser)]
struct Agent {
    #[command(flatten)]
    told: Told,
}

/// What an agent with these `flags` and a file with this `text` is told.
fn told(flags: &str, text: &str) -> Result<Told, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    let words = ["agent", "--config", &path].into_iter().chain(flags.split_whitespace());
    let told = Agent::try_parse_from(words).map(|agent| agent.told);
    let mut told = told.map_err(|error| error.to_string().replace(&path, "FILE"))?;
    told.ignored.iter_mut().for_each(|text| *text = text.replace(&path, "FILE"));
    Ok(told)
}

fn own(fields: &str) -> String {
    format!("apiVersion: {}\nkind: {}\n{fields}", own::VERSION, own::KIND)
}

fn kube_proxy(fields: &str) -> String {
    format!("apiVersion: {}\nkind: {}\n{fields}", kube_proxy::VERSION, kube_proxy::KIND)
}

fn value(told: &Told, flag: &str) -> Setting {
    told.effective.flags[flag].clone()
}

/// A value for `arg` that is not its default.
fn sample(command: &Command, arg: &Arg) -> String {
    let flag = arg.get_long().unwrap();
    let default = arg.get_default_values().first().and_then(|value| value.to_str());
    let names: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let others = ["true", "17", "tcp-close=7", "10.0.0.0/8", "127.0.0.1:1", "some"].map(str::to_owned);
    let fits = |text: &String| {
        let given = Given { flag: flag.into(), field: String::new(), line: 0, value: text.clone() };
        Some(text.as_str()) != default && check(command, &given).is_ok()
    };
    names.into_iter().chain(others).find(fits).unwrap_or_else(|| panic!("no value fits --{flag}"))
}

#[test]
fn every_flag_can_stand_in_the_file_and_one_that_is_given_beats_it() {
    let command = command();
    for arg in settable(&command) {
        let (flag, value) = (arg.get_long().unwrap(), sample(&command, arg));
        let text = match kube_proxy::field_of(flag) {
            None => own(&format!("{}: \"{value}\"\n", own::name(flag))),
            Some(field) => {
                let (outer, inner) = field.split_once('.').unwrap_or(("", field));
                let indent = if outer.is_empty() { "" } else { "\n  " };
                let outer = if outer.is_empty() { String::new() } else { format!("{outer}:") };
                kube_proxy(&format!("{outer}{indent}{inner}: \"{value}\"\n"))
            }
        };
        let told_by_file = told("", &text).unwrap_or_else(|error| panic!("{flag}: {error}"));
        let expected = Setting { value: Some(value.clone()), from: Origin::File };
        assert_eq!(self::value(&told_by_file, flag), expected);
        assert_eq!(told_by_file.ignored, Vec::<String>::new());

        let default = arg.get_default_values().first().and_then(|value| value.to_str()).unwrap_or(&value);
        let other = if default.is_empty() { &value } else { default };
        let word =
            if arg.get_action().takes_values() { format!("--{flag}={other}") } else { format!("--{flag}") };
        let told_twice = told(&word, &text).unwrap();
        assert_eq!(self::value(&told_twice, flag).from, Origin::Flag, "{flag}");
        if arg.get_action().takes_values() {
            assert_eq!(self::value(&told_twice, flag).value.as_deref(), Some(other), "{flag}");
        }
    }
}

#[test]
fn every_flag_that_a_field_of_kube_proxy_means_exists() {
    let command = command();
    let flags: Vec<_> = settable(&command).filter_map(Arg::get_long).collect();
    for flag in kube_proxy::flags() {
        assert!(flags.contains(&flag), "{flag}");
    }
}

#[test]
fn values_are_written_as_lists_maps_and_scalars() {
    let told = told(
        "--max-flows 4096",
        &own("podInterfaces: [cali*, \"veth*\"]\nmaxFlows: 65536\nmaxServices: 100\nflowLifetime:\n  tcp-close: 7\n  \
              udp-replied: 9\nuplinks:\n- eth0\n- bond*\nmanifests:\n"),
    )
    .unwrap();
    let globs: Vec<_> = told.args.pod_interfaces.iter().map(glob::Pattern::as_str).collect();
    assert_eq!(globs, ["cali*", "veth*"]);
    assert_eq!((told.args.max_flows, told.args.max_services), (Some(4096), Some(100)));
    assert_eq!((told.args.lifetimes().tcp_close, told.args.lifetimes().udp_replied), (7, 9));
    assert_eq!(told.args.uplinks.unwrap().len(), 2);
    assert_eq!(told.args.origin.manifests, None, "nothing is said");
    let told = self::told("", "").unwrap();
    assert_eq!(told.args.pod_interfaces.len(), 7, "an empty file changes nothing");
}

#[test]
fn a_file_of_kubeadm_is_understood_without_a_word() {
    let text = kube_proxy(
        "bindAddress: 0.0.0.0\nbindAddressHardFail: false\nclientConnection:\n  acceptContentTypes: \"\"\n  burst: 0\n  \
         contentType: \"\"\n  qps: 0\nclusterCIDR: 10.244.0.0/16,fd00:10:244::/56\nconfigSyncPeriod: 0s\nconntrack:\n  \
         maxPerCore: null\n  min: null\n  tcpBeLiberal: false\n  tcpCloseWaitTimeout: null\n  tcpEstablishedTimeout: null\n  \
         udpStreamTimeout: 0s\n  udpTimeout: 0s\ndetectLocal:\n  bridgeInterface: \"\"\n  interfaceNamePrefix: \"\"\n\
         detectLocalMode: \"\"\nenableProfiling: false\nhealthzBindAddress: \"\"\nhostnameOverride: \"\"\niptables:\n  \
         localhostNodePorts: null\n  masqueradeAll: false\n  masqueradeBit: null\n  minSyncPeriod: 0s\n  syncPeriod: 0s\n\
         ipvs:\n  excludeCIDRs: null\n  minSyncPeriod: 0s\n  scheduler: \"\"\n  strictARP: false\n  syncPeriod: 0s\nlogging:\n  \
         flushFrequency: 0\n  options:\n    json:\n      infoBufferSize: \"0\"\n    text:\n      infoBufferSize: \"0\"\n  \
         verbosity: 0\nmetricsBindAddress: \"\"\nmode: \"\"\nnftables: null\nnodePortAddresses: null\noomScoreAdj: null\n\
         portRange: \"\"\nshowHiddenMetricsForVersion: \"\"\nwinkernel:\n  enableDSR: false\n  networkName: \"\"\n",
    );
    let told = told("", &text).unwrap();
    assert_eq!(told.ignored, Vec::<String>::new());
    assert_eq!(value(&told, "cluster-cidr").value.unwrap(), "10.244.0.0/16,fd00:10:244::/56");
    let set = told.effective.flags.iter().filter(|(_, setting)| setting.from == Origin::File);
    let set: Vec<_> = set.map(|(flag, _)| flag.as_str()).collect();
    assert_eq!(set, ["bind-address-hard-fail", "cluster-cidr", "masquerade-all"]);
}

#[test]
fn b38_b78_b80_b103_fields_of_kube_proxy_that_mean_something() {
    let text = kube_proxy(
        "hostnameOverride: Node-A\nclusterCIDR: 10.0.0.0/8\ndetectLocalMode: BridgeInterface\ndetectLocal:\n  \
         bridgeInterface: cbr0\nmode: nftables\nnftables: {masqueradeAll: true}\nlogging: {format: json}\nconntrack:\n  \
         tcpEstablishedTimeout: 2h0m0s\n  udpTimeout: 45s\nnodePortAddresses: [172.18.0.0/16, \"fd00::/64\"]\n",
    );
    let told = told("", &text).unwrap();
    let args = &told.args;
    assert_eq!(args.hostname_override.as_deref(), Some("node-a"));
    assert_eq!((args.masquerade_all, args.pod_bridge_interface.as_str()), (true, "cbr0"));
    assert_eq!(args.nodeport_addresses.to_string(), "172.18.0.0/16,fd00::/64");
    assert_eq!((args.lifetimes().tcp_established, args.lifetimes().udp_unreplied), (7200, 45));
    args.masquerade().check().unwrap();
    assert_eq!(told.ignored, ["FILE:8: mode has no meaning for Sluice: ignored"]);
    for (mode, section, expected) in [
        ("\"\"", "iptables", true),
        ("ipvs", "iptables", true),
        ("nftables", "iptables", false),
        ("iptables", "nftables", false),
        ("nftables", "nftables", true),
    ] {
        let text = kube_proxy(&format!("mode: {mode}\n{section}:\n  masqueradeAll: true\n"));
        assert_eq!(self::told("", &text).unwrap().args.masquerade_all, expected, "{mode} {section}");
    }
}

#[test]
fn both_documents_may_stand_in_one_file() {
    let text = format!(
        "---\n{}---\n{}",
        kube_proxy("clusterCIDR: 10.0.0.0/8\nconntrack: {udpTimeout: 45s}\n"),
        own("flowLifetime: tcp-close=7\nmaxServices: 100\n")
    );
    let told = told("", &text).unwrap();
    assert_eq!(told.args.max_services, Some(100));
    assert_eq!((told.args.lifetimes().udp_unreplied, told.args.lifetimes().tcp_close), (45, 7));
    assert_eq!(value(&told, "cluster-cidr").from, Origin::File);
}

#[test]
fn what_has_no_meaning_is_named_once_each() {
    let text = kube_proxy(
        "featureGates:\n  Some: true\n  Other: true\niptables:\n  syncPeriod: 30s\n  minSyncPeriod: 5s\nipvs:\n  strictARP: true\n  \
         scheduler: rr\nportRange: \"1-2\"\noomScoreAdj: -999\nclientConnection: {qps: 5, burst: 100}\n",
    );
    let told = told("", &text).unwrap();
    let expected = [
        "14: clientConnection.burst",
        "4: featureGates",
        "8: iptables.minSyncPeriod",
        "10: ipvs",
        "12: portRange",
    ];
    assert_eq!(told.ignored, expected.map(|text| format!("FILE:{text} has no meaning for Sluice: ignored")));
}

#[test]
fn off_is_off_whatever_a_parser_makes_of_it() {
    for text in ["off", "\"off\"", "false"] {
        assert_eq!(told("", &own(&format!("xdp: {text}\n"))).unwrap().args.xdp, XdpMode::Off, "{text}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_line() {
    for (text, expected) in [
        (
            own("maxFlows: many\n"),
            "FILE:3: maxFlows: invalid value 'many' for '--max-flows <N>': invalid digit found in string",
        ),
        (own("\nmaxFlows:\n  a: {b: c}\n"), "FILE:5: maxFlows: one value is wanted, or a list of values"),
        (own("maxflows: 1\n"), "FILE:3: there is no field `maxflows`: it is called maxFlows"),
        (
            own("xpd: auto\n"),
            "FILE:3: there is no field `xpd`: fields are the flags of `sluice agent --help`, written like podInterfaces",
        ),
        (own("config: /x\n"), "FILE:3: there is no field `config`"),
        (
            own("clusterCidr: 10.0.0.0/8\n"),
            "FILE:3: clusterCidr: write it as clusterCIDR into a KubeProxyConfiguration",
        ),
        (
            kube_proxy("clusterCidr: 10.0.0.0/8\n"),
            "FILE:3: there is no field `clusterCidr`: it is called clusterCIDR",
        ),
        (
            kube_proxy("iptables:\n  nonsense: 1\n"),
            "FILE:4: there is no field `iptables.nonsense` in kubeproxy.config.k8s.io/v1alpha1: take it out",
        ),
        (kube_proxy("iptables: 7\n"), "FILE:3: iptables: a map of fields is wanted"),
        (
            kube_proxy("detectLocalMode: Magic\n"),
            "FILE:3: detectLocalMode: invalid value 'Magic' for '--detect-local-mode <MODE>'",
        ),
        (
            kube_proxy("conntrack:\n  udpTimeout: soon\n"),
            "FILE:4: conntrack.udpTimeout: a duration of a second or more is wanted, such as 1h30m0s",
        ),
        (
            kube_proxy("iptables:\n  masqueradeAll: perhaps\n"),
            "FILE:4: iptables.masqueradeAll: invalid value 'perhaps'",
        ),
        (own("maxFlows: 1024\nmaxFlows: 2048\n"), "FILE:4: duplicate mapping key"),
        (own("maxFlows: [1\n"), "FILE:"),
        (
            format!("{}---\n{}", own(""), own("")),
            "FILE:4: a second SluiceConfiguration: put the fields of both into one",
        ),
        ("kind: SluiceConfiguration\n".into(), "FILE:1: apiVersion is missing"),
        ("- a\n".into(), "FILE:1: a map with apiVersion, kind and fields is wanted"),
        (
            "\napiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n".into(),
            "FILE:2: `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1` is not understood here: a KubeProxyConfiguration of \
             kubeproxy.config.k8s.io/v1alpha1 or a SluiceConfiguration of sluice.lb/v1alpha1 is",
        ),
    ] {
        let error = told("", &text).unwrap_err();
        let error = error.trim_start_matches("error: ");
        assert!(error.starts_with(expected), "{text}\n{error}");
    }
    let missing = Agent::try_parse_from(["agent", "--config", "/nonexistent"]).err().unwrap().to_string();
    assert!(missing.contains("--config /nonexistent: No such file"), "{missing}");
}

#[test]
fn a_flag_beats_what_it_excludes_in_the_file() {
    let folder = own("manifests: /m\n");
    let told_twice = told("--kubeconfig /k", &folder).unwrap();
    assert_eq!(
        (told_twice.args.origin.manifests, value(&told("", &folder).unwrap(), "manifests").from),
        (None, Origin::File)
    );
    let both = format!("{}---\n{folder}", kube_proxy("clientConnection: {kubeconfig: /k}\n"));
    let error = told("", &both).unwrap_err();
    assert!(
        error.contains("FILE:7: manifests and clientConnection.kubeconfig exclude each other: take one out"),
        "{error}"
    );
    assert!(told("--manifests /m --kubeconfig /k", "").is_err());
}

#[test]
fn the_effective_settings_say_where_they_come_from() {
    let told = told("--reject-rate 5 --masquerade-all", &own("maxServices: 100\n")).unwrap();
    let shown = serde_json::to_value(&told.effective).unwrap();
    for (flag, expected) in [
        ("reject-rate", serde_json::json!({"value": "5", "from": "flag"})),
        ("masquerade-all", serde_json::json!({"value": "true", "from": "flag"})),
        ("max-services", serde_json::json!({"value": "100", "from": "file"})),
        ("event-rate", serde_json::json!({"value": "100", "from": "default"})),
        ("max-flows", serde_json::json!({"value": null, "from": "default"})),
    ] {
        assert_eq!(shown["flags"][flag], expected, "{flag}");
    }
    assert_eq!(shown["flags"]["config"]["from"], "flag");
}
