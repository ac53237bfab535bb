//! Fractals: the points that a few random affine maps send to each other (iterated function systems).
//!
//! FractalDB draws coefficients uniformly and throws most systems away; here singular values are
//! drawn instead, with their sum held where fractals look rich (Anderson & Farrell, "Improving
//! Fractal Pre-training", WACV 2022). Colour follows the maps a point went through, as in fractal
//! flames, so parts of the shape differ in colour but the colours themselves mean nothing.

use super::{Palette, Pose};
use crate::rng::Rng;
use crate::synth::canvas::Canvas;
use crate::synth::colour::{mix, scale};

/// One affine map: `x' = a·x + b·y + e`, `y' = c·x + d·y + f`.
#[derive(Debug, Clone, Copy)]
struct Affine {
    matrix: [f32; 4],
    shift: [f32; 2],
}

/// A system of maps whose attractor is one class.
#[derive(Debug, Clone)]
pub struct Ifs {
    maps: Vec<Affine>,
    /// Which map each of 256 equally likely bytes picks: maps that shrink less are picked more.
    pick: Box<[u8; 256]>,
    centre: [f32; 2],
    radius: f32,
}

/// Points that run side by side: the maps' latency, not their arithmetic, limits one alone.
const LANES: usize = 8;

impl Ifs {
    /// Finds the system of fractal class `index`: two to five maps, by turns.
    pub fn new(index: usize, rng: &mut Rng) -> Self {
        let count = 2 + index % 4;
        // A good one takes about three tries; the last one stands in the unlikely case of none.
        let mut best = (0, None);
        for _ in 0..60 {
            let mut ifs = Ifs::random(count, rng);
            let filled = ifs.frame();
            if filled > best.0 || best.1.is_none() {
                best = (filled, Some(ifs));
            }
            // Of the 32 × 32 cells the attractor's circle covers about 800.
            if best.0 > 230 {
                break;
            }
        }
        best.1.expect("sixty systems were tried")
    }

    fn random(count: usize, rng: &mut Rng) -> Self {
        let n = count as f32;
        // Their rule: Σ (σ₁ + 2σ₂) lies between (5 + N)/2 and (6 + N)/2.
        let target = rng.range(0.5 * (5.0 + n), 0.5 * (6.0 + n));
        let values = loop {
            let raw: Vec<[f32; 2]> = (0..count)
                .map(|_| {
                    let large = rng.range(0.3, 1.0);
                    [large, large * rng.range(0.15, 1.0)]
                })
                .collect();
            let sum: f32 = raw.iter().map(|[a, b]| a + 2.0 * b).sum();
            let fit: Vec<[f32; 2]> = raw.iter().map(|v| v.map(|s| s * target / sum)).collect();
            if fit.iter().all(|[large, _]| *large < 0.97) {
                break fit;
            }
        };
        let maps: Vec<Affine> = values
            .into_iter()
            .map(|[large, small]| {
                let (s1, c1) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
                let (s2, c2) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
                let (large, small) = (large * rng.sign(), small * rng.sign());
                let matrix = [
                    c1 * large * c2 - s1 * small * s2,
                    -c1 * large * s2 - s1 * small * c2,
                    s1 * large * c2 + c1 * small * s2,
                    -s1 * large * s2 + c1 * small * c2,
                ];
                Affine { matrix, shift: [rng.range(-1.0, 1.0), rng.range(-1.0, 1.0)] }
            })
            .collect();
        let areas: Vec<f32> = maps.iter().map(|m| determinant(m).abs().max(0.02)).collect();
        let total: f32 = areas.iter().sum();
        let (mut map, mut upto) = (0, areas[0]);
        let pick = std::array::from_fn(|byte| {
            while map + 1 < count && (byte as f32 + 0.5) / 256.0 > upto / total {
                map += 1;
                upto += areas[map];
            }
            map as u8
        });
        Ifs { maps, pick: Box::new(pick), centre: [0.0; 2], radius: 1.0 }
    }

    /// Measures where the attractor is, and returns how many cells of a 32 × 32 grid it reaches.
    fn frame(&mut self) -> usize {
        let mut points = Vec::with_capacity(3200);
        self.walk(&self.maps, 3200, &mut Rng::keyed(&[0xF4A3E]), |p, _| points.push(p));
        if points.iter().flatten().any(|v| !v.is_finite() || v.abs() > 1e3) {
            return 0;
        }
        let centre = [0, 1].map(|axis| points.iter().map(|p| p[axis]).sum::<f32>() / points.len() as f32);
        let mut radii: Vec<f32> = points.iter().map(|p| (p[0] - centre[0]).hypot(p[1] - centre[1])).collect();
        radii.sort_by(f32::total_cmp);
        let radius = radii[points.len() * 97 / 100].max(1e-3);
        let mut cells = [false; 1024];
        for p in &points {
            let cell = [0, 1].map(|axis| ((p[axis] - centre[axis]) / radius * 16.0 + 16.0).floor());
            if cell.iter().all(|c| (0.0..32.0).contains(c)) {
                cells[cell[1] as usize * 32 + cell[0] as usize] = true;
            }
        }
        (self.centre, self.radius) = (centre, radius);
        cells.iter().filter(|&&c| c).count()
    }

