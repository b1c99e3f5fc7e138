//! Filter rules of the host that break translated connections.

use std::fs;
use std::process::Command;

use crate::net::watch::Network;

use super::{Finding, Level};

const CHECK: &str = "filters";

pub(super) fn look(network: &Network) -> anyhow::Result<Vec<Finding>> {
    let bridges: Vec<&str> = network
        .interfaces
        .values()
        .filter(|interface| interface.bridge)
        .map(|interface| interface.name.as_str())
        .collect();
    if bridges.is_empty() {
        return Ok(Vec::new());
    }
    let seen = ["iptables", "ip6tables"].map(|family| {
        fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"))
            .is_ok_and(|text| text.trim() == "1")
    });
    if seen == [true; 2] {
        return Ok(vec![Finding::new(
            Level::Ok,
            CHECK,
            "bridged packets pass the host's filters (br_netfilter)",
        )]);
    }
    let rules: Vec<String> =
        [("nft", &["list", "ruleset"][..]), ("iptables-save", &[]), ("ip6tables-save", &[])]
            .iter()
            .filter_map(|(program, args)| Command::new(program).args(*args).output().ok())
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .collect();
    if rules.is_empty() {
        let found =
            "neither nft nor iptables-save is here, so rules that drop invalid packets cannot be looked for";
        return Ok(vec![Finding::new(Level::Note, CHECK, found)]);
    }
    let dropping = rules.iter().flat_map(|rules| rules.lines()).find(|line| drops_invalid(line));
    Ok(dropping.map(|rule| judge(&bridges, rule)).into_iter().collect())
}

fn judge(bridges: &[&str], rule: &str) -> Finding {
    let found = format!(
        "a rule drops what connection tracking finds invalid (`{}`), and bridged packets do not pass it on {}",
        rule.trim(),
        bridges.join(", ")
    );
    Finding::new(Level::Warning, CHECK, found)
        .follows(
            "of a connection through a Service between two pods of one bridge the host sees one direction only: it \
             takes the second packet for invalid, and the connection hangs",
        )
        .remedy(
            "modprobe br_netfilter and sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1, \
             or sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1",
        )
}

/// Whether a line of `nft list ruleset` or `iptables-save` drops packets that connection tracking finds invalid.
fn drops_invalid(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let has = |word| words.contains(&word);
    has("invalid") && has("drop") && (has("ct") || has("ctstate") || has("state"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_drop_invalid_packets_are_known() {
        for rule in [
            "\t\tct state invalid drop",
            "ct state { invalid } counter packets 0 bytes 0 drop",
            "ct state vmap { established : accept, related : accept, invalid : drop }",
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
            "-A FORWARD -m state --state INVALID -j DROP",
        ] {
            assert!(drops_invalid(rule), "{rule}");
        }
        for rule in ["ct state established accept", "-A INPUT -s 10.0.0.0/8 -j DROP", "chain invalid_drop {"]
        {
            assert!(!drops_invalid(rule), "{rule}");
        }
    }
}
