//! Scores are the same bits for any batch size, number of threads, split into shards, order of rows, and any set of
//! instructions, for every family of models.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use candle_core::Device;
use nyx::model::{self, Ensemble, Member, Pooling, Wanted};
use nyx::pipe::Pipe;
use nyx::region::Strand;
use nyx::schema::{Row, RowBuilder, RowKind, Status};
use nyx::score::{self, reuse::Reuse};
use nyx::{demo, schema};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, TensorView};

use super::bases;
use crate::support::*;

/// Columns of a row as bits, by their names; none for a null.
type Bits = BTreeMap<String, Option<Vec<u32>>>;

/// Scores rows, `size` in a batch and `parts` in turn, and returns the bits of each by its number.
fn scores(models: &Arc<Ensemble>, rows: &[(u64, String)], size: usize, parts: usize) -> BTreeMap<u64, Bits> {
    let schema = RowKind::Regions.schema(None);
    let mut found = BTreeMap::new();
    for part in rows.chunks(rows.len().div_ceil(parts)) {
        let batches: Vec<_> = part.chunks(size).map(|rows| batch(rows, &schema)).collect();
        let pipe = Pipe::new(schema.clone(), batches.into_iter().map(Ok));
        // Nothing is remembered from one row to the next: every one goes through the model.
        let (scored, _) = score::score_with(pipe, models.clone(), false, Reuse::new(0)).unwrap();
        for batch in scored.into_parts().1 {
            let batch = batch.unwrap();
            let regions = schema::u64s(&batch, schema::REGION).unwrap();
            found.extend((0..batch.num_rows()).map(|row| (regions.value(row), bits(&batch, row))));
        }
    }
    found
}

fn batch(rows: &[(u64, String)], schema: &arrow_schema::SchemaRef) -> RecordBatch {
    let mut builder = RowBuilder::new(RowKind::Regions, schema.clone());
    for (region, sequence) in rows {
        builder.push(&Row {
            region: *region,
            chrom: None,
            start: 0,
            end: sequence.len() as i64,
            strand: Strand::Unknown,
            name: None,
            sequence: Some(sequence),
            status: Status::Ok,
        });
    }
    builder.finish().unwrap()
}

/// Returns every column of numbers of a row.
fn bits(batch: &RecordBatch, row: usize) -> Bits {
    let values = |array: &dyn Array| -> Vec<u32> {
        array.as_primitive::<Float32Type>().values().iter().map(|value| value.to_bits()).collect()
    };
    let mut found = Bits::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let value = match field.data_type() {
            DataType::FixedSizeList(..) => values(&array.as_fixed_size_list().value(row)),
            DataType::List(_) => values(&array.as_list::<i32>().value(row)),
            _ => continue,
        };
        found.insert(field.name().clone(), array.is_valid(row).then_some(value));
    }
    found
}

/// Rows that a model with this window can read, of several lengths where it has none; some alike, one too short.
fn rows(window: Option<usize>) -> Vec<(u64, String)> {
    let mut random = StdRng::seed_from_u64(5);
    let mut rows: Vec<(u64, String)> = (0..17)
        .map(|row| {
            let length = window.unwrap_or_else(|| random.random_range(12..90));
            (row, bases(&mut random, length))
        })
        .collect();
    rows.push((17, rows[3].1.clone()));
    rows.push((18, rows[0].1[..4].to_string()));
    rows
}

/// Checks one model.
fn check(name: &str, directory: &Path, wanted: Wanted) {
    let loaded = model::load(directory, &Device::Cpu).unwrap_or_else(|error| panic!("{name}: {error}"));
    let window = loaded.model.window();
    let models = Arc::new(Ensemble::new(vec![Member { name: name.into(), loaded }], false, wanted).unwrap());
    let rows = rows(window);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let expected = pool(2).install(|| scores(&models, &rows, rows.len(), 1));
    assert_eq!(expected.len(), rows.len());
    let scored = expected.values().flat_map(BTreeMap::values).filter(|bits| bits.is_some()).count();
    assert!(scored >= 17, "{name}: {scored} of the columns have numbers");
    let mut shuffled = rows.clone();
    shuffled.shuffle(&mut StdRng::seed_from_u64(6));
    for (what, rows, size, parts, threads) in [
        ("rows one by one", &rows, 1, 1, 2),
        ("batches of 7", &rows, 7, 1, 2),
        ("one thread", &rows, rows.len(), 1, 1),
        ("batches of 7, one thread", &rows, 7, 1, 1),
        ("three threads", &rows, rows.len(), 1, 3),
        ("five shards", &rows, rows.len(), 5, 2),
        ("another order", &shuffled, rows.len(), 1, 2),
        ("another order in batches of 5", &shuffled, 5, 1, 1),
    ] {
        let found = pool(threads).install(|| scores(&models, rows, size, parts));
        assert!(found == expected, "{name}: {what} gives other bits");
    }
}

