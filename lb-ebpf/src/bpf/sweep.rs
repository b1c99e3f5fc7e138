//! The sweep's walk. Run by the agent through prog-test-run, in process context: a walk that deletes inside its
//! callback may take milliseconds, with bottom halves on.

use core::ffi::c_void;
use core::ptr::addr_of_mut;

use aya_ebpf::helpers::{bpf_for_each_map_elem, bpf_ktime_get_ns};
use lb_common::{FlowKey, FlowValue, SweepReport};
use lb_ebpf::env::{Env, FlowTable};
use lb_ebpf::family::Family;

use super::cuts::Cuts;
use super::env::{Entry, Kernel};
use super::maps::{Maps, STATE, SWEEP};

const KERNEL: Kernel = Kernel::alone();

/// Walks both tables of a family and adds to the report in the map `sweep`, which user space has zeroed.
#[inline(always)]
pub(crate) fn run<A: Maps + Family + Cuts>() -> Option<()> {
    let report = SWEEP.get_ptr_mut(0)?;
    // SAFETY: one run at a time; the agent that started it is the only reader. The coarse clock of the packet programs,
    // which this kind of program may not call, is at most a tick behind.
    unsafe { (*report).began = bpf_ktime_get_ns() };
    let flows = core::ptr::from_ref(A::flows()).cast_mut().cast::<c_void>();
    // SAFETY: map pointers and a callback of the type that the helper calls.
    unsafe { bpf_for_each_map_elem(flows, visit_main::<A> as *mut c_void, core::ptr::null_mut(), 0) };
    if !Env::<A>::lru_used(&KERNEL) {
        return Some(());
    }
    walk_lru::<A>();
    // SAFETY: as above.
    if unsafe { (*report).lru_left } == 0 {
        // An insertion says that the table is in use before and after it inserts, and may do both between the walk and
        // this store: a second walk finds its entry.
        let state = STATE.get_ptr_mut(0)?;
        // SAFETY: one aligned store to a value of the array.
        unsafe { addr_of_mut!((*state).lru_used[A::INDEX]).write_volatile(0) };
        walk_lru::<A>();
        // SAFETY: as above.
        if unsafe { (*report).lru_left } != 0 {
            Env::<A>::use_lru(&KERNEL);
        }
    }
    Some(())
}

#[inline(always)]
fn walk_lru<A: Maps + Family + Cuts>() {
    let lru = core::ptr::from_ref(A::flows_lru()).cast_mut().cast::<c_void>();
    // SAFETY: as in `run`.
    unsafe { bpf_for_each_map_elem(lru, visit_lru::<A> as *mut c_void, core::ptr::null_mut(), 0) };
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
    let Some(report) = SWEEP.get_ptr_mut(0) else {
        return 1;
    };
    // SAFETY: the helper passes pointers to the element's key and value; the key is copied at once. The report is ours
    // alone while the walk runs.
    let (key, report): (_, &mut SweepReport) = unsafe { (*key, &mut *report) };
    let mut copy = FlowValue::default();
    lb_ebpf::sweep::visit(&KERNEL, table, &key, Entry(value), &mut copy, report);
    0
}
