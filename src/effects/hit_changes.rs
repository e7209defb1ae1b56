//! Motif hits that an allele gains and loses, from hits called on the contributions of all alleles.
//!
//! A hit of the reference and one of the alternate are the same when they are of one motif and strand and begin at the
//! same base of the reference; behind an indel they are compared with its length taken off, and within that length.
//! Haplotypes, with indels anywhere in the window, are not compared.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, SchemaRef};

use super::DESCRIPTION_KEY;
use crate::error::{Error, Result};
use crate::pipe::{Batches, Pipe};
use crate::schema::{self, ALLELE, ALT, HAPLOTYPE, POS, REF, REGION, STRAND};

/// The column of hits that only the alternate has.
pub const GAINED: &str = "hits_gained";
/// The column of hits that only the reference has.
pub const LOST: &str = "hits_lost";

const MOTIF_NAME: &str = "motif_name";
const START_UNTRIMMED: &str = "start_untrimmed";

/// Whose window a hit is in: position, REF and ALT, or `None` for the reference.
type Allele = Option<(i64, String, String)>;

/// One hit.
#[derive(Clone, Debug, PartialEq)]
struct Hit {
    allele: Allele,
    motif: String,
    strand: String,
    /// First base of the motif, 0-based, counted in bases of the window from its start on the genome.
    start: i64,
}

/// Columns that hits on allele rows have.
const WANTED: [(&str, DataType); 8] = [
    (REGION, DataType::UInt64),
    (ALLELE, DataType::UInt16),
    (POS, DataType::Int64),
    (REF, DataType::Utf8),
    (ALT, DataType::Utf8),
    (MOTIF_NAME, DataType::Utf8),
    (STRAND, DataType::Utf8),
    (START_UNTRIMMED, DataType::Int64),
];

/// Adds [`GAINED`] and [`LOST`] to effects: `MOTIF@POSITION(STRAND)` by comma, 1-based; null for none.
///
/// # Errors
///
/// When `hits` are not hits on allele rows; in the batches, when they are not in the order of the rows.
pub fn add(pipe: Pipe, hits: Pipe) -> Result<Pipe> {
    for (name, kind) in WANTED {
        schema::require(hits.schema(), name, &kind).map_err(|error| {
            Error::data(format!("{error}: hits on allele rows are wanted (nyx-hits)")).at("--hits")
        })?;
    }
    let mut target = pipe.schema().clone();
    for (name, description) in [
        (GAINED, "Motif hits of the alternate that the reference lacks"),
        (LOST, "Motif hits of the reference that the alternate lacks"),
    ] {
        let metadata = [(DESCRIPTION_KEY.to_string(), description.to_string())];
        target = schema::with_field(&target, Field::new(name, DataType::Utf8, true).with_metadata(metadata));
    }
    let schema = target.clone();
    let mut hits = Hits::new(hits);
    Ok(pipe.map(target, move |batch| add_to_batch(&batch, &schema, &mut hits)))
}

fn add_to_batch(batch: &RecordBatch, target: &SchemaRef, hits: &mut Hits) -> Result<RecordBatch> {
    let regions = schema::u64s(batch, REGION)?;
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    for row in 0..batch.num_rows() {
        let of_region = hits.of(regions.value(row))?;
        let (gains, losses) = match is_haplotype(batch, row)? {
            true => (None, None),
            false => changes(of_region, allele_of(batch, row)?),
        };
        gained.push(gains);
        lost.push(losses);
    }
    let text = |texts: Vec<Option<String>>| Arc::new(StringArray::from(texts)) as ArrayRef;
    schema::with_columns(batch, target, vec![(GAINED, text(gained)), (LOST, text(lost))])
}

fn is_haplotype(batch: &RecordBatch, row: usize) -> Result<bool> {
    Ok(schema::has(batch.schema_ref(), HAPLOTYPE) && schema::strings(batch, HAPLOTYPE)?.is_valid(row))
}

/// Returns which alternate allele a row is of, whatever its number: position, REF, ALT.
fn allele_of(batch: &RecordBatch, row: usize) -> Result<(i64, String, String)> {
    let text = |name| Ok::<_, Error>(schema::strings(batch, name)?.value(row).to_string());
    Ok((schema::i64s(batch, POS)?.value(row), text(REF)?, text(ALT)?))
}

/// Where alleles of different lengths lie.
#[derive(Clone, Copy, Debug)]
struct Site {
    /// First base of REF, 0-based.
    position: i64,
    /// Bases of REF.
    reference: i64,
    /// Bases of the alternate.
    alternate: i64,
}

impl Site {
    /// Returns where a base of the alternate's window is in that of the reference.
    fn in_reference(self, start: i64) -> i64 {
        if start >= self.position + self.alternate { start + self.reference - self.alternate } else { start }
    }

    fn is_same(self, reference: &Hit, alternate: &Hit) -> bool {
        let off = (self.in_reference(alternate.start) - reference.start).abs();
        let tolerance = (self.reference - self.alternate).abs();
        reference.motif == alternate.motif && reference.strand == alternate.strand && off <= tolerance
    }
}

/// Returns the hits of `allele` that the reference lacks, and those of the reference that it lacks.
fn changes(hits: &[Hit], allele: (i64, String, String)) -> (Option<String>, Option<String>) {
    let site =
        Site { position: allele.0 - 1, reference: allele.1.len() as i64, alternate: allele.2.len() as i64 };
    let (own, reference): (Vec<&Hit>, Vec<&Hit>) = hits
        .iter()
        .filter(|hit| hit.allele.as_ref().is_none_or(|found| *found == allele))
        .partition(|hit| hit.allele.is_some());
    let gained = own.iter().filter(|own| !reference.iter().any(|reference| site.is_same(reference, own)));
    let lost = reference.iter().filter(|reference| !own.iter().any(|own| site.is_same(reference, own)));
    let at = |hit: &Hit, start: i64| format!("{}@{}({})", hit.motif, start + 1, hit.strand);
    let gained: Vec<String> = gained.map(|hit| at(hit, site.in_reference(hit.start))).collect();
    let lost: Vec<String> = lost.map(|hit| at(hit, hit.start)).collect();
    let text = |texts: Vec<String>| (!texts.is_empty()).then(|| texts.join(","));
    (text(gained), text(lost))
}

