//! The flags of `sluice agent`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use glob::Pattern;
use lb_common::{AffinityWord, Lifetimes};

use super::cidr::{CidrError, ServiceRanges};
use super::nodeports::NodePortAddresses;
use super::serving::Serving;
use super::{masquerade, origin};

/// The names that common CNIs give to the node's end of a pod's interface: the reference plugins, flannel, kindnet and
/// Weave (`veth*`), Calico (`cali*`), Cilium (`lxc*`), AWS (`eni*`), Azure (`azv*`), GKE (`gke*`), virtual machines (`tap*`).
const POD_INTERFACES: &str = "veth*,cali*,lxc*,eni*,azv*,gke*,tap*";

/// What `sluice agent` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// File of settings: YAML documents of kind KubeProxyConfiguration and SluiceConfiguration; a flag that is given beats it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What is followed.
    #[command(flatten)]
    pub origin: origin::Flags,

    /// Directory of the cgroup tree whose sockets are served [default: the root of the cgroup v2 tree, found from the mounts]
    ///
    /// A directory that is not the root serves the sockets of the processes in it alone.
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,

    /// Name of this node's Node object [default: the host name]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub hostname_override: Option<String>,

    /// Names of the interfaces behind which pods are; bridges and the loopback never count
    #[arg(long, value_name = "GLOB,..", value_delimiter = ',', default_value = POD_INTERFACES)]
    pub pod_interfaces: Vec<Pattern>,

    /// Where the addresses of Services are allocated, of both families: nothing begins with one that no Service has
    #[arg(long, value_name = "CIDR,..", default_value = "", hide_default_value = true, value_parser = service_ranges)]
    pub service_cluster_ip_range: ServiceRanges,

    /// Addresses of the node at which node ports are served: ranges, or the words primary, localhost and all
    ///
    /// primary: the first address of each family that the Node object names; all of the family as long as that is not
    /// known. localhost: those of the loopback, for sockets of the node. Of a family that no range is of, all are meant.
    #[arg(long, value_name = "CIDR|WORD,..", default_value = "primary")]
    pub nodeport_addresses: NodePortAddresses,

    /// Serve the external IPs of Services, which whoever may write a Service chooses freely
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_possible_values = true)]
    pub external_ips: bool,

    /// Masquerade all traffic of pods to Services, except towards addresses of this node and where the policy of external
    /// traffic is Local
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub masquerade_all: bool,

    /// How local clients are told: what others send to Services with endpoints on other nodes is masqueraded [default:
    /// ClusterCIDR]
    #[arg(long, value_enum, value_name = "MODE")]
    pub detect_local_mode: Option<masquerade::Mode>,

    /// ClusterCIDR: the addresses of all pods, one range of each family; without it all clients are local
    #[arg(long, value_name = "CIDR,..", default_value = "", hide_default_value = true)]
    pub cluster_cidr: masquerade::Ranges,

    /// BridgeInterface: the bridge that local pods are behind
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub pod_bridge_interface: String,

    /// InterfaceNamePrefix: how the names of interfaces begin that local pods are behind
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub pod_interface_name_prefix: String,

    /// Names of the interfaces that lead out of the node [default: those with a default route or an address of the Node]
    #[arg(long, value_name = "GLOB,..", value_delimiter = ',')]
    pub uplinks: Option<Vec<Pattern>>,

    /// Names of the tunnels to other nodes [default: VXLAN, Geneve, WireGuard and IP-in-IP devices that have routes]
    #[arg(long, value_name = "GLOB,..", value_delimiter = ',')]
    pub overlays: Option<Vec<Pattern>>,

    /// Whose sockets are translated at connect and send: all, or the host's alone
    #[arg(long, value_enum, value_name = "WHOSE", default_value = "all")]
    pub socket_lb: SocketLb,

    /// Refuse the host's sockets to bind a port at which a Service is reached: a node port, or a port of an external IP or of
    /// a load balancer's address that the node has
    ///
    /// With EADDRINUSE, to TCP and UDP; to a client that wants such a port as its own one, too. Who listens already goes on.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub refuse_shadowed_binds: bool,

    /// Whether uplinks have XDP besides tc: wherever their drivers have native XDP, or nowhere
    #[arg(long, value_enum, value_name = "WHERE", default_value = "auto")]
    pub xdp: XdpMode,

    /// Hand what is for a pod of this node to the pod past the host stack: past netfilter, conntrack and reverse path filters
    ///
    /// Only where no rule of netfilter decides about forwarded packets: while there is one, the host stack has them all.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub redirect_peer: bool,

    /// Entries of each flow table, two for a connection [default: one for 32 KiB of memory, as a power of two]
    ///
    /// At least 65536 and at most 4194304 by default. Takes effect when the tables are made.
    #[arg(long, value_name = "N", value_parser = entries(AffinityWord::BACKENDS.into()))]
    pub max_flows: Option<u32>,

    /// Service ports that fit, each counted once for IPv4 and once for IPv6 [default: 65536]
    ///
    /// Takes effect when the tables are made.
    #[arg(long, value_name = "N", value_parser = entries(1_048_576))]
    pub max_services: Option<u32>,

    /// Endpoints of all Service ports that fit [default: 262144]
    ///
    /// Takes effect when the tables are made.
    #[arg(long, value_name = "N", value_parser = entries(16_777_216))]
    pub max_backends: Option<u32>,

    /// How long idle flows live, in seconds, where it shall not be the default
    ///
    /// NAME is one of tcp-syn-sent (120), tcp-syn-recv (60), tcp-established (86400), tcp-half-closed (3600),
    /// tcp-time-wait (120), tcp-close (10), udp-unreplied (30), udp-replied (120), sctp-established (210),
    /// reuse-closed (3), orphan (5). Those of TCP hold for SCTP too, but for the established.
    #[arg(long, value_name = "NAME=SECONDS,..", value_delimiter = ',', value_parser = lifetime)]
    pub flow_lifetime: Vec<Lifetime>,

    /// Refusals (TCP RST, ICMP unreachable) sent per second and CPU; also how many may be sent at once
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub reject_rate: u32,

    /// Flows that a CPU may begin per second, of all Services together; also how many at once; 0: any number
    ///
    /// What is more is dropped, so that TCP tries again. Sockets that are translated when they connect are not counted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub new_flow_rate: u32,

    /// Drops and refusals of which a record is made, per second and CPU; also how many at once; 0: none
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub event_rate: u32,

    /// Longest time between two searches for flows that have ended, in seconds; a full table is searched more often
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub sweep_interval: Duration,

    /// Where it answers.
    #[command(flatten)]
    pub serving: Serving,

    /// Form of the log on standard error
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub log_format: LogFormat,

    /// Least severity that is logged
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}

