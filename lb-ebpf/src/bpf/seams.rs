//! [`Env`]: each seam calls the function that is cut there.

use lb_common::{Masquerade, Reason, Scratch};
use lb_ebpf::cut;
use lb_ebpf::env::Env;
use lb_ebpf::family::Family;
use lb_ebpf::flow::{Assured, Attempt, Contention, Made, Mended, Ousted};
use lb_ebpf::fragment::Met;
use lb_ebpf::parse::{self, Part};
use lb_ebpf::pkt::Pkt;
use lb_ebpf::route::Found;
use lb_ebpf::select::{Asker, Begun, Choice, Chosen, Pick, Range, Reached};
use lb_ebpf::stage::{Departed, Entered, Placed, Renewal};
use lb_ebpf::verdict::Verdict;

use super::around::{Driver, Kernel};
use super::cuts::{Cuts, FrameCuts, SkbCuts};
use super::maps::Maps;

/// The seams that all hooks have; of some, each hook has a function of its own.
macro_rules! common {
    ($cuts:ident) => {
        #[inline(always)]
        fn parse<P: Pkt>(&self, pkt: &P, scratch: &mut Scratch<A>) -> Result<Part, Reason> {
            // The walk along the headers of IPv6 is long; all of IPv4's parsing takes less than a call.
            if A::FAMILY == 4 {
                return parse::packet(pkt, scratch);
            }
            // SAFETY: a function of this object, called with the packet's own context and memory.
            cut::result(unsafe { <A as $cuts>::parse_cut(self.context(), scratch) })
        }

        #[inline(always)]
        fn place(&self, scratch: &mut Scratch<A>) -> Result<Placed, Reason> {
            // SAFETY: a function of this object, called with the packet's own context and memory.
            cut::result(unsafe { <A as $cuts>::place(self.context(), scratch) })
        }

        #[inline(always)]
        fn depart(&self, scratch: &mut Scratch<A>) -> Result<Departed, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::depart(scratch) })
        }

        #[inline(always)]
        fn oust(&self, scratch: &mut Scratch<A>) -> Result<Ousted, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::oust(scratch) })
        }

        #[inline(always)]
        fn reach(&self, proto: u8, asker: Asker, choice: &mut Choice<A>) -> Result<Reached, Reason> {
            // SAFETY: a function of this object, called with memory of its caller.
            cut::result(unsafe { A::reach(u32::from(proto), asker.number(), choice) })
        }

        #[inline(always)]
        fn begin(&self, scratch: &mut Scratch<A>) -> Result<Begun, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::begin(scratch) })
        }

        #[inline(always)]
        fn stick(&self, pick: Pick, choice: &mut Choice<A>) -> Result<Chosen, Reason> {
            // SAFETY: a function of this object, called with memory of its caller.
            cut::result(unsafe { A::stick(pick.number(), choice) })
        }

        #[inline(always)]
        fn make(&self, scratch: &mut Scratch<A>) -> Result<Made, Reason> {
            // SAFETY: a function of this object, called with the packet's own context and memory.
            cut::result(unsafe { <A as $cuts>::make(self.context(), scratch) })
        }

        #[inline(always)]
        fn attempt(&self, scratch: &mut Scratch<A>) -> Result<Attempt, Reason> {
            // SAFETY: a function of this object, called with the packet's own context and memory.
            cut::result(unsafe { <A as $cuts>::attempt(self.context(), scratch) })
        }

        #[inline(always)]
        fn contend(&self, scratch: &mut Scratch<A>) -> Result<Contention, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::contend(scratch) })
        }

        #[inline(always)]
        fn make_way(&self, scratch: &mut Scratch<A>) -> Result<Contention, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::make_way(scratch) })
        }

        #[inline(always)]
        fn meet(&self, scratch: &mut Scratch<A>) -> Result<Met, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::meet(scratch) })
        }

        #[inline(always)]
        fn renew(&self, scratch: &mut Scratch<A>) -> Result<Renewal, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::renew(scratch) })
        }

        #[inline(always)]
        fn turn_away<P: Pkt>(&self, _pkt: &mut P, reason: Reason, scratch: &mut Scratch<A>) -> Verdict {
            // SAFETY: as above.
            let number = unsafe { <A as $cuts>::turn_away(self.context(), u32::from(reason as u8), scratch) };
            cut::result(number).unwrap_or(Verdict::Drop)
        }

        #[inline(always)]
        fn assure(&self, scratch: &mut Scratch<A>) -> Result<Assured, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory, or the sweep's.
            cut::result(unsafe { A::assure(scratch) })
        }

        #[inline(always)]
        fn mend(&self, scratch: &mut Scratch<A>) -> Result<Mended, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::mend(scratch) })
        }

        #[inline(always)]
        fn masquerade(&self, scratch: &mut Scratch<A>) -> Result<Masquerade, Reason> {
            // SAFETY: as above, with the packet's own context.
            cut::result(unsafe { <A as $cuts>::masquerade(self.context(), scratch) })
        }

        #[inline(always)]
        fn range(&self, scratch: &mut Scratch<A>) -> Result<Range, Reason> {
            // SAFETY: a function of this object, called with the packet's own memory.
            cut::result(unsafe { A::range(scratch) })
        }

        #[inline(always)]
        fn reject<P: Pkt>(
            &self,
            _pkt: &mut P,
            reason: Reason,
            scratch: &mut Scratch<A>,
        ) -> Result<Verdict, Reason> {
            // SAFETY: as above, with the packet's own context.
            cut::result(unsafe { <A as $cuts>::reject(self.context(), u32::from(reason as u8), scratch) })
        }

        #[inline(always)]
        fn carry<P: Pkt>(&self, _pkt: &mut P, reason: Reason, scratch: &mut Scratch<A>) -> Verdict {
            // SAFETY: as above.
            let number = unsafe { <A as $cuts>::carry(self.context(), u32::from(reason as u8), scratch) };
            cut::result(number).unwrap_or(Verdict::Drop)
        }

        #[inline(always)]
        fn record<P: Pkt>(&self, _pkt: &P, reason: Reason, scratch: &mut Scratch<A>) {
            // SAFETY: as above. Whether there was room for a record does not matter to the packet.
            let _ = unsafe { <A as $cuts>::record(self.context(), u32::from(reason as u8), scratch) };
        }
    };
}

