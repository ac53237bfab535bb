//! The lanes of AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::lanes::Lanes;
use crate::simd::Bounds;

// In both types `max(low, v)` returns `v` when either is NaN: see `Bounds`.

#[allow(unsafe_op_in_unsafe_fn)] // one intrinsic a function, under the trait's contract
impl Lanes for __m256 {
    const COUNT: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        _mm256_setzero_ps()
    }
    #[inline(always)]
    unsafe fn load<const FULL: bool>(from: *const f32, n: usize) -> Self {
        if FULL { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, first(n)) }
    }
    #[inline(always)]
    unsafe fn store<const FULL: bool>(self, to: *mut f32, n: usize) {
        if FULL { _mm256_storeu_ps(to, self) } else { _mm256_maskstore_ps(to, first(n), self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm256_add_ps(self, other)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        _mm256_fmadd_ps(self, factor, term)
    }
    #[inline(always)]
    unsafe fn clamp(self, bounds: Bounds) -> Self {
        let v = _mm256_max_ps(_mm256_set1_ps(bounds.low), self);
        _mm256_min_ps(_mm256_set1_ps(bounds.high), v)
    }
}

/// A mask of the first `n` of eight lanes.
#[inline(always)]
#[allow(unsafe_op_in_unsafe_fn)]
unsafe fn first(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

#[allow(unsafe_op_in_unsafe_fn)] // one intrinsic a function, under the trait's contract
impl Lanes for __m512 {
    const COUNT: usize = 16;
    #[inline(always)]
    unsafe fn zero() -> Self {
        _mm512_setzero_ps()
    }
    #[inline(always)]
    unsafe fn load<const FULL: bool>(from: *const f32, n: usize) -> Self {
        if FULL { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps((1 << n) - 1, from) }
    }
    #[inline(always)]
    unsafe fn store<const FULL: bool>(self, to: *mut f32, n: usize) {
        if FULL { _mm512_storeu_ps(to, self) } else { _mm512_mask_storeu_ps(to, (1 << n) - 1, self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        _mm512_add_ps(self, other)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        _mm512_fmadd_ps(self, factor, term)
    }
    #[inline(always)]
    unsafe fn clamp(self, bounds: Bounds) -> Self {
        let v = _mm512_max_ps(_mm512_set1_ps(bounds.low), self);
        _mm512_min_ps(_mm512_set1_ps(bounds.high), v)
    }
}
