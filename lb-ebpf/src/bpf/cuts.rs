//! Where the programs are cut. A function with a name of its own (a "global function", Linux 5.6) is verified once, for
//! any arguments; what is inlined is verified again for every path that leads to it. What the parts share lies in the
//! packet's [`Scratch`], or on the stack; outcomes are numbers, see [`cut`].

use aya_ebpf::bindings::{__sk_buff, bpf_sock_addr, xdp_md};
use lb_common::{Addr4, Addr6, Address, Endpoint, Proto, Reason, Scratch, SockCall};
use lb_ebpf::event::Recorded;
use lb_ebpf::family::Family;
use lb_ebpf::pkt::Change;
use lb_ebpf::select::{self, Asker, Choice, Pick};
use lb_ebpf::{crc32c, cut, event, flow, fragment, icmp, masquerade, parse, reject, route, sock, stage};

use super::around::{Driver, Hook, Kernel};
use super::frame::Frame;
use super::maps::Maps;
use super::skb::Skb;
use super::sock::Calling;

/// [`crc32c::difference`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn crc32c(pattern: u32, length: u32) -> u32 {
    crc32c::difference(pattern, length, |left, right| crc32c_multiply(left, right))
}

/// [`Pkt::follow_checksum`] where the kernel has to be asked. Flags: 1: zero is kept, 2: of IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn hardware_checksum(
    skb: *mut __sk_buff,
    offset: u32,
    addresses: u32,
    ports: u32,
    flags: u32,
) -> u32 {
    let change = Change { addresses, ports, pseudo: 0, keep_zero: flags & 1 != 0, v6: flags & 2 != 0 };
    u32::from(Skb::new(skb).ask_checksum(offset, &change))
}

/// [`reject::sum`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn sum(skb: *mut __sk_buff, at: u32, length: u32) -> u32 {
    reject::sum(&Skb::new(skb), at, length)
}

/// The same over a frame.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn frame_sum(frame: *mut xdp_md, at: u32, length: u32) -> u32 {
    reject::sum(&Frame::new(frame), at, length)
}

/// [`crc32c::multiply`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn crc32c_multiply(left: u32, right: u32) -> u32 {
    crc32c::multiply(left, right)
}

macro_rules! cuts {
    ($what:literal $trait:ident($($super:ident),*): $($doc:literal $name:ident($($arg:ident: $ty:ty),*; $memory:ident: $kind:ident) = $v4:ident, $v6:ident, $body:expr;)+) => {
        #[doc = $what]
        pub(crate) trait $trait: Address $(+ $super)* {
            $(#[doc = $doc] unsafe fn $name($($arg: $ty,)* $memory: *mut $kind<Self>) -> u32;)+
        }

        cuts!(@family $trait, Addr4: $($name($($arg: $ty),*; $memory: $kind) = $v4, $body;)+);
        cuts!(@family $trait, Addr6: $($name($($arg: $ty),*; $memory: $kind) = $v6, $body;)+);
    };
    (@family $trait:ident, $family:ty: $($name:ident($($arg:ident: $ty:ty),*; $memory:ident: $kind:ident) = $symbol:ident, $body:expr;)+) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            unsafe extern "C" fn $symbol($($arg: $ty,)* $memory: *mut $kind<$family>) -> u32 {
                // SAFETY: the caller passes its exclusive memory; the verifier asks for the null check.
                let Some($memory) = (unsafe { $memory.as_mut() }) else { return 0 };
                $body
            }
        )+

        impl $trait for $family {
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $ty,)* $memory: *mut $kind<Self>) -> u32 {
                    // SAFETY: the caller's promise.
                    unsafe { $symbol($($arg,)* $memory) }
                }
            )+
        }
    };
}

#[inline(always)]
fn refusal<A: Maps + Family + Cuts>(
    sock: &Calling,
    number: u32,
    endpoint: &mut Endpoint<A>,
) -> Option<Recorded> {
    let [reason, call, _, _] = number.to_le_bytes();
    let (reason, call) = (Reason::from_number(reason)?, SockCall::from_number(call)?);
    let proto = sock.proto()?;
    Some(event::refused(&Kernel::alone(), sock, call, proto, reason, endpoint))
}

