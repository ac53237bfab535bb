//! Pictures: decoding, one-line preprocessing pipelines, augmentation, mixing.
//!
//! [`decode()`] turns a file into 8-bit RGB; a [`Pipeline`] turns that into normalised `f32` in
//! `[height][width][3]` order (one channel or four if asked for); a [`Key`] makes every random choice depend on (seed, epoch, sample,
//! operation) alone. Evaluation follows torchvision and PIL to the grey level; random operations
//! follow their distributions, not their random numbers. Files and batches live in `data`.

pub mod augment;
mod channels;
pub mod color;
pub mod decode;
pub mod geometry;
pub mod header;
pub mod key;
pub mod mix;
mod parse;
#[cfg(test)]
mod parse_tests;
pub mod phash;
pub mod resize;
pub mod transform;
#[cfg(test)]
mod transform_tests;
mod usual;

pub use ::image::RgbImage;
pub use decode::{MAX_PIXELS, check, decode, decode_bytes};
pub use header::{Header, Mode, header};
pub use key::Key;
pub use mix::{Mix, mix};
pub use phash::Look;
pub use resize::Interp;
pub use transform::{Op, Pipeline};
pub use usual::CropMode;
