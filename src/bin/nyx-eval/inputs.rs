//! Which files are evaluated, and what they are called.

use std::path::{Path, PathBuf};

use nyx::error::{Error, InFile, Result};

/// A file and the name of its set.
pub type Named = (String, PathBuf);

/// Returns the files that inputs stand for: those of a folder, sorted, with their places in it as names.
pub fn all(inputs: &[PathBuf]) -> Result<Vec<Named>> {
    let mut found = Vec::new();
    for path in inputs {
        match path.is_dir() {
            true => files(path, "", &mut found)?,
            false => found.push((stem(path), path.clone())),
        }
    }
    match found.is_empty() {
        true => Err(Error::data("there is no file in the folder")),
        false => Ok(found),
    }
}

/// Returns the sets that folders of models have in common: for each, the file of every folder.
///
/// # Errors
///
/// When a folder has none, or lacks one that the first has.
pub fn side_by_side(folders: &[PathBuf]) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let of = |folder: &PathBuf| all(std::slice::from_ref(folder)).in_file(folder);
    let all: Vec<Vec<Named>> = folders.iter().map(of).collect::<Result<_>>()?;
    let mut sets: Vec<(String, Vec<PathBuf>)> = Vec::new();
    for (name, _) in &all[0] {
        let find = |(folder, files): (&PathBuf, &Vec<Named>)| {
            let file = files.iter().find(|(other, _)| other == name).map(|(_, path)| path.clone());
            file.ok_or_else(|| Error::data(format!("no file of the set `{name}`"))).in_file(folder)
        };
        sets.push((name.clone(), folders.iter().zip(&all).map(find).collect::<Result<_>>()?));
    }
    match all.iter().zip(folders).find(|(files, _)| files.len() != sets.len()) {
        Some((files, folder)) => {
            let has = |name: &str| sets.iter().any(|(set, _)| set == name);
            let name = files.iter().find(|(name, _)| !has(name)).map_or("", |(name, _)| name);
            Err(Error::data(format!("the set `{name}` is not in {}", folders[0].display()))).in_file(folder)
        }
        None => Ok(sets),
    }
}

/// Returns the name of a file or folder without its ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn files(folder: &Path, name: &str, found: &mut Vec<Named>) -> Result<()> {
    let entries = std::fs::read_dir(folder).in_file(folder)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>().in_file(folder)?;
    paths.sort();
    for path in paths {
        let name = if name.is_empty() { stem(&path) } else { format!("{name}/{}", stem(&path)) };
        match path.is_dir() {
            true => files(&path, &name, found)?,
            false => found.push((name, path)),
        }
    }
    Ok(())
}
