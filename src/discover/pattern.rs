//! A pattern: seqlets that are laid one over another, and their mean.

use std::collections::HashSet;

use super::jaccard::Profile;
use super::tracks::{Position, Seqlet, Tracks};
use crate::motif::Matrix;

/// What keeps a logarithm finite.
const PSEUDOCOUNT: f64 = 0.001;

/// Sums over the seqlets at one position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    bases: [f64; 4],
    contributions: [f64; 4],
    hypothetical: [f64; 4],
}

impl Sums {
    fn add(&mut self, position: &Position) {
        if let Some(base) = position.base {
            self.bases[base] += 1.0;
            self.contributions[base] += f64::from(position.hypothetical[base]);
        }
        for (sum, &value) in self.hypothetical.iter_mut().zip(&position.hypothetical) {
            *sum += f64::from(value);
        }
    }
}

/// Seqlets of one width, each place once.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    seqlets: Vec<Seqlet>,
    places: HashSet<(usize, usize, usize)>,
    sums: Vec<Sums>,
}

impl Pattern {
    /// Creates the pattern of `seqlets`, which have one width; of those at the same place the first counts.
    ///
    /// # Panics
    ///
    /// When there are none, or their widths differ.
    pub fn new(tracks: &Tracks, seqlets: impl IntoIterator<Item = Seqlet>) -> Self {
        let mut seqlets = seqlets.into_iter().peekable();
        let width = seqlets.peek().expect("a pattern has seqlets").width();
        let mut pattern =
            Self { seqlets: Vec::new(), places: HashSet::new(), sums: vec![Sums::default(); width] };
        seqlets.for_each(|seqlet| pattern.add(tracks, seqlet));
        pattern
    }

    /// Adds a seqlet unless its place is taken.
    ///
    /// # Panics
    ///
    /// When it has another width.
    pub fn add(&mut self, tracks: &Tracks, seqlet: Seqlet) {
        assert_eq!(seqlet.width(), self.width(), "seqlets of a pattern have one width");
        if self.places.insert(seqlet.place()) {
            self.sums
                .iter_mut()
                .zip(tracks.positions(&seqlet))
                .for_each(|(sums, position)| sums.add(&position));
            self.seqlets.push(seqlet);
        }
    }

    /// Returns the seqlets in the order in which they came.
    pub fn seqlets(&self) -> &[Seqlet] {
        &self.seqlets
    }

    /// Returns the number of positions W.
    pub fn width(&self) -> usize {
        self.sums.len()
    }

    fn mean(&self, pick: impl Fn(&Sums) -> [f64; 4]) -> Matrix {
        let count = self.seqlets.len() as f64;
        let columns: Vec<[f64; 4]> = self.sums.iter().map(|sums| pick(sums).map(|sum| sum / count)).collect();
        Matrix::from_columns(&columns)
    }

    /// Returns how often each base occurs at each position.
    pub fn counts(&self) -> Matrix {
        Matrix::from_columns(&self.sums.iter().map(|sums| sums.bases).collect::<Vec<_>>())
    }

    /// Returns the share of each base at each position (a PPM).
    pub fn frequencies(&self) -> Matrix {
        self.mean(|sums| sums.bases)
    }

    /// Returns the mean contributions of the observed bases (a CWM).
    pub fn contributions(&self) -> Matrix {
        self.mean(|sums| sums.contributions)
    }

    /// Returns the mean hypothetical contributions.
    pub fn hypothetical(&self) -> Matrix {
        self.mean(|sums| sums.hypothetical)
    }

    /// Returns the means as a profile for comparing.
    pub fn profile(&self) -> Profile {
        Profile::new(self.sums.iter().map(|sums| (sums.hypothetical, sums.contributions)))
    }

    /// Returns the pattern with `left` and `right` more positions (fewer where negative), without the seqlets that reach
    /// over an end then; `None` when no seqlet is left.
    pub fn grown(&self, tracks: &Tracks, left: i64, right: i64) -> Option<Self> {
        let grow = |seqlet: &Seqlet| seqlet.grown(left, right, tracks.length(seqlet));
        let seqlets: Vec<Seqlet> = self.seqlets.iter().filter_map(grow).collect();
        (!seqlets.is_empty()).then(|| Self::new(tracks, seqlets))
    }

