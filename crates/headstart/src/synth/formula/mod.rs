//! Pictures drawn by formulas, to pretrain a backbone without a single photo.
//!
//! A class is a formula with fixed parameters, drawn once from the class number; a picture of it
//! varies pose, size, colours, background, light, blur and (a little) the parameters. So the class
//! is in the shape or the texture and never in the colour. Five families follow published work and
//! plain texture synthesis:
//!
//! | classes | family | after |
//! |---|---|---|
//! | 0–127 | [`ifs`]: fractals of random affine maps | FractalDB (Kataoka et al. 2020) |
//! | 128–223 | [`contour`]: concentric radial curves | RCDB, VisualAtom (Kataoka 2022, Takashima 2023) |
//! | 224–399 | [`texture`]: waves, stripes, tilings, cells, warped noise | |

pub mod contour;
pub mod ifs;
pub mod texture;

use std::sync::OnceLock;

use image::RgbImage;

use self::contour::Contour;
use self::ifs::Ifs;
use self::texture::Texture;
use super::canvas::{Canvas, Point};
use super::colour::{Colour, hsv, luma, mix, smoothstep};
use super::noise;
use crate::rng::Rng;

/// How many classes [`formula_picture`] can draw.
pub const FORMULA_CLASSES: usize = FRACTALS + CONTOURS + texture::CLASSES;

const FRACTALS: usize = 128;
const CONTOURS: usize = 96;

/// Changes every class at once; part of what a pretrained backbone was trained on.
const EDITION: u64 = 1;

enum Formula {
    Fractal(Ifs),
    Contour(Contour),
    Texture(Texture),
}

/// Draws picture `seed` of a class, `size` × `size` pixels. The same arguments give the same picture.
///
/// Panics if `class` is not below [`FORMULA_CLASSES`] or `size` is 0.
///
/// ```
/// use headstart::synth::formula_picture;
///
/// assert_eq!(formula_picture(7, 1, 64), formula_picture(7, 1, 64));
/// ```
pub fn formula_picture(class: usize, seed: u64, size: u32) -> RgbImage {
    assert!(class < FORMULA_CLASSES, "class {class} of {FORMULA_CLASSES}");
    assert!(size > 0, "a picture needs at least one pixel");
    let rng = &mut Rng::keyed(&[EDITION, class as u64, seed]);
    let mut canvas = match &formulas()[class] {
        Formula::Fractal(ifs) => {
            let mut canvas = backdrop(size as usize, rng);
            ifs.draw(&mut canvas, rng);
            canvas
        }
        Formula::Contour(contour) => {
            let mut canvas = backdrop(size as usize, rng);
            contour.draw(&mut canvas, rng);
            canvas
        }
        Formula::Texture(texture) => {
            let mut canvas = texture.draw(size as usize, rng);
            if rng.chance(0.3) {
                cut_out(&mut canvas, rng);
            }
            canvas
        }
    };
    photograph(&mut canvas, rng);
    canvas.to_rgb()
}

/// All classes, made on first use (a few milliseconds, most of it finding good fractals).
fn formulas() -> &'static [Formula] {
    static ALL: OnceLock<Vec<Formula>> = OnceLock::new();
    ALL.get_or_init(|| {
        let key = |class: usize| Rng::keyed(&[EDITION, 0xC1A5, class as u64]);
        let fractals = (0..FRACTALS).map(|i| Formula::Fractal(Ifs::new(i, &mut key(i))));
        let contours = (0..CONTOURS).map(|i| Formula::Contour(Contour::new(i, &mut key(FRACTALS + i))));
        let textures = (0..texture::CLASSES)
            .map(|i| Formula::Texture(Texture::new(i, &mut key(FRACTALS + CONTOURS + i))));
        fractals.chain(contours).chain(textures).collect()
    })
}

/// Where the formula's plane lies in the picture: `uv = matrix · (pixel − centre)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pose {
    matrix: [f32; 4],
    centre: Point,
}

