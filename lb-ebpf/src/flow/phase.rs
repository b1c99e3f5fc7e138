//! How far a connection has come, and how long it may idle there.

use lb_common::{FlowState, Lifetimes, Proto};

/// Phase of a connection, from what each direction has shown. The names are conntrack's where it has the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// TCP: SYN sent, no answer.
    SynSent,
    /// TCP: SYN answered, the client has not confirmed.
    SynRecv,
    /// TCP: handshake complete.
    Established,
    /// SCTP: the association is set up. Its other phases are TCP's, see [`crate::parse::Flags`].
    Associated,
    /// TCP: one side has sent FIN.
    HalfClosed,
    /// TCP: both sides have sent FIN.
    TimeWait,
    /// TCP: one side has sent RST.
    Close,
    /// Datagrams in one direction only.
    Unreplied,
    /// Datagrams in both directions.
    Replied,
}

impl Phase {
    /// The phase of a flow of `proto` whose directions have shown `forward` and `reverse`.
    #[must_use]
    #[inline(always)]
    pub const fn of(proto: Proto, forward: FlowState, reverse: FlowState) -> Self {
        let answered = reverse.0 & !FlowState::DEAD != 0;
        match proto {
            Proto::Udp if answered => Self::Replied,
            Proto::Udp => Self::Unreplied,
            Proto::Tcp | Proto::Sctp => {
                let fins = forward.has(FlowState::FIN) as u8 + reverse.has(FlowState::FIN) as u8;
                if forward.has(FlowState::RST) || reverse.has(FlowState::RST) {
                    Self::Close
                } else if fins == 2 {
                    Self::TimeWait
                } else if fins == 1 {
                    Self::HalfClosed
                } else if !answered {
                    Self::SynSent
                } else if forward.has(FlowState::DATA) && matches!(proto, Proto::Sctp) {
                    Self::Associated
                } else if forward.has(FlowState::DATA) {
                    Self::Established
                } else {
                    Self::SynRecv
                }
            }
        }
    }

    /// How long a flow may idle in this phase, nanoseconds.
    #[must_use]
    #[inline(always)]
    pub const fn lifetime(self, lifetimes: &Lifetimes) -> u64 {
        seconds(match self {
            Self::SynSent => lifetimes.tcp_syn_sent,
            Self::SynRecv => lifetimes.tcp_syn_recv,
            Self::Associated => lifetimes.sctp_established,
            Self::Established => lifetimes.tcp_established,
            Self::HalfClosed => lifetimes.tcp_half_closed,
            Self::TimeWait => lifetimes.tcp_time_wait,
            Self::Close => lifetimes.tcp_close,
            Self::Unreplied => lifetimes.udp_unreplied,
            Self::Replied => lifetimes.udp_replied,
        })
    }

    /// Whether the connection is over: nothing but retransmissions can follow.
    #[must_use]
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }

    /// Stable name, for the CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynRecv => "syn_recv",
            Self::Established | Self::Associated => "established",
            Self::HalfClosed => "half_closed",
            Self::TimeWait => "time_wait",
            Self::Close => "close",
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
        }
    }
}

/// Whether both directions have confirmed the connection: the backend has answered, and the client has sent more than
/// the SYN. Until then the pair is embryonic.
#[must_use]
#[inline(always)]
pub(crate) const fn confirmed(forward: FlowState, reverse: FlowState) -> bool {
    forward.has(FlowState::DATA) && reverse.0 & !FlowState::DEAD != 0
}

/// Seconds as nanoseconds.
#[inline(always)]
pub(crate) const fn seconds(seconds: u32) -> u64 {
    seconds as u64 * 1_000_000_000
}
