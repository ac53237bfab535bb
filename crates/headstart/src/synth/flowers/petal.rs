//! The parts of a flower: where it stands, its colours, the light, and how one petal is drawn.

use std::f32::consts::PI;

use crate::rng::Rng;
use crate::synth::canvas::{Canvas, Point};
use crate::synth::colour::{Colour, hsv, jitter, mix, scale, smoothstep};

/// Where a flower is and from where it is seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stance {
    pub centre: Point,
    /// Pixels per unit; a flower's radius is one unit.
    pub scale: f32,
    turn: (f32, f32),
    tilt: (f32, f32),
}

impl Stance {
    /// `turn` in the picture plane and `tilt` away from the eye, both in radians.
    pub fn new(centre: Point, scale: f32, turn: f32, tilt: f32) -> Self {
        Stance { centre, scale, turn: turn.sin_cos(), tilt: tilt.sin_cos() }
    }

    /// Pixel of a place on the flower; `height` is how far it rises towards the eye.
    pub fn at(&self, [u, v]: Point, height: f32) -> Point {
        let v = v * self.tilt.1 - height * self.tilt.0;
        let (sin, cos) = self.turn;
        [self.centre[0] + self.scale * (u * cos - v * sin), self.centre[1] + self.scale * (u * sin + v * cos)]
    }
}

/// Where the light comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Light {
    /// Unit vector in the picture towards the light.
    pub towards: Point,
    /// 0 on a dull day, 1 in full sun.
    pub hard: f32,
}

impl Light {
    pub fn random(rng: &mut Rng) -> Self {
        // Mostly from above.
        let (sin, cos) = rng.range(-1.1, 1.1).sin_cos();
        Light { towards: [sin, -cos], hard: rng.unit() }
    }

    /// Casts the shadow of something `lift` pixels above what is there.
    pub fn cast(&self, canvas: &mut Canvas, outline: &[Point], lift: f32) {
        let shift = self.towards.map(|t| -t * lift);
        canvas.shadow(outline, shift, lift * (1.3 - 0.6 * self.hard), 0.2 + 0.3 * self.hard);
    }
}

/// A flower's colours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dye {
    /// Petal near the centre.
    pub base: Colour,
    /// Petal at its tip.
    pub tip: Colour,
    /// Where base turns into tip, 0..1 along the petal.
    pub turn: f32,
    /// How strongly veins show.
    pub veins: f32,
    /// The disc, the stamens.
    pub centre: Colour,
    /// Stem and leaves.
    pub green: Colour,
}

/// Petal colours common to all species: hue, saturation, value.
const PETALS: [[f32; 3]; 12] = [
    [0.13, 0.04, 0.97], // white
    [0.13, 0.22, 0.97], // cream
    [0.145, 0.85, 0.97],
    [0.09, 0.85, 0.96],
    [0.04, 0.80, 0.93],
    [0.995, 0.85, 0.80],
    [0.95, 0.40, 0.95],
    [0.90, 0.70, 0.85],
    [0.82, 0.50, 0.75],
    [0.75, 0.45, 0.85],
    [0.68, 0.60, 0.80],
    [0.60, 0.35, 0.92],
];

/// The colour each species is known for, as an index into `PETALS`, in class order.
const USUAL: [usize; 5] = [10, 0, 5, 2, 6];

impl Dye {
    pub fn random(species: usize, rng: &mut Rng) -> Self {
        // The usual colour now and then only, or colour alone would name the species.
        let index = if rng.chance(0.12) { USUAL[species] } else { rng.below(PETALS.len()) };
        let colour = |i: usize, rng: &mut Rng| {
            let [h, s, v] = PETALS[i];
            jitter(hsv(h + rng.range(-0.02, 0.02), s, v), 0.05, rng)
        };
        let tip = colour(index, rng);
        let base = match rng.unit() {
            u if u < 0.45 => scale(tip, rng.range(0.7, 0.95)),
            u if u < 0.65 => mix(tip, [0.97, 0.95, 0.85], rng.range(0.4, 0.8)),
            u if u < 0.8 => mix(tip, [0.95, 0.8, 0.2], rng.range(0.4, 0.8)),
            _ => mix(tip, colour(rng.below(PETALS.len()), rng), rng.range(0.4, 0.9)),
        };
        let centres =
            [[0.95, 0.78, 0.15], [0.88, 0.55, 0.12], [0.45, 0.28, 0.12], [0.22, 0.14, 0.1], [0.6, 0.68, 0.2]];
        let centre = jitter(rng.pick(&centres), 0.06, rng);
        let green = hsv(rng.range(0.2, 0.38), rng.range(0.35, 0.7), rng.range(0.3, 0.62));
        Dye { base, tip, turn: rng.range(0.15, 0.7), veins: rng.range(0.0, 0.12), centre, green }
    }

    /// The colours of one flower among several of its kind.
    pub fn vary(&self, rng: &mut Rng) -> Dye {
        let shift = rng.range(0.9, 1.08);
        Dye { base: scale(self.base, shift), tip: scale(self.tip, shift), ..*self }
    }
}

/// The form of one petal, in units of the flower's radius.
#[derive(Debug, Clone, Copy)]
pub(super) struct Petal {
    /// Direction from the centre, radians.
    pub angle: f32,
    pub from: f32,
    pub length: f32,
    pub half_width: f32,
    /// Small widens early, large late.
    pub belly: f32,
    /// Small is blunt, 1 is pointed.
    pub tip: f32,
    /// How far the tip rises above the flower's plane.
    pub cup: f32,
    /// Sideways bend of the tip.
    pub bend: f32,
}

