//! What turns bases into tokens.
//!
//! All tokenizers are case-sensitive, as the ones they agree with: a lower-case base is unknown. Streams
//! hold upper-case bases only. Nothing is ever padded.

mod bpe;
mod kmer;
mod nucleotide;

use std::fs;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, InFile, Result};
use crate::input::{self, hub};
use crate::provenance;

pub use bpe::Bpe;
pub use kmer::Kmer;
pub use nucleotide::Nucleotide;

/// The letters of k-mer vocabularies in the order in which they count.
const LETTERS: [u8; 4] = *b"ATCG";

/// The tokens of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids, specials included.
    pub ids: Vec<u32>,
    /// First base of each token, −1 for specials.
    pub starts: Vec<i32>,
    /// One past the last base of each token, −1 for specials.
    pub ends: Vec<i32>,
    /// Whether bases were cut off to keep a maximal length.
    pub truncated: bool,
}

impl Tokens {
    fn push(&mut self, id: u32, start: usize, end: usize) {
        self.ids.push(id);
        self.starts.push(start as i32);
        self.ends.push(end as i32);
    }

    fn push_special(&mut self, id: u32) {
        self.ids.push(id);
        self.starts.push(-1);
        self.ends.push(-1);
    }

    /// Cuts tokens on the right, before the specials at the end, until `max_length` are left.
    fn truncate(&mut self, max_length: usize) {
        if self.ids.len() <= max_length {
            return;
        }
        let specials = self.starts.iter().rev().take_while(|&&start| start < 0).count();
        let last = self.ids.len() - specials;
        let first = max_length.saturating_sub(specials).min(last);
        self.truncated = self.starts[first..last].iter().any(|&start| start >= 0);
        for part in [&mut self.starts, &mut self.ends] {
            part.drain(first..last);
        }
        self.ids.drain(first..last);
    }
}

/// A tokenizer, built in or read from a file.
pub enum Tokenizer {
    /// Overlapping k-mers (DNABERT).
    Kmer(Kmer),
    /// 6-mers side by side, single bases in between (Nucleotide Transformer).
    Nucleotide(Nucleotide),
    /// Byte-pair encoding (DNABERT-2).
    Bpe(Box<Bpe>),
    /// One token for each base: A, C, G, T are 0 to 3, anything else is 4; no specials.
    OneHot,
}

impl Tokenizer {
    /// Opens a tokenizer by its name (`kmer:3` to `kmer:6`, `nt`, `nt-v1`, `onehot`), or from a file
    /// (`tokenizer.json`, `vocab.txt`), a model directory, or `hf://org/name` from the Hugging Face cache.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it is no tokenizer that this program knows.
    pub fn open(text: &str) -> Result<Self> {
        match text {
            "onehot" => return Ok(Self::OneHot),
            "nt" | "nt-v2" => return Ok(Self::Nucleotide(Nucleotide::V2)),
            "nt-v1" => return Ok(Self::Nucleotide(Nucleotide::V1)),
            _ => {}
        }
        if let Some(width) = text.strip_prefix("kmer:") {
            let kmer = width.parse().ok().and_then(Kmer::new);
            return kmer.map(Self::Kmer).ok_or_else(|| {
                Error::usage(format!("--tokenizer {text}: the widths are kmer:3, kmer:4, kmer:5 and kmer:6"))
            });
        }
        let path = hub::locate(Path::new(text))?.path;
        if !path.exists() {
            return Err(Error::usage(format!(
                "--tokenizer {text}: neither a file nor one of kmer:3 to kmer:6, nt, nt-v1, onehot"
            )));
        }
        if path.is_dir() { Self::of_model(&path) } else { Self::from_file(&path) }
    }

    /// Reads the tokenizer of a model directory: a `vocab.txt` that is one of DNABERT or of the Nucleotide
    /// Transformer, `tokenizer.json`, or else what the size of the vocabulary in `config.json` says.
    ///
    /// # Errors
    ///
    /// When none of them tells.
    pub fn of_model(directory: &Path) -> Result<Self> {
        // SentenceTransformers may keep the transformer in a directory of its own.
        for directory in [directory.to_owned(), directory.join("0_Transformer")] {
            let (vocabulary, json) = (directory.join("vocab.txt"), directory.join("tokenizer.json"));
            match (vocabulary.is_file(), json.is_file()) {
                // Beside a vocabulary of k-mers, tokenizer.json describes the same as a WordPiece.
                (true, true) => return Self::from_file(&vocabulary).or_else(|_| Self::from_file(&json)),
                (true, false) => return Self::from_file(&vocabulary),
                (false, true) => return Self::from_file(&json),
                (false, false) => {}
            }
        }
        Self::from_config(&directory.join("config.json"))
    }

    /// Returns the built-in tokenizer whose vocabulary has the size that `config.json` states.
    fn from_config(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Sizes {
            vocab_size: Option<usize>,
        }
        let missing = || Error::data("no tokenizer.json and no vocab.txt in this directory");
        let directory = path.parent().unwrap_or(path);
        let bytes = fs::read(path).map_err(|_| missing()).in_file(directory)?;
        let Sizes { vocab_size } = serde_json::from_slice(&bytes).in_file(path)?;
        let size = vocab_size.ok_or_else(missing).in_file(directory)?;
        Self::built_in()
            .find(|tokenizer| tokenizer.vocabulary().len() == size)
            .ok_or_else(missing)
            .in_file(directory)
    }

    /// Returns the tokenizers that need no file.
    fn built_in() -> impl Iterator<Item = Self> {
        let kmers = (3..=6).filter_map(Kmer::new).map(Self::Kmer);
        kmers.chain([Nucleotide::V2, Nucleotide::V1].map(Self::Nucleotide))
    }

