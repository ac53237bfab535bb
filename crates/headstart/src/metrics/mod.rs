//! What the answers of a classifier are worth: slices in, numbers out.
//!
//! Nothing here sees a tensor, an image or a file. Scores of `n` samples over `c` classes are one
//! slice of `n · c` numbers, sample by sample; targets are class numbers. Read [`accuracy`] first,
//! then [`confusion`] (which classes are mistaken for which), [`interval`] (how sure a number is),
//! [`calibration`] (whether a stated probability can be believed) and [`coverage`] (what abstaining buys). [`labels`] and
//! [`regression`] are for networks that name any number of labels, or numbers.
//!
//! Lengths that do not fit together are a broken invariant of the caller, and panic.

pub mod accuracy;
pub mod calibration;
pub mod class_intervals;
pub mod confusion;
pub mod coverage;
pub mod interval;
pub mod labels;
pub mod regression;

pub use accuracy::{argmax, hits, per_class, top_k};
pub use calibration::{Reliability, brier, fit_temperature, nll, reliability, softmax};
pub use class_intervals::{ClassIntervals, class_intervals};
pub use confusion::{ClassScore, Confusion, MistakenPair};
pub use coverage::{Coverage, Step, coverage};
pub use interval::{Interval, bootstrap, bootstrap_mean, wilson};

/// Checks that `scores` hold one row of `classes` numbers per target, and every target is a class.
fn check(scores: &[f32], classes: usize, targets: &[usize]) {
    assert!(classes > 0, "a classifier needs at least one class");
    assert_eq!(scores.len(), targets.len() * classes, "scores are not samples × classes");
    if let Some(bad) = targets.iter().find(|&&t| t >= classes) {
        panic!("target {bad} of {classes} classes");
    }
}
