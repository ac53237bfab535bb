//! Every level against the scalar oracle: odd sizes, tails, strides, pads, groups, NaN.

use super::*;
use crate::Curve;

/// Numbers in [-1, 1), the same at every run.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let scale = expected.iter().fold(1e-3_f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * scale, "{what}: element {i} is {a}, expected {e}");
    }
}

pub(crate) fn shape(
    n: usize,
    hw: [usize; 2],
    c: [usize; 2],
    k: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 4],
) -> ConvShape {
    ConvShape { n, h: hw[0], w: hw[1], c_in: c[0], c_out: c[1], kh: k[0], kw: k[1], stride, pad, groups: 1 }
}

pub(crate) fn shapes() -> Vec<ConvShape> {
    let mut shapes = vec![
        shape(2, [9, 11], [3, 64], [7, 7], [2, 2], [3; 4]),
        shape(1, [7, 7], [70, 33], [3, 3], [1, 1], [1; 4]),
        shape(3, [7, 7], [64, 48], [3, 3], [1, 1], [1; 4]),
        shape(2, [14, 14], [32, 40], [3, 3], [2, 2], [1; 4]),
        shape(2, [13, 10], [17, 31], [3, 3], [2, 2], [0, 1, 0, 1]),
        shape(2, [8, 8], [64, 70], [1, 1], [1, 1], [0; 4]),
        shape(2, [9, 8], [20, 65], [1, 1], [2, 2], [0; 4]),
        shape(1, [1, 1], [5, 7], [3, 3], [1, 1], [1; 4]),
        shape(1, [1, 1], [40, 7], [3, 3], [2, 2], [1; 4]),
        shape(2, [6, 5], [18, 9], [2, 4], [1, 2], [1, 0, 2, 1]),
        shape(1, [12, 12], [16, 16], [5, 5], [3, 2], [2, 1, 4, 0]),
        shape(1, [16, 16], [3, 20], [4, 4], [4, 4], [0; 4]),
        shape(1, [5, 5], [16, 20], [1, 1], [1, 1], [1, 2, 0, 1]),
        shape(1, [2, 2], [1024, 16], [1, 1], [1, 1], [0; 4]),
        shape(1, [45, 45], [16, 14], [3, 3], [1, 1], [1; 4]),
        shape(1, [2, 2], [4, 4], [5, 5], [1, 1], [0; 4]),
        shape(0, [4, 4], [4, 4], [3, 3], [1, 1], [1; 4]),
    ];
    shapes.extend(winograd_shapes());
    shapes.push(ConvShape { groups: 4, ..shape(2, [6, 6], [16, 24], [3, 3], [1, 1], [1; 4]) });
    shapes.push(ConvShape { groups: 2, ..shape(2, [7, 6], [64, 66], [3, 3], [2, 2], [1; 4]) });
    shapes.push(ConvShape { groups: 6, ..shape(1, [5, 6], [6, 6], [3, 3], [1, 1], [1; 4]) });
    for (groups, group_in, group_out) in
        [(8, 4, 4), (12, 4, 4), (7, 3, 5), (6, 8, 8), (5, 16, 16), (3, 24, 24), (2, 40, 33)]
    {
        let c = [groups * group_in, groups * group_out];
        shapes.push(ConvShape { groups, ..shape(2, [7, 9], c, [3, 3], [1, 1], [1; 4]) });
        shapes.push(ConvShape { groups, ..shape(1, [8, 7], c, [3, 3], [2, 2], [1; 4]) });
    }
    for c_out in 1..70 {
        shapes.push(shape(1, [3, 5], [16 + c_out % 3, c_out], [3, 3], [1, 1], [1; 4]));
        shapes.push(shape(1, [3, 5], [c_out, 3], [3, 3], [1 + c_out % 2, 1], [1; 4]));
    }
    shapes
}

/// Layers that Winograd takes, on bf16 maps too.
pub(crate) fn winograd_shapes() -> [ConvShape; 2] {
    [
        shape(2, [32, 31], [64, 48], [3, 3], [1, 1], [1; 4]),
        shape(3, [26, 29], [32, 80], [3, 3], [1, 1], [0, 1, 2, 0]),
    ]
}

fn vector_levels() -> impl Iterator<Item = Level> {
    Level::available().into_iter().filter(|l| *l != Level::Scalar)
}

/// The layer with bias, residual and end, by the scalar definition.
fn oracle(s: &ConvShape, x: &[f32], w: &[f32], (b, r): (&[f32], &[f32]), end: End, y: &mut [f32]) {
    scalar::forward(s, x, w, Some(b), Some(r), end.act(), y);
    end.finish(Level::Scalar, y);
}

