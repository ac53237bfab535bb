//! Perceptual hashes: equal or nearly equal for the same picture in another size or encoding.
//!
//! The hash is the DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010):
//! the signs of 64 low frequencies about their median. It finds candidates; [`Look::same`] then compares the small grey
//! pictures themselves, because scenes of one layout (solar cells, characters on paper) have near hashes too.

use std::sync::OnceLock;

use ::image::RgbImage;

/// Side of the small picture.
const SIDE: usize = 32;

/// A picture seen from far away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// One bit a frequency.
    pub hash: u64,
    /// Grey levels, 32 × 32, the picture squeezed to a square.
    pub grey: Box<[u8; SIDE * SIDE]>,
}

/// Correlation of two small pictures from which on they count as one.
const SAME_CORRELATION: f64 = 0.99;
/// Mean difference in grey levels up to which they count as one.
const SAME_DIFFERENCE: f64 = 8.0;

impl Look {
    /// Looks at a picture.
    pub fn of(picture: &RgbImage) -> Self {
        let grey = shrink(picture);
        Self { hash: hash(&grey), grey }
    }

    /// Counts the bits in which two hashes differ.
    pub fn distance(&self, other: &Self) -> u32 {
        (self.hash ^ other.hash).count_ones()
    }

    /// Tells whether both show the same picture: alike pixel by pixel, not in layout alone.
    pub fn same(&self, other: &Self) -> bool {
        let n = (SIDE * SIDE) as f64;
        let mean = |g: &[u8; SIDE * SIDE]| g.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let (a, b) = (mean(&self.grey), mean(&other.grey));
        let (mut ab, mut aa, mut bb, mut off) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in self.grey.iter().zip(other.grey.iter()) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            off += (x - y).abs() / n;
            ab += (x - a) * (y - b);
            aa += (x - a).powi(2);
            bb += (y - b).powi(2);
        }
        // Two blank pages: nothing to correlate, the level decides. A deviation of one grey level is noise.
        let blank = aa.max(bb) <= n;
        off <= SAME_DIFFERENCE && (blank && off <= 1.0 || ab >= SAME_CORRELATION * (aa * bb).sqrt() && !blank)
    }
}

/// Averages the luma over the cells of a 32 × 32 grid, pixels at a border by the share inside.
fn shrink(picture: &RgbImage) -> Box<[u8; SIDE * SIDE]> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let columns: [Cell; SIDE] = std::array::from_fn(|i| Cell::new(i, width));
    let mut line = vec![0.0; width];
    let lines: Vec<[f32; SIDE]> = (picture.as_raw().chunks_exact(width * 3))
        .map(|row| {
            // ITU-R 601 luma in 1/256.
            let luma =
                |p: &[u8]| (77 * u32::from(p[0]) + 150 * u32::from(p[1]) + 29 * u32::from(p[2])) as f32;
            line.iter_mut().zip(row.chunks_exact(3)).for_each(|(l, p)| *l = luma(p) / 256.0);
            std::array::from_fn(|i| columns[i].mean(|x| line[x]))
        })
        .collect();
    let mut grey = Box::new([0; SIDE * SIDE]);
    for (i, row) in grey.chunks_exact_mut(SIDE).enumerate() {
        let cell = Cell::new(i, height);
        row.iter_mut().enumerate().for_each(|(j, g)| *g = (cell.mean(|y| lines[y][j]) + 0.5) as u8);
    }
    grey
}

/// One of 32 equal stretches of `length` pixels: the whole pixels inside and the shares of those at its ends.
struct Cell {
    from: usize,
    to: usize,
    first: f32,
    last: f32,
}

impl Cell {
    fn new(i: usize, length: usize) -> Self {
        // In 1/32 of a pixel everything is a whole number.
        let (start, end) = (i * length, (i + 1) * length);
        let (from, to) = (start / SIDE, end.div_ceil(SIDE));
        let inside = |x: usize| (end.min((x + 1) * SIDE) - start.max(x * SIDE)) as f32 / SIDE as f32;
        Self { from, to, first: inside(from), last: inside(to - 1) }
    }

    fn mean(&self, value: impl Fn(usize) -> f32) -> f32 {
        let inner = (self.from + 1..self.to - 1).map(&value).sum::<f32>();
        let mut sum = self.first * value(self.from) + inner;
        let mut weight = self.first + self.to.saturating_sub(self.from + 2) as f32;
        if self.to - 1 > self.from {
            sum += self.last * value(self.to - 1);
            weight += self.last;
        }
        sum / weight
    }
}

