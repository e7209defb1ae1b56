//! Examples: sequences and what they are.

use arrow_array::{Array, ArrayRef};
use arrow_schema::SchemaRef;
use sha2::{Digest, Sha256};

use crate::dna;
use crate::error::{Error, Result};
use crate::model::graph::Random;
use crate::pipe::Pipe;
use crate::{provenance, schema};

/// Sequences with their labels, in the order of their file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    /// Upper-case `ACGTN`.
    pub sequences: Vec<Vec<u8>>,
    /// The second sequences of pairs; as many as sequences, or none.
    pub seconds: Vec<Vec<u8>>,
    /// One or more numbers for each sequence.
    pub labels: Vec<Vec<f32>>,
    /// What the numbers are called, where that is known.
    pub names: Vec<String>,
}

impl Examples {
    /// Reads rows with their column `label`, to the end.
    ///
    /// # Errors
    ///
    /// The pipe's own, or when there is no such column or a row lacks a sequence or a label: nothing is left out
    /// in silence.
    pub fn collect(pipe: Pipe) -> Result<Self> {
        let (target, batches) = pipe.into_parts();
        if !schema::has(&target, schema::LABEL) {
            return Err(Error::data("the rows have no column `label`: training needs one"));
        }
        let pairs = schema::has(&target, schema::SECOND);
        let mut examples = Self { names: names(&target)?, ..Self::default() };
        for batch in batches {
            let batch = batch?;
            let sequences = schema::strings(&batch, schema::SEQUENCE)?;
            let labels = Labels::of(schema::column(&batch, schema::LABEL)?)?;
            let seconds = if pairs { Some(schema::strings(&batch, schema::SECOND)?) } else { None };
            for row in 0..batch.num_rows() {
                let missing = |what: &str| {
                    Error::data(format!("no {what}: training takes all rows or none"))
                        .at(schema::describe(&batch, row))
                };
                if sequences.is_null(row) {
                    return Err(missing("sequence"));
                }
                let label = labels.row(row)?.ok_or_else(|| missing("label"))?;
                examples.sequences.push(sequences.value(row).as_bytes().to_vec());
                if let Some(seconds) = seconds {
                    examples.seconds.push(seconds.value(row).as_bytes().to_vec());
                }
                examples.labels.push(label);
            }
        }
        Ok(examples)
    }

    /// Joins the lines of two texts: sequences, and strings of 0 and 1, one for each base (BertSNR's files).
    ///
    /// # Errors
    ///
    /// When there are not as many, or a line has another length or other letters.
    pub fn of_bases(sequences: &str, labels: &str) -> Result<Self> {
        let lines = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
        };
        let (sequences, labels) = (lines(sequences), lines(labels));
        if sequences.len() != labels.len() {
            let counts = format!("{} sequences and {} labels", sequences.len(), labels.len());
            return Err(Error::data(format!("{counts}: there must be a line of each")));
        }
        let mut examples = Self::default();
        for (line, (sequence, label)) in sequences.into_iter().zip(labels).enumerate() {
            let mut bases = sequence.into_bytes();
            dna::normalize(&mut bases);
            let digits = label.bytes().filter(|byte| !b" ,;".contains(byte));
            let numbers: Option<Vec<f32>> =
                digits.map(|byte| matches!(byte, b'0' | b'1').then(|| f32::from(byte - b'0'))).collect();
            let numbers = numbers.filter(|numbers| numbers.len() == bases.len()).ok_or_else(|| {
                Error::data("the label is not a 0 or 1 for each base").at(format!("line {}", line + 1))
            })?;
            examples.sequences.push(bases);
            examples.labels.push(numbers);
        }
        Ok(examples)
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Returns the examples of these numbers.
    pub fn select(&self, rows: impl Iterator<Item = usize> + Clone) -> Self {
        let pick = |all: &[Vec<u8>]| match all.is_empty() {
            true => Vec::new(),
            false => rows.clone().map(|row| all[row].clone()).collect(),
        };
        Self {
            sequences: pick(&self.sequences),
            seconds: pick(&self.seconds),
            labels: rows.clone().map(|row| self.labels[row].clone()).collect(),
            names: self.names.clone(),
        }
    }

    /// Splits at random into two: the second has this share of all, and of the examples of each label.
    pub fn split(&self, share: f64, seed: u64) -> [Self; 2] {
        let mut order: Vec<usize> = (0..self.len()).collect();
        Random::new(seed, "split", 0).shuffle(&mut order);
        let bits = |row: usize| self.labels[row].iter().map(|label| label.to_bits()).collect::<Vec<_>>();
        order.sort_by_cached_key(|&row| bits(row));
        let taken = |count: usize| (count as f64 * share) as usize;
        let mut parts = [Vec::new(), Vec::new()];
        for (place, row) in order.into_iter().enumerate() {
            parts[usize::from(taken(place + 1) > taken(place))].push(row);
        }
        parts.iter_mut().for_each(|rows| rows.sort_unstable());
        parts.map(|rows| self.select(rows.into_iter()))
    }

    /// Puts the reverse complement of each example after it, with the same label.
    pub fn with_reverse_complements(&self) -> Self {
        let mut all = Self { names: self.names.clone(), ..Self::default() };
        for (sequence, label) in self.sequences.iter().zip(&self.labels) {
            let mut other = sequence.clone();
            dna::reverse_complement(&mut other);
            all.sequences.extend([sequence.clone(), other]);
            all.labels.extend([label.clone(), label.clone()]);
        }
        all
    }

