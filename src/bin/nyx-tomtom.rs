//! nyx-tomtom: motifs → the known motifs that they look like.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::Error;
use nyx::cli::{self, Common};
use nyx::error::{InFile, Result};
use nyx::motif::compare::{self, Comparison, Distance, MOST, Match, Options, Profile, Targets, WIDEST};
use nyx::motif::{self, lists, meme};
use nyx::output::{self, Output};
use nyx::report::tomtom::{self, COLUMNS, Compared, Named};
use rayon::prelude::*;

/// Find the known motifs that motifs look like, with the statistics and the table of MEME's Tomtom.
///
/// Columns are compared by their Euclidean distance; what hangs over counts as the median. The p-value is the chance
/// of a match as good at any offset of a random known motif of the same width, the E-value the expected number of
/// those, the q-value Storey's false discovery rate over all known motifs and both strands. Motifs are MEME text,
/// JASPAR counts, HOMER motifs or the HDF5 file of TF-MoDISco, whose patterns are trimmed.
///
/// Example: nyx-tomtom motifs.meme JASPAR.meme --html matches.html -o tomtom.tsv
#[derive(Parser)]
#[command(name = "nyx-tomtom", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// The motifs to ask about
    #[arg(value_name = "QUERY")]
    query: PathBuf,
    /// The known motifs; several files count as one collection
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<PathBuf>,
    /// Ask only about these motifs, by comma
    #[arg(short, long, value_name = "ID", value_delimiter = ',')]
    motifs: Vec<String>,
    /// The score of two columns: ed, pearson, sandelin, kullback or allr
    #[arg(long, value_name = "DISTANCE", default_value_t)]
    dist: Distance,
    /// Matches up to this q-value (or E-value, with --evalue)
    #[arg(long, value_name = "VALUE", default_value_t = 0.5)]
    thresh: f64,
    /// --thresh is an E-value
    #[arg(long)]
    evalue: bool,
    /// Columns that must overlap, or all of a motif that is narrower
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_overlap: u32,
    /// Only offsets at which one motif lies within the other
    #[arg(long)]
    internal: bool,
    /// Leave the other strand of the known motifs out
    #[arg(long)]
    norc: bool,
    /// Columns that hang over do not count at all
    #[arg(long)]
    incomplete_scores: bool,
    /// Sequences of the query's background added to every motif
    #[arg(long, value_name = "COUNT", default_value_t = 0.1)]
    motif_pseudo: f64,
    /// Fraction of the largest column at which patterns of TF-MoDISco are trimmed
    #[arg(short = 't', long, value_name = "FRACTION", default_value_t = 0.3)]
    trim_threshold: f64,
    /// Write a page with aligned logos, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Matches of a motif that the page shows; the table has all
    #[arg(long, value_name = "N", default_value_t = 10)]
    html_matches: usize,
    /// Table of motif and the known motif it should be: how many are matched, and which
    #[arg(long, value_name = "FILE", requires = "pairs_output")]
    pairs: Option<PathBuf>,
    /// Where to write what became of the pairs (CSV)
    #[arg(long, value_name = "FILE", requires = "pairs")]
    pairs_output: Option<PathBuf>,
    /// Largest q-value at which a pair is matched
    #[arg(long, value_name = "Q", default_value_t = 0.01)]
    pairs_q: f64,
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
    let pairs = ("--pairs-output", args.pairs_output.as_deref());
    args.common.check_outputs(&[("--html", args.html.as_deref()), pairs])?;
    args.check()?;
    let queries = args.queries()?;
    let background = symmetric(queries[0].background);
    let targets = args.targets(background)?;
    let compared = args.compare(queries, &targets, background);
    let step = args.common.step();
    let mut file = Output::create(&args.common.output)?;
    for text in tomtom::table(&compared, &targets, &step) {
        file.write_all(text.as_bytes())?;
    }
    file.commit()?;
    if let Some(path) = &args.html {
        output::write_file(path, tomtom::page(&compared, &targets, args.html_matches, &step).as_bytes())?;
    }
    let matches: usize = compared.iter().map(|compared| compared.matches.len()).sum();
    let without = compared.iter().filter(|compared| compared.matches.is_empty()).count();
    args.common.say(&format!(
        "{matches} matches of {} motifs with {}, {without} motifs without",
        compared.len(),
        targets.len()
    ));
    args.write_pairs(&compared, &targets)
}

/// Averages the two strands, as MEME does for motifs that are compared on both.
fn symmetric([a, c, g, t]: [f64; 4]) -> [f64; 4] {
    let (at, cg) = ((a + t) / 2.0, (c + g) / 2.0);
    [at, cg, cg, at]
}

