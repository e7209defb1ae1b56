//! `nyx-extract contribs`.

use std::path::PathBuf;

use nyx::cli::Common;
use nyx::extract::contribs::{self, Arrays, Window};
use nyx::genome::Genome;
use nyx::pipe::Pipe;
use nyx::provenance::Step;
use nyx::{Error, Result};

use crate::shard::{self, ShardArg};

/// Bases of a window unless the user says otherwise.
const WIDTH: usize = 1000;

/// Rows with contributions that other tools have written (as Fi-NeMo's extract-regions commands)
///
/// Several files of one kind are averaged. Example:
/// nyx-extract contribs --chrombpnet-h5 a.h5 b.h5 --peaks p.narrowPeak | nyx-hits --motifs modisco.h5
#[derive(clap::Args)]
pub struct Args {
    /// Tracks of projected contributions; needs --fasta and --peaks
    #[arg(long, value_name = "BW", num_args = 1.., group = "source", requires_all = ["fasta", "peaks"])]
    bigwig: Vec<PathBuf>,
    /// ChromBPNet files: raw/seq and shap/seq [n,4,len]
    #[arg(long, value_name = "H5", num_args = 1.., group = "source")]
    chrombpnet_h5: Vec<PathBuf>,
    /// BPNet files: input_seqs and hyp_scores [n,len,4]
    #[arg(long, value_name = "H5", num_args = 1.., group = "source")]
    bpnet_h5: Vec<PathBuf>,
    /// One-hot sequences [n,4,len] as .npy, or arr_0 of .npz; needs --attributions
    #[arg(long, value_name = "NPY", group = "source", requires = "attributions")]
    sequences: Option<PathBuf>,
    /// Attributions [n,4,len] (hypothetical) or [n,len] (projected) as .npy, or arr_0 of .npz
    #[arg(long, value_name = "NPY", num_args = 1.., requires = "sequences")]
    attributions: Vec<PathBuf>,
    /// A regions file of Fi-NeMo
    #[arg(long, value_name = "NPZ", group = "source", conflicts_with = "peaks")]
    regions: Option<PathBuf>,
    /// The peaks the contributions were made from, narrowPeak, in the order of the arrays
    #[arg(short, long, value_name = "FILE")]
    peaks: Option<PathBuf>,
    /// The genome; for arrays with coordinates it checks their sequences
    #[arg(short, long, value_name = "FASTA")]
    fasta: Option<PathBuf>,
    /// Bases of a window around the summit or the center of the arrays; 0 keeps all columns of arrays
    /// [default: 1000, for --regions all]
    #[arg(short, long, value_name = "BASES")]
    width: Option<u32>,
    #[command(flatten)]
    shard: ShardArg,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let batch_rows = common.batch_rows(256);
    let genome = args.fasta.as_deref().map(Genome::open).transpose()?;
    for warning in genome.iter().flat_map(Genome::warnings) {
        common.say(&format!("warning: {warning}"));
    }
    let open = || args.open(genome.clone(), batch_rows);
    let (pipe, share) =
        shard::rows(args.shard.shard, &args.peaks.as_deref().into_iter().collect::<Vec<_>>(), open)?;
    common.write(pipe, Step { share, ..common.step() })
}

impl Args {
    fn open(&self, genome: Option<Genome>, batch_rows: usize) -> Result<Pipe> {
        if !self.bigwig.is_empty() {
            return self.tracks(genome, batch_rows);
        }
        let (arrays, windows, width) = self.arrays()?;
        contribs::from_arrays(arrays, windows, width, genome, batch_rows)
    }

    fn tracks(&self, genome: Option<Genome>, batch_rows: usize) -> Result<Pipe> {
        let (Some(genome), Some(peaks)) = (genome, &self.peaks) else {
            return Err(Error::usage("--bigwig needs --fasta and --peaks"));
        };
        let width = match self.width {
            Some(0) => return Err(Error::usage("--width 0: windows on tracks need a width")),
            width => width.map_or(WIDTH, |width| width as usize),
        };
        let windows = contribs::around_summits(peaks, width)?;
        contribs::from_bigwig(&self.bigwig, genome, windows, width, batch_rows)
    }

    /// Opens the arrays, with the coordinates of their rows and the width to cut them to.
    fn arrays(&self) -> Result<(Arrays, Option<Vec<Window>>, usize)> {
        if let Some(file) = &self.regions {
            let width = self.width.filter(|&width| width > 0).map(|width| width as usize);
            return contribs::finemo_regions(file, width);
        }
        let arrays = if let Some(sequences) = &self.sequences {
            contribs::numpy(sequences, &self.attributions)?
        } else if !self.bpnet_h5.is_empty() {
            contribs::bpnet(&self.bpnet_h5)?
        } else if !self.chrombpnet_h5.is_empty() {
            contribs::chrombpnet(&self.chrombpnet_h5)?
        } else {
            return Err(Error::usage(
                "which contributions? Give --bigwig, --chrombpnet-h5, --bpnet-h5, --sequences or --regions",
            ));
        };
        let width = match self.width {
            Some(0) => arrays.length(),
            width => width.map_or(WIDTH, |width| width as usize),
        };
        let windows = match (&self.peaks, self.bpnet_h5.first()) {
            (Some(peaks), _) => Some(contribs::around_summits(peaks, width)?),
            (None, Some(file)) => contribs::bpnet_windows(file, width)?,
            (None, None) => None,
        };
        Ok((arrays, windows, width))
    }
}
