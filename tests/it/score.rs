//! nyx-score, nyx-attrib and nyx-tokenize as a user runs them, on a model made here.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use arrow_array::RecordBatch;
use nyx::pipe::{Pipe, ipc};
use nyx::region::Strand;
use nyx::schema::{self, Row, RowBuilder, RowKind, Status};
use safetensors::tensor::{Dtype, TensorView};

/// Writes a network whose logit is the mean over bases of 1, 2, 3, 4 for A, C, G, T; `N` counts 0.
pub(super) fn write_model(directory: &Path, scale: f32) {
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let tensors = [
        ("0.weight", vec![1, 4, 1], bytes(&[1.0, 2.0, 3.0, 4.0])),
        ("0.bias", vec![1], bytes(&[0.0])),
        ("2.weight", vec![1, 1], bytes(&[scale])),
        ("2.bias", vec![1], bytes(&[0.0])),
    ];
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
    let config = r#"{"architectures": ["SequentialCnn"], "labels": ["bound"], "layers": [
        {"op": "conv1d", "in_": 4, "out": 1, "k": 1}, {"op": "globalavgpool"},
        {"op": "linear", "in_": 1, "out": 1}, {"op": "sigmoid"}]}"#;
    std::fs::write(directory.join("config.json"), config).unwrap();
}

/// Returns the bytes of a stream with one row for each sequence.
pub(super) fn stream(sequences: &[Option<&str>]) -> Vec<u8> {
    let schema = RowKind::Regions.schema(None);
    let mut builder = RowBuilder::new(RowKind::Regions, schema.clone());
    for (region, sequence) in sequences.iter().enumerate() {
        builder.push(&Row {
            region: region as u64,
            chrom: None,
            start: 0,
            end: 4,
            strand: Strand::Unknown,
            name: None,
            sequence: *sequence,
            status: if sequence.is_some() { Status::Ok } else { Status::UnknownContig },
        });
    }
    let mut bytes = Vec::new();
    ipc::write(Pipe::new(schema, [builder.finish()].into_iter()), &mut bytes).unwrap();
    bytes
}

/// Runs a command on a stream at standard input.
fn run(tool: &str, arguments: &[&str], input: &[u8]) -> Output {
    let path = match tool {
        "nyx-score" => env!("CARGO_BIN_EXE_nyx-score"),
        "nyx-attrib" => env!("CARGO_BIN_EXE_nyx-attrib"),
        _ => env!("CARGO_BIN_EXE_nyx-tokenize"),
    };
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The command may end before it has read all of it.
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Returns the rows of a command that succeeded, and what it said.
fn rows(output: Output) -> (RecordBatch, String) {
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    let pipe = ipc::read(std::io::Cursor::new(output.stdout)).unwrap();
    let schema = pipe.schema().clone();
    let batches: Vec<_> = pipe.into_parts().1.collect::<Result<_, _>>().unwrap();
    (arrow_select::concat::concat_batches(&schema, &batches).unwrap(), words)
}

/// Returns status and error line of a command that failed.
fn failure(output: Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn vector(batch: &RecordBatch, name: &str, row: usize) -> Vec<f32> {
    let values = schema::fixed_lists(batch, name).unwrap().value(row);
    values.as_any().downcast_ref::<arrow_array::Float32Array>().unwrap().values().to_vec()
}

fn list(batch: &RecordBatch, name: &str, row: usize) -> Vec<f32> {
    schema::float_items(schema::lists(batch, name).unwrap(), row).unwrap().to_vec()
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    assert!(
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6),
        "{found:?}, expected {expected:?}"
    );
}

#[test]
fn scores_and_contributions_come_from_one_pass() {
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path(), 1.0);
    let model = directory.path().to_str().unwrap();
    let input = stream(&[Some("ACGT"), None, Some("TTNT")]);
    let arguments = ["--model", model, "--attrib", "ism", "--drop", "sequence"];
    let (batch, words) = rows(run("nyx-score", &arguments, &input));
    assert!(words.contains("3 rows, 1 unknown_contig"), "{words}");
    assert!(!schema::has(&batch.schema(), schema::SEQUENCE));
    close(&vector(&batch, schema::LOGITS, 0), &[2.5]);
    close(&vector(&batch, schema::PROBS, 2), &[1.0 / (1.0 + (-3.0f32).exp())]);
    // (1, 2, 3, 4) minus its mean, over 4 bases.
    close(&list(&batch, schema::CONTRIBUTIONS, 0), &[-0.375, -0.125, 0.125, 0.375]);
    close(&list(&batch, schema::CONTRIBUTIONS, 2), &[0.375, 0.375, 0.0, 0.375]);
    let hypothetical = list(&batch, schema::HYPOTHETICAL, 2);
    close(&hypothetical[..4], &[-0.375, -0.375, 0.0, -0.375]);
    assert!(list(&batch, schema::HYPOTHETICAL, 1).is_empty());
    let chain = nyx::provenance::chain(&batch.schema().metadata).unwrap();
    assert_eq!((chain[0].tool.as_str(), chain[0].dtype.as_deref()), ("nyx-score", Some("f32")));
}

/// Makes the network read windows of four bases only.
fn set_window(directory: &Path) {
    let path = directory.join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, config.replacen('{', "{\"window\": 4, ", 1)).unwrap();
}

