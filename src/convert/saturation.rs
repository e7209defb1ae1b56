//! Scored mutants (`nyx-extract mutate`) → for each sequence a matrix of what every base in every place does.

use std::io::Write;

use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;

use super::header;
use crate::dna::{self, BASES};
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::region::Strand;
use crate::schema;

/// The number that tells mutants from their sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Column of the stream.
    pub column: String,
    /// Class of a column with one number for each class.
    pub class: Option<usize>,
}

impl Value {
    /// Returns the value that `column` names, or else the first of logits, probabilities, log-likelihood that the
    /// stream has.
    ///
    /// # Errors
    ///
    /// When there is none, or the model has several classes and none is named.
    pub fn new(schema: &Schema, column: Option<&str>, class: Option<usize>) -> Result<Self> {
        let known = [schema::LOGITS, schema::PROBS, schema::LOG_LIKELIHOOD];
        let column = match column {
            Some(column) => column,
            None => known
                .into_iter()
                .find(|name| schema::has(schema, name))
                .ok_or_else(|| Error::data("the stream has no scores to compare (nyx-score makes them)"))?,
        };
        let field = schema.field_with_name(column);
        let field =
            field.map_err(|_| Error::usage(format!("--value {column}: the stream has no such column")))?;
        let classes = match field.data_type() {
            arrow_schema::DataType::FixedSizeList(_, classes) => *classes as usize,
            arrow_schema::DataType::Float32 => 0,
            _ => {
                return Err(Error::usage(format!(
                    "--value {column}: it does not hold one number or one for each class"
                )));
            }
        };
        let class = match (classes, class) {
            (0, None) => None,
            (0, Some(_)) => return Err(Error::usage(format!("--class: {column} has no classes"))),
            (1, None) => Some(0),
            (_, Some(class)) if class < classes => Some(class),
            (_, Some(class)) => {
                return Err(Error::usage(format!("--class {class}: {column} has {classes} classes, from 0")));
            }
            (_, None) => {
                return Err(Error::usage(format!(
                    "{column} has {classes} classes: name one with --class, from 0"
                )));
            }
        };
        Ok(Self { column: column.to_string(), class })
    }

    fn of(&self, batch: &RecordBatch, row: usize) -> Result<Option<f32>> {
        let Some(class) = self.class else {
            let column = schema::f32s(batch, &self.column)?;
            return Ok(column.is_valid(row).then(|| column.value(row)));
        };
        let lists = schema::fixed_lists(batch, &self.column)?;
        if lists.is_null(row) {
            return Ok(None);
        }
        let values = lists.value(row);
        let floats = values.as_any().downcast_ref::<arrow_array::Float32Array>();
        let floats =
            floats.ok_or_else(|| Error::data(format!("column `{}` does not hold float32", self.column)))?;
        Ok(Some(floats.value(class)))
    }
}

/// What mutations of a sequence do: the value of a mutant minus that of the sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saturation {
    /// Ordinal of the region.
    pub region: u64,
    /// Contig, where it is known.
    pub chrom: Option<String>,
    /// 1-based position of the first base on the forward strand.
    pub first: i64,
    /// Whether the sequence reads the reverse strand.
    pub reverse: bool,
    /// Name of the region.
    pub name: Option<String>,
    /// The bases, as the model reads them.
    pub sequence: Vec<u8>,
    /// The value of the sequence as it is.
    pub value: Option<f32>,
    /// For each base of the sequence the effects of A, C, G and T in its place; none for the base itself.
    pub substitutions: Vec<[Option<f32>; 4]>,
    /// For each base the effect of deleting it.
    pub deletions: Vec<Option<f32>>,
}

impl Saturation {
    /// Returns the 1-based position of the base at `index` of the sequence.
    pub fn position(&self, index: usize) -> i64 {
        match self.reverse {
            true => self.first + (self.sequence.len() - 1 - index) as i64,
            false => self.first + index as i64,
        }
    }

    /// Returns the place in the sequence of a position, when it has it.
    fn index(&self, position: i64) -> Option<usize> {
        let offset =
            usize::try_from(position - self.first).ok().filter(|&offset| offset < self.sequence.len())?;
        Some(if self.reverse { self.sequence.len() - 1 - offset } else { offset })
    }

