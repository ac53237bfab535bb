//! The weight gradient in bf16: sums over pixels in f32, a tile of up to 14 output by 32 input channels at a time.
//!
//! The way of `conv/weight.rs`, with two images to a word (see `outer.rs`). Chunks of output pixels are copied: `x`
//! padded, as `[panel][pixel][32]`, and `dy` as `[block][pixel][m]`. Where the gradient is small beside the maps, a
//! fixed number of teams each take some of the chunks and keep their own sums, added up in order at the end. Where it is
//! large, each of its tiles belongs to one task, which adds all chunks to it. Few input channels a tap (the stem) are
//! laid side by side for all taps, as one tap of many channels.

use super::outer::{self, Outer, Part, weave};
use crate::conv::ConvShape;
use crate::scratch;
use crate::threads::{SharedMut, parallel_for};

/// Input channels of a panel, and the most output channels of a block.
const NR: usize = 32;
const MR: usize = 14;

/// Output pixels of a shared chunk.
const SHARED_PIXELS: usize = 1600;

/// Words of a team's chunk, `x` and `dy` together: they should stay in L2 beside its sums.
const TEAM_WORDS: usize = 100 << 10;

/// Teams, and the most floats of sums they may have each. Fixed, or the bits would depend on threads.
const TEAMS: usize = 16;
const TEAM_SUMS: usize = 64 << 10;

/// Computes the rows of `dw` that belong to `group`. The CPU must have bf16 products.
pub(super) fn run(shape: &ConvShape, group: usize, x: &[u16], dy: &[u16], dw: &mut [f32]) {
    let plan = Plan::new(shape, group);
    let dw_len = plan.outputs * shape.group_in() * plan.kernel;
    let dw = &mut dw[group * dw_len..][..dw_len];
    if plan.out[0] * plan.out[1] * shape.n == 0 || dw_len == 0 {
        dw.fill(0.0);
        return;
    }
    let chunks = plan.chunks();
    let sums_len = plan.sums_len();
    scratch::with(plan.teams * sums_len, |sums| {
        let team_sums = SharedMut::new(sums);
        parallel_for(plan.teams, |team| {
            // SAFETY: each team has its own sums.
            let sums = unsafe { team_sums.part(team * sums_len, sums_len) };
            let [maps, rows] = plan.chunk;
            scratch::with_plain(plan.x_len(maps, rows), |x_panels| {
                scratch::with_plain(maps * rows * plan.out[1] * plan.outputs, |dy_blocks| {
                    let mine = team * chunks / plan.teams..(team + 1) * chunks / plan.teams;
                    for index in mine.clone() {
                        let chunk = plan.chunk_at(index);
                        plan.copy_x(&chunk, x, x_panels);
                        plan.copy_dy(&chunk, dy, dy_blocks);
                        plan.add(&chunk, x_panels, dy_blocks, sums, index == mine.start);
                    }
                });
            });
        });
        plan.unpack(sums, dw);
    });
}

/// Some output rows of some pairs of images; all rows if of several pairs.
struct Chunk {
    map: usize,
    maps: usize,
    row: usize,
    rows: usize,
}

struct Plan<'a> {
    shape: &'a ConvShape,
    group: usize,
    /// Output rows and columns.
    out: [usize; 2],
    /// Taps of the kernel, and those of the sum: one if `flat`.
    kernel: usize,
    taps: usize,
    /// The copy of `x` has a pixel for each output pixel, with the channels of all taps.
    flat: bool,
    /// Columns of the copy of `x`, in panels of `NR`.
    columns: usize,
    panels: usize,
    /// Output channels, in `blocks` of almost equal size.
    outputs: usize,
    blocks: usize,
    /// Pairs of images, the last perhaps of one.
    pairs: usize,
    /// Pairs and rows of a full chunk.
    chunk: [usize; 2],
    teams: usize,
}

