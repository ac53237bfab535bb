//! The weight gradient: sums over pixels, a tile of `mr` output by `nr` input channels at a time.
//!
//! Chunks of output pixels are copied into panels that a micro-kernel reads in order: `x` padded, as
//! `[panel][pixel][nr]`, and `dy` as `[block][pixel][m]`. Each tile of the gradient then belongs to one
//! task, which adds the whole chunk to it, so no sums of threads need adding up. Few input
//! channels a tap (the stem) are laid side by side for all taps instead, as one tap of many channels.

use super::ConvShape;
use super::micro::{self, Blocking, Outer};
use crate::threads::{SharedMut, parallel_for};
use crate::{Level, scratch};

/// Output pixels of a chunk: a panel of them stays in L2, and amortises loading a tile's sums.
const CHUNK_PIXELS: usize = 1600;

/// Computes the rows of `dw` that belong to `group`.
pub(super) fn run(level: Level, shape: &ConvShape, group: usize, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let plan = Plan::new(level, shape, group);
    let dw_len = plan.shape.group_out() * shape.group_in() * plan.kernel;
    let dw = &mut dw[group * dw_len..][..dw_len];
    if plan.out[0] * plan.out[1] * shape.n == 0 || dw_len == 0 {
        dw.fill(0.0);
        return;
    }
    let [maps, rows] = plan.chunk;
    let mr_rows = plan.outputs * plan.panels * plan.taps;
    scratch::with(mr_rows * plan.blocking.nr, |sums| {
        scratch::with(plan.x_len(maps, rows), |x_panels| {
            scratch::with(maps * rows * plan.out[1] * plan.outputs, |dy_blocks| {
                for map in (0..shape.n).step_by(maps) {
                    for row in (0..plan.out[0]).step_by(rows) {
                        let chunk = Chunk {
                            map,
                            maps: maps.min(shape.n - map),
                            row,
                            rows: rows.min(plan.out[0] - row),
                        };
                        plan.copy_x(&chunk, x, x_panels);
                        plan.copy_dy(&chunk, dy, dy_blocks);
                        plan.add(level, &chunk, x_panels, dy_blocks, sums, map == 0 && row == 0);
                    }
                }
            });
        });
        plan.unpack(sums, dw);
    });
}

/// Some output rows of some images; all rows if of several images.
struct Chunk {
    map: usize,
    maps: usize,
    row: usize,
    rows: usize,
}

struct Plan<'a> {
    shape: &'a ConvShape,
    group: usize,
    blocking: Blocking,
    /// Output rows and columns.
    out: [usize; 2],
    /// Taps of the kernel, and those of the sum: one if `flat`.
    kernel: usize,
    taps: usize,
    /// The copy of `x` has a pixel for each output pixel, with the channels of all taps.
    flat: bool,
    /// Columns of the copy of `x`, in panels of `nr`.
    columns: usize,
    panels: usize,
    /// Output channels, in `blocks` of almost equal size.
    outputs: usize,
    blocks: usize,
    /// Images and rows of a full chunk.
    chunk: [usize; 2],
}

impl<'a> Plan<'a> {
    fn new(level: Level, shape: &'a ConvShape, group: usize) -> Self {
        let blocking = Blocking::of(level);
        let kernel = shape.kh * shape.kw;
        let flat = kernel == 1 || shape.group_in() < 16;
        let columns = if flat { shape.group_in() * kernel } else { shape.group_in() };
        let out = [shape.out_h(), shape.out_w()];
        let map = (out[0] * out[1]).max(1);
        let chunk = if map <= CHUNK_PIXELS {
            [(CHUNK_PIXELS / map).clamp(1, shape.n.max(1)), out[0].max(1)]
        } else {
            // Equal bands, so that the last is not a sliver.
            let bands = map.div_ceil(CHUNK_PIXELS).min(out[0]);
            [1, out[0].div_ceil(bands)]
        };
        Self {
            shape,
            group,
            blocking,
            out,
            kernel,
            taps: if flat { 1 } else { kernel },
            flat,
            columns,
            panels: columns.div_ceil(blocking.nr),
            outputs: shape.group_out(),
            blocks: shape.group_out().div_ceil(blocking.mr),
            chunk,
        }
    }

