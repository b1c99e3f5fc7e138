//! The sweep's walk. Run by the agent through prog-test-run, in process context: a walk that deletes inside its
//! callback may take milliseconds, with bottom halves on.

use core::ffi::c_void;
use core::ops::{Deref, DerefMut};
use core::ptr::null_mut;

use aya_ebpf::helpers::{bpf_for_each_map_elem, bpf_ktime_get_ns};
use lb_common::{FlowKey, FlowValue, SweepReport};
use lb_ebpf::env::FlowTable;
use lb_ebpf::family::Family;
use lb_ebpf::sweep::{self, Walk};

use super::around::Kernel;
use super::cuts::Cuts;
use super::in_place::Entry;
use super::maps::{Maps, SWEEP};

const KERNEL: Kernel = Kernel::alone();

/// Sweeps both tables of a family; the report is in the map `sweep`.
#[inline(always)]
pub(crate) fn run<A: Maps + Family + Cuts>() -> Option<()> {
    sweep::run::<A, Kernel>(&KERNEL)
}

/// The report in the map.
pub(crate) struct Report(*mut SweepReport);

impl Deref for Report {
    type Target = SweepReport;

    #[inline(always)]
    fn deref(&self) -> &SweepReport {
        // SAFETY: a value of the array `sweep`; one run at a time, and the agent that started it is the only reader.
        unsafe { &*self.0 }
    }
}

impl DerefMut for Report {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut SweepReport {
        // SAFETY: as above.
        unsafe { &mut *self.0 }
    }
}

impl<A: Maps + Family + Cuts> Walk<A> for Kernel {
    type Report = Report;

    #[inline(always)]
    fn clock(&self) -> u64 {
        // SAFETY: a helper without arguments. The coarse clock of the packet programs, which this kind of program may
        // not call, is at most a tick behind.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn report(&self) -> Option<Report> {
        SWEEP.get_ptr_mut(0).map(Report)
    }

    #[inline(always)]
    fn walk(&self, table: FlowTable) {
        match table {
            FlowTable::Main => {
                let flows = core::ptr::from_ref(A::flows()).cast_mut().cast::<c_void>();
                // SAFETY: map pointers and a callback of the type that the helper calls.
                unsafe { bpf_for_each_map_elem(flows, visit_main::<A> as *mut c_void, null_mut(), 0) };
            }
            FlowTable::Lru => {
                let lru = core::ptr::from_ref(A::flows_lru()).cast_mut().cast::<c_void>();
                // SAFETY: as above.
                unsafe { bpf_for_each_map_elem(lru, visit_lru::<A> as *mut c_void, null_mut(), 0) };
            }
        }
    }
}

unsafe extern "C" fn visit_main<A: Maps + Family + Cuts>(
    _map: *mut c_void,
    key: *const FlowKey<A>,
    value: *mut FlowValue<A>,
    _context: *mut c_void,
) -> i64 {
    visit(FlowTable::Main, key, value)
}

unsafe extern "C" fn visit_lru<A: Maps + Family + Cuts>(
    _map: *mut c_void,
    key: *const FlowKey<A>,
    value: *mut FlowValue<A>,
    _context: *mut c_void,
) -> i64 {
    visit(FlowTable::Lru, key, value)
}

#[inline(always)]
fn visit<A: Maps + Family + Cuts>(table: FlowTable, key: *const FlowKey<A>, value: *mut FlowValue<A>) -> i64 {
    let (Some(mut report), Some(scratch)) = (Walk::<A>::report(&KERNEL), A::scratch().get_ptr_mut(1)) else {
        return 1;
    };
    // SAFETY: the helper passes pointers to the element's key and value; the key is copied at once. Packets that
    // interrupt the walk have another record of scratch memory, and nobody else walks.
    let (key, scratch) = unsafe { (*key, &mut *scratch) };
    sweep::visit(&KERNEL, table, &key, Entry(value), scratch, &mut report);
    0
}
