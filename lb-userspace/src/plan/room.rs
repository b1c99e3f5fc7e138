//! Tables without room.

use std::fmt;

/// The tables that can be full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Service ids.
    Services,
    /// Backend ids.
    Backends,
    /// Slots.
    Slots,
    /// Frontends.
    Frontends,
    /// Addresses.
    Addresses,
    /// Source ranges.
    Ranges,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Services => "services",
            Self::Backends => "backends",
            Self::Slots => "slots",
            Self::Frontends => "frontends",
            Self::Addresses => "addresses",
            Self::Ranges => "source ranges",
        })
    }
}

/// A Service port does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no room for {needed} more {table}, {free} are free: {consequence}; start the agent with a larger {flag} after `sluice cleanup`",
    consequence = if *in_use { "its last state stays in use" } else { "it is left out" },
    flag = match table { Table::Backends | Table::Slots => "--max-backends", _ => "--max-services" },
)]
pub struct NoRoom {
    /// Of what there is too little.
    pub table: Table,
    /// How many were needed; slots: in a row.
    pub needed: u32,
    /// How many there are.
    pub free: u32,
    /// Whether the tables hold an earlier state of the Service port, which stays.
    pub in_use: bool,
}
