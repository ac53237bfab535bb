//! Which classes are taken for which.

/// Counts of (target, prediction) pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// Row by row: `counts[target · classes + predicted]`.
    counts: Vec<u64>,
}

/// How well one class is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScore {
    /// Of the samples said to be of this class, the fraction that are; `None` if none was said to be.
    pub precision: Option<f64>,
    /// Of the samples of this class, the fraction found; `None` if there are none.
    pub recall: Option<f64>,
    /// Harmonic mean of both, 2·tp / (2·tp + fp + fn); `None` if the class neither occurs nor is predicted.
    pub f1: Option<f64>,
    /// How many samples are of this class.
    pub support: u64,
}

/// Two classes and how often the first was taken for the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MistakenPair {
    /// What the samples are.
    pub target: usize,
    /// What they were taken for.
    pub predicted: usize,
    /// How many.
    pub count: u64,
}

impl Confusion {
    /// Counts pairs. Panics if the lengths differ or a class number is not below `classes`.
    pub fn new(predictions: &[usize], targets: &[usize], classes: usize) -> Self {
        assert_eq!(predictions.len(), targets.len(), "one prediction per target");
        let mut counts = vec![0; classes * classes];
        for (&predicted, &target) in predictions.iter().zip(targets) {
            assert!(predicted < classes && target < classes, "class {} of {classes}", predicted.max(target));
            counts[target * classes + predicted] += 1;
        }
        Confusion { classes, counts }
    }

    /// How many classes there are.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many samples of `target` were taken for `predicted`.
    pub fn count(&self, target: usize, predicted: usize) -> u64 {
        self.counts[target * self.classes + predicted]
    }

    /// What the samples of `target` were taken for, by class.
    pub fn row(&self, target: usize) -> &[u64] {
        &self.counts[target * self.classes..][..self.classes]
    }

    /// How many samples there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the fraction of samples on the diagonal; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|c| self.count(c, c)).sum();
        right as f64 / self.total() as f64
    }

    /// Scores each class.
    pub fn class_scores(&self) -> Vec<ClassScore> {
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        (0..self.classes)
            .map(|class| {
                let right = self.count(class, class);
                let support: u64 = self.row(class).iter().sum();
                let said: u64 = (0..self.classes).map(|target| self.count(target, class)).sum();
                ClassScore {
                    precision: ratio(right, said),
                    recall: ratio(right, support),
                    f1: ratio(2 * right, support + said),
                    support,
                }
            })
            .collect()
    }

    /// Returns the mean F1 over the classes that occur or are predicted (scikit-learn's macro
    /// average); NaN if there are none.
    pub fn macro_f1(&self) -> f64 {
        mean(self.class_scores().iter().filter_map(|s| s.f1))
    }

    /// Returns the mean recall over the classes that occur: accuracy as if all were equally common.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.class_scores().iter().filter_map(|s| s.recall))
    }

    /// Returns the `limit` most frequent mistakes, most frequent first, then by class number.
    pub fn mistakes(&self, limit: usize) -> Vec<MistakenPair> {
        let mut pairs: Vec<MistakenPair> = (0..self.counts.len())
            .map(|i| MistakenPair {
                target: i / self.classes,
                predicted: i % self.classes,
                count: self.counts[i],
            })
            .filter(|p| p.count > 0 && p.target != p.predicted)
            .collect();
        // A stable sort keeps equal counts in class order.
        pairs.sort_by_key(|p| std::cmp::Reverse(p.count));
        pairs.truncate(limit);
        pairs
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v, count + 1));
    sum / f64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Targets 0 0 0 1 1 2, predictions 0 0 1 1 0 0, and a class 3 that never occurs.
    fn example() -> Confusion {
        Confusion::new(&[0, 0, 1, 1, 0, 0], &[0, 0, 0, 1, 1, 2], 4)
    }

    #[test]
    fn scores_match_a_hand_count() {
        let scores = example().class_scores();
        assert_eq!(
            scores[0],
            ClassScore { precision: Some(0.5), recall: Some(2.0 / 3.0), f1: Some(4.0 / 7.0), support: 3 }
        );
        assert_eq!((scores[1].precision, scores[1].recall, scores[1].f1), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((scores[2].precision, scores[2].recall, scores[2].f1), (None, Some(0.0), Some(0.0)));
        assert_eq!(scores[3], ClassScore { precision: None, recall: None, f1: None, support: 0 });
    }

    #[test]
    fn averages_leave_out_what_never_occurs() {
        let c = example();
        assert_eq!(c.accuracy(), 0.5);
        assert!((c.balanced_accuracy() - (2.0 / 3.0 + 0.5 + 0.0) / 3.0).abs() < 1e-12);
        assert!((c.macro_f1() - (4.0 / 7.0 + 0.5 + 0.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_worst_mistakes_come_first() {
        let c = Confusion::new(&[1, 1, 2, 0, 2], &[0, 0, 0, 1, 2], 3);
        let pairs: Vec<_> = c.mistakes(2).iter().map(|p| (p.target, p.predicted, p.count)).collect();
        assert_eq!(pairs, [(0, 1, 2), (0, 2, 1)]);
        assert_eq!(c.mistakes(9).len(), 3);
    }

    #[test]
    fn nothing_counted_is_not_a_number() {
        let c = Confusion::new(&[], &[], 2);
        assert!(c.accuracy().is_nan() && c.macro_f1().is_nan() && c.mistakes(3).is_empty());
    }
}
