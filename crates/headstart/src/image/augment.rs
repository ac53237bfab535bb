//! Random augmentations on 8-bit RGB: the parameters drawn as torchvision draws them.
//!
//! Nothing here knows a pipeline; each function takes a picture and a stream of random numbers.

use ::image::RgbImage;

use super::color;
use super::geometry::{self, affine};
use super::resize::{Interp, Rect, round_half_even};
use crate::rng::Rng;

/// Draws the window of a random resized crop.
///
/// Ten tries at an area in `scale` of the picture and an aspect ratio in `ratio`, then the largest
/// allowed centred window.
pub fn random_window(width: u32, height: u32, scale: [f32; 2], ratio: [f32; 2], rng: &mut Rng) -> Rect {
    let (w, h) = (f64::from(width), f64::from(height));
    for _ in 0..10 {
        let area = w * h * f64::from(rng.range(scale[0], scale[1]));
        let aspect = f64::from(rng.range(ratio[0].ln(), ratio[1].ln())).exp();
        let crop_w = round_half_even((area * aspect).sqrt()) as u32;
        let crop_h = round_half_even((area / aspect).sqrt()) as u32;
        if (1..=width).contains(&crop_w) && (1..=height).contains(&crop_h) {
            let y = rng.below((height - crop_h) as usize + 1) as u32;
            let x = rng.below((width - crop_w) as usize + 1) as u32;
            return Rect { x, y, width: crop_w, height: crop_h };
        }
    }
    let (low, high) = (f64::from(ratio[0]), f64::from(ratio[1]));
    let side = |x: f64, most: u32| (round_half_even(x) as u32).clamp(1, most);
    let (crop_w, crop_h) = match w / h {
        r if r < low => (width, side(w / low, height)),
        r if r > high => (side(h * high, width), height),
        _ => (width, height),
    };
    Rect { x: (width - crop_w) / 2, y: (height - crop_h) / 2, width: crop_w, height: crop_h }
}

/// Strengths of a colour jitter: brightness, contrast and saturation factors are drawn in
/// `1 ± strength` (not below 0), the hue in `± strength` of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Jitter {
    /// Blend with black.
    pub brightness: f32,
    /// Blend with the mean grey.
    pub contrast: f32,
    /// Blend with the grey picture.
    pub saturation: f32,
    /// Turn of the hue, at most 0.5.
    pub hue: f32,
}

/// Applies the four colour changes in random order.
pub fn color_jitter(image: &mut RgbImage, jitter: Jitter, rng: &mut Rng) {
    let mut order = [0, 1, 2, 3];
    rng.shuffle(&mut order);
    let mut around_one = |strength: f32| rng.range((1.0 - strength).max(0.0), 1.0 + strength);
    let factors = [around_one(jitter.brightness), around_one(jitter.contrast), around_one(jitter.saturation)];
    let turn = rng.range(-jitter.hue, jitter.hue);
    for step in order {
        match step {
            0 if jitter.brightness > 0.0 => color::brightness(image, factors[0]),
            1 if jitter.contrast > 0.0 => color::contrast(image, factors[1]),
            2 if jitter.saturation > 0.0 => color::saturation(image, factors[2]),
            3 if jitter.hue > 0.0 => color::hue(image, turn),
            _ => {}
        }
    }
}

/// Turns by an angle in `± degrees`; the corners become black.
pub fn rotate(image: &RgbImage, degrees: f32, interp: Interp, rng: &mut Rng) -> RgbImage {
    let angle = f64::from(rng.range(-degrees, degrees));
    affine(image, geometry::rotation(image.width(), image.height(), angle), interp, [0; 3])
}

/// One operation of the automatic policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOp {
    /// Nothing.
    Identity,
    /// Shear of the rows.
    ShearX,
    /// Shear of the columns.
    ShearY,
    /// Move sideways.
    TranslateX,
    /// Move up or down.
    TranslateY,
    /// Turn around the centre.
    Rotate,
    /// Blend with black.
    Brightness,
    /// Blend with the grey picture.
    Color,
    /// Blend with the mean grey.
    Contrast,
    /// Blend with the smoothed picture.
    Sharpness,
    /// Fewer bits a channel.
    Posterize,
    /// Invert the bright values.
    Solarize,
    /// Stretch each channel.
    AutoContrast,
    /// Flatten each channel's histogram.
    Equalize,
}

