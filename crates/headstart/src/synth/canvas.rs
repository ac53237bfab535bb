//! A picture being drawn: antialiased outlines, soft shadows, blur, light.
//!
//! Outlines are closed polygons in pixels. Coverage is exact (signed area per pixel, summed along
//! the row, as font rasterizers do it), so nothing is supersampled and a thin petal costs little.

use image::{Rgb, RgbImage};

use super::colour::Colour;
use crate::rng::Rng;

/// A place in the picture, in pixels from the upper left corner.
pub type Point = [f32; 2];

/// A colour picture in floating point.
#[derive(Debug, Clone)]
pub struct Canvas {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Colours, row by row.
    pub pixels: Vec<Colour>,
}

/// How much of each pixel of a rectangle an outline covers, 0..1.
#[derive(Debug, Clone)]
pub struct Mask {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    cover: Vec<f32>,
}

impl Canvas {
    /// Makes a canvas of one colour.
    pub fn new(width: usize, height: usize, colour: Colour) -> Self {
        Canvas { width, height, pixels: vec![colour; width * height] }
    }

    /// Makes a square canvas whose pixels are `paint(x, y)`, taken at their centres.
    pub fn square(size: usize, mut paint: impl FnMut(f32, f32) -> Colour) -> Self {
        let mut canvas = Canvas::new(size, size, [0.0; 3]);
        for (i, pixel) in canvas.pixels.iter_mut().enumerate() {
            *pixel = paint((i % size) as f32 + 0.5, (i / size) as f32 + 0.5);
        }
        canvas
    }

    /// Measures what `outline` covers, in its bounding box grown by `margin` pixels; `None` if
    /// that is outside the picture.
    pub fn mask(&self, outline: &[Point], margin: usize) -> Option<Mask> {
        let low = |axis: usize| outline.iter().map(|p| p[axis]).fold(f32::MAX, f32::min) - margin as f32;
        let high = |axis: usize| outline.iter().map(|p| p[axis]).fold(f32::MIN, f32::max) + margin as f32;
        let clip = |v: f32, limit: usize| (v.max(0.0) as usize).min(limit);
        let (left, top) = (clip(low(0).floor(), self.width), clip(low(1).floor(), self.height));
        let (right, bottom) = (clip(high(0).ceil(), self.width), clip(high(1).ceil(), self.height));
        if left >= right || top >= bottom {
            return None;
        }
        let (width, height) = (right - left, bottom - top);
        let mut cover = Edges::new(width, height);
        let shifted = |p: &Point| [p[0] - left as f32, p[1] - top as f32];
        for (i, p) in outline.iter().enumerate() {
            cover.line(shifted(p), shifted(&outline[(i + 1) % outline.len()]));
        }
        Some(Mask { left, top, width, height, cover: cover.sum() })
    }

    /// Fills `outline`; `paint(x, y)` gives colour and opacity at pixel centres.
    pub fn fill(&mut self, outline: &[Point], mut paint: impl FnMut(f32, f32) -> (Colour, f32)) {
        let Some(mask) = self.mask(outline, 0) else { return };
        self.each_covered(&mask, |pixel, cover, x, y| {
            let (colour, opacity) = paint(x, y);
            let a = cover * opacity;
            for c in 0..3 {
                pixel[c] += (colour[c] - pixel[c]) * a;
            }
        });
    }

    /// Darkens what lies under the soft shadow of `outline`, moved by `shift` and blurred by `softness` pixels.
    pub fn shadow(&mut self, outline: &[Point], shift: Point, softness: f32, strength: f32) {
        let moved: Vec<Point> = outline.iter().map(|p| [p[0] + shift[0], p[1] + shift[1]]).collect();
        let radius = softness.round().max(0.0) as usize;
        let Some(mut mask) = self.mask(&moved, 2 * radius) else { return };
        mask.blur(radius);
        self.each_covered(&mask, |pixel, cover, _, _| {
            *pixel = pixel.map(|v| v * (1.0 - strength * cover));
        });
    }