    /// Returns the letter of the sequence's strand for one of the forward strand.
    fn own(&self, letter: &str) -> Option<usize> {
        let [base] = *letter.as_bytes() else { return None };
        let index = dna::base_index(base)?;
        Some(if self.reverse { 3 - index } else { index })
    }

    /// Adds a mutant; `false` when it is neither a substitution nor the deletion of one base.
    fn add(&mut self, position: i64, reference: &str, alternate: &str, value: Option<f32>) -> bool {
        let Some(index) = self.index(position) else { return false };
        let effect = value.zip(self.value).map(|(mutant, own)| mutant - own);
        match (self.own(reference), self.own(alternate)) {
            (Some(_), Some(base)) => self.substitutions[index][base] = effect,
            (Some(_), None) if alternate == "-" => self.deletions[index] = effect,
            _ => return false,
        }
        true
    }
}

/// The matrices of a stream, one sequence at a time.
pub struct Saturations {
    batches: crate::pipe::Batches,
    batch: Option<(RecordBatch, usize)>,
    value: Value,
    /// The sequence that is read, with its ordinal.
    current: Option<(u64, Saturation)>,
    /// Mutants that have no place in a matrix (insertions, longer changes).
    pub left_out: u64,
    done: bool,
}

impl Saturations {
    /// Reads scored rows of `nyx-extract mutate`.
    ///
    /// # Errors
    ///
    /// When the stream has other rows.
    pub fn new(pipe: Pipe, value: Value) -> Result<Self> {
        for name in [schema::POS, schema::VARIANT, schema::ALLELE, schema::REF, schema::ALT, schema::SEQUENCE]
        {
            if !schema::has(pipe.schema(), name) {
                let message = format!(
                    "the stream has no column `{name}`: matrices are of scored rows of nyx-extract mutate"
                );
                return Err(Error::data(message));
            }
        }
        let batches = pipe.into_parts().1;
        Ok(Self { batches, batch: None, value, current: None, left_out: 0, done: false })
    }

    /// Reads up to the end of a sequence's rows.
    fn read(&mut self) -> Result<Option<Saturation>> {
        loop {
            if self.batch.as_ref().is_none_or(|(batch, row)| *row >= batch.num_rows()) {
                let Some(batch) = self.batches.next().transpose()? else {
                    return Ok(self.current.take().map(|(_, saturation)| saturation));
                };
                self.batch = Some((batch, 0));
                continue;
            }
            let (batch, row) = self.batch.as_mut().expect("a batch is at hand");
            let (batch, row) = (batch.clone(), std::mem::replace(row, *row + 1));
            if let Some(whole) = self.take(&batch, row)? {
                return Ok(Some(whole));
            }
        }
    }

    /// Takes a row; returns the sequence before when it begins another.
    fn take(&mut self, batch: &RecordBatch, row: usize) -> Result<Option<Saturation>> {
        let variant = schema::u64s(batch, schema::VARIANT)?.value(row);
        let value = self.value.of(batch, row)?;
        if schema::u16s(batch, schema::ALLELE)?.value(row) == 0 {
            let next = begin(batch, row, value)?;
            return Ok(self.current.replace((variant, next)).map(|(_, whole)| whole));
        }
        let current = self.current.as_mut().filter(|(own, _)| *own == variant);
        let Some((_, saturation)) = current else {
            let message = "a mutant comes without the row of its sequence in front of it";
            return Err(Error::data(message).at(schema::describe(batch, row)));
        };
        let position = schema::i64s(batch, schema::POS)?.value(row);
        let text = |name| schema::strings(batch, name).map(|column| column.value(row));
        let placed = saturation.add(position, text(schema::REF)?, text(schema::ALT)?, value);
        self.left_out += u64::from(!placed);
        Ok(None)
    }
}

