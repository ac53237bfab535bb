//! Intervals of precision, recall and F1 for every class at once.

use super::interval::{Interval, quantile, split_mix, wilson};

/// Where a class's true scores may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassIntervals {
    /// Of the precision: Wilson's.
    pub precision: Interval,
    /// Of the recall: Wilson's.
    pub recall: Interval,
    /// Of F1: the percentile bootstrap over samples; F1 is no fraction of independent answers.
    pub f1: Interval,
}

/// Returns intervals for each class; the same seed gives the same ones.
pub fn class_intervals(
    predictions: &[usize],
    targets: &[usize],
    classes: usize,
    confidence: f64,
    resamples: usize,
    seed: u64,
) -> Vec<ClassIntervals> {
    assert_eq!(predictions.len(), targets.len(), "one prediction per target");
    let n = targets.len();
    let mut state = seed;
    let mut values = vec![Vec::with_capacity(resamples); classes];
    let mut counts = vec![[0_usize; 3]; classes];
    let mut draw = |pick: &mut dyn FnMut() -> usize| {
        // Right, of this class, said to be of this class.
        counts.fill([0; 3]);
        for _ in 0..n {
            let i = pick();
            counts[targets[i]][0] += usize::from(predictions[i] == targets[i]);
            counts[targets[i]][1] += 1;
            counts[predictions[i]][2] += 1;
        }
        counts.clone()
    };
    for _ in 0..resamples {
        let drawn = draw(&mut || ((u128::from(split_mix(&mut state)) * n as u128) >> 64) as usize);
        for (values, [right, of, said]) in values.iter_mut().zip(drawn) {
            if of + said > 0 {
                values.push(2.0 * right as f64 / (of + said) as f64);
            }
        }
    }
    let mut next = 0..n;
    let whole = draw(&mut || next.next().expect("as many as samples"));
    let tail = 0.5 * (1.0 - confidence);
    (values.iter_mut().zip(whole))
        .map(|(values, [right, of, said])| {
            values.sort_by(f64::total_cmp);
            let f1 = Interval { low: quantile(values, tail), high: quantile(values, 1.0 - tail) };
            ClassIntervals {
                precision: wilson(right, said, confidence),
                recall: wilson(right, of, confidence),
                f1,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Confusion, bootstrap};

    #[test]
    fn f1_has_the_interval_of_a_plain_bootstrap() {
        let targets: Vec<usize> = (0..90).map(|i| i % 3).collect();
        let predictions: Vec<usize> =
            targets.iter().enumerate().map(|(i, t)| if i % 7 == 0 { 0 } else { *t }).collect();
        let found = class_intervals(&predictions, &targets, 4, 0.95, 500, 3);
        for class in 0..3 {
            let plain = bootstrap(90, 500, 0.95, 3, |pick| {
                let of = |list: &[usize]| pick.iter().map(|i| list[*i]).collect::<Vec<_>>();
                let scores = Confusion::new(&of(&predictions), &of(&targets), 4).class_scores();
                scores[class].f1.unwrap_or(f64::NAN)
            });
            assert_eq!(found[class].f1, plain, "class {class}");
        }
        assert_eq!(found[1].recall, wilson(30 - 4, 30, 0.95));
        assert!(found[3].f1.low.is_nan() && found[3].recall == Interval { low: 0.0, high: 1.0 });
    }
}
