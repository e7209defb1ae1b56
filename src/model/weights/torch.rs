//! Files of PyTorch's `torch.save`: the zip archives of 1.6 and later, and the plain format before.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;

use npyz::zip::{CompressionMethod, ZipArchive};

use super::Tensors;
use super::pickle::{Globals, Id, Pickle, Value};
use super::stored::{Dtype, Stored};
use crate::error::{Error, Result, guarded};
use crate::input::Mapped;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Archive {
    /// The tensors, by their dotted names.
    pub tensors: Tensors,
    /// The whole numbers among the attributes of a pickled module.
    pub numbers: BTreeMap<String, i64>,
}

/// How deep modules and dictionaries may be nested.
const DEEPEST: usize = 64;
/// Entries of all dictionaries together.
const MOST: usize = 1 << 20;
/// Bytes that the name of a tensor may have.
const LONGEST_NAME: usize = 1024;
/// Bytes that the names of all tensors together may have.
const ALL_NAMES: usize = 64 << 20;
/// Axes that a tensor may have.
const AXES: usize = 16;

/// Reads what `torch.save` wrote.
///
/// # Errors
///
/// When the file is of another kind, is damaged, has no tensors, or names what `globals` does not allow.
pub fn read(file: &Mapped, globals: Globals) -> Result<Archive> {
    if file.bytes().starts_with(b"PK") { read_zip(file, globals) } else { read_legacy(file, globals) }
}

/// Where the bytes of each storage are, by its key.
type Storages<'a> = BTreeMap<&'a str, Range<usize>>;

fn read_zip(file: &Mapped, globals: Globals) -> Result<Archive> {
    let entries = entries(file.bytes())?;
    let pickle = entries.iter().find(|(name, _)| name.ends_with("data.pkl"));
    let (name, place) =
        pickle.ok_or_else(|| Error::data("the archive has no data.pkl: torch.save did not write it"))?;
    let root = name.trim_end_matches("data.pkl");
    let order = entries.get(&format!("{root}byteorder")).map(|place| &file.bytes()[place.clone()]);
    if order.is_some_and(|order| order != b"little") {
        return Err(big_endian());
    }
    let (pickle, _) =
        Pickle::read(&file.bytes()[place.clone()], globals).map_err(|error| error.at(name.clone()))?;
    let folder = format!("{root}data/");
    let storages =
        entries.iter().filter_map(|(name, place)| Some((name.strip_prefix(&folder)?, place.clone())));
    collect(file, &pickle, pickle.root(), &storages.collect())
}

fn big_endian() -> Error {
    Error::data("the numbers are big-endian: load the file where it was made and save it as safetensors")
}

/// Returns where each entry of a zip archive lies. PyTorch does not compress them.
fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>> {
    let damaged = |error| Error::data(format!("the zip archive is damaged or cut short: {error}"));
    let mut zip = guarded("the zip archive", || ZipArchive::new(Cursor::new(bytes)))?.map_err(damaged)?;
    let mut entries = BTreeMap::new();
    for index in 0..zip.len() {
        let entry = guarded("the zip archive", || zip.by_index_raw(index))?.map_err(damaged)?;
        let place = |start: u64, size: u64| -> Option<Range<usize>> {
            Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(size)?).ok()?)
        };
        if entry.compression() != CompressionMethod::Stored || entry.size() != entry.compressed_size() {
            let message = "is compressed, which torch.save never does: unzip the archive and zip it with -0";
            return Err(Error::data(format!("{} {message}", entry.name())));
        }
        let place = place(entry.data_start(), entry.size()).filter(|place| place.end <= bytes.len());
        let place = place.ok_or_else(|| Error::data(format!("{} ends beyond the file", entry.name())))?;
        check_sum(&bytes[place.clone()], entry.crc32()).map_err(|error| error.at(entry.name()))?;
        entries.insert(entry.name().to_string(), place);
    }
    Ok(entries)
}

/// Compares bytes with their checksum; 0 stands for none, which PyTorch can be asked for.
fn check_sum(bytes: &[u8], expected: u32) -> Result<()> {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    match expected == 0 || sum.sum() == expected {
        true => Ok(()),
        false => Err(Error::data("the checksum is wrong: the file is damaged, copy or download it again")),
    }
}

/// The number that the first pickle of the old format holds, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The version of the old format.
const PROTOCOL: i64 = 1001;

