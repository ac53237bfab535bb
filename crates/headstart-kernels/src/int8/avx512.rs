//! The int8 micro-kernel: 14 pixels by 32 channels, a step multiplies four channels of each.
//!
//! The sums are those of `narrow/avx512.rs`; `vpdpbusd` adds four products of an unsigned and a
//! signed byte to an integer without saturating, so sums are exact. They start from the zero point's share.

use std::arch::x86_64::*;

use super::requant::Finish;
use crate::narrow::avx512::{AHEAD, LINE, add_products};
use crate::narrow::{ROWS, Tile};
use crate::rows::{each_row, with_rows};

/// Computes a tile of `m` pixels; `finish` is that of the group's channels.
///
/// # Safety
/// That of [`crate::narrow::Kernel::tile`], and `finish` has as many channels as the group.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) unsafe fn tile(m: usize, t: &Tile<u8>, finish: &Finish) {
    assert!(t.column + t.cols <= finish.start.len(), "channels and panel differ");
    // SAFETY: the caller's promise.
    unsafe {
        if t.cols > 16 {
            with_rows!(m, tile_of, 2, (t, finish))
        } else {
            with_rows!(m, tile_of, 1, (t, finish))
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_of<const M: usize, const V: usize>((t, finish): (&Tile<u8>, &Finish)) {
    // SAFETY: the pointers are valid as `Tile` describes; masks keep to `cols` columns.
    unsafe {
        let masks = ((1_u64 << t.cols) - 1) as u32;
        let mut acc = [[_mm512_setzero_si512(); V]; M];
        for v in 0..V {
            let start = finish.start.as_ptr().add(t.column + 16 * v);
            let start = _mm512_maskz_loadu_epi32((masks >> (16 * v)) as u16, start);
            each_row!(M, R, {
                acc[R][v] = start;
            });
        }
        macro_rules! product {
            ($sum:expr, $x:expr, $w:expr) => {
                _mm512_dpbusd_epi32($sum, $x, $w)
            };
        }
        add_products!(t, acc, M, V, product);

        let (low, high) = (_mm512_set1_ps(finish.limits[0]), _mm512_set1_ps(finish.limits[1]));
        let (zero, ratio) = (_mm512_set1_epi32(finish.residual.0), _mm512_set1_ps(finish.residual.1));
        for v in 0..V {
            let mask = (masks >> (16 * v)) as u16;
            let scale = _mm512_maskz_loadu_ps(mask, finish.scale.as_ptr().add(t.column + 16 * v));
            let bias = _mm512_maskz_loadu_ps(mask, finish.bias.as_ptr().add(t.column + 16 * v));
            each_row!(M, R, {
                let at = *t.at.add(R) + 16 * v;
                let mut sum = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[R][v]), scale), bias);
                if !t.residual.is_null() {
                    let bytes = _mm_maskz_loadu_epi8(mask, t.residual.add(at).cast());
                    let steps = _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), zero);
                    sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_cvtepi32_ps(steps), ratio));
                }
                // Rounds to the nearest even, as the mode is by default.
                let rounded = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(sum, low), high));
                _mm_mask_storeu_epi8(t.y.add(at).cast(), mask, _mm512_cvtepi32_epi8(rounded));
            });
        }
    }
}
