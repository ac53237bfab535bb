//! A state dict: named tensors in file order, kept as the bytes they were stored in.
//!
//! The raw bytes stay so that a frozen tensor can be written back bit for bit, whatever its
//! type; numbers are converted only when somebody asks for them. Reading files is the work of
//! [`super::read`], cleaning up names that of `names.rs`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use half::{bf16, f16};

/// Names the number types a checkpoint may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names say it all
pub enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl Dtype {
    /// Returns the bytes one number takes.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// Tells real numbers from counters and flags.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Holds one tensor: type, shape and little-endian, row-major bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The number type.
    pub dtype: Dtype,
    /// The sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// `numel · dtype.size()` bytes.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Wraps 32-bit numbers.
    ///
    /// # Panics
    /// When `values` does not fill `shape` exactly.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Entry {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values fill the shape");
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Entry { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// Rounds 32-bit numbers to half precision.
    ///
    /// # Panics
    /// When `values` does not fill `shape` exactly.
    pub fn from_f32_as_f16(shape: &[usize], values: &[f32]) -> Entry {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values fill the shape");
        let bytes = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        Entry { dtype: Dtype::F16, shape: shape.to_vec(), bytes }
    }

    /// Wraps 64-bit counters such as `num_batches_tracked`.
    ///
    /// # Panics
    /// When `values` does not fill `shape` exactly.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Entry {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values fill the shape");
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Entry { dtype: Dtype::I64, shape: shape.to_vec(), bytes }
    }

    /// Returns how many numbers there are.
    pub fn numel(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Converts to 32-bit floats; exact for every float type but F64, rounding for the rest.
    pub fn to_f32(&self) -> Vec<f32> {
        macro_rules! each {
            ($n:literal, $convert:expr) => {
                self.bytes.as_chunks::<$n>().0.iter().map(|&b| ($convert)(b)).collect()
            };
        }
        match self.dtype {
            Dtype::F32 => each!(4, f32::from_le_bytes),
            Dtype::F16 => each!(2, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => each!(2, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => each!(8, |b| f64::from_le_bytes(b) as f32),
            Dtype::Bool => each!(1, |b: [u8; 1]| f32::from(u8::from(b[0] != 0))),
            Dtype::U8 => each!(1, |b: [u8; 1]| f32::from(b[0])),
            Dtype::I8 => each!(1, |b| f32::from(i8::from_le_bytes(b))),
            Dtype::U16 => each!(2, |b| f32::from(u16::from_le_bytes(b))),
            Dtype::I16 => each!(2, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::U32 => each!(4, |b| u32::from_le_bytes(b) as f32),
            Dtype::I32 => each!(4, |b| i32::from_le_bytes(b) as f32),
            Dtype::U64 => each!(8, |b| u64::from_le_bytes(b) as f32),
            Dtype::I64 => each!(8, |b| i64::from_le_bytes(b) as f32),
        }
    }
}

/// Holds the tensors of one checkpoint, in the order of the file, and where they came from.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    tensors: Vec<(String, Entry)>,
    place: HashMap<String, usize>,
    /// The file or folder they were read from; empty when made in memory.
    pub source: PathBuf,
    /// Free text pairs stored with the tensors (`format: pt` in most safetensors files).
    pub metadata: BTreeMap<String, String>,
    /// What was unwrapped, stripped or left out on the way, one plain sentence each.
    pub notes: Vec<String>,
}

impl StateDict {
    /// Makes an empty state dict that says it came from `source`.
    pub fn new(source: impl AsRef<Path>) -> StateDict {
        StateDict { source: source.as_ref().to_path_buf(), ..StateDict::default() }
    }

    /// Makes an empty state dict with this one's source, metadata and notes.
    pub fn without_tensors(&self) -> StateDict {
        let (source, metadata, notes) = (self.source.clone(), self.metadata.clone(), self.notes.clone());
        StateDict { source, metadata, notes, ..StateDict::default() }
    }

    /// Adds a tensor at the end, or replaces the one of that name in its place.
    pub fn insert(&mut self, name: impl Into<String>, entry: Entry) {
        let name = name.into();
        match self.place.get(&name) {
            Some(&i) => self.tensors[i].1 = entry,
            None => {
                self.place.insert(name.clone(), self.tensors.len());
                self.tensors.push((name, entry));
            }
        }
    }

    /// Finds a tensor by its exact name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.place.get(name).map(|&i| &self.tensors[i].1)
    }

    /// Takes a tensor out; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Entry> {
        let at = self.place.remove(name)?;
        let (_, entry) = self.tensors.remove(at);
        for (i, (name, _)) in self.tensors.iter().enumerate().skip(at) {
            self.place.insert(name.clone(), i);
        }
        Some(entry)
    }

    /// Tells whether a tensor of that name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.place.contains_key(name)
    }

    /// Lists names and tensors in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Gives up the tensors, in file order.
    pub fn into_tensors(self) -> impl ExactSizeIterator<Item = (String, Entry)> {
        self.tensors.into_iter()
    }

    /// Lists the names in file order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// Returns how many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Tells whether there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Returns the bytes of all tensors together.
    pub fn byte_len(&self) -> usize {
        self.tensors.iter().map(|(_, e)| e.bytes.len()).sum()
    }

    /// Gives every tensor the name `rename` makes of its old one.
    ///
    /// Where two names become one, the later tensor wins, as in a Python dict.
    pub fn rename(&mut self, mut rename: impl FnMut(&str) -> String) {
        let old = std::mem::take(&mut self.tensors);
        self.place.clear();
        for (name, entry) in old {
            self.insert(rename(&name), entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_converts() {
        let entry = |dtype, bytes: &[u8]| Entry { dtype, shape: vec![1], bytes: bytes.to_vec() };
        for (dtype, bytes, expected) in [
            (Dtype::F32, &1.5f32.to_le_bytes()[..], 1.5),
            (Dtype::F16, &[0x00, 0x3e], 1.5),
            (Dtype::BF16, &[0xc0, 0x3f], 1.5),
            (Dtype::F64, &(-2.25f64).to_le_bytes(), -2.25),
            (Dtype::Bool, &[1], 1.0),
            (Dtype::U8, &[200], 200.0),
            (Dtype::I8, &[0xff], -1.0),
            (Dtype::I16, &[0xfe, 0xff], -2.0),
            (Dtype::U16, &[0xfe, 0xff], 65534.0),
            (Dtype::I32, &(-3i32).to_le_bytes(), -3.0),
            (Dtype::U32, &7u32.to_le_bytes(), 7.0),
            (Dtype::I64, &(-9i64).to_le_bytes(), -9.0),
            (Dtype::U64, &9u64.to_le_bytes(), 9.0),
        ] {
            assert_eq!(entry(dtype, bytes).to_f32(), [expected], "{dtype}");
        }
    }

    #[test]
    fn order_and_lookup_survive_removal_and_renaming() {
        let mut dict = StateDict::new("w");
        for name in ["c", "a", "b"] {
            dict.insert(name, Entry::from_f32(&[1], &[0.0]));
        }
        dict.insert("a", Entry::from_f32(&[1], &[5.0]));
        assert_eq!(dict.names().collect::<Vec<_>>(), ["c", "a", "b"]);
        assert!(dict.remove("c").is_some() && dict.remove("c").is_none());
        dict.rename(|n| format!("x.{n}"));
        assert_eq!(dict.names().collect::<Vec<_>>(), ["x.a", "x.b"]);
        assert_eq!(dict.get("x.a").map(Entry::to_f32), Some(vec![5.0]));
        assert_eq!(dict.byte_len(), 8);
    }
}
