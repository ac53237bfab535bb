//! Small pictures inside a page, as `data:` addresses, so that the page is one file.

use headstart::evidence::ClassMap;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize, thumbnail};
use image::{Rgb, RgbImage};

const QUALITY: u8 = 78;

/// Shrinks a picture so that its longer side is at most `side`, and encodes it.
pub fn small(picture: &RgbImage, side: u32) -> String {
    jpeg(&shrunk(picture, side))
}

/// Shows in colour where a score comes from; places that speak against it stay as they are.
pub fn heat(picture: &RgbImage, map: &ClassMap, side: u32) -> String {
    let mut shown = shrunk(picture, side);
    let (width, height) = shown.dimensions();
    let top = map.values.iter().copied().fold(0.0_f32, f32::max);
    if top > 0.0 {
        let grey = image::ImageBuffer::<image::Luma<f32>, _>::from_raw(
            map.width as u32,
            map.height as u32,
            map.values.iter().map(|v| (v / top).max(0.0)).collect::<Vec<f32>>(),
        );
        let smooth = resize(&grey.expect("a value a place"), width, height, FilterType::Triangle);
        for (pixel, value) in shown.pixels_mut().zip(smooth.pixels()) {
            let share = 0.7 * value[0].clamp(0.0, 1.0);
            // Orange over grey: bright in either, whatever the picture's colours.
            let [r, g, b] = pixel.0.map(f32::from);
            let grey = 0.299 * r + 0.587 * g + 0.114 * b;
            let mix = |colour: f32| (grey * (1.0 - share) + colour * share) as u8;
            *pixel = Rgb([mix(255.0), mix(120.0), mix(0.0)]);
        }
    }
    jpeg(&shown)
}

/// Makes an address that holds the bytes themselves.
pub fn data_uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", base64(bytes))
}

fn shrunk(picture: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longest = width.max(height).max(1);
    if longest <= side {
        return picture.clone();
    }
    let scaled = |v: u32| (u64::from(v) * u64::from(side) / u64::from(longest)).max(1) as u32;
    thumbnail(picture, scaled(width), scaled(height))
}

fn jpeg(picture: &RgbImage) -> String {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    picture.write_with_encoder(encoder).expect("a vector takes any number of bytes");
    data_uri("image/jpeg", &bytes)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize] as char;
            text.push(if i <= three.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, want) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{fb}\u{ff}", "w7vDvw=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), want);
        }
    }

    #[test]
    fn the_shape_is_kept_and_small_pictures_are_not_blown_up() {
        assert_eq!(shrunk(&RgbImage::new(400, 100), 80).dimensions(), (80, 20));
        assert_eq!(shrunk(&RgbImage::new(30, 10), 80).dimensions(), (30, 10));
        let map = ClassMap { height: 1, width: 2, values: vec![-1.0, 2.0] };
        assert!(heat(&RgbImage::new(8, 8), &map, 80).starts_with("data:image/jpeg;base64,/9j/"));
    }
}
