//! How near predicted numbers are to the true ones, one target at a time.

use super::interval::{Interval, bootstrap};

/// The mean distance.
pub fn mae(predicted: &[f64], truth: &[f64]) -> f64 {
    mean(predicted, truth, |d| d.abs())
}

/// The root of the mean squared distance.
pub fn rmse(predicted: &[f64], truth: &[f64]) -> f64 {
    mean(predicted, truth, |d| d * d).sqrt()
}

/// The share of the truth's variance that the predictions explain: 1 is perfect, 0 as good as always saying the mean, below 0
/// worse; NaN if the truth does not vary.
pub fn r2(predicted: &[f64], truth: &[f64]) -> f64 {
    let n = truth.len() as f64;
    let middle = truth.iter().sum::<f64>() / n;
    let spread: f64 = truth.iter().map(|t| (t - middle).powi(2)).sum();
    if spread > 0.0 { 1.0 - mean(predicted, truth, |d| d * d) * n / spread } else { f64::NAN }
}

/// Returns the 95 % bootstrap interval of one of the above over the pictures.
pub fn interval(predicted: &[f64], truth: &[f64], of: fn(&[f64], &[f64]) -> f64) -> Interval {
    bootstrap(truth.len(), 1000, 0.95, 0, |pick| {
        let chosen = |all: &[f64]| pick.iter().map(|i| all[*i]).collect::<Vec<_>>();
        of(&chosen(predicted), &chosen(truth))
    })
}

fn mean(predicted: &[f64], truth: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    assert_eq!(predicted.len(), truth.len(), "one prediction per truth");
    predicted.iter().zip(truth).map(|(p, t)| f(p - t)).sum::<f64>() / truth.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        predicted: Vec<f64>,
        truth: Vec<f64>,
        mae: f64,
        rmse: f64,
        r2: f64,
    }

    /// Reference values by scikit-learn: `tools/golden/tasks.py`.
    #[test]
    fn scores_are_those_of_the_reference() {
        let text = include_str!("../../../../fixtures/tasks/numbers.json");
        for c in serde_json::from_str::<Vec<Case>>(text).unwrap() {
            for (found, expected) in [
                (mae(&c.predicted, &c.truth), c.mae),
                (rmse(&c.predicted, &c.truth), c.rmse),
                (r2(&c.predicted, &c.truth), c.r2),
            ] {
                assert!((found - expected).abs() < 1e-9 * (1.0 + expected.abs()), "{found} {expected}");
            }
            let i = interval(&c.predicted, &c.truth, rmse);
            assert!(i.low < c.rmse && c.rmse < i.high, "{i:?} {}", c.rmse);
        }
    }

    #[test]
    fn a_truth_that_does_not_vary_explains_nothing() {
        assert!(r2(&[1.0, 2.0], &[3.0, 3.0]).is_nan());
        assert_eq!(r2(&[2.0, 2.0], &[1.0, 3.0]), 0.0);
        assert!(mae(&[], &[]).is_nan());
    }
}