impl Args {
    fn check(&self) -> Result<()> {
        if !(self.thresh >= 0.0 && (self.evalue || self.thresh <= 1.0)) {
            return Err(Error::usage(format!("--thresh {}: a q-value lies between 0 and 1", self.thresh)));
        }
        if !(self.motif_pseudo >= 0.0 && self.motif_pseudo.is_finite()) {
            return Err(Error::usage("--motif-pseudo must be at least 0"));
        }
        if self.dist.refuses_zeros() && self.motif_pseudo == 0.0 {
            return Err(Error::usage(format!("--dist {} needs a --motif-pseudo above 0", self.dist)));
        }
        if !(0.0..=1.0).contains(&self.trim_threshold) {
            return Err(Error::usage("--trim-threshold must lie between 0 and 1"));
        }
        Ok(())
    }

    fn queries(&self) -> Result<Vec<meme::Motif>> {
        let mut queries = motif::read_probabilities(&self.query, self.trim_threshold)?;
        if !self.motifs.is_empty() {
            for name in &self.motifs {
                if !queries.iter().any(|query| query.identifier == *name) {
                    return Err(Error::data(format!("no motif `{name}`"))).in_file(&self.query);
                }
            }
            queries.retain(|query| self.motifs.contains(&query.identifier));
        }
        if let Some(wide) = queries.iter().find(|query| query.ppm.width() > WIDEST) {
            let (name, width) = (&wide.identifier, wide.ppm.width());
            let message =
                format!("motif `{name}` has {width} columns; at most {WIDEST} can be compared: trim it");
            return Err(Error::data(message)).in_file(&self.query);
        }
        Ok(queries)
    }

    fn targets(&self, background: [f64; 4]) -> Result<Vec<Named>> {
        let mut targets = Vec::new();
        for path in &self.targets {
            let motifs = motif::read_probabilities(path, self.trim_threshold)?;
            targets.extend(motifs.into_iter().map(|motif| self.named(motif, background)));
        }
        if targets.len() > MOST {
            return Err(Error::data(format!(
                "{} known motifs: at most {MOST} can be compared",
                targets.len()
            )));
        }
        if targets.len() < 50 {
            self.common.say(&format!(
                "warning: {} known motifs are few for p-values: columns are drawn from theirs",
                targets.len()
            ));
        }
        Ok(targets)
    }

    fn named(&self, motif: meme::Motif, background: [f64; 4]) -> Named {
        let profile = Profile::new(&motif, self.motif_pseudo, background);
        Named { identifier: motif.identifier, alternate: motif.alternate, profile }
    }

    fn compare(&self, queries: Vec<meme::Motif>, targets: &[Named], background: [f64; 4]) -> Vec<Compared> {
        let known: Vec<(&str, Profile)> =
            targets.iter().map(|target| (target.identifier.as_str(), target.profile.clone())).collect();
        let known = Targets::new(&known, !self.norc);
        let options = Options {
            distance: self.dist,
            complete: !self.incomplete_scores,
            internal: self.internal,
            min_overlap: self.min_overlap as usize,
            background,
        };
        let counts = |found: &Match| (if self.evalue { found.e_value } else { found.q_value }) <= self.thresh;
        let one = |comparison: &mut Comparison, query| {
            let query = self.named(query, background);
            // They are in the order of what --thresh asks for.
            let matches = comparison.compare_while(&query.profile, counts);
            Compared { query, matches: compare::better_strands(&matches) }
        };
        queries.into_par_iter().map_init(|| Comparison::new(&known, options), one).collect()
    }

    /// Writes whether each motif of --pairs is matched by the one that it should be.
    fn write_pairs(&self, compared: &[Compared], targets: &[Named]) -> Result<()> {
        let (Some(pairs), Some(output)) = (&self.pairs, &self.pairs_output) else { return Ok(()) };
        let pairs = lists::read_table::<String>(pairs)?;
        let mut text = format!("{},{},status,{}\n", COLUMNS[0], COLUMNS[1], COLUMNS[2..].join(","));
        let mut matched = 0;
        for (query, target) in &pairs {
            let line =
                compared.iter().find(|compared| compared.query.identifier == *query).and_then(|compared| {
                    let found =
                        compared.matches.iter().find(|found| targets[found.target].identifier == *target)?;
                    Some((found.q_value, tomtom::cells(&compared.query, &targets[found.target], found)))
                });
            let is_matched = line.as_ref().is_some_and(|(q_value, _)| *q_value <= self.pairs_q);
            matched += usize::from(is_matched);
            let status = if is_matched { "matched" } else { "unmatch" };
            let rest = line.map_or(vec![String::new(); COLUMNS.len() - 2], |(_, cells)| cells[2..].to_vec());
            text += &format!("{query},{target},{status},{}\n", rest.join(","));
        }
        output::write_file(output, text.as_bytes())?;
        self.common.say(&format!("{matched} of {} pairs are matched", pairs.len()));
        Ok(())
    }
}
