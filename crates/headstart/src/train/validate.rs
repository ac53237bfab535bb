//! What a network is worth on the validation pictures, by task: the numbers epochs are compared by.

use burn::Tensor;

use super::objective::LossSpec;
use super::observer::EpochRecord;
use super::photos::Photos;
use super::prefix;
use super::recipe::Recipe;
use crate::error::Result;
use crate::metrics::{self, labels, regression};
use crate::models::{Network, frozen, values};
use crate::task::{Task, Truth, unscale};

/// Computes the logits of every picture in order.
pub fn logits(network: &Network, photos: &Photos) -> Result<Vec<f32>> {
    let (network, device) = (frozen(network), network.device());
    let groups = network.groups().len();
    let mut all = Vec::with_capacity(photos.len() * network.options().num_classes);
    for batch in photos.in_order(0) {
        let out: Tensor<2> = prefix::run(&network, groups, batch?, &device).flat();
        all.extend(values(&out));
    }
    Ok(all)
}

/// Writes loss and scores of outputs `[pictures, width]` into an epoch's record.
pub(super) fn judge(
    outputs: &[f32],
    width: usize,
    photos: &Photos,
    recipe: &Recipe,
    record: &mut EpochRecord,
) {
    let truth = photos.truth();
    match truth.task {
        Task::Classify => {
            let labels = photos.labels();
            record.val_loss = metrics::calibration::nll(outputs, width, &labels, 1.0);
            record.top1 = metrics::accuracy::top_k(outputs, width, &labels, 1);
        }
        Task::Multilabel => {
            let there: Vec<bool> = truth.rows.iter().map(|v| *v > 0.5).collect();
            record.val_loss = labels::bce(outputs, &there);
            record.map = Some(mean_average_precision(outputs, &there, width));
        }
        Task::Regress => numbers(outputs, truth, recipe, record),
    }
    if truth.task != Task::Classify {
        record.top1 = f64::NAN;
    }
}

/// The mean over labels of their average precision; labels that no picture has are left out.
pub fn mean_average_precision(scores: &[f32], there: &[bool], width: usize) -> f64 {
    labels::mean((0..width).filter_map(|label| {
        labels::average_precision(&column(scores, width, label), &column(there, width, label))
    }))
}

/// Returns one column of rows of `width`.
pub fn column<T: Copy>(rows: &[T], width: usize, at: usize) -> Vec<T> {
    rows.iter().skip(at).step_by(width).copied().collect()
}

fn numbers(outputs: &[f32], truth: &Truth, recipe: &Recipe, record: &mut EpochRecord) {
    let width = truth.width;
    let all: Vec<usize> = (0..truth.len()).collect();
    let off = || outputs.iter().zip(truth.goal(&all)).map(|(x, t)| f64::from(x - t).abs());
    let predicted = unscale(outputs, &truth.scales);
    let by_target = |of: fn(&[f64], &[f64]) -> f64| {
        let each = |t| of(&column(&predicted, width, t), &column(&truth.rows, width, t));
        (0..width).map(each).collect::<Vec<_>>()
    };
    record.val_loss = match recipe.loss.as_deref().map(str::parse) {
        Some(Ok(LossSpec::Huber { delta })) => {
            labels::mean(off().map(|d| d.min(delta) * (d - 0.5 * d.min(delta))))
        }
        _ => labels::mean(off().map(|d| d * d)),
    };
    record.nrmse = Some(labels::mean(off().map(|d| d * d)).sqrt());
    record.rmse = by_target(regression::rmse);
    record.r2 = Some(labels::mean(by_target(regression::r2).into_iter()));
}
