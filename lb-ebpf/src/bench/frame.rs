//! The frame of the next flow, written over whatever is there.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::btf_map;
use lb_common::generator::{self, FRAME, FlowPick, Generator};
use lb_common::maps::MMAPABLE;
use lb_ebpf::generate::{self, Own};

#[btf_map(name = "generator")]
static GENERATOR: Array<Generator, 1, { MMAPABLE as usize }> = Array::new();
#[btf_map(name = "samples")]
static SAMPLES: Array<u32, { generator::SAMPLES }, { MMAPABLE as usize }> = Array::new();

/// Bytes of a frame of IPv4.
const SHORT: usize = 64;

/// Where the fields are that differ from flow to flow.
struct Fields {
    source: usize,
    destination: usize,
    transport: usize,
}

const V4: Fields = Fields { source: 26, destination: 30, transport: 34 };
const V6: Fields = Fields { source: 34, destination: 50, transport: 54 };
/// The checksum of an IPv4 header.
const NETWORK_CHECK: usize = 24;
/// From the transport header to its checksum.
const TCP_CHECK: usize = 16;
const UDP_CHECK: usize = 6;

/// Writes the frame into the packet between `start` and `end`, and says what it is for. `None`: it does not
/// fit.
#[inline(always)]
pub(crate) fn write(start: usize, end: usize) -> Option<u32> {
    let generator = GENERATOR.get_ptr_mut(0)?;
    // SAFETY: the value of the array's only element, which stays mapped; user space changes it between runs only, and one
    // generator runs at a time.
    let (generator, own) = unsafe {
        let cursor = (*generator).cursor;
        addr_of_mut!((*generator).cursor).write(cursor.wrapping_add(1));
        let generator = &*generator.cast_const();
        (generator, generate::own(generator, flow(generator, cursor)?))
    };
    if start + SHORT > end {
        return None;
    }
    copy(start, generator, 0..SHORT / 8);
    if generator.length as usize == SHORT {
        put(start + NETWORK_CHECK, own.network_check);
        patch(start, &V4, generator, &own);
    } else {
        if start + FRAME > end {
            return None;
        }
        copy(start, generator, SHORT / 8..FRAME / 8);
        patch(start, &V6, generator, &own);
    }
    Some(generator.target)
}

/// The number of the flow whose turn it is.
#[inline(always)]
fn flow(generator: &Generator, cursor: u64) -> Option<u32> {
    // SAFETY: a helper without arguments.
    let random = || unsafe { bpf_get_prandom_u32() };
    let flows = generator.flows.max(1);
    let number = if generator.pick == FlowPick::InTurn as u8 {
        (cursor % u64::from(flows)) as u32
    } else if generator.pick == FlowPick::Random as u8 {
        random() % flows
    } else {
        let sample = SAMPLES.get_ptr(random() % generator::SAMPLES as u32)?;
        // SAFETY: a value of the array, which stays mapped.
        unsafe { *sample }
    };
    Some(generator.first.wrapping_add(number))
}

#[inline(always)]
fn patch(start: usize, fields: &Fields, generator: &Generator, own: &Own) {
    let (source, destination, port) = if generator.reversed == 0 {
        (own.client, own.server, fields.transport)
    } else {
        (own.server, own.client, fields.transport + 2)
    };
    for (place, [a, b, c, d]) in [(fields.source, source), (fields.destination, destination)] {
        put(start + place, [a, b]);
        put(start + place + 2, [c, d]);
    }
    put(start + port, own.port);
    let check = if generator.check as usize == TCP_CHECK { TCP_CHECK } else { UDP_CHECK };
    put(start + fields.transport + check, own.transport_check);
}

/// Copies these words of the frame to where they belong.
#[inline(always)]
fn copy(start: usize, generator: &Generator, words: core::ops::Range<usize>) {
    let mut word = words.start;
    while word < words.end {
        // SAFETY: `write` has compared the end of the packet; frames begin at a multiple of 8 bytes where the kernel runs
        // tests, and everywhere else on machines that do not care. Volatile, or LLVM calls `memcpy`.
        unsafe {
            let value = addr_of!(generator.frame[word]).read_volatile();
            ((start + word * 8) as *mut u64).write_volatile(value);
        }
        word += 1;
    }
}

#[inline(always)]
fn put(place: usize, bytes: [u8; 2]) {
    // SAFETY: within what `write` has compared with the end of the packet; places are even.
    unsafe { (place as *mut u16).write_volatile(u16::from_ne_bytes(bytes)) }
}
