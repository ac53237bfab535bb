//! Training kernels at every level against the f32 oracle on the same rounded numbers: odd sizes, tails, strides, groups,
//! odd numbers of images, NaN, and the same bits at any number of threads.

use super::bf16::{round, widen};
use super::train::{backward_data_at, backward_weight_at, forward_at};
use crate::conv::tests::{assert_close, noise, shape, shapes, winograd_shapes};
use crate::conv::{self, ConvShape, choose};
use crate::norm::{self, Norm, NormGrads};
use crate::pool::{self, PoolShape};
use crate::threads::parallel_for;
use crate::{Act, Element, Level, act};

fn halves(len: usize, seed: u64) -> Vec<u16> {
    noise(len, seed).into_iter().map(round).collect()
}

fn floats(half: &[u16]) -> Vec<f32> {
    half.iter().map(|v| widen(*v)).collect()
}

/// Half a unit of bf16's last place, and what the order of the sums may move.
fn assert_rounded(actual: &[u16], expected: &[f32], what: &str) {
    let scale = expected.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (widen(*a) - e).abs();
        assert!(error <= e.abs() / 256.0 + 1e-5 * scale, "{what}: element {i} is {}, not {e}", widen(*a));
    }
}

fn all_shapes() -> Vec<ConvShape> {
    let mut shapes = shapes();
    for (c, k, stride) in [(20, 3, 1), (33, 5, 2)] {
        let depthwise = shape(3, [9, 8], [c, c], [k, k], [stride, stride], [k / 2; 4]);
        shapes.push(ConvShape { groups: c, ..depthwise });
    }
    // Padding wider than the kernel reaches, several L1 parts, several chunks, images in odd number.
    shapes.push(shape(3, [4, 5], [6, 4], [1, 1], [1, 1], [1, 2, 2, 0]));
    shapes.push(shape(5, [30, 61], [34, 30], [3, 3], [1, 1], [1; 4]));
    shapes.push(shape(3, [57, 56], [3, 17], [7, 7], [2, 2], [3; 4]));
    shapes.push(shape(7, [7, 7], [160, 200], [3, 3], [1, 1], [1; 4]));
    shapes.push(ConvShape { groups: 8, ..shape(3, [9, 9], [32, 32], [3, 3], [2, 2], [1; 4]) });
    shapes
}

#[test]
fn forward_matches_the_oracle() {
    for s in all_shapes() {
        let (x, w, b) = (halves(s.x_len(), 1), halves(s.w_len(), 2), noise(s.c_out, 3));
        for (bias, act) in [(None, Act::None), (Some(&b[..]), Act::Relu6)] {
            let mut expected = vec![0.0; s.y_len()];
            conv::forward_act(Level::Scalar, &s, &floats(&x), &floats(&w), bias, act, &mut expected);
            for level in Level::available() {
                let mut y = vec![u16::NAN; s.y_len()];
                forward_at(level, &s, &x, &floats(&w), bias, act, &mut y);
                assert_rounded(&y, &expected, &format!("{level} {act:?} {s:?}"));
            }
        }
    }
}

#[test]
fn backward_data_matches_the_oracle() {
    for s in all_shapes() {
        let (dy, w) = (halves(s.y_len(), 1), halves(s.w_len(), 2));
        let mut expected = vec![0.0; s.x_len()];
        conv::backward_data_level(Level::Scalar, &s, &floats(&dy), &floats(&w), &mut expected);
        for level in Level::available() {
            let mut dx = vec![u16::NAN; s.x_len()];
            backward_data_at(level, &s, &dy, &floats(&w), &mut dx);
            assert_rounded(&dx, &expected, &format!("{level} {s:?}"));
        }
    }
}

#[test]
fn backward_weight_matches_the_oracle() {
    for s in all_shapes() {
        let (x, dy) = (halves(s.x_len(), 1), halves(s.y_len(), 2));
        let mut expected = vec![0.0; s.w_len()];
        conv::backward_weight_at(Level::Scalar, &s, &floats(&x), &floats(&dy), &mut expected);
        for level in Level::available() {
            let mut dw = vec![f32::NAN; s.w_len()];
            backward_weight_at(level, &s, &x, &dy, &mut dw);
            assert_close(&dw, &expected, 1e-5, &format!("{level} {s:?}"));
        }
    }
}

#[test]
fn winograd_takes_some_layers() {
    for s in winograd_shapes() {
        let taken =
            [choose::half::of_packed(&s), choose::half::of_forward(&s), choose::half::of_backward(&s)];
        assert!(taken.iter().all(Option::is_some), "{s:?}");
    }
    // Too few pixels to pay for the weights.
    assert!(choose::half::of_forward(&shape(8, [7, 7], [512, 512], [3, 3], [1, 1], [1; 4])).is_none());
}

