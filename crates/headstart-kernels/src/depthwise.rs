//! Depthwise convolution: one filter per channel, any window, stride and padding.
//!
//! All three passes vectorise over channels. Forward and data gradient are one kernel, a row of
//! pixels as a sum over *taps* (input row, weight, range of pixels it is valid for): a strided data
//! gradient is one such row per phase. Eight pixels stay in registers while the taps pass; each tap
//! loads its weight once. The weight gradient keeps one accumulator per column of the window.
//!
//! The lane types live here rather than in a file per level: the kernels are the same text.

use crate::conv::ConvShape;
use crate::simd::{Bounds, chunk, chunks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Act, End, Level};

/// Computes `y = end(conv(x, weight) + bias)`; `weight` is `[c, 1, kh, kw]`.
pub fn forward(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    end: impl Into<End>,
    y: &mut [f32],
) {
    forward_at(Level::current(), shape, x, weight, bias, end.into(), y);
}

/// Computes the gradient of the input.
pub fn backward_data(shape: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    backward_data_at(Level::current(), shape, dy, weight, dx);
}

/// Computes the gradient of the weight, overwriting `dweight`.
pub fn backward_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    backward_weight_at(Level::current(), shape, x, dy, dweight);
}

/// One element of the window, as a row of outputs sees it.
#[derive(Clone, Copy)]
struct Tap {
    /// Where output 0 would read, in floats; outside the input when 0 is not in the range.
    input: isize,
    /// Where its weights begin, in floats.
    weight: usize,
    /// The outputs `from..to` for which the pixel exists.
    from: usize,
    to: usize,
}

/// A row of `count` outputs: output `j` sums `weight * input[tap.input + j * in_step]`.
struct Row<'a> {
    taps: &'a [Tap],
    input: &'a [f32],
    weights: &'a [f32],
    /// `c` values to start from.
    start: &'a [f32],
    bounds: Bounds,
    count: usize,
    in_step: usize,
    out_step: usize,
}

fn check(shape: &ConvShape, x: usize, weight: usize, y: usize) -> usize {
    let c = shape.c_in;
    assert!(c > 0 && shape.c_out == c && shape.groups == c, "not a depthwise convolution: {shape:?}");
    assert!(
        x == shape.x_len() && weight == shape.w_len() && y == shape.y_len(),
        "a length is off: {shape:?}"
    );
    c
}

/// Transposes `[c, taps]` to `[taps, c]`.
fn pack(weight: &[f32], c: usize) -> Vec<f32> {
    let taps = weight.len() / c;
    let mut packed = vec![0.0; weight.len()];
    for (t, row) in packed.chunks_exact_mut(c).enumerate() {
        row.iter_mut().zip(weight[t..].iter().step_by(taps)).for_each(|(p, w)| *p = *w);
    }
    packed
}

/// Returns the outputs that column `kx` of the window reaches from inside the input.
fn reach(shape: &ConvShape, kx: usize) -> (usize, usize) {
    let (left, stride) = (shape.pad[2], shape.stride[1]);
    let to = (shape.w + left).saturating_sub(kx).div_ceil(stride).min(shape.out_w());
    (left.saturating_sub(kx).div_ceil(stride).min(to), to)
}

fn forward_at(
    level: Level,
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    end: End,
    y: &mut [f32],
) {
    let c = check(shape, x.len(), weight.len(), y.len());
    let (oh, ow) = (shape.out_h(), shape.out_w());
    let weights = pack(weight, c);
    let zeros = vec![0.0; c];
    let start = bias.unwrap_or(&zeros);
    assert_eq!(start.len(), c, "one bias per channel");
    let y = SharedMut::new(y);
    parallel_for(shape.n * oh, |index| {
        let (image, oy) = (index / oh, index % oh);
        let mut taps = Vec::with_capacity(shape.kh * shape.kw);
        for ky in 0..shape.kh {
            let iy = (oy * shape.stride[0] + ky).wrapping_sub(shape.pad[0]);
            if iy >= shape.h {
                continue;
            }
            for kx in 0..shape.kw {
                let (from, to) = reach(shape, kx);
                let pixel = (iy * shape.w + kx) as isize - shape.pad[2] as isize;
                let weight = (ky * shape.kw + kx) * c;
                taps.push(Tap { input: pixel * c as isize, weight, from, to });
            }
        }
        let row = Row {
            taps: &taps,
            input: &x[image * shape.h * shape.w * c..][..shape.h * shape.w * c],
            weights: &weights,
            start,
            bounds: Bounds::of(end.act()),
            count: ow,
            in_step: shape.stride[1] * c,
            out_step: c,
        };
        // SAFETY: each task has its own output row.
        let y = unsafe { y.part(index * ow * c, ow * c) };
        run_row(level, &row, y);
        end.finish(level, y);
    });
}

