//! `nyx-train full` and `nyx-train lora`: classes of sequences from a transformer.

use std::path::PathBuf;

use nyx::cli::Common;
use nyx::error::InFile;
use nyx::model::config::Config;
use nyx::model::convert;
use nyx::model::graph::Parameters;
use nyx::model::transformer::graph::{EncoderGraph, Family};
use nyx::model::weights::Weights;
use nyx::model::{Opened, layout::Layout};
use nyx::tokenizer::Tokenizer;
use nyx::train::adapter::LoraPlan;
use nyx::train::language::{Body, ClassTask, Labelled};
use nyx::train::optimizer::Decaying;
use nyx::train::{Examples, Plan, Schedule, Warmup};
use nyx::{Error, Result};

use crate::data::{DataArgs, Sets};
use crate::drive::{self, Job};
use crate::options::{self, TrainArgs};

/// Fine-tune all weights of a transformer: a class for each sequence.
///
/// NyxBind's recipe: AdamW 3e-5, decay 0.01, 30 steps of warm-up and a linear fall, 5 epochs of batches of 32, an
/// evaluation every 200 steps, the best by dev loss, patience 10. DNABERT, DNABERT-2, NyxBind, the Nucleotide Transformer.
///
/// Example: nyx-train full --model dnabert2/ --data TF/ -o tf/
#[derive(clap::Args)]
pub struct FullArgs {
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    train: TrainArgs,
}

/// Train a LoRA adapter of a transformer: a class for each sequence.
///
/// Writes an adapter directory that PEFT and `--adapter` read. NyxBind's recipe: AdamW 7e-4, rank 8, alpha 16, dropout
/// 0.05, otherwise as `full` with an evaluation every 100 steps.
///
/// Example: nyx-train lora --model dnabert2/ --data TF/ -o adapter/ && nyx-score --model dnabert2/ --adapter adapter/
#[derive(clap::Args)]
pub struct LoraArgs {
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Rows of A
    #[arg(long, value_name = "R", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    rank: u16,
    /// What B·A is multiplied by, over the rank
    #[arg(long, value_name = "ALPHA", default_value_t = 16.0)]
    alpha: f64,
    /// The chance of an input of A to drop out
    #[arg(long, value_name = "RATE", default_value_t = 0.05)]
    lora_dropout: f64,
    /// Linear layers that are adapted, by the last parts of their names
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "query,value,key,dense")]
    target_modules: Vec<String>,
    #[command(flatten)]
    train: TrainArgs,
}

/// The transformer to begin with.
#[derive(clap::Args, Clone, Debug)]
pub struct BaseArgs {
    /// The transformer to begin with: a model directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Begin with random weights: DIR needs a config.json and a tokenizer only
    #[arg(long)]
    pub from_scratch: bool,
    /// Most tokens of a sequence, specials included; what is beyond is cut off
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
}

impl BaseArgs {
    /// Opens the transformer as a graph, its weights, and its tokenizer.
    pub fn open(&self, seed: u64) -> Result<(Body, Parameters, Tokenizer)> {
        let path = &self.model;
        let (graph, parameters, config, directory) = if self.from_scratch {
            let Layout { transformer, .. } = Layout::read(path)?;
            let config = Config::read(&transformer)?;
            let (graph, parameters) = EncoderGraph::fresh(&config, seed).in_file(path)?;
            (graph, parameters, config, transformer)
        } else {
            let Opened { config, weights, path, .. } = Opened::read(path)?;
            let graph = EncoderGraph::new(&config, &weights).in_file(&path)?;
            (graph, parameters_of(&weights)?, config, path)
        };
        let tokenizer = Tokenizer::of_model(&directory)?;
        let most = self.max_length.or(graph.spec().positions);
        if most.is_some_and(|most| graph.spec().positions.is_some_and(|limit| most > limit)) {
            return Err(Error::usage("--max-length: the model has fewer positions"));
        }
        Ok((Body { graph, config, path: directory }, parameters, tokenizer))
    }

    /// Returns the most tokens of a sequence.
    pub fn most(&self, graph: &EncoderGraph) -> Option<usize> {
        self.max_length.or(graph.spec().positions)
    }
}

/// Returns weights to be trained. A decoder that is the table of words once more is tied to it.
fn parameters_of(weights: &Weights) -> Result<Parameters> {
    let mut parameters = Parameters::of(weights)?;
    for (decoder, words) in [
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.weight", "esm.embeddings.word_embeddings.weight"),
    ] {
        let (Ok(a), Ok(b)) = (weights.any(decoder), weights.any(words)) else { continue };
        if a.read() == b.read() {
            parameters.remove(decoder);
        }
    }
    if parameters.contains("cls.predictions.bias") {
        parameters.remove("cls.predictions.decoder.bias");
    }
    Ok(parameters)
}

