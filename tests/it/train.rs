//! nyx-train: from files of examples to a model that nyx-score loads.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{executable, nyx, run, stdout_of};

/// Writes sequences of which those that hold TGACTCAT are positive, as CSV.
fn examples(path: &Path, count: usize, length: usize, mut state: u64) {
    let mut draw = |end: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as usize) % end
    };
    let mut text = String::from("sequence,label\n");
    for row in 0..count {
        let mut bases: Vec<u8> = (0..length).map(|_| b"ACGT"[draw(4)]).collect();
        if row % 2 == 0 {
            let place = draw(length - 8);
            bases[place..place + 8].copy_from_slice(b"TGACTCAT");
        }
        text += &format!("{},{}\n", String::from_utf8(bases).unwrap(), (row + 1) % 2);
    }
    fs::write(path, text).unwrap();
}

fn folder() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, count, seed) in [("train", 120, 1), ("dev", 40, 2), ("test", 40, 3)] {
        examples(&directory.path().join(format!("{name}.csv")), count, 40, seed);
    }
    directory
}

fn train(data: &Path, output: &str, more: &[&str]) -> Command {
    let mut command =
        nyx("train", &["cnn", "--architecture", "deepbind", "--epochs", "2", "--eval-every", "3"]);
    command.arg("--data").arg(data).args(["-o", output]).args(more).current_dir(data);
    command
}

#[test]
fn what_was_trained_scores_and_what_was_stopped_and_resumed_is_the_same_model() {
    let data = folder();
    let path = |name: &str| data.path().join(name);
    stdout_of(train(data.path(), "whole", &["-q"]), b"");
    stdout_of(train(data.path(), "parts", &["-q", "--stop-after", "4"]), b"");
    assert!(!path("parts/model.safetensors").exists());
    stdout_of(train(data.path(), "parts", &["-q", "--resume", "-@", "1"]), b"");
    let weights = |name: &str| fs::read(path(name).join("model.safetensors")).unwrap();
    assert_eq!(weights("whole"), weights("parts"));
    for name in ["metrics.jsonl", "config.yaml", "wandb-summary.json", "eval_results.json", "curves.svg"] {
        assert!(path("whole/training").join(name).is_file(), "{name}");
    }
    let rows = stdout_of(
        {
            let mut extract = nyx("extract", &["sequences", "test.csv"]);
            extract.current_dir(data.path());
            extract
        },
        b"",
    );
    let mut score = Command::new(executable("nyx-score"));
    score.args(["--model", "whole"]).current_dir(data.path());
    let scored = stdout_of(score, &rows);
    let text = stdout_of(nyx("view", &["-O", "tsv", "--columns", "status,probs"]), &scored);
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("ok\t0.")).count(), 40, "{text}");
}

#[test]
fn a_checkpoint_of_another_training_and_bad_examples_are_refused_with_the_remedy() {
    let data = folder();
    stdout_of(train(data.path(), "model", &["-q", "--stop-after", "2"]), b"");
    let message = |command: Command| {
        let output = run(command);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = message(train(data.path(), "model", &["--resume", "--learning-rate", "0.5"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("another training"), "{text}");
    let (code, text) = message(train(data.path(), "-", &[]));
    assert!(code == Some(2) && text.contains("-o DIR"), "{text}");
    let (code, text) = message(train(data.path(), "model", &["--best-by", "beauty"]));
    assert!(code == Some(2) && text.contains("roc_auc"), "{text}");
    fs::write(data.path().join("dev.csv"), "sequence,label\nACGT,1\nACG,0\n").unwrap();
    let (code, text) = message(train(data.path(), "model", &[]));
    assert!(code == Some(1) && text.contains("dev set") && text.contains("example"), "{text}");
    fs::remove_file(data.path().join("dev.csv")).unwrap();
    let (code, text) = message(train(data.path(), "model", &[]));
    assert!(code == Some(2) && text.contains("dev.csv"), "{text}");
}

#[test]
fn a_transformer_is_pre_trained_fine_tuned_and_adapted() {
    let data = folder();
    let base = data.path().join("base");
    fs::create_dir(&base).unwrap();
    let config = r#"{"architectures": ["BertForMaskedLM"], "model_type": "bert", "vocab_size": 69, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64,
        "alibi_starting_size": 64, "layer_norm_eps": 1e-12}"#;
    fs::write(base.join("config.json"), config).unwrap();
    let run_in = |arguments: &[&str]| {
        let mut command = nyx("train", arguments);
        command.args(["--data", ".", "-q", "--train-batch", "40", "--epochs", "1"]).current_dir(data.path());
        stdout_of(command, b"")
    };
    run_in(&["mlm", "--model", "base", "--from-scratch", "-o", "language"]);
    run_in(&["full", "--model", "language", "-o", "classifier"]);
    run_in(&["lora", "--model", "classifier", "--target-modules", "dense,Wqkv", "-o", "adapter"]);
    let score = |arguments: &[&str]| -> String {
        let mut extract = nyx("extract", &["sequences", "test.csv"]);
        extract.current_dir(data.path());
        let rows = stdout_of(extract, b"");
        let mut score = nyx("score", arguments);
        score.current_dir(data.path());
        let scored = stdout_of(score, &rows);
        String::from_utf8(stdout_of(nyx("view", &["-O", "tsv", "--columns", "status,probs"]), &scored))
            .unwrap()
    };
    let plain = score(&["--model", "classifier"]);
    assert_eq!(plain.lines().filter(|line| line.starts_with("ok\t0.")).count(), 40, "{plain}");
    let adapted = score(&["--model", "classifier", "--adapter", "adapter"]);
    assert!(adapted != plain && adapted.lines().count() == plain.lines().count(), "{adapted}");
}

#[test]
fn contrastive_training_writes_an_embedder() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("base");
    fs::create_dir(&base).unwrap();
    let config = r#"{"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 69, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64,
        "alibi_starting_size": 64, "layer_norm_eps": 1e-12}"#;
    fs::write(base.join("config.json"), config).unwrap();
    for (set, seed) in [("a", 10), ("b", 20)] {
        let folder = directory.path().join("sets").join(set);
        fs::create_dir_all(&folder).unwrap();
        for (index, name) in ["train.csv", "dev.csv"].iter().enumerate() {
            examples(&folder.join(name), 40, 30, seed + index as u64);
        }
    }
    let mut command = nyx("train", &["contrastive", "--model", "base", "--from-scratch", "--data", "sets"]);
    command.args([
        "--train-numbers",
        "20",
        "--test-numbers",
        "10",
        "--train-batch",
        "10",
        "--start-layer",
        "0",
    ]);
    command.args(["--epochs", "1", "-o", "embedder", "-q"]).current_dir(directory.path());
    stdout_of(command, b"");
    let mut extract = nyx("extract", &["sequences", "sets/a/dev.csv"]);
    extract.current_dir(directory.path());
    let rows = stdout_of(extract, b"");
    let mut score = nyx("score", &["--model", "embedder", "--embed", "own"]);
    score.current_dir(directory.path());
    let scored = stdout_of(score, &rows);
    let text = stdout_of(nyx("view", &["-O", "tsv", "--columns", "status"]), &scored);
    assert_eq!(String::from_utf8(text).unwrap().matches("ok").count(), 40);
}
