//! nyx-attrib: rows → per-base contributions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::attrib::{self, Completeness, Method};
use nyx::cli::{self, AttribArgs, Common, ModelArgs, Plain};
use nyx::model::{Attentions, Wanted};
use nyx::{Result, score};

/// Add per-base contributions to one logit of a model to every row.
///
/// ism: every base replaced by the three others, minus the mean over the four bases (or minus the sequence
/// as it is, `--ism-center reference`). saliency: the absolute gradient. gradxinput: the gradient, whose
/// value at the observed base is the contribution; `delta` is its completeness error. ig, deeplift: integrated
/// gradients, and DeepLIFT's rescale rule, which share out what the logit differs from that of a --background;
/// `delta` is how far the contributions miss it: both share it out to rounding, ig with any number of steps, which are
/// tripled until the contributions settle. Language models are explained by the embeddings of their tokens, whose scores
/// are shared out to their bases. `N` contributes 0. attention, rollout: what the first token of a language model
/// attends to, in one layer or through all of them, for each base (`attention`); several models, such as DNABERT's
/// four k, are added up.
///
/// Example: nyx-extract regions --fasta hg38.fa --peaks p.narrowPeak | nyx-attrib --model ctcf/ --method ism | nyx-hits --motifs m.meme
#[derive(Parser)]
#[command(name = "nyx-attrib", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    models: ModelArgs,
    /// How: ism, saliency, gradxinput, ig, deeplift; of language models also attention or rollout
    #[arg(long, value_name = "METHOD")]
    method: Method,
    #[command(flatten)]
    attrib: AttribArgs,
    /// Layers whose attention is read, from 0 and by comma (default: the last; for rollout, all)
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    layers: Vec<usize>,
    /// Columns that later stages do not need, by comma
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    drop: Vec<String>,
    /// The rows: an Arrow stream, an Arrow file or a Parquet file; `-` is standard input
    #[arg(default_value = "-")]
    input: PathBuf,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn run(args: Args) -> Result<()> {
    // A model without classes has attentions all the same.
    let alone = args.method.is_attention() && args.models.model.len() == 1;
    let wanted = Wanted { attentions: alone.then_some(Attentions::Cls), ..Wanted::default() };
    let models = args.models.load_for(wanted, None)?;
    models.warnings().iter().for_each(|warning| args.common.say(&format!("warning: {warning}")));
    let plain = Plain { strict: args.models.strict, seed: args.common.seed, layers: &args.layers };
    let options = args.attrib.options(args.method, &models, plain)?;
    let rows = args.common.open(&args.input)?.rebatch(args.common.batch_rows(cli::ATTRIB_ROWS));
    let completeness = Completeness::default();
    let pipe = completeness.watch(attrib::attrib(rows, models.clone(), options)?);
    let pipe = score::drop_columns(pipe, &args.drop)?;
    args.common.write(pipe, args.models.step(&args.common, &models))?;
    args.attrib.say(&args.common, &completeness);
    Ok(())
}

fn main() -> ExitCode {
    cli::main(run)
}
