//! Values along a genome: rows that may overlap → intervals that do not, with the mean of each base.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};

use super::bed::located;
use super::header;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance::Genome;
use crate::schema;

/// Columns that can be a track, the most detailed first.
const COLUMNS: [&str; 5] =
    [schema::CONTRIBUTIONS, schema::BASE_SCORES, schema::PROBS, schema::LOGITS, schema::DELTA];

/// A run of bases of a contig with one value, 0-based and half-open.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Contig name.
    pub chrom: Arc<str>,
    /// First base.
    pub start: u64,
    /// One past the last base.
    pub end: u64,
    /// The mean of the values of all rows that cover these bases.
    pub value: f32,
}

/// What of a row is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    column: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One value for the window.
    Scalar,
    /// One class of several for the window.
    Class(usize),
    /// One value a base, along the strand.
    Bases,
}

impl Choice {
    /// Chooses a column (by default the most detailed that is there) and a class of it (by default the only
    /// one).
    ///
    /// # Errors
    ///
    /// A column that is not there or is no track, a class that is missing or out of range.
    pub fn new(schema: &Schema, column: Option<&str>, class: Option<usize>) -> Result<Self> {
        let column = match column {
            Some(name) => *COLUMNS.iter().find(|column| **column == name).ok_or_else(|| {
                Error::usage(format!("`{name}` is no track: choose one of {}", COLUMNS.join(", ")))
            })?,
            None => *COLUMNS.iter().find(|column| schema::has(schema, column)).ok_or_else(|| {
                Error::data(format!("the stream has no values to draw: none of {}", COLUMNS.join(", ")))
            })?,
        };
        let field = schema
            .field_with_name(column)
            .map_err(|_| Error::data(format!("the stream has no column `{column}`")))?;
        let kind = match field.data_type() {
            DataType::Float32 => Kind::Scalar,
            DataType::List(_) => Kind::Bases,
            DataType::FixedSizeList(_, classes) => Kind::Class(class_of(column, class, *classes as usize)?),
            other => return Err(Error::data(format!("column `{column}` is {other}, no track"))),
        };
        if class.is_some() && !matches!(kind, Kind::Class(_)) {
            return Err(Error::usage(format!("--class: column `{column}` has no classes")));
        }
        Ok(Self { column, kind })
    }
}

impl Choice {
    /// Returns the column's name.
    pub fn column(&self) -> &'static str {
        self.column
    }
}

fn class_of(column: &str, class: Option<usize>, classes: usize) -> Result<usize> {
    match class {
        Some(class) if class < classes => Ok(class),
        None if classes == 1 => Ok(0),
        _ => Err(Error::usage(format!(
            "column `{column}` has {classes} classes: choose one with --class 0 to {}",
            classes.saturating_sub(1)
        ))),
    }
}

/// The values of one row.
#[derive(Clone, Debug)]
struct Span {
    contig: usize,
    chrom: Arc<str>,
    /// Bases of the contig.
    length: u64,
    start: i64,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Flat { width: usize, value: f32 },
    Bases(Vec<f32>),
}

impl Span {
    /// Returns about how many bytes the span holds.
    fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Flat { .. } => 0,
            Values::Bases(values) => 4 * values.len(),
        };
        size_of::<Self>() + values
    }
}

/// The contigs of the rows: those of the genome or, when it is not known, as they come.
struct Contigs {
    contigs: Vec<(Arc<str>, u64)>,
    ordinals: HashMap<Arc<str>, usize>,
    open: bool,
}

impl Contigs {
    fn new(genome: Option<&Genome>) -> Self {
        let mut contigs = Self { contigs: Vec::new(), ordinals: HashMap::new(), open: true };
        for (name, length) in genome.iter().flat_map(|genome| &genome.contigs) {
            contigs.add(name, *length);
        }
        contigs.open = genome.is_none();
        contigs
    }

    fn add(&mut self, name: &str, length: u64) -> usize {
        let name: Arc<str> = name.into();
        self.contigs.push((name.clone(), length));
        *self.ordinals.entry(name).or_insert(self.contigs.len() - 1)
    }

    fn ordinal(&mut self, name: &str) -> Result<usize> {
        match self.ordinals.get(name) {
            Some(&ordinal) => Ok(ordinal),
            None if self.open => Ok(self.add(name, u64::MAX)),
            None => Err(Error::data(format!("contig {name} is not among those of the genome"))),
        }
    }
}

