//! The weight gradient in bf16: sums over pixels in f32, a tile of up to 14 output by 32 input channels at a time, two
//! images to a word (see `outer.rs`).

use super::outer::{self, Outer, Part, weave};
use crate::conv::ConvShape;
use crate::conv::weight_plan::{Chunk, Limits, Plan};
use crate::threads::{SharedMut, parallel_for};

/// Input channels of a panel, and the most output channels of a block.
const NR: usize = 32;
const MR: usize = 14;

/// Most floats of sums of a team.
const TEAM_SUMS: usize = 64 << 10;

/// Computes the rows of `dw` that belong to `group`. The CPU must have bf16 products.
pub(super) fn run(shape: &ConvShape, group: usize, x: &[u16], dy: &[u16], dw: &mut [f32]) {
    let limits = Limits { nr: NR, mr: MR, maps: shape.n.div_ceil(2), team_sums: TEAM_SUMS, team_pixels: 1 };
    let plan = &Plan::new(shape, group, &limits);
    plan.run(
        dw,
        |chunk, x_panels, dy_blocks| {
            copy_x(plan, chunk, x, x_panels);
            copy_dy(plan, chunk, dy, dy_blocks);
        },
        |chunk, x_panels, dy_blocks, sums, first| add(plan, chunk, x_panels, dy_blocks, sums, first),
        |sums, dw| unpack(plan, sums, dw),
    );
}

/// The two images of a pair, each from the given offset in a map of `len` values; the second may be missing.
fn images<'x>(
    plan: &Plan,
    pair: usize,
    values: &'x [u16],
    len: usize,
    from: usize,
) -> [Option<&'x [u16]>; 2] {
    let image = |i: usize| (i < plan.shape.n).then(|| &values[i * len + from..(i + 1) * len]);
    [image(2 * pair), image(2 * pair + 1)]
}

fn copy_x(plan: &Plan, chunk: &Chunk, x: &[u16], x_panels: &mut [u32]) {
    let s = plan.shape;
    let [rows, columns] = plan.x_size(chunk.rows);
    let [_, panel_len] = plan.x_steps(chunk);
    let map_len = s.h * s.w * s.c_in;
    let part = |p: usize| {
        let (from, to) = (p * NR, p * panel_len);
        Part { from, count: NR.min(plan.columns - from), to, to_step: NR, width: NR }
    };
    let parts: Vec<Part> = (0..plan.panels).map(part).collect();
    let x_panels = SharedMut::new(x_panels);
    parallel_for(chunk.maps * rows, |task| {
        let (map, row) = (chunk.map + task / rows, task % rows);
        if plan.flat && plan.kernel > 1 {
            let first = task * columns;
            return copy_taps(plan, map, (chunk.row + row) * s.stride[0], x, &x_panels, first);
        }
        // Of a 1x1 kernel only the pixels it reads are copied.
        let steps = if plan.flat { s.stride } else { [1, 1] };
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
            let from = (row * s.w + column) * s.c_in + plan.group * s.group_in();
            let images = images(plan, map, x, map_len, from);
            let (pixels, at) = (inside.len(), task * columns + inside.start);
            // SAFETY: as above; bf16 gradients are only asked for where the CPU has AVX-512.
            unsafe { weave(&parts, pixels, steps[1] * s.c_in, images, &x_panels, at) };
        }
    });
}

