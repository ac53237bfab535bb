//! Everything around the flowers: the ground or sky behind, leaves in front, and the camera.

use super::petal::{Light, leaf, ribbon};
use crate::rng::Rng;
use crate::synth::canvas::{Canvas, Point};
use crate::synth::colour::{Colour, hsv, luma, mix, scale, smoothstep};
use crate::synth::noise;

/// What lies behind the flowers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    Bokeh,
    Meadow,
    Soil,
    Sky,
    Foliage,
    Wall,
}

impl Ground {
    pub fn random(rng: &mut Rng) -> Self {
        rng.pick(&[
            Ground::Bokeh,
            Ground::Bokeh,
            Ground::Meadow,
            Ground::Meadow,
            Ground::Soil,
            Ground::Sky,
            Ground::Foliage,
            Ground::Foliage,
            Ground::Wall,
        ])
    }

    pub fn name(self) -> &'static str {
        match self {
            Ground::Bokeh => "bokeh",
            Ground::Meadow => "meadow",
            Ground::Soil => "soil",
            Ground::Sky => "sky",
            Ground::Foliage => "foliage",
            Ground::Wall => "wall",
        }
    }

    /// True where the camera looks down, so that stems are hidden.
    pub fn seen_from_above(self) -> bool {
        matches!(self, Ground::Soil | Ground::Foliage)
    }
}

/// Draws what lies behind the flowers.
pub(super) fn background(ground: Ground, size: usize, rng: &mut Rng) -> Canvas {
    let seed = rng.bits() as u32;
    let s = 1.0 / size as f32;
    match ground {
        Ground::Bokeh => bokeh(size, seed, rng),
        Ground::Meadow => meadow(size, seed, rng),
        Ground::Soil => {
            let earth = hsv(rng.range(0.04, 0.11), rng.range(0.2, 0.55), rng.range(0.25, 0.6));
            let fine = rng.range(8.0, 22.0);
            let mut canvas = Canvas::square(size, |x, y| {
                let clods = noise::fbm(x * s * 5.0, y * s * 5.0, 3, seed);
                let grains = noise::fbm(x * s * fine, y * s * fine, 3, seed ^ 77);
                scale(earth, 0.35 + 0.6 * clods + 0.7 * grains)
            });
            for _ in 0..rng.between(0, 30) {
                pebble(&mut canvas, rng);
            }
            canvas
        }
        Ground::Sky => {
            let high = hsv(rng.range(0.55, 0.63), rng.range(0.15, 0.65), rng.range(0.55, 0.95));
            let low = match rng.unit() {
                u if u < 0.3 => hsv(rng.range(0.0, 0.12), rng.range(0.2, 0.6), 0.95),
                _ => mix(high, [0.95, 0.96, 0.97], 0.6),
            };
            let cloudy = rng.range(0.0, 0.9);
            let horizon = rng.range(0.6, 1.3);
            let land = hsv(rng.range(0.15, 0.4), rng.range(0.2, 0.5), rng.range(0.25, 0.5));
            Canvas::square(size, |x, y| {
                let (u, v) = (x * s, y * s);
                let cloud = noise::fbm(u * 2.5, v * 4.5, 4, seed);
                let air = mix(mix(high, low, v), [0.97; 3], cloudy * smoothstep(0.45, 0.75, cloud));
                let hill = horizon + 0.12 * (noise::value(u * 3.0, 0.0, seed ^ 5) - 0.5);
                mix(air, scale(land, 0.7 + 0.6 * cloud), smoothstep(hill - 0.04, hill + 0.04, v))
            })
        }
        Ground::Foliage => foliage(size, seed, rng),
        Ground::Wall => {
            let paint = hsv(rng.unit(), rng.range(0.0, 0.45), rng.range(0.25, 0.95));
            let rough = rng.range(0.02, 0.25);
            let planks = if rng.chance(0.35) { rng.range(3.0, 8.0) } else { 0.0 };
            Canvas::square(size, |x, y| {
                let (u, v) = (x * s, y * s);
                let grain = noise::fbm(u * 14.0, v * if planks > 0.0 { 2.0 } else { 14.0 }, 3, seed) - 0.5;
                let gap = if planks > 0.0 {
                    let place = (u * planks).fract();
                    0.35 * (1.0 - smoothstep(0.0, 0.06, place.min(1.0 - place)))
                } else {
                    0.0
                };
                scale(paint, 1.0 + 2.0 * rough * grain - gap)
            })
        }
    }
}

