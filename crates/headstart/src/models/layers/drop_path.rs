//! Stochastic depth.

use std::cell::RefCell;

use burn::Tensor;
use burn::module::Param;
use burn::tensor::{Device, TensorData};

use super::{Act, BatchNorm, Conv2d, Format, Map, Tokens, conv_bn_act};
use crate::rng::Rng;

thread_local! {
    // Not the device's generator: other threads draw from that one too.
    static DRAWS: RefCell<Rng> = RefCell::new(Rng::keyed(&[0]));
}

/// Starts this thread's draws anew, as each step of training does.
pub(crate) fn seed(key: &[u64]) {
    DRAWS.set(Rng::keyed(key));
}

/// Leaves a residual branch out for some pictures of a batch, in training: Huang et al., "Deep Networks with
/// Stochastic Depth", ECCV 2016. What is kept is divided by the probability of that, so that inference needs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropPath {
    rate: f64,
}

impl DropPath {
    /// Leaves out with probability `rate`, in `[0, 1)`.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// Tells whether something may be left out: on an autodiff device, where a rate is set.
    pub(super) fn drops(self, device: &Device) -> bool {
        self.rate > 0.0 && device.is_autodiff()
    }

    /// Draws anew for each picture, the first axis.
    pub(super) fn apply<const D: usize>(self, branch: Tensor<D>) -> Tensor<D> {
        let device = branch.device();
        if !self.drops(&device) {
            return branch;
        }
        let mut shape = [1; D];
        shape[0] = branch.dims()[0];
        let kept = (1.0 / (1.0 - self.rate)) as f32;
        let factors: Vec<f32> = DRAWS.with_borrow_mut(|rng| {
            (0..shape[0]).map(|_| if f64::from(rng.unit()) < self.rate { 0.0 } else { kept }).collect()
        });
        let factors = Tensor::<D>::from_data(TensorData::new(factors, shape), &device);
        branch.clone() * factors.like(&branch)
    }

    /// Adds a branch to its shortcut.
    pub fn join(self, branch: Map, shortcut: Map) -> Map {
        let branch = branch.with(self.apply(branch.raw().clone()));
        branch.plus(shortcut)
    }

    /// Adds a branch to its shortcut.
    pub fn join_tokens(self, branch: Tokens, shortcut: Tokens) -> Tokens {
        branch.apply(|x| self.apply(x)).plus(shortcut)
    }
}

/// How a branch is weighed before it is added to its shortcut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Branch<'a> {
    /// A factor for each channel.
    pub scale: Option<&'a Param<Tensor<1>>>,
    /// Whether it is left out at times.
    pub drop: DropPath,
}

/// Runs a branch's last convolution and BatchNorm, adds the shortcut, applies `act`; one pass where nothing is dropped.
pub fn conv_bn_join(conv: &Conv2d, bn: &BatchNorm, x: Map, shortcut: Map, act: Act, drop: DropPath) -> Map {
    if drop.drops(&x.raw().device()) {
        return act.map(drop.join(conv_bn_act(conv, bn, x, None, Act::None), shortcut));
    }
    conv_bn_act(conv, bn, x, Some(shortcut), act)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::values;

    #[test]
    fn whole_pictures_are_left_out_and_the_rest_makes_up_for_it() {
        let device = Device::flex().autodiff();
        seed(&[3]);
        let (n, rate) = (4000, 0.25);
        let y = values(&DropPath::new(rate).apply(Tensor::<4>::ones([n, 1, 2, 3], &device)));
        let kept = y.chunks(6).filter(|picture| picture[0] != 0.0).count() as f64 / n as f64;
        assert!((kept - 0.75).abs() < 0.03, "{kept} are kept");
        for picture in y.chunks(6) {
            assert!(picture.iter().all(|v| *v == picture[0]));
            assert!(picture[0] == 0.0 || (picture[0] - 4.0 / 3.0).abs() < 1e-6, "{}", picture[0]);
        }
    }

    #[test]
    fn inference_and_a_rate_of_zero_leave_nothing_out() {
        let plain = Device::flex();
        for (rate, device) in [(0.9, plain.clone()), (0.0, plain.autodiff())] {
            let y = values(&DropPath::new(rate).apply(Tensor::<3>::ones([64, 2, 2], &device)));
            assert!(y.iter().all(|v| *v == 1.0));
        }
    }
}
