//! Language models from a file of sequences to scores, as a user runs them, on the reference's small models.

use std::path::Path;

use arrow_array::RecordBatch;
use nyx::npy::{Array, Npz};
use nyx::pipe::ipc;
use nyx::schema;
use serde_json::Value;

use crate::support;

/// Makes the model directory of a folder of reference numbers, and a FASTA of its sequences.
fn prepare(folder: &Path, directory: &Path, architecture: &str) {
    let json = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
    };
    let mut config = json("config.json");
    config["architectures"] = [architecture].into_iter().collect();
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    std::fs::copy(folder.join("model.safetensors"), directory.join("model.safetensors")).unwrap();
    let meta = json("meta.json");
    let sequences = meta["seqs"].as_array().unwrap().iter().enumerate();
    let fasta = sequences.map(|(index, sequence)| format!(">s{index}\n{}\n", sequence.as_str().unwrap()));
    std::fs::write(directory.join("x.fa"), fasta.collect::<String>()).unwrap();
}

/// Returns the rows of a stream.
fn rows(stream: Vec<u8>) -> RecordBatch {
    let pipe = ipc::read(std::io::Cursor::new(stream)).unwrap();
    let schema = pipe.schema().clone();
    let batches: Vec<_> = pipe.into_parts().1.collect::<Result<_, _>>().unwrap();
    arrow_select::concat::concat_batches(&schema, &batches).unwrap()
}

fn logits(batch: &RecordBatch) -> Vec<f32> {
    let lists = schema::fixed_lists(batch, schema::LOGITS).unwrap();
    let values = lists.values().as_any().downcast_ref::<arrow_array::Float32Array>().unwrap();
    values.values().to_vec()
}

#[test]
fn sequences_become_the_logits_of_the_reference_with_and_without_a_tokenizer_between() {
    let models = [
        ("dnabert1_tiny", "BertForSequenceClassification", "kmer:6"),
        ("nt_v1_tiny", "EsmForSequenceClassification", "nt-v1"),
        ("nt_v2_tiny", "EsmForSequenceClassification", "nt"),
    ];
    for (name, architecture, tokenizer) in models {
        let Some(folder) = support::shared(&format!("golden/models/{name}")) else { return };
        let directory = tempfile::tempdir().unwrap();
        prepare(&folder, directory.path(), architecture);
        let expected: Array<f32> = Npz::open(&folder.join("golden.npz")).unwrap().numbers("logits").unwrap();
        let model = directory.path().to_str().unwrap();
        let fasta = directory.path().join("x.fa");
        let extracted =
            support::stdout_of(support::nyx("extract", &["sequences", fasta.to_str().unwrap()]), b"");
        let tokens = support::stdout_of(support::nyx("tokenize", &["--tokenizer", tokenizer]), &extracted);
        let scored = |input: &[u8], arguments: &[&str]| {
            let command = support::nyx("score", &[&["--model", model], arguments].concat());
            logits(&rows(support::stdout_of(command, input)))
        };
        let found = scored(&extracted, &[]);
        assert_eq!(found.len(), expected.values.len());
        for (found, expected) in found.iter().zip(&expected.values) {
            assert!((found - expected).abs() < 1e-4, "{name}: {found}, the reference says {expected}");
        }
        assert_eq!(scored(&tokens, &["--threads", "1", "--batch-size", "1"]), found);
    }
}

#[test]
fn tokens_of_another_tokenizer_are_refused() {
    let Some(folder) = support::shared("golden/models/dnabert1_tiny") else { return };
    let directory = tempfile::tempdir().unwrap();
    prepare(&folder, directory.path(), "BertForSequenceClassification");
    let fasta = directory.path().join("x.fa");
    let extracted = support::stdout_of(support::nyx("extract", &["sequences", fasta.to_str().unwrap()]), b"");
    let tokens = support::stdout_of(support::nyx("tokenize", &["--tokenizer", "kmer:5"]), &extracted);
    let command = support::nyx("score", &["--model", directory.path().to_str().unwrap()]);
    let output = support::run_with(command, &tokens);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains("another tokenizer"), "{words}");
}

/// Fills a tensor from its name, as `tests/python/stock_models.py` does.
fn fill(name: &str, shape: &[usize], amplitude: f32) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xcbf29ce484222325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3));
    let (center, amplitude) = match (shape.len(), name.ends_with("weight")) {
        (1, true) => (1.0, 0.2),
        (1, false) => (0.0, 0.1),
        _ => (0.0, amplitude),
    };
    let number = |i: u64| {
        let z = seed.wrapping_add((i + 1).wrapping_mul(0x9E3779B97F4A7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        let z = z ^ (z >> 31);
        center + amplitude * ((z >> 40) as f64 * (2.0 / f64::from(1 << 24)) - 1.0) as f32
    };
    (0..shape.iter().product::<usize>() as u64).map(number).collect()
}

/// Writes the first of transformers' stock models, a Llama, with one more tensor that it has no use for.
fn write_llama(golden: &Value, directory: &Path) {
    let model = &golden["models"][0];
    std::fs::write(directory.join("config.json"), model["config"].to_string()).unwrap();
    std::fs::write(directory.join("tokenizer.json"), golden["tokenizers"]["begin"].to_string()).unwrap();
    let amplitude = golden["amp"].as_f64().unwrap() as f32;
    let mut tensors: Vec<(String, Vec<usize>)> =
        serde_json::from_value::<std::collections::BTreeMap<_, _>>(model["tensors"].clone())
            .unwrap()
            .into_iter()
            .collect();
    tensors.push(("vision.weight".into(), vec![2]));
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (tensors.into_iter())
        .map(|(name, shape)| {
            let values = fill(&name, &shape, amplitude);
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name, view.unwrap())
    });
    std::fs::write(directory.join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
}

#[test]
fn a_causal_model_gives_sequences_the_likelihoods_of_transformers_and_says_what_it_leaves_unused() {
    let golden: Value = serde_json::from_str(include_str!("../golden/stock_models.json")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_llama(&golden, directory.path());
    let sequences = golden["sequences"].as_array().unwrap().iter().enumerate();
    let fasta = sequences.map(|(index, text)| format!(">s{index}\n{}\n", text.as_str().unwrap()));
    let path = directory.path().join("x.fa");
    std::fs::write(&path, fasta.collect::<String>()).unwrap();
    let extracted = support::stdout_of(support::nyx("extract", &["sequences", path.to_str().unwrap()]), b"");
    let model = directory.path().to_str().unwrap();
    let command = support::nyx("score", &["--model", model, "--likelihood", "causal", "--embed", "last"]);
    let output = support::run_with(command, &extracted);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}");
    assert_eq!(words.matches("has no use for 1 of its tensors (vision.weight)").count(), 1, "{words}");
    let batch = rows(output.stdout);
    let sums = batch.column_by_name(schema::LOG_LIKELIHOOD).unwrap();
    let sums = sums.as_any().downcast_ref::<arrow_array::Float32Array>().unwrap();
    let expected = golden["models"][0]["rows"].as_array().unwrap();
    assert_eq!(sums.len(), expected.len());
    for (found, row) in sums.values().iter().zip(expected) {
        let tokens = row["causal"].as_array().unwrap().iter();
        let expected = tokens.map(|token| token.as_f64().unwrap()).sum::<f64>() as f32;
        assert!((found - expected).abs() < 1e-3, "{found}, transformers says {expected}");
    }
    let refused = support::nyx("score", &["--model", model, "--likelihood", "masked"]);
    let output = support::run_with(refused, &extracted);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && words.contains("causal likelihoods"), "{words}");
}
