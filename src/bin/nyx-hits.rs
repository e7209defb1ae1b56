//! nyx-hits: contributions and motifs → motif instances.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::{Parser, ValueEnum};
use nyx::cli::{self, Common};
use nyx::device::DeviceChoice;
use nyx::error::{Error, Result};
use nyx::extract::contribs;
use nyx::hits::files::Files;
use nyx::hits::fit::{Settings, Solver};
use nyx::hits::stage::{self, Called, Options};
use nyx::hits::{Mode, stage::RegionStatus};
use nyx::input::read_text;
use nyx::motif::filters::{Choice, MotifSet, build};
use nyx::motif::{self, lists};
use nyx::pipe::Pipe;
use serde_json::{Map, Value, json};

/// Regions in a batch unless the user says otherwise.
const BATCH: usize = 256;
/// The same for a GPU, which has many blocks to keep busy.
const BATCH_CUDA: usize = 4096;

/// Call motif instances in contributions: a non-negative lasso explains them as a sum of CWMs (Fi-NeMo's model).
///
/// Reads regions with their `sequence` and `contributions` or `hypothetical`, writes one row per hit. Flags have
/// Fi-NeMo's letters and defaults, except that its -q is only `--sqrt-transform` and its -o `--outdir`. Hits of a
/// batch leave as soon as they are found, in the order of the regions.
///
/// Example: nyx-attrib rows.arrows --model ctcf/ | nyx-hits -m modisco.h5 --outdir hits/ > hits.arrows
#[derive(Parser)]
#[command(name = "nyx-hits", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Regions with contributions: an Arrow stream, Arrow or Parquet file; `-` is standard input
    #[arg(value_name = "INPUT", default_value = "-", conflicts_with = "regions")]
    input: PathBuf,
    /// A regions file of Fi-NeMo (.npz) instead of INPUT
    #[arg(short, long, value_name = "NPZ")]
    regions: Option<PathBuf>,
    /// The peaks of --regions, narrowPeak: their coordinates instead of those in the file
    #[arg(short, long, value_name = "FILE")]
    peaks: Option<PathBuf>,
    /// Motifs: HDF5 of tfmodisco-lite, MEME text, or an .npy array of CWMs (M, 4, W)
    ///
    /// MEME probabilities become CWMs as the letter heights of a logo: probability times the information
    /// content of the column against the file's background.
    #[arg(short, long, value_name = "FILE", alias = "modisco-h5")]
    motifs: PathBuf,
    /// CWMs, then contributions: p projected on the sequence, h hypothetical
    #[arg(short = 'M', long, value_enum, value_name = "MODE", default_value_t = ModeArg::Pp)]
    mode: ModeArg,
    /// Use only the motifs in the first column of this list
    #[arg(short = 'I', long, value_name = "FILE")]
    motifs_include: Option<PathBuf>,
    /// Table of motif and name to show
    #[arg(short = 'N', long, value_name = "FILE")]
    motif_names: Option<PathBuf>,
    /// Fraction of a CWM's largest column at which it is trimmed
    #[arg(short, long, value_name = "FRACTION", default_value_t = 0.3, alias = "cwm-trim-threshold")]
    trim_threshold: f64,
    /// Table of motif and trim threshold
    #[arg(short = 'T', long, value_name = "FILE", alias = "cwm-trim-thresholds")]
    trim_thresholds: Option<PathBuf>,
    /// Table of motif, start and end of its trimmed span; wins over thresholds
    #[arg(short = 'R', long, value_name = "FILE", alias = "cwm-trim-coords")]
    trim_coords: Option<PathBuf>,
    /// Penalty, a threshold on the cosine of CWM and contributions
    #[arg(short, long, value_name = "LAMBDA", default_value_t = 0.7, alias = "global-lambda")]
    lambda: f64,
    /// Table of motif and lambda
    #[arg(short = 'L', long, value_name = "FILE")]
    motif_lambdas: Option<PathBuf>,
    /// Fi-NeMo's old name of --lambda
    #[arg(short, long, value_name = "LAMBDA", hide = true)]
    alpha: Option<f64>,
    /// Fi-NeMo's old name of --motif-lambdas
    #[arg(short = 'A', long, value_name = "FILE", hide = true)]
    motif_alphas: Option<PathBuf>,
    /// Keep hits whose similarity is below lambda
    #[arg(short = 'f', long)]
    no_post_filter: bool,
    /// Take signed square roots of CWMs and contributions (Fi-NeMo's -q)
    #[arg(long)]
    sqrt_transform: bool,
    /// Step size at the start
    #[arg(short, long, value_name = "STEP", default_value_t = 3.0)]
    step_size_max: f64,
    /// Step size below which a region has failed
    #[arg(short = 'i', long, value_name = "STEP", default_value_t = 0.08)]
    step_size_min: f64,
    /// Factor of the step size after a divergence
    #[arg(short = 'j', long, value_name = "FACTOR", default_value_t = 0.7)]
    step_adjust: f64,
    /// Duality gap over region length at which a region is done [default: 0.0005 for the proximal gradient, as in
    /// Fi-NeMo; 1e-8 for the active set, which gets there at no more cost]
    #[arg(short, long, value_name = "GAP", visible_alias = "tol")]
    convergence_tol: Option<f64>,
    /// Steps after which a region is given up
    #[arg(short = 'S', long, value_name = "N", default_value_t = 10_000)]
    max_steps: u32,
    /// How coefficients are found
    #[arg(long, value_enum, value_name = "SOLVER", default_value_t)]
    solver: SolverArg,
    /// Fi-NeMo's own numbers: half precision, its stopping formula, its similarity, its table look-ups
    ///
    /// A region is one problem then, of at most 2^29 places (filters times positions, the filters rounded up to
    /// sixteens): 4.8 million bases with 100 filters, 896 bytes of memory each. Without it a region may have any
    /// length.
    #[arg(long)]
    compat: bool,
    /// Fail on the first region that does not converge
    #[arg(long)]
    strict: bool,
    /// Write Fi-NeMo's files into this directory, too
    ///
    /// They are sorted by position, so the hits wait in memory until the last region. The step size in peaks_qc.tsv
    /// is NaN for the active set, which has none, and its steps are passes over the region.
    #[arg(long, value_name = "DIR", alias = "out-dir")]
    outdir: Option<PathBuf>,
    /// List of contigs in the order in which --outdir sorts them
    #[arg(short = 'C', long, value_name = "FILE", requires = "outdir")]
    chrom_order: Option<PathBuf>,
    /// Where to compute: auto (the processor), cpu, cuda or cuda:N. The GPU's kernel is written and its logic
    /// tested on the processor, but it has not run on a GPU yet
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Fi-NeMo's letter of --batch-size
    #[arg(short, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Fi-NeMo's torch.compile: nothing is left to compile
    #[arg(short = 'J', long, hide = true)]
    compile: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    Pp,
    Ph,
    Hp,
    Hh,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Pp => Self::Pp,
            ModeArg::Ph => Self::Ph,
            ModeArg::Hp => Self::Hp,
            ModeArg::Hh => Self::Hh,
        }
    }
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum SolverArg {
    /// The active set, or with --compat the proximal gradient. Both find what is planted about equally well
    /// (benches/hits.md); the active set is ten times as fast and its answer depends on no stopping rule
    #[default]
    Auto,
    /// Exact and fast: coefficients with a certified duality gap
    ActiveSet,
    /// Accelerated proximal gradient, Fi-NeMo's iteration
    Proxgrad,
}

