//! Gradients and one step of every network against PyTorch's, which `scripts/torch_gradients.py` wrote down.

use std::path::Path;

use candle_core::Tensor;
use serde_json::Value;

use super::callers::{CallTask, Called};
use super::cells::{CellTask, Stage};
use super::language::{Body, ClassTask, Head, Labelled};
use super::optimizer::{self, Betas, Decaying, Gradients, Optimizer, Rule};
use super::{Examples, Task};
use crate::kernel::learn::leaf::backward;
use crate::kernel::learn::{loss, read, tensor};
use crate::model::config::Config;
use crate::model::graph::{
    CellTypes, Convolutions, DAedNet, DanQ, DeepBind, DeepSnr, Graph, Initial, Parameters, Pass,
    ResidualLayers, ToldCell,
};
use crate::model::testing::hash_uniform;
use crate::model::transformer::graph::EncoderGraph;
use crate::model::weights::Array;

/// Numbers of a tensor that are written down, besides its norm.
const SHOWN: usize = 6;

/// Gives every tensor the numbers of its name, as the script does.
fn fill(parameters: &mut Parameters, amplitude: f32) {
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
}

fn drawn(draw: impl FnOnce(&mut Initial)) -> Parameters {
    let mut initial = Initial::new(0);
    draw(&mut initial);
    initial.finish()
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

fn cases() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch_gradients.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Checks loss, gradients, statistics and one step of a network from the numbers of its names.
fn check_case(name: &str, mut parameters: Parameters, loss: impl FnOnce(&mut Pass) -> crate::Result<Tensor>) {
    let case = &cases()[name];
    fill(&mut parameters, case["amplitude"].as_f64().unwrap() as f32);
    let mut pass = Pass::without_dropout(&parameters);
    let loss = loss(&mut pass).unwrap();
    let seen = pass.finish();
    let value = f64::from(loss.to_scalar::<f32>().unwrap());
    assert!((value - case["loss"].as_f64().unwrap()).abs() < 1e-5, "{name}: {value}");
    let mut found = backward(&loss).unwrap();
    let gradients: Gradients = (parameters.trained())
        .filter_map(|(name, variable)| Some((name.into(), found.take(variable.as_tensor()).unwrap()?)))
        .collect();
    seen.keep(&mut parameters);
    let expected = case["gradients"].as_object().unwrap();
    let mut names: Vec<&String> = expected.keys().collect();
    names.sort();
    assert_eq!(gradients.keys().collect::<Vec<_>>(), names, "{name}");
    for (tensor, gradient) in &gradients {
        let values = read(gradient, <[f32]>::to_vec).unwrap();
        check(&format!("{name}: gradient of {tensor}"), &values, &expected[tensor], 1e-4);
    }
    assert!(optimizer::norm(&gradients).unwrap() > 1e-3);
    let rule = Rule::AdamW(Betas { epsilon: 1e-4, ..Betas::default() });
    Optimizer::new(rule, 0.01, Decaying::All).step(&parameters, &gradients, 1.0, 1e-3).unwrap();
    let after = parameters.snapshot().unwrap();
    assert_eq!(after.len(), case["after"].as_object().unwrap().len(), "{name}");
    for (tensor, Array { values, .. }) in &after {
        check(&format!("{name}: {tensor} after a step"), values, &case["after"][tensor], 1e-5);
    }
}

/// Returns sequences of the script's numbers.
fn bases(name: &str, length: usize) -> Vec<Vec<u8>> {
    let bases = hash_uniform(&format!("{name}.input"), 6 * length);
    let bases: Vec<u8> = bases.iter().map(|x| b"ACGT"[(((x + 1.0) * 2.0) as usize).min(3)]).collect();
    bases.chunks(length).map(<[u8]>::to_vec).collect()
}

/// Returns labels of the script's numbers.
fn labels(name: &str, count: usize) -> Vec<f32> {
    hash_uniform(&format!("{name}.labels"), count).iter().map(|&x| f32::from(u8::from(x > 0.0))).collect()
}

#[test]
fn gradients_and_a_step_of_networks_over_bases_are_those_of_pytorch() {
    let graphs: [&dyn Graph; 4] = [&DeepBind, &DanQ, &DeepSnr, &DAedNet];
    for graph in graphs {
        let name = graph.architecture();
        let case = &cases()[name];
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let sequences = bases(name, number("length"));
        let labels = labels(name, 6 * number("targets"));
        check_case(name, drawn(|initial| graph.initial(initial)), |pass| {
            let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
            loss::binary_mean(&graph.logits(&graph.encode(&rows)?, pass)?, &labels)
        });
    }
}

/// Returns six sequences with labels for three cell types, as a task, and the numbers of its batch: row modulo cell
/// types.
fn cells(name: &str, stage: Stage) -> (CellTask, Vec<usize>) {
    let labels = labels(name, 18).chunks(3).map(<[f32]>::to_vec).collect();
    let examples = Examples { sequences: bases(name, 60), labels, ..Examples::default() };
    (
        CellTask::new(stage, examples.clone(), examples, 3).unwrap(),
        (0..6).map(|row| row * 3 + row % 3).collect(),
    )
}

#[test]
fn gradients_and_a_step_of_both_stages_of_sigtfb_are_those_of_pytorch() {
    let first = CellTypes { window: 60, filters: 10, cells: 3, conv_deviation: 1.0, linear_deviation: 0.1 };
    let (task, batch) = cells("CellTypes", Stage::One(first));
    let parameters = drawn(|initial| first.initial(initial));
    let stage_1 = parameters.weights().unwrap();
    check_case("CellTypes", parameters, |pass| task.loss(&batch, pass));
    let second = ToldCell {
        window: 60,
        filters: 10,
        cells: 3,
        units: 5,
        neurons: 7,
        dropout: 0.0,
        linear_deviation: 0.1,
    };
    let (task, batch) = cells("ToldCell", Stage::Two(second));
    check_case("ToldCell", second.initial(&stage_1, 0).unwrap(), |pass| task.loss(&batch, pass));
}

#[test]
fn gradients_and_a_step_of_the_network_on_pairs_are_those_of_pytorch() {
    let network = ResidualLayers { inputs: 24, widths: [16, 12, 8], classes: 2, dropout: 0.0 };
    let features = tensor(hash_uniform("ResidualLayers.input", 6 * 24), (6, 24)).unwrap();
    let targets: Vec<Option<u32>> =
        labels("ResidualLayers", 6).into_iter().map(|label| Some(label as u32)).collect();
    check_case("ResidualLayers", drawn(|initial| network.initial(initial)), |pass| {
        loss::cross_entropy(&network.logits(&features, pass)?, &targets)
    });
}

/// Returns a small new encoder, and four sequences of ten tokens of the script's numbers.
fn encoder(name: &str, is_mosaic: bool) -> (Body, Parameters, Vec<Vec<u32>>) {
    let text = r#"{"architectures": ["BertModel"], "vocab_size": 69, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32, "layer_norm_eps": 1e-12}"#;
    let mut config: Config = serde_json::from_str(text).unwrap();
    if is_mosaic {
        config.rest.insert("alibi_starting_size".into(), 32.into());
    }
    let (graph, parameters) = EncoderGraph::fresh(&config, 0).unwrap();
    let number = |x: &f32| (((x + 1.0) / 2.0 * 64.0) as u32).min(63) + 5;
    let tokens: Vec<u32> = hash_uniform(&format!("{name}.input"), 40).iter().map(number).collect();
    let tokens = tokens.chunks(10).map(<[u32]>::to_vec).collect();
    (Body { graph, config, path: Default::default() }, parameters, tokens)
}

#[test]
fn gradients_and_a_step_of_transformers_and_bert_tfbs_are_those_of_pytorch() {
    let convolutions = Convolutions { tokens: 12, states: 16, classes: 2 };
    for (name, is_mosaic, head) in [
        ("Bert", false, Head::Own),
        ("MosaicBert", true, Head::Own),
        ("BertTfbs", true, Head::Convolutions(convolutions)),
    ] {
        let (body, mut parameters, tokens) = encoder(name, is_mosaic);
        match head {
            Head::Own => drop(body.graph.add_classifier(&mut parameters, 2, 0).unwrap()),
            Head::Convolutions(head) => {
                let mut initial = Initial::on(parameters, 0);
                head.initial(&mut initial);
                parameters = initial.finish();
            }
        }
        let classes: Vec<u32> = labels(name, 4).into_iter().map(|label| label as u32).collect();
        let set = || Labelled { tokens: tokens.clone(), classes: classes.clone() };
        let task = ClassTask { body, head, train: set(), dev: set(), batch: 4 };
        check_case(name, parameters, |pass| task.loss(&[0, 1, 2, 3], pass));
    }
}

#[test]
fn gradients_and_a_step_of_bertsnr_are_those_of_pytorch() {
    let (body, mut parameters, tokens) = encoder("BertSNR", false);
    body.graph.add_callers(&mut parameters, 0).unwrap();
    let bases: Vec<Vec<f32>> = labels("BertSNR", 40).chunks(10).map(<[f32]>::to_vec).collect();
    let set = || Called { tokens: tokens.clone(), bases: bases.clone() };
    let task = CallTask { body, width: 3, train: set(), dev: set(), batch: 4 };
    check_case("BertSNR", parameters, |pass| task.loss(&[0, 1, 2, 3], pass));
}
