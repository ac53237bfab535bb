//! Multi-head self-attention on packed queries, keys and values: softmax(q kᵀ · scale) v, head by head; a causal
//! one lets each token see itself and those before it.
//!
//! A task is one head of one picture: it copies its q, k and v side by side, multiplies with the kernels of
//! `conv`, and never holds more than its own `tokens × tokens` matrix (two in the backward pass). The
//! backward pass computes the probabilities anew: of the forward pass only the input is kept.

use crate::Level;
use crate::conv::{self, Act};
use crate::gemm::linear;
use crate::loss::{exp_all, max};
use crate::scratch;
use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};

/// The sizes of a self-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Pictures.
    pub n: usize,
    /// Tokens of a picture.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Floats of a head's query, key and value.
    pub dim: usize,
    /// Whether a token sees none after it.
    pub causal: bool,
}

impl AttentionShape {
    /// Floats of `[n, tokens, heads, dim]`.
    pub fn y_len(&self) -> usize {
        self.n * self.tokens * self.width()
    }

    fn width(&self) -> usize {
        self.heads * self.dim
    }

    /// Floats of one head.
    fn head(&self) -> usize {
        self.tokens * self.dim
    }

    fn square(&self) -> usize {
        self.tokens * self.tokens
    }

    /// Takes what a token must not see out of its row of logits.
    #[inline(always)]
    fn mask(&self, token: usize, logits: &mut [f32]) {
        if self.causal {
            logits[token + 1..].fill(f32::NEG_INFINITY);
        }
    }
}

/// Computes `y`, `[n, tokens, heads, dim]`, from `qkv`, `[n, tokens, 3, heads, dim]`.
pub fn forward(shape: &AttentionShape, scale: f32, qkv: &[f32], y: &mut [f32]) {
    forward_at(Level::current(), shape, scale, qkv, y);
}

/// Computes the gradient of `qkv` from that of `y`.
pub fn backward(shape: &AttentionShape, scale: f32, qkv: &[f32], dy: &[f32], dqkv: &mut [f32]) {
    backward_at(Level::current(), shape, scale, qkv, dy, dqkv);
}

fn check(s: &AttentionShape, qkv: &[f32], y: &[f32]) {
    assert_eq!(qkv.len(), 3 * s.y_len(), "queries, keys and values of {s:?}");
    assert_eq!(y.len(), s.y_len(), "output of {s:?}");
}

fn forward_at(level: Level, s: &AttentionShape, scale: f32, qkv: &[f32], y: &mut [f32]) {
    check(s, qkv, y);
    let (t, d, c) = (s.tokens, s.dim, s.width());
    let y = SharedMut::new(y);
    parallel_for(if s.y_len() == 0 { 0 } else { s.n * s.heads }, |task| {
        let (picture, head) = (task / s.heads, task % s.heads);
        scratch::with(4 * s.head(), |heads| {
            let [q, k, v, out] = parts(heads, s.head());
            let from = picture * t * 3 * c + head * d;
            gather(&qkv[from..], 3 * c, d, scale, q);
            gather(&qkv[from + c..], 3 * c, d, 1.0, k);
            gather(&qkv[from + 2 * c..], 3 * c, d, 1.0, v);
            scratch::with(s.square(), |p| {
                conv::forward_act(level, &linear(t, t, d), q, k, None, Act::None, p);
                scratch::with(t, |factors| {
                    at(
                        level,
                        #[inline(always)]
                        |fma| {
                            let rows = p.chunks_exact_mut(t).zip(factors.iter_mut());
                            for (token, (row, factor)) in rows.enumerate() {
                                s.mask(token, row);
                                let max = max(row);
                                *factor = 1.0 / exp_all(fma, row, max);
                            }
                        },
                    );
                    conv::backward_data_level(level, &linear(t, t, d), p, v, out);
                    // Dividing the sums of d products, not the t probabilities they came from.
                    for (token, (row, factor)) in out.chunks_exact(d).zip(factors.iter()).enumerate() {
                        // SAFETY: each token of each head belongs to one task.
                        let y = unsafe { y.part((picture * t + token) * c + head * d, d) };
                        y.iter_mut().zip(row).for_each(|(y, v)| *y = *v * *factor);
                    }
                });
            });
        });
    });
}