impl From<SolverArg> for Solver {
    fn from(solver: SolverArg) -> Self {
        match solver {
            SolverArg::Auto => Self::Auto,
            SolverArg::ActiveSet => Self::ActiveSet,
            SolverArg::Proxgrad => Self::Proxgrad,
        }
    }
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.check()?;
    if args.alpha.is_some() || args.motif_alphas.is_some() {
        args.common.say("--alpha and --motif-alphas are now --lambda and --motif-lambdas");
    }
    let motifs = Arc::new(args.motif_set()?);
    let chrom_order = args.chrom_order()?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = args.outdir.is_some().then(|| seen.clone());
    let watch = move |called: Vec<Called>| {
        if let Some(record) = &record {
            record.lock().expect("one thread records").extend(called);
        }
    };
    let device = args.device.open()?;
    let (pipe, summary) = stage::call_on(device, args.open()?, motifs.clone(), args.options(), watch)?;
    if args.outdir.is_some() && args.common.output == Path::new("-") && std::io::stdout().is_terminal() {
        // The files are what is wanted; a stream on a terminal would be an error.
        pipe.into_parts().1.try_for_each(|batch| batch.map(drop))?;
    } else {
        let mut step = args.common.step();
        step.device = Some(if args.on_gpu() { args.device.to_string() } else { "cpu".into() });
        step.dtype = Some("f32".into());
        args.common.write(pipe, step)?;
    }
    if let Some(directory) = &args.outdir {
        let regions = seen.lock().expect("one thread records");
        let files =
            Files { regions: &regions, motifs: &motifs, chrom_order: &chrom_order, compat: args.compat };
        files.write(directory, args.parameters())?;
    }
    let summary = summary.lock().expect("the stage has ended");
    args.common.say(&summary.to_string());
    if let Some(unsure) = unconverged(&summary.statuses) {
        args.common.say(&unsure);
    }
    Ok(())
}

