//! What becomes of a packet.

use crate::cut::outcome;

outcome! {
    /// What the program that ran the datapath does with the packet.
    Verdict {
        /// Go on as if the program had not been there; the packet may have been rewritten.
        Pass = 0,
        /// Send the packet, rewritten, out of the interface by which it came.
        Redirect = 1,
        /// Discard the packet.
        Drop = 2,
        /// Send the packet, rewritten, out by the route that was found for it.
        Route = 3,
    }
}
