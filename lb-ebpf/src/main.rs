//! Sluice's eBPF programs. An entry point converts; the library decides.
#![cfg_attr(
    target_arch = "bpf",
    no_std,
    no_main,
    feature(core_intrinsics),
    expect(internal_features)
)]

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::macros::{classifier, raw_tracepoint};
    use aya_ebpf::programs::{RawTracePointContext, TcContext};
    use lb_common::{Addr4, Addr6};

    use crate::bpf::{Kernel, skb::Skb, sweep};

    /// tcx ingress of an interface that faces a pod.
    #[classifier]
    #[inline(always)]
    fn pod_ingress(ctx: TcContext) -> i32 {
        let mut skb = Skb::new(ctx.skb.skb);
        let verdict = lb_ebpf::tc::pod_ingress(&mut skb, &Kernel::of(ctx.skb.skb));
        skb.conclude(verdict)
    }

    /// tcx egress of an interface that faces a pod.
    #[classifier]
    #[inline(always)]
    fn pod_egress(ctx: TcContext) -> i32 {
        let mut skb = Skb::new(ctx.skb.skb);
        let verdict = lb_ebpf::tc::pod_egress(&mut skb, &Kernel::of(ctx.skb.skb));
        skb.conclude(verdict)
    }

    /// Sweep of the IPv4 flow tables; never attached.
    #[raw_tracepoint]
    fn sweep4(_ctx: RawTracePointContext) -> i32 {
        sweep::run::<Addr4>().map_or(1, |()| 0)
    }

    /// Sweep of the IPv6 flow tables; never attached.
    #[raw_tracepoint]
    fn sweep6(_ctx: RawTracePointContext) -> i32 {
        sweep::run::<Addr6>().map_or(1, |()| 0)
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
