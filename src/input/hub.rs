//! `hf://org/name@revision`: models by their names on the Hugging Face hub, found in its cache on this computer.
//!
//! The cache is the one that Python's huggingface_hub fills:
//! `models--org--name/{refs/REVISION, snapshots/COMMIT/…, blobs/…}`. Nothing here uses the network.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What a name of the hub begins with.
pub const SCHEME: &str = "hf://";

/// A repository of models at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `org/name`; a few old ones have a name only.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

/// A directory, and what people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The directory on this computer.
    pub path: PathBuf,
    /// The last part of its name, or `org/name@commit` for one of the hub.
    pub name: String,
}

/// Finds what `path` names: a path as it is, or a repository of the hub in the cache.
///
/// # Errors
///
/// When the name is malformed, or the cache does not have it: the message says what fetches it.
pub fn locate(path: &Path) -> Result<Located> {
    locate_in(path, &cache()?)
}

fn locate_in(path: &Path, cache: &Path) -> Result<Located> {
    let Some(repository) = path.to_str().and_then(Repository::parse) else {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let name = real.file_name().map(|name| name.to_string_lossy().into_owned());
        return Ok(Located { path: path.into(), name: name.unwrap_or_else(|| path.display().to_string()) });
    };
    let repository = repository?;
    let folder = repository.folder(cache);
    let found = repository.commit(&folder).map(|commit| (folder.join("snapshots").join(&commit), commit));
    let (path, commit) = found.filter(|(path, _)| path.is_dir()).ok_or_else(|| {
        Error::data(format!(
            "{}: not in the Hugging Face cache at {}: `nyx-model fetch {}` brings it, on a computer with network access",
            path.display(),
            cache.display(),
            path.display()
        ))
    })?;
    Ok(Located { path, name: format!("{}@{commit}", repository.name) })
}

/// Returns the directory of the cache: `$HF_HUB_CACHE`, `$HF_HOME/hub`, or `~/.cache/huggingface/hub`.
///
/// # Errors
///
/// When none of them can be told.
pub fn cache() -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| variable("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| variable("XDG_CACHE_HOME").map(|home| home.join("huggingface/hub")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/huggingface/hub")))
        .ok_or_else(|| Error::data("no Hugging Face cache: set HF_HOME, or HOME"))
}

impl Repository {
    /// Reads `hf://org/name` or `hf://org/name@revision`; `None` for other texts.
    pub fn parse(text: &str) -> Option<Result<Self>> {
        let rest = text.strip_prefix(SCHEME)?;
        let (name, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let is_part = |part: &str| {
            let is_letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(is_letter)
        };
        let is_whole = name.split('/').all(is_part) && name.split('/').count() <= 2;
        if !is_whole || !revision.split('/').all(is_part) {
            let message = format!("{text}: a name of the hub is hf://org/name or hf://org/name@revision");
            return Some(Err(Error::usage(message)));
        }
        Some(Ok(Self { name: name.into(), revision: revision.into() }))
    }

    /// Returns the directory of the repository in the cache.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.name.replace('/', "--")))
    }

    /// Returns the commit that the revision is in the cache.
    fn commit(&self, folder: &Path) -> Option<String> {
        let known = fs::read_to_string(folder.join("refs").join(&self.revision)).ok();
        // A file from elsewhere must not lead out of the cache.
        let is_commit = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
        let commit = known.map_or_else(|| self.revision.clone(), |commit| commit.trim().to_string());
        Some(commit).filter(|commit| is_commit(commit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn parse(text: &str) -> Option<(String, String)> {
        Repository::parse(text)?.ok().map(|repository| (repository.name, repository.revision))
    }

    #[test]
    fn names_of_the_hub_are_told_from_paths_and_from_tricks() {
        assert_eq!(parse("hf://a/b"), Some(("a/b".into(), "main".into())));
        assert_eq!(
            parse("hf://a/DNA_bert-6.1@refs/pr/1"),
            Some(("a/DNA_bert-6.1".into(), "refs/pr/1".into()))
        );
        for path in ["a/b", "/hf://a", "hf:/a"] {
            assert!(Repository::parse(path).is_none(), "{path}");
        }
        for text in
            ["hf://", "hf://a/b/c", "hf://../b", "hf://a/b@../../x", "hf://a/b@", "hf://a//b", "hf:///b"]
        {
            assert_eq!(Repository::parse(text).unwrap().unwrap_err().exit_status(), 2, "{text}");
        }
    }

    #[test]
    fn a_branch_and_a_commit_lead_to_the_same_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--org--name");
        let snapshot = folder.join("snapshots").join(COMMIT);
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(folder.join("refs")).unwrap();
        fs::write(folder.join("refs/main"), COMMIT).unwrap();
        for text in ["hf://org/name", "hf://org/name@main", &format!("hf://org/name@{COMMIT}")] {
            let located = locate_in(Path::new(text), cache.path()).unwrap();
            assert_eq!((located.path, located.name), (snapshot.clone(), format!("org/name@{COMMIT}")));
        }
        let missing = locate_in(Path::new("hf://org/name@v2"), cache.path()).unwrap_err().to_string();
        assert!(missing.contains("`nyx-model fetch hf://org/name@v2`"), "{missing}");
        fs::write(folder.join("refs/main"), "../../..").unwrap();
        locate_in(Path::new("hf://org/name"), cache.path()).unwrap_err();
    }

    #[test]
    fn a_path_is_itself_under_its_last_name() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("ctcf")).unwrap();
        let path = directory.path().join("ctcf/../ctcf/");
        assert_eq!(locate(&path).unwrap(), Located { path, name: "ctcf".into() });
    }
}
