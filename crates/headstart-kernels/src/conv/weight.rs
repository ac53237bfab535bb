//! The weight gradient: sums over pixels, a tile of `mr` output by `nr` input channels at a time.
//!
//! Chunks of output pixels are copied into panels that a micro-kernel reads in order: `x` padded, as
//! `[panel][pixel][nr]`, and `dy` as `[block][pixel][m]`. Where the gradient is small beside the maps, a
//! fixed number of teams each take some of the chunks and keep their own sums, added up in order at the
//! end. Where it is large, each of its tiles belongs to one task, which adds all chunks to it. Few
//! input channels a tap (the stem) are laid side by side for all taps, as one tap of many channels.

use super::ConvShape;
use super::micro::{self, Blocking, Outer};
use super::pack::copy_short;
use crate::simd::{chunk, chunks};
use crate::threads::{SharedMut, parallel_for};
use crate::{Level, scratch};

/// Output pixels of a shared chunk: a panel of them stays in L2, and amortises loading a tile's sums.
const SHARED_PIXELS: usize = 1600;

/// Floats of a team's chunk, `x` and `dy` together: they should stay in L2 beside its sums.
const TEAM_FLOATS: usize = 100 << 10;

/// Teams, and the most floats of sums they may have each. Fixed, or the bits would depend on threads.
const TEAMS: usize = 16;
const TEAM_SUMS: usize = 128 << 10;

/// Fewest output pixels of a team; of fewer, writing and adding up its sums is too much of the work.
const TEAM_PIXELS: usize = 384;

/// Fewest tasks that share a chunk, if it can be cut that far, and the most blocks of a task: as many as stay in L2
/// while the panels of `x` pass by.
const MIN_TASKS: usize = 64;
const MAX_BLOCKS: usize = 4;

/// Rows that a task copies at a time have at least this many pixels.
const COPIED_PIXELS: usize = 64;

/// Computes the rows of `dw` that belong to `group`.
pub(super) fn run(level: Level, shape: &ConvShape, group: usize, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let shape = &by_pixel(shape);
    let plan = Plan::new(level, shape, group);
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
            scratch::with(plan.x_len(maps, rows), |x_panels| {
                scratch::with(maps * rows * plan.out[1] * plan.outputs, |dy_blocks| {
                    let mine = team * chunks / plan.teams..(team + 1) * chunks / plan.teams;
                    for index in mine.clone() {
                        let chunk = plan.chunk_at(index);
                        plan.copy_x(&chunk, x, x_panels);
                        plan.copy_dy(&chunk, dy, dy_blocks);
                        plan.add(level, &chunk, x_panels, dy_blocks, sums, index == mine.start);
                    }
                });
            });
        });
        plan.unpack(sums, dw);
    });
}

/// A 1x1 layer as one over maps of a pixel each, where that is the same: its chunks may then end anywhere.
fn by_pixel(shape: &ConvShape) -> ConvShape {
    let pixelwise = shape.kh * shape.kw == 1 && shape.stride == [1, 1] && shape.pad == [0; 4];
    if pixelwise { ConvShape { n: shape.n * shape.h * shape.w, h: 1, w: 1, ..*shape } } else { *shape }
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
    teams: usize,
}

