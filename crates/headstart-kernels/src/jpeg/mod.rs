//! JPEG files to RGB: the same bytes that libjpeg-turbo gives, and so PIL and torchvision.
//!
//! A network sees what the decoder makes of a file, and decoders differ by several grey levels where they round elsewhere or
//! stretch the colour planes by another filter. Here libjpeg itself (`mozjpeg-sys`, C only, no assembler) reads headers and
//! entropy-coded data; the inverse transform, the stretching and the colours are exact integer arithmetic: the transform in
//! AVX2 registers where there are any, the others in plain loops compiled for each [`Level`].

mod coefficients;
mod color;
mod idct;
mod upsample;

use coefficients::{Colors, File, Grid};
use upsample::{Halved, Stretched};

use crate::Level;
use crate::simd::at;

/// A decoded picture.
pub struct Picture {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// `[height][width][red, green, blue]`.
    pub rgb: Vec<u8>,
}

/// One component of a picture.
struct Plane {
    /// Samples that belong to the picture.
    width: usize,
    height: usize,
    /// Bytes from a row to the next.
    stride: usize,
    samples: Vec<u8>,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.width]
    }
}

/// Decodes a whole file. `None`: a kind of JPEG that is left to another decoder (four inks, colours stored as RGB, colour
/// planes at other than full or half size).
///
/// # Errors
///
/// libjpeg's words, where the file makes no picture. Like PIL, it accepts damaged data that still decodes.
pub fn decode(bytes: &[u8]) -> Result<Option<Picture>, String> {
    decode_at(Level::current(), bytes)
}

/// [`decode`] with the instructions of `level`; every level gives the same bytes.
pub fn decode_at(level: Level, bytes: &[u8]) -> Result<Option<Picture>, String> {
    coefficients::caught(|| {
        let mut file = File::open(bytes);
        let grids = file.grids();
        let halved = halved(file.colors(), &grids)?;
        file.read();
        let planes: Vec<Plane> = grids
            .iter()
            .enumerate()
            .map(|(component, grid)| plane(level, &mut file, component, grid))
            .collect();
        let (width, height) = file.size();
        let mut rgb = vec![0; width * height * 3];
        at(
            level,
            #[inline(always)]
            |_| match &planes[..] {
                [luma, blue, red] => {
                    let (mut blue, mut red) = (Stretched::new(blue, halved), Stretched::new(red, halved));
                    for (y, to) in rgb.chunks_exact_mut(width * 3).enumerate() {
                        color::rgb(luma.row(y), blue.row(y), red.row(y), to);
                    }
                }
                planes => {
                    for (y, to) in rgb.chunks_exact_mut(width * 3).enumerate() {
                        color::grey(planes[0].row(y), to);
                    }
                }
            },
        );
        Some(Picture { width, height, rgb })
    })
}

/// Tells whether the colour planes are at half size, or `None` for what this module does not read.
fn halved(colors: Colors, grids: &[Grid]) -> Option<Halved> {
    match (colors, grids) {
        (Colors::Grey, [_]) => Some(Halved { across: false, down: false }),
        (Colors::Ycc, [luma, blue, red]) if blue.sampling == red.sampling => {
            let half = |full, part| (full == part || full == 2 * part).then_some(full != part);
            let (full, part) = (luma.sampling, blue.sampling);
            Some(Halved { across: half(full.0, part.0)?, down: half(full.1, part.1)? })
        }
        _ => None,
    }
}

/// Transforms the coefficients of one component back.
fn plane(level: Level, file: &mut File, component: usize, grid: &Grid) -> Plane {
    let quantizers = file.quantizers(component);
    let stride = grid.blocks_across * 8;
    let mut samples = vec![0; stride * grid.blocks_down * 8];
    for (row, to) in samples.chunks_exact_mut(stride * 8).enumerate() {
        idct::inverse(level, file.blocks(component, row), &quantizers, to, stride);
    }
    Plane { width: grid.width, height: grid.height, stride, samples }
}
