//! Flowers seen from the side, and stems: tulip, bellflower. Here v runs down the picture.

use std::f32::consts::{PI, TAU};

use super::petal::{Blade, Dye, Light, Stance, leaf, ribbon};
use crate::rng::Rng;
use crate::synth::canvas::{Canvas, Point};
use crate::synth::colour::{Colour, mix, scale, smoothstep};

/// Draws a stem from a flower down and out of the picture, sometimes with a leaf.
pub(super) fn stem(canvas: &mut Canvas, from: Point, scale: f32, light: &Light, rng: &mut Rng) {
    let size = canvas.width as f32;
    let foot = [from[0] + rng.range(-0.2, 0.2) * size, size * 1.1];
    let green = [rng.range(0.25, 0.45), rng.range(0.42, 0.6), rng.range(0.15, 0.3)];
    let bend = [from[0] + rng.range(-0.1, 0.1) * size, 0.5 * (from[1] + foot[1])];
    stalk(canvas, [from, bend, foot], 0.05 * scale, green);
    if rng.chance(0.5) {
        let away = rng.sign() * scale * rng.range(0.7, 1.2);
        let tip = [bend[0] + away, bend[1] - rng.range(-0.2, 0.5) * scale];
        let mid = [bend[0] + 0.5 * away, bend[1] - 0.35 * scale];
        leaf(canvas, [bend, mid, tip], 0.17 * scale, green, light, 0.8);
    }
}

fn stalk(canvas: &mut Canvas, curve: [Point; 3], half_width: f32, green: Colour) {
    let half_width = half_width.max(0.6);
    let outline = ribbon(curve, |t| half_width * (0.8 + 0.4 * t));
    let [a, _, c] = curve;
    canvas.fill(&outline, |_, y| {
        let t = ((y - a[1]) / (c[1] - a[1]).max(1.0)).clamp(0.0, 1.0);
        (scale(green, 1.0 - 0.25 * t), 1.0)
    });
}

/// A cup of six overlapping petals on a straight stem, with long leaves.
pub(super) fn tulip(canvas: &mut Canvas, stance: &Stance, dye: &Dye, light: &Light, rng: &mut Rng) {
    let size = canvas.width as f32;
    let base = stance.at([0.0, 0.62], 0.0);
    let foot = [base[0] + rng.range(-0.12, 0.12) * size, (size * 1.08).max(base[1] + stance.scale)];
    let bend = stance.at([0.0, 1.6], 0.0);
    for _ in 0..rng.between(0, 2) {
        let side = rng.sign();
        let root = [foot[0], foot[1].min(base[1] + 2.6 * stance.scale)];
        let tip = stance.at([side * rng.range(0.5, 1.0), rng.range(0.3, 1.4)], 0.0);
        let mid = [0.5 * (root[0] + tip[0]) + side * 0.15 * stance.scale, 0.35 * root[1] + 0.65 * tip[1]];
        leaf(canvas, [root, mid, tip], rng.range(0.14, 0.22) * stance.scale, dye.green, light, 0.9);
    }
    stalk(canvas, [base, bend, foot], 0.065 * stance.scale, dye.green);

    let open = rng.range(-0.08, 0.3);
    let pointed = rng.range(0.5, 0.85);
    let high = rng.range(1.25, 1.6);
    // Far petals first: control and tip across, height of the tip, half width, brightness.
    let petals = [
        (0.0, 0.05, 0.93, 0.34, 0.68),
        (-0.3, -0.24 - 0.6 * open, 0.98, 0.26, 0.8),
        (0.3, 0.24 + 0.6 * open, 0.98, 0.26, 0.8),
        (-0.78, -0.36 - open, 1.0, 0.25, 0.95),
        (0.78, 0.36 + open, 1.0, 0.25, 0.95),
        (0.0, rng.range(-0.1, 0.1), 0.9, 0.42, 1.03),
    ];
    for (control, tip, height, half_width, shade) in petals {
        let jitter = rng.range(-0.04, 0.04);
        let top = 0.65 - high * (height + jitter);
        let curve = [[0.0, 0.65], [control, 0.52 - 0.15 * high], [tip + jitter, top]];
        // Widths are measured along the flower's own axes, then carried over to the picture.
        let flat = ribbon(curve, |t| half_width * bulb(t, pointed));
        let outline: Vec<Point> = flat.into_iter().map(|p| stance.at(p, 0.0)).collect();
        light.cast(canvas, &outline, 0.05 * stance.scale);
        let blade = Blade {
            base: stance.at([0.4 * control, 0.62], 0.0),
            tip: stance.at([tip, top], 0.0),
            half_width: half_width * stance.scale,
        };
        let shade = shade * rng.range(0.95, 1.05);
        canvas.fill(&outline, |x, y| (blade.tint([x, y], dye, light, shade), 1.0));
    }
}

/// A tulip petal's width: round at the foot, widest below the middle.
fn bulb(t: f32, pointed: f32) -> f32 {
    let peak = 0.45 / (0.45 + pointed);
    (t / peak).powf(0.45) * ((1.0 - t) / (1.0 - peak)).powf(pointed)
}

