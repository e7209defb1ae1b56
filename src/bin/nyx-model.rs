//! nyx-model: weights files of other programs → model directories; what a model directory holds.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::Device;
use clap::{Parser, Subcommand};
use nyx::cli::{self, Common};
use nyx::model::convert::{self, Hints};
use nyx::model::weights::Weights;
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

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(|Args { common, command }| match command {
        Command::Convert(args) => run_convert(&args, &common),
        Command::Info(args) => run_info(&args, &common),
    })
}

fn run_convert(args: &ConvertArgs, common: &Common) -> Result<()> {
    if common.output == Path::new("-") {
        return Err(Error::usage("a model is a directory: say where with -o DIR"));
    }
    let hints = Hints {
        architecture: args.architecture.as_deref(),
        keras_json: args.keras_json.as_deref(),
        labels: args.labels.clone(),
    };
    let converted = convert::read(&args.source, &hints)?;
    convert::write(&converted, &common.output)?;
    common.say(&format!("{}: {}", common.output.display(), converted.config.architecture()));
    Ok(())
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
