//! Colour operations on 8-bit RGB with PIL's arithmetic: `ImageEnhance`, `ImageOps`, HSV.
//!
//! Factors mean what they mean in torchvision: 0 is the degenerate picture (black, grey, blurred),
//! 1 the original.

use ::image::RgbImage;

/// PIL's `convert("L")`: ITU-R 601 luma in 16-bit fixed point.
fn luma(p: &[u8]) -> u8 {
    ((u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16) as u8
}

/// Sets all three colours to the luma.
pub fn grey(image: &RgbImage) -> RgbImage {
    let mut image = image.clone();
    image.chunks_exact_mut(3).for_each(|p| p.fill(luma(p)));
    image
}

/// PIL's `Image.blend`: truncated and clipped, in single precision.
fn blend(degenerate: u8, original: u8, factor: f32) -> u8 {
    let v = f32::from(degenerate) + factor * (f32::from(original) - f32::from(degenerate));
    v.clamp(0.0, 255.0) as u8
}

fn map(image: &mut RgbImage, table: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|v| table(v as u8));
    image.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

/// Blends with black.
pub fn brightness(image: &mut RgbImage, factor: f32) {
    map(image, |v| blend(0, v, factor));
}

/// Blends with the mean grey.
pub fn contrast(image: &mut RgbImage, factor: f32) {
    let sum: u64 = image.as_raw().chunks_exact(3).map(|p| u64::from(luma(p))).sum();
    let pixels = f64::from(image.width()) * f64::from(image.height());
    let mean = (sum as f64 / pixels + 0.5) as u8;
    map(image, |v| blend(mean, v, factor));
}

/// Blends with the grey picture.
pub fn saturation(image: &mut RgbImage, factor: f32) {
    for p in image.chunks_exact_mut(3) {
        let grey = luma(p);
        p.iter_mut().for_each(|v| *v = blend(grey, *v, factor));
    }
}

/// Turns the hue by `turn` of a full circle, −0.5 to 0.5.
pub fn hue(image: &mut RgbImage, turn: f32) {
    // np.int32(hue_factor * 255).astype(np.uint8): truncated, then wrapped.
    let step = (f64::from(turn) * 255.0) as i32 as u8;
    for p in image.chunks_exact_mut(3) {
        let [h, s, v] = rgb_to_hsv([p[0], p[1], p[2]]);
        p.copy_from_slice(&hsv_to_rgb([h.wrapping_add(step), s, v]));
    }
}

/// PIL's `rgb2hsv_row`.
fn rgb_to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [0, 0, max];
    }
    let range = f32::from(max) - f32::from(min);
    let s = range / f32::from(max);
    let part = |c: u8| f32::from(max - c) / range;
    let (rc, gc, bc) = (part(r), part(g), part(b));
    // The mixed precision is C's: float variables, double constants.
    let h = if r == max {
        bc - gc
    } else if g == max {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let h = ((f64::from(h) / 6.0 + 1.0) % 1.0) as f32;
    let byte = |x: f32| (f64::from(x) * 255.0).clamp(0.0, 255.0) as u8;
    [byte(h), byte(s), max]
}

/// PIL's `hsv2rgb`.
fn hsv_to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let h6 = (f64::from(h) * 6.0 / 255.0) as f32;
    let i = h6.floor();
    let f = h6 - i;
    let fs = (f64::from(s) / 255.0) as f32;
    let byte = |x: f64| x.round().clamp(0.0, 255.0) as u8;
    let (fv, fs, f) = (f64::from(v), f64::from(fs), f64::from(f));
    let p = byte(fv * (1.0 - fs));
    let q = byte(fv * (1.0 - fs * f));
    let t = byte(fv * (1.0 - fs * (1.0 - f)));
    match i as u32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// Blends with the picture under PIL's 3 × 3 smoothing filter, whose border pixels stay as they are.