/// Writes a BPNet with two residual layers and random weights.
fn write_bpnet(directory: &Path) {
    let mut random = StdRng::seed_from_u64(7);
    let shapes: [(&str, &[usize]); 10] = [
        ("iconv.weight", &[8, 4, 21]),
        ("iconv.bias", &[8]),
        ("rconvs.0.weight", &[8, 8, 3]),
        ("rconvs.0.bias", &[8]),
        ("rconvs.1.weight", &[8, 8, 3]),
        ("rconvs.1.bias", &[8]),
        ("fconv.weight", &[1, 8, 15]),
        ("fconv.bias", &[1]),
        ("linear.weight", &[1, 8]),
        ("linear.bias", &[1]),
    ];
    let tensors: Vec<(&str, &[usize], Vec<u8>)> = shapes
        .iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let values = (0..count).map(|_| random.random_range(-0.3f32..0.3));
            (*name, *shape, values.flat_map(f32::to_le_bytes).collect())
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let config = r#"{"architectures": ["BPNet"], "window": 120, "trimming": 20, "labels": ["bound"]}"#;
    fs::write(directory.join("config.json"), config).unwrap();
}

/// Trains a network for one epoch on a few sequences.
fn train(directory: &Path, words: &[&str]) -> PathBuf {
    let mut random = StdRng::seed_from_u64(8);
    let (mut sequences, mut labels) = (String::new(), String::new());
    for name in ["train", "dev", "test"] {
        let rows = (0..12).map(|row| format!("{},{}\n", bases(&mut random, 101).replace('N', "A"), row % 2));
        let text: String = std::iter::once("sequence,label\n".to_string()).chain(rows).collect();
        fs::write(directory.join(format!("{name}.csv")), text).unwrap();
    }
    for _ in 0..20 {
        sequences += &(bases(&mut random, 100).replace('N', "A") + "\n");
        labels += &("0".repeat(45) + "1111111111" + &"0".repeat(45) + "\n");
    }
    fs::write(directory.join("sequence.txt"), sequences).unwrap();
    fs::write(directory.join("label.txt"), labels).unwrap();
    let output = directory.join(words[2]);
    let mut command = nyx("train", words);
    command.args(["-q", "--epochs", "1", "-o"]).arg(&output).current_dir(directory);
    stdout_of(command, b"");
    output
}

#[test]
fn scores_of_networks_are_the_same_bits_however_rows_come() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("demo")).unwrap();
    fs::write(path("demo/config.json"), demo::MODEL_CONFIG).unwrap();
    fs::write(path("demo/model.safetensors"), demo::MODEL_WEIGHTS).unwrap();
    check("SequentialCnn", &path("demo"), Wanted::default());
    write_bpnet(&path("bpnet"));
    check("BPNet", &path("bpnet"), Wanted::default());
    for (name, words) in [
        ("DeepBind", &["cnn", "--architecture", "deepbind", "--data", "."][..]),
        ("DanQ", &["cnn", "--architecture", "danq", "--data", "."]),
        (
            "DeepSNR",
            &[
                "base-caller",
                "--architecture",
                "deepsnr",
                "--sequences",
                "sequence.txt",
                "--base-labels",
                "label.txt",
                "--tries",
                "1",
            ],
        ),
    ] {
        let trained = train(directory.path(), words);
        check(name, &trained, Wanted::default());
    }
}

#[test]
fn scores_of_language_models_are_the_same_bits_however_rows_come() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["dnabert1_tiny", "dnabert2_tiny", "nt_v1_tiny", "nt_v2_tiny"] {
        let Some(golden) = shared(&format!("golden/models/{name}")) else { return };
        let own = directory.path().join(name);
        fs::create_dir(&own).unwrap();
        let link = |from: &Path, to: &str| std::os::unix::fs::symlink(from, own.join(to)).unwrap();
        link(&golden.join("config.json"), "config.json");
        link(&golden.join("model.safetensors"), "model.safetensors");
        if name == "dnabert2_tiny" {
            let Some(tokenizer) = shared("data/tokenizers/dnabert2/tokenizer.json") else { return };
            link(&tokenizer, "tokenizer.json");
        }
        check(name, &own, Wanted { embedding: Some(Pooling::Mean), ..Wanted::default() });
    }
}
