//! Pictures of one channel or four: grey, or colours with opacity.
//!
//! The fourth channel goes through the same crops and turns as the colours: it is a second picture with the same key. The
//! statistics of a channel that is none of red, green and blue are the means of theirs.

use std::borrow::Cow;
use std::path::Path;

use ::image::RgbImage;

use super::transform::{Op, Pipeline};
use super::{Key, color, decode};
use crate::error::Result;

impl Pipeline {
    /// Returns how many channels the result has.
    pub fn channels(&self) -> usize {
        match self.ops().first() {
            Some(Op::Channels { n }) => *n as usize,
            _ => 3,
        }
    }

    /// Reads the picture at `path` into `out`, `[height][width][channels]` of [`Pipeline::output_size`].
    pub fn read(&self, path: impl AsRef<Path>, key: Key, out: &mut [f32]) -> Result<()> {
        if self.channels() == 4 {
            let (image, alpha) = decode::decode_with_alpha(path)?;
            self.fill(&image, Some(&alpha), key, out);
        } else {
            self.fill(&decode(path)?, None, key, out);
        }
        Ok(())
    }

    /// Writes normalised values; without `alpha` a picture is opaque.
    pub(super) fn fill(&self, image: &RgbImage, alpha: Option<&RgbImage>, key: Key, out: &mut [f32]) {
        let channels = self.channels();
        let grey = (channels == 1).then(|| color::grey(image));
        let pixels = self.pixels(grey.as_ref().unwrap_or(image), key);
        let (width, height) = pixels.dimensions();
        let room = width as usize * height as usize * channels;
        assert_eq!(out.len(), room, "room for {height} × {width} × {channels} values");
        let tables = self.tables();
        // A grey picture has equal colours: its one channel is written by the last table alone.
        let first = if channels == 1 { 3 } else { 0 };
        for (to, from) in out.chunks_exact_mut(channels).zip(pixels.as_raw().chunks_exact(3)) {
            for ((to, from), table) in to.iter_mut().zip(from).zip(&tables[first..]) {
                *to = table[usize::from(*from)];
            }
        }
        if channels == 4 {
            let opaque = tables[3][255];
            let plane = alpha.map(|alpha| self.colourless().pixels(alpha, key).into_owned());
            for (i, to) in out.chunks_exact_mut(4).enumerate() {
                to[3] = plane.as_ref().map_or(opaque, |p| tables[3][usize::from(p.as_raw()[3 * i])]);
            }
        }
        self.erase(out, (width, height), key);
    }

    /// `(v / 255 − mean) / std` with torch's roundings, for red, green, blue and any other channel.
    fn tables(&self) -> [[f32; 256]; 4] {
        let (mean, std) = self.normalization();
        let middle = |v: [f32; 3]| v.iter().sum::<f32>() / 3.0;
        let (means, stds) = (middle(mean), middle(std));
        let one = |mean: f32, std: f32| std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        [one(mean[0], std[0]), one(mean[1], std[1]), one(mean[2], std[2]), one(means, stds)]
    }

    /// The same without what changes colours; every other operation keeps its place and so its random numbers.
    fn colourless(&self) -> Cow<'_, Self> {
        let is_colour = |op: &Op| matches!(op, Op::ColorJitter(_));
        if !self.ops().iter().any(is_colour) {
            return Cow::Borrowed(self);
        }
        let nothing = Op::FlipLr { p: 0.0 };
        let ops = self.ops().iter().map(|op| if is_colour(op) { nothing } else { *op }).collect();
        Cow::Owned(Pipeline::new(ops).expect("as good as before"))
    }
}

#[cfg(test)]
mod tests {
    use ::image::{Rgb, Rgba, RgbaImage};

    use super::*;

    fn picture() -> RgbaImage {
        RgbaImage::from_fn(20, 16, |x, y| {
            Rgba([(x * 9) as u8, (y * 11) as u8, 40, if x < 10 { 255 } else { (y * 16) as u8 }])
        })
    }

    fn values(pipeline: &str, picture: &RgbaImage) -> Vec<f32> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        picture.save(&path).unwrap();
        let pipeline: Pipeline = pipeline.parse().unwrap();
        let (h, w) = pipeline.output_size().unwrap();
        let mut out = vec![0.0; h * w * pipeline.channels()];
        pipeline.read(&path, Key { seed: 1, epoch: 2, sample: 3 }, &mut out).unwrap();
        out
    }

    #[test]
    fn grey_is_pil_s_and_normalised_by_the_mean_statistics() {
        let picture = picture();
        let found =
            values("channels(1) | center_crop(16) | normalize(0.1, 0.2, 0.6; 0.2, 0.3, 0.1)", &picture);
        assert_eq!(found.len(), 256);
        for (i, v) in found.iter().enumerate() {
            let Rgba([r, g, b, _]) = *picture.get_pixel(2 + i as u32 % 16, i as u32 / 16);
            let grey = f64::from(r) * 0.299 + f64::from(g) * 0.587 + f64::from(b) * 0.114;
            assert!((f64::from(*v) * 0.2 + 0.3 - grey / 255.0).abs() < 0.6 / 255.0, "{i}: {v}");
        }
    }

    #[test]
    fn opacity_moves_with_the_colours_and_keeps_its_values() {
        let ops =
            "random_resized_crop(12, bilinear, scale=0.3..0.8) | flip_lr(0.5) | color_jitter(0.4, 0.4, 0.4)";
        // A picture whose opacity is its own grey: wherever it is cut, the two agree as long as colours stay.
        let mut alike = picture();
        alike.pixels_mut().for_each(|p| *p = Rgba([p[3]; 4]));
        let still = ops.replace(" | color_jitter(0.4, 0.4, 0.4)", "");
        for pixel in values(&format!("channels(4) | {still}"), &alike).chunks_exact(4) {
            assert_eq!(pixel[0], pixel[3]);
        }
        let opacity = |found: Vec<f32>| found.chunks_exact(4).map(|p| p[3]).collect::<Vec<_>>();
        let (jittered, plain) = (
            values(&format!("channels(4) | {ops}"), &alike),
            values(&format!("channels(4) | {still}"), &alike),
        );
        assert_ne!(jittered, plain);
        assert_eq!(opacity(jittered), opacity(plain));
    }

    #[test]
    fn a_picture_without_opacity_is_opaque() {
        let rgb = RgbImage::from_pixel(8, 8, Rgb([10, 20, 30]));
        let mut out = vec![0.0; 8 * 8 * 4];
        let pipeline: Pipeline = "channels(4) | center_crop(8)".parse().unwrap();
        pipeline.apply(&rgb, Key::default(), &mut out);
        assert!(out.chunks_exact(4).all(|p| p[3] == 1.0 && (p[0] - 10.0 / 255.0).abs() < 1e-7));
    }

    #[test]
    fn impossible_channels_are_refused() {
        for (text, says) in [
            ("channels(2) | center_crop(8)", "1, 3 or 4"),
            ("center_crop(8) | channels(1)", "not the first"),
            ("channels(4) | center_crop(8) | rand_augment(2, 9)", "three colours"),
        ] {
            let error = text.parse::<Pipeline>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
