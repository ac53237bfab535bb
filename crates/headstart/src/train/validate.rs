//! What a network says about the validation pictures.

use burn::Tensor;
use burn::tensor::Device;

use super::photos::Photos;
use super::prefix;
use crate::error::Result;
use crate::models::{Network, frozen, values};

/// Computes the logits of every picture in order.
pub fn logits(network: &Network, photos: &Photos) -> Result<Vec<f32>> {
    let (network, device) = (frozen(network), Device::flex());
    let groups = network.groups().len();
    let mut all = Vec::with_capacity(photos.len() * network.options().num_classes);
    for batch in photos.in_order(0) {
        let out: Tensor<2> = prefix::run(&network, groups, batch?, &device).flat();
        all.extend(values(&out));
    }
    Ok(all)
}
