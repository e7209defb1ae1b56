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
