//! `nyx-extract variants`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::InFile;
use nyx::extract::shard::{Census, rows_of};
use nyx::extract::variants::{
    self, Counts, Format, Haplotypes, Options, RefMismatch, Samples, Schema, Selection, Shape,
};
use nyx::extract::windows::{BATCH_ROWS, UnknownContig};
use nyx::genome::Genome;
use nyx::genome::bed::{Columns, Interval};
use nyx::input;
use nyx::pipe::Pipe;
use nyx::provenance::Step;
use nyx::region::Region;
use nyx::{Error, Result};

use crate::shard::{Again, ShardArg};
use crate::windows;

/// Variants → one window per allele, the reference first.
///
/// Every record gives 1 + (number of its ALT alleles) rows; what cannot have a sequence stays in with a
/// status. All windows have the same width; the first base of REF (POS) is at offset width/2.
///
/// With --haplotypes these rows are followed by those of the haplotypes, SAMPLE|1 and SAMPLE|2 in the column
/// haplotype: windows in which all variants of the haplotype are applied together, the sequences of `bcftools
/// consensus -H 1` and `-H 2`. The column applied names the variants in a window. A variant that overlaps the one
/// before it is left out as bcftools does, and the status says so.
///
/// Example: nyx-extract variants --fasta hg38.fa --vcf calls.vcf.gz | nyx-score --model ctcf/ | nyx-effects
#[derive(clap::Args)]
pub struct Args {
    /// Genome: FASTA (plain or BGZF) or 2bit
    #[arg(long, value_name = "FILE")]
    fasta: PathBuf,
    /// Variants: VCF (plain, gzip, BGZF), BCF or a table; `-` is standard input
    #[arg(long, value_name = "FILE", visible_alias = "variants", default_value = "-")]
    vcf: PathBuf,
    /// Bases of every window
    #[arg(long, value_name = "BASES", default_value_t = 201, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    width: u32,
    /// Which flank gives way for an indel: the right one, or both
    #[arg(long, value_enum, default_value_t)]
    anchor: Anchor,
    /// When REF is not what the genome has: fail, keep the row and say so, or exchange REF and ALT
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    ref_mismatch: Mismatch,
    /// When the genome does not have the contig: fail, or keep the row and say so
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    unknown_contig: Unknown,
    /// Names of contigs in the variants and on the command line, and those in the genome: two columns, by tab
    #[arg(long, value_name = "FILE")]
    contig_map: Option<PathBuf>,
    /// Columns of a table without header line: plain (chrom pos ref alt [id], 1-based), original (chr pos
    /// rsid allele1 allele2, 1-based), plink (chr rsid _ pos allele1 allele2, 1-based), bed (chr start end
    /// allele1 allele2 [rsid], 0-based), chrombpnet (chr pos allele1 allele2 [rsid], 1-based)
    #[arg(long, value_enum, default_value_t)]
    schema: SchemaArg,
    /// Only records whose REF overlaps this region: chr1, chr1:100 or chr1:100-200 (1-based, inclusive). May be
    /// repeated. An index (.tbi, .csi) beside the file spares reading the rest
    #[arg(short = 'r', long = "region", value_name = "REGION")]
    regions: Vec<String>,
    /// As -r, from a BED file (0-based)
    #[arg(short = 'R', long, value_name = "FILE")]
    regions_file: Option<PathBuf>,
    /// Rows of haplotypes, from phased genotypes of a sorted VCF or BCF
    #[arg(long)]
    haplotypes: bool,
    /// Samples whose haplotypes are made: names by comma, or a file with a name on each line (default: all)
    #[arg(long, value_name = "NAMES|FILE", requires = "haplotypes")]
    samples: Option<String>,
    /// One row for all haplotypes of a record with the same window; the column haplotype names them by comma
    #[arg(long, requires = "haplotypes")]
    distinct: bool,
    /// Rows of every other variant that a haplotype has in the window, alone in this window (for joint effects)
    #[arg(long, requires = "haplotypes")]
    singles: bool,
    #[command(flatten)]
    shard: ShardArg,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Anchor {
    /// The left flank is fixed, the right one gives way.
    #[default]
    Left,
    /// The middle base of each allele is at offset width/2.
    Center,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Mismatch {
    /// Fail and list the first such records.
    #[default]
    Error,
    /// Keep the record's own alleles, status `ref_mismatch`.
    Status,
    /// Exchange REF with the ALT that agrees, status `swapped`.
    Swap,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Unknown {
    /// Fail and name the contig.
    #[default]
    Error,
    /// Keep the rows without sequence, status `unknown_contig`.
    Status,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum SchemaArg {
    #[default]
    Auto,
    Vcf,
    Plain,
    Original,
    Plink,
    Bed,
    Chrombpnet,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let share = match args.shard.shard {
        Some(shard) => {
            let again = Again::new(&[&args.vcf])?;
            let (pipe, _) = open(&args, &common.quietly())?;
            let share = Census::of(pipe)?.share(shard);
            again.rewind()?;
            Some(share)
        }
        None => None,
    };
    let (pipe, counts) = open(&args, common)?;
    let pipe = match share {
        Some(share) => rows_of(pipe, share),
        None => pipe,
    };
    common.write(pipe, Step { share, ..common.step() })?;
    let regions = !args.regions.is_empty() || args.regions_file.is_some();
    say_counts(&counts, regions, args.haplotypes, common);
    Ok(())
}

/// Opens everything and lays the records over the genome.
fn open(args: &Args, common: &Common) -> Result<(Pipe, Arc<Counts>)> {
    if args.vcf == Path::new("-") && std::io::stdin().is_terminal() {
        return Err(Error::usage("no variants: name a file with --vcf, or pipe one in"));
    }
    let genome = Genome::open(&args.fasta)?;
    genome.warnings().iter().for_each(|warning| common.say(&format!("warning: {warning}")));
    let contig_map = windows::contig_map(args.contig_map.as_deref())?;
    let regions = read_regions(args, &genome, &contig_map)?;
    let selection = Selection::new(regions.as_deref());
    let samples = samples(args)?;
    let near = match args.haplotypes {
        true => variants::reading(&selection, args.width as usize),
        false => selection.clone(),
    };
    let opened = variants::open_with(&args.vcf, args.schema.format(), &near, &contig_map, &samples)?;
    for note in &opened.notes {
        common.say(&format!("{}: {note}", opened.name));
    }
    let options = Options {
        shape: Shape { width: args.width as usize, anchor: args.anchor.into() },
        ref_mismatch: args.ref_mismatch.into(),
        unknown_contig: args.unknown_contig.into(),
        contig_map,
        selection,
        file: opened.name,
        batch_rows: common.batch_rows(BATCH_ROWS),
    };
    let record = genome.record().clone();
    Ok(match args.haplotypes {
        true => {
            let wanted =
                Haplotypes { samples: opened.samples, distinct: args.distinct, singles: args.singles };
            variants::haplotype_rows(opened.records, genome, &record, options, wanted)
        }
        false => variants::rows(opened.records, genome, &record, options),
    })
}

/// Returns the samples whose genotypes are read.
fn samples(args: &Args) -> Result<Samples> {
    if !args.haplotypes {
        return Ok(Samples::None);
    }
    let Some(text) = &args.samples else { return Ok(Samples::All) };
    let names: Vec<String> = match Path::new(text).is_file() {
        true => input::read_text(Path::new(text))?.split_whitespace().map(Into::into).collect(),
        false => text.split(',').filter(|name| !name.is_empty()).map(Into::into).collect(),
    };
    match names.is_empty() {
        true => Err(Error::usage(format!("--samples {text}: no names"))),
        false => Ok(Samples::Named(names)),
    }
}

fn say_counts(counts: &Counts, regions: bool, haplotypes: bool, common: &Common) {
    let (records, outside) = (counts.records.load(Relaxed), counts.outside.load(Relaxed));
    if regions {
        common.say(&format!("{records} records in the regions, {outside} read outside of them"));
    } else {
        common.say(&format!("{records} records"));
    }
    if !haplotypes {
        return;
    }
    let (windows, distinct) = (counts.haplotypes.load(Relaxed), counts.distinct.load(Relaxed));
    let ratio = windows as f64 / distinct.max(1) as f64;
    common.say(&format!(
        "{windows} windows of haplotypes, {distinct} distinct within their records ({ratio:.1} to 1)"
    ));
    let left_out = counts.left_out.load(Relaxed);
    if left_out > 0 {
        common.say(&format!(
            "{left_out} times a haplotype's variant overlaps one before it and is left out, as bcftools \
             consensus does (status overlap)"
        ));
    }
    let polyploid = counts.polyploid.load(Relaxed);
    if polyploid > 0 {
        common.say(&format!(
            "warning: {polyploid} genotypes have more than two alleles; the first two are read"
        ));
    }
}

/// Reads the regions of `-r` and `-R`, in names of the genome; `None` when neither is given.
fn read_regions(args: &Args, genome: &Genome, map: &HashMap<String, String>) -> Result<Option<Vec<Region>>> {
    if args.regions.is_empty() && args.regions_file.is_none() {
        return Ok(None);
    }
    let mut regions = windows::typed_regions(&args.regions, genome, map)?;
    if let Some(path) = &args.regions_file {
        for interval in windows::open_bed(path, Columns::Three)? {
            let Interval { chrom, start, end, .. } = interval?;
            let chrom = map.get(&chrom).cloned().unwrap_or(chrom);
            if genome.contig_length(&chrom).is_none() {
                return Err(genome.unknown_contig(&chrom)).in_file(path);
            }
            regions.push(Region { chrom, start, end });
        }
    }
    for region in &mut regions {
        // A whole contig has records before its first and after its last base, at the telomeres.
        if region.start == 0 && genome.contig_length(&region.chrom) == Some(region.end as u64) {
            region.end = i64::MAX;
        }
    }
    Ok(Some(regions))
}

impl SchemaArg {
    fn format(self) -> Format {
        match self {
            Self::Auto => Format::Auto,
            Self::Vcf => Format::Vcf,
            Self::Plain => Format::Table(Schema::Plain),
            Self::Original => Format::Table(Schema::Original),
            Self::Plink => Format::Table(Schema::Plink),
            Self::Bed => Format::Table(Schema::Bed),
            Self::Chrombpnet => Format::Table(Schema::Chrombpnet),
        }
    }
}

impl From<Anchor> for variants::Anchor {
    fn from(anchor: Anchor) -> Self {
        match anchor {
            Anchor::Left => Self::Left,
            Anchor::Center => Self::Center,
        }
    }
}

impl From<Mismatch> for RefMismatch {
    fn from(policy: Mismatch) -> Self {
        match policy {
            Mismatch::Error => Self::Error,
            Mismatch::Status => Self::Status,
            Mismatch::Swap => Self::Swap,
        }
    }
}

impl From<Unknown> for UnknownContig {
    fn from(policy: Unknown) -> Self {
        match policy {
            Unknown::Error => Self::Error,
            Unknown::Status => Self::Status,
        }
    }
}
