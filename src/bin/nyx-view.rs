//! nyx-view: stream → text or files.

use std::io::IsTerminal;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nyx::cli::{self, Common};
use nyx::convert::hub::{self, Data, Hub};
use nyx::convert::saturation::{self, Saturations, Value};
use nyx::convert::table::Head;
use nyx::convert::track::{self, Choice};
use nyx::convert::{bed, bigwig, columnar, fasta, header, json, npz, select, sidecar, table, vcf};
use nyx::discover::found::{self, Found};
use nyx::error::InFile;
use nyx::motif::{self, meme};
use nyx::output::{self, Output, TextOutput};
use nyx::pipe::Pipe;
use nyx::provenance::{self, Genome};
use nyx::report;
use nyx::{Error, Result, input};

/// Turn a stream into text or into a file of another format.
///
/// Example: nyx-extract regions … | nyx-score --model ctcf/ | nyx-view -O bigwig --class 1 -o ctcf.bw
///
/// A file appears under its name only when it is whole; a stream that was cut (exit 3) leaves none. The provenance goes
/// with it (`nyx replay FILE`): bigWig and bigBed, which have no place for it, get FILE.nyx.json beside them.
#[derive(Parser)]
#[command(name = "nyx-view")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// The stream, an Arrow file or a Parquet file; `-` is standard input
    #[arg(default_value = "-")]
    input: PathBuf,
    /// The format [default: by the name of the output file, otherwise tsv]
    #[arg(short = 'O', long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// Print the schema, the genome and the provenance and no rows
    #[arg(short = 'H', long)]
    header: bool,
    /// Print no line of column names
    #[arg(long)]
    no_header: bool,
    /// Keep these columns, in this order
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    columns: Vec<String>,
    /// Leave these columns out
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    drop: Vec<String>,
    /// The values of bedgraph and bigwig: contributions, base_scores, probs, logits or delta; of matrix and heatmap:
    /// logits, probs or log_likelihood [default: the first of these that is there]
    #[arg(long, value_name = "COLUMN")]
    value: Option<String>,
    /// The class of probs or logits, from 0 [default: the only one]
    #[arg(long, value_name = "CLASS")]
    class: Option<usize>,
    /// Lengths of the contigs (name, tab, length) for bedgraph and bigwig when the stream has none
    #[arg(long, value_name = "FILE")]
    chrom_sizes: Option<PathBuf>,
    /// The assembly of a hub by its name at UCSC, as hg38 [default: the genome's file name up to its first dot]
    #[arg(long, value_name = "NAME")]
    genome: Option<String>,
    /// Rows of html
    #[arg(long, value_name = "N", default_value_t = 10)]
    rows: usize,
    /// Memory for sorting the rows of bedgraph and bigwig, in MiB; more rows have to come sorted
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    sort_memory: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Tsv,
    Csv,
    /// One object a line
    Json,
    Bed,
    Bedgraph,
    Bigwig,
    /// Variants without samples, a field for every number of an ALT
    Vcf,
    Fasta,
    /// Of motifs, as nyx-motifs finds them, or of a TF-MoDISco HDF5 file
    Meme,
    /// Fi-NeMo's regions file; of scored rows without contributions, their embeddings, logits and probabilities
    Npz,
    Parquet,
    Arrow,
    /// Of scored rows of nyx-extract mutate: a line for each base, with what A, C, G, T in its place and its deletion
    /// change
    Matrix,
    /// The same as pictures, in one HTML page
    Heatmap,
    /// The first rows (--rows) with pictures of sequences and contributions, for a notebook's cell
    Html,
    /// A directory with a track hub for UCSC's browser and IGV: a bigWig of the values, or a bigBed of hits
    Hub,
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
    if args.header {
        let pipe = input::open_pipe(&args.input)?;
        let mut output = Output::create(&args.common.output)?;
        output.write_all(header::describe(pipe.schema())?.as_bytes())?;
        return output.commit();
    }
    let format = args.format()?;
    args.check_output(format)?;
    if format == Format::Meme && motif::is_hdf5(&args.input)? {
        let motifs = motif::read_probabilities(&args.input, 0.0)?;
        return output::write_file(&args.common.output, meme::write(&motifs).as_bytes());
    }
    let pipe = select::select(args.common.open(&args.input)?, &args.columns, &args.drop)?;
    let metadata = provenance::append(&pipe.schema().metadata, args.common.step())?;
    let schema = pipe.schema().as_ref().clone().with_metadata(metadata);
    let pipe = args.common.count(pipe.with_schema(schema.into()));
    args.write(pipe, format)?;
    if args.common.output != Path::new("-") {
        args.common.summarize();
    }
    Ok(())
}

