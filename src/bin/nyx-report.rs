//! nyx-report: contributions and hits → one HTML page, and Fi-NeMo's tables beside it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use nyx::cli::{self, Common};
use nyx::error::InFile;
use nyx::extract::contribs;
use nyx::motif::instance::Vocabulary;
use nyx::motif::{self, modisco};
use nyx::pipe::Pipe;
use nyx::report::gather::{self, Gathered, Inputs, Options};
use nyx::report::hit_table::{HitTable, Rows};
use nyx::report::known::{self, Known};
use nyx::report::{folder, page};
use nyx::{Result, input, output};

/// Show motif hits and the contributions they were called on, in one HTML page that opens without a network.
///
/// With the HDF5 file of TF-MoDISco hits are compared with its seqlets. -o names the page (NAME.html or `-`),
/// or a folder for the page and Fi-NeMo's tables, matrices and pictures. Contributions are read once; hits are
/// held in memory, so they may be in any order.
///
/// Example: nyx-report -r rows.arrows -H hits.arrows -m modisco.h5 -o report.html
#[derive(Parser)]
#[command(name = "nyx-report", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Rows with contributions (an Arrow stream, an Arrow file, a Parquet file), or Fi-NeMo's regions.npz
    #[arg(short = 'r', long, value_name = "ROWS", visible_alias = "contributions")]
    regions: PathBuf,
    /// The hits that were called on them: a stream, a hits.tsv, or the folder of `nyx-hits --outdir` or Fi-NeMo. Without
    /// them the page shows the contributions alone
    #[arg(short = 'H', long, value_name = "HITS")]
    hits: Option<PathBuf>,
    /// The motifs that were called: the HDF5 file of TF-MoDISco (with seqlets), MEME or CWMs as npy
    #[arg(short = 'm', long, value_name = "FILE", visible_alias = "modisco-h5")]
    motifs: Option<PathBuf>,
    /// Folder for the page, tables, matrices and pictures, when -o names another page
    #[arg(long, value_name = "DIR", visible_alias = "out-dir")]
    outdir: Option<PathBuf>,
    /// Width of the windows that TF-MoDISco looked at (its -w) [default: 400, or that of narrower regions]
    #[arg(short = 'W', long, value_name = "BASES")]
    modisco_region_width: Option<u32>,
    /// Do not compare hits with seqlets one by one
    #[arg(short, long)]
    no_recall: bool,
    /// Fraction of the largest column at which motifs were trimmed, where the hits' folder does not say
    #[arg(short = 't', long, value_name = "FRACTION", default_value_t = 0.3)]
    cwm_trim_threshold: f64,
    /// Regions to show base by base: those with the largest coefficients
    #[arg(long, value_name = "N", default_value_t = 12)]
    top: usize,
    /// Show the regions with the largest sums of absolute contributions instead, hits or not (as without hits)
    #[arg(long)]
    by_contributions: bool,
    /// Do as Fi-NeMo 0.41: confusion of binned coordinates, no regions without hits in the tables
    #[arg(long)]
    compat: bool,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn run(args: Args) -> Result<()> {
    let hits_folder = args.hits.as_deref().filter(|hits| hits.is_dir());
    let (known, seqlets) = motifs(&args, hits_folder)?;
    let mut vocabulary = Vocabulary::default();
    for known in &known {
        vocabulary.motifs.number(known.name.as_str());
    }
    let hits = match &args.hits {
        Some(hits) => {
            let path = hits_folder.map_or(hits.clone(), |folder| folder.join("hits.tsv"));
            let table = HitTable::read(&path, &mut vocabulary)?;
            // The history of the page is that of the hits, where they have one.
            if matches!(table.rows, Rows::Batch(_)) {
                args.common.reads(&path);
            }
            table
        }
        None => HitTable::none(),
    };
    let inputs = Inputs { hits: &hits, known: &known, seqlets: seqlets.as_deref() };
    let options = Options {
        top: args.top,
        modisco_width: args.modisco_region_width.map(|width| width as usize),
        recall: !args.no_recall,
        compat: args.compat,
        by_contributions: args.by_contributions || args.hits.is_none(),
    };
    let place = args.hits.as_deref().unwrap_or(&args.regions);
    let gathered = gather::gather(regions(&args)?, &inputs, &mut vocabulary, options).in_file(place)?;
    let parameters = hits_folder.map(parameters).transpose()?.unwrap_or_default();
    let html = page::page(&gathered, &args.common.step(), &parameters);
    write(&args, &gathered, &html, vocabulary.chroms.values())?;
    let (hits, regions) = (gathered.hits, gathered.regions);
    args.common.say(&format!("{hits} hits in {regions} regions"));
    if gathered.lost_seqlets > 0 {
        args.common.say(&format!("{} seqlets lie in regions that are not here", gathered.lost_seqlets));
    }
    Ok(())
}

