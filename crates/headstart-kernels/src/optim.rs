//! Optimizer updates fused into one pass over parameter, gradient and state.
//!
//! Arithmetic follows PyTorch's single-tensor implementations: scalars combine in f64, tensors in
//! f32.

use crate::Level;
use crate::simd::{at, chunk, chunks, mul_add};
use crate::threads::{SharedMut, parallel_for};

/// Floats per task.
const CHUNK: usize = 1 << 14;

/// `torch.optim.SGD`, dampening 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 leaves the buffer untouched.
    pub momentum: f64,
    /// Coupled decay: added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// Looks ahead by one momentum step.
    pub nesterov: bool,
}

/// `torch.optim.AdamW`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient, after bias correction.
    pub eps: f64,
    /// Decoupled decay: shrinks the parameter by `lr * weight_decay`.
    pub weight_decay: f64,
}

/// Updates `param` in place. `first` tells that `buffer` holds nothing yet: it becomes the
/// gradient, as in PyTorch's first step. `buffer` may be empty when the momentum is 0.
pub fn sgd(rule: &Sgd, first: bool, param: &mut [f32], grad: &[f32], buffer: &mut [f32]) {
    sgd_at(Level::current(), rule, first, param, grad, buffer);
}

/// Updates `param` and both moments in place at step `step`, counted from 1.
pub fn adamw(rule: &AdamW, step: u64, param: &mut [f32], grad: &[f32], mean: &mut [f32], square: &mut [f32]) {
    adamw_at(Level::current(), rule, step, param, grad, mean, square);
}

/// Sums the squares of `x` in f64 and in a fixed order, for clipping by norm.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    sum_of_squares_at(Level::current(), x)
}

/// Multiplies `x` by `factor`.
pub fn scale(x: &mut [f32], factor: f32) {
    scale_at(Level::current(), x, factor);
}

/// Moves `x` towards `target` by the fraction `weight`: one step of an exponential average.
pub fn lerp(x: &mut [f32], target: &[f32], weight: f32) {
    lerp_at(Level::current(), x, target, weight);
}

fn sgd_at(level: Level, rule: &Sgd, first: bool, param: &mut [f32], grad: &[f32], buffer: &mut [f32]) {
    assert_eq!(param.len(), grad.len(), "parameter and gradient differ in length");
    let (lr, momentum, decay) = (rule.lr as f32, rule.momentum as f32, rule.weight_decay as f32);
    if rule.momentum == 0.0 {
        each_chunk([param], |[p], from| {
            let g = &grad[from..][..p.len()];
            at(
                level,
                #[inline(always)]
                |fma| {
                    for (p, g) in p.iter_mut().zip(g) {
                        *p = mul_add(fma, -lr, mul_add(fma, decay, *p, *g), *p);
                    }
                },
            );
        });
        return;
    }
    // buffer = momentum * buffer + g, where a first step forgets what was there, NaN included.
    let ahead = rule.nesterov;
    each_chunk([param, buffer], |[p, b], from| {
        let g = &grad[from..][..p.len()];
        at(
            level,
            #[inline(always)]
            |fma| {
                for ((p, b), g) in p.iter_mut().zip(b).zip(g) {
                    let g = mul_add(fma, decay, *p, *g);
                    *b = if first { g } else { mul_add(fma, momentum, *b, g) };
                    let step = if ahead { mul_add(fma, momentum, *b, g) } else { *b };
                    *p = mul_add(fma, -lr, step, *p);
                }
            },
        );
    });
}

fn adamw_at(
    level: Level,
    rule: &AdamW,
    step: u64,
    param: &mut [f32],
    grad: &[f32],
    mean: &mut [f32],
    square: &mut [f32],
) {
    assert_eq!(param.len(), grad.len(), "parameter and gradient differ in length");
    assert!(step >= 1, "steps count from 1");
    let correct = |beta: f64| 1.0 - beta.powf(step as f64);
    let shrink = (1.0 - rule.lr * rule.weight_decay) as f32;
    let towards = (1.0 - rule.beta1) as f32;
    let (beta2, rest2) = (rule.beta2 as f32, (1.0 - rule.beta2) as f32);
    let step_size = (rule.lr / correct(rule.beta1)) as f32;
    let (root, eps) = (correct(rule.beta2).sqrt() as f32, rule.eps as f32);
    each_chunk([param, mean, square], |[p, m, v], from| {
        let g = &grad[from..][..p.len()];
        at(
            level,
            #[inline(always)]
            |fma| {
                for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    *m = mul_add(fma, towards, *g - *m, *m);
                    *v = mul_add(fma, rest2 * *g, *g, beta2 * *v);
                    let denominator = v.sqrt() / root + eps;
                    *p = mul_add(fma, *p, shrink, -step_size * (*m / denominator));
                }
            },
        );
    });
}

fn sum_of_squares_at(level: Level, x: &[f32]) -> f64 {
    let count = chunks(x.len(), CHUNK);
    let mut sums = vec![0.0; count];
    let shared = SharedMut::new(&mut sums);
    parallel_for(count, |index| {
        let (from, len) = chunk(x.len(), CHUNK, index);
        let x = &x[from..][..len];
        let sum = at(
            level,
            #[inline(always)]
            |_| {
                // Squares of f32 are exact in f64, so a fused sum would not differ.
                let mut lanes = [0.0_f64; 32];
                let blocks = x.chunks_exact(lanes.len());
                let rest = blocks.remainder();
                for block in blocks {
                    lanes.iter_mut().zip(block).for_each(|(s, v)| *s += f64::from(*v) * f64::from(*v));
                }
                lanes.iter().sum::<f64>() + rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>()
            },
        );
        // SAFETY: each task has its own value.
        let slot = unsafe { shared.part(index, 1) };
        slot[0] = sum;
    });
    sums.iter().sum()
}

