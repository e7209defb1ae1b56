//! Predictions and labels from rows of a stream and from tables.

use std::io::BufRead;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};

use super::Predictions;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema::{self, BASE_SCORES, LABEL, PROBS};

/// Rows by what they hold, as they come.
#[derive(Default)]
struct Collected {
    per_base: bool,
    labels: Vec<Vec<f32>>,
    scores: Vec<Vec<f64>>,
    /// Rows without a label or without a prediction.
    without: u64,
}

/// Reads the column `label` and the predictions of a stream: `probs`, or without those `base_scores`, which are
/// compared base by base. Memory holds both columns. Returns the predictions, and how many rows lack one of the two.
///
/// # Errors
///
/// When a column is missing, when a row has other numbers of labels and predictions than a model would give, when no
/// row has both, a stream that is cut.
pub fn from_pipe(pipe: Pipe) -> Result<(Predictions, u64)> {
    let (schema, batches) = pipe.into_parts();
    schema::require(&schema, LABEL, &schema::list_of(DataType::Float32))?;
    let column = column(&schema)?;
    let mut collected = Collected { per_base: column == BASE_SCORES, ..Collected::default() };
    for batch in batches {
        let batch = batch?;
        let (labels, scores) = (schema::column(&batch, LABEL)?, schema::column(&batch, column)?);
        for row in 0..batch.num_rows() {
            match (items(labels, row), items(scores, row)) {
                (Some(labels), Some(scores)) => collected
                    .add(labels, scores.into_iter().map(f64::from).collect())
                    .map_err(|error| error.at(describe(&batch, row)))?,
                _ => collected.without += 1,
            }
        }
    }
    collected.finish()
}

fn describe(batch: &RecordBatch, row: usize) -> String {
    schema::describe(batch, row)
}

fn column(schema: &Schema) -> Result<&'static str> {
    [PROBS, BASE_SCORES].into_iter().find(|name| schema::has(schema, name)).ok_or_else(|| {
        Error::data("the stream has no column `probs` or `base_scores` (nyx-score makes them)")
    })
}

fn items(array: &ArrayRef, row: usize) -> Option<Vec<f32>> {
    if array.is_null(row) {
        return None;
    }
    let values = match array.data_type() {
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(row),
        _ => array.as_list_opt::<i32>()?.value(row),
    };
    Some(values.as_primitive_opt::<Float32Type>()?.values().to_vec())
}

/// Reads a table with a header, by tabs or commas, whose columns `label` and `score` have these names. Cells may hold
/// several numbers by comma in a table by tabs, as nyx-view writes lists; with `per_base` those are of bases.
///
/// # Errors
///
/// With the line: a column that is missing, a cell that is not numbers, and as [`from_pipe`].
pub fn from_table(
    text: impl BufRead,
    label: &str,
    score: &str,
    per_base: bool,
) -> Result<(Predictions, u64)> {
    let mut lines =
        text.lines().enumerate().filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.starts_with('#')));
    let header = lines.next().map(|(_, line)| line).transpose()?.unwrap_or_default();
    let delimiter = if header.contains('\t') { '\t' } else { ',' };
    let names: Vec<&str> = header.trim_end_matches('\r').split(delimiter).collect();
    let find = |name: &str| {
        names.iter().position(|other| *other == name).ok_or_else(|| {
            Error::data(format!("the header has no column `{name}`; it has {}", names.join(", ")))
        })
    };
    let (label, score) = (find(label)?, find(score)?);
    let mut collected = Collected { per_base, ..Collected::default() };
    for (index, line) in lines {
        let line = line?;
        let cells: Vec<&str> = line.trim_end_matches('\r').split(delimiter).collect();
        let at = |error: Error| error.at(format!("line {}", index + 1));
        let cell = |column: usize| numbers(cells.get(column).copied().unwrap_or_default());
        match (cell(label).map_err(at)?, cell(score).map_err(at)?) {
            (labels, scores) if labels.is_empty() || scores.is_empty() => collected.without += 1,
            (labels, scores) => {
                collected.add(labels.iter().map(|&label| label as f32).collect(), scores).map_err(at)?;
            }
        }
    }
    collected.finish()
}