/// Weights are rounded as activations are.
#[test]
fn weights_are_rounded_to_nearest_even() {
    let s = shape(1, [2, 2], [2, 3], [1, 1], [1, 1], [0; 4]);
    let w: Vec<f32> = (0..6).map(|i| 1.0 + i as f32 / 256.0).collect();
    let x = [round(1.0), 0].repeat(4);
    for level in Level::available() {
        let mut y = vec![0; s.y_len()];
        forward_at(level, &s, &x, &w, None, Act::None, &mut y);
        assert_eq!(y[..3], [round(w[0]), round(w[2]), round(w[4])], "{level}");
    }
}

#[test]
fn nan_and_infinity_arrive_where_they_should() {
    for (channels, n) in [(20, 1), (3, 2)] {
        let s = shape(n, [8, 8], [channels, 34], [3, 3], [1, 1], [1; 4]);
        let (w, mut x, mut dy) = (halves(s.w_len(), 2), halves(s.x_len(), 1), halves(s.y_len(), 3));
        (x[5], x[40 * channels]) = (0x7fc0, 0x7f80);
        (dy[5], dy[40 * 34]) = (0x7f80, 0x7fc0);
        let same = |what: &str, actual: &[f32], expected: &[f32]| {
            for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
                let same = (a.is_nan(), a.is_infinite()) == (e.is_nan(), e.is_infinite());
                assert!(same, "{what}: element {i} is {a}, expected {e}");
            }
        };
        let (wide_x, wide_dy, w) = (floats(&x), floats(&dy), floats(&w));
        let (mut y, mut dx, mut dw) = (vec![0.0; s.y_len()], vec![0.0; s.x_len()], vec![0.0; s.w_len()]);
        conv::forward_act(Level::Scalar, &s, &wide_x, &w, None, Act::Relu, &mut y);
        conv::backward_data_level(Level::Scalar, &s, &wide_dy, &w, &mut dx);
        conv::backward_weight_at(Level::Scalar, &s, &wide_x, &wide_dy, &mut dw);
        for level in Level::available().into_iter().filter(|level| level.has_bf16()) {
            let (mut y_half, mut dx_half, mut dw_half) =
                (vec![0; s.y_len()], vec![0; s.x_len()], vec![0.0; s.w_len()]);
            forward_at(level, &s, &x, &w, None, Act::Relu, &mut y_half);
            backward_data_at(level, &s, &dy, &w, &mut dx_half);
            backward_weight_at(level, &s, &x, &dy, &mut dw_half);
            same(&format!("{level} y"), &floats(&y_half), &y);
            same(&format!("{level} dx"), &floats(&dx_half), &dx);
            // A NaN times the zero beside the map is one too; everything it meets is.
            assert!(dw.iter().zip(&dw_half).all(|(e, a)| a.is_nan() || !e.is_nan()), "{level} dw");
        }
    }
}

#[test]
fn alone_and_shared_give_the_same_bits() {
    for s in [
        shape(5, [15, 14], [48, 70], [3, 3], [1, 1], [1; 4]),
        shape(4, [28, 28], [3, 64], [7, 7], [2, 2], [3; 4]),
        shape(4, [14, 14], [64, 128], [1, 1], [2, 2], [0; 4]),
    ] {
        let (x, dy, w) = (halves(s.x_len(), 1), halves(s.y_len(), 2), noise(s.w_len(), 3));
        for level in Level::available() {
            let run = || {
                let (mut y, mut dx) = (vec![0; s.y_len()], vec![0; s.x_len()]);
                let mut dw = vec![0.0; s.w_len()];
                forward_at(level, &s, &x, &w, None, Act::None, &mut y);
                backward_data_at(level, &s, &dy, &w, &mut dx);
                backward_weight_at(level, &s, &x, &dy, &mut dw);
                (y, dx, dw)
            };
            let shared = run();
            // A nested call runs its tasks alone.
            let alone = std::sync::Mutex::new(Vec::new());
            parallel_for(2, |_| alone.lock().unwrap().push(run()));
            assert!(alone.into_inner().unwrap().iter().all(|y| *y == shared), "{level}");
        }
    }
}

