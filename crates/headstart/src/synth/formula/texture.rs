//! Textures: waves, stripes, tilings, cells and warped noise.
//!
//! A texture is a field of one number over the plane, 0..1, coloured by a random palette and lit
//! as if it were a relief half of the time. Periods and thresholds belong to the class; where the
//! pattern lies, how it is turned and zoomed (by up to a fifth), and its colours do not.

use super::{Palette, Pose, wave};
use crate::rng::Rng;
use crate::synth::canvas::{Canvas, Point};
use crate::synth::colour::{scale, smoothstep};
use crate::synth::noise;

const WAVES: usize = 44;
const STRIPES: usize = 32;
const TILINGS: usize = 40;
const CELLS: usize = 28;
const WARPED: usize = 32;

/// How many texture classes there are.
pub const CLASSES: usize = WAVES + STRIPES + TILINGS + CELLS + WARPED;

/// A field over the plane: one class.
#[derive(Debug, Clone)]
pub struct Texture {
    /// Half the picture, in periods of the pattern.
    extent: f32,
    pattern: Pattern,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// A few plane waves: Gabor noise if their directions differ little, crystals if they differ evenly.
    Waves { count: usize, fan: Fan, spread: f32, hard: f32 },
    /// One wave across, bent or crossed by a second.
    Stripes { course: Course, duty: f32, hard: f32, bend: (f32, f32) },
    /// A motif on a lattice.
    Tiling { lattice: Lattice, motif: Motif, size: f32, alternate: bool },
    /// Cells around scattered points.
    Cells { spread: f32, squeeze: f32, show: Show },
    /// Noise bent by noise.
    Warped { octaves: u32, warp: f32, squeeze: f32, fold: Fold },
}

#[derive(Debug, Clone, Copy)]
enum Fan {
    Even,
    Narrow(f32),
    Any,
}

#[derive(Debug, Clone, Copy)]
enum Course {
    Straight,
    Crossed,
    Rings,
    Rays(f32),
    Spiral(f32),
}

#[derive(Debug, Clone, Copy)]
enum Lattice {
    Square,
    Brick,
    Hexagon,
}

#[derive(Debug, Clone, Copy)]
enum Motif {
    Disk,
    Ring,
    Box,
    Cross,
    Star,
    Slash,
}

#[derive(Debug, Clone, Copy)]
enum Show {
    Distance,
    Walls,
    Mosaic,
    Dots,
}

#[derive(Debug, Clone, Copy)]
enum Fold {
    Plain,
    Ridge,
    Marble(f32),
    Step(f32),
}

impl Texture {
    /// Makes texture class `index`; kinds go by turns, the rest is drawn.
    pub fn new(index: usize, rng: &mut Rng) -> Self {
        let (mut i, mut family) = (index, 0);
        for count in [WAVES, STRIPES, TILINGS, CELLS] {
            if i < count {
                break;
            }
            i -= count;
            family += 1;
        }
        let pattern = match family {
            0 => Pattern::Waves {
                count: rng.between(2, 7),
                fan: [Fan::Even, Fan::Narrow(rng.range(0.02, 0.12)), Fan::Any][i % 3],
                spread: rng.range(0.0, 0.5),
                hard: [0.0, rng.range(0.4, 1.0)][i / 3 % 2],
            },
            1 => Pattern::Stripes {
                course: [
                    Course::Straight,
                    Course::Crossed,
                    Course::Rings,
                    Course::Rays(rng.between(4, 20) as f32),
                    Course::Spiral(rng.between(1, 6) as f32),
                ][i % 5],
                duty: rng.range(-0.6, 0.6),
                hard: rng.pick(&[0.0, 0.5, 1.0]),
                bend: [(0.0, 1.0), (rng.range(0.15, 0.6), rng.log_range(0.2, 0.9))][i / 5 % 2],
            },
            2 => Pattern::Tiling {
                lattice: [Lattice::Square, Lattice::Brick, Lattice::Hexagon][i % 3],
                motif: [Motif::Disk, Motif::Ring, Motif::Box, Motif::Cross, Motif::Star, Motif::Slash]
                    [i / 3 % 6],
                size: rng.range(0.26, 0.44),
                alternate: rng.chance(0.4),
            },
            3 => Pattern::Cells {
                spread: rng.range(0.45, 1.0),
                squeeze: rng.pick(&[1.0, 1.0, 1.7, 2.6]),
                show: [Show::Distance, Show::Walls, Show::Mosaic, Show::Dots][i % 4],
            },
            _ => Pattern::Warped {
                octaves: rng.between(1, 4) as u32,
                warp: rng.pick(&[0.0, rng.clone().range(0.5, 1.2), rng.clone().range(1.5, 2.5)]),
                squeeze: rng.pick(&[1.0, 1.0, 2.0, 3.5]),
                fold: [
                    Fold::Plain,
                    Fold::Ridge,
                    Fold::Marble(rng.log_range(0.7, 2.5)),
                    Fold::Step(rng.between(2, 5) as f32),
                ][i % 4],
            },
        };
        Texture { extent: rng.log_range(1.6, 4.5), pattern }
    }

