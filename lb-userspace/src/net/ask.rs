//! Questions to the kernel by netlink that are waited for.

use std::io;

use netlink_sys::Socket;
use rtnetlink::packet_core::{
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};

/// Sends one request, and hands each answer to `found`. `flags`: `NLM_F_DUMP` or `NLM_F_ACK`, which say where the answers
/// end.
///
/// # Errors
/// What the kernel answered; `InvalidData` for what cannot be read.
pub(super) fn ask<Q: NetlinkSerializable, A: NetlinkDeserializable>(
    socket: &Socket,
    request: Q,
    flags: u16,
    mut found: impl FnMut(A),
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message: NetlinkMessage<A> = NetlinkMessage::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            rest = rest.get((message.header.length as usize).next_multiple_of(4)..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => found(answer),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => {
                    return if error.code.is_none() { Ok(()) } else { Err(error.to_io()) };
                }
                _ => {}
            }
        }
    }
}
