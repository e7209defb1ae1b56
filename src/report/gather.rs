//! Goes through contributions and hits once, side by side, and keeps what a page shows.

use std::iter::Peekable;

use arrow_array::{Array, Float32Array, Int64Array, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow_schema::DataType;

use super::histogram::Histogram;
use crate::dna::{base_index, reverse_complement};
use crate::error::{Error, Result};
use crate::hits::table::{
    END_UNTRIMMED, HIT_COEFFICIENT, HIT_COEFFICIENT_GLOBAL, HIT_SIMILARITY, MOTIF_NAME, START_UNTRIMMED,
};
use crate::pipe::{Batches, Pipe};
use crate::provenance::{self, Genome, KIND_KEY, Step};
use crate::schema::{self, CHROM, CONTRIBUTIONS, END, HYPOTHETICAL, NAME, REGION, SEQUENCE, START, STRAND};

/// What is known of one motif from its hits.
#[derive(Clone, Debug)]
pub struct MotifSummary {
    /// The motif's name.
    pub name: String,
    /// Regions with at least one hit.
    pub regions: u64,
    /// Hits on the forward strand of the genome.
    pub forward: u64,
    /// `hit_coefficient` of all hits.
    pub coefficients: Histogram,
    /// `hit_similarity` of all hits.
    pub similarities: Histogram,
    /// Sum of contributions over hits, one column per position of the untrimmed motif, read on its strand.
    contributions: Vec<[f64; 4]>,
    /// Counts of bases over the same hits.
    counts: Vec<[f64; 4]>,
    /// Hits whose untrimmed motif lies inside the region.
    inside: u64,
    last_region: Option<u64>,
}

impl MotifSummary {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            regions: 0,
            forward: 0,
            coefficients: Histogram::new(1.0),
            similarities: Histogram::new(1.0),
            contributions: Vec::new(),
            counts: Vec::new(),
            inside: 0,
            last_region: None,
        }
    }

    /// Returns how many hits the motif has.
    pub fn hits(&self) -> u64 {
        self.coefficients.total()
    }

    /// Returns the mean contribution of each base over the hits, the hits' own CWM; empty without hits.
    pub fn mean_contributions(&self) -> Vec<[f64; 4]> {
        let count = self.inside.max(1) as f64;
        self.contributions.iter().map(|column| column.map(|sum| sum / count)).collect()
    }

    /// Returns the frequencies of bases over the hits; empty without hits.
    pub fn frequencies(&self) -> Vec<[f64; 4]> {
        let normal = |column: &[f64; 4]| {
            let sum: f64 = column.iter().sum();
            if sum > 0.0 { column.map(|count| count / sum) } else { [0.25; 4] }
        };
        self.counts.iter().map(normal).collect()
    }

    fn add(&mut self, hit: &Hit) {
        self.coefficients.add(hit.coefficient.into());
        self.similarities.add(hit.similarity.into());
        self.forward += u64::from(hit.forward);
        if self.last_region.replace(hit.region) != Some(hit.region) {
            self.regions += 1;
        }
    }

    /// Adds the window of a hit, which reads in the direction of the motif.
    fn align(&mut self, sequence: &[u8], contributions: &[f32]) {
        if self.counts.len() < sequence.len() {
            self.counts.resize(sequence.len(), [0.0; 4]);
            self.contributions.resize(sequence.len(), [0.0; 4]);
        }
        self.inside += 1;
        for (position, (&base, &value)) in sequence.iter().zip(contributions).enumerate() {
            if let Some(base) = base_index(base) {
                self.counts[position][base] += 1.0;
                self.contributions[position][base] += f64::from(value);
            }
        }
    }
}

/// A hit as a page needs it. Coordinates are those of the genome.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The region it lies in.
    pub region: u64,
    /// Index into [`Gathered::motifs`].
    pub motif: usize,
    /// Whether the motif reads on the forward strand.
    pub forward: bool,
    /// First base, trimmed.
    pub start: i64,
    /// One past the last base, trimmed.
    pub end: i64,
    start_untrimmed: i64,
    end_untrimmed: i64,
    /// Coefficient in the scaled region.
    pub coefficient: f32,
    /// Coefficient that can be compared between regions.
    pub coefficient_global: f32,
    /// Cosine of motif and contributions.
    pub similarity: f32,
}

/// A region that is shown base by base.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Contig, if known.
    pub chrom: Option<String>,
    /// First base of the window, 0-based.
    pub start: i64,
    /// One past its last base.
    pub end: i64,
    /// Name of the peak.
    pub name: Option<String>,
    /// Whether the sequence reads on the reverse strand.
    pub reversed: bool,
    /// Bases of the window as the model read them.
    pub sequence: Vec<u8>,
    /// One contribution per base of `sequence`.
    pub contributions: Vec<f32>,
    /// Its hits.
    pub hits: Vec<Hit>,
    /// Sum of the hits' global coefficients, by which regions are ranked.
    pub weight: f64,
}

