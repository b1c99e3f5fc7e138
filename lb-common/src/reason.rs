//! Every way in which a packet or a socket call leaves the datapath.

/// What happened to the packet or call that ended with a reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Left untouched.
    Pass,
    /// Translated.
    Translate,
    /// Answered with what it asked for.
    Answer,
    /// Answered with a refusal.
    Reject,
    /// Discarded.
    Drop,
}

impl Effect {
    /// Stable name, for the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Translate => "translate",
            Self::Answer => "answer",
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident = $number:literal, $name:literal, $effect:ident, $text:literal;)+) => {
        /// Why a packet or a socket call left the datapath as it did. Numbers are stable: a retired one is not reused.
        /// The number is the index into the per-CPU array `reasons`.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Reason {
            $(#[doc = $text] $variant = $number,)+
        }

        impl Reason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason with this number, if there is one.
            #[must_use]
            #[inline(always)]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// Stable name: snake case, for the CLI and for metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What happened to the packet or call.
            #[must_use]
            #[inline(always)]
            pub const fn effect(self) -> Effect {
                match self { $(Self::$variant => Effect::$effect,)+ }
            }

            /// One sentence for the person who reads the counter; for what is dropped or refused also what to do.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

reasons! {
    NotIp = 0, "not_ip", Pass, "Neither IPv4 nor IPv6.";
    Malformed = 1, "malformed", Pass, "A header is truncated or contradicts itself; the host stack will judge it.";
    OtherProtocol = 2, "other_protocol", Pass, "Not a transport protocol that Services use here.";
    NotService = 3, "not_service", Pass, "No Service has the destination's address.";
    OtherPoint = 4, "other_point", Pass, "The flow is translated at another hook.";
    FlowOpened = 5, "flow_opened", Translate, "First packet of a new flow.";
    FlowForward = 6, "flow_forward", Translate, "Packet of a known flow, towards the backend.";
    FlowReverse = 7, "flow_reverse", Translate, "Packet of a known flow, back to the client.";
    FlowDying = 8, "flow_dying", Translate, "Packet of a flow that is just being removed.";
    FlowAdopted = 9, "flow_adopted", Translate, "TCP segment from the middle of an unknown flow, placed by its hash.";
    ResetPassedOn = 10, "reset_passed_on", Translate, "TCP reset without a flow, translated by its hash.";
    FlowReopened = 11, "flow_reopened", Translate, "First packet of a flow that took over an ended one.";
    NoEndpoints = 12, "no_endpoints", Reject, "The Service has no usable endpoint: see `sluice service show`.";
    PortNotServed = 13, "port_not_served", Reject, "No Service port of this number and protocol at this ClusterIP: see `sluice service`.";
    NoLocalEndpoints = 14, "no_local_endpoints", Drop, "The Service's traffic policy is Local and no endpoint is on this node: see `sluice service show`.";
    RejectLimited = 15, "reject_limited", Drop, "A refusal was due, but this CPU has sent its share of them: see --reject-rate.";
    RejectFailed = 16, "reject_failed", Drop, "A refusal was due, but the kernel could not build or send it.";
    Fragment = 17, "fragment", Drop, "First fragment to or from a Service that needs the whole packet: SCTP whose port would change, or no ports at all.";
    FlowTableFull = 18, "flow_table_full", Drop, "No room for a new flow in any table: see --max-flows.";
    FlowBusy = 19, "flow_busy", Drop, "Another CPU is making or removing the same flow; the retry succeeds.";
    FlowError = 20, "flow_error", Drop, "The kernel refused a flow table operation.";
    SnatPortsExhausted = 21, "snat_ports_exhausted", Drop, "No free source port was found towards the backend: flows have them, whose load more endpoints would share, or sockets of the host.";
    NoNodeAddress = 22, "no_node_address", Drop, "A hairpin must be masqueraded, but the node has no address of this family: give one to an interface.";
    RewriteFailed = 23, "rewrite_failed", Drop, "The kernel refused to change the packet.";
    InconsistentTables = 24, "inconsistent_tables", Drop, "A frontend names a service or slot that is not there: `sluice doctor` tells why.";
    SockNotService = 25, "sock_not_service", Pass, "Socket call to an address, or a port of an external address or of the node, that no Service has.";
    SockLeft = 26, "sock_left", Pass, "Socket call that the packet path translates.";
    SockConnected = 27, "sock_connected", Translate, "TCP socket connected to a backend.";
    SockSent = 28, "sock_sent", Translate, "Datagram socket directed to a backend.";
    SockReplied = 29, "sock_replied", Translate, "Sender or peer shown as the Service.";
    SockNoEndpoints = 30, "sock_no_endpoints", Reject, "Socket call refused: the Service has no usable endpoint, see `sluice service show`.";
    SockPortNotServed = 31, "sock_port_not_served", Reject, "Socket call refused: no such port at this ClusterIP, see `sluice service`.";
    SockNoLocalEndpoints = 32, "sock_no_local_endpoints", Pass, "Socket call left at the Service address: its policy is Local and no endpoint is on this node.";
    SockNoLocalRefused = 33, "sock_no_local_refused", Reject, "Datagram socket refused: the policy is Local and no endpoint is on this node, see `sluice service show`.";
    SockStateFull = 34, "sock_state_full", Reject, "Socket call refused: no room to remember the translation; the node has too little memory.";
    SockInconsistent = 35, "sock_inconsistent", Reject, "Socket call refused: a frontend names a service or slot that is not there, `sluice doctor` tells why.";
    FragmentBeforeFirst = 36, "fragment_before_first", Drop, "Later fragment of a packet to a Service, before its first.";
    ProtocolNotServed = 37, "protocol_not_served", Reject, "A protocol that no Service can use, at a ClusterIP.";
    EchoAnswered = 38, "echo_answered", Answer, "Echo request to a ClusterIP.";
    AddressUnallocated = 39, "address_unallocated", Drop, "The destination is in a range for ClusterIPs, but no Service has it.";
    HeldByNode = 40, "held_by_node", Pass, "An interface of this node has the Service address: left to the host.";
    ErrorTranslated = 41, "error_translated", Translate, "ICMP error about a packet of a known flow, translated with what it quotes.";
    ErrorWithoutFlow = 42, "error_without_flow", Drop, "ICMP error to a Service address about no known flow.";
    SockHeldByNode = 43, "sock_held_by_node", Pass, "Socket call to a Service address that an interface of this node has.";
    NoRoute = 44, "no_route", Drop, "The node has no route for a packet that is masqueraded.";
    PacketTooBig = 45, "packet_too_big", Reject, "Longer than the way of a masqueraded packet allows.";
    HopsExceeded = 46, "hops_exceeded", Reject, "A masqueraded packet had no hops left (TTL, hop limit).";
    NotServicePort = 47, "not_service_port", Pass, "A port of an external address or of the node that no Service has: left to the host.";
    SourceNotInRange = 48, "source_not_in_range", Drop, "The client is in none of the Service's loadBalancerSourceRanges.";
    LeftUntranslated = 49, "left_untranslated", Drop, "A packet to a ClusterIP was about to leave the node: the host's SCTP, ping and raw sockets are not translated.";
    HostFlow = 50, "host_flow", Pass, "A connection of the host's own, from a port that is a node port too: left to the host.";
    SockNotInRange = 51, "sock_not_in_range", Pass, "Socket call left at the LoadBalancer address: the client is in none of its loadBalancerSourceRanges.";
    SockNotInRangeRefused = 52, "sock_not_in_range_refused", Reject, "Datagram socket refused: the client is in none of the Service's loadBalancerSourceRanges.";
    PassedOn = 53, "passed_on", Pass, "The host's SCTP or raw packet to an external address of a Service leaves the node as it is.";
    NewFlowLimit = 54, "new_flow_limit", Drop, "This CPU has made its share of flows for now: see --new-flow-rate.";
    ServiceFlowLimit = 55, "service_flow_limit", Drop, "The Service has had its share of new flows for now: see its annotation lb.sluice/new-flow-rate.";
    SockBindRefused = 56, "sock_bind_refused", Reject, "bind() of a socket of the host refused: what is sent to that port goes to a Service, see --refuse-shadowed-binds.";
    OtherHost = 57, "other_host", Pass, "The frame is addressed to another machine, or to many.";
    PastStack = 58, "past_stack", Pass, "Handed into a pod of this node past the host stack, by --redirect-peer; counted besides what its way out says.";
}

const _: () = {
    let mut i = 0;
    while i < Reason::ALL.len() {
        assert!(Reason::ALL[i] as usize == i, "Reason::ALL is indexed by number");
        i += 1;
    }
};
