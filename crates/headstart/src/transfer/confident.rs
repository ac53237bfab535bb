//! Confident learning: which labels are probably wrong, from probabilities of pictures that were left out.
//!
//! Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 2021). The counts of
//! (given label, true label) come from probabilities above each class's own mean confidence; as many pictures of each
//! pair as that estimate says are then suspected, those with the largest margin first ("prune by noise rate"). The
//! arithmetic follows the authors' reference implementation, cleanlab's `find_label_issues`, to the rounding.

/// What confident learning finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Confident {
    /// Each class's mean probability of itself, the bar for being confident; 2 for a class without pictures.
    pub thresholds: Vec<f64>,
    /// Estimated pictures by given class (row) and true class (column); rows sum to the class sizes.
    pub joint: Vec<usize>,
    /// Suspects, the least believable label first.
    pub issues: Vec<usize>,
}

impl Confident {
    /// Estimates the share of labels that are wrong.
    pub fn noise(&self) -> f64 {
        let classes = self.thresholds.len();
        let all: usize = self.joint.iter().sum();
        let right: usize = (0..classes).map(|c| self.joint[c * classes + c]).sum();
        1.0 - right as f64 / all.max(1) as f64
    }
}

/// Below this a difference of probabilities is rounding.
const ROUNDING: f64 = 1e-6;

/// Finds labels that probabilities `[n, classes]` contradict. The probabilities must come from models that did not see
/// the picture.
pub fn confident(probabilities: &[f64], classes: usize, labels: &[usize]) -> Confident {
    assert!(
        classes > 0 && probabilities.len() == labels.len() * classes,
        "probabilities are not pictures × classes"
    );
    let rows: Vec<&[f64]> = probabilities.chunks_exact(classes).collect();
    let thresholds = thresholds(&rows, classes, labels);
    let joint = calibrated(&counts(&rows, &thresholds, labels), classes, labels);
    let mut suspected = prune(&rows, &joint, classes, labels);
    for (i, row) in rows.iter().enumerate() {
        // The network agrees with the label after all.
        let others = row.iter().enumerate().filter(|(c, _)| *c != labels[i]).map(|(_, p)| *p);
        suspected[i] &= others.fold(f64::MIN, f64::max) > row[labels[i]] + ROUNDING;
    }
    let mut issues: Vec<usize> = (0..labels.len()).filter(|i| suspected[*i]).collect();
    issues.sort_by(|a, b| rows[*a][labels[*a]].total_cmp(&rows[*b][labels[*b]]));
    Confident { thresholds, joint, issues }
}

fn thresholds(rows: &[&[f64]], classes: usize, labels: &[usize]) -> Vec<f64> {
    (0..classes)
        .map(|class| {
            let own: Vec<f64> =
                rows.iter().zip(labels).filter(|(_, l)| **l == class).map(|(r, _)| r[class]).collect();
            if own.is_empty() {
                2.0
            } else {
                (own.iter().sum::<f64>() / own.len() as f64).max(2.0 * ROUNDING)
            }
        })
        .collect()
}

/// Counts pictures by given class and the class the probabilities are confident of.
fn counts(rows: &[&[f64]], thresholds: &[f64], labels: &[usize]) -> Vec<f64> {
    let classes = thresholds.len();
    let mut joint = vec![0.0_f64; classes * classes];
    for (row, label) in rows.iter().zip(labels) {
        let mut sure = (0..classes).filter(|c| row[*c] >= thresholds[*c] - ROUNDING);
        let (first, more) = (sure.next(), sure.next().is_some());
        let largest = |best: usize, c: usize| if row[c] > row[best] { c } else { best };
        let truth = if more { Some((0..classes).fold(0, largest)) } else { first };
        if let Some(truth) = truth {
            joint[label * classes + truth] += 1.0;
        }
    }
    for class in 0..classes {
        let own = &mut joint[class * classes + class];
        *own = own.max(1.0);
    }
    joint
}

/// Scales each row to its class's size and the whole to the number of pictures, rounded with the rows' sums kept.
fn calibrated(counts: &[f64], classes: usize, labels: &[usize]) -> Vec<usize> {
    let mut sizes = vec![0.0; classes];
    labels.iter().for_each(|l| sizes[*l] += 1.0);
    let mut joint = counts.to_vec();
    for (row, size) in joint.chunks_exact_mut(classes).zip(&sizes) {
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|v| *v = *v / sum * size);
    }
    let scale = labels.len() as f64 / joint.iter().sum::<f64>().max(1e-100);
    joint
        .chunks_exact(classes)
        .flat_map(|row| round_keeping_sum(row.iter().map(|v| v * scale).collect()))
        .collect()
}

