//! The weight gradient in f32: sums over pixels, a tile of `mr` output by `nr` input channels at a time.

use super::ConvShape;
use super::micro::{self, Blocking, Outer};
use super::pack::copy_short;
use super::weight_plan::{Chunk, Limits, Plan};
use crate::Level;
use crate::simd::{chunk, chunks};
use crate::threads::{SharedMut, parallel_for};

/// Most floats of sums of a team, and its fewest pixels.
const TEAM_SUMS: usize = 128 << 10;
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
    let Blocking { mr, nr, .. } = Blocking::of(level);
    let limits = Limits { nr, mr, maps: shape.n, team_sums: TEAM_SUMS, team_pixels: TEAM_PIXELS };
    let plan = &Plan::new(shape, group, &limits);
    plan.run(
        dw,
        |chunk, x_panels, dy_blocks| {
            copy_x(plan, chunk, x, x_panels);
            copy_dy(plan, chunk, dy, dy_blocks);
        },
        |chunk, x_panels, dy_blocks, sums, first| add(level, plan, chunk, x_panels, dy_blocks, sums, first),
        |sums, dw| unpack(plan, sums, dw),
    );
}

/// A 1x1 layer as one over maps of a pixel each, where that is the same: its chunks may then end anywhere.
fn by_pixel(shape: &ConvShape) -> ConvShape {
    if shape.is_pixelwise() {
        ConvShape { n: shape.n * shape.h * shape.w, h: 1, w: 1, ..*shape }
    } else {
        *shape
    }
}

/// Offset in `x` of the group's channels at a padded position, if inside.
fn pixel(plan: &Plan, map: usize, row: usize, column: usize) -> Option<usize> {
    let s = plan.shape;
    let y = row.checked_sub(s.pad[0]).filter(|y| *y < s.h)?;
    let x = column.checked_sub(s.pad[2]).filter(|x| *x < s.w)?;
    Some(((map * s.h + y) * s.w + x) * s.c_in + plan.group * s.group_in())
}

