//! `nyx-extract split`.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow_array::RecordBatch;
use clap::ValueEnum;
use nyx::cli::Common;
use nyx::convert::examples::{self, Form};
use nyx::convert::{columnar, part};
use nyx::error::{Error, InFile, Result};
use nyx::extract::split::{Parts, Rule, Set, Splitter, Wanted};
use nyx::output::Output;
use nyx::pipe::{Pipe, ipc};
use nyx::provenance::{self, Share, Step};
use nyx::{input, schema};

use crate::shard::{self, ShardArg};

/// Split rows into train, dev and test: the files of a folder that nyx-train --data reads.
///
/// By default 8 of 10 rows of every label go to train, 1 to dev and 1 to test (`--parts 80:20` makes no test set). With
/// contigs held out, rows of these go to dev and test and all others to train; a contig in both lists goes to either by a
/// coin for each region. Rows that are no examples (no sequence, no label, a status other than `ok`) are left out
/// and counted. The same seed gives the same split, whatever the batches.
///
/// With `--shard i/n` the folder has those rows of the split of the whole that are of the i-th part; `--format arrows` keeps
/// what nyx-merge needs to prove that all parts of a set are there: nyx-merge 1/train.arrows 2/train.arrows.
///
/// Example: nyx-extract split set.arrows --dev-contigs chr11,chr12 --test-contigs chr11,chr12 -o CTCF/
#[derive(clap::Args)]
pub struct Args {
    /// Rows: an Arrow stream, an Arrow file or a Parquet file; `-` is standard input
    #[arg(default_value = "-")]
    input: PathBuf,
    /// Rows of train, dev and test in a whole: 80:20 or 80:10:10 [default: 80:10:10]
    #[arg(long, value_name = "A:B[:C]", conflicts_with_all = ["dev_contigs", "test_contigs"])]
    parts: Option<Parts>,
    /// label: the same parts of every label. region, sequence: by chance, but rows of a region (a positive and its
    /// negatives), or a sequence and its reverse complement, come into one set
    #[arg(long, value_enum, value_name = "WHAT", default_value_t, conflicts_with_all = ["dev_contigs", "test_contigs"])]
    by: By,
    /// Contigs of the dev set, by comma
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    dev_contigs: Vec<String>,
    /// Contigs of the test set, by comma
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    test_contigs: Vec<String>,
    /// Leave shorter sequences out
    #[arg(long, value_name = "BASES", default_value_t = 1)]
    min_length: usize,
    /// Leave sequences with N out
    #[arg(long)]
    no_n: bool,
    /// What the files are
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// Write sequences of a CSV or TSV as overlapping k-mers, as DNABERT reads them
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(1..=16))]
    kmer: Option<u8>,
    #[command(flatten)]
    shard: ShardArg,
}

#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
enum By {
    #[default]
    Label,
    Region,
    Sequence,
}

#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
enum Format {
    #[default]
    Csv,
    Tsv,
    Parquet,
    Arrows,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Parquet => "parquet",
            Self::Arrows => "arrows",
        }
    }
}

/// Rows of each set, and of none.
#[derive(Default)]
struct Counts {
    sets: [u64; 3],
    left_out: u64,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let rule = args.rule()?;
    let directory = directory(common)?;
    // A set has few of the regions.
    let share = shard::of_rows(args.shard.shard, &args.input)?.map(|share| Share { sparse: true, ..share });
    let pipe = input::open_pipe(&args.input)?.ahead(2);
    let step = Step { share, seed: Some(common.seed), ..common.step() };
    let metadata = provenance::append(&pipe.schema().metadata, step)?;
    let target = pipe.schema().as_ref().clone().with_metadata(metadata);
    let pipe = pipe.with_schema(target.into());
    std::fs::create_dir_all(directory).in_file(directory)?;
    args.refuse_others(directory)?;
    // A set that has no row of this shard may have some of another: it gets a file all the same.
    let filled = Set::ALL.map(|set| share.is_some() && rule.fills(set));
    let outputs: Vec<Mutex<Option<Output>>> = Set::ALL.iter().map(|_| Mutex::new(None)).collect();
    let counts = args.part(pipe, rule, share, common, &outputs)?;
    if share.is_none() && counts.sets[Set::Train as usize] == 0 {
        return Err(Error::data("no row is left to train on").at(directory.display().to_string()));
    }
    for (set, output) in Set::ALL.iter().zip(outputs) {
        let (output, path) = (output.into_inner().expect("no sink panicked"), args.file(*set, directory));
        // No file for a set that nothing belongs to: nyx-train would take it for one that lacks examples.
        match counts.sets[*set as usize] > 0 || filled[*set as usize] {
            true => output.map_or(Ok(()), Output::commit).in_file(&path)?,
            false if path.exists() => return Err(older()).in_file(&path),
            false => {}
        }
    }
    let [train, dev, test] = counts.sets;
    common.say(&format!("{train} rows to train on, {dev} dev, {test} test; {} left out", counts.left_out));
    Ok(())
}

