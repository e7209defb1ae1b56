//! CWMs as a NumPy array of shape (M, 4, W).

use std::path::Path;

use super::{Matrix, Pattern};
use crate::error::{Error, InFile, Result};
use crate::npy;

/// Reads the array at `path`; its motifs are called `motif_0`, `motif_1`, ….
///
/// An array in which every second matrix is the reverse complement of the one before it is taken for
/// Fi-NeMo's `motif_cwms.npy`, which holds both strands: only the forward ones are kept.
pub(super) fn read(path: &Path) -> Result<Vec<Pattern>> {
    let array = npy::read_npy::<f64>(path)?;
    let &[_, 4, width] = array.shape.as_slice() else {
        let message = format!("shape {:?}: CWMs are an array of shape (M, 4, W)", array.shape);
        return Err(Error::data(message)).in_file(path);
    };
    if array.values.is_empty() {
        return Err(Error::data("the array holds no motif")).in_file(path);
    }
    let mut matrices: Vec<_> =
        array.values.chunks_exact(4 * width).map(|values| Matrix::new(width, values.to_vec())).collect();
    if holds_both_strands(&matrices) {
        matrices = matrices.into_iter().step_by(2).collect();
    }
    let pattern = |(index, cwm)| Pattern { tag: format!("motif_{index}"), cwm, hypothetical: None };
    Ok(matrices.into_iter().enumerate().map(pattern).collect())
}

fn holds_both_strands(matrices: &[Matrix]) -> bool {
    matrices.len().is_multiple_of(2)
        && matrices.chunks_exact(2).all(|pair| pair[1] == pair[0].reverse_complement())
}

#[cfg(test)]
mod tests {
    use npyz::WriterBuilder;

    use super::*;

    fn save(path: &Path, shape: &[u64], matrices: &[Matrix]) {
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(shape);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        matrices.iter().for_each(|matrix| writer.extend(matrix.values().iter().copied()).unwrap());
        writer.finish().unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn an_array_of_both_strands_gives_each_motif_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cwms.npy");
        let a = Matrix::new(3, (0..12).map(f64::from).collect());
        let b = Matrix::new(3, (0..12).map(|i| f64::from(i * i)).collect());
        save(&path, &[4, 4, 3], &[a.clone(), a.reverse_complement(), b.clone(), b.reverse_complement()]);
        let cwms = |patterns: Vec<Pattern>| patterns.into_iter().map(|p| p.cwm).collect::<Vec<_>>();
        assert_eq!(cwms(read(&path).unwrap()), [a.clone(), b.clone()]);
        save(&path, &[2, 4, 3], &[a.clone(), b.clone()]);
        let patterns = crate::motif::read(&path).unwrap();
        assert_eq!(patterns[1].tag, "motif_1");
        assert_eq!(cwms(patterns), [a.clone(), b]);
        save(&path, &[4, 3], &[a]);
        assert!(read(&path).unwrap_err().to_string().contains("cwms.npy: shape [4, 3]"));
    }
}
