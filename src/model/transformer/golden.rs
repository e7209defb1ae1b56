//! The reference implementations' own numbers, as `../shared/golden/models` has them.
//!
//! With `--nocapture` every check prints its line of the parity card (`benches/parity.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::super::adapter::Adapter;
use super::super::layout::Layout;
use super::super::testing::{check_parity, chromosome_20, golden_sequences, hashed_weights, shared, text};
use super::super::weights::Weights;
use super::super::{
    Answer, Attentions, Config, Input, Likelihood, Pooling, Source, Wanted, bert, esm, weights,
};
use super::Gpu;
use super::LanguageModel;
use super::encoder::{Scratch, Sequence, Watch};
use super::gpu::Limits;
use super::pack::packs;
use crate::device::backend::{Backend, Number};
use crate::device::cuda::Cuda;
use crate::device::host::Host;
use crate::kernel::Precision;
use crate::kernel::linear::TOKENS_PER_PACK;
use crate::npy::{Array, Npz};

/// What every number is held to.
const TOLERANCE: f32 = 1e-4;

/// A folder of reference numbers.
struct Golden {
    name: &'static str,
    folder: PathBuf,
    arrays: Npz,
    /// Token ids without padding.
    rows: Vec<Vec<u32>>,
}

impl Golden {
    fn open(name: &'static str) -> Option<Self> {
        let folder = shared(&format!("golden/models/{name}"))?;
        let mut arrays = Npz::open(&folder.join("golden.npz")).unwrap();
        let ids: Array<i64> = arrays.numbers("input_ids").unwrap();
        let mask: Array<i64> = arrays.numbers("attention_mask").unwrap();
        let row = |(ids, mask): (&[i64], &[i64])| {
            let used = ids.iter().zip(mask).filter(|(_, used)| **used == 1);
            used.map(|(&id, _)| id as u32).collect()
        };
        let length = ids.shape[1];
        let rows = ids.values.chunks(length).zip(mask.values.chunks(length)).map(row).collect();
        Some(Self { name, folder, arrays, rows })
    }

    fn config(&self) -> Map<String, Value> {
        serde_json::from_str(&text(&self.folder.join("config.json"))).unwrap()
    }

    fn array(&mut self, name: &str) -> Array<f32> {
        self.arrays.numbers(name).unwrap()
    }

