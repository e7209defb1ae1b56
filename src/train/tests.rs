//! Trainings of small networks, from the first step to the last.

use super::callers::{CallTask, Called};
use super::language::{Body, ClassTask, Head, Labelled};
use super::network::{NetworkTask, Objective};
use super::*;
use crate::model::graph::{
    Convolutions, DAedNet, DanQ, DeepBind, DeepSnr, Graph, Initial, Parameters, Pass, Random,
};
use crate::model::testing::{golden_sequences, hashed_weights};
use crate::model::transformer::graph::EncoderGraph;
use crate::testing::shared;

/// Random sequences, of which those with a motif are positive.
fn planted(count: usize, length: usize, seed: u64) -> Examples {
    let mut random = Random::new(seed, "planted", 0);
    let mut examples = Examples::default();
    for index in 0..count {
        let mut bases: Vec<u8> = (0..length).map(|_| b"ACGT"[random.below(4)]).collect();
        let is_positive = index % 2 == 0;
        if is_positive {
            let place = random.below(length - 8);
            bases[place..place + 8].copy_from_slice(b"TGACTCAT");
        }
        examples.sequences.push(bases);
        examples.labels.push(vec![f32::from(u8::from(is_positive))]);
    }
    examples
}

fn task(graph: impl Graph + 'static, train: usize) -> NetworkTask {
    let (train, dev) = (planted(train, 101, 1), planted(40, 101, 2));
    NetworkTask::new(Box::new(graph), Objective::Sequences, train, dev, 8).unwrap()
}

fn begin(graph: &dyn Graph, plan: &Plan) -> Training {
    let mut initial = Initial::new(plan.seed);
    graph.initial(&mut initial);
    Training::new(plan.clone(), initial.finish())
}

fn bits(parameters: &Parameters) -> Vec<u32> {
    let snapshot = parameters.snapshot().unwrap();
    snapshot.values().flat_map(|array| array.values.iter().map(|value| value.to_bits())).collect()
}

fn plan() -> Plan {
    Plan {
        epochs: 2,
        schedule: Schedule::Linear,
        warmup: Warmup::Steps(3),
        clip: Some(1.0),
        evaluate_every: Some(4),
        seed: 5,
        ..Plan::default()
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_with_any_number_of_threads() {
    let run = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut training = begin(&DanQ, &Plan { seed, epochs: 1, ..plan() });
            training.run(&task(DanQ, 40), &mut ()).unwrap();
            bits(training.parameters())
        })
    };
    let alone = run(1, 5);
    assert_eq!(alone, run(3, 5));
    assert_ne!(alone, run(1, 6));
}

/// Stops after some steps and writes a checkpoint.
struct StopAt<'a>(u64, &'a std::path::Path);

impl Watch for StopAt<'_> {
    fn pause(&mut self, training: &Training) -> crate::Result<bool> {
        let stop = training.state().step == self.0;
        if stop {
            checkpoint::write(training, "test", self.1)?;
        }
        Ok(!stop)
    }
}

#[test]
fn what_goes_on_from_a_checkpoint_ends_with_the_bits_of_what_was_never_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let task = task(DeepBind, 60);
    let plan = Plan { accumulation: 2, ..plan() };
    let mut whole = begin(&DeepBind, &plan);
    whole.run(&task, &mut ()).unwrap();
    // In the middle of an epoch, and at its end.
    for step in [3, 4] {
        let mut first = begin(&DeepBind, &plan);
        first.run(&task, &mut StopAt(step, &path)).unwrap();
        assert_eq!(first.state().step, step);
        let mut second = begin(&DeepBind, &Plan { seed: 99, ..plan.clone() });
        checkpoint::read(&mut second, "test", &path).unwrap();
        second.plan.seed = plan.seed;
        second.run(&task, &mut ()).unwrap();
        assert_eq!(bits(second.parameters()), bits(whole.parameters()));
        assert_eq!(second.state(), whole.state());
    }
    let mut other = begin(&DeepBind, &plan);
    let message = checkpoint::read(&mut other, "other", &path).unwrap_err().to_string();
    assert!(message.contains("another training"), "{message}");
}

