//! What the values of a PyTorch pickle mean: tensors, dicts, whole modules.
//!
//! The short list of names below is all that is understood. Everything else stays an opaque
//! record, such as the `argparse.Namespace` that timm puts into its checkpoints.

use std::borrow::Cow;

use super::names::pick_container;
use super::pickle::{Arena, Node, Value};
use super::state_dict::Dtype;

/// Bounds the nesting of dicts and modules; real networks reach about ten.
const MAX_DEPTH: usize = 48;
/// Bounds the values looked at: shared parts can make a small file look like a huge tree.
const MAX_VISITS: usize = 300_000;
/// Bounds what is looked at where a checkpoint names its parts (about ten) or a module its
/// attributes (about thirty), and the length of names, all for the same reason.
const MAX_PARTS: usize = 1000;
const MAX_NAME: usize = 512;

/// Describes a tensor as a view of a storage, in numbers of the storage's type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub(super) storage: String,
    pub(super) dtype: Dtype,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) stride: Vec<u64>,
}

/// Describes a storage: its key and the bytes each of its numbers takes.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    class: &'a str,
    /// Where the view that the legacy format allows starts in its root storage.
    view_offset: u64,
}

/// Gathers the tensors of a checkpoint under their names.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) views: Vec<(String, View)>,
    pub(super) notes: Vec<String>,
    /// The file refers to itself so often that the search was given up.
    pub(super) endless: bool,
}

/// Returns the bytes per number of a storage class, also of those that no tensor here may have.
fn storage_width(class: &str) -> Option<u64> {
    Some(match class {
        "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" => 1,
        "QInt32Storage" => 4,
        "ComplexFloatStorage" => 8,
        "ComplexDoubleStorage" => 16,
        _ => storage_dtype(class)?.size() as u64,
    })
}

fn storage_dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "FloatStorage" => Dtype::F32,
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}

/// Names the types that have no storage class of their own and travel as `torch.<name>`.
fn named_dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}

