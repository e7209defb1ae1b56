//! `nyx-train contrastive` and `nyx-train mlm`.

use std::fs;
use std::path::{Path, PathBuf};

use nyx::cli::Common;
use nyx::error::InFile;
use nyx::model::convert;
use nyx::model::graph::Parameters;
use nyx::model::layout::{LayerWeights, Mode, Pooling};
use nyx::model::transformer::LayerPooling;
use nyx::model::transformer::graph::Family;
use nyx::tokenizer::Tokenizer;
use nyx::train::language::{self, MaskTask, Masking, PairTask, Pairs};
use nyx::train::optimizer::Decaying;
use nyx::train::{Examples, Plan, Schedule, Task, Warmup};
use nyx::{Error, Result, output};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::data::{self, DataArgs};
use crate::drive::{self, Job};
use crate::finetune::BaseArgs;
use crate::options::{self, TrainArgs};

/// Contrastive training: sequences bound by the same factor come near to each other.
///
/// --data is a folder of folders, one a ChIP-seq set, each with train and dev (and test); rows with label 1 count.
/// NyxBind's recipe: MultipleNegativesRanking with scale 20, AdamW 3e-5, 10 % warm-up and a linear fall, 3 epochs of
/// batches of 128 pairs without a text twice, an evaluation every 2000 steps, the best by the average precision of
/// cosines. Writes a SentenceTransformers directory.
///
/// Example: nyx-train contrastive --model dnabert2/ --data chip-seq/ --max-length 30 -o nyxbind/
#[derive(clap::Args)]
pub struct ContrastiveArgs {
    #[command(flatten)]
    base: BaseArgs,
    /// A folder with a folder for each set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Training pairs of each set
    #[arg(long, value_name = "N", default_value_t = 100)]
    train_numbers: usize,
    /// Dev and test sequences of each set
    #[arg(long, value_name = "N", default_value_t = 1000)]
    test_numbers: usize,
    /// The first layer, from 0, of those whose mean is the vector (default: the last)
    #[arg(long, value_name = "LAYER")]
    start_layer: Option<usize>,
    #[command(flatten)]
    train: TrainArgs,
}

/// Continue pre-training of a masked language model on sequences.
///
/// Labels are not needed. DNABERT's masks for k-mers (a centre with probability 0.025 and its neighbours), 15 % of single
/// tokens for the others; 80 % become [MASK], 10 % another token, 10 % stay.
///
/// Example: nyx-train mlm --model dnabert2/ --data promoters/ -o dnabert2-promoters/
#[derive(clap::Args)]
pub struct MlmArgs {
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    data: DataArgs,
    /// The chance of a token to be hidden, or of a k-mer to be the centre of what is
    #[arg(long, value_name = "CHANCE")]
    mask_chance: Option<f64>,
    #[command(flatten)]
    train: TrainArgs,
}

/// The sequences of all sets, end to end, and which belong to each.
struct Kinds {
    sequences: Examples,
    sets: Vec<Vec<usize>>,
}

impl Kinds {
    fn new() -> Self {
        Self { sequences: Examples::default(), sets: Vec::new() }
    }

    /// Adds the positives of a set.
    fn add(&mut self, examples: &Examples) {
        let first = self.sequences.len();
        for (sequence, label) in examples.sequences.iter().zip(&examples.labels) {
            if label.as_slice() == [1.0] {
                self.sequences.sequences.push(sequence.clone());
                self.sequences.labels.push(label.clone());
            }
        }
        self.sets.push((first..self.sequences.len()).collect());
    }

    fn dev_pairs(
        &self,
        tokenizer: &Tokenizer,
        most: Option<usize>,
        count: usize,
        seed: u64,
    ) -> Result<Pairs> {
        let (pairs, same) = language::dev_pairs(&self.sets, count, seed);
        Ok(Pairs { tokens: language::tokens(tokenizer, &self.sequences, most)?, pairs, same })
    }
}

