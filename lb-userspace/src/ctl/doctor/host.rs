//! Settings of the host's network that traffic through Services needs or suffers from.

use std::fs;
use std::path::Path;

use super::{Finding, Level};

const CHECK: &str = "host";
/// The settings of the network namespace of the process that reads.
const SETTINGS: &str = "/proc/sys/net";

pub(super) fn look() -> anyhow::Result<Vec<Finding>> {
    Ok(judge(Path::new(SETTINGS)))
}

fn judge(settings: &Path) -> Vec<Finding> {
    let read = |name: &str| fs::read_to_string(settings.join(name)).ok().map(|text| text.trim().to_owned());
    let mut findings = Vec::new();
    for (name, sysctl) in [
        ("ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ] {
        let family = if name.starts_with("ipv4") { "IPv4" } else { "IPv6" };
        match read(name).as_deref() {
            Some("0") => findings.push(
                Finding::new(
                    Level::Error,
                    CHECK,
                    format!("{family} packets are not forwarded ({sysctl} = 0)"),
                )
                .follows(format!("pods reach no {family} endpoint, neither directly nor through a Service"))
                .remedy(format!("sysctl -w {sysctl}=1")),
            ),
            Some(_) => {
                findings.push(Finding::new(Level::Ok, CHECK, format!("{family} packets are forwarded")));
            }
            None => findings.push(Finding::new(Level::Note, CHECK, format!("the kernel has no {family}"))),
        }
    }
    let strict = strict(settings);
    if !strict.is_empty() {
        findings.push(
            Finding::new(Level::Note, CHECK, format!("strict reverse path filter (rp_filter = 1) on {}", strict.join(", ")))
                .follows(
                    "the kernel drops packets, translated ones too, that come by another interface than the one its \
                     route back to their source leaves by",
                )
                .remedy("where pods have several interfaces or routes are asymmetric: rp_filter = 2 for the interface"),
        );
    }
    findings
}

/// Interfaces whose reverse path filter is strict; the setting of `all` counts for each if it is higher.
fn strict(settings: &Path) -> Vec<String> {
    let conf = settings.join("ipv4/conf");
    let value = |name: &str| {
        let text = fs::read_to_string(conf.join(name).join("rp_filter")).unwrap_or_default();
        text.trim().parse::<u8>().unwrap_or_default()
    };
    let all = value("all");
    let names = fs::read_dir(&conf).into_iter().flatten().flatten();
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !["all", "default", "lo"].contains(&name.as_str()) && value(name).max(all) == 1)
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_and_filters_are_judged() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        write("ipv4/ip_forward", "0\n");
        write("ipv6/conf/all/forwarding", "1\n");
        for (name, value) in [("all", "0"), ("default", "1"), ("lo", "1"), ("eth0", "1"), ("eth1", "2")] {
            write(&format!("ipv4/conf/{name}/rp_filter"), value);
        }
        let findings = judge(dir.path());
        let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Error, Level::Ok, Level::Note]);
        assert!(findings[2].found.ends_with("on eth0"), "{}", findings[2].found);
        write("ipv4/conf/all/rp_filter", "2");
        assert_eq!(strict(dir.path()), Vec::<String>::new());
    }
}
