//! Max pooling and average pooling of NHWC maps.
//!
//! Backward passes gather: each input pixel adds what the windows over it send back, in a fixed
//! order. That writes every gradient once, needs no zero-fill, and tasks never share a pixel.

use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};
use crate::{Element, Level};

/// A pooling window over a map: sizes in pixels, padding on all four sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step down and right.
    pub stride: [usize; 2],
    /// Padding above and below, left and right; at most half the window.
    pub pad: [usize; 2],
}

impl PoolShape {
    /// Returns the output's height and width, rounded down as PyTorch does by default.
    pub fn output(&self) -> [usize; 2] {
        let size = |len: usize, axis: usize| {
            let (kernel, pad) = (self.kernel[axis], self.pad[axis]);
            assert!(kernel >= 1 && self.stride[axis] >= 1 && 2 * pad <= kernel, "not a pool: {self:?}");
            assert!(len + 2 * pad >= kernel, "the window is larger than the map: {self:?}");
            (len + 2 * pad - kernel) / self.stride[axis] + 1
        };
        [size(self.h, 0), size(self.w, 1)]
    }

    /// Returns the windows of each axis.
    pub(crate) fn windows(&self) -> [Vec<Window>; 2] {
        let [oh, ow] = self.output();
        let axis = |count: usize, len: usize, axis: usize| {
            let (kernel, pad) = (self.kernel[axis], self.pad[axis]);
            let window = |i: usize| {
                let from = i * self.stride[axis];
                Window {
                    start: from.saturating_sub(pad),
                    end: (from + kernel - pad).min(len),
                    skipped: pad.saturating_sub(from),
                    padded: (from + kernel).min(len + 2 * pad) - from,
                }
            };
            (0..count).map(window).collect()
        };
        [axis(oh, self.h, 0), axis(ow, self.w, 1)]
    }

    fn map(&self) -> Map {
        Map { n: self.n, h: self.h, w: self.w, c: self.c }
    }
}

/// Takes the largest value of each window; padding never wins, NaN always does.
///
/// `taps`, where given, receives the winner's place in the window (`ky * kw + kx`, the first of
/// equals): a byte per output, for [`max_backward`].
pub fn max_forward<T: Element>(shape: &PoolShape, x: &[T], y: &mut [T], taps: Option<&mut [u8]>) {
    max_forward_at(Level::current(), shape, x, y, taps);
}

/// Sends each output's gradient to the pixel that won its window.
pub fn max_backward<T: Element>(shape: &PoolShape, taps: &[u8], dy: &[T], dx: &mut [T]) {
    max_backward_at(Level::current(), shape, taps, dy, dx);
}

/// Averages each window; `count_include_pad` divides by the padded window as PyTorch does by default.
pub fn average_forward(shape: &PoolShape, count_include_pad: bool, x: &[f32], y: &mut [f32]) {
    window_mean(Level::current(), shape.map(), &shape.windows(), count_include_pad, x, y);
}

/// Differentiates [`average_forward`].
pub fn average_backward(shape: &PoolShape, count_include_pad: bool, dy: &[f32], dx: &mut [f32]) {
    window_mean_backward(Level::current(), shape.map(), &shape.windows(), count_include_pad, dy, dx);
}

/// Averages `[n, h, w, c]` to `[n, out_h, out_w, c]` over windows that tile the map, as PyTorch's
/// `AdaptiveAvgPool2d`; `out` = `[1, 1]` is the global average, in f32 whatever the map is.
pub fn adaptive_avg_forward<T: Element>([n, h, w, c]: [usize; 4], out: [usize; 2], x: &[T], y: &mut [f32]) {
    let windows = [adaptive(h, out[0]), adaptive(w, out[1])];
    window_mean(Level::current(), Map { n, h, w, c }, &windows, false, x, y);
}

