//! `KubeProxyConfiguration`: which of its fields mean what here.

use jiff::SignedDuration;

use super::document::{Field, Fields, Value};
use super::{Fault, Given, Reading};

/// Its `apiVersion`.
pub(super) const VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// Its `kind`.
pub(super) const KIND: &str = "KubeProxyConfiguration";

/// What a field means here.
#[derive(Clone, Copy)]
enum Meaning {
    /// It is this flag.
    Flag(&'static str),
    /// It is this flag if `mode` names its section; where it names none, that is `iptables`.
    OfMode(&'static str),
    /// A duration: this lifetime of `--flow-lifetime`.
    Lifetime(&'static str),
    /// Nothing. These values, and those that say nothing, are what kube-proxy would have without the field.
    Nothing(&'static [&'static str]),
}

use Meaning::{Flag, Lifetime, Nothing, OfMode};

/// All of its fields, as of Kubernetes 1.37.
const FIELDS: &[(&str, Meaning)] = &[
    ("bindAddress", Nothing(&["0.0.0.0", "::"])),
    ("bindAddressHardFail", Flag("bind-address-hard-fail")),
    ("clientConnection.acceptContentTypes", Nothing(&[])),
    ("clientConnection.burst", Nothing(&["10"])),
    ("clientConnection.contentType", Nothing(&["application/vnd.kubernetes.protobuf"])),
    ("clientConnection.kubeconfig", Flag("kubeconfig")),
    ("clientConnection.qps", Nothing(&["5"])),
    ("clusterCIDR", Flag("cluster-cidr")),
    ("configSyncPeriod", Nothing(&["15m", "15m0s"])),
    // The flow table has a size of its own and judges no sequence numbers.
    ("conntrack.maxPerCore", Nothing(&["32768"])),
    ("conntrack.min", Nothing(&["131072"])),
    ("conntrack.tcpBeLiberal", Nothing(&["true"])),
    ("conntrack.tcpCloseWaitTimeout", Lifetime("tcp-half-closed")),
    ("conntrack.tcpEstablishedTimeout", Lifetime("tcp-established")),
    ("conntrack.udpStreamTimeout", Lifetime("udp-replied")),
    ("conntrack.udpTimeout", Lifetime("udp-unreplied")),
    ("detectLocal.bridgeInterface", Flag("pod-bridge-interface")),
    ("detectLocal.interfaceNamePrefix", Flag("pod-interface-name-prefix")),
    ("detectLocalMode", Flag("detect-local-mode")),
    ("enableProfiling", Nothing(&[])),
    ("featureGates", Nothing(&[])),
    ("healthzBindAddress", Flag("healthz-bind-address")),
    ("hostnameOverride", Flag("hostname-override")),
    ("iptables.localhostNodePorts", Nothing(&["true"])),
    ("iptables.masqueradeAll", OfMode("masquerade-all")),
    ("iptables.masqueradeBit", Nothing(&["14"])),
    ("iptables.minSyncPeriod", Nothing(&["1s"])),
    ("iptables.syncPeriod", Nothing(&["30s"])),
    ("ipvs", Nothing(&[])),
    ("logging.flushFrequency", Nothing(&["5s", "5000000000"])),
    ("logging.format", Flag("log-format")),
    ("logging.options", Nothing(&[])),
    // `logLevel` has names for what klog counts.
    ("logging.verbosity", Nothing(&["1", "2"])),
    ("logging.vmodule", Nothing(&[])),
    ("metricsBindAddress", Flag("metrics-bind-address")),
    ("mode", Nothing(&[])),
    ("nftables.masqueradeAll", OfMode("masquerade-all")),
    ("nftables.masqueradeBit", Nothing(&["14"])),
    ("nftables.minSyncPeriod", Nothing(&["1s"])),
    ("nftables.syncPeriod", Nothing(&["30s"])),
    ("nodePortAddresses", Flag("nodeport-addresses")),
    ("oomScoreAdj", Nothing(&["-999"])),
    ("portRange", Nothing(&[])),
    ("showHiddenMetricsForVersion", Nothing(&[])),
    ("windowsRunAsService", Nothing(&[])),
    ("winkernel", Nothing(&[])),
];

/// The field that is the flag called `flag`.
pub(super) fn field_of(flag: &str) -> Option<&'static str> {
    let is = |(_, meaning): &&(_, Meaning)| matches!(meaning, Flag(it) | OfMode(it) if *it == flag);
    FIELDS.iter().find(is).map(|(field, _)| *field)
}

/// All flags that a field means.
#[cfg(test)]
pub(super) fn flags() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().filter_map(|(_, meaning)| match meaning {
        Flag(flag) | OfMode(flag) => Some(*flag),
        Lifetime(_) => Some("flow-lifetime"),
        Nothing(_) => None,
    })
}

