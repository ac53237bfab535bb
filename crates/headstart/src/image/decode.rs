//! Reading a picture file as 8-bit RGB, or saying in plain words why it cannot be done.
//!
//! The format is told by the content, never by the name. Colours follow PIL's
//! `Image.open(f).convert("RGB")`: alpha is dropped, 16 bits keep their high byte. Two deliberate
//! differences: the EXIF orientation is applied (torchvision and timm ignore it), and 16-bit grey
//! is scaled like 16-bit colour, where PIL clips it to 255 and leaves a white page.

use std::io::Cursor;
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use crate::error::{Error, Result};

/// Most pixels a picture may have: twice PIL's `MAX_IMAGE_PIXELS`, where PIL refuses too.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Reads the picture at `path`.
pub fn decode(path: impl AsRef<Path>) -> Result<RgbImage> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    decode_bytes(&bytes, path)
}

/// Decodes a picture in memory; `path` only names it in errors.
pub fn decode_bytes(bytes: &[u8], path: impl AsRef<Path>) -> Result<RgbImage> {
    guarded(|| picture(bytes))
        .map_err(|reason| Error::CorruptImage { path: path.as_ref().to_path_buf(), reason })
}

/// Checks that the picture at `path` decodes to its last pixel.
pub fn check(path: impl AsRef<Path>) -> Result<()> {
    decode(path).map(|_| ())
}

/// Returns width and height as they will be decoded, from the header alone.
pub fn dimensions(bytes: &[u8], path: impl AsRef<Path>) -> Result<(u32, u32)> {
    let size = || {
        let mut decoder = open(bytes)?.0;
        let (width, height) = decoder.dimensions();
        let turned = matches!(
            decoder.orientation().unwrap_or(Orientation::NoTransforms),
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        Ok(if turned { (height, width) } else { (width, height) })
    };
    size().map_err(|reason| Error::CorruptImage { path: path.as_ref().to_path_buf(), reason })
}

pub(super) type Reason = String;

/// Reads the header: the decoder, and the format for messages.
pub(super) fn open(bytes: &[u8]) -> std::result::Result<(impl ImageDecoder + '_, ImageFormat), Reason> {
    if let Some(reason) = not_a_picture(bytes) {
        return Err(reason);
    }
    let format = ::image::guess_format(bytes).map_err(|_| {
        "not a picture format Headstart reads (JPEG, PNG, WebP, GIF, BMP, TIFF, PNM)".to_string()
    })?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(4 << 30); // MAX_PIXELS at 16 bits a channel, plus the decoder's own buffers
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| plain(format, &e))?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(format!(
            "too large: {width} × {height} = {} million pixels; the limit is {} million",
            pixels / 1_000_000,
            MAX_PIXELS / 1_000_000
        ));
    }
    if pixels == 0 {
        return Err(format!("no pixels: {width} × {height}"));
    }
    Ok((decoder, format))
}

/// Reads the picture at `path` with its opacity as a grey picture, white where it has none.
pub fn decode_with_alpha(path: impl AsRef<Path>) -> Result<(RgbImage, RgbImage)> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    let both = || oriented(&bytes).map(|image| (opacity(&image), to_rgb8(image)));
    let decoded = guarded(both).map_err(|reason| Error::CorruptImage { path: path.to_path_buf(), reason });
    decoded.map(|(alpha, image)| (image, alpha))
}

fn opacity(image: &DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let bytes: Vec<u8> = match image {
        _ if !image.color().has_alpha() => vec![255; width as usize * height as usize * 3],
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [(p[1] >> 8) as u8; 3]).collect(),
        DynamicImage::ImageRgba16(rgba) => rgba.pixels().flat_map(|p| [(p[3] >> 8) as u8; 3]).collect(),
        other => other.to_rgba8().pixels().flat_map(|p| [p[3]; 3]).collect(),
    };
    RgbImage::from_raw(width, height, bytes).expect("three bytes were made for each pixel")
}

/// A file from anywhere may meet a bug in a decoder; that must cost one picture, not the run.
fn guarded<T>(f: impl FnOnce() -> std::result::Result<T, Reason>) -> std::result::Result<T, Reason> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
        .unwrap_or_else(|_| Err("damaged data that the decoder does not survive".into()))
}

fn picture(bytes: &[u8]) -> std::result::Result<RgbImage, Reason> {
    oriented(bytes).map(to_rgb8)
}

