//! One pass over a file: bytes, header, pixels, each summed up so that files can be compared without reading them again.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::image::{self, Header, Look};

/// A picture summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// SHA-256 of the file.
    pub bytes: [u8; 32],
    /// SHA-256 of size and decoded pixels: the same for the same picture under other metadata.
    pub pixels: [u8; 32],
    /// The picture from far away.
    pub look: Look,
    /// What the header says.
    pub header: Header,
}

/// Reads, decodes and sums up the picture at `path`.
pub fn inspect(path: &Path) -> Result<Inspected> {
    let bytes = std::fs::read(path).map_err(Error::read(path))?;
    let header = image::header(&bytes, path)?;
    let picture = image::decode_bytes(&bytes, path)?;
    let mut pixels = Sha256::new();
    pixels.update(picture.width().to_le_bytes());
    pixels.update(picture.height().to_le_bytes());
    pixels.update(picture.as_raw());
    Ok(Inspected {
        bytes: Sha256::digest(&bytes).into(),
        pixels: pixels.finalize().into(),
        look: Look::of(&picture),
        header,
    })
}