/// Soft blobs of light on a soft gradient: a garden far out of focus.
fn bokeh(size: usize, seed: u32, rng: &mut Rng) -> Canvas {
    let s = 1.0 / size as f32;
    let tone = |rng: &mut Rng| {
        let hue = if rng.chance(0.7) { rng.range(0.12, 0.42) } else { rng.unit() };
        hsv(hue, rng.range(0.15, 0.65), rng.range(0.15, 0.85))
    };
    let (a, b) = (tone(rng), tone(rng));
    let mut canvas = Canvas::square(size, |x, y| {
        mix(a, b, smoothstep(0.25, 0.75, 0.5 * y * s + 0.6 * noise::fbm(x * s * 2.2, y * s * 2.2, 2, seed)))
    });
    let sharp = rng.range(0.004, 0.03) * size as f32;
    for _ in 0..rng.between(0, 14) {
        let centre = [rng.unit() * size as f32, rng.unit() * size as f32];
        let radius = rng.range(0.03, 0.13) * size as f32;
        // Any colour: also that of petals, so that a patch of colour proves nothing.
        let colour = hsv(rng.unit(), rng.range(0.1, 0.7), rng.range(0.4, 1.0));
        let opacity = rng.range(0.15, 0.55);
        canvas.fill(&round(centre, radius, radius, 0.0), |_, _| (colour, opacity));
    }
    canvas.blur(sharp);
    canvas
}

/// Blades of grass, darker farther down between them.
fn meadow(size: usize, seed: u32, rng: &mut Rng) -> Canvas {
    let full = size as f32;
    let green = hsv(rng.range(0.14, 0.36), rng.range(0.35, 0.7), rng.range(0.45, 0.8));
    let mut canvas = Canvas::square(size, |x, y| {
        scale(green, 0.3 + 0.35 * noise::fbm(x * 9.0 / full, y * 5.0 / full, 2, seed))
    });
    let count = rng.between(110, 260);
    for i in 0..count {
        let near = i as f32 / count as f32;
        let foot = [rng.range(-0.1, 1.1) * full, (rng.range(0.05, 0.55) + 0.75 * near) * full];
        let length = rng.range(0.15, 0.45) * full;
        let lean = rng.bell() * 0.35;
        let tip = [foot[0] + lean * length, foot[1] - length];
        let mid = [foot[0] + lean * 0.2 * length, foot[1] - 0.6 * length];
        let half = rng.range(0.004, 0.011) * full;
        let shade = scale(green, 0.45 + 0.6 * near + rng.range(-0.15, 0.2));
        let outline = ribbon([foot, mid, tip], |t| half * (1.0 - t));
        canvas.fill(&outline, |_, y| {
            (scale(shade, 0.75 + 0.45 * ((foot[1] - y) / length).clamp(0.0, 1.0)), 1.0)
        });
    }
    canvas.blur(rng.range(0.0, 0.016) * full);
    canvas
}

/// Leaves upon leaves, sharp or blurred.
fn foliage(size: usize, seed: u32, rng: &mut Rng) -> Canvas {
    let full = size as f32;
    let green = hsv(rng.range(0.2, 0.42), rng.range(0.3, 0.65), rng.range(0.38, 0.75));
    let mut canvas = Canvas::square(size, |x, y| {
        scale(green, 0.25 + 0.3 * noise::fbm(x * 6.0 / full, y * 6.0 / full, 2, seed))
    });
    let light = Light::random(rng);
    let long = rng.range(0.12, 0.32);
    let slim = rng.range(0.15, 0.38);
    let count = (2.6 / (long * long * slim * 2.0)) as usize;
    for i in 0..count {
        let near = i as f32 / count as f32;
        let foot = [rng.range(-0.1, 1.1) * full, rng.range(-0.1, 1.1) * full];
        let shade = scale(green, 0.45 + 0.55 * near + rng.range(-0.1, 0.15));
        wild_leaf(&mut canvas, foot, long * full * rng.range(0.7, 1.2), slim, shade, &light, rng);
    }
    canvas.blur(rng.range(0.0, 0.015) * full);
    canvas
}

