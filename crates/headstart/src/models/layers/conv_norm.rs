//! A convolution with its BatchNorm, as timm names the two.

use burn::module::Module;
use burn::tensor::Device;

use super::{Act, BatchNorm, Conv2d, ConvSpec, DropPath, Map, conv_bn_act, conv_bn_join};

/// A convolution with its BatchNorm.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// Its norm.
    pub bn: BatchNorm,
}

impl ConvNorm {
    /// Makes both, all zeros.
    pub fn new(spec: ConvSpec, eps: f64, device: &Device) -> Self {
        Self { conv: spec.init(device), bn: BatchNorm::new(spec.c_out, eps, device) }
    }

    /// Runs both and applies `act`.
    pub fn forward(&self, x: Map, act: Act) -> Map {
        conv_bn_act(&self.conv, &self.bn, x, None, act)
    }

    /// Runs both at the end of a branch, adds the shortcut, applies `act`.
    pub fn join(&self, x: Map, shortcut: Map, act: Act, drop: DropPath) -> Map {
        conv_bn_join(&self.conv, &self.bn, x, shortcut, act, drop)
    }
}
