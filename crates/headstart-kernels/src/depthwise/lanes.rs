//! What the kernels ask of a vector, and the vector of one float.

use crate::simd::Bounds;

/// A vector of floats; loads and stores that are not `FULL` touch only the first `n`.
///
/// # Safety of all functions
/// The CPU has the type's instructions, and they inline into a function that enables them;
/// pointers are valid for `COUNT` floats, or for `n` where not `FULL`.
pub(super) trait Lanes: Copy {
    const COUNT: usize;
    unsafe fn zero() -> Self;
    unsafe fn load<const FULL: bool>(from: *const f32, n: usize) -> Self;
    unsafe fn store<const FULL: bool>(self, to: *mut f32, n: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    unsafe fn clamp(self, bounds: Bounds) -> Self;
}

impl Lanes for f32 {
    const COUNT: usize = 1;
    #[inline(always)]
    unsafe fn zero() -> Self {
        0.0
    }
    #[inline(always)]
    unsafe fn load<const FULL: bool>(from: *const f32, _: usize) -> Self {
        // SAFETY: valid by the trait's contract.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn store<const FULL: bool>(self, to: *mut f32, _: usize) {
        // SAFETY: valid by the trait's contract.
        unsafe { *to = self }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        self * factor + term
    }
    #[inline(always)]
    unsafe fn clamp(self, bounds: Bounds) -> Self {
        bounds.clamp(self)
    }
}
