//! Rotary positions: pairs of channels turned by an angle that grows with the position.

use std::sync::Arc;

/// A table of angles. Cheap to clone: the table is shared.
///
/// Channel i of the first `pairs` is paired with channel i + pairs ("rotate half", as in ESM and Llama); channels
/// beyond the pairs stay.
#[derive(Clone)]
pub struct Rotary {
    pairs: usize,
    /// `[positions, pairs]`, cosine and sine.
    table: Arc<[[f32; 2]]>,
}

impl std::fmt::Debug for Rotary {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Rotary({} pairs, {} positions)", self.pairs, self.positions())
    }
}

impl Rotary {
    /// Makes the table of angles position·frequency for positions `0..positions`.
    ///
    /// # Panics
    ///
    /// Without frequencies.
    pub fn new(inverse_frequencies: &[f32], positions: usize) -> Self {
        assert!(!inverse_frequencies.is_empty(), "no frequencies");
        let turn = |position: usize, frequency: f32| {
            // The product is rounded to 32 bits, as it is where such models are trained.
            let angle = f64::from(position as f32 * frequency);
            [angle.cos() as f32, angle.sin() as f32]
        };
        let row = |position| inverse_frequencies.iter().map(move |&frequency| turn(position, frequency));
        Self { pairs: inverse_frequencies.len(), table: (0..positions).flat_map(row).collect() }
    }

    /// Returns the pairs of channels that are turned.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Returns how many positions the table has.
    pub fn positions(&self) -> usize {
        self.table.len() / self.pairs
    }

    /// Returns cosine and sine of each pair at a position.
    pub fn angles(&self, position: usize) -> &[[f32; 2]] {
        &self.table[position * self.pairs..][..self.pairs]
    }

    /// Turns the channels of one head.
    #[inline(always)]
    pub(super) fn turn(&self, position: usize, channels: &mut [f32]) {
        let angles = self.angles(position);
        let (first, second) = channels.split_at_mut(self.pairs);
        for ((a, b), [cosine, sine]) in first.iter_mut().zip(second).zip(angles) {
            (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
        }
    }
}