pub(crate) fn backward_data_at(level: Level, shape: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let c = check(shape, dx.len(), weight.len(), dy.len());
    let (oh, ow) = (shape.out_h(), shape.out_w());
    let weights = pack(weight, c);
    let zeros = vec![0.0; c];
    let ([down, right], w) = (shape.stride, shape.w);
    let dx = SharedMut::new(dx);
    parallel_for(shape.n * shape.h, |index| {
        let (image, iy) = (index / shape.h, index % shape.h);
        // SAFETY: each task has its own input row.
        let dx = unsafe { dx.part(index * w * c, w * c) };
        // Columns of one phase (column modulo stride) read consecutive outputs.
        for phase in 0..right.min(w) {
            let count = (w - phase).div_ceil(right);
            let mut taps = Vec::with_capacity(shape.kh * shape.kw);
            for ky in 0..shape.kh {
                let Some(from_top) = (iy + shape.pad[0]).checked_sub(ky) else { continue };
                let oy = from_top / down;
                if !from_top.is_multiple_of(down) || oy >= oh {
                    continue;
                }
                for kx in 0..shape.kw {
                    let from_left = (phase + shape.pad[2]) as isize - kx as isize;
                    if from_left.rem_euclid(right as isize) != 0 {
                        continue;
                    }
                    let ox = from_left.div_euclid(right as isize);
                    let to = (ow as isize - ox).clamp(0, count as isize) as usize;
                    let from = (-ox).clamp(0, to as isize) as usize;
                    let input = ((oy * ow) as isize + ox) * c as isize;
                    taps.push(Tap { input, weight: (ky * shape.kw + kx) * c, from, to });
                }
            }
            let row = Row {
                taps: &taps,
                input: &dy[image * oh * ow * c..][..oh * ow * c],
                weights: &weights,
                start: &zeros,
                bounds: Bounds::of(Act::None),
                count,
                in_step: c,
                out_step: right * c,
            };
            run_row(level, &row, &mut dx[phase * c..]);
        }
    });
}

pub(crate) fn backward_weight_at(
    level: Level,
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
) {
    let c = check(shape, x.len(), dweight.len(), dy.len());
    let (oh, ow, taps) = (shape.out_h(), shape.out_w(), shape.kh * shape.kw);
    // A chunk is a sixteenth of the output rows: f32 sums inside a row, then inside a chunk.
    let rows = shape.n * oh;
    let per_chunk = rows.div_ceil(16).max(1);
    let count = chunks(rows, per_chunk);
    let reaches: Vec<(usize, usize)> = (0..shape.kw).map(|kx| reach(shape, kx)).collect();
    let mut partials = vec![0.0; count * taps * c];
    let shared = SharedMut::new(&mut partials);
    parallel_for(count, |index| {
        // SAFETY: each task has its own partial sums.
        let sums = unsafe { shared.part(index * taps * c, taps * c) };
        let (from, len) = chunk(rows, per_chunk, index);
        for row in from..from + len {
            let (image, oy) = (row / oh, row % oh);
            let dy = &dy[row * ow * c..][..ow * c];
            for ky in 0..shape.kh {
                let iy = (oy * shape.stride[0] + ky).wrapping_sub(shape.pad[0]);
                if iy < shape.h {
                    let x = &x[(image * shape.h + iy) * shape.w * c..][..shape.w * c];
                    let sums = &mut sums[ky * shape.kw * c..][..shape.kw * c];
                    run_correlate(level, shape, &reaches, x, dy, sums);
                }
            }
        }
    });
    let (sums, rest) = partials.split_at_mut((taps * c).min(count * taps * c));
    for part in rest.chunks_exact(taps * c) {
        sums.iter_mut().zip(part).for_each(|(s, p)| *s += *p);
    }
    dweight.fill(0.0);
    for (t, row) in sums.chunks_exact(c).enumerate() {
        dweight[t..].iter_mut().step_by(taps).zip(row).for_each(|(d, s)| *d = *s);
    }
}

