//! The oracle: each output is one sum written as the definition, nothing clever.

use super::{Act, ConvShape};

impl Act {
    /// Applies the activation to one value; NaN stays NaN.
    pub(crate) fn of(self, x: f32) -> f32 {
        match self {
            Act::None => x,
            Act::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Act::Relu6 => x.clamp(0.0, 6.0),
        }
    }
}

/// Calls `each(x index, w index, y index)` for every product of the convolution.
fn for_each_product(s: &ConvShape, mut each: impl FnMut(usize, usize, usize)) {
    let (in_group, out_group) = (s.c_in / s.groups, s.c_out / s.groups);
    let (out_h, out_w) = (s.out_h(), s.out_w());
    for n in 0..s.n {
        for oy in 0..out_h {
            for ox in 0..out_w {
                for o in 0..s.c_out {
                    let y = ((n * out_h + oy) * out_w + ox) * s.c_out + o;
                    for ky in 0..s.kh {
                        for kx in 0..s.kw {
                            let (iy, ix) = (oy * s.stride[0] + ky, ox * s.stride[1] + kx);
                            let inside = iy >= s.pad[0]
                                && iy < s.h + s.pad[0]
                                && ix >= s.pad[2]
                                && ix < s.w + s.pad[2];
                            if !inside {
                                continue;
                            }
                            let pixel = (n * s.h + iy - s.pad[0]) * s.w + ix - s.pad[2];
                            for i in 0..in_group {
                                let x = pixel * s.c_in + o / out_group * in_group + i;
                                let w = ((o * in_group + i) * s.kh + ky) * s.kw + kx;
                                each(x, w, y);
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn forward(
    shape: &ConvShape,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    act: Act,
    y: &mut [f32],
) {
    y.fill(0.0);
    for_each_product(shape, |xi, wi, yi| y[yi] += x[xi] * w[wi]);
    for (i, y) in y.iter_mut().enumerate() {
        let bias = bias.map_or(0.0, |b| b[i % shape.c_out]);
        *y = act.of(*y + bias + residual.map_or(0.0, |r| r[i]));
    }
}

pub(super) fn backward_data(shape: &ConvShape, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    for_each_product(shape, |xi, wi, yi| dx[xi] += dy[yi] * w[wi]);
}

pub(super) fn backward_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    dw.fill(0.0);
    for_each_product(shape, |xi, wi, yi| dw[wi] += dy[yi] * x[xi]);
}
