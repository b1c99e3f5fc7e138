//! Sluice's eBPF programs. An entry point converts; the library decides.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the target has no other atomic operations")
)]

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, classifier, raw_tracepoint, xdp};
    use aya_ebpf::programs::{RawTracePointContext, SockAddrContext, SockContext, TcContext, XdpContext};
    use lb_common::{Addr4, Addr6, Point};
    use lb_ebpf::verdict::Verdict;

    use crate::bpf::sock::Hook;
    use crate::bpf::{Driver, Hook as _, Kernel, frame::Frame, skb::Skb, sock, sweep};

    #[inline(always)]
    fn classify(ctx: &TcContext, point: Point) -> i32 {
        let mut skb = Skb::new(ctx.skb.skb);
        let verdict = lb_ebpf::stage::classify(&mut skb, &Kernel::of(ctx.skb.skb), point);
        skb.conclude(verdict)
    }

    #[inline(always)]
    fn classify_bare(ctx: &TcContext, point: Point) -> i32 {
        let mut skb = Skb::new(ctx.skb.skb);
        let kind = skb.kind();
        let verdict = lb_ebpf::stage::classify_bare(&mut skb, &Kernel::of(ctx.skb.skb), kind, point);
        skb.conclude_bare(verdict)
    }

    /// tcx ingress of an interface that faces a pod.
    #[classifier]
    #[inline(always)]
    fn pod_ingress(ctx: TcContext) -> i32 {
        classify(&ctx, Point::PodIngress)
    }

    /// tcx egress of an interface that faces a pod.
    #[classifier]
    #[inline(always)]
    fn pod_egress(ctx: TcContext) -> i32 {
        classify(&ctx, Point::PodEgress)
    }

    /// tcx ingress of an uplink or overlay.
    #[classifier]
    #[inline(always)]
    fn outward_ingress(ctx: TcContext) -> i32 {
        classify(&ctx, Point::OutwardIngress)
    }

    /// tcx egress of an uplink or overlay.
    #[classifier]
    #[inline(always)]
    fn outward_egress(ctx: TcContext) -> i32 {
        classify(&ctx, Point::OutwardEgress)
    }

    /// tcx ingress of an uplink or overlay where packets have no link-layer header.
    #[classifier]
    #[inline(always)]
    fn bare_ingress(ctx: TcContext) -> i32 {
        classify_bare(&ctx, Point::OutwardIngress)
    }

    /// tcx egress of such a one.
    #[classifier]
    #[inline(always)]
    fn bare_egress(ctx: TcContext) -> i32 {
        classify_bare(&ctx, Point::OutwardEgress)
    }

    /// tcx ingress of both, behind all other programs: what is for a pod of this node goes past the host stack.
    #[classifier]
    #[inline(always)]
    fn pod_shortcut(ctx: TcContext) -> i32 {
        let mut skb = Skb::new(ctx.skb.skb);
        let verdict = lb_ebpf::stage::shortcut(&mut skb, &Kernel::of(ctx.skb.skb));
        skb.conclude(verdict)
    }

    /// XDP of an uplink, before its tcx ingress. It is told of frames in several pieces, and leaves them alone: else drivers
    /// refuse it where packets may be long.
    #[xdp(frags)]
    #[inline(always)]
    fn uplink_xdp(ctx: XdpContext) -> u32 {
        let mut frame = Frame::new(ctx.ctx);
        let verdict = if frame.is_whole() {
            lb_ebpf::stage::early(&mut frame, &Driver::of(ctx.ctx))
        } else {
            Verdict::Pass
        };
        frame.conclude(verdict)
    }

    /// `connect` of IPv4 sockets.
    #[cgroup_sock_addr(connect4)]
    fn connect4(ctx: SockAddrContext) -> i32 {
        sock::call4(&ctx, Hook::Connect)
    }

    /// `sendmsg` of IPv4 sockets.
    #[cgroup_sock_addr(sendmsg4)]
    fn sendmsg4(ctx: SockAddrContext) -> i32 {
        sock::call4(&ctx, Hook::Sendmsg)
    }

    /// `recvmsg` of IPv4 sockets.
    #[cgroup_sock_addr(recvmsg4)]
    fn recvmsg4(ctx: SockAddrContext) -> i32 {
        sock::call4(&ctx, Hook::Recvmsg)
    }

    /// `getpeername` of IPv4 sockets.
    #[cgroup_sock_addr(getpeername4)]
    fn getpeername4(ctx: SockAddrContext) -> i32 {
        sock::call4(&ctx, Hook::Getpeername)
    }

    /// `connect` of IPv6 sockets.
    #[cgroup_sock_addr(connect6)]
    fn connect6(ctx: SockAddrContext) -> i32 {
        sock::call6(&ctx, Hook::Connect)
    }

    /// `sendmsg` of IPv6 sockets.
    #[cgroup_sock_addr(sendmsg6)]
    fn sendmsg6(ctx: SockAddrContext) -> i32 {
        sock::call6(&ctx, Hook::Sendmsg)
    }

    /// `recvmsg` of IPv6 sockets.
    #[cgroup_sock_addr(recvmsg6)]
    fn recvmsg6(ctx: SockAddrContext) -> i32 {
        sock::call6(&ctx, Hook::Recvmsg)
    }

    /// `getpeername` of IPv6 sockets.
    #[cgroup_sock_addr(getpeername6)]
    fn getpeername6(ctx: SockAddrContext) -> i32 {
        sock::call6(&ctx, Hook::Getpeername)
    }

    /// `bind` of IPv4 sockets; attached on demand.
    #[cgroup_sock_addr(bind4)]
    fn bind4(ctx: SockAddrContext) -> i32 {
        sock::call4(&ctx, Hook::Bind)
    }

    /// `bind` of IPv6 sockets; attached on demand.
    #[cgroup_sock_addr(bind6)]
    fn bind6(ctx: SockAddrContext) -> i32 {
        sock::call6(&ctx, Hook::Bind)
    }

    /// The end of a socket.
    #[cgroup_sock(sock_release)]
    fn sock_release(ctx: SockContext) -> i32 {
        sock::release(&ctx)
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