/// Reads the motifs that hits were called with, and their seqlets where the file has them.
fn motifs(args: &Args, folder: Option<&Path>) -> Result<(Vec<Known>, Option<Vec<modisco::Seqlet>>)> {
    let patterns = args.motifs.as_deref().map(motif::read).transpose()?.unwrap_or_default();
    let known = match folder {
        Some(folder) => known::read_folder(folder)?,
        None => patterns.iter().map(|pattern| Known::of(pattern, args.cwm_trim_threshold)).collect(),
    };
    let Some(path) = &args.motifs else { return Ok((known, None)) };
    if patterns.iter().all(|pattern| pattern.hypothetical.is_none()) {
        return Ok((known, None));
    }
    // Motifs that were not called have no place in the report; others may have new names.
    let mut seqlets = modisco::read_seqlets(path, &patterns)?;
    let called = |pattern: usize| known.iter().position(|known| known.tag == patterns[pattern].tag);
    seqlets.retain_mut(|seqlet| match called(seqlet.pattern) {
        Some(index) => {
            seqlet.pattern = index;
            true
        }
        None => false,
    });
    Ok((known, Some(seqlets).filter(|seqlets| !seqlets.is_empty())))
}

/// Opens a stream of contributions or Fi-NeMo's regions.
fn regions(args: &Args) -> Result<Pipe> {
    let archive = args.regions.extension().is_some_and(|extension| extension == "npz");
    if !archive {
        return args.common.open(&args.regions);
    }
    let (arrays, windows, width) = contribs::finemo_regions(&args.regions, None)?;
    Ok(contribs::from_arrays(arrays, windows, width, None, args.common.batch_rows(256))?.ahead(2))
}

/// Reads the settings that the hit caller has left in its folder.
fn parameters(folder: &Path) -> Result<Vec<(String, String)>> {
    let path = folder.join("parameters.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let values: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&input::read_text(&path)?).in_file(&path)?;
    let shown = values.into_iter().filter(|(_, value)| !value.is_null());
    Ok(shown.map(|(name, value)| (name, value.as_str().map_or(value.to_string(), str::to_string))).collect())
}

/// Writes the page where -o says, or everything into a folder.
fn write(args: &Args, gathered: &Gathered, html: &str, chroms: &[String]) -> Result<()> {
    let page = names_a_page(&args.common.output);
    let folders = [args.outdir.as_deref(), (!page).then_some(args.common.output.as_path())];
    for folder in folders.into_iter().flatten() {
        folder::write(folder, gathered, html, chroms, args.compat)?;
    }
    // With a folder only, nobody asked for a page on standard output.
    let default = args.common.output == Path::new("-") && args.outdir.is_some();
    if page && !default {
        output::write_file(&args.common.output, html.as_bytes())?;
    }
    Ok(())
}

fn names_a_page(path: &Path) -> bool {
    let name = path.extension().is_some_and(|extension| extension == "html" || extension == "htm");
    name || path == Path::new("-") || (path.exists() && !path.is_dir())
}

fn main() -> ExitCode {
    cli::main(run)
}
