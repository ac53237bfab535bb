//! Micro-kernels for AVX-512: 14 rows by 32 columns, 28 of the 32 registers accumulate.
//!
//! A step of the sum loads two vectors of the panel, broadcasts one float per row and issues two
//! FMAs for it: 28 FMAs for 16 loads, so the FMA units are the limit. Fewer rows (tails) and one
//! vector (narrow panels) are the same code with other constants.

use std::arch::x86_64::*;

use super::linked::linked_sums;
use super::micro::{Linked, Outer, Tile, limits};
use crate::rows::{each_row, with_rows};
use crate::simd::fetch;

/// Rows of a full tile, and the row length of `Tile::rows`.
const MR: usize = 14;

/// See [`super::micro::tile`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile(m: usize, tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { if tile.cols > 16 { with_rows!(m, tile_of, 2, tile) } else { with_rows!(m, tile_of, 1, tile) } }
}

/// See [`super::micro::outer`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn outer(m: usize, outer: &Outer) {
    // SAFETY: the caller's promise.
    unsafe { with_rows!(m, outer_of, 2, outer) }
}

/// See [`super::micro::linked`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn linked(m: usize, linked: &Linked) {
    // SAFETY: the caller's promise.
    unsafe { with_rows!(m, linked_of, 2, linked) }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const M: usize, const V: usize>(t: &Tile) {
    // SAFETY: the pointers are valid as `Tile` describes; masks keep to `cols` columns.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; M];
        let mut panel = t.panel;
        for tap in 0..t.taps {
            let mut rows = [std::ptr::null(); M];
            for r in 0..M {
                rows[r] = (*t.rows.add(tap * MR + r)).add(t.channel);
            }
            for k in 0..t.depth {
                let mut w = [_mm512_setzero_ps(); V];
                for v in 0..V {
                    w[v] = _mm512_loadu_ps(panel.add(16 * v));
                    _mm_prefetch::<_MM_HINT_T0>(panel.add(16 * v + 16 * 32).cast());
                }
                for r in 0..M {
                    let x = _mm512_set1_ps(*rows[r].add(k));
                    for v in 0..V {
                        acc[r][v] = _mm512_fmadd_ps(x, w[v], acc[r][v]);
                    }
                }
                panel = panel.add(16 * V);
            }
        }

        let (low, high) = limits(t.act);
        let (low, high) = (_mm512_set1_ps(low), _mm512_set1_ps(high));
        for v in 0..V {
            let mask = mask(t.cols - 16 * v);
            let bias = if t.bias.is_null() {
                _mm512_setzero_ps()
            } else {
                _mm512_maskz_loadu_ps(mask, t.bias.add(16 * v))
            };
            each_row!(M, R, {
                let at = *t.at.add(R) + 16 * v;
                let mut sum = _mm512_add_ps(acc[R][v], bias);
                if !t.residual.is_null() {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, t.residual.add(at)));
                }
                _mm512_mask_storeu_ps(t.y.add(at), mask, clamp(sum, low, high));
            });
        }
    }
}

linked_sums!(
    "avx512f",
    16,
    512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_add_ps,
    _mm512_fmadd_ps
);

#[target_feature(enable = "avx512f")]
unsafe fn outer_of<const M: usize, const V: usize>(t: &Outer) {
    // SAFETY: the pointers are valid as `Outer` describes.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; M];
        if !t.first {
            for r in 0..M {
                for v in 0..V {
                    acc[r][v] = _mm512_loadu_ps(t.dw.add(16 * (r * V + v)));
                }
            }
        }
        let mut a = t.a;
        for map in 0..t.maps {
            for row in 0..t.rows {
                let mut b = t.b.add(map * t.b_map + row * t.b_row);
                for _ in 0..t.pixels {
                    let mut x = [_mm512_setzero_ps(); V];
                    for v in 0..V {
                        x[v] = _mm512_loadu_ps(b.add(16 * v));
                    }
                    for r in 0..M {
                        let dy = _mm512_set1_ps(*a.add(r));
                        for v in 0..V {
                            acc[r][v] = _mm512_fmadd_ps(dy, x[v], acc[r][v]);
                        }
                    }
                    a = a.wrapping_add(t.a_pixel);
                    b = b.wrapping_add(t.b_pixel);
                }
            }
        }
        for r in 0..M {
            for v in 0..V {
                _mm512_storeu_ps(t.dw.add(16 * (r * V + v)), acc[r][v]);
            }
        }
    }
}

/// Mask of the first `cols` lanes.
#[inline]
fn mask(cols: usize) -> __mmask16 {
    if cols >= 16 { 0xffff } else { (1 << cols) - 1 }
}

/// Limits `x`; NaN passes, as max and min return their second operand when either is NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn clamp(x: __m512, low: __m512, high: __m512) -> __m512 {
    _mm512_min_ps(high, _mm512_max_ps(low, x))
}
