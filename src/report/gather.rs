//! Goes through contributions once, with all hits at hand, and keeps what a report shows.

use std::collections::{BTreeMap, HashMap};

use arrow_array::{Array, Int64Array, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow_schema::DataType;

use super::histogram::Histogram;
use super::hit_table::{HitTable, Rows};
use super::known::Known;
use super::recall::{self, Counts, Unique};
use crate::dna::{base_index, reverse_complement};
use crate::error::{Error, Result};
use crate::motif::instance::{Instance, Place, Vocabulary};
use crate::motif::modisco::Seqlet;
use crate::pipe::Pipe;
use crate::provenance::{self, Genome, KIND_KEY, Step};
use crate::region::Strand;
use crate::schema::{self, CHROM, CONTRIBUTIONS, END, HYPOTHETICAL, NAME, REGION, SEQUENCE, START, STRAND};

/// Sums over windows that read in the direction of the motif, one column per position.
#[derive(Clone, Debug, Default)]
pub struct Aligned {
    contributions: Vec<[f64; 4]>,
    counts: Vec<[f64; 4]>,
    windows: u64,
}

impl Aligned {
    /// Returns how many windows were added.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Returns the mean contribution of each base, a CWM; empty without windows.
    pub fn mean_contributions(&self) -> Vec<[f64; 4]> {
        let count = self.windows.max(1) as f64;
        self.contributions.iter().map(|column| column.map(|sum| sum / count)).collect()
    }

    /// Returns the mean one-hot sequence; empty without windows.
    pub fn mean_sequence(&self) -> Vec<[f64; 4]> {
        let count = self.windows.max(1) as f64;
        self.counts.iter().map(|column| column.map(|sum| sum / count)).collect()
    }

    /// Returns the frequencies of bases, N left out; empty without windows.
    pub fn frequencies(&self) -> Vec<[f64; 4]> {
        let normal = |column: &[f64; 4]| {
            let sum: f64 = column.iter().sum();
            if sum > 0.0 { column.map(|count| count / sum) } else { [0.25; 4] }
        };
        self.counts.iter().map(normal).collect()
    }

    fn add(&mut self, window: &Window) {
        let length = window.sequence.len();
        if self.counts.len() < length {
            self.counts.resize(length, [0.0; 4]);
            self.contributions.resize(length, [0.0; 4]);
        }
        self.windows += 1;
        for (position, (&base, &value)) in window.sequence.iter().zip(&window.contributions).enumerate() {
            if let Some(base) = base_index(base) {
                self.counts[position][base] += 1.0;
                self.contributions[position][base] += f64::from(value);
            }
        }
    }
}

/// Bases and contributions in the direction of a motif.
struct Window {
    sequence: Vec<u8>,
    contributions: Vec<f32>,
}

/// What is known of one motif from its hits.
#[derive(Clone, Debug)]
pub struct MotifSummary {
    /// The motif's name.
    pub name: String,
    /// The motif itself, where it was given.
    pub known: Option<Known>,
    /// Regions with at least one hit.
    pub regions: u64,
    /// Hits on the forward strand of the genome.
    pub forward: u64,
    /// `hit_coefficient` of all hits.
    pub coefficients: Histogram,
    /// `hit_coefficient_global` of all hits.
    pub global_coefficients: Histogram,
    /// `hit_similarity` of all hits.
    pub similarities: Histogram,
    /// `hit_importance` of all hits.
    pub importances: Histogram,
    /// How many regions have how many hits, where they have any.
    pub per_region: BTreeMap<u64, u64>,
    /// Distinct hits.
    pub aligned: Aligned,
    /// Seqlets that no hit is.
    pub seqlets_only: Aligned,
    /// Distinct hits, inside the windows that TF-MoDISco looked at, that are no seqlet.
    pub hits_only: Aligned,
    /// Comparison with seqlets; without them only the hits are counted.
    pub counts: Counts,
}

impl MotifSummary {
    fn new(name: &str, known: Option<&Known>) -> Self {
        Self {
            name: name.into(),
            known: known.cloned(),
            regions: 0,
            forward: 0,
            coefficients: Histogram::new(1.0),
            global_coefficients: Histogram::new(1.0),
            similarities: Histogram::new(1.0),
            importances: Histogram::new(1.0),
            per_region: BTreeMap::new(),
            aligned: Aligned::default(),
            seqlets_only: Aligned::default(),
            hits_only: Aligned::default(),
            counts: Counts::default(),
        }
    }

    /// Returns how many hits the motif has.
    pub fn hits(&self) -> u64 {
        self.coefficients.total()
    }

    /// Returns the cosine between the motif's CWM and the mean contributions of its distinct hits, both
    /// untrimmed; not a number without either.
    pub fn cwm_similarity(&self) -> f64 {
        let found = self.aligned.mean_contributions();
        let Some(cwm) = self.known.as_ref().map(|known| &known.cwm) else { return f64::NAN };
        if found.len() != cwm.width() {
            return f64::NAN;
        }
        let mut sums = [0.0; 3];
        for (position, column) in found.iter().enumerate() {
            for (base, &a) in column.iter().enumerate() {
                let b = cwm.at(base, position);
                sums[0] += a * b;
                sums[1] += a * a;
                sums[2] += b * b;
            }
        }
        sums[0] / (sums[1] * sums[2]).sqrt()
    }

    fn add(&mut self, hit: &Instance) {
        self.coefficients.add(hit.coefficient.into());
        self.global_coefficients.add(hit.coefficient_global.into());
        self.similarities.add(hit.similarity.into());
        self.importances.add(hit.importance.into());
        self.forward += u64::from(hit.strand != Strand::Reverse);
    }
}

/// A region that is shown base by base.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Ordinal of the region.
    pub region: u64,
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
    pub hits: Vec<Instance>,
    /// Contributions of all four bases, 4 × L, rows A, C, G, T, where the rows have them.
    pub hypothetical: Option<Vec<f32>>,
    /// Sum of the hits' global coefficients, or of absolute contributions, by which regions are ranked.
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
        (0 <= first && last <= self.sequence.len() as i64 && first < last)
            .then_some((first as usize, last as usize))
    }

    /// Returns the untrimmed window of an instance if all of it lies inside.
    fn window(&self, instance: &Instance) -> Option<Window> {
        let (start, end) = self.local(instance.start_untrimmed, instance.end_untrimmed)?;
        let mut sequence = self.sequence[start..end].to_vec();
        let mut contributions = self.contributions[start..end].to_vec();
        if (instance.strand == Strand::Reverse) != self.reversed {
            reverse_complement(&mut sequence);
            contributions.reverse();
        }
        Some(Window { sequence, contributions })
    }
}

