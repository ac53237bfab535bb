//! Every level against a definition in integers, byte for byte; and against f32, to a few steps.

use super::*;
use crate::conv::tests::{noise, shape, shapes};
use crate::pool::PoolShape;
use crate::threads::parallel_for;

const INPUT: Quant = Quant { scale: 0.01, zero: 117 };
const RESIDUAL: Quant = Quant { scale: 0.02, zero: 99 };

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    noise(len, seed).into_iter().map(|v| (v * 128.0 + 128.0) as u8).collect()
}

/// A format that holds most sums of a layer, with some that it limits.
fn output(s: &ConvShape) -> Quant {
    let k = (s.group_in() * s.kh * s.kw) as f32;
    Quant { scale: k.sqrt() / 200.0, zero: 121 }
}

/// The layer as the definition: integer sums over all taps, the zero point outside the map.
fn oracle(
    s: &ConvShape,
    x: &[u8],
    channels: &Channels,
    residual: Option<&[u8]>,
    out: Quant,
    act: Act,
) -> Vec<u8> {
    let finish = channels.finish(0, s.c_out, out, residual.map(|_| RESIDUAL), act);
    let (depth, taps) = (s.group_in(), s.kh * s.kw);
    let mut y = Vec::with_capacity(s.y_len());
    for at in 0..s.y_len() {
        let (pixel, o) = (at / s.c_out, at % s.c_out);
        let (image, oy, ox) =
            (pixel / s.out_w() / s.out_h(), pixel / s.out_w() % s.out_h(), pixel % s.out_w());
        let mut sum = finish.start[o];
        for i in 0..depth * taps {
            let (d, tap) = (i / taps, i % taps);
            let iy = (oy * s.stride[0] + tap / s.kw).wrapping_sub(s.pad[0]);
            let ix = (ox * s.stride[1] + tap % s.kw).wrapping_sub(s.pad[2]);
            let channel = o / s.group_out() * depth + d;
            let inside = iy < s.h && ix < s.w;
            let q = if inside { x[((image * s.h + iy) * s.w + ix) * s.c_in + channel] } else { INPUT.zero };
            sum += i32::from(q) * i32::from(channels.weight[o * depth * taps + i]);
        }
        y.push(finish.byte(o, sum, residual.map(|r| r[at])));
    }
    y
}

#[test]
fn dense_layers_match_the_definition_byte_for_byte() {
    for s in shapes() {
        let (x, w, b) = (bytes(s.x_len(), 1), noise(s.w_len(), 2), noise(s.c_out, 3));
        let (r, out) = (bytes(s.y_len(), 4), output(&s));
        let channels = Channels::new(s.c_out, &w, Some(&b), INPUT, out);
        for (residual, act) in [(None, Act::None), (Some(&r[..]), Act::Relu), (None, Act::Relu6)] {
            let expected = oracle(&s, &x, &channels, residual, out, act);
            for level in Level::available() {
                let packed = PackedConvInt8::new_at(level, &s, &w, Some(&b), INPUT, out);
                let mut y = vec![1; s.y_len()];
                forward_int8(&s, &x, &packed, residual.map(|r| (r, RESIDUAL)), act, &mut y);
                assert!(y == expected, "{level} {act:?} {s:?}");
            }
        }
    }
}

#[test]
fn results_are_near_those_of_f32() {
    let s = shape(1, [9, 9], [24, 40], [3, 3], [1, 1], [1; 4]);
    let (x, w, b) = (bytes(s.x_len(), 1), noise(s.w_len(), 2), noise(s.c_out, 3));
    let (r, out) = (bytes(s.y_len(), 4), output(&s));
    let packed = PackedConvInt8::new(&s, &w, Some(&b), INPUT, out);
    let mut y = vec![0; s.y_len()];
    forward_int8(&s, &x, &packed, Some((&r, RESIDUAL)), Act::Relu, &mut y);
    let floats = |quant: Quant, bytes: &[u8]| {
        let mut floats = vec![0.0; bytes.len()];
        dequantise(quant, bytes, &mut floats);
        floats
    };
    let mut expected = vec![0.0; s.y_len()];
    let dense = crate::conv::PackedConv::new(&s, &w, Some(&b));
    let residual = floats(RESIDUAL, &r);
    crate::conv::forward_packed(&s, &floats(INPUT, &x), &dense, Some(&residual), Act::Relu, &mut expected);
    let mut rounded = vec![0; expected.len()];
    quantise(out, &expected, &mut rounded);
    for (i, (y, e)) in y.iter().zip(&rounded).enumerate() {
        assert!(y.abs_diff(*e) <= 4, "element {i} is {y}, f32 rounds to {e}");
    }
}

