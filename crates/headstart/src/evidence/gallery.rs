//! The pictures a report shows: those the network gets most wrong, and those it is surest of.

use crate::metrics::accuracy::argmax;
use crate::metrics::calibration::softmax;
use crate::metrics::labels::bce;
use crate::scored::{LabelScores, NumberScores, Scored};
use crate::session::Scores;

/// Pictures worth showing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gallery {
    /// Highest losses first.
    pub worst: Vec<Shown>,
    /// Right answers (of numbers all), lowest losses first.
    pub best: Vec<Shown>,
}

/// A picture worth showing.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its number among the validation pictures.
    pub picture: usize,
    /// The network's output worth a look: the class the picture was taken for, the label the network is most wrong about
    /// (of right answers surest of), the number that is farthest off.
    pub output: usize,
    /// Cross-entropy after temperature scaling; mean binary cross-entropy of labels; mean square of the numbers' errors,
    /// in deviations of the training part.
    pub loss: f64,
    /// Where `output` comes from, if the network's head lets it be told.
    pub map: Option<ClassMap>,
}

/// A class activation map: contributions of places to an output.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Contributions, row by row; their mean and the bias make the output.
    pub values: Vec<f32>,
}

impl Gallery {
    /// Picks up to `count` pictures of each kind, without maps.
    pub fn of(scored: &Scored, count: usize) -> Self {
        let mut worst = match scored {
            Scored::Classes(s) => of_classes(s),
            Scored::Labels(s) => of_labels(s),
            Scored::Numbers(s) => of_numbers(s),
        };
        worst.sort_by(|a, b| a.1.loss.total_cmp(&b.1.loss));
        let shown = |(_, shown): &(bool, Shown)| shown.clone();
        let best = worst.iter().filter(|(right, _)| *right).take(count).map(shown).collect();
        worst.reverse();
        Self { worst: worst.iter().take(count).map(shown).collect(), best }
    }
}

/// Each picture with whether it is right.
type Judged = Vec<(bool, Shown)>;

fn of_classes(s: &Scores) -> Judged {
    let judge = |(picture, (row, label)): (usize, (&[f32], &usize))| {
        let output = argmax(row);
        // A probability that underflows is a loss beyond all others, not a crash.
        let loss = -softmax(row, s.temperature)[*label].max(f64::MIN_POSITIVE).ln();
        (output == *label, Shown { picture, output, loss, map: None })
    };
    s.logits.chunks_exact(s.classes.len()).zip(&s.labels).enumerate().map(judge).collect()
}

fn of_labels(s: &LabelScores) -> Judged {
    let width = s.names.len();
    let judge = |(picture, (row, there)): (usize, (&[f32], &[bool]))| {
        let right = (0..width).all(|i| s.is_named(picture, i) == there[i]);
        let weight = |i: &usize| match right {
            true => f64::from(row[*i]),
            false => bce(&row[*i..=*i], &there[*i..=*i]),
        };
        let output = (0..width).max_by(|a, b| weight(a).total_cmp(&weight(b))).unwrap_or(0);
        (right, Shown { picture, output, loss: bce(row, there), map: None })
    };
    s.logits.chunks_exact(width).zip(s.truth.chunks_exact(width)).enumerate().map(judge).collect()
}

fn of_numbers(s: &NumberScores) -> Judged {
    let width = s.names.len();
    let judge = |(picture, (said, truth)): (usize, (&[f64], &[f64]))| {
        let off = |i: usize| ((said[i] - truth[i]) / s.scales[i].std).powi(2);
        let output = (0..width).max_by(|a, b| off(*a).total_cmp(&off(*b))).unwrap_or(0);
        let loss = (0..width).map(off).sum::<f64>() / width as f64;
        (true, Shown { picture, output, loss, map: None })
    };
    s.predicted.chunks_exact(width).zip(s.truth.chunks_exact(width)).enumerate().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Confusion;
    use crate::metrics::interval::Interval;
    use crate::metrics::labels::Counts;
    use crate::scored::LabelScore;
    use crate::task::Scale;

    const NO_SPREAD: Interval = Interval { low: 0.0, high: 0.0 };

    fn numbers(list: &[Shown]) -> Vec<(usize, usize)> {
        list.iter().map(|s| (s.picture, s.output)).collect()
    }

    #[test]
    fn the_worst_are_wrong_and_the_best_are_sure() {
        let labels = vec![0, 1, 1, 0];
        let scores = Scores {
            classes: vec!["a".into(), "b".into()],
            top1: 0.0,
            top5: 1.0,
            interval: (0.0, 1.0),
            loss: 0.0,
            ece: 0.0,
            temperature: 1.0,
            confusion: Confusion::new(&[0; 4], &labels, 2),
            logits: vec![4.0, 0.0, 3.0, 0.0, 0.0, 5.0, 0.0, 900.0],
            labels,
        };
        let found = Gallery::of(&Scored::Classes(scores), 2);
        assert_eq!(numbers(&found.worst), [(3, 1), (1, 0)]);
        assert_eq!(numbers(&found.best), [(2, 1), (0, 0)]);
        assert!(found.worst[0].loss > 700.0 && found.worst[0].loss.is_finite());
    }

    #[test]
    fn of_labels_the_one_most_wrong_is_shown() {
        let each = LabelScore { ap: None, interval: NO_SPREAD, threshold: 0.5, counts: Counts::of([], []) };
        let scores = LabelScores {
            names: vec!["a".into(), "b".into()],
            map: 0.0,
            interval: NO_SPREAD,
            loss: 0.0,
            micro_f1: 0.0,
            macro_f1: 0.0,
            exact: 0.0,
            each: vec![each.clone(), each],
            logits: vec![1.0, -4.0, 2.0, 3.0, -1.0, -1.5],
            truth: vec![true, true, true, true, false, false],
            pictures: 3,
        };
        let found = Gallery::of(&Scored::Labels(scores), 2);
        assert_eq!(numbers(&found.worst), [(0, 1), (2, 0)]);
        assert_eq!(numbers(&found.best), [(1, 1), (2, 0)]);
    }

    #[test]
    fn of_numbers_the_farthest_off_is_shown() {
        let scores = NumberScores {
            names: vec!["a".into(), "b".into()],
            each: vec![],
            scales: vec![Scale { mean: 0.0, std: 1.0 }, Scale { mean: 0.0, std: 100.0 }],
            nrmse: 0.0,
            predicted: vec![1.0, 50.0, 3.0, 0.0],
            truth: vec![1.0, 0.0, 0.0, 90.0],
            pictures: 2,
        };
        let found = Gallery::of(&Scored::Numbers(scores), 1);
        assert_eq!(numbers(&found.worst), [(1, 0)]);
        assert_eq!(numbers(&found.best), [(0, 1)]);
    }
}