/// On rounded numbers BatchNorm differs from that of f32 by the rounding of its results alone.
#[test]
fn norms_match_those_of_f32() {
    for (rows, c) in [(5, 3), (300, 17), (49, 100), (2000, 64), (33, 257)] {
        let (x, dy, r) = (halves(rows * c, 1), halves(rows * c, 2), halves(rows * c, 3));
        let (gamma, beta) = (noise(c, 4), noise(c, 5));
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        let mut wide = (vec![0.0; c], vec![0.0; c]);
        norm::batch_stats(&x, &mut mean, &mut var);
        norm::batch_stats(&floats(&x), &mut wide.0, &mut wide.1);
        assert_eq!((&mean, &var), (&wide.0, &wide.1));
        let layer = Norm { mean: &mean, var: &var, gamma: &gamma, beta: &beta, eps: 1e-5 };
        for (act, joins) in [(Act::None, false), (Act::Relu, false), (Act::Relu, true), (Act::Relu6, true)] {
            let mut y = vec![u16::NAN; x.len()];
            norm::forward(&layer, &x, joins.then_some(&r[..]), act, &mut y);
            let mut expected = vec![0.0; x.len()];
            let wide_r = floats(&r);
            norm::forward(&layer, &floats(&x), joins.then_some(&wide_r[..]), act, &mut expected);
            assert_rounded(&y, &expected, &format!("{rows}x{c} {act:?}"));

            for trains in [true, false] {
                let (mut dx, mut dr) = (vec![u16::NAN; x.len()], vec![u16::NAN; x.len()]);
                let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
                let grads = NormGrads {
                    dx: Some(&mut dx),
                    dgamma: Some(&mut dgamma),
                    dbeta: Some(&mut dbeta),
                    dresidual: joins.then_some(&mut dr),
                };
                if trains {
                    norm::backward_train(&layer, act, &x, Some(&y), &dy, grads);
                } else {
                    norm::backward_frozen(&layer, act, &x, Some(&y), &dy, grads);
                }
                let wide_backward = if trains { norm::backward_train } else { norm::backward_frozen };
                let mut want = [vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; c], vec![0.0; c]];
                let [wide_dx, wide_dr, wide_dgamma, wide_dbeta] = &mut want;
                let grads = NormGrads {
                    dx: Some(wide_dx),
                    dgamma: Some(wide_dgamma),
                    dbeta: Some(wide_dbeta),
                    dresidual: joins.then_some(wide_dr),
                };
                wide_backward(&layer, act, &floats(&x), Some(&floats(&y)), &floats(&dy), grads);
                let what = format!("{rows}x{c} {act:?} {joins} {trains}");
                assert_rounded(&dx, &want[0], &what);
                if joins {
                    assert_rounded(&dr, &want[1], &what);
                }
                assert_close(&dgamma, &want[2], 1e-6, &what);
                assert_close(&dbeta, &want[3], 1e-6, &what);
            }
        }
        let (mut sums, mut wide_sums) = (vec![0.0; c], vec![0.0; c]);
        norm::channel_sums(&x, &mut sums);
        norm::channel_sums(&floats(&x), &mut wide_sums);
        assert_eq!(sums, wide_sums);
    }
}

#[test]
fn pools_and_activations_match_those_of_f32() {
    for (h, w, c, kernel, stride, pad) in [(9, 8, 33, 3, 2, 1), (1, 1, 5, 1, 1, 0), (6, 7, 64, 2, 2, 0)] {
        let s = PoolShape { n: 2, h, w, c, kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2] };
        let [oh, ow] = s.output();
        let (mut x, dy) = (halves(2 * h * w * c, 1), halves(2 * oh * ow * c, 2));
        x[0] = u16::NAN;
        let (mut y, mut wide_y) = (vec![0; dy.len()], vec![0.0; dy.len()]);
        let (mut taps, mut wide_taps) = (vec![0; dy.len()], vec![0; dy.len()]);
        pool::max_forward(&s, &x, &mut y, Some(&mut taps));
        pool::max_forward(&s, &floats(&x), &mut wide_y, Some(&mut wide_taps));
        let mut alone = vec![0; dy.len()];
        pool::max_forward(&s, &x, &mut alone, None);
        assert_eq!(alone, y);
        assert!(taps == wide_taps && y.iter().zip(&wide_y).all(|(y, e)| widen(*y) == *e || e.is_nan()));
        let (mut dx, mut wide_dx) = (vec![0; x.len()], vec![0.0; x.len()]);
        pool::max_backward(&s, &taps, &dy, &mut dx);
        pool::max_backward(&s, &taps, &floats(&dy), &mut wide_dx);
        assert_rounded(&dx, &wide_dx, &format!("{s:?}"));

        x[0] = 0;
        for out in [[1, 1], [h.min(2), w.min(3)]] {
            let len = 2 * out[0] * out[1] * c;
            let (mut y, mut wide_y) = (vec![0.0; len], vec![0.0; len]);
            pool::adaptive_avg_forward([2, h, w, c], out, &x, &mut y);
            pool::adaptive_avg_forward([2, h, w, c], out, &floats(&x), &mut wide_y);
            assert_eq!(y, wide_y);
            pool::adaptive_avg_backward([2, h, w, c], out, &y, &mut dx);
            pool::adaptive_avg_backward([2, h, w, c], out, &y, &mut wide_dx);
            assert_rounded(&dx, &wide_dx, &format!("{out:?}"));
        }
    }
    for kind in [Act::Relu, Act::Relu6] {
        let (mut y, dy) = (halves(1000, 1), halves(1000, 2));
        act::forward(kind, &mut y);
        let (mut dx, mut wide_dx) = (dy.clone(), floats(&dy));
        act::backward(kind, &y, &mut dx);
        act::backward(kind, &floats(&y), &mut wide_dx);
        assert_eq!(floats(&dx), wide_dx);
    }
}
