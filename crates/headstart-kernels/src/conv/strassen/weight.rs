//! The gradient of the weights: `dw[outputs, inputs] = Σ dy[pixel, outputs]ᵀ · x[pixel, inputs]`. The rows of the product are pairs of
//! output channels, its depth are the pixels, a chunk of them at a time, in halves.

use super::quad::{Pairs, Quad};
use super::{LEAST_COLS, LEAST_DEPTH, SUMS, each_line, of_panels, of_rows};
use crate::conv::direct::Output;
use crate::conv::micro::{Blocking, MAX_MR};
use crate::conv::{Act, ConvShape};
use crate::scratch::cut;
use crate::simd::{at, fetch};
use crate::threads::{SharedMut, parallel_for};
use crate::{Level, scratch};

/// Fewest pixels that make up for the additions.
const LEAST_PIXELS: usize = 512;

/// Most pixels of a chunk: a tile's half of them, seven times, and as much of a pair of panels fit L2.
const MOST_PIXELS: usize = 832;

/// Pixels that are asked for ahead, each in a row of its own, which the CPU does not foresee.
const AHEAD: usize = 8;

/// The gradient of the weights of a linear layer.
#[derive(Clone, Copy, Debug)]
pub(in crate::conv) struct Gradient {
    pixels: usize,
    outputs: usize,
    inputs: usize,
}

/// Some pixels, in two halves; the second may be one shorter.
#[derive(Clone, Copy)]
struct Chunk {
    from: usize,
    half: usize,
    second: usize,
}

impl Gradient {
    /// The gradient of a layer, if it is such a product, large enough, and of sizes that divide.
    pub fn of(level: Level, s: &ConvShape) -> Option<Self> {
        let gradient = Self { pixels: s.n * s.h * s.w, outputs: s.c_out, inputs: s.c_in };
        let fits = level != Level::Scalar
            && s.is_pixelwise()
            && s.groups == 1
            && gradient.pixels >= LEAST_PIXELS
            && gradient.outputs >= LEAST_DEPTH
            && gradient.outputs.is_multiple_of(2)
            && gradient.inputs >= LEAST_COLS
            && gradient.inputs.is_multiple_of(2 * Blocking::of(level).nr);
        fits.then_some(gradient)
    }

    fn chunks(&self) -> usize {
        self.pixels.div_ceil(MOST_PIXELS)
    }

    fn chunk(&self, index: usize) -> Chunk {
        let from = index * self.pixels / self.chunks();
        let pixels = (index + 1) * self.pixels / self.chunks() - from;
        Chunk { from, half: pixels.div_ceil(2), second: pixels / 2 }
    }

    /// Computes `dw`, `[outputs, inputs]`, and where `db` is given, the sums of the columns of `dy`, which pass by.
    pub fn run(&self, level: Level, x: &[f32], dy: &[f32], dw: &mut [f32], mut db: Option<&mut [f32]>) {
        let nr = Blocking::of(level).nr;
        assert_eq!(x.len(), self.pixels * self.inputs, "input of {self:?}");
        assert_eq!(dy.len(), self.pixels * self.outputs, "gradient of {self:?}");
        assert_eq!(dw.len(), self.outputs * self.inputs, "weight of {self:?}");
        assert!(db.as_ref().is_none_or(|db| db.len() == self.outputs), "bias of {self:?}");
        let most = (0..self.chunks()).map(|c| self.chunk(c).half).max().unwrap_or(0);
        let pair_len = SUMS * most * nr;
        scratch::with(self.inputs / (2 * nr) * pair_len, |parts| {
            for index in 0..self.chunks() {
                let chunk = self.chunk(index);
                let shared = SharedMut::new(parts);
                parallel_for(self.inputs / (2 * nr), |pair| {
                    // SAFETY: each task makes the operands of its own pair of panels.
                    let parts = unsafe { shared.part(pair * pair_len, pair_len) };
                    self.copy_x(level, chunk, x, pair, cut(parts, chunk.half * nr, chunk.half * nr));
                });
                self.add(level, chunk, dy, parts, pair_len, index == 0, dw, db.as_deref_mut());
            }
        });
    }

    /// Copies a pair of panels of the chunk as the operands of the seven sums, `[half][nr]` each.
    fn copy_x(&self, level: Level, chunk: Chunk, x: &[f32], pair: usize, operands: [&mut [f32]; SUMS]) {
        let nr = Blocking::of(level).nr;
        let x = Columns { from: x, width: self.inputs, at: [pair * 2 * nr, (pair * 2 + 1) * nr] };
        match nr {
            32 => x.copy::<2, 16>(level, chunk, operands, swapped, |_| ()),
            _ => x.copy::<1, 16>(level, chunk, operands, swapped, |_| ()),
        }
    }

