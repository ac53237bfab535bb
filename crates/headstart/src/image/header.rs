//! What a picture's header says before anything is decoded: format, size, colours, orientation.

use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{ColorType, ExtendedColorType, ImageDecoder, ImageFormat};

use super::decode::open;
use crate::error::{Error, Result};

/// How a file stores its colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// 8-bit red, green and blue.
    Rgb,
    /// One channel.
    Grey,
    /// Black and white only.
    Bilevel,
    /// A table of colours.
    Palette,
    /// With transparency, which is dropped.
    Alpha,
    /// 16 bits a channel, of which the high byte is kept.
    Deep,
    /// Floating point.
    Float,
    /// Printing colours.
    Cmyk,
}

impl Mode {
    /// Names the mode in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Mode::Rgb => "RGB",
            Mode::Grey => "grey",
            Mode::Bilevel => "black and white",
            Mode::Palette => "palette",
            Mode::Alpha => "colours with transparency",
            Mode::Deep => "16-bit values",
            Mode::Float => "floating-point values",
            Mode::Cmyk => "CMYK",
        }
    }
}

/// The header of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name of the format: `JPEG`.
    pub format: &'static str,
    /// Whether the file's name ends as the format's names do.
    pub named_right: bool,
    /// Pixels across, as stored.
    pub width: u32,
    /// Pixels down, as stored.
    pub height: u32,
    /// How colours are stored.
    pub mode: Mode,
    /// Whether the camera was turned: EXIF asks for more than showing the pixels as they are.
    pub turned: bool,
}

/// Reads the header of a picture in memory; `path` names it in errors and is compared with the format.
pub fn header(bytes: &[u8], path: impl AsRef<Path>) -> Result<Header> {
    let path = path.as_ref();
    let read = || {
        let (mut decoder, format) = open(bytes)?;
        let (width, height) = decoder.dimensions();
        let turned = decoder.orientation().is_ok_and(|o| o != Orientation::NoTransforms);
        let mode = stored(bytes, format)
            .unwrap_or_else(|| of_colours(decoder.color_type(), decoder.original_color_type()));
        Ok(Header { format: name(format), named_right: fits(path, format), width, height, mode, turned })
    };
    std::panic::catch_unwind(read)
        .unwrap_or_else(|_| Err("damaged data that the decoder does not survive".into()))
        .map_err(|reason: String| Error::CorruptImage { path: path.to_path_buf(), reason })
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => "PNM",
    }
}

/// Tells whether a name without an ending, or with one of the format's, is what was found.
fn fits(path: &Path, format: ImageFormat) -> bool {
    let Some(ending) = path.extension().and_then(|e| e.to_str()) else { return true };
    let ending = ending.to_lowercase();
    let jfif = format == ImageFormat::Jpeg && ending == "jfif";
    jfif || format.extensions_str().contains(&ending.as_str())
}

/// What only the file itself tells: decoders widen palettes and convert printing colours without a word.
fn stored(bytes: &[u8], format: ImageFormat) -> Option<Mode> {
    match format {
        // IHDR comes first: bit depth at byte 24, colour type at 25.
        ImageFormat::Png => match (bytes.get(24)?, bytes.get(25)?) {
            (16, _) => Some(Mode::Deep),
            (_, 3) => Some(Mode::Palette),
            (1, 0) => Some(Mode::Bilevel),
            _ => None,
        },
        ImageFormat::Gif => Some(Mode::Palette),
        ImageFormat::Jpeg => (jpeg_channels(bytes)? == 4).then_some(Mode::Cmyk),
        _ => None,
    }
}

/// Counts the channels in the first frame header.
fn jpeg_channels(bytes: &[u8]) -> Option<u8> {
    let mut at = 2;
    loop {
        let &[mark, kind, high, low] = bytes.get(at..at + 4)? else { return None };
        match (mark, kind) {
            (0xFF, 0xFF) => at += 1,
            // Start of frame, without the Huffman, arithmetic and extension markers between them.
            (0xFF, 0xC0..=0xCF) if !matches!(kind, 0xC4 | 0xC8 | 0xCC) => return bytes.get(at + 9).copied(),
            (0xFF, _) => at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2),
            _ => return None,
        }
    }
}

fn of_colours(seen: ColorType, original: ExtendedColorType) -> Mode {
    use ExtendedColorType as E;
    match original {
        E::Cmyk8 | E::Cmyk16 => return Mode::Cmyk,
        E::L1 => return Mode::Bilevel,
        _ => {}
    }
    match seen {
        ColorType::Rgb32F | ColorType::Rgba32F => Mode::Float,
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => Mode::Deep,
        ColorType::La8 | ColorType::Rgba8 => Mode::Alpha,
        ColorType::L8 => Mode::Grey,
        _ => Mode::Rgb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{DynamicImage, GrayImage, ImageBuffer, Luma, RgbImage, RgbaImage};
    use std::io::Cursor;

    fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    #[test]
    fn modes_sizes_and_names_are_told() {
        let rgb: DynamicImage = RgbImage::new(5, 3).into();
        let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::new(5, 3);
        let cases: [(DynamicImage, ImageFormat, &str, &str, Mode, bool); 7] = [
            (rgb.clone(), ImageFormat::Jpeg, "a.JPG", "JPEG", Mode::Rgb, true),
            (rgb.clone(), ImageFormat::Jpeg, "a.jfif", "JPEG", Mode::Rgb, true),
            (rgb.clone(), ImageFormat::Png, "a.jpg", "PNG", Mode::Rgb, false),
            (GrayImage::new(5, 3).into(), ImageFormat::Jpeg, "a.jpeg", "JPEG", Mode::Grey, true),
            (RgbaImage::new(5, 3).into(), ImageFormat::Png, "a", "PNG", Mode::Alpha, true),
            (deep.into(), ImageFormat::Png, "a.png", "PNG", Mode::Deep, true),
            (rgb, ImageFormat::Gif, "a.gif", "GIF", Mode::Palette, true),
        ];
        for (image, format, path, name, mode, named_right) in cases {
            let found = header(&encode(&image, format), path).unwrap();
            let want = Header { format: name, named_right, width: 5, height: 3, mode, turned: false };
            assert_eq!(found, want, "{path}");
        }
        assert!(header(b"", "a.jpg").is_err());
    }

    #[test]
    fn four_channels_of_a_jpeg_are_printing_colours() {
        // SOI, an APP0 of two bytes, then a start of frame with four channels.
        let frame = [0xFF, 0xD8, 0xFF, 0xE0, 0, 2, 0xFF, 0xC2, 0, 20, 8, 0, 1, 0, 1, 4];
        assert_eq!(jpeg_channels(&frame), Some(4));
        assert_eq!(stored(&frame, ImageFormat::Jpeg), Some(Mode::Cmyk));
        assert_eq!(jpeg_channels(&frame[..9]), None);
    }
}
