//! nyx-model: weights files of other programs → model directories; what a model directory holds.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::Device;
use clap::{Parser, Subcommand};
use nyx::cli::{self, Common};
use nyx::error::InFile;
use nyx::model::config::Config;
use nyx::model::convert::{self, Hints};
use nyx::model::residual_fcnn::Range;
use nyx::model::sig_tfb::influence::FilterMeans;
use nyx::model::weights::Weights;
use nyx::schema::Rows;
use nyx::{Error, Result, model};

/// Make model directories from weights files, and show what they hold.
///
/// Example: nyx-model convert D_AEDNet.pth -o ctcfl/ && nyx-score --model ctcfl/ rows.arrows | nyx-view
#[derive(Parser)]
#[command(name = "nyx-model", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Convert(ConvertArgs),
    Info(InfoArgs),
    Influence(InfluenceArgs),
}

/// Convert PyTorch, Keras or safetensors weights to a model directory (`-o DIR`)
///
/// Reads state dicts and modules saved by torch.save (zip archives: .pth, .pt, pytorch_model.bin), Keras
/// .h5 and .safetensors. Pickles are read as data: nothing in them is executed.
#[derive(clap::Args)]
struct ConvertArgs {
    /// The weights file
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The architecture, where the tensors fit more than one
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(model::architectures()))]
    architecture: Option<String>,
    /// The model.json of a Keras file that holds weights only
    #[arg(long, value_name = "FILE")]
    keras_json: Option<PathBuf>,
    /// Names of the classes
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    labels: Option<Vec<String>>,
    /// Of a network on pairs: the model whose embeddings it reads, as seen from the new directory
    #[arg(long, value_name = "DIR")]
    encoder: Option<String>,
    /// Of a network on pairs: the smallest and the largest number of all embeddings at training
    #[arg(long, value_name = "MIN,MAX", value_delimiter = ',', allow_hyphen_values = true)]
    embedding_range: Option<Vec<f32>>,
}

/// Show architecture, window, classes, parameters and digest of a model directory
#[derive(clap::Args)]
struct InfoArgs {
    /// The model directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Make of a SigTFB model the one that leaves out one filter after another (`-o DIR`)
///
/// What stands for a filter that is left out is the mean of its map over reference sequences: the rows of a
/// stream, such as the training set. The new model has a logit for each filter and class, so that the
/// influence of a filter is the model's logit minus the one without it.
///
/// Example: nyx-extract sequences train.csv | nyx-model influence ctcf/ -o ctcf-filters/
#[derive(clap::Args)]
struct InfluenceArgs {
    /// The model directory: CNN_Multilabel or Net_Stage2
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The reference sequences: rows; those that the model cannot read are left out
    #[arg(value_name = "INPUT", default_value = "-")]
    input: PathBuf,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(|Args { common, command }| match command {
        Command::Convert(args) => run_convert(&args, &common),
        Command::Info(args) => run_info(&args, &common),
        Command::Influence(args) => run_influence(&args, &common),
    })
}

/// Refuses to write a directory to standard output.
fn require_directory(common: &Common) -> Result<()> {
    match common.output == Path::new("-") {
        true => Err(Error::usage("a model is a directory: say where with -o DIR")),
        false => Ok(()),
    }
}

fn run_convert(args: &ConvertArgs, common: &Common) -> Result<()> {
    require_directory(common)?;
    let hints = Hints {
        architecture: args.architecture.as_deref(),
        keras_json: args.keras_json.as_deref(),
        labels: args.labels.clone(),
        encoder: args.encoder.as_deref(),
        range: match args.embedding_range.as_deref() {
            Some(&[minimum, maximum]) => Some(Range { minimum, maximum }),
            Some(_) => return Err(Error::usage("--embedding-range takes two numbers: MIN,MAX")),
            None => None,
        },
    };
    let converted = convert::read(&args.source, &hints)?;
    convert::write(&converted, &common.output)?;
    common.say(&format!("{}: {}", common.output.display(), converted.config.architecture()));
    Ok(())
}

fn run_influence(args: &InfluenceArgs, common: &Common) -> Result<()> {
    require_directory(common)?;
    let config = Config::read(&args.directory)?;
    let weights = Weights::read(&args.directory.join("model.safetensors"))?;
    let mut means = FilterMeans::new(&config, &weights).in_file(&args.directory)?;
    for batch in common.open(&args.input)?.into_parts().1 {
        means.add(&Rows::select(&batch?, Some(means.window()))?.sequences())?;
    }
    common.say(&format!("means over {} sequences", means.sequences()));
    let model = means.into_model(config, weights).in_file(&args.input)?;
    convert::write(&model, &common.output)
}

fn run_info(args: &InfoArgs, common: &Common) -> Result<()> {
    let loaded = model::load(&args.directory, &Device::Cpu)?;
    let weights = Weights::open(&args.directory)?;
    let parameters: usize = weights.parameters();
    let (window, labels) = (loaded.model.window(), loaded.model.labels());
    let text = if args.json {
        let object = serde_json::json!({
            "architecture": loaded.architecture,
            "window": window,
            "labels": labels,
            "parameters": parameters,
            "digest": loaded.digest,
        });
        format!("{object}\n")
    } else {
        format!(
            "architecture\t{}\nwindow\t{}\nclasses\t{}\nlabels\t{}\nparameters\t{parameters}\ndigest\tsha256:{}\n",
            loaded.architecture,
            window.map_or("any".into(), |bases| bases.to_string()),
            labels.len(),
            labels.join(","),
            loaded.digest,
        )
    };
    let mut output = nyx::output::Output::create(&common.output)?;
    output.write_all(text.as_bytes())?;
    output.commit()
}
