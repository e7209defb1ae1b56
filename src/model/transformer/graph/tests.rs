//! The graph against the encoder that scores, PyTorch's golden outputs, and finite differences.

use std::path::Path;

use super::*;
use crate::kernel::Precision;
use crate::kernel::testing::{distance, flat, noise};
use crate::model::Opened;
use crate::model::graph::Parameters;
use crate::model::transformer::LayerPooling;
use crate::npy::Npz;
use crate::testing::shared;

const MODELS: [&str; 4] = ["dnabert1_tiny", "dnabert2_tiny", "nt_v1_tiny", "nt_v2_tiny"];

fn open(folder: &Path) -> (EncoderGraph, Parameters) {
    let opened = Opened::read(folder).unwrap();
    let graph = EncoderGraph::new(&opened.config, &opened.weights).unwrap();
    (graph, Parameters::of(&opened.weights).unwrap())
}

/// Returns the sequences of token ids of a golden file, without their padding.
fn sequences(golden: &mut Npz) -> Vec<Vec<u32>> {
    let ids = golden.numbers::<f64>("input_ids").unwrap();
    let mask = golden.numbers::<f64>("attention_mask").unwrap().values;
    let length = ids.shape[1];
    let rows = ids.values.chunks(length).zip(mask.chunks(length));
    rows.map(|(ids, mask)| {
        ids.iter().zip(mask).filter(|(_, mask)| **mask > 0.0).map(|(id, _)| *id as u32).collect()
    })
    .collect()
}

#[test]
fn the_logits_are_those_of_pytorch() {
    for name in MODELS {
        let Some(folder) = shared(&format!("golden/models/{name}")) else { return };
        let mut golden = Npz::open(&folder.join("golden.npz")).unwrap();
        let sequences = sequences(&mut golden);
        let rows: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let tokens = Tokens::of(&rows);
        let (graph, parameters) = open(&folder);
        let mut pass = Pass::in_use(&parameters);
        let words = graph.word_vectors(&tokens, &pass).unwrap();
        let states = graph.states(&words, &tokens, &mut pass).unwrap();
        assert_eq!(states.len(), graph.spec().layers.len() + 1);
        let logits = graph.classify(states.last().unwrap(), &tokens, &mut pass).unwrap();
        let expected = golden.numbers::<f32>("logits").unwrap().values;
        let error = distance(&flat(&logits), &expected);
        assert!(error < 1e-4, "{name}: {error}");
    }
}

#[test]
fn the_states_are_those_of_the_encoder_that_scores() {
    for name in MODELS {
        let Some(folder) = shared(&format!("golden/models/{name}")) else { return };
        let rows: [&[u32]; 2] = [&[1, 9, 20, 33, 7, 2], &[1, 12, 2]];
        let tokens = Tokens::of(&rows);
        let (graph, parameters) = open(&folder);
        let mut pass = Pass::in_use(&parameters);
        let words = graph.word_vectors(&tokens, &pass).unwrap();
        let states = graph.states(&words, &tokens, &mut pass).unwrap();
        let opened = Opened::read(&folder).unwrap();
        // This one's tokenizer lies elsewhere; the others have built-in ones.
        let elsewhere = (name == "dnabert2_tiny").then(|| shared("data/tokenizers/dnabert2").unwrap());
        let source = crate::model::Source {
            directory: elsewhere.as_deref().unwrap_or(&opened.path),
            config: &opened.config,
            weights: &opened.weights,
            precision: Precision::F32,
            gpu: None,
        };
        let model = match graph.family() {
            Family::Esm => crate::model::esm::load(&source).unwrap(),
            _ => crate::model::bert::load(&source).unwrap(),
        };
        let crate::model::transformer::Runner::Processor(encoder) = model.encoder() else { unreachable!() };
        let expected = crate::model::transformer::states(encoder, &rows).concat();
        let error = distance(&flat(states.last().unwrap()), &expected);
        assert!(error < 1e-5, "{name}: {error}");
    }
}