/// Returns a warning when some regions have not converged.
fn unconverged(statuses: &BTreeMap<RegionStatus, u64>) -> Option<String> {
    let count: u64 = statuses.iter().filter(|(status, _)| !status.converged()).map(|(_, count)| count).sum();
    let advice = "raise --max-steps or --convergence-tol, or --strict to fail on them";
    (count > 0).then(|| format!("warning: {count} regions have not converged: {advice}"))
}

impl Args {
    fn open(&self) -> Result<Pipe> {
        let rows = self.batch_rows();
        if let Some(file) = &self.regions {
            let (arrays, mut windows, width) = contribs::finemo_regions(file, None)?;
            if let Some(peaks) = &self.peaks {
                windows = Some(contribs::around_summits(peaks, width)?);
            }
            return Ok(contribs::from_arrays(arrays, windows, width, None, rows)?.ahead(2));
        }
        let pipe = self.common.open(&self.input)?;
        // Without a wish batches are as they come: hits of a slow producer need not wait for a batch to fill.
        let wish = self.batch.or(self.common.batch_size);
        Ok(if wish.is_some() || self.on_gpu() { pipe.rebatch(rows) } else { pipe.cut(rows) })
    }

    fn batch_rows(&self) -> usize {
        let default = if self.on_gpu() { BATCH_CUDA } else { BATCH };
        self.batch.map_or(self.common.batch_rows(default), |rows| rows as usize)
    }

    fn on_gpu(&self) -> bool {
        matches!(self.device, DeviceChoice::Cuda(_))
    }

    fn tolerance(&self) -> f64 {
        self.convergence_tol.unwrap_or(Solver::from(self.solver).tolerance(self.compat))
    }

    fn lambda(&self) -> f64 {
        self.alpha.unwrap_or(self.lambda)
    }

    fn lambdas(&self) -> Option<&Path> {
        self.motif_alphas.as_deref().or(self.motif_lambdas.as_deref())
    }

    fn check(&self) -> Result<()> {
        let table = self.outdir.as_ref().map(|folder| folder.join("hits.tsv"));
        self.common.check_outputs(&[("--outdir's hits.tsv", table.as_deref())])?;
        let positive = [
            ("--step-size-max", self.step_size_max),
            ("--step-size-min", self.step_size_min),
            ("--convergence-tol", self.tolerance()),
        ];
        if let Some((flag, value)) = positive.iter().find(|(_, value)| !(*value > 0.0 && value.is_finite())) {
            return Err(Error::usage(format!("{flag} {value}: it must be above 0")));
        }
        if self.peaks.is_some() && self.regions.is_none() {
            return Err(Error::usage("--peaks belongs to --regions: rows of INPUT have their coordinates"));
        }
        if self.compat && matches!(self.solver, SolverArg::ActiveSet) {
            return Err(Error::usage(
                "--compat is Fi-NeMo's iteration: leave out --solver active-set, or ask for --solver proxgrad",
            ));
        }
        if self.on_gpu() && (self.compat || matches!(self.solver, SolverArg::Proxgrad)) {
            return Err(Error::usage(
                "--device cuda has the active set alone: leave out --compat and --solver proxgrad, or use --device cpu",
            ));
        }
        if !(self.step_adjust > 0.0 && self.step_adjust < 1.0) {
            return Err(Error::usage(format!(
                "--step-adjust {}: it must lie between 0 and 1",
                self.step_adjust
            )));
        }
        let lambda = self.lambda();
        if !(lambda >= 0.0 && lambda.is_finite()) {
            return Err(Error::usage(format!("--lambda {lambda}: it must be at least 0")));
        }
        if !(0.0..=1.0).contains(&self.trim_threshold) {
            return Err(Error::usage("--trim-threshold must lie between 0 and 1"));
        }
        Ok(())
    }

