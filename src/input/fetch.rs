//! Downloads models of the Hugging Face hub into its cache on this computer: only the files that a model
//! needs, never code, each checked against the size and the digest that the hub states.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body};

use super::Mapped;
use super::hub::{self, Repository};
use crate::error::{Error, InFile, Result};
use crate::{output, provenance};

/// Where models come from unless `$HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// How often a download that breaks off is taken up again.
const ATTEMPTS: usize = 5;
/// How often the hub may send us on before it says what a file is.
const REDIRECTS: usize = 5;

/// The hub, and the cache that it fills.
pub struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    cache: PathBuf,
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The directory of the model in the cache.
    pub snapshot: PathBuf,
    /// The commit.
    pub commit: String,
    /// The files, with their sizes in bytes.
    pub files: Vec<(String, u64)>,
}

/// What the hub says about a repository.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What the hub says about a file.
struct Described {
    /// SHA-256 of large files, another name of the contents for small ones.
    etag: String,
    size: u64,
}

impl Hub {
    /// Creates the hub that the environment names: `$HF_ENDPOINT`, `$HF_TOKEN`, and the cache as [`hub::cache`]
    /// finds it.
    ///
    /// # Errors
    ///
    /// When `$HF_HUB_OFFLINE` forbids the network, or no cache can be told.
    pub fn from_environment() -> Result<Self> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if variable("HF_HUB_OFFLINE").is_some_and(|value| value != "0") {
            return Err(Error::data("HF_HUB_OFFLINE is set: nothing is fetched"));
        }
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Ok(Self::new(&endpoint, variable("HF_TOKEN"), hub::cache()?))
    }

    fn new(endpoint: &str, token: Option<String>, cache: PathBuf) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("nyx/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build()
            .into();
        Self { agent, endpoint: endpoint.trim_end_matches('/').into(), token, cache }
    }

    /// Fetches what the cache does not have yet of a model, and calls `say` with each file before it comes.
    ///
    /// # Errors
    ///
    /// When the hub cannot be reached or does not have it, or what arrives is not what the hub described.
    /// What arrived of a large file stays, and the next call goes on from there.
    pub fn fetch(&self, repository: &Repository, mut say: impl FnMut(&str)) -> Result<Fetched> {
        let Repository { name, revision } = repository;
        let url = format!("{}/api/models/{name}/revision/{}", self.endpoint, revision.replace('/', "%2F"));
        let text = self.get(&url, None)?.body_mut().read_to_string().map_err(|error| broken(&url, &error))?;
        let Listing { sha: commit, siblings } = serde_json::from_str(&text)
            .map_err(|error| Error::data(format!("{url}: not the answer of a model hub: {error}")))?;
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Error::data(format!("{url}: `{commit}` is no commit")));
        }
        let names: Vec<String> = siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let wanted = wanted(&names);
        if wanted.is_empty() {
            return Err(Error::data(format!("{name} has no file that a model needs (config.json, weights)")));
        }
        let folder = repository.folder(&self.cache);
        let snapshot = folder.join("snapshots").join(&commit);
        let mut files = Vec::new();
        for file in wanted {
            let url = format!("{}/{name}/resolve/{commit}/{file}", self.endpoint);
            let described = self.describe(&url)?;
            let blob = folder.join("blobs").join(&described.etag);
            if !blob.exists() {
                say(&format!("{file}, {} bytes", described.size));
                self.download(&url, &described, &blob)?;
            }
            link(&blob, &snapshot.join(&file), file.split('/').count() + 1)?;
            files.push((file, described.size));
        }
        if *revision != commit {
            let path = folder.join("refs").join(revision);
            create_parent(&path)?;
            output::write_file(&path, commit.as_bytes())?;
        }
        Ok(Fetched { snapshot, commit, files })
    }

    /// Sends a GET, from byte `start` on where it is given, and checks the status.
    fn get(&self, url: &str, start: Option<u64>) -> Result<Response<Body>> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(start) = start {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| broken(url, &error))?;
        check_status(url, response.status().as_u16(), self.token.is_some())?;
        Ok(response)
    }

    /// Asks what a file is, without following the hub to where its contents are.
    fn describe(&self, url: &str) -> Result<Described> {
        let mut url = url.to_string();
        for _ in 0..REDIRECTS {
            let mut request = self.agent.head(&url).config().max_redirects(0).build();
            if let Some(token) = &self.token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.header("Accept-Encoding", "identity").call();
            let response = response.map_err(|error| broken(&url, &error))?;
            let (status, headers) = (response.status().as_u16(), response.headers());
            check_status(&url, status, self.token.is_some())?;
            let text = |name| text(headers, name);
            match (text("location"), text("x-linked-etag")) {
                // Only paths of the hub itself: elsewhere nobody may see the token.
                (Some(path), None) if path.starts_with('/') && !path.starts_with("//") => {
                    url = format!("{}{path}", origin(&url)?);
                }
                (_, linked) => {
                    let etag = linked.or_else(|| text("etag")).and_then(|etag| clean_etag(&etag));
                    let size = text("x-linked-size").or_else(|| text("content-length"));
                    let described = etag.zip(size.and_then(|size| size.parse().ok()));
                    let (etag, size) = described.ok_or_else(|| {
                        Error::data(format!("{url}: the hub does not say what the file is"))
                    })?;
                    return Ok(Described { etag, size });
                }
            }
        }
        Err(Error::data(format!("{url}: the hub sends us in circles")))
    }

    /// Downloads a file to `blob`, through one beside it that the next call goes on with.
    fn download(&self, url: &str, described: &Described, blob: &Path) -> Result<()> {
        create_parent(blob)?;
        let partial = blob.with_file_name(format!("{}.incomplete", described.etag));
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&partial)
            .in_file(&partial)?;
        file.try_lock()
            .map_err(|_| Error::data("another process is fetching this file"))
            .in_file(&partial)?;
        let mut attempt = 1;
        loop {
            match self.resume(url, described.size, &mut file) {
                Ok(()) => break,
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.at(format!("after {ATTEMPTS} attempts"))),
            }
        }
        file.sync_all().in_file(&partial)?;
        if let Err(error) = check(&partial, described) {
            fs::remove_file(&partial).in_file(&partial)?;
            return Err(error.at(url.to_string()));
        }
        fs::rename(&partial, blob).in_file(blob)
    }

    /// Downloads what is missing at the end of `file`.
    fn resume(&self, url: &str, size: u64, file: &mut File) -> Result<()> {
        let mut have = file.seek(SeekFrom::End(0))?;
        if have > size {
            file.set_len(0)?;
            have = file.seek(SeekFrom::Start(0))?;
        }
        if have == size {
            return Ok(());
        }
        let response = self.get(url, (have > 0).then_some(have))?;
        if have > 0 && response.status().as_u16() != 206 {
            // The server gives the whole only.
            file.set_len(0)?;
            have = file.seek(SeekFrom::Start(0))?;
        }
        let wanted = size - have;
        // One byte more than wanted shows that the file is another.
        let copied = io::copy(&mut response.into_body().into_reader().take(wanted + 1), file)?;
        file.flush()?;
        if copied < wanted {
            return Err(Error::data(format!("{url}: {copied} of {wanted} bytes arrived")));
        }
        Ok(())
    }
}