    /// Returns the information of each position in bits, `Σ_b p log2 p' − q log2 q` with p' after pseudocounts and q the
    /// background.
    pub fn information(&self, background: [f64; 4]) -> Vec<f64> {
        let bits = |p: f64| p * ((p + PSEUDOCOUNT) / (1.0 + 4.0 * PSEUDOCOUNT)).log2();
        let reference: f64 = background.iter().filter(|&&q| q > 0.0).map(|q| q * q.log2()).sum();
        let columns = self.frequencies().probabilities().columns();
        columns.iter().map(|column| column.iter().map(|&p| bits(p)).sum::<f64>() - reference).collect()
    }

    /// Returns the pattern cut to the `core` positions of most information, with `flank` positions on either side of
    /// what was looked at and of what is left; `None` when no seqlet has that much room.
    pub fn polished(&self, tracks: &Tracks, core: usize, flank: usize, background: [f64; 4]) -> Option<Self> {
        let flank = flank as i64;
        let wide = self.grown(tracks, flank, flank)?;
        let bits = wide.information(background);
        let core = core.min(bits.len());
        let sums: Vec<f64> = bits.windows(core).map(|window| window.iter().sum()).collect();
        let start = (0..sums.len()).fold(0, |best, i| if sums[i] > sums[best] { i } else { best });
        let end = wide.width() - start - core;
        wide.grown(tracks, -(start as i64), -(end as i64))?.grown(tracks, flank, flank)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tracks::Example;
    use super::*;

    fn tracks() -> Tracks {
        let sequence = b"AAAAACGTACAAAAAAAA";
        let mut values = vec![0.0; 4 * sequence.len()];
        values[5..9].fill(0.5);
        Tracks {
            examples: vec![
                Example::new(0, sequence, &values),
                Example::new(1, b"AAAAACGTACTTTTTTTT", &values),
            ],
        }
    }

    #[test]
    fn means_are_over_the_seqlets_of_a_pattern() {
        let tracks = tracks();
        let seqlet = |example| Seqlet { example, start: 8, end: 12, reverse: false };
        let pattern = Pattern::new(&tracks, [seqlet(0), seqlet(1), seqlet(0)]);
        assert_eq!(pattern.seqlets().len(), 2, "a place counts once");
        assert_eq!(pattern.frequencies().columns()[2], [0.5, 0.0, 0.0, 0.5]);
        assert_eq!(pattern.contributions().columns()[0], [0.5, 0.0, 0.0, 0.0]);
        let flipped = Pattern::new(&tracks, [seqlet(0).flipped(), seqlet(1).flipped()]);
        assert_eq!(flipped.contributions(), pattern.contributions().reverse_complement());
        assert_eq!(flipped.hypothetical(), pattern.hypothetical().reverse_complement());
    }

    #[test]
    fn growing_loses_what_has_no_room() {
        let tracks = tracks();
        let at = |start| Seqlet { example: 0, start, end: start + 4, reverse: false };
        let pattern = Pattern::new(&tracks, [at(1), at(6)]);
        assert_eq!(pattern.grown(&tracks, 2, 0).unwrap().seqlets(), [at(6).grown(2, 0, 18).unwrap()]);
        assert_eq!(pattern.grown(&tracks, 20, 0), None);
        assert_eq!(pattern.grown(&tracks, -1, -1).unwrap().width(), 2);
    }

    #[test]
    fn polishing_keeps_the_positions_of_most_information() {
        let tracks = tracks();
        let at = |example| Seqlet { example, start: 6, end: 14, reverse: false };
        let pattern = Pattern::new(&tracks, [at(0), at(1)]);
        // Positions 5 to 10 are the same in both, those from 10 on are not.
        let polished = pattern.polished(&tracks, 5, 1, [0.25; 4]).unwrap();
        assert_eq!((polished.seqlets()[0].start, polished.seqlets()[0].end), (4, 11));
    }
}
