//! The weight gradient of Winograd's layers: 36 products instead of 144 for each 4x4 tile of outputs.
//!
//! A tile adds `Σ y[i, j] d[i + k, j + l]` to each of the nine weights, which the transposed algorithm of `winograd.rs`
//! gives: inputs are transformed as there (`V`), the gradients of 4x4 outputs by its `A` (`Z`), and the sums
//! over tiles of `Z ⊗ V`, a matrix product for each of the 36 points, by `Gᵀ` into 3x3 weights, once at the end.
//!
//! Chunks of tiles pass through the caches; all of them add to the sums of every output. If there is one chunk, some
//! outputs at a time have sums. The shape alone decides, so the bits are the same at any thread count.

use std::ops::Range;

use super::ConvShape;
use super::micro::{self, Blocking, Outer};
use super::transform::{self, Stored};
use super::winograd::{Layer, POINTS, padded};
use crate::threads::{SharedMut, parallel_for};
use crate::{Level, scratch};

/// Bytes of `V` and `Z` of a chunk, and the fewest tiles for which loading and storing the sums is little work.
const CHUNK_BYTES: usize = 2 << 20;
const CHUNK_TILES: usize = 64;

/// Bytes of sums of the outputs that one chunk is multiplied for at a time.
const SUMS_BYTES: usize = 4 << 20;

/// Computes `dw`, `OIHW`.
pub(super) fn run(level: Level, layer: &Layer, s: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let tiles = layer.tiles();
    let most = (CHUNK_BYTES / layer.tile_bytes()).max(CHUNK_TILES);
    let chunk = tiles.div_ceil(tiles.div_ceil(most));
    let work = Work { level, layer, x, dy, steps: [chunk * padded(s.c_in) + 16, chunk * padded(s.c_out)] };
    let [v_step, z_step] = work.steps;
    let group = if chunk < tiles { s.c_out } else { work.group() };
    scratch::with(work.sums_len(group), |sums| {
        scratch::with(POINTS * v_step, |v| {
            scratch::with(POINTS * z_step, |z| {
                for first in (0..tiles).step_by(chunk) {
                    let count = chunk.min(tiles - first);
                    work.transform(first, count, v, z);
                    for from in (0..s.c_out).step_by(group) {
                        let outputs = from..s.c_out.min(from + group);
                        work.multiply(count, outputs.clone(), v, z, sums, first == 0);
                        if first + count == tiles {
                            work.unpack(outputs, sums, dw);
                        }
                    }
                }
            });
        });
    });
}

struct Work<'a> {
    level: Level,
    layer: &'a Layer,
    x: &'a [f32],
    dy: &'a [f32],
    /// Floats from a point of `V`, and of `Z`, to the next.
    steps: [usize; 2],
}

