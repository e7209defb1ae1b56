use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::testing::{arrays, shared};
use super::super::weights::Array;
use super::*;
use crate::kernel::testing::noise;

fn array(shape: &[usize], seed: u64) -> Array {
    Array { shape: shape.to_vec(), values: noise(shape.iter().product(), seed) }
}

fn base(tensors: &[(&str, Array)]) -> Weights {
    Weights::collect(
        Path::new("base"),
        tensors.iter().map(|(name, array)| (name.to_string(), array.clone())).collect(),
    )
}

/// An adapter directory; `changes` go into its config.
fn adapter(changes: Value, tensors: &[(&str, Array)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut config =
        json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["query", "dense"] });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    std::fs::write(directory.path().join("adapter_config.json"), config.to_string()).unwrap();
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, array)| array.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, array), bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, array.shape.clone(), bytes);
        (format!("base_model.model.{name}"), view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(directory.path().join("adapter_model.safetensors"), bytes).unwrap();
    directory
}

/// W + scale·B·A, element by element.
fn naive(weight: &Array, a: &Array, b: &Array, scale: f64) -> Vec<f32> {
    let (columns, rank) = (weight.shape[1], a.shape[0]);
    let element = |index: usize| {
        let (row, column) = (index / columns, index % columns);
        let products = (0..rank)
            .map(|k| f64::from(b.values[row * rank + k]) * f64::from(a.values[k * a.shape[1] + column]));
        (f64::from(weight.values[index]) + scale * products.sum::<f64>()) as f32
    };
    (0..weight.values.len()).map(element).collect()
}

fn transposed(array: &Array) -> Array {
    let [rows, columns] = array.shape[..] else { panic!("two axes") };
    let values = (0..rows * columns).map(|i| array.values[i % rows * columns + i / rows]).collect();
    Array { shape: vec![columns, rows], values }
}

