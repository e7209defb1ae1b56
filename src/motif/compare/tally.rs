//! How often a column of the query has each height.

use super::columns::Columns;
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// Heights that are told apart.
const HEIGHTS: usize = 128;
/// Pairs that the smallest counter can hold.
const PAIRS: usize = u16::MAX as usize;

/// Counts heights two at a time: most columns occur once, and their pairs share one counter.
pub(super) struct Tally {
    /// By the second of a pair, then the first; half of each line of 256 stays empty, so that two bytes are an index.
    pairs: Vec<u16>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { pairs: vec![0; HEIGHTS * 256] }
    }
}

impl Tally {
    /// Counts the heights of all columns, as often as they occur.
    pub fn count(&mut self, heights: &[u8], columns: &Columns) -> [u32; HEIGHTS] {
        let mut counts = [0u32; HEIGHTS];
        let (singles, others) = heights.split_at(columns.singles);
        for singles in singles.chunks(2 * PAIRS) {
            let (pairs, rest) = singles.as_chunks::<2>();
            for pair in pairs {
                self.pairs[usize::from(u16::from_le_bytes(*pair)) % (HEIGHTS * 256)] += 1;
            }
            rest.iter().for_each(|&height| counts[usize::from(height) % HEIGHTS] += 1);
            sum(Instructions::detect(), &mut self.pairs, &mut counts);
        }
        for (&height, &occurrences) in others.iter().zip(&columns.counts[columns.singles..]) {
            counts[usize::from(height) % HEIGHTS] += occurrences;
        }
        counts
    }
}

vectorize! {
    /// Adds up how often each height is the first and the second of a pair, and forgets the pairs.
    fn sum(pairs: &mut [u16], counts: &mut [u32; HEIGHTS]) = sum_body
}

#[inline(always)]
fn sum_body(pairs: &mut [u16], counts: &mut [u32; HEIGHTS]) {
    let mut firsts = [0u32; HEIGHTS];
    for (line, second) in pairs.as_chunks_mut::<256>().0.iter_mut().zip(counts.iter_mut()) {
        let line = line.first_chunk_mut::<HEIGHTS>().expect("a line has more");
        let mut total = [0u32; 16];
        for (counts, firsts) in line.as_chunks::<16>().0.iter().zip(firsts.as_chunks_mut::<16>().0) {
            for ((total, first), &count) in total.iter_mut().zip(firsts).zip(counts) {
                *total += u32::from(count);
                *first += u32::from(count);
            }
        }
        *second += total.iter().sum::<u32>();
        line.fill(0);
    }
    counts.iter_mut().zip(firsts).for_each(|(sum, count)| *sum += count);
}

#[cfg(test)]
mod tests {
    use super::super::columns::{BLOCK, Index};
    use super::*;

    #[test]
    fn every_column_counts_as_often_as_it_occurs() {
        for (distinct, twice) in [(1usize, 0usize), (63, 5), (200_001, 1000)] {
            let mut index = Index::default();
            let column = |number: usize| [number as f64, 0.0, 0.0, 0.0];
            (0..distinct).for_each(|number| {
                index.number(&column(number), 1.0);
            });
            (0..twice).for_each(|number| {
                index.number(&column(number), 1.0);
            });
            let (columns, _) = index.finish();
            assert_eq!(columns.stride() % BLOCK, 0);
            // Nearly all of one height, so that a counter of a pair would run over.
            let heights: Vec<u8> =
                (0..columns.stride()).map(|at| if at % 97 == 0 { (at % 101) as u8 } else { 50 }).collect();
            let mut expected = [0u32; HEIGHTS];
            for (&height, &count) in heights.iter().zip(&columns.counts) {
                expected[usize::from(height)] += count;
            }
            let mut tally = Tally::default();
            assert_eq!(tally.count(&heights, &columns), expected);
            assert_eq!(tally.count(&heights, &columns), expected, "nothing is left of the first time");
        }
    }
}