impl<'a> Plan<'a> {
    fn new(shape: &'a ConvShape, group: usize) -> Self {
        let kernel = shape.kh * shape.kw;
        let flat = kernel == 1 || shape.group_in() < 16;
        let columns = if flat { shape.group_in() * kernel } else { shape.group_in() };
        let mut plan = Self {
            shape,
            group,
            out: [shape.out_h(), shape.out_w()],
            kernel,
            taps: if flat { 1 } else { kernel },
            flat,
            columns,
            panels: columns.div_ceil(NR),
            outputs: shape.group_out(),
            blocks: shape.group_out().div_ceil(MR),
            pairs: shape.n.div_ceil(2),
            chunk: [1, 1],
            teams: 1,
        };
        let in_teams = plan.sums_len() <= TEAM_SUMS;
        let pixels = if in_teams {
            let steps = if flat { 1 } else { shape.stride[0] * shape.stride[1] };
            (TEAM_WORDS / (columns * steps + plan.outputs).max(1)).clamp(64, SHARED_PIXELS)
        } else {
            SHARED_PIXELS
        };
        let map = (plan.out[0] * plan.out[1]).max(1);
        plan.chunk = if map <= pixels {
            [(pixels / map).clamp(1, plan.pairs.max(1)), plan.out[0].max(1)]
        } else {
            // Equal bands, so that the last is not a sliver.
            let bands = map.div_ceil(pixels).min(plan.out[0]);
            [1, plan.out[0].div_ceil(bands)]
        };
        plan.teams = if in_teams { TEAMS.min(plan.chunks()).max(1) } else { 1 };
        plan
    }

    /// Floats of all tiles of the gradient.
    fn sums_len(&self) -> usize {
        self.taps * self.panels * self.outputs * NR
    }

    fn chunks(&self) -> usize {
        self.pairs.div_ceil(self.chunk[0]) * self.out[0].div_ceil(self.chunk[1])
    }

    fn chunk_at(&self, index: usize) -> Chunk {
        let [maps, rows] = self.chunk;
        let bands = self.out[0].div_ceil(rows);
        let (map, row) = (index / bands * maps, index % bands * rows);
        Chunk { map, maps: maps.min(self.pairs - map), row, rows: rows.min(self.out[0] - row) }
    }

    /// First channel and size of a block.
    fn block(&self, b: usize) -> (usize, usize) {
        let (size, larger) = (self.outputs / self.blocks, self.outputs % self.blocks);
        (b * size + b.min(larger), size + usize::from(b < larger))
    }

