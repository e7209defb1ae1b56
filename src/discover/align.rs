//! Laying a seqlet or pattern on a pattern.

use super::jaccard::Profile;
use super::pattern::Pattern;
use super::tracks::{Seqlet, Tracks};
use crate::motif::Matrix;

/// How a child lies on a parent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alignment {
    /// Where the child begins in the parent; may be negative.
    pub offset: i64,
    /// Whether the child has to be turned over first.
    pub reverse: bool,
    /// The similarity there.
    pub similarity: f64,
}

/// How alike two things are laid over each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Continuous Jaccard similarity of both kinds of contributions.
    Jaccard,
    /// Correlation of the contributions of the observed bases.
    Correlation,
}

impl Measure {
    /// Aligns a seqlet to a pattern with at least the share `min_overlap` of the seqlet on it.
    pub fn align_seqlet(
        self,
        tracks: &Tracks,
        parent: &Pattern,
        seqlet: &Seqlet,
        min_overlap: f64,
    ) -> Alignment {
        match self {
            Self::Jaccard => {
                let child = Profile::of(tracks, seqlet);
                let parent = parent.profile();
                let similarity = |child: &Profile, offset| f64::from(parent.similarity(child, offset));
                best(parent.width(), child.width(), min_overlap, [&child, &child.flipped()], similarity)
            }
            Self::Correlation => {
                let columns: Vec<[f64; 4]> = tracks
                    .positions(seqlet)
                    .map(|position| position.contributions().map(f64::from))
                    .collect();
                correlate(&parent.contributions(), &Matrix::from_columns(&columns), min_overlap)
            }
        }
    }
}

/// Aligns two matrices by the cosine of what lies on each other, their means subtracted first. Positions without a
/// partner count as zero in the parent.
pub fn correlate(parent: &Matrix, child: &Matrix, min_overlap: f64) -> Alignment {
    let (parent, child) = (centred(parent), centred(child));
    let cosine = |child: &Matrix, offset: i64| {
        let (mut product, mut squares) = (0.0, 0.0);
        for i in 0..child.width() {
            let Ok(at) = usize::try_from(i as i64 + offset) else { continue };
            if at < parent.width() {
                for base in 0..4 {
                    product += child.at(base, i) * parent.at(base, at);
                    squares += parent.at(base, at).powi(2);
                }
            }
        }
        let norms = squares.sqrt() * child.norm();
        if norms > 0.0 { product / norms } else { 0.0 }
    };
    let strands = [&child, &child.reverse_complement()];
    best(parent.width(), child.width(), min_overlap, strands, cosine)
}

fn centred(matrix: &Matrix) -> Matrix {
    let mean = matrix.values().iter().sum::<f64>() / matrix.values().len() as f64;
    Matrix::new(matrix.width(), matrix.values().iter().map(|value| value - mean).collect())
}

/// Returns the best offset on either strand; of equal ones the first, and forward before reverse.
fn best<T>(
    parent: usize,
    child: usize,
    min_overlap: f64,
    strands: [&T; 2],
    similarity: impl Fn(&T, i64) -> f64,
) -> Alignment {
    let reach = (child as f64 * (1.0 - min_overlap)).ceil() as i64;
    let mut best = Alignment { offset: 0, reverse: false, similarity: f64::NEG_INFINITY };
    for (child_strand, reverse) in strands.into_iter().zip([false, true]) {
        for offset in -reach..=parent as i64 - child as i64 + reach {
            let similarity = similarity(child_strand, offset);
            if similarity > best.similarity {
                best = Alignment { offset, reverse, similarity };
            }
        }
    }
    best
}

/// Adds seqlets one after another to a pattern: each is aligned to the mean so far, the pattern grows to hold it, and
/// the seqlet grows to fill the pattern. What has no room in its example is left out.
pub fn merge_in(
    tracks: &Tracks,
    pattern: &Pattern,
    seqlets: &[Seqlet],
    measure: Measure,
    min_overlap: f64,
) -> Pattern {
    let mut pattern = pattern.clone();
    for seqlet in seqlets {
        let Alignment { offset, reverse, .. } = measure.align_seqlet(tracks, &pattern, seqlet, min_overlap);
        let seqlet = if reverse { seqlet.flipped() } else { *seqlet };
        let beyond = offset + seqlet.width() as i64 - pattern.width() as i64;
        let grown = seqlet.grown(offset.max(0), (-beyond).max(0), tracks.length(&seqlet));
        let Some(seqlet) = grown else { continue };
        if offset < 0 || beyond > 0 {
            match pattern.grown(tracks, (-offset).max(0), beyond.max(0)) {
                Some(wider) => pattern = wider,
                None => continue,
            }
        }
        pattern.add(tracks, seqlet);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::super::tracks::Example;
    use super::*;

    /// Examples of 40 A with GATTACA (or its reverse complement) at a place of its own.
    fn planted(places: &[(usize, bool)]) -> Tracks {
        let example = |&(at, reverse): &(usize, bool)| {
            let mut sequence = vec![b'A'; 40];
            let motif: &[u8] = if reverse { b"TGTAATC" } else { b"GATTACA" };
            sequence[at..at + 7].copy_from_slice(motif);
            let mut values = vec![0.0; 160];
            for i in 0..40 {
                let base = b"ACGT".iter().position(|&base| base == sequence[i]).unwrap();
                values[base * 40 + i] = if (at..at + 7).contains(&i) { 1.0 } else { 0.01 };
            }
            Example::new(0, &sequence, &values)
        };
        Tracks { examples: places.iter().map(example).collect() }
    }

    #[test]
    fn seqlets_are_laid_where_they_agree_on_either_strand() {
        let tracks = planted(&[(16, false), (18, false), (14, true)]);
        let seqlet = |example| Seqlet { example, start: 12, end: 28, reverse: false };
        for measure in [Measure::Jaccard, Measure::Correlation] {
            let pattern = Pattern::new(&tracks, [seqlet(0)]);
            let merged = merge_in(&tracks, &pattern, &[seqlet(1), seqlet(2)], measure, 0.7);
            assert_eq!(merged.seqlets().len(), 3);
            let consensus = merged.contributions().consensus();
            assert!(consensus.contains("GATTACA"), "{measure:?} {consensus}");
            let sums = merged.contributions();
            let full = (0..merged.width()).filter(|&i| (0..4).any(|base| sums.at(base, i) > 0.99)).count();
            assert_eq!(full, 7, "{measure:?}: all three lie on each other");
        }
    }

    #[test]
    fn the_correlation_of_a_matrix_with_its_reverse_complement_is_one() {
        let matrix =
            Matrix::from_columns(&[[0.9, 0.0, 0.1, 0.0], [0.0, 0.5, 0.0, 0.2], [0.1, 0.1, 0.7, 0.0]]);
        let found = correlate(&matrix, &matrix.reverse_complement(), 0.7);
        assert!(found.reverse && found.offset == 0 && (found.similarity - 1.0).abs() < 1e-12, "{found:?}");
    }
}
