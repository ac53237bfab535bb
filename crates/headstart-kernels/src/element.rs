//! What maps are stored as: f32, or bf16 in the bits of a `u16`. Kernels that wait for memory take either and compute
//! in f32.

use crate::half::bf16::{round, widen};

/// A stored number.
///
/// # Safety
/// Any bits are a value.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// Not a number.
    const NAN: Self;

    /// Returns the number, exactly.
    fn get(self) -> f32;

    /// Rounds a number to the nearest that can be stored, ties to even.
    fn put(x: f32) -> Self;
}

// SAFETY: a plain float.
unsafe impl Element for f32 {
    const NAN: f32 = f32::NAN;

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn put(x: f32) -> f32 {
        x
    }
}

// SAFETY: a plain integer.
unsafe impl Element for u16 {
    const NAN: u16 = 0x7fc0;

    #[inline(always)]
    fn get(self) -> f32 {
        widen(self)
    }

    #[inline(always)]
    fn put(x: f32) -> u16 {
        round(x)
    }
}
