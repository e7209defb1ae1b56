//! The hub is a thread that listens on this computer and answers as the real one does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A hub with one repository, `org/name`.
struct Server {
    files: BTreeMap<&'static str, Vec<u8>>,
    /// Bytes of contents after which each connection breaks.
    patience: Option<usize>,
    /// Whether contents are not what their digests say.
    lies: bool,
    token: Option<&'static str>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that went away is no concern of the server.
                let _ = self.answer(stream.unwrap());
            }
        });
        address
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(io::Result::ok);
        let request = lines.next().unwrap_or_default();
        let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        let header = |name: &str| {
            let found = headers.iter().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
            found.map(|line| line[name.len() + 2..].to_string())
        };
        let range = header("range");
        self.log.lock().unwrap().push(format!("{request} {}", range.clone().unwrap_or_default()));
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_string());
        let denied =
            self.token.is_some_and(|token| header("authorization") != Some(format!("Bearer {token}")));
        if denied && !path.starts_with("/cdn/") {
            return write!(stream, "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        assert!(!path.starts_with("/cdn/") || header("authorization").is_none(), "the token left the hub");
        if path == "/api/models/org/name/revision/main" {
            let names: Vec<_> =
                self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            let body = serde_json::json!({ "sha": COMMIT, "siblings": names }).to_string();
            let length = body.len();
            return write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
        let name = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/")).or(path.strip_prefix("/cdn/"));
        let Some(contents) = name.and_then(|name| self.files.get(name)) else {
            return write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let digest = provenance::hexadecimal(&Sha256::digest(contents));
        let is_large = name.is_some_and(|name| name.ends_with("safetensors"));
        if is_large && !path.starts_with("/cdn/") {
            let (size, name) = (contents.len(), name.unwrap());
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nX-Linked-Etag: \"{digest}\"\r\nX-Linked-Size: {size}\r\nLocation: /cdn/{name}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let start: usize =
            range.map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
        let (status, length) = (if start > 0 { "206 Part" } else { "200 OK" }, contents.len() - start);
        let etag = &digest[..40];
        write!(
            stream,
            "HTTP/1.1 {status}\r\nETag: \"{etag}\"\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        if method == "GET" {
            let end = self.patience.map_or(contents.len(), |patience| contents.len().min(start + patience));
            let mut body = contents[start..end].to_vec();
            if self.lies && is_large {
                body[0] ^= 1;
            }
            stream.write_all(&body)?;
        }
        Ok(())
    }
}

fn server() -> Server {
    let weights: Vec<u8> =
        (0..100_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let files = [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", weights),
        ("pytorch_model.bin", b"not wanted".to_vec()),
        ("modeling_evil.py", b"import os".to_vec()),
        ("vocab.txt", b"[PAD]\n".to_vec()),
        ("1_Pooling/config.json", b"{\"pooling\": 1}".to_vec()),
    ];
    Server { files: files.into(), patience: None, lies: false, token: None, log: Arc::default() }
}

fn repository() -> Repository {
    Repository::parse("hf://org/name").unwrap().unwrap()
}

fn fetch(address: &str, token: Option<&str>, cache: &TempDir) -> Result<Fetched> {
    Hub::new(address, token.map(str::to_string), cache.path().into()).fetch(&repository(), |_| {})
}

#[test]
fn a_model_arrives_in_the_layout_that_every_program_of_the_hub_reads() {
    let server = server();
    let (files, log) = (server.files.clone(), server.log.clone());
    let address = server.start();
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&address, None, &cache).unwrap();
    let names: Vec<&str> = fetched.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["config.json", "vocab.txt", "model.safetensors", "1_Pooling/config.json"]);
    let folder = cache.path().join("models--org--name");
    assert_eq!(fetched.snapshot, folder.join("snapshots").join(COMMIT));
    for (name, size) in &fetched.files {
        let path = fetched.snapshot.join(name);
        assert_eq!(fs::read(&path).unwrap(), files[name.as_str()], "{name}");
        assert_eq!(*size, files[name.as_str()].len() as u64);
        assert!(fs::read_link(&path).unwrap().is_relative(), "the cache may move");
    }
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    assert!(!log.lock().unwrap().iter().any(|request| request.contains(".py") || request.contains(".bin")));
    // A second time nothing is downloaded.
    log.lock().unwrap().clear();
    assert_eq!(fetch(&address, None, &cache).unwrap(), fetched);
    assert!(!log.lock().unwrap().iter().any(|request| request.contains("GET /org/name/resolve")));
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_ended() {
    let server = Server { patience: Some(150_000), ..server() };
    let (weights, log) = (server.files["model.safetensors"].clone(), server.log.clone());
    let cache = tempfile::tempdir().unwrap();
    let fetched = fetch(&server.start(), None, &cache).unwrap();
    assert_eq!(fs::read(fetched.snapshot.join("model.safetensors")).unwrap(), weights);
    let log = log.lock().unwrap();
    let ranges: Vec<&str> =
        log.iter().filter(|line| line.contains("GET /cdn/")).map(|line| &line[36..]).collect();
    assert_eq!(ranges, ["", "bytes=150000-", "bytes=300000-"], "{log:?}");
}

#[test]
fn a_download_that_fails_for_good_is_taken_up_by_the_next_call() {
    let first = Server { patience: Some(10_000), ..server() };
    let (weights, cache) = (first.files["model.safetensors"].clone(), tempfile::tempdir().unwrap());
    let message = fetch(&first.start(), None, &cache).unwrap_err().to_string();
    assert!(message.contains("after 5 attempts"), "{message}");
    assert!(
        !cache.path().join("models--org--name/refs/main").exists(),
        "half a model passes for a whole one"
    );
    let second = server();
    let log = second.log.clone();
    let fetched = fetch(&second.start(), None, &cache).unwrap();
    assert_eq!(fs::read(fetched.snapshot.join("model.safetensors")).unwrap(), weights);
    assert!(log.lock().unwrap().iter().any(|request| request.contains("bytes=50000-")));
}

#[test]
fn contents_that_are_not_what_the_hub_described_do_not_stay() {
    let cache = tempfile::tempdir().unwrap();
    let lying = Server { lies: true, ..server() };
    let message = fetch(&lying.start(), None, &cache).unwrap_err().to_string();
    assert!(message.contains("model.safetensors: the SHA-256"), "{message}");
    let blobs = fs::read_dir(cache.path().join("models--org--name/blobs")).unwrap();
    assert!(blobs.into_iter().all(|blob| blob.unwrap().metadata().unwrap().len() < 100));
    fetch(&server().start(), None, &cache).unwrap();
}

#[test]
fn a_model_that_needs_an_account_is_had_with_its_token_which_stays_at_the_hub() {
    let cache = tempfile::tempdir().unwrap();
    let address = Server { token: Some("hf_x"), ..server() }.start();
    assert!(fetch(&address, None, &cache).unwrap_err().to_string().contains("set HF_TOKEN"));
    assert!(fetch(&address, Some("hf_y"), &cache).unwrap_err().to_string().contains("gives no access"));
    fetch(&address, Some("hf_x"), &cache).unwrap();
}

#[test]
fn what_the_hub_does_not_have_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server().start(), None, cache.path().into());
    let other = Repository { name: "org/other".into(), revision: "main".into() };
    assert!(hub.fetch(&other, |_| {}).unwrap_err().to_string().contains("no such model"));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    fetch(&format!("http://{closed}"), None, &cache).unwrap_err();
}

#[test]
fn only_one_format_of_weights_and_no_code_is_wanted() {
    let wanted = |names: &[&str]| wanted(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    let bin =
        ["config.json", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "a.py", "b/config.json"];
    assert_eq!(wanted(&bin), ["config.json", "pytorch_model.bin"]);
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "pytorch_model-00001-of-00001.bin",
        "pytorch_model.bin.index.json",
        "model-x.safetensors",
    ];
    assert_eq!(wanted(&shards), shards[..3]);
    assert_eq!(wanted(&["../config.json", ".config.json", "0_../config.json"]), ["0_../config.json"]);
    let adapter = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];
    assert_eq!(wanted(&adapter), adapter[..2]);
}