    /// Adds the chunk to `dw` and `db`; the first one starts them.
    #[allow(clippy::too_many_arguments)]
    fn add(
        &self,
        level: Level,
        chunk: Chunk,
        dy: &[f32],
        parts: &[f32],
        pair_len: usize,
        first: bool,
        dw: &mut [f32],
        db: Option<&mut [f32]>,
    ) {
        let Blocking { mr, nr } = Blocking::of(level);
        let (pitch, half) = (mr.next_multiple_of(8), chunk.half);
        let pairs = self.outputs / 2;
        let tiles = pairs.div_ceil(mr);
        let output = Output(dw.as_mut_ptr());
        let output = &output;
        let db = db.map(SharedMut::new);
        parallel_for(tiles, |tile| {
            // Tiles of almost equal size.
            let (start, end) = (tile * pairs / tiles, (tile + 1) * pairs / tiles);
            let m = end - start;
            let columns = [2 * start, 2 * start + m];
            let mut offsets = Pairs { m, both: m, ..Pairs::default() };
            for r in 0..m {
                offsets.first[r] = (columns[0] + r) * self.inputs;
                offsets.second[r] = (columns[1] + r) * self.inputs;
            }
            let a_len = half * pitch;
            scratch::with(SUMS * a_len + 3 * mr * nr, |buffer| {
                let (a, sums) = buffer.split_at_mut(SUMS * a_len);
                let dy = Columns { from: dy, width: self.outputs, at: columns };
                let operands = cut(a, a_len, a_len);
                let sums_of = match pitch {
                    16 => dy.copy_and_sum::<16>(level, chunk, operands),
                    _ => dy.copy_and_sum::<8>(level, chunk, operands),
                };
                if let Some(db) = &db {
                    // SAFETY: each tile has its own output channels.
                    let db = unsafe { db.part(columns[0], 2 * m) };
                    let sums = sums_of.iter().flat_map(|sums| &sums[..m]);
                    db.iter_mut().zip(sums).for_each(|(db, sum)| *db = if first { *sum } else { *db + sum });
                }
                for (pair, parts) in parts.chunks_exact(pair_len).enumerate() {
                    let y = output.0.wrapping_add(pair * 2 * nr);
                    let quad = Quad {
                        level,
                        half,
                        a,
                        a_sum: a_len,
                        a_row: 1,
                        a_step: pitch,
                        parts: &parts[..SUMS * half * nr],
                        part_of: std::array::from_fn(|sum| sum),
                        bias: std::ptr::null(),
                        residual: if first { std::ptr::null() } else { y },
                        act: Act::None,
                    };
                    // SAFETY: the offsets are those of `m` output channels each, with `inputs` columns, of which these
                    // are a pair of panels; no other task has these channels.
                    unsafe { quad.run(&offsets, sums, y) };
                }
            });
        });
    }
}

/// Two groups of columns of rows that are pixels.
struct Columns<'a> {
    from: &'a [f32],
    width: usize,
    at: [usize; 2],
}

impl Columns<'_> {
    /// Copies `L` columns of either group as the operands of rows, and returns their sums.
    fn copy_and_sum<const L: usize>(
        &self,
        level: Level,
        chunk: Chunk,
        operands: [&mut [f32]; SUMS],
    ) -> [[f32; MAX_MR]; 2] {
        let mut sums = [[0.0; MAX_MR]; 2];
        self.copy::<1, L>(
            level,
            chunk,
            operands,
            of_rows,
            #[inline(always)]
            |[first, first_below, second, second_below]| {
                for i in 0..L {
                    sums[0][i] += first[i] + first_below[i];
                    sums[1][i] += second[i] + second_below[i];
                }
            },
        );
        sums
    }

    /// Copies `LINES * L` of either group from both halves of the chunk, pixel by pixel, and shows them to `see`. Columns that a row
    /// does not have are those of the next one, or zeros.
    fn copy<const LINES: usize, const L: usize>(
        &self,
        level: Level,
        chunk: Chunk,
        operands: [&mut [f32]; SUMS],
        of: impl Fn(f32, f32, f32, f32) -> [f32; SUMS],
        mut see: impl FnMut([&[f32; L]; 4]),
    ) {
        let none = [0.0; L];
        // The last row may end before the last line does.
        let mut ends = [none; 2];
        let last = self.from.len() - self.width;
        for (end, at) in ends.iter_mut().zip(self.at) {
            let from = &self.from[last + at..];
            let len = from.len().min(L);
            end[..len].copy_from_slice(&from[..len]);
        }
        at(
            level,
            #[inline(always)]
            |_| {
                let line = |pixel: usize, group: usize, line: usize| -> &[f32; L] {
                    let from = &self.from[pixel * self.width + self.at[group] + line * L..];
                    from.first_chunk().unwrap_or(&ends[group])
                };
                each_line(
                    chunk.half * LINES,
                    #[inline(always)]
                    |n| {
                        let (pixel, n) = (chunk.from + n / LINES, n % LINES);
                        for pixel in [pixel + AHEAD, pixel + AHEAD + chunk.half] {
                            for group in self.at {
                                let line =
                                    self.from.as_ptr().wrapping_add(pixel * self.width + group + n * L);
                                // The columns of a tile begin and end within a cache line.
                                fetch(line);
                                fetch(line.wrapping_add(L - 1));
                            }
                        }
                        let quarters = if pixel < chunk.from + chunk.second {
                            let second = pixel + chunk.half;
                            [line(pixel, 0, n), line(second, 0, n), line(pixel, 1, n), line(second, 1, n)]
                        } else {
                            [line(pixel, 0, n), &none, line(pixel, 1, n), &none]
                        };
                        see(quarters);
                        quarters
                    },
                    operands,
                    of,
                );
            },
        );
    }
}

/// [`of_panels`] with the quarters as [`Columns::copy`] brings them, group by group.
#[inline(always)]
fn swapped(b11: f32, b21: f32, b12: f32, b22: f32) -> [f32; SUMS] {
    of_panels(b11, b12, b21, b22)
}