#[test]
fn forward_matches_the_oracle() {
    for s in shapes() {
        let (x, w, b) = (noise(s.x_len(), 1), noise(s.w_len(), 2), noise(s.c_out, 3));
        let r = noise(s.y_len(), 4);
        let mut expected = vec![0.0; s.y_len()];
        let mut y = vec![f32::NAN; s.y_len()];
        for level in vector_levels() {
            scalar::forward(&s, &x, &w, Some(&b), None, Act::None, &mut expected);
            y.fill(f32::NAN);
            let finish = Finish { bias: Some(&b), ..Finish::NOTHING };
            forward_at(level, Algorithm::Direct, &s, &x, &w, finish, &mut y);
            assert_close(&y, &expected, 1e-5, &format!("{level} forward {s:?}"));

            for end in [Act::Relu.into(), Act::Relu6.into(), Curve::Silu.into(), Curve::Gelu.into()] {
                oracle(&s, &x, &w, (&b, &r), end, &mut expected);
                let packed = PackedConv::new_at(level, &s, &w, Some(&b));
                y.fill(f32::NAN);
                let finish = Finish { bias: Some(&b), residual: Some(&r), end };
                forward_packed_by(Algorithm::Direct, &s, &x, &packed, finish, &mut y);
                assert_close(&y, &expected, 1e-5, &format!("{level} packed {end:?} {s:?}"));
            }
        }
    }
}

#[test]
fn backward_data_matches_the_oracle() {
    for s in shapes() {
        let (dy, w) = (noise(s.y_len(), 1), noise(s.w_len(), 2));
        let mut expected = vec![0.0; s.x_len()];
        scalar::backward_data(&s, &dy, &w, &mut expected);
        for level in vector_levels() {
            let mut dx = vec![f32::NAN; s.x_len()];
            backward_data_at(level, Algorithm::Direct, &s, &dy, &w, &mut dx);
            assert_close(&dx, &expected, 1e-5, &format!("{level} {s:?}"));
        }
    }
}

#[test]
fn backward_weight_matches_the_oracle() {
    for s in shapes() {
        let (x, dy) = (noise(s.x_len(), 1), noise(s.y_len(), 2));
        let mut expected = vec![0.0; s.w_len()];
        scalar::backward_weight(&s, &x, &dy, &mut expected);
        for level in vector_levels() {
            let mut dw = vec![f32::NAN; s.w_len()];
            backward_weight_at(level, &s, &x, &dy, &mut dw);
            assert_close(&dw, &expected, 1e-5, &format!("{level} {s:?}"));
        }
    }
}

#[test]
fn winograd_matches_the_oracle() {
    let one = |n, hw, c, pad| shape(n, hw, c, [3, 3], [1, 1], pad);
    let shapes = [
        one(3, [7, 7], [32, 48], [1; 4]),
        one(2, [14, 13], [64, 32], [1; 4]),
        one(1, [17, 30], [48, 80], [0, 2, 1, 0]),
        one(40, [5, 4], [32, 32], [1; 4]),
        one(2, [12, 12], [32, 32], [0; 4]),
        // Too many channels for a band of one thread.
        one(20, [7, 7], [272, 256], [1; 4]),
        one(1, [44, 40], [512, 32], [1; 4]),
        // Sums of a few outputs at a time.
        one(8, [7, 7], [512, 112], [1; 4]),
    ];
    let mut weights = 0;
    for s in shapes {
        assert!(Algorithm::Best.winograd(&s).is_some(), "{s:?}");
        let (x, w, b) = (noise(s.x_len(), 1), noise(s.w_len(), 2), noise(s.c_out, 3));
        let (r, dy) = (noise(s.y_len(), 4), noise(s.y_len(), 5));
        // The direct kernels are checked against the oracle above, and faster.
        let widest = *Level::available().last().unwrap();
        let mut expected = vec![0.0; s.y_len()];
        let mut expected_dx = vec![0.0; s.x_len()];
        backward_data_at(widest, Algorithm::Direct, &s, &dy, &w, &mut expected_dx);
        let mut expected_dw = vec![0.0; s.w_len()];
        backward_weight_by(widest, Algorithm::Direct, &s, &x, &dy, &mut expected_dw, None);
        for level in vector_levels() {
            for end in [Act::Relu.into(), Curve::Silu.into()] {
                let finish = Finish { bias: Some(&b), residual: Some(&r), end };
                let packed = PackedConv::new_at(widest, &s, &w, Some(&b));
                forward_packed_by(Algorithm::Direct, &s, &x, &packed, finish, &mut expected);
                let packed = PackedConv::new_at(level, &s, &w, Some(&b));
                let mut y = vec![f32::NAN; s.y_len()];
                forward_packed_by(Algorithm::Best, &s, &x, &packed, finish, &mut y);
                assert_close(&y, &expected, 1e-5, &format!("{level} forward {end:?} {s:?}"));
                assert_ne!(y, expected, "{level}: Winograd did not run for {s:?}");
            }
            let mut dx = vec![f32::NAN; s.x_len()];
            backward_data_at(level, Algorithm::Best, &s, &dy, &w, &mut dx);
            assert_close(&dx, &expected_dx, 1e-5, &format!("{level} backward {s:?}"));
            let mut dw = vec![f32::NAN; s.w_len()];
            backward_weight_by(level, Algorithm::Best, &s, &x, &dy, &mut dw, None);
            assert_close(&dw, &expected_dw, 1e-5, &format!("{level} weights {s:?}"));
            let takes = Algorithm::Best.winograd(&s).unwrap().pays_for_weights();
            if level == widest {
                assert_eq!(dw != expected_dw, takes, "{level} {s:?}");
            }
            weights += usize::from(takes);
        }
    }
    assert!(weights > 5, "too few shapes whose weight gradients Winograd takes");
}