impl<'a> Plan<'a> {
    fn new(level: Level, shape: &'a ConvShape, group: usize) -> Self {
        let blocking = Blocking::of(level);
        let kernel = shape.kh * shape.kw;
        let flat = kernel == 1 || shape.group_in() < 16;
        let columns = if flat { shape.group_in() * kernel } else { shape.group_in() };
        let mut plan = Self {
            shape,
            group,
            blocking,
            out: [shape.out_h(), shape.out_w()],
            kernel,
            taps: if flat { 1 } else { kernel },
            flat,
            columns,
            panels: columns.div_ceil(blocking.nr),
            outputs: shape.group_out(),
            blocks: shape.group_out().div_ceil(blocking.mr),
            chunk: [1, 1],
            teams: 1,
        };
        let map = (plan.out[0] * plan.out[1]).max(1);
        let teams = (map * shape.n / TEAM_PIXELS).min(TEAMS);
        let in_teams = plan.sums_len() <= TEAM_SUMS && teams > 1;
        let pixels = if in_teams {
            let steps = if flat { 1 } else { shape.stride[0] * shape.stride[1] };
            (TEAM_FLOATS / (columns * steps + plan.outputs).max(1)).clamp(64, SHARED_PIXELS)
        } else {
            SHARED_PIXELS
        };
        // Equal parts, so that the last is not a sliver.
        plan.chunk = if map <= pixels {
            let chunks = shape.n.div_ceil(pixels / map).max(1);
            [shape.n.div_ceil(chunks).max(1), plan.out[0].max(1)]
        } else {
            let bands = map.div_ceil(pixels).min(plan.out[0]);
            [1, plan.out[0].div_ceil(bands)]
        };
        plan.teams = if in_teams { teams.min(plan.chunks()).max(1) } else { 1 };
        plan
    }

    /// Floats of all tiles of the gradient.
    fn sums_len(&self) -> usize {
        self.taps * self.panels * self.outputs * self.blocking.nr
    }

    fn chunks(&self) -> usize {
        self.shape.n.div_ceil(self.chunk[0]) * self.out[0].div_ceil(self.chunk[1])
    }