/// Bells that hang from an arching stem, with five pointed lobes at the mouth.
pub(super) fn bellflower(canvas: &mut Canvas, stance: &Stance, dye: &Dye, light: &Light, rng: &mut Rng) {
    let size = canvas.width as f32;
    let count = rng.pick(&[1, 2, 3, 3, 4, 5]);
    let bell_scale = [1.15, 0.78, 0.66, 0.58, 0.52][count - 1];
    let side = rng.sign();
    let top = stance.at([side * 0.45, -0.95], 0.0);
    let root = [stance.at([-side * 0.5, 1.0], 0.0)[0], (size * 1.08).max(stance.at([0.0, 1.6], 0.0)[1])];
    let shoulder = [root[0] + side * 0.1 * stance.scale, top[1] - 0.25 * stance.scale];
    stalk(canvas, [top, shoulder, root], 0.04 * stance.scale, dye.green);
    for _ in 0..rng.between(1, 3) {
        let t = rng.range(0.45, 0.85);
        let at = on_curve([top, shoulder, root], t);
        let out = rng.sign() * rng.range(0.4, 0.8) * stance.scale;
        let tip = [at[0] + out, at[1] - rng.range(-0.3, 0.4) * stance.scale];
        let mid = [at[0] + 0.5 * out, at[1] - 0.25 * stance.scale];
        leaf(canvas, [at, mid, tip], 0.13 * stance.scale, dye.green, light, 0.8);
    }
    // From the root upwards, so that nearer bells hang over farther ones.
    for i in (0..count).rev() {
        let t = if count == 1 { 0.04 } else { 0.02 + 0.62 * i as f32 / count as f32 };
        let node = on_curve([top, shoulder, root], t);
        let lean = if i == 0 {
            side * rng.range(0.1, 0.5)
        } else {
            rng.range(0.35, 0.8) * if i % 2 == 0 { side } else { -side }
        };
        let drop = rng.range(0.1, 0.25) * stance.scale;
        let apex = [node[0] + lean.sin() * drop * 2.0, node[1] + drop * 0.8];
        stalk(canvas, [node, [apex[0], node[1]], apex], 0.028 * stance.scale, dye.green);
        // An own stance: a bell hangs by its weight however the plant leans.
        let hang = Stance::new(apex, stance.scale * bell_scale * rng.range(0.9, 1.1), -0.6 * lean, 0.0);
        bell(canvas, &hang, dye, light, rng);
    }
}

fn on_curve([a, b, c]: [Point; 3], t: f32) -> Point {
    [0, 1].map(|i| (1.0 - t) * (1.0 - t) * a[i] + 2.0 * t * (1.0 - t) * b[i] + t * t * c[i])
}

/// One bell with its apex at the origin, hanging down one unit.
fn bell(canvas: &mut Canvas, stance: &Stance, dye: &Dye, light: &Light, rng: &mut Rng) {
    let wide = rng.range(0.85, 1.2);
    let flare = rng.range(0.06, 0.2);
    let look = rng.range(0.08, 0.26);
    let lobe = rng.range(0.18, 0.3);
    let spin = rng.range(0.0, TAU);
    let half = |t: f32| wide * (0.4 * smoothstep(-0.12, 0.5, t).sqrt() + flare * t.powi(4));
    // The mouth is a circle seen at a slant, with five lobes.
    let rim = |turn: f32| {
        let lobes = (0.5 + 0.5 * (5.0 * turn + spin).cos()).powf(0.7);
        let r = half(1.0) * (1.0 + 0.28 * lobes);
        [r * turn.cos(), 0.95 - 0.5 * lobe + lobe * lobes + look * r * 2.0 * turn.sin() * wide.recip()]
    };
    const STEPS: usize = 60;
    let mouth: Vec<Point> = (0..STEPS).map(|i| stance.at(rim(i as f32 / STEPS as f32 * TAU), 0.0)).collect();
    light.cast(canvas, &mouth, 0.08 * stance.scale);
    let inside = scale(mix(dye.tip, dye.base, 0.5), 0.62);
    canvas.fill(&mouth, |_, _| (inside, 1.0));
    let pistil = ribbon(
        [stance.at([0.0, 0.6], 0.0), stance.at([0.0, 0.9], 0.0), stance.at([0.03, 1.12 + look], 0.0)],
        |_| 0.03 * stance.scale,
    );
    canvas.fill(&pistil, |_, _| ([0.93, 0.9, 0.7], 1.0));

    const SIDE: usize = 16;
    let wall = |i: usize, sign: f32| {
        let t = i as f32 / SIDE as f32 * 0.97;
        stance.at([sign * half(t), t * 0.93], 0.0)
    };
    let front = (0..=STEPS / 2).map(|i| stance.at(rim(i as f32 / (STEPS / 2) as f32 * PI), 0.0));
    let outline: Vec<Point> = (0..=SIDE)
        .map(|i| wall(i, 1.0))
        .chain(front)
        .chain((0..=SIDE).rev().map(|i| wall(i, -1.0)))
        .collect();
    let blade =
        Blade { base: stance.at([0.0; 2], 0.0), tip: stance.at([0.0, 1.1], 0.0), half_width: stance.scale };
    let sun = light.towards[0];
    canvas.fill(&outline, |x, y| {
        let (along, across) = blade.local([x, y]);
        let round = (-across / half(along.clamp(0.0, 1.0)).max(0.05)).clamp(-1.2, 1.2);
        let colour = mix(dye.base, dye.tip, smoothstep(dye.turn - 0.4, dye.turn + 0.4, along));
        let rib = 0.07 * (round.clamp(-1.0, 1.0).asin() * 5.0 + spin).cos();
        let body = 1.04 - 0.26 * round * round + sun * round * (0.1 + 0.15 * light.hard);
        (scale(colour, body + rib - 0.1 * (1.0 - smoothstep(0.0, 0.3, along))), 1.0)
    });
    for turn in [-0.9, 0.0, 0.9f32] {
        let tip = [0.26 * turn, 0.2 - 0.05 * turn.abs()];
        let curve = [[0.0, -0.06], [0.2 * turn, 0.0], tip].map(|p| stance.at(p, 0.0));
        leaf(canvas, curve, 0.06 * stance.scale, dye.green, light, 0.9);
    }
}
