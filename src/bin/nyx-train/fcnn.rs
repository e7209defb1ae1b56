//! `nyx-train fcnn`.

use std::path::{Component, Path, PathBuf};

use candle_core::Device;
use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::InFile;
use nyx::kernel::Precision;
use nyx::model::Loaded;
use nyx::model::config::Config;
use nyx::model::convert::{self, Converted};
use nyx::model::graph::{Initial, Parameters};
use nyx::model::residual_fcnn::{self, open_encoder, pooling_of};
use nyx::train::embeddings::{EmbeddedPairs, EmbeddedTask};
use nyx::train::{Examples, Plan, Schedule};
use nyx::{Error, Result};
use serde_json::{Map, Value};

use crate::data::{DataArgs, Sets};
use crate::drive::{self, Job};
use crate::options::{self, TrainArgs};

/// Train a residual network on pairs of sequences, by the embeddings that another model gives them.
///
/// Tables with `sequence1`, `sequence2` and `label`, or without a header. Every sequence is embedded once, by a model that
/// stays as it is; the ends of the training set's embeddings become -1 and 1. Both labels are drawn equally often.
/// Recipe: AdamW 1e-4, decay 1e-5, at most 50 epochs of batches of 64, the rate halved when the dev loss has not fallen
/// for 3 epochs, stop after 7, the last weights. The threshold of the highest F1 on the dev set stands in config.json,
/// and the test set is measured with it. Without a dev set a fifth of the training set becomes one.
///
/// Example: nyx-train fcnn --encoder dnabert6/ --train pairs.csv -o pairs/
#[derive(clap::Args)]
pub struct FcnnArgs {
    /// The model that gives embeddings: a directory, or hf://ORGANIZATION/NAME
    #[arg(long, value_name = "DIR")]
    encoder: PathBuf,
    /// How tokens become an embedding
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Pool::Mean)]
    pooling: Pool,
    #[command(flatten)]
    data: DataArgs,
    /// Numbers of the three layers
    #[arg(long, value_name = "N,N,N", value_delimiter = ',', default_values_t = [1024, 512, 256], value_parser = clap::value_parser!(u16).range(1..))]
    widths: Vec<u16>,
    /// The chance of a number of a layer to drop out
    #[arg(long, value_name = "RATE", default_value_t = 0.5)]
    dropout: f64,
    #[command(flatten)]
    train: TrainArgs,
}

/// How tokens become an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pool {
    /// The mean over all tokens
    Mean,
    /// The first token's
    Cls,
    /// The mean over tokens that are bases
    Bases,
    /// The model's own
    Own,
}

impl Pool {
    /// Returns its name in config.json.
    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Bases => "bases",
            Self::Own => "own",
        }
    }
}

impl FcnnArgs {
    /// Returns the numbers of the three layers.
    fn widths(&self) -> Result<[usize; 3]> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::usage("--dropout is from 0 to below 1"));
        }
        match self.widths.as_slice() {
            &[first, second, third] => Ok([first, second, third].map(usize::from)),
            _ => Err(Error::usage("--widths: give three numbers, as in 1024,512,256")),
        }
    }

    fn settings(&self, plan: &Plan, batch: usize, encoder: &Loaded, sets: &Sets) -> Map<String, Value> {
        let mut settings = options::settings(plan, batch);
        settings.insert("encoder".into(), self.encoder.display().to_string().into());
        settings.insert("encoder_digest".into(), encoder.digest.as_str().into());
        settings.insert("pooling".into(), self.pooling.name().into());
        settings.insert("widths".into(), self.widths.clone().into());
        settings.insert("dropout".into(), self.dropout.into());
        settings.insert("data".into(), sets.digest().into());
        settings
    }

    /// Writes the network with the path to its encoder, the range of embeddings and the threshold.
    fn write(&self, task: &EmbeddedTask, trained: &Parameters, directory: &Path) -> Result<()> {
        let mut config = Config::new(residual_fcnn::NAME);
        let encoder = encoder_from(directory, &self.encoder)?;
        residual_fcnn::complete(&mut config, Some(&encoder), Some(task.range()), directory)?;
        config.rest.insert("pooling".into(), self.pooling.name().into());
        config.rest.insert("threshold".into(), task.threshold(trained)?.into());
        convert::write(&Converted { config, weights: trained.weights()? }, directory)
    }
}

fn recipe() -> Plan {
    Plan {
        epochs: 50,
        rate: 1e-4,
        decay: 1e-5,
        schedule: Schedule::Plateau { factor: 0.5, patience: 3 },
        clip: Some(1.0),
        patience: Some(7),
        keep_last: true,
        ..Plan::default()
    }
}

/// Runs `nyx-train fcnn`.
pub fn run(args: FcnnArgs, common: &Common) -> Result<()> {
    drive::directory(common)?;
    let widths = args.widths()?;
    let sets = args.data.read_or_split(common.seed)?;
    let plan = args.train.plan(recipe(), common.seed)?;
    let batch = args.train.train_batch.map_or(64, |batch| batch as usize);
    sets.say(common);
    let encoder = open_encoder(Path::new(""), &args.encoder)?.build(&Device::Cpu, Precision::F32)?;
    let settings = args.settings(&plan, batch, &encoder, &sets);
    let pooling = pooling_of(Some(args.pooling.name()))?;
    let embed = |examples: &Examples, name: &str| -> Result<EmbeddedPairs> {
        let pairs = EmbeddedPairs::embed(&*encoder.model, pooling, examples)
            .map_err(|error| error.at(format!("{name} set")))?;
        common.say(&format!("{name}: {} pairs of {} sequences", pairs.len(), pairs.sequences()));
        Ok(pairs)
    };
    let (train, dev) = (embed(&sets.train, "training")?, embed(&sets.dev, "dev")?);
    let task = EmbeddedTask::new(widths, args.dropout, train, dev, batch)?;
    let mut initial = Initial::new(plan.seed);
    task.network().initial(&mut initial);
    let job = Job { common, args: &args.train, plan, settings };
    let write = |trained: &Parameters, directory: &Path| args.write(&task, trained, directory);
    let test = |trained: &Parameters| {
        let Some(test) = &sets.test else { return Ok(None) };
        let threshold = task.threshold(trained)?;
        common.say(&format!("called above {threshold}, where the F1 of the dev set is highest"));
        task.measure(trained, &embed(test, "test")?, threshold).map(Some)
    };
    job.complete(&task, initial.finish(), write, test).map(drop)
}

/// Returns the encoder as it is seen from the directory of the model, so that both can be moved together.
fn encoder_from(directory: &Path, encoder: &Path) -> Result<String> {
    if residual_fcnn::is_of_hub(encoder) {
        return Ok(encoder.display().to_string());
    }
    let (from, to) = (directory.canonicalize().in_file(directory)?, encoder.canonicalize().in_file(encoder)?);
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.components().skip(shared)).collect();
    let path = path.to_str().map(String::from);
    path.ok_or_else(|| Error::data("the path is no text: config.json cannot name it")).in_file(encoder)
}
