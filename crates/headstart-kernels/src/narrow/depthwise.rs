//! What the depthwise layers of both formats share: the taps that reach an output pixel, and the way over the pixels.

use crate::Level;
use crate::conv::ConvShape;
use crate::simd::{at, blocks};
use crate::threads::{SharedMut, parallel_for};

/// The window of the pixels of one output row.
pub(crate) struct Taps<'a> {
    pub shape: &'a ConvShape,
    pub image: usize,
    pub row: usize,
}

impl Taps<'_> {
    /// Calls `each(tap, input pixel)` for the taps of an output pixel that fall inside the map.
    #[inline(always)]
    pub(crate) fn each(&self, column: usize, mut each: impl FnMut(usize, usize)) {
        let s = self.shape;
        for ky in 0..s.kh {
            let iy = (self.row * s.stride[0] + ky).wrapping_sub(s.pad[0]);
            if iy >= s.h {
                continue;
            }
            for kx in 0..s.kw {
                let ix = (column * s.stride[1] + kx).wrapping_sub(s.pad[2]);
                if ix < s.w {
                    each(ky * s.kw + kx, (self.image * s.h + iy) * s.w + ix);
                }
            }
        }
    }
}

/// Calls `sum(fma, taps, column, first channel, block of y)` for every block of up to [`BLOCK`](crate::simd::BLOCK) channels of every pixel
/// of `y`, `[n, out_h, out_w, c]`. `sum` must be inlined always.
pub(crate) fn each_block<T: Send>(
    level: Level,
    shape: &ConvShape,
    y: &mut [T],
    sum: impl Fn(bool, &Taps, usize, usize, &mut [T]) + Sync,
) {
    let (c, rows, len) = (shape.c_in, shape.out_h(), shape.out_w() * shape.c_in);
    let y = SharedMut::new(y);
    parallel_for(shape.n * rows, |index| {
        // SAFETY: each task has its own output row.
        let y = unsafe { y.part(index * len, len) };
        let taps = Taps { shape, image: index / rows, row: index % rows };
        at(
            level,
            #[inline(always)]
            |fma| {
                for (column, y) in y.chunks_exact_mut(c).enumerate() {
                    blocks(
                        y,
                        #[inline(always)]
                        |from, y| sum(fma, &taps, column, from, y),
                    );
                }
            },
        );
    });
}