impl Shown {
    /// Returns the interval of `sequence` that holds `start..end` of the genome, if it lies inside.
    pub fn local(&self, start: i64, end: i64) -> Option<(usize, usize)> {
        let (first, last) = if self.reversed {
            (self.end - end, self.end - start)
        } else {
            (start - self.start, end - self.start)
        };
        (0 <= first && last as usize <= self.sequence.len() && first < last)
            .then_some((first as usize, last as usize))
    }
}

/// All that a page shows.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Motifs in the order of their first hit.
    pub motifs: Vec<MotifSummary>,
    /// Regions with the strongest hits, strongest first.
    pub shown: Vec<Shown>,
    /// Regions that were read.
    pub regions: u64,
    /// Regions with at least one hit.
    pub regions_with_hits: u64,
    /// Hits that were read.
    pub hits: u64,
    /// The stages that made the hits.
    pub chain: Vec<Step>,
    /// The reference genome.
    pub genome: Option<Genome>,
}

/// Reads both streams to their ends; memory is bounded by `top` regions and the number of motifs.
///
/// # Errors
///
/// When hits are not in the order of the regions they were called on, or belong to other regions.
pub fn gather(rows: Pipe, hits: Pipe, top: usize) -> Result<Gathered> {
    check(&rows, &hits)?;
    let mut gathered = Gathered {
        chain: provenance::chain(&hits.schema().metadata)?,
        genome: Genome::of(hits.schema())?,
        ..Gathered::default()
    };
    let mut hits = HitReader { batches: hits.into_parts().1, ready: Vec::new().into_iter().peekable() };
    for batch in rows.into_parts().1 {
        let batch = batch?;
        let columns = Columns::of(&batch)?;
        for row in 0..batch.num_rows() {
            let here = hits.of_region(columns.region.value(row), &mut gathered.motifs)?;
            gathered.regions += 1;
            if !here.is_empty() {
                gathered.add(columns.shown(row, here)?, top);
            }
        }
    }
    if let Some(region) = hits.next_region(&mut gathered.motifs)? {
        return Err(Error::data(format!(
            "hits of region {region} have no contributions, or stand in another order: give the stream that the \
             hits were called on"
        )));
    }
    Ok(gathered)
}

fn check(rows: &Pipe, hits: &Pipe) -> Result<()> {
    let kind = |pipe: &Pipe| pipe.schema().metadata.get(KIND_KEY).cloned();
    if kind(rows).as_deref() == Some("variants") {
        return Err(Error::data("the report is of regions; these are rows of alleles (nyx-view shows them)"));
    }
    schema::require(rows.schema(), SEQUENCE, &DataType::Utf8)?;
    if !schema::has(rows.schema(), HYPOTHETICAL) {
        schema::require(rows.schema(), CONTRIBUTIONS, &schema::list_of(DataType::Float32))?;
    }
    schema::require(hits.schema(), MOTIF_NAME, &DataType::Utf8)
        .map_err(|error| error.at("hits (nyx-hits makes them)"))?;
    if let (Some(a), Some(b)) = (Genome::of(rows.schema())?, Genome::of(hits.schema())?)
        && a.digest != b.digest
    {
        return Err(Error::data(format!(
            "contributions are of {}, hits of {}: another reference",
            a.name, b.name
        )));
    }
    Ok(())
}

impl Gathered {
    fn add(&mut self, mut region: Shown, top: usize) {
        self.regions_with_hits += 1;
        self.hits += region.hits.len() as u64;
        for hit in &region.hits {
            let motif = &mut self.motifs[hit.motif];
            motif.add(hit);
            let Some((start, end)) = region.local(hit.start_untrimmed, hit.end_untrimmed) else { continue };
            let mut sequence = region.sequence[start..end].to_vec();
            let mut contributions = region.contributions[start..end].to_vec();
            if hit.forward == region.reversed {
                reverse_complement(&mut sequence);
                contributions.reverse();
            }
            motif.align(&sequence, &contributions);
        }
        region.weight = region.hits.iter().map(|hit| f64::from(hit.coefficient_global)).sum();
        let place = self.shown.partition_point(|other| other.weight >= region.weight);
        if place < top {
            self.shown.insert(place, region);
            self.shown.truncate(top);
        }
    }
}

