//! What holds for every language model, on small ones of noise.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::weights::{Array, Weights};
use super::super::{
    Attentions, Background, Config, Input, Likelihood, Misfit, Model, Pooling, Scores, Source, Wanted, bert,
    esm,
};
use super::encoder::{Scratch, Sequence};
use super::{Encoder, LanguageModel, TokenWay};
use crate::kernel::Precision;
use crate::kernel::testing::noise;

const HIDDEN: usize = 24;
const VOCABULARY: usize = 69;

/// Tensors of noise; norms are about 1.
#[derive(Default)]
struct Noise(BTreeMap<String, Array>);

impl Noise {
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> &mut Self {
        let seed = self.0.len() as u64;
        self.0.insert(
            format!("{name}.weight"),
            Array { shape: shape.into(), values: noise(shape[0] * shape[1], seed) },
        );
        self
    }

    fn linear(&mut self, name: &str, shape: [usize; 2]) -> &mut Self {
        self.matrix(name, shape);
        let values = noise(shape[0], 99);
        self.0.insert(format!("{name}.bias"), Array { shape: vec![shape[0]], values });
        self
    }

    fn norm(&mut self, name: &str) -> &mut Self {
        for (part, center) in [("weight", 1.0), ("bias", 0.0)] {
            let values = noise(HIDDEN, 98).into_iter().map(|x| center + 0.1 * x).collect();
            self.0.insert(format!("{name}.{part}"), Array { shape: vec![HIDDEN], values });
        }
        self
    }
}

/// A DNABERT of 3-mers with a classifier and a head that guesses.
fn dnabert_tensors() -> Noise {
    let mut all = Noise::default();
    let embeddings = [("word", VOCABULARY), ("position", 512), ("token_type", 2)];
    for (name, count) in embeddings {
        all.matrix(&format!("bert.embeddings.{name}_embeddings"), [count, HIDDEN]);
    }
    all.norm("bert.embeddings.LayerNorm");
    for layer in 0..2 {
        let name = |part: &str| format!("bert.encoder.layer.{layer}.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            all.linear(&name(&format!("attention.{part}")), [HIDDEN, HIDDEN]);
        }
        all.norm(&name("attention.output.LayerNorm")).norm(&name("output.LayerNorm"));
        all.linear(&name("intermediate.dense"), [40, HIDDEN]).linear(&name("output.dense"), [HIDDEN, 40]);
    }
    all.linear("bert.pooler.dense", [HIDDEN, HIDDEN]).linear("classifier", [3, HIDDEN]);
    all.linear("cls.predictions.transform.dense", [HIDDEN, HIDDEN]);
    all.norm("cls.predictions.transform.LayerNorm").linear("cls.predictions.decoder", [VOCABULARY, HIDDEN]);
    all
}

/// The body of a Nucleotide Transformer v2 with its head that guesses.
fn rotary_tensors() -> Noise {
    let mut all = Noise::default();
    all.matrix("esm.embeddings.word_embeddings", [4107, HIDDEN]);
    for layer in 0..2 {
        let name = |part: &str| format!("esm.encoder.layer.{layer}.{part}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            all.linear(&name(&format!("attention.{part}")), [HIDDEN, HIDDEN]);
        }
        all.norm(&name("attention.LayerNorm")).norm(&name("LayerNorm"));
        all.matrix(&name("intermediate.dense"), [2 * 40, HIDDEN]).matrix(&name("output.dense"), [HIDDEN, 40]);
    }
    all.norm("esm.encoder.emb_layer_norm_after").linear("lm_head.dense", [HIDDEN, HIDDEN]);
    all.norm("lm_head.layer_norm").matrix("lm_head.decoder", [4107, HIDDEN]);
    all.0.insert("lm_head.bias".into(), Array { shape: vec![4107], values: noise(4107, 5) });
    all
}

fn build(architecture: &str, tensors: Noise, precision: Precision) -> LanguageModel {
    build_with(architecture, tensors, precision, json!({})).unwrap()
}

