//! What is wrong with an object.

/// Why an object is not, or not wholly, served as it asks. The names are those of Kubernetes Events, and stable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// An address that nothing can have, that cannot be read or is of the wrong family.
    InvalidAddress,
    /// A port without a number, of an unknown protocol, or with another's name.
    InvalidPort,
    /// A source range that cannot be read.
    InvalidSourceRange,
    /// A setting has a value that there is not, such as a policy or a timeout.
    InvalidValue,
    /// A name is longer than names are.
    InvalidName,
    /// Another Service has the address and port, or the node port (B26).
    FrontendConflict,
    /// Endpoints that it has are not looked at, since it has others.
    EndpointsIgnored,
    /// The tables have no room for it.
    NoRoom,
    /// The tables could not be written.
    NotProgrammed,
    /// It has external IPs, and this node is told to serve none.
    ExternalIpsOff,
    /// Its health check port cannot be listened at (B87).
    FailedToStartServiceHealthcheck,
}

/// One thing that is wrong with an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Complaint {
    /// What kind of thing it is.
    pub reason: Reason,
    /// What it is, and what is left out or done instead.
    pub text: String,
}

impl Reason {
    /// Its name, in CamelCase.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidAddress => "InvalidAddress",
            Self::InvalidPort => "InvalidPort",
            Self::InvalidSourceRange => "InvalidSourceRange",
            Self::InvalidValue => "InvalidValue",
            Self::InvalidName => "InvalidName",
            Self::FrontendConflict => "FrontendConflict",
            Self::EndpointsIgnored => "EndpointsIgnored",
            Self::NoRoom => "NoRoom",
            Self::NotProgrammed => "NotProgrammed",
            Self::ExternalIpsOff => "ExternalIPsOff",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
        }
    }

    /// Whether who has written the object can do something about it.
    #[must_use]
    pub const fn is_for_owner(self) -> bool {
        !matches!(self, Self::NotProgrammed)
    }

    /// Whether one node may say so and another not: it is about what the node has, not about objects.
    #[must_use]
    pub const fn is_of_node(self) -> bool {
        matches!(self, Self::NoRoom | Self::NotProgrammed | Self::FailedToStartServiceHealthcheck)
    }

    /// The complaint that this is so, as `text` says.
    pub(super) fn because(self, text: impl Into<String>) -> Complaint {
        Complaint { reason: self, text: text.into() }
    }
}
