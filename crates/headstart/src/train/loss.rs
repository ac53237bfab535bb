//! Cross-entropy with soft targets, label smoothing and class weights.

use burn::Tensor;
use burn::tensor::{TensorData, activation};

/// Makes targets `[n, classes]` from labels: one-hot, smoothed by `smoothing`.
pub fn targets(labels: &[usize], classes: usize, smoothing: f64) -> Vec<f32> {
    let off = (smoothing / classes as f64) as f32;
    let on = (1.0 - smoothing) as f32 + off;
    let mut rows = vec![off; labels.len() * classes];
    for (row, label) in labels.iter().enumerate() {
        rows[row * classes + label] = on;
    }
    rows
}

/// Returns weights inverse to class sizes, with mean 1 over the pictures.
pub fn balanced_weights(labels: &[usize], classes: usize) -> Vec<f32> {
    let mut counts = vec![0_usize; classes];
    for label in labels {
        counts[*label] += 1;
    }
    let present = counts.iter().filter(|c| **c > 0).count() as f32;
    counts.iter().map(|c| labels.len() as f32 / (present * (*c).max(1) as f32)).collect()
}

/// Returns the mean over the batch of `−Σ target · log softmax(logits)`, weighted by `weights` a
/// picture if given (PyTorch's weighted mean).
pub fn cross_entropy(logits: Tensor<2>, targets: Vec<f32>, weights: Option<Vec<f32>>) -> Tensor<1> {
    let each = against(activation::log_softmax(logits, 1), targets);
    mean(each, weights)
}

/// Returns `−Σ target · log_p` of each picture, `[n, 1]`.
pub(super) fn against(log_p: Tensor<2>, targets: Vec<f32>) -> Tensor<2> {
    let shape = log_p.dims();
    let targets = Tensor::<2>::from_data(TensorData::new(targets, shape), &log_p.device());
    (log_p * targets).sum_dim(1).neg()
}

/// Returns the mean of a loss `[n, 1]` over the batch, weighted by `weights` a picture if given (PyTorch's weighted mean).
pub(super) fn mean(each: Tensor<2>, weights: Option<Vec<f32>>) -> Tensor<1> {
    let Some(weights) = weights else { return each.mean() };
    let total: f32 = weights.iter().sum();
    let weights = Tensor::<2>::from_data(TensorData::new(weights, each.dims()), &each.device());
    (each * weights).sum() / total
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn smoothing_keeps_the_mass_and_weights_balance() {
        let t = targets(&[1], 4, 0.2);
        assert!((t.iter().sum::<f32>() - 1.0).abs() < 1e-6 && (t[1] - 0.85).abs() < 1e-6);
        assert_eq!(balanced_weights(&[0, 0, 0, 1], 2), [4.0 / 6.0, 2.0]);
    }

    #[test]
    fn cross_entropy_of_known_logits() {
        let logits = Tensor::<2>::from_floats([[0.0, 0.0], [3.0_f32.ln(), 0.0]], &Device::flex());
        let loss = cross_entropy(logits.clone(), targets(&[0, 0], 2, 0.0), None).into_scalar::<f32>();
        assert!((loss - (2.0_f32.ln() + (4.0_f32 / 3.0).ln()) / 2.0).abs() < 1e-6);
        let weighted =
            cross_entropy(logits, targets(&[0, 0], 2, 0.0), Some(vec![3.0, 1.0])).into_scalar::<f32>();
        assert!((weighted - (3.0 * 2.0_f32.ln() + (4.0_f32 / 3.0).ln()) / 4.0).abs() < 1e-6);
    }
}