/// Builds a model whose config has other values for some keys.
fn build_with(
    architecture: &str,
    tensors: Noise,
    precision: Precision,
    others: serde_json::Value,
) -> crate::error::Result<LanguageModel> {
    let directory = tempfile::tempdir().unwrap();
    let words = tensors.0.iter().find(|(name, _)| name.contains("word_embeddings")).unwrap().1.shape[0];
    let mut config = json!({
        "architectures": [architecture], "vocab_size": words, "num_hidden_layers": 2, "num_attention_heads": 3,
        "max_position_embeddings": 512, "layer_norm_eps": 1e-12, "position_embedding_type":
        if architecture.starts_with("Esm") { "rotary" } else { "absolute" }, "split": 3,
    });
    others.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let config = Config::read(directory.path()).unwrap();
    let weights = Weights::collect(directory.path(), tensors.0);
    let source =
        Source { directory: directory.path(), config: &config, weights: &weights, precision, gpu: None };
    if architecture.starts_with("Esm") { esm::load(&source) } else { bert::load(&source) }
}

/// What a config says of the size of a network is not believed before anything is made of it.
#[test]
fn layers_and_positions_without_end_are_refused() {
    let refusal = |architecture: &str, key: &str, value: u64| {
        let tensors = if architecture.starts_with("Esm") { rotary_tensors() } else { dnabert_tensors() };
        let built = build_with(architecture, tensors, Precision::F32, json!({ key: value }));
        built.err().map(|error| error.to_string()).unwrap_or_default()
    };
    for count in [10_000, 1 << 40, u64::MAX] {
        for architecture in ["BertForSequenceClassification", "EsmForMaskedLM"] {
            let message = refusal(architecture, "num_hidden_layers", count);
            assert!(message.contains(&format!("{count} layers, more than any")), "{message}");
        }
    }
    for count in [(1 << 22) + 8, 1 << 60] {
        let message = refusal("EsmForMaskedLM", "max_position_embeddings", count);
        assert!(message.contains("positions; nyx has room for 4194304"), "{message}");
    }
}

fn dnabert() -> LanguageModel {
    build("BertForSequenceClassification", dnabert_tensors(), Precision::F32)
}

/// Sequences of many lengths.
fn sequences() -> Vec<Vec<u8>> {
    let bases = |index: usize| {
        let length = 3 + index * 37 % 290;
        (0..length).map(|place| b"ACGTN"[(place * place + index * 7 + place / 3) % 41 % 5]).collect()
    };
    (0..40).map(bases).collect()
}

fn predict(model: &LanguageModel, sequences: &[Vec<u8>], wanted: &Wanted) -> Vec<Scores> {
    let rows: Vec<Input> = sequences.iter().map(|bases| Input::of(bases)).collect();
    model.predict(&rows, wanted).unwrap().into_iter().map(|answer| answer.unwrap()).collect()
}

fn everything(likelihood: Likelihood) -> Wanted {
    Wanted {
        embedding: Some(Pooling::Mean),
        likelihood: Some(likelihood),
        attentions: Some(Attentions::All),
        ..Wanted::default()
    }
}

#[test]
fn neither_batch_nor_threads_nor_pack_change_a_bit() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        for (architecture, tensors) in
            [("BertForSequenceClassification", dnabert_tensors()), ("EsmForMaskedLM", rotary_tensors())]
        {
            let model = build(architecture, tensors, precision);
            let sequences = sequences();
            let wanted = everything(Likelihood::Unmasked);
            let together = pool(1).install(|| predict(&model, &sequences, &wanted));
            for threads in [2, 7] {
                assert!(pool(threads).install(|| predict(&model, &sequences, &wanted)) == together);
            }
            for (sequence, together) in sequences.iter().zip(&together) {
                assert!(predict(&model, std::slice::from_ref(sequence), &wanted) == [together.clone()]);
            }
        }
    }
}