/// Half the width of a petal at `t` along it, at most 1: `t^belly · (1 − t)^tip`, scaled.
fn profile(t: f32, belly: f32, tip: f32) -> f32 {
    let peak = belly / (belly + tip);
    (t.powf(belly) * (1.0 - t).powf(tip)) / (peak.powf(belly) * (1.0 - peak).powf(tip))
}

impl Petal {
    pub fn outline(&self, stance: &Stance) -> Vec<Point> {
        const STEPS: usize = 14;
        let (sin, cos) = self.angle.sin_cos();
        let place = |i: usize, side: f32| {
            // Closer steps at both ends, where the outline turns.
            let t = 0.5 - 0.5 * (PI * i as f32 / STEPS as f32).cos();
            let r = self.from + t * (self.length - self.from);
            let s = side * self.half_width * profile(t, self.belly, self.tip) + self.bend * t * t;
            stance.at([r * cos - s * sin, r * sin + s * cos], self.cup * r * r)
        };
        (0..=STEPS).map(|i| place(i, -1.0)).chain((1..STEPS).rev().map(|i| place(i, 1.0))).collect()
    }

    pub fn draw(&self, canvas: &mut Canvas, stance: &Stance, dye: &Dye, light: &Light, shade: f32) {
        let outline = self.outline(stance);
        light.cast(canvas, &outline, 0.045 * stance.scale);
        let (sin, cos) = self.angle.sin_cos();
        let base = stance.at([self.from * cos, self.from * sin], self.cup * self.from * self.from);
        let tip = stance.at(
            [self.length * cos - self.bend * sin, self.length * sin + self.bend * cos],
            self.cup * self.length * self.length,
        );
        let blade = Blade { base, tip, half_width: self.half_width * stance.scale };
        canvas.fill(&outline, |x, y| (blade.tint([x, y], dye, light, shade), 1.0));
    }
}

/// A petal or leaf as the painter sees it: an axis in pixels and a width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blade {
    pub base: Point,
    pub tip: Point,
    pub half_width: f32,
}

impl Blade {
    /// Place along (0 at the base, 1 at the tip) and across (−1..1) the axis.
    pub fn local(&self, p: Point) -> (f32, f32) {
        let (ax, ay) = (self.tip[0] - self.base[0], self.tip[1] - self.base[1]);
        let long = (ax * ax + ay * ay).max(1e-3);
        let (dx, dy) = (p[0] - self.base[0], p[1] - self.base[1]);
        ((dx * ax + dy * ay) / long, (ax * dy - ay * dx) / long.sqrt() / self.half_width.max(0.3))
    }

    /// Colour of a petal at a pixel: base to tip, veins, and the light on its arched surface.
    pub fn tint(&self, p: Point, dye: &Dye, light: &Light, shade: f32) -> Colour {
        let (along, across) = self.local(p);
        let colour = mix(dye.base, dye.tip, smoothstep(dye.turn - 0.3, dye.turn + 0.3, along));
        let (ax, ay) = (self.tip[0] - self.base[0], self.tip[1] - self.base[1]);
        let long = ax.hypot(ay).max(1e-3);
        let facing = (-ay * light.towards[0] + ax * light.towards[1]) / long;
        let arch = across * facing * (0.06 + 0.14 * light.hard);
        let crease = -0.10 * (-across * across * 30.0).exp() * (1.0 - along);
        let veins = dye.veins * (across * 16.0).sin() * (1.0 - 0.5 * along);
        let depth = -0.22 * (1.0 - smoothstep(0.0, 0.5, along));
        scale(colour, shade * (1.02 + arch + crease + veins + depth))
    }
}

/// Makes the outline of a band along a curve; `half_width` is a function of the way, 0..1.
pub(super) fn ribbon(curve: [Point; 3], half_width: impl Fn(f32) -> f32) -> Vec<Point> {
    const STEPS: usize = 20;
    let [a, b, c] = curve;
    let side = |i: usize, sign: f32| {
        let t = i as f32 / STEPS as f32;
        let on =
            |axis: usize| (1.0 - t) * (1.0 - t) * a[axis] + 2.0 * t * (1.0 - t) * b[axis] + t * t * c[axis];
        let slope = |axis: usize| (1.0 - t) * (b[axis] - a[axis]) + t * (c[axis] - b[axis]);
        let (dx, dy) = (slope(0), slope(1));
        let w = sign * half_width(t) / dx.hypot(dy).max(1e-3);
        [on(0) - dy * w, on(1) + dx * w]
    };
    (0..=STEPS).map(|i| side(i, -1.0)).chain((0..=STEPS).rev().map(|i| side(i, 1.0))).collect()
}

/// Draws a leaf along a curve.
pub(super) fn leaf(
    canvas: &mut Canvas,
    curve: [Point; 3],
    half_width: f32,
    green: Colour,
    light: &Light,
    pointed: f32,
) {
    let outline = ribbon(curve, |t| half_width * profile(t, 0.55, pointed));
    light.cast(canvas, &outline, half_width * 0.25);
    let blade = Blade { base: curve[0], tip: curve[2], half_width };
    // The midrib follows the bend: the chord's middle is off the curve by half the control's offset.
    let (_, control) = blade.local(curve[1]);
    canvas.fill(&outline, |x, y| {
        let (along, across) = blade.local([x, y]);
        let across = across - 2.0 * along * (1.0 - along) * control;
        let rib = 0.16 * (-(across * 7.0).powi(2)).exp();
        let side = if across > 0.0 { 0.06 } else { -0.06 };
        let veins = 0.04 * ((along * 22.0 - across.abs() * 4.0) * 2.0).sin();
        (scale(green, 0.92 + rib + side * (0.5 + light.hard) + veins + 0.15 * along), 1.0)
    });
}
