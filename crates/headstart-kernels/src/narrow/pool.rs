//! What the pools of both formats share: the windows of output pixels, and the way over them.

use std::ops::Range;

use super::BLOCK;
use crate::Level;
use crate::pool::Window;
use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};

/// The pixels of one image under an output pixel.
pub(crate) struct Pixels {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    image: usize,
    size: [usize; 2],
}

impl Pixels {
    /// Numbers a pixel of the window through all images.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize, column: usize) -> usize {
        (self.image * self.size[0] + row) * self.size[1] + column
    }

    pub(crate) fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// Calls `pool(window, first channel, block of y)` for every block of up to [`BLOCK`] channels of every pixel of `y`,
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
                    let (rows, columns) = (row.start..row.end, column.start..column.end);
                    let pixels = Pixels { rows, columns, image, size };
                    for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                        // The same body twice: a constant length keeps the block in registers.
                        match y.len() {
                            BLOCK => pool(&pixels, block * BLOCK, &mut y[..BLOCK]),
                            _ => pool(&pixels, block * BLOCK, y),
                        }
                    }
                }
            },
        );
    });
}