/// Differentiates [`adaptive_avg_forward`]; the shape is the input's.
pub fn adaptive_avg_backward<T: Element>(
    [n, h, w, c]: [usize; 4],
    out: [usize; 2],
    dy: &[f32],
    dx: &mut [T],
) {
    let windows = [adaptive(h, out[0]), adaptive(w, out[1])];
    window_mean_backward(Level::current(), Map { n, h, w, c }, &windows, false, dy, dx);
}

/// The pixels `start..end` of one axis that an output reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Padding before `start`.
    skipped: usize,
    /// Pixels with padding.
    padded: usize,
}

#[derive(Clone, Copy)]
struct Map {
    n: usize,
    h: usize,
    w: usize,
    c: usize,
}

impl Map {
    fn len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }
}

pub(crate) fn adaptive(len: usize, out: usize) -> Vec<Window> {
    assert!(len >= 1 && out >= 1, "an adaptive pool from {len} to {out} pixels");
    let window = |i: usize| {
        let (start, end) = (i * len / out, ((i + 1) * len).div_ceil(out));
        Window { start, end, skipped: 0, padded: end - start }
    };
    (0..out).map(window).collect()
}

/// For each pixel of an axis, the outputs whose windows hold it.
fn readers(windows: &[Window], len: usize) -> Vec<Vec<usize>> {
    let reads = |i: usize, o: &usize| (windows[*o].start..windows[*o].end).contains(&i);
    (0..len).map(|i| (0..windows.len()).filter(|o| reads(i, o)).collect()).collect()
}

fn max_forward_at<T: Element>(
    level: Level,
    shape: &PoolShape,
    x: &[T],
    y: &mut [T],
    taps: Option<&mut [u8]>,
) {
    let [oh, ow] = shape.output();
    let PoolShape { n, h, w, c, kernel: [kh, kw], .. } = *shape;
    assert_eq!(x.len(), shape.map().len(), "input and shape differ");
    assert_eq!(y.len(), n * oh * ow * c, "output and shape differ");
    assert!(taps.as_ref().is_none_or(|t| t.len() == y.len()), "taps and output differ in length");
    assert!(taps.is_none() || kh * kw <= 256, "a window of {kh}x{kw} has more taps than a byte holds");
    let [rows, columns] = shape.windows();
    let y = SharedMut::new(y);
    let taps = taps.map(SharedMut::new);
    parallel_for(n * oh, |index| {
        let (image, row) = (&x[index / oh * h * w * c..][..h * w * c], &rows[index % oh]);
        let (from, len) = (index * ow * c, ow * c);
        // SAFETY: each task has its own output row.
        let y = unsafe { y.part(from, len) };
        // SAFETY: as above.
        let taps = taps.as_ref().map(|t| unsafe { t.part(from, len) });
        match taps {
            Some(taps) => at(
                level,
                #[inline(always)]
                |_| max_row_taps(image, row, &columns, w, c, kw, y, taps),
            ),
            None => at(
                level,
                #[inline(always)]
                |_| max_row(image, row, &columns, w, c, y),
            ),
        }
    });
}

/// Channels whose running maxima stay in registers while the taps pass by.
const BLOCK: usize = 32;

