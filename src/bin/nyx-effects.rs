//! nyx-effects: scored allele rows → one row per alternate allele.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nyx::cli::{self, Common};
use nyx::convert::table::{self, Head};
use nyx::convert::vcf;
use nyx::effects::annotation::{self, Annotation, Feature, Features, Relation};
use nyx::effects::null::Null;
use nyx::effects::{self, Options, Source, hit_changes, long, shards, shuffled, significance};
use nyx::error::{Error, InFile, Result};
use nyx::genome::bed::{Columns, Reader};
use nyx::input::{self, Opened};
use nyx::output::TextOutput;
use nyx::pipe::Pipe;
use nyx::provenance::{self, Genome, KIND_KEY};

/// Rows of a batch.
const ROWS: usize = 1024;

/// Compare the scores of alternate alleles with those of their reference: one row per ALT.
///
/// Reads allele rows with scores (nyx-extract variants | nyx-score). Depending on the scores there are DNABERT's diff and
/// log-odds ratio, log2 fold change, difference of logits, Jensen-Shannon distance of profiles, distances of embeddings,
/// log-likelihood ratio, change of base scores; calls of gain and loss; of haplotypes with their variants alone
/// (--singles) the epistasis. Several inputs are folds, NAME=FILE are models side by side.
///
/// Example: nyx-extract variants --fasta hg38.fa --vcf v.vcf.gz | nyx-score --model m/ | nyx-effects --vcf v.vcf.gz -o e.vcf.gz
#[derive(Parser)]
#[command(name = "nyx-effects")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Scored allele rows: FILE, or NAME=FILE for the model NAME. Inputs of one name are folds, whose effects are averaged.
    /// Streams of effects are shards: they are joined and get what is asked for besides, such as q-values
    #[arg(default_value = "-", value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// The format [default: by the name of the output file, otherwise arrow]
    #[arg(short = 'O', long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// The VCF or BCF that gets the effects as INFO fields; everything else in it stays as it is
    #[arg(long, value_name = "FILE")]
    vcf: Option<PathBuf>,
    /// Classes, by name or by index from 0 [default: all]
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    target: Vec<String>,
    /// The probability (or, where there are none, the logit) that a loss falls below and a gain rises to
    /// [default: 0.5 for probabilities]
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// Smallest change of the score that is a loss or a gain
    #[arg(long, value_name = "CHANGE", default_value_t = 0.0)]
    min_change: f64,
    /// Scored null rows (--make-null), their effects, or numbers one a line: adds p-values and q-values. NAME=FILE as for
    /// the inputs
    #[arg(long, value_name = "FILE")]
    null: Vec<PathBuf>,
    /// The column that is compared with the null, by its absolute value [default: delta_logit, or what there is]
    #[arg(long, value_name = "COLUMN")]
    statistic: Option<String>,
    /// Leave q-values out, which need all rows before the first one is written: for shards
    #[arg(long)]
    no_q: bool,
    /// Write no effects but the rows of a null: N times every variant, in dinucleotide shuffles of its windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    make_null: Option<u32>,
    /// BED files: genes=FILE adds the nearest ones and their distances (negative upstream), any other NAME=FILE the
    /// names of those that overlap REF
    #[arg(long, value_name = "NAME=FILE")]
    annotate: Vec<String>,
    /// How many nearest genes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    nearest: u32,
    /// Hits on the same allele rows (nyx-hits): adds those gained and lost
    #[arg(long, value_name = "FILE")]
    hits: Option<PathBuf>,
    /// Add both windows, in ref_sequence and alt_sequence
    #[arg(long)]
    sequences: bool,
    /// One row for every model or class
    #[arg(long)]
    long: bool,
    /// Names of contigs in --vcf, and those in the rows: two columns, by tab
    #[arg(long, value_name = "FILE")]
    contig_map: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An Arrow stream
    Arrow,
    Tsv,
    /// The file of --vcf: VCF text stays text (BGZF for FILE.gz), BCF stays BCF
    #[value(alias = "bcf")]
    Vcf,
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
    if let Some(copies) = args.make_null {
        let [input] = args.inputs.as_slice() else {
            return Err(Error::usage("--make-null reads one stream"));
        };
        let rows = args.common.open(input)?.rebatch(args.common.batch_rows(ROWS));
        let pipe = shuffled::shuffled(rows, copies as usize, args.common.seed)?;
        let step = provenance::Step { seed: Some(args.common.seed), ..args.common.step() };
        return args.common.write(pipe, step);
    }
    let format = args.format();
    if format == Format::Vcf && args.vcf.is_none() {
        return Err(Error::usage(
            "--vcf IN is missing: the file that gets the fields (`nyx-view -O vcf` makes a VCF of rows alone)",
        ));
    }
    if format == Format::Vcf && args.long {
        return Err(Error::usage("--long is for tables: a VCF has a field for every model as it is"));
    }
    let pipe = args.with_annotations(args.with_significance(args.effects()?)?)?;
    let pipe = if args.long { long::long(pipe)? } else { pipe };
    args.write(pipe, format)
}