    /// Rows and columns of one pair's part of the copy of `x`.
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
        maps * rows * columns * self.panels * NR
    }

    /// Words between two pixels of a copied row of `x`, and between its panels.
    fn x_steps(&self, chunk: &Chunk) -> [usize; 2] {
        if self.flat && self.kernel > 1 {
            // The taps of a pixel are copied in runs, whatever panels they fall into.
            return [self.panels * NR, NR];
        }
        let [rows, columns] = self.x_size(chunk.rows);
        [NR, chunk.maps * rows * columns * NR]
    }

    /// The two images of a pair, each from the given offset in a map of `len` values; the second may be missing.
    fn images<'x>(&self, pair: usize, values: &'x [u16], len: usize, from: usize) -> [Option<&'x [u16]>; 2] {
        let image = |i: usize| (i < self.shape.n).then(|| &values[i * len + from..(i + 1) * len]);
        [image(2 * pair), image(2 * pair + 1)]
    }

    fn copy_x(&self, chunk: &Chunk, x: &[u16], x_panels: &mut [u32]) {
        let s = self.shape;
        let [rows, columns] = self.x_size(chunk.rows);
        let [_, panel_len] = self.x_steps(chunk);
        let map_len = s.h * s.w * s.c_in;
        let part = |p: usize| {
            let (from, to) = (p * NR, p * panel_len);
            Part { from, count: NR.min(self.columns - from), to, to_step: NR, width: NR }
        };
        let parts: Vec<Part> = (0..self.panels).map(part).collect();
        let x_panels = SharedMut::new(x_panels);
        parallel_for(chunk.maps * rows, |task| {
            let (map, row) = (chunk.map + task / rows, task % rows);
            if self.flat && self.kernel > 1 {
                let first = task * columns;
                return self.copy_taps(map, (chunk.row + row) * s.stride[0], x, &x_panels, first);
            }
            // Of a 1x1 kernel only the pixels it reads are copied.
            let steps = if self.flat { s.stride } else { [1, 1] };
            let row = (chunk.row * s.stride[0] + row * steps[0]).wrapping_sub(s.pad[0]);
            // The columns whose pixels are inside the map.
            let inside = if row < s.h {
                let from = s.pad[2].div_ceil(steps[1]).min(columns);
                from..(s.w + s.pad[2]).div_ceil(steps[1]).clamp(from, columns)
            } else {
                0..0
            };
            for part in &parts {
                // SAFETY: each task writes its own row of each panel.
                let to = unsafe { x_panels.part(part.to + task * columns * NR, columns * NR) };
                to[..inside.start * NR].fill(0);
                to[inside.end * NR..].fill(0);
            }
            if !inside.is_empty() {
                let column = inside.start * steps[1] - s.pad[2];
                let from = (row * s.w + column) * s.c_in + self.group * s.group_in();
                let images = self.images(map, x, map_len, from);
                let (pixels, at) = (inside.len(), task * columns + inside.start);
                // SAFETY: as above; bf16 gradients are only asked for where the CPU has AVX-512.
                unsafe { weave(&parts, pixels, steps[1] * s.c_in, images, &x_panels, at) };
            }
        });
    }

    /// Copies the channels of all taps of each pixel of an output row side by side; the row's pixels begin with `first`.
    fn copy_taps(&self, map: usize, row: usize, x: &[u16], x_panels: &SharedMut<u32>, first: usize) {
        let s = self.shape;
        let (depth, width, out_w) = (s.group_in(), self.panels * NR, self.out[1]);
        // The output columns under whose tap `kx` there is a pixel.
        let inside = |kx: usize| {
            let from = s.pad[2].saturating_sub(kx).div_ceil(s.stride[1]).min(out_w);
            from..(s.w + s.pad[2]).saturating_sub(kx).div_ceil(s.stride[1]).clamp(from, out_w)
        };
        // The columns where that holds for all taps, if their channels are one run.
        let whole = if depth == s.c_in {
            let (from, end) = (inside(0).start, inside(s.kw - 1).end);
            from..end.max(from)
        } else {
            0..0
        };
        let all_rows = row >= s.pad[0] && row + s.kh <= s.h + s.pad[0];
        for column in 0..out_w {
            // SAFETY: each task writes its own row.
            let to = unsafe { x_panels.part((first + column) * width, width) };
            let copied = if all_rows && whole.contains(&column) { self.columns } else { 0 };
            to[copied..].fill(0);
        }
        for ky in 0..s.kh {
            let row = (row + ky).wrapping_sub(s.pad[0]);
            if row >= s.h {
                continue;
            }
            let copy = |kx: usize, columns: std::ops::Range<usize>, count: usize| {
                if columns.is_empty() {
                    return;
                }
                let column = columns.start * s.stride[1] + kx - s.pad[2];
                let at = (row * s.w + column) * s.c_in + self.group * depth;
                let images = self.images(map, x, s.h * s.w * s.c_in, at);
                let to = (ky * s.kw + kx) * depth;
                let part = |from: usize| {
                    let count = NR.min(count - from);
                    Part { from, count, to: to + from, to_step: width, width: count }
                };
                let parts: Vec<Part> = (0..count).step_by(NR).map(part).collect();
                // SAFETY: as above; bf16 gradients are only asked for where the CPU has AVX-512.
                unsafe {
                    weave(
                        &parts,
                        columns.len(),
                        s.stride[1] * s.c_in,
                        images,
                        x_panels,
                        first + columns.start,
                    );
                }
            };
            copy(0, whole.clone(), s.kw * depth);
            for kx in 0..s.kw {
                let columns = inside(kx);
                copy(kx, columns.start..whole.start.clamp(columns.start, columns.end), depth);
                copy(kx, whole.end.clamp(columns.start, columns.end)..columns.end, depth);
            }
        }
    }

    fn copy_dy(&self, chunk: &Chunk, dy: &[u16], dy_blocks: &mut [u32]) {
        let s = self.shape;
        let [out_h, out_w] = self.out;
        let pixels = chunk.maps * chunk.rows * out_w;
        let part = |b: usize| {
            let (from, m) = self.block(b);
            Part { from, count: m, to: from * pixels, to_step: m, width: m }
        };
        let parts: Vec<Part> = (0..self.blocks).map(part).collect();
        let dy_blocks = SharedMut::new(dy_blocks);
        parallel_for(chunk.maps * chunk.rows, |task| {
            let (map, row) = (chunk.map + task / chunk.rows, chunk.row + task % chunk.rows);
            let from = row * out_w * s.c_out + self.group * self.outputs;
            let images = self.images(map, dy, out_h * out_w * s.c_out, from);
            // SAFETY: each task writes its own row of each block; see above.
            unsafe { weave(&parts, out_w, s.c_out, images, &dy_blocks, task * out_w) };
        });
    }

    /// Adds the chunk to `sums`, `[panel][output][tap][NR]`.
    fn add(&self, chunk: &Chunk, x: &[u32], dy: &[u32], sums: &mut [f32], first: bool) {
        let [x_rows, x_columns] = self.x_size(chunk.rows);
        let [x_pixel, panel_len] = self.x_steps(chunk);
        let pixels = chunk.maps * chunk.rows * self.out[1];
        assert!(x.len() >= self.x_len(chunk.maps, chunk.rows) && dy.len() >= self.outputs * pixels);
        let sums = SharedMut::new(sums);
        let step = if self.flat { [1, 1] } else { self.shape.stride };
        parallel_for(self.panels * self.blocks, |task| {
            let (p, b) = (task / self.blocks, task % self.blocks);
            let (channel, m) = self.block(b);
            let sums_len = self.taps * NR;
            // SAFETY: each task has its own panel and block.
            let dw = unsafe { sums.part((p * self.outputs + channel) * sums_len, m * sums_len) };
            for tap in 0..self.taps {
                let (ky, kx) = (tap / self.shape.kw, tap % self.shape.kw);
                let outer = Outer {
                    a: dy[channel * pixels..].as_ptr(),
                    b: x[p * panel_len + (ky * x_columns + kx) * x_pixel..].as_ptr(),
                    maps: chunk.maps,
                    rows: chunk.rows,
                    pixels: self.out[1],
                    b_map: x_rows * x_columns * x_pixel,
                    b_row: step[0] * x_columns * x_pixel,
                    b_pixel: step[1] * x_pixel,
                    dw: dw[tap * NR..].as_mut_ptr(),
                    dw_row: sums_len,
                    first,
                };
                // SAFETY: a block has `pixels * m` words; the last pixel read under the last tap is the last of the panel
                // by `x_size`; `dw` has `m` rows of all taps; bf16 gradients are only asked for where the CPU has the
                // instructions.
                unsafe { outer::outer(m, &outer) };
            }
        });
    }

    /// Adds the teams' sums, in order, and copies them into `OIHW`.
    fn unpack(&self, sums: &mut [f32], dw: &mut [f32]) {
        let depth = self.shape.group_in();
        let (len, sums_len) = (depth * self.kernel, self.sums_len());
        let sums = SharedMut::new(sums);
        let dw = SharedMut::new(dw);
        parallel_for(self.outputs, |o| {
            // SAFETY: each task writes its own output channel.
            let dw = unsafe { dw.part(o * len, len) };
            for p in 0..self.panels {
                let (at, taps) = ((p * self.outputs + o) * self.taps * NR, self.taps * NR);
                // SAFETY: each task has its own output channel, in the sums of every team.
                let total = unsafe { sums.part(at, taps) };
                for team in 1..self.teams {
                    // SAFETY: as above.
                    let more = unsafe { sums.part(team * sums_len + at, taps) };
                    total.iter_mut().zip(more).for_each(|(total, more)| *total += *more);
                }
                let first = p * NR;
                let count = NR.min(self.columns - first);
                match self.kernel {
                    1 => dw[first..][..count].copy_from_slice(&total[..count]),
                    _ if self.flat => {
                        for (column, sum) in (first..).zip(&total[..count]) {
                            dw[column % depth * self.kernel + column / depth] = *sum;
                        }
                    }
                    // The usual kernel, its size known to the compiler.
                    9 => turn::<9>(total, &mut dw[first * 9..][..count * 9]),
                    kernel => {
                        for (i, to) in
                            dw[first * kernel..][..count * kernel].chunks_exact_mut(kernel).enumerate()
                        {
                            to.iter_mut().zip(total[i..].iter().step_by(NR)).for_each(|(to, sum)| *to = *sum);
                        }
                    }
                }
            }
        });
    }
}

/// Turns `[K][NR]` sums to rows of `K`.
fn turn<const K: usize>(sums: &[f32], rows: &mut [f32]) {
    let sums: &[[f32; NR]; K] = sums.as_chunks::<NR>().0.try_into().expect("a row of sums a tap");
    for (i, row) in rows.as_chunks_mut::<K>().0.iter_mut().enumerate() {
        for (to, sums) in row.iter_mut().zip(sums) {
            *to = sums[i];
        }
    }
}
