//! The output of an attention.

use super::{AttentionShape, Logits, Task, normalise};
use crate::Level;
use crate::conv::matrix::{times, times_transposed};
use crate::loss::{exp_all, max};
use crate::scratch::{self, cut};
use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};

/// Computes `y`, `[n, cells, heads, dim]`, from `qkv`, `[n, cells, 3, heads, dim]` or, by head, `[n, cells, heads, 3, dim]`.
pub fn forward(shape: &AttentionShape, logits: &Logits, qkv: &[f32], y: &mut [f32]) {
    forward_at(Level::current(), shape, logits, qkv, y);
}

pub(super) fn forward_at(level: Level, s: &AttentionShape, logits: &Logits, qkv: &[f32], y: &mut [f32]) {
    s.check(logits, qkv, y);
    let (t, pitch) = (s.tokens, s.pairs_pitch());
    let y = SharedMut::new(y);
    parallel_for(s.tasks(), |index| {
        let task = Task::new(s, logits, index);
        scratch::with(4 * s.head() + t * pitch + t, |buffer| {
            let (heads, rest) = buffer.split_at_mut(4 * s.head());
            let (p, factors) = rest.split_at_mut(t * pitch);
            let [q, k, v, out] = cut(heads, s.head(), s.head());
            for (which, to) in [&mut *q, &mut *k, &mut *v].into_iter().enumerate() {
                task.gather_qkv(qkv, which, to);
            }
            at(
                level,
                #[inline(always)]
                |_| {
                    if s.cosine {
                        normalise(s.rows(q), factors);
                        normalise(s.rows(k), factors);
                    }
                    let scale = logits.scales[task.head];
                    s.rows(q).flatten().for_each(|q| *q *= scale);
                },
            );
            times_transposed(level, s.matrix(q), s.matrix(k), p, pitch);
            at(
                level,
                #[inline(always)]
                |fma| {
                    for (token, (row, factor)) in p.chunks_exact_mut(pitch).zip(&mut *factors).enumerate() {
                        task.add(token, row);
                        let max = max(row);
                        *factor = 1.0 / exp_all(fma, row, max);
                    }
                },
            );
            times(level, s.pairs(p), s.matrix(v), out, s.pitch());
            // Dividing the sums of d products, not the t probabilities they came from.
            task.scatter(level, out, |token| task.out(token), |token| factors[token], &y);
        });
    });
}