impl Iterator for Saturations {
    type Item = Result<Saturation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Begins the matrix of a sequence.
fn begin(batch: &RecordBatch, row: usize, value: Option<f32>) -> Result<Saturation> {
    let text = |name: &str| -> Result<Option<String>> {
        let column = schema::strings(batch, name)?;
        Ok(column.is_valid(row).then(|| column.value(row).to_owned()))
    };
    let chrom = text(schema::CHROM)?;
    let strand: Strand = text(schema::STRAND)?.unwrap_or(".".into()).parse()?;
    let sequence = text(schema::SEQUENCE)?.unwrap_or_default().into_bytes();
    Ok(Saturation {
        region: schema::u64s(batch, schema::REGION)?.value(row),
        first: schema::i64s(batch, schema::POS)?.value(row),
        reverse: strand == Strand::Reverse && chrom.is_some(),
        chrom,
        name: if schema::has(batch.schema_ref(), schema::NAME) { text(schema::NAME)? } else { None },
        value,
        substitutions: vec![[None; 4]; sequence.len()],
        deletions: vec![None; sequence.len()],
        sequence,
    })
}

/// Writes a line for each base of each sequence: where it is, which it is, and the effects of A, C, G and T in its
/// place and of its deletion (`.` where there is none). Letters are those of the sequence's strand. Returns how many
/// mutants have no place in a matrix.
///
/// # Errors
///
/// When the stream has no scored mutants, or the output cannot be written.
pub fn write(pipe: Pipe, value: Value, provenance: bool, mut output: impl Write) -> Result<u64> {
    if provenance {
        header::write_comments(pipe.schema(), &mut output)?;
    }
    writeln!(output, "region\tname\tchrom\tpos\tstrand\tbase\tA\tC\tG\tT\tdeletion")?;
    let mut saturations = Saturations::new(pipe, value)?;
    let mut rows = 0;
    for saturation in &mut saturations {
        let saturation = saturation?;
        rows += saturation.sequence.len() as u64;
        let name = saturation.name.as_deref().unwrap_or(".").replace(['\t', '\n', '\r'], " ");
        let chrom = saturation.chrom.as_deref().unwrap_or(".");
        let strand = if saturation.reverse { "-" } else { "+" };
        for (index, base) in saturation.sequence.iter().enumerate() {
            let (position, base) = (saturation.position(index), char::from(*base));
            write!(output, "{}\t{name}\t{chrom}\t{position}\t{strand}\t{base}", saturation.region)?;
            let deletion = saturation.deletions[index];
            for effect in saturation.substitutions[index].iter().chain([&deletion]) {
                match effect {
                    Some(effect) => write!(output, "\t{effect}")?,
                    None => write!(output, "\t.")?,
                }
            }
            writeln!(output)?;
        }
    }
    if provenance {
        header::write_end(rows, rows + 1, &mut output)?;
    }
    output.flush()?;
    Ok(saturations.left_out)
}

/// Returns the mean effect of the substitutions of each base, turned round: how much the base as it is adds.
pub fn importances(saturation: &Saturation) -> Vec<f32> {
    let mean = |effects: &[Option<f32>; 4]| {
        let known: Vec<f32> = effects.iter().flatten().copied().collect();
        if known.is_empty() { 0.0 } else { -known.iter().sum::<f32>() / known.len() as f32 }
    };
    saturation.substitutions.iter().map(mean).collect()
}

/// Returns the letter of a row of the matrix.
pub fn letter(base: usize) -> char {
    char::from(BASES[base])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Float32Array;
    use arrow_schema::{DataType, Field};

    use super::*;
    use crate::schema::{Allele, Row, RowBuilder, RowKind, Status};

    /// A mutant with a score of one class: variant, allele, position, REF, ALT, score.
    type Scored = (u64, u16, i64, &'static str, &'static str, Option<f32>);

    fn scored(strand: Strand, rows: &[Scored]) -> Pipe {
        let schema = RowKind::Variants.schema(None);
        let mut builder = RowBuilder::new(RowKind::Variants, schema.clone());
        for &(variant, allele, position, reference, alternate, _) in rows {
            builder.push_allele(
                &Row {
                    region: variant,
                    chrom: Some("c"),
                    start: 10,
                    end: 13,
                    strand,
                    name: None,
                    sequence: Some("ACG"),
                    status: Status::Ok,
                },
                &Allele { variant, id: None, position, reference, alternate, allele, haplotype: None },
            );
        }
        let batch = builder.finish().unwrap();
        let scores: Vec<_> = rows.iter().map(|row| row.5.map(|score| vec![score])).collect();
        let target = schema::with_field(&schema, Field::new(schema::LOGITS, schema::floats(1), true));
        let columns = vec![(schema::LOGITS, schema::float_vectors(&scores, 1))];
        let batch = schema::with_columns(&batch, &target, columns).unwrap();
        // A batch may end anywhere.
        let halves = [batch.slice(0, 2), batch.slice(2, rows.len() - 2)];
        Pipe::new(target, halves.into_iter().map(Ok))
    }

    const ROWS: [Scored; 7] = [
        (0, 0, 11, ".", ".", Some(1.0)),
        (0, 1, 11, "A", "C", Some(1.5)),
        (0, 2, 12, "C", "-", Some(0.25)),
        (0, 3, 12, "-", "A", Some(9.0)),
        (0, 4, 13, "G", "T", None),
        (1, 0, 11, ".", ".", Some(0.0)),
        (1, 1, 13, "G", "A", Some(-2.0)),
    ];

    #[test]
    fn a_matrix_has_the_effect_of_every_mutant_in_its_place() {
        let pipe = scored(Strand::Forward, &ROWS);
        let value = Value::new(pipe.schema(), None, None).unwrap();
        let mut text = Vec::new();
        assert_eq!(write(pipe, value, false, &mut text).unwrap(), 1, "the insertion is left out");
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines[0], "0\t.\tc\t11\t+\tA\t.\t0.5\t.\t.\t.");
        assert_eq!(lines[1], "0\t.\tc\t12\t+\tC\t.\t.\t.\t.\t-0.75");
        assert_eq!(lines[2], "0\t.\tc\t13\t+\tG\t.\t.\t.\t.\t.");
        assert_eq!(lines[5], "1\t.\tc\t13\t+\tG\t-2\t.\t.\t.\t.");
    }