    /// Reads `tokenizer.json` or `vocab.txt`, known by what is in it.
    ///
    /// # Errors
    ///
    /// When it is no tokenizer that this program knows.
    pub fn from_file(path: &Path) -> Result<Self> {
        let head = fs::read(path).in_file(path)?;
        if head.trim_ascii_start().starts_with(b"{") {
            return Ok(Self::Bpe(Box::new(Bpe::new(&head).in_file(path)?)));
        }
        let text = input::read_text(path)?;
        let tokens: Vec<&str> = text.lines().map(str::trim_end).collect();
        Self::from_vocabulary(&tokens).in_file(path)
    }

    /// Returns the built-in tokenizer that has this vocabulary.
    fn from_vocabulary(tokens: &[&str]) -> Result<Self> {
        Self::built_in().find(|tokenizer| tokenizer.vocabulary() == tokens).ok_or_else(|| {
            let count = tokens.len();
            Error::data(format!(
                "{count} tokens that are no vocabulary this program knows: DNABERT's for k = 3 to 6 (69, 261, 1029, 4101 tokens) or the Nucleotide Transformer's (4105, 4107)"
            ))
        })
    }

    /// Leaves out the last k-mer of every sequence, as DNABERT's own data scripts do.
    ///
    /// # Errors
    ///
    /// When the tokens are no overlapping k-mers.
    pub fn drop_last(self) -> Result<Self> {
        match self {
            Self::Kmer(kmer) => Ok(Self::Kmer(kmer.drop_last())),
            _ => Err(Error::usage("--drop-last is for k-mer tokenizers")),
        }
    }

    /// Encodes one sequence. With `max_length` no more than so many tokens come back, specials included.
    ///
    /// # Errors
    ///
    /// When a tokenizer from a file fails.
    pub fn encode(&self, sequence: &str, max_length: Option<usize>) -> Result<Tokens> {
        let mut tokens = match self {
            Self::Kmer(kmer) => return Ok(kmer.encode(sequence.as_bytes(), max_length)),
            Self::Nucleotide(nucleotide) => nucleotide.encode(sequence.as_bytes()),
            Self::Bpe(bpe) => bpe.encode(sequence)?,
            Self::OneHot => one_hot(sequence.as_bytes()),
        };
        if let Some(max_length) = max_length {
            tokens.truncate(max_length);
        }
        Ok(tokens)
    }

    /// Returns how many special tokens every sequence has at least.
    pub fn specials(&self) -> Result<usize> {
        Ok(self.encode("", None)?.ids.len())
    }

    /// Returns whether tokens of sequences with the same unknown bases begin and end at the same places: not if how many
    /// bases a token has depends on these.
    pub fn is_even(&self) -> bool {
        match self {
            Self::Bpe(bpe) => bpe.is_of_letters(),
            Self::Kmer(_) | Self::Nucleotide(_) | Self::OneHot => true,
        }
    }

    /// Returns the token that hides another.
    pub fn mask(&self) -> Option<u32> {
        match self {
            Self::Kmer(_) => Some(kmer::MASK),
            Self::Nucleotide(_) => Some(nucleotide::MASK),
            Self::Bpe(bpe) => bpe.mask(),
            Self::OneHot => None,
        }
    }

    /// Returns a name for people.
    pub fn name(&self) -> String {
        match self {
            Self::Kmer(kmer) => kmer.name(),
            Self::Nucleotide(nucleotide) => nucleotide.name().into(),
            Self::Bpe(_) => "bpe".into(),
            Self::OneHot => "onehot".into(),
        }
    }

    /// Returns the SHA-256, in hexadecimal, of the vocabulary (a token and a newline for each id), or of the
    /// file where the tokenizer came from `tokenizer.json`.
    pub fn digest(&self) -> String {
        if let Self::Bpe(bpe) = self {
            return bpe.digest().into();
        }
        let mut hasher = Sha256::new();
        for token in self.vocabulary() {
            hasher.update(token);
            hasher.update("\n");
        }
        provenance::hexadecimal(&hasher.finalize())
    }

    /// Returns the tokens in the order of their ids; none for a tokenizer from a file.
    fn vocabulary(&self) -> Vec<String> {
        match self {
            Self::Kmer(kmer) => kmer.vocabulary(),
            Self::Nucleotide(nucleotide) => nucleotide.vocabulary(),
            Self::Bpe(_) => Vec::new(),
            Self::OneHot => ["A", "C", "G", "T", "N"].map(String::from).into(),
        }
    }
}

/// Returns the number of a k-mer in counting order with the digits of [`LETTERS`], the first base most
/// significant; `None` when one of its letters is no upper-case base.
fn number(kmer: &[u8]) -> Option<u32> {
    kmer.iter().try_fold(0, |number, base| {
        let digit = LETTERS.iter().position(|letter| letter == base)?;
        Some(4 * number + digit as u32)
    })
}

/// Returns all k-mers in counting order.
fn kmers(width: usize) -> impl Iterator<Item = String> {
    (0..1usize << (2 * width)).map(move |number| {
        (0..width).rev().map(|place| char::from(LETTERS[number >> (2 * place) & 3])).collect()
    })
}

fn one_hot(sequence: &[u8]) -> Tokens {
    let mut tokens = Tokens::default();
    for (index, &base) in sequence.iter().enumerate() {
        tokens.push(crate::dna::base_index(base).map_or(4, |base| base as u32), index, index + 1);
    }
    tokens
}

#[cfg(test)]
mod tests;