    /// Makes a model directory, without weights.
    fn directory(&self, extra: Value) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let config: Map<String, Value> =
            self.config().into_iter().chain(extra.as_object().unwrap().clone()).collect();
        std::fs::write(directory.path().join("config.json"), serde_json::to_string(&config).unwrap())
            .unwrap();
        if let Some(tokenizer) =
            shared("data/tokenizers/dnabert2/tokenizer.json").filter(|_| self.name.contains("bert2"))
        {
            std::fs::copy(tokenizer, directory.path().join("tokenizer.json")).unwrap();
        }
        directory
    }

    /// Loads the model of this folder.
    fn load(&self, architecture: &str) -> LanguageModel {
        self.load_from(self.directory(json!({"architectures": [architecture]})).path())
    }

    fn load_from(&self, directory: &Path) -> LanguageModel {
        self.load_on(directory, None)
    }

    fn load_on(&self, directory: &Path, gpu: Option<&Gpu>) -> LanguageModel {
        let file = self.folder.join("model.safetensors");
        let weights =
            if file.exists() { Weights::read(&file).unwrap() } else { hashed_weights(&self.folder) };
        load_on(directory, &weights, gpu)
    }

    fn tokens(&self) -> Vec<&[u32]> {
        self.rows.iter().map(Vec::as_slice).collect()
    }

    /// Returns what the model says to the rows.
    fn answers(&self, model: &LanguageModel, wanted: &Wanted) -> Vec<super::super::Scores> {
        let answers = model.predict_tokens(&self.tokens(), wanted).unwrap();
        answers.into_iter().map(Answer::unwrap).collect()
    }

    /// Checks numbers against those of the reference, and prints their line of the parity card.
    fn check(&self, what: &str, errors: impl IntoIterator<Item = (f32, f32)>) {
        let (found, expected): (Vec<f32>, Vec<f32>) = errors.into_iter().unzip();
        check_parity(self.name, what, "f32", [&found, &expected], TOLERANCE);
    }

    /// Checks `[B, …]` without padding.
    fn check_rows(&mut self, what: &str, array: &str, rows: &[Vec<f32>]) {
        let expected = self.array(array);
        let width = expected.values.len() / expected.shape[0];
        assert_eq!(rows.len(), expected.shape[0]);
        assert!(rows.iter().all(|row| row.len() == width), "{what}");
        self.check(what, rows.concat().into_iter().zip(expected.values));
    }

    /// Checks `[B, L, width]` where L is padded.
    fn check_tokens(&self, what: &str, expected: &[f32], length: usize, rows: &[Vec<f32>]) {
        let width = expected.len() / rows.len() / length;
        let pairs = rows.iter().zip(expected.chunks_exact(length * width));
        let pairs: Vec<(f32, f32)> =
            pairs.flat_map(|(row, expected)| row.iter().copied().zip(expected.iter().copied())).collect();
        assert_eq!(pairs.len(), self.rows.iter().map(|row| row.len() * width).sum::<usize>());
        self.check(what, pairs);
    }

    /// Checks `[layers, B, heads, L, L]` where both L are padded, or `[layers, B, heads, L]` of the first token.
    fn check_attentions(&mut self, array: &str, which: Attentions, model: &LanguageModel) {
        let expected = self.array(array);
        let [layers, _, heads, length] = expected.shape[..4].try_into().unwrap();
        let wanted = Wanted { attentions: Some(which), ..Wanted::default() };
        let answers = self.answers(model, &wanted);
        let lines = expected.shape.get(4).copied().unwrap_or(1);
        let mut pairs = Vec::new();
        for (row, answer) in answers.iter().enumerate() {
            let tokens = self.rows[row].len();
            let own_lines = if which == Attentions::All { tokens } else { 1 };
            let found = answer.attentions.as_ref().unwrap();
            assert_eq!(found.len(), layers * heads * own_lines * tokens);
            for (index, &found) in found.iter().enumerate() {
                let (rest, key) = (index / tokens, index % tokens);
                let (rest, line) = (rest / own_lines, rest % own_lines);
                let (layer, head) = (rest / heads, rest % heads);
                let place = ((layer * answers.len() + row) * heads + head) * lines + line;
                pairs.push((found, expected.values[place * length + key]));
            }
        }
        self.check("attentions", pairs);
    }
}

/// Loads the model of a directory with these weights.
fn load(directory: &Path, weights: &Weights) -> LanguageModel {
    load_on(directory, weights, None)
}

/// Loads it with its encoder on a GPU, if there is one.
fn load_on(directory: &Path, weights: &Weights, gpu: Option<&Gpu>) -> LanguageModel {
    load_in(directory, weights, gpu, Precision::F32)
}

/// Loads it to multiply in other numbers.
fn load_in(directory: &Path, weights: &Weights, gpu: Option<&Gpu>, precision: Precision) -> LanguageModel {
    let pooling = Layout::read(directory).unwrap().pooling;
    let config = Config { pooling, ..Config::read(directory).unwrap() };
    let source = Source { directory, config: &config, weights, precision, gpu };
    let load = if config.architecture().starts_with("Esm") { esm::load } else { bert::load };
    load(&source).unwrap()
}

/// Collects all hidden states.
#[derive(Default)]
struct States(Vec<Vec<f32>>);

impl Watch for States {
    fn states(&mut self, states: &[f32]) {
        self.0.push(states.to_vec());
    }
}

