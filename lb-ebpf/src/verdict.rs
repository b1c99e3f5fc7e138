//! What becomes of a packet.

/// What the program that ran the datapath does with the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on as if the program had not been there; the packet may have been rewritten.
    Pass,
    /// Send the packet, rewritten, out of the interface by which it came.
    Redirect,
    /// Discard the packet.
    Drop,
}