/// Turns a pipe into intervals in order of position; where rows overlap, each base has their mean.
///
/// Rows have to be sorted by position within each contig, unless they fit into `sort_bytes` of memory.
/// Values that are null or not finite do not count. `genome` gives the lengths of the contigs; bases outside
/// of them are left out.
///
/// # Errors
///
/// Rows without coordinates; rows out of order beyond `sort_bytes`.
pub fn intervals(
    pipe: Pipe,
    choice: Choice,
    genome: Option<&Genome>,
    sort_bytes: usize,
) -> Result<impl Iterator<Item = Result<Interval>> + Send + use<>> {
    let mut contigs = Contigs::new(genome);
    let mut before = 0;
    let spans = pipe.into_parts().1.flat_map(move |batch| {
        let spans = batch.and_then(|batch| {
            let spans = spans(&batch, &choice, &mut contigs, before)?;
            before += batch.num_rows();
            Ok(spans)
        });
        match spans {
            Ok(spans) => spans.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }
    });
    Ok(Means::new(sorted(Box::new(spans), sort_bytes)?))
}

/// Reads the spans of one batch.
fn spans(batch: &RecordBatch, choice: &Choice, contigs: &mut Contigs, before: usize) -> Result<Vec<Span>> {
    let chroms = schema::strings(batch, schema::CHROM)?;
    let starts = schema::i64s(batch, schema::START)?;
    let ends = schema::i64s(batch, schema::END)?;
    let strands = schema::strings(batch, schema::STRAND)?;
    let mut spans = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let chrom = located(chroms, row, before)?;
        let width = usize::try_from(ends.value(row) - starts.value(row)).unwrap_or(0);
        let reverse = strands.value(row) == "-";
        let place =
            || format!("row {} ({chrom}:{}-{})", before + row + 1, starts.value(row) + 1, ends.value(row));
        let Some(values) = values(batch, choice, row, width, reverse).map_err(|error| error.at(place()))?
        else {
            continue;
        };
        let contig = contigs.ordinal(chrom).map_err(|error| error.at(place()))?;
        let (chrom, length) = contigs.contigs[contig].clone();
        spans.push(Span { contig, chrom, length, start: starts.value(row), values });
    }
    Ok(spans)
}

/// Reads the values of one row along the forward strand; `None` when they are null.
fn values(
    batch: &RecordBatch,
    choice: &Choice,
    row: usize,
    width: usize,
    reverse: bool,
) -> Result<Option<Values>> {
    if schema::column(batch, choice.column)?.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match choice.kind {
        Kind::Scalar => Values::Flat { width, value: schema::f32s(batch, choice.column)?.value(row) },
        Kind::Class(class) => {
            let items = schema::fixed_lists(batch, choice.column)?.value(row);
            let items = items.as_any().downcast_ref::<arrow_array::Float32Array>();
            let items = items.ok_or_else(|| Error::data(format!("`{}` is not float32", choice.column)))?;
            Values::Flat { width, value: items.value(class) }
        }
        Kind::Bases => {
            let mut items = schema::float_items(schema::lists(batch, choice.column)?, row)?.to_vec();
            if items.len() != width {
                let (column, count) = (choice.column, items.len());
                return Err(Error::data(format!("{count} values of `{column}` for {width} bases")));
            }
            if reverse {
                items.reverse();
            }
            Values::Bases(items)
        }
    }))
}

type Spans = Box<dyn Iterator<Item = Result<Span>> + Send>;

/// Sorts the spans if they fit into `bytes` of memory, otherwise checks that they are sorted.
fn sorted(mut spans: Spans, bytes: usize) -> Result<Spans> {
    let mut held = Vec::new();
    let mut held_bytes = 0;
    let mut order = Order::default();
    let mut in_order = true;
    for span in spans.by_ref() {
        let span = span?;
        in_order &= order.follows(&span);
        held_bytes += span.bytes();
        held.push(span);
        if held_bytes > bytes {
            if !in_order {
                return Err(unsorted(&order, bytes));
            }
            let rest = spans.map(move |span| {
                let span = span?;
                if order.follows(&span) { Ok(span) } else { Err(unsorted(&order, bytes)) }
            });
            return Ok(Box::new(held.into_iter().map(Ok).chain(rest)));
        }
    }
    if !in_order {
        held.sort_by_key(|span| (span.contig, span.start));
    }
    Ok(Box::new(held.into_iter().map(Ok)))
}

fn unsorted(order: &Order, bytes: usize) -> Error {
    Error::data(format!(
        "the rows are not sorted by position within each contig ({} comes back) and do not fit into {} MiB: \
         sort the peaks, or raise --sort-memory",
        order.last,
        bytes >> 20
    ))
}