/// With P the probabilities and D = dy vᵀ: dv = Pᵀ dy, and the logits' gradient is P · (D - rowsum(P · D)).
fn backward_at(level: Level, s: &AttentionShape, scale: f32, qkv: &[f32], dy: &[f32], dqkv: &mut [f32]) {
    check(s, qkv, dy);
    assert_eq!(dqkv.len(), qkv.len(), "gradient of {s:?}");
    let (t, d, c) = (s.tokens, s.dim, s.width());
    let dqkv = SharedMut::new(dqkv);
    let layer = linear(t, t, d);
    parallel_for(if s.y_len() == 0 { 0 } else { s.n * s.heads }, |task| {
        let (picture, head) = (task / s.heads, task % s.heads);
        scratch::with(5 * s.head(), |heads| {
            let [q, k, v, dy_head, out] = parts(heads, s.head());
            let from = picture * t * 3 * c + head * d;
            gather(&qkv[from..], 3 * c, d, scale, q);
            gather(&qkv[from + c..], 3 * c, d, 1.0, k);
            gather(&qkv[from + 2 * c..], 3 * c, d, 1.0, v);
            gather(&dy[picture * t * c + head * d..], c, d, 1.0, dy_head);
            let scatter = |rows: &[f32], which: usize, factor: f32| {
                for (token, row) in rows.chunks_exact(d).enumerate() {
                    // SAFETY: each token of each head belongs to one task.
                    let to = unsafe { dqkv.part(from + token * 3 * c + which * c, d) };
                    to.iter_mut().zip(row).for_each(|(to, v)| *to = *v * factor);
                }
            };
            scratch::with(2 * s.square(), |squares| {
                let [p, dp] = parts(squares, s.square());
                conv::forward_act(level, &layer, q, k, None, Act::None, p);
                conv::forward_act(level, &layer, dy_head, v, None, Act::None, dp);
                at(
                    level,
                    #[inline(always)]
                    |fma| {
                        let rows = p.chunks_exact_mut(t).zip(dp.chunks_exact_mut(t));
                        for (token, (p, dp)) in rows.enumerate() {
                            s.mask(token, p);
                            let max = max(p);
                            let factor = 1.0 / exp_all(fma, p, max);
                            let sum = scaled_dot(factor, p, dp);
                            for (d, p) in dp.iter_mut().zip(&*p) {
                                *d = *p * (*d - sum);
                            }
                        }
                    },
                );
                conv::backward_weight_at(level, &layer, dy_head, p, out);
                scatter(out, 2, 1.0);
                conv::backward_data_level(level, &layer, dp, k, out);
                scatter(out, 0, scale);
                conv::backward_weight_at(level, &layer, q, dp, out);
                scatter(out, 1, 1.0);
            });
        });
    });
}

/// Multiplies `p` by `factor` and returns its product with `d`.
#[inline(always)]
fn scaled_dot(factor: f32, p: &mut [f32], d: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [0.0_f32; LANES];
    for (p, d) in p.chunks_mut(LANES).zip(d.chunks(LANES)) {
        for ((s, p), d) in lanes.iter_mut().zip(p).zip(d) {
            *p *= factor;
            *s += *p * *d;
        }
    }
    lanes.iter().sum()
}

/// Cuts a buffer into parts of one length.
fn parts<const N: usize>(mut all: &mut [f32], len: usize) -> [&mut [f32]; N] {
    std::array::from_fn(|_| {
        let (part, rest) = std::mem::take(&mut all).split_at_mut(len);
        all = rest;
        part
    })
}

/// Copies `d` of every `step` floats, times `factor`.
fn gather(from: &[f32], step: usize, d: usize, factor: f32, to: &mut [f32]) {
    for (to, from) in to.chunks_exact_mut(d).zip(from.chunks(step)) {
        to.iter_mut().zip(&from[..d]).for_each(|(to, v)| *to = *v * factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    /// Output and gradient in f64.
    fn definition(s: &AttentionShape, scale: f32, qkv: &[f32], dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (t, d, c) = (s.tokens, s.dim, s.width());
        let mut y = vec![0.0; s.y_len()];
        let mut dqkv = vec![0.0; qkv.len()];
        for n in 0..s.n {
            for h in 0..s.heads {
                let at = |which: usize, i: usize, e: usize| ((n * t + i) * 3 + which) * c + h * d + e;
                let get = |which, i, e| f64::from(qkv[at(which, i, e)]);
                let dyf = |i: usize, e: usize| f64::from(dy[(n * t + i) * c + h * d + e]);
                for i in 0..t {
                    let dot = |j| (0..d).map(|e| get(0, i, e) * get(1, j, e)).sum::<f64>() * f64::from(scale);
                    let seen = |j: usize| if s.causal && j > i { f64::NEG_INFINITY } else { dot(j) };
                    let logits: Vec<f64> = (0..t).map(seen).collect();
                    let most = logits.iter().fold(f64::MIN, |m, v| m.max(*v));
                    let e: Vec<f64> = logits.iter().map(|v| (v - most).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    let p: Vec<f64> = e.iter().map(|v| v / sum).collect();
                    let dp: Vec<f64> =
                        (0..t).map(|j| (0..d).map(|e| dyf(i, e) * get(2, j, e)).sum()).collect();
                    let mean: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
                    for j in 0..t {
                        let ds = p[j] * (dp[j] - mean) * f64::from(scale);
                        for e in 0..d {
                            y[(n * t + i) * c + h * d + e] += p[j] * get(2, j, e);
                            dqkv[at(2, j, e)] += p[j] * dyf(i, e);
                            dqkv[at(0, i, e)] += ds * get(1, j, e);
                            dqkv[at(1, j, e)] += ds * get(0, i, e);
                        }
                    }
                }
            }
        }
        (y, dqkv)
    }

    #[test]
    fn matches_f64_at_every_level() {
        for level in Level::available() {
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
                let s = AttentionShape { n, tokens, heads, dim, causal };
                let qkv: Vec<f32> = noise(1, 3 * s.y_len()).iter().map(|v| v * 1.5).collect();
                let dy = noise(2, s.y_len());
                let scale = (dim as f32).powf(-0.5);
                let (y, dqkv) = definition(&s, scale, &qkv, &dy);
                let mut got = vec![9.0; s.y_len()];
                forward_at(level, &s, scale, &qkv, &mut got);
                assert_close(&got, &y, 3e-6, &format!("{level} {s:?}"));
                let mut got = vec![9.0; qkv.len()];
                backward_at(level, &s, scale, &qkv, &dy, &mut got);
                assert_close(&got, &dqkv, 1e-5, &format!("{level} {s:?} gradient"));
            }
        }
    }
}