    /// Returns the labels as classes.
    ///
    /// # Errors
    ///
    /// When one is no whole number from 0 on, or an example has several.
    pub fn classes(&self) -> Result<Vec<u32>> {
        let class = |(row, label): (usize, &Vec<f32>)| match label.as_slice() {
            [class] if *class >= 0.0 && class.fract() == 0.0 && *class < 1e6 => Ok(*class as u32),
            _ => Err(Error::data(format!("label {label:?} is no class (0, 1, …)"))
                .at(format!("example {}", row + 1))),
        };
        self.labels.iter().enumerate().map(class).collect()
    }

    /// Checks that all sequences have one length, which a window may prescribe, and returns it.
    ///
    /// # Errors
    ///
    /// When one has another, naming it.
    pub fn length(&self, window: Option<usize>) -> Result<usize> {
        let length = window.or(self.sequences.first().map(Vec::len)).unwrap_or(0);
        match self.sequences.iter().position(|sequence| sequence.len() != length) {
            None => Ok(length),
            Some(row) => {
                let found = self.sequences[row].len();
                let message = match window {
                    Some(window) => format!("{found} bases; the network reads {window}"),
                    None => format!("{found} bases, those before have {length}: all must be equal"),
                };
                Err(Error::data(message).at(format!("example {}", row + 1)))
            }
        }
    }

    /// Returns the SHA-256 of all that is in it: what a checkpoint was trained on.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (row, sequence) in self.sequences.iter().enumerate() {
            hasher.update(sequence);
            hasher.update(b"\n");
            self.seconds.get(row).into_iter().for_each(|second| hasher.update(second));
            hasher.update(bytemuck::cast_slice::<f32, u8>(&self.labels[row]));
        }
        provenance::hexadecimal(&hasher.finalize())
    }
}

/// Returns what the numbers of the column `label` are called.
fn names(target: &SchemaRef) -> Result<Vec<String>> {
    let names = target.field_with_name(schema::LABEL)?.metadata().get(schema::LABELS_KEY);
    Ok(names.map_or(Vec::new(), |names| names.split(',').map(String::from).collect()))
}

/// The column `label`: lists of numbers, or numbers.
struct Labels<'a> {
    column: &'a ArrayRef,
    numbers: Option<ArrayRef>,
}

impl<'a> Labels<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        let is_list = matches!(column.data_type(), arrow_schema::DataType::List(_));
        let numbers = match is_list {
            true => None,
            false => Some(arrow_cast::cast(column, &arrow_schema::DataType::Float32)?),
        };
        Ok(Self { column, numbers })
    }

    fn row(&self, row: usize) -> Result<Option<Vec<f32>>> {
        use arrow_array::cast::AsArray;
        use arrow_array::types::Float32Type;
        if self.column.is_null(row) {
            return Ok(None);
        }
        Ok(Some(match &self.numbers {
            Some(numbers) => vec![numbers.as_primitive::<Float32Type>().value(row)],
            None => schema::float_items(self.column.as_list::<i32>(), row)?.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_bases_and_labels_belong_together() {
        let examples = Examples::of_bases("acgt\nGGNA\n", "0110\n0,0,0,1\n").unwrap();
        assert_eq!(examples.sequences, [b"ACGT".to_vec(), b"GGNA".to_vec()]);
        assert_eq!(examples.labels[1], [0.0, 0.0, 0.0, 1.0]);
        assert!(Examples::of_bases("ACGT\n", "011\n").unwrap_err().to_string().contains("line 1"));
        assert!(Examples::of_bases("ACGT\n", "0112\n").is_err());
        assert!(Examples::of_bases("ACGT\nA\n", "0110\n").unwrap_err().to_string().contains("2 sequences"));
    }

    #[test]
    fn reverse_complements_come_after_their_sequence() {
        let examples =
            Examples { sequences: vec![b"AACG".to_vec()], labels: vec![vec![1.0]], ..Examples::default() };
        let both = examples.with_reverse_complements();
        assert_eq!(both.sequences, [b"AACG".to_vec(), b"CGTT".to_vec()]);
        assert_eq!(both.labels, [[1.0], [1.0]]);
        assert_ne!(both.digest(), examples.digest());
    }

    #[test]
    fn a_split_has_its_share_of_each_label_and_each_example_once() {
        let examples = Examples {
            sequences: (0..200u8).map(|row| vec![row]).collect(),
            labels: (0..200).map(|row| vec![f32::from(u8::from(row % 10 == 0))]).collect(),
            ..Examples::default()
        };
        let [rest, part] = examples.split(0.2, 3);
        assert_eq!((rest.len(), part.len()), (160, 40));
        let positives = |part: &Examples| part.labels.iter().filter(|label| label[0] == 1.0).count();
        assert_eq!((positives(&rest), positives(&part)), (16, 4));
        let mut all = [rest.sequences.clone(), part.sequences.clone()].concat();
        all.sort();
        assert_eq!(all, examples.sequences);
        assert_eq!(examples.split(0.2, 3)[1], part);
        assert_ne!(examples.split(0.2, 4)[1], part);
    }

    #[test]
    fn labels_that_are_no_classes_and_odd_lengths_are_refused_by_their_number() {
        let examples = Examples {
            sequences: vec![b"AA".to_vec(), b"AAA".to_vec()],
            labels: vec![vec![1.0], vec![0.5]],
            ..Examples::default()
        };
        assert!(examples.classes().unwrap_err().to_string().contains("example 2"));
        assert!(examples.length(None).unwrap_err().to_string().contains("example 2"));
        assert!(examples.length(Some(3)).unwrap_err().to_string().contains("example 1"));
    }
}
