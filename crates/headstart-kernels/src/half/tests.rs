//! Every level against an f32 oracle on the same rounded numbers: odd sizes, tails, strides, groups, NaN.

use super::bf16::{from_f32_at, round, to_f32_at, widen};
use super::*;
use crate::conv::tests::{noise, shape, shapes};
use crate::threads::parallel_for;

fn halves(len: usize, seed: u64) -> Vec<u16> {
    noise(len, seed).into_iter().map(round).collect()
}

fn floats(half: &[u16]) -> Vec<f32> {
    half.iter().map(|v| widen(*v)).collect()
}

/// Half a unit of bf16's last place, and what the order of the sums may move.
fn assert_rounded(actual: &[u16], expected: &[f32], what: &str) {
    let scale = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (widen(*a) - e).abs();
        assert!(error <= e.abs() / 256.0 + 1e-5 * scale, "{what}: element {i} is {}, not {e}", widen(*a));
    }
}

/// The layer in f32 on rounded numbers, at the scalar level.
fn oracle(
    s: &ConvShape,
    x: &[u16],
    w: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[u16]>,
    act: Act,
) -> Vec<f32> {
    let w: Vec<f32> = w.iter().map(|w| widen(round(*w))).collect();
    let packed = PackedConv::new_at(Level::Scalar, s, &w, bias);
    let mut y = vec![0.0; s.y_len()];
    conv::forward_packed(s, &floats(x), &packed, residual.map(floats).as_deref(), act, &mut y);
    y
}

#[test]
fn rounding_is_to_nearest_even_at_every_level() {
    let cases = [
        (1.0_f32, 0x3f80),
        (-0.0, 0x8000),
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (f32::MAX, 0x7f80),
        (f32::NEG_INFINITY, 0xff80),
        (f32::from_bits(1), 0),
        (f32::from_bits(0x0001_8000), 2),
        (f32::from_bits(0x7f80_0001), 0x7fc0),
        (f32::from_bits(0xffff_ffff), 0xffff),
    ];
    for level in Level::available() {
        for repeat in [1, 5] {
            let x: Vec<f32> = cases.iter().map(|c| c.0).collect::<Vec<_>>().repeat(repeat);
            let expected: Vec<u16> = cases.iter().map(|c| c.1).collect::<Vec<_>>().repeat(repeat);
            let mut y = vec![0; x.len()];
            from_f32_at(level, &x, &mut y);
            assert_eq!(y, expected, "{level}");
        }
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let (mut wide, mut back) = (vec![0.0; all.len()], vec![0; all.len()]);
        to_f32_at(level, &all, &mut wide);
        from_f32_at(level, &wide, &mut back);
        for (a, b) in all.iter().zip(&back) {
            assert!(a == b || widen(*a).is_nan() && widen(*b).is_nan(), "{level}: {a:#x} came back {b:#x}");
        }
    }
}

#[test]
fn dense_layers_match_the_oracle() {
    for s in shapes() {
        let (x, w, b) = (halves(s.x_len(), 1), noise(s.w_len(), 2), noise(s.c_out, 3));
        let r = halves(s.y_len(), 4);
        let cases = [(None, None, Act::None), (Some(&b[..]), Some(&r[..]), Act::Relu)];
        for (bias, residual, act) in cases.into_iter().chain([(Some(&b[..]), None, Act::Relu6)]) {
            let expected = oracle(&s, &x, &w, bias, residual, act);
            for level in Level::available() {
                let packed = PackedConvHalf::new_at(level, &s, &w, bias);
                let mut y = vec![0x7fc0; s.y_len()];
                forward_half(&s, &x, &packed, residual, act, &mut y);
                assert_rounded(&y, &expected, &format!("{level} {act:?} {s:?}"));
            }
        }
    }
}

#[test]
fn cpus_without_bf16_products_widen() {
    // Large enough to be widened one image at a time.
    let large = shape(2, [96, 96], [8, 60], [1, 1], [1, 1], [0; 4]);
    let (x, w, r) = (halves(large.x_len(), 1), noise(large.w_len(), 2), halves(large.y_len(), 3));
    let expected = oracle(&large, &x, &w, None, Some(&r), Act::None);
    for level in Level::available() {
        let mut y = vec![0; large.y_len()];
        let packed = PackedConvHalf::new_at(level, &large, &w, None);
        forward_half(&large, &x, &packed, Some(&r), Act::None, &mut y);
        assert_rounded(&y, &expected, &format!("{level} {large:?}"));
    }

    let s = shape(2, [9, 11], [3, 40], [3, 3], [2, 2], [1; 4]);
    assert!(matches!(
        PackedConvHalf::new_at(Level::Scalar, &s, &noise(s.w_len(), 1), None).weight,
        Weight::Widened(_)
    ));
    assert!(!Level::Avx2.has_bf16() && !Level::Scalar.has_bf16());
}

