//! The Internet checksum, updated incrementally (RFC 1624).
//!
//! Sums are taken over 32-bit words as they lie in memory; one's complement arithmetic makes that the same as 16-bit
//! big-endian words, on a machine of either byte order.

use lb_common::Address;

use crate::pkt::Pkt;

/// Adds with end-around carry.
#[inline(always)]
pub const fn add(sum: u32, word: u32) -> u32 {
    let (sum, carry) = sum.overflowing_add(word);
    sum + carry as u32
}

/// Folds a sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum `old` after the covered bytes changed by `difference`.
#[inline(always)]
pub const fn apply(old: [u8; 2], difference: u32) -> [u8; 2] {
    let sum = add(!u16::from_ne_bytes(old) as u32 & 0xffff, fold(difference) as u32);
    (!fold(sum)).to_ne_bytes()
}

/// What a field becomes that holds a sum, not its complement, and is to hold `difference` more.
#[inline(always)]
pub const fn plus(field: [u8; 2], difference: u32) -> u32 {
    add(u16::from_ne_bytes(field) as u32, fold(difference) as u32)
}

/// [`Pkt::adjust_checksum`] where the checksum is complete.
#[must_use]
#[inline(always)]
pub fn adjust<P: Pkt>(pkt: &mut P, offset: u32, difference: u32, keep_zero: bool) -> bool {
    let Some(old) = pkt.load(offset) else { return false };
    if keep_zero && old == [0; 2] {
        return true;
    }
    let new = apply(old, difference);
    pkt.store(offset, if keep_zero && new == [0; 2] { &[0xff; 2] } else { &new })
}

/// Whether a checksum field may hold what sums up to `sum`: one's complement has two zeros.
#[inline(always)]
pub const fn holds(field: [u8; 2], sum: u32) -> bool {
    let difference = fold(add(u16::from_ne_bytes(field) as u32, !(fold(sum) as u32)));
    difference == 0 || difference == 0xffff
}

/// New minus old, for a pair of addresses.
#[inline(always)]
pub(crate) fn difference<A: Address>(old_a: &A, old_b: &A, new_a: &A, new_b: &A) -> u32 {
    add(add(new_a.sum(), new_b.sum()), !add(old_a.sum(), old_b.sum()))
}

/// New minus old, for one 32-bit word.
#[inline(always)]
pub(crate) const fn word_difference(old: [u8; 4], new: [u8; 4]) -> u32 {
    add(u32::from_ne_bytes(new), !u32::from_ne_bytes(old))
}
