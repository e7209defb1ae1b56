//! Byte-pair encoding from a Hugging Face `tokenizer.json`, as DNABERT-2 reads it.

use sha2::{Digest, Sha256};

use super::Tokens;
use crate::error::{Error, Result, guarded};
use crate::provenance;

/// What the library reads.
const WHAT: &str = "tokenizer.json";

/// A tokenizer of the Hugging Face library, without its own truncation and padding.
pub struct Bpe {
    tokenizer: tokenizers::Tokenizer,
    digest: String,
}

impl Bpe {
    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// When it is not one.
    pub fn new(json: &[u8]) -> Result<Self> {
        let mut tokenizer = guarded(WHAT, || tokenizers::Tokenizer::from_bytes(json))?
            .map_err(|error| Error::data(format!("not a Hugging Face tokenizer.json: {error}")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| Error::data(error.to_string()))?;
        Ok(Self { tokenizer, digest: provenance::hexadecimal(&Sha256::digest(json)) })
    }

    /// Encodes a sequence, with the specials of the tokenizer's template.
    ///
    /// # Errors
    ///
    /// When the tokenizer has no token for a letter, not even an unknown one.
    pub fn encode(&self, sequence: &str) -> Result<Tokens> {
        let encoding = guarded(WHAT, || self.tokenizer.encode(sequence, true))?;
        let encoding = encoding.map_err(|error| Error::data(error.to_string()))?;
        let mut tokens = Tokens::default();
        let places = encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask());
        for (&id, (&(start, end), &special)) in encoding.get_ids().iter().zip(places) {
            match special {
                0 => tokens.push(id, start, end),
                _ => tokens.push_special(id),
            }
        }
        Ok(tokens)
    }

    pub(super) fn mask(&self) -> Option<u32> {
        ["[MASK]", "<mask>"].into_iter().find_map(|token| self.tokenizer.token_to_id(token))
    }

    /// Returns whether every token but the added ones is a single letter.
    pub(super) fn is_of_letters(&self) -> bool {
        let added = self.tokenizer.get_added_tokens_decoder();
        let vocabulary = self.tokenizer.get_vocab(false);
        vocabulary.iter().all(|(token, id)| added.contains_key(id) || token.chars().count() <= 1)
    }

    pub(super) fn digest(&self) -> &str {
        &self.digest
    }
}