/// Returns the hidden states of each row, `[states][rows][tokens, hidden]`.
fn states(model: &LanguageModel, rows: &[&[u32]]) -> Vec<Vec<Vec<f32>>> {
    let width = model.encoder().spec().hidden;
    let sequences: Vec<Sequence> = rows.iter().map(|row| Sequence::of(row)).collect();
    let mut states = States::default();
    model.encoder().processor().unwrap().run(&sequences, None, &mut states, &mut Scratch::default());
    let cut = |all: Vec<f32>| {
        let mut rest = all.as_slice();
        let mut rows_of = Vec::new();
        for row in rows {
            let (own, others) = rest.split_at(row.len() * width);
            rows_of.push(own.to_vec());
            rest = others;
        }
        rows_of
    };
    states.0.into_iter().map(cut).collect()
}

fn logits(golden: &Golden, model: &LanguageModel) -> Vec<Vec<f32>> {
    golden.answers(model, &Wanted::default()).into_iter().map(|scores| scores.logits).collect()
}

fn embeddings(golden: &Golden, model: &LanguageModel, pooling: Pooling) -> Vec<Vec<f32>> {
    let wanted = Wanted { embedding: Some(pooling), ..Wanted::default() };
    golden.answers(model, &wanted).into_iter().map(|scores| scores.embedding.unwrap()).collect()
}

/// Checks that bases give the tokens of the reference.
fn check_tokens_of_bases(golden: &Golden, model: &LanguageModel) {
    for (bases, tokens) in golden_sequences(&golden.folder).iter().zip(&golden.rows) {
        assert_eq!(*model.tokens(&Input::of(bases)).unwrap(), **tokens);
    }
}

#[test]
fn dnabert_agrees_in_every_state_and_attention() {
    let Some(mut golden) = Golden::open("dnabert1_tiny") else { return };
    let model = golden.load("BertForSequenceClassification");
    check_tokens_of_bases(&golden, &model);
    let expected = golden.array("hidden_states");
    let states = states(&model, &golden.tokens());
    for (layer, (found, expected)) in
        states.iter().zip(expected.values.chunks(expected.values.len() / 4)).enumerate()
    {
        golden.check_tokens(&format!("hidden states {layer}"), expected, 64, found);
    }
    golden.check_attentions("attentions", Attentions::All, &model);
    let first: Vec<f32> = states[3].iter().flat_map(|row| row[..64].to_vec()).collect();
    let pooled = model.classifier().unwrap().pool(&first);
    golden.check_rows("pooled", "pooled", &pooled.chunks(64).map(<[f32]>::to_vec).collect::<Vec<_>>());
    let logits = logits(&golden, &model);
    golden.check_rows("logits", "logits", &logits);
}

#[test]
fn dnabert_of_full_size_agrees() {
    let Some(mut golden) = Golden::open("dnabert1_base_hashweights") else { return };
    let model = golden.load("BertForSequenceClassification");
    let states = states(&model, &golden.tokens());
    let expected = golden.array("hidden_last").values;
    golden.check_tokens("last hidden state", &expected, 64, &states[12]);
    golden.check_attentions("attention_cls_row", Attentions::Cls, &model);
    let logits = logits(&golden, &model);
    golden.check_rows("logits", "logits_f64", &logits);
}

#[test]
fn the_masked_dnabert_agrees() {
    let Some(mut golden) = Golden::open("dnabert1_mlm_tiny") else { return };
    let model = golden.load("BertForMaskedLM");
    let states = states(&model, &golden.tokens()).pop().unwrap();
    let vocabulary = model.encoder().spec().vocabulary;
    let guesses: Vec<Vec<f32>> = states.iter().map(|row| model.token_head().unwrap().logits(row)).collect();
    let masked: Vec<f32> = guesses[0][10 * vocabulary..16 * vocabulary].to_vec();
    let expected = golden.array("logits_masked_pos_row0").values;
    golden.check("logits of masked tokens", masked.into_iter().zip(expected));
    let best: Array<i64> = golden.arrays.numbers("argmax").unwrap();
    for (row, guesses) in guesses.iter().enumerate() {
        for (place, logits) in guesses.chunks(vocabulary).enumerate() {
            let largest = (0..vocabulary).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(largest as i64, best.values[row * 64 + place]);
        }
    }
}

