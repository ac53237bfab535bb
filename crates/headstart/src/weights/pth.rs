//! Reads PyTorch checkpoints (`.pth`, `.pt`, `.pth.tar`, `.bin`) without running anything.
//!
//! Two containers hold the same kind of pickle: a zip archive with one member per storage
//! (PyTorch ≥ 1.6), and the legacy stream of five pickles followed by the storages. Numbers are
//! read from the file storage by storage, so an optimizer state costs no memory. The values are
//! read by `pickle.rs` and understood by `rebuild.rs`. A TorchScript archive is the first kind with a
//! program beside it, which is left alone: OpenAI published CLIP so.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::pickle::{Arena, Fault, Node, Value};
use super::rebuild::View;
use super::safetensors::bad_weights;
use super::state_dict::{Entry, StateDict};
use super::zip::{Zip, read_at};
use crate::error::{Error, Result};

/// Bounds the pickles; they hold names and shapes, not numbers (torchvision's largest: 150 kB).
const MAX_PICKLE: u64 = 64 << 20;
/// What tensors may take beyond their share of the file; legitimate views overlap now and then.
const SLACK: u64 = 64 << 20;

/// `0x1950a86a20f9469cfc6c` opens every legacy file.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads the weights of a checkpoint, whichever container they are in.
///
/// Containers such as `state_dict` are unwrapped; [`StateDict::notes`] says which.
pub fn read(path: &Path) -> Result<StateDict> {
    let mut file = File::open(path).map_err(Error::read(path))?;
    let mut start = Vec::new();
    (&mut file).take(4).read_to_end(&mut start).map_err(Error::read(path))?;
    if start == *b"PK\x03\x04" { read_zip(path) } else { read_legacy(path, file) }
}

fn read_zip(path: &Path) -> Result<StateDict> {
    let mut zip = Zip::open(path)?;
    // The folder in the archive has the name the file was first saved under.
    let pickle = zip
        .names()
        .filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"))
        .min_by_key(|name| name.len())
        .map(String::from)
        .ok_or_else(|| bad_weights(path, "it is a zip archive, but not one that PyTorch wrote"))?;
    let folder = pickle.trim_end_matches("data.pkl").to_string();
    let pickle_len = zip.len(&pickle).unwrap_or(0);
    if pickle_len > MAX_PICKLE {
        return Err(bad_weights(path, format!("its pickle is {pickle_len} bytes long, no checkpoint's is")));
    }
    let bytes = zip.read(&pickle, 0, pickle_len)?;
    let mut arena = Arena::default();
    let (root, _) = arena.load(&bytes).map_err(|fault| faulty(path, fault))?;
    let order = format!("{folder}byteorder");
    let big_endian = match zip.len(&order) {
        Some(len @ ..16) => zip.read(&order, 0, len)?.starts_with(b"big"),
        _ => false,
    };
    collect(path, &arena, root, big_endian, |key, from, len| {
        zip.read(&format!("{folder}data/{key}"), from, len)
    })
}

fn read_legacy(path: &Path, mut file: File) -> Result<StateDict> {
    let file_len = file.metadata().map_err(Error::read(path))?.len();
    let head = read_at(&mut file, 0, file_len.min(MAX_PICKLE)).map_err(Error::read(path))?;
    let mut arena = Arena::default();
    let mut at = 0;
    // Magic number, protocol version, system facts, the checkpoint, the list of storage keys.
    let mut values = [Value::None; 5];
    for (i, value) in values.iter_mut().enumerate() {
        let (loaded, len) = arena.load(&head[at..]).map_err(|fault| match i {
            0 => bad_weights(path, "it is neither a checkpoint of PyTorch nor a safetensors file"),
            _ => faulty(path, fault),
        })?;
        (*value, at) = (loaded, at + len);
        if i == 0 && !matches!(arena.node(loaded), Some(Node::Long(n)) if *n == LEGACY_MAGIC) {
            return Err(bad_weights(path, "it is a pickle, but not one that PyTorch wrote"));
        }
    }
    let [_, _, facts, root, keys] = values;
    let big_endian = arena.is_big_endian(facts);
    let storages = legacy_storages(path, &mut file, file_len, at as u64, &arena, keys, big_endian)?;
    collect(path, &arena, root, big_endian, |key, from, len| match storages.get(key) {
        Some(&(start, size)) if from.checked_add(len).is_some_and(|end| end <= size) => {
            read_at(&mut file, start + from, len).map_err(Error::read(path))
        }
        Some(_) => Err(bad_weights(path, format!("storage `{key}` is shorter than the tensors in it"))),
        None => Err(bad_weights(path, format!("storage `{key}` is missing"))),
    })
}

