//! nyx-intersect: lists of hits → the hits they have in common.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::cli::{self, Common};
use nyx::motif::instance::intersect::{Sameness, intersect};
use nyx::motif::instance::{Instance, Vocabulary};
use nyx::report::hit_rows::{self, Finished};
use nyx::report::hit_table::{HitTable, Rows};
use nyx::{Result, output};

/// Keep the hits that several runs have in common, with the numbers of each run side by side.
///
/// Two hits are the same when contig, spans, motif, strand and region agree. The output has all columns of
/// the first list and, as NAME_1, NAME_2, …, those of the others in which they may differ; rows are in the
/// order of the first list. All hits are held in memory.
/// Example: nyx-intersect -i a/hits.tsv b/hits.tsv -o both.tsv
#[derive(Parser)]
#[command(name = "nyx-intersect", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Two or more lists in one form: Fi-NeMo's hits.tsv or streams of hits
    #[arg(short = 'i', long, value_name = "HITS", num_args = 1.., required = true)]
    hits: Vec<PathBuf>,
    /// Compare contig, untrimmed span, motif and strand only: for other trims and other regions
    #[arg(short, long)]
    relaxed: bool,
    /// Do as Fi-NeMo 0.41: columns count, count_1, … (always 1), and regions without coordinates mixed
    #[arg(long)]
    compat: bool,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn run(args: Args) -> Result<()> {
    let Args { common, hits, relaxed, compat } = args;
    hits.iter().for_each(|path| common.reads(path));
    let mut vocabulary = Vocabulary::default();
    let tables = hits.iter().map(|path| HitTable::read(path, &mut vocabulary)).collect::<Result<Vec<_>>>()?;
    let sameness = Sameness { relaxed, compat };
    let lists: Vec<&[Instance]> = tables.iter().map(|table| table.hits.as_slice()).collect();
    let tuples = intersect(&lists, sameness);
    let rows: Vec<&Rows> = tables.iter().map(|table| &table.rows).collect();
    match hit_rows::join(&rows, &tuples, sameness)? {
        Finished::Text(text) => output::write_file(&common.output, text.as_bytes())?,
        Finished::Pipe(pipe) => common.write(pipe, common.step())?,
    }
    common.say(&format!("{} hits in common", tuples.len()));
    Ok(())
}

fn main() -> ExitCode {
    cli::main(run)
}
