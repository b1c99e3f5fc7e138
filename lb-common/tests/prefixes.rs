//! Which addresses are in a range.

use lb_common::{Addr4, Addr6, Address, Config, Prefix};

/// The first address whose bit `at` is set, counted from the front, no other.
fn bit<const N: usize>(at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    if let Some(byte) = bytes.get_mut(at / 8) {
        *byte = 0x80 >> (at % 8);
    }
    bytes
}

#[test]
fn the_first_bits_decide() {
    for bits in 0..=u8::MAX {
        for at in 0..32 {
            let same = at >= usize::from(bits);
            assert_eq!(Addr4(bit(at)).shares(&Addr4::default(), bits), same, "{bits} bits, {at}");
        }
        for at in 0..128 {
            let same = at >= usize::from(bits);
            assert_eq!(Addr6(bit(at)).shares(&Addr6::default(), bits), same, "{bits} bits, {at}");
        }
        assert!(Addr4([7; 4]).shares(&Addr4([7; 4]), bits) && Addr6([7; 16]).shares(&Addr6([7; 16]), bits));
    }
}

#[test]
fn b73_a_range_of_no_bits_holds_nothing() {
    let mut config = Config::DEFAULT;
    assert!(!config.allocates(&Addr4::default()) && !config.allocates(&Addr6::default()));
    config.service_ranges4[7] = Prefix { addr: Addr4([10, 96, 0, 0]), bits: 12, pad: [0; 3] };
    assert!(config.allocates(&Addr4([10, 111, 1, 1])) && !config.allocates(&Addr4([10, 112, 0, 0])));
    assert!(!config.allocates(&Addr6([10; 16])));
}