impl<A: Maps + Family + Cuts> Env<A> for Kernel {
    common!(SkbCuts);

    #[inline(always)]
    fn find_way<P: Pkt>(&self, _pkt: &P, scratch: &mut Scratch<A>) -> Result<Found, Reason> {
        // SAFETY: as above.
        cut::result(unsafe { A::find_way(self.context(), scratch) })
    }

    #[inline(always)]
    fn enter<P: Pkt>(&self, _pkt: &mut P, scratch: &mut Scratch<A>) -> Result<Entered, Reason> {
        // SAFETY: as above, with the packet's own context.
        cut::result(unsafe { A::enter(self.context(), scratch) })
    }

    #[inline(always)]
    fn portless<P: Pkt>(&self, _pkt: &mut P, scratch: &mut Scratch<A>) -> Result<Verdict, Reason> {
        // SAFETY: as above, with the packet's own context.
        cut::result(unsafe { A::portless(self.context(), scratch) })
    }
}

impl<A: Maps + Family + Cuts> Env<A> for Driver {
    common!(FrameCuts);

    #[inline(always)]
    fn shortcut<P: Pkt>(&self, _pkt: &P, scratch: &mut Scratch<A>) -> Result<Found, Reason> {
        // SAFETY: a function of this object, called with the packet's own context and memory.
        cut::result(unsafe { A::shortcut(self.context(), scratch) })
    }
}
