//! Finds the inputs of a tile: a pointer to the channels under each tap of each pixel.
//!
//! Pointers need no copy and no border case (a tap outside the map points to zeros), but cost as much as
//! a few products, and what they point to must be whole words. Few or odd channels (the stem) get one a
//! kernel row instead, whose taps lie side by side: the last word may reach into the next pixel, where
//! weights are zero. Only rows that cross an edge, or reach a NaN there, are copied.

use super::pack::row_words;
use super::{Place, ROWS, per_word};
use crate::conv::ConvShape;
use crate::scratch::Plain;

/// Fewest bytes under a tap that are worth a pointer.
const POINTER_BYTES: usize = 32;

/// Pixels this many bytes apart share a few sets of the L1 cache, which a tile of them would overfill.
const ALIAS_BYTES: usize = 4096;

/// Prepares the inputs of one group's tiles.
pub(super) struct Stage<'a, T> {
    s: &'a ConvShape,
    x: &'a [T],
    outside: T,
    /// First channel and count.
    channels: [usize; 2],
    place: &'a Place,
    /// Input row and column of each tap for output pixel (0, 0); may lie outside.
    taps: Vec<[isize; 2]>,
    reading: Reading,
}

/// How a tile's inputs are found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A pointer for each tap.
    Taps,
    /// A pointer for each kernel row.
    Rows,
    /// All kernel rows copied.
    Copies,
}

impl<'a, T: Plain> Stage<'a, T> {
    pub(super) fn new(s: &'a ConvShape, place: &'a Place, group: usize, x: &'a [T], outside: T) -> Self {
        let depth = s.group_in();
        let [top, side] = place.origin;
        let tap = |t: usize| [(t / s.kw) as isize + top, (t % s.kw) as isize + side];
        let taps: Vec<_> = (0..s.kh * s.kw).map(tap).collect();
        let bytes = depth * size_of::<T>();
        let few = taps.len() > 1 && bytes < POINTER_BYTES;
        let alias = taps.len() == 1 && (s.stride[1] * s.c_in * size_of::<T>()).is_multiple_of(ALIAS_BYTES);
        Self {
            s,
            x,
            outside,
            channels: [group * depth, depth],
            place,
            taps,
            reading: match few || !depth.is_multiple_of(per_word::<T>()) {
                false if !alias => Reading::Taps,
                true if !alias && s.groups == 1 => Reading::Rows,
                _ => Reading::Copies,
            },
        }
    }

    /// Pointers a pixel, and words each leads to.
    pub(super) fn table_size(&self) -> [usize; 2] {
        match self.reading {
            Reading::Taps => [self.taps.len(), self.channels[1] / per_word::<T>()],
            Reading::Rows | Reading::Copies => [self.s.kh, row_words::<T>(self.s)],
        }
    }

    /// Bytes of input that a tile brings into the cache.
    pub(super) fn tile_bytes(&self) -> usize {
        let values = if self.reading == Reading::Copies {
            self.taps.len()
        } else {
            self.s.stride[0] * self.s.stride[1]
        };
        ROWS * values * self.channels[1] * size_of::<T>()
    }

    /// Values of one pixel's copies; an odd number of cache lines.
    fn pixel_len(&self) -> usize {
        let line = 64 / size_of::<T>();
        (self.s.kh * row_words::<T>(self.s) * per_word::<T>()).next_multiple_of(2 * line) + line
    }

    /// Values of a tile's copies.
    pub(super) fn copies_len(&self) -> usize {
        if self.reading == Reading::Taps { 0 } else { ROWS * self.pixel_len() }
    }

    /// Writes `[taps][ROWS]` pointers, then `ROWS` output offsets.
    ///
    /// `vanishes` tells whether a value may meet a weight that is zero because nothing is there.
    pub(super) fn fill(
        &self,
        tile: usize,
        zeros: &[T],
        copies: &mut [T],
        table: &mut [usize],
        vanishes: impl Fn(T) -> bool,
    ) {
        let (s, in_c) = (self.s, self.s.c_in);
        let [rows, columns] = self.place.out;
        let [first, to_image, to_row, to_column] = self.place.at;
        let [taps, _] = self.table_size();
        let (pointers, at) = table.split_at_mut(taps * ROWS);
        // Each pixel's image, and its input row and column were the tap (0, 0).
        let (mut images, mut ys, mut xs) = ([0_isize; ROWS], [0_isize; ROWS], [0_isize; ROWS]);
        let from = tile * ROWS;
        let m = ROWS.min(s.n * rows * columns - from);
        let (mut row, mut column) = (from / columns, from % columns);
        let mut image = row / rows;
        row %= rows;
        for r in 0..m {
            at[r] = first + image * to_image + row * to_row + column * to_column;
            images[r] = image as isize;
            ys[r] = (row * s.stride[0]) as isize;
            xs[r] = (column * s.stride[1]) as isize;
            column += 1;
            if column == columns {
                (row, column) = (row + 1, 0);
                if row == rows {
                    (image, row) = (image + 1, 0);
                }
            }
        }
        if self.reading != Reading::Taps {
            return self.point_at_rows([&images[..m], &ys[..m], &xs[..m]], copies, pointers, vanishes);
        }

        let size = size_of::<T>() as isize;
        let zeros = zeros.as_ptr() as usize;
        let start = self.x.as_ptr() as usize + self.channels[0] * size_of::<T>();
        let mut bases = [0_usize; ROWS];
        for r in 0..m {
            let pixel = (images[r] * s.h as isize + ys[r]) * s.w as isize + xs[r];
            bases[r] = start.wrapping_add_signed(pixel * in_c as isize * size);
        }
        for ([y, x], pointers) in self.taps.iter().zip(pointers.chunks_exact_mut(ROWS)) {
            let offset = (y * s.w as isize + x) * in_c as isize * size;
            for r in 0..m {
                // A negative position is a large one without its sign.
                let inside = ((ys[r] + y) as usize) < s.h && ((xs[r] + x) as usize) < s.w;
                pointers[r] = if inside { bases[r].wrapping_add_signed(offset) } else { zeros };
            }
        }
    }

