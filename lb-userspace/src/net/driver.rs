//! What the driver of an interface can do, and does, by generic netlink.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr as Kernel};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLA_F_NESTED, NLA_HEADER_SIZE, NLM_F_ACK, NetlinkDeserializable,
    NetlinkHeader, NetlinkSerializable, NlasIterator,
};

use super::ask::ask;

/// Bits of what the kernel says of a device and XDP (`NETDEV_XDP_ACT_*`).
pub mod xdp_features {
    /// Native programs run there, and may pass frames on, drop them and send them back.
    pub const BASIC: u64 = 1;
    /// Frames may leave by it that a program of another device redirects. Of one end of a veth pair: the other end takes
    /// what programs send, redirected or back.
    pub const SENDS: u64 = 4;
}

/// The family of the kernel that knows the numbers of the others.
const CONTROL: u16 = 16;
/// `CTRL_CMD_GETFAMILY`.
const GET_FAMILY: u8 = 3;
/// `NETDEV_CMD_DEV_GET`.
const DEV_GET: u8 = 1;
/// `ETHTOOL_MSG_FEATURES_GET`.
const FEATURES_GET: u8 = 11;
/// That tags are taken off what is received, as ethtool's netlink interface calls it.
const STRIPS_TAGS: &[u8] = b"rx-vlan-hw-parse\0";

/// A way to ask about the interfaces of the network namespace of the thread that opened it.
pub struct Drivers {
    socket: Socket,
    netdev: Option<u16>,
    ethtool: Option<u16>,
}

impl Drivers {
    /// Opens it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_GENERIC)?;
        socket.connect(&Kernel::new(0, 0))?;
        let mut drivers = Self { socket, netdev: None, ethtool: None };
        drivers.netdev = drivers.family("netdev");
        drivers.ethtool = drivers.family("ethtool");
        Ok(drivers)
    }

    /// [`xdp_features`] of the interface with this index; `None` if there is none, or the kernel does not tell (before
    /// 6.3).
    #[must_use]
    pub fn xdp(&self, index: u32) -> Option<u64> {
        // NETDEV_A_DEV_IFINDEX both ways, and NETDEV_A_DEV_XDP_FEATURES.
        let request = DefaultNla::new(1, index.to_ne_bytes().to_vec());
        let answer = self.call(self.netdev?, DEV_GET, request).ok()?;
        Some(u64::from_ne_bytes(value(&answer, 3)?.try_into().ok()?))
    }

    /// Whether the driver takes VLAN tags off the frames that it receives, so that XDP does not see them; yes if the
    /// kernel does not tell.
    #[must_use]
    pub fn strips_tags(&self, index: u32) -> bool {
        self.active(index).is_none_or(|names| names.iter().any(|name| name == STRIPS_TAGS))
    }

    /// What the interface does for the host of segments, aggregates and checksums, by ethtool's names.
    #[must_use]
    pub fn offloads(&self, index: u32) -> Vec<String> {
        const KINDS: [&str; 4] = ["-checksum", "-segmentation", "-gro", "-lro"];
        let names = self.active(index).into_iter().flatten();
        let names = names.map(|name| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned());
        let mut names: Vec<_> = names.filter(|name| KINDS.iter().any(|kind| name.contains(kind))).collect();
        names.sort();
        names
    }

    /// The features that are active, by name.
    fn active(&self, index: u32) -> Option<Vec<Vec<u8>>> {
        // ETHTOOL_A_FEATURES_HEADER with ETHTOOL_A_HEADER_DEV_INDEX.
        let mut header = vec![0; 8];
        DefaultNla::new(1, index.to_ne_bytes().to_vec()).emit(&mut header);
        let request = DefaultNla::new(1 | NLA_F_NESTED, header);
        let answer = self.call(self.ethtool?, FEATURES_GET, request).ok()?;
        // ETHTOOL_A_FEATURES_ACTIVE: a list without a mask, so all bits in it are set.
        let bits = value(value(&answer, 4)?, 3)?;
        Some(attributes(bits).filter_map(|(_, bit)| Some(value(bit, 2)?.to_vec())).collect())
    }

    /// The number of a family.
    fn family(&self, name: &str) -> Option<u16> {
        // CTRL_ATTR_FAMILY_NAME, and CTRL_ATTR_FAMILY_ID.
        let request = DefaultNla::new(2, [name.as_bytes(), &[0]].concat());
        let answer = self.call(CONTROL, GET_FAMILY, request).ok()?;
        Some(u16::from_ne_bytes(value(&answer, 1)?.try_into().ok()?))
    }

    /// The attributes that a family answers to a command with one.
    fn call(&self, family: u16, command: u8, attribute: DefaultNla) -> io::Result<Vec<u8>> {
        let request = Request { family, command, attribute };
        let answers = ask(&self.socket, request, NLM_F_ACK, |Answer(attributes)| Some(attributes))?;
        Ok(answers.into_iter().next_back().unwrap_or_default())
    }
}

/// Length of the header that stands before the attributes: command, version, two bytes of nothing.
const HEADER: usize = 4;

struct Request {
    family: u16,
    command: u8,
    attribute: DefaultNla,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attribute.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, rest) = buffer.split_at_mut(HEADER);
        header.copy_from_slice(&[self.command, 1, 0, 0]);
        self.attribute.emit(rest);
    }
}

struct Answer(Vec<u8>);

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(payload.get(HEADER..).unwrap_or_default().to_vec()))
    }
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).filter_map(|attribute| {
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..end)?))
    })
}

fn value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_runs_no_xdp_and_strips_no_tags() {
        let drivers = Drivers::open().unwrap();
        // Index 1 in every namespace; kernels before 6.3 do not tell.
        assert!(drivers.xdp(1).is_none_or(|features| features & xdp_features::BASIC == 0));
        assert_eq!(drivers.xdp(u32::MAX), None);
        let names = drivers.active(1).unwrap();
        assert!(names.contains(&b"loopback\0".to_vec()), "{names:?}");
        assert!(!drivers.strips_tags(1));
        assert!(drivers.strips_tags(u32::MAX), "not known");
    }
}