    #[test]
    fn on_the_reverse_strand_places_and_letters_are_those_of_the_sequence() {
        // The sequence ACG on the reverse strand is CGT on the forward strand, from 11 to 13.
        let rows = [
            (0, 0, 11, ".", ".", Some(0.0)),
            (0, 1, 13, "T", "G", Some(1.0)),
            (0, 2, 11, "C", "-", Some(2.0)),
        ];
        let pipe = scored(Strand::Reverse, &rows);
        let value = Value::new(pipe.schema(), None, None).unwrap();
        let saturation = Saturations::new(pipe, value).unwrap().next().unwrap().unwrap();
        assert_eq!(saturation.substitutions[0], [None, Some(1.0), None, None], "A to C");
        assert_eq!(saturation.deletions, [None, None, Some(2.0)]);
        assert_eq!((saturation.position(0), saturation.position(2)), (13, 11));
        assert_eq!(importances(&saturation), [-1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_mutant_without_its_sequence_and_a_class_that_is_not_there_are_errors() {
        let pipe = scored(Strand::Forward, &[ROWS[1], ROWS[0], ROWS[2]]);
        let value = Value::new(pipe.schema(), None, None).unwrap();
        let error = Saturations::new(pipe, value).unwrap().next().unwrap().unwrap_err().to_string();
        assert!(error.contains("without the row of its sequence"), "{error}");
        let schema = scored(Strand::Forward, &ROWS).schema().clone();
        assert!(
            Value::new(&schema, None, Some(1)).is_err() && Value::new(&schema, Some("probs"), None).is_err()
        );
        let plain = Schema::new(vec![Field::new("log_likelihood", DataType::Float32, true)]);
        assert_eq!(Value::new(&plain, None, None).unwrap().class, None);
        let batch =
            RecordBatch::try_new(plain.into(), vec![Arc::new(Float32Array::from(vec![2.0]))]).unwrap();
        let value = Value { column: "log_likelihood".into(), class: None };
        assert_eq!(value.of(&batch, 0).unwrap(), Some(2.0));
    }
}
