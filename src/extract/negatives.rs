//! Rows of `nyx-extract negatives`: what positive rows are compared with.
//!
//! | kind | negatives of a positive |
//! |---|---|
//! | GC-matched | a window of the genome on its contig, as long, with as many G and C (in whole percent), no N, no base of a positive (NyxBind) |
//! | shuffled intervals | a window anywhere on its contig, as long (`bedtools shuffle -chrom`, DNABERT-Enhancer) |
//! | dinucleotide, mononucleotide | its own bases in another order |
//!
//! Negatives have the `region`, the strand and the name of their positive, and the label 0. Everything random follows
//! from the seed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::dna::{dinucleotide_shuffles, mononucleotide_shuffles, reverse_complement};
use crate::error::{Error, Result};
use crate::genome::Genome;
use crate::genome::bed::{Interval, IntervalSet};
use crate::pipe::{Batches, Pipe};
use crate::region::Strand;
use crate::schema::{
    self, CHROM, END, NAME, REGION, Row, RowBuilder, RowKind, SEQUENCE, START, STRAND, Status,
};

/// How negatives are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Windows of the genome with the G and C of the positive.
    GcMatched,
    /// Windows anywhere.
    Intervals,
    /// Shuffles that keep all dinucleotides.
    Dinucleotide,
    /// Shuffles that keep all bases.
    Mononucleotide,
}

/// What is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kind of negatives.
    pub kind: Kind,
    /// Negatives of each positive.
    pub count: usize,
    /// Whether positives come, too, with the label 1.
    pub with_positives: bool,
    /// Whether positives without all their negatives are left out with those they have.
    pub only_matched: bool,
    /// Windows must not touch these.
    pub exclude: IntervalSet,
    /// Draws per negative before a positive is left without.
    pub tries: usize,
    /// Seed.
    pub seed: u64,
    /// Rows of a batch.
    pub batch_rows: usize,
}

/// Positives for which no negative was found, and rows that can have none.
#[derive(Debug, Default)]
pub struct Unmatched {
    /// Negatives that are missing.
    pub missing: AtomicU64,
    /// Positives without a sequence (or, for windows, without coordinates).
    pub skipped: AtomicU64,
}

/// A positive as its row has it.
#[derive(Clone, Debug)]
struct Positive {
    region: u64,
    chrom: Option<String>,
    start: i64,
    end: i64,
    strand: Strand,
    name: Option<String>,
    sequence: Vec<u8>,
}

impl Positive {
    fn row<'a>(&'a self, sequence: &'a str, start: i64, end: i64, chrom: bool) -> Row<'a> {
        Row {
            region: self.region,
            chrom: self.chrom.as_deref().filter(|_| chrom),
            start,
            end,
            strand: self.strand,
            name: self.name.as_deref(),
            sequence: Some(sequence),
            status: Status::Ok,
        }
    }
}

/// Makes labelled rows from rows with sequences.
///
/// Shuffles follow their positive at once, and rows stream. Windows of the genome come when all positives are known:
/// those are held in memory then.
///
/// # Errors
///
/// When the stream has no sequences, or windows are asked for without a genome.
pub fn negatives(
    rows: Pipe,
    genome: Option<Genome>,
    options: Options,
    unmatched: Arc<Unmatched>,
) -> Result<Pipe> {
    schema::require(rows.schema(), SEQUENCE, &DataType::Utf8)?;
    let schema = labelled(rows.schema());
    let (_, batches) = rows.into_parts();
    match options.kind {
        Kind::Dinucleotide | Kind::Mononucleotide => {
            let target = schema.clone();
            let made = batches.map(move |batch| shuffles(&batch?, &target, &options, &unmatched));
            Ok(Pipe::new(schema, made))
        }
        Kind::GcMatched | Kind::Intervals => {
            let genome = genome.ok_or_else(|| Error::usage("windows of the genome need --fasta"))?;
            let target = schema.clone();
            let state = Windows {
                batches: Some(batches),
                genome,
                options,
                unmatched,
                schema: target,
                ready: VecDeque::new(),
            };
            Ok(Pipe::new(schema, state))
        }
    }
}

/// Returns the schema of labelled rows, with the metadata of the input.
fn labelled(input: &Schema) -> SchemaRef {
    let own = RowKind::Labelled.schema(None);
    let mut metadata = input.metadata.clone();
    for (key, value) in own.metadata.iter() {
        metadata.insert(key.clone(), value.clone());
    }
    Arc::new(own.as_ref().clone().with_metadata(metadata))
}