    /// Plays the chaos game for `count` points; `visit` gets each place and its colour, 0..1.
    fn walk(&self, maps: &[Affine], count: usize, rng: &mut Rng, mut visit: impl FnMut([f32; 2], f32)) {
        const SETTLE: usize = 20;
        let tint: Vec<f32> = (0..maps.len()).map(|i| i as f32 / (maps.len() - 1).max(1) as f32).collect();
        let mut lanes = [([0.0f32; 2], 0.5f32); LANES];
        for step in 0..count.div_ceil(LANES) + SETTLE {
            let mut bits = rng.bits();
            for (place, colour) in &mut lanes {
                let map = self.pick[(bits & 0xFF) as usize] as usize;
                bits >>= 8;
                let Affine { matrix: [a, b, c, d], shift: [e, f] } = maps[map];
                *place = [a * place[0] + b * place[1] + e, c * place[0] + d * place[1] + f];
                *colour = 0.5 * (*colour + tint[map]);
            }
            if step >= SETTLE {
                lanes.iter().for_each(|&(place, colour)| visit(place, colour));
            }
        }
    }

    /// Draws one picture of the class over what is on the canvas.
    pub fn draw(&self, canvas: &mut Canvas, rng: &mut Rng) {
        let size = canvas.width;
        // FractalDB varies one coefficient by up to 20 %; here all vary by a little.
        let wobble: Vec<Affine> = self
            .maps
            .iter()
            .map(|m| Affine {
                matrix: m.matrix.map(|v| v * rng.range(0.95, 1.05)),
                shift: m.shift.map(|v| v * rng.range(0.92, 1.08)),
            })
            .collect();
        let extent = rng.log_range(0.9, 1.9);
        let ([a, b, c, d], shift) = Pose::random(size, extent, 1.35, 0.1, rng).inverse();
        let palette = Palette::random(rng);
        let mut density = vec![[0.0f32; 2]; size * size];
        let zoom = 1.0 / self.radius;
        // About five points for each pixel of the shape.
        let count = ((size * size) as f32 * 1.6 / (extent * extent)) as usize;
        self.walk(&wobble, count, rng, |place, colour| {
            let (u, v) = ((place[0] - self.centre[0]) * zoom, (place[1] - self.centre[1]) * zoom);
            let (x, y) = (a * u + b * v + shift[0], c * u + d * v + shift[1]);
            // Negative and NaN become 0 in the cast; the strict test throws them away first.
            if x > 0.0 && y > 0.0 && x < size as f32 && y < size as f32 {
                let cell = &mut density[y as usize * size + x as usize];
                cell[0] += 1.0;
                cell[1] += colour;
            }
        });
        if rng.chance(0.7) {
            spread(&mut density, size);
        }
        let (opacity, shade) = (rng.range(0.35, 1.6), rng.range(0.0, 0.5));
        for (pixel, [hits, colour]) in canvas.pixels.iter_mut().zip(density) {
            if hits > 0.02 {
                let cover = 1.0 - 1.0 / (1.0 + opacity * hits * (1.0 + hits));
                let ink = scale(palette.at(colour / hits), 1.0 + shade * (1.2 - 2.0 / (1.0 + 0.3 * hits)));
                *pixel = mix(*pixel, ink, cover);
            }
        }
    }
}

fn determinant(map: &Affine) -> f32 {
    let [a, b, c, d] = map.matrix;
    a * d - b * c
}

/// Smears every point over its neighbours (weights 1 2 1, each way): patches instead of dust.
fn spread(density: &mut [[f32; 2]], size: usize) {
    let blend = |a: [f32; 2], b: [f32; 2], c: [f32; 2]| [0, 1].map(|i| 0.25 * (a[i] + c[i]) + 0.5 * b[i]);
    for row in density.chunks_exact_mut(size) {
        let mut before = [0.0; 2];
        for x in 0..size {
            let here = row[x];
            row[x] = blend(before, here, *row.get(x + 1).unwrap_or(&[0.0; 2]));
            before = here;
        }
    }
    let mut above = vec![[0.0f32; 2]; size];
    for y in 0..size {
        for x in 0..size {
            let here = density[y * size + x];
            let below = *density.get((y + 1) * size + x).unwrap_or(&[0.0; 2]);
            density[y * size + x] = blend(above[x], here, below);
            above[x] = here;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_systems_shrink_and_fill_their_frame() {
        for index in 0..32 {
            let mut ifs = Ifs::new(index, &mut Rng::keyed(&[99, index as u64]));
            assert_eq!(ifs.maps.len(), 2 + index % 4);
            assert!(ifs.maps.iter().all(|m| determinant(m).abs() < 1.0));
            assert!(ifs.frame() > 120, "system {index} fills {} cells", ifs.frame());
            assert_eq!(ifs.pick[255] as usize, ifs.maps.len() - 1);
        }
    }
}