#[test]
fn dnabert_2_agrees_in_every_state_attention_and_embedding() {
    let Some(mut golden) = Golden::open("dnabert2_tiny") else { return };
    let model = golden.load("BertForSequenceClassification");
    check_tokens_of_bases(&golden, &model);
    let states = states(&model, &golden.tokens());
    let expected = golden.array("embedding_output").values;
    golden.check_tokens("embeddings", &expected, 30, &states[0]);
    let expected = golden.array("hidden_states").values;
    for (layer, expected) in expected.chunks(expected.len() / 3).enumerate() {
        golden.check_tokens(&format!("hidden states {}", layer + 1), expected, 30, &states[layer + 1]);
    }
    golden.check_attentions("attentions", Attentions::All, &model);
    let slopes = golden.array("alibi_slopes").values;
    golden.check("slopes", crate::kernel::attention::alibi_slopes(12).into_iter().zip(slopes));
    let logits = logits(&golden, &model);
    golden.check_rows("logits", "logits", &logits);
    let embeddings = embeddings(&golden, &model, Pooling::Mean);
    golden.check_rows("mean embedding", "sentence_embedding_start2", &embeddings);
    sentence_embeddings(&mut golden, &[0, 1, 2]);
}

/// Checks the embeddings of a SentenceTransformer directory for each first layer.
fn sentence_embeddings(golden: &mut Golden, starts: &[usize]) {
    for start in starts {
        let layers = golden.config()["num_hidden_layers"].as_u64().unwrap() as usize;
        let directory = golden.directory(json!({"architectures": ["BertModel"]}));
        embedder(directory.path(), *start, layers);
        let model = golden.load_from(directory.path());
        let embeddings = embeddings(golden, &model, Pooling::Own);
        let (what, array) =
            (format!("sentence embedding from layer {start}"), format!("sentence_embedding_start{start}"));
        golden.check_rows(&what, &array, &embeddings);
    }
}

/// Adds what SentenceTransformers has after a transformer.
fn embedder(directory: &Path, start: usize, layers: usize) {
    let write =
        |name: &str, content: Value| std::fs::write(directory.join(name), content.to_string()).unwrap();
    let modules = ["", "1_WeightedLayerPooling", "2_Pooling"].map(|path| {
        let class = path.split('_').nth(1).unwrap_or("Transformer");
        json!({"path": path, "type": format!("sentence_transformers.models.{class}")})
    });
    write("modules.json", modules.into_iter().collect());
    for folder in ["1_WeightedLayerPooling", "2_Pooling"] {
        std::fs::create_dir(directory.join(folder)).unwrap();
    }
    write("1_WeightedLayerPooling/config.json", json!({"layer_start": start}));
    write("2_Pooling/config.json", json!({"pooling_mode_mean_tokens": true}));
    let ones: Vec<u8> = (start..layers).flat_map(|_| 1f32.to_le_bytes()).collect();
    let view = TensorView::new(safetensors::Dtype::F32, vec![layers - start], &ones).unwrap();
    let bytes = safetensors::serialize([("layer_weights", view)], None).unwrap();
    std::fs::write(directory.join("1_WeightedLayerPooling/model.safetensors"), bytes).unwrap();
}

#[test]
fn dnabert_2_of_full_size_agrees() {
    let Some(mut golden) = Golden::open("dnabert2_base_hashweights") else { return };
    let directory = golden.directory(json!({"architectures": ["BertForSequenceClassification"]}));
    embedder(directory.path(), 4, 12);
    let model = golden.load_from(directory.path());
    let states = states(&model, &golden.tokens());
    let expected = golden.array("hidden_last").values;
    golden.check_tokens("last hidden state", &expected, 30, &states[12]);
    golden.check_attentions("attention_cls_row", Attentions::Cls, &model);
    let logits = logits(&golden, &model);
    golden.check_rows("logits", "logits_f64", &logits);
    let last = embeddings(&golden, &model, Pooling::Mean);
    golden.check_rows("sentence embedding from layer 11", "sentence_embedding_start11", &last);
    let weighted = embeddings(&golden, &model, Pooling::Own);
    golden.check_rows("sentence embedding from layer 4", "sentence_embedding_start4", &weighted);
}

