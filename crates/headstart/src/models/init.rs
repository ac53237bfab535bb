//! First values of parameters, drawn from their checkpoint name and shape.
//!
//! Each tensor has its own random stream keyed by (seed, name), so adding a layer never changes
//! another's values. Convolutions: He et al. 2015, fan-out over groups, as timm draws ResNet, VGG
//! and MobileNetV2; AlexNet, which torchvision leaves at PyTorch's default, gets the same. Fully connected: PyTorch's default, uniform in ±1/√inputs.

use rayon::prelude::*;

use crate::rng::Rng;

/// Numbers drawn by one thread at a time.
const PART: usize = 1 << 14;

/// Draws a parameter or buffer; `inputs` is the fan-in of the layer a 1-D bias belongs to, `dense` tells the first
/// convolution on grey pictures from a depthwise one.
pub(super) fn draw(name: &str, shape: &[usize], inputs: Option<usize>, dense: bool, seed: u64) -> Vec<f32> {
    let len = shape.iter().product();
    let rng = Rng::keyed(&[seed, crate::rng::hash_str(name)]);
    let normal = |std: f32| fill(&rng, len, 2, |rng| rng.normal() * std);
    let uniform = |bound: f32| fill(&rng, len, 1, |rng| rng.range(-bound, bound));
    match shape {
        [out, per_group, kh, kw] => {
            // One input a filter is a depthwise convolution: as many groups as outputs.
            let fan_out = if *per_group == 1 && !dense { kh * kw } else { out * kh * kw };
            normal((2.0 / fan_out as f32).sqrt())
        }
        // Swin V2's factor on cosines starts at ten.
        _ if name.ends_with("logit_scale") => vec![10_f32.ln(); len],
        // Positions and class tokens: timm's 0.02.
        _ if name.ends_with("relative_position_bias_table") => normal(0.02),
        [_, _, _] => normal(0.02),
        [_, fan_in] => uniform(1.0 / (*fan_in as f32).sqrt()),
        _ if name.ends_with("running_var") => vec![1.0; len],
        _ if name.ends_with(".bias") && inputs.is_some() => {
            uniform(1.0 / (inputs.unwrap_or(1) as f32).sqrt())
        }
        _ if name.ends_with(".weight") => vec![1.0; len],
        // Branches weighed by LayerScale start almost switched off.
        _ if name.ends_with(".gamma") => vec![1e-5; len],
        _ => vec![0.0; len],
    }
}

/// Fills a tensor from `rng`, of which `draw` takes `each` numbers; in parts, and as one pass would.
fn fill(rng: &Rng, len: usize, each: usize, draw: impl Fn(&mut Rng) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0.0; len];
    out.par_chunks_mut(PART).enumerate().for_each(|(i, part)| {
        let mut rng = rng.clone();
        rng.skip(i * PART * each);
        part.fill_with(|| draw(&mut rng));
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_drawn_as_one_pass_would() {
        let mut one = Rng::keyed(&[7, crate::rng::hash_str("conv.weight")]);
        let std = (2.0 / (40 * 9) as f32).sqrt();
        let expected: Vec<f32> = (0..40 * 50 * 9).map(|_| one.normal() * std).collect();
        assert!(expected.len() > PART && !expected.len().is_multiple_of(PART));
        assert_eq!(draw("conv.weight", &[40, 50, 3, 3], None, true, 7), expected);
    }
}
