//! `nyx-train full`, `lora` and `bert-tfbs`: classes of sequences from a transformer.

use std::path::{Path, PathBuf};

use nyx::cli::Common;
use nyx::error::InFile;
use nyx::model::config::Config;
use nyx::model::graph::{Convolutions, Initial, Parameters};
use nyx::model::transformer::graph::{EncoderGraph, Family};
use nyx::model::weights::Weights;
use nyx::model::{Opened, bert_tfbs, convert, layout::Layout};
use nyx::tokenizer::Tokenizer;
use nyx::train::adapter::LoraPlan;
use nyx::train::language::{Body, ClassTask, Head, Labelled};
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

/// Train BERT-TFBS: a transformer, all of it, under convolutions with attention over channels and positions.
///
/// The head reads --tokens tokens, specials included; longer sequences are cut, shorter ones padded. As published, its
/// loss takes probabilities for logits. NyxBind's recipe: as `full`, 15 epochs, an evaluation every 100 steps. With
/// DNABERT-2 it is BERT-TFBS, with NyxBind BERT-TFBS_N.
///
/// Example: nyx-train bert-tfbs --model dnabert2/ --data TF/ -o tf/
#[derive(clap::Args)]
pub struct BertTfbsArgs {
    #[command(flatten)]
    base: BeginArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Tokens that the convolutions read
    #[arg(long, value_name = "TOKENS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(3..))]
    tokens: u16,
    #[command(flatten)]
    train: TrainArgs,
}

/// The transformer to begin with, and how much of a sequence it reads.
#[derive(clap::Args, Clone, Debug)]
pub struct BaseArgs {
    #[command(flatten)]
    pub begin: BeginArgs,
    /// Most tokens of a sequence, specials included; what is beyond is cut off
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
}

/// The transformer to begin with.
#[derive(clap::Args, Clone, Debug)]
pub struct BeginArgs {
    /// The transformer to begin with: a model directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Begin with random weights: DIR needs a config.json and a tokenizer only
    #[arg(long)]
    pub from_scratch: bool,
}

impl BeginArgs {
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
        Ok((Body { graph, config, path: directory }, parameters, tokenizer))
    }
}

impl BaseArgs {
    /// Opens the transformer as [`BeginArgs::open`].
    pub fn open(&self, seed: u64) -> Result<(Body, Parameters, Tokenizer)> {
        let (body, parameters, tokenizer) = self.begin.open(seed)?;
        let limit = body.graph.spec().positions;
        if self.max_length.is_some_and(|most| limit.is_some_and(|limit| most > limit)) {
            return Err(Error::usage("--max-length: the model has fewer positions"));
        }
        Ok((body, parameters, tokenizer))
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
fn recipe(rate: f64, epochs: u64, evaluate_every: u64) -> Plan {
    Plan {
        epochs,
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
    Finetune { base: args.base, args: args.train, common, kind: Kind::Full }.run(args.data.read()?)
}

/// Runs `nyx-train bert-tfbs`.
pub fn run_bert_tfbs(args: BertTfbsArgs, common: &Common) -> Result<()> {
    let base = BaseArgs { begin: args.base, max_length: Some(args.tokens.into()) };
    Finetune { base, args: args.train, common, kind: Kind::BertTfbs }.run(args.data.read()?)
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
    Finetune { base: args.base, args: args.train, common, kind: Kind::Lora(plan) }.run(args.data.read()?)
}

/// What is trained of a transformer.
enum Kind {
    Full,
    Lora(LoraPlan),
    BertTfbs,
}

impl Kind {
    fn recipe(&self) -> Plan {
        match self {
            Self::Full => recipe(3e-5, 5, 200),
            Self::Lora(_) => recipe(7e-4, 5, 100),
            Self::BertTfbs => recipe(3e-5, 15, 100),
        }
    }

    /// Puts a head for so many classes on a transformer. Returns it, and the modules that are new.
    fn head(
        &self,
        body: &mut Body,
        parameters: &mut Parameters,
        [classes, tokens]: [usize; 2],
        seed: u64,
    ) -> Result<(Head, Vec<String>)> {
        if let Self::Full | Self::Lora(_) = self {
            body.config.architectures = vec![classifier_name(body.graph.family()).into()];
            return Ok((Head::Own, body.graph.add_classifier(parameters, classes, seed)?));
        }
        if body.graph.family() == Family::Esm {
            return Err(Error::usage("bert-tfbs stands on DNABERT, DNABERT-2 or NyxBind"));
        }
        body.config.architectures = vec![bert_tfbs::NAME.into()];
        parameters.remove_under("classifier");
        let head = Convolutions { tokens, states: body.graph.spec().hidden, classes };
        let mut initial = Initial::on(std::mem::take(parameters), seed);
        head.initial(&mut initial);
        *parameters = initial.finish();
        Ok((Head::Convolutions(head), Vec::new()))
    }
}

struct Finetune<'a> {
    base: BaseArgs,
    args: TrainArgs,
    common: &'a Common,
    kind: Kind,
}

impl Finetune<'_> {
    fn run(self, sets: Sets) -> Result<()> {
        let Self { base, args, common, kind } = &self;
        drive::directory(common)?;
        let (mut body, mut parameters, tokenizer) = base.open(common.seed)?;
        let most = base.most(&body.graph);
        let classes = sets.train.classes()?.into_iter().max().map_or(2, |most| most as usize + 1).max(2);
        for head in ["cls.", "lm_head."] {
            parameters.remove_under(head);
        }
        let sizes = [classes, most.unwrap_or(0)];
        let (head, made) = kind.head(&mut body, &mut parameters, sizes, common.seed)?;
        if body.config.labels.as_ref().is_some_and(|labels| labels.len() != classes) {
            body.config.labels = None;
        }
        let plan = args.plan(kind.recipe(), common.seed)?;
        let batch = args.train_batch.map_or(32, |batch| batch as usize);
        let mut settings = options::settings(&plan, batch);
        settings.insert("model".into(), base.begin.model.display().to_string().into());
        settings.insert("architecture".into(), body.config.architecture().into());
        settings.insert("data".into(), sets.digest().into());
        let lora = match kind {
            Kind::Lora(lora) => Some(lora.clone().with_new(&made)),
            Kind::Full | Kind::BertTfbs => None,
        };
        if let Some(lora) = &lora {
            let modules = lora.apply(&mut parameters, common.seed)?;
            common.say(&format!("{} layers have an adapter", modules.len()));
            settings.insert("lora".into(), format!("{lora:?}").into());
        }
        let read = |examples: &Examples| Labelled::of(&tokenizer, examples, most);
        let task = ClassTask { body, head, train: read(&sets.train)?, dev: read(&sets.dev)?, batch };
        let job = Job { common, args, plan, settings };
        let write = |trained: &Parameters, directory: &Path| match &lora {
            Some(lora) => lora.write(trained, &base.begin.model.display().to_string(), directory),
            None => convert::write_directory(&task.body.opened(trained)?, &task.body.path, directory),
        };
        let test = |trained: &Parameters| match &sets.test {
            Some(test) => task.measure(trained, &read(test)?).map(Some),
            None => Ok(None),
        };
        job.complete(&task, parameters, write, test).map(drop)
    }
}

/// Returns what a classifier of a family is called.
fn classifier_name(family: Family) -> &'static str {
    match family {
        Family::Bert | Family::MosaicBert => "BertForSequenceClassification",
        Family::Esm => "EsmForSequenceClassification",
    }
}
