//! Where the programs are cut. A function with a name of its own (a "global function", Linux 5.6) is verified once, for
//! any arguments; what is inlined is verified again for every path that leads to it. What the parts share lies in the
//! packet's [`Scratch`]; outcomes are numbers, see [`cut`].

use aya_ebpf::bindings::__sk_buff;
use lb_common::{Addr4, Addr6, Address, Reason, Scratch};
use lb_ebpf::{cut, flow, reject, tc};

use super::env::Kernel;
use super::skb::Skb;

macro_rules! cuts {
    ($($doc:literal $name:ident($($arg:ident: $ty:ty),*; $scratch:ident) = $v4:ident, $v6:ident, $body:expr;)+) => {
        /// The functions of one family.
        pub(crate) trait Cuts: Address {
            $(#[doc = $doc] unsafe fn $name($($arg: $ty,)* $scratch: *mut Scratch<Self>) -> u32;)+
        }

        cuts!(@family Addr4: $($name($($arg: $ty),*; $scratch) = $v4, $body;)+);
        cuts!(@family Addr6: $($name($($arg: $ty),*; $scratch) = $v6, $body;)+);
    };
    (@family $family:ty: $($name:ident($($arg:ident: $ty:ty),*; $scratch:ident) = $symbol:ident, $body:expr;)+) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            unsafe extern "C" fn $symbol($($arg: $ty,)* $scratch: *mut Scratch<$family>) -> u32 {
                // SAFETY: the caller passes its exclusive memory; the verifier asks for the null check.
                let Some($scratch) = (unsafe { $scratch.as_mut() }) else { return 0 };
                $body
            }
        )+

        impl Cuts for $family {
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $ty,)* $scratch: *mut Scratch<Self>) -> u32 {
                    // SAFETY: the caller's promise.
                    unsafe { $symbol($($arg,)* $scratch) }
                }
            )+
        }
    };
}

cuts! {
    "[`tc::place`]."
    place(; scratch) = place4, place6, cut::number(tc::place(&Kernel::alone(), scratch));
    "[`tc::clear`]."
    clear(; scratch) = clear4, clear6, cut::number(tc::clear(&Kernel::alone(), scratch));
    "[`flow::make`]."
    make(; scratch) = make4, make6, cut::number(flow::make(&Kernel::alone(), scratch));
    "[`flow::attempt`]."
    attempt(; scratch) = attempt4, attempt6, cut::number(flow::attempt(&Kernel::alone(), scratch));
    "[`flow::contend`]."
    contend(; scratch) = contend4, contend6, cut::number(flow::contend(&Kernel::alone(), scratch));
    "[`reject::answer`]."
    reject(skb: *mut __sk_buff, reason: u32; scratch) = reject4, reject6,
        match Reason::from_number(reason as u8) {
            Some(reason) => cut::number(reject::answer(&mut Skb::new(skb), &Kernel::of(skb), reason, scratch)),
            None => u32::MAX,
        };
}
