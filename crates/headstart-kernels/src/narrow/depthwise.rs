//! What the depthwise layers of both formats share: the taps that reach an output pixel.

use crate::conv::ConvShape;

/// Channels whose sums stay in registers while the taps pass by.
pub(crate) const BLOCK: usize = 32;

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
