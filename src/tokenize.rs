//! Stage: rows → token ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{Array, ArrayRef, Int32Array, ListArray, RecordBatch, UInt32Array};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, SchemaRef};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema;
use crate::schema::describe;
use crate::tokenizer::{Tokenizer, Tokens};

/// A tokenizer, the length it cuts to, and how many rows it has cut.
pub struct Tokenization {
    tokenizer: Tokenizer,
    max_length: Option<usize>,
    truncated: AtomicU64,
}

impl Tokenization {
    /// Prepares `tokenizer` to give at most `max_length` tokens, specials included.
    ///
    /// # Errors
    ///
    /// When that leaves no room for a base.
    pub fn new(tokenizer: Tokenizer, max_length: Option<usize>) -> Result<Self> {
        let specials = tokenizer.specials()?;
        if max_length.is_some_and(|max_length| max_length <= specials) {
            return Err(Error::usage(format!(
                "--max-length: {} special tokens leave no room for a base",
                specials
            )));
        }
        Ok(Self { tokenizer, max_length, truncated: AtomicU64::new(0) })
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns how many rows have lost bases to the maximal length so far.
    pub fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    fn encode(&self, sequence: &str) -> Result<Tokens> {
        let tokens = self.tokenizer.encode(sequence, self.max_length)?;
        self.truncated.fetch_add(tokens.truncated.into(), Ordering::Relaxed);
        Ok(tokens)
    }
}

/// Adds `input_ids`, `token_start` and `token_end` to every row; null where the row has no sequence.
///
/// # Errors
///
/// When the stream has no sequences.
pub fn tokenize(pipe: Pipe, tokenization: Arc<Tokenization>) -> Result<Pipe> {
    schema::require(pipe.schema(), schema::SEQUENCE, &DataType::Utf8)?;
    let digest = tokenization.tokenizer.digest();
    let mut target: SchemaRef = pipe.schema().clone();
    for (name, item) in [
        (schema::INPUT_IDS, DataType::UInt32),
        (schema::TOKEN_START, DataType::Int32),
        (schema::TOKEN_END, DataType::Int32),
    ] {
        let metadata = [(schema::DIGEST_KEY.to_string(), digest.clone())];
        let field = Field::new(name, schema::list_of(item), true).with_metadata(metadata);
        target = schema::with_field(&target, field);
    }
    Ok(pipe.map(target.clone(), move |batch| tokenize_batch(&batch, &target, &tokenization)))
}

fn tokenize_batch(
    batch: &RecordBatch,
    target: &SchemaRef,
    tokenization: &Tokenization,
) -> Result<RecordBatch> {
    let sequences = schema::strings(batch, schema::SEQUENCE)?;
    let encode = |row: usize| -> Result<Option<Tokens>> {
        if sequences.is_null(row) {
            return Ok(None);
        }
        let tokens = tokenization.encode(sequences.value(row));
        tokens.map(Some).map_err(|error| error.at(describe(batch, row)))
    };
    let rows: Vec<Option<Tokens>> =
        (0..batch.num_rows()).into_par_iter().map(encode).collect::<Result<_>>()?;
    let ids: UInt32Array = rows.iter().flatten().flat_map(|tokens| tokens.ids.iter().copied()).collect();
    let starts: Int32Array = rows.iter().flatten().flat_map(|tokens| tokens.starts.iter().copied()).collect();
    let ends: Int32Array = rows.iter().flatten().flat_map(|tokens| tokens.ends.iter().copied()).collect();
    let columns = vec![
        (schema::INPUT_IDS, lists(&rows, Arc::new(ids))),
        (schema::TOKEN_START, lists(&rows, Arc::new(starts))),
        (schema::TOKEN_END, lists(&rows, Arc::new(ends))),
    ];
    schema::with_columns(batch, target, columns)
}

/// Makes a list column with one item of `values` for each token.
fn lists(rows: &[Option<Tokens>], values: ArrayRef) -> ArrayRef {
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, |tokens| tokens.ids.len()));
    let item = Field::new("item", values.data_type().clone(), false);
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    Arc::new(ListArray::new(Arc::new(item), OffsetBuffer::from_lengths(lengths), values, Some(nulls)))
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, UInt32Type};

    use super::*;
    use crate::score::tests::{collect, rows};

    fn run(name: &str, max_length: Option<usize>) -> (RecordBatch, Arc<Tokenization>) {
        let tokenizer = Tokenizer::open(name).unwrap();
        let tokenization = Arc::new(Tokenization::new(tokenizer, max_length).unwrap());
        let input = rows(&[Some(b"ACGTN"), None, Some(b"ACG")]);
        (collect(tokenize(input, tokenization.clone()).unwrap()), tokenization)
    }

    #[test]
    fn tokens_stay_with_their_rows() {
        let (batch, tokenization) = run("kmer:3", None);
        let ids = batch[schema::INPUT_IDS].as_list::<i32>();
        assert_eq!(ids.value(0).as_primitive::<UInt32Type>().values(), &[2, 16, 50, 1, 3]);
        assert!(ids.is_null(1));
        assert_eq!(ids.value(2).as_primitive::<UInt32Type>().values(), &[2, 16, 3]);
        let starts = batch[schema::TOKEN_START].as_list::<i32>();
        assert_eq!(starts.value(0).as_primitive::<Int32Type>().values(), &[-1, 0, 1, 2, -1]);
        assert_eq!(tokenization.truncated(), 0);
        let digest = tokenization.tokenizer().digest();
        let schema = batch.schema();
        assert_eq!(schema.field_with_name(schema::INPUT_IDS).unwrap().metadata()[schema::DIGEST_KEY], digest);
    }

    #[test]
    fn what_is_cut_is_counted() {
        let (batch, tokenization) = run("kmer:3", Some(4));
        let ids = batch[schema::INPUT_IDS].as_list::<i32>();
        assert_eq!(ids.value(0).as_primitive::<UInt32Type>().values(), &[2, 16, 50, 3]);
        assert_eq!(tokenization.truncated(), 1);
        let error = Tokenization::new(Tokenizer::open("kmer:3").unwrap(), Some(2)).err().unwrap();
        assert_eq!(error.exit_status(), 2);
    }
}