    /// Draws one picture of the class.
    pub fn draw(&self, size: usize, rng: &mut Rng) -> Canvas {
        let around_centre = matches!(
            &self.pattern,
            Pattern::Stripes { course: Course::Rings | Course::Rays(_) | Course::Spiral(_), .. }
        );
        let wander = if around_centre { 0.3 } else { 0.0 };
        let pose = Pose::random(size, self.extent * rng.range(0.83, 1.2), 1.15, wander, rng);
        // Anywhere in the plane, unless the pattern has a centre to show.
        let origin = if around_centre { [0.0; 2] } else { [rng.range(-40.0, 40.0), rng.range(-40.0, 40.0)] };
        let field = self.field(size, &pose, origin, rng);
        let palette = Palette::random(rng);
        let (slope_y, slope_x) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
        let relief = if rng.chance(0.5) { rng.range(0.3, 1.2) } else { 0.0 };
        let mut canvas = Canvas::square(size, |_, _| [0.0; 3]);
        for (y, row) in canvas.pixels.chunks_exact_mut(size).enumerate() {
            let here = &field[y * size..][..size];
            let below = &field[(y + 1).min(size - 1) * size..][..size];
            for (x, pixel) in row.iter_mut().enumerate() {
                let (dx, dy) = (here[(x + 1).min(size - 1)] - here[x], below[x] - here[x]);
                let light = 1.0 + relief * (slope_x * dx + slope_y * dy).clamp(-0.6, 0.6);
                *pixel = scale(palette.at(here[x]), light);
            }
        }
        canvas
    }

    fn field(&self, size: usize, pose: &Pose, origin: Point, rng: &mut Rng) -> Vec<f32> {
        let seed = rng.bits() as u32;
        let pixel = pose.pixel();
        let each = |at: &mut dyn FnMut(f32, f32) -> f32| -> Vec<f32> {
            let place = |i: usize| pose.uv((i % size) as f32 + 0.5, (i / size) as f32 + 0.5);
            (0..size * size)
                .map(|i| {
                    let [u, v] = place(i);
                    at(u + origin[0], v + origin[1])
                })
                .collect()
        };
        match self.pattern {
            Pattern::Waves { count, fan, spread, hard } => {
                let waves: Vec<[f32; 3]> = (0..count)
                    .map(|i| {
                        let turn = match fan {
                            Fan::Even => i as f32 * 0.5 / count as f32,
                            Fan::Narrow(width) => rng.range(-width, width),
                            Fan::Any => rng.range(0.0, 0.5),
                        };
                        let frequency = 1.0 + spread * (2.0 * i as f32 / (count - 1) as f32 - 1.0);
                        [frequency * wave(turn + 0.25), frequency * wave(turn), rng.unit()]
                    })
                    .collect();
                let gain = 0.45 / (count as f32).sqrt() * (1.0 + 3.0 * hard);
                each(&mut |u, v| {
                    let sum: f32 = waves.iter().map(|[a, b, phase]| wave(a * u + b * v + phase)).sum();
                    (0.5 + gain * sum).clamp(0.0, 1.0)
                })
            }
            Pattern::Stripes { course, duty, hard, bend } => {
                let edge = (5.0 * pixel).max(1.0 - hard);
                let phase = rng.unit();
                let ink = |t: f32| smoothstep(-edge, edge, wave(t) + duty);
                each(&mut |u, v| {
                    let u = u + bend.0 * wave(v * bend.1 + phase);
                    match course {
                        Course::Straight => ink(u),
                        Course::Crossed => 0.5 * (ink(u) + ink(v)),
                        Course::Rings => ink((u * u + v * v).sqrt()),
                        Course::Rays(arms) => ink(super::contour::turns(u, v) * arms),
                        Course::Spiral(arms) => {
                            ink(super::contour::turns(u, v) * arms + (u * u + v * v).sqrt())
                        }
                    }
                })
            }
            Pattern::Tiling { lattice, motif, size, alternate } => {
                each(&mut |u, v| tile(lattice, motif, size, alternate, pixel, [u, v]))
            }
            Pattern::Cells { spread, squeeze, show } => each(&mut |u, v| {
                let cell = noise::worley(u * squeeze, v / squeeze.sqrt(), spread, seed);
                match show {
                    Show::Distance => cell.near.min(1.0),
                    Show::Walls => smoothstep(0.03, 0.12 + 2.0 * pixel, cell.second - cell.near),
                    Show::Mosaic => {
                        let wall = smoothstep(0.0, 2.0 * pixel, cell.second - cell.near);
                        wall * (cell.id & 0xFF) as f32 / 255.0
                    }
                    Show::Dots => smoothstep(-2.0 * pixel, 2.0 * pixel, cell.near - 0.28),
                }
            }),
            Pattern::Warped { octaves, warp, squeeze, fold } => each(&mut |u, v| {
                let (mut a, mut b) = (u * squeeze, v);
                if warp > 0.0 {
                    a += warp * (noise::value(u * 0.7, v * 0.7, seed ^ 0xA5A5) - 0.5) * 2.0;
                    b += warp * (noise::value(u * 0.7 + 9.0, v * 0.7, seed ^ 0x5A5A) - 0.5) * 2.0;
                }
                let n = noise::fbm(a, b, octaves, seed);
                match fold {
                    // Sums of noise crowd around the middle; stretch them to the whole range.
                    Fold::Plain => smoothstep(0.1, 0.9, n),
                    Fold::Ridge => 1.0 - (4.0 * (n - 0.5).abs()).min(1.0),
                    Fold::Marble(turns) => 0.5 + 0.5 * wave(turns * (2.0 * n + 0.5 * u)),
                    Fold::Step(levels) => {
                        let t = (n * 1.4 - 0.2).clamp(0.0, 0.999) * levels;
                        (t.floor() + smoothstep(0.0, 0.15, t.fract())) / levels
                    }
                }
            }),
        }
    }
}

