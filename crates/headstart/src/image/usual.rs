//! The pipelines of torchvision and timm.

use super::resize::Interp;
use super::transform::{Op, Pipeline};

/// What timm does with the part of a picture that does not fit the square input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CropMode {
    /// Cut it off.
    #[default]
    Center,
    /// Squeeze it in.
    Squash,
    /// Shrink the picture and paint a border in the mean colour.
    Border,
}

impl Pipeline {
    /// Returns torchvision's evaluation: shorter side to `resize`, centre `crop`, normalise.
    pub fn torchvision_eval(resize: u32, crop: u32, interp: Interp, mean: [f32; 3], std: [f32; 3]) -> Self {
        let ops = vec![
            Op::ResizeShort { size: resize, interp, rounds: false },
            Op::CenterCrop { size: crop, fill: [0; 3], floors: false },
            Op::Normalize { mean, std },
        ];
        Pipeline { ops }
    }

    /// Returns timm's evaluation of a square input: resize to `⌊size / crop_pct⌋`, crop `size`, normalise.
    pub fn timm_eval(
        size: u32,
        crop_pct: f32,
        mode: CropMode,
        interp: Interp,
        mean: [f32; 3],
        std: [f32; 3],
    ) -> Self {
        // Through the decimal form: 240 / 0.8 is 300, but 240 / f64::from(0.8f32) is just below.
        let crop_pct: f64 = crop_pct.to_string().parse().expect("a printed f32 parses");
        let scale = (f64::from(size) / crop_pct).floor() as u32;
        let resize = match mode {
            CropMode::Center => Op::ResizeShort { size: scale, interp, rounds: false },
            CropMode::Squash => Op::Resize { height: scale, width: scale, interp },
            CropMode::Border => Op::ResizeLong { size: scale, interp },
        };
        let fill = match mode {
            CropMode::Border => mean.map(|m| (255.0 * m).round_ties_even() as u8),
            _ => [0; 3],
        };
        Pipeline {
            ops: vec![resize, Op::CenterCrop { size, fill, floors: false }, Op::Normalize { mean, std }],
        }
    }

    /// Returns the usual training pipeline: random resized crop, mirror, normalise.
    pub fn train(size: u32, interp: Interp, mean: [f32; 3], std: [f32; 3]) -> Self {
        let crop = Op::RandomResizedCrop { size, scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0], interp };
        Pipeline { ops: vec![crop, Op::FlipLr { p: 0.5 }, Op::Normalize { mean, std }] }
    }
}
