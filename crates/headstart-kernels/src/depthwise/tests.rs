use super::*;
use crate::Curve;
use crate::simd::testing::{assert_close, noise};

fn shapes() -> Vec<ConvShape> {
    let mut shapes = Vec::new();
    for c in [1, 3, 17, 64, 100] {
        for (h, w, kh, kw, stride, pad) in [
            (1, 1, 1, 1, [1, 1], [0; 4]),
            (1, 1, 3, 3, [1, 1], [1; 4]),
            (1, 2, 5, 5, [1, 1], [2; 4]),
            (9, 14, 3, 3, [1, 1], [1; 4]),
            (9, 14, 3, 3, [2, 2], [1; 4]),
            (8, 12, 3, 3, [2, 2], [0, 1, 0, 1]),
            (7, 11, 5, 5, [1, 1], [2; 4]),
            (8, 10, 5, 5, [2, 2], [1, 2, 1, 2]),
            (9, 16, 7, 7, [1, 1], [3; 4]),
            (6, 13, 2, 4, [3, 2], [0, 2, 3, 1]),
            (5, 7, 1, 1, [3, 4], [0; 4]),
            (2, 2, 1, 1, [1, 1], [0, 0, 2, 3]),
        ] {
            shapes.push(ConvShape { n: 2, h, w, c_in: c, c_out: c, kh, kw, stride, pad, groups: c });
        }
    }
    shapes
}

/// Calls `f(output, input, weight)` with the offsets of every product of the convolution.
fn each_product(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let (c, oh, ow) = (s.c_in, s.out_h(), s.out_w());
    for o in 0..s.n * oh * ow {
        let (image, oy, ox) = (o / (oh * ow), o / ow % oh, o % ow);
        for t in 0..s.kh * s.kw {
            let iy = (oy * s.stride[0] + t / s.kw).wrapping_sub(s.pad[0]);
            let ix = (ox * s.stride[1] + t % s.kw).wrapping_sub(s.pad[2]);
            if iy < s.h && ix < s.w {
                let pixel = (image * s.h + iy) * s.w + ix;
                (0..c).for_each(|k| f(o * c + k, pixel * c + k, k * s.kh * s.kw + t));
            }
        }
    }
}

#[test]
fn all_passes_match_the_definition() {
    for s in shapes() {
        let (x, weight, dy) = (noise(1, s.x_len()), noise(2, s.w_len()), noise(3, s.y_len()));
        let bias: Vec<f32> = noise(4, s.c_in).iter().map(|v| v * 4.0).collect();
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; weight.len()]);
        each_product(&s, |o, i, w| {
            y[o] += f64::from(x[i]) * f64::from(weight[w]);
            dx[i] += f64::from(dy[o]) * f64::from(weight[w]);
            dw[w] += f64::from(dy[o]) * f64::from(x[i]);
        });
        let biased = |act: Act| -> Vec<f64> {
            let bounds = |v: f64| match act {
                Act::None => v,
                Act::Relu => v.max(0.0),
                Act::Relu6 => v.clamp(0.0, 6.0),
            };
            y.iter().enumerate().map(|(i, v)| bounds(v + f64::from(bias[i % s.c_in]))).collect()
        };
        for level in Level::available() {
            let mut got = vec![f32::NAN; y.len()];
            forward_at(level, &s, &x, &weight, None, Act::None.into(), &mut got);
            assert_close(&got, &y, 1e-5, &format!("{level} {s:?} y"));
            for act in [Act::None, Act::Relu, Act::Relu6] {
                forward_at(level, &s, &x, &weight, Some(&bias), act.into(), &mut got);
                assert_close(&got, &biased(act), 1e-5, &format!("{level} {s:?} {act:?}"));
            }
            let mut bent = got.clone();
            forward_at(level, &s, &x, &weight, Some(&bias), Act::None.into(), &mut got);
            forward_at(level, &s, &x, &weight, Some(&bias), Curve::Silu.into(), &mut bent);
            crate::curve::values(level, Curve::Silu, &mut got);
            assert_eq!(bent, got, "{level} {s:?} bent");
            let mut got = vec![f32::NAN; x.len()];
            backward_data_at(level, &s, &dy, &weight, &mut got);
            assert_close(&got, &dx, 1e-5, &format!("{level} {s:?} dx"));
            let mut got = vec![f32::NAN; weight.len()];
            backward_weight_at(level, &s, &x, &dy, &mut got);
            assert_close(&got, &dw, 1e-5, &format!("{level} {s:?} dw"));
        }
    }
}