cuts! {
    "The functions of one family that no packet is shown to." Cuts(SkbCuts, FrameCuts):
    "[`stage::depart`]."
    depart(; scratch: Scratch) = depart4, depart6, cut::number(stage::depart(&Kernel::alone(), scratch));
    "[`flow::oust`]."
    oust(; scratch: Scratch) = oust4, oust6, cut::number(flow::oust(&Kernel::alone(), scratch));
    "[`flow::contend`]."
    contend(; scratch: Scratch) = contend4, contend6, cut::number(flow::contend(&Kernel::alone(), scratch));
    "[`flow::make_way`]."
    make_way(; scratch: Scratch) = make_way4, make_way6, cut::number(flow::make_way(&Kernel::alone(), scratch));
    "[`fragment::meet`]."
    meet(; scratch: Scratch) = meet4, meet6, cut::number(fragment::meet(&Kernel::alone(), scratch));
    "[`stage::renew`]."
    renew(; scratch: Scratch) = renew4, renew6, cut::number(stage::renew(&Kernel::alone(), scratch));
    "[`flow::assure`]."
    assure(; scratch: Scratch) = assure4, assure6, cut::number(flow::assure(&Kernel::alone(), scratch));
    "[`flow::mend`]."
    mend(; scratch: Scratch) = mend4, mend6, cut::number(flow::mend(&Kernel::alone(), scratch));
    "[`select::range`]."
    range(; scratch: Scratch) = range4, range6, cut::number(select::range(&Kernel::alone(), scratch));
    "[`event::refused`]. The number is a reason and a call, one byte each."
    refused(context: *mut bpf_sock_addr, number: u32; endpoint: Endpoint) = refused4, refused6,
        refusal(&Calling(context), number, endpoint).map_or(u32::MAX, |recorded| recorded as u32);
    "[`select::reach`]."
    reach(proto: u32, asker: u32; choice: Choice) = reach4, reach6,
        cut::number(select::reach(&Kernel::alone(), proto as u8, Asker::of(asker), choice));
    "[`select::begin`]."
    begin(; scratch: Scratch) = begin4, begin6, cut::number(select::begin(&Kernel::alone(), scratch));
    "[`select::stick`]."
    stick(pick: u64; choice: Choice) = stick4, stick6,
        cut::number(select::stick(&Kernel::alone(), Pick::of(pick), choice));
    "[`sock::direct`]."
    direct(context: *mut bpf_sock_addr, connects: u32; endpoint: Endpoint) = direct4, direct6,
        cut::number(sock::direct(&Kernel::of(context), &Calling(context), connects != 0, endpoint));
    "[`sock::choose`], for a UDP socket of the host."
    choose(; choice: Choice) = choose4, choose6,
        cut::number(sock::choose(&Kernel::alone(), Proto::Udp, true, choice));
    "[`sock::recall`]."
    recall(context: *mut bpf_sock_addr; choice: Choice) = recall4, recall6,
        cut::number(sock::recall(&Kernel::alone(), &Calling(context), choice));
    "[`sock::settle`]."
    settle(context: *mut bpf_sock_addr, share: u32; choice: Choice) = settle4, settle6,
        cut::number(sock::settle(&Kernel::alone(), &Calling(context), share != 0, choice));
}