fn oriented(bytes: &[u8]) -> std::result::Result<DynamicImage, Reason> {
    let (mut decoder, format) = open(bytes)?;
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
        // The JPEG decoder paints what is missing grey; PIL and we refuse.
        return Err("truncated: the file ends in the middle of the picture".into());
    }
    // A broken EXIF block does not make the pixels wrong.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let jpeg = if format == ImageFormat::Jpeg { jpeg(bytes)? } else { None };
    let mut image = match jpeg {
        Some(image) => image,
        None => DynamicImage::from_decoder(decoder).map_err(|e| plain(format, &e))?,
    };
    image.apply_orientation(orientation);
    Ok(image)
}

/// Decodes to the bytes of PIL and torchvision, where ours can.
fn jpeg(bytes: &[u8]) -> std::result::Result<Option<DynamicImage>, Reason> {
    let picture =
        headstart_kernels::jpeg::decode(bytes).map_err(|said| format!("damaged JPEG data ({said})"))?;
    Ok(picture.map(|picture| {
        RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.rgb)
            .expect("three bytes a pixel")
            .into()
    }))
}

/// Converts as PIL does: drop alpha, keep the high byte of 16 bits.
fn to_rgb8(image: DynamicImage) -> RgbImage {
    let high = |v: u16| (v >> 8) as u8;
    let (width, height) = (image.width(), image.height());
    let bytes: Vec<u8> = match image {
        DynamicImage::ImageRgb8(rgb) => return rgb,
        DynamicImage::ImageLuma16(grey) => grey.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|p| [high(p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(rgb) => rgb.iter().copied().map(high).collect(),
        DynamicImage::ImageRgba16(rgba) => {
            rgba.pixels().flat_map(|p| [high(p[0]), high(p[1]), high(p[2])]).collect()
        }
        other => return other.into_rgb8(),
    };
    RgbImage::from_raw(width, height, bytes).expect("three bytes were made for each pixel")
}

/// Recognises what is often found under a picture's name.
fn not_a_picture(bytes: &[u8]) -> Option<Reason> {
    let text = |prefix: &str| {
        let start = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
        let head = &bytes[start..bytes.len().min(start + prefix.len())];
        head.eq_ignore_ascii_case(prefix.as_bytes())
    };
    let reason = if bytes.is_empty() {
        "empty file (0 bytes)"
    } else if bytes.starts_with(b"version https://git-lfs") {
        "a Git LFS pointer, not a picture; `git lfs pull` fetches the picture"
    } else if text("<!doctype html") || text("<html") {
        "a web page, not a picture; the download went wrong"
    } else if text("<svg") || text("<?xml") {
        "an SVG or XML file; Headstart reads pixels only"
    } else if bytes.get(4..8) == Some(b"ftyp") {
        "a HEIC, AVIF or video file; convert it to JPEG or PNG"
    } else if bytes.iter().all(|&b| b == 0) {
        "nothing but zero bytes; the copy went wrong"
    } else {
        return None;
    };
    Some(reason.to_string())
}

/// Tells whether the end-of-image marker follows the last scan.
///
/// Walks the segments, so that a thumbnail's marker inside EXIF does not count.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const EOI: u8 = 0xD9;
    let mut at = 2; // past SOI
    while let Some(&[mark, kind]) = bytes.get(at..at + 2) {
        match (mark, kind) {
            (0xFF, EOI) => return true,
            // Markers without a length: stuffed zero, restart, fill byte, TEM.
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => at += 2,
            (0xFF, 0xFF) => at += 1,
            (0xFF, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2),
                _ => return false,
            },
            // Entropy-coded data: go to the next 0xFF.
            _ => match bytes[at..].iter().position(|&b| b == 0xFF) {
                Some(skip) => at += skip,
                None => return false,
            },
        }
    }
    false
}

