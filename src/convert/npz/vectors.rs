//! What models say of whole rows, as arrays with a row for each.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, FixedSizeListArray, RecordBatch};
use arrow_schema::{DataType, Schema};
use npyz::npz::NpzWriter;

use super::{comment_of, copy, directory};
use crate::error::{InFile, Result};
use crate::output::temporary_beside;
use crate::pipe::Pipe;
use crate::schema;

/// The columns that become arrays, where the stream has them.
const COLUMNS: [&str; 3] = [schema::EMBEDDING, schema::LOGITS, schema::PROBS];

/// Returns whether a stream has vectors, and no contributions, which have a file of their own.
pub fn has_vectors(schema: &Schema) -> bool {
    let has = |name: &&str| schema::has(schema, name);
    COLUMNS.iter().any(has) && ![schema::CONTRIBUTIONS, schema::HYPOTHETICAL].iter().any(has)
}

/// Writes the vectors at `path`, which appears when it is whole: `region` uint64 `[n]`, and `embedding`, `logits`
/// and `probs` float32 `[n, length]` where the stream has them. A row that has none is NaN.
///
/// # Errors
///
/// When a column has another type, or the file cannot be written.
pub fn write(pipe: Pipe, provenance: bool, path: &Path) -> Result<()> {
    let schema = pipe.schema().clone();
    let spool = |size| -> Result<Spool> {
        Ok(Spool { size, file: BufWriter::new(tempfile::tempfile_in(directory(path))?) })
    };
    let mut regions = spool(1).in_file(path)?;
    let mut columns: Vec<(&str, Spool)> = Vec::new();
    for name in COLUMNS {
        if let Ok(DataType::FixedSizeList(_, size)) =
            schema.field_with_name(name).map(|field| field.data_type())
        {
            schema::require(&schema, name, &schema::floats(*size as usize))?;
            columns.push((name, spool(*size as u64).in_file(path)?));
        }
    }
    let mut rows = 0;
    for batch in pipe.into_parts().1 {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        add(&batch, &mut regions, &mut columns).in_file(path)?;
    }
    let temporary = temporary_beside(path)?;
    let mut npz = NpzWriter::new(BufWriter::new(temporary.file().try_clone().in_file(path)?));
    if provenance {
        npz.zip_writer().set_comment(comment_of(&schema));
    }
    copy::<u64, 8, _>(&mut npz, schema::REGION, &[rows], &mut regions.file, u64::from_le_bytes)
        .in_file(path)?;
    for (name, spool) in &mut columns {
        copy::<f32, 4, _>(&mut npz, name, &[rows, spool.size], &mut spool.file, f32::from_le_bytes)
            .in_file(path)?;
    }
    npz.zip_writer()
        .finish()
        .map_err(|error| crate::Error::data(error.to_string()))?
        .flush()
        .in_file(path)?;
    temporary.commit(path)
}

/// Values that wait in a temporary file without a name, because an array says first how long it is.
struct Spool {
    /// Values of a row.
    size: u64,
    file: BufWriter<File>,
}

fn add(batch: &RecordBatch, regions: &mut Spool, columns: &mut [(&str, Spool)]) -> Result<()> {
    for region in schema::u64s(batch, schema::REGION)?.values() {
        regions.file.write_all(&region.to_le_bytes())?;
    }
    for (name, spool) in columns {
        let vectors: &FixedSizeListArray = schema::fixed_lists(batch, name)?;
        for row in 0..vectors.len() {
            let values = vectors.is_valid(row).then(|| vectors.value(row));
            match values.as_ref().map(|values| values.as_primitive::<Float32Type>()) {
                Some(values) => {
                    values
                        .values()
                        .iter()
                        .try_for_each(|value| spool.file.write_all(&value.to_le_bytes()))?;
                }
                None => {
                    (0..spool.size).try_for_each(|_| spool.file.write_all(&f32::NAN.to_le_bytes()))?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow_schema::Field;

    use super::*;
    use crate::convert::sample;
    use crate::npy::Npz;

    /// Returns the sample's rows with embeddings in the place of their contributions.
    fn embedded(vectors: [Option<Vec<f32>>; 3]) -> Pipe {
        let drop = [schema::CONTRIBUTIONS, schema::HYPOTHETICAL].map(String::from);
        let (source, batches) =
            crate::convert::select::select(sample::pipe(), &[], &drop).unwrap().into_parts();
        let target = schema::with_field(&source, Field::new(schema::EMBEDDING, schema::floats(2), true));
        let mut vectors = vectors.to_vec();
        let batches: Vec<_> = batches
            .map(|batch| {
                let batch = batch?;
                let vectors: Vec<_> = vectors.drain(..batch.num_rows()).collect();
                let column = schema::float_vectors(&vectors, 2);
                schema::with_columns(&batch, &target, vec![(schema::EMBEDDING, column)])
            })
            .collect();
        Pipe::new(target.clone(), batches.into_iter())
    }

    #[test]
    fn embeddings_have_a_row_for_each_region() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("embeddings.npz");
        let pipe = embedded([Some(vec![1.0, 2.0]), Some(vec![-0.5, 0.25]), None]);
        assert!(has_vectors(pipe.schema()) && !has_vectors(sample::pipe().schema()));
        write(pipe, true, &path).unwrap();
        let mut file = Npz::open(&path).unwrap();
        assert_eq!(file.names().len(), 2);
        let embeddings = file.numbers::<f32>("embedding").unwrap();
        assert_eq!(embeddings.shape, [3, 2]);
        assert_eq!(embeddings.values[..4], [1.0, 2.0, -0.5, 0.25]);
        assert!(embeddings.values[4..].iter().all(|value| value.is_nan()));
        assert_eq!(file.numbers::<f32>("region").unwrap().values, [0.0, 1.0, 2.0]);
    }

    #[test]
    fn a_cut_stream_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("embeddings.npz");
        let (schema, batches) = embedded([None, None, None]).into_parts();
        let truncated = crate::Error::Truncated { upstream: "nyx-score".into(), rows: 2 };
        let cut = Pipe::new(schema, batches.take(1).chain([Err(truncated)]));
        assert_eq!(write(cut, true, &path).unwrap_err().exit_status(), 3);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
