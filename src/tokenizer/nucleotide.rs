//! 6-mers side by side, as the Nucleotide Transformer reads them.

use super::{LETTERS, Tokens, kmers, number};

const WIDTH: usize = 6;
const UNKNOWN: u32 = 0;
pub(super) const MASK: u32 = 2;
const CLASS: u32 = 3;
const SPECIALS: [&str; 6] = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"];

/// Greedy from the left: a 6-mer where six upper-case bases ACGT follow, else one letter of ATCGN; any
/// run of other letters is one `<unk>`, white space none. `<cls>` in front, nothing behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nucleotide {
    /// 4105 tokens: four specials, 6-mers, letters.
    V1,
    /// 4107 tokens: six specials, 6-mers, letters.
    V2,
}

impl Nucleotide {
    /// Encodes a sequence.
    pub fn encode(self, sequence: &[u8]) -> Tokens {
        let specials = self.specials().len() as u32;
        let letters = specials + (1 << (2 * WIDTH));
        let mut tokens = Tokens::default();
        tokens.push_special(CLASS);
        let (mut start, mut run) = (0, false);
        while start < sequence.len() {
            let kmer = sequence.get(start..start + WIDTH).and_then(number);
            let (id, end) = match (kmer, letter(sequence[start])) {
                (Some(kmer), _) => (specials + kmer, start + WIDTH),
                (None, Some(letter)) => (letters + letter, start + 1),
                (None, None) => (UNKNOWN, start + 1),
            };
            let unknown = id == UNKNOWN && !sequence[start].is_ascii_whitespace();
            match tokens.ends.last_mut() {
                Some(last) if unknown && run => *last = end as i32,
                _ if id != UNKNOWN || unknown => tokens.push(id, start, end),
                _ => {}
            }
            (start, run) = (end, unknown);
        }
        tokens
    }

    fn specials(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &SPECIALS[..4],
            Self::V2 => &SPECIALS,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => "nt-v1",
            Self::V2 => "nt",
        }
    }

    pub(super) fn vocabulary(self) -> Vec<String> {
        let specials = self.specials().iter().map(|token| token.to_string());
        let letters = LETTERS.iter().chain(b"N").map(|&letter| char::from(letter).to_string());
        specials.chain(kmers(WIDTH)).chain(letters).collect()
    }
}

/// Returns the number of a single letter.
fn letter(base: u8) -> Option<u32> {
    LETTERS.iter().chain(b"N").position(|&letter| letter == base).map(|index| index as u32)
}