#[test]
fn in_fewer_bits_models_of_full_size_stay_near() {
    for (name, bounds) in
        [("dnabert1_base_hashweights", [0.1, 0.5]), ("dnabert2_base_hashweights", [0.1, 0.5])]
    {
        let Some(mut golden) = Golden::open(name) else { return };
        let directory = golden.directory(json!({"architectures": ["BertForSequenceClassification"]}));
        let weights = hashed_weights(&golden.folder);
        let expected = golden.array("logits_f64").values;
        let states = golden.array("hidden_last");
        let (length, width) = (states.shape[1], states.shape[2]);
        // Of the reference's last hidden states, those of the first tokens: what the classifier reads.
        let first: Vec<f32> =
            states.values.chunks(length * width).flat_map(|row| row[..width].to_vec()).collect();
        for (precision, dtype, bound) in
            [(Precision::Bf16, "bf16", bounds[0]), (Precision::Int8, "int8", bounds[1])]
        {
            let model = load_in(directory.path(), &weights, None, precision);
            let found = logits(&golden, &model).concat();
            let calls = |logits: &[f32]| logits.chunks(2).map(|row| row[1] > row[0]).collect::<Vec<_>>();
            let flips = calls(&found).into_iter().zip(calls(&expected)).filter(|(a, b)| a != b).count();
            let rows = expected.len() / 2;
            let what = format!("logits, {flips} of {rows} calls flip");
            check_parity(name, &what, dtype, [&found, &expected], bound);
            let cls = embeddings(&golden, &model, Pooling::Cls).concat();
            let norm = |values: &mut dyn Iterator<Item = f32>| {
                values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
            };
            let error =
                norm(&mut cls.iter().zip(&first).map(|(a, b)| a - b)) / norm(&mut first.iter().copied());
            let what = format!("first hidden states, off by {:.2} % of their norm", 100.0 * error);
            check_parity(name, &what, dtype, [&cls, &first], 4.0 * bound);
        }
    }
}

/// Counts the tokens whose states go from layer to layer.
struct Count {
    hidden: usize,
    tokens: Vec<usize>,
}

impl Watch for Count {
    fn states(&mut self, states: &[f32]) {
        self.tokens.push(states.len() / self.hidden);
    }
}

#[test]
fn of_real_peaks_of_many_lengths_no_layer_computes_padding() {
    let Some(golden) = Golden::open("dnabert2_tiny") else { return };
    let model = golden.load("BertForSequenceClassification");
    let bases = chromosome_20();
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for file in std::fs::read_dir(shared("data/peaks/hg19").unwrap()).unwrap() {
        for line in text(&file.unwrap().path()).lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let place = |field: &str| field.parse::<usize>().ok()?.checked_sub(1_000_000);
            let (Some(start), Some(end)) = (place(fields[1]), place(fields[2])) else { continue };
            if fields[0] == "chr20" && end <= bases.len() {
                rows.push(model.tokens(&Input::of(&bases[start..end])).unwrap().into_owned());
            }
        }
    }
    // Runs do not depend on the order of a directory.
    rows.sort();
    let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
    let tokens: usize = lengths.iter().sum();
    let padded: usize = lengths.chunks(64).map(|rows| rows.len() * rows.iter().max().unwrap()).sum();
    assert!(rows.len() > 250 && padded > tokens + tokens / 5, "{padded} of {tokens}");
    let encoder = model.encoder().processor().unwrap();
    let hidden = encoder.spec().hidden;
    let mut seen = 0;
    let packs = packs(&lengths, hidden, 2);
    for pack in &packs {
        let sequences: Vec<Sequence> = pack.iter().map(|&row| Sequence::of(&rows[row])).collect();
        let mut count = Count { hidden, tokens: Vec::new() };
        encoder.run(&sequences, None, &mut count, &mut Scratch::default());
        let own: usize = pack.iter().map(|&row| lengths[row]).sum();
        assert_eq!(count.tokens, [own; 4]);
        assert!(own <= TOKENS_PER_PACK + lengths.iter().max().unwrap());
        seen += own;
    }
    assert_eq!(seen, tokens);
    println!(
        "{} real peaks: {tokens} tokens in {} packs; in batches of 64 padded to the longest, {padded}",
        rows.len(),
        packs.len()
    );
}

