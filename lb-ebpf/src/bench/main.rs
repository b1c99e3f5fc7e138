//! The eBPF programs of `sluice bench`: an object of its own, which the agent never loads.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod frame;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
    use aya_ebpf::btf_maps::{PerCpuArray, ProgramArray};
    use aya_ebpf::helpers::bpf_redirect;
    use aya_ebpf::macros::{btf_map, classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use lb_common::generator;

    use crate::frame;

    /// What a program returns that decides nothing, and so leaves tcx to the next one.
    const TCX_NEXT: i32 = -1;

    #[btf_map(name = "targets_tc")]
    static TARGETS_TC: ProgramArray<{ generator::TARGETS as usize }> = ProgramArray::new();
    #[btf_map(name = "targets_xdp")]
    static TARGETS_XDP: ProgramArray<{ generator::TARGETS as usize }> = ProgramArray::new();

    /// Frames that have arrived.
    #[btf_map(name = "counted")]
    static COUNTED: PerCpuArray<u64, 1> = PerCpuArray::new();

    /// One more has.
    #[inline(always)]
    fn arrived() {
        if let Some(count) = COUNTED.get_ptr_mut(0) {
            // SAFETY: this CPU's own word; what is hooked in here does not interrupt itself.
            unsafe { *count += 1 };
        }
    }

    /// Writes the next frame and hands it to the program under test, each time anew: that one rewrites it.
    #[classifier]
    fn drive_tc(ctx: TcContext) -> i32 {
        if let Some(target) = frame::write(ctx.data(), ctx.data_end()) {
            // SAFETY: nothing here has to be dropped.
            unsafe { TARGETS_TC.tail_call(&ctx, target) };
        }
        TC_ACT_SHOT
    }

    /// The same for programs of XDP. Such a one takes frames in parts only if whoever calls it does.
    #[xdp(frags)]
    fn drive_xdp(ctx: XdpContext) -> u32 {
        if let Some(target) = frame::write(ctx.data(), ctx.data_end()) {
            // SAFETY: nothing here has to be dropped.
            unsafe { TARGETS_XDP.tail_call(&ctx, target) };
        }
        xdp_action::XDP_ABORTED
    }

    /// Sends the next frame by the interface that the generator names. Frames come back from whoever received them with
    /// what he has changed, so all of it is written.
    #[xdp]
    fn generate(ctx: XdpContext) -> u32 {
        match frame::write(ctx.data(), ctx.data_end()) {
            // SAFETY: a helper that takes numbers only.
            Some(interface) => unsafe { bpf_redirect(interface, 0) as u32 },
            None => xdp_action::XDP_ABORTED,
        }
    }

    /// Counts frames, which go no further.
    #[xdp(frags)]
    fn count_xdp(_ctx: XdpContext) -> u32 {
        arrived();
        xdp_action::XDP_DROP
    }

    /// The same behind the host's receive path.
    #[classifier]
    fn count_tc(_ctx: TcContext) -> i32 {
        arrived();
        TC_ACT_SHOT
    }

    /// Sends frames back as they came: faster is nobody who rewrites them.
    #[xdp(frags)]
    fn bounce_xdp(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_TX
    }

    /// The same in tc.
    #[classifier]
    fn bounce_tc(ctx: TcContext) -> i32 {
        // SAFETY: a read of the context, and a helper that takes numbers only.
        unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) as i32 }
    }

    /// What all others are compared with.
    #[classifier]
    fn empty_tc(_ctx: TcContext) -> i32 {
        TCX_NEXT
    }

    /// The same of XDP.
    #[xdp(frags)]
    fn empty_xdp(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }
}

#[cfg(target_arch = "bpf")]
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this loop can be reached.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these programs run in the kernel: build them with `cargo xtask build`");
}
