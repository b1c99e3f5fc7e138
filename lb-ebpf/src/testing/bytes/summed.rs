//! What a buffer knows of its checksum.

/// What the buffer says about the checksum of its transport header (`skb->ip_summed`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Summed {
    /// The field holds the checksum, or nobody has said anything.
    None,
    /// The field holds the pseudo header's sum; the hardware adds the bytes from the transport header on.
    Partial {
        /// Where those bytes begin.
        start: usize,
        /// The field; the buffer cannot become so short that it is cut.
        field: usize,
        /// It is an Internet checksum; else a CRC, which is not modelled.
        internet: bool,
    },
    /// The field holds the checksum, and the hardware has summed everything from the network header on
    /// (`skb->csum`).
    Device(u16),
}

impl Summed {
    /// So many bytes were inserted before what it covers.
    pub(super) const fn push_back(&mut self, bytes: usize) {
        if let Self::Partial { start, field, .. } = self {
            *start += bytes;
            *field += bytes;
        }
    }

    /// So many were taken away.
    pub(super) const fn pull(&mut self, bytes: usize) {
        if let Self::Partial { start, field, .. } = self {
            *start -= bytes;
            *field -= bytes;
        }
    }
}
