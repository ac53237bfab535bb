//! Multiply-adds, counted by a walk through the network in which layers make zeros of the right shape.
//!
//! Convolutions, linear layers and the two products of attention count, as in torchvision's published figures.

use std::cell::Cell;

use burn::Tensor;
use burn::tensor::Device;

use super::layers::Map;
use super::tap::Tap;
use super::{ModelOptions, Network};
use crate::error::Result;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Adds to the count if one is under way on this thread, and tells whether.
pub(super) fn add(products: usize) -> bool {
    let Some(sum) = COUNT.get() else { return false };
    COUNT.set(Some(sum + products as u64));
    true
}

/// Counts the multiply-adds of the network called `name` for one picture of `size × size` and 1000 classes.
///
/// # Errors
/// If there is no such network or it cannot take that size.
pub fn macs(name: &str, size: usize) -> Result<u64> {
    let device = Device::flex();
    let network = Network::new(name, &ModelOptions::new(1000), &device)?;
    network.check_size(size, size)?;
    let x = Map::from_nhwc(Tensor::zeros([1, size, size, 3], &device));
    COUNT.set(Some(0));
    network.forward(x, &mut Tap::off());
    Ok(COUNT.take().expect("set above"))
}
