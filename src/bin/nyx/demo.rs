//! `nyx demo`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nyx::demo::genome::{Instance, Synthetic, plantings, synthesize};
use nyx::demo::recall::{self, Agreement};
use nyx::demo::{self, text};
use nyx::error::InFile;
use nyx::hits::table::MOTIF_NAME;
use nyx::schema::{self, CHROM, END, START, STRAND};
use nyx::{Error, Result, input, output};

use super::pipeline::{self, Stage};
use super::siblings;

/// The demo fails when fewer planted instances than this share are found.
const RECALL_LEAST: f64 = 0.8;
/// The demo fails when a smaller share of the hits than this is right.
const PRECISION_LEAST: f64 = 0.6;

/// Run the whole pipeline on data this program makes itself, and compare the hits with what was planted.
///
/// Writes a synthetic genome, peaks, a small trained network and motifs, runs the commands (and shows them, to
/// be copied), and leaves contributions, hits, a bigWig, a BED and an HTML page in the directory.
#[derive(clap::Args)]
pub struct Args {
    /// Directory for all files; made if missing, the demo's own files in it are replaced
    #[arg(long, value_name = "DIR", default_value = "nyx-demo")]
    outdir: PathBuf,
    /// Write the data (genome, peaks, truth, model, motifs) and run nothing
    #[arg(long)]
    data_only: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let genome = synthesize(demo::SEED);
    write_data(&args.outdir, &genome)?;
    if args.data_only {
        return Ok(());
    }
    say(&introduction(&args.outdir, &genome))?;
    for stages in story() {
        say(&format!("$ {}\n", pipeline::shown(&stages)))?;
        pipeline::run(&stages, &args.outdir)?;
    }
    let hits = read_hits(&args.outdir.join("hits.arrows"))?;
    let names: Vec<String> = plantings().into_iter().map(|planting| planting.name).collect();
    let mut agreements = recall::compare(&names, &genome.planted, &hits);
    agreements.push(recall::total(&agreements));
    say(&table(&agreements))?;
    say(&places(&args.outdir, began.elapsed().as_secs_f64()))?;
    verdict(agreements.last().expect("the total was added"))
}

/// Writes genome, peaks, truth, model and motifs.
fn write_data(directory: &Path, genome: &Synthetic) -> Result<()> {
    let model = directory.join("model");
    std::fs::create_dir_all(&model).in_file(&model)?;
    output::write_file(&directory.join("genome.fa"), text::fasta(genome).as_bytes())?;
    output::write_file(&directory.join("peaks.narrowPeak"), text::narrow_peaks(genome).as_bytes())?;
    output::write_file(&directory.join("truth.bed"), text::truth_bed(genome).as_bytes())?;
    output::write_file(&directory.join("motifs.meme"), demo::MOTIFS.as_bytes())?;
    output::write_file(&model.join("config.json"), demo::MODEL_CONFIG.as_bytes())?;
    output::write_file(&model.join("model.safetensors"), demo::MODEL_WEIGHTS)
}

/// Returns the commands of the demo, run in its directory one after another.
fn story() -> Vec<Vec<Stage>> {
    let width = demo::WINDOW.to_string();
    let stage = Stage::new;
    vec![
        vec![
            stage(&[
                "nyx-extract",
                "regions",
                "--fasta",
                "genome.fa",
                "--peaks",
                "peaks.narrowPeak",
                "--width",
                &width,
            ]),
            stage(&["nyx-score", "--model", "model", "--attrib", "ism"]),
            stage(&["tee", "contributions.arrows"]),
            stage(&["nyx-hits", "--motifs", "motifs.meme", "--outdir", "hits", "-o", "hits.arrows"]),
        ],
        vec![stage(&[
            "nyx-view",
            "-O",
            "bigwig",
            "--value",
            "contributions",
            "-o",
            "contributions.bw",
            "contributions.arrows",
        ])],
        vec![stage(&["nyx-view", "-O", "bed", "-o", "hits.bed", "hits.arrows"])],
        vec![stage(&[
            "nyx-report",
            "--contributions",
            "contributions.arrows",
            "--hits",
            "hits.arrows",
            "--motifs",
            "motifs.meme",
            "-o",
            "report.html",
        ])],
    ]
}

fn introduction(directory: &Path, genome: &Synthetic) -> String {
    let bases: usize = genome.contigs.iter().map(|(_, bases)| bases.len()).sum();
    let holding = genome.peaks.iter().filter(|peak| peak.instances > 0).count();
    let mut text = format!(
        "A synthetic genome of {bases} bases with {} peaks; {} motif instances are planted in {holding} of them.\n\
         A small network has learnt to tell such peaks from background; it has never seen this genome.\n\n",
        genome.peaks.len(),
        genome.planted.len(),
    );
    if let Some(own) = siblings::own_directory().filter(|own| !on_path(own)) {
        text += &format!("$ export PATH={}:$PATH\n", nyx::cli::shell_quote(&own.display().to_string()));
    }
    text + &format!("$ cd {}\n", nyx::cli::shell_quote(&directory.display().to_string()))
}

fn on_path(directory: &Path) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|entry| entry == directory)
}

/// Reads the places of hits from a stream. The demo's hits are few.
fn read_hits(path: &Path) -> Result<Vec<Instance>> {
    let mut hits = Vec::new();
    for batch in input::open_pipe(path)?.into_parts().1 {
        let batch = batch.in_file(path)?;
        let (chrom, strand) = (schema::strings(&batch, CHROM)?, schema::strings(&batch, STRAND)?);
        let motif = schema::strings(&batch, MOTIF_NAME)?;
        let (start, end) = (schema::i64s(&batch, START)?, schema::i64s(&batch, END)?);
        for row in 0..batch.num_rows() {
            hits.push(Instance {
                chrom: chrom.value(row).into(),
                start: start.value(row).max(0) as usize,
                end: end.value(row).max(0) as usize,
                motif: motif.value(row).into(),
                strand: strand.value(row).parse()?,
            });
        }
    }
    Ok(hits)
}

fn table(agreements: &[Agreement]) -> String {
    let mut text = "\nmotif   planted   found  recall    hits   right  precision\n".to_string();
    for one in agreements {
        text += &format!(
            "{:<6} {:>8} {:>7}  {:>5.1}% {:>7} {:>7}     {:>5.1}%\n",
            one.motif,
            one.planted,
            one.found,
            100.0 * one.recall(),
            one.hits,
            one.right,
            100.0 * one.precision()
        );
    }
    text + "(a hit is right when an instance of its motif was planted there on its strand)\n"
}

fn places(directory: &Path, seconds: f64) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    format!(
        "\n{:<36} the page to open in a browser\n{:<36} tracks for a genome browser, with {}\n{:<36} Fi-NeMo's files\n\
         {:<36} what was planted\n\n{seconds:.1} s\n",
        at("report.html"),
        at("contributions.bw"),
        at("hits.bed"),
        at("hits/"),
        at("truth.bed"),
    )
}

fn verdict(all: &Agreement) -> Result<()> {
    if all.recall() < RECALL_LEAST || all.precision() < PRECISION_LEAST {
        return Err(Error::data(format!(
            "the demo finds too little: recall {:.3} (at least {RECALL_LEAST} is expected), precision {:.3} (at \
             least {PRECISION_LEAST}); this build is broken",
            all.recall(),
            all.precision()
        )));
    }
    Ok(())
}

/// Writes to standard output at once, so that it stays in order with what the commands say.
fn say(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
