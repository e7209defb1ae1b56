use std::collections::BTreeMap;

use super::super::testing::*;
use super::super::weights::{Array, Weights};
use super::super::{Config, Precision};
use super::*;
use crate::kernel::testing::flat;
use crate::npy::Npz;

const HIDDEN: usize = 96;

/// Returns the tensors of convolutions over small hidden states, as the golden head names and fills its own.
fn head() -> Option<BTreeMap<String, Array>> {
    let hashed = hashed_weights(&shared("golden/models/bert_tfbs_head")?);
    let named = |(name, tensor): (&String, _)| -> Option<(String, Array)> {
        let _ = &tensor;
        let shape = hashed.any(name).ok()?.shape.clone();
        let (shape, values) = match name.as_str() {
            "linear1.weight" => {
                let values = hash_uniform(name, 180 * 180 * HIDDEN).into_iter().map(|x| 0.02 * x).collect();
                (vec![180, 180 * HIDDEN], values)
            }
            _ => (shape.clone(), hashed.get(name, &shape).ok()?.to_vec()),
        };
        Some((format!("model.{name}"), Array { shape, values }))
    };
    Some(hashed.tensors().iter().filter_map(named).collect())
}

/// Loads the golden DNABERT-2 with the convolutions behind it.
pub fn model() -> Option<Box<dyn Model>> {
    let folder = shared("golden/models/dnabert2_tiny")?;
    let mut weights = Weights::read(&folder.join("model.safetensors")).unwrap();
    for (name, tensor) in head()? {
        weights = weights.with_tensor(&name, tensor);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text(&folder.join("config.json"))).unwrap();
    config["architectures"] = serde_json::json!([NAME]);
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let tokenizer = shared("data/tokenizers/dnabert2/tokenizer.json").unwrap();
    std::fs::write(directory.path().join("tokenizer.json"), std::fs::read(tokenizer).unwrap()).unwrap();
    let config = Config::read(directory.path()).unwrap();
    let source = Source {
        directory: directory.path(),
        config: &config,
        weights: &weights,
        precision: Precision::F32,
        gpu: None,
    };
    Some(load(&source).unwrap())
}

#[test]
fn the_whole_model_is_the_convolutions_on_the_hidden_states_of_the_reference() {
    let Some(model) = model() else { return };
    let mut golden = Npz::open(&shared("golden/models/dnabert2_tiny/golden.npz").unwrap()).unwrap();
    let mut numbers = |name: &str| golden.numbers::<f32>(name).unwrap().values;
    let (ids, mask, states) = (numbers("input_ids"), numbers("attention_mask"), numbers("hidden_states"));
    let count = ids.len() / 30;
    let last = &states[2 * count * 30 * HIDDEN..];
    let rows: Vec<Vec<u32>> = (ids.chunks(30).zip(mask.chunks(30)))
        .map(|(ids, mask)| {
            ids.iter().zip(mask).filter(|(_, m)| **m == 1.0).map(|(&id, _)| id as u32).collect()
        })
        .collect();
    assert!(rows.iter().any(|row| row.len() < 30), "no row is padded");
    let inputs: Vec<Input> = rows.iter().map(|row| Input { tokens: Some(row), ..Input::of(b"A") }).collect();
    let answers = model.predict(&inputs, &Wanted::default()).unwrap();
    let weights = Weights::collect(std::path::Path::new("head"), head().unwrap());
    let cnn = Cnn::load(&weights.under("model.")).unwrap();
    let (mut logits, mut references) = (Vec::new(), Vec::new());
    for (row, (input, answer)) in inputs.iter().zip(&answers).enumerate() {
        let answer = answer.as_ref().unwrap();
        let mut image = vec![0.0; 30 * HIDDEN];
        let used = rows[row].len() * HIDDEN;
        image[..used].copy_from_slice(&last[row * 30 * HIDDEN..][..used]);
        let image = Tensor::from_vec(image, (1, 30, HIDDEN), &Device::Cpu).unwrap();
        let expected = flat(&cnn.forward(&image).unwrap());
        logits.extend_from_slice(&answer.logits);
        references.extend(expected);
        let sum: f32 = answer.probs.as_ref().unwrap().iter().sum();
        assert!((sum - 1.0).abs() < 1e-6);
        // Alone it has the same numbers.
        let alone = model.predict(&[*input], &Wanted::default()).unwrap();
        assert_eq!(alone[0].as_ref().unwrap(), answer);
    }
    let what = "logits, of the reference's hidden states through the same head";
    check_parity("BERT-TFBS", what, "f32", [&logits, &references], 1e-4);
}

#[test]
fn more_tokens_than_the_convolutions_read_are_too_long() {
    let Some(model) = model() else { return };
    let short: Vec<u8> = b"ACGT".repeat(5);
    let long: Vec<u8> = b"ACGNTTAGC".repeat(60);
    let answers = model.predict(&[Input::of(&long), Input::of(&short)], &Wanted::default()).unwrap();
    assert_eq!(answers[0], Err(Misfit::TooLong));
    assert_eq!(answers[1].as_ref().unwrap().logits.len(), 2);
    assert_eq!((model.token_limit(), model.window()), (Some(30), None));
    let error = model.outputs(&Wanted { embedding: Some(super::super::Pooling::Cls), ..Wanted::default() });
    assert_eq!(error.unwrap_err().exit_status(), 2);
}