#[test]
fn long_rows_are_read_in_windows_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path(), 1.0);
    set_window(directory.path());
    let model = directory.path().to_str().unwrap();
    let input = stream(&[Some("AAAATTTT"), Some("ACG"), Some("TTTT")]);
    let arguments = ["--model", model, "--long", "windows", "--overlap", "1"];
    let (batch, words) = rows(run("nyx-score", &arguments, &input));
    assert!(words.contains("3 rows, 1 too_short"), "{words}");
    // AAAA, ATTT and, flush with the end, TTTT.
    close(&vector(&batch, schema::LOGITS, 0), &[(1.0 + 3.25 + 4.0) / 3.0]);
    close(&vector(&batch, schema::LOGITS, 2), &[4.0]);
    let chain = nyx::provenance::chain(&batch.schema().metadata).unwrap();
    let told = chain[0].model.clone().unwrap();
    assert!(told.contains("windows of 4 bases, 3 apart"), "{told}");
    let (batch, _) = rows(run("nyx-score", &arguments[..2], &input));
    let statuses = schema::strings(&batch, schema::STATUS).unwrap();
    assert_eq!(statuses.iter().flatten().collect::<Vec<_>>(), ["too_long", "too_short", "ok"]);
    let refused: [&[&str]; 4] = [
        &["--overlap", "1"],
        &["--long", "windows", "--overlap", "4"],
        &["--long", "windows", "--attrib", "ism"],
        &["--embed", "cls"],
    ];
    for more in refused {
        let (status, words) = failure(run("nyx-score", &[&arguments[..2], more].concat(), &input));
        assert_eq!(status, 2, "{more:?}: {words}");
    }
}

#[test]
fn both_strands_and_several_models_are_averaged() {
    let directory = tempfile::tempdir().unwrap();
    let [one, three] = [1.0, 3.0].map(|scale| {
        let path = directory.path().join(scale.to_string());
        write_model(&path, scale);
        path.to_str().unwrap().to_string()
    });
    let arguments = ["--model", &one, "--model", &three, "--rc-average"];
    let (batch, _) = rows(run("nyx-score", &arguments, &stream(&[Some("AAAA")])));
    // Forward 1 and 3, reverse complement 4 and 12.
    close(&vector(&batch, schema::LOGITS, 0), &[5.0]);
    let arguments = [&arguments[..], &["--method", "gradxinput", "--contributions", "projected"]].concat();
    let (batch, _) = rows(run("nyx-attrib", &arguments, &stream(&[Some("AAAA")])));
    close(&list(&batch, schema::CONTRIBUTIONS, 0), &[1.25; 4]);
    close(&[schema::f32s(&batch, schema::DELTA).unwrap().value(0)], &[0.0]);
    assert!(!schema::has(&batch.schema(), schema::HYPOTHETICAL));
}

#[test]
fn a_cut_input_is_an_echo_and_never_a_short_result() {
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path(), 1.0);
    let model = directory.path().to_str().unwrap();
    let input = stream(&[Some("ACGT"); 50]);
    for (tool, arguments) in [("nyx-score", ["--model", model]), ("nyx-tokenize", ["--tokenizer", "kmer:3"])]
    {
        let output = run(tool, &arguments, &input[..input.len() - 8]);
        assert!(is_broken(output.stdout.clone()), "{tool}");
        assert_eq!(failure(output).0, 3, "{tool}");
    }
}

/// Returns whether a stream cannot be read to its end.
fn is_broken(stream: Vec<u8>) -> bool {
    ipc::read(std::io::Cursor::new(stream))
        .map_or(true, |pipe| pipe.into_parts().1.any(|batch| batch.is_err()))
}

#[test]
fn what_cannot_be_meant_is_status_2_and_what_cannot_be_done_1() {
    let directory = tempfile::tempdir().unwrap();
    write_model(directory.path(), f32::INFINITY);
    let model = directory.path().to_str().unwrap();
    let input = stream(&[None, Some("ACGT")]);
    let failed = |tool, arguments: &[&str]| failure(run(tool, arguments, &input));
    assert_eq!(failed("nyx-score", &["--model", model, "--target", "bound"]).0, 2);
    assert_eq!(failed("nyx-attrib", &["--model", model, "--method", "ism", "--target", "open"]).0, 2);
    assert_eq!(failed("nyx-score", &["--model", model, "--drop", "status"]).0, 2);
    assert_eq!(failed("nyx-tokenize", &["--tokenizer", "kmer:9"]).0, 2);
    assert_eq!(failed("nyx-score", &["--model", model, "--dtype", "bf16"]).0, 1);
    assert_eq!(failed("nyx-score", &["--model", model, "--device", "cuda"]).0, 1);
    let (status, words) = failed("nyx-score", &["--model", model, "--strict"]);
    assert!(status == 1 && words.contains("region 1"), "{words}");
    let (batch, words) = rows(run("nyx-score", &["--model", model], &input));
    assert_eq!(schema::strings(&batch, schema::STATUS).unwrap().value(1), "nonfinite");
    assert!(words.contains("1 nonfinite"), "{words}");
}

#[test]
fn tokens_that_were_cut_are_announced() {
    let input = stream(&[Some("ACGTACGT"), Some("ACG"), None]);
    let (batch, words) = rows(run("nyx-tokenize", &["--tokenizer", "kmer:3", "--max-length", "4"], &input));
    assert!(words.contains("1 rows were cut to 4 tokens"), "{words}");
    assert_eq!(schema::lists(&batch, schema::INPUT_IDS).unwrap().value(0).len(), 4);
    let chain = nyx::provenance::chain(&batch.schema().metadata).unwrap();
    assert!(chain[0].tokenizer.as_ref().unwrap().ends_with(" kmer:3"));
}
