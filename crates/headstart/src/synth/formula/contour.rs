//! Contours: closed curves around a centre, repeated inwards, as lines, bands or solid shapes.
//!
//! RCDB repeats a jagged polygon, VisualAtom sums two sine waves on a circle. Both are a radius by
//! angle, so one table of radii serves both, and the distance of a pixel from the nearest curve
//! follows from the table and its slope: no outline is ever built.

use std::f32::consts::FRAC_PI_4;

use super::{Palette, Pose, wave};
use crate::rng::Rng;
use crate::synth::canvas::Canvas;
use crate::synth::colour::{Colour, mix, scale, smoothstep};
use crate::synth::noise;

/// How the repeated curve is inked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ink {
    Lines,
    Bands,
    Solid,
}

/// A radius by angle and how it repeats: one class.
#[derive(Debug, Clone)]
pub struct Contour {
    /// Waves on the circle: how many turns of each, and how deep.
    waves: [(usize, f32); 2],
    /// How far corners are pulled out: 0 is a smooth curve, 1 a polygon with as many corners as
    /// the first wave has turns.
    corners: f32,
    /// Random unevenness of the radius, of a frequency that belongs to the class.
    rough: (f32, f32),
    rings: usize,
    /// Turns by which the curve twists from the centre to the rim.
    twist: f32,
    ink: Ink,
}

const TABLE: usize = 256;

impl Contour {
    /// Makes contour class `index`: inks and wave numbers by turns, the rest drawn.
    pub fn new(index: usize, rng: &mut Rng) -> Self {
        let ink = [Ink::Lines, Ink::Bands, Ink::Solid][index % 3];
        let first = 2 + (index / 3) % 8;
        let second = first + rng.between(1, 17);
        let rings = match ink {
            Ink::Solid => 1,
            Ink::Bands => rng.between(2, 6),
            Ink::Lines => rng.between(1, 7),
        };
        Contour {
            waves: [(first, rng.range(0.12, 0.42)), (second, rng.range(0.0, 0.22))],
            corners: if rng.chance(0.4) { rng.range(0.5, 1.0) } else { 0.0 },
            rough: if rng.chance(0.35) {
                (rng.range(0.1, 0.35), rng.log_range(1.5, 9.0))
            } else {
                (0.0, 1.0)
            },
            rings,
            twist: if rng.chance(0.4) { rng.range(-0.3, 0.3) } else { 0.0 },
            ink,
        }
    }

    /// Radius and its slope (per radian, over the radius) at `TABLE` angles; the largest radius is 1.
    fn table(&self, rng: &mut Rng) -> Vec<[f32; 2]> {
        let waves = self.waves.map(|(turns, depth)| (turns as f32, depth * rng.range(0.85, 1.15)));
        let phase = rng.unit();
        let seed = rng.bits() as u32;
        let radius = |turn: f32| {
            let mut r = 1.0;
            let smooth = waves[0].1 * wave(waves[0].0 * turn);
            // The distance to a straight side between two corners, relative to the corner's.
            let side = 1.0 / waves[0].0.max(3.0);
            let within = (turn / side).rem_euclid(1.0) - 0.5;
            let polygon = (0.5 * side * std::f32::consts::TAU).cos()
                / (within * side * std::f32::consts::TAU).cos()
                - 1.0;
            r += smooth + self.corners * (polygon - smooth);
            r += waves[1].1 * wave(waves[1].0 * turn + phase);
            if self.rough.0 > 0.0 {
                let (s, c) = (turn * std::f32::consts::TAU).sin_cos();
                r += self.rough.0 * 2.0 * (noise::fbm(s * self.rough.1, c * self.rough.1, 2, seed) - 0.5);
            }
            r.max(0.12)
        };
        let radii: Vec<f32> = (0..TABLE).map(|i| radius(i as f32 / TABLE as f32)).collect();
        let largest = radii.iter().copied().fold(0.0, f32::max);
        (0..TABLE)
            .map(|i| {
                let (before, after) = (radii[(i + TABLE - 1) % TABLE], radii[(i + 1) % TABLE]);
                let slope = (after - before) * TABLE as f32 / (2.0 * std::f32::consts::TAU) / radii[i];
                [radii[i] / largest, slope]
            })
            .collect()
    }

