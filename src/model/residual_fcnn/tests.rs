use super::super::testing::*;
use super::super::weights::Array;
use super::super::{Misfit, convert};
use super::*;
use crate::kernel::testing::{distance, flat, noise};
use crate::npy::Npz;

const RANGE: Range = Range { minimum: -2.0, maximum: 3.0 };

/// An encoder whose embedding is how often each base occurs, for sequences of at most six bases.
struct Counter;

impl Model for Counter {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        &[]
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        let embedding = if wanted.embedding.is_some() { 4 } else { 0 };
        Ok(Outputs { embedding, ..Outputs::default() })
    }

    fn predict(&self, rows: &[Input], _: &Wanted) -> Result<Vec<Answer>> {
        let answer = |row: &Input| match row.bases.len() {
            7.. => Err(Misfit::TooLong),
            _ => Ok(Scores { embedding: Some(counts(row.bases)), ..Scores::default() }),
        };
        Ok(rows.iter().map(answer).collect())
    }
}

fn counts(bases: &[u8]) -> Vec<f32> {
    b"ACGT".iter().map(|base| bases.iter().filter(|other| *other == base).count() as f32).collect()
}

fn tensor(shape: &[usize], seed: u64) -> Array {
    let values = noise(shape.iter().product(), seed);
    // A variance is no negative number.
    let values = if seed % 7 == 3 { values.into_iter().map(|x| x.abs() + 0.1).collect() } else { values };
    Array { shape: shape.into(), values }
}

/// Returns the tensors of PyTorch's module with few units.
fn weights() -> Weights {
    let mut tensors = std::collections::BTreeMap::new();
    let linear = [
        ("fc1", 5, 16),
        ("fc2", 4, 5),
        ("fc3", 3, 4),
        ("fc_out", 2, 3),
        ("residual1", 4, 16),
        ("residual2", 3, 4),
    ];
    for (seed, (name, outputs, inputs)) in (1..).zip(linear) {
        tensors.insert(format!("{name}.weight"), tensor(&[outputs, inputs], 7 * seed));
        tensors.insert(format!("{name}.bias"), tensor(&[outputs], 7 * seed + 1));
    }
    for (seed, (name, width)) in (100..).zip([("bn1", 5), ("bn2", 4), ("bn3", 3)]) {
        for (part, offset) in [("weight", 0), ("bias", 1), ("running_mean", 2), ("running_var", 3)] {
            tensors.insert(format!("{name}.{part}"), tensor(&[width], 7 * seed + offset));
        }
    }
    Weights::collect(Path::new("fcnn"), tensors)
}

fn model() -> ResidualFcnn {
    ResidualFcnn::new(Box::new(Counter), Pooling::Mean, RANGE, &Config::new(NAME), &weights()).unwrap()
}

/// A network on pairs, of noise.
pub fn noisy() -> Box<dyn Model> {
    Box::new(model())
}

fn pair<'a>(first: &'a [u8], second: &'a [u8]) -> Input<'a> {
    Input { second: Some(second), ..Input::of(first) }
}

#[test]
fn given_embeddings_have_the_features_and_logits_of_pytorch() {
    let Some(folder) = shared("golden/models/residual_fcnn") else { return };
    let mut golden = Npz::open(&folder.join("golden.npz")).unwrap();
    let mut numbers = |name: &str| golden.numbers::<f32>(name).unwrap().values;
    let embeddings = |name: &str, shift: f32| -> Vec<f32> {
        hash_uniform(name, 5 * 768).into_iter().map(|x| x * 2.0 + shift).collect()
    };
    let (first, second) = (embeddings("fcnn_seq1", 0.3), embeddings("fcnn_seq2", -0.1));
    let range = Range { minimum: numbers("gmin")[0], maximum: numbers("gmax")[0] };
    let rows: Vec<Vec<f32>> =
        first.chunks(768).zip(second.chunks(768)).map(|(a, b)| features(a, b, range)).collect();
    let heads: Vec<f32> = rows.iter().flat_map(|row| row[..32].to_vec()).collect();
    assert!(distance(&heads, &numbers("features_head")) < 1e-5);
    for (row, sum) in rows.iter().zip(numbers("features_sum")) {
        assert!((row.iter().sum::<f32>() - sum).abs() < 1e-2, "{sum}");
    }
    let graph = Graph::load(&Config::new(NAME), &hashed_weights(&folder)).unwrap();
    let features = Tensor::from_vec(rows.concat(), (5, 3072), &Device::Cpu).unwrap();
    let logits = graph.forward(&features).unwrap();
    check_parity("residual FCNN", "logits", "f32", [&flat(&logits), &numbers("logits")], 1e-5);
    let probs = Head::Softmax.predict(logits).unwrap().probs.unwrap();
    let of_one: Vec<f32> = flat(&probs).chunks(2).map(|row| row[1]).collect();
    check_parity("residual FCNN", "probabilities", "f32", [&of_one, &numbers("prob")], 1e-5);
}

