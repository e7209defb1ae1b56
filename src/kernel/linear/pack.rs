//! Weights in the order in which products read them: strips of thirty-two outputs, taps in a row.

use super::super::product::{Strip, Unit, WIDTH};

/// What the columns of a layer's product are.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Columns {
    pub inputs: usize,
    pub outputs: usize,
    /// Whether there is a second column an output, which the first is multiplied by.
    pub gated: bool,
}

/// Packed weights, `[strips, taps]`.
pub(in crate::kernel) struct Strips<T> {
    /// Units a strip.
    pub taps: usize,
    weights: Vec<Strip<T>>,
}

impl<T> Strips<T> {
    pub fn iter(&self) -> impl Iterator<Item = &[Strip<T>]> {
        self.weights.chunks_exact(self.taps)
    }
}

impl Columns {
    /// Returns the rows of the weights before packing.
    pub fn rows(&self) -> usize {
        self.outputs * if self.gated { 2 } else { 1 }
    }

    /// Returns the outputs a strip gives: in a gated one, the first half of its columns is multiplied by the
    /// second.
    pub fn outputs_per_strip(&self) -> usize {
        if self.gated { WIDTH / 2 } else { WIDTH }
    }

    /// Returns the row of the weights that a column of a strip holds, if any.
    fn row(&self, strip: usize, column: usize) -> Option<usize> {
        let each = self.outputs_per_strip();
        let output = strip * each + column % each;
        (output < self.outputs).then_some(output + column / each * self.outputs)
    }

    fn strips(&self) -> usize {
        self.outputs.div_ceil(self.outputs_per_strip())
    }

    /// Returns a value of each row in the order of the strips, the default where a column has no row.
    pub fn spread<V: Copy + Default>(&self, value: impl Fn(usize) -> V) -> Vec<[V; WIDTH]> {
        let column =
            |strip| std::array::from_fn(|column| self.row(strip, column).map_or(V::default(), &value));
        (0..self.strips()).map(column).collect()
    }

    /// Packs weights, `[rows, inputs]`: `unit` makes one of `T::GROUP` neighbours, zeros beyond the last.
    pub fn pack<W: Copy + Default, T: Unit>(&self, weights: &[W], unit: impl Fn(&[W]) -> T) -> Strips<T> {
        let taps = self.inputs.div_ceil(T::GROUP);
        let mut packed = vec![Strip([T::default(); WIDTH]); self.strips() * taps];
        let mut padded = vec![W::default(); taps * T::GROUP];
        for (index, strip) in packed.chunks_exact_mut(taps).enumerate() {
            for column in 0..WIDTH {
                let Some(row) = self.row(index, column) else { continue };
                padded[..self.inputs].copy_from_slice(&weights[row * self.inputs..][..self.inputs]);
                for (tap, group) in strip.iter_mut().zip(padded.chunks_exact(T::GROUP)) {
                    tap.0[column] = unit(group);
                }
            }
        }
        Strips { taps, weights: packed }
    }
}