/// Checks that every access of the row is inside its slices, then runs the level's kernel.
fn run_row(level: Level, row: &Row, out: &mut [f32]) {
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

/// Adds to `sums`, `[kw, c]`, one input row times one output row, shifted by each column of the
/// window. Checks the bounds, then runs the level's kernel.
fn run_correlate(
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

/// A vector of floats; loads and stores that are not `FULL` touch only the first `n`.
///
/// # Safety of all functions
/// The CPU has the type's instructions, and they inline into a function that enables them;
/// pointers are valid for `COUNT` floats, or for `n` where not `FULL`.
trait Lanes: Copy {
    const COUNT: usize;
    unsafe fn zero() -> Self;
    unsafe fn load<const FULL: bool>(from: *const f32, n: usize) -> Self;
    unsafe fn store<const FULL: bool>(self, to: *mut f32, n: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self;
    unsafe fn clamp(self, bounds: Bounds) -> Self;
}

impl Lanes for f32 {
    const COUNT: usize = 1;
    #[inline(always)]
    unsafe fn zero() -> Self {
        0.0
    }
    #[inline(always)]
    unsafe fn load<const FULL: bool>(from: *const f32, _: usize) -> Self {
        // SAFETY: valid by the trait's contract.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn store<const FULL: bool>(self, to: *mut f32, _: usize) {
        // SAFETY: valid by the trait's contract.
        unsafe { *to = self }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        self * factor + term
    }
    #[inline(always)]
    unsafe fn clamp(self, bounds: Bounds) -> Self {
        bounds.clamp(self)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Bounds, Lanes};
    use std::arch::x86_64::*;

    // In both types `max(low, v)` returns `v` when either is NaN: see `Bounds`.

    #[allow(unsafe_op_in_unsafe_fn)] // one intrinsic a function, under the trait's contract
    impl Lanes for __m256 {
        const COUNT: usize = 8;
        #[inline(always)]
        unsafe fn zero() -> Self {
            _mm256_setzero_ps()
        }
        #[inline(always)]
        unsafe fn load<const FULL: bool>(from: *const f32, n: usize) -> Self {
            if FULL { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, first(n)) }
        }
        #[inline(always)]
        unsafe fn store<const FULL: bool>(self, to: *mut f32, n: usize) {
            if FULL { _mm256_storeu_ps(to, self) } else { _mm256_maskstore_ps(to, first(n), self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            _mm256_add_ps(self, other)
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            _mm256_fmadd_ps(self, factor, term)
        }
        #[inline(always)]
        unsafe fn clamp(self, bounds: Bounds) -> Self {
            let v = _mm256_max_ps(_mm256_set1_ps(bounds.low), self);
            _mm256_min_ps(_mm256_set1_ps(bounds.high), v)
        }
    }

    /// A mask of the first `n` of eight lanes.
    #[inline(always)]
    #[allow(unsafe_op_in_unsafe_fn)]
    unsafe fn first(n: usize) -> __m256i {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }

    #[allow(unsafe_op_in_unsafe_fn)] // one intrinsic a function, under the trait's contract
    impl Lanes for __m512 {
        const COUNT: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> Self {
            _mm512_setzero_ps()
        }
        #[inline(always)]
        unsafe fn load<const FULL: bool>(from: *const f32, n: usize) -> Self {
            if FULL { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps((1 << n) - 1, from) }
        }
        #[inline(always)]
        unsafe fn store<const FULL: bool>(self, to: *mut f32, n: usize) {
            if FULL { _mm512_storeu_ps(to, self) } else { _mm512_mask_storeu_ps(to, (1 << n) - 1, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            _mm512_add_ps(self, other)
        }
        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
            _mm512_fmadd_ps(self, factor, term)
        }
        #[inline(always)]
        unsafe fn clamp(self, bounds: Bounds) -> Self {
            let v = _mm512_max_ps(_mm512_set1_ps(bounds.low), self);
            _mm512_min_ps(_mm512_set1_ps(bounds.high), v)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Curve;
    use crate::simd::testing::{assert_close, noise};

    fn shapes() -> Vec<ConvShape> {
        let mut shapes = Vec::new();
        for c in [1, 3, 17, 64, 100] {
            for (h, w, kh, kw, stride, pad) in [
                (1, 1, 1, 1, [1, 1], [0; 4]),
                (1, 1, 3, 3, [1, 1], [1; 4]),
                (1, 2, 5, 5, [1, 1], [2; 4]),
                (9, 14, 3, 3, [1, 1], [1; 4]),
                (9, 14, 3, 3, [2, 2], [1; 4]),
                (8, 12, 3, 3, [2, 2], [0, 1, 0, 1]),
                (7, 11, 5, 5, [1, 1], [2; 4]),
                (8, 10, 5, 5, [2, 2], [1, 2, 1, 2]),
                (9, 16, 7, 7, [1, 1], [3; 4]),
                (6, 13, 2, 4, [3, 2], [0, 2, 3, 1]),
                (5, 7, 1, 1, [3, 4], [0; 4]),
                (2, 2, 1, 1, [1, 1], [0, 0, 2, 3]),
            ] {
                shapes.push(ConvShape { n: 2, h, w, c_in: c, c_out: c, kh, kw, stride, pad, groups: c });
            }
        }
        shapes
    }

    /// Calls `f(output, input, weight)` with the offsets of every product of the convolution.
    fn each_product(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
        let (c, oh, ow) = (s.c_in, s.out_h(), s.out_w());
        for o in 0..s.n * oh * ow {
            let (image, oy, ox) = (o / (oh * ow), o / ow % oh, o % ow);
            for t in 0..s.kh * s.kw {
                let iy = (oy * s.stride[0] + t / s.kw).wrapping_sub(s.pad[0]);
                let ix = (ox * s.stride[1] + t % s.kw).wrapping_sub(s.pad[2]);
                if iy < s.h && ix < s.w {
                    let pixel = (image * s.h + iy) * s.w + ix;
                    (0..c).for_each(|k| f(o * c + k, pixel * c + k, k * s.kh * s.kw + t));
                }
            }
        }
    }

    #[test]
    fn all_passes_match_the_definition() {
        for s in shapes() {
            let (x, weight, dy) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.y_len()));
            let bias: Vec<f32> = noise(4, s.c_in).iter().map(|v| v * 4.0).collect();
            let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; weight.len()]);
            each_product(&s, |o, i, w| {
                y[o] += f64::from(x[i]) * f64::from(weight[w]);
                dx[i] += f64::from(dy[o]) * f64::from(weight[w]);
                dw[w] += f64::from(dy[o]) * f64::from(x[i]);
            });
            let biased = |act: Act| -> Vec<f64> {
                let bounds = |v: f64| match act {
                    Act::None => v,
                    Act::Relu => v.max(0.0),
                    Act::Relu6 => v.clamp(0.0, 6.0),
                };
                y.iter().enumerate().map(|(i, v)| bounds(v + f64::from(bias[i % s.c_in]))).collect()
            };
            for level in Level::available() {
                let mut got = vec![f32::NAN; y.len()];
                forward_at(level, &s, &x, &weight, None, Act::None.into(), &mut got);
                assert_close(&got, &y, 1e-5, &format!("{level} {s:?} y"));
                for act in [Act::None, Act::Relu, Act::Relu6] {
                    forward_at(level, &s, &x, &weight, Some(&bias), act.into(), &mut got);
                    assert_close(&got, &biased(act), 1e-5, &format!("{level} {s:?} {act:?}"));
                }
                let mut bent = got.clone();
                forward_at(level, &s, &x, &weight, Some(&bias), Act::None.into(), &mut got);
                forward_at(level, &s, &x, &weight, Some(&bias), Curve::Silu.into(), &mut bent);
                crate::curve::values(level, Curve::Silu, &mut got);
                assert_eq!(bent, got, "{level} {s:?} bent");
                let mut got = vec![f32::NAN; x.len()];
                backward_data_at(level, &s, &dy, &weight, &mut got);
                assert_close(&got, &dx, 1e-5, &format!("{level} {s:?} dx"));
                let mut got = vec![f32::NAN; weight.len()];
                backward_weight_at(level, &s, &x, &dy, &mut got);
                assert_close(&got, &dw, 1e-5, &format!("{level} {s:?} dw"));
            }
        }
    }
}
