//! Tokenizers against the plainest ways to write them down, on random sequences.

use std::collections::HashMap;

use nyx::tokenizer::Tokenizer;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use regex::Regex;

use crate::support::shared;

/// DNABERT's vocabulary file, a line for each token: five specials and all k-mers in the order A, T, C, G.
fn vocabulary(k: usize) -> HashMap<String, u32> {
    let mut words = vec![String::new()];
    for _ in 0..k {
        words =
            words.iter().flat_map(|word| ["A", "T", "C", "G"].map(|base| format!("{word}{base}"))).collect();
    }
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from);
    specials.into_iter().chain(words).zip(0..).collect()
}

/// DNABERT: every word of k bases, between a first and a last token; 510 words at most in a piece.
fn kmers(sequence: &str, k: usize) -> Vec<u32> {
    let vocabulary = vocabulary(k);
    let letters: Vec<char> = sequence.chars().collect();
    let words: Vec<String> = letters.windows(k).map(|word| word.iter().collect()).collect();
    let id = |word: &String| vocabulary.get(word).copied().unwrap_or(vocabulary["[UNK]"]);
    // A whole number of full pieces is followed by an empty one, as DNABERT's own code has it.
    let pieces = words.len() / 510 + 1;
    let mut ids = Vec::new();
    for piece in 0..pieces {
        let words = &words[piece * 510..((piece + 1) * 510).min(words.len())];
        ids.push(vocabulary["[CLS]"]);
        ids.extend(words.iter().map(id));
        ids.push(vocabulary["[SEP]"]);
    }
    ids
}

/// The Nucleotide Transformer (version 2): six bases at once where there are six, otherwise letters.
fn nucleotides(sequence: &str) -> Vec<u32> {
    let specials = ["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>"].map(String::from);
    let words = vocabulary(6).into_iter().filter(|(word, _)| !word.starts_with('['));
    let mut words: Vec<(String, u32)> = words.collect();
    words.sort_by_key(|(_, number)| *number);
    let letters = ["A", "T", "C", "G", "N"].map(String::from);
    let ids: HashMap<String, u32> =
        specials.into_iter().chain(words.into_iter().map(|(word, _)| word)).chain(letters).zip(0..).collect();
    let pattern = Regex::new("[ACGT]{6}|[ACGTN]").unwrap();
    std::iter::once(ids["<cls>"]).chain(pattern.find_iter(sequence).map(|word| ids[word.as_str()])).collect()
}

/// Byte-pair encoding as it is defined: of all neighbours the pair that comes first in the list is joined, wherever it
/// is, until no pair is in the list.
struct Pairs {
    ids: HashMap<String, u32>,
    ranks: HashMap<(String, String), usize>,
}

impl Pairs {
    fn read(text: &str) -> Self {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        let ids = vocabulary.iter().map(|(word, id)| (word.clone(), id.as_u64().unwrap() as u32)).collect();
        let merges = json["model"]["merges"].as_array().unwrap();
        let pair = |merge: &serde_json::Value| {
            let (first, second) = merge.as_str().unwrap().split_once(' ').unwrap();
            (first.to_string(), second.to_string())
        };
        Self { ids, ranks: merges.iter().map(pair).zip(0..).collect() }
    }

    fn encode(&self, sequence: &str) -> Vec<u32> {
        let mut words: Vec<String> = sequence.chars().map(String::from).collect();
        let rank = |pair: &[String]| self.ranks.get(&(pair[0].clone(), pair[1].clone())).copied();
        while let Some(best) = words.windows(2).filter_map(rank).min() {
            let place = words.windows(2).position(|pair| rank(pair) == Some(best)).unwrap();
            let second = words.remove(place + 1);
            words[place] += &second;
        }
        let unknown = self.ids["[UNK]"];
        let inner = words.iter().map(|word| self.ids.get(word).copied().unwrap_or(unknown));
        [self.ids["[CLS]"]].into_iter().chain(inner).chain([self.ids["[SEP]"]]).collect()
    }
}

fn ids(tokenizer: &Tokenizer, sequence: &str) -> Vec<u32> {
    tokenizer.encode(sequence, None).unwrap().ids
}

#[test]
fn words_of_k_bases_are_those_of_the_definition() {
    for k in 3..=6 {
        let tokenizer = Tokenizer::open(&format!("kmer:{k}")).unwrap();
        for length in [0, 1, k - 1, k, 509 + k - 1, 510 + k - 1, 511 + k - 1, 1020 + k - 1] {
            let sequence = "ACGTTGCAAC".repeat(110)[..length].to_string();
            assert_eq!(ids(&tokenizer, &sequence), kmers(&sequence, k), "k = {k}, {length} bases");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_of_k_bases_are_those_of_the_definition_on_random_sequences(
        sequence in "[ACGT]{0,40}N{0,2}[ACGTN]{0,40}",
        k in 3usize..=6,
    ) {
        prop_assert_eq!(ids(&Tokenizer::open(&format!("kmer:{k}")).unwrap(), &sequence), kmers(&sequence, k));
    }

    #[test]
    fn nucleotide_tokens_are_those_of_the_definition(sequence in "([ACGT]{0,14}N{0,3}){0,6}") {
        prop_assert_eq!(ids(&Tokenizer::open("nt").unwrap(), &sequence), nucleotides(&sequence));
    }

    #[test]
    fn bases_are_one_token_each_where_that_is_asked_for(sequence in "[ACGTN]{0,60}") {
        let expected: Vec<u32> =
            sequence.chars().map(|base| "ACGT".find(base).map_or(4, |index| index as u32)).collect();
        prop_assert_eq!(ids(&Tokenizer::open("onehot").unwrap(), &sequence), expected);
    }
}

#[test]
fn byte_pairs_are_those_of_the_definition() {
    let Some(path) = shared("data/tokenizers/dnabert2/tokenizer.json") else { return };
    let pairs = Pairs::read(&std::fs::read_to_string(&path).unwrap());
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..300 {
        let strategy = proptest::string::string_regex("([ACGT]{1,60}N{0,1}){0,4}").unwrap();
        let sequence = strategy.new_tree(&mut runner).unwrap().current();
        assert_eq!(ids(&tokenizer, &sequence), pairs.encode(&sequence), "{sequence}");
    }
}
