//! `nyx-extract variants`.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::InFile;
use nyx::extract::variants::{self, Format, Options, RefMismatch, Schema, Selection, Shape, UnknownContig};
use nyx::genome::Genome;
use nyx::region::Region;
use nyx::{Error, Result, input};

/// Rows of a batch unless the user says otherwise.
const BATCH_ROWS: usize = 1024;

/// Variants → one window per allele, the reference first.
///
/// Every record gives 1 + (number of its ALT alleles) rows; what cannot have a sequence stays in with a
/// status. All windows have the same width; the first base of REF (POS) is at offset width/2.
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
    /// Two columns: contig in the variants, contig in the genome
    #[arg(long, value_name = "FILE")]
    contig_map: Option<PathBuf>,
    /// Columns of a table without header line: plain (chrom pos ref alt [id], 1-based), original (chr pos
    /// rsid allele1 allele2, 1-based), plink (chr rsid _ pos allele1 allele2, 1-based), bed (chr start end
    /// allele1 allele2 [rsid], 0-based), chrombpnet (chr pos allele1 allele2 [rsid], 1-based)
    #[arg(long, value_enum, default_value_t)]
    schema: SchemaArg,
    /// Only records whose REF overlaps these regions: chr1, chr1:100 or chr1:100-200 (1-based, inclusive),
    /// named as in the genome
    #[arg(short, long = "region", value_name = "REGION", value_delimiter = ',')]
    regions: Vec<String>,
    /// As -r, from a file: BED (0-based), or one region a line
    #[arg(short = 'R', long, value_name = "FILE")]
    regions_file: Option<PathBuf>,
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
    if args.vcf == Path::new("-") && std::io::stdin().is_terminal() {
        return Err(Error::usage("no variants: name a file with --vcf, or pipe one in"));
    }
    let genome = Genome::open(&args.fasta)?;
    for warning in genome.warnings() {
        common.say(warning);
    }
    let contig_map = args.contig_map.as_deref().map(read_contig_map).transpose()?.unwrap_or_default();
    let regions = read_regions(&args)?;
    for region in regions.iter().flatten() {
        if genome.contig_length(&region.chrom).is_none() {
            return Err(genome.unknown_contig(&region.chrom).at("-r"));
        }
    }
    let selection = Selection::new(regions.as_deref());
    let input = variants::open(&args.vcf, args.schema.format(), &selection, &contig_map)?;
    for note in &input.notes {
        common.say(&format!("{}: {note}", args.vcf.display()));
    }
    let options = Options {
        shape: Shape { width: args.width as usize, anchor: args.anchor.into() },
        ref_mismatch: args.ref_mismatch.into(),
        unknown_contig: args.unknown_contig.into(),
        contig_map,
        selection,
        file: args.vcf.display().to_string(),
        batch_rows: common.batch_rows(BATCH_ROWS),
    };
    let record = genome.record().clone();
    let (pipe, counts) = variants::rows(input.records, genome, &record, options);
    common.write(pipe, common.step())?;
    let (records, outside) = (counts.records.load(Relaxed), counts.outside.load(Relaxed));
    if regions.is_some() {
        common.say(&format!("{records} records in the regions, {outside} read outside of them"));
    } else {
        common.say(&format!("{records} records"));
    }
    Ok(())
}

/// Reads the regions of `-r` and `-R`; `None` when neither is given.
fn read_regions(args: &Args) -> Result<Option<Vec<Region>>> {
    if args.regions.is_empty() && args.regions_file.is_none() {
        return Ok(None);
    }
    let mut regions = args.regions.iter().map(|text| text.parse()).collect::<Result<Vec<Region>>>()?;
    if let Some(path) = &args.regions_file {
        for (number, line) in input::read_text(path)?.lines().enumerate() {
            if line.is_empty() || ["#", "track", "browser"].iter().any(|head| line.starts_with(head)) {
                continue;
            }
            let region = parse_region_line(line);
            regions.push(region.map_err(|e| e.at(format!("line {}", number + 1))).in_file(path)?);
        }
    }
    Ok(Some(regions))
}

/// Parses a BED line or a region as typed.
fn parse_region_line(line: &str) -> Result<Region> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let bad =
        || Error::data(format!("`{line}` is neither BED (chrom start end) nor a region (chr1:100-200)"));
    match fields[..] {
        [text] => text.parse::<Region>().map_err(|_| bad()),
        [chrom, start, end, ..] => {
            let (start, end) = (start.parse().map_err(|_| bad())?, end.parse().map_err(|_| bad())?);
            if start < 0 || end < start {
                return Err(bad());
            }
            Ok(Region { chrom: chrom.into(), start, end })
        }
        _ => Err(bad()),
    }
}

fn read_contig_map(path: &Path) -> Result<HashMap<String, String>> {
    let mut map = HashMap::new();
    for (number, line) in input::read_text(path)?.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [from, to] = fields[..] else {
            let why = "two columns are expected: contig in the variants, contig in the genome";
            return Err(Error::data(why).at(format!("line {}", number + 1))).in_file(path);
        };
        map.insert(from.to_string(), to.to_string());
    }
    Ok(map)
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