/// Takes the frequencies 1..=8 both ways; frequency 0 is brightness, which says nothing about the scene.
fn hash(grey: &[u8; SIDE * SIDE]) -> u64 {
    static COSINES: OnceLock<[[f32; SIDE]; 8]> = OnceLock::new();
    let cosines = COSINES.get_or_init(|| {
        std::array::from_fn(|u| {
            std::array::from_fn(|x| {
                ((2 * x + 1) as f32 * (u + 1) as f32 * std::f32::consts::PI / (2 * SIDE) as f32).cos()
            })
        })
    });
    let mut rows = [[0.0_f32; 8]; SIDE];
    for (row, line) in rows.iter_mut().zip(grey.chunks_exact(SIDE)) {
        for (out, cosine) in row.iter_mut().zip(cosines) {
            *out = line.iter().zip(cosine).map(|(g, c)| f32::from(*g) * c).sum();
        }
    }
    let mut values = [0.0_f32; 64];
    for (v, cosine) in cosines.iter().enumerate() {
        for u in 0..8 {
            values[v * 8 + u] = rows.iter().zip(cosine).map(|(row, c)| row[u] * c).sum();
        }
    }
    let mut sorted = values;
    sorted.sort_by(f32::total_cmp);
    let median = 0.5 * (sorted[31] + sorted[32]);
    values.iter().enumerate().fold(0, |bits, (i, v)| bits | u64::from(*v > median) << i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::decode_bytes;
    use crate::rng::Rng;
    use ::image::codecs::jpeg::JpegEncoder;
    use ::image::imageops::{FilterType, resize};
    use proptest::prelude::*;

    /// Soft random blobs: something like a scene.
    fn scene(seed: u64, width: u32, height: u32) -> RgbImage {
        let mut rng = Rng::keyed(&[seed]);
        let blobs: Vec<[f32; 6]> = (0..12).map(|_| std::array::from_fn(|_| rng.unit())).collect();
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            let mut colour = [60.0_f32; 3];
            for [cx, cy, size, r, g, b] in &blobs {
                let weight = (-((x - cx).powi(2) + (y - cy).powi(2)) / (0.01 + 0.03 * size)).exp();
                for (c, part) in colour.iter_mut().zip([r, g, b]) {
                    *c += 160.0 * weight * (part - 0.3);
                }
            }
            ::image::Rgb(colour.map(|c| c.clamp(0.0, 255.0) as u8))
        })
    }

    fn recoded(picture: &RgbImage, quality: u8) -> RgbImage {
        let mut bytes = Vec::new();
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).unwrap();
        decode_bytes(&bytes, "x.jpg").unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        // Of soft scenes: a copy below 60 pixels, or with coarser JPEG, may lose the faintest of the 64 frequencies.
        #[test]
        fn another_encoding_or_size_is_the_same_picture(
            seed: u64, width in 100_u32..400, height in 100_u32..400, scale in 0.6_f32..2.5, quality in 60_u8..96,
        ) {
            let picture = scene(seed, width, height);
            let look = Look::of(&picture);
            let to = |side: u32| ((side as f32 * scale) as u32).max(32);
            let copy = recoded(&resize(&picture, to(width), to(height), FilterType::Triangle), quality);
            let copy = Look::of(&copy);
            prop_assert!(look.distance(&copy) <= 8, "{} bits", look.distance(&copy));
            prop_assert!(look.same(&copy));
        }

        #[test]
        fn another_scene_is_not(a: u64, b: u64) {
            prop_assume!(a != b);
            let (a, b) = (Look::of(&scene(a, 96, 64)), Look::of(&scene(b, 96, 64)));
            prop_assert!(a.distance(&b) > 8 || !a.same(&b));
        }
    }

    #[test]
    fn cells_weigh_pixels_by_what_is_inside() {
        // 48 pixels: a cell is a pixel and a half.
        let (a, b) = (Cell::new(0, 48), Cell::new(1, 48));
        assert_eq!((a.from, a.to, a.first, a.last), (0, 2, 1.0, 0.5));
        assert_eq!((b.from, b.to, b.first, b.last), (1, 3, 0.5, 1.0));
        assert!((a.mean(|x| x as f32) - 1.0 / 3.0).abs() < 1e-6);
        let one = Cell::new(5, 3);
        assert_eq!((one.from, one.to, one.mean(|x| x as f32)), (0, 1, 0.0));
    }

    #[test]
    fn tiny_and_blank_pictures_have_a_look_too() {
        let blank = |v: u8| Look::of(&RgbImage::from_pixel(3, 1, ::image::Rgb([v; 3])));
        assert!(blank(200).same(&blank(200)) && !blank(200).same(&blank(90)));
        assert!(!blank(60).same(&Look::of(&scene(1, 40, 40))));
    }
}