    fn each_covered(&mut self, mask: &Mask, mut touch: impl FnMut(&mut Colour, f32, f32, f32)) {
        for (row, cover) in mask.cover.chunks_exact(mask.width).enumerate() {
            let y = mask.top + row;
            let line = &mut self.pixels[y * self.width + mask.left..][..mask.width];
            for (i, (pixel, &cover)) in line.iter_mut().zip(cover).enumerate() {
                // Rounding leaves dust of about 1e-7 outside the outline.
                if cover > 1e-4 {
                    touch(pixel, cover, (mask.left + i) as f32 + 0.5, y as f32 + 0.5);
                }
            }
        }
    }

    /// Changes every pixel, given its place.
    pub fn map(&mut self, mut change: impl FnMut(Colour, f32, f32) -> Colour) {
        let width = self.width;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            *pixel = change(*pixel, (i % width) as f32 + 0.5, (i / width) as f32 + 0.5);
        }
    }

    /// Blurs with a Gaussian of deviation `sigma` pixels; borders repeat.
    pub fn blur(&mut self, sigma: f32) {
        if sigma < 0.15 {
            return;
        }
        let kernel = gaussian(sigma);
        let (width, height) = (self.width, self.height);
        let reach = kernel.len() / 2;
        let mut across = vec![[0.0f32; 3]; width * height];
        // Rows go through a padded copy so that the inner loop has no bounds to clamp.
        let mut padded = vec![[0.0f32; 3]; width + 2 * reach];
        for (line, out) in self.pixels.chunks_exact(width).zip(across.chunks_exact_mut(width)) {
            padded[..reach].fill(line[0]);
            padded[reach..reach + width].copy_from_slice(line);
            padded[reach + width..].fill(line[width - 1]);
            for (k, weight) in kernel.iter().enumerate() {
                add_scaled(out.as_flattened_mut(), padded[k..k + width].as_flattened(), *weight);
            }
        }
        for (y, out) in self.pixels.chunks_exact_mut(width).enumerate() {
            out.fill([0.0; 3]);
            for (k, weight) in kernel.iter().enumerate() {
                let source = (y + k).saturating_sub(reach).min(height - 1);
                add_scaled(out.as_flattened_mut(), across[source * width..][..width].as_flattened(), *weight);
            }
        }
    }

    /// Adds camera noise of deviation `strength`, mostly the same in all channels.
    pub fn grain(&mut self, strength: f32, rng: &mut Rng) {
        for pixel in &mut self.pixels {
            let grey = rng.bell() * 0.8;
            let bits = rng.bits();
            for (c, v) in pixel.iter_mut().enumerate() {
                let tint = (bits >> (16 * c) & 0xFFFF) as f32 / 32768.0 - 1.0;
                *v += strength * (grey + tint);
            }
        }
    }

    /// Rounds to eight bits.
    pub fn to_rgb(&self) -> RgbImage {
        let mut image = RgbImage::new(self.width as u32, self.height as u32);
        for (Rgb(out), pixel) in image.pixels_mut().zip(&self.pixels) {
            *out = pixel.map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
        }
        image
    }
}

#[inline]
fn add_scaled(out: &mut [f32], source: &[f32], weight: f32) {
    for (o, s) in out.iter_mut().zip(source) {
        *o += s * weight;
    }
}

fn gaussian(sigma: f32) -> Vec<f32> {
    let reach = (2.5 * sigma).ceil() as i32;
    let raw: Vec<f32> = (-reach..=reach).map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp()).collect();
    let total: f32 = raw.iter().sum();
    raw.iter().map(|w| w / total).collect()
}

impl Mask {
    /// Blurs with two boxes of `radius`, each way; outside counts as uncovered.
    fn blur(&mut self, radius: usize) {
        if radius == 0 {
            return;
        }
        let (width, height) = (self.width, self.height);
        let mut line = Vec::new();
        for _ in 0..2 {
            for y in 0..height {
                box_blur(&mut self.cover, y * width, 1, width, radius, &mut line);
            }
            for x in 0..width {
                box_blur(&mut self.cover, x, width, height, radius, &mut line);
            }
        }
    }
}

fn box_blur(data: &mut [f32], start: usize, step: usize, count: usize, radius: usize, line: &mut Vec<f32>) {
    line.clear();
    line.extend((0..count).map(|i| data[start + i * step]));
    let mut sum: f32 = line[..radius.min(count)].iter().sum();
    for i in 0..count {
        sum += line.get(i + radius).unwrap_or(&0.0);
        data[start + i * step] = sum / (2 * radius + 1) as f32;
        if i >= radius {
            sum -= line[i - radius];
        }
    }
}

