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

/// Writes what makes a directory a small DNABERT over 3-mers.
fn dnabert(directory: &Path) {
    fs::create_dir(directory).unwrap();
    let config = r#"{"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 69, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64,
        "layer_norm_eps": 1e-12}"#;
    fs::write(directory.join("config.json"), config).unwrap();
}

/// Runs nyx-train in a directory.
fn train_in(directory: &Path, arguments: &[&str]) {
    let mut command = nyx("train", arguments);
    command.args(["-q", "--epochs", "2"]).current_dir(directory);
    stdout_of(command, b"");
}

/// Returns what a model makes of the rows of a table: how many are scored, and the table.
fn scored(directory: &Path, file: &str, model: &str) -> (usize, String) {
    let mut extract = nyx("extract", &["sequences", file]);
    extract.current_dir(directory);
    let rows = stdout_of(extract, b"");
    let mut score = nyx("score", &["--model", model]);
    score.current_dir(directory);
    let scored = stdout_of(score, &rows);
    let text = stdout_of(nyx("view", &["-O", "tsv", "--no-pg", "--columns", "status,probs"]), &scored);
    let text = String::from_utf8(text).unwrap();
    (text.lines().filter(|line| line.starts_with("ok\t0.")).count(), text)
}

#[test]
fn sigtfb_is_trained_in_two_stages_and_what_was_stopped_is_the_same_model() {
    let data = folder();
    // The second cell type is bound where the first is not, and sometimes where it is.
    for name in ["train", "test"] {
        let text = fs::read_to_string(data.path().join(format!("{name}.csv"))).unwrap();
        let cells = |(row, line): (usize, &str)| match line.strip_suffix(",1") {
            Some(bases) => format!("{bases}\t1,{}\n", usize::from(row % 6 == 0)),
            None => line.replace(",0", "\t0,1") + "\n",
        };
        let rows: String = text.lines().skip(1).enumerate().map(cells).collect();
        fs::write(data.path().join(format!("{name}.tsv")), format!("sequence\tlabel\n{rows}")).unwrap();
    }
    let set = ["--train", "train.tsv", "--test", "test.tsv", "--train-batch", "16"];
    let stage = |more: &[&str]| train_in(data.path(), &[&["sigtfb"], &set[..], more].concat());
    stage(&["-o", "stage1", "--cells", "K562,HepG2", "--filters", "8"]);
    let (count, text) = scored(data.path(), "test.tsv", "stage1");
    assert_eq!(count, 40, "{text}");
    let second = ["--cells", "K562,HepG2", "--stage1", "stage1", "--freeze"];
    stage(&[&second[..], &["-o", "stage2", "-@", "2"]].concat());
    stage(&[&second[..], &["-o", "parts", "-@", "1", "--stop-after", "3"]].concat());
    stage(&[&second[..], &["-o", "parts", "-@", "1", "--resume"]].concat());
    let weights = |name: &str| fs::read(data.path().join(name).join("model.safetensors")).unwrap();
    assert_eq!(weights("stage2"), weights("parts"));
    let (count, text) = scored(data.path(), "test.tsv", "stage2");
    assert!(count == 40 && text.lines().nth(1).unwrap().matches(",0.").count() == 2, "{text}");
    let config = fs::read_to_string(data.path().join("stage2/config.json")).unwrap();
    assert!(config.contains("K562") && config.contains("Net_Stage2"), "{config}");
    let results = fs::read_to_string(data.path().join("stage2/training/eval_results.json")).unwrap();
    assert!(results.contains("eval_auc_difference"), "{results}");
    let mut other = nyx("train", &["sigtfb", "--stage1", "stage1", "--cells", "A,B", "-o", "x"]);
    other.args(set).current_dir(data.path());
    let text = String::from_utf8_lossy(&run(other).stderr).into_owned();
    assert!(text.contains("other cell types"), "{text}");
}

#[test]
fn pairs_are_trained_by_their_embeddings_and_move_with_their_encoder() {
    let data = tempfile::tempdir().unwrap();
    let path = |name: &str| data.path().join(name);
    dnabert(&path("base"));
    examples(&path("single.csv"), 81, 30, 4);
    let single = fs::read_to_string(path("single.csv")).unwrap();
    let bases: Vec<&str> = single.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    let pair =
        |(row, pair): (usize, &[&str])| format!("{},{},{}\n", pair[0], pair[1], usize::from(row % 3 == 0));
    let rows: String = bases.windows(2).enumerate().map(pair).collect();
    fs::write(path("pairs.csv"), format!("sequence1,sequence2,label\n{rows}")).unwrap();
    let sets = ["--train", "single.csv", "--dev", "single.csv"];
    let encoder = ["mlm", "--model", "base", "--from-scratch", "-o", "models/encoder"];
    train_in(data.path(), &[&encoder[..], &sets].concat());
    let fcnn = ["fcnn", "--encoder", "models/encoder", "--train", "pairs.csv", "--test", "pairs.csv"];
    train_in(data.path(), &[&fcnn[..], &["--widths", "8,6,4", "-o", "models/pairs"]].concat());
    fs::rename(path("models"), path("moved")).unwrap();
    let (count, text) = scored(data.path(), "pairs.csv", "moved/pairs");
    assert_eq!(count, 80, "{text}");
    let config = fs::read_to_string(path("moved/pairs/config.json")).unwrap();
    assert!(config.contains("\"../encoder\"") && config.contains("threshold"), "{config}");
}

#[test]
fn bert_tfbs_and_bertsnr_stand_on_a_transformer() {
    let data = folder();
    let path = |name: &str| data.path().join(name);
    dnabert(&path("base"));
    let begin = ["--model", "base", "--from-scratch"];
    let tfbs = ["bert-tfbs", "--data", ".", "--tokens", "40", "-o", "tfbs"];
    train_in(data.path(), &[&tfbs[..], &begin].concat());
    let (count, text) = scored(data.path(), "test.csv", "tfbs");
    assert_eq!(count, 40, "{text}");
    let (mut sequences, mut labels) = (String::new(), String::new());
    for line in fs::read_to_string(path("train.csv")).unwrap().lines().skip(1) {
        let (bases, label) = line.split_once(',').unwrap();
        let site = bases.find("TGACTCAT").filter(|_| label == "1").map(|start| start..start + 8);
        let is_bound = |base: usize| site.as_ref().is_some_and(|site| site.contains(&base));
        sequences += &format!("{bases}\n");
        labels.extend((0..bases.len()).map(|base| if is_bound(base) { '1' } else { '0' }).chain(['\n']));
    }
    fs::write(path("sequence.txt"), sequences).unwrap();
    fs::write(path("label.txt"), labels).unwrap();
    let files = ["--sequences", "sequence.txt", "--base-labels", "label.txt"];
    let caller = ["base-caller", "--architecture", "bertsnr", "-o", "snr"];
    train_in(data.path(), &[&caller[..], &files, &begin].concat());
    let (count, text) = scored(data.path(), "test.csv", "snr");
    assert_eq!(count, 40, "{text}");
    let message = |arguments: &[&str]| {
        let mut command = nyx("train", arguments);
        command.args(files).args(["-o", "x"]).current_dir(data.path());
        String::from_utf8_lossy(&run(command).stderr).into_owned()
    };
    let text = message(&["base-caller", "--architecture", "bertsnr"]);
    assert!(text.contains("--model DIR"), "{text}");
    let text = message(&["base-caller", "--architecture", "deepsnr", "--model", "base"]);
    assert!(text.contains("for bertsnr"), "{text}");
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
