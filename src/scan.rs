//! Stage: rows with sequences → places where a position weight matrix scores high, as FIMO finds them.
//!
//! A hit is a place of a row's sequence, on either strand, whose log-odds score has a p-value up to a threshold; the
//! p-value is exact for a random sequence of the background's composition. Places with `N` have no score. Hits come
//! in the order of rows, then by position, motif and strand, with the columns of `nyx-hits`:
//!
//! | column | of a scan |
//! |---|---|
//! | `score`, `hit_coefficient`, `hit_coefficient_global` | log-odds in bits |
//! | `hit_similarity`, `hit_correlation` | the score over the best that the motif can have |
//! | `hit_importance`, `hit_importance_sq` | −log10 of the p-value, and its square |
//! | `p_value` | chance of the score at one place |
//! | `dual_gap`, `converged` | 0 and true: nothing is fitted |

mod rows;
mod scanner;

use std::sync::{Arc, Mutex};

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field};
use rayon::prelude::*;

use crate::error::Result;
use crate::motif::pwm::Pwm;
use crate::motif::q_value;
use crate::pipe::Pipe;
use crate::region::Strand;
use crate::schema::{self, CHROM, END, NAME, REGION, SEQUENCE, START, STRAND, check_bases, describe};

use scanner::Scanner;

/// Rows that a motif is laid on at once, while its tables are at hand.
const ROWS: usize = 64;

/// A motif to look for.
#[derive(Clone, Debug)]
pub struct Motif {
    /// Its identifier.
    pub name: String,
    /// Its other name.
    pub alternate: Option<String>,
    /// Its weights.
    pub pwm: Pwm,
}

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Largest p-value of a hit.
    pub p_value: f64,
    /// Look on the strand that the sequence reads only.
    pub one_strand: bool,
    /// Count all places by their p-value, for [`Tally::null_share`].
    pub null_share: bool,
}

/// A place where a motif scores high.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Row of the batch.
    pub row: usize,
    /// First base in the row's sequence.
    pub position: usize,
    /// Index of the motif.
    pub motif: usize,
    /// Whether its reverse complement is what scores, as the sequence reads.
    pub reverse: bool,
    /// The score as a whole number; see [`Pwm::score`].
    pub level: u32,
}

/// What was looked at, for each motif: how many places, by p-value.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    places: Vec<scanner::Places>,
}

impl Tally {
    /// Returns how many places of a motif had a score.
    pub fn places(&self, motif: usize) -> u64 {
        self.places.get(motif).map_or(0, scanner::Places::total)
    }

    /// Returns the share of places of a motif that are no instances of it, estimated as [`q_value::null_share`] does.
    /// It was to be asked for by [`Options::null_share`].
    pub fn null_share(&self, motif: usize) -> f64 {
        self.places.get(motif).map_or(1.0, |places| {
            if places.total() > 100 { q_value::null_share_of(|below| places.from(below)) } else { 1.0 }
        })
    }
}

/// Scans the rows of a pipe. `watch` sees each batch with its hits, in order, before its rows go on.
///
/// # Errors
///
/// When the stream has no sequences; later, in the pipe: a sequence that is not upper-case `ACGTN`.
pub fn scan(
    pipe: Pipe,
    motifs: Arc<Vec<Motif>>,
    options: Options,
    mut watch: impl FnMut(&RecordBatch, &[Site]) -> Result<()> + Send + 'static,
) -> Result<(Pipe, Arc<Mutex<Tally>>)> {
    for (name, kind) in [
        (REGION, DataType::UInt64),
        (CHROM, DataType::Utf8),
        (START, DataType::Int64),
        (END, DataType::Int64),
        (STRAND, DataType::Utf8),
        (NAME, DataType::Utf8),
        (SEQUENCE, DataType::Utf8),
    ] {
        schema::require(pipe.schema(), name, &kind)?;
    }
    let more = [
        Field::new(schema::hits::SCORE, DataType::Float32, false),
        Field::new(schema::hits::P_VALUE, DataType::Float64, false),
    ];
    let target = schema::hits::schema(pipe.schema(), &more);
    let tally = Arc::new(Mutex::new(Tally { places: vec![Default::default(); motifs.len()] }));
    let counts = tally.clone();
    let scanners: Vec<Scanner> = motifs.iter().map(|motif| Scanner::new(&motif.pwm, options)).collect();
    let pipe = pipe.map(target.clone(), move |batch| {
        let sites = scan_batch(&batch, &scanners, &mut counts.lock().expect("no other thread counts"))?;
        watch(&batch, &sites)?;
        rows::batch(&target, &batch, &motifs, &sites)
    });
    Ok((pipe, tally))
}

fn scan_batch(batch: &RecordBatch, scanners: &[Scanner], tally: &mut Tally) -> Result<Vec<Site>> {
    let sequences = schema::strings(batch, SEQUENCE)?;
    let encode = |row: usize| {
        if sequences.is_null(row) {
            return Ok(scanner::Sequence::default());
        }
        let sequence = sequences.value(row).as_bytes();
        check_bases(sequence).map_err(|error| error.at(describe(batch, row)))?;
        Ok(scanner::Sequence::new(sequence))
    };
    let encoded: Vec<scanner::Sequence> =
        (0..batch.num_rows()).into_par_iter().map(encode).collect::<Result<_>>()?;
    let tasks: Vec<(usize, usize)> = (0..encoded.len())
        .step_by(ROWS)
        .flat_map(|first| (0..scanners.len()).map(move |motif| (motif, first)))
        .collect();
    let look = |&(motif, first): &(usize, usize)| {
        let mut found = scanner::Found::default();
        for (row, sequence) in encoded.iter().enumerate().skip(first).take(ROWS) {
            scanners[motif].scan(sequence, &mut found, |position, reverse, level| Site {
                row,
                position,
                motif,
                reverse,
                level,
            });
        }
        (motif, found)
    };
    let found: Vec<(usize, scanner::Found)> = tasks.par_iter().map(look).collect();
    let mut sites = Vec::new();
    for (motif, found) in found {
        tally.places[motif].add(&found.places);
        sites.extend(found.sites);
    }
    sites.sort_unstable_by_key(|site: &Site| (site.row, site.position, site.motif, site.reverse));
    Ok(sites)
}

/// Returns where a site lies on the reference, and the strand on which its motif reads there. A row on the reverse
/// strand was reverse-complemented, so positions count from its end.
pub fn place(site: &Site, width: usize, start: i64, end: i64, strand: Strand) -> (i64, i64, Strand) {
    let (first, width) = (site.position as i64, width as i64);
    let reverse = site.reverse != (strand == Strand::Reverse);
    let first = if strand == Strand::Reverse { end - first - width } else { start + first };
    (first, first + width, if reverse { Strand::Reverse } else { Strand::Forward })
}