/// What to compare and to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Regions to keep for showing base by base.
    pub top: usize,
    /// Width of the windows that TF-MoDISco looked at, in the middle of regions; `None` is 400, or all of a
    /// region that is narrower.
    pub modisco_width: Option<usize>,
    /// Compare hits with seqlets.
    pub recall: bool,
    /// Fi-NeMo's confusion of binned coordinates.
    pub compat: bool,
    /// Show the regions with the largest sums of absolute contributions, whether they have hits or not.
    pub by_contributions: bool,
}

/// Hits, and what they are compared with.
pub struct Inputs<'a> {
    /// The hits; their vocabulary begins with the names of `known`.
    pub hits: &'a HitTable,
    /// The motifs that hits were called with.
    pub known: &'a [Known],
    /// Instances that motifs were made of; patterns count as `known` does.
    pub seqlets: Option<&'a [Seqlet]>,
}

/// A seqlet in its region.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Where it lies; it has no coefficients.
    pub instance: Instance,
    /// First base of its region.
    pub region_start: i64,
}

/// All that a report shows.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Motifs: those that were given, then others in the order of their first hit.
    pub motifs: Vec<MotifSummary>,
    /// Regions with the strongest hits, or the largest contributions, strongest first.
    pub shown: Vec<Shown>,
    /// Whether those are ranked by their contributions.
    pub by_contributions: bool,
    /// Regions that were read.
    pub regions: u64,
    /// Regions with at least one hit.
    pub regions_with_hits: u64,
    /// Hits that were read.
    pub hits: u64,
    /// Every region: its ordinal, and its motifs with their numbers of hits.
    pub occurrences: Vec<(u64, Vec<(u32, u64)>)>,
    /// Distinct seqlets, where there are any to compare with.
    pub seqlets: Option<Vec<Placed>>,
    /// Whether hits were compared with seqlets.
    pub recall: bool,
    /// Seqlets (first index) that hits of a motif (second) lie on; empty without seqlets.
    pub confusion: Vec<Vec<u64>>,
    /// Seqlets whose region was not among the rows.
    pub lost_seqlets: u64,
    /// The stages that made the hits.
    pub chain: Vec<Step>,
    /// The reference genome.
    pub genome: Option<Genome>,
}

