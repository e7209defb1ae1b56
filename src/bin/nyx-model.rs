//! nyx-model: models of other programs → model directories; what a model directory holds; models of the hub.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::Device;
use clap::{Parser, Subcommand};
use nyx::cli::{self, Common};
use nyx::error::InFile;
use nyx::input::fetch::Hub;
use nyx::input::hub::{self, Located, Repository};
use nyx::kernel::Precision;
use nyx::model::Opened;
use nyx::model::config::Config;
use nyx::model::convert::{self, Hints};
use nyx::model::residual_fcnn::Range;
use nyx::model::sig_tfb::influence::FilterMeans;
use nyx::model::weights::Weights;
use nyx::output::Output;
use nyx::schema::Rows;
use nyx::tokenizer::Tokenizer;
use nyx::{Error, Result, model};
use serde_json::{Value, json};

/// Make model directories from weights of other programs, show what they hold, fetch them.
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
    Fetch(FetchArgs),
    Influence(InfluenceArgs),
}

/// Convert PyTorch, Keras or safetensors weights to a model directory (`-o DIR`)
///
/// Reads state dicts and modules saved by torch.save (.pth, .pt, pytorch_model.bin, of any version), Keras .h5
/// and .safetensors; and whole directories with a config.json, in shards or not. Pickles are read as data:
/// nothing in them is executed.
#[derive(clap::Args)]
struct ConvertArgs {
    /// The weights file, the model directory, or hf://ORG/NAME from the Hugging Face cache
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
    /// LoRA adapter (a PEFT directory) to merge into a model directory
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Of a network on pairs: the model whose embeddings it reads, as seen from the new directory
    #[arg(long, value_name = "DIR")]
    encoder: Option<String>,
    /// Of a network on pairs: the smallest and the largest number of all embeddings at training
    #[arg(long, value_name = "MIN,MAX", value_delimiter = ',', allow_hyphen_values = true)]
    embedding_range: Option<Vec<f32>>,
}

/// Show architecture, window, classes, parameters, number format, digest and tokenizer of a model directory
///
/// What the network leaves unused of the weights is named too. A model that cannot be built is shown as far as
/// it goes, and the exit status says so.
#[derive(clap::Args)]
struct InfoArgs {
    /// The model directory, or hf://ORG/NAME from the Hugging Face cache
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// LoRA adapter (a PEFT directory) to merge before
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Download a model of the Hugging Face hub into its cache, and print the directory
///
/// Brings the config, the weights and the tokenizer, never code, and checks each against what the hub says it
/// is. Honours HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE. No other command of nyx uses the
/// network.
#[derive(clap::Args)]
struct FetchArgs {
    /// hf://ORG/NAME or hf://ORG/NAME@REVISION; several are fetched one after the other
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
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
        Command::Fetch(args) => run_fetch(&args, &common),
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
    let source = hub::locate(&args.source)?;
    let architecture = if source.path.is_dir() {
        convert_directory(args, &source, common)?
    } else {
        convert_file(args, common)?
    };
    common.sign_model()?;
    common.say(&format!("{}: {architecture}", common.output.display()));
    Ok(())
}

fn convert_directory(args: &ConvertArgs, source: &Located, common: &Common) -> Result<String> {
    if args.architecture.is_some() || args.keras_json.is_some() {
        return Err(Error::usage(
            "--architecture and --keras-json are for files: a directory has its config.json",
        ));
    }
    let mut opened = open(source, args.adapter.as_deref(), common)?;
    opened.config.labels = args.labels.clone().or(opened.config.labels);
    convert::write_directory(&opened, &source.path, &common.output)?;
    Ok(opened.config.architecture().into())
}

fn convert_file(args: &ConvertArgs, common: &Common) -> Result<String> {
    if args.adapter.is_some() {
        return Err(Error::usage("--adapter: an adapter belongs to a model directory, not to a file"));
    }
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
    Ok(converted.config.architecture().into())
}

/// Reads a model directory with its adapter, and says what may be wrong with them.
fn open(model: &Located, adapter: Option<&Path>, common: &Common) -> Result<Opened> {
    let mut opened = Opened::read(&model.path)?;
    if let Some(adapter) = adapter {
        opened = opened.adapt(&hub::locate(adapter)?.path, model.base_name())?;
    }
    opened.doubts.iter().for_each(|doubt| common.say(doubt));
    Ok(opened)
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
    convert::write(&model, &common.output)?;
    common.sign_model()
}

fn run_info(args: &InfoArgs, common: &Common) -> Result<()> {
    let located = hub::locate(&args.directory)?;
    let opened = open(&located, args.adapter.as_deref(), common)?;
    let built = opened.build(&Device::Cpu, Precision::F32);
    let loaded = built.as_ref().ok();
    // Not every network reads tokens.
    let tokenizer = Tokenizer::of_model(&opened.path).ok().map(|tokenizer| tokenizer.name());
    let dtypes: Vec<&str> = opened.weights.dtypes().into_iter().map(|dtype| dtype.name()).collect();
    let object = json!({
        "name": located.name,
        "architecture": opened.config.architecture(),
        "window": loaded.and_then(|loaded| loaded.model.window()),
        "labels": loaded.map(|loaded| loaded.model.labels()),
        "parameters": opened.weights.parameters(),
        "dtype": dtypes.join(","),
        "tokenizer": tokenizer,
        "unused": loaded.map(|_| opened.weights.unused()),
        "digest": opened.weights.digest(),
    });
    let mut output = Output::create(&common.output)?;
    output.write_all(if args.json { format!("{object}\n") } else { table(&object) }.as_bytes())?;
    output.commit()?;
    built.map(drop)
}

/// Returns lines of a key, a tab and a value; `?` stands where the network could not be built.
fn table(object: &Value) -> String {
    let text = |key: &str, missing: &str| match &object[key] {
        Value::Null => missing.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    let count = |key: &str| object[key].as_array().map_or("?".into(), |values| values.len().to_string());
    let window = if object["labels"].is_null() { "?" } else { "any" };
    [
        ("architecture", text("architecture", "?")),
        ("window", text("window", window)),
        ("classes", count("labels")),
        ("labels", text("labels", "?")),
        ("parameters", text("parameters", "?")),
        ("dtype", text("dtype", "?")),
        ("tokenizer", text("tokenizer", "none")),
        ("unused", format!("{} tensors {}", count("unused"), text("unused", "")).trim_end().into()),
        ("digest", format!("sha256:{}", text("digest", "?"))),
    ]
    .map(|(key, value)| format!("{key}\t{value}\n"))
    .concat()
}

fn run_fetch(args: &FetchArgs, common: &Common) -> Result<()> {
    let repositories = args.names.iter().map(|name| {
        let message = format!("{name}: a name of the hub is hf://org/name or hf://org/name@revision");
        Repository::parse(name).unwrap_or_else(|| Err(Error::usage(message)))
    });
    let repositories = repositories.collect::<Result<Vec<_>>>()?;
    let hub = Hub::from_environment()?;
    let mut output = Output::create(&common.output)?;
    for repository in &repositories {
        let fetched = hub.fetch(repository, |line| common.say(line))?;
        writeln!(output, "{}", fetched.snapshot.display())?;
    }
    output.commit()
}