#[test]
fn a_pair_is_decided_by_the_embeddings_of_both_sequences_in_their_order() {
    let rows = [pair(b"AACG", b"TT"), pair(b"TT", b"AACG"), pair(b"ACGTACG", b"A"), pair(b"A", b"ACGTACG")];
    let model = model();
    let answers = model.predict(&rows, &Wanted::default()).unwrap();
    let expected = |first: &[u8], second: &[u8]| {
        let features = features(&counts(first), &counts(second), RANGE);
        let features = Tensor::from_vec(features, (1, 16), &Device::Cpu).unwrap();
        flat(&model.graph.forward(&features).unwrap())
    };
    assert_eq!(answers[0].as_ref().unwrap().logits, expected(b"AACG", b"TT"));
    assert_eq!(answers[1].as_ref().unwrap().logits, expected(b"TT", b"AACG"));
    assert_ne!(answers[0], answers[1]);
    assert_eq!(answers[2..], [Err(Misfit::TooLong), Err(Misfit::TooLong)]);
    let probs = answers[0].as_ref().unwrap().probs.as_ref().unwrap();
    assert!((probs.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    // Alone, with other rows, without those that do not fit: the same.
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(&model.predict(&[*row], &Wanted::default()).unwrap()[0], answer);
    }
}

#[test]
fn a_row_without_a_second_sequence_is_refused_with_the_remedy() {
    let error = model().predict(&[Input::of(b"ACG")], &Wanted::default()).unwrap_err().to_string();
    assert!(error.contains("sequence_2") && error.contains("nyx-extract"), "{error}");
}

#[test]
fn the_ends_of_the_range_become_minus_one_and_one_and_nothing_is_cut() {
    assert_eq!([-2.0, 3.0, 0.5, 8.0].map(|value| RANGE.scale(value)), [-1.0, 1.0, 0.0, 3.0]);
    for (minimum, maximum) in [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0), (0.0, f32::INFINITY)] {
        assert!(Range { minimum, maximum }.check().is_err(), "{minimum} {maximum}");
    }
}

#[test]
fn an_encoder_of_another_width_is_refused() {
    let mut tensors = weights();
    for (name, shape) in [("fc1", [5, 12]), ("residual1", [4, 12])] {
        tensors = tensors.with_tensor(&format!("{name}.weight"), tensor(&shape, 7));
    }
    let made = ResidualFcnn::new(Box::new(Counter), Pooling::Mean, RANGE, &Config::new(NAME), &tensors);
    let error = made.err().unwrap().to_string();
    assert!(error.contains("a pair has 16") && error.contains("reads 12"), "{error}");
}

#[test]
fn a_listed_network_is_the_one_it_lists() {
    // The module of PyTorch, layer by layer, as Keras would list it.
    let list = serde_json::json!([
        {"op": "linear", "name": "fc1"},
        {"op": "batch_norm", "name": "bn1", "inputs": ["fc1"]},
        {"op": "relu", "name": "a", "inputs": ["bn1"]},
        {"op": "linear", "name": "fc2", "inputs": ["a"]},
        {"op": "batch_norm", "name": "bn2", "inputs": ["fc2"]},
        {"op": "relu", "name": "b", "inputs": ["bn2"]},
        {"op": "linear", "name": "residual1"},
        {"op": "add", "name": "c", "inputs": ["b", "residual1"]},
        {"op": "linear", "name": "fc3", "inputs": ["c"]},
        {"op": "batch_norm", "name": "bn3", "inputs": ["fc3"]},
        {"op": "relu", "name": "d", "inputs": ["bn3"]},
        {"op": "linear", "name": "residual2", "inputs": ["c"]},
        {"op": "add", "name": "e", "inputs": ["residual2", "d"]},
        {"op": "linear", "name": "fc_out", "inputs": ["e"]},
    ]);
    let mut config = Config::new(NAME);
    config.rest.insert("layers".into(), list.clone());
    let input = Tensor::from_vec(noise(48, 5), (3, 16), &Device::Cpu).unwrap();
    let [of_list, of_names] = [&config, &Config::new(NAME)].map(|config| {
        let graph = Graph::load(config, &weights()).unwrap();
        assert_eq!((graph.inputs(), graph.outputs()), (16, 2));
        flat(&graph.forward(&input).unwrap())
    });
    assert!(distance(&of_list, &of_names) < 1e-5);
    for (index, name) in [(1, "inputs"), (7, "op"), (13, "inputs")] {
        let mut broken = list.clone();
        broken[index][name] = if name == "op" { "mul".into() } else { serde_json::json!(["nowhere"]) };
        config.rest.insert("layers".into(), broken);
        let error = Graph::load(&config, &weights()).err().unwrap().to_string();
        assert!(error.contains("layer `"), "{error}");
    }
}

#[test]
fn a_weights_file_is_converted_when_the_encoder_and_the_range_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let written = convert::Converted { config: Config::new(NAME), weights: weights() };
    convert::write(&written, directory.path()).unwrap();
    let path = directory.path().join("model.safetensors");
    let without = convert::read(&path, &convert::Hints::default()).unwrap_err();
    assert_eq!(without.exit_status(), 2);
    assert!(without.to_string().contains("--encoder"), "{without}");
    let hints = convert::Hints { encoder: Some("../dnabert"), range: Some(RANGE), ..Default::default() };
    let config = convert::read(&path, &hints).unwrap().config;
    assert_eq!((config.architecture(), config.labels.as_ref().unwrap().len()), (NAME, 2));
    assert_eq!((&config.rest["encoder"], &config.rest["minimum"]), (&"../dnabert".into(), &(-2.0).into()));
}
