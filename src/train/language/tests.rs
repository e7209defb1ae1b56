//! The loss of pairs against PyTorch's, masks, pairs, and small transformers that learn.

use super::*;
use crate::kernel::testing::{distance, flat};
use crate::npy::Npz;
use crate::testing::shared;
use crate::train::{Plan, Schedule, Training, Warmup};

#[test]
fn the_ranking_loss_and_its_gradient_are_those_of_sentence_transformers() {
    let Some(path) = shared("golden/models/contrastive/golden.npz") else { return };
    let mut golden = Npz::open(&path).unwrap();
    let mut matrix = |name: &str| {
        let array = golden.numbers::<f32>(name).unwrap();
        crate::kernel::learn::tensor(array.values, array.shape).unwrap()
    };
    let first = candle_core::Var::from_tensor(&matrix("a")).unwrap();
    let loss = ranking_loss(first.as_tensor(), &matrix("b"), 20.0).unwrap();
    let expected = flat(&matrix("grad_a"));
    let gradient = flat(loss.backward().unwrap().get(first.as_tensor()).unwrap());
    assert!(distance(&gradient, &expected) < 1e-5, "{}", distance(&gradient, &expected));
    let expected = golden.numbers::<f32>("loss").unwrap().values[0];
    assert!((loss.to_scalar::<f32>().unwrap() - expected).abs() < 1e-5);
}

fn body(seed: u64) -> (Body, Parameters) {
    // A BERT over 3-mers, small enough for a test.
    let text = r#"{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 69,
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 64, "alibi_starting_size": 64, "hidden_dropout_prob": 0.1}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    let (graph, parameters) = EncoderGraph::fresh(&config, seed).unwrap();
    (Body { graph, config, path: PathBuf::new() }, parameters)
}

/// Sequences of tokens of which those of a kind share a stretch.
fn sequences(count: usize, kinds: usize, seed: u64) -> Labelled {
    let mut random = Random::new(seed, "sequences", 0);
    let mut set = Labelled { tokens: Vec::new(), classes: Vec::new() };
    for index in 0..count {
        let kind = index % kinds;
        let mut tokens: Vec<u32> = (0..16).map(|_| 5 + random.below(64) as u32).collect();
        let place = 1 + random.below(10);
        (0..4).for_each(|i| tokens[place + i] = (10 + 7 * kind + i) as u32);
        (tokens[0], tokens[15]) = (2, 3);
        set.tokens.push(tokens);
        set.classes.push(kind as u32);
    }
    set
}

#[test]
fn a_small_transformer_learns_classes_and_the_graph_agrees_with_what_scores() {
    let (body, mut parameters) = body(1);
    body.graph.add_classifier(&mut parameters, 3, 1).unwrap();
    let head = Head::Own;
    let mut task = ClassTask { body, head, train: sequences(240, 3, 1), dev: sequences(60, 3, 2), batch: 16 };
    let Some(tokenizers) = shared("golden/models/dnabert1_tiny") else { return };
    task.body.path = tokenizers;
    let plan = Plan {
        epochs: 8,
        rate: 3e-3,
        schedule: Schedule::Linear,
        warmup: Warmup::Part(0.1),
        clip: Some(1.0),
        seed: 1,
        ..Plan::default()
    };
    let mut training = Training::new(plan, parameters);
    let before = task.evaluate(training.parameters()).unwrap();
    training.run(&task, &mut ()).unwrap();
    let after = task.evaluate(training.parameters()).unwrap();
    let named = |all: &Measures, name: &str| all.iter().find(|(known, _)| known == name).unwrap().1;
    // Chance is ln 3.
    assert!(named(&before, "loss") > 1.05 && named(&after, "loss") < 0.7, "{before:?} {after:?}");
    // The same loss from the graph, without dropout.
    let rows: Vec<&[u32]> = task.dev.tokens.iter().map(Vec::as_slice).collect();
    let mut pass = Pass::in_use(training.parameters());
    let (states, tokens) = task.body.states(&rows, &mut pass).unwrap();
    let logits = task.body.graph.classify(&states[2], &tokens, &mut pass).unwrap();
    let targets: Vec<Option<u32>> = task.dev.classes.iter().copied().map(Some).collect();
    let loss = loss::cross_entropy(&logits, &targets).unwrap().to_scalar::<f32>().unwrap();
    assert!((f64::from(loss) - named(&after, "loss")).abs() < 1e-4);
}