    /// First channel and size of a block.
    fn block(&self, b: usize) -> (usize, usize) {
        let (size, larger) = (self.outputs / self.blocks, self.outputs % self.blocks);
        (b * size + b.min(larger), size + usize::from(b < larger))
    }

    /// Rows and columns of one image's part of the copy of `x`.
    fn x_size(&self, rows: usize) -> [usize; 2] {
        let s = self.shape;
        if self.flat {
            [rows, self.out[1]]
        } else {
            [(rows - 1) * s.stride[0] + s.kh, (self.out[1] - 1) * s.stride[1] + s.kw]
        }
    }

    fn x_len(&self, maps: usize, rows: usize) -> usize {
        let [rows, columns] = self.x_size(rows);
        maps * rows * columns * self.panels * self.blocking.nr
    }

    fn copy_x(&self, chunk: &Chunk, x: &[f32], x_panels: &mut [f32]) {
        let s = self.shape;
        let nr = self.blocking.nr;
        let [rows, columns] = self.x_size(chunk.rows);
        let panel_len = chunk.maps * rows * columns * nr;
        let x_panels = SharedMut::new(x_panels);
        let first = self.group * s.group_in();
        // Offset in `x` of the group's channels at a padded position, if inside.
        let pixel = |map: usize, row: usize, column: usize| {
            let y = row.checked_sub(s.pad[0]).filter(|y| *y < s.h)?;
            let x = column.checked_sub(s.pad[2]).filter(|x| *x < s.w)?;
            Some(((map * s.h + y) * s.w + x) * s.c_in + first)
        };
        parallel_for(chunk.maps * rows, |task| {
            let (map, row) = (chunk.map + task / rows, task % rows);
            if self.flat {
                self.copy_flat(
                    |column, tap| {
                        let y = (chunk.row + row) * s.stride[0] + tap / s.kw;
                        pixel(map, y, column * s.stride[1] + tap % s.kw)
                    },
                    x,
                    // SAFETY: each task writes its own row of each panel.
                    |p| unsafe { x_panels.part(p * panel_len + task * columns * nr, columns * nr) },
                );
                return;
            }
            for p in 0..self.panels {
                // SAFETY: each task writes its own row of each panel.
                let to = unsafe { x_panels.part(p * panel_len + task * columns * nr, columns * nr) };
                let count = nr.min(self.columns - p * nr);
                for (column, to) in to.chunks_exact_mut(nr).enumerate() {
                    match pixel(map, chunk.row * s.stride[0] + row, column) {
                        Some(at) if count == nr => to.copy_from_slice(&x[at + p * nr..][..nr]),
                        Some(at) => {
                            to[..count].copy_from_slice(&x[at + p * nr..][..count]);
                            to[count..].fill(0.0);
                        }
                        None => to.fill(0.0),
                    }
                }
            }
        });
    }

