//! PyTorch's zip archives (`torch.save` since 1.6): state dicts and whole modules. The pickle inside is
//! read as data, by candle; nothing in it is executed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::DType;
use candle_core::pickle::{Object, Stack, TensorInfo};
use half::{bf16, f16};
use npyz::zip::ZipArchive;

use crate::error::{Error, InFile, Result};
use crate::model::weights::Array;

/// What an archive holds.
#[derive(Debug, Default)]
pub struct Archive {
    /// The tensors of floats, by their dotted names.
    pub tensors: BTreeMap<String, Array>,
    /// The whole numbers among the attributes of a pickled module.
    pub numbers: BTreeMap<String, i64>,
}

/// Reads the archive at `path`.
///
/// # Errors
///
/// When it is no zip archive, or holds no tensors that can be read without running code.
pub fn read(path: &Path) -> Result<Archive> {
    read_archive(path).in_file(path)
}

fn read_archive(path: &Path) -> Result<Archive> {
    let mut zip = ZipArchive::new(BufReader::new(File::open(path)?)).map_err(|_| {
        Error::data(
            "not a zip archive: if it was saved by PyTorch before 1.6, load it there once and save it again \
             (torch.save(torch.load(FILE, map_location='cpu'), NEW))",
        )
    })?;
    let pickle = zip.file_names().find(|name| name.ends_with("data.pkl")).map(str::to_string);
    let pickle =
        pickle.ok_or_else(|| Error::data("the archive has no data.pkl: torch.save did not write it"))?;
    let mut stack = Stack::empty();
    let entry = zip.by_name(&pickle).map_err(|error| Error::data(error.to_string()))?;
    stack.read_loop(&mut BufReader::new(entry)).map_err(|error| {
        Error::data(format!(
            "{pickle}: {error}: save a state dict instead (torch.save(model.state_dict(), FILE))"
        ))
    })?;
    let folder = Path::new(pickle.trim_end_matches(".pkl"));
    let mut found = Found { folder, infos: Vec::new(), numbers: BTreeMap::new() };
    found.walk("", state_dict(stack.finalize()?));
    if found.infos.is_empty() {
        return Err(Error::data("no tensor in it: save a state dict (torch.save(model.state_dict(), FILE))"));
    }
    let mut tensors = BTreeMap::new();
    for info in &found.infos {
        if let Some(array) =
            tensor(&mut zip, info).map_err(|error| error.at(format!("tensor `{}`", info.name)))?
        {
            tensors.insert(info.name.clone(), array);
        }
    }
    Ok(Archive { tensors: without_common_prefix(tensors), numbers: found.numbers })
}

/// Returns the part of a checkpoint that holds the tensors.
fn state_dict(object: Object) -> Object {
    let Object::Dict(mut entries) = object else { return object };
    for key in ["state_dict", "model_state_dict", "model"] {
        let wanted = Object::Unicode(key.into());
        if let Some(place) = entries.iter().position(|(name, value)| {
            *name == wanted && matches!(value, Object::Dict(_) | Object::Build { .. })
        }) {
            return entries.swap_remove(place).1;
        }
    }
    Object::Dict(entries)
}

/// The tensors met so far.
struct Found<'a> {
    folder: &'a Path,
    infos: Vec<TensorInfo>,
    numbers: BTreeMap<String, i64>,
}

impl Found<'_> {
    fn walk(&mut self, prefix: &str, object: Object) {
        match object {
            Object::Dict(entries) => {
                for (name, value) in entries {
                    if let Object::Unicode(name) = name {
                        self.entry(&joined(prefix, &name), value);
                    }
                }
            }
            // A pickled module: its attributes, among them its parameters and the modules in it.
            Object::Build { args, .. } => {
                let Object::Dict(attributes) = *args else { return };
                for (name, value) in attributes {
                    match (&name, value) {
                        (Object::Unicode(name), value) if is_part(name) => self.walk(prefix, value),
                        (Object::Unicode(name), Object::Int(number)) if prefix.is_empty() => {
                            self.numbers.insert(name.clone(), number.into());
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn entry(&mut self, name: &str, value: Object) {
        if matches!(value, Object::Dict(_) | Object::Build { .. }) {
            return self.walk(name, value);
        }
        if let Ok(Some(info)) = value.into_tensor_info(Object::Unicode(name.into()), self.folder) {
            self.infos.push(info);
        }
    }
}

fn is_part(name: &str) -> bool {
    matches!(name, "_parameters" | "_buffers" | "_modules")
}

fn joined(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }
}

/// Takes away the `module.` that DataParallel puts before every name.
fn without_common_prefix(tensors: BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    if !tensors.keys().all(|name| name.starts_with("module.")) {
        return tensors;
    }
    tensors.into_iter().map(|(name, array)| (name["module.".len()..].to_string(), array)).collect()
}

/// Reads one tensor; `None` when it holds no floats.
fn tensor(zip: &mut ZipArchive<BufReader<File>>, info: &TensorInfo) -> Result<Option<Array>> {
    if !matches!(info.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let entry = zip.by_name(&info.path).map_err(|error| Error::data(format!("{}: {error}", info.path)))?;
    BufReader::new(entry).read_to_end(&mut bytes)?;
    let size = info.dtype.size_in_bytes();
    // candle counts the offset in bytes, the strides in numbers.
    let start = info.layout.start_offset() / size;
    let shape = info.layout.dims().to_vec();
    let count: usize = shape.iter().product();
    let reach: usize =
        shape.iter().zip(info.layout.stride()).map(|(n, stride)| n.saturating_sub(1) * stride).sum();
    if count > 0 && (start + reach + 1) * size > bytes.len() {
        return Err(Error::data(format!("its storage {} is too short: the file is damaged", info.path)));
    }
    let place = |mut index: usize| {
        let axes = shape.iter().zip(info.layout.stride()).rev();
        axes.fold(start, |place, (&n, &stride)| {
            let here = index % n;
            index /= n;
            place + here * stride
        })
    };
    let values = (0..count).map(|index| number(&bytes[place(index) * size..][..size], info.dtype)).collect();
    Ok(Some(Array { shape, values }))
}

fn number(bytes: &[u8], dtype: DType) -> f32 {
    fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.try_into().expect("as many bytes as the type has")
    }
    match dtype {
        DType::F64 => f64::from_le_bytes(array(bytes)) as f32,
        DType::F16 => f16::from_le_bytes(array(bytes)).to_f32(),
        DType::BF16 => bf16::from_le_bytes(array(bytes)).to_f32(),
        _ => f32::from_le_bytes(array(bytes)),
    }
}