    /// Draws one picture of the class over what is on the canvas.
    pub fn draw(&self, canvas: &mut Canvas, rng: &mut Rng) {
        let table = self.table(rng);
        let pose = Pose::random(canvas.width, rng.log_range(1.0, 1.8), 1.4, 0.1, rng);
        let pixel = pose.pixel();
        let palette = Palette::random(rng);
        let rings = self.rings as f32;
        let twist = self.twist * rng.range(0.8, 1.2);
        // In pixels at 64; at least one, or thin lines would flicker.
        let half_line = (rng.range(0.9, 2.4) * canvas.width as f32 / 64.0 * 0.5).max(0.5);
        let relief = if rng.chance(0.5) { rng.range(0.1, 0.45) } else { 0.0 };
        let (light_v, light_u) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
        let ink = |s: f32| -> Colour { palette.at(1.0 - 0.9 * s) };
        canvas.map(|behind, x, y| {
            let [u, v] = pose.uv(x, y);
            let r = (u * u + v * v).sqrt();
            if r > 1.1 {
                return behind;
            }
            let [radius, slope] = lookup(&table, turns(u, v) + twist * r);
            // 0 at the centre, 1 on the outermost curve.
            let level = r / radius;
            let per_px = pixel / radius * (1.0 + slope * slope).sqrt();
            let outside = smoothstep(-0.7, 0.7, (level - 1.0) / per_px);
            let lit = 1.0 + relief * (u * light_u + v * light_v) * level;
            match self.ink {
                Ink::Solid => mix(scale(ink(level.min(1.0)), lit), behind, outside),
                Ink::Bands => {
                    let band = (level * rings).min(rings - 0.001);
                    let edge = (band - band.floor()).min(1.0) / (per_px * rings);
                    let here = ink(((band as usize) % 2) as f32 * 0.8 + 0.2 * band / rings);
                    let inner = ink(((band as usize + 1) % 2) as f32 * 0.8 + 0.2 * band / rings);
                    let colour = if band < 1.0 { here } else { mix(inner, here, smoothstep(0.0, 1.0, edge)) };
                    mix(scale(colour, lit), behind, outside)
                }
                Ink::Lines => {
                    let ring = (level * rings + 0.5).floor().clamp(1.0, rings);
                    let away = (level - ring / rings).abs() / per_px;
                    let cover = 1.0 - smoothstep(half_line - 0.6, half_line + 0.6, away);
                    mix(behind, scale(ink(ring / rings), lit), cover)
                }
            }
        });
    }
}

#[inline]
fn lookup(table: &[[f32; 2]], turn: f32) -> [f32; 2] {
    let at = (turn + 4.0) * TABLE as f32;
    let (index, t) = (at as usize, at - (at as usize) as f32);
    let (a, b) = (table[index % TABLE], table[(index + 1) % TABLE]);
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t]
}

/// Returns the direction of (u, v) in turns, −0.5..0.5, to about 0.0003.
#[inline]
pub(crate) fn turns(u: f32, v: f32) -> f32 {
    let (small, large) = (u.abs().min(v.abs()), u.abs().max(v.abs()));
    let q = small / large.max(1e-9);
    // A cubic for atan on 0..1 (Rajan et al. 2006), in radians.
    let a = FRAC_PI_4 * q - q * (q - 1.0) * (0.2447 + 0.0663 * q);
    let a = a * (0.5 / std::f32::consts::PI);
    let a = if v.abs() > u.abs() { 0.25 - a } else { a };
    let a = if u < 0.0 { 0.5 - a } else { a };
    if v < 0.0 { -a } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_is_atan2() {
        for i in 0..360 {
            let (v, u) = (i as f32).to_radians().sin_cos();
            let exact = v.atan2(u) / std::f32::consts::TAU;
            let off = (turns(u, v) - exact).abs();
            assert!(off.min(1.0 - off) < 5e-4, "{i} degrees");
        }
    }

    #[test]
    fn radii_reach_one_and_stay_positive() {
        for index in 0..48 {
            let mut rng = Rng::keyed(&[5, index]);
            let contour = Contour::new(index as usize, &mut rng);
            let table = contour.table(&mut rng);
            let largest = table.iter().map(|r| r[0]).fold(0.0, f32::max);
            assert!((largest - 1.0).abs() < 1e-6);
            assert!(table.iter().all(|r| r[0] > 0.02 && r[1].is_finite()));
        }
    }
}
