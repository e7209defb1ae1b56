use super::super::testing::*;
use super::super::weights::Array;
use super::super::{Config, Precision};
use super::*;
use crate::kernel::testing::noise;
use crate::npy::Npz;

const HIDDEN: usize = 64;

/// Returns the golden DNABERT of 6-mers with heads of noise, reading 64 tokens.
pub fn model(window: usize) -> Option<Result<Box<dyn Model>>> {
    let folder = shared("golden/models/dnabert1_tiny")?;
    let mut weights = Weights::read(&folder.join("model.safetensors")).unwrap();
    for (seed, name) in [(1, "classifier_sequence.0"), (2, "classifier_token.0")] {
        let weight = Array { shape: vec![1, HIDDEN], values: noise(HIDDEN, seed) };
        weights = weights.with_tensor(&format!("{name}.weight"), weight);
        let bias = Array { shape: vec![1], values: vec![seed as f32 / 4.0] };
        weights = weights.with_tensor(&format!("{name}.bias"), bias);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text(&folder.join("config.json"))).unwrap();
    config["architectures"] = serde_json::json!([NAME]);
    config["window"] = window.into();
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let config = Config::read(directory.path()).unwrap();
    let source = Source {
        directory: directory.path(),
        config: &config,
        weights: &weights,
        precision: Precision::F32,
        gpu: None,
    };
    Some(load(&source))
}

fn sigmoid_of(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn product(states: &[f32], seed: u64) -> f64 {
    let products = states.iter().zip(noise(HIDDEN, seed)).map(|(&a, b)| f64::from(a) * f64::from(b));
    products.sum::<f64>() + seed as f64 / 4.0
}

#[test]
fn both_heads_read_the_states_of_the_reference() {
    let Some(golden) = shared("golden/models/dnabert1_tiny/golden.npz") else { return };
    let mut golden = Npz::open(&golden).unwrap();
    let mut numbers = |name: &str| golden.numbers::<f32>(name).unwrap().values;
    let (ids, mask) = (numbers("input_ids"), numbers("attention_mask"));
    let (pooled, states) = (numbers("pooled"), numbers("hidden_states"));
    let last = &states[3 * 4 * 64 * HIDDEN..];
    let (mut logits, mut references) = (Vec::new(), Vec::new());
    let (mut bases_found, mut bases_expected) = (Vec::new(), Vec::new());
    for row in 0..4 {
        let used = mask[row * 64..][..64].iter().filter(|used| **used == 1.0).count();
        // The rows differ in length, so each has a model of its own.
        let model = model(used - 2 + 5).unwrap().unwrap();
        let tokens: Vec<u32> = ids[row * 64..][..used].iter().map(|&id| id as u32).collect();
        let input = Input { tokens: Some(&tokens), ..Input::of(b"A") };
        let answer = model.predict(&[input, input], &Wanted::default()).unwrap();
        assert_eq!(answer[0], answer[1]);
        let scores = answer[0].as_ref().unwrap();
        let logit = product(&pooled[row * HIDDEN..][..HIDDEN], 1);
        logits.push(scores.logits[0]);
        references.push(logit as f32);
        assert!((f64::from(scores.probs.as_ref().unwrap()[0]) - sigmoid_of(logit)).abs() < 1e-4);
        let states = &last[(row * 64 + 1) * HIDDEN..][..(used - 2) * HIDDEN];
        let tokens: Vec<f32> =
            states.chunks(HIDDEN).map(|state| sigmoid_of(product(state, 2)) as f32).collect();
        let expected = bases::of_tokens(&tokens, 6);
        let found = scores.base_scores.as_ref().unwrap();
        assert_eq!(found.len(), used - 2 + 5);
        // A token at the threshold may fall on either side of it.
        let near = tokens.iter().any(|token| (token - 0.5).abs() < 1e-4);
        if !near {
            bases_found.extend_from_slice(found);
            bases_expected.extend(expected);
        }
    }
    let what = "logits, of the reference's states through the formula of the heads";
    check_parity("BertSNR", what, "f32", [&logits, &references], 1e-4);
    check_parity("BertSNR", "base scores, likewise", "f32", [&bases_found, &bases_expected], 1e-4);
}

#[test]
fn rows_of_bases_have_a_score_for_each_and_one_length() {
    let Some(model) = model(40) else { return };
    let model = model.unwrap();
    assert_eq!(model.window(), Some(40));
    let bases = [b"ACGTTGCATC".repeat(4), b"TTGACCNGAT".repeat(4), b"ACGT".repeat(11), b"ACGTACG".to_vec()];
    let inputs: Vec<Input> = bases.iter().map(|bases| Input::of(bases)).collect();
    let answers = model.predict(&inputs, &Wanted::default()).unwrap();
    for (row, answer) in answers[..2].iter().enumerate() {
        let answer = answer.as_ref().unwrap();
        assert_eq!(answer.base_scores.as_ref().unwrap().len(), 40);
        assert_eq!(
            model.predict(&inputs[row..row + 1], &Wanted::default()).unwrap()[0].as_ref().unwrap(),
            answer
        );
    }
    assert_eq!(answers[2..], [Err(Misfit::TooLong), Err(Misfit::TooShort)]);
    let logits = Wanted { logits_only: true, ..Wanted::default() };
    let only = model.predict(&inputs[..1], &logits).unwrap().remove(0).unwrap();
    assert_eq!((only.logits.clone(), only.base_scores), (answers[0].as_ref().unwrap().logits.clone(), None));
}

#[test]
fn a_window_that_the_encoder_cannot_read_is_refused() {
    let Some(model) = model(5) else { return };
    assert!(model.err().unwrap().to_string().contains("no 6-mer"));
    let error = super::tests::model(5000).unwrap().err().unwrap().to_string();
    assert!(error.contains("the encoder reads"), "{error}");
}
