use std::io::Read;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::testing::shared;

fn golden() -> Option<Value> {
    let path = shared("golden/models/tokenizers/golden.json")?;
    Some(serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
}

fn lines(path: &str) -> Option<Vec<Value>> {
    let mut text = String::new();
    let file = fs::File::open(shared(path)?).unwrap();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

fn ids(tokenizer: &Tokenizer, sequence: &str) -> Vec<u32> {
    tokenizer.encode(sequence, None).unwrap().ids
}

#[test]
fn kmers_equal_the_reference() {
    let Some(golden) = golden() else { return };
    let sequences: Vec<String> = numbers(&golden["kmer_seqs"]);
    assert_eq!(sequences.len(), 250);
    for width in 3..=6 {
        let tokenizer = Tokenizer::open(&format!("kmer:{width}")).unwrap();
        let expected: Vec<Vec<u32>> = numbers(&golden[format!("kmer{width}")]);
        assert_eq!(expected.len(), sequences.len());
        for (sequence, expected) in sequences.iter().zip(expected) {
            assert_eq!(ids(&tokenizer, sequence), expected, "k = {width}: {sequence}");
        }
        let long = &golden[format!("kmer{width}_long")];
        assert_eq!(ids(&tokenizer, long["seq"].as_str().unwrap()), numbers::<u32>(&long["ids"]));
    }
}

#[test]
fn pieces_equal_the_reference_at_their_edges() {
    let Some(golden) = golden() else { return };
    for width in 3..=6 {
        let tokenizer = Tokenizer::open(&format!("kmer:{width}")).unwrap();
        let bases = golden[format!("kmer{width}_long")]["seq"].as_str().unwrap();
        for edge in golden[format!("kmer{width}_edges")].as_array().unwrap() {
            let kmers = edge[0].as_u64().unwrap() as usize;
            let found = ids(&tokenizer, &bases[..kmers + width - 1]);
            assert_eq!(found.len() as u64, edge[1].as_u64().unwrap(), "{kmers} {width}-mers");
            assert_eq!(found[found.len() - 3..], numbers::<u32>(&edge[2]), "{kmers} {width}-mers");
        }
    }
}

#[test]
fn the_nucleotide_transformer_equals_the_reference() {
    let Some(golden) = golden() else { return };
    let sequences: Vec<String> = numbers(&golden["seqs"]);
    for (name, key) in [("nt", "nt_v2"), ("nt-v1", "nt_v1_inferred_vocab")] {
        let tokenizer = Tokenizer::open(name).unwrap();
        let expected: Vec<Vec<u32>> = numbers(&golden[key]);
        assert_eq!(expected.len(), 252);
        for (sequence, expected) in sequences.iter().zip(expected) {
            assert_eq!(ids(&tokenizer, sequence), expected, "{name}: {sequence}");
        }
    }
}

#[test]
fn byte_pairs_equal_the_reference_with_their_offsets() {
    let Some(golden) = golden() else { return };
    let Some(path) = shared("data/tokenizers/dnabert2/tokenizer.json") else { return };
    let tokenizer = Tokenizer::open(path.to_str().unwrap()).unwrap();
    let cases = golden["dnabert2"].as_array().unwrap();
    let cut: Vec<Vec<u32>> = numbers(&golden["dnabert2_max30_ids"]);
    for ((sequence, case), cut) in numbers::<String>(&golden["seqs"]).iter().zip(cases).zip(cut) {
        let tokens = tokenizer.encode(sequence, None).unwrap();
        assert_eq!(tokens.ids, numbers::<u32>(&case["ids"]), "{sequence}");
        // The reference gives specials the offsets (0, 0).
        let offsets: Vec<[i32; 2]> =
            tokens.starts.iter().zip(&tokens.ends).map(|(&start, &end)| [start.max(0), end.max(0)]).collect();
        assert_eq!(offsets, numbers::<[i32; 2]>(&case["offsets"]), "{sequence}");
        let mut padded = tokenizer.encode(sequence, Some(30)).unwrap().ids;
        padded.resize(30, 3);
        assert_eq!(padded, cut, "{sequence}");
    }
    for case in lines("data/tokenizers/dnabert2/golden.jsonl.gz").unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(ids(&tokenizer, text), numbers::<u32>(&case["ids"]), "{text}");
    }
}

#[test]
fn the_published_vocabularies_are_the_built_in_ones() {
    for width in 3..=6 {
        let Some(path) = shared(&format!("data/tokenizers/dnabert/k{width}")) else { return };
        let published = Tokenizer::open(path.to_str().unwrap()).unwrap();
        let own = Tokenizer::open(&format!("kmer:{width}")).unwrap();
        assert_eq!((published.name(), published.digest()), (own.name(), own.digest()));
    }
    for case in lines("data/tokenizers/dnabert/golden_kmer.jsonl.gz").unwrap() {
        let tokenizer = Tokenizer::open(&format!("kmer:{}", case["k"])).unwrap();
        let sequence = case["seq"].as_str().unwrap();
        assert_eq!(ids(&tokenizer, sequence), numbers::<u32>(&case["ids"]), "{sequence}");
    }
}

#[test]
fn a_greedy_token_is_a_6mer_or_a_letter() {
    let tokenizer = Tokenizer::open("nt").unwrap();
    let tokens = tokenizer.encode("ACGTNACGTACRYacA", None).unwrap();
    assert_eq!(tokens.starts, [-1, 0, 1, 2, 3, 4, 5, 11, 15]);
    assert_eq!(tokens.ends, [-1, 1, 2, 3, 4, 5, 11, 15, 16]);
}

#[test]
fn the_last_kmer_can_be_dropped() {
    let kmer = Kmer::new(3).unwrap();
    assert_eq!(kmer.encode(b"ACGT", None).ids, [2, 16, 50, 3]);
    assert_eq!(kmer.drop_last().encode(b"ACGT", None).ids, [2, 16, 3]);
    assert_eq!(kmer.drop_last().encode(b"AC", None).ids, [2, 3]);
    assert_eq!(Tokenizer::OneHot.drop_last().err().unwrap().exit_status(), 2);
}

#[test]
fn pieces_are_cut_as_the_original_cuts_them() {
    let kmer = Kmer::new(3).unwrap();
    let bases = [b'A'; 1100];
    // 510 k-mers make a full piece and an empty one; only the empty one is lost.
    let tokens = kmer.encode(&bases[..512], Some(512));
    assert_eq!((tokens.ids.len(), tokens.truncated), (512, false));
    assert_eq!(tokens.ids[511], 3);
    let tokens = kmer.encode(&bases, Some(1024));
    assert_eq!((tokens.ids.len(), tokens.truncated), (1024, true));
}

#[test]
fn a_wrong_tokenizer_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let text = |name: &str| Tokenizer::open(name).err().unwrap().to_string();
    assert!(text("kmer:7").contains("kmer:6"));
    assert!(text("nowhere").contains("nowhere"));
    assert!(text(directory.path().to_str().unwrap()).contains("no tokenizer.json"));
    let path = directory.path().join("vocab.txt");
    fs::write(&path, "[PAD]\n[UNK]\n").unwrap();
    assert!(text(path.to_str().unwrap()).contains("2 tokens"));
    fs::write(&path, "{}").unwrap();
    assert!(text(path.to_str().unwrap()).contains("vocab.txt: not a Hugging Face tokenizer.json"));
}

