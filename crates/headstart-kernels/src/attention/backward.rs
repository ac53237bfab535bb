//! The gradients of an attention.

use super::{AttentionShape, Logits, Task, normalise};
use crate::Level;
use crate::conv::matrix::{times, times_transposed, transposed_times};
use crate::loss::{exp_all, max};
use crate::scratch::{self, cut};
use crate::simd::{LANES, at, fold};
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

/// With P the probabilities and D = dy vᵀ: dv = Pᵀ dy, the logits' gradient is S = P · (D - rowsum(P · D)), which is the
/// bias' too, dq = S k and dk = Sᵀ q, both times the factor, and the factor's is Σ q · S k.
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
    let (t, pitch, scale) = (s.tokens, s.pairs_pitch(), task.logits.scales[task.head]);
    let scatter = |rows: &mut [f32], which: usize, factor: f32| {
        task.scatter(level, rows, |token| task.at(token, which), |_| factor, dqkv);
    };
    scratch::with(5 * s.head() + 2 * t * pitch + 2 * t, |buffer| {
        let (heads, rest) = buffer.split_at_mut(5 * s.head());
        let (squares, lengths) = rest.split_at_mut(2 * t * pitch);
        let [q, k, v, dy_head, out] = cut(heads, s.head(), s.head());
        let [p, dp] = cut(squares, t * pitch, t * pitch);
        let [q_length, k_length] = cut(lengths, t, t);
        for (which, to) in [&mut *q, &mut *k, &mut *v].into_iter().enumerate() {
            task.gather_qkv(qkv, which, to);
        }
        task.gather(dy, |token| task.out(token), dy_head);
        if s.cosine {
            normalise(s.rows(q), q_length);
            normalise(s.rows(k), k_length);
        }
        times_transposed(level, s.matrix(q), s.matrix(k), p, pitch);
        times_transposed(level, s.matrix(dy_head), s.matrix(v), dp, pitch);
        at(
            level,
            #[inline(always)]
            |fma| {
                let rows = p.chunks_exact_mut(pitch).zip(dp.chunks_exact_mut(pitch));
                for (token, (p, dp)) in rows.enumerate() {
                    p.iter_mut().for_each(|p| *p *= scale);
                    task.add(token, p);
                    let max = max(p);
                    let factor = 1.0 / exp_all(fma, p, max);
                    // No probability behind the last token, but what was there before may be infinite.
                    dp[t..].fill(0.0);
                    let sum = scaled_dot(factor, p, dp);
                    for (d, p) in dp.iter_mut().zip(&*p) {
                        *d = *p * (*d - sum);
                    }
                }
                for (sums, dp) in dbias.chunks_exact_mut(t).zip(dp.chunks_exact(pitch)) {
                    sums.iter_mut().zip(dp).for_each(|(sum, d)| *sum += *d);
                }
            },
        );
        transposed_times(level, s.pairs(p), s.matrix(dy_head), out, s.pitch());
        scatter(out, 2, 1.0);
        times(level, s.pairs(dp), s.matrix(k), out, s.pitch());
        if let [dscale] = dscale {
            let products = s.rows(out).flatten().zip(s.rows(q).flatten());
            *dscale += products.map(|(d, q)| f64::from(*d) * f64::from(*q)).sum::<f64>() as f32;
        }
        if s.cosine {
            unnormalise(s.rows(out), s.rows(q), q_length);
        }
        scatter(out, 0, scale);
        transposed_times(level, s.pairs(dp), s.matrix(q), out, s.pitch());
        if s.cosine {
            unnormalise(s.rows(out), s.rows(k), k_length);
        }
        scatter(out, 1, scale);
    });
}

/// Turns the gradients of rows of length one into those of the rows they were made of.
fn unnormalise<'a, 'b>(
    grads: impl Iterator<Item = &'a mut [f32]>,
    rows: impl Iterator<Item = &'b mut [f32]>,
    inverse: &[f32],
) {
    for ((grad, row), inverse) in grads.zip(rows).zip(inverse) {
        let along: f32 = grad.iter().zip(&*row).map(|(g, r)| g * r).sum();
        grad.iter_mut().zip(row).for_each(|(g, r)| *g = (*g - along * *r) * inverse);
    }
}

/// Multiplies `p` by `factor` and returns its product with `d`, both of whole blocks.
#[inline(always)]
fn scaled_dot(factor: f32, p: &mut [f32], d: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    for (p, d) in p.as_chunks_mut::<LANES>().0.iter_mut().zip(d.as_chunks::<LANES>().0) {
        for ((s, p), d) in lanes.iter_mut().zip(p).zip(d) {
            *p *= factor;
            *s += *p * *d;
        }
    }
    fold(lanes, |a, b| a + b)
}