/// Rounds numbers so that their sum is rounded too: where it is off, those nearest to the other side give way.
fn round_keeping_sum(values: Vec<f64>) -> Vec<usize> {
    let mut whole: Vec<f64> = values.iter().map(|v| v.round_ties_even()).collect();
    let wanted = values.iter().sum::<f64>().round_ties_even();
    loop {
        let off = wanted - whole.iter().sum::<f64>();
        if off.abs() < ROUNDING {
            return whole.into_iter().map(|v| v.max(0.0) as usize).collect();
        }
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| (values[*a] - whole[*a]).total_cmp(&(values[*b] - whole[*b])));
        if off > 0.0 {
            order.reverse();
        }
        let changes = (off.abs() as usize).min(values.len());
        order[..changes].iter().for_each(|i| whole[*i] += off.signum());
    }
}

/// Suspects of each given class, for each other class, as many pictures as the joint says, largest margin first.
fn prune(rows: &[&[f64]], joint: &[usize], classes: usize, labels: &[usize]) -> Vec<bool> {
    let mut suspected = vec![false; labels.len()];
    for given in 0..classes {
        let members: Vec<usize> = (0..labels.len()).filter(|i| labels[*i] == given).collect();
        if members.len() <= 1 {
            continue;
        }
        let row = at_least_one_right(&joint[given * classes..(given + 1) * classes], given);
        for truth in (0..classes).filter(|t| *t != given) {
            let margin = |i: &usize| rows[*i][truth] - rows[*i][given];
            let mut order = members.clone();
            order.sort_by(|a, b| margin(b).total_cmp(&margin(a)));
            order.iter().take(row[truth]).for_each(|i| suspected[*i] = true);
        }
    }
    suspected
}

/// Leaves one picture of a class unsuspected, at the cost of all its other counts alike.
fn at_least_one_right(row: &[usize], given: usize) -> Vec<usize> {
    let lacking = 1_usize.saturating_sub(row[given]) as f64;
    let filled = row.iter().filter(|v| **v > 0).count() as f64;
    let share = lacking / (filled - 1.0).max(1.0);
    row.iter().map(|v| (*v as f64 - share).max(0.0) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Case {
        probabilities: Vec<f64>,
        classes: usize,
        labels: Vec<usize>,
        thresholds: Vec<f64>,
        joint: Vec<usize>,
        issues: Vec<usize>,
    }

    /// Reference results by cleanlab: `tools/golden/audit.py`.
    #[test]
    fn suspects_are_those_of_the_reference() {
        let text = include_str!("../../../../fixtures/audit/confident.json");
        let cases: Vec<Case> = serde_json::from_str(text).unwrap();
        assert!(cases.len() >= 5 && cases.iter().any(|c| c.issues.len() > 5));
        for (i, c) in cases.iter().enumerate() {
            let found = confident(&c.probabilities, c.classes, &c.labels);
            for (a, b) in found.thresholds.iter().zip(&c.thresholds) {
                assert!((a - b).abs() < 1e-12, "case {i}: threshold {a} {b}");
            }
            assert_eq!(found.joint, c.joint, "case {i}");
            assert_eq!(found.issues, c.issues, "case {i}");
        }
    }

    #[test]
    fn a_label_everything_speaks_against_is_the_first_suspect() {
        // Ten of each class, sure; picture 3 is labelled 0 and looks like 1.
        let labels: Vec<usize> = (0..20).map(|i| i / 10).collect();
        let p = |i: usize| if i >= 10 || i == 3 { [0.05, 0.95] } else { [0.9, 0.1] };
        let all: Vec<f64> = (0..20).flat_map(p).collect();
        let found = confident(&all, 2, &labels);
        assert_eq!(found.issues, [3]);
        assert_eq!(found.joint, [9, 1, 0, 10]);
        assert!((found.noise() - 0.05).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn rows_sum_to_class_sizes_and_suspects_disagree(seed: u64, n in 1_usize..60, classes in 1_usize..6) {
            let mut rng = Rng::keyed(&[seed]);
            let labels: Vec<usize> = (0..n).map(|_| rng.below(classes)).collect();
            let all: Vec<f64> = (0..n).flat_map(|_| {
                let raw: Vec<f64> = (0..classes).map(|_| f64::from(rng.unit()) + 1e-3).collect();
                let sum: f64 = raw.iter().sum();
                raw.into_iter().map(move |v| v / sum)
            }).collect();
            let found = confident(&all, classes, &labels);
            for class in 0..classes {
                let row: usize = found.joint[class * classes..(class + 1) * classes].iter().sum();
                prop_assert_eq!(row, labels.iter().filter(|l| **l == class).count());
            }
            for i in &found.issues {
                let row = &all[i * classes..(i + 1) * classes];
                prop_assert!(row.iter().any(|p| *p > row[labels[*i]]));
            }
        }
    }
}