pub fn sharpness(image: &mut RgbImage, factor: f32) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width < 3 || height < 3 {
        return; // nothing but border: the smooth picture is the original
    }
    let source = image.as_raw().clone();
    let row = width * 3;
    for y in 1..height - 1 {
        for i in y * row + 3..(y + 1) * row - 3 {
            let around =
                |at: usize| u32::from(source[at - 3]) + u32::from(source[at]) + u32::from(source[at + 3]);
            let sum = around(i - row) + around(i) + around(i + row) + 4 * u32::from(source[i]);
            let smooth = (f64::from(sum) / 13.0 + 0.5) as u8;
            image.as_mut()[i] = blend(smooth, source[i], factor);
        }
    }
}

/// Keeps the highest `bits` bits of every channel.
pub fn posterize(image: &mut RgbImage, bits: u32) {
    let mask = !((1u32 << (8 - bits.clamp(1, 8))) - 1) as u8;
    map(image, |v| v & mask);
}

/// Inverts every value that is not below `threshold`.
pub fn solarize(image: &mut RgbImage, threshold: f32) {
    map(image, |v| if f32::from(v) < threshold { v } else { 255 - v });
}

/// Stretches every channel to 0–255.
pub fn autocontrast(image: &mut RgbImage) {
    per_channel(image, |counts| {
        let low = counts.iter().position(|&n| n > 0)?;
        let high = counts.iter().rposition(|&n| n > 0)?;
        if high <= low {
            return None;
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        Some(std::array::from_fn(|v| (v as f64 * scale + offset).clamp(0.0, 255.0) as u8))
    });
}

/// Flattens the histogram of every channel.
pub fn equalize(image: &mut RgbImage) {
    per_channel(image, |counts| {
        let used: Vec<u32> = counts.iter().copied().filter(|&n| n > 0).collect();
        let step = (used.iter().sum::<u32>() - used.last()?) / 255;
        if used.len() <= 1 || step == 0 {
            return None;
        }
        let mut n = step / 2;
        Some(std::array::from_fn(|v| {
            let out = (n / step).min(255) as u8;
            n += counts[v];
            out
        }))
    });
}

/// Maps each channel through a table made from its histogram; `None` leaves it alone.
fn per_channel(image: &mut RgbImage, table: impl Fn(&[u32; 256]) -> Option<[u8; 256]>) {
    let mut counts = [[0u32; 256]; 3];
    for p in image.as_raw().chunks_exact(3) {
        (0..3).for_each(|c| counts[c][usize::from(p[c])] += 1);
    }
    for (c, counts) in counts.iter().enumerate() {
        if let Some(table) = table(counts) {
            image.iter_mut().skip(c).step_by(3).for_each(|v| *v = table[usize::from(*v)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgb;

    fn picture() -> RgbImage {
        RgbImage::from_fn(9, 7, |x, y| Rgb([(x * 28) as u8, (y * 36) as u8, ((x + y) * 9 + 40) as u8]))
    }

    #[test]
    fn factor_one_changes_nothing() {
        for op in [brightness, contrast, saturation, sharpness] {
            let mut image = picture();
            op(&mut image, 1.0);
            assert_eq!(image, picture());
        }
    }

    #[test]
    fn grey_has_no_hue_and_half_a_turn_swaps_red_for_cyan() {
        assert_eq!(hsv_to_rgb(rgb_to_hsv([90, 90, 90])), [90, 90, 90]);
        let mut red = RgbImage::from_pixel(1, 1, Rgb([200, 0, 0]));
        hue(&mut red, 0.5);
        let p = red.get_pixel(0, 0);
        assert!(p[0] == 0 && p[1] > 190 && p[2] > 190, "{p:?}");
    }

    #[test]
    fn tables_follow_their_definitions() {
        let mut image = picture();
        posterize(&mut image, 2);
        assert!(image.iter().all(|v| v & 0x3F == 0));
        let mut image = picture();
        autocontrast(&mut image);
        assert_eq!((image.iter().min(), image.iter().max()), (Some(&0), Some(&255)));
        let mut flat = RgbImage::from_pixel(4, 4, Rgb([3, 4, 5]));
        autocontrast(&mut flat);
        equalize(&mut flat);
        assert_eq!(flat.get_pixel(0, 0), &Rgb([3, 4, 5]));
    }
}
