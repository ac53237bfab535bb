//! A pickle machine that only ever builds data.
//!
//! Python's own machine calls whatever a file names. This one has no calls to make: a global is
//! two strings, a call is a record of what would have been called with which arguments, and
//! what they mean is decided by the reader of checkpoints, `pth.rs`, from a short list. So a
//! hostile file can at worst be refused.
//!
//! Values live in one arena and refer to each other by number. Nothing is recursive, so depth
//! cannot overflow the stack, cycles cannot leak, and two counters bound the memory.

use super::pickle_machine::Machine;

/// Bounds the values made; an optimizer state of a large model has a few 100 000.
const MAX_NODES: usize = 4_000_000;
/// Bounds the instructions of one file, and with them the stack.
const MAX_STEPS: usize = 32_000_000;

/// Holds what fits in a word, or the number of a node in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(usize),
}

/// Holds a value with parts.
#[derive(Debug)]
pub(super) enum Node {
    Str(String),
    Bytes(Vec<u8>),
    /// A whole number beyond 64 bits, as little-endian two's complement.
    Long(Vec<u8>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global {
        module: String,
        name: String,
    },
    /// What Python would have made by calling `class` with `args`, then setting state and items.
    Object {
        class: Value,
        args: Value,
        state: Value,
        items: Vec<(Value, Value)>,
    },
    /// Something outside the pickle, named by its argument: a storage, in checkpoints.
    Persistent(Value),
}

/// Says why a pickle cannot be read.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// The bytes end in the middle.
    Truncated,
    /// The bytes make no sense, or more sense than is allowed.
    Garbled(String),
}

/// Holds every value of the pickles read so far.
#[derive(Debug, Default)]
pub(super) struct Arena {
    nodes: Vec<Node>,
    steps: usize,
}

impl Arena {
    /// Looks a value up, if it has parts.
    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(id) => self.nodes.get(id),
            _ => None,
        }
    }

    /// Lists all nodes, in the order of creation.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Reads one pickle from the start of `input`; returns its value and its length.
    pub(super) fn load(&mut self, input: &[u8]) -> Result<(Value, usize), Fault> {
        Machine::new(self, input).run()
    }

    /// Looks a value up for changing it.
    pub(super) fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Node(id) => self.nodes.get_mut(id),
            _ => None,
        }
    }

    /// Stores a node; nothing once there are too many.
    pub(super) fn keep(&mut self, node: Node) -> Option<Value> {
        (self.nodes.len() < MAX_NODES).then(|| {
            self.nodes.push(node);
            Value::Node(self.nodes.len() - 1)
        })
    }

    /// Counts an instruction; false once there are too many.
    pub(super) fn step(&mut self) -> bool {
        self.steps += 1;
        self.steps <= MAX_STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(input: &[u8]) -> Result<(Arena, Value), Fault> {
        let mut arena = Arena::default();
        let value = arena.load(input)?.0;
        Ok((arena, value))
    }

    #[test]
    fn a_hostile_pickle_is_only_a_record() {
        // What `pickle.dumps` makes of an object whose `__reduce__` is `(os.system, ("exit 1",))`.
        let (arena, value) = load(b"\x80\x02cposix\nsystem\nq\x00X\x06\x00\x00\x00exit 1\x85R.").unwrap();
        let Some(Node::Object { class, .. }) = arena.node(value) else { panic!("{value:?}") };
        assert!(matches!(arena.node(*class), Some(Node::Global { name, .. }) if name == "system"));
    }

    #[test]
    fn numbers_and_containers() {
        let (arena, value) = load(
            &[
                &b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00"[..],
                b"](K\x01M\x00\x01J\xfe\xff\xff\xff\x8a\x02\x00\x80G?\xf8\x00\x00\x00\x00\x00\x00e.",
            ]
            .concat(),
        )
        .unwrap();
        let Some(Node::List(items)) = arena.node(value) else { panic!("{value:?}") };
        let expected =
            [Value::Int(1), Value::Int(256), Value::Int(-2), Value::Int(-32768), Value::Float(1.5)];
        assert_eq!(items, &expected);
    }

    #[test]
    fn deep_and_cyclic_values_are_harmless() {
        let mut deep = b"\x80\x02".to_vec();
        deep.extend(b"]q\x00".repeat(100_000));
        deep.extend(b"a".repeat(99_999));
        deep.push(b'.');
        assert!(load(&deep).is_ok());
        assert!(load(b"\x80\x02]q\x00h\x00a.").is_ok());
    }

    #[test]
    fn nonsense_is_refused_and_never_panics() {
        for input in
            [&b"t."[..], b"R.", b"(0.", b"(NRa", b"h\x05.", b"u", b"\x80\x09.", b"\x8b\xff\xff\xff\xff", b"o"]
        {
            assert!(load(input).is_err(), "{input:?}");
        }
        // A few million bytes of xorshift noise, in short pieces so that many starts are tried.
        let mut state = 88_172_645_463_325_252u64;
        for _ in 0..40_000 {
            let mut piece = vec![];
            for _ in 0..16 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                piece.extend(state.to_le_bytes());
            }
            let _ = load(&piece);
        }
    }
}