/// Signed area left behind by the edges of an outline, pixel by pixel.
struct Edges {
    width: usize,
    height: usize,
    /// `width + 2` a row: an edge at the right border writes two cells on.
    area: Vec<f32>,
}

impl Edges {
    fn new(width: usize, height: usize) -> Self {
        Edges { width, height, area: vec![0.0; (width + 2) * height] }
    }

    fn line(&mut self, from: Point, to: Point) {
        if from[1] == to[1] {
            return;
        }
        let (sign, from, to) = if from[1] < to[1] { (1.0, from, to) } else { (-1.0, to, from) };
        let slope = (to[0] - from[0]) / (to[1] - from[1]);
        let first = from[1].max(0.0) as usize;
        let last = (to[1].ceil().max(0.0) as usize).min(self.height);
        for y in first..last {
            let (enter, leave) = (from[1].max(y as f32), to[1].min((y + 1) as f32));
            let at = |y: f32| (from[0] + (y - from[1]) * slope).clamp(0.0, self.width as f32);
            let (a, b) = (at(enter), at(leave));
            self.span(y, a.min(b), a.max(b), sign * (leave - enter));
        }
    }

    /// Spreads `height` of an edge that runs from `x0` to `x1` within row `y`.
    fn span(&mut self, y: usize, x0: f32, x1: f32, height: f32) {
        let row = &mut self.area[y * (self.width + 2)..][..self.width + 2];
        let (first, last) = (x0.floor() as usize, x1.ceil() as usize);
        if last <= first + 1 {
            let right = 0.5 * (x0 + x1) - first as f32;
            row[first] += height * (1.0 - right);
            row[first + 1] += height * right;
            return;
        }
        // Cover is the running sum: each cell gets how much more is covered than in the one before.
        let per_px = height / (x1 - x0);
        let covered = |x: f32| (x - x0).clamp(0.0, x1 - x0);
        // Area right of the edge within cell `x`, as the integral of what is covered so far.
        let integral = |x: f32| 0.5 * covered(x) * covered(x) + (x - x1).max(0.0) * (x1 - x0);
        let mut before = 0.0;
        for (cell, out) in row.iter_mut().enumerate().take(last + 1).skip(first) {
            let area = per_px * (integral((cell + 1) as f32) - integral(cell as f32));
            *out += area - before;
            before = area;
        }
    }

    fn sum(&self) -> Vec<f32> {
        let mut cover = Vec::with_capacity(self.width * self.height);
        for row in self.area.chunks_exact(self.width + 2) {
            let mut sum = 0.0f32;
            cover.extend(row[..self.width].iter().map(|a| {
                sum += a;
                sum.abs().min(1.0)
            }));
        }
        cover
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(outline: &[Point]) -> f32 {
        let canvas = Canvas::square(10, |_, _| [0.0; 3]);
        canvas.mask(outline, 0).map_or(0.0, |m| m.cover.iter().sum())
    }

    #[test]
    fn coverage_is_the_area() {
        let rectangle = [[1.25, 2.5], [4.75, 2.5], [4.75, 6.0], [1.25, 6.0]];
        assert!((cover(&rectangle) - 3.5 * 3.5).abs() < 1e-4);
        let triangle = [[0.5, 0.5], [9.5, 1.0], [3.0, 9.0]];
        assert!((cover(&triangle) - 37.625).abs() < 1e-3, "{}", cover(&triangle));
        let flat = [[0.0, 5.0], [10.0, 5.2], [10.0, 5.4]];
        assert!((cover(&flat) - 1.0).abs() < 1e-4);
    }

    #[test]
    fn what_sticks_out_is_cut_off() {
        let big = [[-5.0, -5.0], [15.0, -5.0], [15.0, 15.0], [-5.0, 15.0]];
        assert!((cover(&big) - 100.0).abs() < 1e-3);
        let outside = [[20.0, 20.0], [30.0, 20.0], [25.0, 30.0]];
        assert_eq!(cover(&outside), 0.0);
    }

    #[test]
    fn blur_keeps_the_mean_of_a_flat_picture() {
        let mut canvas = Canvas::square(9, |_, _| [0.25, 0.5, 0.75]);
        canvas.blur(1.3);
        assert!(canvas.pixels.iter().all(|p| (p[1] - 0.5).abs() < 1e-5));
    }
}