impl Args {
    /// Returns the format that was asked for, by flag or by the name of the output, in which `.gz` is no format.
    fn format(&self) -> Result<Format> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let path = &self.common.output;
        let name = if output::is_packed(path) { path.with_extension("") } else { path.clone() };
        let suffix = name.extension().map(|suffix| suffix.to_string_lossy().to_lowercase());
        Ok(match suffix.as_deref() {
            Some("csv") => Format::Csv,
            Some("json" | "jsonl" | "ndjson") => Format::Json,
            Some("bed") => Format::Bed,
            Some("bedgraph" | "bdg" | "bg") => Format::Bedgraph,
            Some("bw" | "bigwig") => Format::Bigwig,
            Some("vcf") => Format::Vcf,
            Some("fa" | "fasta" | "fna") => Format::Fasta,
            Some("meme") => Format::Meme,
            Some("npz") => Format::Npz,
            Some("parquet" | "pq") => Format::Parquet,
            Some("arrow" | "feather") => Format::Arrow,
            Some("html" | "htm") => Format::Heatmap,
            Some(
                other @ ("arrows" | "bcf" | "bb" | "bigbed" | "h5" | "hdf5" | "npy" | "zst" | "xz" | "bz2"),
            ) => {
                return Err(Error::usage(format!(
                    "it writes no .{other}: -O says what to write ({} for text by tab, otherwise)",
                    path.with_extension("tsv").display()
                )));
            }
            _ => Format::Tsv,
        })
    }

    /// Refuses what cannot be written to where it should go, before anything is read.
    fn check_output(&self, format: Format) -> Result<()> {
        let path = &self.common.output;
        let stdout = path == Path::new("-");
        if format == Format::Hub {
            return match stdout {
                true => Err(Error::usage("a hub is several files: give -o DIRECTORY")),
                false => std::fs::create_dir_all(path).in_file(path),
            };
        }
        let seeks = matches!(format, Format::Bigwig | Format::Npz);
        let stream = stdout || output::is_open_file(path);
        if seeks && (stream || path.metadata().is_ok_and(|metadata| !metadata.is_file())) {
            return Err(Error::usage("this format is written back and forth, not into a pipe: give -o FILE"));
        }
        let binary = matches!(format, Format::Parquet | Format::Arrow);
        if (binary || seeks) && output::is_packed(path) {
            return Err(Error::usage("this format is compressed inside: leave .gz out of the name"));
        }
        if binary && stdout && std::io::stdout().is_terminal() {
            return Err(Error::usage("a binary file does not belong on a terminal: give -o FILE"));
        }
        Ok(())
    }

    fn write(&self, pipe: Pipe, format: Format) -> Result<()> {
        let head = Head { provenance: !self.common.no_pg, names: !self.no_header };
        match format {
            Format::Bigwig => return self.write_bigwig(pipe, &self.common.output),
            Format::Hub => return self.write_hub(pipe),
            Format::Npz if npz::has_vectors(pipe.schema()) => {
                return npz::write_vectors(pipe, head.provenance, &self.common.output);
            }
            Format::Npz => return npz::write(pipe, head.provenance, &self.common.output),
            _ => {}
        }
        let mut output = TextOutput::create(&self.common.output)?;
        match format {
            Format::Tsv => table::write_tsv(pipe, head, &mut output)?,
            Format::Csv => table::write_csv(pipe, head, &mut output)?,
            Format::Json => json::write(pipe, &mut output)?,
            Format::Bed => bed::write(pipe, head.provenance, &mut output)?,
            Format::Bedgraph => self.write_bedgraph(pipe, &mut output)?,
            Format::Vcf => vcf::write_sites(pipe, head.provenance, &mut output)?,
            Format::Fasta => self.write_fasta(pipe, &mut output)?,
            Format::Meme => {
                let motifs: Vec<meme::Motif> = found::read(pipe)?.iter().map(Found::meme).collect();
                output.write_all(meme::write(&motifs).as_bytes())?;
            }
            Format::Parquet => columnar::write_parquet(pipe, &mut output)?,
            Format::Arrow => columnar::write_arrow(pipe, &mut output)?,
            Format::Matrix => {
                let value = Value::new(pipe.schema(), self.value.as_deref(), self.class)?;
                let left_out = saturation::write(pipe, value, head.provenance, &mut output)?;
                self.say_left_out(left_out);
            }
            Format::Heatmap => self.write_heatmap(pipe, &mut output)?,
            Format::Html => self.write_head(pipe, &mut output)?,
            Format::Bigwig | Format::Npz | Format::Hub => unreachable!("written above"),
        }
        output.commit()
    }

    /// Writes the first rows; the stage before ends when nobody reads the others.
    fn write_head(&self, pipe: Pipe, output: &mut TextOutput) -> Result<()> {
        let (schema, batches) = pipe.into_parts();
        let (mut head, mut left, mut more) = (Vec::new(), self.rows, false);
        for batch in batches {
            let batch = batch?;
            let shown = batch.num_rows().min(left);
            more = shown < batch.num_rows();
            left -= shown;
            head.push(batch.slice(0, shown));
            if more {
                break;
            }
        }
        let chain = provenance::chain(&schema.metadata)?;
        Ok(output.write_all(report::rows::page(&schema, &head, more, &chain)?.as_bytes())?)
    }

    fn write_heatmap(&self, pipe: Pipe, output: &mut TextOutput) -> Result<()> {
        let value = Value::new(pipe.schema(), self.value.as_deref(), self.class)?;
        let column = match value.column.as_str() {
            "logits" => "logit",
            "probs" => "probability",
            "log_likelihood" => "log-likelihood",
            other => other,
        };
        let name = match value.class {
            Some(class) => format!("{column} of class {class}"),
            None => column.to_string(),
        };
        let chain = provenance::chain(&pipe.schema().metadata)?;
        let mut saturations = Saturations::new(pipe, value)?;
        report::saturation::write(&mut saturations, &name, &chain, output)?;
        self.say_left_out(saturations.left_out);
        Ok(())
    }

    fn say_left_out(&self, mutants: u64) {
        if mutants > 0 {
            self.common.say(&format!(
                "{mutants} mutants are neither substitutions nor deletions of one base and are not shown"
            ));
        }
    }

    fn write_fasta(&self, pipe: Pipe, output: &mut TextOutput) -> Result<()> {
        let left_out = fasta::write(pipe, output)?;
        if left_out > 0 {
            self.common.say(&format!("{left_out} rows have no sequence and were left out"));
        }
        Ok(())
    }

    fn write_bedgraph(&self, pipe: Pipe, output: &mut TextOutput) -> Result<()> {
        let schema = pipe.schema().clone();
        let choice = Choice::new(&schema, self.value.as_deref(), self.class)?;
        let genome = self.genome(&schema)?;
        let intervals = track::intervals(pipe, choice, genome.as_ref(), self.sort_memory << 20)?;
        track::write_bedgraph(intervals, (!self.common.no_pg).then_some(&*schema), output)
    }

    /// Writes the data of a hub, then the file that names them.
    fn write_hub(&self, pipe: Pipe) -> Result<()> {
        let contigs = self.contigs(pipe.schema())?;
        let genome = self.genome.clone().unwrap_or_else(|| hub::genome_of(&contigs.name));
        let chain = provenance::chain(&pipe.schema().metadata)?;
        let model = chain.iter().rev().find_map(|step| step.model.as_deref()).map(model_in_short);
        let about = model.unwrap_or_else(|| contigs.name.clone());
        let hits = hub::is_hits(pipe.schema());
        let (track, data) = match hits {
            true => ("hits".to_string(), Data::BigBed),
            false => {
                let choice = Choice::new(pipe.schema(), self.value.as_deref(), self.class)?;
                let class = self.class.map_or(String::new(), |class| format!("_{class}"));
                (format!("{}{class}", choice.column()), Data::BigWig)
            }
        };
        let hub = Hub { genome, about: format!("{track}: {about}"), track, data };
        let path = self.common.output.join(hub.file());
        match hits {
            true => {
                self.with_sidecar(pipe, &path, |pipe| bigwig::write_beds(bed::lines(pipe)?, &contigs, &path))?
            }
            false => self.write_bigwig(pipe, &path)?,
        }
        let mut output = Output::create(&self.common.output.join("hub.txt"))?;
        hub.write(&mut output)?;
        output.commit()
    }

    fn write_bigwig(&self, pipe: Pipe, path: &Path) -> Result<()> {
        let choice = Choice::new(pipe.schema(), self.value.as_deref(), self.class)?;
        let genome = self.contigs(pipe.schema())?;
        self.with_sidecar(pipe, path, |pipe| {
            let intervals = track::intervals(pipe, choice, Some(&genome), self.sort_memory << 20)?;
            bigwig::write(intervals, &genome, path)
        })
    }

    /// Writes a file whose format has no place for its provenance, and that beside it.
    fn with_sidecar(&self, pipe: Pipe, path: &Path, write: impl FnOnce(Pipe) -> Result<()>) -> Result<()> {
        let schema = pipe.schema().clone();
        sidecar::clear(path)?;
        write(pipe)?;
        if self.common.no_pg { Ok(()) } else { sidecar::write(path, &schema) }
    }

    /// Returns the contigs, which bigWig and bigBed cannot do without.
    fn contigs(&self, schema: &arrow_schema::Schema) -> Result<Genome> {
        self.genome(schema)?.ok_or_else(|| {
            Error::data("the stream does not say how long the contigs are: extract with --fasta or give --chrom-sizes")
        })
    }

    /// Returns the contigs of `--chrom-sizes`, or else those of the stream.
    fn genome(&self, schema: &arrow_schema::Schema) -> Result<Option<Genome>> {
        let Some(path) = &self.chrom_sizes else { return Genome::of(schema) };
        let text = input::read_text(path)?;
        let contig = |(number, line): (usize, &str)| {
            let mut words = line.split_whitespace();
            let length = words.nth(1).and_then(|word| word.parse().ok());
            let name = line.split_whitespace().next().unwrap_or_default().to_string();
            length.map(|length| (name, length)).ok_or_else(|| {
                Error::data("expected a contig name and its length").at(format!(
                    "{}:{}",
                    path.display(),
                    number + 1
                ))
            })
        };
        let contigs = text.lines().enumerate().filter(|(_, line)| !line.is_empty()).map(contig);
        Ok(Some(Genome::new(path.display().to_string(), contigs.collect::<Result<_>>()?)))
    }
}

/// Returns name and beginning of the digest of a model: a browser's label has room for 80 letters.
fn model_in_short(model: &str) -> String {
    match model.split_once(' ') {
        Some((digest, name)) => format!("{name} ({})", digest.chars().take(12).collect::<String>()),
        None => model.to_string(),
    }
}
