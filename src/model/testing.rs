//! What the tests of several families share.

use std::io::Read;
use std::path::Path;

use candle_core::Device;

use super::weights::Array;
use super::{Config, Model, Network, NetworkModel, Weights, build};
use crate::kernel::testing::{bits, flat, noise_tensor};

pub use crate::testing::shared;

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
pub fn model(config: &Config, weights: &Weights) -> Box<dyn Network> {
    build(config, weights, &Device::Cpu).unwrap()
}

/// Checks that each row of a batch has the bits that it has alone, with any number of threads.
pub fn check_batch_invariance(model: &dyn Network, sequences: &[&[u8]]) {
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

/// Checks that the gradient of the logit predicts what a small step in a random direction does to it.
pub fn check_gradient_direction(model: &dyn Network, sequence: &[u8]) {
    let input = candle_core::Var::from_tensor(&model.encode(&[sequence]).unwrap()).unwrap();
    let logit = |input: &candle_core::Tensor| model.forward(input).unwrap().logits.sum_all().unwrap();
    let gradients = logit(input.as_tensor()).backward().unwrap();
    let gradient = gradients.get(input.as_tensor()).expect("the input has a gradient");
    let direction = noise_tensor(input.dims(), 7);
    let step = 1e-3;
    let shifted = |by: f64| {
        let input = (input.as_tensor() + direction.affine(by, 0.0).unwrap()).unwrap();
        f64::from(logit(&input).to_scalar::<f32>().unwrap())
    };
    let observed = (shifted(step) - shifted(-step)) / (2.0 * step);
    let products = (gradient * &direction).unwrap().sum_all().unwrap();
    let predicted = f64::from(products.to_scalar::<f32>().unwrap());
    let scale = f64::from((gradient.sqr().unwrap().sum_all().unwrap()).to_scalar::<f32>().unwrap()).sqrt();
    assert!(scale > 0.0, "the gradient is zero everywhere");
    assert!((observed - predicted).abs() < 0.05 * scale, "{observed} is not {predicted} (norm {scale})");
}

/// Returns logits and probabilities of sequences, row by row.
pub fn predict(model: &dyn Network, sequences: &[&[u8]]) -> (Vec<f32>, Vec<f32>) {
    let (mut logits, mut probs) = (Vec::new(), Vec::new());
    for batch in sequences.chunks(64) {
        let prediction = model.forward(&model.encode(batch).unwrap()).unwrap();
        logits.extend(flat(&prediction.logits));
        probs.extend(prediction.probs.iter().flat_map(flat));
    }
    (logits, probs)
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

/// Returns the sequences that the golden outputs of `folder` belong to.
pub fn golden_sequences(folder: &Path) -> Vec<Vec<u8>> {
    let meta: serde_json::Value = serde_json::from_str(&text(&folder.join("meta.json"))).unwrap();
    let sequences = meta["seqs"].as_array().unwrap().iter();
    sequences.map(|sequence| sequence.as_str().unwrap().as_bytes().to_vec()).collect()
}

/// Returns the weights that the README of the golden models computes from the names of the tensors.
pub fn hashed_weights(folder: &Path) -> Weights {
    let meta: serde_json::Value = serde_json::from_str(&text(&folder.join("meta.json"))).unwrap();
    let sharper = meta["qk_mult"].as_f64().unwrap_or(1.0) as f32;
    Weights::collect(folder, hashed(&meta["state_dict_keys"], meta["amp"].as_f64().unwrap() as f32, sharper))
}

/// Returns tensors of these names and shapes whose values depend on their names only.
pub fn hashed(
    shapes: &serde_json::Value,
    amplitude: f32,
    sharper: f32,
) -> std::collections::BTreeMap<String, Array> {
    let mut tensors = std::collections::BTreeMap::new();
    for (name, shape) in shapes.as_object().unwrap() {
        let shape: Vec<usize> =
            shape.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let (center, amplitude) = if name.ends_with("running_var") {
            (1.0, 0.5)
        } else if name.ends_with("running_mean") {
            (0.0, 0.2)
        } else if shape.len() == 1 {
            if name.ends_with("weight") { (1.0, 0.2) } else { (0.0, 0.1) }
        } else if [".query.weight", ".key.weight", "Wqkv.weight"].iter().any(|part| name.contains(part)) {
            (0.0, amplitude * sharper)
        } else {
            (0.0, amplitude)
        };
        let uniform = hash_uniform(name, shape.iter().product());
        let values = uniform.into_iter().map(|x| center + amplitude * x).collect();
        tensors.insert(name.clone(), Array { shape, values });
    }
    tensors
}

/// Checks numbers against those of a reference, and prints their line of the parity card (`benches/parity.md`).
pub fn check_parity(model: &str, what: &str, dtype: &str, [found, expected]: [&[f32]; 2], bound: f32) {
    assert!(!found.is_empty() && found.len() == expected.len(), "{model} {what}: {} numbers", found.len());
    assert!(found.iter().chain(expected).all(|number| number.is_finite()), "{model} {what}");
    let largest = crate::kernel::testing::distance(found, expected);
    println!("| {model} | {what} | {} | {dtype} | {largest:.1e} | not run |", found.len());
    assert!(largest < bound, "{model} {what}, {dtype}: {largest}");
}

/// Builds a network whose deep layers multiply in bfloat16.
pub fn rounded(config: &Config, weights: &Weights) -> Box<dyn Network> {
    let super::Builder::Deep(build) = super::builder(config).unwrap() else { panic!("no deep network") };
    let network = build(config, weights, &Device::Cpu, crate::kernel::Precision::Bf16).unwrap();
    assert!(network.rounds());
    network
}

/// Says what fewer bits change in decisions: the areas under the ROC curve, and how many logits change their sign.
pub fn decisions(exact: &[f32], rounded: &[f32], labels: &[bool]) -> String {
    let flips = exact.iter().zip(rounded).filter(|(a, b)| (**a > 0.0) != (**b > 0.0)).count();
    let [before, after] = [exact, rounded].map(|logits| auc(logits, labels));
    format!("AUC {after:.4} for {before:.4}, {flips} of {} calls flip", exact.len())
}

/// Returns numbers in [-1, 1) that depend on a name only.
pub fn hash_uniform(name: &str, count: usize) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xcbf29ce484222325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3));
    let number = |i: u64| {
        let z = seed.wrapping_add((i + 1).wrapping_mul(0x9E3779B97F4A7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        let z = z ^ (z >> 31);
        ((z >> 40) as f64 * (2.0 / f64::from(1 << 24)) - 1.0) as f32
    };
    (0..count as u64).map(number).collect()
}

/// Converts a weights file of `../shared` and loads it from the directory that was written.
pub fn converted(path: &str, hints: &super::convert::Hints) -> Option<Box<dyn Network>> {
    let converted = super::convert::read(&shared(path)?, hints).unwrap();
    let directory = tempfile::tempdir().unwrap();
    super::convert::write(&converted, directory.path()).unwrap();
    let loaded = super::load(directory.path(), &Device::Cpu).unwrap();
    assert_eq!(loaded.architecture, converted.config.architecture());
    let weights = Weights::read(&directory.path().join("model.safetensors")).unwrap();
    Some(model(&Config::read(directory.path()).unwrap(), &weights))
}

/// Returns the megabase of chromosome 20 (hg19) that follows base 1,000,000.
pub fn chromosome_20() -> Vec<u8> {
    let fasta = text(&shared("data/genome/hg19_chr20_1Mb/z.fa.gz").unwrap());
    let mut bases = fasta.lines().skip(1).collect::<String>().into_bytes();
    crate::dna::normalize(&mut bases);
    bases
}

/// Returns the values of all tensors.
pub fn arrays(weights: &Weights) -> std::collections::BTreeMap<String, Array> {
    let array = |tensor: &super::weights::Stored| Array {
        shape: tensor.shape.clone(),
        values: tensor.read().into_owned(),
    };
    weights.tensors().iter().map(|(name, tensor)| (name.clone(), array(tensor))).collect()
}

/// Returns a small model of each family, under the name that `docs/recipes/explain.md` gives it.
pub fn families() -> Option<Vec<(&'static str, Box<dyn Model>)>> {
    let network =
        |network: Box<dyn Network>| -> Box<dyn Model> { Box::new(NetworkModel::new(network).unwrap()) };
    let of_file = |path: &str| Some(network(converted(path, &super::convert::Hints::default())?));
    let of_hash = |architecture: &str, folder: &str| {
        let weights = hashed_weights(&shared(&format!("golden/models/{folder}"))?);
        Some(network(model(&Config::new(architecture), &weights)))
    };
    let language = |folder: &str, tokenizer: Option<&str>| -> Option<Box<dyn Model>> {
        let folder = shared(&format!("golden/models/{folder}"))?;
        let directory = tempfile::tempdir().unwrap();
        let files = ["config.json", "model.safetensors"].map(|file| folder.join(file));
        for path in files.into_iter().chain(tokenizer.map(|file| shared(file).unwrap())) {
            std::fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
        Some(super::load(directory.path(), &Device::Cpu).unwrap().model)
    };
    let golden = super::transformer::stock::golden();
    let stock = |index: usize| -> Box<dyn Model> {
        let directory = super::transformer::stock::directory(&golden, &golden["models"][index]);
        super::load(directory.path(), &Device::Cpu).unwrap().model
    };
    let tokenizer = Some("data/tokenizers/dnabert2/tokenizer.json");
    Some(vec![
        ("SequentialCnn", network(small_cnn())),
        ("BPNet", of_file("data/models/bpnet_ctcf_k562/model.safetensors")?),
        ("DeepBind", of_hash("DeepBind", "deepbind")?),
        ("DeepBind as published", of_file("data/models/deepbind/CTCFL.D00753.001.h5")?),
        ("DanQ", of_hash("DanQ", "danq")?),
        ("DeepSNR", of_file("data/models/nyxbind/CTCFL/DeepSNR.pth")?),
        ("D-AEDNet", of_file("data/models/nyxbind/CTCFL/D_AEDNet.pth")?),
        ("SigTFB, stage 1", of_file("golden/models/sigtfb/stage1.safetensors")?),
        ("SigTFB, stage 2", of_file("golden/models/sigtfb/stage2.safetensors")?),
        ("DNABERT", language("dnabert1_tiny", None)?),
        ("DNABERT-2, NyxBind", language("dnabert2_tiny", tokenizer)?),
        ("Nucleotide Transformer v1", language("nt_v1_tiny", None)?),
        ("Nucleotide Transformer v2", language("nt_v2_tiny", None)?),
        ("BertSNR", super::bert_snr::tests::model(40)?.unwrap()),
        ("BERT-TFBS", super::bert_tfbs::tests::model()?),
        ("DNABERT, mean of pieces", Box::new(super::transformer::tests::long("mean"))),
        ("DNABERT, joined pieces", Box::new(super::transformer::tests::long("cat"))),
        ("Llama, Mistral, Qwen", stock(1)),
        ("ModernBERT", stock(6)),
        ("network on pairs", super::residual_fcnn::tests::noisy()),
    ])
}

/// Builds the network of `tests/golden/torch_attribution.json`.
pub fn small_cnn() -> Box<dyn Network> {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/golden/torch_attribution.json")).unwrap();
    let tensors = hashed(&golden["cnn"]["tensors"], golden["amplitude"].as_f64().unwrap() as f32, 1.0);
    let config = serde_json::from_value(golden["cnn"]["config"].clone()).unwrap();
    model(&config, &Weights::collect(Path::new("small"), tensors))
}
