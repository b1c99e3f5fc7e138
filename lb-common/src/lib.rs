//! The contract between Sluice's eBPF programs and its user space.
//!
//! Everything that crosses the kernel boundary is declared here, once: the keys and values of all maps, the table of
//! maps itself, the numbers of reasons, and the schema number that names the pin directory.
//!
//! Layout rules: `repr(C)`, plain old data, no implicit padding (proved at compile time), size and alignment asserted
//! beside each type. Addresses and ports are network-order bytes end to end; every other number is in the byte order
//! of the machine.
#![no_std]

mod abi;
mod addr;
mod affinity;
mod config;
mod event;
mod flow;
mod fragment;
mod frontend;
pub mod generator;
mod interface;
pub mod maps;
mod reason;
mod schema;
mod scratch;
mod service;
mod sock;
mod state;
mod way;

pub use addr::{Addr4, Addr6, Address, Endpoint, Mark, Port, Proto};
pub use affinity::{AffinityKey, AffinityWord};
pub use config::{Config, Lifetimes, PortRange, Prefix, SERVICE_RANGES, Settings, config_flags};
pub use event::{EventRecord, SockCall};
pub use flow::{FlowKey, FlowKind, FlowState, FlowValue, FlowWord, Masquerade, NOBODYS, Point, Tuple};
pub use fragment::{FragmentKey, FragmentValue};
pub use frontend::{
    AddressKind, AddressValue, ClientOf, FrontendKey, FrontendKind, FrontendValue, SourceRangeKey,
    address_flags,
};
pub use interface::{InterfaceValue, POD_SHORTCUT, UPLINK_XDP, interface_flags};
pub use reason::{Effect, Reason};
pub use schema::SCHEMA;
pub use scratch::Scratch;
pub use service::{
    BackendRecord, BackendStats, BackendWord, ServiceMeta, ServiceRecord, ServiceStats, Slot, Span,
    backend_flags, service_flags,
};
pub use sock::{SockStorage, SockUdpKey, SockUdpRole, SockUdpValue};
pub use state::{CpuRecord, StateRecord, SweepReport};
pub use way::{FlowName, WayRecord};
