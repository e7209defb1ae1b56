//! Hits in memory: Fi-NeMo's hits.tsv or a stream of hits, with their rows as they came.
//!
//! What is asked of hits (which overlap, which lists agree, how many a motif has) needs all of them at once:
//! about 100 bytes a hit besides the rows themselves.

use std::io::BufRead;
use std::path::Path;

use arrow_array::{Array, RecordBatch, StringArray, UInt16Array};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use crate::error::{Error, InFile, Result};
use crate::hits::table::{
    END_UNTRIMMED, HIT_COEFFICIENT, HIT_COEFFICIENT_GLOBAL, HIT_IMPORTANCE, HIT_SIMILARITY, MOTIF_NAME,
    PEAK_ID, PEAK_NAME, START_UNTRIMMED,
};
use crate::input::{self, Opened};
use crate::motif::instance::{Instance, Place, Vocabulary};
use crate::pipe::Pipe;
use crate::region::Strand;
use crate::schema::{self, ALLELE, CHROM, END, HAPLOTYPE, REGION, START, STRAND};

/// Name of the column that says whether a hit is primary among those it overlaps.
pub const IS_PRIMARY: &str = "is_primary";

/// The contig in Fi-NeMo's tables.
const CHR: &str = "chr";

/// Hits and the rows they came from.
pub struct HitTable {
    /// The hits, in row order.
    pub hits: Vec<Instance>,
    /// Their rows.
    pub rows: Rows,
}

/// Rows as they came.
pub enum Rows {
    /// Lines of a table: the column names, and each line without its end.
    Lines(Vec<String>, Vec<String>),
    /// One batch of a stream.
    Batch(RecordBatch),
}

impl HitTable {
    /// Returns no hits.
    pub fn none() -> Self {
        Self { hits: Vec::new(), rows: Rows::Lines(Vec::new(), Vec::new()) }
    }

    /// Reads hits from Fi-NeMo's table or a stream, known by its bytes; names are added to `vocabulary`.
    ///
    /// # Errors
    ///
    /// A column that is missing, a cell that cannot be read (with its line), a stream that is cut.
    pub fn read(path: &Path, vocabulary: &mut Vocabulary) -> Result<Self> {
        let table = match input::open_any(path)? {
            Opened::Pipe(pipe) => Self::from_pipe(pipe, vocabulary),
            Opened::Text(text) => Self::from_text(text, vocabulary),
        };
        table.in_file(path)
    }

    /// Reads hits from a stream.
    ///
    /// # Errors
    ///
    /// A column that is missing or of another type, a stream that is cut.
    pub fn from_pipe(pipe: Pipe, vocabulary: &mut Vocabulary) -> Result<Self> {
        let (schema, batches) = pipe.into_parts();
        check(&schema)?;
        let batches = batches.collect::<Result<Vec<_>>>()?;
        let batch = concat_batches(&schema, &batches)?;
        let hits = Columns::of(&batch)?.hits(vocabulary);
        Ok(Self { hits, rows: Rows::Batch(batch) })
    }

    fn from_text(text: Box<dyn BufRead + Send>, vocabulary: &mut Vocabulary) -> Result<Self> {
        let mut lines = text.lines();
        let header = lines.next().transpose()?.unwrap_or_default();
        let columns: Vec<String> = header.trim_end_matches('\r').split('\t').map(str::to_string).collect();
        let cells = Cells::of(&columns)?;
        let (mut hits, mut kept) = (Vec::new(), Vec::new());
        for (index, line) in lines.enumerate() {
            let mut line = line?;
            line.truncate(line.trim_end_matches('\r').len());
            let hit = cells.hit(&line, columns.len(), vocabulary);
            hits.push(hit.map_err(|error| error.at(format!("line {}", index + 2)))?);
            kept.push(line);
        }
        Ok(Self { hits, rows: Rows::Lines(columns, kept) })
    }
}

impl Rows {
    /// Returns whether there is a column `name`.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Lines(columns, _) => columns.iter().any(|column| column == name),
            Self::Batch(batch) => schema::has(batch.schema_ref(), name),
        }
    }
}

fn check(schema: &SchemaRef) -> Result<()> {
    if schema::has(schema, MOTIF_NAME) {
        return Ok(());
    }
    Err(Error::data(format!("the stream has no column `{MOTIF_NAME}`: give hits (nyx-hits makes them)")))
}

/// Typed views of a batch of hits.
struct Columns<'b> {
    batch: &'b RecordBatch,
    chrom: &'b StringArray,
    motif: &'b StringArray,
    strand: &'b StringArray,
    peak: Option<&'b StringArray>,
    allele: Option<&'b UInt16Array>,
    haplotype: Option<&'b StringArray>,
}