#[test]
fn what_else_is_wanted_changes_no_bit() {
    let model = dnabert();
    let sequences = sequences();
    let all = predict(&model, &sequences, &everything(Likelihood::Unmasked));
    let plain = predict(&model, &sequences, &Wanted::default());
    let only = predict(&model, &sequences, &Wanted { logits_only: true, ..Wanted::default() });
    for ((all, plain), only) in all.iter().zip(plain).zip(only) {
        assert_eq!((&all.logits, &all.probs), (&plain.logits, &plain.probs));
        assert_eq!((&only.logits, &only.probs), (&plain.logits, &None));
        let sum: f32 = plain.probs.unwrap().iter().sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}

/// Returns the last hidden states of a sequence.
fn last(encoder: &Encoder, sequence: Sequence) -> Vec<f32> {
    encoder.run(&[sequence], None, &mut (), &mut Scratch::default()).to_vec()
}

#[test]
fn embeddings_are_means_of_what_they_say() {
    let model = dnabert();
    let sequence = b"ACGTNACGGTCA".to_vec();
    let tokens = model.tokens(&Input::of(&sequence)).unwrap().into_owned();
    assert_eq!(tokens.len(), 12);
    let states = last(model.encoder().processor().unwrap(), Sequence::of(&tokens));
    let mean = |rows: std::ops::Range<usize>| -> Vec<f32> {
        let unit = |unit: usize| {
            let values = rows.clone().map(|row| f64::from(states[row * HIDDEN + unit]));
            (values.sum::<f64>() / rows.len() as f64) as f32
        };
        (0..HIDDEN).map(unit).collect()
    };
    for (pooling, rows) in
        [(Pooling::Cls, 0..1), (Pooling::Mean, 0..12), (Pooling::Own, 0..12), (Pooling::MeanOfBases, 1..11)]
    {
        let wanted = Wanted { embedding: Some(pooling), ..Wanted::default() };
        let found = predict(&model, std::slice::from_ref(&sequence), &wanted).remove(0).embedding.unwrap();
        let largest = found.iter().zip(mean(rows)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-6, "{pooling:?}: {largest}");
        assert_eq!(model.outputs(&wanted).unwrap().embedding, HIDDEN);
    }
}

#[test]
fn likelihoods_are_those_of_a_softmax_with_and_without_masks() {
    for model in [dnabert(), build("EsmForMaskedLM", rotary_tensors(), Precision::F32)] {
        let sequence = b"ACGTACNGTTAGCATTAGCCA".to_vec();
        let tokens = model.tokens(&Input::of(&sequence)).unwrap().into_owned();
        let bases: Vec<usize> =
            (1..tokens.len() - usize::from(model.encoder().spec().vocabulary == VOCABULARY)).collect();
        let mask = model.tokenizer().unwrap().mask().unwrap();
        for likelihood in [Likelihood::Masked, Likelihood::Unmasked] {
            let wanted = Wanted { likelihood: Some(likelihood), ..Wanted::default() };
            let found =
                predict(&model, std::slice::from_ref(&sequence), &wanted).remove(0).likelihoods.unwrap();
            assert_eq!(found.len(), bases.len());
            for (found, &place) in found.iter().zip(&bases) {
                let mut read = tokens.clone();
                if likelihood == Likelihood::Masked {
                    read[place] = mask;
                }
                let states = last(model.encoder().processor().unwrap(), Sequence::of(&read));
                let logits =
                    model.token_head().unwrap().logits(&states[place * HIDDEN..(place + 1) * HIDDEN]);
                let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                let expected = f64::from(logits[tokens[place] as usize]) - sum.ln();
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }
}

#[test]
fn attentions_are_given_by_layer_and_their_rows_add_up() {
    let model = dnabert();
    let sequence = [b"ACGTACGTTAG".to_vec()];
    let ask = |attentions, layers: &[usize]| {
        let wanted = Wanted { attentions: Some(attentions), layers: layers.into(), ..Wanted::default() };
        predict(&model, &sequence, &wanted).remove(0).attentions.unwrap()
    };
    let all = ask(Attentions::All, &[]);
    assert_eq!(all.len(), 2 * 3 * 11 * 11);
    assert!(all.chunks(11).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    assert_eq!(ask(Attentions::All, &[1, 0]), [&all[363..], &all[..363]].concat());
    let first: Vec<f32> = all[363..].chunks(121).flat_map(|head| head[..11].to_vec()).collect();
    assert_eq!(ask(Attentions::Cls, &[1]), first);
    let wanted = Wanted { attentions: Some(Attentions::Cls), layers: vec![2], ..Wanted::default() };
    assert!(model.outputs(&wanted).unwrap_err().to_string().contains("layers 0 to 1"));
}

#[test]
fn a_sequence_that_does_not_fit_is_told_so_and_never_cut() {
    let model = dnabert();
    let answer = |bases: usize| {
        let bases: Vec<u8> = (0..bases).map(|place| b"ACGT"[place * place % 7 % 4]).collect();
        model.predict(&[Input::of(&bases)], &Wanted::default()).unwrap().remove(0).map(|_| ())
    };
    assert_eq!(answer(0), Err(Misfit::TooShort));
    assert_eq!(answer(2), Err(Misfit::TooShort));
    assert_eq!(answer(3), Ok(()));
    // 510 k-mers and two specials: the tokenizer for long heads would begin another piece.
    assert_eq!(answer(512), Ok(()));
    assert_eq!(answer(513), Err(Misfit::TooLong));
    let foreign = [2, 69, 3];
    let row = Input { bases: b"ACG", second: None, tokens: Some(&foreign) };
    assert!(model.predict(&[row], &Wanted::default()).unwrap_err().to_string().contains("token 69"));
}

#[test]
fn tokens_that_a_row_brings_are_read_as_those_of_its_bases() {
    let model = dnabert();
    let bases = sequences().remove(20);
    let tokens = model.tokens(&Input::of(&bases)).unwrap().into_owned();
    let row = Input { bases: b"", second: None, tokens: Some(&tokens) };
    let found = model.predict(&[row], &Wanted::default()).unwrap();
    assert_eq!(found, model.predict(&[Input::of(&bases)], &Wanted::default()).unwrap());
}

#[test]
fn a_pair_is_two_sequences_with_a_separator_between() {
    let row = Input { second: Some(b"TTGCA"), ..Input::of(b"ACGTA") };
    let model = dnabert();
    let (first, second) =
        (model.tokens(&Input::of(b"ACGTA")).unwrap(), model.tokens(&Input::of(b"TTGCA")).unwrap());
    assert_eq!(*model.tokens(&row).unwrap(), [&first[..], &second[1..]].concat());
}

/// Adds a head that reads three pieces.
pub fn long(kind: &str) -> LanguageModel {
    let mut tensors = dnabert_tensors();
    tensors.0.retain(|name, _| !name.starts_with("cls."));
    match kind {
        "cat" => {
            tensors.0.retain(|name, _| !name.starts_with("classifier"));
            tensors.linear("classifier1", [HIDDEN, 3 * HIDDEN]).linear("classifier2", [2, HIDDEN]);
        }
        "rnn" => {
            for suffix in ["", "_reverse"] {
                for (part, shape) in [
                    ("weight_ih", vec![72, 24]),
                    ("weight_hh", vec![72, 24]),
                    ("bias_ih", vec![72]),
                    ("bias_hh", vec![72]),
                ] {
                    let values = noise(shape.iter().product(), 3);
                    tensors.0.insert(format!("rnn.{part}_l0{suffix}"), Array { shape, values });
                }
            }
        }
        _ => return build("DNABertForSequenceClassification", tensors, Precision::F32),
    }
    build("BertForLongSequenceClassification", tensors, Precision::F32)
}

#[test]
fn long_heads_read_pieces_that_are_computed_apart() {
    let bases: Vec<u8> = (0..1300).map(|place| b"ACGT"[place * place % 11 % 4]).collect();
    for kind in ["mean", "cat", "rnn"] {
        let model = long(kind);
        let tokens = model.tokens(&Input::of(&bases)).unwrap().into_owned();
        assert_eq!(tokens.len(), 1298 + 3 * 2);
        let classifier = model.classifier().unwrap();
        let pooled: Vec<f32> = tokens
            .chunks(512)
            .flat_map(|piece| {
                classifier.pool(&last(model.encoder().processor().unwrap(), Sequence::of(piece))[..HIDDEN])
            })
            .collect();
        let found = predict(&model, std::slice::from_ref(&bases), &Wanted::default()).remove(0).logits;
        assert_eq!(found, classifier.logits(&pooled), "{kind}");
    }
}

#[test]
fn a_short_sequence_before_a_long_head_is_followed_by_padding() {
    let model = long("cat");
    let tokens = model.tokens(&Input::of(b"ACGTAC")).unwrap().into_owned();
    let classifier = model.classifier().unwrap();
    let pool = |tokens: &[u32]| {
        classifier.pool(&last(model.encoder().processor().unwrap(), Sequence::of(tokens))[..HIDDEN])
    };
    let padding = pool(&[0; 512]);
    let pooled = [pool(&tokens), padding.clone(), padding].concat();
    assert_eq!(
        predict(&model, &[b"ACGTAC".to_vec()], &Wanted::default())[0].logits,
        classifier.logits(&pooled)
    );
}

#[test]
fn long_heads_read_no_more_pieces_than_they_have() {
    let model = long("rnn");
    let answer =
        |bases: usize| model.predict(&[Input::of(&vec![b'C'; bases])], &Wanted::default()).unwrap().remove(0);
    // Three full pieces; the tokenizer adds an empty one, as the original does before it cuts it off.
    assert!(answer(3 * 510 + 2).is_ok());
    assert_eq!(answer(3 * 510 + 3), Err(Misfit::TooLong));
    let wanted = Wanted { attentions: Some(Attentions::All), ..Wanted::default() };
    assert!(model.outputs(&wanted).unwrap_err().to_string().contains("in pieces"));
}

#[test]
fn a_model_without_a_head_says_what_can_be_asked_of_it() {
    let mut tensors = dnabert_tensors();
    tensors.0.retain(|name, _| name.starts_with("bert."));
    // A base model saved alone has no prefix.
    tensors.0 = tensors.0.into_iter().map(|(name, array)| (name.replacen("bert.", "", 1), array)).collect();
    let model = build("BertModel", tensors, Precision::F32);
    assert!(model.labels().is_empty());
    assert!(model.outputs(&Wanted::default()).unwrap_err().to_string().contains("embeddings"));
    assert!(model.outputs(&everything(Likelihood::Masked)).unwrap_err().to_string().contains("ForMaskedLM"));
    let wanted = Wanted { embedding: Some(Pooling::Cls), ..Wanted::default() };
    let found = predict(&model, &[b"ACGTA".to_vec()], &wanted).remove(0);
    assert_eq!((found.logits.len(), found.embedding.unwrap().len()), (0, HIDDEN));
}

#[test]
fn lower_precision_stays_near() {
    let logits = |precision| -> Vec<f32> {
        let model = build("BertForSequenceClassification", dnabert_tensors(), precision);
        predict(&model, &sequences(), &Wanted::default())
            .into_iter()
            .flat_map(|scores| scores.logits)
            .collect()
    };
    let exact = logits(Precision::F32);
    let size: f32 = exact.iter().map(|x| x.abs()).sum();
    for (precision, tolerance) in [(Precision::Bf16, 0.05), (Precision::Int8, 0.25)] {
        let error: f32 = logits(precision).iter().zip(&exact).map(|(a, b)| (a - b).abs()).sum();
        assert!(error > 0.0 && error / size < tolerance, "{precision:?}: {}", error / size);
    }
}

#[test]
fn what_tokens_contribute_is_of_all_pieces_of_a_long_sequence() {
    let model = build("DNABertForSequenceClassification", dnabert_tensors(), Precision::F32);
    let sequence: Vec<u8> = (0..700).map(|place| b"ACGT"[(place * place + place / 3) % 31 % 4]).collect();
    let logit = f64::from(predict(&model, std::slice::from_ref(&sequence), &Wanted::default())[0].logits[1]);
    let (language, reader) = model.language().unwrap();
    let share = language.explain(&sequence, 1, &Background::Zeros, TokenWay::Rescale, reader).unwrap();
    assert!((share.logit - logit).abs() < 1e-4, "{} is not {logit}", share.logit);
    let (sum, difference) =
        (share.contributions.iter().sum::<f64>(), share.logit - share.logit_of_background);
    assert!((sum - difference).abs() < 1e-3 * difference.abs(), "{sum} of {difference}");
    // The first of the two pieces has about 512 bases.
    let share_of = |bases: &[f64]| bases.iter().map(|value| value.abs()).sum::<f64>();
    assert!(share_of(&share.contributions[..500]) > 1e-3 && share_of(&share.contributions[600..]) > 1e-3);
    for kind in ["cat", "rnn"] {
        let error = long(kind).explain(&sequence, 1, &Background::Zeros, TokenWay::Norm, reader).unwrap_err();
        assert!(error.to_string().contains("--method ism"), "{error}");
    }
}