/// Runs `nyx-train contrastive`.
pub fn run_contrastive(args: ContrastiveArgs, common: &Common) -> Result<()> {
    drive::directory(common)?;
    let (mut body, parameters, tokenizer) = args.base.open(common.seed)?;
    let most = args.base.most(&body.graph);
    let [mut train, mut dev, mut test] = [(); 3].map(|()| Kinds::new());
    let folders = folders(&args.data)?;
    for folder in &folders {
        let sets = data::folder(folder)?;
        train.add(&sets.train);
        dev.add(&sets.dev);
        sets.test.iter().for_each(|set| test.add(set));
    }
    let seed = common.seed;
    let pairs = language::training_pairs(&train.sets, args.train_numbers, seed);
    common.say(&format!("{} sets, {} pairs to train on", folders.len(), pairs.len()));
    let layers = body.graph.spec().layers.len();
    let start = args.start_layer.unwrap_or(layers - 1);
    if start >= layers {
        return Err(Error::usage(format!("--start-layer {start}: the model has layers 0 to {}", layers - 1)));
    }
    let weights = vec![1.0; layers - start];
    let pooling = LayerPooling::weighted(layers, start, &weights)?;
    body.config.pooling =
        Some(Pooling { mode: Mode::Mean, layers: Some(LayerWeights { start, weights: weights.clone() }) });
    let recipe = Plan {
        epochs: 3,
        rate: 3e-5,
        decaying: Decaying::NoBiasNoNorm,
        schedule: Schedule::Linear,
        warmup: Warmup::Part(0.1),
        clip: Some(1.0),
        evaluate_every: Some(2000),
        best_by: "cosine_ap".into(),
        ..Plan::default()
    };
    let plan = args.train.plan(recipe, seed)?;
    let batch = args.train.train_batch.map_or(128, |batch| batch as usize);
    let mut settings = options::settings(&plan, batch);
    settings.insert("model".into(), args.base.begin.model.display().to_string().into());
    settings.insert("data".into(), train.sequences.digest()[..16].into());
    settings.insert("pairs".into(), format!("{} {}", args.train_numbers, args.test_numbers).into());
    settings.insert("start_layer".into(), start.into());
    let tokens = language::tokens(&tokenizer, &train.sequences, most)?;
    let task = PairTask {
        body,
        train: Pairs { tokens, same: vec![true; pairs.len()], pairs },
        dev: dev.dev_pairs(&tokenizer, most, args.test_numbers, seed)?,
        batch,
        layers: pooling,
    };
    drive::say(common, "before: dev", &task.evaluate(&parameters)?);
    let job = Job { common, args: &args.train, plan, settings };
    let write = |trained: &Parameters, directory: &Path| {
        convert::write_directory(&task.body.opened(trained)?, &task.body.path, directory)?;
        write_pooling(directory, start, &weights, task.body.graph.spec().hidden)
    };
    let measure = |trained: &Parameters| match test.sets.is_empty() {
        true => Ok(None),
        false => {
            let pairs = test.dev_pairs(&tokenizer, most, args.test_numbers, seed)?;
            task.measure(trained, &pairs).map(Some)
        }
    };
    job.complete(&task, parameters, write, measure).map(drop)
}

/// Returns the folders of a folder, in the order of their names.
fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).in_file(path)?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    match folders.is_empty() {
        true => Err(Error::data("no folders of sets in it")).in_file(path),
        false => Ok(folders),
    }
}