impl Pose {
    /// Turns any way, stretches by up to `stretch` one way, and shows ±`extent` across `size`
    /// pixels, off centre by up to `wander` of the size.
    pub(crate) fn random(size: usize, extent: f32, stretch: f32, wander: f32, rng: &mut Rng) -> Self {
        let (size, half) = (size as f32, size as f32 * 0.5);
        let (sin, cos) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
        let (sin2, cos2) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
        let s = rng.log_range(1.0, stretch).sqrt();
        let k = extent / half;
        // Turn, stretch along the new axes, turn again.
        let (a, b, c, d) = (k * s * cos, k * s * sin, -k / s * sin, k / s * cos);
        let matrix = [cos2 * a - sin2 * c, cos2 * b - sin2 * d, sin2 * a + cos2 * c, sin2 * b + cos2 * d];
        let mut shift = || half + rng.range(-wander, wander) * size;
        Pose { matrix, centre: [shift(), shift()] }
    }

    /// Plane coordinates of a pixel.
    #[inline]
    pub(crate) fn uv(&self, x: f32, y: f32) -> Point {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        [self.matrix[0] * dx + self.matrix[1] * dy, self.matrix[2] * dx + self.matrix[3] * dy]
    }

    /// Pixel of plane coordinates, as the matrix and shift of the inverse map.
    pub(crate) fn inverse(&self) -> ([f32; 4], Point) {
        let [a, b, c, d] = self.matrix;
        let det = a * d - b * c;
        ([d / det, -b / det, -c / det, a / det], self.centre)
    }

    /// How much of the plane one pixel spans.
    pub(crate) fn pixel(&self) -> f32 {
        let [a, b, c, d] = self.matrix;
        (a * d - b * c).abs().sqrt()
    }
}

/// A run of 64 colours through two to four random ones.
pub(crate) struct Palette([Colour; 64]);

impl Palette {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut stops: Vec<Colour> = vec![any_colour(rng)];
        for _ in 0..rng.between(1, 3) {
            let last = stops[stops.len() - 1];
            // Neighbours must differ in brightness, or the formula could not be seen.
            let next = (0..8).map(|_| any_colour(rng)).max_by(|a, b| {
                let apart = |c: &Colour| (luma(*c) - luma(last)).abs().min(0.4);
                apart(a).total_cmp(&apart(b))
            });
            stops.extend(next);
        }
        let spans = (stops.len() - 1) as f32;
        Palette(std::array::from_fn(|i| {
            let t = i as f32 / 63.0 * spans;
            let from = (t as usize).min(stops.len() - 2);
            mix(stops[from], stops[from + 1], t - from as f32)
        }))
    }

    /// The colour at `t` in 0..1.
    #[inline]
    pub(crate) fn at(&self, t: f32) -> Colour {
        self.0[((t * 63.0 + 0.5) as usize).min(63)]
    }
}

fn any_colour(rng: &mut Rng) -> Colour {
    let saturation = rng.unit();
    hsv(rng.unit(), saturation * saturation.sqrt(), 1.0 - 0.95 * rng.unit() * rng.unit().sqrt())
}

/// Returns sin(2πt) to about 0.001, without a library call.
#[inline]
pub(crate) fn wave(t: f32) -> f32 {
    // Adding and taking away 1.5 · 2²³ rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let t = t - ((t + ROUND) - ROUND);
    let y = t * (8.0 - 16.0 * t.abs());
    y * (0.775 + 0.225 * y.abs())
}

/// What lies behind a shape: flat, a gradient, soft noise or stripes.
fn backdrop(size: usize, rng: &mut Rng) -> Canvas {
    let palette = Palette::random(rng);
    let from = rng.range(0.0, 0.6);
    let span = rng.range(0.1, 0.4);
    let pose = Pose::random(size, 1.0, 2.0, 0.2, rng);
    let seed = rng.bits() as u32;
    let kind = rng.unit();
    if kind < 0.25 {
        let flat = palette.at(from);
        return Canvas::square(size, |_, _| flat);
    }
    let frequency = rng.log_range(1.2, 6.0);
    Canvas::square(size, |x, y| {
        let [u, v] = pose.uv(x, y);
        let t = match kind {
            k if k < 0.5 => (u * 0.5 + 0.5).clamp(0.0, 1.0),
            k if k < 0.85 => noise::fbm(u * frequency, v * frequency, 2, seed),
            _ => 0.5 + 0.5 * wave(u * frequency),
        };
        palette.at(from + span * t)
    })
}