/// Reads `fields`.
///
/// # Errors
/// The first field that is none, or whose value cannot be meant.
pub(super) fn read(fields: Fields, reading: &mut Reading) -> Result<(), Fault> {
    let mode = fields.get("mode").and_then(|field| field.value.flag()).unwrap_or_default();
    section("", fields, &mode, reading)
}

/// Reads the fields whose names begin with `prefix`.
fn section(prefix: &str, fields: Fields, mode: &str, reading: &mut Reading) -> Result<(), Fault> {
    for (name, field) in fields {
        let path = format!("{prefix}{name}");
        if let Some((_, meaning)) = FIELDS.iter().find(|(known, _)| *known == path) {
            leaf(path, &field, *meaning, mode, reading)?;
            continue;
        }
        let inner = format!("{path}.");
        match (FIELDS.iter().any(|(known, _)| known.starts_with(&inner)), field.value) {
            (true, Value::Null) => {}
            (true, Value::Map(fields)) => section(&inner, fields, mode, reading)?,
            (true, _) => return Err(Fault::new(field.line, format!("{path}: a map of fields is wanted"))),
            (false, _) => return Err(Fault::new(field.line, unknown(&path))),
        }
    }
    Ok(())
}

fn unknown(path: &str) -> String {
    match FIELDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(path)) {
        Some((near, _)) => format!("there is no field `{path}`: it is called {near}"),
        None => format!("there is no field `{path}` in {VERSION}: take it out"),
    }
}

fn leaf(
    path: String,
    field: &Field,
    meaning: Meaning,
    mode: &str,
    reading: &mut Reading,
) -> Result<(), Fault> {
    let Field { line, value } = field;
    let wrong = |text: &str| Err(Fault::new(*line, format!("{path}: {text}")));
    if let Nothing(defaults) = meaning {
        if !value.is_zero() && !value.flag().is_some_and(|text| defaults.contains(&text.as_str())) {
            reading.ignored.push((*line, format!("{path} has no meaning for Sluice: ignored")));
        }
        return Ok(());
    }
    let Some(text) = value.flag() else {
        return wrong("one value is wanted");
    };
    if text.is_empty() {
        return Ok(());
    }
    let (flag, value) = match meaning {
        Nothing(_) => return Ok(()),
        OfMode(_) if path.starts_with("nftables.") != (mode == "nftables") => return Ok(()),
        Flag(flag) | OfMode(flag) => (flag, text),
        Lifetime(name) => match text.parse::<SignedDuration>() {
            // The system's setting stays, which is what Sluice has by default.
            Ok(duration) if duration.is_zero() => return Ok(()),
            Ok(duration) if duration.as_secs() > 0 => {
                ("flow-lifetime", format!("{name}={}", duration.as_secs()))
            }
            _ => return wrong("a duration of a second or more is wanted, such as 1h30m0s"),
        },
    };
    reading.given.push(Given { flag: flag.to_owned(), field: path, line: *line, value });
    Ok(())
}