impl Work<'_> {
    fn channels(&self) -> [usize; 2] {
        [self.layer.input[2], self.layer.output[2]]
    }

    fn panels(&self) -> usize {
        self.channels()[0].div_ceil(Blocking::of(self.level).nr)
    }

    /// Floats of the sums of some outputs, `[36][panel][output][nr]`.
    fn sums_len(&self, outputs: usize) -> usize {
        POINTS * self.panels() * outputs * Blocking::of(self.level).nr
    }

    /// Outputs whose sums stay in the caches, in whole blocks.
    fn group(&self) -> usize {
        let (mr, c_out) = (Blocking::of(self.level).mr, self.channels()[1]);
        let most = SUMS_BYTES / (4 * self.sums_len(1));
        // Equal groups, so that the last is not a sliver.
        c_out.div_ceil(c_out.div_ceil(most.max(mr))).next_multiple_of(mr).min(c_out)
    }

    fn transform(&self, first: usize, count: usize, v: &mut [f32], z: &mut [f32]) {
        let [c_in, c_out] = self.channels();
        let [v_step, z_step] = self.steps;
        let (v, z) = (SharedMut::new(v), SharedMut::new(z));
        parallel_for(count.div_ceil(4), |task| {
            scratch::with(c_in.max(c_out), |zeros| {
                zeros.fill(0.0);
                for t in task * 4..count.min(task * 4 + 4) {
                    let inputs = self.layer.inputs(first + t, self.x, &zeros[..c_in]);
                    let outputs = self.layer.outputs(first + t).map(|at| match at {
                        Some(at) => self.dy[at..][..c_out].as_ptr(),
                        None => zeros.as_ptr(),
                    });
                    // SAFETY: each task writes its own tiles of each point.
                    let to_v = std::array::from_fn(|point| {
                        unsafe { v.part(point * v_step + t * padded(c_in), c_in) }.as_mut_ptr()
                    });
                    // SAFETY: as above.
                    let to_z = std::array::from_fn(|point| {
                        unsafe { z.part(point * z_step + t * padded(c_out), c_out) }.as_mut_ptr()
                    });
                    // SAFETY: every pointer leads to as many values; the caller was given a level that has Winograd.
                    unsafe {
                        f32::input(self.level, c_in, &inputs, &to_v);
                        transform::gradient(self.level, c_out, &outputs, &to_z);
                    }
                }
            });
        });
    }

    /// Adds the products of `count` tiles to the sums of some outputs.
    fn multiply(
        &self,
        count: usize,
        outputs: Range<usize>,
        v: &[f32],
        z: &[f32],
        sums: &mut [f32],
        first: bool,
    ) {
        let [c_in, c_out] = self.channels();
        let [v_step, z_step] = self.steps;
        let Blocking { mr, nr } = Blocking::of(self.level);
        // Blocks of almost equal size, as in `weight.rs`.
        let blocks = outputs.len().div_ceil(mr);
        assert!(v.len() >= POINTS * v_step && z.len() >= POINTS * z_step && count * padded(c_in) < v_step);
        let (step, panels) = (self.sums_len(outputs.len()) / POINTS, self.panels());
        let sums = SharedMut::new(sums);
        parallel_for(POINTS, |point| {
            for p in 0..panels {
                for b in 0..blocks {
                    let (from, end) = (b * outputs.len() / blocks, (b + 1) * outputs.len() / blocks);
                    // SAFETY: each task has its own point.
                    let dw = unsafe {
                        sums.part(point * step + (p * outputs.len() + from) * nr, (end - from) * nr)
                    };
                    let outer = Outer {
                        a: z[point * z_step + outputs.start + from..].as_ptr(),
                        a_pixel: padded(c_out),
                        b: v[point * v_step + p * nr..].as_ptr(),
                        maps: 1,
                        rows: 1,
                        pixels: count,
                        b_map: 0,
                        b_row: 0,
                        b_pixel: padded(c_in),
                        dw: dw.as_mut_ptr(),
                        first,
                    };
                    // SAFETY: rows have `c_out` and `c_in` floats; the last panel may read up to 16 beyond its row, which
                    // the next row or the end of the point has; `dw` has room for the block.
                    unsafe { micro::outer(self.level, end - from, &outer) };
                }
            }
        });
    }

    /// Turns the sums of some outputs into weights.
    fn unpack(&self, outputs: Range<usize>, sums: &[f32], dw: &mut [f32]) {
        let c_in = self.channels()[0];
        let nr = Blocking::of(self.level).nr;
        let (step, panels) = (self.sums_len(outputs.len()) / POINTS, self.panels());
        let dw = SharedMut::new(dw);
        parallel_for(outputs.len(), |o| {
            // SAFETY: each task writes its own output channel.
            let dw = unsafe { dw.part((outputs.start + o) * c_in * 9, c_in * 9) };
            for (p, dw) in (0..panels).zip(dw.chunks_mut(9 * nr)) {
                let mut taps = [[0.0; 32]; 9];
                let len = dw.len() / 9;
                let points =
                    std::array::from_fn(|point| &sums[point * step + (p * outputs.len() + o) * nr..][..len]);
                transform::weight_gradient(self.level, points, taps.each_mut().map(|tap| &mut tap[..len]));
                for (tap, values) in taps.iter().enumerate() {
                    for (i, value) in values[..len].iter().enumerate() {
                        dw[9 * i + tap] = *value;
                    }
                }
            }
        });
    }
}