#[test]
fn the_masked_dnabert_2_agrees() {
    let Some(mut golden) = Golden::open("dnabert2_mlm_tiny") else { return };
    let model = golden.load("BertForMaskedLM");
    let states = states(&model, &golden.tokens()).pop().unwrap();
    let vocabulary = model.encoder().spec().vocabulary;
    let guesses = model.token_head().unwrap().logits(&states[0]);
    let masked = [3, 7].map(|place| &guesses[place * vocabulary..(place + 1) * vocabulary]).concat();
    let expected = golden.array("logits_row0_masked").values;
    golden.check("logits of masked tokens", masked.into_iter().zip(expected));
}

fn nucleotide_transformer(name: &'static str) {
    let Some(mut golden) = Golden::open(name) else { return };
    let model = golden.load("EsmForSequenceClassification");
    check_tokens_of_bases(&golden, &model);
    let states = states(&model, &golden.tokens());
    let expected = golden.array("hidden_states");
    let length = expected.shape[2];
    for (layer, expected) in expected.values.chunks(expected.values.len() / 4).enumerate() {
        golden.check_tokens(&format!("hidden states {layer}"), expected, length, &states[layer]);
    }
    golden.check_attentions("attentions", Attentions::All, &model);
    let logits = logits(&golden, &model);
    golden.check_rows("logits", "logits", &logits);
}

#[test]
fn the_first_nucleotide_transformer_agrees() {
    nucleotide_transformer("nt_v1_tiny");
}

#[test]
fn the_second_nucleotide_transformer_agrees() {
    nucleotide_transformer("nt_v2_tiny");
}

/// Merges an adapter into the model that it belongs to.
fn with_adapter(base: &str, name: &'static str, architecture: &str) -> Option<(Golden, LanguageModel)> {
    let (mut golden, base) = (Golden::open(name)?, shared(&format!("golden/models/{base}"))?);
    let adapter = Adapter::read(&golden.folder).unwrap();
    let weights = adapter.merge(&Weights::read(&base.join("model.safetensors")).unwrap()).unwrap();
    let folder = std::mem::replace(&mut golden.folder, base);
    let directory = golden.directory(json!({"architectures": [architecture]}));
    golden.folder = folder;
    Some((golden, load(directory.path(), &weights)))
}

#[test]
fn dnabert_2_with_an_adapter_agrees() {
    let Some((mut golden, model)) =
        with_adapter("dnabert2_tiny", "dnabert2_tiny_lora", "BertForSequenceClassification")
    else {
        return;
    };
    let logits = logits(&golden, &model);
    golden.check_rows("logits", "logits", &logits);
}

#[test]
fn the_second_nucleotide_transformer_with_an_adapter_agrees() {
    let Some((mut golden, model)) =
        with_adapter("nt_v2_tiny", "nt_v2_tiny_lora", "EsmForSequenceClassification")
    else {
        return;
    };
    let logits = logits(&golden, &model);
    golden.check_rows("logits", "logits", &logits);
}

