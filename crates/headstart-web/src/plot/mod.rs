//! Charts as pictures: training curves, confusion, reliability, accuracy by class, predicted by true numbers.
//!
//! Drawn with the library's own antialiased [`Canvas`](headstart::synth::canvas::Canvas) and a font
//! inside the binary, so a chart looks the same on every machine, with or without a display.
//! Lengths are in points; a point is two pixels, so charts stay sharp on dense screens and in print.
//! [`sheet`] is the pen, [`axis`] the scales and grid; one file per kind of chart.

pub mod axis;
pub mod bars;
pub mod confusion;
pub mod curves;
pub mod reliability;
pub mod scatter;
pub mod sheet;
pub mod text;

pub use bars::{Bar, bars};
pub use confusion::confusion;
pub use curves::{Mark, Panel, Series, curves, lr_curve};
pub use reliability::reliability;
pub use scatter::{Scatter, scatter};

use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};

/// Encodes a chart as PNG.
pub fn png(chart: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Flat areas compress best unfiltered; `Best` takes ten times as long for a few per cent.
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::NoFilter);
    chart.write_with_encoder(encoder).expect("a vector takes any number of bytes");
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn png_keeps_every_pixel() {
        let chart = image::RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8, y as u8, 200]));
        let bytes = super::png(&chart);
        assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8(), chart);
    }
}