    fn chunk_at(&self, index: usize) -> Chunk {
        let [maps, rows] = self.chunk;
        let bands = self.out[0].div_ceil(rows);
        let (map, row) = (index / bands * maps, index % bands * rows);
        Chunk { map, maps: maps.min(self.shape.n - map), row, rows: rows.min(self.out[0] - row) }
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

    /// Floats between two pixels of a copied row of `x`, and between its panels.
    fn x_steps(&self, chunk: &Chunk) -> [usize; 2] {
        let nr = self.blocking.nr;
        if self.flat && self.kernel > 1 {
            // The taps of a pixel are copied in runs, whatever panels they fall into.
            return [self.panels * nr, nr];
        }
        let [rows, columns] = self.x_size(chunk.rows);
        [nr, chunk.maps * rows * columns * nr]
    }

    /// Offset in `x` of the group's channels at a padded position, if inside.
    fn pixel(&self, map: usize, row: usize, column: usize) -> Option<usize> {
        let s = self.shape;
        let y = row.checked_sub(s.pad[0]).filter(|y| *y < s.h)?;
        let x = column.checked_sub(s.pad[2]).filter(|x| *x < s.w)?;
        Some(((map * s.h + y) * s.w + x) * s.c_in + self.group * s.group_in())
    }

    fn copy_x(&self, chunk: &Chunk, x: &[f32], x_panels: &mut [f32]) {
        let s = self.shape;
        let nr = self.blocking.nr;
        let [rows, columns] = self.x_size(chunk.rows);
        let [_, panel_len] = self.x_steps(chunk);
        let x_panels = SharedMut::new(x_panels);
        for_each_row(chunk.maps * rows, columns, |task| {
            let (map, row) = (chunk.map + task / rows, task % rows);
            if self.flat && self.kernel > 1 {
                let len = columns * self.panels * nr;
                // SAFETY: each task writes its own row.
                let to = unsafe { x_panels.part(task * len, len) };
                return self.copy_taps(map, (chunk.row + row) * s.stride[0], x, to);
            }
            // Of a 1x1 kernel only the pixels it reads are copied.
            let steps = if self.flat { s.stride } else { [1, 1] };
            let row = chunk.row * s.stride[0] + row * steps[0];
            for p in 0..self.panels {
                // SAFETY: each task writes its own row of each panel.
                let to = unsafe { x_panels.part(p * panel_len + task * columns * nr, columns * nr) };
                let count = nr.min(self.columns - p * nr);
                for (column, to) in to.chunks_exact_mut(nr).enumerate() {
                    match self.pixel(map, row, column * steps[1]) {
                        Some(at) => {
                            copy_short(&mut to[..count], &x[at + p * nr..][..count]);
                            to[count..].fill(0.0);
                        }
                        None => to.fill(0.0),
                    }
                }
            }
        });
    }

    /// Copies the channels of all taps of each pixel of an output row side by side.
    fn copy_taps(&self, map: usize, row: usize, x: &[f32], to: &mut [f32]) {
        let s = self.shape;
        let depth = s.group_in();
        // The taps of a kernel row are one run, if it lies inside the map and all channels count.
        let joined = s.groups == 1;
        for (column, to) in to.chunks_exact_mut(self.panels * self.blocking.nr).enumerate() {
            let (taps, rest) = to.split_at_mut(self.columns);
            rest.fill(0.0);
            let column = column * s.stride[1];
            for (ky, to) in taps.chunks_exact_mut(s.kw * depth).enumerate() {
                let first = self.pixel(map, row + ky, column);
                if let (true, Some(at), Some(_)) =
                    (joined, first, self.pixel(map, row + ky, column + s.kw - 1))
                {
                    copy_short(to, &x[at..at + s.kw * depth]);
                    continue;
                }
                for (kx, to) in to.chunks_exact_mut(depth).enumerate() {
                    match self.pixel(map, row + ky, column + kx) {
                        Some(at) => copy_short(to, &x[at..at + depth]),
                        None => to.fill(0.0),
                    }
                }
            }
        }
    }

    fn copy_dy(&self, chunk: &Chunk, dy: &[f32], dy_blocks: &mut [f32]) {
        let s = self.shape;
        let [out_h, out_w] = self.out;
        let pixels = chunk.maps * chunk.rows * out_w;
        let dy_blocks = SharedMut::new(dy_blocks);
        for_each_row(chunk.maps * chunk.rows, out_w, |task| {
            let (map, row) = (chunk.map + task / chunk.rows, chunk.row + task % chunk.rows);
            let from = (map * out_h + row) * out_w * s.c_out + self.group * self.outputs;
            for b in 0..self.blocks {
                let (first, m) = self.block(b);
                // SAFETY: each task writes its own row of each block.
                let to = unsafe { dy_blocks.part(first * pixels + task * out_w * m, out_w * m) };
                let from = &dy[from + first..];
                // The sizes that large layers are cut into, known to the compiler.
                match m {
                    14 => copy_columns::<14>(to, from, s.c_out),
                    13 => copy_columns::<13>(to, from, s.c_out),
                    12 => copy_columns::<12>(to, from, s.c_out),
                    6 => copy_columns::<6>(to, from, s.c_out),
                    _ => {
                        for (to, from) in to.chunks_exact_mut(m).zip(from.chunks(s.c_out)) {
                            copy_short(to, &from[..m]);
                        }
                    }
                }
            }
        });
    }

    /// Adds the chunk to `sums`, `[tap][panel][output][nr]`.
    fn add(&self, level: Level, chunk: &Chunk, x: &[f32], dy: &[f32], sums: &mut [f32], first: bool) {
        let nr = self.blocking.nr;
        let [x_rows, x_columns] = self.x_size(chunk.rows);
        let [x_pixel, panel_len] = self.x_steps(chunk);
        let pixels = chunk.maps * chunk.rows * self.out[1];
        assert!(x.len() >= self.x_len(chunk.maps, chunk.rows) && dy.len() >= self.outputs * pixels);
        let sums = SharedMut::new(sums);
        let step = if self.flat { [1, 1] } else { self.shape.stride };
        let tiles = self.panels * self.blocks;
        // Few tiles: a task a tap, or the threads would wait for the last one. Many: some blocks a task, for each panel.
        let tap_tasks = if tiles < MIN_TASKS { self.taps } else { 1 };
        let group = (tiles / MIN_TASKS).clamp(1, MAX_BLOCKS);
        let groups = self.blocks.div_ceil(group);
        // Pixels that follow each other in the copy are one row.
        let lines = if self.flat { [1, 1, pixels] } else { [chunk.maps, chunk.rows, self.out[1]] };
        parallel_for(groups * self.panels * tap_tasks, |task| {
            let (tile, part) = (task / tap_tasks, task % tap_tasks);
            let (g, p) = (tile / self.panels, tile % self.panels);
            let taps = if tap_tasks > 1 { part..part + 1 } else { 0..self.taps };
            for b in g * group..self.blocks.min((g + 1) * group) {
                let (channel, m) = self.block(b);
                for tap in taps.clone() {
                    let (ky, kx) = (tap / self.shape.kw, tap % self.shape.kw);
                    // SAFETY: each task has its own panel, blocks and taps.
                    let dw =
                        unsafe { sums.part(((tap * self.panels + p) * self.outputs + channel) * nr, m * nr) };
                    let outer = Outer {
                        a: dy[channel * pixels..].as_ptr(),
                        a_pixel: m,
                        b: x[p * panel_len + (ky * x_columns + kx) * x_pixel..].as_ptr(),
                        maps: lines[0],
                        rows: lines[1],
                        pixels: lines[2],
                        b_map: x_rows * x_columns * x_pixel,
                        b_row: step[0] * x_columns * x_pixel,
                        b_pixel: step[1] * x_pixel,
                        dw: dw.as_mut_ptr(),
                        first,
                    };
                    // SAFETY: a block has `pixels * m` floats; the last pixel read under the last tap
                    // is the last of the panel by `x_size`; `dw` has `m * nr` floats.
                    unsafe { micro::outer(level, m, &outer) };
                }
            }
        });
    }

    /// Adds the teams' sums, in order, and copies them into `OIHW`.
    fn unpack(&self, sums: &mut [f32], dw: &mut [f32]) {
        let nr = self.blocking.nr;
        let depth = self.shape.group_in();
        let len = depth * self.kernel;
        let sums_len = self.sums_len();
        let sums = SharedMut::new(sums);
        let dw = SharedMut::new(dw);
        parallel_for(self.outputs, |o| {
            // SAFETY: each task writes its own output channel.
            let dw = unsafe { dw.part(o * len, len) };
            for tap in 0..self.taps {
                for p in 0..self.panels {
                    let count = nr.min(self.columns - p * nr);
                    let at = ((tap * self.panels + p) * self.outputs + o) * nr;
                    // SAFETY: each task has its own output channel, in the sums of every team.
                    let total = unsafe { sums.part(at, count) };
                    for team in 1..self.teams {
                        // SAFETY: as above.
                        let more = unsafe { sums.part(team * sums_len + at, count) };
                        for (total, more) in total.iter_mut().zip(more) {
                            *total += *more;
                        }
                    }
                    if self.kernel == 1 {
                        copy_short(&mut dw[p * nr..][..count], total);
                    } else if self.flat {
                        for (i, sum) in total.iter().enumerate() {
                            let column = p * nr + i;
                            dw[column % depth * self.kernel + column / depth] = *sum;
                        }
                    } else {
                        for (i, sum) in total.iter().enumerate() {
                            dw[(p * nr + i) * self.kernel + tap] = *sum;
                        }
                    }
                }
            }
        });
    }
}

/// Runs `each(0)`, …, `each(rows - 1)` on the pool, short rows several to a task.
fn for_each_row(rows: usize, columns: usize, each: impl Fn(usize) + Sync) {
    let size = COPIED_PIXELS.div_ceil(columns.max(1));
    parallel_for(chunks(rows, size), |index| {
        let (from, len) = chunk(rows, size, index);
        (from..from + len).for_each(&each);
    });
}

/// Copies the first `M` of every `step` floats.
fn copy_columns<const M: usize>(to: &mut [f32], from: &[f32], step: usize) {
    for (to, from) in to.as_chunks_mut::<M>().0.iter_mut().zip(from.chunks(step)) {
        to.copy_from_slice(&from[..M]);
    }
}
