//! The output of an attention.

use super::{AttentionShape, Logits, Task, normalise, parts};
use crate::Level;
use crate::conv::{self, Act};
use crate::gemm::linear;
use crate::loss::{exp_all, max};
use crate::scratch;
use crate::simd::at;
use crate::threads::{SharedMut, parallel_for};

/// Computes `y`, `[n, cells, heads, dim]`, from `qkv`, `[n, cells, 3, heads, dim]` or, by head, `[n, cells, heads, 3, dim]`.
pub fn forward(shape: &AttentionShape, logits: &Logits, qkv: &[f32], y: &mut [f32]) {
    forward_at(Level::current(), shape, logits, qkv, y);
}

pub(super) fn forward_at(level: Level, s: &AttentionShape, logits: &Logits, qkv: &[f32], y: &mut [f32]) {
    s.check(logits, qkv, y);
    let (t, d) = (s.tokens, s.dim);
    let y = SharedMut::new(y);
    parallel_for(s.tasks(), |index| {
        let task = Task::new(s, logits, index);
        scratch::with(4 * s.head(), |heads| {
            let [q, k, v, out] = parts(heads, s.head());
            for (which, to) in [&mut *q, &mut *k, &mut *v].into_iter().enumerate() {
                task.gather(qkv, which, to);
            }
            scratch::with(s.square(), |p| {
                scratch::with(t, |factors| {
                    at(
                        level,
                        #[inline(always)]
                        |_| {
                            if s.cosine {
                                normalise(q, d, factors);
                                normalise(k, d, factors);
                            }
                            let scale = logits.scales[task.head];
                            q.iter_mut().for_each(|q| *q *= scale);
                        },
                    );
                    conv::forward_act(level, &linear(t, t, d), q, k, None, Act::None, p);
                    at(
                        level,
                        #[inline(always)]
                        |fma| {
                            let rows = p.chunks_exact_mut(t).zip(factors.iter_mut());
                            for (token, (row, factor)) in rows.enumerate() {
                                task.add(token, row);
                                let max = max(row);
                                *factor = 1.0 / exp_all(fma, row, max);
                            }
                        },
                    );
                    conv::backward_data_level(level, &linear(t, t, d), p, v, out);
                    // Dividing the sums of d products, not the t probabilities they came from.
                    for (token, (row, factor)) in out.chunks_exact(d).zip(factors.iter()).enumerate() {
                        // SAFETY: each cell is one token of one window, and each of its heads belongs to one task.
                        let y = unsafe { y.part(task.out(token), d) };
                        y.iter_mut().zip(row).for_each(|(y, v)| *y = *v * *factor);
                    }
                });
            });
        });
    });
}
