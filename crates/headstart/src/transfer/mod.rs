//! How well the features of a network fit a task it was not trained for: slices in, numbers out.
//!
//! Features of `n` pictures are one slice of `n · width` numbers, picture by picture; labels are class
//! numbers. [`logme`], [`h_score`] and [`leep`] are scores whose differences between networks mean something,
//! not their values. [`knn`] and [`probe`] are accuracies on pictures left out. [`confident`] suspects labels,
//! [`close_pairs`] finds pictures seen twice. `crate::advise` puts them to use.
//!
//! Lengths that do not fit together are a broken invariant of the caller, and panic.

pub mod confident;
pub mod h_score;
pub mod knn;
pub mod leep;
pub mod linalg;
pub mod logme;
pub mod neighbours;
pub mod probe;

pub use confident::{Confident, confident};
pub use h_score::h_score;
pub use knn::leave_one_out as knn;
pub use leep::{leep, told};
pub use linalg::Decomposition;
pub use logme::logme;
pub use neighbours::close_pairs;
pub use probe::{Beliefs, LeftOut, Probe, probe};

/// Checks that there is a row of `width` numbers per label.
fn check(features: &[f32], width: usize, labels: &[usize]) {
    assert!(width > 0 && features.len() == labels.len() * width, "features are not pictures × width");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        features: Vec<f32>,
        width: usize,
        labels: Vec<usize>,
        classes: usize,
        source: Vec<f32>,
        source_classes: usize,
        logme: f64,
        h_score: f64,
        shrinkage: f64,
        leep: f64,
        knn5: f64,
        penalty: f64,
        probe: Vec<f64>,
    }

    /// Reference values by numpy and scikit-learn: `tools/golden/transfer.py`.
    #[test]
    fn scores_are_those_of_the_reference() {
        let text = include_str!("../../../../fixtures/transfer/scores.json");
        for c in serde_json::from_str::<Vec<Case>>(text).unwrap() {
            let near = |a: f64, b: f64, what: &str| {
                assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{what}: {a} {b}")
            };
            let parts = Decomposition::new(&c.features, c.width);
            near(logme(&parts, &c.labels, c.classes), c.logme, "LogME");
            near(h_score::shrinkage(&c.features, c.width), c.shrinkage, "shrinkage");
            near(h_score(&c.features, c.width, &c.labels, c.classes), c.h_score, "H-score");
            near(leep(&c.source, c.source_classes, &c.labels, c.classes), c.leep, "LEEP");
            near(knn(&c.features, c.width, &c.labels, c.classes, 5), c.knn5, "nearest neighbours");
            let with_one: Vec<f32> =
                c.features.chunks(c.width).flat_map(|r| r.iter().copied().chain([1.0])).collect();
            let parts = Decomposition::new(&with_one, c.width + 1);
            let found = probe::left_out_scores(&parts, &c.labels, c.classes, c.penalty);
            assert_eq!(found.len(), c.probe.len());
            found.iter().zip(&c.probe).for_each(|(a, b)| near(f64::from(*a), *b, "probe"));
        }
    }
}