/// The motif's cover at a place, antialiased for pixels `pixel` wide.
fn tile(lattice: Lattice, motif: Motif, size: f32, alternate: bool, pixel: f32, [u, v]: Point) -> f32 {
    let (row, col, x, y) = match lattice {
        Lattice::Square => (v.floor(), u.floor(), fraction(u), fraction(v)),
        Lattice::Brick => {
            // Half as high as wide, every other row moved by half a brick.
            let row = (v * 2.0).floor();
            let u = u + 0.5 * (row * 0.5 - (row * 0.5).floor()) * 2.0;
            (row, u.floor(), fraction(u), fraction(v * 2.0))
        }
        Lattice::Hexagon => {
            let v = v * (2.0 / 3.0f32.sqrt());
            let row = v.floor();
            let u = u + (row * 0.5 - (row * 0.5).floor());
            (row, u.floor(), fraction(u), fraction(v))
        }
    };
    let r = (x * x + y * y).sqrt();
    // Below 0 inside the motif; about the distance from its edge outside.
    let away = match motif {
        Motif::Disk => r - size,
        Motif::Ring => (r - size).abs() - 0.09,
        Motif::Box => x.abs().max(y.abs()) - size,
        Motif::Cross => (x.abs().min(y.abs()) - 0.4 * size).max(x.abs().max(y.abs()) - size * 1.1),
        Motif::Star => r - size * (0.75 + 0.35 * wave(5.0 * super::contour::turns(x, y))),
        Motif::Slash => (x - y).abs() * 0.7 - 0.3 * size,
    };
    let inside = 1.0 - smoothstep(-1.2 * pixel, 1.2 * pixel, away);
    // Every other motif in a colour of its own, as on a chessboard.
    let odd = (row + col).rem_euclid(2.0) > 0.5;
    match (alternate, odd) {
        (true, true) => 0.5 - 0.5 * inside,
        (true, false) => 0.5 + 0.5 * inside,
        (false, _) => inside,
    }
}

/// Place within the lattice cell, −0.5..0.5.
#[inline]
fn fraction(t: f32) -> f32 {
    t - t.floor() - 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stay_in_range_and_vary() {
        for index in 0..CLASSES {
            let mut rng = Rng::keyed(&[1, index as u64]);
            let texture = Texture::new(index, &mut rng);
            let pose = Pose::random(48, texture.extent, 1.1, 0.0, &mut rng);
            let field = texture.field(48, &pose, [0.3, 0.7], &mut rng);
            let (low, high) = field.iter().fold((1.0f32, 0.0f32), |(l, h), &t| (l.min(t), h.max(t)));
            assert!(low >= 0.0 && high <= 1.0 && high - low > 0.25, "{index}: {low}..{high}");
        }
    }

    #[test]
    fn a_disk_tile_is_a_disk() {
        let at = |u: f32| tile(Lattice::Square, Motif::Disk, 0.3, false, 0.01, [u, 0.5]);
        assert_eq!((at(0.5), at(0.99)), (1.0, 0.0));
        assert!((at(0.8) - 0.5).abs() < 1e-3);
    }
}