proptest! {
    #[test]
    fn a_number_is_the_place_among_all_kmers(kmer in "[ATCG]{3}") {
        let place = kmers(3).position(|other| other == kmer);
        prop_assert_eq!(number(kmer.as_bytes()).map(|number| number as usize), place);
    }

    #[test]
    fn tokens_of_the_nucleotide_transformer_cover_every_base_once(sequence in "[ACGTN]{0,60}") {
        let tokens = Nucleotide::V2.encode(sequence.as_bytes());
        let vocabulary = Nucleotide::V2.vocabulary();
        let text: String = tokens.ids[1..].iter().map(|&id| vocabulary[id as usize].as_str()).collect();
        prop_assert_eq!(text, &*sequence);
        prop_assert!(tokens.starts[1..].iter().skip(1).eq(tokens.ends[1..].iter().take(tokens.ids.len().saturating_sub(2))));
    }

    #[test]
    fn a_cut_keeps_the_front_and_the_specials(sequence in "[ACGT]{0,40}", max_length in 3usize..20) {
        for name in ["kmer:4", "nt", "onehot"] {
            let tokenizer = Tokenizer::open(name).unwrap();
            let whole = tokenizer.encode(&sequence, None).unwrap();
            let cut = tokenizer.encode(&sequence, Some(max_length)).unwrap();
            prop_assert_eq!(cut.ids.len(), whole.ids.len().min(max_length));
            prop_assert_eq!(cut.truncated, cut.ids.len() < whole.ids.len());
            let ends_with_special = whole.starts.last() == Some(&-1);
            prop_assert_eq!(cut.starts.last() == Some(&-1), ends_with_special);
        }
    }
}

#[test]
fn a_model_directory_tells_its_tokenizer() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let name = || Tokenizer::open(directory.path().to_str().unwrap()).map(|tokenizer| tokenizer.name());
    assert!(name().unwrap_err().to_string().contains("no tokenizer.json and no vocab.txt"));
    for (size, expected) in
        [(69, "kmer:3"), (261, "kmer:4"), (1029, "kmer:5"), (4101, "kmer:6"), (4107, "nt"), (4105, "nt-v1")]
    {
        fs::write(path("config.json"), format!(r#"{{"vocab_size": {size}}}"#)).unwrap();
        assert_eq!(name().unwrap(), Tokenizer::open(expected).unwrap().name());
    }
    // DNABERT-2 has as many tokens as no other, and needs its file.
    fs::write(path("config.json"), r#"{"vocab_size": 4096}"#).unwrap();
    assert!(name().unwrap_err().to_string().contains("no tokenizer.json"));
    // A vocabulary of k-mers wins over the WordPiece that the same tokens make.
    let kmer = Tokenizer::open("kmer:3").unwrap();
    fs::write(path("tokenizer.json"), r#"{"model": {"type": "WordPiece"}}"#).unwrap();
    fs::write(path("vocab.txt"), kmer.vocabulary().join("\n")).unwrap();
    assert_eq!(name().unwrap(), kmer.name());
    for file in ["vocab.txt", "tokenizer.json", "config.json"] {
        fs::remove_file(path(file)).unwrap();
    }
    fs::create_dir(path("0_Transformer")).unwrap();
    fs::write(path("0_Transformer/vocab.txt"), Tokenizer::open("nt").unwrap().vocabulary().join("\n"))
        .unwrap();
    assert_eq!(name().unwrap(), Tokenizer::open("nt").unwrap().name());
}
