//! Model directories of transformers in any format of weights → the same with `model.safetensors`.

use std::fs;
use std::path::Path;

use super::write_weights;
use crate::error::{Error, InFile, Result};
use crate::input::fetch::{SMALL, is_numbered};
use crate::model::Opened;
use crate::output;

/// Writes a model that was read from the directory `source` into the directory `target`, which is made when
/// missing: the weights as they are now, in one file, and what else a model needs.
///
/// # Errors
///
/// When a file cannot be read or written, or `target` is `source`.
pub fn write_directory(opened: &Opened, source: &Path, target: &Path) -> Result<()> {
    let inside = opened.path.strip_prefix(source).unwrap_or(Path::new(""));
    let transformer = target.join(inside);
    fs::create_dir_all(&transformer).in_file(&transformer)?;
    if source.canonicalize().in_file(source)? == target.canonicalize().in_file(target)? {
        return Err(Error::usage("the source and -o are the same directory")).in_file(target);
    }
    copy_small(source, target)?;
    copy_small(&opened.path, &transformer)?;
    for folder in fs::read_dir(source).in_file(source)?.filter_map(|entry| Some(entry.ok()?.file_name())) {
        let from = source.join(&folder);
        if folder.to_str().is_some_and(is_numbered) && from.is_dir() && from != opened.path {
            copy_all(&from, &target.join(&folder))?;
        }
    }
    write_weights(&opened.weights, &transformer.join("model.safetensors"))?;
    let mut config = opened.config.clone();
    if config.model_type() == config.architectures.first().map(String::as_str) {
        // It was not in the file.
        config.architectures.clear();
    }
    let mut text = serde_json::to_string_pretty(&config)?;
    text.push('\n');
    output::write_file(&transformer.join("config.json"), text.as_bytes())
}

/// Copies the small files that say what a model is, besides those of an adapter, which is merged by now.
fn copy_small(from: &Path, to: &Path) -> Result<()> {
    let names = SMALL.iter().filter(|name| !name.starts_with("adapter") && from.join(name).is_file());
    names.copied().try_for_each(|name| copy(&from.join(name), &to.join(name)))
}

/// Copies the files of a module of SentenceTransformers: a config, and a few numbers.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).in_file(to)?;
    for name in ["config.json", "model.safetensors", "pytorch_model.bin"] {
        if from.join(name).is_file() {
            copy(&from.join(name), &to.join(name))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    output::write_file(to, &fs::read(from).in_file(from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{arrays, shared};
    use crate::model::weights::Weights;

    #[test]
    fn an_adapter_merged_to_disk_is_the_adapter_merged_in_memory() {
        let Some(base) = shared("golden/models/dnabert2_tiny") else { return };
        let adapter = shared("golden/models/dnabert2_tiny_lora").unwrap();
        let opened = Opened::read(&base).unwrap().adapt(&adapter, "dnabert2_tiny").unwrap();
        let directory = tempfile::tempdir().unwrap();
        write_directory(&opened, &base, directory.path()).unwrap();
        let written = Opened::read(directory.path()).unwrap();
        assert_eq!(arrays(&written.weights), arrays(&opened.weights));
        assert_eq!(written.config.rest, opened.config.rest);
        assert_eq!(written.config.architecture(), "bert");
        assert!(write_directory(&written, directory.path(), directory.path()).is_err());
    }

    #[test]
    fn numbers_keep_their_format_and_small_files_come_along() {
        let source = tempfile::tempdir().unwrap();
        let path = |name: &str| source.path().join(name);
        let bytes: Vec<u8> =
            [1.0, -2.5].iter().flat_map(|v| half::bf16::from_f64(*v).to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![2], &bytes).unwrap();
        fs::write(path("model.safetensors"), safetensors::serialize([("module.a", view)], None).unwrap())
            .unwrap();
        for (name, text) in
            [("config.json", r#"{"model_type": "x"}"#), ("vocab.txt", "A\n"), ("evil.py", "import os")]
        {
            fs::write(path(name), text).unwrap();
        }
        let target = tempfile::tempdir().unwrap();
        write_directory(&Opened::read(source.path()).unwrap(), source.path(), target.path()).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["config.json", "model.safetensors", "vocab.txt"]);
        let weights = Weights::open(target.path()).unwrap();
        assert_eq!(*weights.any("a").unwrap().bytes(), bytes);
        assert_eq!(weights.get("a", &[2]).unwrap(), [1.0, -2.5]);
    }
}
