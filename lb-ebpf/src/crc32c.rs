//! CRC32c (RFC 9260, appendix A), updated for a change of the first bytes that it covers.
//!
//! A CRC is linear: when a message changes by a pattern of bits, its CRC changes by the CRC of that pattern alone, and
//! zeros behind the pattern multiply that by powers of x. So a change of the first word needs the length of the message
//! and nothing else of it.
//!
//! Polynomials over GF(2) modulo the CRC's are 32-bit words in reflected order: bit 31 is the coefficient of x^0.

/// x^32 modulo the polynomial.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `left * x`.
#[inline(always)]
const fn times_x(left: u32) -> u32 {
    (left >> 1) ^ (POLYNOMIAL & (left & 1).wrapping_neg())
}

/// `left * right`, polynomials as above. A seam where the programs are cut, see [`crate::cut`].
#[must_use]
#[inline(always)]
pub const fn multiply(left: u32, right: u32) -> u32 {
    let (mut left, mut right, mut product) = (left, right, 0);
    let mut bit = 0;
    while bit < 32 {
        product ^= left & (right >> 31).wrapping_neg();
        left = times_x(left);
        right <<= 1;
        bit += 1;
    }
    product
}

/// `x^(8 * 2^exponent)`.
const fn power(exponent: u32) -> u32 {
    // x^8.
    let mut power = 1 << 23;
    let mut i = 0;
    while i < exponent {
        power = multiply(power, power);
        i += 1;
    }
    power
}

/// What the CRC of a message of `length` bytes (fewer than 2^20) changes by (exclusive or) when its first four change
/// by `pattern` (exclusive or of old and new, as a little-endian number). `multiply` is [`multiply`].
#[must_use]
#[inline(always)]
pub fn difference(pattern: u32, length: u32, multiply: impl Fn(u32, u32) -> u32) -> u32 {
    let mut crc = pattern;
    // One by one: an array of the powers would be a map of its own.
    macro_rules! steps {
        ($($exponent:literal)+) => {
            $(if length >> $exponent & 1 != 0 {
                crc = multiply(crc, const { power($exponent) });
            })+
        };
    }
    steps!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
    crc
}
