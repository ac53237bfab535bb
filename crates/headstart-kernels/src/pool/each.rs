//! The way over the outputs of a pool, whatever the format of the map.

use std::ops::Range;

use super::shape::{Window, pixels};
use crate::Level;
use crate::simd::{at, blocks};
use crate::threads::{SharedMut, parallel_for};

/// The pixels of one image under an output pixel.
pub(crate) struct Pixels<'a> {
    row: &'a Window,
    column: &'a Window,
    image: usize,
    size: [usize; 2],
}

impl Pixels<'_> {
    #[inline(always)]
    pub(crate) fn rows(&self) -> Range<usize> {
        self.row.start..self.row.end
    }

    #[inline(always)]
    pub(crate) fn columns(&self) -> Range<usize> {
        self.column.start..self.column.end
    }

    /// Numbers a pixel of the window through all images.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, column: usize) -> usize {
        (self.image * self.size[0] + row) * self.size[1] + column
    }

    /// Counts the pixels, those of the padding too where `padded`.
    #[inline(always)]
    pub(crate) fn count(&self, padded: bool) -> usize {
        pixels(self.row, self.column, padded)
    }
}

/// Calls `pool(window, first channel, block of y)` for every block of up to [`BLOCK`](crate::simd::BLOCK) channels of every pixel of `y`,
/// `[n, rows, columns, c]`, on maps of `size` rows and columns. `pool` must be inlined always.
pub(crate) fn each_window<T: Send>(
    level: Level,
    size: [usize; 2],
    [rows, columns]: [&[Window]; 2],
    c: usize,
    y: &mut [T],
    pool: impl Fn(&Pixels, usize, &mut [T]) + Sync,
) {
    let len = columns.len() * c;
    let lines = y.len().checked_div(len).unwrap_or(0);
    let y = SharedMut::new(y);
    parallel_for(lines, |index| {
        // SAFETY: each task has its own output row.
        let y = unsafe { y.part(index * len, len) };
        let (image, row) = (index / rows.len(), &rows[index % rows.len()]);
        at(
            level,
            #[inline(always)]
            |_| {
                for (y, column) in y.chunks_exact_mut(c).zip(columns) {
                    let pixels = Pixels { row, column, image, size };
                    blocks(
                        y,
                        #[inline(always)]
                        |from, y| pool(&pixels, from, y),
                    );
                }
            },
        );
    });
}
