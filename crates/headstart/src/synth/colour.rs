//! Colours as three numbers in 0..1, in the space the screen shows (sRGB, not linear light).

use crate::rng::Rng;

/// Red, green and blue, nominally 0..1; anything outside is cut off when the picture is written.
pub type Colour = [f32; 3];

/// Makes a colour from hue (turns, wraps), saturation and value.
pub fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    let h = (hue - hue.floor()) * 6.0;
    [5.0, 3.0, 1.0].map(|n: f32| {
        let k = (n + h) % 6.0;
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

/// Goes from `a` (at 0) to `b` (at 1).
#[inline]
pub fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

/// Makes a colour brighter (above 1) or darker.
#[inline]
pub fn scale(c: Colour, factor: f32) -> Colour {
    [c[0] * factor, c[1] * factor, c[2] * factor]
}

/// Moves a colour a little at random, the same way in all channels and a bit in each.
pub fn jitter(c: Colour, amount: f32, rng: &mut Rng) -> Colour {
    let all = rng.range(-amount, amount);
    c.map(|v| (v + all + rng.range(-amount, amount) * 0.5).clamp(0.0, 1.0))
}

/// How bright the eye finds a colour (Rec. 601 weights).
pub fn luma(c: Colour) -> f32 {
    0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]
}

/// Goes from 0 to 1 smoothly while `x` goes from `low` to `high`.
#[inline]
pub fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hsv_knows_the_primaries() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [1.0, 0.0, 0.0]);
        assert_eq!(hsv(1.0 / 3.0, 1.0, 1.0), [0.0, 1.0, 0.0]);
        assert_eq!(hsv(-1.0 / 3.0, 1.0, 0.5), [0.0, 0.0, 0.5]);
        assert_eq!(hsv(0.7, 0.0, 0.25), [0.25; 3]);
    }
}