fn positives(batch: &RecordBatch, unmatched: &Unmatched, placed: bool) -> Result<Vec<Positive>> {
    let (regions, sequences) = (schema::u64s(batch, REGION)?, schema::strings(batch, SEQUENCE)?);
    let (chroms, names, strands) =
        (schema::strings(batch, CHROM)?, schema::strings(batch, NAME)?, schema::strings(batch, STRAND)?);
    let (starts, ends) = (schema::i64s(batch, START)?, schema::i64s(batch, END)?);
    let mut positives = Vec::new();
    for row in 0..batch.num_rows() {
        if sequences.is_null(row) || sequences.value(row).is_empty() || (placed && chroms.is_null(row)) {
            unmatched.skipped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        positives.push(Positive {
            region: regions.value(row),
            chrom: chroms.is_valid(row).then(|| chroms.value(row).to_string()),
            start: starts.value(row),
            end: ends.value(row),
            strand: strands.value(row).parse()?,
            name: names.is_valid(row).then(|| names.value(row).to_string()),
            sequence: sequences.value(row).as_bytes().to_vec(),
        });
    }
    Ok(positives)
}

fn text(bases: &[u8]) -> &str {
    std::str::from_utf8(bases).expect("bases are ASCII")
}

fn shuffles(
    batch: &RecordBatch,
    schema: &SchemaRef,
    options: &Options,
    unmatched: &Unmatched,
) -> Result<RecordBatch> {
    let mut builder = RowBuilder::new(RowKind::Labelled, schema.clone());
    for positive in positives(batch, unmatched, false)? {
        let shuffle = match options.kind {
            Kind::Dinucleotide => dinucleotide_shuffles,
            _ => mononucleotide_shuffles,
        };
        if options.with_positives {
            let row = positive.row(text(&positive.sequence), positive.start, positive.end, true);
            builder.push_labelled(&row, Some(&[1.0]));
        }
        for bases in shuffle(&positive.sequence, options.count, options.seed) {
            // These bases stand nowhere in the genome.
            let row = positive.row(text(&bases), 0, bases.len() as i64, false);
            builder.push_labelled(&row, Some(&[0.0]));
        }
    }
    builder.finish()
}

/// First base and bases of a window.
type Found = (i64, Vec<u8>);

/// Windows of the genome, made when all positives are known.
struct Windows {
    batches: Option<Batches>,
    genome: Genome,
    options: Options,
    unmatched: Arc<Unmatched>,
    schema: SchemaRef,
    ready: VecDeque<RecordBatch>,
}

impl Iterator for Windows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batches) = self.batches.take()
            && let Err(error) = self.make(batches)
        {
            self.ready.clear();
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Windows {
    fn make(&mut self, batches: Batches) -> Result<()> {
        let mut all = Vec::new();
        for batch in batches {
            all.extend(positives(&batch?, &self.unmatched, true)?);
        }
        let found = match self.options.kind {
            Kind::GcMatched => self.gc_matched(&all)?,
            _ => self.anywhere(&all)?,
        };
        let mut builder = RowBuilder::new(RowKind::Labelled, self.schema.clone());
        for (positive, windows) in all.iter().zip(found) {
            let missing = self.options.count - windows.len();
            self.unmatched.missing.fetch_add(missing as u64, Ordering::Relaxed);
            if self.options.only_matched && missing > 0 {
                continue;
            }
            if self.options.with_positives {
                let row = positive.row(text(&positive.sequence), positive.start, positive.end, true);
                builder.push_labelled(&row, Some(&[1.0]));
            }
            for (start, mut bases) in windows {
                if positive.strand == Strand::Reverse {
                    reverse_complement(&mut bases);
                }
                let row = positive.row(text(&bases), start, start + bases.len() as i64, true);
                builder.push_labelled(&row, Some(&[0.0]));
            }
            if builder.len() >= self.options.batch_rows {
                self.ready.push_back(builder.finish()?);
            }
        }
        if !builder.is_empty() {
            self.ready.push_back(builder.finish()?);
        }
        Ok(())
    }

    /// Returns windows on the positives' contigs that touch no excluded base.
    fn anywhere(&mut self, positives: &[Positive]) -> Result<Vec<Vec<Found>>> {
        let mut random = StdRng::seed_from_u64(self.options.seed);
        let mut found = Vec::new();
        for positive in positives {
            let (chrom, length) = self.contig(positive)?;
            let width = positive.end - positive.start;
            let mut windows = Vec::new();
            for _ in 0..self.options.count {
                let draw = |_| (length >= width).then(|| random.random_range(0..=length - width));
                let free = |start: &i64| !self.options.exclude.overlaps(&chrom, *start, start + width);
                if let Some(start) = (0..self.options.tries).filter_map(draw).find(free) {
                    let mut bases = Vec::new();
                    self.genome.fetch(&chrom, start, start + width, &mut bases)?;
                    windows.push((start, bases));
                }
            }
            found.push(windows);
        }
        Ok(found)
    }

    fn contig(&self, positive: &Positive) -> Result<(String, i64)> {
        let chrom = positive.chrom.clone().expect("only placed rows come here");
        let length = self.genome.contig_length(&chrom).ok_or_else(|| self.genome.unknown_contig(&chrom))?;
        Ok((chrom, length as i64))
    }

    /// Returns windows that share contig, width and GC percent with their positive; each window serves once.
    fn gc_matched(&mut self, positives: &[Positive]) -> Result<Vec<Vec<Found>>> {
        let taken: IntervalSet = positives
            .iter()
            .map(|positive| {
                Interval::new(positive.chrom.clone().unwrap_or_default(), positive.start, positive.end)
            })
            .collect();
        // Positives by contig and width, then by GC percent those that wait for a window, in input order.
        let mut groups: BTreeMap<(String, i64), HashMap<u32, VecDeque<usize>>> = BTreeMap::new();
        for (index, positive) in positives.iter().enumerate() {
            let (chrom, _) = self.contig(positive)?;
            let Some(percent) = gc_percent(&positive.sequence) else {
                self.unmatched.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let waiting =
                groups.entry((chrom, positive.end - positive.start)).or_default().entry(percent).or_default();
            waiting.extend(std::iter::repeat_n(index, self.options.count));
        }
        let mut found = vec![Vec::new(); positives.len()];
        for (group, ((chrom, width), waiting)) in groups.into_iter().enumerate() {
            let seed = self.options.seed.wrapping_add((group as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            self.match_group(&chrom, width, waiting, &taken, StdRng::seed_from_u64(seed), &mut found)?;
        }
        Ok(found)
    }

    fn match_group(
        &mut self,
        chrom: &str,
        width: i64,
        mut waiting: HashMap<u32, VecDeque<usize>>,
        taken: &IntervalSet,
        mut random: StdRng,
        found: &mut [Vec<Found>],
    ) -> Result<()> {
        let length = self.genome.contig_length(chrom).unwrap_or(0) as i64;
        let mut left: usize = waiting.values().map(VecDeque::len).sum();
        let (mut used, mut bases) = (HashSet::new(), Vec::new());
        for _ in 0..if length >= width { left * self.options.tries } else { 0 } {
            if left == 0 {
                break;
            }
            let start = random.random_range(0..=length - width);
            if taken.overlaps(chrom, start, start + width)
                || self.options.exclude.overlaps(chrom, start, start + width)
                || used.contains(&start)
            {
                continue;
            }
            self.genome.fetch(chrom, start, start + width, &mut bases)?;
            let Some(queue) = gc_percent(&bases).and_then(|percent| waiting.get_mut(&percent)) else {
                continue;
            };
            if let Some(index) = queue.pop_front() {
                found[index].push((start, bases.clone()));
                used.insert(start);
                left -= 1;
            }
        }
        Ok(())
    }
}

/// Returns the part of G and C in whole percent, rounded down; `None` where there is anything but bases.
fn gc_percent(bases: &[u8]) -> Option<u32> {
    let count = |wanted: &[u8]| bases.iter().filter(|base| wanted.contains(base)).count();
    (!bases.is_empty() && count(b"ACGT") == bases.len()).then(|| (100 * count(b"GC") / bases.len()) as u32)
}

#[cfg(test)]
mod tests {
    use super::super::windows::tests::genome;
    use super::*;

    /// A contig of random bases, richer in G and C to its end.
    fn contig() -> String {
        let mut random = StdRng::seed_from_u64(11);
        let base = |position: usize| {
            let rich = random.random_range(0..6000) < position;
            if rich { ['G', 'C'][random.random_range(0..2)] } else { ['A', 'T'][random.random_range(0..2)] }
        };
        (0..6000).map(base).collect()
    }

    fn rows(sequence: &str, starts: &[i64], width: i64) -> Pipe {
        let schema = RowKind::Regions.schema(None);
        let mut builder = RowBuilder::new(RowKind::Regions, schema.clone());
        for (region, &start) in starts.iter().enumerate() {
            builder.push(&Row {
                region: region as u64,
                chrom: Some("chr1"),
                start,
                end: start + width,
                strand: Strand::Forward,
                name: None,
                sequence: Some(&sequence[start as usize..(start + width) as usize]),
                status: Status::Ok,
            });
        }
        let batch = builder.finish().unwrap();
        Pipe::new(schema, [Ok(batch)].into_iter())
    }

    /// Region, start, end, sequence and label of each row.
    fn made(kind: Kind, with_positives: bool, batch_rows: usize) -> Vec<(u64, i64, i64, String, f32)> {
        let contig = contig();
        let options = Options {
            kind,
            count: 2,
            with_positives,
            only_matched: false,
            exclude: [Interval::new("chr1", 3000, 3200)].into_iter().collect(),
            tries: 500,
            seed: 4,
            batch_rows,
        };
        let starts = [100, 900, 1500, 2500, 4000];
        let pipe = rows(&contig, &starts, 50).cut(batch_rows);
        let pipe = negatives(pipe, Some(genome(&[("chr1", &contig)])), options, Arc::default()).unwrap();
        let mut all = Vec::new();
        for batch in pipe.into_parts().1 {
            let batch = batch.unwrap();
            let labels = schema::lists(&batch, schema::LABEL).unwrap();
            for row in 0..batch.num_rows() {
                all.push((
                    schema::u64s(&batch, REGION).unwrap().value(row),
                    schema::i64s(&batch, START).unwrap().value(row),
                    schema::i64s(&batch, END).unwrap().value(row),
                    schema::strings(&batch, SEQUENCE).unwrap().value(row).to_string(),
                    schema::float_items(labels, row).unwrap()[0],
                ));
            }
        }
        all
    }

    #[test]
    fn windows_have_the_gc_of_their_positive_and_touch_no_positive() {
        let contig = contig();
        let all = made(Kind::GcMatched, true, 1024);
        assert_eq!(all.len(), 15, "two negatives for each of five");
        for three in all.chunks(3) {
            let gc = |row: &(u64, i64, i64, String, f32)| gc_percent(row.3.as_bytes()).unwrap();
            assert_eq!((three[0].4, three[1].4, three[2].4), (1.0, 0.0, 0.0));
            for negative in &three[1..] {
                assert_eq!((negative.0, gc(negative)), (three[0].0, gc(&three[0])));
                assert_eq!(negative.3, contig[negative.1 as usize..negative.2 as usize]);
                let touches = |start: i64, end: i64| negative.1 < end && start < negative.2;
                assert!(!touches(3000, 3200));
                assert!([100, 900, 1500, 2500, 4000].iter().all(|&start| !touches(start, start + 50)));
            }
        }
        assert_eq!(all, made(Kind::GcMatched, true, 2), "batches change nothing");
    }

    #[test]
    fn intervals_anywhere_keep_width_and_leave_the_excluded_alone() {
        let all = made(Kind::Intervals, false, 1024);
        assert_eq!(all.len(), 10);
        assert!(
            all.iter().all(|row| row.2 - row.1 == 50 && (row.2 <= 3000 || row.1 >= 3200) && row.4 == 0.0)
        );
        assert_eq!(all, made(Kind::Intervals, false, 3));
    }

    #[test]
    fn shuffles_follow_their_positive() {
        for kind in [Kind::Dinucleotide, Kind::Mononucleotide] {
            let all = made(kind, true, 2);
            assert_eq!(all.len(), 15);
            for three in all.chunks(3) {
                let sorted = |text: &str| {
                    let mut bases = text.as_bytes().to_vec();
                    bases.sort_unstable();
                    bases
                };
                assert!(three[1..].iter().all(|row| row.4 == 0.0 && sorted(&row.3) == sorted(&three[0].3)));
                assert_ne!(three[0].3, three[1].3);
            }
        }
    }
}
