//! Every kind of attention at every level against its definition in f64.

use super::backward::backward_at;
use super::forward::forward_at;
use super::*;
use crate::Level;
use crate::simd::testing::{assert_close, noise};

/// The inputs of an attention and what they lead to.
struct Case {
    shape: AttentionShape,
    scales: Vec<f32>,
    bias: Option<Vec<f32>>,
    windows: Option<Windows>,
    qkv: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new(shape: AttentionShape, with_bias: bool, windows: Option<Windows>) -> Self {
        let qkv = noise(1, 3 * shape.y_len()).iter().map(|v| v * 1.5).collect();
        let scales = (0..shape.heads).map(|h| (shape.dim as f32).powf(-0.5) * (1.0 + h as f32)).collect();
        let bias = with_bias.then(|| noise(3, shape.heads * shape.square()));
        Self { shape, scales, bias, windows, qkv, dy: noise(2, shape.y_len()) }
    }

    fn logits(&self) -> Logits<'_> {
        Logits { scales: &self.scales, bias: self.bias.as_deref(), windows: self.windows.as_ref() }
    }

    /// The sum of the output times `dy`, and the output.
    fn definition(&self, qkv: &[f64], scales: &[f64], bias: &[f64]) -> (f64, Vec<f64>) {
        let s = &self.shape;
        let (t, d) = (s.tokens, s.dim);
        let (mut score, mut y) = (0.0, vec![0.0; s.y_len()]);
        for n in 0..s.n {
            for w in 0..s.windows {
                let cell = |i: usize| {
                    let cell = self.windows.as_ref().map_or(i, |all| all.cells[w * t + i] as usize);
                    n * s.windows * t + cell
                };
                let region = |i: usize| {
                    self.windows.as_ref().and_then(|all| all.regions.as_ref()).map_or(0.0, |r| r[w * t + i])
                };
                for h in 0..s.heads {
                    let row = |which: usize, i: usize| -> Vec<f64> {
                        let at = if s.by_head { h * 3 + which } else { which * s.heads + h };
                        let row = &qkv[cell(i) * 3 * s.width() + at * d..][..d];
                        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                        let length = if s.cosine && which < 2 { length } else { 1.0 };
                        row.iter().map(|v| v / length).collect()
                    };
                    let [q, k, v] = [0, 1, 2].map(|which| (0..t).map(|i| row(which, i)).collect::<Vec<_>>());
                    for i in 0..t {
                        let logit = |j: usize| {
                            let dot: f64 = q[i].iter().zip(&k[j]).map(|(a, b)| a * b).sum();
                            let apart = if region(i) == region(j) { 0.0 } else { -100.0 };
                            let bias = if bias.is_empty() { 0.0 } else { bias[(h * t + i) * t + j] };
                            let seen = if s.causal && j > i { f64::NEG_INFINITY } else { 0.0 };
                            dot * scales[h] + bias + apart + seen
                        };
                        let logits: Vec<f64> = (0..t).map(logit).collect();
                        let most = logits.iter().fold(f64::MIN, |m, v| m.max(*v));
                        let e: Vec<f64> = logits.iter().map(|v| (v - most).exp()).collect();
                        let sum: f64 = e.iter().sum();
                        for c in 0..d {
                            let at = cell(i) * s.width() + h * d + c;
                            y[at] = (0..t).map(|j| e[j] / sum * v[j][c]).sum();
                            score += y[at] * f64::from(self.dy[at]);
                        }
                    }
                }
            }
        }
        (score, y)
    }

    /// The slope of the score along a direction of noise.
    fn slope(&self, which: usize, direction: &[f32]) -> f64 {
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let score = |step: f64| {
            let bias = self.bias.as_deref().unwrap_or_default();
            let mut all = [wide(&self.qkv), wide(&self.scales), wide(bias)];
            all[which].iter_mut().zip(direction).for_each(|(v, d)| *v += step * f64::from(*d));
            self.definition(&all[0], &all[1], &all[2]).0
        };
        (score(1e-5) - score(-1e-5)) / 2e-5
    }
}