    /// Copies the channels of all taps of one output row side by side.
    fn copy_flat<'b>(
        &self,
        pixel: impl Fn(usize, usize) -> Option<usize>,
        x: &[f32],
        panel_row: impl Fn(usize) -> &'b mut [f32],
    ) {
        let (nr, depth) = (self.blocking.nr, self.shape.group_in());
        if self.kernel == 1 {
            for p in 0..self.panels {
                let count = nr.min(self.columns - p * nr);
                for (column, to) in panel_row(p).chunks_exact_mut(nr).enumerate() {
                    match pixel(column, 0) {
                        Some(at) => to[..count].copy_from_slice(&x[at + p * nr..][..count]),
                        None => to.fill(0.0),
                    }
                    to[count..].fill(0.0);
                }
            }
            return;
        }
        scratch::with(self.panels * nr, |line| {
            line.fill(0.0);
            for column in 0..self.out[1] {
                for (tap, to) in line[..self.columns].chunks_exact_mut(depth).enumerate() {
                    match pixel(column, tap) {
                        Some(at) => to.copy_from_slice(&x[at..at + depth]),
                        None => to.fill(0.0),
                    }
                }
                for (p, line) in line.chunks_exact(nr).enumerate() {
                    panel_row(p)[column * nr..][..nr].copy_from_slice(line);
                }
            }
        });
    }

    fn copy_dy(&self, chunk: &Chunk, dy: &[f32], dy_blocks: &mut [f32]) {
        let s = self.shape;
        let [out_h, out_w] = self.out;
        let pixels = chunk.maps * chunk.rows * out_w;
        let dy_blocks = SharedMut::new(dy_blocks);
        parallel_for(chunk.maps * chunk.rows, |task| {
            let (map, row) = (chunk.map + task / chunk.rows, chunk.row + task % chunk.rows);
            let from = (map * out_h + row) * out_w * s.c_out + self.group * self.outputs;
            for b in 0..self.blocks {
                let (first, m) = self.block(b);
                // SAFETY: each task writes its own row of each block.
                let to = unsafe { dy_blocks.part(first * pixels + task * out_w * m, out_w * m) };
                for (column, to) in to.chunks_exact_mut(m).enumerate() {
                    let from = from + column * s.c_out + first;
                    to.copy_from_slice(&dy[from..from + m]);
                }
            }
        });
    }

    /// Adds the chunk to `sums`, `[tap][panel][output][nr]`.
    fn add(&self, level: Level, chunk: &Chunk, x: &[f32], dy: &[f32], sums: &mut [f32], first: bool) {
        let nr = self.blocking.nr;
        let [x_rows, x_columns] = self.x_size(chunk.rows);
        let panel_len = chunk.maps * x_rows * x_columns * nr;
        let pixels = chunk.maps * chunk.rows * self.out[1];
        assert!(x.len() >= self.panels * panel_len && dy.len() >= self.outputs * pixels);
        let sums = SharedMut::new(sums);
        let step = if self.flat { [1, 1] } else { self.shape.stride };
        // Few tiles: a task a tap, or the threads would wait for the last one.
        let taps_apart = self.panels * self.blocks < 64;
        let tasks = self.panels * self.blocks * if taps_apart { self.taps } else { 1 };
        parallel_for(tasks, |task| {
            let (tile, taps) = if taps_apart {
                let tap = task % self.taps;
                (task / self.taps, tap..tap + 1)
            } else {
                (task, 0..self.taps)
            };
            let (p, b) = (tile / self.blocks, tile % self.blocks);
            let (channel, m) = self.block(b);
            for tap in taps {
                let (ky, kx) = (tap / self.shape.kw, tap % self.shape.kw);
                // SAFETY: each task has its own panel, block and taps.
                let dw = unsafe { sums.part(((tap * self.panels + p) * self.outputs + channel) * nr, m * nr) };
                let outer = Outer {
                    a: dy[channel * pixels..].as_ptr(),
                    b: x[p * panel_len + (ky * x_columns + kx) * nr..].as_ptr(),
                    maps: chunk.maps,
                    rows: chunk.rows,
                    pixels: self.out[1],
                    b_map: x_rows * x_columns * nr,
                    b_row: step[0] * x_columns * nr,
                    b_pixel: step[1] * nr,
                    dw: dw.as_mut_ptr(),
                    first,
                };
                // SAFETY: a block has `pixels * m` floats; the last pixel read under the last tap
                // is the last of the panel by `x_size`; `dw` has `m * nr` floats.
                unsafe { micro::outer(level, m, &outer) };
            }
        });
    }

    /// Copies the sums into `OIHW`.
    fn unpack(&self, sums: &[f32], dw: &mut [f32]) {
        let nr = self.blocking.nr;
        let depth = self.shape.group_in();
        let len = depth * self.kernel;
        let dw = SharedMut::new(dw);
        parallel_for(self.outputs, |o| {
            // SAFETY: each task writes its own output channel.
            let dw = unsafe { dw.part(o * len, len) };
            for tap in 0..self.taps {
                for p in 0..self.panels {
                    let count = nr.min(self.columns - p * nr);
                    let from = &sums[((tap * self.panels + p) * self.outputs + o) * nr..][..count];
                    if self.kernel == 1 {
                        dw[p * nr..][..count].copy_from_slice(from);
                    } else if self.flat {
                        for (i, sum) in from.iter().enumerate() {
                            let column = p * nr + i;
                            dw[column % depth * self.kernel + column / depth] = *sum;
                        }
                    } else {
                        for (i, sum) in from.iter().enumerate() {
                            dw[(p * nr + i) * self.kernel + tap] = *sum;
                        }
                    }
                }
            }
        });
    }
}