#[test]
fn nan_and_infinity_arrive_where_they_should() {
    for channels in [20, 3] {
        let s = shape(1, [8, 8], [channels, 33], [3, 3], [1, 1], [1; 4]);
        let w = noise(s.w_len(), 2);
        let mut x = halves(s.x_len(), 1);
        x[5] = 0x7fc0;
        x[40 * channels] = 0x7f80;
        let expected = oracle(&s, &x, &w, None, None, Act::Relu);
        for level in Level::available() {
            let packed = PackedConvHalf::new_at(level, &s, &w, None);
            let mut y = vec![0; s.y_len()];
            forward_half(&s, &x, &packed, None, Act::Relu, &mut y);
            for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
                let y = widen(*y);
                let same = (y.is_nan(), y.is_infinite()) == (e.is_nan(), e.is_infinite());
                assert!(same, "{level} element {i}: {y}, expected {e}");
            }
        }
    }
}

#[test]
fn depthwise_matches_the_oracle() {
    for (c, k, stride) in [(1, 3, 1), (33, 3, 2), (64, 5, 1), (70, 7, 1), (32, 3, 1)] {
        let pad = [k / 2, k / 2, k / 2, 0];
        let s = ConvShape { groups: c, ..shape(2, [9, 8], [c, c], [k, k], [stride, stride], pad) };
        let (x, w, b) = (halves(s.x_len(), 1), noise(s.w_len(), 2), noise(c, 3));
        let packed = PackedDepthwiseHalf::new(&s, &w, Some(&b));
        let expected = oracle(&s, &x, &w, Some(&b), None, Act::Relu6);
        for level in Level::available() {
            let mut y = vec![0x7fc0; s.y_len()];
            depthwise::forward_at(level, &s, &x, &packed, Act::Relu6, &mut y);
            assert_rounded(&y, &expected, &format!("{level} {s:?}"));
        }
    }
}

#[test]
fn joins_match_the_definition() {
    for level in Level::available() {
        for len in [0, 1, 33, (1 << 17) + 5] {
            let (x, other) = (halves(len, 1), halves(len, 2));
            for act in [Act::None, Act::Relu, Act::Relu6] {
                let mut sum = x.clone();
                join::add_act_at(level, act, &mut sum, &other);
                for i in 0..len {
                    let expected = round(act.of(widen(x[i]) + widen(other[i])));
                    assert!(widen(sum[i]) == widen(expected), "{level} {act:?} at {i}");
                }
            }
        }
    }
}

#[test]
fn alone_and_shared_give_the_same_bits() {
    for s in [
        shape(2, [15, 14], [48, 70], [3, 3], [1, 1], [1; 4]),
        shape(1, [28, 28], [3, 64], [7, 7], [2, 2], [3; 4]),
    ] {
        let (x, w) = (halves(s.x_len(), 1), noise(s.w_len(), 2));
        for level in Level::available() {
            let packed = PackedConvHalf::new_at(level, &s, &w, None);
            let run = || {
                let mut y = vec![0; s.y_len()];
                forward_half(&s, &x, &packed, None, Act::Relu, &mut y);
                y
            };
            let shared = run();
            // A nested call runs its tasks alone.
            let alone = std::sync::Mutex::new(Vec::new());
            parallel_for(2, |_| alone.lock().unwrap().push(run()));
            assert!(alone.into_inner().unwrap().iter().all(|y| *y == shared), "{level}");
        }
    }
}

#[test]
#[should_panic(expected = "x has 1 values")]
fn a_wrong_length_is_named() {
    let s = shape(1, [2, 2], [1, 1], [1, 1], [1, 1], [0; 4]);
    forward_half(&s, &[0], &PackedConvHalf::new(&s, &[0.0], None), None, Act::None, &mut [0; 4]);
}