impl Args {
    fn format(&self) -> Format {
        let name = self.common.output.to_string_lossy();
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        self.format.unwrap_or_else(|| match () {
            () if ends(&[".vcf", ".vcf.gz", ".vcf.bgz", ".bcf"]) => Format::Vcf,
            () if ends(&[".tsv", ".txt", ".tsv.gz", ".txt.gz", ".tsv.bgz"]) => Format::Tsv,
            () => Format::Arrow,
        })
    }

    fn options(&self) -> Options {
        Options {
            targets: self.target.clone(),
            threshold: self.threshold,
            change: self.min_change,
            sequences: self.sequences,
        }
    }

    /// Compares the inputs, or passes effects on.
    fn effects(&self) -> Result<Pipe> {
        let sources = self.sources(&self.inputs)?;
        if sources.iter().all(|source| is_effects(&source.pipe)) {
            return shards::join(sources.into_iter().map(|source| source.pipe).collect());
        }
        effects::effects(sources, self.options())
    }

    fn sources(&self, paths: &[PathBuf]) -> Result<Vec<Source>> {
        let source = |path: &PathBuf| {
            let (name, file) = named(path);
            let pipe = self.common.open(&file)?.cut(self.common.batch_rows(ROWS));
            Ok(Source { name, pipe })
        };
        let sources = paths.iter().map(source).collect::<Result<Vec<_>>>()?;
        let unnamed = sources.iter().filter(|source| source.name.is_empty()).count();
        if unnamed > 0 && unnamed < sources.len() {
            return Err(Error::usage("name all inputs, NAME=FILE, or none of them"));
        }
        Ok(sources)
    }

    /// Adds p-values against `--null` and q-values; q-values alone where there are p-values.
    fn with_significance(&self, pipe: Pipe) -> Result<Pipe> {
        let has_p = nyx::schema::has(pipe.schema(), significance::P_VALUE);
        if self.null.is_empty() {
            return if has_p && !self.no_q { significance::add_q_values(pipe) } else { Ok(pipe) };
        }
        let statistic = match &self.statistic {
            Some(name) => name.clone(),
            None => significance::default_statistic(pipe.schema())?.to_string(),
        };
        let pipe = significance::add_p_values(pipe, &statistic, self.nulls(&statistic)?)?;
        if self.no_q { Ok(pipe) } else { significance::add_q_values(pipe) }
    }

    fn nulls(&self, statistic: &str) -> Result<Vec<Null>> {
        let sources = match self.null.as_slice() {
            [path] => {
                let (name, file) = named(path);
                match input::open_any(&file)? {
                    Opened::Text(text) => return Ok(vec![read_numbers(text).in_file(path)?]),
                    Opened::Pipe(pipe) => {
                        self.common.reads(&file);
                        vec![Source { name, pipe: pipe.cut(self.common.batch_rows(ROWS)) }]
                    }
                }
            }
            several => self.sources(several)?,
        };
        if sources.iter().all(|source| is_effects(&source.pipe)) {
            let joined = shards::join(sources.into_iter().map(|source| source.pipe).collect())?;
            return significance::nulls(joined, statistic);
        }
        significance::nulls(effects::effects(sources, self.options())?, statistic)
    }

    fn with_annotations(&self, pipe: Pipe) -> Result<Pipe> {
        let genome = Genome::of(pipe.schema())?;
        let pipe = match &self.hits {
            Some(path) => hit_changes::add(pipe, self.common.open(path)?)?,
            None => pipe,
        };
        if self.annotate.is_empty() {
            return Ok(pipe);
        }
        let annotations = self.annotate.iter().map(|text| self.annotation(text, genome.as_ref()));
        annotation::annotate(pipe, annotations.collect::<Result<_>>()?)
    }