/// Reads four pickles (a magic number, a version, the system, the object), the keys of the storages, and then
/// for each storage the number of its elements and their bytes.
fn read_legacy(file: &Mapped, globals: Globals) -> Result<Archive> {
    let bytes = file.bytes();
    let mut at = 0;
    let mut next = |what: &str, globals| -> Result<Pickle> {
        let (pickle, length) =
            Pickle::read(&bytes[at..], globals).map_err(|error| error.at(what.to_string()))?;
        at += length;
        Ok(pickle)
    };
    let magic = next("magic number", Globals::Weights).map_err(|_| not_torch())?;
    if *magic.get(magic.root()) != Value::Long(&MAGIC) {
        return Err(not_torch());
    }
    let version = next("version", Globals::Weights)?;
    if version.int(version.root()) != Some(PROTOCOL) {
        return Err(Error::data("a version of PyTorch's old format that nyx does not know"));
    }
    let system = next("system", Globals::Weights)?;
    let little = system.entry(system.root(), "little_endian");
    if little.is_some_and(|id| *system.get(id) == Value::Bool(false)) {
        return Err(big_endian());
    }
    let object = next("object", globals)?;
    let keys = next("storage keys", Globals::Weights)?;
    let storages = storages(bytes, at, &object, &keys)?;
    collect(file, &object, object.root(), &storages)
}

fn not_torch() -> Error {
    Error::data("neither a zip archive nor PyTorch's old format: torch.save did not write it")
}

/// Finds the storages of the old format, which begin at byte `at`.
fn storages<'a>(bytes: &[u8], mut at: usize, object: &Pickle, keys: &Pickle<'a>) -> Result<Storages<'a>> {
    let Value::List(ids) = keys.get(keys.root()) else {
        return Err(Error::data("its list of storages is missing: the file is damaged"));
    };
    let sizes: BTreeMap<&str, usize> = (object.values().iter())
        .filter_map(|value| if let Value::Persistent(id) = value { storage(object, *id) } else { None })
        .map(|storage| (storage.key, storage.kind.size()))
        .collect();
    let mut found = Storages::new();
    for &id in ids {
        let place = keys.text(id).and_then(|key| Some((key, *sizes.get(key)?)));
        let (key, size) = place.ok_or_else(|| Error::data("it has a storage of no tensor"))?;
        let cut = || Error::data(format!("storage {key} ends beyond the file: it is cut short"));
        let head = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*head)).ok().and_then(|n| n.checked_mul(size));
        let end = length.and_then(|length| (at + 8).checked_add(length));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(cut)?;
        found.insert(key, at + 8..end);
        at = end;
    }
    Ok(found)
}

/// The numbers of a storage.
#[derive(Clone, Copy)]
enum Kind {
    Floats(Dtype),
    /// Whole numbers, truth values, complex numbers: bytes of each.
    Other(usize),
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Self::Floats(dtype) => dtype.size(),
            Self::Other(size) => size,
        }
    }
}

/// A storage as a pickle names it.
struct Storage<'a> {
    kind: Kind,
    key: &'a str,
    /// First number of a view of the old format.
    start: usize,
}

/// Reads `('storage', class, key, device, size[, view])`.
fn storage<'a>(pickle: &Pickle<'a>, id: Id) -> Option<Storage<'a>> {
    let Value::Tuple(parts) = pickle.get(id) else { return None };
    let (&[tag, class, key], rest) = parts.split_first_chunk::<3>()?;
    let Value::Global("torch", class) = pickle.get(class) else { return None };
    let kind = match class.strip_suffix("Storage")? {
        "Float" => Kind::Floats(Dtype::F32),
        "Double" => Kind::Floats(Dtype::F64),
        "Half" => Kind::Floats(Dtype::F16),
        "BFloat16" => Kind::Floats(Dtype::Bf16),
        "Byte" | "Char" | "Bool" | "QUInt8" | "QInt8" => Kind::Other(1),
        "Short" => Kind::Other(2),
        "Int" | "QInt32" => Kind::Other(4),
        "Long" | "ComplexFloat" => Kind::Other(8),
        "ComplexDouble" => Kind::Other(16),
        _ => return None,
    };
    let start = match rest.get(2).map(|&view| pickle.get(view)) {
        // (key of the view, first number, length)
        Some(Value::Tuple(view)) => usize::try_from(pickle.int(*view.get(1)?)?).ok()?,
        _ => 0,
    };
    (pickle.text(tag) == Some("storage")).then_some(Storage { kind, key: pickle.text(key)?, start })
}

/// Collects the tensors below `object`.
fn collect(file: &Mapped, pickle: &Pickle, object: Id, storages: &Storages) -> Result<Archive> {
    let mut walk = Walk { file, pickle, storages, archive: Archive::default(), met: 0, named: 0 };
    walk.visit("", state_dict(pickle, object), 0)?;
    if walk.archive.tensors.is_empty() {
        return Err(Error::data("no tensor in it: save a state dict (torch.save(model.state_dict(), FILE))"));
    }
    Ok(walk.archive)
}

/// Returns the part of a checkpoint that holds the tensors.
fn state_dict(pickle: &Pickle, object: Id) -> Id {
    let part = |key| pickle.entry(object, key).filter(|&id| is_folder(pickle, id));
    ["state_dict", "model_state_dict", "model"].into_iter().find_map(part).unwrap_or(object)
}