fn wild_leaf(
    canvas: &mut Canvas,
    foot: Point,
    long: f32,
    slim: f32,
    green: Colour,
    light: &Light,
    rng: &mut Rng,
) {
    let (sin, cos) = rng.range(0.0, std::f32::consts::TAU).sin_cos();
    let bend = rng.range(-0.2, 0.2) * long;
    let tip = [foot[0] + long * cos, foot[1] + long * sin];
    let mid = [foot[0] + 0.5 * long * cos - bend * sin, foot[1] + 0.5 * long * sin + bend * cos];
    leaf(canvas, [foot, mid, tip], 0.5 * slim * long, green, light, 0.7);
}

fn pebble(canvas: &mut Canvas, rng: &mut Rng) {
    let full = canvas.width as f32;
    let centre = [rng.unit() * full, rng.unit() * full];
    let radius = rng.range(0.006, 0.035) * full;
    let outline = round(centre, radius, radius * rng.range(0.6, 1.0), rng.range(0.0, 3.0));
    let grey = hsv(rng.range(0.05, 0.15), rng.range(0.0, 0.2), rng.range(0.35, 0.75));
    canvas.shadow(&outline, [0.0, 0.3 * radius], 0.4 * radius, 0.4);
    canvas.fill(&outline, |_, y| (scale(grey, 1.0 - 0.25 * (y - centre[1]) / radius), 1.0));
}

fn round(centre: Point, across: f32, down: f32, turn: f32) -> Vec<Point> {
    let (sin, cos) = turn.sin_cos();
    (0..28)
        .map(|i| {
            let (s, c) = (i as f32 / 28.0 * std::f32::consts::TAU).sin_cos();
            let (x, y) = (across * c, down * s);
            [centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos]
        })
        .collect()
}

/// Puts a few leaves or blades in front, rooted at the border and reaching in.
pub(super) fn foreground(canvas: &mut Canvas, light: &Light, rng: &mut Rng) {
    let full = canvas.width as f32;
    for _ in 0..rng.between(1, 4) {
        let along = rng.unit() * full;
        let foot = [[along, full * 1.05], [-0.05 * full, along], [full * 1.05, along]][rng.below(3)];
        let aim = [rng.range(0.15, 0.85) * full, rng.range(0.2, 0.9) * full];
        let reach = rng.range(0.4, 0.75);
        let tip = [foot[0] + (aim[0] - foot[0]) * reach, foot[1] + (aim[1] - foot[1]) * reach];
        let mid = [0.5 * (foot[0] + tip[0]) + rng.range(-0.1, 0.1) * full, 0.5 * (foot[1] + tip[1])];
        let green = hsv(rng.range(0.15, 0.42), rng.range(0.3, 0.7), rng.range(0.25, 0.65));
        leaf(canvas, [foot, mid, tip], rng.range(0.012, 0.055) * full, green, light, 0.8);
    }
}

/// What the camera and the hour do: uneven light, tint, exposure, contrast, focus, grain.
pub(super) fn photograph(canvas: &mut Canvas, light: &Light, rng: &mut Rng) {
    let full = canvas.width as f32;
    if rng.chance(0.3) {
        canvas.blur(rng.range(0.3, 1.2) * full / 224.0);
    }
    let fall = rng.range(0.0, 0.55) / full;
    let exposure = rng.range(0.88, 1.22);
    let warm = rng.range(-0.1, 0.1);
    let tint = [exposure * (1.0 + warm), exposure, exposure * (1.0 - warm)];
    let corners = rng.range(0.0, 0.28);
    let grey = rng.range(0.0, 0.3);
    let contrast = rng.range(0.85, 1.15);
    canvas.map(|c, x, y| {
        let (dx, dy) = (x - 0.5 * full, y - 0.5 * full);
        let lit = 1.0 + fall * (light.towards[0] * dx + light.towards[1] * dy);
        let edge = 1.0 - corners * (dx * dx + dy * dy) / (0.5 * full * full);
        let c = [0, 1, 2].map(|i| c[i] * lit * edge * tint[i]);
        mix(c, [luma(c); 3], grey).map(|v| 0.45 + (v - 0.45) * contrast)
    });
    if rng.chance(0.6) {
        let strength = rng.range(0.005, 0.035);
        canvas.grain(strength, rng);
    }
}
