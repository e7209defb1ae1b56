//! The part of Python's pickle format that weights need, read as data.
//!
//! A pickle is a program for a stack machine. This reader builds what that program describes and imports,
//! calls and constructs nothing: a callable is a name, a call of it is the name with its arguments. Memory is
//! in proportion to the bytes read; nothing is recursive, so nesting costs no stack.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// Bytes that the pickle of a checkpoint may have. The tensors are not in it.
const LONGEST: usize = 16 << 20;

/// The place of a value in [`Pickle`].
pub type Id = usize;

/// What a pickle describes. Values name each other by their [`Id`]s.
#[derive(Debug, PartialEq)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number of more than 64 bits, little-endian.
    Long(&'a [u8]),
    /// A float.
    Float(f64),
    /// A string.
    Text(&'a str),
    /// A byte string, or an old string that is no UTF-8.
    Bytes(&'a [u8]),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    /// A dictionary, or an `OrderedDict`.
    Dict(Vec<(Id, Id)>),
    /// The name of a class or a function.
    Global(&'a str, &'a str),
    /// Something kept outside: the storage of a tensor.
    Persistent(Id),
    /// What a callable would have made of arguments, and the state it would have been given.
    Made {
        /// The callable.
        callable: Id,
        /// The arguments, a tuple.
        arguments: Id,
        /// The attributes.
        state: Option<Id>,
    },
}

/// A pickle that was read: its values, and which one is the outermost.
#[derive(Debug)]
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

/// Which classes and functions a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Globals {
    /// Those that weights need: tensors, storages, ordered dictionaries.
    Weights,
    /// Any, as names: for files that hold whole modules.
    Any,
}

/// The classes and functions of weights, besides the storages.
const KNOWN: &[(&str, &str)] = &[
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
];

impl Globals {
    fn check(self, module: &str, name: &str) -> Result<()> {
        let storage = module == "torch" && name.ends_with("Storage");
        if self == Self::Any || storage || KNOWN.contains(&(module, name)) {
            return Ok(());
        }
        let name: String = format!("{module}.{name}").chars().take(120).collect();
        Err(Error::data(format!(
            "it wants to run `{name}`, which weights do not need; nyx runs no code from files. Save tensors only: \
             torch.save(model.state_dict(), FILE)"
        )))
    }
}

impl<'a> Pickle<'a> {
    /// Reads one pickle from the start of `bytes`, and returns how many bytes it has.
    ///
    /// # Errors
    ///
    /// When it is damaged, longer than 16 MiB, uses more of the format than weights need, or names a class or
    /// function that `globals` does not allow.
    pub fn read(bytes: &'a [u8], globals: Globals) -> Result<(Self, usize)> {
        let mut machine = Machine {
            bytes: &bytes[..bytes.len().min(LONGEST)],
            at: 0,
            globals,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run().map_err(|error| error.at(format!("byte {} of the pickle", machine.at)))?;
        Ok((Self { values: machine.values, root }, machine.at))
    }

    /// Returns the outermost value.
    pub fn root(&self) -> Id {
        self.root
    }

    /// Returns a value.
    pub fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// Returns all values.
    pub fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// Returns the name of the callable, the arguments and the state of something made.
    pub fn made(&self, id: Id) -> Option<(&'a str, &'a str, &[Id], Option<Id>)> {
        let Value::Made { callable, arguments, state } = self.get(id) else { return None };
        match (self.get(*callable), self.get(*arguments)) {
            (Value::Global(module, name), Value::Tuple(arguments)) => Some((module, name, arguments, *state)),
            _ => None,
        }
    }

    /// Returns a text.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns a whole number.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Value::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// Returns the whole numbers of a tuple or list, at most `most`, none of them negative. (A long one may be shared
    /// by any number of tensors.)
    pub fn sizes(&self, id: Id, most: usize) -> Option<Vec<usize>> {
        match self.get(id) {
            Value::Tuple(ids) | Value::List(ids) if ids.len() > most => None,
            Value::Tuple(ids) | Value::List(ids) => {
                ids.iter().map(|&id| usize::try_from(self.int(id)?).ok()).collect()
            }
            // torch.Size of a tuple.
            _ => match self.made(id)? {
                ("torch", "Size", &[inner], _) => match self.get(inner) {
                    Value::Tuple(_) | Value::List(_) => self.sizes(inner, most),
                    _ => None,
                },
                _ => None,
            },
        }
    }

    /// Returns the value of a key of a dictionary.
    pub fn entry(&self, dictionary: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.get(dictionary) else { return None };
        // The last of equal keys counts, as in Python.
        entries.iter().rev().find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }
}

/// The stack machine.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    globals: Globals,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// Runs to the STOP, and returns what was on top.
    fn run(&mut self) -> Result<Id> {
        loop {
            let code = self.take(1)?[0];
            if code == b'.' {
                return self.pop();
            }
            if !(self.atom(code)? || self.container(code)?) {
                self.other(code)?;
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| {
            let long = self.bytes.len() == LONGEST;
            Error::data(if long { "it is longer than 16 MiB" } else { "the file ends in the middle of it" })
        })?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// Takes a little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Takes bytes after their number, which has `width` bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8]> {
        let count = self.number(width)?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).map_err(|_| Error::data("a name is no text"))
    }

    fn push(&mut self, value: Value<'a>) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(Error::data("it takes more from its stack than there is: the file is damaged"));
        }
        Ok(self.stack.pop().expect("the stack is higher than its floor"))
    }

    /// Pops everything down to the last mark.
    fn pop_marked(&mut self) -> Result<Vec<Id>> {
        let height = self.marks.pop().ok_or_else(|| Error::data("a mark is missing: the file is damaged"))?;
        Ok(self.stack.split_off(height))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        let mut values = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        values.reverse();
        Ok(values)
    }

    fn text(&self, bytes: &'a [u8]) -> Result<Value<'a>> {
        std::str::from_utf8(bytes).map(Value::Text).map_err(|_| Error::data("a string is no UTF-8"))
    }

    /// Values without parts.
    fn atom(&mut self, code: u8) -> Result<bool> {
        let value = match code {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int((self.number(4)? as u32 as i32).into()),
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            0x8A => long(self.counted(1)?),
            b'G' => Value::Float(f64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes"))),
            b'X' => self.counted(4).and_then(|bytes| self.text(bytes))?,
            0x8C => self.counted(1).and_then(|bytes| self.text(bytes))?,
            0x8D => self.counted(8).and_then(|bytes| self.text(bytes))?,
            b'U' => old_string(self.counted(1)?),
            b'T' => old_string(self.counted(4)?),
            b'C' => Value::Bytes(self.counted(1)?),
            b'B' => Value::Bytes(self.counted(4)?),
            0x8E => Value::Bytes(self.counted(8)?),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.globals.check(module, name)?;
                Value::Global(module, name)
            }
            _ => return Ok(false),
        };
        self.push(value);
        Ok(true)
    }

    /// Tuples, lists, dictionaries, and what goes into them.
    fn container(&mut self, code: u8) -> Result<bool> {
        match code {
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b']' | 0x8F => self.push(Value::List(Vec::new())),
            b't' => {
                let parts = self.pop_marked()?;
                self.push(Value::Tuple(parts));
            }
            0x85..=0x87 => {
                let parts = self.pop_many(usize::from(code - 0x84))?;
                self.push(Value::Tuple(parts));
            }
            b'a' => {
                let part = self.pop()?;
                self.append(vec![part])?;
            }
            b'e' | 0x90 => {
                let parts = self.pop_marked()?;
                self.append(parts)?;
            }
            b's' => {
                let parts = self.pop_many(2)?;
                self.set(&parts)?;
            }
            b'u' => {
                let parts = self.pop_marked()?;
                self.set(&parts)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn append(&mut self, parts: Vec<Id>) -> Result<()> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(parts),
            // An object that acts as a list; its items are no weights.
            Value::Made { .. } => {}
            _ => return Err(Error::data("it appends to what is no list: the file is damaged")),
        }
        Ok(())
    }

    fn set(&mut self, parts: &[Id]) -> Result<()> {
        let (pairs, rest) = parts.as_chunks::<2>();
        let dictionary = self.top()?;
        match &mut self.values[dictionary] {
            _ if !rest.is_empty() => return Err(Error::data("a key has no value: the file is damaged")),
            Value::Dict(entries) => entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Made { .. } => {}
            _ => return Err(Error::data("it sets keys of what is no dictionary: the file is damaged")),
        }
        Ok(())
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).unwrap_or_default();
        above.last().copied().ok_or_else(|| Error::data("its stack is empty: the file is damaged"))
    }

    /// The memo, calls, and marks of the format.
    fn other(&mut self, code: u8) -> Result<()> {
        match code {
            0x80 => self.version()?,
            // Frames are for readers that read ahead.
            0x95 => drop(self.take(8)?),
            b'q' => self.number(1).and_then(|key| self.memorize(key))?,
            b'r' => self.number(4).and_then(|key| self.memorize(key))?,
            0x94 => self.memorize(self.memo.len() as u64)?,
            b'h' => self.number(1).and_then(|key| self.recall(key))?,
            b'j' => self.number(4).and_then(|key| self.recall(key))?,
            0x93 => self.stack_global()?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            other => {
                return Err(Error::data(format!(
                    "operation {other:#04x}, which weights do not need: save tensors only, with \
                     torch.save(model.state_dict(), FILE)"
                )));
            }
        }
        Ok(())
    }

    fn version(&mut self) -> Result<()> {
        match self.number(1)? {
            2..=5 => Ok(()),
            other => Err(Error::data(format!("pickle protocol {other}; nyx reads 2 to 5"))),
        }
    }

    fn memorize(&mut self, key: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<()> {
        let id = self.memo.get(&key).copied();
        self.stack.push(id.ok_or_else(|| Error::data("it recalls what it never kept: the file is damaged"))?);
        Ok(())
    }

    fn stack_global(&mut self) -> Result<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
            return Err(Error::data("the name of a class is no text: the file is damaged"));
        };
        let (module, name) = (*module, *name);
        self.globals.check(module, name)?;
        self.push(Value::Global(module, name));
        Ok(())
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let made = match (&self.values[callable], &self.values[arguments]) {
            (Value::Global("collections", "OrderedDict"), Value::Tuple(none)) if none.is_empty() => {
                Value::Dict(Vec::new())
            }
            (Value::Global(..), Value::Tuple(_)) => Value::Made { callable, arguments, state: None },
            _ => return Err(Error::data("it calls what is no function: the file is damaged")),
        };
        self.push(made);
        Ok(())
    }

    /// A storage; or a class with its source code, as PyTorch saved whole modules before 1.6.
    fn persistent(&mut self) -> Result<()> {
        let id = self.pop()?;
        if let Value::Tuple(parts) = &self.values[id]
            && let &[tag, class, ..] = &parts[..]
            && self.values[tag] == Value::Text("module")
        {
            self.stack.push(class);
            return Ok(());
        }
        self.push(Value::Persistent(id));
        Ok(())
    }

    fn build(&mut self) -> Result<()> {
        let (given, object) = (self.pop()?, self.top()?);
        match &mut self.values[object] {
            Value::Made { state, .. } => *state = Some(given),
            // Attributes of an OrderedDict, such as the _metadata of a state dict.
            Value::Dict(_) => {}
            _ => return Err(Error::data("it gives a state to what has none: the file is damaged")),
        }
        Ok(())
    }
}

/// Reads a whole number in two's complement.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xFF } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

/// Reads a string of Python 2, which may be text or bytes.
fn old_string(bytes: &[u8]) -> Value<'_> {
    std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text)
}
