//! The mean of each window.

use super::each::each_window;
use super::shape::{Map, Window, pixels, readers};
use crate::simd::{BLOCK, at};
use crate::threads::{SharedMut, parallel_for};
use crate::{Element, Level};

pub(super) fn window_mean<T: Element>(
    level: Level,
    map: Map,
    [rows, columns]: &[Vec<Window>; 2],
    padded: bool,
    x: &[T],
    y: &mut [f32],
) {
    let Map { n, h, w, c } = map;
    assert_eq!(x.len(), map.len(), "input and shape differ");
    assert_eq!(y.len(), n * rows.len() * columns.len() * c, "output and shape differ");
    each_window(
        level,
        [h, w],
        [rows, columns],
        c,
        y,
        #[inline(always)]
        |pixels, from, y| {
            let mut sums = [0.0_f32; BLOCK];
            for row in pixels.rows() {
                // A row's sum first: fewer terms in a chain, smaller errors.
                let mut line = [0.0_f32; BLOCK];
                for column in pixels.columns() {
                    let x = &x[pixels.at(row, column) * c + from..][..y.len()];
                    line.iter_mut().zip(x).for_each(|(s, x)| *s += x.get());
                }
                sums.iter_mut().zip(line).for_each(|(s, l)| *s += l);
            }
            let share = 1.0 / pixels.count(padded) as f32;
            y.iter_mut().zip(sums).for_each(|(y, s)| *y = s * share);
        },
    );
}

pub(super) fn window_mean_backward<T: Element>(
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
                    let factor = 1.0 / pixels(&rows[*oy], &columns[*ox], padded) as f32;
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