impl<'b> Columns<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self> {
        let has = |name| schema::has(batch.schema_ref(), name);
        // All columns are looked at here, so that `hits` cannot fail.
        for name in [START, END, START_UNTRIMMED, END_UNTRIMMED] {
            schema::i64s(batch, name)?;
        }
        for name in [HIT_COEFFICIENT, HIT_COEFFICIENT_GLOBAL, HIT_SIMILARITY, HIT_IMPORTANCE] {
            schema::f32s(batch, name)?;
        }
        schema::u64s(batch, REGION)?;
        Ok(Self {
            batch,
            chrom: schema::strings(batch, CHROM)?,
            motif: schema::strings(batch, MOTIF_NAME)?,
            strand: schema::strings(batch, STRAND)?,
            peak: has(PEAK_NAME).then(|| schema::strings(batch, PEAK_NAME)).transpose()?,
            allele: has(ALLELE).then(|| schema::u16s(batch, ALLELE)).transpose()?,
            haplotype: has(HAPLOTYPE).then(|| schema::strings(batch, HAPLOTYPE)).transpose()?,
        })
    }

    fn hits(&self, vocabulary: &mut Vocabulary) -> Vec<Instance> {
        let integer = |name| schema::i64s(self.batch, name).expect("looked at").values();
        let number = |name| schema::f32s(self.batch, name).expect("looked at").values();
        let (start, end) = (integer(START), integer(END));
        let (start_untrimmed, end_untrimmed) = (integer(START_UNTRIMMED), integer(END_UNTRIMMED));
        let (coefficient, coefficient_global) = (number(HIT_COEFFICIENT), number(HIT_COEFFICIENT_GLOBAL));
        let (similarity, importance) = (number(HIT_SIMILARITY), number(HIT_IMPORTANCE));
        let region = schema::u64s(self.batch, REGION).expect("looked at").values();
        let hit = |row: usize| {
            let chrom = self.chrom.is_valid(row).then(|| vocabulary.chroms.number(self.chrom.value(row)));
            let place = self.place(row, chrom, region[row], vocabulary);
            let peak = self.peak.filter(|peak| peak.is_valid(row));
            Instance {
                chrom,
                place: vocabulary.places.number(&place),
                start: start[row],
                end: end[row],
                start_untrimmed: start_untrimmed[row],
                end_untrimmed: end_untrimmed[row],
                motif: vocabulary.motifs.number(self.motif.value(row)),
                strand: if self.strand.value(row) == "-" { Strand::Reverse } else { Strand::Forward },
                region: region[row],
                peak: peak.map(|peak| vocabulary.peaks.number(peak.value(row))),
                coefficient: coefficient[row],
                coefficient_global: coefficient_global[row],
                similarity: similarity[row],
                importance: importance[row],
            }
        };
        (0..self.batch.num_rows()).map(hit).collect()
    }

    fn place(&self, row: usize, chrom: Option<u32>, region: u64, vocabulary: &mut Vocabulary) -> Place {
        match (self.allele, chrom) {
            (Some(allele), _) => {
                let haplotype = self.haplotype.filter(|haplotype| haplotype.is_valid(row));
                let haplotype = haplotype.map_or("", |haplotype| haplotype.value(row));
                Place::Allele(region, allele.value(row), vocabulary.peaks.number(haplotype))
            }
            (None, Some(chrom)) => Place::Contig(chrom),
            (None, None) => Place::Region(region),
        }
    }
}

/// Where the cells of a hit stand in a line.
struct Cells {
    texts: [usize; 4],
    integers: [usize; 5],
    numbers: [usize; 4],
}

impl Cells {
    fn of(columns: &[String]) -> Result<Self> {
        let find = |name: &str| {
            columns.iter().position(|column| column == name).ok_or_else(|| {
                Error::data(format!("no column `{name}`: neither Fi-NeMo's hits.tsv nor a stream of hits"))
            })
        };
        Ok(Self {
            texts: [find(CHR)?, find(MOTIF_NAME)?, find(STRAND)?, find(PEAK_NAME)?],
            integers: [
                find(START)?,
                find(END)?,
                find(START_UNTRIMMED)?,
                find(END_UNTRIMMED)?,
                find(PEAK_ID)?,
            ],
            numbers: [
                find(HIT_COEFFICIENT)?,
                find(HIT_COEFFICIENT_GLOBAL)?,
                find(HIT_SIMILARITY)?,
                find(HIT_IMPORTANCE)?,
            ],
        })
    }

    fn hit(&self, line: &str, columns: usize, vocabulary: &mut Vocabulary) -> Result<Instance> {
        let cells: Vec<&str> = line.split('\t').collect();
        if cells.len() != columns {
            return Err(Error::data(format!("{} columns, the header has {columns}", cells.len())));
        }
        let [chrom, motif, strand, peak] = self.texts.map(|column| cells[column]);
        let [start, end, start_untrimmed, end_untrimmed, region] = numbers(&cells, self.integers)?;
        let [coefficient, coefficient_global, similarity, importance] = numbers(&cells, self.numbers)?;
        let region = u64::try_from(region).map_err(|_| Error::data(format!("peak_id {region}")))?;
        // Fi-NeMo writes the text NA where there are no coordinates.
        let chrom = (!matches!(chrom, "" | "NA" | ".")).then(|| vocabulary.chroms.number(chrom));
        let place = chrom.map_or(Place::Region(region), Place::Contig);
        Ok(Instance {
            chrom,
            place: vocabulary.places.number(&place),
            start,
            end,
            start_untrimmed,
            end_untrimmed,
            motif: vocabulary.motifs.number(motif),
            strand: strand.parse()?,
            region,
            peak: (!matches!(peak, "" | "NA")).then(|| vocabulary.peaks.number(peak)),
            coefficient,
            coefficient_global,
            similarity,
            importance,
        })
    }
}

fn numbers<T: std::str::FromStr + Default + Copy, const N: usize>(
    cells: &[&str],
    columns: [usize; N],
) -> Result<[T; N]> {
    let mut values = [T::default(); N];
    for (value, column) in values.iter_mut().zip(columns) {
        let cell = cells[column];
        *value =
            cell.parse().map_err(|_| Error::data(format!("column {}: `{cell}` is no number", column + 1)))?;
    }
    Ok(values)
}
