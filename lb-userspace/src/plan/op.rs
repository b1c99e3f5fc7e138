//! The writes that a plan is made of.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb_common::{AddressValue, BackendWord, FrontendValue, Proto, Span};

use crate::model::{Family, Range, ServicePortKey};

/// An address, port and protocol at which a Service port is reached: a key of the frontend tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendAddr {
    /// Address and port.
    pub addr: SocketAddr,
    /// IANA protocol number.
    pub proto: u8,
}

impl fmt::Display for FrontendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Proto::from_number(self.proto) {
            Some(proto) => write!(f, "{}/{proto}", self.addr),
            None => write!(f, "{}/{}", self.addr, self.proto),
        }
    }
}

/// One slot: an endpoint in a scope of a Service port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SlotEntry {
    /// The endpoint.
    pub addr: SocketAddr,
    /// Its backend id.
    pub backend: u32,
    /// The backend's generation.
    pub generation: u32,
}

/// The two selections of a Service port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Endpoints usable from anywhere (B50).
    Cluster,
    /// Endpoints usable under a Local policy (B51).
    Local,
}

impl Scope {
    /// Both, in the order of the words of a service record.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Local];
}

/// One write. The tables take each as a whole or fail; a second application changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Names service `id`.
    PutMeta {
        /// Service id.
        id: u32,
        /// Its names.
        key: ServicePortKey,
        /// `spec.ports[].port`.
        port: u16,
    },
    /// Gives `id` to an endpoint; its counters start from zero.
    PutBackend {
        /// Backend id.
        id: u32,
        /// The Service port's id.
        service: u32,
        /// The endpoint.
        addr: SocketAddr,
        /// How often the id has been given out, this time included, and what the endpoint is there for.
        word: BackendWord,
    },
    /// Fills slots that no span names.
    PutSlots {
        /// Which of the slot arrays.
        family: Family,
        /// Index of the first slot.
        offset: u32,
        /// What they become.
        slots: Arc<[SlotEntry]>,
    },
    /// Writes the whole record of a new Service port; its counters start from zero.
    PutService {
        /// Service id.
        id: u32,
        /// Runs of slots, by [`Scope`].
        spans: [Span; 2],
        /// What is in them.
        slots: [Arc<[SlotEntry]>; 2],
        /// [`lb_common::service_flags`].
        flags: u64,
        /// Where the rotation begins.
        cursor: u64,
    },
    /// Turns one scope to another run of slots: one 8-byte store.
    SetSpan {
        /// Service id.
        id: u32,
        /// The scope.
        scope: Scope,
        /// The run.
        span: Span,
        /// What is in it.
        slots: Arc<[SlotEntry]>,
    },
    /// Changes the flags of a Service port: one 8-byte store.
    SetFlags {
        /// Service id.
        id: u32,
        /// [`lb_common::service_flags`].
        flags: u64,
    },
    /// Lets clients in a range use the LoadBalancer frontends of a Service port.
    PutRange {
        /// Service id.
        id: u32,
        /// The range.
        range: Range,
    },
    /// Takes that back.
    DeleteRange {
        /// Service id.
        id: u32,
        /// The range.
        range: Range,
    },
    /// Inserts or replaces a frontend. A reader finds the old entry or the new one, never none and never a mixture: the
    /// kernel links the new element in front of the old one before it unlinks that.
    PutFrontend {
        /// Where the Service port is reached.
        frontend: FrontendAddr,
        /// Its service id and kind.
        value: FrontendValue,
    },
    /// Makes an address known, or known otherwise.
    PutAddress {
        /// The address.
        addr: IpAddr,
        /// Its kind and flags.
        value: AddressValue,
    },
    /// Makes an address unknown.
    DeleteAddress {
        /// The address.
        addr: IpAddr,
    },
    /// Removes a frontend.
    DeleteFrontend {
        /// Where the Service port was reached.
        frontend: FrontendAddr,
    },
    /// Zeroes the record of a Service port.
    ClearService {
        /// Service id.
        id: u32,
    },
    /// Changes what a backend is there for: one 8-byte store. The record of one that no longer serves stays until the id
    /// is given out again: flows may name it.
    SetBackend {
        /// Backend id.
        id: u32,
        /// Its word, of the same generation.
        word: BackendWord,
    },
    /// Forgets the names of service `id`.
    DeleteMeta {
        /// Service id.
        id: u32,
    },
}