/// Writes what makes a directory one of SentenceTransformers with NyxBind's weighted mean over layers.
fn write_pooling(directory: &Path, start: usize, weights: &[f32], hidden: usize) -> Result<()> {
    let module = |index: usize, path: &str, class: &str| json!({ "idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{class}") });
    let modules = json!([
        module(0, "", "Transformer"),
        module(1, "1_WeightedLayerPooling", "WeightedLayerPooling"),
        module(2, "2_Pooling", "Pooling"),
    ]);
    let layers = start + weights.len();
    let weighted =
        json!({ "word_embedding_dimension": hidden, "layer_start": start, "num_hidden_layers": layers });
    let pooling = json!({ "word_embedding_dimension": hidden, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true });
    for (path, text) in [
        ("modules.json", &modules),
        ("1_WeightedLayerPooling/config.json", &weighted),
        ("2_Pooling/config.json", &pooling),
    ] {
        let path = directory.join(path);
        let folder = path.parent().unwrap_or(directory);
        fs::create_dir_all(folder).in_file(folder)?;
        output::write_file(&path, (serde_json::to_string_pretty(text)? + "\n").as_bytes())?;
    }
    let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let file = TensorView::new(Dtype::F32, vec![weights.len()], &bytes)
        .and_then(|view| safetensors::serialize([("layer_weights", view)], None))
        .map_err(|error| Error::data(format!("cannot write safetensors: {error}")))?;
    output::write_file(&directory.join("1_WeightedLayerPooling/model.safetensors"), &file)
}

/// Runs `nyx-train mlm`.
pub fn run_mlm(args: MlmArgs, common: &Common) -> Result<()> {
    drive::directory(common)?;
    let (mut body, mut parameters, tokenizer) = args.base.open(common.seed)?;
    let most = args.base.most(&body.graph);
    let sets = args.data.read()?;
    body.graph.add_token_head(&mut parameters, common.seed)?;
    parameters.remove_under("classifier");
    let name = if body.graph.family() == Family::Esm { "EsmForMaskedLM" } else { "BertForMaskedLM" };
    body.config.architectures = vec![name.into()];
    let masking = masking(&tokenizer, body.graph.spec().vocabulary, args.mask_chance)?;
    let recipe = Plan {
        epochs: 3,
        rate: 4e-4,
        decay: 0.01,
        decaying: Decaying::NoBiasNoNorm,
        schedule: Schedule::Linear,
        warmup: Warmup::Part(0.05),
        clip: Some(1.0),
        ..Plan::default()
    };
    let plan = args.train.plan(recipe, common.seed)?;
    let batch = args.train.train_batch.map_or(32, |batch| batch as usize);
    let mut settings = options::settings(&plan, batch);
    settings.insert("model".into(), args.base.begin.model.display().to_string().into());
    settings.insert("data".into(), sets.digest().into());
    settings.insert("mask_chance".into(), masking.chance.into());
    let read = |examples: &Examples| language::tokens(&tokenizer, examples, most);
    let task = MaskTask { body, train: read(&sets.train)?, dev: read(&sets.dev)?, batch, masking };
    let job = Job { common, args: &args.train, plan, settings };
    let write = |trained: &Parameters, directory: &Path| {
        convert::write_directory(&task.body.opened(trained)?, &task.body.path, directory)
    };
    job.complete(&task, parameters, write, |_| Ok(None)).map(drop)
}

/// Returns how a model's tokens are hidden.
fn masking(tokenizer: &Tokenizer, vocabulary: usize, chance: Option<f64>) -> Result<Masking> {
    let mask = tokenizer.mask().ok_or_else(|| Error::usage("the model's tokenizer has no [MASK] token"))?;
    let neighbours: &[i64] = match tokenizer.name().as_str() {
        "kmer:3" => &[-1, 1],
        "kmer:4" => &[-1, 1, 2],
        "kmer:5" => &[-2, -1, 1, 2],
        "kmer:6" => &[-2, -1, 1, 2, 3],
        _ => &[],
    };
    let chance = chance.unwrap_or(if neighbours.is_empty() { 0.15 } else { 0.025 });
    if !(0.0..=1.0).contains(&chance) {
        return Err(Error::usage(format!("--mask-chance {chance}: give a number from 0 to 1")));
    }
    // Vocabularies begin with their special tokens; the mask is among them.
    let specials: Vec<u32> = (0..=mask.max(5)).filter(|&id| id <= mask || id < 5).collect();
    let first = specials.last().map_or(0, |last| last + 1);
    Ok(Masking {
        chance,
        neighbours: neighbours.to_vec(),
        mask,
        specials,
        vocabulary: first..vocabulary as u32,
    })
}