    fn annotation(&self, text: &str, genome: Option<&Genome>) -> Result<Annotation> {
        let (column, path) = text.split_once('=').ok_or_else(|| {
            Error::usage(format!("--annotate {text}: write NAME=FILE, such as genes={text} or peaks={text}"))
        })?;
        let path = Path::new(path);
        let intervals = Reader::new(input::open_text(path)?, path.display().to_string(), Columns::All);
        let feature = |interval: Result<nyx::genome::bed::Interval>| {
            let interval = interval?;
            let place = format!("{}:{}-{}", interval.chrom, interval.start + 1, interval.end);
            Ok(Feature {
                name: interval.name.unwrap_or(place),
                chrom: interval.chrom,
                start: interval.start,
                end: interval.end,
                strand: interval.strand,
            })
        };
        let features = intervals.map(feature).collect::<Result<Features>>()?;
        check_contigs(&features, genome).in_file(path)?;
        let relation = match column {
            "genes" => Relation::Nearest(self.nearest as usize),
            _ => Relation::Overlapping,
        };
        Ok(Annotation { column: column.into(), features, relation })
    }

    fn write(&self, pipe: Pipe, format: Format) -> Result<()> {
        if format == Format::Arrow {
            return self.common.write(pipe, self.common.step());
        }
        let metadata = provenance::append(&pipe.schema().metadata, self.common.step())?;
        let schema = pipe.schema().as_ref().clone().with_metadata(metadata);
        let pipe = self.common.count(pipe.with_schema(schema.into()));
        if format == Format::Tsv {
            let mut output = TextOutput::create(&self.common.output)?;
            table::write_tsv(pipe, Head { provenance: !self.common.no_pg, names: true }, &mut output)?;
            output.commit()?;
        } else {
            self.write_vcf(pipe)?;
        }
        self.common.summarize();
        Ok(())
    }

    fn write_vcf(&self, pipe: Pipe) -> Result<()> {
        let input = self.vcf.as_ref().expect("it was checked");
        let contig_map = read_contig_map(self.contig_map.as_deref())?;
        let options = vcf::Options { contig_map, provenance: !self.common.no_pg };
        let written = vcf::annotate(pipe.ahead(2), input, &options, &self.common.output)?;
        let vcf::Written { records, annotated, index } = written;
        self.common.say(&format!("{records} records, {annotated} with effects"));
        match index {
            Some(Err(why)) if self.common.output != Path::new("-") => {
                self.common.say(&format!("warning: no index was written: {why}"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_effects(pipe: &Pipe) -> bool {
    pipe.schema().metadata.get(KIND_KEY).is_some_and(|kind| kind == effects::KIND)
}

/// Returns name and file of `NAME=FILE`; of a file that is there as it is written, no name.
fn named(path: &Path) -> (String, PathBuf) {
    if let Some((name, file)) = path.to_str().and_then(|text| text.split_once('='))
        && !path.exists()
    {
        return (name.into(), file.into());
    }
    (String::new(), path.to_owned())
}

/// Reads one number a line.
fn read_numbers(text: Box<dyn BufRead + Send>) -> Result<Null> {
    let mut numbers = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line?;
        let word = line.trim();
        if word.is_empty() || word.starts_with('#') {
            continue;
        }
        numbers.push(word.parse::<f64>().map_err(|_| {
            Error::data(format!("line {number}: `{word}` is no number; a null has one a line"))
        })?);
    }
    if numbers.is_empty() {
        return Err(Error::data("there is no number in it"));
    }
    Ok(Null::new(numbers))
}

/// Refuses features none of whose contigs the genome has.
fn check_contigs(features: &Features, genome: Option<&Genome>) -> Result<()> {
    let Some(genome) = genome else { return Ok(()) };
    let known = |name: &str| genome.contigs.iter().any(|(contig, _)| contig == name);
    let mut names: Vec<&str> = features.contigs().collect();
    if names.is_empty() || names.iter().any(|name| known(name)) {
        return Ok(());
    }
    names.sort_unstable();
    let of_genome: Vec<&str> = genome.contigs.iter().map(|(name, _)| name.as_str()).take(3).collect();
    Err(Error::data(format!(
        "none of its contigs ({}, …) is in the genome of the rows ({}, …): use one naming",
        names[..names.len().min(3)].join(", "),
        of_genome.join(", ")
    )))
}

/// Reads a table of two columns: the name of a contig in the file, and in the rows.
fn read_contig_map(path: Option<&Path>) -> Result<HashMap<String, String>> {
    let Some(path) = path else { return Ok(HashMap::new()) };
    let text = input::read_text(path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let pair = |(number, line): (usize, &str)| {
        let mut words = line.split('\t');
        match (words.next(), words.next()) {
            (Some(from), Some(to)) => Ok((from.to_string(), to.trim_end().to_string())),
            _ => Err(Error::data(format!("line {number}: `{line}` is no pair of names separated by a tab"))),
        }
    };
    lines.map(pair).collect::<Result<_>>().in_file(path)
}