impl Arena {
    /// Reads a persistent id as a storage: `("storage", class, key, device, numel, [view])`.
    pub(super) fn storage(&self, node: &Node) -> Option<Storage<'_>> {
        let Node::Persistent(id) = node else { return None };
        let Some(Node::Tuple(parts)) = self.node(*id) else { return None };
        let [tag, class, key, ..] = parts[..] else { return None };
        if self.str(tag)? != "storage" {
            return None;
        }
        let view_offset = match parts.get(5).and_then(|&view| self.node(view)) {
            Some(Node::Tuple(view)) => self.count(*view.get(1)?)?,
            _ => 0,
        };
        let key = self.str(key).filter(|key| key.len() <= MAX_NAME)?;
        Some(Storage { key, class: self.global(class)?.1, view_offset })
    }

    /// Finds the tensors of a checkpoint: chooses the container, then walks it.
    pub(super) fn tensors(&self, root: Value) -> Found {
        let mut found = Found::default();
        let mut visits = 0;
        let root = self.unwrap(root, &mut found.notes);
        self.walk(root, "", 0, &mut visits, &mut found);
        found.endless = visits > MAX_VISITS;
        found
    }

    /// Descends from a training checkpoint to the weights in it, saying so in `notes`.
    fn unwrap(&self, mut value: Value, notes: &mut Vec<String>) -> Value {
        // Two levels are the most seen in the wild; four leave room and end cycles.
        for _ in 0..4 {
            let Some(items) = self.items(value) else { break };
            if items.len() > MAX_PARTS || self.holds_tensors(value) {
                break;
            }
            let inner: Vec<(&str, Value)> = items
                .iter()
                .filter(|(_, v)| self.items(*v).is_some_and(|i| !i.is_empty()))
                .filter_map(|(k, v)| Some((self.str(*k)?, *v)))
                .collect();
            let names: Vec<&str> = inner.iter().map(|(k, _)| *k).collect();
            let holders: Vec<&(&str, Value)> = inner.iter().filter(|(_, v)| self.holds_tensors(*v)).collect();
            let chosen = match pick_container(&names) {
                Some(name) => name,
                None if holders.len() == 1 => holders[0].0,
                None => break,
            };
            let others: Vec<String> = names
                .iter()
                .filter(|n| **n != chosen && pick_container(&[n]).is_some())
                .map(|n| format!("`{n}`"))
                .collect();
            let rest = match others.is_empty() {
                true => String::new(),
                false => format!("; the file also holds {}", others.join(", ")),
            };
            notes.push(format!("took the weights under `{chosen}`{rest}"));
            value = inner.iter().rfind(|(k, _)| *k == chosen).expect("chosen among these").1;
        }
        value
    }

    fn holds_tensors(&self, value: Value) -> bool {
        self.module_state(value).is_some()
            || self
                .items(value)
                .is_some_and(|items| items.iter().take(MAX_PARTS).any(|(_, v)| self.view(*v).is_some()))
    }

    fn walk(&self, value: Value, prefix: &str, depth: usize, visits: &mut usize, found: &mut Found) {
        *visits += 1;
        if depth > MAX_DEPTH || *visits > MAX_VISITS || prefix.len() > MAX_NAME {
            return;
        }
        let join = |key: &str| if prefix.is_empty() { key.to_string() } else { format!("{prefix}.{key}") };
        if let Some(view) = self.view(value) {
            found.views.push((if prefix.is_empty() { "tensor".into() } else { prefix.to_string() }, view));
        } else if let Some(state) = self.module_state(value) {
            // The order of `Module.state_dict`: parameters, buffers, then the modules inside.
            for part in ["_parameters", "_buffers", "_modules"] {
                let items = self.lookup(state, part).and_then(|v| self.items(v)).unwrap_or_default();
                *visits += items.len();
                for &(key, value) in items.iter() {
                    let key = self.str(key).filter(|key| key.len() <= MAX_NAME).unwrap_or("?");
                    self.walk(value, &join(key), depth + 1, visits, found);
                }
            }
        } else if let Some(attributes) = self.script_state(value) {
            *visits += attributes.len();
            for &(key, value) in attributes {
                let key = self.str(key).filter(|key| key.len() <= MAX_NAME).unwrap_or("?");
                self.walk(value, &join(key), depth + 1, visits, found);
            }
        } else if let Some(what) = self.unsupported(value) {
            if found.notes.len() < MAX_PARTS {
                found.notes.push(format!("left out `{prefix}`: {what}"));
            }
        } else if let Some(items) = self.items(value) {
            *visits += items.len();
            for &(key, value) in items.iter() {
                match (self.str(key), key) {
                    (Some(key), _) if key.len() > MAX_NAME => {}
                    (Some(key), _) => self.walk(value, &join(key), depth + 1, visits, found),
                    (None, Value::Int(n)) => {
                        self.walk(value, &join(&n.to_string()), depth + 1, visits, found)
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reads a value as a tensor, through the wrappers that parameters come in.
    fn view(&self, mut value: Value) -> Option<View> {
        for _ in 0..8 {
            let Node::Object { class, args, .. } = self.node(value)? else { return None };
            let Node::Tuple(args) = self.node(*args)? else { return None };
            match self.global(*class)? {
                ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                    return self.strided(args, None);
                }
                ("torch._utils", "_rebuild_tensor_v3") => {
                    return self.strided(args, Some(self.global(*args.get(6)?)?.1));
                }
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                    value = *args.first()?;
                }
                // A subclass of tensor: (what rebuilds it, its class, the arguments, extra state).
                ("torch._tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") => {
                    let Node::Tuple(inner) = self.node(*args.get(2)?)? else { return None };
                    return match self.global(*args.first()?)? {
                        ("torch._utils", "_rebuild_tensor_v2") => self.strided(inner, None),
                        _ => None,
                    };
                }
                _ => return None,
            }
        }
        None
    }

    fn strided(&self, args: &[Value], dtype: Option<&str>) -> Option<View> {
        let [storage, offset, shape, stride, ..] = args[..] else { return None };
        let storage = self.storage(self.node(storage)?)?;
        let dtype = match dtype {
            Some(name) => named_dtype(name)?,
            None => storage_dtype(storage.class)?,
        };
        let (shape, stride) = (self.counts(shape)?, self.counts(stride)?);
        let offset = self.count(offset)?.checked_add(storage.view_offset)?;
        (shape.len() == stride.len()).then(|| View {
            storage: storage.key.to_string(),
            dtype,
            offset,
            shape,
            stride,
        })
    }

    /// Says what a value is if it stands where a tensor could and cannot be read.
    fn unsupported(&self, value: Value) -> Option<String> {
        let Some(Node::Object { class, .. }) = self.node(value) else { return None };
        match self.global(*class)? {
            ("torch._utils", name) if name.starts_with("_rebuild") => {
                Some(format!("a tensor of a kind that is not supported (`{name}`)"))
            }
            // Settings of a layer, such as its padding.
            ("torch.jit._pickle", name) if name.ends_with("list") => None,
            (module, "_reconstruct") if module.starts_with("numpy") => Some("a NumPy array".into()),
            (module, name) if self.items(value).is_none() => {
                Some(format!("an object of `{module}.{name}`, not a tensor"))
            }
            _ => None,
        }
    }

    /// Returns the attributes of a pickled `nn.Module`.
    fn module_state(&self, value: Value) -> Option<Value> {
        let Some(Node::Object { state, .. }) = self.node(value) else { return None };
        (self.lookup(*state, "_parameters").is_some() && self.lookup(*state, "_modules").is_some())
            .then_some(*state)
    }

    /// Returns the attributes of a module that TorchScript saved: its class is a path in the archive's program.
    fn script_state(&self, value: Value) -> Option<&[(Value, Value)]> {
        let Some(Node::Object { class, state, .. }) = self.node(value) else { return None };
        let (module, _) = self.global(*class)?;
        let Some(Node::Dict(items)) = self.node(*state) else { return None };
        module.starts_with("__torch__").then_some(&items[..])
    }

    fn lookup(&self, dict: Value, key: &str) -> Option<Value> {
        let Node::Dict(items) = self.node(dict)? else { return None };
        items[..items.len().min(MAX_PARTS)].iter().rfind(|(k, _)| self.str(*k) == Some(key)).map(|(_, v)| *v)
    }

    /// Returns keys and values of a dict or of an object that is one, such as `OrderedDict`.
    fn items(&self, value: Value) -> Option<Cow<'_, [(Value, Value)]>> {
        match self.node(value)? {
            Node::Dict(items) => Some(Cow::Borrowed(items)),
            // Python 2 gave the items as one argument, a list of pairs.
            Node::Object { class, args, items, .. }
                if items.is_empty() && self.global(*class)? == ("collections", "OrderedDict") =>
            {
                let Some(Node::Tuple(args)) = self.node(*args) else { return None };
                let Some(Node::List(pairs)) = args.first().and_then(|&v| self.node(v)) else {
                    return Some(Cow::Owned(vec![]));
                };
                let pair = |&value: &Value| match self.node(value) {
                    Some(Node::List(pair) | Node::Tuple(pair)) if pair.len() == 2 => Some((pair[0], pair[1])),
                    _ => None,
                };
                Some(pairs.iter().take(MAX_VISITS).filter_map(pair).collect())
            }
            Node::Object { items, .. } if !items.is_empty() || self.module_state(value).is_some() => {
                Some(Cow::Borrowed(items))
            }
            _ => None,
        }
    }

    /// Reads the system facts of a legacy file.
    pub(super) fn is_big_endian(&self, facts: Value) -> bool {
        self.lookup(facts, "little_endian") == Some(Value::Bool(false))
    }

    fn str(&self, value: Value) -> Option<&str> {
        match self.node(value)? {
            Node::Str(text) => Some(text),
            Node::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    fn global(&self, value: Value) -> Option<(&str, &str)> {
        match self.node(value)? {
            Node::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    fn count(&self, value: Value) -> Option<u64> {
        match value {
            Value::Int(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    /// Reads a shape: a tuple, or `torch.Size` of one.
    fn counts(&self, value: Value) -> Option<Vec<u64>> {
        let parts = match self.node(value)? {
            Node::Object { args, .. } => match self.node(*args)? {
                Node::Tuple(args) => self.node(*args.first()?)?,
                _ => return None,
            },
            node => node,
        };
        match parts {
            // More than 64 axes cannot be made in PyTorch either; 16 are more than any weight has.
            Node::Tuple(parts) | Node::List(parts) if parts.len() <= 16 => {
                parts.iter().map(|&v| self.count(v)).collect()
            }
            _ => None,
        }
    }
}

impl Storage<'_> {
    /// Returns the bytes per number, if the class is known.
    pub(super) fn width(&self) -> Option<u64> {
        storage_width(self.class)
    }
}
