//! The checksum of SCTP (B46), updated, against the same computed bit by bit.

use lb_ebpf::crc32c;
use lb_ebpf::testing::wire;
use proptest::prelude::*;

#[test]
fn b46_the_checksum_is_the_one_of_the_standard() {
    // RFC 3720, B.4.
    assert_eq!(wire::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(wire::crc32c(b"123456789"), 0xe306_9283);
}

/// What the change of the first four bytes makes of the checksum.
fn updated(message: &[u8], old: [u8; 4], new: [u8; 4]) -> u32 {
    let pattern = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
    wire::crc32c(message)
        ^ crc32c::difference(pattern, u32::try_from(message.len()).expect("a length"), crc32c::multiply)
}

#[test]
fn b46_every_length_of_a_packet() {
    // By linearity patterns of one bit stand for all. Each length has one zero byte more than the one before.
    let mut plain = [0, 7, 13, 31].map(|bit| {
        let pattern = 1_u32 << bit;
        (pattern, wire::crc32c(&pattern.to_le_bytes()) ^ wire::crc32c(&[0; 4]))
    });
    for length in 4..=66_000 {
        for (pattern, crc) in &mut plain {
            assert_eq!(
                *crc,
                crc32c::difference(*pattern, length, crc32c::multiply),
                "{pattern:#x} before {length} bytes"
            );
            for _ in 0..8 {
                *crc = if *crc & 1 == 0 { *crc >> 1 } else { *crc >> 1 ^ 0x82f6_3b78 };
            }
        }
    }
}

proptest! {
    #[test]
    fn b46_an_updated_checksum_is_the_computed_one(
        mut message in prop::collection::vec(any::<u8>(), 4..3000),
        new in any::<[u8; 4]>(),
    ) {
        let old = [message[0], message[1], message[2], message[3]];
        let expected = updated(&message, old, new);
        message[..4].copy_from_slice(&new);
        prop_assert_eq!(wire::crc32c(&message), expected);
    }
}