fn directory(common: &Common) -> Result<&Path> {
    if common.output == Path::new("-") {
        return Err(Error::usage("a split is a folder: name it with -o DIR"));
    }
    Ok(&common.output)
}

fn older() -> Error {
    Error::data("it is of an older split: remove it, or name another folder")
}

impl Counts {
    /// Counts a row, and returns its sink.
    fn part(&mut self, set: Option<Set>) -> Option<usize> {
        match set {
            Some(set) => self.sets[set as usize] += 1,
            None => self.left_out += 1,
        }
        set.map(|set| set as usize)
    }
}

impl Args {
    fn rule(&self) -> Result<Rule> {
        if self.kmer.is_some() && matches!(self.format, Format::Parquet | Format::Arrows) {
            return Err(Error::usage(
                "--kmer is for --format csv and tsv; nyx-tokenize makes tokens of rows",
            ));
        }
        if !self.dev_contigs.is_empty() || !self.test_contigs.is_empty() {
            let set = |names: &[String]| names.iter().cloned().collect::<HashSet<_>>();
            return Ok(Rule::Contigs { dev: set(&self.dev_contigs), test: set(&self.test_contigs) });
        }
        let parts = match self.parts {
            Some(parts) => parts,
            None => "80:10:10".parse()?,
        };
        Ok(match self.by {
            By::Label => Rule::Label(parts),
            By::Region => Rule::Region(parts),
            By::Sequence => Rule::Sequence(parts),
        })
    }

    /// Refuses a folder with sets in other formats, which would be read together with these.
    fn refuse_others(&self, directory: &Path) -> Result<()> {
        let formats = Format::value_variants().iter().filter(|format| **format != self.format);
        let files = formats.flat_map(|format| {
            Set::ALL.map(|set| directory.join(format!("{}.{}", set.name(), format.ending())))
        });
        match files.into_iter().find(|file| file.exists()) {
            Some(file) => Err(older()).in_file(&file),
            None => Ok(()),
        }
    }

    /// Writes the rows of each set, those of other shards excepted; the files wait in `outputs`.
    fn part(
        &self,
        pipe: Pipe,
        rule: Rule,
        share: Option<Share>,
        common: &Common,
        outputs: &[Mutex<Option<Output>>],
    ) -> Result<Counts> {
        let wanted = Wanted { length_least: self.min_length, without_n: self.no_n };
        let (mut splitter, mut counts) = (Splitter::new(rule, wanted, common.seed), Counts::default());
        let here = |region: &u64| share.is_none_or(|share| (share.first..share.end).contains(region));
        let parts = |batch: &RecordBatch| {
            // Which set a row belongs to depends on the rows before it, also on those of other shards.
            let sets = splitter.sets(batch)?;
            let regions = schema::u64s(batch, schema::REGION)?.values().iter();
            let part = |(region, set)| if here(region) { counts.part(set) } else { None };
            Ok(regions.zip(sets).map(part).collect())
        };
        let sinks = Set::ALL.iter().zip(outputs).map(|(set, output)| self.sink(*set, &common.output, output));
        part::write(pipe, parts, sinks.collect())?;
        Ok(counts)
    }

    fn file(&self, set: Set, directory: &Path) -> PathBuf {
        directory.join(format!("{}.{}", set.name(), self.format.ending()))
    }

    /// Returns what writes a set; its file waits in `output`, not yet under its name, until all sets are whole.
    fn sink<'a>(&self, set: Set, directory: &Path, output: &'a Mutex<Option<Output>>) -> part::Sink<'a> {
        let (path, format, word) = (self.file(set, directory), self.format, self.kmer.map(usize::from));
        Box::new(move |pipe| {
            let mut file = Output::create(&path)?;
            write(pipe, format, word, &mut file).in_file(&path)?;
            *output.lock().expect("no other thread writes this set") = Some(file);
            Ok(())
        })
    }
}

fn write(pipe: Pipe, format: Format, word: Option<usize>, output: impl Write + Send) -> Result<()> {
    match format {
        Format::Csv => examples::write(pipe, Form { delimiter: ',', word }, output),
        Format::Tsv => examples::write(pipe, Form { delimiter: '\t', word }, output),
        Format::Parquet => columnar::write_parquet(pipe, output),
        Format::Arrows => ipc::write(pipe, output),
    }
}
