//! The instructions of pickle, protocols 2 to 5, as far as `torch.save` and NumPy use them.
//!
//! Codes and meanings are those of CPython's `pickletools.py`; the ones of protocol 0 that spell
//! numbers as text are refused, since PyTorch never wrote them. What the values mean is decided
//! by `rebuild.rs`.

use std::collections::HashMap;

use super::pickle::{Arena, Fault, Node, Value};

/// Reads one pickle.
pub(super) struct Machine<'a> {
    arena: &'a mut Arena,
    input: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack where a run of arguments starts.
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
}

impl<'a> Machine<'a> {
    /// Stands at the start of `input`.
    pub(super) fn new(arena: &'a mut Arena, input: &'a [u8]) -> Machine<'a> {
        Machine { arena, input, at: 0, stack: vec![], marks: vec![], memo: HashMap::new() }
    }

    /// Interprets instructions up to STOP; returns the value and the bytes used.
    pub(super) fn run(mut self) -> Result<(Value, usize), Fault> {
        loop {
            if !self.arena.step() {
                return self.garbled("more instructions than any checkpoint needs");
            }
            let code = self.byte()?;
            match code {
                // Protocols above 5 do not exist; the number is otherwise of no interest.
                0x80 => {
                    let protocol = self.byte()?;
                    if protocol > 5 {
                        return self.garbled(&format!("pickle protocol {protocol} is unknown"));
                    }
                }
                0x95 => drop(self.take(8)?), // FRAME
                b'.' => return Ok((self.pop()?, self.at)),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }

                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Bool(true)),
                0x89 => self.stack.push(Value::Bool(false)),
                b'K' => {
                    let n = self.byte()?;
                    self.stack.push(Value::Int(n.into()));
                }
                b'M' => {
                    let n = self.length(2)?;
                    self.stack.push(Value::Int(n as i64));
                }
                b'J' => {
                    let bytes = self.take(4)?.try_into().expect("took four");
                    self.stack.push(Value::Int(i32::from_le_bytes(bytes).into()));
                }
                b'G' => {
                    let bytes = self.take(8)?.try_into().expect("took eight");
                    self.stack.push(Value::Float(f64::from_be_bytes(bytes)));
                }
                0x8a => self.long(1)?,
                0x8b => self.long(4)?,

                b'U' => self.string(1)?, // SHORT_BINSTRING, from Python 2
                b'T' => self.string(4)?,
                0x8c => self.string(1)?,
                b'X' => self.string(4)?,
                0x8d => self.string(8)?,
                b'C' => self.bytes(1)?,
                b'B' => self.bytes(4)?,
                0x8e | 0x96 => self.bytes(8)?,

                b']' => self.push(Node::List(vec![]))?,
                b'}' => self.push(Node::Dict(vec![]))?,
                // A set is its members; a frozen set takes them from the stack like a tuple.
                0x8f => self.push(Node::List(vec![]))?,
                b')' => self.push(Node::Tuple(vec![]))?,
                b't' | 0x91 => {
                    let parts = self.pop_mark()?;
                    self.push(Node::Tuple(parts))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    let parts = self.pop_many(count)?;
                    self.push(Node::Tuple(parts))?;
                }
                b'l' => {
                    let parts = self.pop_mark()?;
                    self.push(Node::List(parts))?;
                }
                b'd' => {
                    let parts = self.pop_mark()?;
                    self.push(Node::Dict(pairs(&parts)))?;
                }
                b'a' => {
                    let item = self.pop_many(1)?;
                    self.extend(item)?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_mark()?;
                    self.extend(items)?;
                }
                b's' => {
                    let item = self.pop_many(2)?;
                    self.set_items(&item)?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(&items)?;
                }

                b'q' => {
                    let at = self.length(1)?;
                    self.remember(at)?;
                }
                b'r' => {
                    let at = self.length(4)?;
                    self.remember(at)?;
                }
                0x94 => self.remember(self.memo.len())?,
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,

                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Node::Global { module, name })?;
                }
                0x93 => {
                    let parts = self.pop_many(2)?;
                    let (module, name) = (self.text(parts[0]), self.text(parts[1]));
                    self.push(Node::Global { module, name })?;
                }
                b'R' | 0x81 => {
                    let parts = self.pop_many(2)?;
                    self.push_object(parts[0], parts[1])?;
                }
                0x92 => {
                    // NEWOBJ_EX: the keyword arguments are of no use here.
                    let parts = self.pop_many(3)?;
                    self.push_object(parts[0], parts[1])?;
                }
                b'o' => {
                    let mut parts = self.pop_mark()?;
                    if parts.is_empty() {
                        return self.garbled("an object without a class");
                    }
                    let class = parts.remove(0);
                    let args = self.keep(Node::Tuple(parts))?;
                    self.push_object(class, args)?;
                }
                b'i' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let parts = self.pop_mark()?;
                    let args = self.keep(Node::Tuple(parts))?;
                    let class = self.keep(Node::Global { module, name })?;
                    self.push_object(class, args)?;
                }
                b'b' => {
                    let new = self.pop()?;
                    let target = self.top()?;
                    if let Some(Node::Object { state, .. }) = self.arena.node_mut(target) {
                        *state = new;
                    }
                }
                b'Q' => {
                    let name = self.pop()?;
                    self.push(Node::Persistent(name))?;
                }
                _ => return self.garbled(&format!("instruction 0x{code:02x} is not one PyTorch uses")),
            }
        }
    }

    fn garbled<T>(&self, what: &str) -> Result<T, Fault> {
        Err(Fault::Garbled(format!("{what} (byte {} of the pickle)", self.at.saturating_sub(1))))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        let end = self.at.checked_add(count).ok_or(Fault::Truncated)?;
        let bytes = self.input.get(self.at..end).ok_or(Fault::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// Reads a little-endian count of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, Fault> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| Fault::Truncated)
    }

    fn line(&mut self) -> Result<String, Fault> {
        let rest = &self.input[self.at..];
        let len = rest.iter().position(|&b| b == b'\n').ok_or(Fault::Truncated)?;
        let text = String::from_utf8_lossy(&rest[..len]).into_owned();
        self.at += len + 1;
        Ok(text)
    }

    fn string(&mut self, width: usize) -> Result<(), Fault> {
        let len = self.length(width)?;
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.push(Node::Str(text))
    }

    fn bytes(&mut self, width: usize) -> Result<(), Fault> {
        let len = self.length(width)?;
        let bytes = self.take(len)?.to_vec();
        self.push(Node::Bytes(bytes))
    }

    fn long(&mut self, width: usize) -> Result<(), Fault> {
        let len = self.length(width)?;
        let bytes = self.take(len)?;
        if len > 8 {
            let bytes = bytes.to_vec();
            return self.push(Node::Long(bytes));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..len].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn keep(&mut self, node: Node) -> Result<Value, Fault> {
        match self.arena.keep(node) {
            Some(value) => Ok(value),
            None => self.garbled("more values than any checkpoint needs"),
        }
    }

    fn push(&mut self, node: Node) -> Result<(), Fault> {
        let value = self.keep(node)?;
        self.stack.push(value);
        Ok(())
    }

    fn push_object(&mut self, class: Value, args: Value) -> Result<(), Fault> {
        self.push(Node::Object { class, args, state: Value::None, items: vec![] })
    }

    /// The part of the stack that instructions may reach: down to the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value, Fault> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => self.garbled("an instruction without its argument"),
        }
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, Fault> {
        match self.stack.len().checked_sub(count) {
            Some(from) if from >= self.floor() => Ok(self.stack.split_off(from)),
            _ => self.garbled("an instruction without its arguments"),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, Fault> {
        match self.marks.pop() {
            Some(from) => Ok(self.stack.split_off(from)),
            None => self.garbled("an instruction without its mark"),
        }
    }

    /// Copies a name; one string can be used by many globals, so a long one would multiply.
    fn text(&self, value: Value) -> String {
        match self.arena.node(value) {
            Some(Node::Str(text)) if text.len() < 1000 => text.clone(),
            _ => String::new(),
        }
    }

    /// Appends to the list on top; subclasses of list have no list inside, so theirs are dropped.
    fn extend(&mut self, new: Vec<Value>) -> Result<(), Fault> {
        let target = self.top()?;
        if let Some(Node::List(items)) = self.arena.node_mut(target) {
            items.extend(new);
        }
        Ok(())
    }

    fn set_items(&mut self, parts: &[Value]) -> Result<(), Fault> {
        let target = self.top()?;
        if let Some(Node::Dict(items) | Node::Object { items, .. }) = self.arena.node_mut(target) {
            items.extend(pairs(parts));
        }
        Ok(())
    }

    fn remember(&mut self, at: usize) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), Fault> {
        let at = self.length(width)?;
        match self.memo.get(&at) {
            Some(&value) => self.stack.push(value),
            None => return self.garbled("a reference to nothing"),
        }
        Ok(())
    }
}

fn pairs(parts: &[Value]) -> Vec<(Value, Value)> {
    parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}
