//! Questions to the kernel by netlink that are waited for.

use std::io;

use netlink_sys::Socket;
use rtnetlink::packet_core::{
    NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};

/// How often a list is asked for that changes while it is told.
const TRIES: u32 = 10;

/// Sends one request, and returns what `take` takes of the answers. `flags`: `NLM_F_DUMP` or `NLM_F_ACK`, which say where they
/// end.
///
/// A list that has changed while the kernel told it (`NLM_F_DUMP_INTR`) may lack what was there all the time: it is asked for
/// again.
///
/// # Errors
/// What the kernel answered; `InvalidData` for what cannot be read, `ResourceBusy` for a list that changes all the time.
pub(super) fn ask<Q: NetlinkSerializable, A: NetlinkDeserializable, T>(
    socket: &Socket,
    request: Q,
    flags: u16,
    mut take: impl FnMut(A) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    for _ in 0..TRIES {
        socket.send(&buffer, 0)?;
        if let Some(taken) = answers(socket, &mut take)? {
            return Ok(taken);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("the list has changed while it was told, {TRIES} times"),
    ))
}

/// The answers to one request; `None`: they are no whole list.
fn answers<A: NetlinkDeserializable, T>(
    socket: &Socket,
    mut take: impl FnMut(A) -> Option<T>,
) -> io::Result<Option<Vec<T>>> {
    let (mut taken, mut whole) = (Vec::new(), true);
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let message: NetlinkMessage<A> = NetlinkMessage::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            rest = rest.get((message.header.length as usize).next_multiple_of(4)..).unwrap_or_default();
            whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => taken.extend(take(answer)),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code));
                }
                NetlinkPayload::Done(_) => return Ok(whole.then_some(taken)),
                NetlinkPayload::Error(error) => {
                    return if error.code.is_none() { Ok(Some(taken)) } else { Err(error.to_io()) };
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use netlink_sys::protocols::NETLINK_USERSOCK;
    use rtnetlink::packet_core::NLM_F_DUMP;

    use super::*;

    /// A question, and an answer.
    #[derive(Clone, PartialEq, Eq, Debug)]
    struct Word([u8; 4]);

    const KIND: u16 = 0x10;
    const DONE: u16 = 3;

    impl NetlinkSerializable for Word {
        fn message_type(&self) -> u16 {
            KIND
        }

        fn buffer_len(&self) -> usize {
            self.0.len()
        }

        fn serialize(&self, buffer: &mut [u8]) {
            buffer.copy_from_slice(&self.0);
        }
    }

    impl NetlinkDeserializable for Word {
        type Error = Infallible;

        fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
            Ok(Self(payload.try_into().unwrap()))
        }
    }

    fn message(kind: u16, flags: u16, payload: [u8; 4]) -> Vec<u8> {
        let length = 20_u32.to_ne_bytes();
        [&length[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], &payload].concat()
    }

    /// What is made of lists of one word, each another, told one after the other: with these flags at the word, and at the end.
    fn asked(told: &[[u16; 2]]) -> io::Result<Vec<Word>> {
        let [mut kernel, mut socket] = [0, 1].map(|_| Socket::new(NETLINK_USERSOCK).unwrap());
        let own = socket.bind_auto()?;
        socket.connect(&kernel.bind_auto()?)?;
        for (number, [word, end]) in (0..).zip(told) {
            kernel.send_to(&message(KIND, *word, [number; 4]), &own, 0)?;
            kernel.send_to(&message(DONE, *end, [0; 4]), &own, 0)?;
        }
        ask(&socket, Word([9; 4]), NLM_F_DUMP, Some)
    }

    #[test]
    fn a_list_that_has_changed_while_it_was_told_is_asked_for_again() {
        let (whole, within, last) = ([0, 0], [NLM_F_DUMP_INTR, 0], [0, NLM_F_DUMP_INTR]);
        assert_eq!(asked(&[whole, within]).unwrap(), [Word([0; 4])]);
        assert_eq!(asked(&[within, last, whole]).unwrap(), [Word([2; 4])]);
        let never = [&[last; TRIES as usize][..], &[whole]].concat();
        assert_eq!(asked(&never).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }
}