    /// Points at the kernel rows of pixels, given their images, rows and columns, or at copies of them.
    fn point_at_rows(
        &self,
        [images, ys, xs]: [&[isize]; 3],
        copies: &mut [T],
        pointers: &mut [usize],
        vanishes: impl Fn(T) -> bool,
    ) {
        let s = self.s;
        let (run, whole) = (s.kw * self.channels[1], row_words::<T>(s) * per_word::<T>());
        let [top, side] = self.taps[0];
        // A row that begins further right crosses the edge.
        let lefts = if self.reading == Reading::Rows { (s.w + 1).saturating_sub(s.kw) } else { 0 };
        let last = (self.x.len() + 1).saturating_sub(whole);
        let start = self.x.as_ptr() as usize;
        // Past any `last`, whatever row is added.
        const OUTSIDE: isize = isize::MAX / 2;
        let mut bases = [0; ROWS];
        for r in 0..images.len() {
            let pixel = (images[r] * s.h as isize + ys[r] + top) * s.w as isize + xs[r] + side;
            // A negative position is a large one without its sign.
            let inside = ((xs[r] + side) as usize) < lefts;
            bases[r] = if inside { pixel * s.c_in as isize } else { OUTSIDE };
        }
        for (ky, pointers) in pointers.chunks_exact_mut(ROWS).enumerate() {
            for (r, pointer) in pointers[..images.len()].iter_mut().enumerate() {
                let y = (ys[r] + top + ky as isize) as usize;
                let from = (bases[r] + (ky * s.w * s.c_in) as isize) as usize;
                let inside = (y < s.h) & (from < last);
                let clean = |i: usize| self.x.get(from.wrapping_add(i)).is_none_or(|v| vanishes(*v));
                if inside && (run..whole).all(clean) {
                    *pointer = start + from * size_of::<T>();
                } else {
                    let copy = &mut copies[r * self.pixel_len() + ky * whole..][..whole];
                    *pointer = copy.as_ptr() as usize;
                    self.copy(images[r] as usize, y, xs[r] + side, copy);
                }
            }
        }
    }

    /// Copies a kernel row whose first tap is at column `left` of input row `y`, either maybe outside.
    #[inline(never)]
    fn copy(&self, image: usize, y: usize, left: isize, to: &mut [T]) {
        let s = self.s;
        let [first, depth] = self.channels;
        if y >= s.h {
            return to.fill(self.outside);
        }
        let row = (image * s.h + y) * s.w;
        let from = left.clamp(0, s.w as isize);
        let end = (left + s.kw as isize).clamp(from, s.w as isize);
        let (before, rest) = to.split_at_mut(((from - left) as usize).min(s.kw) * depth);
        let (taps, after) = rest.split_at_mut((end - from) as usize * depth);
        before.fill(self.outside);
        after.fill(self.outside);
        let x = &self.x[(row + from as usize) * s.c_in..(row + end as usize) * s.c_in];
        if depth == s.c_in {
            copy_run(taps, x);
        } else {
            for (to, x) in taps.chunks_exact_mut(depth).zip(x.chunks_exact(s.c_in)) {
                copy_run(to, &x[first..][..depth]);
            }
        }
    }
}

/// Copies a few values: inline, where a call of `memcpy` would cost more than the copy.
#[inline(always)]
fn copy_run<T: Plain>(to: &mut [T], from: &[T]) {
    const STEP: usize = 16;
    let len = to.len();
    assert_eq!(len, from.len());
    if len >= STEP {
        for (to, from) in to.chunks_exact_mut(STEP).zip(from.chunks_exact(STEP)) {
            to.copy_from_slice(from);
        }
        // The last ones again, to take the remainder along.
        to[len - STEP..].copy_from_slice(&from[len - STEP..]);
    } else {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}