/// Watches that each contig comes once and its starts do not fall.
#[derive(Default)]
struct Order {
    done: HashSet<usize>,
    contig: Option<usize>,
    start: i64,
    last: String,
}

impl Order {
    fn follows(&mut self, span: &Span) -> bool {
        let follows = match self.contig {
            Some(contig) if contig == span.contig => span.start >= self.start,
            earlier => {
                self.done.extend(earlier);
                self.contig = Some(span.contig);
                !self.done.contains(&span.contig)
            }
        };
        self.start = span.start;
        if !follows && self.last.is_empty() {
            self.last = format!("{}:{}", span.chrom, span.start + 1);
        }
        follows
    }
}

/// The means of sorted spans. It holds the bases of the widest span and no more.
struct Means {
    spans: Spans,
    chrom: Option<(usize, Arc<str>)>,
    /// The base that the first of `bases` is.
    front: u64,
    /// Sum and number of values of each base that later spans may still reach.
    bases: VecDeque<(f64, u32)>,
    run: Option<Interval>,
    ready: VecDeque<Interval>,
    failed: bool,
}

impl Means {
    fn new(spans: Spans) -> Self {
        Self {
            spans,
            chrom: None,
            front: 0,
            bases: VecDeque::new(),
            run: None,
            ready: VecDeque::new(),
            failed: false,
        }
    }

    fn add(&mut self, span: &Span) {
        let first = span.start.max(0) as u64;
        if self.chrom.as_ref().map(|(contig, _)| *contig) == Some(span.contig) {
            self.settle(first);
        } else {
            self.finish_contig();
            self.chrom = Some((span.contig, span.chrom.clone()));
            self.front = first;
        }
        let value = |index: usize| match &span.values {
            Values::Flat { value, .. } => *value,
            Values::Bases(values) => values[index],
        };
        let width = match &span.values {
            Values::Flat { width, .. } => *width,
            Values::Bases(values) => values.len(),
        };
        let end = (span.start + width as i64).clamp(0, span.length.min(i64::MAX as u64) as i64) as u64;
        for base in first..end {
            let offset = (base - self.front) as usize;
            if offset == self.bases.len() {
                self.bases.push_back((0.0, 0));
            }
            let value = value((base as i64 - span.start) as usize);
            if value.is_finite() {
                self.bases[offset].0 += f64::from(value);
                self.bases[offset].1 += 1;
            }
        }
    }

    /// Moves the bases before `base` out: no later span reaches them.
    fn settle(&mut self, base: u64) {
        while self.front < base {
            let Some((sum, count)) = self.bases.pop_front() else {
                self.front = base;
                return;
            };
            if count > 0 {
                self.extend((sum / f64::from(count)) as f32);
            }
            self.front += 1;
        }
    }

    /// Adds the base `front` to the run before it, or begins another.
    fn extend(&mut self, value: f32) {
        match &mut self.run {
            Some(run) if run.end == self.front && run.value == value => run.end += 1,
            run => {
                let chrom = self.chrom.as_ref().expect("bases have a contig").1.clone();
                let next = Interval { chrom, start: self.front, end: self.front + 1, value };
                self.ready.extend(run.replace(next));
            }
        }
    }

    fn finish_contig(&mut self) {
        self.settle(self.front + self.bases.len() as u64);
        self.ready.extend(self.run.take());
    }
}

impl Iterator for Means {
    type Item = Result<Interval>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.failed {
            match self.spans.next() {
                Some(Ok(span)) => self.add(&span),
                Some(Err(error)) => {
                    self.failed = true;
                    return Some(Err(error));
                }
                None => {
                    self.finish_contig();
                    if self.ready.is_empty() {
                        return None;
                    }
                }
            }
        }
        if self.failed { None } else { self.ready.pop_front().map(Ok) }
    }
}

/// Writes intervals as bedGraph, with the provenance of `schema` as comment lines where it is wanted.
pub fn write_bedgraph(
    intervals: impl Iterator<Item = Result<Interval>>,
    provenance: Option<&Schema>,
    mut output: impl Write,
) -> Result<()> {
    if let Some(schema) = provenance {
        header::write_comments(schema, &mut output)?;
    }
    let mut lines = 0;
    for interval in intervals {
        let Interval { chrom, start, end, value } = interval?;
        writeln!(output, "{chrom}\t{start}\t{end}\t{value:?}")?;
        lines += 1;
    }
    if provenance.is_some() {
        header::write_end(lines, lines, &mut output)?;
    }
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests;
