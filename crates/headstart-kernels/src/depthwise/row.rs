//! A row of outputs as a sum over taps: the kernel of the forward pass and of the data gradient.

use super::lanes::Lanes;
use crate::Level;
use crate::simd::Bounds;

/// One element of the window, as a row of outputs sees it.
#[derive(Clone, Copy)]
pub(super) struct Tap {
    /// Where output 0 would read, in floats; outside the input when 0 is not in the range.
    pub input: isize,
    /// Where its weights begin, in floats.
    pub weight: usize,
    /// The outputs `from..to` for which the pixel exists.
    pub from: usize,
    pub to: usize,
}

/// A row of `count` outputs: output `j` sums `weight * input[tap.input + j * in_step]`.
pub(super) struct Row<'a> {
    pub taps: &'a [Tap],
    pub input: &'a [f32],
    pub weights: &'a [f32],
    /// `c` values to start from.
    pub start: &'a [f32],
    pub bounds: Bounds,
    pub count: usize,
    pub in_step: usize,
    pub out_step: usize,
}

/// Checks that every access of the row is inside its slices, then runs the level's kernel.
pub(super) fn run_row(level: Level, row: &Row, out: &mut [f32]) {
    let c = row.start.len();
    if row.count == 0 {
        return;
    }
    assert!((row.count - 1) * row.out_step + c <= out.len(), "the row is longer than its output");
    for tap in row.taps.iter().filter(|t| t.from < t.to) {
        let first = tap.input + (tap.from * row.in_step) as isize;
        let last = tap.input + ((tap.to - 1) * row.in_step) as isize;
        assert!(
            tap.to <= row.count && first >= 0 && last as usize + c <= row.input.len(),
            "a tap reads outside"
        );
        assert!(tap.weight + c <= row.weights.len(), "a tap has no weight");
    }
    assert!(level.is_supported(), "this CPU has no {level}");
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2(row: &Row, out: &mut [f32]) {
            // SAFETY: bounds as checked by `run_row`; the function has the lanes' features.
            unsafe { sum_row::<std::arch::x86_64::__m256>(row, out) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
        fn avx512(row: &Row, out: &mut [f32]) {
            // SAFETY: bounds as checked by `run_row`; the function has the lanes' features.
            unsafe { sum_row::<std::arch::x86_64::__m512>(row, out) }
        }
        match level {
            Level::Scalar => {}
            // SAFETY: the CPU has the level's instructions, asserted above.
            Level::Avx2 => return unsafe { avx2(row, out) },
            // SAFETY: the CPU has the level's instructions, asserted above.
            Level::Avx512 => return unsafe { avx512(row, out) },
        }
    }
    // SAFETY: bounds as checked above; f32 needs no feature.
    unsafe { sum_row::<f32>(row, out) }
}

/// Computes a row: pixels that all taps reach in blocks, the border ones each with its own taps.
///
/// # Safety
/// The checks of `run_row`, and the features of `V`.
#[inline(always)]
unsafe fn sum_row<V: Lanes>(row: &Row, out: &mut [f32]) {
    let mut from = row.taps.iter().map(|t| t.from).max().unwrap_or(0);
    let mut to = row.taps.iter().map(|t| t.to).min().unwrap_or(row.count);
    if from >= to {
        (from, to) = (row.count, row.count);
    }
    let mut j = from;
    // SAFETY: pixels `from..to` are inside every tap's range, which `run_row` checked.
    unsafe {
        while j + 8 <= to {
            sum_pixels::<V, 8>(row, row.taps, j, out);
            j += 8;
        }
        if j + 4 <= to {
            sum_pixels::<V, 4>(row, row.taps, j, out);
            j += 4;
        }
        while j < to {
            sum_pixels::<V, 1>(row, row.taps, j, out);
            j += 1;
        }
    }
    let mut taps = Vec::with_capacity(row.taps.len());
    for j in (0..from).chain(to..row.count) {
        taps.clear();
        taps.extend(row.taps.iter().copied().filter(|t| (t.from..t.to).contains(&j)));
        // SAFETY: only the taps that reach pixel `j` are left.
        unsafe { sum_pixels::<V, 1>(row, &taps, j, out) };
    }
}

/// Computes `P` neighbouring pixels from `j` on.
///
/// # Safety
/// Every tap reaches these pixels; the checks of `run_row`; the features of `V`.
#[inline(always)]
unsafe fn sum_pixels<V: Lanes, const P: usize>(row: &Row, taps: &[Tap], j: usize, out: &mut [f32]) {
    let c = row.start.len();
    let mut k = 0;
    // SAFETY: all lanes, or the `c - k` left of them, are channels of pixels that exist.
    unsafe {
        while k + V::COUNT <= c {
            sum_lanes::<V, P, true>(row, taps, j, k, V::COUNT, out);
            k += V::COUNT;
        }
        if k < c {
            sum_lanes::<V, P, false>(row, taps, j, k, c - k, out);
        }
    }
}

/// Computes channels `k..k + n` of the pixels; `FULL` tells that `n` is all lanes.
///
/// # Safety
/// That of [`sum_pixels`], and the channels exist.
#[inline(always)]
unsafe fn sum_lanes<V: Lanes, const P: usize, const FULL: bool>(
    row: &Row,
    taps: &[Tap],
    j: usize,
    k: usize,
    n: usize,
    out: &mut [f32],
) {
    let offset = (j * row.in_step) as isize;
    // SAFETY: by the contract above.
    unsafe {
        let mut sums = [V::load::<FULL>(row.start.as_ptr().add(k), n); P];
        for tap in taps {
            let weight = V::load::<FULL>(row.weights.as_ptr().add(tap.weight + k), n);
            let input = row.input.as_ptr().offset(tap.input + offset).add(k);
            for (p, sum) in sums.iter_mut().enumerate() {
                *sum = V::load::<FULL>(input.add(p * row.in_step), n).mul_add(weight, *sum);
            }
        }
        let out = out.as_mut_ptr().add(j * row.out_step + k);
        for (p, sum) in sums.into_iter().enumerate() {
            sum.clamp(row.bounds).store::<FULL>(out.add(p * row.out_step), n);
        }
    }
}
