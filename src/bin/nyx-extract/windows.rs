//! What `regions` and `tiles` share: the genome, where to look, what to leave out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::{Error, InFile, Result};
use nyx::extract::windows::{self, BATCH_ROWS, Dropped};
use nyx::genome::Genome;
use nyx::genome::bed::{Columns, Interval, IntervalSet, Reader};
use nyx::input;
use nyx::pipe::Pipe;
use nyx::provenance::{Share, Step};
use nyx::region::Region;

/// Flags about the genome and the parts of it that count.
#[derive(clap::Args)]
pub struct WindowArgs {
    /// Genome: FASTA (plain or BGZF) or 2bit. A missing index is made beside it
    #[arg(long, value_name = "FILE")]
    pub fasta: PathBuf,
    /// Only this region: chr1, chr1:100 or chr1:100-200 (1-based, inclusive). May be repeated
    #[arg(short = 'r', long = "region", value_name = "REGION")]
    pub regions: Vec<String>,
    /// Only the regions of this BED file
    #[arg(short = 'R', long, value_name = "FILE")]
    pub regions_file: Option<PathBuf>,
    /// Drop windows that overlap an interval of this BED file (a blacklist)
    #[arg(long, value_name = "FILE")]
    pub exclude: Option<PathBuf>,
    /// Windows with N (padding is N, too): keep them, drop them, or mark them in the status column
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    n_policy: NPolicy,
    /// Windows past the end of a contig: pad them with N (status off_contig), or fail
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    edge: Edge,
    /// Names of contigs in BED files and on the command line, and those in the genome: two columns, by tab
    #[arg(long, value_name = "FILE")]
    contig_map: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum NPolicy {
    #[default]
    Keep,
    Drop,
    Status,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Edge {
    #[default]
    Pad,
    Error,
}

impl WindowArgs {
    /// Opens the genome and passes on its warnings.
    pub fn open_genome(&self, common: &Common) -> Result<Genome> {
        let genome = Genome::open(&self.fasta)?;
        genome.warnings().iter().for_each(|warning| common.say(&format!("warning: {warning}")));
        Ok(genome)
    }

    /// Returns how windows become rows.
    pub fn row_options(&self, common: &Common) -> windows::Options {
        windows::Options {
            batch_rows: common.batch_rows(BATCH_ROWS),
            n_policy: match self.n_policy {
                NPolicy::Keep => windows::NPolicy::Keep,
                NPolicy::Drop => windows::NPolicy::Drop,
                NPolicy::Status => windows::NPolicy::Status,
            },
            edge: match self.edge {
                Edge::Pad => windows::Edge::Pad,
                Edge::Error => windows::Edge::Error,
            },
            unknown: windows::UnknownContig::default(),
        }
    }

    /// Returns whether any region was asked for.
    pub fn has_regions(&self) -> bool {
        !self.regions.is_empty() || self.regions_file.is_some()
    }

    /// Returns the regions of `-r`, in names of the genome; an open end is the contig's.
    pub fn typed_regions(&self, genome: &Genome, map: &HashMap<String, String>) -> Result<Vec<Region>> {
        typed_regions(&self.regions, genome, map)
    }

    /// Reads `--contig-map`; empty when there is none.
    pub fn contig_map(&self) -> Result<HashMap<String, String>> {
        contig_map(self.contig_map.as_deref())
    }

    /// Reads `--exclude`, in names of the genome; empty when there is none.
    pub fn excluded(&self, genome: &Genome, map: &HashMap<String, String>) -> Result<IntervalSet> {
        match &self.exclude {
            Some(path) => interval_set(path, genome, map),
            None => Ok(IntervalSet::default()),
        }
    }
}

/// Parses regions as typed, in names of the genome; an open end is the contig's.
pub fn typed_regions(
    texts: &[String],
    genome: &Genome,
    map: &HashMap<String, String>,
) -> Result<Vec<Region>> {
    let typed = |text: &String| -> Result<Region> {
        // A contig name may itself look like a region (HLA alleles).
        let mut region = match genome.contig_length(text) {
            Some(_) => Region { chrom: text.clone(), start: 0, end: i64::MAX },
            None => text.parse()?,
        };
        region.chrom = map.get(&region.chrom).cloned().unwrap_or(region.chrom);
        let length = genome.contig_length(&region.chrom);
        let length =
            length.ok_or_else(|| genome.unknown_contig(&region.chrom).at(format!("-r {text}")))? as i64;
        if region.start >= length && length > 0 {
            return Err(Error::usage(format!("-r {text} begins past the {length} bases of its contig")));
        }
        if region.end == i64::MAX {
            region.end = length;
        }
        Ok(region)
    };
    texts.iter().map(typed).collect()
}

/// Reads a file of contig names and their names in the genome; empty when there is none.
pub fn contig_map(path: Option<&Path>) -> Result<HashMap<String, String>> {
    let Some(path) = path else { return Ok(HashMap::new()) };
    let text = input::read_text(path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let pair =
        |(number, line): (u64, &str)| match line.trim_end().split('\t').collect::<Vec<_>>()[..] {
            [from, to] if !from.is_empty() && !to.is_empty() => Ok((from.to_string(), to.to_string())),
            _ => Err(Error::data("a name, a tab, the name in the genome")
                .at(format!("{}:{number}", path.display()))),
        };
    lines.map(pair).collect()
}

/// Opens the intervals of a BED file, read as they are asked for.
pub fn open_bed(
    path: &Path,
    columns: Columns,
) -> Result<impl Iterator<Item = Result<Interval>> + Send + use<>> {
    let place = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    Ok(Reader::new(input::open_text(path)?, place, columns))
}

/// Reads the intervals of a BED file into a set, in names of the genome.
///
/// # Errors
///
/// When none of its contigs is in the genome, so that it could not filter anything.
pub fn interval_set(path: &Path, genome: &Genome, map: &HashMap<String, String>) -> Result<IntervalSet> {
    let intervals = open_bed(path, Columns::Three)?.map(|interval| {
        let mut interval = interval?;
        if let Some(name) = map.get(&interval.chrom) {
            interval.chrom.clone_from(name);
        }
        Ok(interval)
    });
    let set = intervals.collect::<Result<IntervalSet>>()?;
    match set.contigs().min() {
        Some(some) if !set.contigs().any(|name| genome.contig_length(name).is_some()) => {
            let error = genome.unknown_contig(some).at("none of its contigs is in the genome");
            Err(error).in_file(path)
        }
        _ => Ok(set),
    }
}

/// Writes the rows and says how many a filter took away.
pub fn write(pipe: Pipe, share: Option<Share>, dropped: &Arc<Dropped>, common: &Common) -> Result<()> {
    common.write(pipe, Step { share, ..common.step() })?;
    if !dropped.is_empty() {
        common.say(&dropped.to_string());
    }
    Ok(())
}