/// Puts a decoder's complaint into plain words.
fn plain(format: ImageFormat, error: &ImageError) -> Reason {
    let name = format.extensions_str()[0].to_uppercase();
    let said = match error {
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            return "truncated: the file ends in the middle of the picture".into();
        }
        ImageError::Limits(_) => return "too large to decode within 4 GiB of memory".into(),
        ImageError::Unsupported(e) => return format!("a kind of {name} Headstart does not read ({e})"),
        // The cause alone: "Format error decoding Png" in front of it says nothing new.
        ImageError::Decoding(e) => {
            std::error::Error::source(e).map_or_else(|| e.to_string(), |c| c.to_string())
        }
        other => other.to_string(),
    };
    let lower = said.to_lowercase();
    let cut =
        ["eof", "end of file", "end of data", "exhausted", "truncated", "no more bytes", "not enough bytes"];
    if cut.iter().any(|word| lower.contains(word)) {
        return "truncated: the file ends in the middle of the picture".into();
    }
    format!("damaged {name} data ({said})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{GrayImage, ImageBuffer, Luma, Rgb, RgbaImage};

    fn photo() -> RgbImage {
        RgbImage::from_fn(48, 32, |x, y| Rgb([(x * 5) as u8, (y * 7) as u8, ((x * y) % 251) as u8]))
    }

    fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    fn reason(bytes: &[u8]) -> String {
        match decode_bytes(bytes, "some.jpg") {
            Err(Error::CorruptImage { path, reason }) => {
                assert_eq!(path, Path::new("some.jpg"));
                reason
            }
            other => panic!("expected a corrupt image, got {:?}", other.map(|i| i.dimensions())),
        }
    }

    const FORMATS: [ImageFormat; 7] = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ];

    #[test]
    fn every_format_is_read_whatever_the_name_says() {
        for format in FORMATS {
            let image = decode_bytes(&encode(&photo().into(), format), "picture.dat").unwrap();
            assert_eq!(image.dimensions(), (48, 32), "{format:?}");
            if !matches!(format, ImageFormat::Jpeg | ImageFormat::Gif) {
                assert_eq!(image, photo(), "{format:?}");
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_in_its_pixels_is_refused() {
        for format in FORMATS {
            let whole = encode(&photo().into(), format);
            for keep in [whole.len() / 2, whole.len() * 3 / 4] {
                let said = reason(&whole[..keep]);
                assert!(
                    said.starts_with("truncated") || said.starts_with("damaged"),
                    "{format:?} {keep}: {said}"
                );
            }
        }
        let jpeg = encode(&photo().into(), ImageFormat::Jpeg);
        assert!(reason(&jpeg[..jpeg.len() - 2]).starts_with("truncated"));
    }

    #[test]
    fn what_is_not_a_picture_is_called_by_its_name() {
        for (bytes, want) in [
            (&b""[..], "empty file (0 bytes)"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:17", "git lfs pull"),
            (b"\n<!DOCTYPE HTML><html>404", "web page"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"just text", "not a picture format Headstart reads"),
            (&[0; 64], "zero bytes"),
        ] {
            assert!(reason(bytes).contains(want), "{want}: {}", reason(bytes));
        }
    }

    #[test]
    fn a_pixel_bomb_is_refused_from_its_header() {
        let mut bmp = encode(&photo().into(), ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&30_000i32.to_le_bytes());
        bmp[22..26].copy_from_slice(&30_000i32.to_le_bytes());
        assert_eq!(reason(&bmp), "too large: 30000 × 30000 = 900 million pixels; the limit is 178 million");
    }

    #[test]
    fn alpha_is_dropped_and_sixteen_bits_keep_their_high_byte() {
        let clear = RgbaImage::from_pixel(2, 2, ::image::Rgba([10, 20, 30, 0]));
        let png = encode(&clear.into(), ImageFormat::Png);
        assert_eq!(decode_bytes(&png, "a").unwrap().get_pixel(1, 1), &Rgb([10, 20, 30]));
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(2, 2, Luma([0x80FF]));
        let png = encode(&deep.into(), ImageFormat::Png);
        assert_eq!(decode_bytes(&png, "a").unwrap().get_pixel(0, 0), &Rgb([0x80; 3]));
        let grey = encode(&GrayImage::from_pixel(2, 2, Luma([77])).into(), ImageFormat::Jpeg);
        assert_eq!(decode_bytes(&grey, "a").unwrap().get_pixel(0, 0), &Rgb([77; 3]));
    }

    #[test]
    fn the_camera_s_orientation_is_applied() {
        let jpeg = encode(&photo().into(), ImageFormat::Jpeg);
        // APP1 "Exif", little-endian TIFF, one entry: tag 0x0112 (orientation) = 6, turn right.
        let exif =
            b"\xFF\xE1\x00\x22Exif\0\0II\x2A\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let turned = [&jpeg[..2], exif, &jpeg[2..]].concat();
        let (plain, turned) = (decode_bytes(&jpeg, "a").unwrap(), decode_bytes(&turned, "a").unwrap());
        assert_eq!(turned.dimensions(), (32, 48));
        assert_eq!(plain.get_pixel(0, 31), turned.get_pixel(0, 0));
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_count() {
        let jpeg = encode(&photo().into(), ImageFormat::Jpeg);
        let app1 = b"\xFF\xE1\x00\x08\xFF\xD8ab\xFF\xD9";
        let with_thumbnail = [&jpeg[..2], app1, &jpeg[2..]].concat();
        assert!(jpeg_has_end(&with_thumbnail));
        assert!(!jpeg_has_end(&with_thumbnail[..with_thumbnail.len() - 2]));
    }
}
