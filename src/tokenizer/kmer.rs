//! Overlapping k-mers, as DNABERT reads them.

use super::{Tokens, kmers, number};

const UNKNOWN: u32 = 1;
const CLASS: u32 = 2;
const SEPARATOR: u32 = 3;
pub(super) const MASK: u32 = 4;
const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// K-mers that fit between the specials of one piece of 512 tokens.
const PIECE: usize = 510;

/// Overlapping k-mers, one for each base that has k − 1 bases after it, between `[CLS]` and `[SEP]`.
///
/// A k-mer with anything but upper-case ACGT is `[UNK]`. From 510 k-mers on the sequence becomes pieces
/// (DNABERT-XL): ⌊n / 510⌋ + 1 of them, each with its own `[CLS]` and `[SEP]`, the last one empty when n is a
/// multiple of 510.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kmer {
    width: usize,
    drop_last: bool,
}

impl Kmer {
    /// Creates the tokenizer of k-mers of `width` bases; `None` unless that is 3 to 6.
    pub fn new(width: usize) -> Option<Self> {
        (3..=6).contains(&width).then_some(Self { width, drop_last: false })
    }

    /// Leaves out the last k-mer, as DNABERT's own data scripts do.
    pub fn drop_last(self) -> Self {
        Self { drop_last: true, ..self }
    }

    /// Encodes a sequence. `max_length` cuts as the original does: first the k-mers to `max_length − 2`,
    /// then, when there are pieces, all tokens to `max_length`.
    pub fn encode(&self, sequence: &[u8], max_length: Option<usize>) -> Tokens {
        let max_length = max_length.unwrap_or(usize::MAX);
        let total = (sequence.len() + 1).saturating_sub(self.width + usize::from(self.drop_last));
        let count = total.min(max_length.saturating_sub(2));
        let mut tokens = Tokens::default();
        let pieces = if count < PIECE { 1 } else { count / PIECE + 1 };
        for piece in 0..pieces {
            tokens.push_special(CLASS);
            for start in piece * PIECE..((piece + 1) * PIECE).min(count) {
                let end = start + self.width;
                let id = number(&sequence[start..end]).map_or(UNKNOWN, |id| id + SPECIALS.len() as u32);
                tokens.push(id, start, end);
            }
            tokens.push_special(SEPARATOR);
        }
        // The original loses the last `[SEP]` here as well; what counts are k-mers.
        for part in [&mut tokens.starts, &mut tokens.ends] {
            part.truncate(max_length);
        }
        tokens.ids.truncate(max_length);
        tokens.truncated = tokens.starts.iter().filter(|&&start| start >= 0).count() < total;
        tokens
    }

    pub(super) fn name(&self) -> String {
        format!("kmer:{}{}", self.width, if self.drop_last { " without the last" } else { "" })
    }

    pub(super) fn vocabulary(&self) -> Vec<String> {
        SPECIALS.iter().map(|token| token.to_string()).chain(kmers(self.width)).collect()
    }
}
