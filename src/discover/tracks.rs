//! Sequences with hypothetical contributions, and the stretches of them that motifs are made of.

use crate::dna::base_index;

/// The index of what is no base.
const NO_BASE: u8 = 4;

/// A sequence of L bases with the contribution that each of the four bases has or would have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// Number that the seqlets of this example are known by.
    pub region: u64,
    bases: Vec<u8>,
    hypothetical: Vec<[f32; 4]>,
}

impl Example {
    /// Creates an example of upper-case bases and `hypothetical` contributions of length 4·L, rows A C G T.
    ///
    /// # Panics
    ///
    /// When the lengths do not agree.
    pub fn new(region: u64, sequence: &[u8], hypothetical: &[f32]) -> Self {
        let length = sequence.len();
        assert_eq!(hypothetical.len(), 4 * length, "four contributions a base");
        let column = |i| std::array::from_fn(|base| hypothetical[base * length + i]);
        let bases =
            sequence.iter().map(|&base| base_index(base).map_or(NO_BASE, |base| base as u8)).collect();
        Self { region, bases, hypothetical: (0..length).map(column).collect() }
    }

    /// Returns the number of bases L.
    pub fn length(&self) -> usize {
        self.bases.len()
    }

    /// Returns the contribution of the observed base at `position`, 0 where there is none.
    pub fn contribution(&self, position: usize) -> f32 {
        self.hypothetical[position].get(usize::from(self.bases[position])).copied().unwrap_or(0.0)
    }
}

/// A stretch of an example, read on one of its strands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seqlet {
    /// Index of the example.
    pub example: usize,
    /// First base.
    pub start: usize,
    /// One past the last base.
    pub end: usize,
    /// Whether it reads on the reverse strand.
    pub reverse: bool,
}

impl Seqlet {
    /// Returns the number of bases.
    pub fn width(&self) -> usize {
        self.end - self.start
    }

    /// Returns the same stretch on the other strand.
    pub fn flipped(self) -> Self {
        Self { reverse: !self.reverse, ..self }
    }

    /// Returns the seqlet with `left` and `right` more bases, as it reads; fewer where they are negative. `None`
    /// when that reaches over an end of its example, which has `length` bases.
    pub fn grown(self, left: i64, right: i64, length: usize) -> Option<Self> {
        let (before, after) = if self.reverse { (right, left) } else { (left, right) };
        let start = usize::try_from(self.start as i64 - before).ok()?;
        let end = usize::try_from(self.end as i64 + after).ok()?;
        (start <= end && end <= length).then_some(Self { start, end, ..self })
    }

    /// Returns what makes two seqlets the same stretch, whatever their strands.
    pub fn place(&self) -> (usize, usize, usize) {
        (self.example, self.start, self.end)
    }
}

/// One position of a seqlet, as it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// A C G T = 0..4; `None` for N.
    pub base: Option<usize>,
    /// What each base contributes or would.
    pub hypothetical: [f32; 4],
}

impl Position {
    /// Returns the contributions of the observed base, 0 for the others.
    pub fn contributions(&self) -> [f32; 4] {
        let mut values = [0.0; 4];
        if let Some(base) = self.base {
            values[base] = self.hypothetical[base];
        }
        values
    }

    /// Returns the contribution of the observed base.
    pub fn contribution(&self) -> f32 {
        self.base.map_or(0.0, |base| self.hypothetical[base])
    }
}

/// All examples.
#[derive(Clone, Debug, Default)]
pub struct Tracks {
    /// The examples.
    pub examples: Vec<Example>,
}

impl Tracks {
    /// Returns the number of bases of the example that a seqlet lies in.
    pub fn length(&self, seqlet: &Seqlet) -> usize {
        self.examples[seqlet.example].length()
    }

    /// Returns the positions of a seqlet as it reads: from its last base, complemented, on the reverse strand.
    pub fn positions(&self, seqlet: &Seqlet) -> impl Iterator<Item = Position> + '_ {
        let example = &self.examples[seqlet.example];
        let Seqlet { start, end, reverse, .. } = *seqlet;
        (0..end - start).map(move |i| {
            let at = if reverse { end - 1 - i } else { start + i };
            let (base, mut hypothetical) = (usize::from(example.bases[at]), example.hypothetical[at]);
            if reverse {
                hypothetical.reverse();
            }
            let base = (base < 4).then_some(if reverse { 3_usize.wrapping_sub(base) } else { base });
            Position { base, hypothetical }
        })
    }

    /// Returns the sum of the absolute contributions of a seqlet.
    pub fn importance(&self, seqlet: &Seqlet) -> f64 {
        self.positions(seqlet).map(|position| f64::from(position.contribution().abs())).sum()
    }

    /// Returns the sum of the contributions of the positions `start..end` of a seqlet.
    pub fn sum(&self, seqlet: &Seqlet, start: usize, end: usize) -> f64 {
        let inner = self.positions(seqlet).skip(start).take(end - start);
        inner.map(|position| f64::from(position.contribution())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracks() -> Tracks {
        let values: Vec<f32> = (0..20).map(|i| i as f32).collect();
        Tracks { examples: vec![Example::new(7, b"ACGTN", &values)] }
    }

    #[test]
    fn the_reverse_strand_reads_backwards_and_complemented() {
        let tracks = tracks();
        let seqlet = Seqlet { example: 0, start: 1, end: 5, reverse: false };
        let forward: Vec<Position> = tracks.positions(&seqlet).collect();
        assert_eq!(forward[0], Position { base: Some(1), hypothetical: [1.0, 6.0, 11.0, 16.0] });
        assert_eq!(forward[0].contributions(), [0.0, 6.0, 0.0, 0.0]);
        assert_eq!((forward[3].base, forward[3].contribution()), (None, 0.0));
        let mut reverse: Vec<Position> = tracks.positions(&seqlet.flipped()).collect();
        reverse.reverse();
        for (forward, reverse) in forward.iter().zip(&reverse) {
            assert_eq!(reverse.base, forward.base.map(|base| 3 - base));
            assert_eq!(reverse.contribution(), forward.contribution());
        }
        assert_eq!(tracks.sum(&seqlet, 0, 2), 6.0 + 12.0);
    }

    #[test]
    fn growth_is_as_the_seqlet_reads() {
        let seqlet = Seqlet { example: 0, start: 2, end: 4, reverse: true };
        assert_eq!(seqlet.grown(1, 2, 5).map(|s| (s.start, s.end)), Some((0, 5)));
        assert_eq!(seqlet.grown(2, 0, 5), None);
        assert_eq!(seqlet.grown(-1, 1, 5).map(|s| (s.start, s.end)), Some((1, 3)));
        assert_eq!(seqlet.flipped().grown(-1, 1, 5).map(|s| (s.start, s.end)), Some((3, 5)));
        assert_eq!(seqlet.grown(-2, -2, 5), None);
    }
}