#[inline(always)]
#[allow(clippy::too_many_arguments)] // slices by name, so that they do not alias
fn max_row_taps<T: Element>(
    image: &[T],
    row: &Window,
    columns: &[Window],
    w: usize,
    c: usize,
    kw: usize,
    y: &mut [T],
    taps: &mut [u8],
) {
    for ((y, taps), column) in y.chunks_exact_mut(c).zip(taps.chunks_exact_mut(c)).zip(columns) {
        for (block, (y, taps)) in y.chunks_mut(BLOCK).zip(taps.chunks_mut(BLOCK)).enumerate() {
            let image = &image[block * BLOCK..];
            // The same body twice: a constant length keeps the block in registers.
            match y.len() {
                BLOCK => max_block_taps(image, row, column, w, c, kw, &mut y[..BLOCK], &mut taps[..BLOCK]),
                _ => max_block_taps(image, row, column, w, c, kw, y, taps),
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)] // as above
fn max_block_taps<T: Element>(
    image: &[T],
    row: &Window,
    column: &Window,
    w: usize,
    c: usize,
    kw: usize,
    y: &mut [T],
    taps: &mut [u8],
) {
    // Padding: the first pixel wins a window of minus infinities.
    let first = row.skipped * kw + column.skipped;
    let (mut best, mut tap) = ([f32::NEG_INFINITY; BLOCK], [first as u32; BLOCK]);
    for iy in row.start..row.end {
        for ix in column.start..column.end {
            let here = ((iy - row.start) * kw + ix - column.start + first) as u32;
            let x = &image[(iy * w + ix) * c..][..y.len()];
            for ((b, t), x) in best.iter_mut().zip(&mut tap).zip(x) {
                let x = x.get();
                let wins = (x > *b) | x.is_nan();
                *b = if wins { x } else { *b };
                *t = if wins { here } else { *t };
            }
        }
    }
    y.iter_mut().zip(best).for_each(|(y, b)| *y = T::put(b));
    taps.iter_mut().zip(tap).for_each(|(t, from)| *t = from as u8);
}

#[inline(always)]
fn max_row<T: Element>(image: &[T], row: &Window, columns: &[Window], w: usize, c: usize, y: &mut [T]) {
    for (y, column) in y.chunks_exact_mut(c).zip(columns) {
        for (block, y) in y.chunks_mut(BLOCK).enumerate() {
            let image = &image[block * BLOCK..];
            match y.len() {
                BLOCK => max_block(image, row, column, w, c, &mut y[..BLOCK]),
                _ => max_block(image, row, column, w, c, y),
            }
        }
    }
}

#[inline(always)]
fn max_block<T: Element>(image: &[T], row: &Window, column: &Window, w: usize, c: usize, y: &mut [T]) {
    let mut best = [f32::NEG_INFINITY; BLOCK];
    for iy in row.start..row.end {
        for ix in column.start..column.end {
            let x = &image[(iy * w + ix) * c..][..y.len()];
            for (b, x) in best.iter_mut().zip(x) {
                let x = x.get();
                *b = if (x > *b) | x.is_nan() { x } else { *b };
            }
        }
    }
    y.iter_mut().zip(best).for_each(|(y, b)| *y = T::put(b));
}

fn max_backward_at<T: Element>(level: Level, shape: &PoolShape, taps: &[u8], dy: &[T], dx: &mut [T]) {
    let [oh, ow] = shape.output();
    let PoolShape { n, h, w, c, kernel: [_, kw], .. } = *shape;
    assert_eq!(dx.len(), shape.map().len(), "gradient and shape differ");
    assert_eq!(dy.len(), n * oh * ow * c, "output gradient and shape differ");
    assert_eq!(taps.len(), dy.len(), "taps and output gradient differ in length");
    let [rows, columns] = shape.windows();
    let (row_readers, column_readers) = (readers(&rows, h), readers(&columns, w));
    let place = |window: &Window, i: usize| i - window.start + window.skipped;
    let dx = SharedMut::new(dx);
    parallel_for(n * h, |index| {
        let (image, iy) = (index / h, index % h);
        // SAFETY: each task has its own input row.
        let dx = unsafe { dx.part(index * w * c, w * c) };
        let mut sources = Vec::with_capacity(16);
        for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
            sources.clear();
            for oy in &row_readers[iy] {
                for ox in &column_readers[ix] {
                    let tap = place(&rows[*oy], iy) * kw + place(&columns[*ox], ix);
                    sources.push((((image * oh + oy) * ow + ox) * c, tap as u8));
                }
            }
            at(
                level,
                #[inline(always)]
                |_| collect_winners(&sources, taps, dy, dx),
            );
        }
    });
}

#[inline(always)]
fn collect_winners<T: Element>(sources: &[(usize, u8)], taps: &[u8], dy: &[T], dx: &mut [T]) {
    for (block, dx) in dx.chunks_mut(BLOCK).enumerate() {
        let (taps, dy) = (&taps[block * BLOCK..], &dy[block * BLOCK..]);
        match dx.len() {
            BLOCK => collect_block(sources, taps, dy, &mut dx[..BLOCK]),
            _ => collect_block(sources, taps, dy, dx),
        }
    }
}

#[inline(always)]
fn collect_block<T: Element>(sources: &[(usize, u8)], taps: &[u8], dy: &[T], dx: &mut [T]) {
    let mut sum = [0.0_f32; BLOCK];
    for (from, tap) in sources {
        let (taps, dy) = (&taps[*from..][..dx.len()], &dy[*from..][..dx.len()]);
        for ((s, t), d) in sum.iter_mut().zip(taps).zip(dy) {
            *s += if *t == *tap { d.get() } else { 0.0 };
        }
    }
    dx.iter_mut().zip(sum).for_each(|(d, s)| *d = T::put(s));
}

/// Divides by the pixels of a window, with or without the padding.
fn share(row: &Window, column: &Window, padded: bool) -> f32 {
    let size = |w: &Window| if padded { w.padded } else { w.end - w.start };
    1.0 / (size(row) * size(column)) as f32
}

fn window_mean<T: Element>(
    level: Level,
    map: Map,
    windows: &[Vec<Window>; 2],
    padded: bool,
    x: &[T],
    y: &mut [f32],
) {
    let Map { n, h, w, c } = map;
    let [rows, columns] = windows;
    let (oh, ow) = (rows.len(), columns.len());
    assert_eq!(x.len(), map.len(), "input and shape differ");
    assert_eq!(y.len(), n * oh * ow * c, "output and shape differ");
    let y = SharedMut::new(y);
    parallel_for(n * oh, |index| {
        let (image, row) = (&x[index / oh * h * w * c..][..h * w * c], &rows[index % oh]);
        // SAFETY: each task has its own output row.
        let y = unsafe { y.part(index * ow * c, ow * c) };
        // Sums of one image row first, then over rows: fewer terms in a chain, smaller errors.
        let mut line = vec![0.0; c];
        for (y, column) in y.chunks_exact_mut(c).zip(columns) {
            let factor = share(row, column, padded);
            at(
                level,
                #[inline(always)]
                |_| mean_pixel(image, row, column, w, factor, &mut line, y),
            );
        }
    });
}

#[inline(always)]
fn mean_pixel<T: Element>(
    image: &[T],
    row: &Window,
    column: &Window,
    w: usize,
    factor: f32,
    line: &mut [f32],
    y: &mut [f32],
) {
    let c = y.len();
    y.fill(0.0);
    for iy in row.start..row.end {
        line.fill(0.0);
        for x in image[(iy * w + column.start) * c..(iy * w + column.end) * c].chunks_exact(c) {
            line.iter_mut().zip(x).for_each(|(s, x)| *s += x.get());
        }
        y.iter_mut().zip(&*line).for_each(|(y, s)| *y += *s);
    }
    y.iter_mut().for_each(|y| *y *= factor);
}

fn window_mean_backward<T: Element>(
    level: Level,
    map: Map,
    windows: &[Vec<Window>; 2],
    padded: bool,
    dy: &[f32],
    dx: &mut [T],
) {
    let Map { n, h, w, c } = map;
    let [rows, columns] = windows;
    let (oh, ow) = (rows.len(), columns.len());
    assert_eq!(dx.len(), map.len(), "gradient and shape differ");
    assert_eq!(dy.len(), n * oh * ow * c, "output gradient and shape differ");
    let (row_readers, column_readers) = (readers(rows, h), readers(columns, w));
    let dx = SharedMut::new(dx);
    parallel_for(n * h, |index| {
        let (image, iy) = (index / h, index % h);
        // SAFETY: each task has its own input row.
        let dx = unsafe { dx.part(index * w * c, w * c) };
        let mut sums = vec![0.0; c];
        for (dx, column_readers) in dx.chunks_exact_mut(c).zip(&column_readers) {
            sums.fill(0.0);
            for oy in &row_readers[iy] {
                for ox in column_readers {
                    let factor = share(&rows[*oy], &columns[*ox], padded);
                    let dy = &dy[((image * oh + oy) * ow + ox) * c..][..c];
                    at(
                        level,
                        #[inline(always)]
                        |_| sums.iter_mut().zip(dy).for_each(|(s, y)| *s += *y * factor),
                    );
                }
            }
            at(
                level,
                #[inline(always)]
                |_| dx.iter_mut().zip(&sums).for_each(|(d, s)| *d = T::put(*s)),
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    fn shapes() -> Vec<PoolShape> {
        let mut shapes = Vec::new();
        for c in [1, 3, 17, 64, 100] {
            for (h, w, kernel, stride, pad) in [
                (1, 1, [1, 1], [1, 1], [0, 0]),
                (1, 1, [3, 3], [2, 2], [1, 1]),
                (9, 12, [3, 3], [2, 2], [1, 1]),
                (8, 7, [2, 2], [2, 2], [0, 0]),
                (6, 11, [3, 2], [1, 3], [1, 0]),
            ] {
                shapes.push(PoolShape { n: 2, h, w, c, kernel, stride, pad });
            }
        }
        shapes
    }

    /// The pixels each output reads, as (ky, kx, offset of the pixel), by the textbook loop.
    fn reads(s: &PoolShape, image: usize, oy: usize, ox: usize) -> Vec<(usize, usize, usize)> {
        let mut reads = Vec::new();
        for ky in 0..s.kernel[0] {
            for kx in 0..s.kernel[1] {
                let iy = (oy * s.stride[0] + ky).wrapping_sub(s.pad[0]);
                let ix = (ox * s.stride[1] + kx).wrapping_sub(s.pad[1]);
                if iy < s.h && ix < s.w {
                    reads.push((ky, kx, ((image * s.h + iy) * s.w + ix) * s.c));
                }
            }
        }
        reads
    }

    fn each_output(s: &PoolShape, mut f: impl FnMut(usize, Vec<(usize, usize, usize)>)) {
        let [oh, ow] = s.output();
        for image in 0..s.n {
            for oy in 0..oh {
                for ox in 0..ow {
                    f(((image * oh + oy) * ow + ox) * s.c, reads(s, image, oy, ox));
                }
            }
        }
    }

    #[test]
    fn max_and_its_gradient_match_the_definition() {
        for s in shapes() {
            let x = noise(1, s.map().len());
            let out = s.n * s.output().iter().product::<usize>() * s.c;
            let dy = noise(2, out);
            let (mut want, mut want_tap, mut want_dx) = (vec![0.0; out], vec![0_u8; out], vec![0.0; x.len()]);
            each_output(&s, |o, reads| {
                for k in 0..s.c {
                    let mut best = (f32::NEG_INFINITY, 0, 0);
                    for (ky, kx, at) in &reads {
                        if x[at + k] > best.0 {
                            best = (x[at + k], ky * s.kernel[1] + kx, at + k);
                        }
                    }
                    want[o + k] = best.0;
                    want_tap[o + k] = best.1 as u8;
                    want_dx[best.2] += f64::from(dy[o + k]);
                }
            });
            for level in Level::available() {
                let (mut y, mut alone) = (vec![9.0; out], vec![9.0; out]);
                let (mut taps, mut dx) = (vec![99; out], vec![9.0; x.len()]);
                max_forward_at(level, &s, &x, &mut y, Some(&mut taps));
                max_forward_at(level, &s, &x, &mut alone, None);
                max_backward_at(level, &s, &taps, &dy, &mut dx);
                assert_eq!((&y, &alone, &taps), (&want, &want, &want_tap), "{level} {s:?}");
                assert_close(&dx, &want_dx, 1e-6, &format!("{level} {s:?} dx"));
            }
        }
    }

    #[test]
    fn nan_wins_and_ties_go_to_the_first() {
        let shape = PoolShape { n: 1, h: 1, w: 4, c: 1, kernel: [1, 2], stride: [1, 2], pad: [0, 0] };
        for level in Level::available() {
            let (mut y, mut taps) = ([0.0; 2], [9; 2]);
            max_forward_at(level, &shape, &[1.0, 1.0, f32::NAN, 5.0], &mut y, Some(&mut taps));
            assert!(y[0] == 1.0 && y[1].is_nan() && taps == [0, 0], "{level}: {y:?} {taps:?}");
            max_forward_at(level, &shape, &[f32::NEG_INFINITY; 4], &mut y, Some(&mut taps));
            assert_eq!((y, taps), ([f32::NEG_INFINITY; 2], [0, 0]), "{level}");
        }
    }

    #[test]
    fn average_and_its_gradient_match_the_definition() {
        for s in shapes() {
            for padded in [false, true] {
                let x = noise(1, s.map().len());
                let out = s.n * s.output().iter().product::<usize>() * s.c;
                let dy = noise(2, out);
                let (mut want, mut want_dx) = (vec![0.0; out], vec![0.0; x.len()]);
                each_output(&s, |o, reads| {
                    // Rounding down means that no window passes the padded edge.
                    let count = if padded { s.kernel[0] * s.kernel[1] } else { reads.len() } as f64;
                    for k in 0..s.c {
                        for (_, _, at) in &reads {
                            want[o + k] += f64::from(x[at + k]) / count;
                            want_dx[at + k] += f64::from(dy[o + k]) / count;
                        }
                    }
                });
                for level in Level::available() {
                    let (mut y, mut dx) = (vec![9.0; out], vec![9.0; x.len()]);
                    window_mean(level, s.map(), &s.windows(), padded, &x, &mut y);
                    window_mean_backward(level, s.map(), &s.windows(), padded, &dy, &mut dx);
                    assert_close(&y, &want, 1e-6, &format!("{level} {s:?} y"));
                    assert_close(&dx, &want_dx, 1e-6, &format!("{level} {s:?} dx"));
                }
            }
        }
    }

    #[test]
    fn adaptive_matches_the_definition() {
        for (h, w, out) in [(7, 7, [1, 1]), (1, 1, [1, 1]), (7, 5, [3, 2]), (4, 6, [6, 4]), (10, 7, [7, 7])] {
            for c in [1, 17, 100] {
                let (n, shape) = (2, [2, h, w, c]);
                let (x, dy) = (noise(1, n * h * w * c), noise(2, n * out[0] * out[1] * c));
                let (mut want, mut want_dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
                for (o, k) in (0..dy.len()).map(|i| (i / c, i % c)) {
                    let (image, oy, ox) = (o / (out[0] * out[1]), o / out[1] % out[0], o % out[1]);
                    let range = |i: usize, len: usize, out: usize| {
                        let start = (i as f64 * len as f64 / out as f64).floor() as usize;
                        start..((i + 1) as f64 * len as f64 / out as f64).ceil() as usize
                    };
                    let (ys, xs) = (range(oy, h, out[0]), range(ox, w, out[1]));
                    let count = (ys.len() * xs.len()) as f64;
                    for iy in ys {
                        for ix in xs.clone() {
                            let i = ((image * h + iy) * w + ix) * c + k;
                            want[o * c + k] += f64::from(x[i]) / count;
                            want_dx[i] += f64::from(dy[o * c + k]) / count;
                        }
                    }
                }
                let (mut y, mut dx) = (vec![9.0; dy.len()], vec![9.0; x.len()]);
                adaptive_avg_forward(shape, out, &x, &mut y);
                adaptive_avg_backward(shape, out, &dy, &mut dx);
                assert_close(&y, &want, 1e-6, &format!("{shape:?} {out:?} y"));
                assert_close(&dx, &want_dx, 1e-6, &format!("{shape:?} {out:?} dx"));
            }
        }
    }
}
