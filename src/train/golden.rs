//! Gradients and one step of every network against PyTorch's, which `scripts/torch_gradients.py` wrote down.

use std::path::Path;

use serde_json::Value;

use super::optimizer::{self, Betas, Decaying, Gradients, Optimizer, Rule};
use crate::kernel::learn::{loss, read};
use crate::model::graph::{DAedNet, DanQ, DeepBind, DeepSnr, Graph, Initial, Parameters, Pass};
use crate::model::testing::hash_uniform;
use crate::model::weights::Array;

/// Numbers of a tensor that are written down, besides its norm.
const SHOWN: usize = 6;

/// Gives every tensor the numbers of its name, as the script does.
fn filled(graph: &dyn Graph, amplitude: f32) -> Parameters {
    let mut initial = Initial::new(0);
    graph.initial(&mut initial);
    let mut parameters = initial.finish();
    let mut snapshot = parameters.snapshot().unwrap();
    for (name, array) in &mut snapshot {
        let (centre, spread) = match array.shape.len() {
            1 if name.ends_with("weight") || name.ends_with("running_var") => (1.0, 0.2),
            1 => (0.0, 0.1),
            _ => (0.0, amplitude),
        };
        array.values = hash_uniform(name, array.values.len()).iter().map(|x| centre + spread * x).collect();
    }
    parameters.restore(&snapshot).unwrap();
    parameters
}

/// Returns the norm of a tensor and some of its numbers, evenly taken.
fn shown(values: &[f32]) -> Vec<f64> {
    let norm = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let step = (values.len() / SHOWN).max(1);
    [norm].into_iter().chain(values.iter().step_by(step).take(SHOWN).map(|&x| f64::from(x))).collect()
}

fn check(what: &str, found: &[f32], expected: &Value, tolerance: f64) {
    let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let found = shown(found);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!(
            (found - expected).abs() < tolerance * expected.abs().max(1.0),
            "{what}: {found} is not {expected}"
        );
    }
}

#[test]
fn gradients_and_a_step_are_those_of_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch_gradients.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let graphs: [&dyn Graph; 4] = [&DeepBind, &DanQ, &DeepSnr, &DAedNet];
    for graph in graphs {
        let name = graph.architecture();
        let case = &cases[name];
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let (length, targets) = (number("length"), number("targets"));
        let mut parameters = filled(graph, case["amplitude"].as_f64().unwrap() as f32);
        let bases = hash_uniform(&format!("{name}.input"), 6 * length);
        let bases: Vec<u8> = bases.iter().map(|x| b"ACGT"[(((x + 1.0) * 2.0) as usize).min(3)]).collect();
        let rows: Vec<&[u8]> = bases.chunks(length).collect();
        let labels = hash_uniform(&format!("{name}.labels"), 6 * targets);
        let labels: Vec<f32> = labels.iter().map(|&x| f32::from(u8::from(x > 0.0))).collect();
        let mut pass = Pass::without_dropout(&parameters);
        let logits = graph.logits(&graph.encode(&rows).unwrap(), &mut pass).unwrap();
        let loss = loss::binary_mean(&logits, &labels).unwrap();
        let seen = pass.finish();
        let value = f64::from(loss.to_scalar::<f32>().unwrap());
        assert!((value - case["loss"].as_f64().unwrap()).abs() < 1e-5, "{name}: {value}");
        let mut store = loss.backward().unwrap();
        let gradients: Gradients = (parameters.trained())
            .map(|(name, variable)| (name.into(), store.remove(variable.as_tensor()).expect(name)))
            .collect();
        seen.keep(&mut parameters);
        let expected = case["gradients"].as_object().unwrap();
        assert_eq!(gradients.keys().collect::<Vec<_>>(), {
            let mut names: Vec<&String> = expected.keys().collect();
            names.sort();
            names
        });
        for (tensor, gradient) in &gradients {
            let values = read(gradient, <[f32]>::to_vec).unwrap();
            check(&format!("{name}: gradient of {tensor}"), &values, &expected[tensor], 1e-4);
        }
        assert!(optimizer::norm(&gradients).unwrap() > 1e-3);
        let rule = Rule::AdamW(Betas { epsilon: 1e-4, ..Betas::default() });
        Optimizer::new(rule, 0.01, Decaying::All).step(&parameters, &gradients, 1e-3).unwrap();
        let after = parameters.snapshot().unwrap();
        assert_eq!(after.len(), case["after"].as_object().unwrap().len());
        for (tensor, Array { values, .. }) in &after {
            check(&format!("{name}: {tensor} after a step"), values, &case["after"][tensor], 1e-5);
        }
    }
}
