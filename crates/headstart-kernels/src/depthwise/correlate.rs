//! The weight gradient of one row: an accumulator per column of the window.

use super::lanes::Lanes;
use crate::Level;
use crate::conv::ConvShape;

/// Adds to `sums`, `[kw, c]`, one input row times one output row, shifted by each column of the
/// window. Checks the bounds, then runs the level's kernel.
pub(super) fn run_correlate(
    level: Level,
    shape: &ConvShape,
    reaches: &[(usize, usize)],
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let (c, stride, left) = (shape.c_in, shape.stride[1], shape.pad[2]);
    assert!(sums.len() == reaches.len() * c, "one row of sums per column");
    for (kx, (from, to)) in reaches.iter().enumerate().filter(|(_, (from, to))| from < to) {
        assert!(from * stride + kx >= left, "a column reads before the row");
        assert!(((to - 1) * stride + kx - left + 1) * c <= x.len() && to * c <= dy.len(), "or after it");
    }
    assert!(level.is_supported(), "this CPU has no {level}");
    let geometry = Geometry { c, x_step: stride * c, left: left * c };
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2(g: &Geometry, reaches: &[(usize, usize)], x: &[f32], dy: &[f32], sums: &mut [f32]) {
            // SAFETY: bounds as checked by `run_correlate`; the function has the lanes' features.
            unsafe { correlate::<std::arch::x86_64::__m256>(g, reaches, x, dy, sums) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
        fn avx512(g: &Geometry, reaches: &[(usize, usize)], x: &[f32], dy: &[f32], sums: &mut [f32]) {
            // SAFETY: bounds as checked by `run_correlate`; the function has the lanes' features.
            unsafe { correlate::<std::arch::x86_64::__m512>(g, reaches, x, dy, sums) }
        }
        match level {
            Level::Scalar => {}
            // SAFETY: the CPU has the level's instructions, asserted above.
            Level::Avx2 => return unsafe { avx2(&geometry, reaches, x, dy, sums) },
            // SAFETY: the CPU has the level's instructions, asserted above.
            Level::Avx512 => return unsafe { avx512(&geometry, reaches, x, dy, sums) },
        }
    }
    // SAFETY: bounds as checked above; f32 needs no feature.
    unsafe { correlate::<f32>(&geometry, reaches, x, dy, sums) }
}

/// Steps of a weight-gradient row, in floats.
struct Geometry {
    c: usize,
    x_step: usize,
    left: usize,
}

/// Runs the window's columns together over the outputs that all of them reach, then each alone
/// over what is left of its range.
///
/// # Safety
/// The checks of `run_correlate`, and the features of `V`.
#[inline(always)]
unsafe fn correlate<V: Lanes>(
    g: &Geometry,
    reaches: &[(usize, usize)],
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let from = reaches.iter().map(|r| r.0).max().unwrap_or(0);
    let to = reaches.iter().map(|r| r.1).min().unwrap_or(0).max(from);
    let (x, dy, sums) = (x.as_ptr(), dy.as_ptr(), sums.as_mut_ptr());
    let mut k = 0;
    // SAFETY: the ranges are those that `run_correlate` checked, or parts of them; each block only
    // covers channels that exist.
    unsafe {
        while k + 4 * V::COUNT <= g.c {
            window::<V, 4, true>(g, reaches, (from, to), k, V::COUNT, x, dy, sums);
            k += 4 * V::COUNT;
        }
        while k + V::COUNT <= g.c {
            window::<V, 1, true>(g, reaches, (from, to), k, V::COUNT, x, dy, sums);
            k += V::COUNT;
        }
        if k < g.c {
            window::<V, 1, false>(g, reaches, (from, to), k, g.c - k, x, dy, sums);
        }
    }
}

/// All columns of the window for one block of channels.
///
/// # Safety
/// That of [`columns`], for the range of each column.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn window<V: Lanes, const B: usize, const FULL: bool>(
    g: &Geometry,
    reaches: &[(usize, usize)],
    mut middle: (usize, usize),
    k: usize,
    n: usize,
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
) {
    // SAFETY: `middle` is within every column's range, the rest within its own.
    unsafe {
        match reaches.len() {
            3 => columns::<V, 3, B, FULL>(g, 0, middle, k, n, x, dy, sums),
            5 => columns::<V, 5, B, FULL>(g, 0, middle, k, n, x, dy, sums),
            7 => columns::<V, 7, B, FULL>(g, 0, middle, k, n, x, dy, sums),
            _ => middle.0 = middle.1,
        }
        for (kx, reach) in reaches.iter().enumerate() {
            for part in [(reach.0, middle.0.min(reach.1)), (middle.1.max(reach.0), reach.1)] {
                columns::<V, 1, B, FULL>(g, kx, part, k, n, x, dy, sums);
            }
        }
    }
}

/// Adds columns `kx..kx + K` over outputs `from..to`, for `B` vectors of channels from `k` on.
///
/// # Safety
/// The outputs are in the range of each column; the `B` vectors, of `n` lanes where not `FULL`, are
/// channels that exist; the features of `V`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn columns<V: Lanes, const K: usize, const B: usize, const FULL: bool>(
    g: &Geometry,
    kx: usize,
    (from, to): (usize, usize),
    k: usize,
    n: usize,
    x: *const f32,
    dy: *const f32,
    sums: *mut f32,
) {
    if from >= to {
        return;
    }
    // SAFETY: by the contract above.
    unsafe {
        let mut acc = [[V::zero(); B]; K];
        let mut dy = dy.add(from * g.c + k);
        let mut x = x.add(from * g.x_step + kx * g.c - g.left + k);
        for _ in from..to {
            let d: [V; B] = std::array::from_fn(
                #[inline(always)]
                |b| V::load::<FULL>(dy.add(b * V::COUNT), n),
            );
            for (column, acc) in acc.iter_mut().enumerate() {
                for (b, acc) in acc.iter_mut().enumerate() {
                    *acc = V::load::<FULL>(x.add(column * g.c + b * V::COUNT), n).mul_add(d[b], *acc);
                }
            }
            dy = dy.wrapping_add(g.c);
            x = x.wrapping_add(g.x_step);
        }
        for (column, acc) in acc.into_iter().enumerate() {
            for (b, acc) in acc.into_iter().enumerate() {
                let sum = sums.add((kx + column) * g.c + k + b * V::COUNT);
                V::load::<FULL>(sum, n).add(acc).store::<FULL>(sum, n);
            }
        }
    }
}