#[test]
fn the_gradient_of_any_weight_and_of_the_words_is_that_of_a_small_step() {
    for name in MODELS {
        let Some(folder) = shared(&format!("golden/models/{name}")) else { return };
        let (graph, mut parameters) = open(&folder);
        let rows: [&[u32]; 2] = [&[1, 9, 20, 33, 7, 2], &[1, 12, 2]];
        let tokens = Tokens::of(&rows);
        let loss = |parameters: &Parameters| -> Tensor {
            let mut pass = Pass::training(parameters, 3);
            let words = graph.word_vectors(&tokens, &pass).unwrap();
            let states = graph.states(&words, &tokens, &mut pass).unwrap();
            let logits = graph.classify(states.last().unwrap(), &tokens, &mut pass).unwrap();
            logits.sqr().unwrap().sum_all().unwrap()
        };
        let mut store = loss(&parameters).backward().unwrap();
        let gradients: Vec<(String, Vec<f32>)> = (parameters.trained())
            .filter_map(|(name, variable)| Some((name.into(), flat(&store.remove(variable.as_tensor())?))))
            .collect();
        assert!(gradients.len() > 20, "{name}: {}", gradients.len());
        let begin = parameters.snapshot().unwrap();
        for (index, (tensor, gradient)) in gradients.iter().enumerate() {
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            // Some rows of tables have no gradient; keys have none in their bias.
            if norm < 1e-3 {
                continue;
            }
            // Along the gradient, and a little of anything.
            let other = noise(gradient.len(), index as u64);
            let direction: Vec<f64> = gradient
                .iter()
                .zip(&other)
                .map(|(&g, &o)| f64::from(g) / norm + 1e-3 * f64::from(o))
                .collect();
            let mut at = |by: f64| {
                let mut moved = begin.clone();
                let values = &mut moved.get_mut(tensor).unwrap().values;
                values.iter_mut().zip(&direction).for_each(|(x, d)| *x += (by * d) as f32);
                parameters.restore(&moved).unwrap();
                f64::from(loss(&parameters).to_scalar::<f32>().unwrap())
            };
            let step = 2e-3;
            let observed = (at(step) - at(-step)) / (2.0 * step);
            let predicted: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
            let tolerance = 0.03 * norm + 2e-3;
            assert!(
                (observed - predicted).abs() < tolerance,
                "{name} {tensor}: {observed} is not {predicted}"
            );
        }
        parameters.restore(&begin).unwrap();
    }
}

#[test]
fn a_new_encoder_is_read_by_what_scores() {
    let config = r#"{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 69,
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 32, "alibi_starting_size": 32, "layer_norm_eps": 1e-12}"#;
    let esm = config
        .replace("Bert", "Esm")
        .replace("\"alibi_starting_size\": 32", "\"position_embedding_type\": \"rotary\"");
    let bert = config.replace("\"alibi_starting_size\": 32,", "");
    for (text, family) in [(config, Family::MosaicBert), (&bert, Family::Bert), (&esm, Family::Esm)] {
        let config: Config = serde_json::from_str(text).unwrap();
        let (graph, mut parameters) = EncoderGraph::fresh(&config, 1).unwrap();
        assert_eq!(graph.family(), family);
        graph.add_classifier(&mut parameters, 3, 1).unwrap();
        let again = EncoderGraph::new(&config, &parameters.weights().unwrap()).unwrap();
        assert_eq!((again.family(), again.spec()), (family, graph.spec()));
        let tokens = Tokens::of(&[&[2, 5, 6, 3], &[2, 3]]);
        let mut pass = Pass::in_use(&parameters);
        let words = graph.word_vectors(&tokens, &pass).unwrap();
        let states = graph.states(&words, &tokens, &mut pass).unwrap();
        assert_eq!(graph.classify(&states[2], &tokens, &mut pass).unwrap().dims(), [2, 3]);
        let pooled = graph.pool(&states, &tokens, &LayerPooling::last(2)).unwrap();
        let last = flat(&states[2]);
        let mean: Vec<f32> = (0..16).map(|i| (0..4).map(|t| last[t * 16 + i]).sum::<f32>() / 4.0).collect();
        assert!(distance(&flat(&pooled)[..16], &mean) < 1e-6);
    }
}