/// Whether this may have tensors in it: a dictionary or a module.
fn is_folder(pickle: &Pickle, id: Id) -> bool {
    match pickle.get(id) {
        Value::Dict(_) => true,
        Value::Made { state, .. } => state.is_some(),
        _ => false,
    }
}

struct Walk<'a, 'b> {
    file: &'a Mapped,
    pickle: &'a Pickle<'b>,
    storages: &'a Storages<'a>,
    archive: Archive,
    /// Entries met: values may be shared, so there can be more than the pickle has bytes.
    met: usize,
    /// Bytes of the names of the entries met.
    named: usize,
}

impl Walk<'_, '_> {
    fn visit(&mut self, prefix: &str, object: Id, depth: usize) -> Result<()> {
        let pickle = self.pickle;
        let (entries, is_module) = match pickle.get(object) {
            Value::Dict(entries) => (entries, false),
            Value::Made { state: Some(state), .. } => match pickle.get(*state) {
                Value::Dict(entries) => (entries, true),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.met += entries.len();
        if depth > DEEPEST || self.met > MOST {
            return Err(Error::data("nested too deep or too many names for weights: the file is damaged"));
        }
        for &(name, value) in entries {
            let Some(name) = pickle.text(name) else { continue };
            match (is_module, is_part(name)) {
                (true, true) => self.visit(prefix, value, depth + 1)?,
                (true, false) => self.attribute(prefix, name, value),
                (false, _) => self.entry(&joined(prefix, name), value, depth)?,
            }
        }
        Ok(())
    }

    /// Notes a whole number that the outermost module keeps.
    fn attribute(&mut self, prefix: &str, name: &str, value: Id) {
        if let (true, Some(number)) = (prefix.is_empty(), self.pickle.int(value)) {
            self.archive.numbers.insert(name.into(), number);
        }
    }

    fn entry(&mut self, name: &str, value: Id, depth: usize) -> Result<()> {
        if name.len() > LONGEST_NAME {
            return Err(Error::data("a name longer than 1024 letters: the file is damaged"));
        }
        self.named += name.len();
        if self.named > ALL_NAMES {
            return Err(Error::data("names of more than 64 MiB: the file is damaged"));
        }
        if let Some(parts) = tensor(self.pickle, value) {
            return self.tensor(name, parts).map_err(|error| error.at(format!("tensor `{name}`")));
        }
        if is_folder(self.pickle, value) { self.visit(name, value, depth + 1) } else { Ok(()) }
    }

    /// Keeps the tensor of `_rebuild_tensor_v2(storage, offset, shape, strides, …)`.
    fn tensor(&mut self, name: &str, parts: &[Id]) -> Result<()> {
        let pickle = self.pickle;
        let odd = || Error::data("its description is damaged, or of a kind that nyx does not read");
        let &[storage_id, offset, shape, strides] = parts.first_chunk().ok_or_else(odd)?;
        let Value::Persistent(id) = pickle.get(storage_id) else { return Err(odd()) };
        let storage = storage(pickle, *id).ok_or_else(odd)?;
        let Kind::Floats(dtype) = storage.kind else {
            self.archive.tensors.others.insert(name.into(), "whole numbers or truth values".into());
            return Ok(());
        };
        let place = self.storages.get(storage.key).ok_or_else(|| {
            Error::data(format!("its storage `{}` is missing: the file is damaged", storage.key))
        })?;
        let offset = pickle.int(offset).and_then(|n| usize::try_from(n).ok());
        let offset = offset.and_then(|offset| offset.checked_add(storage.start)).ok_or_else(odd)?;
        let [shape, strides] = [shape, strides].map(|id| pickle.sizes(id, AXES));
        let (shape, strides) = (shape.ok_or_else(odd)?, strides.ok_or_else(odd)?);
        let stored = Stored::strided(self.file, place.clone(), dtype, offset, shape, strides)?;
        self.archive.tensors.insert(name, stored);
        Ok(())
    }
}

/// Returns the arguments that rebuild a tensor, or the tensor of a parameter.
fn tensor<'a>(pickle: &'a Pickle, id: Id) -> Option<&'a [Id]> {
    match pickle.made(id)? {
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2", arguments, _) => Some(arguments),
        ("torch._utils", name, arguments, _) if name.starts_with("_rebuild_parameter") => {
            let inner = *arguments.first()?;
            let (module, name, arguments, _) = pickle.made(inner)?;
            (module == "torch._utils" && name.starts_with("_rebuild_tensor")).then_some(arguments)
        }
        _ => None,
    }
}

fn is_part(name: &str) -> bool {
    matches!(name, "_parameters" | "_buffers" | "_modules")
}

fn joined(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}
