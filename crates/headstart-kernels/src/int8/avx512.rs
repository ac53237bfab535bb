//! The int8 micro-kernel: 14 pixels by 32 channels, a step multiplies four channels of each.
//!
//! The plan of registers is that of `half/avx512.rs`; `vpdpbusd` adds four products of an unsigned and a
//! signed byte to an integer without saturating, so sums are exact. They start from the zero point's share.

use std::arch::x86_64::*;

use super::requant::Finish;
use crate::narrow::{ROWS, Tile, each_row, with_rows};

/// Words between the weights in use and those asked for from L2.
const AHEAD: usize = 16 * 32;

/// Words of a cache line.
const LINE: usize = 16;

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
        // The lines the end of the next tile will need, asked for now: a tile hides their way.
        each_row!(M, R, {
            let at = *t.at.add(R) + t.next;
            _mm_prefetch::<_MM_HINT_ET0>(t.y.wrapping_add(at).cast());
            if !t.residual.is_null() {
                _mm_prefetch::<_MM_HINT_T0>(t.residual.wrapping_add(at).cast());
            }
        });
        let mut panel = t.panel;
        for tap in 0..t.taps {
            let mut rows = [std::ptr::null::<u32>(); M];
            for r in 0..M {
                rows[r] = *t.rows.add(tap * ROWS + r);
            }
            let fetches = t.column == 0 && tap + 1 == t.taps;
            for from in (0..t.depth).step_by(LINE) {
                // The last tap is on the row where the next tile meets new inputs.
                if fetches {
                    for r in 0..M {
                        _mm_prefetch::<_MM_HINT_T0>(
                            rows[r].wrapping_add(from).wrapping_byte_add(t.next_input).cast(),
                        );
                    }
                }
                for k in from..t.depth.min(from + LINE) {
                    let mut w = [_mm512_setzero_si512(); V];
                    for v in 0..V {
                        w[v] = _mm512_loadu_si512(panel.add(16 * v).cast());
                        _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(16 * v + AHEAD).cast());
                    }
                    for r in 0..M {
                        let x = _mm512_set1_epi32(rows[r].add(k).read_unaligned() as i32);
                        for v in 0..V {
                            acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], x, w[v]);
                        }
                    }
                    panel = panel.add(16 * V);
                }
            }
        }

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
