//! Colour planes at half size stretched to the picture's, by libjpeg's triangle filter: three parts of the nearer sample, one of
//! the farther, with roundings that alternate so that no bias remains.

use super::Plane;

/// Directions in which the colour planes have half the samples.
#[derive(Clone, Copy)]
pub(super) struct Halved {
    pub(super) across: bool,
    pub(super) down: bool,
}

/// A colour plane as rows of the picture's width, or one sample more.
pub(super) struct Stretched<'a> {
    plane: &'a Plane,
    halved: Halved,
    /// A row mixed with its neighbour above or below, its first and last value twice.
    mix: Vec<i16>,
    row: Vec<u8>,
}

impl<'a> Stretched<'a> {
    pub(super) fn new(plane: &'a Plane, halved: Halved) -> Self {
        let width = if halved.across { 2 * plane.width } else { plane.width };
        Self { plane, halved, mix: vec![0; plane.width + 2], row: vec![0; width] }
    }

    /// Returns row `y` of the picture.
    #[inline(always)]
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let (near, far) = if self.halved.down { self.nearest(y) } else { (y, y) };
        let near = self.plane.row(near);
        match (self.halved.across, self.halved.down) {
            (false, false) => return near,
            // Too narrow for libjpeg to mix neighbours.
            (true, _) if self.plane.width <= 2 => {
                for (to, &v) in self.row.chunks_exact_mut(2).zip(near) {
                    to.fill(v);
                }
            }
            (true, false) => {
                for (to, &v) in self.mix[1..].iter_mut().zip(near) {
                    *to = i16::from(v);
                }
                self.repeat_ends();
                widen::<2>(&self.mix, &mut self.row, 1, 2);
            }
            (across, true) => {
                let far = self.plane.row(far);
                for ((to, &near), &far) in self.mix[1..].iter_mut().zip(near).zip(far) {
                    *to = 3 * i16::from(near) + i16::from(far);
                }
                self.repeat_ends();
                if across {
                    widen::<4>(&self.mix, &mut self.row, 8, 7);
                } else {
                    let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                    for (to, v) in self.row.iter_mut().zip(&self.mix[1..]) {
                        *to = ((v + bias) >> 2) as u8;
                    }
                }
            }
        }
        &self.row
    }

    /// Returns the plane's nearest and second nearest row to row `y` of the picture.
    #[inline(always)]
    fn nearest(&self, y: usize) -> (usize, usize) {
        let near = y / 2;
        let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
        (near, far.min(self.plane.height - 1))
    }

    #[inline(always)]
    fn repeat_ends(&mut self) {
        let width = self.plane.width;
        self.mix[0] = self.mix[1];
        self.mix[width + 1] = self.mix[width];
    }
}

/// Makes two samples of each value: mixed with the one before it, then with the one after.
#[inline(always)]
fn widen<const SHIFT: u32>(mix: &[i16], row: &mut [u8], before: i16, after: i16) {
    let width = row.len() / 2;
    let (left, middle, right) = (&mix[..width], &mix[1..][..width], &mix[2..][..width]);
    for (x, to) in row.chunks_exact_mut(2).enumerate() {
        to[0] = ((3 * middle[x] + left[x] + before) >> SHIFT) as u8;
        to[1] = ((3 * middle[x] + right[x] + after) >> SHIFT) as u8;
    }
}
