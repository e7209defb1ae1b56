//! The distinct columns of all targets.

use std::collections::HashMap;

/// Columns that are computed together; arrays of columns are filled up to a multiple of it.
pub(super) const BLOCK: usize = 64;

/// Distinct columns, and how often each occurs. Those that occur once stand first.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// Probabilities by base.
    pub bases: [Vec<f64>; 4],
    /// The same in 32 bits, filled up to [`Columns::stride`] with the first column.
    pub near: [Vec<f32>; 4],
    /// Sequences of the motif that the column comes from.
    pub sites: Vec<f64>,
    /// Occurrences, filled up to [`Columns::stride`] with 0.
    pub counts: Vec<u32>,
    /// How many columns occur once.
    pub singles: usize,
    /// How often all of them occur.
    pub total: u64,
}

impl Columns {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Returns how many there are, filled up to whole blocks.
    pub fn stride(&self) -> usize {
        self.counts.len()
    }

    /// Returns the probabilities of a column.
    pub fn column(&self, index: usize) -> [f64; 4] {
        self.bases.each_ref().map(|values| values[index])
    }
}

/// Numbers columns as they come.
#[derive(Default)]
pub(super) struct Index {
    found: Vec<([f64; 4], f64, u32)>,
    numbers: HashMap<[u64; 5], u32>,
}

impl Index {
    /// Returns the number of a column, a new one if it is new, and counts it.
    pub fn number(&mut self, column: &[f64; 4], sites: f64) -> u32 {
        let [a, c, g, t] = column.map(f64::to_bits);
        let number = *self.numbers.entry([a, c, g, t, sites.to_bits()]).or_insert_with(|| {
            self.found.push((*column, sites, 0));
            self.found.len() as u32 - 1
        });
        self.found[number as usize].2 += 1;
        number
    }

    /// Returns the columns, and for each number that was given its index.
    pub fn finish(self) -> (Columns, Vec<u32>) {
        let mut order: Vec<usize> = (0..self.found.len()).collect();
        order.sort_by_key(|&number| self.found[number].2 > 1);
        let mut columns = Columns::default();
        let mut indices = vec![0; order.len()];
        for (index, &number) in order.iter().enumerate() {
            let (column, sites, count) = self.found[number];
            indices[number] = index as u32;
            columns.bases.iter_mut().zip(column).for_each(|(values, value)| values.push(value));
            columns.sites.push(sites);
            columns.counts.push(count);
            columns.singles += usize::from(count == 1);
            columns.total += u64::from(count);
        }
        let stride = columns.len().next_multiple_of(BLOCK);
        columns.counts.resize(stride, 0);
        for (near, values) in columns.near.iter_mut().zip(&columns.bases) {
            near.extend(values.iter().map(|&value| value as f32));
            near.resize(stride, values.first().map_or(0.0, |&value| value as f32));
        }
        (columns, indices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_is_kept_once_and_single_ones_stand_first() {
        let (one, two, three) = ([1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]);
        let mut index = Index::default();
        let numbers = [one, two, one, three, two, one].map(|column| index.number(&column, 20.0));
        let (columns, indices) = index.finish();
        assert_eq!((columns.len(), columns.stride(), columns.singles, columns.total), (3, BLOCK, 1, 6));
        assert_eq!(columns.counts[..4], [1, 3, 2, 0]);
        let found = numbers.map(|number| columns.column(indices[number as usize] as usize));
        assert_eq!(found, [one, two, one, three, two, one]);
        assert_eq!((columns.near[2][0], columns.near[2][BLOCK - 1]), (1.0, 1.0));
    }
}