/// Typed views of a batch of contributions.
struct Columns<'b> {
    region: &'b UInt64Array,
    chrom: &'b StringArray,
    start: &'b Int64Array,
    end: &'b Int64Array,
    strand: &'b StringArray,
    name: &'b StringArray,
    sequence: &'b StringArray,
    contributions: &'b ListArray,
    hypothetical: bool,
}

impl<'b> Columns<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self> {
        let hypothetical = !schema::has(batch.schema_ref(), CONTRIBUTIONS);
        Ok(Self {
            region: schema::u64s(batch, REGION)?,
            chrom: schema::strings(batch, CHROM)?,
            start: schema::i64s(batch, START)?,
            end: schema::i64s(batch, END)?,
            strand: schema::strings(batch, STRAND)?,
            name: schema::strings(batch, NAME)?,
            sequence: schema::strings(batch, SEQUENCE)?,
            contributions: schema::lists(batch, if hypothetical { HYPOTHETICAL } else { CONTRIBUTIONS })?,
            hypothetical,
        })
    }

    fn shown(&self, row: usize, hits: Vec<Hit>) -> Result<Shown> {
        let text = |array: &StringArray| array.is_valid(row).then(|| array.value(row).to_string());
        let sequence = text(self.sequence).unwrap_or_default().into_bytes();
        let mut contributions = schema::float_items(self.contributions, row)?.to_vec();
        if self.hypothetical {
            contributions = project(&contributions, &sequence);
        }
        if contributions.len() != sequence.len() {
            return Err(Error::data(format!(
                "region {}: {} contributions for {} bases",
                self.region.value(row),
                contributions.len(),
                sequence.len()
            )));
        }
        Ok(Shown {
            chrom: text(self.chrom),
            start: self.start.value(row),
            end: self.end.value(row),
            name: text(self.name),
            reversed: self.strand.value(row) == "-",
            sequence,
            contributions,
            hits,
            weight: 0.0,
        })
    }
}

/// Returns the contributions of the observed bases from those of all four, rows A C G T.
fn project(hypothetical: &[f32], sequence: &[u8]) -> Vec<f32> {
    let length = sequence.len();
    let value = |(position, &base): (usize, &u8)| {
        base_index(base).and_then(|base| hypothetical.get(base * length + position)).copied().unwrap_or(0.0)
    };
    sequence.iter().enumerate().map(value).collect()
}

/// Hits one after another, from a stream of batches.
struct HitReader {
    batches: Batches,
    ready: Peekable<std::vec::IntoIter<Hit>>,
}

impl HitReader {
    /// Returns the hits that come next and belong to `region`.
    fn of_region(&mut self, region: u64, motifs: &mut Vec<MotifSummary>) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        while self.next_region(motifs)? == Some(region) {
            hits.extend(self.ready.next());
        }
        Ok(hits)
    }

    /// Returns the region of the next hit; `None` when there is none.
    fn next_region(&mut self, motifs: &mut Vec<MotifSummary>) -> Result<Option<u64>> {
        while self.ready.peek().is_none() {
            match self.batches.next() {
                None => return Ok(None),
                Some(batch) => self.ready = read_hits(&batch?, motifs)?.into_iter().peekable(),
            }
        }
        Ok(self.ready.peek().map(|hit| hit.region))
    }
}

fn read_hits(batch: &RecordBatch, motifs: &mut Vec<MotifSummary>) -> Result<Vec<Hit>> {
    let integers = |name| schema::i64s(batch, name);
    let numbers = |name| -> Result<&Float32Array> { schema::f32s(batch, name) };
    let (region, name) = (schema::u64s(batch, REGION)?, schema::strings(batch, MOTIF_NAME)?);
    let strand = schema::strings(batch, STRAND)?;
    let (start, end) = (integers(START)?, integers(END)?);
    let (start_untrimmed, end_untrimmed) = (integers(START_UNTRIMMED)?, integers(END_UNTRIMMED)?);
    let (coefficient, similarity) = (numbers(HIT_COEFFICIENT)?, numbers(HIT_SIMILARITY)?);
    let coefficient_global = numbers(HIT_COEFFICIENT_GLOBAL)?;
    let hit = |row| Hit {
        region: region.value(row),
        motif: index_of(motifs, name.value(row)),
        forward: strand.value(row) != "-",
        start: start.value(row),
        end: end.value(row),
        start_untrimmed: start_untrimmed.value(row),
        end_untrimmed: end_untrimmed.value(row),
        coefficient: coefficient.value(row),
        coefficient_global: coefficient_global.value(row),
        similarity: similarity.value(row),
    };
    Ok((0..batch.num_rows()).map(hit).collect())
}

