//! The bf16 micro-kernel of weight gradients, and the copies it reads, for AVX-512.
//!
//! A word holds one channel of one pixel in two images. A step loads two vectors of 16 input channels, broadcasts a
//! word for each output channel and issues two products for it, each of which adds both images: 28 products for 16
//! loads. Images, not neighbouring pixels, make the pairs, because then a tap moves both halves of a word alike.

use std::arch::x86_64::*;
use std::mem::transmute;

use crate::rows::with_rows;
use crate::threads::SharedMut;

/// A tile of weight gradient: `dw[m][32] += Σ over pixels of a[pixel][m] ⊗ b[pixel][32]`, over both halves of a word.
pub(super) struct Outer {
    /// `[maps][rows][pixels][m]`, rows contiguous.
    pub a: *const u32,
    /// 32 words a pixel, walked with the three steps below (in words).
    pub b: *const u32,
    pub maps: usize,
    pub rows: usize,
    pub pixels: usize,
    pub b_map: usize,
    pub b_row: usize,
    pub b_pixel: usize,
    /// `m` rows of 32, and the floats from one to the next.
    pub dw: *mut f32,
    pub dw_row: usize,
    /// Starts from zero rather than from what `dw` holds.
    pub first: bool,
}

/// Adds an outer-product sum with `m` rows.
///
/// # Safety
/// `1 <= m <= 14`, and all pointers of `outer` are valid as described there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn outer(m: usize, outer: &Outer) {
    // SAFETY: the caller's promise.
    unsafe { with_rows!(m, outer_of, 2, outer) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn outer_of<const M: usize, const V: usize>(t: &Outer) {
    // SAFETY: the pointers are valid as `Outer` describes.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; M];
        if !t.first {
            for r in 0..M {
                for v in 0..V {
                    acc[r][v] = _mm512_loadu_ps(t.dw.add(r * t.dw_row + 16 * v));
                }
            }
        }
        let mut a = t.a;
        for map in 0..t.maps {
            for row in 0..t.rows {
                let mut b = t.b.add(map * t.b_map + row * t.b_row);
                for _ in 0..t.pixels {
                    let mut x = [_mm512_setzero_si512(); V];
                    for v in 0..V {
                        x[v] = _mm512_loadu_si512(b.add(16 * v).cast());
                    }
                    for r in 0..M {
                        let dy = _mm512_set1_epi32(*a.add(r) as i32);
                        for v in 0..V {
                            acc[r][v] = _mm512_dpbf16_ps(acc[r][v], pairs(dy), pairs(x[v]));
                        }
                    }
                    a = a.add(M);
                    b = b.wrapping_add(t.b_pixel);
                }
            }
        }
        for r in 0..M {
            for v in 0..V {
                _mm512_storeu_ps(t.dw.add(r * t.dw_row + 16 * v), acc[r][v]);
            }
        }
    }
}

/// The same bits, as the product instruction takes them.
#[inline(always)]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 64 plain bytes.
    unsafe { transmute(words) }
}

/// Some channels of a pixel, and where their copy goes.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The first channel, and how many there are.
    pub from: usize,
    pub count: usize,
    /// Where the words of pixel 0 go, and the words from there to those of pixel 1.
    pub to: usize,
    pub to_step: usize,
    /// Words of a copy, at most 32; those past `count` become zero.
    pub width: usize,
}

/// Joins the values of two images to words, `a` in the low half; without `b` the high halves are zero. Takes `pixels`
/// pixels that are `from_step` values apart, to the places of pixels `at` on.
///
/// Panics if something lies outside.
///
/// # Safety
/// The CPU has AVX-512BW and VL. No other live part of `to` overlaps the places of these pixels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn weave(
    parts: &[Part],
    pixels: usize,
    from_step: usize,
    [a, b]: [Option<&[u16]>; 2],
    to: &SharedMut<u32>,
    at: usize,
) {
    let (Some(a), Some(reach)) = (a, parts.iter().map(|p| p.from + p.count).max()) else { return };
    if pixels == 0 {
        return;
    }
    let reads = (pixels - 1) * from_step + reach;
    assert!(a.len() >= reads && b.is_none_or(|b| b.len() >= reads), "values to weave");
    assert!(parts.iter().all(|p| p.count <= p.width && p.width <= 32), "a part is two vectors");
    let bits = |n: usize| ((1_u64 << n) - 1) as u32;
    // Word i is value i of `a` below value i of `b`; the second half of the table of 64 is `b`.
    let index = |from: i16| {
        let mut index = [0_i16; 32];
        for i in 0..32 {
            index[i] = from + i as i16 / 2 + 32 * (i as i16 % 2);
        }
        index
    };
    let (low, high) = (index(0), index(16));
    // SAFETY: the tables are vectors; masked lanes are neither read nor written; the others are inside `a` and `b`,
    // checked above, and inside `to`, which checks.
    unsafe {
        let low = _mm512_loadu_si512(low.as_ptr().cast());
        let high = _mm512_loadu_si512(high.as_ptr().cast());
        for part in parts {
            let (values, words) = (bits(part.count), bits(part.width));
            let place = part.to + at * part.to_step;
            let mut to = to.part(place, (pixels - 1) * part.to_step + part.width).as_mut_ptr();
            let mut a = a.as_ptr().add(part.from);
            // Masked to nothing where there is no second image.
            let (others, mut b) = b.map_or((0, a), |b| (values, b.as_ptr().add(part.from)));
            for _ in 0..pixels {
                let first = _mm512_maskz_loadu_epi16(values, a.cast());
                let second = _mm512_maskz_loadu_epi16(others, b.cast());
                let words_low = _mm512_permutex2var_epi16(first, low, second);
                _mm512_mask_storeu_epi32(to.cast(), words as u16, words_low);
                if part.width > 16 {
                    let words_high = _mm512_permutex2var_epi16(first, high, second);
                    _mm512_mask_storeu_epi32(to.add(16).cast(), (words >> 16) as u16, words_high);
                }
                a = a.wrapping_add(from_step);
                b = b.wrapping_add(from_step);
                to = to.wrapping_add(part.to_step);
            }
        }
    }
}