/// Whose sockets are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum SocketLb {
    /// Those of the host, and TCP sockets of pods.
    All,
    /// Those of the host; everything of pods goes through the packet path.
    Host,
}

/// Where XDP is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum XdpMode {
    /// On uplinks whose drivers have native XDP; elsewhere tc works alone.
    Auto,
    /// Nowhere.
    // What a YAML 1.1 parser makes of `off`.
    #[value(alias = "false")]
    Off,
}

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// One line of text for an event.
    Text,
    /// One JSON object for an event.
    Json,
}

/// Severities.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogLevel {
    /// What keeps the agent from its work.
    Error,
    /// What somebody should look at.
    Warn,
    /// What has changed.
    Info,
    /// Each step.
    Debug,
    /// Everything.
    Trace,
}

/// One `NAME=SECONDS` of `--flow-lifetime`.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    field: fn(&mut Lifetimes) -> &mut u32,
    seconds: u32,
}

impl Args {
    /// What is said about masquerading.
    #[must_use]
    pub fn masquerade(&self) -> masquerade::Flags {
        masquerade::Flags {
            all: self.masquerade_all,
            mode: self.detect_local_mode,
            cluster_cidr: self.cluster_cidr.clone(),
            bridge: self.pod_bridge_interface.clone(),
            prefix: self.pod_interface_name_prefix.clone(),
            uplinks: self.uplinks.clone(),
            overlays: self.overlays.clone(),
        }
    }

