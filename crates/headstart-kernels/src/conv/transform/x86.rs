//! The transforms of each instruction set.

pub(super) mod avx512 {
    use std::arch::x86_64::*;

    use super::super::{AT_0, AT_P, AT_Q, P, P2, P3, Q, Q2, Q3, Sums};

    weights!(
        "avx512f",
        16,
        __m512,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps
    );
    maps!(
        "avx512f",
        16,
        __m512,
        f32,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_fnmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps
    );
}

/// Maps in bf16.
pub(super) mod half {
    use std::arch::x86_64::*;

    use super::super::{P, P2, P3, Q, Q2, Q3, Sums};

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn read(from: *const u16) -> __m512 {
        // SAFETY: the caller's promise.
        let values = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(values)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn write(to: *mut u16, values: __m512) {
        // SAFETY: both are 32 plain bytes.
        let half = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) };
        // SAFETY: there is room by the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), half) };
    }

    maps!(
        "avx512f,avx512bf16",
        16,
        __m512,
        u16,
        read,
        write,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_fnmadd_ps,
        _mm512_max_ps,
        _mm512_min_ps
    );
}

pub(super) mod avx2 {
    use std::arch::x86_64::*;

    use super::super::{AT_0, AT_P, AT_Q, P, P2, P3, Q, Q2, Q3, Sums};

    weights!(
        "avx2,fma",
        8,
        __m256,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
    maps!(
        "avx2,fma",
        8,
        __m256,
        f32,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        _mm256_fnmadd_ps,
        _mm256_max_ps,
        _mm256_min_ps
    );
}