fn copy_x(plan: &Plan, chunk: &Chunk, x: &[f32], x_panels: &mut [f32]) {
    let s = plan.shape;
    let nr = plan.nr;
    let [rows, columns] = plan.x_size(chunk.rows);
    let [_, panel_len] = plan.x_steps(chunk);
    let x_panels = SharedMut::new(x_panels);
    for_each_row(chunk.maps * rows, columns, |task| {
        let (map, row) = (chunk.map + task / rows, task % rows);
        if plan.flat && plan.kernel > 1 {
            let len = columns * plan.panels * nr;
            // SAFETY: each task writes its own row.
            let to = unsafe { x_panels.part(task * len, len) };
            return copy_taps(plan, map, (chunk.row + row) * s.stride[0], x, to);
        }
        // Of a 1x1 kernel only the pixels it reads are copied.
        let steps = if plan.flat { s.stride } else { [1, 1] };
        let row = chunk.row * s.stride[0] + row * steps[0];
        for p in 0..plan.panels {
            // SAFETY: each task writes its own row of each panel.
            let to = unsafe { x_panels.part(p * panel_len + task * columns * nr, columns * nr) };
            let count = nr.min(plan.columns - p * nr);
            for (column, to) in to.chunks_exact_mut(nr).enumerate() {
                match pixel(plan, map, row, column * steps[1]) {
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
fn copy_taps(plan: &Plan, map: usize, row: usize, x: &[f32], to: &mut [f32]) {
    let s = plan.shape;
    let depth = s.group_in();
    // The taps of a kernel row are one run, if it lies inside the map and all channels count.
    let joined = s.groups == 1;
    for (column, to) in to.chunks_exact_mut(plan.panels * plan.nr).enumerate() {
        let (taps, rest) = to.split_at_mut(plan.columns);
        rest.fill(0.0);
        let column = column * s.stride[1];
        for (ky, to) in taps.chunks_exact_mut(s.kw * depth).enumerate() {
            let first = pixel(plan, map, row + ky, column);
            if let (true, Some(at), Some(_)) = (joined, first, pixel(plan, map, row + ky, column + s.kw - 1))
            {
                copy_short(to, &x[at..at + s.kw * depth]);
                continue;
            }
            for (kx, to) in to.chunks_exact_mut(depth).enumerate() {
                match pixel(plan, map, row + ky, column + kx) {
                    Some(at) => copy_short(to, &x[at..at + depth]),
                    None => to.fill(0.0),
                }
            }
        }
    }
}

fn copy_dy(plan: &Plan, chunk: &Chunk, dy: &[f32], dy_blocks: &mut [f32]) {
    let s = plan.shape;
    let [out_h, out_w] = plan.out;
    let pixels = chunk.maps * chunk.rows * out_w;
    let dy_blocks = SharedMut::new(dy_blocks);
    for_each_row(chunk.maps * chunk.rows, out_w, |task| {
        let (map, row) = (chunk.map + task / chunk.rows, chunk.row + task % chunk.rows);
        let from = (map * out_h + row) * out_w * s.c_out + plan.group * plan.outputs;
        for b in 0..plan.blocks {
            let (first, m) = plan.block(b);
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
fn add(level: Level, plan: &Plan, chunk: &Chunk, x: &[f32], dy: &[f32], sums: &mut [f32], first: bool) {
    let nr = plan.nr;
    let walk = plan.walk(chunk, x, dy);
    let sums = SharedMut::new(sums);
    let tiles = plan.panels * plan.blocks;
    // Few tiles: a task a tap, or the threads would wait for the last one. Many: some blocks a task, for each panel.
    let tap_tasks = if tiles < MIN_TASKS { plan.taps } else { 1 };
    let group = (tiles / MIN_TASKS).clamp(1, MAX_BLOCKS);
    let groups = plan.blocks.div_ceil(group);
    // Pixels that follow each other in the copy are one row.
    let lines = if plan.flat { [1, 1, walk.pixels] } else { [chunk.maps, chunk.rows, plan.out[1]] };
    parallel_for(groups * plan.panels * tap_tasks, |task| {
        let (tile, part) = (task / tap_tasks, task % tap_tasks);
        let (g, p) = (tile / plan.panels, tile % plan.panels);
        let taps = if tap_tasks > 1 { part..part + 1 } else { 0..plan.taps };
        for b in g * group..plan.blocks.min((g + 1) * group) {
            let (channel, m) = plan.block(b);
            for tap in taps.clone() {
                // SAFETY: each task has its own panel, blocks and taps.
                let dw =
                    unsafe { sums.part(((tap * plan.panels + p) * plan.outputs + channel) * nr, m * nr) };
                let outer = Outer {
                    a: dy[channel * walk.pixels..].as_ptr(),
                    a_pixel: m,
                    b: x[walk.start(p, tap)..].as_ptr(),
                    maps: lines[0],
                    rows: lines[1],
                    pixels: lines[2],
                    b_map: walk.map,
                    b_row: walk.row,
                    b_pixel: walk.pixel,
                    dw: dw.as_mut_ptr(),
                    first,
                };
                // SAFETY: `x` and `dy` suffice, see `Plan::walk`; `dw` has `m * nr` floats.
                unsafe { micro::outer(level, m, &outer) };
            }
        }
    });
}

/// Adds the teams' sums, in order, and copies them into `OIHW`.
fn unpack(plan: &Plan, sums: &mut [f32], dw: &mut [f32]) {
    let nr = plan.nr;
    let depth = plan.shape.group_in();
    let len = depth * plan.kernel;
    let sums_len = plan.sums_len();
    let sums = SharedMut::new(sums);
    let dw = SharedMut::new(dw);
    parallel_for(plan.outputs, |o| {
        // SAFETY: each task writes its own output channel.
        let dw = unsafe { dw.part(o * len, len) };
        for tap in 0..plan.taps {
            for p in 0..plan.panels {
                let count = nr.min(plan.columns - p * nr);
                let at = ((tap * plan.panels + p) * plan.outputs + o) * nr;
                // SAFETY: each task has its own output channel, in the sums of every team.
                let total = unsafe { sums.part(at, count) };
                for team in 1..plan.teams {
                    // SAFETY: as above.
                    let more = unsafe { sums.part(team * sums_len + at, count) };
                    for (total, more) in total.iter_mut().zip(more) {
                        *total += *more;
                    }
                }
                if plan.kernel == 1 {
                    copy_short(&mut dw[p * nr..][..count], total);
                } else if plan.flat {
                    for (i, sum) in total.iter().enumerate() {
                        let column = p * nr + i;
                        dw[column % depth * plan.kernel + column / depth] = *sum;
                    }
                } else {
                    for (i, sum) in total.iter().enumerate() {
                        dw[(p * nr + i) * plan.kernel + tap] = *sum;
                    }
                }
            }
        }
    });
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
