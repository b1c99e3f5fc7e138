//! The one place that asserts that a type may cross the kernel boundary.

/// Declares types to be plain old data of exactly the size and alignment given.
///
/// For generic types bytemuck's derive cannot prove the absence of padding, so the size of each instance is compared
/// with the sum of its fields here.
macro_rules! shared {
    ($($ty:ty: size $size:literal, align $align:literal, fields [$($field:ty),+ $(,)?];)+) => {
        $(
            const _: () = assert!(core::mem::size_of::<$ty>() == $size, concat!("size of ", stringify!($ty)));
            const _: () = assert!(core::mem::align_of::<$ty>() == $align, concat!("alignment of ", stringify!($ty)));
            const _: () = assert!(
                0 $(+ core::mem::size_of::<$field>())+ == $size,
                concat!(stringify!($ty), " has implicit padding"),
            );
            // SAFETY: all fields are plain old data valid for any bits, and they fill the type without padding (asserted above).
            unsafe impl bytemuck::Zeroable for $ty {}
            // SAFETY: as above; the type is `repr(C)`, `Copy` and `'static`.
            unsafe impl bytemuck::Pod for $ty {}
            #[cfg(feature = "user")]
            // SAFETY: as above; this is aya's own name for the same property.
            unsafe impl aya::Pod for $ty {}
        )+
    };
}

/// Writes the last four bytes of a key as one word, which gives what `word` has in memory. Whoever reads a word soon after it was
/// written in parts, as the kernel does to hash a key, waits until these have come to the cache.
///
/// # Safety
/// `K` is `repr(C)`, aligned to four bytes and without padding, as [`shared!`] proves, and its last four bytes may be any.
#[inline(always)]
pub(crate) const unsafe fn write_last_word<K>(key: &mut K, word: u32) {
    let words = core::ptr::from_mut(key).cast::<u32>();
    // SAFETY: the caller's promise.
    unsafe { words.add(size_of::<K>() / 4 - 1).write(word) }
}

pub(crate) use shared;
