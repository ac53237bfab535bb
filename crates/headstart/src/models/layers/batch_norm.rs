//! Batch normalisation.

use burn::Tensor;
use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::{Device, module};

use super::{Act, Format, InnerOrSelf, Map};
use crate::fast::{self, NormPlan};
use crate::models::map::is_cpu;

/// Batch normalisation over channels, for maps and for embeddings.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale.
    pub weight: Param<Tensor<1>>,
    /// Shift.
    pub bias: Param<Tensor<1>>,
    /// Running mean, used when the statistics are frozen.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running variance (unbiased), used when the statistics are frozen.
    pub running_var: RunningState<Tensor<1>>,
    /// Whether batches normalise by their own statistics and move the running ones.
    pub training: Param<Flag>,
    #[module(skip)]
    eps: f64,
    #[module(skip)]
    momentum: f64,
}

impl BatchNorm {
    /// Makes a layer for `channels` channels with PyTorch's momentum of 0.1.
    pub fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            training: Param::from_bool(true),
            eps,
            momentum: 0.1,
        }
    }

    /// Normalises a map, adds `residual`, applies `act`.
    pub fn forward(&self, x: Map, residual: Option<Map>, act: Act) -> Map {
        if x.channels_last {
            let y = self.fast(x.x.clone(), residual.map(|r| r.x), act);
            return x.with(y);
        }
        let mut y = self.reference(x.x.clone());
        if let Some(residual) = residual {
            y = y + residual.x;
        }
        x.with(act.reference(y))
    }

    /// Normalises embeddings `[N, C]`.
    pub fn forward_flat(&self, x: Tensor<2>) -> Tensor<2> {
        if is_cpu(&x.device()) { self.fast(x, None, Act::None) } else { self.reference(x) }
    }

    /// Returns what is added to the variance.
    pub(super) fn eps(&self) -> f64 {
        self.eps
    }

    fn uses_batch(&self, device: &Device) -> bool {
        device.is_autodiff() && self.training.val().is_enabled()
    }

    fn fast<const D: usize>(&self, x: Tensor<D>, residual: Option<Tensor<D>>, act: Act) -> Tensor<D> {
        let device = x.device();
        let batch_stats = self.uses_batch(&device);
        let stats = if batch_stats {
            let (mean, var) = fast::stats(x.clone());
            let dims = x.dims();
            let rows = dims.iter().product::<usize>() / dims[D - 1];
            self.move_running(&mean, &var, rows);
            (mean, var)
        } else {
            let on = |t: Tensor<1>| t.to_device(&device);
            (on(self.running_mean.value()), on(self.running_var.value()))
        };
        let plan = NormPlan { eps: self.eps as f32, act: act.clamp(), batch_stats };
        act.finish(fast::norm(x, self.weight.val(), self.bias.val(), stats, residual, plan))
    }

    fn reference<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let format = x.dtype();
        self.in_f32(x.wide()).cast(format)
    }

    fn in_f32<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let device = x.device();
        if self.uses_batch(&device) {
            let dims = x.dims();
            let rows = dims.iter().product::<usize>() / dims[1];
            let out = module::batch_norm_train(x, self.weight.val(), self.bias.val(), self.eps);
            // Burn hands back the biased variance, as our kernel does.
            self.move_running(&out.mean.detach(), &out.variance.detach(), rows);
            return out.output;
        }
        let (mean, var) = (self.running_mean.value(), self.running_var.value());
        let (mean, var) = (mean.to_device(&device), var.to_device(&device));
        module::batch_norm(x, self.weight.val(), self.bias.val(), mean, var, self.eps)
    }

    /// Moves the running statistics; like PyTorch, the variance it remembers is the unbiased one.
    fn move_running(&self, mean: &Tensor<1>, var: &Tensor<1>, rows: usize) {
        let unbias = rows as f64 / (rows as f64 - 1.0).max(1.0);
        let blend = |old: Tensor<1>, new: Tensor<1>| {
            let old = old.inner_or_self();
            old * (1.0 - self.momentum) + new * self.momentum
        };
        let mean = mean.clone().inner_or_self();
        let var = var.clone().inner_or_self() * unbias;
        self.running_mean.update(blend(self.running_mean.value_sync(), mean));
        self.running_var.update(blend(self.running_var.value_sync(), var));
        // An update waits until the next one unless it is asked for; checkpoints must not miss the last.
        self.running_mean.value_sync();
        self.running_var.value_sync();
    }
}