fn index_of(motifs: &mut Vec<MotifSummary>, name: &str) -> usize {
    motifs.iter().position(|motif| motif.name == name).unwrap_or_else(|| {
        motifs.push(MotifSummary::new(name));
        motifs.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::ArrayRef;
    use arrow_schema::{Field, Schema};

    use super::*;

    fn pipe(columns: Vec<(&str, ArrayRef)>) -> Pipe {
        let fields: Vec<_> =
            columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch =
            RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, a)| a).collect()).unwrap();
        // One row a batch: what is gathered must not depend on it.
        let rows: Vec<_> = (0..batch.num_rows()).map(|row| Ok(batch.slice(row, 1))).collect();
        Pipe::new(schema, rows.into_iter())
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn integers(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn ordinals(values: &[u64]) -> ArrayRef {
        Arc::new(UInt64Array::from(values.to_vec()))
    }

    /// Two windows of `c` from 100 and from 200, the second read on the reverse strand.
    fn rows() -> Pipe {
        pipe(vec![
            (REGION, ordinals(&[4, 7])),
            (CHROM, texts(&["c", "c"])),
            (START, integers(&[100, 200])),
            (END, integers(&[106, 206])),
            (STRAND, texts(&[".", "-"])),
            (NAME, texts(&["<b>one</b>", "two"])),
            (SEQUENCE, texts(&["TTACGT", "CCGTAC"])),
            (
                CONTRIBUTIONS,
                schema::float_lists(&[
                    Some(vec![0.0, 0.0, 1.0, 2.0, 3.0, 0.0]),
                    Some(vec![0.0, 9.0, 3.0, 2.0, 1.0, 0.0]),
                ]),
            ),
        ])
    }

    fn hits(regions: &[u64], starts: &[i64], strands: &[&str]) -> Pipe {
        let floats = |value: f32| -> ArrayRef { Arc::new(Float32Array::from(vec![value; regions.len()])) };
        let ends: Vec<i64> = starts.iter().map(|start| start + 3).collect();
        pipe(vec![
            (REGION, ordinals(regions)),
            (CHROM, texts(&vec!["c"; regions.len()])),
            (START, integers(starts)),
            (END, integers(&ends)),
            (START_UNTRIMMED, integers(starts)),
            (END_UNTRIMMED, integers(&ends)),
            (MOTIF_NAME, texts(&vec!["<ACG>"; regions.len()])),
            (HIT_COEFFICIENT, floats(2.0)),
            (HIT_COEFFICIENT_GLOBAL, floats(3.0)),
            (HIT_SIMILARITY, floats(0.5)),
            (STRAND, texts(strands)),
        ])
    }

    #[test]
    fn contributions_are_averaged_in_the_direction_of_the_motif() {
        // ACG at 102 forward; in the window that reads CCGTAC on the reverse strand, CGT at local 1 is ACG of
        // the genome's forward strand at 206 - 4 = 202, with contributions 2 3 9 there.
        let gathered = gather(rows(), hits(&[4, 7], &[102, 202], &["+", "+"]), 5).unwrap();
        let motif = &gathered.motifs[0];
        assert_eq!(motif.hits(), 2);
        assert_eq!(motif.frequencies(), [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
        let mean = motif.mean_contributions();
        assert_eq!([mean[0][0], mean[1][1], mean[2][2]], [1.5, 2.5, 6.0]);
    }

    #[test]
    fn hits_of_other_regions_are_refused() {
        for regions in [[4, 8], [7, 4]] {
            let error = gather(rows(), hits(&regions, &[102, 202], &["+", "+"]), 5).unwrap_err().to_string();
            assert!(error.contains("the stream that the hits were called on"), "{error}");
        }
    }

    #[test]
    fn no_more_regions_are_kept_than_shown() {
        let gathered = gather(rows(), hits(&[4, 7, 7], &[102, 202, 201], &["+", "+", "-"]), 1).unwrap();
        assert_eq!((gathered.shown.len(), gathered.regions_with_hits, gathered.hits), (1, 2, 3));
        assert_eq!(gathered.shown[0].name.as_deref(), Some("two"));
    }

    #[test]
    fn a_page_refers_to_nothing_outside_and_escapes_the_data() {
        let gathered = gather(rows(), hits(&[4, 7], &[102, 202], &["+", "-"]), 5).unwrap();
        let step = Step { command: "nyx-report <x>".into(), ..Step::default() };
        let html = crate::report::page::page(&gathered, &[], &step);
        for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.split("href=\"").skip(1).all(|rest| rest.starts_with("#base-")));
        assert!(!html.contains("<b>one") && !html.contains("<ACG>") && !html.contains("<x>"));
        assert!(html.contains("&lt;ACG&gt;") && html.contains("&lt;b&gt;one"));
    }
}