/// Windows over a map of `rows × columns` windows of `side × side`, moved by `shift`.
fn windows(rows: usize, columns: usize, side: usize, shift: usize) -> Windows {
    let (h, w) = (rows * side, columns * side);
    let (mut cells, mut regions) = (Vec::new(), Vec::new());
    for i in 0..h * w {
        let (window, token) = (i / (side * side), i % (side * side));
        let y = window / columns * side + token / side;
        let x = window % columns * side + token % side;
        cells.push(((y + shift) % h * w + (x + shift) % w) as u32);
        regions.push(f32::from(u8::from(y + shift >= h)) + 2.0 * f32::from(u8::from(x + shift >= w)));
    }
    Windows::new(cells, (shift > 0).then_some(regions))
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, tokens, heads, dim, causal) in [
        (1, 1, 1, 1, false),
        (2, 5, 3, 4, false),
        (1, 17, 2, 33, false),
        (2, 50, 3, 64, false),
        (0, 3, 1, 2, false),
        (1, 1, 1, 1, true),
        (2, 33, 3, 7, true),
        (1, 77, 2, 64, true),
    ] {
        let shape = AttentionShape { causal, ..AttentionShape::plain(n, tokens, heads, dim) };
        cases.push(Case::new(shape, false, None));
    }
    for by_head in [false, true] {
        let shape = AttentionShape { by_head, ..AttentionShape::plain(3, 12, 2, 9) };
        cases.push(Case::new(shape, true, None));
    }
    for shift in [0, 1] {
        for (rows, columns, side) in [(1, 1, 3), (2, 3, 3), (2, 2, 4)] {
            let windows = windows(rows, columns, side, shift);
            let plain = AttentionShape::plain(11, side * side, 2, 8);
            let shape = AttentionShape { windows: rows * columns, cosine: true, ..plain };
            cases.push(Case::new(shape, true, Some(windows)));
        }
    }
    cases
}

#[test]
fn output_and_gradients_match_f64_at_every_level() {
    for case in cases() {
        let s = case.shape;
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let bias = case.bias.clone().unwrap_or_default();
        let (_, y) = case.definition(&wide(&case.qkv), &wide(&case.scales), &wide(&bias));
        let directions = [noise(7, case.qkv.len()), noise(8, s.heads), noise(9, bias.len())];
        let slopes: Vec<f64> = (0..3).map(|which| case.slope(which, &directions[which])).collect();
        for level in Level::available() {
            let mut got = vec![9.0; y.len()];
            forward_at(level, &s, &case.logits(), &case.qkv, &mut got);
            assert_close(&got, &y, 3e-6, &format!("{level} {s:?}"));

            let mut grads = [vec![9.0; case.qkv.len()], vec![9.0; s.heads], vec![9.0; bias.len()]];
            let [dqkv, dscales, dbias] = &mut grads;
            let to = AttentionGrads {
                qkv: dqkv,
                scales: Some(dscales),
                bias: case.bias.is_some().then_some(&mut dbias[..]),
            };
            backward_at(level, &s, &case.logits(), &case.qkv, &case.dy, to);
            for (which, name) in ["qkv", "scales", "bias"].into_iter().enumerate() {
                let products = grads[which].iter().zip(&directions[which]);
                let slope: f64 = products.map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
                let size: f64 = grads[which].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                let error = (slope - slopes[which]).abs();
                assert!(error <= 1e-5 * (1.0 + size), "{level} {s:?} {name}: {slope}, not {}", slopes[which]);
            }
        }
    }
}

#[test]
#[should_panic(expected = "cell 1 is in two windows")]
fn a_cell_belongs_to_one_window() {
    Windows::new(vec![0, 1, 1], None);
}