/// Copies the channels of all taps of each pixel of an output row side by side; the row's pixels begin with `first`.
fn copy_taps(plan: &Plan, map: usize, row: usize, x: &[u16], x_panels: &SharedMut<u32>, first: usize) {
    let s = plan.shape;
    let (depth, width, out_w) = (s.group_in(), plan.panels * NR, plan.out[1]);
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
        let copied = if all_rows && whole.contains(&column) { plan.columns } else { 0 };
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
            let at = (row * s.w + column) * s.c_in + plan.group * depth;
            let images = images(plan, map, x, s.h * s.w * s.c_in, at);
            let to = (ky * s.kw + kx) * depth;
            let part = |from: usize| {
                let count = NR.min(count - from);
                Part { from, count, to: to + from, to_step: width, width: count }
            };
            let parts: Vec<Part> = (0..count).step_by(NR).map(part).collect();
            // SAFETY: as above; bf16 gradients are only asked for where the CPU has AVX-512.
            unsafe {
                weave(&parts, columns.len(), s.stride[1] * s.c_in, images, x_panels, first + columns.start);
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

fn copy_dy(plan: &Plan, chunk: &Chunk, dy: &[u16], dy_blocks: &mut [u32]) {
    let s = plan.shape;
    let [out_h, out_w] = plan.out;
    let pixels = chunk.maps * chunk.rows * out_w;
    let part = |b: usize| {
        let (from, m) = plan.block(b);
        Part { from, count: m, to: from * pixels, to_step: m, width: m }
    };
    let parts: Vec<Part> = (0..plan.blocks).map(part).collect();
    let dy_blocks = SharedMut::new(dy_blocks);
    parallel_for(chunk.maps * chunk.rows, |task| {
        let (map, row) = (chunk.map + task / chunk.rows, chunk.row + task % chunk.rows);
        let from = row * out_w * s.c_out + plan.group * plan.outputs;
        let images = images(plan, map, dy, out_h * out_w * s.c_out, from);
        // SAFETY: each task writes its own row of each block; see above.
        unsafe { weave(&parts, out_w, s.c_out, images, &dy_blocks, task * out_w) };
    });
}

/// Adds the chunk to `sums`, `[panel][output][tap][NR]`.
fn add(plan: &Plan, chunk: &Chunk, x: &[u32], dy: &[u32], sums: &mut [f32], first: bool) {
    let walk = plan.walk(chunk, x, dy);
    let sums = SharedMut::new(sums);
    parallel_for(plan.panels * plan.blocks, |task| {
        let (p, b) = (task / plan.blocks, task % plan.blocks);
        let (channel, m) = plan.block(b);
        let sums_len = plan.taps * NR;
        // SAFETY: each task has its own panel and block.
        let dw = unsafe { sums.part((p * plan.outputs + channel) * sums_len, m * sums_len) };
        for tap in 0..plan.taps {
            let outer = Outer {
                a: dy[channel * walk.pixels..].as_ptr(),
                b: x[walk.start(p, tap)..].as_ptr(),
                maps: chunk.maps,
                rows: chunk.rows,
                pixels: plan.out[1],
                b_map: walk.map,
                b_row: walk.row,
                b_pixel: walk.pixel,
                dw: dw[tap * NR..].as_mut_ptr(),
                dw_row: sums_len,
                first,
            };
            // SAFETY: `x` and `dy` suffice, see `Plan::walk`; `dw` has `m` rows of all taps; bf16 gradients are only asked for
            // where the CPU has the instructions.
            unsafe { outer::outer(m, &outer) };
        }
    });
}

/// Adds the teams' sums, in order, and copies them into `OIHW`.
fn unpack(plan: &Plan, sums: &mut [f32], dw: &mut [f32]) {
    let depth = plan.shape.group_in();
    let (len, sums_len) = (depth * plan.kernel, plan.sums_len());
    let sums = SharedMut::new(sums);
    let dw = SharedMut::new(dw);
    parallel_for(plan.outputs, |o| {
        // SAFETY: each task writes its own output channel.
        let dw = unsafe { dw.part(o * len, len) };
        for p in 0..plan.panels {
            let (at, taps) = ((p * plan.outputs + o) * plan.taps * NR, plan.taps * NR);
            // SAFETY: each task has its own output channel, in the sums of every team.
            let total = unsafe { sums.part(at, taps) };
            for team in 1..plan.teams {
                // SAFETY: as above.
                let more = unsafe { sums.part(team * sums_len + at, taps) };
                total.iter_mut().zip(more).for_each(|(total, more)| *total += *more);
            }
            let first = p * NR;
            let count = NR.min(plan.columns - first);
            match plan.kernel {
                1 => dw[first..][..count].copy_from_slice(&total[..count]),
                _ if plan.flat => {
                    for (column, sum) in (first..).zip(&total[..count]) {
                        dw[column % depth * plan.kernel + column / depth] = *sum;
                    }
                }
                // The usual kernel, its size known to the compiler.
                9 => turn::<9>(total, &mut dw[first * 9..][..count * 9]),
                kernel => {
                    for (i, to) in dw[first * kernel..][..count * kernel].chunks_exact_mut(kernel).enumerate()
                    {
                        to.iter_mut().zip(total[i..].iter().step_by(NR)).for_each(|(to, sum)| *to = *sum);
                    }
                }
            }
        }
    });
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
