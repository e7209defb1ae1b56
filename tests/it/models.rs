//! Models as a user names them: directories, adapters, names of the hub; nyx-model.

use std::path::Path;
use std::process::Command;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use super::score::{stream, write_model};
use super::support::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Writes an adapter that adds 2 · b · a to the only weight of the linear layer.
fn write_adapter(directory: &Path, a: f32, b: f32) {
    std::fs::create_dir_all(directory).unwrap();
    let config = json!({ "peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["2"],
                         "base_model_name_or_path": "org/another" });
    std::fs::write(directory.join("adapter_config.json"), config.to_string()).unwrap();
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let views = [("A", &a), ("B", &b)].map(|(part, bytes)| {
        let view = TensorView::new(Dtype::F32, vec![1, 1], bytes).unwrap();
        (format!("base_model.model.2.lora_{part}.weight"), view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(directory.join("adapter_model.safetensors"), bytes).unwrap();
}

/// Puts the model into a cache of the hub as `org/tiny`.
fn write_cache(cache: &Path) {
    let folder = cache.join("models--org--tiny");
    write_model(&folder.join("snapshots").join(COMMIT), 1.0);
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(folder.join("refs/main"), COMMIT).unwrap();
}

fn nyx_in(cache: &Path, name: &str, arguments: &[&str]) -> Command {
    let mut command = nyx(name, arguments);
    command.env("HF_HUB_CACHE", cache).env_remove("HF_HUB_OFFLINE").env_remove("HF_ENDPOINT");
    command
}

fn info(command: Command) -> Value {
    serde_json::from_slice(&stdout_of(command, b"")).unwrap()
}

/// Returns the logits of a command's stream as text.
fn logits(command: Command) -> String {
    let scored = stdout_of(command, &stream(&[Some("AAAA"), Some("ACGT")]));
    let view = nyx("view", &["-O", "tsv", "--no-pg", "--columns", "logits"]);
    String::from_utf8(stdout_of(view, &scored)).unwrap()
}

#[test]
fn an_adapter_merged_at_run_time_is_the_adapter_merged_to_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    write_model(Path::new(&path("base")), 1.0);
    write_adapter(Path::new(&path("adapter")), 0.5, 3.0);
    let (base, adapter, merged) = (path("base"), path("adapter"), path("merged"));
    stdout_of(nyx("model", &["convert", &base, "--adapter", &adapter, "-o", &merged]), b"");
    let with_adapter = logits(nyx("score", &["--model", &base, "--adapter", &adapter]));
    assert_eq!(with_adapter, logits(nyx("score", &["--model", &merged])));
    // 1 + 2 · 0.5 · 3 times the mean of the bases.
    assert!(with_adapter.contains("4") && with_adapter.contains("10"), "{with_adapter}");
    assert_ne!(with_adapter, logits(nyx("score", &["--model", &base])));
    let scored = nyx("score", &["--model", &base, "--adapter", &adapter]);
    let scored = stdout_of(scored, &stream(&[Some("ACGT")]));
    let header = String::from_utf8(stdout_of(nyx("view", &["-H"]), &scored)).unwrap();
    assert!(
        header.contains("base with adapter adapter (the adapter was trained on org/another)"),
        "{header}"
    );
    let odd = run(nyx("score", &["--model", &base, "--adapter", &adapter, "--adapter", &adapter]));
    assert_eq!(odd.status.code(), Some(2));
}

#[test]
fn a_name_of_the_hub_is_its_directory_in_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    write_cache(cache.path());
    let named = info(nyx_in(cache.path(), "model", &["info", "--json", "hf://org/tiny"]));
    let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
    let direct = info(nyx("model", &["info", "--json", snapshot.to_str().unwrap()]));
    assert_eq!(named["digest"], direct["digest"]);
    assert_eq!(named["name"], format!("org/tiny@{COMMIT}"));
    assert_eq!(logits(nyx_in(cache.path(), "score", &["--model", "hf://org/tiny"])).lines().count(), 3);
    let missing = run(nyx_in(cache.path(), "score", &["--model", "hf://org/other@v1"]));
    let words = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(words.contains("`nyx-model fetch hf://org/other@v1`"), "{words}");
}

#[test]
fn fetching_needs_the_network_to_be_allowed_and_to_be_there() {
    let cache = tempfile::tempdir().unwrap();
    let mut offline = nyx_in(cache.path(), "model", &["fetch", "hf://org/tiny"]);
    offline.env("HF_HUB_OFFLINE", "1");
    let words = String::from_utf8(run(offline).stderr).unwrap();
    assert!(words.contains("HF_HUB_OFFLINE"), "{words}");
    let mut closed = nyx_in(cache.path(), "model", &["fetch", "hf://org/tiny"]);
    closed.env("HF_ENDPOINT", "http://127.0.0.1:1");
    assert_eq!(run(closed).status.code(), Some(1));
    assert_eq!(run(nyx_in(cache.path(), "model", &["fetch", "org/tiny"])).status.code(), Some(2));
}

#[test]
fn info_names_what_is_unused_and_shows_what_cannot_be_built() {
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path(), 1.0);
    let path = directory.path().to_str().unwrap();
    let config = directory.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let shown = info(nyx("model", &["info", "--json", path]));
    assert_eq!(
        (&shown["unused"], &shown["dtype"], &shown["labels"]),
        (&json!([]), &json!("f32"), &json!(["bound"]))
    );
    // Without its last layers, their tensors have no use.
    std::fs::write(
        &config,
        text.replace(r#"{"op": "linear", "in_": 1, "out": 1}, {"op": "sigmoid"}"#, r#"{"op": "sigmoid"}"#),
    )
    .unwrap();
    let table = String::from_utf8(stdout_of(nyx("model", &["info", path]), b"")).unwrap();
    assert!(table.contains("unused\t2 tensors 2.bias,2.weight\n"), "{table}");
    std::fs::write(&config, r#"{"architectures": ["Unheard"]}"#).unwrap();
    let output = run(nyx("model", &["info", path]));
    let (table, words) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(table.contains("parameters\t7\n") && table.contains("classes\t?\n"), "{table}");
    assert!(words.contains("`Unheard`"), "{words}");
}