fn scale_at(level: Level, x: &mut [f32], factor: f32) {
    each_chunk([x], |[x], _| {
        at(
            level,
            #[inline(always)]
            |_| x.iter_mut().for_each(|v| *v *= factor),
        );
    });
}

fn lerp_at(level: Level, x: &mut [f32], target: &[f32], weight: f32) {
    assert_eq!(x.len(), target.len(), "average and target differ in length");
    each_chunk([x], |[x], from| {
        let target = &target[from..][..x.len()];
        at(
            level,
            #[inline(always)]
            |fma| {
                for (x, t) in x.iter_mut().zip(target) {
                    *x = mul_add(fma, weight, *t - *x, *x);
                }
            },
        );
    });
}

/// Calls `task(parts, start)` for each chunk of slices of one length.
fn each_chunk<const N: usize>(slices: [&mut [f32]; N], task: impl Fn([&mut [f32]; N], usize) + Sync) {
    let len = slices[0].len();
    assert!(slices.iter().all(|s| s.len() == len), "parameter and state differ in length");
    let slices = slices.map(SharedMut::new);
    parallel_for(chunks(len, CHUNK), |index| {
        let (from, len) = chunk(len, CHUNK, index);
        // SAFETY: chunks are disjoint and each index runs once.
        task(std::array::from_fn(|i| unsafe { slices[i].part(from, len) }), from);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::testing::{assert_close, noise};

    const LENGTHS: [usize; 4] = [1, 17, 100, CHUNK + 7];

    /// Three steps in f64 from the formulas of the PyTorch documentation.
    #[test]
    fn sgd_follows_pytorch() {
        for level in Level::available() {
            for len in LENGTHS {
                for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
                    let rule = Sgd { lr: 0.1, momentum, weight_decay: 0.01, nesterov };
                    let mut param = noise(1, len);
                    let mut buffer = vec![f32::NAN; if momentum == 0.0 { 0 } else { len }];
                    let mut p: Vec<f64> = param.iter().map(|v| f64::from(*v)).collect();
                    let mut b = vec![0.0; len];
                    for step in 0..3 {
                        let grad = noise(10 + step, len);
                        sgd_at(level, &rule, step == 0, &mut param, &grad, &mut buffer);
                        for i in 0..len {
                            let g = f64::from(grad[i]) + 0.01 * p[i];
                            b[i] = if step == 0 { g } else { momentum * b[i] + g };
                            p[i] -= 0.1 * if nesterov { g + momentum * b[i] } else { b[i] };
                        }
                    }
                    assert_close(&param, &p, 1e-6, &format!("{level} {len} {rule:?}"));
                }
            }
        }
    }

    #[test]
    fn adamw_follows_pytorch() {
        let rule = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 };
        for level in Level::available() {
            for len in LENGTHS {
                let (mut param, mut mean, mut square) = (noise(1, len), vec![0.0; len], vec![0.0; len]);
                let mut p: Vec<f64> = param.iter().map(|v| f64::from(*v)).collect();
                let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
                for step in 1..4_u8 {
                    let grad = noise(20 + u64::from(step), len);
                    adamw_at(level, &rule, step.into(), &mut param, &grad, &mut mean, &mut square);
                    let correct = |beta: f64| 1.0 - beta.powi(step.into());
                    for i in 0..len {
                        let g = f64::from(grad[i]);
                        p[i] *= 1.0 - 0.01 * 0.05;
                        m[i] = 0.9 * m[i] + 0.1 * g;
                        v[i] = 0.999 * v[i] + 0.001 * g * g;
                        let denominator = v[i].sqrt() / correct(0.999).sqrt() + 1e-8;
                        p[i] -= 0.01 / correct(0.9) * m[i] / denominator;
                    }
                }
                assert_close(&param, &p, 1e-6, &format!("{level} {len}"));
            }
        }
    }

    /// Values that `torch.optim.AdamW` itself gives for one scalar parameter are the closed form of
    /// step 1: the gradient's sign times the rate, after decay.
    #[test]
    fn adamw_first_step_is_the_sign() {
        let rule = AdamW { lr: 0.5, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
        let mut param = [2.0];
        adamw(&rule, 1, &mut param, &[-3.0], &mut [0.0], &mut [0.0]);
        assert!((param[0] - (2.0 * 0.95 + 0.5)).abs() < 1e-6, "{param:?}");
    }

    #[test]
    fn the_small_ones_match_f64() {
        for level in Level::available() {
            for len in LENGTHS {
                let (x, t) = (noise(1, len), noise(2, len));
                let want: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
                assert!((sum_of_squares_at(level, &x) - want).abs() <= 1e-12 * want, "{level} {len}");
                let mut y = x.clone();
                scale_at(level, &mut y, 0.3);
                assert!(y.iter().zip(&x).all(|(y, x)| *y == x * 0.3), "{level} {len}");
                let mut y = x.clone();
                lerp_at(level, &mut y, &t, 0.25);
                let want: Vec<f64> =
                    x.iter().zip(&t).map(|(x, t)| f64::from(*x) * 0.75 + f64::from(*t) * 0.25).collect();
                assert_close(&y, &want, 1e-6, &format!("{level} {len} lerp"));
            }
        }
        assert_eq!(sum_of_squares(&[]), 0.0);
    }
}
