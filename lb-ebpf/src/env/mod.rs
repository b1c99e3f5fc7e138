//! What the datapath asks of the world around it, and where its programs are cut.
//!
//! The programs implement these traits over maps and helper calls, the tests over shared memory. Nothing here decides
//! anything.

mod tables;

use lb_common::{Address, Masquerade, Reason, Scratch};

use crate::event;
use crate::family::Family;
use crate::flow::{self, Assured, Attempt, Contention, Made, Mended, Ousted};
use crate::fragment::{self, Met};
use crate::icmp;
use crate::masquerade;
use crate::parse::{self, Part};
use crate::pkt::Pkt;
use crate::reject;
use crate::route::{self, Found};
use crate::select::{self, Asker, Begun, Choice, Chosen, Pick, Range, Reached};
use crate::stage::{self, Departed, Entered, Placed, Renewal};
use crate::verdict::Verdict;

pub use tables::{
    AffinityRef, BackendRef, FlowRef, FlowTable, Inserted, Note, ServiceRef, Sockets, Tables, Traffic, note,
};

/// The world, and the seams where the programs are cut (see [`crate::cut`]): each method is the function that its
/// documentation names, which the programs call as one that the kernel verifies by itself.
pub trait Env<A: Address>: Tables<A> {
    /// [`parse::packet`].
    #[inline(always)]
    fn parse<P: Pkt>(&self, pkt: &P, scratch: &mut Scratch<A>) -> Result<Part, Reason>
    where
        A: Family,
        Self: Sized,
    {
        parse::packet(pkt, scratch)
    }

    /// [`crate::stage::place`].
    #[inline(always)]
    fn place(&self, scratch: &mut Scratch<A>) -> Result<Placed, Reason>
    where
        Self: Sized,
    {
        stage::place(self, scratch)
    }

    /// [`crate::stage::depart`].
    #[inline(always)]
    fn depart(&self, scratch: &mut Scratch<A>) -> Result<Departed, Reason>
    where
        Self: Sized,
    {
        stage::depart(self, scratch)
    }

    /// [`crate::flow::oust`].
    #[inline(always)]
    fn oust(&self, scratch: &mut Scratch<A>) -> Result<Ousted, Reason>
    where
        Self: Sized,
    {
        flow::oust(self, scratch)
    }

    /// [`crate::select::reach`].
    #[inline(always)]
    fn reach(&self, proto: u8, asker: Asker, choice: &mut Choice<A>) -> Result<Reached, Reason>
    where
        Self: Sized,
    {
        select::reach(self, proto, asker, choice)
    }

    /// [`crate::select::begin`].
    #[inline(always)]
    fn begin(&self, scratch: &mut Scratch<A>) -> Result<Begun, Reason>
    where
        Self: Sized,
    {
        select::begin(self, scratch)
    }

    /// [`crate::select::stick`].
    #[inline(always)]
    fn stick(&self, pick: Pick, choice: &mut Choice<A>) -> Result<Chosen, Reason>
    where
        Self: Sized,
    {
        select::stick(self, pick, choice)
    }

    /// [`crate::flow::make`].
    #[inline(always)]
    fn make(&self, scratch: &mut Scratch<A>) -> Result<Made, Reason>
    where
        Self: Sized,
    {
        flow::make(self, scratch)
    }

    /// [`crate::flow::attempt`].
    #[inline(always)]
    fn attempt(&self, scratch: &mut Scratch<A>) -> Result<Attempt, Reason>
    where
        Self: Sized,
    {
        flow::attempt(self, scratch)
    }

    /// [`crate::flow::contend`].
    #[inline(always)]
    fn contend(&self, scratch: &mut Scratch<A>) -> Result<Contention, Reason>
    where
        Self: Sized,
    {
        flow::contend(self, scratch)
    }

    /// [`crate::flow::make_way`].
    #[inline(always)]
    fn make_way(&self, scratch: &mut Scratch<A>) -> Result<Contention, Reason>
    where
        Self: Sized,
    {
        flow::make_way(self, scratch)
    }

