//! Flowers that open towards the eye: daisy, sunflower, poppy.

use std::f32::consts::{PI, TAU};

use super::petal::{Dye, Light, Petal, Stance};
use crate::rng::Rng;
use crate::synth::canvas::{Canvas, Point};
use crate::synth::colour::{Colour, mix, scale, smoothstep};
use crate::synth::noise;

/// The angle between successive florets of a flower head.
const GOLDEN_ANGLE: f32 = 2.399_963;

/// One row of many narrow, round-tipped petals about a small domed disc.
pub(super) fn daisy(canvas: &mut Canvas, stance: &Stance, dye: &Dye, light: &Light, rng: &mut Rng) {
    let count = rng.between(11, 21);
    let cup = rng.range(-0.1, 0.3);
    let slim = rng.range(0.75, 1.05);
    let rings = if rng.chance(0.35) { 2 } else { 1 };
    let spin = rng.range(0.0, TAU);
    for ring in 0..rings {
        for i in 0..count {
            let petal = Petal {
                angle: spin + (i as f32 + 0.5 * ring as f32 + rng.range(-0.15, 0.15)) * TAU / count as f32,
                from: 0.14,
                length: rng.range(0.9, 1.03) - 0.12 * ring as f32,
                half_width: slim * PI / count as f32 * 0.72,
                belly: 0.6,
                tip: 0.26,
                cup,
                bend: rng.range(-0.06, 0.06),
            };
            petal.draw(canvas, stance, dye, light, rng.range(0.9, 1.06));
        }
    }
    let radius = rng.range(0.2, 0.29);
    disc(canvas, stance, radius, dye.centre, scale(dye.centre, 0.6), 70, light, rng);
}

/// Two or three rows of pointed petals about a disc half as wide as the flower, seeds in spirals.
pub(super) fn sunflower(canvas: &mut Canvas, stance: &Stance, dye: &Dye, light: &Light, rng: &mut Rng) {
    let count = rng.between(15, 24);
    let rings = rng.between(2, 3);
    let radius = rng.range(0.46, 0.58);
    let cup = rng.range(0.0, 0.25);
    let spin = rng.range(0.0, TAU);
    for ring in 0..rings {
        for i in 0..count {
            let petal = Petal {
                angle: spin
                    + (i as f32 + ring as f32 / rings as f32 + rng.range(-0.25, 0.25)) * TAU / count as f32,
                from: radius * 0.8,
                length: rng.range(0.88, 1.08) - 0.05 * ring as f32,
                half_width: rng.range(0.09, 0.13),
                belly: 0.55,
                tip: 0.95,
                cup: cup + rng.range(-0.08, 0.08),
                bend: rng.range(-0.1, 0.1),
            };
            petal.draw(canvas, stance, dye, light, rng.range(0.82, 1.06));
        }
    }
    let dark = scale(dye.centre, rng.range(0.25, 0.5));
    let rim = scale(dye.centre, rng.range(0.45, 0.8));
    disc(canvas, stance, radius, rim, dark, 230, light, rng);
    if rng.chance(0.6) {
        let core = mix(dye.green, dye.centre, rng.range(0.2, 0.7));
        disc(canvas, stance, radius * rng.range(0.3, 0.5), core, scale(core, 0.6), 60, light, rng);
    }
}

/// Four to six broad, crinkled petals that overlap, about a knob in a ring of stamens.
pub(super) fn poppy(canvas: &mut Canvas, stance: &Stance, dye: &Dye, light: &Light, rng: &mut Rng) {
    let count = rng.between(4, 6);
    let cup = rng.range(0.0, 0.45);
    let spin = rng.range(0.0, TAU);
    let dark = [0.13, 0.07, 0.11];
    let blotch = if rng.chance(0.6) { rng.range(0.28, 0.4) } else { 0.0 };
    // Every other petal lies under its neighbours.
    let order = (0..count).step_by(2).chain((1..count).step_by(2));
    for i in order {
        let fan = Fan {
            angle: spin + (i as f32 + rng.range(-0.08, 0.08)) * TAU / count as f32,
            spread: PI / count as f32 * rng.range(1.25, 1.5),
            length: rng.range(0.88, 1.04),
            cup: cup + rng.range(-0.06, 0.06),
            seed: rng.bits() as u32,
        };
        fan.draw(canvas, stance, dye, light, (blotch, dark), rng.range(0.88, 1.06));
    }
    stamens(canvas, stance, dye, rng);
    let knob = mix(dye.green, [0.6, 0.65, 0.35], rng.range(0.0, 0.6));
    let radius = rng.range(0.09, 0.13);
    let outline = circle(stance, [0.0; 2], radius, 0.05);
    light.cast(canvas, &outline, 0.03 * stance.scale);
    let centre = stance.at([0.0; 2], 0.05);
    canvas.fill(&outline, |x, y| {
        let (dx, dy) = (x - centre[0], y - centre[1]);
        let rays = 0.18 * (dy.atan2(dx) * 9.0).cos();
        let lit = (dx * light.towards[0] + dy * light.towards[1]) / (radius * stance.scale);
        (scale(knob, 0.95 + rays + 0.25 * lit), 1.0)
    });
}