#[test]
fn the_long_heads_agree() {
    let Some(folder) = shared("golden/models/dnabert_long_heads") else { return };
    for name in ["lstm", "gru", "cat"] {
        let mut arrays = Npz::open(&folder.join(format!("{name}.npz"))).unwrap();
        let pooled: Array<f32> = arrays.numbers("pooled").unwrap();
        let logits: Array<f32> = arrays.numbers("logits").unwrap();
        let weights = Weights::read(&folder.join(format!("{name}.safetensors"))).unwrap();
        let [_, pieces, hidden] = pooled.shape[..].try_into().unwrap();
        let mut tensors: BTreeMap<String, weights::Array> = (weights.tensors().iter())
            .map(|(name, tensor)| {
                let shape = tensor.shape.clone();
                (name.clone(), weights::Array { values: weights.get(name, &shape).unwrap().to_vec(), shape })
            })
            .collect();
        // The reference has no encoder: its heads read vectors that a pooler would have made.
        tensors.insert(
            "pooler.dense.weight".into(),
            weights::Array { shape: vec![hidden, hidden], values: vec![0.0; hidden * hidden] },
        );
        let weights = Weights::collect(&folder, tensors);
        let config = Config::new("BertForLongSequenceClassification");
        let source = Source {
            directory: &folder,
            config: &config,
            weights: &weights,
            precision: Precision::F32,
            gpu: None,
        };
        let classifier = bert::classifier(&source, pieces, hidden).unwrap().unwrap();
        let rows = pooled.values.chunks(pieces * hidden);
        let found: Vec<f32> = rows.flat_map(|row| classifier.logits(row)).collect();
        assert_eq!(found.len(), logits.values.len());
        let what = format!("logits of the {name} head");
        check_parity("dnabert_long_heads", &what, "f32", [&found, &logits.values], TOLERANCE);
    }
}

/// Checks what models give through the kernels of a GPU against the reference and, where that has no numbers, the
/// processor.
fn check_on(backend: Arc<dyn Backend>, place: &str) {
    let gpu = Gpu { backend, number: Number::F32, limits: Limits { tokens: 256, vectors: 256 } };
    for (name, architecture) in [
        ("dnabert1_tiny", "BertForSequenceClassification"),
        ("dnabert2_tiny", "BertForSequenceClassification"),
        ("nt_v1_tiny", "EsmForSequenceClassification"),
        ("nt_v2_tiny", "EsmForSequenceClassification"),
    ] {
        let Some(mut golden) = Golden::open(name) else { return };
        let directory = golden.directory(json!({"architectures": [architecture]}));
        let model = golden.load_on(directory.path(), Some(&gpu));
        assert!(model.encoder().is_gpu());
        let found = logits(&golden, &model);
        golden.check_rows(&format!("logits, {place}"), "logits", &found);
        let processor = golden.load(architecture);
        let [found, expected] =
            [&model, &processor].map(|model| embeddings(&golden, model, Pooling::MeanOfBases).concat());
        golden.check(&format!("mean over bases, {place}"), found.into_iter().zip(expected));
        let attentions = Wanted { attentions: Some(Attentions::Cls), ..Wanted::default() };
        let error = model.predict_tokens(&golden.tokens(), &attentions).unwrap_err().to_string();
        assert!(error.contains("--device cpu"), "{error}");
    }
    let Some(golden) = Golden::open("dnabert1_mlm_tiny") else { return };
    let directory = golden.directory(json!({"architectures": ["BertForMaskedLM"]}));
    let [gpu, processor] = [Some(&gpu), None].map(|gpu| golden.load_on(directory.path(), gpu));
    let rows = [&golden.tokens()[0][..12]];
    for likelihood in [Likelihood::Masked, Likelihood::Unmasked] {
        let wanted = Wanted { likelihood: Some(likelihood), ..Wanted::default() };
        let likelihoods = |model: &LanguageModel| {
            let answers = model.predict_tokens(&rows, &wanted).unwrap().into_iter();
            answers.flat_map(|answer| answer.unwrap().likelihoods.unwrap()).collect::<Vec<f32>>()
        };
        golden.check(
            &format!("{likelihood:?} likelihoods, {place}"),
            likelihoods(&gpu).into_iter().zip(likelihoods(&processor)),
        );
    }
}

#[test]
fn the_kernels_of_a_gpu_give_the_reference_numbers_of_every_family() {
    let Some(host) = Host::transformer() else { return };
    check_on(host, "kernels of a GPU run on the processor");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn on_a_gpu_every_family_gives_the_reference_numbers() {
    check_on(Arc::new(Cuda::open(0).unwrap().backend().unwrap()), "GPU");
}