fn broken(url: &str, error: &ureq::Error) -> Error {
    Error::data(format!("{url}: {error}"))
}

/// Refuses answers that are no success and send nowhere.
fn check_status(url: &str, status: u16, has_token: bool) -> Result<()> {
    let why = match status {
        200..=399 => return Ok(()),
        401 | 403 if has_token => "HF_TOKEN gives no access to it",
        401 | 403 => "no such model, or one that needs an account: set HF_TOKEN",
        404 => "no such model, revision or file",
        429 => "too many requests: wait a while",
        _ => "the hub failed",
    };
    Err(Error::data(format!("{url}: {why} (status {status})")))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_string)
}

/// Returns scheme and host of a URL.
fn origin(url: &str) -> Result<String> {
    let parsed: Option<Uri> = url.parse().ok();
    let parts = parsed.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    let (scheme, host) = parts.ok_or_else(|| Error::usage(format!("HF_ENDPOINT: {url} is no URL")))?;
    Ok(format!("{scheme}://{host}"))
}

/// Returns an ETag as the cache names a file by it.
fn clean_etag(etag: &str) -> Option<String> {
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    let is_name = !etag.is_empty() && etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    is_name.then(|| etag.to_string())
}

/// Checks size and, where the hub stated it, SHA-256 of a file.
fn check(path: &Path, described: &Described) -> Result<()> {
    let file = Mapped::open(path)?;
    let Described { etag, size } = described;
    if file.bytes().len() as u64 != *size {
        return Err(Error::data(format!("{} bytes arrived, the hub says {size}", file.bytes().len())));
    }
    let digest = || provenance::hexadecimal(&Sha256::digest(file.bytes()));
    if etag.len() == 64 && digest() != *etag {
        return Err(Error::data(format!("the SHA-256 of what arrived is not {etag}: fetch again")));
    }
    Ok(())
}

fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |parent| fs::create_dir_all(parent).in_file(parent))
}

/// Puts a relative link to `blob` at `path`, which is `depth` directories below that of the repository.
fn link(blob: &Path, path: &Path, depth: usize) -> Result<()> {
    create_parent(path)?;
    if path.exists() {
        return Ok(());
    }
    let mut target: PathBuf = std::iter::repeat_n("..", depth).collect();
    target.push("blobs");
    target.push(blob.file_name().unwrap_or_default());
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(&target, path);
    #[cfg(not(unix))]
    let made = fs::copy(blob, path).map(drop);
    made.in_file(path)
}

/// Small files that say what a model is.
const SMALL: &[&str] = &[
    "adapter_config.json",
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
];

/// Returns the files that a model needs, of those that a repository has: those of the directory itself and of
/// the numbered ones of SentenceTransformers.
fn wanted(names: &[String]) -> Vec<String> {
    let mut folders: BTreeSet<&str> = names.iter().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    folders.retain(|folder| folder.split_once('_').is_some_and(|(n, _)| n.parse::<u8>().is_ok()));
    let mut wanted = Vec::new();
    for folder in [""].into_iter().chain(folders) {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let inside =
            names.iter().filter_map(|name| name.strip_prefix(&prefix)).filter(|name| !name.contains('/'));
        let inside: Vec<&str> = inside.filter(|name| !name.starts_with('.')).collect();
        let small = inside.iter().filter(|name| SMALL.contains(name));
        let all = small.copied().chain(weights(&inside, "model", "pytorch_model"));
        let all = all.chain(weights(&inside, "adapter_model", "adapter_model"));
        wanted.extend(all.map(|name| format!("{prefix}{name}")));
    }
    wanted
}

/// Returns the weights in one format: safetensors, or PyTorch's where there are none.
fn weights<'a>(names: &[&'a str], safe: &str, torch: &str) -> Vec<&'a str> {
    let format = |stem: &str, extension: &str| -> Vec<&'a str> {
        let (whole, index) = (format!("{stem}.{extension}"), format!("{stem}.{extension}.index.json"));
        if let Some(whole) = names.iter().find(|name| **name == whole) {
            return vec![whole];
        }
        if !names.contains(&&*index) {
            return Vec::new();
        }
        let shard = |name: &str| {
            let number = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension));
            number.is_some_and(|number| number.starts_with('-') && number.contains("-of-"))
        };
        names.iter().copied().filter(|name| *name == index || shard(name)).collect()
    };
    let found = format(safe, "safetensors");
    if found.is_empty() { format(torch, "bin") } else { found }
}

#[cfg(test)]
mod tests;