/// Products that Strassen takes: pairs of rows, an odd row, one row, several tiles of pairs, a short last tile.
fn product_shapes() -> [ConvShape; 6] {
    let one = |n, hw, c| shape(n, hw, c, [1, 1], [1, 1], [0; 4]);
    [
        one(3, [5, 7], [256, 192]),
        one(600, [1, 2], [288, 256]),
        one(6, [14, 14], [512, 256]),
        one(3, [1, 301], [256, 330]),
        one(4, [1, 301], [256, 320]),
        one(5, [1, 1], [320, 192]),
    ]
}

#[test]
fn strassen_matches_the_direct_products() {
    let mut taken = vec![0; 4];
    for s in product_shapes() {
        let (x, w, b) = (noise(s.x_len(), 1), noise(s.w_len(), 2), noise(s.c_out, 3));
        let (r, dy) = (noise(s.y_len(), 4), noise(s.y_len(), 5));
        for level in vector_levels() {
            let mut expected_dx = vec![0.0; s.x_len()];
            backward_data_at(level, Algorithm::Direct, &s, &dy, &w, &mut expected_dx);
            let finish = Finish { bias: Some(&b), residual: Some(&r), end: Act::Relu.into() };
            let mut expected = vec![0.0; s.y_len()];
            forward_at(level, Algorithm::Direct, &s, &x, &w, finish, &mut expected);
            let mut y = vec![f32::NAN; s.y_len()];
            forward_at(level, Algorithm::Best, &s, &x, &w, finish, &mut y);
            assert_close(&y, &expected, 1e-5, &format!("{level} forward {s:?}"));
            let once = Algorithm::Best.product_once(level, &s).is_some();
            assert_eq!(y != expected, once, "{level} forward {s:?}");
            let pairs = Algorithm::Best.product(level, &s).is_some_and(|p| p.has_pairs());
            for end in [Act::Relu.into(), Curve::Gelu.into()] {
                let finish = Finish { bias: Some(&b), residual: Some(&r), end };
                let packed = PackedConv::new_at(level, &s, &w, Some(&b));
                // From panels in pairs, too.
                forward_packed_by(Algorithm::Direct, &s, &x, &packed, finish, &mut expected);
                y.fill(f32::NAN);
                forward_packed_by(Algorithm::Best, &s, &x, &packed, finish, &mut y);
                assert_close(&y, &expected, 1e-5, &format!("{level} packed {end:?} {s:?}"));
                assert_eq!(y != expected, pairs, "{level} packed {end:?} {s:?}");
            }
            let mut dx = vec![f32::NAN; s.x_len()];
            backward_data_at(level, Algorithm::Best, &s, &dy, &w, &mut dx);
            assert_close(&dx, &expected_dx, 1e-5, &format!("{level} backward {s:?}"));
            let back = Algorithm::Best.product_back(level, &s).is_some();
            assert_eq!(dx != expected_dx, back, "{level} backward {s:?}");

            let (mut dw, mut expected_dw) = (vec![f32::NAN; s.w_len()], vec![0.0; s.w_len()]);
            let (mut db, mut expected_db) = (vec![f32::NAN; s.c_out], vec![0.0; s.c_out]);
            backward_weight_by(
                level,
                Algorithm::Direct,
                &s,
                &x,
                &dy,
                &mut expected_dw,
                Some(&mut expected_db),
            );
            backward_weight_by(level, Algorithm::Best, &s, &x, &dy, &mut dw, Some(&mut db));
            assert_close(&db, &expected_db, 1e-5, &format!("{level} bias {s:?}"));
            assert_close(&dw, &expected_dw, 1e-5, &format!("{level} weights {s:?}"));
            let gradient = Algorithm::Best.gradient(level, &s).is_some();
            assert_eq!(dw != expected_dw, gradient, "{level} weights {s:?}");
            taken =
                taken.iter().zip([once, pairs, back, gradient]).map(|(n, t)| n + usize::from(t)).collect();
        }
    }
    let levels = vector_levels().count();
    assert!(taken.iter().all(|n| *n >= 2 * levels), "too few shapes that Strassen takes: {taken:?}");
}