/// Declares the functions that are shown a packet, of which each hook has its own: those that all have, and `$own`.
macro_rules! packet_cuts {
    ($what:literal $trait:ident, $packet:ident of $context:ty, $kernel:ident:
        $parse4:ident, $parse6:ident, $place4:ident, $place6:ident, $masquerade4:ident, $masquerade6:ident,
        $make4:ident, $make6:ident, $attempt4:ident, $attempt6:ident, $turn_away4:ident, $turn_away6:ident,
        $reject4:ident, $reject6:ident, $record4:ident, $record6:ident, $carry4:ident, $carry6:ident; $($own:tt)*) => {
        cuts! {
            $what $trait():
            "[`parse::packet`]."
            parse_cut(context: *mut $context; scratch: Scratch) = $parse4, $parse6,
                cut::number(parse::packet(&$packet::new(context), scratch));
            "[`stage::place`]."
            place(context: *mut $context; scratch: Scratch) = $place4, $place6,
                cut::number(stage::place(&$kernel::of(context), scratch));
            "[`masquerade::decide`]."
            masquerade(context: *mut $context; scratch: Scratch) = $masquerade4, $masquerade6,
                cut::number(masquerade::decide(&$kernel::of(context), scratch));
            "[`flow::make`]."
            make(context: *mut $context; scratch: Scratch) = $make4, $make6,
                cut::number(flow::make(&$kernel::of(context), scratch));
            "[`flow::attempt`]."
            attempt(context: *mut $context; scratch: Scratch) = $attempt4, $attempt6,
                cut::number(flow::attempt(&$kernel::of(context), scratch));
            "[`stage::turn_away`]."
            turn_away(context: *mut $context, reason: u32; scratch: Scratch) = $turn_away4, $turn_away6,
                match Reason::from_number(reason as u8) {
                    Some(reason) => cut::number(Ok(stage::turn_away(
                        &mut $packet::new(context), &$kernel::of(context), reason, scratch,
                    ))),
                    None => u32::MAX,
                };
            "[`reject::answer`]."
            reject(context: *mut $context, reason: u32; scratch: Scratch) = $reject4, $reject6,
                match Reason::from_number(reason as u8) {
                    Some(reason) => cut::number(reject::answer(
                        &mut $packet::new(context), &$kernel::of(context), reason, scratch,
                    )),
                    None => u32::MAX,
                };
            "[`stage::carry`]."
            carry(context: *mut $context, reason: u32; scratch: Scratch) = $carry4, $carry6,
                match Reason::from_number(reason as u8) {
                    Some(reason) => cut::number(Ok(stage::carry(
                        &mut $packet::new(context), &$kernel::of(context), reason, scratch,
                    ))),
                    None => u32::MAX,
                };
            "[`event::packet`]."
            record(context: *mut $context, reason: u32; scratch: Scratch) = $record4, $record6,
                match Reason::from_number(reason as u8) {
                    Some(reason) => event::packet(&$packet::new(context), &$kernel::of(context), reason, scratch) as u32,
                    None => u32::MAX,
                };
            $($own)*
        }
    };
}

packet_cuts! {
    "The functions of one family that are shown a socket buffer." SkbCuts, Skb of __sk_buff, Kernel:
    parse4, parse6, place4, place6, masquerade4, masquerade6, make4, make6, attempt4, attempt6,
    turn_away4, turn_away6, reject4, reject6, record4, record6, carry4, carry6;
    "[`route::find`]."
    find_way(skb: *mut __sk_buff; scratch: Scratch) = find_way4, find_way6,
        cut::number(route::find(&Skb::new(skb), &Kernel::of(skb), scratch));
    "[`stage::enter`]."
    enter(skb: *mut __sk_buff; scratch: Scratch) = enter4, enter6,
        cut::number(stage::enter(&mut Skb::new(skb), &Kernel::of(skb), scratch));
    "[`icmp::portless`]."
    portless(skb: *mut __sk_buff; scratch: Scratch) = portless4, portless6,
        cut::number(icmp::portless(&mut Skb::new(skb), &Kernel::of(skb), scratch));
}

packet_cuts! {
    "The functions of one family that are shown a frame." FrameCuts, Frame of xdp_md, Driver:
    frame_parse4, frame_parse6, frame_place4, frame_place6, frame_masquerade4, frame_masquerade6,
    frame_make4, frame_make6, frame_attempt4, frame_attempt6,
    frame_turn_away4, frame_turn_away6, frame_reject4, frame_reject6, frame_record4, frame_record6,
    frame_carry4, frame_carry6;
    "[`route::shortcut`]."
    shortcut(frame: *mut xdp_md; scratch: Scratch) = shortcut4, shortcut6,
        cut::number(route::shortcut(&Frame::new(frame), &Driver::of(frame), scratch));
}
