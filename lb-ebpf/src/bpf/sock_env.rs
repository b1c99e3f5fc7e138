//! [`SockEnv`]: the tables of UDP translations, and the seams of the socket hooks.

use core::ops::Deref;

use aya_ebpf::bindings::BPF_ANY;
use lb_common::{Endpoint, Proto, Reason, SockCall, SockUdpKey, SockUdpValue};
use lb_ebpf::cut;
use lb_ebpf::family::Family;
use lb_ebpf::select::{Choice, Chosen};
use lb_ebpf::sock::{Directed, Recalled, Settled, Sock, SockEnv};

use super::around::Kernel;
use super::cuts::Cuts;
use super::maps::Maps;

/// An entry of a table of UDP translations, in place.
pub(crate) struct Translation<A>(*const SockUdpValue<A>);

impl<A> Deref for Translation<A> {
    type Target = SockUdpValue<A>;

    #[inline(always)]
    fn deref(&self) -> &SockUdpValue<A> {
        // SAFETY: an element of a preallocated map, mapped for the life of the map. What an eviction may put there
        // misdirects one datagram.
        unsafe { &*self.0 }
    }
}

impl<A: Maps + Family + Cuts> SockEnv<A> for Kernel {
    type SockUdp = Translation<A>;

    #[inline(always)]
    fn sock_udp(&self, key: &SockUdpKey<A>) -> Option<Translation<A>> {
        A::sock_udp().get_ptr(key).map(Translation)
    }

    #[inline(always)]
    fn insert_sock_udp(&self, key: &SockUdpKey<A>, value: &SockUdpValue<A>) -> bool {
        A::sock_udp().insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn delete_sock_udp(&self, key: &SockUdpKey<A>) {
        // Whether it was still there does not matter: it may have been evicted.
        let _ = A::sock_udp().remove(key);
    }

    #[inline(always)]
    fn direct<S: Sock>(
        &self,
        _sock: &S,
        connects: bool,
        endpoint: &mut Endpoint<A>,
    ) -> Result<Directed, Reason> {
        // SAFETY: a function of this object, called with the program's own context and memory.
        cut::result(unsafe { A::direct(self.context(), u32::from(connects), endpoint) })
    }

    #[inline(always)]
    fn refuse<S: Sock>(
        &self,
        _sock: &S,
        call: SockCall,
        _proto: Proto,
        reason: Reason,
        endpoint: &mut Endpoint<A>,
    ) {
        let number = u32::from_le_bytes([reason as u8, call as u8, 0, 0]);
        // The cut asks the socket for its protocol again: this stack is short.
        // SAFETY: as above. Whether it was recorded does not matter to the call.
        let _ = unsafe { A::refused(self.context(), number, endpoint) };
    }

    #[inline(always)]
    fn choose(&self, choice: &mut Choice<A>) -> Result<Chosen, Reason> {
        // SAFETY: a function of this object, called with memory of its caller.
        cut::result(unsafe { A::choose(choice) })
    }

    #[inline(always)]
    fn recall<S: Sock>(&self, _sock: &S, choice: &mut Choice<A>) -> Result<Recalled, Reason> {
        // SAFETY: as above, with the program's own context.
        cut::result(unsafe { A::recall(self.context(), choice) })
    }

    #[inline(always)]
    fn settle<S: Sock>(&self, _sock: &S, share: bool, choice: &mut Choice<A>) -> Result<Settled, Reason> {
        // SAFETY: as above.
        cut::result(unsafe { A::settle(self.context(), u32::from(share), choice) })
    }
}
