//! First values of parameters, drawn from their checkpoint name and shape.
//!
//! Each tensor has its own random stream keyed by (seed, name), so adding a layer never changes
//! another's values. Convolutions: He et al. 2015, fan-out over groups, as timm draws ResNet, VGG
//! and MobileNetV2; AlexNet, which torchvision leaves at PyTorch's default, gets the same. Fully connected: PyTorch's default, uniform in ±1/√inputs.

use crate::rng::Rng;

/// Draws a parameter or buffer; `inputs` is the fan-in of the layer a 1-D bias belongs to, `dense` tells the first
/// convolution on grey pictures from a depthwise one.
pub(super) fn draw(name: &str, shape: &[usize], inputs: Option<usize>, dense: bool, seed: u64) -> Vec<f32> {
    let len = shape.iter().product();
    let mut rng = Rng::keyed(&[seed, crate::rng::hash_str(name)]);
    match shape {
        [out, per_group, kh, kw] => {
            // One input a filter is a depthwise convolution: as many groups as outputs.
            let fan_out = if *per_group == 1 && !dense { kh * kw } else { out * kh * kw };
            let std = (2.0 / fan_out as f32).sqrt();
            (0..len).map(|_| rng.normal() * std).collect()
        }
        // Swin V2's factor on cosines starts at ten.
        _ if name.ends_with("logit_scale") => vec![10_f32.ln(); len],
        // Positions and class tokens: timm's 0.02.
        _ if name.ends_with("relative_position_bias_table") => {
            (0..len).map(|_| rng.normal() * 0.02).collect()
        }
        [_, _, _] => (0..len).map(|_| rng.normal() * 0.02).collect(),
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
        // Branches weighed by LayerScale start almost switched off.
        _ if name.ends_with(".gamma") => vec![1e-5; len],
        _ => vec![0.0; len],
    }
}
