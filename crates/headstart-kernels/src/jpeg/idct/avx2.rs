//! The lanes as an AVX2 register.

use std::arch::x86_64::*;

use super::{Block, Lanes};

/// [`super::all`] in registers.
#[target_feature(enable = "avx2")]
pub(super) fn inverse(blocks: &[Block], quantizers: &[i32; 64], to: &mut [u8], stride: usize) {
    super::all::<Eight>(blocks, quantizers, to, stride);
}

/// Lives within [`inverse`] alone, whose callers have checked for AVX2: that is what makes each block below sound.
#[derive(Clone, Copy)]
struct Eight(__m256i);

impl Lanes for Eight {
    #[inline(always)]
    fn dequantized(coefficients: &[i16; 8], quantizers: &[i32; 8]) -> Self {
        // SAFETY: within `inverse`; the loads read 16 and 32 bytes, at any alignment.
        unsafe {
            let coefficients = _mm256_cvtepi16_epi32(_mm_loadu_si128(coefficients.as_ptr().cast()));
            Self(_mm256_mullo_epi32(coefficients, _mm256_loadu_si256(quantizers.as_ptr().cast())))
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: within `inverse`.
        unsafe { Self(_mm256_add_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: within `inverse`.
        unsafe { Self(_mm256_sub_epi32(self.0, other.0)) }
    }

    #[inline(always)]
    fn mul(self, factor: i32) -> Self {
        // SAFETY: within `inverse`.
        unsafe { Self(_mm256_mullo_epi32(self.0, _mm256_set1_epi32(factor))) }
    }

    #[inline(always)]
    fn shl<const DIGITS: i32>(self) -> Self {
        // SAFETY: within `inverse`.
        unsafe { Self(_mm256_slli_epi32::<DIGITS>(self.0)) }
    }

    #[inline(always)]
    fn rounded<const DIGITS: i32>(self) -> Self {
        // SAFETY: within `inverse`.
        unsafe {
            let half = _mm256_set1_epi32(1 << (DIGITS - 1));
            Self(_mm256_srai_epi32::<DIGITS>(_mm256_add_epi32(self.0, half)))
        }
    }

    /// Pairs of rows, then pairs of pairs, then halves.
    #[inline(always)]
    fn transposed(rows: [Self; 8]) -> [Self; 8] {
        let [a, b, c, d, e, f, g, h] = rows.map(|row| row.0);
        // SAFETY: within `inverse`.
        unsafe {
            let pairs = |p, q| (_mm256_unpacklo_epi32(p, q), _mm256_unpackhi_epi32(p, q));
            let fours = |p, q| (_mm256_unpacklo_epi64(p, q), _mm256_unpackhi_epi64(p, q));
            let halves =
                |p, q| (_mm256_permute2x128_si256::<0x20>(p, q), _mm256_permute2x128_si256::<0x31>(p, q));
            let ((ab0, ab1), (cd0, cd1)) = (pairs(a, b), pairs(c, d));
            let ((ef0, ef1), (gh0, gh1)) = (pairs(e, f), pairs(g, h));
            let ((a0, a1), (a2, a3)) = (fours(ab0, cd0), fours(ab1, cd1));
            let ((e0, e1), (e2, e3)) = (fours(ef0, gh0), fours(ef1, gh1));
            let ((r0, r4), (r1, r5)) = (halves(a0, e0), halves(a1, e1));
            let ((r2, r6), (r3, r7)) = (halves(a2, e2), halves(a3, e3));
            [Self(r0), Self(r1), Self(r2), Self(r3), Self(r4), Self(r5), Self(r6), Self(r7)]
        }
    }

    #[inline(always)]
    fn samples(rows: [Self; 8]) -> [[u8; 8]; 8] {
        let mut bytes = [[0; 8]; 8];
        let [a, b, c, d, e, f, g, h] = rows.map(|row| row.0);
        // SAFETY: within `inverse`; each store writes four rows of eight bytes.
        unsafe {
            let middle = _mm256_set1_epi16(128);
            let words = |p, q| _mm256_adds_epi16(_mm256_packs_epi32(p, q), middle);
            // Packing works on the two halves of a register by themselves: even dwords hold left halves, odd ones right halves.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let four = |p, q| _mm256_permutevar8x32_epi32(_mm256_packus_epi16(p, q), order);
            let (top, bottom) = (four(words(a, b), words(c, d)), four(words(e, f), words(g, h)));
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), top);
            _mm256_storeu_si256(bytes.as_mut_ptr().add(4).cast(), bottom);
        }
        bytes
    }
}
