//! Which sequences go to the device together, and how they are laid out there.

use std::ops::Range;

use super::Limits;
use crate::device::backend::Number;
use crate::error::{Error, Result};
use crate::model::transformer::Sequence;

/// Rows that matrix products come in: few shapes, and rows that belong to no token cost little.
const ROWS: usize = 64;

/// Where the parts of a pack stand on the device: tokens, places, tiles, ranges, all 32-bit integers.
pub struct Layout {
    /// Most tokens.
    pub tokens: usize,
    /// Most vectors that are read.
    pub vectors: usize,
    /// Queries of a tile.
    pub queries: usize,
}

/// What a pack in a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Tokens.
    pub tokens: usize,
    /// Tiles of queries.
    pub tiles: usize,
    /// Vectors that are read.
    pub vectors: usize,
}

impl Pack {
    /// Returns the rows of matrix products.
    pub fn rows(&self) -> usize {
        self.tokens.next_multiple_of(ROWS)
    }

    /// Writes sequences, and what is read of them, into a buffer.
    pub fn fill(
        layout: &Layout,
        sequences: &[Sequence],
        ranges: &[Vec<Range<usize>>],
        buffer: &mut [u8],
    ) -> Self {
        let [places, tiles, marks] = layout.offsets();
        let (tokens_part, rest) = buffer.split_at_mut(places);
        let (places_part, rest) = rest.split_at_mut(tiles - places);
        let (tiles_part, marks_part) = rest.split_at_mut(marks - tiles);
        let mut parts = [tokens_part, places_part, tiles_part, marks_part].map(Writer::new);
        let mut start = 0;
        for (sequence, ranges) in sequences.iter().zip(ranges) {
            let length = sequence.tokens.len();
            for (place, &token) in sequence.tokens.iter().enumerate() {
                let masked = sequence.masked.filter(|(masked, _)| *masked == place);
                parts[0].write(&[masked.map_or(token, |(_, id)| id)]);
                parts[1].write(&[place as u32]);
            }
            for query in (0..length).step_by(layout.queries) {
                parts[2].write(&[start as u32, length as u32, query as u32, 0]);
            }
            for range in ranges {
                assert!(!range.is_empty() && range.end <= length, "{range:?} of {length} tokens");
                parts[3].write(&[(start + range.start) as u32, (start + range.end) as u32]);
            }
            start += length;
        }
        Self { tokens: start, tiles: parts[2].written / 4, vectors: parts[3].written / 2 }
    }
}

impl Layout {
    /// Makes room for whole rows of products.
    pub fn new(limits: Limits, number: Number) -> Self {
        Self {
            tokens: limits.tokens.max(1).next_multiple_of(ROWS),
            vectors: limits.vectors.max(1),
            queries: if number == Number::F32 { 16 } else { 64 },
        }
    }

    /// Returns where places, tiles and ranges begin, in bytes; tokens begin at 0. There is a tile a token at most.
    pub fn offsets(&self) -> [usize; 3] {
        [4 * self.tokens, 8 * self.tokens, 24 * self.tokens]
    }

    /// Returns the bytes of a buffer.
    pub fn bytes(&self) -> usize {
        self.offsets()[2] + 8 * self.vectors
    }

    /// Returns how many of them a pack needs.
    pub fn bytes_of(&self, pack: &Pack) -> usize {
        self.offsets()[2] + 8 * pack.vectors
    }

    /// Divides sequences into packs, in order.
    pub fn packs(&self, sequences: &[Sequence], ranges: &[Vec<Range<usize>>]) -> Result<Vec<Range<usize>>> {
        let (mut packs, mut first, mut tokens, mut vectors) = (Vec::new(), 0, 0, 0);
        for (index, (sequence, ranges)) in sequences.iter().zip(ranges).enumerate() {
            let (length, read) = (sequence.tokens.len(), ranges.len());
            if length > self.tokens || read > self.vectors {
                return Err(Error::data(format!(
                    "--device cuda: a row of {length} tokens, of which {read} vectors are read, is too long for the \
                     GPU's buffers ({} and {}); use --device cpu",
                    self.tokens, self.vectors
                )));
            }
            if tokens + length > self.tokens || vectors + read > self.vectors {
                packs.push(first..index);
                (first, tokens, vectors) = (index, 0, 0);
            }
            tokens += length;
            vectors += read;
        }
        if first < sequences.len() {
            packs.push(first..sequences.len());
        }
        Ok(packs)
    }
}

/// Writes integers, one after the other.
struct Writer<'a> {
    words: &'a mut [[u8; 4]],
    written: usize,
}

impl<'a> Writer<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Self { words: bytes.as_chunks_mut().0, written: 0 }
    }

    fn write(&mut self, values: &[u32]) {
        for value in values {
            self.words[self.written] = value.to_le_bytes();
            self.written += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_hold_every_sequence_once_in_order_and_none_is_too_large() {
        let layout = Layout::new(Limits { tokens: 64, vectors: 5 }, Number::Bf16);
        let tokens: Vec<Vec<u32>> = (0..40).map(|i| vec![1; 1 + i * 7 % 40]).collect();
        let sequences: Vec<Sequence> = tokens.iter().map(|tokens| Sequence::of(tokens)).collect();
        let ranges: Vec<_> = tokens.iter().map(|tokens| vec![0..1; 1 + tokens.len() % 2]).collect();
        let packs = layout.packs(&sequences, &ranges).unwrap();
        assert_eq!(packs.iter().cloned().flatten().collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
        for pack in packs {
            assert!(tokens[pack.clone()].iter().map(Vec::len).sum::<usize>() <= 64);
            assert!(ranges[pack].iter().map(Vec::len).sum::<usize>() <= 5);
        }
        let long = vec![1; 65];
        let error = layout.packs(&[Sequence::of(&long)], &[vec![0..1]]).unwrap_err().to_string();
        assert!(error.contains("65 tokens") && error.contains("--device cpu"), "{error}");
    }
}
