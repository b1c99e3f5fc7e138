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

pub(crate) use shared;
