//! The bf16 micro-kernel: 14 pixels by 32 channels, a step multiplies a pair of channels of each.
//!
//! The sums are those of `narrow/avx512.rs`, by `vdpbf16ps`. They start from the bias, which saves an addition after
//! short ones (1x1 layers).

use std::arch::x86_64::*;
use std::mem::transmute;

use crate::narrow::avx512::{AHEAD, LINE, add_products};
use crate::narrow::{ROWS, Tile};
use crate::rows::{each_row, with_rows};
use crate::simd::Bounds;

/// Computes a tile of `m` pixels; `bias` holds a float per channel of the group.
///
/// # Safety
/// That of [`crate::narrow::Kernel::tile`], with as many biases as channels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn tile(m: usize, t: &Tile<u16>, bias: &[f32], bounds: Bounds) {
    let bias = bias[t.column..][..t.cols].as_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        if t.cols > 16 {
            with_rows!(m, tile_of, 2, (t, bias, bounds))
        } else {
            with_rows!(m, tile_of, 1, (t, bias, bounds))
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn tile_of<const M: usize, const V: usize>((t, bias, bounds): (&Tile<u16>, *const f32, Bounds)) {
    // SAFETY: the pointers are valid as `Tile` describes; masks keep to `cols` columns.
    unsafe {
        let mask = ((1_u64 << t.cols) - 1) as u32;
        let mut acc = [[_mm512_setzero_ps(); V]; M];
        for v in 0..V {
            let bias = _mm512_maskz_loadu_ps((mask >> (16 * v)) as u16, bias.add(16 * v));
            each_row!(M, R, {
                acc[R][v] = bias;
            });
        }
        macro_rules! product {
            ($sum:expr, $x:expr, $w:expr) => {
                _mm512_dpbf16_ps($sum, pairs($x), pairs($w))
            };
        }
        add_products!(t, acc, M, V, product);

        let (low, high) = (_mm512_set1_ps(bounds.low), _mm512_set1_ps(bounds.high));
        // A bound that is NaN does not hold, see `Bounds`.
        let (rises, ends) = (!bounds.low.is_nan(), !bounds.high.is_nan());
        each_row!(M, R, {
            let at = *t.at.add(R);
            if !t.residual.is_null() {
                for v in 0..V {
                    let mask = (mask >> (16 * v)) as u16;
                    let half = _mm256_maskz_loadu_epi16(mask, t.residual.add(at + 16 * v).cast());
                    let term = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half));
                    acc[R][v] = _mm512_add_ps(acc[R][v], _mm512_castsi512_ps(term));
                }
            }
            // NaN passes, as max and min return their second operand when either is NaN.
            for v in 0..V {
                if rises {
                    acc[R][v] = _mm512_max_ps(low, acc[R][v]);
                }
                if ends {
                    acc[R][v] = _mm512_min_ps(high, acc[R][v]);
                }
            }
            let y = t.y.add(at).cast();
            if V == 2 {
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(acc[R][V - 1], acc[R][0]));
                _mm512_mask_storeu_epi16(y, mask, both);
            } else {
                let half = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(acc[R][0]));
                _mm256_mask_storeu_epi16(y, mask as u16, half);
            }
        });
    }
}

/// The same bits, as the product instruction takes them.
#[inline(always)]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 plain bytes.
    unsafe { transmute(words) }
}