    /// The lifetimes: the defaults with what `--flow-lifetime` changes.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        let mut lifetimes = Lifetimes::DEFAULT;
        for lifetime in &self.flow_lifetime {
            *(lifetime.field)(&mut lifetimes) = lifetime.seconds;
        }
        lifetimes
    }
}

fn entries(most: u64) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(16..=most)
}

/// The empty text is the default: no range.
fn service_ranges(text: &str) -> Result<ServiceRanges, CidrError> {
    if text.is_empty() { Ok(ServiceRanges::default()) } else { text.parse() }
}

/// kube-proxy's rule: trimmed, lower case, not empty.
fn node_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_lowercase();
    if name.is_empty() {
        return Err("a node has a name".into());
    }
    Ok(name)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err("a number of seconds from 1 to 3600 is wanted".into()),
    }
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    let (name, seconds) = text.split_once('=').ok_or("NAME=SECONDS is wanted")?;
    let field: fn(&mut Lifetimes) -> &mut u32 = match name.trim() {
        "tcp-syn-sent" => |l| &mut l.tcp_syn_sent,
        "tcp-syn-recv" => |l| &mut l.tcp_syn_recv,
        "tcp-established" => |l| &mut l.tcp_established,
        "tcp-half-closed" => |l| &mut l.tcp_half_closed,
        "tcp-time-wait" => |l| &mut l.tcp_time_wait,
        "tcp-close" => |l| &mut l.tcp_close,
        "udp-unreplied" => |l| &mut l.udp_unreplied,
        "udp-replied" => |l| &mut l.udp_replied,
        "sctp-established" => |l| &mut l.sctp_established,
        "reuse-closed" => |l| &mut l.reuse_closed,
        "orphan" => |l| &mut l.orphan,
        other => return Err(format!("there is no lifetime {other:?}")),
    };
    match seconds.trim().parse() {
        Ok(0) | Err(_) => Err(format!("{seconds:?} is no number of seconds above 0")),
        Ok(seconds) => Ok(Lifetime { field, seconds }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    impl Args {
        /// What these flags are read as.
        pub(in crate::agent) fn of(flags: &str) -> Result<Self, String> {
            let words = ["agent"].into_iter().chain(flags.split_whitespace());
            Command::try_parse_from(words).map(|command| command.args).map_err(|error| error.to_string())
        }
    }

    fn parse(flags: &str) -> Result<Args, String> {
        Args::of(flags)
    }

    #[test]
    fn b103_lifetimes_are_conntracks_unless_told_otherwise() {
        assert_eq!(parse("").unwrap().lifetimes(), Lifetimes::DEFAULT);
        let lifetimes = parse("--flow-lifetime tcp-close=7,udp-replied=9").unwrap().lifetimes();
        let expected = Lifetimes { tcp_close: 7, udp_replied: 9, ..Lifetimes::DEFAULT };
        assert_eq!(lifetimes, expected);
        for bad in ["tcp=1", "tcp-close", "tcp-close=0", "tcp-close=-1", "tcp-close=4294967296"] {
            assert!(parse(&format!("--flow-lifetime {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn pod_interfaces_are_globs() {
        let args = parse("--pod-interfaces veth*,pod-?").unwrap();
        let hit = |name: &str| args.pod_interfaces.iter().any(|glob| glob.matches(name));
        assert!(hit("veth1") && hit("pod-1") && !hit("pod-10") && !hit("eth0"));
        assert!(parse("--pod-interfaces [").is_err());
        assert_eq!(parse("").unwrap().pod_interfaces.len(), 7);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for bad in ["--max-flows 0", "--max-services x", "--sweep-interval 0", "--reject-rate -1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("--max-backends 16").unwrap().max_backends, Some(16));
        assert_eq!(parse("--hostname-override Node-A").unwrap().hostname_override.unwrap(), "node-a");
    }
}
