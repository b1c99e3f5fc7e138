//! Outcomes as numbers.
//!
//! The programs are cut into functions that the kernel verifies once, each by itself, instead of anew for every way that
//! leads to them. Such a function returns a 32-bit number and shares nothing but memory with its caller.

use lb_common::Reason;

/// An outcome that fits a byte, and so can cross a cut.
pub trait Outcome: Copy {
    /// The outcome as a byte.
    fn byte(self) -> u8;
    /// The outcome of this byte.
    fn of(byte: u8) -> Option<Self>;
}

/// Declares an enum whose variants are numbered, with both conversions.
macro_rules! outcome {
    ($(#[$attribute:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$attribute])*
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$doc])* $variant = $number,)+ }

        impl $crate::cut::Outcome for $name {
            #[inline(always)]
            fn byte(self) -> u8 {
                self as u8
            }

            #[inline(always)]
            fn of(byte: u8) -> Option<Self> {
                match byte { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

pub(crate) use outcome;

/// Marks the number of a success.
const SUCCESS: u32 = 0x100;

/// `result` as a number.
#[inline(always)]
pub fn number<T: Outcome>(result: Result<T, Reason>) -> u32 {
    match result {
        Ok(outcome) => SUCCESS | u32::from(outcome.byte()),
        Err(reason) => u32::from(reason as u8),
    }
}

/// The result with this number; what is none has failed.
#[inline(always)]
pub fn result<T: Outcome>(number: u32) -> Result<T, Reason> {
    let [byte, ..] = number.to_le_bytes();
    if number & SUCCESS != 0 {
        T::of(byte).ok_or(Reason::FlowError)
    } else {
        Err(Reason::from_number(byte).unwrap_or(Reason::FlowError))
    }
}
