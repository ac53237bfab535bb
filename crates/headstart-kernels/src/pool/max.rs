//! The largest value of each window.

use super::each::each_window;
use super::shape::{PoolShape, Window, readers};
use crate::simd::{BLOCK, at, blocks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Element, Level};

pub(super) fn max_forward_at<T: Element>(
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
    let Some(taps) = taps else { return max_alone(level, shape, [&rows, &columns], x, y) };
    let (y, taps) = (SharedMut::new(y), SharedMut::new(taps));
    parallel_for(n * oh, |index| {
        let (image, row) = (&x[index / oh * h * w * c..][..h * w * c], &rows[index % oh]);
        let (from, len) = (index * ow * c, ow * c);
        // SAFETY: each task has its own output row.
        let (y, taps) = unsafe { (y.part(from, len), taps.part(from, len)) };
        at(
            level,
            #[inline(always)]
            |_| max_row_taps(image, row, &columns, w, c, kw, y, taps),
        );
    });
}

fn max_alone<T: Element>(level: Level, shape: &PoolShape, windows: [&[Window]; 2], x: &[T], y: &mut [T]) {
    let PoolShape { h, w, c, .. } = *shape;
    each_window(
        level,
        [h, w],
        windows,
        c,
        y,
        #[inline(always)]
        |pixels, from, y| {
            let mut best = [f32::NEG_INFINITY; BLOCK];
            for row in pixels.rows() {
                for column in pixels.columns() {
                    let x = &x[pixels.at(row, column) * c + from..][..y.len()];
                    for (b, x) in best.iter_mut().zip(x) {
                        let x = x.get();
                        *b = if (x > *b) | x.is_nan() { x } else { *b };
                    }
                }
            }
            y.iter_mut().zip(best).for_each(|(y, b)| *y = T::put(b));
        },
    );
}

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
            // As `blocks`, of two slices at once.
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

pub(super) fn max_backward_at<T: Element>(
    level: Level,
    shape: &PoolShape,
    taps: &[u8],
    dy: &[T],
    dx: &mut [T],
) {
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
                |_| {
                    blocks(
                        dx,
                        #[inline(always)]
                        |from, dx| collect_winners(&sources, &taps[from..], &dy[from..], dx),
                    )
                },
            );
        }
    });
}

#[inline(always)]
fn collect_winners<T: Element>(sources: &[(usize, u8)], taps: &[u8], dy: &[T], dx: &mut [T]) {
    let mut sum = [0.0_f32; BLOCK];
    for (from, tap) in sources {
        let (taps, dy) = (&taps[*from..][..dx.len()], &dy[*from..][..dx.len()]);
        for ((s, t), d) in sum.iter_mut().zip(taps).zip(dy) {
            *s += if *t == *tap { d.get() } else { 0.0 };
        }
    }
    dx.iter_mut().zip(sum).for_each(|(d, s)| *d = T::put(s));
}
