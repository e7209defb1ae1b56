//! `nyx-extract mutate`.

use std::path::{Path, PathBuf};

use nyx::Result;
use nyx::cli::Common;
use nyx::extract::mutate::{self, MutationFile, Saturation, Source};
use nyx::extract::windows::BATCH_ROWS;
use nyx::input;
use nyx::provenance::Step;

use crate::shard::{self, ShardArg};

/// In-silico saturation: every sequence of a stream, then the sequence with each base replaced by the three others.
///
/// All rows of a sequence have the same ordinal in the column variant; allele 0 is the sequence as it is. pos, ref and
/// alt name the mutation on the forward strand (`-` in alt: a deletion; in ref: an insertion before pos). N is not
/// mutated. With --mutations the mutants are those of DNABERT's file instead. `nyx-view -O matrix` and `-O heatmap` make
/// a table and pictures of scored rows.
///
/// Example: nyx-extract regions --fasta hg38.fa -r chr1:100-300 | nyx-extract mutate | nyx-score --model m/ | nyx-view -O heatmap -o m.html
#[derive(clap::Args)]
pub struct Args {
    /// Rows with sequences: an Arrow stream, an Arrow file or a Parquet file; `-` is standard input
    #[arg(value_name = "ROWS", default_value = "-")]
    input: PathBuf,
    /// Delete every base, too
    #[arg(long, conflicts_with = "mutations")]
    deletions: bool,
    /// Insert every base before every base, too
    #[arg(long, conflicts_with = "mutations")]
    insertions: bool,
    /// Mutate this many bases in the middle of each sequence (default: all)
    #[arg(long, value_name = "BASES", conflicts_with = "mutations")]
    span: Option<usize>,
    /// The mutations of this file, without header and by tab: number of the sequence (from 0), start, end (0-based,
    /// half-open), allele. An empty allele is a deletion, start = end an insertion
    #[arg(long, value_name = "FILE")]
    mutations: Option<PathBuf>,
    /// Let a mutant be as long as it gets. Otherwise N fills up what a deletion leaves free at the right end, and what an
    /// insertion pushes out is cut off
    #[arg(long)]
    free_width: bool,
    #[command(flatten)]
    shard: ShardArg,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let source = match &args.mutations {
        Some(path) => Source::File(MutationFile::new(input::open_text(path)?, place(path))),
        None => Source::Saturation(Saturation {
            deletions: args.deletions,
            insertions: args.insertions,
            span: args.span,
        }),
    };
    let share = shard::of_rows(args.shard.shard, &args.input)?;
    let within = share.map(|share| share.first..share.end);
    let rows = common.open(&args.input)?;
    let pipe = mutate::mutate(rows, source, within, args.free_width, common.batch_rows(BATCH_ROWS))?;
    common.write(pipe, Step { share, ..common.step() })
}

fn place(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}