fn numbers(cell: &str) -> Result<Vec<f64>> {
    let words = cell.trim_matches(['"', '[', ']']).split([',', ' ']).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| Error::data(format!("`{cell}` is not a number")))).collect()
}

impl Collected {
    fn add(&mut self, labels: Vec<f32>, scores: Vec<f64>) -> Result<()> {
        let fits = if self.per_base {
            labels.len() == scores.len()
        } else {
            labels.len() == 1 || labels.len() == scores.len()
        };
        if !fits || labels.is_empty() || scores.is_empty() {
            let message =
                format!("{} labels and {} predictions do not fit together", labels.len(), scores.len());
            return Err(Error::data(message));
        }
        if scores.iter().any(|score| score.is_nan()) {
            return Err(Error::data("a prediction is not a number"));
        }
        if self.labels.first().is_some_and(|first| !self.per_base && first.len() != labels.len())
            || self.scores.first().is_some_and(|first| !self.per_base && first.len() != scores.len())
        {
            return Err(Error::data("rows differ in their number of labels or predictions"));
        }
        self.labels.push(labels);
        self.scores.push(scores);
        Ok(())
    }

    fn finish(self) -> Result<(Predictions, u64)> {
        let without = self.without;
        if self.labels.is_empty() {
            return Err(Error::data(format!(
                "no row has both a label and a prediction ({without} have not)"
            )));
        }
        let positive = |label: &f32| *label > 0.5;
        let (labels, classes) = (self.labels[0].len(), self.scores[0].len());
        let predictions = if self.per_base {
            Predictions::Binary {
                scores: self.scores.concat(),
                labels: self.labels.iter().flatten().map(positive).collect(),
            }
        } else if labels > 1 {
            let labels = self.labels.iter().map(|labels| labels.iter().map(positive).collect()).collect();
            Predictions::Columns { scores: self.scores, labels }
        } else if classes > 2 {
            let labels: Vec<usize> = self.labels.iter().map(|label| label[0] as usize).collect();
            if let Some(label) = labels.iter().find(|&&label| label >= classes) {
                return Err(Error::data(format!(
                    "label {label}: the model has {classes} classes, 0 to {}",
                    classes - 1
                )));
            }
            Predictions::Classes { scores: self.scores, labels }
        } else {
            // Of two classes the second is the positive one.
            Predictions::Binary {
                scores: self.scores.iter().map(|scores| scores[classes - 1]).collect(),
                labels: self.labels.iter().map(|labels| positive(&labels[0])).collect(),
            }
        };
        Ok((predictions, without))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_scores_probabilities_and_lists() {
        let read = |text: &str, per_base| from_table(text.as_bytes(), "label", "score", per_base);
        let binary = Predictions::Binary { scores: vec![0.2, 0.9], labels: vec![false, true] };
        assert_eq!(read("label,score\n0,0.2\n1,0.9\n", false).unwrap(), (binary.clone(), 0));
        assert_eq!(
            read("x\tlabel\tscore\na\t0.0\t0.8,0.2\nb\t1.0\t0.1,0.9\nc\t\t0.5,0.5\n", false).unwrap(),
            (binary.clone(), 1)
        );
        assert_eq!(read("label\tscore\n0,1\t0.2,0.9\n", true).unwrap().0, binary);
        let columns = Predictions::Columns { scores: vec![vec![0.2, 0.9]], labels: vec![vec![false, true]] };
        assert_eq!(read("label\tscore\n0,1\t0.2,0.9\n", false).unwrap().0, columns);
        let classes = Predictions::Classes { scores: vec![vec![0.2, 0.7, 0.1]], labels: vec![2] };
        assert_eq!(read("label\tscore\n2\t0.2,0.7,0.1\n", false).unwrap().0, classes);
        for (bad, said) in [
            ("label,score\n0,x\n", "line 2: `x`"),
            ("y,score\n0,1\n", "no column `label`"),
            ("label\tscore\n3\t0.2,0.7,0.1\n", "0 to 2"),
            ("label\tscore\n1,0,1\t0.2,0.7\n", "line 2: 3 labels and 2"),
            ("label,score\n", "no row"),
        ] {
            let error = read(bad, false).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