/// The hits of one region after the other.
struct Hits {
    batches: Batches,
    batch: Option<RecordBatch>,
    row: usize,
    region: Option<u64>,
    of_region: Vec<Hit>,
}

impl Hits {
    fn new(pipe: Pipe) -> Self {
        let (_, batches) = pipe.into_parts();
        Self { batches, batch: None, row: 0, region: None, of_region: Vec::new() }
    }

    /// Returns the hits of a region; regions are asked for in ascending order.
    fn of(&mut self, region: u64) -> Result<&[Hit]> {
        if self.region != Some(region) {
            self.of_region.clear();
            self.region = Some(region);
            while let Some(next) = self.peek()? {
                if next > region {
                    break;
                }
                if next == region {
                    let hit = self.read()?;
                    self.of_region.extend(hit);
                }
                self.row += 1;
                if self.peek()?.is_some_and(|after| after < next) {
                    let message =
                        format!("hits of region {next} are before those of a lower one: sort them by region");
                    return Err(Error::data(message).at("--hits"));
                }
            }
        }
        Ok(&self.of_region)
    }

    /// Returns the region of the next hit.
    fn peek(&mut self) -> Result<Option<u64>> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.row < batch.num_rows()) {
                return Ok(Some(schema::u64s(batch, REGION)?.value(self.row)));
            }
            match self.batches.next().transpose()? {
                None => return Ok(None),
                batch => (self.batch, self.row) = (batch, 0),
            }
        }
    }

    /// Returns the next hit, unless it is a haplotype's.
    fn read(&self) -> Result<Option<Hit>> {
        let batch = self.batch.as_ref().expect("there is a next hit");
        if is_haplotype(batch, self.row)? {
            return Ok(None);
        }
        let is_reference = schema::u16s(batch, ALLELE)?.value(self.row) == 0;
        Ok(Some(Hit {
            allele: if is_reference { None } else { Some(allele_of(batch, self.row)?) },
            motif: schema::strings(batch, MOTIF_NAME)?.value(self.row).to_string(),
            strand: schema::strings(batch, STRAND)?.value(self.row).to_string(),
            start: schema::i64s(batch, START_UNTRIMMED)?.value(self.row),
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, UInt16Array, UInt64Array};
    use arrow_schema::Schema;

    use super::*;

    fn allele(reference: &str, alternate: &str) -> (i64, String, String) {
        (101, reference.into(), alternate.into())
    }

    fn hit(allele: Allele, motif: &str, start: i64) -> Hit {
        Hit { allele, motif: motif.into(), strand: "+".into(), start }
    }

    #[test]
    fn a_hit_behind_an_indel_is_the_same_hit() {
        // Three bases are deleted after 101: what began at 120 begins at 117 now.
        let (deletion, substitution) = (allele("ACGT", "A"), allele("A", "T"));
        let of = |allele: &(i64, String, String)| Some(allele.clone());
        let hits = [
            hit(None, "a", 120),
            hit(None, "b", 90),
            hit(of(&deletion), "a", 117),
            hit(of(&deletion), "b", 90),
            hit(of(&substitution), "a", 120),
        ];
        assert_eq!(changes(&hits, deletion), (None, None));
        assert_eq!(changes(&hits, substitution.clone()), (None, Some("b@91(+)".into())));
        let gained = changes(&[hit(of(&substitution), "c", 99)], substitution);
        assert_eq!(gained, (Some("c@100(+)".into()), None));
    }

    fn stream(regions: &[u64], sizes: &[usize]) -> Pipe {
        let schema = Arc::new(Schema::new(WANTED.map(|(name, kind)| Field::new(name, kind, false)).to_vec()));
        let texts = |text: &str| Arc::new(StringArray::from(vec![text; regions.len()])) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(regions.to_vec())),
            Arc::new(UInt16Array::from(vec![1; regions.len()])),
            Arc::new(Int64Array::from(vec![1; regions.len()])),
            texts("A"),
            texts("T"),
            texts("m"),
            texts("-"),
            Arc::new(Int64Array::from_iter_values(0..regions.len() as i64)),
        ];
        let all = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let starts = sizes.iter().scan(0, |sum, size| {
            *sum += size;
            Some(*sum - size)
        });
        let parts: Vec<_> = starts.zip(sizes).map(|(start, &size)| Ok(all.slice(start, size))).collect();
        Pipe::new(schema, parts.into_iter())
    }

    #[test]
    fn regions_without_hits_and_hits_without_rows_pass() {
        for sizes in [&[6][..], &[1; 6], &[2, 0, 4]] {
            let mut hits = Hits::new(stream(&[0, 0, 2, 5, 5, 5], sizes));
            let mut count = |region| hits.of(region).unwrap().len();
            assert_eq!([count(0), count(0), count(1), count(5), count(9)], [2, 2, 0, 3, 0]);
        }
    }

    #[test]
    fn hits_out_of_order_are_refused() {
        let mut hits = Hits::new(stream(&[3, 1], &[1, 1]));
        assert!(hits.of(3).unwrap_err().to_string().contains("--hits: hits of region 3"));
    }
}
