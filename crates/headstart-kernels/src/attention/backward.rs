//! The gradients of an attention.

use super::{AttentionShape, Logits, Task, normalise, parts};
use crate::Level;
use crate::conv::{self, Act};
use crate::gemm::linear;
use crate::loss::{exp_all, max};
use crate::scratch;
use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};

/// Where the gradients go.
pub struct AttentionGrads<'a> {
    /// Of queries, keys and values, laid out as they are.
    pub qkv: &'a mut [f32],
    /// Of the bias, where there is one and somebody wants it.
    pub bias: Option<&'a mut [f32]>,
    /// Of each head's factor, where somebody wants it.
    pub scales: Option<&'a mut [f32]>,
}

/// Parts of the batch that sum gradients of bias and factors on their own, added up in order at the end: a fixed number,
/// or the bits would depend on the threads.
const TEAMS: usize = 8;

/// Computes the gradients from that of `y`.
pub fn backward(shape: &AttentionShape, logits: &Logits, qkv: &[f32], dy: &[f32], grads: AttentionGrads) {
    backward_at(Level::current(), shape, logits, qkv, dy, grads);
}

/// With P the probabilities, D = dy vᵀ, Q the queries times the factor: dv = Pᵀ dy, the logits' gradient is
/// S = P · (D - rowsum(P · D)), which is the bias' too, dQ = S k, dk = Sᵀ Q, and the factor's is Σ Q · dQ over itself.
pub(super) fn backward_at(
    level: Level,
    s: &AttentionShape,
    logits: &Logits,
    qkv: &[f32],
    dy: &[f32],
    grads: AttentionGrads,
) {
    s.check(logits, qkv, dy);
    assert_eq!(grads.qkv.len(), qkv.len(), "gradient of {s:?}");
    let bias_len = grads.bias.as_ref().map_or(0, |b| b.len());
    let scales_len = grads.scales.as_ref().map_or(0, |s| s.len());
    assert!(bias_len == 0 || bias_len == s.heads * s.square(), "gradient of the bias of {s:?}");
    assert!(scales_len == 0 || scales_len == s.heads, "gradient of the factors of {s:?}");

    let windows = s.tasks() / s.heads.max(1);
    let teams = TEAMS.min(windows);
    let dqkv = SharedMut::new(grads.qkv);
    let team_len = bias_len + scales_len;
    scratch::with(teams * team_len, |sums| {
        sums.fill(0.0);
        let team_sums = SharedMut::new(sums);
        // A task is a head of all windows of a team.
        parallel_for(teams * s.heads, |task| {
            let (team, head) = (task / s.heads, task % s.heads);
            let own = |len: usize, from: usize| {
                let each = len / s.heads;
                // SAFETY: each team has its own sums, and each of its heads belongs to one task.
                unsafe { team_sums.part(team * team_len + from + head * each, each) }
            };
            let (dbias, dscale) = (own(bias_len, 0), own(scales_len, bias_len));
            for window in team * windows / teams..(team + 1) * windows / teams {
                one(level, &Task::new(s, logits, window * s.heads + head), qkv, dy, &dqkv, dbias, dscale);
            }
        });
        for (from, to) in [(0, grads.bias), (bias_len, grads.scales)] {
            let Some(to) = to else { continue };
            to.fill(0.0);
            for team in 0..teams {
                let sums = &sums[team * team_len + from..][..to.len()];
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to += *sum);
            }
        }
    });
}

/// Does one task; adds to `dbias` and `dscale` where they are not empty.
fn one(
    level: Level,
    task: &Task,
    qkv: &[f32],
    dy: &[f32],
    dqkv: &SharedMut<f32>,
    dbias: &mut [f32],
    dscale: &mut [f32],
) {
    let s = task.shape;
    let (t, d, scale) = (s.tokens, s.dim, task.logits.scales[task.head]);
    let layer = linear(t, t, d);
    let scatter = |rows: &[f32], which: usize| {
        for (token, row) in rows.chunks_exact(d).enumerate() {
            // SAFETY: each cell is one token of one window, and each of its heads belongs to one task.
            unsafe { dqkv.part(task.at(token, which), d) }.copy_from_slice(row);
        }
    };
    scratch::with(5 * s.head() + 2 * t, |heads| {
        let (heads, lengths) = heads.split_at_mut(5 * s.head());
        let [q, k, v, dy_head, out] = parts(heads, s.head());
        let [q_length, k_length] = parts(lengths, t);
        for (which, to) in [&mut *q, &mut *k, &mut *v].into_iter().enumerate() {
            task.gather(qkv, which, to);
        }
        for (token, to) in dy_head.chunks_exact_mut(d).enumerate() {
            to.copy_from_slice(&dy[task.out(token)..][..d]);
        }
        if s.cosine {
            normalise(q, d, q_length);
            normalise(k, d, k_length);
        }
        q.iter_mut().for_each(|q| *q *= scale);
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
                        task.add(token, p);
                        let max = max(p);
                        let factor = 1.0 / exp_all(fma, p, max);
                        let sum = scaled_dot(factor, p, dp);
                        for (d, p) in dp.iter_mut().zip(&*p) {
                            *d = *p * (*d - sum);
                        }
                    }
                    dbias.iter_mut().zip(&*dp).for_each(|(sum, d)| *sum += *d);
                },
            );
            conv::backward_weight_at(level, &layer, dy_head, p, out);
            scatter(out, 2);
            conv::backward_data_level(level, &layer, dp, k, out);
            if let [dscale] = dscale {
                // Queries hold the factor already.
                *dscale += out.iter().zip(&*q).map(|(d, q)| f64::from(*d) * f64::from(*q)).sum::<f64>()
                    as f32
                    / scale;
            }
            out.iter_mut().for_each(|d| *d *= scale);
            if s.cosine {
                q.iter_mut().for_each(|q| *q /= scale);
                unnormalise(out, q, d, q_length);
                q.iter_mut().for_each(|q| *q *= scale);
            }
            scatter(out, 0);
            conv::backward_weight_at(level, &layer, q, dp, out);
            if s.cosine {
                unnormalise(out, k, d, k_length);
            }
            scatter(out, 1);
        });
    });
}

/// Turns the gradients of rows of length one into those of the rows they were made of.
fn unnormalise(grads: &mut [f32], rows: &[f32], d: usize, inverse: &[f32]) {
    for ((grad, row), inverse) in grads.chunks_exact_mut(d).zip(rows.chunks_exact(d)).zip(inverse) {
        let along: f32 = grad.iter().zip(row).map(|(g, r)| g * r).sum();
        grad.iter_mut().zip(row).for_each(|(g, r)| *g = (*g - along * r) * inverse);
    }
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
