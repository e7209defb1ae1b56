//! `nyx-extract merge-peaks`.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use nyx::cli::Common;
use nyx::error::{Error, InFile, Result};
use nyx::extract::merge_peaks::Peaks;
use nyx::genome::Genome;
use nyx::genome::bed::{Columns, Reader};
use nyx::pipe::Pipe;
use nyx::provenance::Step;
use nyx::schema::{Row, RowBuilder, RowKind, Status};
use nyx::{input, schema};

use crate::shard::{self, ShardArg};

/// Rows in a batch unless the user says otherwise.
const BATCH: usize = 1024;

/// Merge peak sets of many cell types into windows with a label for each, as Basset and SigTFB have them.
///
/// LIST has two columns, cell type and BED or narrowPeak file (relative to LIST), separated by a tab or blanks. A peak
/// becomes --width bases around its middle; neighbours that share --overlap bases become one, at the mean of their
/// middles. `label` has a 1 for each cell type with a peak there, in the order of LIST; their names are in the field's
/// metadata. All peaks are held in memory. Example: nyx-extract merge-peaks CTCF.tsv --fasta hg38.fa > rows.arrows
#[derive(clap::Args)]
pub struct Args {
    /// Table of cell types and their peaks; `-` is standard input
    #[arg(value_name = "LIST")]
    list: PathBuf,
    /// Genome: FASTA (plain or BGZF) or 2bit
    #[arg(long, value_name = "FILE")]
    fasta: PathBuf,
    /// Bases of a window
    #[arg(long, value_name = "BASES", default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..))]
    width: u32,
    /// Bases that two windows share to become one
    #[arg(long, value_name = "BASES", default_value_t = 30)]
    overlap: u32,
    /// Pass over peaks on contigs that the genome does not have
    #[arg(long)]
    ignore_unknown_contigs: bool,
    #[command(flatten)]
    shard: ShardArg,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let genome = Genome::open(&args.fasta)?;
    genome.warnings().iter().for_each(|warning| common.say(&format!("warning: {warning}")));
    let left_out = Cell::default();
    let open = || rows(&args, common.batch_rows(BATCH), &left_out);
    let (pipe, share) = shard::rows(args.shard.shard, &[&args.list], open)?;
    let LeftOut { short, unknown } = left_out.get();
    for (count, why) in
        [(short, "contigs shorter than a window"), (unknown, "contigs that the genome does not have")]
    {
        if count > 0 {
            common.say(&format!("{count} peaks left out, on {why}"));
        }
    }
    common.write(pipe, Step { share, ..common.step() })
}

/// Peaks that become no row.
#[derive(Clone, Copy, Default)]
struct LeftOut {
    short: u64,
    unknown: u64,
}

/// Makes a row of every merged window.
fn rows(args: &Args, rows: usize, left_out: &Cell<LeftOut>) -> Result<Pipe> {
    let genome = Genome::open(&args.fasta)?;
    let (names, peaks, counts) = read(args, &genome)?;
    left_out.set(counts);
    let length = |chrom: &str| genome.contig_length(chrom).map(|length| length as i64);
    let merged = peaks.merge(args.width.into(), args.overlap.into(), length);
    let own = RowKind::Labelled.schema(Some(genome.record()));
    let label = own.field_with_name(schema::LABEL)?.clone();
    let metadata = [(schema::LABELS_KEY.to_string(), names.join(","))];
    let target = schema::with_field(&own, label.with_metadata(metadata));
    let mut windows = merged.into_iter().flat_map(|(chrom, strand, windows)| {
        windows.into_iter().map(move |window| (chrom.clone(), strand, window))
    });
    let (mut genome, mut region, schema) = (genome, 0, target.clone());
    let batches = std::iter::from_fn(move || {
        let mut builder = RowBuilder::new(RowKind::Labelled, schema.clone());
        let mut bases = Vec::new();
        for (chrom, strand, window) in windows.by_ref().take(rows) {
            if let Err(error) = genome.fetch(&chrom, window.start, window.end, &mut bases) {
                return Some(Err(error));
            }
            if strand == nyx::region::Strand::Reverse {
                nyx::dna::reverse_complement(&mut bases);
            }
            let labels: Vec<f32> =
                (0..names.len()).map(|set| f32::from(u8::from(window.sets.contains(&set)))).collect();
            let all_n = bases.iter().all(|&base| base == b'N');
            let row = Row {
                region,
                chrom: Some(&chrom),
                start: window.start,
                end: window.end,
                strand,
                name: None,
                sequence: Some(std::str::from_utf8(&bases).expect("bases are ASCII")),
                status: if all_n { Status::AllN } else { Status::Ok },
            };
            builder.push_labelled(&row, Some(&labels));
            region += 1;
        }
        (!builder.is_empty()).then(|| builder.finish())
    });
    Ok(Pipe::new(target, batches))
}

/// Reads the list and all its peaks, and counts those that become no row.
fn read(args: &Args, genome: &Genome) -> Result<(Vec<String>, Peaks, LeftOut)> {
    let (mut names, mut peaks, mut left_out) = (Vec::new(), Peaks::default(), LeftOut::default());
    let folder = args.list.parent().unwrap_or(Path::new(""));
    let text = input::read_text(&args.list)?;
    for (index, line) in
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let place = || format!("{} line {}", args.list.display(), index + 1);
        let Some((name, path)) = line.trim().split_once(['\t', ' ']) else {
            return Err(Error::data(format!("`{line}` is not a cell type and a file")).at(place()));
        };
        let path = folder.join(path.trim());
        if name.contains(',') || names.iter().any(|other| other == name) {
            return Err(
                Error::data(format!("cell type `{name}`: it has a comma or occurs twice")).at(place())
            );
        }
        let reader = Reader::new(input::open_text(&path)?, path.display().to_string(), Columns::All);
        for interval in reader {
            let interval = interval?;
            let length = match genome.contig_length(&interval.chrom) {
                Some(length) => length,
                None if args.ignore_unknown_contigs => {
                    left_out.unknown += 1;
                    continue;
                }
                None => return Err(genome.unknown_contig(&interval.chrom)).in_file(&path),
            };
            left_out.short += u64::from(length < u64::from(args.width));
            peaks.add(&interval.chrom, interval.start, interval.end, interval.strand, names.len());
        }
        names.push(name.to_string());
    }
    if names.is_empty() {
        return Err(Error::data("the list names no peaks")).in_file(&args.list);
    }
    Ok((names, peaks, left_out))
}