/// Returns a small transformer over 3-mers in a directory that its tokenizer is read from, and sequences of it.
fn transformer(directory: &std::path::Path, architecture: &str) -> (Body, Parameters, Vec<Vec<u32>>) {
    let text = format!(
        r#"{{"architectures": ["{architecture}"], "model_type": "bert", "vocab_size": 69, "hidden_size": 16,
        "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}}"#
    );
    std::fs::write(directory.join("config.json"), &text).unwrap();
    let config: crate::model::config::Config = serde_json::from_str(&text).unwrap();
    let (graph, mut parameters) = EncoderGraph::fresh(&config, 1).unwrap();
    graph.add_classifier(&mut parameters, 2, 1).unwrap();
    let tokenizer = crate::tokenizer::Tokenizer::of_model(directory).unwrap();
    let tokens = language::tokens(&tokenizer, &planted(24, 20, 1), None).unwrap();
    (Body { graph, config, path: directory.into() }, parameters, tokens)
}

/// Returns every kind of task with the weights that it begins with.
fn tasks(directory: &std::path::Path) -> Vec<(&'static str, Box<dyn Task + Sync>, Parameters)> {
    let (first, parameters) = cells::tests::first();
    let (second, on_first) = cells::tests::second(&parameters, false);
    let (pairs, layers) = embeddings::tests::task();
    let (body, mut encoder, tokens) = transformer(directory, "BERT_TFBS");
    encoder.remove_under("classifier");
    let head = Convolutions { tokens: 22, states: 16, classes: 2 };
    let mut initial = Initial::on(encoder, 1);
    head.initial(&mut initial);
    let set = || Labelled { tokens: tokens.clone(), classes: (0..24).map(|row| row % 2).collect() };
    let head = Head::Convolutions(head);
    let tfbs = ClassTask { body, head, train: set(), dev: set(), batch: 8 };
    let (mut body, mut callers, tokens) = transformer(directory, "BertSNR");
    body.config.window = Some(20);
    callers.remove_under("classifier.");
    body.graph.add_callers(&mut callers, 1).unwrap();
    let bases: Vec<Vec<f32>> =
        (0..24).map(|row| (0..20).map(|base| f32::from(u8::from(base / 5 == row % 4))).collect()).collect();
    let set = || Called { tokens: tokens.clone(), bases: bases.clone() };
    let snr = CallTask { body, width: 3, train: set(), dev: set(), batch: 8 };
    vec![
        ("SigTFB stage 1", Box::new(first), parameters),
        ("SigTFB stage 2", Box::new(second), on_first),
        ("residual FCNN", Box::new(pairs), layers),
        ("BERT-TFBS", Box::new(tfbs), initial.finish()),
        ("BertSNR", Box::new(snr), callers),
    ]
}

/// Begins a training with copies of weights.
fn copied(parameters: &Parameters, plan: &Plan) -> Training {
    Training::new(plan.clone(), Parameters::of(&parameters.weights().unwrap()).unwrap())
}

#[test]
fn every_task_has_the_same_bits_with_any_threads_and_after_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint");
    let plan = Plan { epochs: 2, evaluate_every: Some(2), ..plan() };
    for (name, task, parameters) in tasks(directory.path()) {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut training = copied(&parameters, &plan);
                training.run(&*task, &mut ()).unwrap();
                (bits(training.parameters()), training.state().clone())
            })
        };
        let whole = run(1);
        assert_eq!(run(2), whole, "{name}: threads");
        assert_ne!(whole.0, bits(&parameters), "{name}: nothing was learned");
        let mut first = copied(&parameters, &plan);
        first.run(&*task, &mut StopAt(3, &path)).unwrap();
        let mut second = copied(&parameters, &plan);
        checkpoint::read(&mut second, "test", &path).unwrap();
        second.run(&*task, &mut ()).unwrap();
        assert_eq!((bits(second.parameters()), second.state().clone()), whole, "{name}: resumed");
    }
}

