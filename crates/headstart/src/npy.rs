//! NumPy's `.npy`, for float32 arrays in C order: enough to trade tensors with other tools.
//!
//! Format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads shape and values.
pub fn read(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    let bytes = fs::read(path).map_err(Error::read(path))?;
    parse(&bytes).map_err(|what| Error::BadData {
        place: path.display().to_string(),
        what,
        hint: "save it with `numpy.save(path, x.astype(numpy.float32))`".into(),
    })
}

fn parse(bytes: &[u8]) -> std::result::Result<(Vec<usize>, Vec<f32>), String> {
    let version = *bytes.get(6).filter(|_| bytes.starts_with(MAGIC)).ok_or("no NumPy array")?;
    let (start, len) = match (version, bytes.get(8..10), bytes.get(8..12)) {
        (1, Some(b), _) => (10, u16::from_le_bytes([b[0], b[1]]) as usize),
        (2 | 3, _, Some(b)) => (12, u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize),
        _ => return Err(format!("NumPy format version {version}")),
    };
    let header = bytes.get(start..start + len).ok_or("a header cut short")?;
    let header = String::from_utf8_lossy(header);
    if !header.contains("'<f4'") || !header.contains("'fortran_order': False") {
        return Err(format!("an array that is not float32 in C order ({})", header.trim()));
    }
    let inside = header.split_once('(').and_then(|(_, rest)| rest.split_once(')')).ok_or("no shape")?.0;
    let sizes = inside.split(',').map(str::trim).filter(|s| !s.is_empty());
    let shape: Vec<usize> =
        sizes.map(str::parse).collect::<std::result::Result<_, _>>().map_err(|_| "a garbled shape")?;
    let wanted = shape.iter().try_fold(4_usize, |n, s| n.checked_mul(*s)).ok_or("an impossible shape")?;
    let data = &bytes[start + len..];
    if data.len() != wanted {
        return Err(format!("{} bytes of numbers where {wanted} belong", data.len()));
    }
    Ok((shape, data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
}

/// Writes shape and values.
///
/// # Panics
/// If `values` does not fill `shape`.
pub fn write(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "values fill the shape");
    let sizes: String = shape.iter().map(|s| format!("{s}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    // The data starts at a multiple of 64 bytes; the header ends in a newline.
    let padding = 64 - (MAGIC.len() + 4 + header.len() + 1) % 64;
    header.extend(std::iter::repeat_n(' ', padding % 64));
    header.push('\n');
    let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    fs::write(path, bytes).map_err(Error::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_garbage_is_named() {
        let path = std::env::temp_dir().join(format!("headstart-npy-{}.npy", std::process::id()));
        for shape in [vec![2, 3], vec![6], vec![1, 2, 3, 1]] {
            let values: Vec<f32> = (0..6).map(|i| i as f32 * 0.5).collect();
            write(&path, &shape, &values).unwrap();
            assert_eq!(fs::read(&path).unwrap().len() % 64, 24);
            assert_eq!(read(&path).unwrap(), (shape, values));
        }
        fs::remove_file(&path).unwrap();
        assert!(parse(b"\x93NUMPY\x01\x00\xff\xff").is_err() && parse(b"").is_err());
    }
}