fn stamens(canvas: &mut Canvas, stance: &Stance, dye: &Dye, rng: &mut Rng) {
    let colour = if rng.chance(0.6) { [0.15, 0.1, 0.13] } else { scale(dye.centre, 0.95) };
    for _ in 0..rng.between(30, 55) {
        let (sin, cos) = rng.range(0.0, TAU).sin_cos();
        let r = rng.range(0.14, 0.27);
        let dot = circle(stance, [r * cos, r * sin], rng.range(0.014, 0.026), 0.08);
        let shade = rng.range(0.7, 1.3);
        canvas.fill(&dot, |_, _| (scale(colour, shade), 0.95));
    }
}

/// A petal as broad as long, with a crinkled edge.
struct Fan {
    angle: f32,
    spread: f32,
    length: f32,
    cup: f32,
    seed: u32,
}

impl Fan {
    fn draw(
        &self,
        canvas: &mut Canvas,
        stance: &Stance,
        dye: &Dye,
        light: &Light,
        blotch: (f32, Colour),
        shade: f32,
    ) {
        const STEPS: i32 = 26;
        let place = |turn: f32, r: f32| {
            let (sin, cos) = (self.angle + turn).sin_cos();
            stance.at([r * cos, r * sin], self.cup * r * r)
        };
        let mut outline = vec![place(0.0, 0.02)];
        outline.extend((-STEPS..=STEPS).map(|i| {
            let t = i as f32 / STEPS as f32;
            let crinkle = noise::fbm(t * 5.0 + 20.0, 0.5, 2, self.seed) - 0.5;
            let r = self.length * (1.0 - 0.32 * t.abs().powi(4)) * (1.0 + 0.14 * crinkle);
            place(t * self.spread, r)
        }));
        light.cast(canvas, &outline, 0.05 * stance.scale);
        let (base, tip) = (place(0.0, 0.0), place(0.0, self.length));
        let axis = [tip[0] - base[0], tip[1] - base[1]];
        let long = axis[0].hypot(axis[1]).max(1.0);
        let facing = (-axis[1] * light.towards[0] + axis[0] * light.towards[1]) / long;
        canvas.fill(&outline, |x, y| {
            let (dx, dy) = (x - base[0], y - base[1]);
            let along = (dx * axis[0] + dy * axis[1]) / (long * long);
            let across = (axis[0] * dy - axis[1] * dx) / (long * long);
            let reach = along.hypot(across);
            let turn = across / reach.max(0.05);
            let colour = mix(dye.base, dye.tip, smoothstep(dye.turn - 0.3, dye.turn + 0.3, reach));
            // Folds run from the centre outwards and fade towards it.
            let folds = noise::fbm(turn * 7.0 + 31.0, reach * 0.8, 3, self.seed) - 0.5;
            let lit =
                1.0 + folds * 0.5 * smoothstep(0.1, 0.7, reach) + facing * turn * (0.1 + 0.16 * light.hard);
            let depth = 0.8 + 0.22 * smoothstep(0.0, 0.6, reach);
            let stain = 1.0 - smoothstep(blotch.0 - 0.06, blotch.0 + 0.06, reach + 0.1 * folds);
            let stain = if blotch.0 > 0.0 { 0.9 * stain } else { 0.0 };
            (mix(scale(colour, shade * lit * depth), blotch.1, stain), 1.0)
        });
    }
}

/// A domed flower head with florets along spirals.
#[allow(clippy::too_many_arguments)] // A disc is its two colours, its radius and its florets; nothing else shares them.
fn disc(
    canvas: &mut Canvas,
    stance: &Stance,
    radius: f32,
    light_colour: Colour,
    dark_colour: Colour,
    florets: usize,
    light: &Light,
    rng: &mut Rng,
) {
    let rise = 0.35 * radius;
    let outline = circle(stance, [0.0; 2], radius, rise * 0.5);
    light.cast(canvas, &outline, 0.04 * stance.scale);
    let centre = stance.at([0.0; 2], rise * 0.5);
    let reach = radius * stance.scale;
    let seed = rng.bits() as u32;
    canvas.fill(&outline, |x, y| {
        let (dx, dy) = ((x - centre[0]) / reach, (y - centre[1]) / reach);
        let lit = (dx * light.towards[0] + dy * light.towards[1]) * (0.15 + 0.2 * light.hard);
        let grain = noise::fbm(x * 9.0 / reach, y * 9.0 / reach, 2, seed) - 0.5;
        (scale(mix(dark_colour, light_colour, 0.35), 0.9 + lit + 0.4 * grain), 1.0)
    });
    let dot = 0.75 * radius / (florets as f32).sqrt();
    for i in 0..florets {
        let t = ((i as f32 + 0.5) / florets as f32).sqrt();
        let (sin, cos) = (i as f32 * GOLDEN_ANGLE).sin_cos();
        let r = t * radius * 0.95;
        let spot = circle(stance, [r * cos, r * sin], dot, rise * (1.0 - 0.5 * t * t));
        let lit = (cos * light.towards[0] + sin * light.towards[1]) * t * 0.2;
        let colour = scale(light_colour, rng.range(0.8, 1.15) + lit);
        canvas.fill(&spot, |_, _| (colour, 0.85));
    }
}

fn circle(stance: &Stance, place: Point, radius: f32, height: f32) -> Vec<Point> {
    // Enough corners that a large disc looks round, no more for a dot.
    let corners = if radius * stance.scale < 4.0 { 8 } else { 40 };
    (0..corners)
        .map(|i| {
            let (sin, cos) = (i as f32 / corners as f32 * TAU).sin_cos();
            stance.at([place[0] + radius * cos, place[1] + radius * sin], height)
        })
        .collect()
}
