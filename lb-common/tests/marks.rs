//! Addresses in the map `marks`: whom it knows it always tells, and of others nearly all from those.

use lb_common::maps::MARKS;
use lb_common::{Addr4, Addr6, Address};

/// Marks as many addresses as a large cluster has, and counts of as many others those that seem to be among them.
fn mistaken<A: Address>(known: impl Fn(u32) -> A, other: impl Fn(u32) -> A) -> u32 {
    let mut words = vec![0u64; (MARKS / 64) as usize];
    for mark in (0..200_000).map(|number| known(number).mark()) {
        words[mark.word as usize] |= mark.bits;
    }
    let seems = |addr: A| {
        let mark = addr.mark();
        mark.is_in(words[mark.word as usize])
    };
    assert!((0..200_000).all(|number| seems(known(number))));
    (0..200_000).map(|number| u32::from(seems(other(number)))).sum()
}

fn v4(first: [u8; 4]) -> impl Fn(u32) -> Addr4 {
    move |number| Addr4((u32::from_be_bytes(first) + number).to_be_bytes())
}

/// Numbers stand at the end, as those of pods do, or in the middle.
fn v6(prefix: u32, middle: bool) -> impl Fn(u32) -> Addr6 {
    move |number| {
        let number = u128::from(number) << if middle { 64 } else { 0 };
        Addr6(((u128::from(prefix) << 96) + number + 7).to_be_bytes())
    }
}

#[test]
fn one_of_fifty_strangers_at_most_is_taken_for_somebody() {
    for other in [[10, 0, 0, 0], [192, 168, 0, 0], [203, 0, 0, 0]] {
        let mistaken = mistaken(v4([10, 96, 0, 0]), v4(other));
        assert!(mistaken < 4_000, "{other:?}: {mistaken}");
    }
    for middle in [false, true] {
        let mistaken = mistaken(v6(0xfd00_0010, middle), v6(0x2001_0db8, middle));
        assert!(mistaken < 4_000, "{middle}: {mistaken}");
    }
}
