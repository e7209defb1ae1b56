//! Windows of a genome → rows: what regions and tiles have in common.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use rayon::prelude::*;

use crate::dna;
use crate::error::{Error, Result};
use crate::genome::Genome;
use crate::pipe::Pipe;
use crate::region::Strand;
use crate::schema::{Row, RowBuilder, RowKind, Status};

/// Bases after which a batch is full, however few its rows.
pub const BATCH_BASES: usize = 4 << 20;

/// Rows of a batch unless the user says otherwise.
pub const BATCH_ROWS: usize = 1024;

/// Bases of a row at most: an Arrow batch holds less than 2 GiB of text.
pub const ROW_BASES: i64 = 1 << 30;

/// A window of the genome that becomes a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Ordinal of the region it comes from.
    pub region: u64,
    /// Contig.
    pub chrom: Arc<str>,
    /// First base, 0-based; may be negative.
    pub start: i64,
    /// One past the last base; may pass the contig.
    pub end: i64,
    /// The strand to read.
    pub strand: Strand,
    /// Name of the region.
    pub name: Option<String>,
}

/// What becomes of windows with `N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NPolicy {
    /// They stay; a row of nothing but `N` has the status `all_n`.
    #[default]
    Keep,
    /// They are dropped and counted.
    Drop,
    /// They stay, with the status `has_n` or `all_n`.
    Status,
}

/// What becomes of windows that reach past an end of their contig.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edge {
    /// They are padded with `N` and have the status `off_contig`.
    #[default]
    Pad,
    /// They are an error.
    Error,
}

/// What becomes of windows on a contig that the genome does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownContig {
    /// They are an error.
    #[default]
    Error,
    /// They stay, without a sequence, with the status `unknown_contig`.
    Status,
}

/// How windows become rows.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rows of a batch.
    pub batch_rows: usize,
    /// What becomes of windows with `N`.
    pub n_policy: NPolicy,
    /// What becomes of windows past the contig's ends.
    pub edge: Edge,
    /// What becomes of windows without a contig.
    pub unknown: UnknownContig,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_rows: BATCH_ROWS,
            n_policy: NPolicy::default(),
            edge: Edge::default(),
            unknown: UnknownContig::default(),
        }
    }
}

/// Rows that a filter took away, by filter.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Rows that overlap an excluded interval.
    pub excluded: AtomicU64,
    /// Rows of regions that were not asked for.
    pub elsewhere: AtomicU64,
    /// Rows with `N`.
    pub with_n: AtomicU64,
}

impl Dropped {
    /// Counts `rows` more.
    pub(super) fn add(counter: &AtomicU64, rows: u64) {
        counter.fetch_add(rows, Ordering::Relaxed);
    }