    fn motif_set(&self) -> Result<MotifSet> {
        let choice = Choice {
            hypothetical: Mode::from(self.mode).hypothetical_motifs(),
            trim_threshold: self.trim_threshold,
            lambda: self.lambda(),
            include: self.motifs_include.as_deref().map(lists::read_tags).transpose()?,
            names: table(self.motif_names.as_deref(), lists::read_table)?,
            lambdas: table(self.lambdas(), lists::read_table)?,
            trim_thresholds: table(self.trim_thresholds.as_deref(), lists::read_table)?,
            trim_spans: table(self.trim_coords.as_deref(), lists::read_spans)?,
            compat: self.compat,
        };
        let set = motif::read(&self.motifs)
            .and_then(|patterns| build(&patterns, &choice))
            .map_err(|error| name_file(error, &self.motifs))?;
        if self.compat && set.motifs.iter().any(|motif| motif.lambda == 0.0) {
            return Err(Error::usage(
                "--compat with a lambda of 0: Fi-NeMo's stopping formula divides by it",
            ));
        }
        Ok(set)
    }

    fn chrom_order(&self) -> Result<Vec<String>> {
        let Some(path) = &self.chrom_order else { return Ok(Vec::new()) };
        let text = read_text(path)?;
        let names = text.lines().map(|line| line.split('\t').next().unwrap_or(line).trim());
        Ok(names.filter(|name| !name.is_empty()).map(str::to_string).collect())
    }

    fn options(&self) -> Options {
        Options {
            mode: self.mode.into(),
            square_root: self.sqrt_transform,
            keep_dissimilar: self.no_post_filter,
            strict: self.strict,
            settings: Settings {
                solver: self.solver.into(),
                step_size_max: self.step_size_max as f32,
                step_size_min: self.step_size_min as f32,
                step_adjust: self.step_adjust as f32,
                tolerance: self.tolerance(),
                max_steps: self.max_steps,
                compat: self.compat,
            },
        }
    }

    /// Returns Fi-NeMo's keys of `parameters.json`, up to those that depend on the data.
    fn parameters(&self) -> Map<String, Value> {
        let parameters = json!({
            "regions_path": self.regions.as_ref().unwrap_or(&self.input),
            "peaks_path": self.peaks,
            "modisco_h5_path": self.motifs,
            "chrom_order_path": self.chrom_order,
            "motifs_include_path": self.motifs_include,
            "motif_names_path": self.motif_names,
            "motif_lambdas_path": self.lambdas(),
            "out_dir": self.outdir,
            "cwm_trim_coords_path": self.trim_coords,
            "cwm_trim_thresholds_path": self.trim_thresholds,
            "cwm_trim_threshold_default": self.trim_threshold,
            "lambda_default": self.lambda(),
            "step_size_max": self.step_size_max,
            "step_size_min": self.step_size_min,
            "sqrt_transform": self.sqrt_transform,
            "convergence_tol": self.tolerance(),
            "max_steps": self.max_steps,
            "batch_size": self.batch_rows(),
            "step_adjust": self.step_adjust,
            "device": null,
            "mode": Mode::from(self.mode).as_str(),
            "no_post_filter": self.no_post_filter,
            "compile_optimizer": self.compile,
        });
        match parameters {
            Value::Object(map) => map,
            _ => unreachable!("an object was written above"),
        }
    }
}

/// Reads a table of motifs, if there is one.
fn table<T>(
    path: Option<&Path>,
    read: impl FnOnce(&Path) -> Result<lists::Table<T>>,
) -> Result<lists::Table<T>> {
    path.map_or(Ok(lists::Table::new()), read)
}

/// Names the file of motifs in an error that does not name it yet.
fn name_file(error: Error, path: &Path) -> Error {
    let name = path.display().to_string();
    if error.to_string().contains(&name) { error } else { error.at(name) }
}
