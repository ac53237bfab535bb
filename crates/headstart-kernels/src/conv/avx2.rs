//! Micro-kernels for AVX2 and FMA: 6 rows by 16 columns, 12 of the 16 registers accumulate.
//!
//! The plan is that of `avx512.rs`; two panel vectors, one broadcast and twelve sums fill the file.

use std::arch::x86_64::*;

use super::linked::linked_sums;
use super::micro::{Linked, Outer, Tile, limits};
use crate::rows::{each_row, with_rows};
use crate::simd::fetch;

/// Rows of a full tile, and the row length of `Tile::rows`.
const MR: usize = 6;

/// See [`super::micro::tile`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile(m: usize, tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        if tile.cols > 8 {
            with_rows!(m, tile_of, 2, tile, up to 6)
        } else {
            with_rows!(m, tile_of, 1, tile, up to 6)
        }
    }
}

/// See [`super::micro::outer`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn outer(m: usize, outer: &Outer) {
    // SAFETY: the caller's promise.
    unsafe { with_rows!(m, outer_of, 2, outer, up to 6) }
}

/// See [`super::micro::linked`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn linked(m: usize, linked: &Linked) {
    // SAFETY: the caller's promise.
    unsafe { with_rows!(m, linked_of, 2, linked, up to 6) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const M: usize, const V: usize>(t: &Tile) {
    // SAFETY: the pointers are valid as `Tile` describes; masks keep to `cols` columns.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); V]; M];
        let mut panel = t.panel;
        for tap in 0..t.taps {
            let mut rows = [std::ptr::null(); M];
            for r in 0..M {
                rows[r] = (*t.rows.add(tap * MR + r)).add(t.channel);
            }
            for k in 0..t.depth {
                let mut w = [_mm256_setzero_ps(); V];
                for v in 0..V {
                    w[v] = _mm256_loadu_ps(panel.add(8 * v));
                }
                for r in 0..M {
                    let x = _mm256_broadcast_ss(&*rows[r].add(k));
                    for v in 0..V {
                        acc[r][v] = _mm256_fmadd_ps(x, w[v], acc[r][v]);
                    }
                }
                panel = panel.add(8 * V);
            }
        }

        let (low, high) = limits(t.act);
        let (low, high) = (_mm256_set1_ps(low), _mm256_set1_ps(high));
        for v in 0..V {
            let mask = mask(t.cols - 8 * v);
            let bias = if t.bias.is_null() {
                _mm256_setzero_ps()
            } else {
                _mm256_maskload_ps(t.bias.add(8 * v), mask)
            };
            each_row!(M, R, {
                let at = *t.at.add(R) + 8 * v;
                let mut sum = _mm256_add_ps(acc[R][v], bias);
                if !t.residual.is_null() {
                    sum = _mm256_add_ps(sum, _mm256_maskload_ps(t.residual.add(at), mask));
                }
                _mm256_maskstore_ps(t.y.add(at), mask, clamp(sum, low, high));
            });
        }
    }
}

linked_sums!(
    "avx2,fma",
    8,
    0,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_fmadd_ps
);

#[target_feature(enable = "avx2,fma")]
unsafe fn outer_of<const M: usize, const V: usize>(t: &Outer) {
    // SAFETY: the pointers are valid as `Outer` describes.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); V]; M];
        if !t.first {
            for r in 0..M {
                for v in 0..V {
                    acc[r][v] = _mm256_loadu_ps(t.dw.add(8 * (r * V + v)));
                }
            }
        }
        let mut a = t.a;
        for map in 0..t.maps {
            for row in 0..t.rows {
                let mut b = t.b.add(map * t.b_map + row * t.b_row);
                for _ in 0..t.pixels {
                    let mut x = [_mm256_setzero_ps(); V];
                    for v in 0..V {
                        x[v] = _mm256_loadu_ps(b.add(8 * v));
                    }
                    for r in 0..M {
                        let dy = _mm256_broadcast_ss(&*a.add(r));
                        for v in 0..V {
                            acc[r][v] = _mm256_fmadd_ps(dy, x[v], acc[r][v]);
                        }
                    }
                    a = a.wrapping_add(t.a_pixel);
                    b = b.wrapping_add(t.b_pixel);
                }
            }
        }
        for r in 0..M {
            for v in 0..V {
                _mm256_storeu_ps(t.dw.add(8 * (r * V + v)), acc[r][v]);
            }
        }
    }
}

/// Mask of the first `cols` lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(cols: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(cols.min(8) as i32), lanes)
}

/// Limits `x`; NaN passes, as max and min return their second operand when either is NaN.
#[inline]
#[target_feature(enable = "avx2")]
fn clamp(x: __m256, low: __m256, high: __m256) -> __m256 {
    _mm256_min_ps(high, _mm256_max_ps(low, x))
}