/// NyxBind's recipe.
fn recipe(rate: f64, evaluate_every: u64) -> Plan {
    Plan {
        epochs: 5,
        rate,
        decay: 0.01,
        decaying: Decaying::NoBiasNoNorm,
        schedule: Schedule::Linear,
        warmup: Warmup::Steps(30),
        clip: Some(1.0),
        evaluate_every: Some(evaluate_every),
        patience: Some(10),
        ..Plan::default()
    }
}

/// Runs `nyx-train full`.
pub fn run(args: FullArgs, common: &Common) -> Result<()> {
    Finetune { base: args.base, args: args.train, common, lora: None }.run(args.data.read()?)
}

/// Runs `nyx-train lora`.
pub fn run_lora(args: LoraArgs, common: &Common) -> Result<()> {
    if !(0.0..1.0).contains(&args.lora_dropout) || args.alpha <= 0.0 {
        return Err(Error::usage("--lora-dropout is from 0 to below 1, --alpha above 0"));
    }
    let plan = LoraPlan {
        rank: args.rank.into(),
        alpha: args.alpha,
        dropout: args.lora_dropout,
        targets: args.target_modules,
        ..LoraPlan::default()
    };
    Finetune { base: args.base, args: args.train, common, lora: Some(plan) }.run(args.data.read()?)
}

struct Finetune<'a> {
    base: BaseArgs,
    args: TrainArgs,
    common: &'a Common,
    lora: Option<LoraPlan>,
}

impl Finetune<'_> {
    fn run(self, sets: Sets) -> Result<()> {
        let Self { base, args, common, lora } = &self;
        drive::directory(common)?;
        let (mut body, mut parameters, tokenizer) = base.open(common.seed)?;
        let most = base.most(&body.graph);
        let classes = sets.train.classes()?.into_iter().max().map_or(2, |most| most as usize + 1).max(2);
        for head in ["cls.", "lm_head."] {
            parameters.remove_under(head);
        }
        let made = body.graph.add_classifier(&mut parameters, classes, common.seed)?;
        body.config.architectures = vec![classifier_name(body.graph.family()).into()];
        if body.config.labels.as_ref().is_some_and(|labels| labels.len() != classes) {
            body.config.labels = None;
        }
        let plan = match lora {
            Some(_) => recipe(7e-4, 100),
            None => recipe(3e-5, 200),
        };
        let plan = args.plan(plan, common.seed)?;
        let batch = args.train_batch.map_or(32, |batch| batch as usize);
        let mut settings = options::settings(&plan, batch);
        settings.insert("model".into(), base.model.display().to_string().into());
        settings.insert(
            "data".into(),
            format!("{}{}", &sets.train.digest()[..16], &sets.dev.digest()[..16]).into(),
        );
        let lora = lora.as_ref().map(|lora| lora.clone().with_new(&made));
        if let Some(lora) = &lora {
            let modules = lora.apply(&mut parameters, common.seed)?;
            common.say(&format!("{} layers have an adapter", modules.len()));
            settings.insert("lora".into(), format!("{lora:?}").into());
        }
        let Sets { train, dev, test } = sets;
        let read = |examples: &Examples| Labelled::of(&tokenizer, examples, most);
        let task = ClassTask { body, train: read(&train)?, dev: read(&dev)?, batch };
        let purpose = serde_json::to_string(&settings)?;
        let job = Job { common, args, plan, settings, purpose };
        let Some((training, mut record)) = job.run(&task, parameters)? else { return Ok(()) };
        match lora {
            Some(lora) => {
                lora.write(training.parameters(), &base.model.display().to_string(), job.directory()?)?
            }
            None => convert::write_directory(
                &task.body.opened(training.parameters())?,
                &task.body.path,
                job.directory()?,
            )?,
        }
        let test = test.map(|test| read(&test)).transpose()?;
        let measures = test.map(|test| task.measure(training.parameters(), &test)).transpose()?;
        if let Some(measures) = &measures {
            drive::say(common, "test", measures);
        }
        record.finish(training.state().step, measures.as_ref())
    }
}

/// Returns what a classifier of a family is called.
fn classifier_name(family: Family) -> &'static str {
    match family {
        Family::Bert | Family::MosaicBert => "BertForSequenceClassification",
        Family::Esm => "EsmForSequenceClassification",
    }
}
