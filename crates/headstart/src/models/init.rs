//! First values of parameters, drawn from their checkpoint name and shape.
//!
//! Each tensor has its own random stream keyed by (seed, name), so adding a layer never changes
//! another's values. Convolutions: He et al. 2015, fan-out over groups, as torchvision and timm draw
//! them for these families. Fully connected: PyTorch's default, uniform in ±1/√inputs.

use crate::rng::Rng;

/// Draws a parameter or buffer; `inputs` is the fan-in of the layer a 1-D bias belongs to.
pub(super) fn draw(name: &str, shape: &[usize], inputs: Option<usize>, seed: u64) -> Vec<f32> {
    let len = shape.iter().product();
    let mut rng = Rng::keyed(&[seed, crate::rng::hash_str(name)]);
    match shape {
        [out, _, kh, kw] => {
            let groups_fan_out = (out * kh * kw) as f32;
            let std = (2.0 / groups_fan_out).sqrt();
            (0..len).map(|_| rng.normal() * std).collect()
        }
        [_, fan_in] => {
            let bound = 1.0 / (*fan_in as f32).sqrt();
            (0..len).map(|_| rng.range(-bound, bound)).collect()
        }
        _ if name.ends_with("running_var") => vec![1.0; len],
        _ if name.ends_with(".bias") && inputs.is_some() => {
            let bound = 1.0 / (inputs.unwrap_or(1) as f32).sqrt();
            (0..len).map(|_| rng.range(-bound, bound)).collect()
        }
        _ if name.ends_with(".weight") => vec![1.0; len],
        _ => vec![0.0; len],
    }
}