/// The fourteen operations, in torchvision's order.
pub const AUTO_OPS: [AutoOp; 14] = [
    AutoOp::Identity,
    AutoOp::ShearX,
    AutoOp::ShearY,
    AutoOp::TranslateX,
    AutoOp::TranslateY,
    AutoOp::Rotate,
    AutoOp::Brightness,
    AutoOp::Color,
    AutoOp::Contrast,
    AutoOp::Sharpness,
    AutoOp::Posterize,
    AutoOp::Solarize,
    AutoOp::AutoContrast,
    AutoOp::Equalize,
];

/// Both policies divide each range of strengths into 31 steps, 0 to 30.
pub const LEVELS: u32 = 31;

/// Ranges of strength: RandAugment's and TrivialAugment-Wide's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    Rand,
    Wide,
}

impl AutoOp {
    /// Returns the strength at `level` of 30 on a picture of the given size, before its sign.
    fn strength(self, space: Space, level: u32, (width, height): (u32, u32)) -> f64 {
        use AutoOp::*;
        let wide = space == Space::Wide;
        let part = f64::from(level) / f64::from(LEVELS - 1);
        let pick = |rand: f64, trivial: f64| part * if wide { trivial } else { rand };
        match self {
            ShearX | ShearY => pick(0.3, 0.99),
            TranslateX => pick(150.0 / 331.0 * f64::from(width), 32.0),
            TranslateY => pick(150.0 / 331.0 * f64::from(height), 32.0),
            Rotate => pick(30.0, 135.0),
            Brightness | Color | Contrast | Sharpness => pick(0.9, 0.99),
            Posterize => 8.0 - round_half_even(pick(4.0, 6.0)),
            Solarize => 255.0 * (1.0 - part),
            Identity | AutoContrast | Equalize => 0.0,
        }
    }

    fn is_signed(self) -> bool {
        use AutoOp::*;
        matches!(
            self,
            ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast | Sharpness
        )
    }

    /// Applies the operation at a signed strength.
    pub fn apply(self, image: &mut RgbImage, strength: f64) {
        use AutoOp::*;
        let (width, height) = image.dimensions();
        let mut moved = |matrix| *image = affine(image, matrix, Interp::Nearest, [0; 3]);
        let factor = (1.0 + strength) as f32;
        match self {
            Identity => {}
            ShearX => moved(geometry::shear_x(strength)),
            ShearY => moved(geometry::shear_y(strength)),
            TranslateX => moved(geometry::translation(strength as i32, 0)),
            TranslateY => moved(geometry::translation(0, strength as i32)),
            Rotate => moved(geometry::rotation(width, height, strength)),
            Brightness => color::brightness(image, factor),
            Color => color::saturation(image, factor),
            Contrast => color::contrast(image, factor),
            Sharpness => color::sharpness(image, factor),
            Posterize => color::posterize(image, strength as u32),
            Solarize => color::solarize(image, strength as f32),
            AutoContrast => color::autocontrast(image),
            Equalize => color::equalize(image),
        }
    }
}

fn apply_random(image: &mut RgbImage, space: Space, level: Option<u32>, rng: &mut Rng) {
    let op = AUTO_OPS[rng.below(AUTO_OPS.len())];
    let level = level.unwrap_or_else(|| rng.below(LEVELS as usize) as u32);
    let strength = op.strength(space, level, image.dimensions());
    let negative = op.is_signed() && rng.chance(0.5);
    op.apply(image, if negative { -strength } else { strength });
}

/// Applies `count` random operations, all at `level` of 30 (RandAugment, Cubuk et al. 2019).
pub fn rand_augment(image: &mut RgbImage, count: u32, level: u32, rng: &mut Rng) {
    for _ in 0..count {
        apply_random(image, Space::Rand, Some(level.min(LEVELS - 1)), rng);
    }
}