    /// [`fragment::meet`].
    #[inline(always)]
    fn meet(&self, scratch: &mut Scratch<A>) -> Result<Met, Reason>
    where
        Self: Sized,
    {
        fragment::meet(self, scratch)
    }

    /// [`crate::stage::carry`].
    #[inline(always)]
    fn carry<P: Pkt>(&self, pkt: &mut P, reason: Reason, scratch: &mut Scratch<A>) -> Verdict
    where
        A: Family,
        Self: Sized,
    {
        stage::carry(pkt, self, reason, scratch)
    }

    /// [`crate::stage::renew`].
    #[inline(always)]
    fn renew(&self, scratch: &mut Scratch<A>) -> Result<Renewal, Reason>
    where
        Self: Sized,
    {
        stage::renew(self, scratch)
    }

    /// [`crate::stage::turn_away`].
    #[inline(always)]
    fn turn_away<P: Pkt>(&self, pkt: &mut P, reason: Reason, scratch: &mut Scratch<A>) -> Verdict
    where
        A: Family,
        Self: Sized,
    {
        stage::turn_away(pkt, self, reason, scratch)
    }

    /// [`crate::flow::assure`].
    #[inline(always)]
    fn assure(&self, scratch: &mut Scratch<A>) -> Result<Assured, Reason>
    where
        Self: Sized,
    {
        flow::assure(self, scratch)
    }

    /// [`crate::flow::mend`].
    #[inline(always)]
    fn mend(&self, scratch: &mut Scratch<A>) -> Result<Mended, Reason>
    where
        Self: Sized,
    {
        flow::mend(self, scratch)
    }

    /// [`crate::select::range`].
    #[inline(always)]
    fn range(&self, scratch: &mut Scratch<A>) -> Result<Range, Reason>
    where
        Self: Sized,
    {
        select::range(self, scratch)
    }

    /// [`crate::masquerade::decide`].
    #[inline(always)]
    fn masquerade(&self, scratch: &mut Scratch<A>) -> Result<Masquerade, Reason>
    where
        Self: Sized,
    {
        masquerade::decide(self, scratch)
    }

    /// [`crate::route::find`].
    #[inline(always)]
    fn find_way<P: Pkt>(&self, pkt: &P, scratch: &mut Scratch<A>) -> Result<Found, Reason>
    where
        A: Family,
        Self: Sized,
    {
        route::find(pkt, self, scratch)
    }

    /// [`crate::route::shortcut`].
    #[inline(always)]
    fn shortcut<P: Pkt>(&self, pkt: &P, scratch: &mut Scratch<A>) -> Result<Found, Reason>
    where
        A: Family,
        Self: Sized,
    {
        route::shortcut(pkt, self, scratch)
    }

    /// [`crate::stage::enter`].
    #[inline(always)]
    fn enter<P: Pkt>(&self, pkt: &mut P, scratch: &mut Scratch<A>) -> Result<Entered, Reason>
    where
        A: Family,
        Self: Sized,
    {
        stage::enter(pkt, self, scratch)
    }

    /// [`crate::icmp::portless`].
    #[inline(always)]
    fn portless<P: Pkt>(&self, pkt: &mut P, scratch: &mut Scratch<A>) -> Result<Verdict, Reason>
    where
        A: Family,
        Self: Sized,
    {
        icmp::portless(pkt, self, scratch)
    }

    /// [`crate::reject::answer`].
    #[inline(always)]
    fn reject<P: Pkt>(&self, pkt: &mut P, reason: Reason, scratch: &mut Scratch<A>) -> Result<Verdict, Reason>
    where
        A: Family,
        Self: Sized,
    {
        reject::answer(pkt, self, reason, scratch)
    }

    /// [`crate::event::packet`].
    #[inline(always)]
    fn record<P: Pkt>(&self, pkt: &P, reason: Reason, scratch: &mut Scratch<A>)
    where
        Self: Sized,
    {
        event::packet(pkt, self, reason, scratch);
    }
}
