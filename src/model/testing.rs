//! What the tests of several families share.

use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::Device;

use super::{Config, Model, Weights, build};
use crate::kernel::testing::{bits, flat};

/// Returns a file of `../shared`, or says that the test is skipped.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if !path.exists() {
        eprintln!("skipped: ../shared is not there");
        return None;
    }
    Some(path)
}

/// Reads a text file, gzipped or not.
pub fn text(path: &Path) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(path).unwrap();
    match path.extension() {
        Some(extension) if extension == "gz" => {
            flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text)
        }
        _ => std::io::BufReader::new(file).read_to_string(&mut text),
    }
    .unwrap();
    text
}

/// Builds a model on the processor.
pub fn model(config: &Config, weights: &Weights) -> Box<dyn Model> {
    build(config, weights, &Device::Cpu).unwrap()
}

/// Checks that each row of a batch has the bits that it has alone, with any number of threads.
pub fn check_batch_invariance(model: &dyn Model, sequences: &[&[u8]]) {
    let outputs = |sequences: &[&[u8]]| {
        let prediction = model.forward(&model.encode(sequences).unwrap()).unwrap();
        let all = [Some(prediction.logits), prediction.probs, prediction.base_scores, prediction.profile];
        let rows = sequences.len();
        let row = |row: usize| -> Vec<u32> {
            all.iter().flatten().flat_map(|tensor| bits(&tensor.narrow(0, row, 1).unwrap())).collect()
        };
        (0..rows).map(row).collect::<Vec<_>>()
    };
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let together = pool(1).install(|| outputs(sequences));
    assert_eq!(pool(2).install(|| outputs(sequences)), together, "threads");
    for (row, sequence) in sequences.iter().enumerate() {
        assert_eq!(outputs(&[sequence])[0], together[row], "row {row}");
    }
}

/// Returns logits and probabilities of sequences, row by row.
pub fn predict(model: &dyn Model, sequences: &[&[u8]]) -> (Vec<f32>, Vec<f32>) {
    let prediction = model.forward(&model.encode(sequences).unwrap()).unwrap();
    (flat(&prediction.logits), prediction.probs.map(|probs| flat(&probs)).unwrap_or_default())
}

/// Returns the area under the ROC curve: the chance that a positive outscores a negative, ties half.
pub fn auc(scores: &[f32], labels: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut negatives, mut positives, mut area) = (0.0, 0.0, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let hits = tied.iter().filter(|&&index| labels[index]).count() as f64;
        let misses = tied.len() as f64 - hits;
        area += hits * (negatives + misses / 2.0);
        positives += hits;
        negatives += misses;
    }
    area / (positives * negatives)
}