#[test]
fn contrastive_training_raises_the_average_precision() {
    let (mut body, parameters) = body(2);
    let Some(tokenizers) = shared("golden/models/dnabert1_tiny") else { return };
    body.path = tokenizers;
    let set = |count: usize, seed: u64| {
        let sequences = sequences(count, 4, seed);
        let kinds: Vec<Vec<usize>> = (0..4u32)
            .map(|kind| (0..count).filter(|&row| sequences.classes[row] == kind).collect())
            .collect();
        (sequences.tokens, kinds)
    };
    let (train, kinds) = set(200, 3);
    let pairs = training_pairs(&kinds, 60, 1);
    assert!(pairs.iter().all(|[a, b]| a != b && a % 4 == b % 4));
    let (dev, kinds) = set(80, 4);
    let (dev_pairs, same) = dev_pairs(&kinds, 20, 1);
    assert!(dev_pairs.iter().zip(&same).all(|([a, b], same)| (a % 4 == b % 4) == *same));
    let task = PairTask {
        body,
        train: Pairs { tokens: train, same: vec![true; pairs.len()], pairs },
        dev: Pairs { tokens: dev, pairs: dev_pairs, same },
        batch: 16,
        layers: LayerPooling::last(2),
    };
    for batch in task.batches(Random::new(1, "x", 0)) {
        let mut rows: Vec<&Vec<u32>> = batch
            .iter()
            .flat_map(|&pair| task.train.pairs[pair])
            .map(|row| &task.train.tokens[row])
            .collect();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), 2 * batch.len(), "a text is twice in a batch");
    }
    let plan = Plan { epochs: 6, rate: 2e-3, best_by: "cosine_ap".into(), seed: 1, ..Plan::default() };
    let mut training = Training::new(plan, parameters);
    let named = |all: &Measures| all.iter().find(|(known, _)| known == "cosine_ap").unwrap().1;
    let before = named(&task.evaluate(training.parameters()).unwrap());
    training.run(&task, &mut ()).unwrap();
    let after = named(&task.evaluate(training.parameters()).unwrap());
    assert!(after > before + 0.1, "{before} {after}");
}

#[test]
fn hidden_tokens_are_as_many_as_asked_and_never_specials() {
    let masking =
        Masking { chance: 0.15, neighbours: Vec::new(), mask: 4, specials: vec![2, 3], vocabulary: 5..69 };
    let tokens: Vec<u32> = (0..20_000).map(|i| if i % 100 == 0 { 2 } else { 5 + i % 64 }).collect();
    let mut random = Random::new(1, "hide", 0);
    let (read, targets) = masking.hide(&tokens, &mut random);
    let chosen: Vec<usize> = (0..tokens.len()).filter(|&i| targets[i].is_some()).collect();
    let part = |count: usize, of: usize| count as f64 / of as f64;
    assert!((part(chosen.len(), tokens.len()) - 0.15).abs() < 0.01);
    assert!(chosen.iter().all(|&i| tokens[i] != 2 && targets[i] == Some(tokens[i])));
    let masked = chosen.iter().filter(|&&i| read[i] == 4).count();
    assert!((part(masked, chosen.len()) - 0.8).abs() < 0.03);
    assert!((0..tokens.len()).all(|i| targets[i].is_some() || read[i] == tokens[i]));
    let wide = Masking { chance: 0.01, neighbours: vec![-1, 1], ..masking };
    let (_, targets) = wide.hide(&tokens[1..99], &mut Random::new(3, "hide", 0));
    let hidden: Vec<usize> = (0..98).filter(|&i| targets[i].is_some()).collect();
    assert!(hidden.is_empty() || hidden.windows(2).any(|pair| pair[1] == pair[0] + 1), "{hidden:?}");
}

#[test]
fn continued_pre_training_lowers_the_perplexity() {
    let (body, mut parameters) = body(3);
    body.graph.add_token_head(&mut parameters, 1).unwrap();
    let masking =
        Masking { chance: 0.15, neighbours: Vec::new(), mask: 4, specials: vec![2, 3], vocabulary: 5..69 };
    // Each token tells the next.
    let chains = |seed: u64| -> Vec<Vec<u32>> {
        let mut random = Random::new(seed, "chains", 0);
        let chain = |start: u32| (0..16).map(|i| 5 + (start + i) % 16).collect();
        (0..150).map(|_| chain(random.below(16) as u32)).collect()
    };
    let task = MaskTask { body, train: chains(1), dev: chains(2), batch: 16, masking };
    let plan = Plan { epochs: 8, rate: 3e-3, seed: 1, ..Plan::default() };
    let mut training = Training::new(plan, parameters);
    let before = task.evaluate(training.parameters()).unwrap();
    training.run(&task, &mut ()).unwrap();
    let after = task.evaluate(training.parameters()).unwrap();
    assert!(after[0].1 < before[0].1 - 0.5, "{before:?} {after:?}");
}