#[test]
fn a_planted_motif_is_learned() {
    let train = planted(400, 101, 3);
    let task =
        NetworkTask::new(Box::new(DeepBind), Objective::Sequences, train, planted(200, 101, 4), 32).unwrap();
    let mut training =
        begin(&DeepBind, &Plan { epochs: 30, rate: 1e-2, best_by: "roc_auc".into(), ..plan() });
    let before = task.evaluate(training.parameters()).unwrap();
    training.run(&task, &mut ()).unwrap();
    let after = task.evaluate(training.parameters()).unwrap();
    let area = |measures: &Measures| measures.iter().find(|(name, _)| name == "roc_auc").unwrap().1;
    assert!(area(&before) < 0.7 && area(&after) > 0.97, "{} {}", area(&before), area(&after));
    assert_eq!(training.state().best.unwrap().0, area(&after));
}

#[test]
fn patience_ends_a_training_early() {
    let task = task(DeepBind, 40);
    let mut training = begin(
        &DeepBind,
        &Plan { epochs: 50, rate: 0.0, patience: Some(2), evaluate_every: Some(1), ..plan() },
    );
    training.run(&task, &mut ()).unwrap();
    assert!(training.state().is_over && training.state().step <= 4, "{:?}", training.state());
}

/// Checks that a graph in use gives what the network that scores gives.
fn check_scoring(graph: &dyn Graph, parameters: &Parameters, sequences: &[Vec<u8>]) {
    let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
    let config = crate::model::config::Config::new(graph.architecture());
    let network = crate::model::graph::scorer(&config, &parameters.weights().unwrap()).unwrap();
    let logits = graph.logits(&graph.encode(&rows).unwrap(), &mut Pass::in_use(parameters)).unwrap();
    let prediction = network.forward(&network.encode(&rows).unwrap()).unwrap();
    let expected = match prediction.base_scores {
        Some(scores) => scores,
        None => prediction.probs.unwrap(),
    };
    let found = crate::kernel::pointwise::sigmoid(&logits).unwrap();
    use crate::kernel::testing::{distance, flat};
    let error = distance(&flat(&found), &flat(&expected));
    assert!(error < 1e-5, "{}: {error}", graph.architecture());
}

#[test]
fn a_graph_gives_what_the_network_that_scores_gives() {
    let mut random = Random::new(1, "bases", 0);
    let mut sequences = |length: usize| -> Vec<Vec<u8>> {
        (0..5).map(|_| (0..length).map(|_| b"ACGTN"[random.below(5)]).collect()).collect()
    };
    let graphs: [(&dyn Graph, usize); 4] = [(&DeepBind, 70), (&DanQ, 101), (&DeepSnr, 100), (&DAedNet, 100)];
    for (graph, length) in graphs {
        let mut initial = Initial::new(2);
        graph.initial(&mut initial);
        check_scoring(graph, &initial.finish(), &sequences(length));
    }
    let published = |path: &str| {
        let path = shared(path)?;
        let converted = crate::model::convert::read(&path, &Default::default()).unwrap();
        Some(Parameters::of(&converted.weights).unwrap())
    };
    for (graph, name) in [(&DeepSnr as &dyn Graph, "DeepSNR"), (&DAedNet, "D_AEDNet")] {
        let Some(parameters) = published(&format!("data/models/nyxbind/CTCFL/{name}.pth")) else { return };
        check_scoring(graph, &parameters, &sequences(100));
    }
    for (graph, name) in [(&DeepBind as &dyn Graph, "deepbind"), (&DanQ, "danq")] {
        let folder = shared(&format!("golden/models/{name}")).unwrap();
        let parameters = Parameters::of(&hashed_weights(&folder)).unwrap();
        check_scoring(graph, &parameters, &golden_sequences(&folder));
    }
}
