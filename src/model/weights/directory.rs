//! The weights of a model directory: one file, or shards and their index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::pickle::Globals;
use super::{Tensors, Weights, read_file};
use crate::error::{Error, InFile, Result};
use crate::input::Mapped;

/// The names that weights may have, the best first.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Which shard each tensor is in.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Returns the files that hold the weights of a model directory, in order.
///
/// # Errors
///
/// When there are none, or the index of shards is damaged.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let path = weights_path(directory)?;
    if !is_index(&path) {
        return Ok(vec![path]);
    }
    Ok(read_index(&path)?.0.into_iter().map(|name| directory.join(name)).collect())
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn weights_path(directory: &Path) -> Result<PathBuf> {
    let found = NAMES.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let message = "no weights in this directory: neither model.safetensors nor pytorch_model.bin, nor an index \
                       of shards";
        Error::data(message).at(directory.display().to_string())
    })
}

/// Reads the weights of a model directory.
///
/// # Errors
///
/// When there are none, a file is damaged, or the shards are not those of their index.
pub fn open(directory: &Path) -> Result<Weights> {
    let path = weights_path(directory)?;
    if is_index(&path) { open_shards(directory, &path) } else { Weights::read(&path) }
}

/// Reads an index of shards: their names in order, and the names of tensors with that of their shard.
fn read_index(path: &Path) -> Result<(BTreeSet<String>, BTreeMap<String, String>)> {
    let text = std::fs::read_to_string(path).in_file(path)?;
    let Index { weight_map } = serde_json::from_str(&text).in_file(path)?;
    let shards: BTreeSet<String> = weight_map.values().cloned().collect();
    // An index is a file from elsewhere: it must not lead out of its directory.
    if let Some(odd) = shards.iter().find(|name| Path::new(name).file_name() != Some(name.as_ref())) {
        return Err(Error::data(format!("`{odd}` is no name of a file in this directory"))).in_file(path);
    }
    Ok((shards, weight_map))
}

fn open_shards(directory: &Path, index: &Path) -> Result<Weights> {
    let (shards, weight_map) = read_index(index)?;
    let (mut all, mut files) = (Tensors::default(), Vec::new());
    for shard in &shards {
        let path = directory.join(shard);
        let file = Mapped::open(&path)?;
        let Tensors { stored, others } = read_file(&file, Globals::Weights).in_file(&path)?.tensors;
        let mut names = stored.keys().chain(others.keys());
        if let Some(name) = names.find(|name| weight_map.get(*name) != Some(shard)) {
            let message = format!("has the tensor `{name}`, which the index does not expect there");
            return Err(Error::data(message)).in_file(&path);
        }
        all.stored.extend(stored);
        all.others.extend(others);
        files.push(file);
    }
    let has = |name: &String| all.stored.contains_key(name) || all.others.contains_key(name);
    if let Some((name, shard)) = weight_map.iter().find(|(name, _)| !has(name)) {
        return Err(Error::data(format!("`{name}` should be in {shard} and is not"))).in_file(index);
    }
    Ok(Weights::from_files(index, all, files))
}
