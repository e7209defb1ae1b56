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
