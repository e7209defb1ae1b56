//! nyx-scan: rows → places where position weight matrices score high.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use arrow_array::{Array, RecordBatch};
use clap::{Parser, ValueEnum};
use nyx::cli::{self, Common};
use nyx::convert::fimo::{self, Line};
use nyx::dna::reverse_complement;
use nyx::error::{Error, InFile, Result};
use nyx::motif::compare::Profile;
use nyx::motif::pwm::{NON_REDUNDANT, Pwm};
use nyx::motif::{self, meme, q_value};
use nyx::provenance::Step;
use nyx::scan::{self, Motif, Options, Site, Tally};
use nyx::{output, schema};

/// Rows in a batch unless the user says otherwise.
const BATCH: usize = 1024;

/// Find where motifs match sequences, with the scores and p-values of FIMO.
///
/// A place matches when its log-odds score has a p-value up to --thresh, exactly computed for random sequences of the
/// background's composition. Hits leave at once, in the order of the rows, with the columns of nyx-hits, so that
/// nyx-collapse, nyx-intersect, nyx-report and nyx-view read them; `score` and `p_value` are there besides. q-values
/// need all hits of a motif: --tsv writes them in FIMO's table, at the end. Places with N are left out.
///
/// Example: nyx-extract regions --fasta hg38.fa --peaks p.narrowPeak | nyx-scan -m JASPAR.meme --tsv fimo.tsv > hits.arrows
#[derive(Parser)]
#[command(name = "nyx-scan", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Motifs: MEME text, JASPAR counts, HOMER motifs or the HDF5 file of TF-MoDISco
    #[arg(short, long, value_name = "FILE")]
    motifs: PathBuf,
    /// Look for these motifs only, by comma
    #[arg(short = 'I', long, value_name = "ID", value_delimiter = ',')]
    include: Vec<String>,
    /// Largest p-value of a hit
    #[arg(long, value_name = "P", default_value_t = 1e-4)]
    thresh: f64,
    /// Look on the strand that the sequences read only
    #[arg(long)]
    norc: bool,
    /// Composition of random sequences: nrdb (FIMO's), uniform, motifs (that of the file), or A,C,G,T as four numbers.
    /// It is made the same on both strands unless --norc
    #[arg(long, value_name = "WHAT", default_value = "nrdb")]
    background: Background,
    /// Sequences of the background added to every motif
    #[arg(long, value_name = "COUNT", default_value_t = 0.1)]
    motif_pseudo: f64,
    /// Fraction of the largest column at which patterns of TF-MoDISco are trimmed
    #[arg(short = 't', long, value_name = "FRACTION", default_value_t = 0.3)]
    trim_threshold: f64,
    /// Write FIMO's table, too, by p-value; its hits wait in memory for their q-values
    #[arg(long, value_name = "FILE")]
    tsv: Option<PathBuf>,
    /// q-values of the table
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "tsv")]
    q_values: QValues,
    /// The rows: an Arrow stream, an Arrow file or a Parquet file; `-` is standard input
    #[arg(default_value = "-")]
    input: PathBuf,
}

#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
enum QValues {
    /// Storey's, with the share of null places estimated from all of them, as FIMO
    #[default]
    Storey,
    /// Benjamini and Hochberg's
    Bh,
    /// None
    None,
}

#[derive(Clone, Copy, Debug)]
enum Background {
    Known([f64; 4]),
    Motifs,
}

impl FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "nrdb" => return Ok(Self::Known(NON_REDUNDANT)),
            "uniform" => return Ok(Self::Known([0.25; 4])),
            "motifs" => return Ok(Self::Motifs),
            _ => {}
        }
        let numbers: Option<Vec<f64>> = text
            .split(',')
            .map(|word| word.trim().parse().ok().filter(|&f: &f64| f > 0.0 && f.is_finite()))
            .collect();
        let four: Option<[f64; 4]> = numbers.and_then(|numbers| numbers.try_into().ok());
        let four = four.ok_or("write nrdb, uniform, motifs, or four numbers above 0 by comma")?;
        let sum: f64 = four.iter().sum();
        Ok(Self::Known(four.map(|frequency| frequency / sum)))
    }
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
    args.common.check_outputs(&[("--tsv", args.tsv.as_deref())])?;
    let motifs = Arc::new(args.motifs()?);
    let rows = args.common.open(&args.input)?.rebatch(args.common.batch_rows(BATCH));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (kept, known) = (lines.clone(), motifs.clone());
    let keep = args.tsv.is_some();
    let watch = move |batch: &RecordBatch, sites: &[Site]| {
        if keep {
            let mut kept = kept.lock().expect("one thread keeps");
            for site in sites {
                kept.push(line(batch, site, &known[site.motif])?);
            }
        }
        Ok(())
    };
    let null_share = args.tsv.is_some() && args.q_values == QValues::Storey;
    let options = Options { p_value: args.thresh, one_strand: args.norc, null_share };
    let (hits, tally) = scan::scan(rows, motifs.clone(), options, watch)?;
    let step = args.common.step();
    args.common.write(hits, step.clone())?;
    let lines = std::mem::take(&mut *lines.lock().expect("the stage has ended"));
    args.write_table(lines, &motifs, &tally.lock().expect("the stage has ended"), &step)
}

