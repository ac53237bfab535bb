//! Finds the stored members of a zip archive: all that a PyTorch checkpoint needs of the format.
//!
//! PyTorch never compresses (it maps members into memory), so a compressed member is refused
//! rather than inflated. Every offset is checked against the file before it is used. Checksums
//! are not compared: PyTorch can be told to leave them out (`set_crc32_options(False)`) and
//! reads such files; downloads are verified by sha256 instead.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::safetensors::bad_weights;
use crate::error::{Error, Result};

/// Bounds the directory of member names; a 10 000-tensor checkpoint needs about 1 MB.
const MAX_DIRECTORY: u64 = 128 << 20;
/// The end record is 22 bytes and its comment at most 65 535.
const END_RECORD: usize = 22;
const ZIP64_LOCATOR: usize = 20;

/// Holds an open archive and where its members are.
pub(super) struct Zip {
    file: File,
    file_len: u64,
    path: PathBuf,
    members: HashMap<String, Member>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    header_at: u64,
    len: u64,
    compressed: bool,
}

impl Zip {
    /// Reads the directory of the archive.
    pub(super) fn open(path: &Path) -> Result<Zip> {
        let mut file = File::open(path).map_err(Error::read(path))?;
        let file_len = file.metadata().map_err(Error::read(path))?.len();
        let tail_len = file_len.min((END_RECORD + ZIP64_LOCATOR + 65_535) as u64);
        let tail_at = file_len - tail_len;
        let tail = read_at(&mut file, tail_at, tail_len).map_err(Error::read(path))?;

        let cut = || bad_weights(path, "its zip directory is missing: the download was cut short?");
        let end = (0..=tail.len().saturating_sub(END_RECORD))
            .rev()
            .find(|&i| tail[i..].starts_with(b"PK\x05\x06"))
            .ok_or_else(cut)?;
        let record = tail.get(end..end + END_RECORD).ok_or_else(cut)?;
        let (mut len, mut at) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
        // All ones mean "too large for 32 bits, see the zip64 record"; PyTorch always writes one.
        if let Some(locator) = end.checked_sub(ZIP64_LOCATOR).map(|i| &tail[i..end])
            && locator.starts_with(b"PK\x06\x07")
        {
            let record_at = u64_at(locator, 8);
            if record_at.checked_add(56).is_none_or(|end| end > file_len) {
                return Err(cut());
            }
            let record = read_at(&mut file, record_at, 56).map_err(Error::read(path))?;
            if record.starts_with(b"PK\x06\x06") {
                (len, at) = (u64_at(&record, 40), u64_at(&record, 48));
            }
        }
        if at.checked_add(len).is_none_or(|end| end > file_len) {
            return Err(cut());
        }
        if len > MAX_DIRECTORY {
            return Err(bad_weights(path, "its zip directory is larger than any checkpoint's"));
        }
        let directory = read_at(&mut file, at, len).map_err(Error::read(path))?;
        let members = read_directory(&directory)
            .ok_or_else(|| bad_weights(path, "its zip directory is garbled: the download was cut short?"))?;
        Ok(Zip { file, file_len, path: path.to_path_buf(), members })
    }

    /// Lists the member names, in no particular order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Returns the length of a member, or nothing if there is none of that name.
    pub(super) fn len(&self, name: &str) -> Option<u64> {
        self.members.get(name).map(|m| m.len)
    }

    /// Reads `len` bytes of a member from byte `from` on.
    pub(super) fn read(&mut self, name: &str, from: u64, len: u64) -> Result<Vec<u8>> {
        let bad = |reason: String| bad_weights(&self.path, reason);
        let member =
            *self.members.get(name).ok_or_else(|| bad(format!("its archive has no member `{name}`")))?;
        if member.compressed {
            return Err(bad(format!("`{name}` is compressed; PyTorch never does that")));
        }
        if from.checked_add(len).is_none_or(|end| end > member.len) {
            return Err(bad(format!("`{name}` is shorter than the tensors in it")));
        }
        let outside = || bad(format!("`{name}` lies outside the file: the download was cut short?"));
        // The local header repeats the name and pads so that the data starts at a multiple of 64.
        if member.header_at.checked_add(30).is_none_or(|end| end > self.file_len) {
            return Err(outside());
        }
        let header = read_at(&mut self.file, member.header_at, 30).map_err(Error::read(&self.path))?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(bad(format!("the header of `{name}` is garbled")));
        }
        let data_at = member.header_at + 30 + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        if data_at.checked_add(member.len).is_none_or(|end| end > self.file_len) {
            return Err(outside());
        }
        read_at(&mut self.file, data_at + from, len).map_err(Error::read(&self.path))
    }
}

/// Parses the central directory; nothing if it contradicts itself.
fn read_directory(bytes: &[u8]) -> Option<HashMap<String, Member>> {
    let mut members = HashMap::new();
    let mut rest = bytes;
    while rest.starts_with(b"PK\x01\x02") {
        let fixed = rest.get(..46)?;
        let (name_len, extra_len, comment_len) =
            (u16_at(fixed, 28) as usize, u16_at(fixed, 30) as usize, u16_at(fixed, 32) as usize);
        let name = rest.get(46..46 + name_len)?;
        let mut extra = rest.get(46 + name_len..46 + name_len + extra_len)?;
        let mut member = Member {
            header_at: u32_at(fixed, 42).into(),
            len: u32_at(fixed, 24).into(),
            compressed: u16_at(fixed, 10) != 0,
        };
        let mut stored_len = u64::from(u32_at(fixed, 20));
        while extra.len() >= 4 {
            let (id, size) = (u16_at(extra, 0), u16_at(extra, 2) as usize);
            let mut field = extra.get(4..4 + size)?;
            if id == 1 {
                // The zip64 field lists, in this order, only the values that were all ones.
                for value in [&mut member.len, &mut stored_len, &mut member.header_at] {
                    if *value == u64::from(u32::MAX) {
                        *value = u64_at(field.get(..8)?, 0);
                        field = &field[8..];
                    }
                }
            }
            extra = &extra[4 + size..];
        }
        member.compressed |= stored_len != member.len;
        members.insert(String::from_utf8_lossy(name).into_owned(), member);
        rest = rest.get(46 + name_len + extra_len + comment_len..)?;
    }
    (!members.is_empty()).then_some(members)
}

/// Reads exactly `len` bytes at `at`; callers have checked both against the length of the file.
pub(super) fn read_at(file: &mut File, at: u64, len: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
