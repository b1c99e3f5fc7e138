//! Sluice's datapath as a pure library: bytes and tables in, a verdict out.
//!
//! The same code runs in the XDP and tc programs, in the cgroup programs and on the host. It is generic over the family of
//! addresses, over the packet ([`pkt::Pkt`]) and over the tables around it ([`env::Env`]); it links no eBPF crate,
//! holds no unsafe code and keeps no state of its own. The programs of this crate (`main.rs`, `bpf/`) convert and
//! decide nothing.
//!
//! | module | concern |
//! |---|---|
//! | [`stage`] | the stages of the packet path |
//! | [`sock`] | the socket hooks |
//! | [`sweep`] | removal of what has ended |
//! | [`flow`] | the flow table: lookup, the pair protocol, lifetimes |
//! | [`fragment`] | later fragments follow the first |
//! | [`icmp`] | packets without ports: errors, echo, what is refused |
//! | `parse`, `family`, `rewrite`, `csum`, `crc32c`, `reject` | packets |
//! | [`select`], `ports`, [`masquerade`] | choices |
//! | [`route`] | packets past the host stack |
//! | [`event`] | records of what was dropped or refused |
//! | [`cut`] | outcomes as numbers, where the programs are cut |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "testing")]
extern crate std;

pub mod crc32c;
pub mod csum;
pub mod cut;
pub mod env;
pub mod event;
pub mod family;
pub mod flow;
pub mod fragment;
pub mod generate;
pub mod icmp;
mod limit;
pub mod masquerade;
pub mod parse;
pub mod pkt;
mod ports;
pub mod reject;
mod rewrite;
pub mod route;
pub mod select;
pub mod sock;
pub mod stage;
pub mod sweep;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verdict;