/// Finds where each storage starts: they follow the pickles in the order of `keys`, each after
/// its count of numbers, so the width of every one must be known, needed or not.
fn legacy_storages(
    path: &Path,
    file: &mut File,
    file_len: u64,
    mut at: u64,
    arena: &Arena,
    keys: Value,
    big_endian: bool,
) -> Result<HashMap<String, (u64, u64)>> {
    let cut = || bad_weights(path, "it ends before its last tensor: the download was cut short?");
    let widths: HashMap<&str, Option<u64>> =
        arena.nodes().iter().filter_map(|n| arena.storage(n)).map(|s| (s.key, s.width())).collect();
    let Some(Node::List(keys)) = arena.node(keys) else {
        return Err(bad_weights(path, "its list of storages is garbled"));
    };
    let mut storages = HashMap::new();
    for key in keys {
        let Some(Node::Str(key)) = arena.node(*key) else {
            return Err(bad_weights(path, "its list of storages is garbled"));
        };
        let width = widths.get(key.as_str()).copied().flatten().ok_or_else(|| {
            bad_weights(path, format!("storage `{key}` is of a type that is not supported"))
        })?;
        if at.checked_add(8).is_none_or(|end| end > file_len) {
            return Err(cut());
        }
        let count: [u8; 8] =
            read_at(file, at, 8).map_err(Error::read(path))?.try_into().expect("eight bytes");
        let count = if big_endian { u64::from_be_bytes(count) } else { u64::from_le_bytes(count) };
        let size = count.checked_mul(width).ok_or_else(cut)?;
        if (at + 8).checked_add(size).is_none_or(|end| end > file_len) {
            return Err(cut());
        }
        storages.insert(key.clone(), (at + 8, size));
        at += 8 + size;
    }
    Ok(storages)
}

/// Reads the numbers of every tensor found under `root`.
fn collect(
    path: &Path,
    arena: &Arena,
    root: Value,
    big_endian: bool,
    mut read: impl FnMut(&str, u64, u64) -> Result<Vec<u8>>,
) -> Result<StateDict> {
    let file_len = std::fs::metadata(path).map_err(Error::read(path))?.len();
    let mut budget = file_len.saturating_mul(4).saturating_add(SLACK);
    let found = arena.tensors(root);
    if found.endless {
        return Err(bad_weights(path, "it refers to itself too often to be a checkpoint"));
    }
    let mut dict = StateDict::new(path);
    dict.notes = found.notes;
    for (name, view) in found.views {
        let bad = |what: &str| bad_weights(path, format!("tensor `{name}` {what}"));
        let width = view.dtype.size() as u64;
        let extent = extent(&view).ok_or_else(|| bad("has an impossible shape"))?;
        let span = extent.span.checked_mul(width).ok_or_else(|| bad("has an impossible shape"))?;
        let size = extent.numel.checked_mul(width).ok_or_else(|| bad("has an impossible shape"))?;
        // An expanded view repeats its storage: a few bytes could claim to be terabytes.
        budget = budget
            .checked_sub(span.max(size))
            .ok_or_else(|| bad("and those before it are far larger than the file"))?;
        let from = view.offset.checked_mul(width).ok_or_else(|| bad("has an impossible offset"))?;
        let mut bytes = if span == 0 { vec![] } else { read(&view.storage, from, span)? };
        if !extent.contiguous {
            bytes = gather(&bytes, &view, size as usize);
        }
        if big_endian {
            bytes.chunks_exact_mut(width as usize).for_each(<[u8]>::reverse);
        }
        let shape = view.shape.iter().map(|&n| n as usize).collect();
        dict.insert(name, Entry { dtype: view.dtype, shape, bytes });
    }
    Ok(dict)
}

struct Extent {
    /// Numbers in the tensor.
    numel: u64,
    /// Numbers of the storage from its first to its last, inclusive.
    span: u64,
    contiguous: bool,
}

/// Measures a view; nothing if its size does not fit a machine word.
fn extent(view: &View) -> Option<Extent> {
    let mut extent = Extent { numel: 1, span: 1, contiguous: true };
    for (&size, &stride) in view.shape.iter().zip(&view.stride).rev() {
        // The stride of a single row is never used, so PyTorch lets it be anything.
        extent.contiguous &= size == 1 || stride == extent.numel;
        extent.span = extent.span.checked_add(size.saturating_sub(1).checked_mul(stride)?)?;
        extent.numel = extent.numel.checked_mul(size)?;
    }
    if extent.numel == 0 {
        return Some(Extent { numel: 0, span: 0, contiguous: true });
    }
    Some(extent)
}

/// Copies a strided view into row-major order.
fn gather(storage: &[u8], view: &View, size: usize) -> Vec<u8> {
    let width = view.dtype.size();
    let mut out = Vec::with_capacity(size);
    let mut index = vec![0; view.shape.len()];
    let mut at = 0;
    while out.len() < size {
        out.extend_from_slice(&storage[at * width..(at + 1) * width]);
        for axis in (0..index.len()).rev() {
            let stride = view.stride[axis] as usize;
            index[axis] += 1;
            at += stride;
            if index[axis] < view.shape[axis] {
                break;
            }
            at -= stride * view.shape[axis] as usize;
            index[axis] = 0;
        }
    }
    out
}

fn faulty(path: &Path, fault: Fault) -> Error {
    match fault {
        Fault::Truncated => bad_weights(path, "its pickle ends in the middle: the download was cut short?"),
        Fault::Garbled(what) => bad_weights(path, format!("its pickle is garbled: {what}")),
    }
}
