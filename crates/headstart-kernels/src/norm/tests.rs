use super::*;
use crate::simd::testing::{assert_close, noise};

const SHAPES: [(usize, usize); 8] =
    [(1, 1), (1, 64), (5, 3), (300, 17), (49, 100), (2000, 64), (33, 257), (700, 520)];

struct Case {
    c: usize,
    x: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Case {
    fn new(rows: usize, c: usize) -> Self {
        let len = rows * c;
        let offset = |i: usize| ((i % c) as f32 - 3.0) * 0.5;
        Self {
            c,
            x: noise(1, len).iter().enumerate().map(|(i, v)| v * 2.0 + offset(i)).collect(),
            residual: noise(2, len),
            dy: noise(3, len),
            gamma: noise(4, c).iter().map(|v| 1.0 + 0.5 * v).collect(),
            beta: noise(5, c),
        }
    }

    fn stats(&self) -> (Vec<f64>, Vec<f64>) {
        let rows = self.x.len() / self.c;
        (0..self.c)
            .map(|k| {
                let column = || self.x[k..].iter().step_by(self.c).map(|v| f64::from(*v));
                let mean = column().sum::<f64>() / rows as f64;
                (mean, column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64)
            })
            .unzip()
    }
}

fn clamp(act: Act, v: f64) -> f64 {
    match act {
        Act::None => v,
        Act::Relu => v.max(0.0),
        Act::Relu6 => v.clamp(0.0, 6.0),
    }
}

/// The forward pass in f64, statistics given or taken from `x`.
fn oracle(
    case: &Case,
    x: &[f64],
    stats: Option<&(Vec<f64>, Vec<f64>)>,
    gamma: &[f64],
    beta: &[f64],
    residual: bool,
    act: Act,
) -> Vec<f64> {
    let (c, rows) = (case.c, x.len() / case.c);
    let mut y = vec![0.0; x.len()];
    for k in 0..c {
        let column = || x[k..].iter().step_by(c);
        let (mean, var) = stats.map_or_else(
            || {
                let mean = column().sum::<f64>() / rows as f64;
                (mean, column().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64)
            },
            |(m, v)| (m[k], v[k]),
        );
        for i in (k..x.len()).step_by(c) {
            let r = if residual { f64::from(case.residual[i]) } else { 0.0 };
            y[i] = clamp(act, (x[i] - mean) / (var + 1e-5).sqrt() * gamma[k] + beta[k] + r);
        }
    }
    y
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn statistics_match_f64() {
    for level in Level::available() {
        for (rows, c) in SHAPES {
            let case = Case::new(rows, c);
            let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
            batch_stats_at(level, &case.x, &mut mean, &mut var);
            let want = case.stats();
            assert_close(&mean, &want.0, 1e-6, &format!("{level} {rows}x{c} mean"));
            assert_close(&var, &want.1, 2e-6, &format!("{level} {rows}x{c} var"));
            let mut sums = vec![0.0; c];
            channel_sums_at(level, &case.x, &mut sums);
            let want: Vec<f64> = want.0.iter().map(|m| m * rows as f64).collect();
            assert_close(&sums, &want, 1e-4, &format!("{level} {rows}x{c} sums"));
        }
    }
}

#[test]
fn a_large_offset_costs_no_digits_of_the_variance() {
    for level in Level::available() {
        let (rows, c) = (5000, 17);
        let mut case = Case::new(rows, c);
        case.x.iter_mut().for_each(|v| *v += 4096.0);
        // One row far from all others must not spoil its chunk either.
        case.x[..c].fill(0.0);
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        batch_stats_at(level, &case.x, &mut mean, &mut var);
        let want = case.stats();
        assert_close(&mean, &want.0, 1e-7, &format!("{level} mean"));
        assert_close(&var, &want.1, 1e-6, &format!("{level} var"));
    }
}

#[test]
fn forward_matches_f64() {
    for level in Level::available() {
        for (rows, c) in SHAPES {
            let case = Case::new(rows, c);
            let (mean, var) = case.stats();
            let narrow = |v: &[f64]| v.iter().map(|v| *v as f32).collect::<Vec<_>>();
            let (mean32, var32) = (narrow(&mean), narrow(&var));
            let norm = Norm { mean: &mean32, var: &var32, gamma: &case.gamma, beta: &case.beta, eps: 1e-5 };
            for act in [Act::None, Act::Relu, Act::Relu6] {
                for residual in [false, true] {
                    let mut y = vec![0.0; case.x.len()];
                    forward_at(level, &norm, &case.x, residual.then_some(&case.residual), act, &mut y);
                    let stats = (wide(&mean32), wide(&var32));
                    let (g, b) = (wide(&case.gamma), wide(&case.beta));
                    let want = oracle(&case, &wide(&case.x), Some(&stats), &g, &b, residual, act);
                    // A single row has variance 0: everything is multiplied by 1/sqrt(eps).
                    let tolerance = if rows == 1 { 2e-3 } else { 2e-5 };
                    assert_close(&y, &want, tolerance, &format!("{level} {rows}x{c} {act:?}"));
                }
            }
        }
    }
}

/// The gradients against central differences of the f64 oracle.
#[test]
fn gradients_match_finite_differences() {
    let (rows, c) = (12, 5);
    let case = Case::new(rows, c);
    let (mean, var) = case.stats();
    let narrow = |v: &[f64]| v.iter().map(|v| *v as f32).collect::<Vec<_>>();
    let (mean32, var32) = (narrow(&mean), narrow(&var));
    let norm = Norm { mean: &mean32, var: &var32, gamma: &case.gamma, beta: &case.beta, eps: 1e-5 };
    let fixed = (wide(&mean32), wide(&var32));
    for stats in [Stats::OfBatch, Stats::Constant] {
        for act in [Act::None, Act::Relu, Act::Relu6] {
            for residual in [false, true] {
                let loss = |x: &[f64], g: &[f64], b: &[f64]| -> f64 {
                    let fixed = (stats == Stats::Constant).then_some(&fixed);
                    let y = oracle(&case, x, fixed, g, b, residual, act);
                    y.iter().zip(&case.dy).map(|(y, d)| y * f64::from(*d)).sum()
                };
                let (x, g, b) = (wide(&case.x), wide(&case.gamma), wide(&case.beta));
                let h = 1e-6;
                let slope = |which: usize, i: usize| {
                    let mut up = [x.clone(), g.clone(), b.clone()];
                    let mut down = up.clone();
                    up[which][i] += h;
                    down[which][i] -= h;
                    (loss(&up[0], &up[1], &up[2]) - loss(&down[0], &down[1], &down[2])) / (2.0 * h)
                };
                let want_dx: Vec<f64> = (0..x.len()).map(|i| slope(0, i)).collect();
                let want_dgamma: Vec<f64> = (0..c).map(|i| slope(1, i)).collect();
                let want_dbeta: Vec<f64> = (0..c).map(|i| slope(2, i)).collect();
                for level in Level::available() {
                    let what = format!("{level} {act:?} residual {residual}");
                    let mut y = vec![0.0; x.len()];
                    forward_at(level, &norm, &case.x, residual.then_some(&case.residual), act, &mut y);
                    for from_y in [true, false] {
                        if residual && !from_y {
                            continue;
                        }
                        let (mut dx, mut dr) = (vec![9.0; x.len()], vec![9.0; x.len()]);
                        let (mut dgamma, mut dbeta) = (vec![9.0; c], vec![9.0; c]);
                        let grads = NormGrads {
                            dx: Some(&mut dx),
                            dgamma: Some(&mut dgamma),
                            dbeta: Some(&mut dbeta),
                            dresidual: residual.then_some(&mut dr),
                        };
                        let seen = from_y.then_some(&y[..]);
                        backward_at(level, stats, &norm, act, &case.x, seen, &case.dy, grads);
                        assert_close(&dx, &want_dx, 1e-5, &format!("{what} dx"));
                        assert_close(&dgamma, &want_dgamma, 1e-5, &format!("{what} dgamma"));
                        assert_close(&dbeta, &want_dbeta, 1e-5, &format!("{what} dbeta"));
                        if residual {
                            let want: Vec<f64> = (0..x.len())
                                .map(|i| {
                                    let out = act != Act::None && y[i] <= 0.0;
                                    let out = out || (act == Act::Relu6 && y[i] >= 6.0);
                                    if out { 0.0 } else { f64::from(case.dy[i]) }
                                })
                                .collect();
                            assert_close(&dr, &want, 0.0, &format!("{what} dresidual"));
                        }
                    }
                }
            }
        }
    }
}

/// Larger shapes: every level against the closed formula in f64, all optional outputs off too.
#[test]
fn gradients_match_the_formula_on_odd_shapes() {
    for level in Level::available() {
        for (rows, c) in SHAPES.into_iter().filter(|(rows, _)| *rows > 1) {
            let case = Case::new(rows, c);
            let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
            batch_stats_at(level, &case.x, &mut mean, &mut var);
            let norm = Norm { mean: &mean, var: &var, gamma: &case.gamma, beta: &case.beta, eps: 1e-5 };
            let mut y = vec![0.0; case.x.len()];
            forward_at(level, &norm, &case.x, None, Act::Relu, &mut y);
            let mut want = vec![0.0; y.len()];
            for k in 0..c {
                let at = || (k..y.len()).step_by(c);
                let g = |i: usize| if y[i] > 0.0 { f64::from(case.dy[i]) } else { 0.0 };
                let inv = 1.0 / (f64::from(var[k]) + 1e-5).sqrt();
                let hat = |i: usize| (f64::from(case.x[i]) - f64::from(mean[k])) * inv;
                let sum = at().map(g).sum::<f64>() / rows as f64;
                let sum_x = at().map(|i| g(i) * hat(i)).sum::<f64>() / rows as f64;
                for i in at() {
                    want[i] = f64::from(case.gamma[k]) * inv * (g(i) - sum - hat(i) * sum_x);
                }
            }
            for seen in [Some(&y[..]), None] {
                let mut dx = vec![9.0; y.len()];
                let grads = NormGrads { dx: Some(&mut dx), ..NormGrads::default() };
                backward_at(level, Stats::OfBatch, &norm, Act::Relu, &case.x, seen, &case.dy, grads);
                assert_close(&dx, &want, 1e-5, &format!("{level} {rows}x{c}"));
            }
        }
    }
}

#[test]
fn frozen_needs_no_input_where_only_dx_is_asked_for() {
    let (dy, y) = ([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 0.0]);
    let one = [1.0, 1.0];
    let norm = Norm { mean: &one, var: &[3.0, 0.0], gamma: &[2.0, 5.0], beta: &one, eps: 1.0 };
    let mut dx = [0.0; 4];
    let grads = NormGrads { dx: Some(&mut dx), ..NormGrads::default() };
    backward_frozen(&norm, Act::Relu, &[], Some(&y), &dy, grads);
    assert_eq!(dx, [0.0, 10.0, 3.0, 0.0]);
}
