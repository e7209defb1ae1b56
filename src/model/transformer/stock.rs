//! Stock architectures against transformers' own numbers: `tests/golden/stock_models.json`, which
//! `tests/python/stock_models.py` makes.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::testing::{check_parity, hashed};
use super::super::{Input, Likelihood, Loaded, Opened, Pooling, Scores, Wanted};
use crate::kernel::Precision;

/// What every number is held to.
const TOLERANCE: f32 = 1e-4;

pub fn golden() -> Value {
    serde_json::from_str(include_str!("../../../tests/golden/stock_models.json")).unwrap()
}

/// Writes the directory of a model as transformers would.
pub fn directory(golden: &Value, model: &Value) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &Value| {
        std::fs::write(directory.path().join(name), content.to_string()).unwrap();
    };
    write("config.json", &model["config"]);
    write("tokenizer.json", &golden["tokenizers"][model["tokenizer"].as_str().unwrap()]);
    let tensors = hashed(&model["tensors"], golden["amp"].as_f64().unwrap() as f32, 1.0);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = (tensors.into_iter())
        .map(|(name, array)| {
            (name, array.shape, array.values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let kind = safetensors::Dtype::F32;
        (name, safetensors::tensor::TensorView::new(kind, shape.clone(), bytes).unwrap())
    });
    std::fs::write(directory.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap())
        .unwrap();
    directory
}

fn load(directory: &Path, precision: Precision) -> Loaded {
    let opened = Opened::read(directory).unwrap();
    let loaded = opened.build(&candle_core::Device::Cpu, precision).unwrap();
    assert_eq!(opened.weights.unused(), [""; 0]);
    loaded
}

fn predict(loaded: &Loaded, sequences: &[&str], wanted: &Wanted) -> Vec<Scores> {
    let rows: Vec<Input> = sequences.iter().map(|bases| Input::of(bases.as_bytes())).collect();
    loaded.model.predict(&rows, wanted).unwrap().into_iter().map(Result::unwrap).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn sequences(golden: &Value) -> Vec<&str> {
    golden["sequences"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Returns a number of every row, end to end, where the reference has it.
fn expected(model: &Value, name: &str) -> Option<Vec<f32>> {
    let rows = model["rows"].as_array().unwrap();
    rows[0].get(name)?;
    Some(rows.iter().flat_map(|row| floats(&row[name])).collect())
}

/// Checks everything that the reference has of a model.
fn check(model: &Value, sequences: &[&str], loaded: &Loaded) {
    let name = loaded.architecture.as_str();
    let ids = |row: &Value| -> Vec<u32> { serde_json::from_value(row["ids"].clone()).unwrap() };
    for (sequence, row) in sequences.iter().zip(model["rows"].as_array().unwrap()) {
        assert_eq!(loaded.model.tokenizer().unwrap().encode(sequence, None).unwrap().ids, ids(row));
    }
    let compare = |what: &str, wanted: Wanted, found: fn(Scores) -> Vec<f32>, key: &str| {
        let Some(expected) = expected(model, key) else { return };
        let found: Vec<f32> = predict(loaded, sequences, &wanted).into_iter().flat_map(found).collect();
        check_parity(name, what, "f32", [&found, &expected], TOLERANCE);
    };
    for (pooling, key) in [(Pooling::Mean, "mean"), (Pooling::Last, "last")] {
        let wanted = Wanted { embedding: Some(pooling), ..Wanted::default() };
        compare(&format!("{key} embedding"), wanted, |scores| scores.embedding.unwrap(), key);
    }
    for likelihood in [Likelihood::Causal, Likelihood::Masked, Likelihood::Unmasked] {
        let wanted = Wanted { likelihood: Some(likelihood), ..Wanted::default() };
        let what = format!("{} log-likelihoods", likelihood.name());
        compare(&what, wanted, |scores| scores.likelihoods.unwrap(), likelihood.name());
    }
    compare("logits", Wanted::default(), |scores| scores.logits, "logits");
}

#[test]
fn stock_architectures_give_the_numbers_of_transformers() {
    let golden = golden();
    let models = golden["models"].as_array().unwrap();
    assert_eq!(models.len(), 8);
    for model in models {
        let directory = directory(&golden, model);
        check(model, &sequences(&golden), &load(directory.path(), Precision::F32));
    }
}

#[test]
fn configs_of_older_transformers_mean_the_same() {
    let golden = golden();
    for model in golden["models"].as_array().unwrap() {
        let mut old = model.clone();
        let config = old["config"].as_object_mut().unwrap();
        let rope = config.remove("rope_parameters").unwrap();
        config.remove("layer_types");
        if config["model_type"] == "modernbert" {
            config.insert("global_rope_theta".into(), rope["full_attention"]["rope_theta"].clone());
            config.insert("local_rope_theta".into(), rope["sliding_attention"]["rope_theta"].clone());
            config.insert("global_attn_every_n_layers".into(), json!(3));
        } else {
            config.insert("rope_theta".into(), rope["rope_theta"].clone());
            config.insert("rope_scaling".into(), Value::Null);
        }
        let directory = directory(&golden, &old);
        check(&old, &sequences(&golden), &load(directory.path(), Precision::F32));
    }
}

#[test]
fn neither_batch_nor_precision_lets_a_row_depend_on_another() {
    let golden = golden();
    let sequences = sequences(&golden);
    for model in golden["models"].as_array().unwrap() {
        let directory = directory(&golden, model);
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            let loaded = load(directory.path(), precision);
            let wanted = Wanted { embedding: Some(Pooling::Last), ..Wanted::default() };
            let together = predict(&loaded, &sequences, &wanted);
            for (sequence, together) in sequences.iter().zip(&together) {
                assert_eq!(&predict(&loaded, &[sequence], &wanted)[0], together, "{}", loaded.architecture);
            }
        }
    }
}

#[test]
fn a_causal_model_has_causal_likelihoods_and_no_others() {
    let golden = golden();
    let refusal = |index: usize, likelihood: Likelihood| {
        let directory = directory(&golden, &golden["models"][index]);
        let wanted = Wanted { likelihood: Some(likelihood), ..Wanted::default() };
        load(directory.path(), Precision::F32).model.outputs(&wanted).err().map(|error| error.to_string())
    };
    assert!(refusal(0, Likelihood::Masked).unwrap().contains("causal"));
    assert!(refusal(0, Likelihood::Unmasked).unwrap().contains("causal"));
    assert_eq!(refusal(0, Likelihood::Causal), None);
    assert!(refusal(1, Likelihood::Causal).unwrap().contains("ForCausalLM"));
    assert!(refusal(5, Likelihood::Causal).unwrap().contains("both sides"));
    assert_eq!(refusal(5, Likelihood::Masked), None);
}

#[test]
fn what_is_not_computed_is_refused_by_its_name() {
    let golden = golden();
    let message = |index: usize, key: &str, value: Value| {
        let mut model = golden["models"][index].clone();
        model["config"][key] = value;
        let directory = directory(&golden, &model);
        let opened = Opened::read(directory.path()).unwrap();
        opened.build(&candle_core::Device::Cpu, Precision::F32).err().unwrap().to_string()
    };
    let scaled = json!({"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0});
    assert!(message(0, "rope_parameters", scaled).contains("`llama3`"));
    assert!(message(0, "num_key_value_heads", json!(3)).contains("3 of keys"));
    assert!(message(0, "hidden_act", json!("xielu")).contains("`xielu`"));
    assert!(message(6, "classifier_pooling", json!("max")).contains("`max`"));
    assert!(message(5, "num_attention_heads", json!(3)).contains("3 heads"));
}