/// Reads contributions to their end; memory holds the hits, the seqlets and `top` regions.
///
/// # Errors
///
/// When hits or seqlets belong to other regions.
pub fn gather(
    rows: Pipe,
    inputs: &Inputs,
    vocabulary: &mut Vocabulary,
    options: Options,
) -> Result<Gathered> {
    check(&rows, &inputs.hits.rows)?;
    let mut gatherer = Gatherer::new(&rows, inputs, vocabulary, options)?;
    for batch in rows.into_parts().1 {
        let batch = batch?;
        let columns = Columns::of(&batch)?;
        for row in 0..batch.num_rows() {
            gatherer.region(columns.region.value(row), columns.shown(row)?)?;
        }
    }
    gatherer.finish()
}

/// The state between regions.
struct Gatherer<'a> {
    gathered: Gathered,
    inputs: &'a Inputs<'a>,
    vocabulary: &'a mut Vocabulary,
    options: Options,
    /// Rows of the hits of a region; taken out when the region comes.
    hits: HashMap<u64, Vec<usize>>,
    seqlets_of: HashMap<u64, Vec<Seqlet>>,
    /// Keys of all hits, known before the first region.
    called: Unique,
    unique: Unique,
    restricted: Unique,
    seqlets: Unique,
    placed: Vec<Placed>,
    /// Windows of restricted hits, which become hits only when all seqlets are placed.
    pending: Vec<(Instance, Window)>,
}

impl<'a> Gatherer<'a> {
    fn new(
        rows: &Pipe,
        inputs: &'a Inputs<'a>,
        vocabulary: &'a mut Vocabulary,
        options: Options,
    ) -> Result<Self> {
        let schema = match &inputs.hits.rows {
            Rows::Batch(batch) => batch.schema(),
            Rows::Lines(..) => rows.schema().clone(),
        };
        let known = |name: &str| inputs.known.iter().find(|known| known.name == name);
        let names = vocabulary.motifs.values();
        let gathered = Gathered {
            motifs: names.iter().map(|name| MotifSummary::new(name, known(name))).collect(),
            chain: provenance::chain(&schema.metadata)?,
            genome: Genome::of(&schema)?,
            recall: options.recall && inputs.seqlets.is_some(),
            by_contributions: options.by_contributions,
            ..Gathered::default()
        };
        let (mut hits, mut called) = (HashMap::<u64, Vec<usize>>::new(), Unique::default());
        for (row, hit) in inputs.hits.hits.iter().enumerate() {
            hits.entry(hit.region).or_default().push(row);
            called.add(hit);
        }
        let mut seqlets_of = HashMap::<u64, Vec<Seqlet>>::new();
        for seqlet in inputs.seqlets.unwrap_or_default() {
            seqlets_of.entry(seqlet.region).or_default().push(*seqlet);
        }
        Ok(Self {
            gathered,
            inputs,
            vocabulary,
            options,
            hits,
            seqlets_of,
            called,
            unique: Unique::default(),
            restricted: Unique::default(),
            seqlets: Unique::default(),
            placed: Vec::new(),
            pending: Vec::new(),
        })
    }