fn message(result: Result<Weights>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn the_adapters_of_peft_merge_as_their_formula_says() {
    for (base, adapter, modules) in
        [("dnabert2_tiny", "dnabert2_tiny_lora", 4), ("nt_v2_tiny", "nt_v2_tiny_lora", 19)]
    {
        let Some(folder) = shared(&format!("golden/models/{adapter}")) else { return };
        let plain = Weights::open(&shared(&format!("golden/models/{base}")).unwrap()).unwrap();
        let merged = merge(&plain, &folder).unwrap();
        let given = arrays(&Weights::read(&folder.join("adapter_model.safetensors")).unwrap());
        let (before, after) = (arrays(&plain), arrays(&merged));
        let mut adapted = 0;
        for (name, array) in &before {
            let part =
                |part: &str| given.get(&format!("base_model.model.{}.{part}", name.strip_suffix(".weight")?));
            let own = given.get(&format!("base_model.model.{name}")).or_else(|| {
                let (module, last) = name.rsplit_once('.')?;
                given.get(&format!("base_model.model.{module}.base_layer.{last}"))
            });
            let array = own.unwrap_or(array);
            let expected = match (part("lora_A.weight"), part("lora_B.weight")) {
                (Some(a), Some(b)) => {
                    adapted += 1;
                    naive(array, a, b, 2.0)
                }
                _ => array.values.clone(),
            };
            assert_eq!(after[name].values, expected, "{name}");
        }
        assert_eq!((adapted, before.len()), (modules, after.len()), "{adapter}");
        assert_ne!(plain.digest(), merged.digest());
    }
}

#[test]
fn scales_patterns_layouts_and_saved_modules_are_those_of_the_config() {
    let weight = array(&[4, 3], 1);
    let (a, b) = (array(&[2, 3], 2), array(&[4, 2], 3));
    let given = [("l.query.lora_A.weight", a.clone()), ("l.query.lora_B.default.weight", b.clone())];
    let check = |changes: Value, weight: &Array, expected: &[f32]| {
        let directory = adapter(changes, &given);
        let merged = merge(&base(&[("l.query.weight", weight.clone())]), directory.path()).unwrap();
        assert_eq!(merged.get("l.query.weight", &weight.shape).unwrap(), expected);
    };
    check(json!({}), &weight, &naive(&weight, &a, &b, 3.0));
    check(json!({ "use_rslora": true }), &weight, &naive(&weight, &a, &b, 6.0 / 2f64.sqrt()));
    check(json!({ "alpha_pattern": { "query": 1 } }), &weight, &naive(&weight, &a, &b, 0.5));
    check(json!({ "alpha_pattern": { "uery": 1 } }), &weight, &naive(&weight, &a, &b, 3.0));
    check(json!({ "r": 9, "rank_pattern": { r"l\.query": 2 } }), &weight, &naive(&weight, &a, &b, 3.0));
    check(json!({ "target_modules": r".*\.query" }), &weight, &naive(&weight, &a, &b, 3.0));
    let turned = transposed(&weight);
    let expected = transposed(&Array { shape: vec![4, 3], values: naive(&weight, &a, &b, 3.0) });
    check(json!({ "fan_in_fan_out": true }), &turned, &expected.values);
}

#[test]
fn embeddings_biases_and_heads_are_merged_under_the_names_of_the_base() {
    let table = array(&[5, 3], 1);
    let (a, b) = (array(&[2, 5], 2), array(&[3, 2], 3));
    let directory = adapter(
        json!({ "target_modules": ["words"], "modules_to_save": ["head"], "bias": "all" }),
        &[
            ("bert.words.lora_embedding_A", a.clone()),
            ("bert.words.lora_embedding_B", b.clone()),
            ("bert.out.bias", array(&[3], 4)),
            ("head.modules_to_save.default.weight", array(&[2, 3], 5)),
            ("head.original_module.weight", array(&[2, 3], 6)),
        ],
    );
    // A base model saved alone, without `bert.`.
    let plain = base(&[("words.weight", table.clone()), ("out.bias", array(&[3], 9))]);
    let merged = merge(&plain, directory.path()).unwrap();
    let expected = transposed(&Array { shape: vec![3, 5], values: naive(&transposed(&table), &a, &b, 3.0) });
    assert_eq!(merged.get("words.weight", &[5, 3]).unwrap(), expected.values);
    assert_eq!(merged.get("out.bias", &[3]).unwrap(), noise(3, 4));
    assert_eq!(merged.get("head.weight", &[2, 3]).unwrap(), noise(6, 5));
    assert_eq!(merged.tensors().len(), 3);
}

#[test]
fn an_adapter_of_another_model_is_refused_with_what_does_not_fit() {
    let pair = |inputs, rank| {
        [
            ("l.query.lora_A.weight", array(&[rank, inputs], 2)),
            ("l.query.lora_B.weight", array(&[4, rank], 3)),
        ]
    };
    let plain = base(&[("l.query.weight", array(&[4, 3], 1)), ("l.query.bias", array(&[4], 1))]);
    let refused = |changes: Value, tensors: &[(&str, Array)], expected: &str| {
        let message = message(merge(&plain, adapter(changes, tensors).path()));
        assert!(message.contains(expected), "{message}");
    };
    refused(
        json!({}),
        &pair(5, 2),
        "`l.query`: A [2, 5] and B [4, 2] of rank 2 do not fit the weight [4, 3]",
    );
    refused(json!({}), &pair(3, 1), "of rank 2");
    refused(json!({}), &pair(3, 2)[..1], "only one of");
    refused(json!({}), &[("l.query.bias", array(&[5], 1))], "that of the base is [4]");
    refused(json!({}), &[("l.other.bias", array(&[5], 1))], "the base has no `l.other.bias`");
    refused(json!({ "target_modules": ["uery"] }), &pair(3, 2), "target_modules");
    refused(json!({ "target_modules": "query" }), &pair(3, 2), "target_modules");
    refused(json!({ "use_dora": true }), &pair(3, 2), "a DoRA adapter");
    refused(json!({ "peft_type": "IA3" }), &pair(3, 2), "a IA3 adapter");
    let other = [("x.dense.lora_A.weight", array(&[2, 3], 2)), ("x.dense.lora_B.weight", array(&[4, 2], 3))];
    refused(json!({}), &other, "belongs to another model");
    let head = [
        ("classifier.dense.lora_A.weight", array(&[2, 3], 2)),
        ("classifier.dense.lora_B.weight", array(&[4, 2], 3)),
    ];
    refused(json!({}), &head, "cannot be had back");
    let nothing = tempfile::tempdir().unwrap();
    assert!(message(merge(&plain, nothing.path())).contains("not a PEFT adapter directory"));
}

#[test]
fn a_doubtful_base_is_named() {
    let head = [
        ("classifier.dense.lora_A.weight", array(&[2, 3], 2)),
        ("classifier.dense.lora_B.weight", array(&[4, 2], 3)),
    ];
    let directory = adapter(json!({ "base_model_name_or_path": "org/DNABERT-2" }), &head);
    let adapter = Adapter::read(directory.path()).unwrap();
    let plain = base(&[("classifier.dense.weight", array(&[4, 3], 1))]);
    assert_eq!(adapter.doubts(&plain, "models/dnabert-2/").len(), 1);
    let doubts = adapter.doubts(&plain, "other");
    assert!(
        doubts[0].contains("trained on org/DNABERT-2") && doubts[1].contains("classifier.dense.weight"),
        "{doubts:?}"
    );
}

#[test]
fn a_classifier_trained_on_a_masked_language_model_is_a_classifier() {
    let directory = adapter(json!({ "task_type": "SEQ_CLS" }), &[]);
    let adapter = Adapter::read(directory.path()).unwrap();
    assert_eq!(adapter.config(&Config::new("EsmForMaskedLM")).architecture(), "EsmForSequenceClassification");
    assert_eq!(adapter.config(&Config::new("DeepBind")).architecture(), "DeepBind");
}