/// Returns a site as a line of FIMO's table, without its q-value.
fn line(batch: &RecordBatch, site: &Site, motif: &Motif) -> Result<Line> {
    let row = site.row;
    let text = |name| -> Result<Option<String>> {
        let column = schema::strings(batch, name)?;
        Ok(column.is_valid(row).then(|| column.value(row).to_string()))
    };
    let strand = schema::strings(batch, schema::STRAND)?.value(row).parse()?;
    let (start, end) =
        (schema::i64s(batch, schema::START)?.value(row), schema::i64s(batch, schema::END)?.value(row));
    let width = motif.pwm.width();
    let (first, last, strand) = scan::place(site, width, start, end, strand);
    let sequence = schema::strings(batch, schema::SEQUENCE)?.value(row).as_bytes();
    let mut matched = sequence[site.position..site.position + width].to_vec();
    if site.reverse {
        reverse_complement(&mut matched);
    }
    let region = schema::u64s(batch, schema::REGION)?.value(row);
    let name = match text(schema::CHROM)? {
        Some(chrom) => Some(chrom),
        None => text(schema::NAME)?,
    };
    Ok(Line {
        motif: site.motif,
        sequence: name.unwrap_or_else(|| format!("region_{region}")),
        start: first + 1,
        stop: last,
        strand: strand.as_str(),
        score: motif.pwm.score(site.level),
        p_value: motif.pwm.p_value(site.level),
        q_value: None,
        matched: String::from_utf8(matched).expect("a sequence is ASCII"),
    })
}

impl Args {
    fn motifs(&self) -> Result<Vec<Motif>> {
        if !(self.thresh > 0.0 && self.thresh <= 1.0) {
            return Err(Error::usage(format!("--thresh {}: a p-value lies between 0 and 1", self.thresh)));
        }
        if !(self.motif_pseudo > 0.0 && self.motif_pseudo.is_finite()) {
            return Err(Error::usage(
                "--motif-pseudo must be above 0: a base that never occurs has no log-odds",
            ));
        }
        let mut motifs = motif::read_probabilities(&self.motifs, self.trim_threshold)?;
        if let Some(name) =
            self.include.iter().find(|name| !motifs.iter().any(|motif| motif.identifier == **name))
        {
            return Err(Error::data(format!("no motif `{name}`"))).in_file(&self.motifs);
        }
        motifs.retain(|motif| self.include.is_empty() || self.include.contains(&motif.identifier));
        Ok(motifs.into_iter().map(|motif| self.motif(motif)).collect())
    }

    fn motif(&self, motif: meme::Motif) -> Motif {
        let [a, c, g, t] = match self.background {
            Background::Known(frequencies) => frequencies,
            Background::Motifs => motif.background,
        };
        let background = match self.norc {
            true => [a, c, g, t],
            false => [(a + t) / 2.0, (c + g) / 2.0, (c + g) / 2.0, (a + t) / 2.0],
        };
        let pwm = Pwm::new(&Profile::new(&motif, self.motif_pseudo, background), background);
        Motif { name: motif.identifier, alternate: motif.alternate, pwm }
    }

    fn write_table(&self, mut lines: Vec<Line>, motifs: &[Motif], tally: &Tally, step: &Step) -> Result<()> {
        let Some(path) = &self.tsv else { return Ok(()) };
        // Of equal p-values the order is that of motifs and of the input.
        lines.sort_by(|a, b| a.p_value.total_cmp(&b.p_value).then(a.motif.cmp(&b.motif)));
        if self.q_values != QValues::None {
            for motif in 0..motifs.len() {
                let mut own: Vec<&mut Line> = lines.iter_mut().filter(|line| line.motif == motif).collect();
                let p_values: Vec<f64> = own.iter().map(|line| line.p_value).collect();
                let share = if self.q_values == QValues::Storey { tally.null_share(motif) } else { 1.0 };
                let q_values = q_value::from_share(&p_values, tally.places(motif), share);
                own.iter_mut().zip(q_values).for_each(|(line, q_value)| line.q_value = Some(q_value));
            }
        }
        let names: Vec<(&str, Option<&str>)> =
            motifs.iter().map(|motif| (motif.name.as_str(), motif.alternate.as_deref())).collect();
        let comment = format!("{} {} {}", step.tool, step.version, step.command);
        output::write_file(path, fimo::table(&lines, &names, comment.trim_end()).as_bytes())
    }
}