/// Applies one random operation at a random level (TrivialAugment-Wide, Müller & Hutter 2021).
pub fn trivial_augment(image: &mut RgbImage, rng: &mut Rng) {
    apply_random(image, Space::Wide, None, rng);
}

/// Sets a random rectangle of normalised pixels to 0, the mean (random erasing, Zhong et al. 2017).
///
/// Covers 2 to 33 % of the picture at an aspect ratio between 0.3 and 3.3, torchvision's defaults.
pub fn erase(pixels: &mut [f32], width: u32, height: u32, rng: &mut Rng) {
    let channels = pixels.len() / (width as usize * height as usize);
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let erased = area * f64::from(rng.range(0.02, 0.33));
        let aspect = f64::from(rng.range(0.3f32.ln(), 3.3f32.ln())).exp();
        let h = round_half_even((erased * aspect).sqrt()) as u32;
        let w = round_half_even((erased / aspect).sqrt()) as u32;
        if h >= height || w >= width {
            continue;
        }
        let y = rng.below((height - h) as usize + 1);
        let x = rng.below((width - w) as usize + 1);
        for row in pixels.chunks_exact_mut(width as usize * channels).skip(y).take(h as usize) {
            row[x * channels..(x + w as usize) * channels].fill(0.0);
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgb;

    #[test]
    fn windows_stay_inside_and_keep_their_area() {
        let mut rng = Rng::keyed(&[1]);
        let mut mean = 0.0;
        for _ in 0..2000 {
            let r = random_window(300, 200, [0.08, 1.0], [0.75, 4.0 / 3.0], &mut rng);
            assert!(r.width > 0 && r.x + r.width <= 300 && r.height > 0 && r.y + r.height <= 200);
            mean += f64::from(r.width * r.height) / 60_000.0 / 2000.0;
        }
        // torchvision: 0.388 over 4000 draws. Large windows often do not fit and are drawn again.
        assert!((mean - 0.388).abs() < 0.02, "{mean}");
        let fallback = random_window(1000, 10, [0.9, 1.0], [0.75, 1.33], &mut rng);
        assert_eq!((fallback.width, fallback.height, fallback.x), (13, 10, 493));
    }

    #[test]
    fn strengths_follow_torchvision() {
        let at = |op: AutoOp, space, level| op.strength(space, level, (331, 662));
        assert!((at(AutoOp::TranslateX, Space::Rand, 9) - 45.0).abs() < 1e-9);
        assert!((at(AutoOp::TranslateY, Space::Rand, 9) - 90.0).abs() < 1e-9);
        assert!((at(AutoOp::Rotate, Space::Wide, 10) - 45.0).abs() < 1e-9);
        let posterize = |space| [0, 9, 15, 30].map(|l| at(AutoOp::Posterize, space, l) as u32);
        assert_eq!(posterize(Space::Rand), [8, 7, 6, 4]);
        assert_eq!(posterize(Space::Wide), [8, 6, 5, 2]);
        assert_eq!(at(AutoOp::Solarize, Space::Rand, 0), 255.0);
    }

    #[test]
    fn every_operation_keeps_the_size() {
        let mut rng = Rng::keyed(&[2]);
        for op in AUTO_OPS {
            let mut image = RgbImage::from_fn(17, 11, |x, y| Rgb([(x * 15) as u8, (y * 23) as u8, 77]));
            op.apply(&mut image, op.strength(Space::Wide, 30, (17, 11)));
            assert_eq!(image.dimensions(), (17, 11));
            trivial_augment(&mut image, &mut rng);
            rand_augment(&mut image, 2, 9, &mut rng);
            color_jitter(
                &mut image,
                Jitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 },
                &mut rng,
            );
            assert_eq!(image.dimensions(), (17, 11));
        }
    }

    #[test]
    fn an_erased_rectangle_is_zero_and_of_moderate_size() {
        for seed in 0..50 {
            let mut pixels = vec![1.0f32; 32 * 24 * 3];
            erase(&mut pixels, 32, 24, &mut Rng::keyed(&[seed]));
            let gone = pixels.iter().filter(|&&v| v == 0.0).count() as f64 / pixels.len() as f64;
            assert!((0.01..0.36).contains(&gone), "{gone}");
        }
    }
}