#[test]
fn depthwise_matches_the_definition() {
    for (c, k, stride) in [(1, 3, 1), (33, 3, 2), (64, 5, 1), (70, 7, 1), (32, 3, 1)] {
        let pad = [k / 2, k / 2, k / 2, 0];
        let s = ConvShape { groups: c, ..shape(2, [9, 8], [c, c], [k, k], [stride, stride], pad) };
        let (x, w, b) = (bytes(s.x_len(), 1), noise(s.w_len(), 2), noise(c, 3));
        let out = output(&s);
        let packed = PackedDepthwiseInt8::new(&s, &w, Some(&b), INPUT, out);
        let expected = oracle(&s, &x, &packed.channels, None, out, Act::Relu6);
        for level in Level::available() {
            let mut y = vec![1; s.y_len()];
            depthwise::forward_at(level, &s, &x, &packed, Act::Relu6, &mut y);
            assert!(y == expected, "{level} {s:?}");
        }
    }
}

#[test]
fn bytes_round_to_nearest_even_and_stay_in_range() {
    let quant = Quant { scale: 0.5, zero: 10 };
    let x = [0.0, 0.25, 0.75, -0.25, 1e9, -1e9, f32::NAN, f32::INFINITY, 122.5, 1.0, -5.0, -5.2];
    let expected = [10, 10, 12, 10, 255, 0, 0, 255, 255, 12, 0, 0];
    for level in Level::available() {
        let mut y = [1; 12];
        quant::quantise_at(level, quant, &x, &mut y);
        assert_eq!(y, expected, "{level}");
        let all: Vec<u8> = (0..=255).collect();
        let (mut wide, mut back) = (vec![0.0; 256], vec![0; 256]);
        quant::dequantise_at(level, quant, &all, &mut wide);
        quant::quantise_at(level, quant, &wide, &mut back);
        assert_eq!(all, back, "{level}");
    }
}

#[test]
fn a_range_holds_its_ends_and_zero() {
    for (low, high) in [(-1.0, 1.0), (0.0, 6.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-30, 3e38)] {
        let quant = Quant::of_range(low, high);
        let mut q = [0; 3];
        quantise(quant, &[low, high, 0.0], &mut q);
        assert_eq!(q[2], quant.zero, "{low}..{high}");
        let mut back = [0.0; 2];
        dequantise(quant, &q[..2], &mut back);
        assert!((back[0] - low).abs() <= quant.scale * 0.501, "{low}..{high} holds {}", back[0]);
        assert!((back[1] - high).abs() <= quant.scale * 0.501, "{low}..{high} holds {}", back[1]);
    }
}

#[test]
fn pools_match_their_definitions() {
    for (h, w, c, kernel, stride, pad) in [(9, 8, 33, 3, 2, 1), (1, 1, 5, 1, 1, 0), (6, 7, 64, 2, 2, 0)] {
        let s = PoolShape { n: 2, h, w, c, kernel: [kernel; 2], stride: [stride; 2], pad: [pad; 2] };
        let [oh, ow] = s.output();
        let x = bytes(2 * h * w * c, 1);
        let mut floats = vec![0.0; x.len()];
        dequantise(INPUT, &x, &mut floats);
        let mut expected = vec![0.0; 2 * oh * ow * c];
        crate::pool::max_forward(&s, &floats, &mut expected, None);
        let mut expected_bytes = vec![0; expected.len()];
        quantise(INPUT, &expected, &mut expected_bytes);
        let mut mean = vec![0.0; 2 * c];
        crate::pool::adaptive_avg_forward([2, h, w, c], [1, 1], &floats, &mut mean);
        for level in Level::available() {
            let mut y = vec![1; expected.len()];
            pool::max_forward_at(level, &s, &x, &mut y);
            assert!(y == expected_bytes, "{level} {s:?}");
            let mut y = vec![f32::NAN; 2 * c];
            pool::adaptive_avg_forward_at(level, INPUT, [2, h, w, c], [1, 1], &x, &mut y);
            crate::conv::tests::assert_close(&y, &mean, 1e-5, &format!("{level}"));
        }
    }
}

#[test]
fn alone_and_shared_give_the_same_bytes() {
    let s = shape(2, [15, 14], [48, 70], [3, 3], [1, 1], [1; 4]);
    let (x, w) = (bytes(s.x_len(), 1), noise(s.w_len(), 2));
    for level in Level::available() {
        let packed = PackedConvInt8::new_at(level, &s, &w, None, INPUT, output(&s));
        let run = || {
            let mut y = vec![0; s.y_len()];
            forward_int8(&s, &x, &packed, None, Act::Relu, &mut y);
            y
        };
        let shared = run();
        // A nested call runs its tasks alone.
        let alone = std::sync::Mutex::new(Vec::new());
        parallel_for(2, |_| alone.lock().unwrap().push(run()));
        assert!(alone.into_inner().unwrap().iter().all(|y| *y == shared), "{level}");
    }
}