/// Keeps the texture inside a random blob only; outside becomes a backdrop.
fn cut_out(canvas: &mut Canvas, rng: &mut Rng) {
    let outside = backdrop(canvas.width, rng);
    let pose = Pose::random(canvas.width, 1.0, 1.5, 0.1, rng);
    let (lobes, phase, depth) = (rng.between(2, 5) as f32, rng.unit(), rng.range(0.0, 0.3));
    let radius = rng.range(0.65, 0.95);
    let edge = 1.5 * pose.pixel();
    let width = canvas.width;
    for (i, (pixel, behind)) in canvas.pixels.iter_mut().zip(&outside.pixels).enumerate() {
        let [u, v] = pose.uv((i % width) as f32 + 0.5, (i / width) as f32 + 0.5);
        let bound = radius * (1.0 + depth * wave(lobes * contour::turns(u, v) + phase));
        let r = (u * u + v * v).sqrt();
        if r > bound - edge {
            *pixel = mix(*pixel, *behind, smoothstep(bound - edge, bound + edge, r));
        }
    }
}

/// Uneven light, a tint, focus and grain.
fn photograph(canvas: &mut Canvas, rng: &mut Rng) {
    let size = canvas.width as f32;
    if rng.chance(0.3) {
        canvas.blur(rng.range(0.3, 1.1) * size / 80.0);
    }
    if rng.chance(0.6) {
        let (sin, cos) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
        let fall = rng.range(0.1, 0.6) / size;
        let tint = hsv(rng.unit(), rng.range(0.0, 0.15), 1.0);
        canvas.map(|c, x, y| {
            let light = 1.0 + fall * (cos * (x - 0.5 * size) + sin * (y - 0.5 * size));
            [c[0] * light * tint[0], c[1] * light * tint[1], c[2] * light * tint[2]]
        });
    }
    if rng.chance(0.3) {
        let strength = rng.range(0.01, 0.05);
        canvas.grain(strength, rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_draws_something() {
        for class in 0..FORMULA_CLASSES {
            let picture = formula_picture(class, 5, 32);
            let grey: Vec<f32> = picture.pixels().map(|p| p.0.iter().map(|&v| v as f32).sum()).collect();
            let mean = grey.iter().sum::<f32>() / grey.len() as f32;
            let spread = grey.iter().map(|g| (g - mean).powi(2)).sum::<f32>() / grey.len() as f32;
            assert!(spread.sqrt() > 4.0, "class {class} is flat");
        }
    }

    #[test]
    fn class_and_seed_decide_the_picture() {
        assert_ne!(formula_picture(300, 1, 32), formula_picture(300, 2, 32));
        assert_ne!(formula_picture(3, 1, 32), formula_picture(4, 1, 32));
    }

    #[test]
    fn a_pose_and_its_inverse_cancel() {
        let pose = Pose::random(64, 1.0, 2.0, 0.2, &mut Rng::keyed(&[1]));
        let (m, c) = pose.inverse();
        let [u, v] = pose.uv(10.0, 50.0);
        let back = [m[0] * u + m[1] * v + c[0], m[2] * u + m[3] * v + c[1]];
        assert!((back[0] - 10.0).abs() < 1e-3 && (back[1] - 50.0).abs() < 1e-3, "{back:?}");
    }

    #[test]
    fn the_fast_wave_is_a_sine() {
        for i in -400..400 {
            let t = i as f32 * 0.0137;
            assert!((wave(t) - (std::f32::consts::TAU * t).sin()).abs() < 2e-3, "{t}");
        }
    }
}
