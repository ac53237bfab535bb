//! Values by formula and small helpers: the twin of `tools/golden/formula.py`.
#![allow(dead_code)] // each test file uses some of it

use burn::Tensor;
use burn::tensor::{Device, TensorData};
use headstart::models::layers::Map;
use headstart::models::{ModelOptions, Network};
use headstart::rng::{hash_str, mix};
use serde_json::Value;

/// Draws the tensor called `name`: value i is SplitMix64's i-th number, scaled to `low..high`.
pub fn uniform(name: &str, len: usize, low: f64, high: f64) -> Vec<f32> {
    let start = hash_str(name);
    let value = |i: u64| {
        let bits = mix(start.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))) >> 40;
        (low + (high - low) * (bits as f64 / f64::from(1 << 24))) as f32
    };
    (1..=len as u64).map(value).collect()
}

/// Draws a parameter or buffer: weights within ±√(gain / fan-in), scales and variances in 0.5..1.5,
/// shifts and means within ±0.1.
pub fn tensor(name: &str, shape: &[usize], gain: f64) -> Vec<f32> {
    let len = shape.iter().product();
    if shape.len() > 1 {
        let bound = (gain / shape[1..].iter().product::<usize>() as f64).sqrt();
        return uniform(name, len, -bound, bound);
    }
    let positive = name.ends_with(".weight") || name.ends_with(".running_var");
    if positive { uniform(name, len, 0.5, 1.5) } else { uniform(name, len, -0.1, 0.1) }
}

/// Builds a network with a linear head and all values by formula.
pub fn network(name: &str, classes: usize, gain: f64, device: &Device) -> Network {
    let net = Network::new(name, &ModelOptions::new(classes), device).expect("a network of the zoo");
    net.assign(&mut |name, shape| Some(tensor(name, shape, gain)))
}

/// The formula's pictures, `[N, C, H, W]`.
pub fn pictures(shape: [usize; 4], device: &Device) -> Tensor<4> {
    pictures_named("input", shape, device)
}

/// Pictures of another name.
pub fn pictures_named(name: &str, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let values = uniform(name, shape.iter().product(), -2.0, 2.0);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Which operations a forward pass uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Path {
    /// The CPU kernels.
    Fast,
    /// Burn's own.
    Reference,
}

impl Path {
    /// Wraps `[N, C, H, W]` for this path.
    pub fn map(self, x: Tensor<4>) -> Map {
        match self {
            Path::Fast => Map::from_nhwc(x.permute([0, 2, 3, 1])),
            Path::Reference => Map::from_nchw(x),
        }
    }
}

/// Copies values to the host.
pub fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.clone().into_data().convert::<f32>().try_into_vec().expect("f32 values")
}

/// Returns the largest difference over the range of `expected`.
pub fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "lengths differ");
    assert!(found.iter().all(|v| v.is_finite()), "not finite");
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let difference = found.iter().zip(expected).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    difference / largest.max(1e-20)
}

/// Reads a file of `fixtures/models`.
pub fn fixture(name: &str) -> Value {
    let path = format!("{}/../../fixtures/models/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).expect("valid JSON")
}

/// Reads a list of numbers.
pub fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}
