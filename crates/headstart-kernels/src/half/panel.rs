//! Weights of a step of training, rounded and packed at every use: `[columns / 32][words][width]`, as
//! `narrow/pack.rs` describes.
//!
//! Sixteen columns at a time: their weights come as rows and are turned to columns in registers. A row holds the taps of
//! a pair of channels, or many pairs where there is one tap.

use std::arch::x86_64::*;

use crate::narrow::COLUMNS;
use crate::threads::{SharedMut, parallel_for};

/// Where a weight lies: column `c`, depth `d`, tap `t` at `from + c * col + d * depth + t`.
pub(super) struct Source<'a> {
    pub w: &'a [f32],
    pub from: usize,
    pub col: usize,
    pub depth: usize,
    /// Taps of the kernel.
    pub kernel: usize,
    /// The taps to pack, in their order.
    pub taps: &'a [usize],
}

/// Packs `cols` columns with an even `depth` of weights a tap into panels of pairs.
///
/// Panics if a weight lies outside. The CPU must have bf16 products.
pub(super) fn pack(source: &Source, cols: usize, depth: usize, panels: &mut [u32]) {
    assert!(depth.is_multiple_of(2), "a pair of channels has one tap");
    let (k, kernel) = (depth * source.taps.len(), source.kernel);
    if cols == 0 || k == 0 {
        return;
    }
    let last = source.from + (cols - 1) * source.col + (depth - 1) * source.depth + kernel - 1;
    assert!(
        last < source.w.len() && source.taps.iter().all(|t| *t < kernel),
        "weights end before the last one to pack"
    );
    let panels = SharedMut::new(panels);
    parallel_for(cols.div_ceil(COLUMNS), |p| {
        let from = p * COLUMNS;
        let cols = COLUMNS.min(cols - from);
        let width = if cols > LANES { COLUMNS } else { LANES };
        // SAFETY: each task takes its own panel.
        let panel = unsafe { panels.part(from * k / 2, width * k / 2) };
        for first in (0..width).step_by(LANES) {
            let count = cols.saturating_sub(first).min(LANES);
            let start = source.from + (from + first) * source.col;
            // SAFETY: the columns are among those checked above; bf16 layers are only packed where the CPU has the
            // instructions; `panel` has `width` words for each pair and tap.
            unsafe { pack_columns(source, start, count, depth, &mut panel[first..], width) };
        }
    });
}

/// Lanes of a vector.
const LANES: usize = 16;

/// Packs up to 16 columns, the first at `start`, into every `width`th run of 16 words of `panel`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_columns(s: &Source, start: usize, cols: usize, depth: usize, panel: &mut [u32], width: usize) {
    let pairs = depth / 2;
    let row = |c: usize, d: usize| s.w.as_ptr().wrapping_add(start + c * s.col + d * s.depth);
    let mut rows = [_mm512_setzero_si512(); LANES];
    // SAFETY: loads are masked to weights of the columns, taps and pairs that the caller checked.
    unsafe {
        if s.kernel == 1 && s.col == 1 {
            // Columns side by side: nothing to turn.
            let mask = low_lanes(cols);
            for pair in 0..pairs {
                let low = _mm512_maskz_loadu_ps(mask, row(0, 2 * pair));
                let high = _mm512_maskz_loadu_ps(mask, row(0, 2 * pair + 1));
                store(panel, pair * width, weave(low, high));
            }
        } else if s.kernel == 1 && s.depth == 1 {
            for first in (0..pairs).step_by(LANES) {
                let count = (pairs - first).min(LANES);
                let (low_mask, high_mask) =
                    (low_lanes((2 * count).min(LANES)), low_lanes((2 * count).saturating_sub(LANES)));
                for (c, to) in rows[..cols].iter_mut().enumerate() {
                    let from = row(c, 2 * first);
                    let low = _mm512_maskz_loadu_ps(low_mask, from);
                    let high = _mm512_maskz_loadu_ps(high_mask, from.wrapping_add(LANES));
                    // Neighbours are pairs already.
                    *to = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                }
                let columns = turn(rows);
                for (i, column) in columns[..count].iter().enumerate() {
                    store(panel, (first + i) * width, *column);
                }
            }
        } else {
            for pair in 0..pairs {
                for from in (0..s.kernel).step_by(LANES) {
                    let mask = low_lanes((s.kernel - from).min(LANES));
                    for (c, to) in rows[..cols].iter_mut().enumerate() {
                        let low = _mm512_maskz_loadu_ps(mask, row(c, 2 * pair).wrapping_add(from));
                        let high = _mm512_maskz_loadu_ps(mask, row(c, 2 * pair + 1).wrapping_add(from));
                        *to = weave(low, high);
                    }
                    let columns = turn(rows);
                    for (i, tap) in s.taps.iter().enumerate() {
                        if let Some(column) = tap.checked_sub(from).and_then(|at| columns.get(at)) {
                            store(panel, (i * pairs + pair) * width, *column);
                        }
                    }
                }
            }
        }
    }
}

fn low_lanes(count: usize) -> __mmask16 {
    ((1_u32 << count) - 1) as u16
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(panel: &mut [u32], at: usize, words: __m512i) {
    let to = &mut panel[at..][..LANES];
    // SAFETY: there is room for a vector.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), words) };
}

/// Rounds two vectors and puts them in the low and high halves of words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn weave(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 64 plain bytes.
    let both = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    let mut index = [0_i16; 32];
    for i in 0..32 {
        index[i] = i as i16 / 2 + 16 * (i as i16 % 2);
    }
    // SAFETY: the table is one vector.
    _mm512_permutexvar_epi16(unsafe { _mm512_loadu_si512(index.as_ptr().cast()) }, both)
}

/// Transposes 16 vectors of 16 words.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut a = [_mm512_setzero_si512(); LANES];
    for i in 0..8 {
        a[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // b[4 i + j]: column j of each quarter, of rows 4 i to 4 i + 3.
    let mut b = [_mm512_setzero_si512(); LANES];
    for i in 0..4 {
        b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    let mut columns = [_mm512_setzero_si512(); LANES];
    for j in 0..4 {
        // Quarters 0 and 2, then 1 and 3, of the upper and of the lower eight rows.
        let even_top = _mm512_shuffle_i32x4::<0x88>(b[j], b[4 + j]);
        let odd_top = _mm512_shuffle_i32x4::<0xdd>(b[j], b[4 + j]);
        let even_bottom = _mm512_shuffle_i32x4::<0x88>(b[8 + j], b[12 + j]);
        let odd_bottom = _mm512_shuffle_i32x4::<0xdd>(b[8 + j], b[12 + j]);
        columns[j] = _mm512_shuffle_i32x4::<0x88>(even_top, even_bottom);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even_top, even_bottom);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_top, odd_bottom);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd_top, odd_bottom);
    }
    columns
}
