//! nyx-collapse: hits → hits that say which of those that overlap is the best.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::cli::{self, Common};
use nyx::error::InFile;
use nyx::motif::instance::{Vocabulary, collapse};
use nyx::report::hit_rows::{self, Finished};
use nyx::report::hit_table::HitTable;
use nyx::{Error, Result, output};

/// Mark the most similar of overlapping hits as primary; no hit is removed.
///
/// Hits of x and y bases (trimmed) overlap when they share at least F·(x+y)/2. The most similar hit is
/// primary, what overlaps it is not, and so on down; a hit that only overlaps those that fell is primary.
/// Hits meet others of their contig, or of their region where there are no coordinates.
/// What comes out is what went in, a table of Fi-NeMo or a stream, in the same order, with a column
/// is_primary. All hits are held in memory. Example: nyx-collapse -i hits.arrows -o collapsed.arrows
#[derive(Parser)]
#[command(name = "nyx-collapse", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Fi-NeMo's hits.tsv, or a stream of hits; `-` is standard input
    #[arg(short = 'i', long, value_name = "HITS")]
    hits: PathBuf,
    /// Share of their mean length by which two hits must overlap, 0 to 1
    #[arg(short = 'O', long, value_name = "F", default_value_t = 0.2)]
    overlap_frac: f64,
    /// Do as Fi-NeMo 0.41: keep the least similar, and mix regions without coordinates
    #[arg(long)]
    compat: bool,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn run(args: Args) -> Result<()> {
    let Args { common, hits, overlap_frac, compat } = args;
    if !(0.0..=1.0).contains(&overlap_frac) {
        return Err(Error::usage(format!("--overlap-frac {overlap_frac}: give a share from 0 to 1")));
    }
    common.reads(&hits);
    let table = HitTable::read(&hits, &mut Vocabulary::default())?;
    let rule = if compat { collapse::finemo } else { collapse::greedy };
    let primary = rule(&table.hits, overlap_frac);
    match hit_rows::mark(&table.rows, &primary).in_file(&hits)? {
        Finished::Text(text) => output::write_file(&common.output, text.as_bytes())?,
        Finished::Pipe(pipe) => common.write(pipe, common.step())?,
    }
    let kept = primary.iter().filter(|&&primary| primary).count();
    common.say(&format!("{kept} of {} hits are primary", primary.len()));
    Ok(())
}

fn main() -> ExitCode {
    cli::main(run)
}