#[test]
fn an_image_does_not_depend_on_its_neighbours() {
    let s = product_shapes()[0];
    let (mut x, w) = (noise(s.x_len(), 1), noise(s.w_len(), 2));
    let one = ConvShape { n: 1, ..s };
    for level in vector_levels() {
        let packed = PackedConv::new_at(level, &s, &w, None);
        let finish = Finish::NOTHING;
        let mut alone = vec![0.0; one.y_len()];
        forward_packed_by(Algorithm::Best, &one, &x[..one.x_len()], &packed, finish, &mut alone);
        x[one.x_len() + 3] = f32::NAN;
        let mut y = vec![0.0; s.y_len()];
        forward_packed_by(Algorithm::Best, &s, &x, &packed, finish, &mut y);
        assert_eq!(y[..one.y_len()], alone, "{level}");
        assert!(y[one.y_len()..][..s.c_out].iter().all(|v| v.is_nan()), "{level}");
        assert!(y[2 * one.y_len()..].iter().all(|v| v.is_finite()), "{level}");
    }
}

#[test]
fn not_a_number_and_infinity_reach_the_same_outputs() {
    let s = shape(1, [6, 7], [20, 35], [3, 3], [1, 1], [1; 4]);
    let w = noise(s.w_len(), 2);
    let mut x = noise(s.x_len(), 1);
    x[5] = f32::NAN;
    x[20 * 20] = f32::INFINITY;
    let mut expected = vec![0.0; s.y_len()];
    scalar::forward(&s, &x, &w, None, None, Act::Relu, &mut expected);
    for level in vector_levels() {
        let packed = PackedConv::new_at(level, &s, &w, None);
        let mut y = vec![0.0; s.y_len()];
        let finish = Finish { bias: None, residual: None, end: Act::Relu.into() };
        forward_packed_by(Algorithm::Direct, &s, &x, &packed, finish, &mut y);
        for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
            assert_eq!((y.is_nan(), y.is_infinite()), (e.is_nan(), e.is_infinite()), "{level} element {i}");
        }
    }
}

#[test]
fn alone_and_shared_give_the_same_bits() {
    for s in [shape(2, [15, 14], [48, 64], [3, 3], [1, 1], [1; 4]), product_shapes()[2]] {
        the_same_bits(&s);
    }
}

fn the_same_bits(s: &ConvShape) {
    let (x, w, dy) = (noise(s.x_len(), 1), noise(s.w_len(), 2), noise(s.y_len(), 3));
    for level in vector_levels() {
        let all = || {
            let mut results = Vec::new();
            for algorithm in [Algorithm::Direct, Algorithm::Best] {
                let (mut y, mut dx) = (vec![0.0; s.y_len()], vec![0.0; s.x_len()]);
                forward_at(level, algorithm, s, &x, &w, Finish::NOTHING, &mut y);
                backward_data_at(level, algorithm, s, &dy, &w, &mut dx);
                results.extend([y, dx]);
            }
            let mut dw = vec![0.0; s.w_len()];
            backward_weight_at(level, s, &x, &dy, &mut dw);
            results.push(dw);
            results
        };
        let shared = all();
        // A nested call runs its tasks alone.
        let alone = std::sync::Mutex::new(Vec::new());
        crate::threads::parallel_for(2, |_| {
            let result = all();
            alone.lock().unwrap().push(result);
        });
        for alone in alone.into_inner().unwrap() {
            assert_eq!(shared, alone, "{level}");
        }
    }
}

#[test]
#[should_panic(expected = "x has 1 floats")]
fn a_wrong_length_is_named() {
    let s = shape(1, [2, 2], [1, 1], [1, 1], [1, 1], [0; 4]);
    forward(&s, &[0.0], &[0.0], None, &mut [0.0; 4]);
}
