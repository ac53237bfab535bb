//! BatchNorm over NHWC rows in f32 or bf16, fused with a residual sum and an activation.
//!
//! Few channels make short inner loops, so `g` pixels are taken as one *wide row* of `g * c`
//! floats with the per-channel constants repeated `g` times. Reductions run over chunks of about
//! 128 KiB: f32 column sums inside a chunk (at most 128 terms), f64 from there on, merged in chunk
//! order. Chunks follow from the shape alone, so the bits do not depend on the threads.

mod backward;
mod bodies;
mod forward;
mod plan;
mod stats;
#[cfg(test)]
mod tests;

use backward::{Stats, backward_at};
use forward::forward_at;
use plan::Plan;
use stats::batch_stats_at;
pub(crate) use stats::channel_sums_at;

use crate::{Act, Element, Level};

/// The statistics and the affine part of a BatchNorm, one value per channel.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Mean of the batch, or the running mean of a frozen layer.
    pub mean: &'a [f32],
    /// Biased variance of the batch, or the running variance of a frozen layer.
    pub var: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Shift.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// The gradients that a backward pass writes: only those asked for.
#[derive(Debug)]
pub struct NormGrads<'a, T> {
    /// Of the input, `[rows, c]`.
    pub dx: Option<&'a mut [T]>,
    /// Of the scale, `[c]`.
    pub dgamma: Option<&'a mut [f32]>,
    /// Of the shift, `[c]`.
    pub dbeta: Option<&'a mut [f32]>,
    /// Of the residual term, `[rows, c]`.
    pub dresidual: Option<&'a mut [T]>,
}

impl<T> Default for NormGrads<'_, T> {
    fn default() -> Self {
        Self { dx: None, dgamma: None, dbeta: None, dresidual: None }
    }
}

/// Computes mean and biased variance of each channel of `x`, `[rows, c]`; `c` is `mean.len()`.
///
/// Each chunk takes its mean first and deviations from it second, while it is in cache, so a large
/// common offset costs no digits. Panics if `x` has no rows.
pub fn batch_stats<T: Element>(x: &[T], mean: &mut [f32], var: &mut [f32]) {
    batch_stats_at(Level::current(), x, mean, var);
}

/// Computes `y = act((x - mean) / sqrt(var + eps) * gamma + beta + residual)`.
pub fn forward<T: Element>(norm: &Norm, x: &[T], residual: Option<&[T]>, act: Act, y: &mut [T]) {
    forward_at(Level::current(), norm, x, residual, act, y);
}

/// Differentiates [`forward`] through statistics that [`batch_stats`] took from the same `x`.
///
/// `y` is the output of the forward pass, read for the activation's mask. Without a residual it
/// may be `None`: the mask is then recomputed from `x`, which saves a third of the reading.
pub fn backward_train<T: Element>(
    norm: &Norm,
    act: Act,
    x: &[T],
    y: Option<&[T]>,
    dy: &[T],
    grads: NormGrads<T>,
) {
    backward_at(Level::current(), Stats::OfBatch, norm, act, x, y, dy, grads);
}

/// Differentiates [`forward`] with the statistics held constant.
///
/// `x` may be empty where nothing needs it: `y` is given (or there is no activation) and `dgamma`
/// is not asked for.
pub fn backward_frozen<T: Element>(
    norm: &Norm,
    act: Act,
    x: &[T],
    y: Option<&[T]>,
    dy: &[T],
    grads: NormGrads<T>,
) {
    backward_at(Level::current(), Stats::Constant, norm, act, x, y, dy, grads);
}

/// Sums each channel of `x`, `[rows, c]`, over the rows: the gradient of a bias.
pub fn channel_sums<T: Element>(x: &[T], sums: &mut [f32]) {
    channel_sums_at(Level::current(), x, sums);
}

impl Norm<'_> {
    fn plan(&self, len: usize) -> Plan {
        let c = self.mean.len();
        assert!(
            self.var.len() == c && self.gamma.len() == c && self.beta.len() == c,
            "the parameters of a norm differ in length"
        );
        Plan::new(len, c)
    }

    fn inv_std(&self) -> impl Iterator<Item = f64> {
        self.var.iter().map(|v| 1.0 / (f64::from(*v) + f64::from(self.eps)).sqrt())
    }

    /// Returns mean, scale and shift over a wide row: the norm as `(x - mean) * scale + shift`.
    /// Folding the mean into the shift would cancel digits where it is far from zero.
    fn constants(&self, plan: &Plan) -> [Vec<f32>; 3] {
        let scale: Vec<f32> =
            self.inv_std().zip(self.gamma).map(|(i, g)| (i * f64::from(*g)) as f32).collect();
        [self.mean, &scale, self.beta].map(|v| plan.widen(v.iter().copied()))
    }
}
