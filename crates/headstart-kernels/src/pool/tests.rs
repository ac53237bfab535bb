use super::max::{max_backward_at, max_forward_at};
use super::mean::{window_mean, window_mean_backward};
use super::*;
use crate::simd::testing::{assert_close, noise};

fn shapes() -> Vec<PoolShape> {
    let mut shapes = Vec::new();
    for c in [1, 3, 17, 64, 100] {
        for (h, w, kernel, stride, pad) in [
            (1, 1, [1, 1], [1, 1], [0, 0]),
            (1, 1, [3, 3], [2, 2], [1, 1]),
            (9, 12, [3, 3], [2, 2], [1, 1]),
            (8, 7, [2, 2], [2, 2], [0, 0]),
            (6, 11, [3, 2], [1, 3], [1, 0]),
        ] {
            shapes.push(PoolShape { n: 2, h, w, c, kernel, stride, pad });
        }
    }
    shapes
}

/// The pixels each output reads, as (ky, kx, offset of the pixel), by the textbook loop.
fn reads(s: &PoolShape, image: usize, oy: usize, ox: usize) -> Vec<(usize, usize, usize)> {
    let mut reads = Vec::new();
    for ky in 0..s.kernel[0] {
        for kx in 0..s.kernel[1] {
            let iy = (oy * s.stride[0] + ky).wrapping_sub(s.pad[0]);
            let ix = (ox * s.stride[1] + kx).wrapping_sub(s.pad[1]);
            if iy < s.h && ix < s.w {
                reads.push((ky, kx, ((image * s.h + iy) * s.w + ix) * s.c));
            }
        }
    }
    reads
}

fn each_output(s: &PoolShape, mut f: impl FnMut(usize, Vec<(usize, usize, usize)>)) {
    let [oh, ow] = s.output();
    for image in 0..s.n {
        for oy in 0..oh {
            for ox in 0..ow {
                f(((image * oh + oy) * ow + ox) * s.c, reads(s, image, oy, ox));
            }
        }
    }
}

#[test]
fn max_and_its_gradient_match_the_definition() {
    for s in shapes() {
        let x = noise(1, s.map().len());
        let out = s.n * s.output().iter().product::<usize>() * s.c;
        let dy = noise(2, out);
        let (mut want, mut want_tap, mut want_dx) = (vec![0.0; out], vec![0_u8; out], vec![0.0; x.len()]);
        each_output(&s, |o, reads| {
            for k in 0..s.c {
                let mut best = (f32::NEG_INFINITY, 0, 0);
                for (ky, kx, at) in &reads {
                    if x[at + k] > best.0 {
                        best = (x[at + k], ky * s.kernel[1] + kx, at + k);
                    }
                }
                want[o + k] = best.0;
                want_tap[o + k] = best.1 as u8;
                want_dx[best.2] += f64::from(dy[o + k]);
            }
        });
        for level in Level::available() {
            let (mut y, mut alone) = (vec![9.0; out], vec![9.0; out]);
            let (mut taps, mut dx) = (vec![99; out], vec![9.0; x.len()]);
            max_forward_at(level, &s, &x, &mut y, Some(&mut taps));
            max_forward_at(level, &s, &x, &mut alone, None);
            max_backward_at(level, &s, &taps, &dy, &mut dx);
            assert_eq!((&y, &alone, &taps), (&want, &want, &want_tap), "{level} {s:?}");
            assert_close(&dx, &want_dx, 1e-6, &format!("{level} {s:?} dx"));
        }
    }
}

#[test]
fn nan_wins_and_ties_go_to_the_first() {
    let shape = PoolShape { n: 1, h: 1, w: 4, c: 1, kernel: [1, 2], stride: [1, 2], pad: [0, 0] };
    for level in Level::available() {
        let (mut y, mut taps) = ([0.0; 2], [9; 2]);
        max_forward_at(level, &shape, &[1.0, 1.0, f32::NAN, 5.0], &mut y, Some(&mut taps));
        assert!(y[0] == 1.0 && y[1].is_nan() && taps == [0, 0], "{level}: {y:?} {taps:?}");
        max_forward_at(level, &shape, &[f32::NEG_INFINITY; 4], &mut y, Some(&mut taps));
        assert_eq!((y, taps), ([f32::NEG_INFINITY; 2], [0, 0]), "{level}");
    }
}

#[test]
fn average_and_its_gradient_match_the_definition() {
    for s in shapes() {
        for padded in [false, true] {
            let x = noise(1, s.map().len());
            let out = s.n * s.output().iter().product::<usize>() * s.c;
            let dy = noise(2, out);
            let (mut want, mut want_dx) = (vec![0.0; out], vec![0.0; x.len()]);
            each_output(&s, |o, reads| {
                // Rounding down means that no window passes the padded edge.
                let count = if padded { s.kernel[0] * s.kernel[1] } else { reads.len() } as f64;
                for k in 0..s.c {
                    for (_, _, at) in &reads {
                        want[o + k] += f64::from(x[at + k]) / count;
                        want_dx[at + k] += f64::from(dy[o + k]) / count;
                    }
                }
            });
            for level in Level::available() {
                let (mut y, mut dx) = (vec![9.0; out], vec![9.0; x.len()]);
                window_mean(level, s.map(), &s.windows(), padded, &x, &mut y);
                window_mean_backward(level, s.map(), &s.windows(), padded, &dy, &mut dx);
                assert_close(&y, &want, 1e-6, &format!("{level} {s:?} y"));
                assert_close(&dx, &want_dx, 1e-6, &format!("{level} {s:?} dx"));
            }
        }
    }
}

#[test]
fn adaptive_matches_the_definition() {
    for (h, w, out) in [(7, 7, [1, 1]), (1, 1, [1, 1]), (7, 5, [3, 2]), (4, 6, [6, 4]), (10, 7, [7, 7])] {
        for c in [1, 17, 100] {
            let (n, shape) = (2, [2, h, w, c]);
            let (x, dy) = (noise(1, n * h * w * c), noise(2, n * out[0] * out[1] * c));
            let (mut want, mut want_dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            for (o, k) in (0..dy.len()).map(|i| (i / c, i % c)) {
                let (image, oy, ox) = (o / (out[0] * out[1]), o / out[1] % out[0], o % out[1]);
                let range = |i: usize, len: usize, out: usize| {
                    let start = (i as f64 * len as f64 / out as f64).floor() as usize;
                    start..((i + 1) as f64 * len as f64 / out as f64).ceil() as usize
                };
                let (ys, xs) = (range(oy, h, out[0]), range(ox, w, out[1]));
                let count = (ys.len() * xs.len()) as f64;
                for iy in ys {
                    for ix in xs.clone() {
                        let i = ((image * h + iy) * w + ix) * c + k;
                        want[o * c + k] += f64::from(x[i]) / count;
                        want_dx[i] += f64::from(dy[o * c + k]) / count;
                    }
                }
            }
            let (mut y, mut dx) = (vec![9.0; dy.len()], vec![9.0; x.len()]);
            adaptive_avg_forward(shape, out, &x, &mut y);
            adaptive_avg_backward(shape, out, &dy, &mut dx);
            assert_close(&y, &want, 1e-6, &format!("{shape:?} {out:?} y"));
            assert_close(&dx, &want_dx, 1e-6, &format!("{shape:?} {out:?} dx"));
        }
    }
}
