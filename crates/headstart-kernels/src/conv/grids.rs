//! Passes as grids of output pixels and taps, which `direct.rs` runs.

use super::ConvShape;
use super::direct::{self, Finish, Grid};
use super::micro::Blocking;
use super::pack::{self, Panels, Source};
use crate::Level;
use crate::scratch;

/// Floats of the panels that [`pack_forward`] fills.
pub(super) fn forward_panels_len(level: Level, s: &ConvShape) -> usize {
    s.groups * Blocking::of(level).panels_len(s.group_out(), s.group_in() * s.kh * s.kw)
}

/// Packs weights in `OIHW` for [`forward_panels`].
pub(super) fn pack_forward(level: Level, s: &ConvShape, w: &[f32], panels: &mut [f32]) {
    let taps: Vec<usize> = (0..s.kh * s.kw).collect();
    let k = s.group_in() * taps.len();
    let group_len = panels.len() / s.groups;
    for group in 0..s.groups {
        let source = Source { w, from: group * s.group_out() * k, col: k, depth: taps.len(), taps: &taps };
        let panels = &mut panels[group * group_len..][..group_len];
        pack::pack(level, &source, s.group_out(), s.group_in(), panels);
    }
}

/// The forward pass: a grid of all output pixels, with every tap of the kernel.
pub(super) fn forward_panels(
    level: Level,
    s: &ConvShape,
    x: &[f32],
    panels: Panels,
    finish: Finish,
    y: &mut [f32],
) {
    let (out_h, out_w) = (s.out_h(), s.out_w());
    let taps: Vec<[isize; 2]> = (0..s.kh * s.kw)
        .map(|t| [(t / s.kw) as isize - s.pad[0] as isize, (t % s.kw) as isize - s.pad[2] as isize])
        .collect();
    let grid = Grid {
        size: [s.n, out_h, out_w],
        input: [s.h, s.w, s.c_in],
        groups: s.groups,
        depth: s.group_in(),
        step: s.stride,
        taps: &taps,
        at: [0, out_h * out_w * s.c_out, out_w * s.c_out, s.c_out],
        cols: s.group_out(),
    };
    direct::run(level, &grid, x, panels, finish, y);
}

/// The gradient of the input: a grid a phase. Input pixels whose position plus padding has the same remainder by the stride see the same
/// taps, so each such phase is a forward convolution of stride 1 over `dy` with those taps.
pub(super) fn backward_phases(level: Level, s: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let (out_h, out_w) = (s.out_h(), s.out_w());
    let k = s.kh * s.kw;
    for phase in 0..s.stride[0] * s.stride[1] {
        let (py, px) = (phase / s.stride[1], phase % s.stride[1]);
        // dx[stride * i + p] = Σ dy[(stride * i + p + pad - tap) / stride] * w[tap], tap ≡ p + pad.
        let taps_of = |p: usize, pad: usize, kernel: usize, stride: usize| {
            (0..kernel)
                .filter(move |t| (p + pad) % stride == t % stride)
                .map(move |t| (t, (p as isize + pad as isize - t as isize) / stride as isize))
        };
        let mut places = Vec::new();
        let mut taps = Vec::new();
        for (ky, dy) in taps_of(py, s.pad[0], s.kh, s.stride[0]) {
            for (kx, dx) in taps_of(px, s.pad[2], s.kw, s.stride[1]) {
                places.push(ky * s.kw + kx);
                taps.push([dy, dx]);
            }
        }
        let size = [s.n, (s.h.max(py) - py).div_ceil(s.stride[0]), (s.w.max(px) - px).div_ceil(s.stride[1])];
        let grid = Grid {
            size,
            input: [out_h, out_w, s.c_out],
            groups: s.groups,
            depth: s.group_out(),
            step: [1, 1],
            taps: &taps,
            at: [
                (py * s.w + px) * s.c_in,
                s.h * s.w * s.c_in,
                s.stride[0] * s.w * s.c_in,
                s.stride[1] * s.c_in,
            ],
            cols: s.group_in(),
        };
        let len = Blocking::of(level).panels_len(s.group_in(), taps.len() * s.group_out());
        scratch::with(s.groups * len, |panels| {
            for group in 0..s.groups {
                let from = group * s.group_out() * s.group_in() * k;
                let source = Source { w, from, col: k, depth: s.group_in() * k, taps: &places };
                pack::pack(level, &source, s.group_in(), s.group_out(), &mut panels[group * len..][..len]);
            }
            direct::run(level, &grid, dy, Panels::Plain(panels), Finish::NOTHING, dx);
        });
    }
}