    /// Returns whether no row was dropped.
    pub fn is_empty(&self) -> bool {
        [&self.excluded, &self.elsewhere, &self.with_n].iter().all(|n| n.load(Ordering::Relaxed) == 0)
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let counts = [
            (&self.excluded, "in excluded intervals"),
            (&self.elsewhere, "outside the regions asked for"),
            (&self.with_n, "with N"),
        ];
        let counts = counts.map(|(count, what)| (count.load(Ordering::Relaxed), what));
        write!(f, "{} rows dropped", counts.iter().map(|(count, _)| count).sum::<u64>())?;
        let some: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).collect();
        for (index, (count, what)) in some.iter().enumerate() {
            write!(f, "{} {count} {what}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// Reads the bases of `windows`, several at a time, and makes a row of each in their order.
pub fn rows(
    genome: Genome,
    windows: impl Iterator<Item = Result<Window>> + Send + 'static,
    options: Options,
    dropped: Arc<Dropped>,
) -> Pipe {
    let schema = RowKind::Regions.schema(Some(genome.record()));
    let builder = RowBuilder::new(RowKind::Regions, schema.clone());
    // Copying from memory takes less than sharing the work out.
    let threads = if genome.is_compressed() { rayon::current_num_threads().max(1) } else { 1 };
    let readers = vec![genome; threads];
    let batches = Batches { readers, windows, options, dropped, builder, sequences: Vec::new(), done: false };
    Pipe::new(schema, batches)
}

struct Batches<I> {
    /// One for each thread: each has a cache of its own.
    readers: Vec<Genome>,
    windows: I,
    options: Options,
    dropped: Arc<Dropped>,
    builder: RowBuilder,
    /// Kept for their allocations.
    sequences: Vec<Vec<u8>>,
    done: bool,
}

impl<I: Iterator<Item = Result<Window>>> Batches<I> {
    /// Takes the windows of the next batch; fewer than none only at the end.
    fn take(&mut self) -> Result<Vec<Window>> {
        let mut windows = Vec::new();
        let mut bases = 0;
        while windows.len() < self.options.batch_rows.max(1) && bases < BATCH_BASES {
            let Some(window) = self.windows.next().transpose()? else {
                self.done = true;
                break;
            };
            bases += usize::try_from(window.end - window.start).unwrap_or(0);
            windows.push(window);
        }
        Ok(windows)
    }

    /// Reads the bases of windows into `sequences`; returns their statuses.
    fn read(&mut self, windows: &[Window]) -> Result<Vec<Status>> {
        self.sequences.resize(windows.len().max(self.sequences.len()), Vec::new());
        let share = windows.len().div_ceil(self.readers.len()).max(1);
        let options = self.options;
        let read = |genome: &mut Genome, windows: &[Window], sequences: &mut [Vec<u8>]| {
            let pairs = windows.iter().zip(sequences);
            pairs.map(|(window, bases)| read_window(genome, window, options, bases)).collect()
        };
        if let [genome] = &mut self.readers[..] {
            return read(genome, windows, &mut self.sequences);
        }
        let parts = self.readers.par_iter_mut().zip(windows.par_chunks(share));
        let parts: Vec<Result<Vec<Status>>> = parts
            .zip(self.sequences.par_chunks_mut(share))
            .map(|((genome, windows), sequences)| read(genome, windows, sequences))
            .collect();
        let mut statuses = Vec::with_capacity(windows.len());
        for part in parts {
            statuses.extend(part?);
        }
        Ok(statuses)
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while !self.done {
            let windows = self.take()?;
            let statuses = self.read(&windows)?;
            for ((window, status), bases) in windows.iter().zip(statuses).zip(&self.sequences) {
                if self.options.n_policy == NPolicy::Drop && bases.contains(&b'N') {
                    Dropped::add(&self.dropped.with_n, 1);
                } else {
                    self.builder.push(&row(window, status, bases)?);
                }
            }
            if !self.builder.is_empty() {
                return self.builder.finish().map(Some);
            }
        }
        Ok(None)
    }
}

impl<I: Iterator<Item = Result<Window>>> Iterator for Batches<I> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_batch();
        self.done |= item.is_err();
        item.transpose()
    }
}

/// Reads the bases of one window on its strand.
fn read_window(
    genome: &mut Genome,
    window: &Window,
    options: Options,
    bases: &mut Vec<u8>,
) -> Result<Status> {
    let Window { chrom, start, end, .. } = window;
    bases.clear();
    let Some(length) = genome.contig_length(chrom) else {
        return match options.unknown {
            UnknownContig::Error => Err(genome.unknown_contig(chrom).at(place(window))),
            UnknownContig::Status => Ok(Status::UnknownContig),
        };
    };
    if start >= end {
        return Err(Error::data("the interval is empty: give it a --width").at(place(window)));
    }
    if end - start > ROW_BASES {
        let what = format!("{} bases are too many for a row (at most {ROW_BASES})", end - start);
        return Err(Error::data(what).at(place(window)));
    }
    let off = *start < 0 || *end > length as i64;
    if off && options.edge == Edge::Error {
        let what = format!("the window [{start}, {end}) reaches past `{chrom}` of {length} bases");
        return Err(Error::data(format!("{what}: --edge pad fills it with N")).at(place(window)));
    }
    genome.fetch(chrom, *start, *end, bases)?;
    if window.strand == Strand::Reverse {
        dna::reverse_complement(bases);
    }
    Ok(match bases {
        _ if bases.iter().all(|&base| base == b'N') => Status::AllN,
        _ if off => Status::OffContig,
        _ if options.n_policy == NPolicy::Status && bases.contains(&b'N') => Status::HasN,
        _ => Status::Ok,
    })
}

fn place(window: &Window) -> String {
    match &window.name {
        Some(name) => format!("region {} (`{name}`)", window.region),
        None => format!("region {}", window.region),
    }
}

fn row<'a>(window: &'a Window, status: Status, bases: &'a [u8]) -> Result<Row<'a>> {
    let text = std::str::from_utf8(bases).map_err(|_| Error::data("bases are not ASCII"))?;
    Ok(Row {
        region: window.region,
        chrom: Some(&window.chrom),
        start: window.start,
        end: window.end,
        strand: window.strand,
        name: window.name.as_deref(),
        sequence: (status != Status::UnknownContig).then_some(text),
        status,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use arrow_array::Array;

    use super::*;
    use crate::schema::{self, strings, u64s};

    /// Opens a genome of these contigs.
    pub(crate) fn genome(contigs: &[(&str, &str)]) -> Genome {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.fa");
        let text: String = contigs.iter().map(|(name, bases)| format!(">{name}\n{bases}\n")).collect();
        std::fs::write(&path, text).unwrap();
        Genome::open(&path).unwrap()
    }

    /// Returns every row as text: region, place, strand, sequence, status.
    pub(crate) fn read(pipe: Pipe) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for batch in pipe.into_parts().1 {
            let batch = batch?;
            let column = |name| strings(&batch, name).unwrap();
            let (chrom, strand) = (column(schema::CHROM), column(schema::STRAND));
            let (sequence, status) = (column(schema::SEQUENCE), column(schema::STATUS));
            let (start, end) = (schema::i64s(&batch, schema::START)?, schema::i64s(&batch, schema::END)?);
            for row in 0..batch.num_rows() {
                rows.push(format!(
                    "{} {}:{}-{}{} {} {}",
                    u64s(&batch, schema::REGION)?.value(row),
                    chrom.value(row),
                    start.value(row),
                    end.value(row),
                    strand.value(row),
                    if sequence.is_null(row) { "null" } else { sequence.value(row) },
                    status.value(row)
                ));
            }
        }
        Ok(rows)
    }

    #[test]
    fn the_summary_names_what_was_dropped() {
        let dropped = Dropped::default();
        assert!(dropped.is_empty());
        Dropped::add(&dropped.excluded, 2);
        Dropped::add(&dropped.with_n, 1);
        assert_eq!(dropped.to_string(), "3 rows dropped: 2 in excluded intervals, 1 with N");
    }
}
