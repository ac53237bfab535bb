//! Focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017): easy pictures count less.

use burn::Tensor;
use burn::tensor::activation;

use super::loss::{against, mean};

/// Returns the mean over the batch of `−Σ target · (1 − p)^gamma · log p`, weighted by `weights` a picture if given.
///
/// `logits` are `[n, classes]`, `targets` as many numbers, row by row. With `gamma` 0 this is cross-entropy.
pub fn focal(logits: Tensor<2>, targets: Vec<f32>, weights: Option<Vec<f32>>, gamma: f64) -> Tensor<1> {
    let log_p = activation::log_softmax(logits, 1);
    // A p of exactly 1 would give the power's gradient 0^(gamma − 1).
    let miss = (log_p.clone().exp().neg() + 1.0).clamp_min(1e-6);
    mean(against(log_p * miss.powf_scalar(gamma), targets), weights)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::train::loss::{cross_entropy, targets};

    fn logits() -> Tensor<2> {
        Tensor::<2>::from_floats([[2.0, -1.0, 0.5], [0.0, 3.0, 0.0]], &Device::flex())
    }

    #[test]
    fn without_focus_it_is_cross_entropy() {
        let goal = targets(&[0, 2], 3, 0.1);
        let plain = cross_entropy(logits(), goal.clone(), None).into_scalar::<f32>();
        let focal = focal(logits(), goal, None, 0.0).into_scalar::<f32>();
        assert!((plain - focal).abs() < 1e-6, "{plain} {focal}");
    }

    #[test]
    fn known_values() {
        // p = e² / (e² + e⁻¹ + e^0.5) and 1 / (2 + e³), by hand.
        let p = [2f64.exp() / (2f64.exp() + (-1f64).exp() + 0.5f64.exp()), 1.0 / (2.0 + 3f64.exp())];
        let expected = p.iter().map(|p| -(1.0 - p).powi(2) * p.ln()).sum::<f64>() / 2.0;
        let found = focal(logits(), targets(&[0, 2], 3, 0.0), None, 2.0).into_scalar::<f32>();
        assert!((f64::from(found) - expected).abs() < 1e-5, "{found} {expected}");
    }
}