    fn region(&mut self, ordinal: u64, mut region: Shown) -> Result<()> {
        self.gathered.regions += 1;
        let rows = self.hits.remove(&ordinal).unwrap_or_default();
        region.hits = rows.iter().map(|&row| self.inputs.hits.hits[row]).collect();
        for seqlet in self.seqlets_of.remove(&ordinal).unwrap_or_default() {
            self.seqlet(&region, &seqlet)?;
        }
        for index in 0..region.hits.len() {
            self.hit(&region, &region.hits[index]);
        }
        self.occurrences(ordinal, &region.hits);
        self.gathered.regions_with_hits += u64::from(!region.hits.is_empty());
        self.gathered.hits += region.hits.len() as u64;
        if self.options.by_contributions || !region.hits.is_empty() {
            self.gathered.show(region, self.options);
        }
        Ok(())
    }

    fn hit(&mut self, region: &Shown, hit: &Instance) {
        let motif = &mut self.gathered.motifs[hit.motif as usize];
        motif.add(hit);
        let window = region.window(hit);
        if self.unique.add(hit)
            && let Some(window) = &window
        {
            motif.aligned.add(window);
        }
        // Inside [L/2 − w, L/2 + w], in halves of a base.
        let (center, width) = (region.sequence.len() as i64, 2 * (self.modisco_width(region) / 2) as i64);
        let inside = 2 * (hit.start_untrimmed - region.start) >= center - width
            && 2 * (hit.end_untrimmed - region.start) <= center + width;
        if inside && self.restricted.add(hit) && self.gathered.recall {
            self.pending.extend(window.map(|window| (*hit, window)));
        }
    }

    fn modisco_width(&self, region: &Shown) -> usize {
        self.options.modisco_width.unwrap_or(DEFAULT_WIDTH.min(region.sequence.len()))
    }

    fn seqlet(&mut self, region: &Shown, seqlet: &Seqlet) -> Result<()> {
        let (length, width) = (region.sequence.len(), self.modisco_width(region));
        let offset = (length / 2) as i64 - (width / 2) as i64;
        if offset < 0 {
            return Err(Error::usage(format!(
                "--modisco-region-width {width}: regions have {length} bases; give the -w of `modisco motifs`"
            )));
        }
        let place = self.place(region, seqlet.region);
        let instance = place_seqlet(region, seqlet, &self.inputs.known[seqlet.pattern], offset, place);
        if !self.seqlets.add(&instance) {
            return Ok(());
        }
        self.placed.push(Placed { instance, region_start: region.start });
        if self.gathered.recall && !self.called.has(&instance) {
            let motif = &mut self.gathered.motifs[seqlet.pattern];
            region.window(&instance).iter().for_each(|window| motif.seqlets_only.add(window));
        }
        Ok(())
    }

    /// Returns the numbers of a region's place and contig.
    fn place(&mut self, region: &Shown, ordinal: u64) -> (u32, Option<u32>) {
        let chrom = region.chrom.as_deref().map(|chrom| self.vocabulary.chroms.number(chrom));
        let place = chrom.map_or(Place::Region(ordinal), Place::Contig);
        (self.vocabulary.places.number(&place), chrom)
    }

    fn occurrences(&mut self, ordinal: u64, hits: &[Instance]) {
        let mut present: BTreeMap<u32, u64> = BTreeMap::new();
        hits.iter().for_each(|hit| *present.entry(hit.motif).or_default() += 1);
        for (&motif, &count) in &present {
            let motif = &mut self.gathered.motifs[motif as usize];
            motif.regions += 1;
            *motif.per_region.entry(count).or_default() += 1;
        }
        self.gathered.occurrences.push((ordinal, present.into_iter().collect()));
    }

    fn finish(mut self) -> Result<Gathered> {
        if let Some(region) = self.hits.keys().min() {
            return Err(Error::data(format!(
                "hits of region {region} have no contributions: give the regions that the hits were called on"
            )));
        }
        for (hit, window) in &self.pending {
            if !self.seqlets.has(hit) {
                self.gathered.motifs[hit.motif as usize].hits_only.add(window);
            }
        }
        let motifs = self.gathered.motifs.len();
        let counts = recall::count(motifs, &self.unique, &self.restricted, &self.seqlets);
        self.gathered.motifs.iter_mut().zip(counts).for_each(|(motif, counts)| motif.counts = counts);
        self.gathered.lost_seqlets = self.seqlets_of.values().map(|seqlets| seqlets.len() as u64).sum();
        if self.inputs.seqlets.is_some() {
            let width = self.inputs.known.iter().map(|known| known.cwm.width()).max().unwrap_or(1);
            self.gathered.confusion = if self.options.compat {
                recall::finemo_confusion(motifs, width as i64, &self.unique, &self.seqlets)
            } else {
                recall::confusion(motifs, &self.unique, &self.seqlets)
            };
            self.gathered.seqlets = Some(self.placed);
        }
        Ok(self.gathered)
    }
}

/// Width of the windows that TF-MoDISco looks at unless it is told otherwise.
const DEFAULT_WIDTH: usize = 400;

/// Gives a seqlet coordinates of the genome; `offset` is where TF-MoDISco's window begins in the region.
fn place_seqlet(
    region: &Shown,
    seqlet: &Seqlet,
    known: &Known,
    offset: i64,
    place: (u32, Option<u32>),
) -> Instance {
    let (first, last) = (offset + seqlet.start, offset + seqlet.end);
    let (start, end) = match region.reversed {
        false => (region.start + first, region.start + last),
        true => (region.end - last, region.end - first),
    };
    let reverse = seqlet.reverse != region.reversed;
    let trim = if reverse { known.reverse } else { known.forward };
    Instance {
        chrom: place.1,
        place: place.0,
        start: start + trim.0 as i64,
        end: start + trim.1 as i64,
        start_untrimmed: start,
        end_untrimmed: end,
        motif: seqlet.pattern as u32,
        strand: if reverse { Strand::Reverse } else { Strand::Forward },
        region: seqlet.region,
        peak: None,
        coefficient: 0.0,
        coefficient_global: 0.0,
        similarity: 0.0,
        importance: 0.0,
    }
}

fn check(rows: &Pipe, hits: &Rows) -> Result<()> {
    if rows.schema().metadata.get(KIND_KEY).map(String::as_str) == Some("variants") {
        return Err(Error::data("the report is of regions; these are rows of alleles (nyx-view shows them)"));
    }
    schema::require(rows.schema(), SEQUENCE, &DataType::Utf8)?;
    if !schema::has(rows.schema(), HYPOTHETICAL) {
        schema::require(rows.schema(), CONTRIBUTIONS, &schema::list_of(DataType::Float32))?;
    }
    let Rows::Batch(hits) = hits else { return Ok(()) };
    if let (Some(a), Some(b)) = (Genome::of(rows.schema())?, Genome::of(hits.schema_ref())?)
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
    fn show(&mut self, mut region: Shown, Options { top, by_contributions, .. }: Options) {
        region.weight = match by_contributions {
            true => region.contributions.iter().map(|&value| f64::from(value.abs())).sum(),
            false => region.hits.iter().map(|hit| f64::from(hit.coefficient_global)).sum(),
        };
        let place = self.shown.partition_point(|other| other.weight >= region.weight);
        if place < top {
            self.shown.insert(place, region);
            self.shown.truncate(top);
        }
    }

    /// Returns how many regions have 0, 1, 2, … hits.
    pub fn hits_per_region(&self) -> Vec<u64> {
        let totals =
            self.occurrences.iter().map(|(_, present)| present.iter().map(|(_, count)| *count).sum());
        let mut regions = Vec::new();
        for total in totals.map(|total: u64| total as usize) {
            regions.resize(regions.len().max(total + 1), 0);
            regions[total] += 1;
        }
        regions
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
    /// Whether `contributions` are those of all bases.
    hypothetical: bool,
    /// Those of all bases besides.
    all_bases: Option<&'b ListArray>,
}

impl<'b> Columns<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self> {
        let hypothetical = !schema::has(batch.schema_ref(), CONTRIBUTIONS);
        let besides = !hypothetical && schema::has(batch.schema_ref(), HYPOTHETICAL);
        let all_bases = besides.then(|| schema::lists(batch, HYPOTHETICAL)).transpose()?;
        Ok(Self {
            all_bases: all_bases.filter(|lists| lists.value_type() == DataType::Float32),
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

    fn shown(&self, row: usize) -> Result<Shown> {
        let text = |array: &StringArray| array.is_valid(row).then(|| array.value(row).to_string());
        let sequence = text(self.sequence).unwrap_or_default().into_bytes();
        let mut contributions = schema::float_items(self.contributions, row)?.to_vec();
        let mut hypothetical = None;
        if self.hypothetical {
            let projected = project(&contributions, &sequence);
            hypothetical = Some(std::mem::replace(&mut contributions, projected));
        } else if let Some(lists) = self.all_bases.filter(|lists| lists.is_valid(row)) {
            hypothetical = Some(schema::float_items(lists, row)?.to_vec());
        }
        let hypothetical = hypothetical.filter(|values| values.len() == 4 * sequence.len());
        if contributions.len() != sequence.len() {
            return Err(Error::data(format!(
                "region {}: {} contributions for {} bases",
                self.region.value(row),
                contributions.len(),
                sequence.len()
            )));
        }
        Ok(Shown {
            region: self.region.value(row),
            chrom: text(self.chrom),
            start: self.start.value(row),
            end: self.end.value(row),
            name: text(self.name),
            reversed: self.strand.value(row) == "-",
            sequence,
            contributions,
            hypothetical,
            hits: Vec::new(),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float32Array};
    use arrow_schema::{Field, Schema};

    use crate::hits::table::{
        END_UNTRIMMED, HIT_COEFFICIENT, HIT_COEFFICIENT_GLOBAL, HIT_IMPORTANCE, HIT_SIMILARITY, MOTIF_NAME,
        START_UNTRIMMED,
    };

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
            (HIT_IMPORTANCE, floats(0.5)),
            (STRAND, texts(strands)),
        ])
    }

    fn gather(rows: Pipe, hits: Pipe, top: usize) -> Result<Gathered> {
        let mut vocabulary = Vocabulary::default();
        let hits = HitTable::from_pipe(hits, &mut vocabulary)?;
        let inputs = Inputs { hits: &hits, known: &[], seqlets: None };
        let options =
            Options { top, modisco_width: None, recall: true, compat: false, by_contributions: false };
        super::gather(rows, &inputs, &mut vocabulary, options)
    }

    #[test]
    fn contributions_are_averaged_in_the_direction_of_the_motif() {
        // ACG at 102 forward; in the window that reads CCGTAC on the reverse strand, CGT at local 1 is ACG of
        // the genome's forward strand at 206 - 4 = 202, with contributions 2 3 9 there.
        let gathered = gather(rows(), hits(&[4, 7], &[102, 202], &["+", "+"]), 5).unwrap();
        let motif = &gathered.motifs[0];
        assert_eq!(motif.hits(), 2);
        assert_eq!(
            motif.aligned.frequencies(),
            [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
        );
        let mean = motif.aligned.mean_contributions();
        assert_eq!([mean[0][0], mean[1][1], mean[2][2]], [1.5, 2.5, 6.0]);
    }

    #[test]
    fn hits_of_other_regions_are_refused() {
        let error = gather(rows(), hits(&[4, 8], &[102, 202], &["+", "+"]), 5).unwrap_err().to_string();
        assert!(error.contains("region 8") && error.contains("that the hits were called on"), "{error}");
    }

    #[test]
    fn the_order_of_hits_does_not_matter() {
        let there = gather(rows(), hits(&[4, 7], &[102, 202], &["+", "-"]), 5).unwrap();
        let back = gather(rows(), hits(&[7, 4], &[202, 102], &["-", "+"]), 5).unwrap();
        assert_eq!(there.occurrences, back.occurrences);
        let means = |gathered: &Gathered| gathered.motifs[0].aligned.mean_contributions();
        assert_eq!(means(&there), means(&back));
        assert_eq!(there.hits_per_region(), [0, 2]);
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
        let html = crate::report::page::page(&gathered, &step, &[]);
        for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.split("href=\"").skip(1).all(|rest| rest.starts_with("#base-")));
        assert!(!html.contains("<b>one") && !html.contains("<ACG>") && !html.contains("<x>"));
        assert!(html.contains("&lt;ACG&gt;") && html.contains("&lt;b&gt;one"));
    }
}
