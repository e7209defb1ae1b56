//! Draws, both stages against the networks that score, and what they learn of planted motifs.

use super::*;
use crate::kernel::testing::{distance, flat};
use crate::model::graph::Initial;
use crate::train::optimizer::{Betas, Rule};
use crate::train::{Plan, Training};

const STAGE_1: CellTypes =
    CellTypes { window: 40, filters: 12, cells: 2, conv_deviation: 0.2, linear_deviation: 0.2 };
const STAGE_2: ToldCell = ToldCell {
    window: 40,
    filters: 12,
    cells: 2,
    units: 4,
    neurons: 12,
    dropout: 0.001,
    linear_deviation: 0.2,
};

/// Random sequences; one motif binds in the first cell type, another in the second.
pub(in crate::train) fn planted(count: usize, seed: u64) -> Examples {
    let mut random = Random::new(seed, "cells", 0);
    let names = ["a", "b"].map(String::from).to_vec();
    let mut examples = Examples { names, ..Examples::default() };
    for row in 0..count {
        let mut bases: Vec<u8> = (0..40).map(|_| b"ACGT"[random.below(4)]).collect();
        for (cell, motif) in [(0, b"TGACTCATGA"), (1, b"GGGCGGGGCG")] {
            if row >> cell & 1 == 1 {
                let place = 20 * cell + random.below(10);
                bases[place..place + 10].copy_from_slice(motif);
            }
        }
        examples.sequences.push(bases);
        examples.labels.push([row & 1, row >> 1 & 1].map(|bound| bound as f32).to_vec());
    }
    examples
}

pub(in crate::train) fn first() -> (CellTask, Parameters) {
    let task = CellTask::new(Stage::One(STAGE_1), planted(160, 1), planted(80, 2), 16).unwrap();
    let mut initial = Initial::new(3);
    STAGE_1.initial(&mut initial);
    (task, initial.finish())
}

pub(in crate::train) fn second(stage_1: &Parameters, freeze: bool) -> (CellTask, Parameters) {
    let task = CellTask::new(Stage::Two(STAGE_2), planted(160, 1), planted(80, 2), 16).unwrap();
    let mut parameters = STAGE_2.initial(&stage_1.weights().unwrap(), 3).unwrap();
    if freeze {
        parameters.freeze(|name| !ToldCell::is_stage_1(name));
    }
    (task, parameters)
}

fn measure(measures: &Measures, wanted: &str) -> f64 {
    measures.iter().find(|(name, _)| name == wanted).unwrap().1
}

#[test]
fn every_cell_type_is_drawn_in_turn_with_a_bound_and_an_unbound_sequence() {
    let mut train = planted(40, 1);
    // A cell type that is bound everywhere has nothing to tell.
    train.labels.iter_mut().for_each(|label| label.push(1.0));
    let network = CellTypes { cells: 3, ..STAGE_1 };
    let task = CellTask::new(Stage::One(network), train.clone(), train, 4).unwrap();
    assert_eq!(task.cells().collect::<Vec<_>>(), [0, 1]);
    let batches = task.batches(Random::new(1, "epoch", 0));
    assert!(batches.iter().all(|batch| batch.len() == 8) && batches.concat().len() == 80);
    for (draw, pair) in batches.concat().chunks(2).enumerate() {
        let [(a, cell), (b, other)] = [task.drawn(pair[0]), task.drawn(pair[1])];
        assert_eq!((cell, other), (draw % 2, draw % 2));
        let bound = |row: usize| task.train.labels[row][cell];
        assert!(a < b && bound(a) + bound(b) == 1.0, "{a} {b}");
    }
    assert_ne!(batches, task.batches(Random::new(1, "epoch", 1)));
}

#[test]
fn both_stages_are_what_the_networks_that_score_make_of_their_weights() {
    let (task, parameters) = first();
    let rows: Vec<&[u8]> = task.dev.sequences[..5].iter().map(Vec::as_slice).collect();
    let input = one_hot(&rows, Unknown::Quarter, &Device::Cpu).unwrap();
    let logits = STAGE_1.logits(&input, &mut Pass::in_use(&parameters)).unwrap();
    let network = scorer(&task.config(), &parameters.weights().unwrap()).unwrap();
    assert_eq!(network.labels(), ["a", "b"]);
    assert!(distance(&flat(&network.forward(&input).unwrap().logits), &flat(&logits)) < 1e-5);
    let (task, parameters) = second(&parameters, false);
    let network = scorer(&task.config(), &parameters.weights().unwrap()).unwrap();
    assert_eq!(network.labels(), ["a", "b", "untold"]);
    let odds = network.forward(&input).unwrap().logits.to_vec2::<f32>().unwrap();
    for (class, told) in [Some(0), Some(1), None].into_iter().enumerate() {
        let logits = STAGE_2.logits(&input, &[told; 5], &mut Pass::in_use(&parameters)).unwrap();
        for (row, logits) in logits.to_vec2::<f32>().unwrap().iter().enumerate() {
            assert!((odds[row][class] - (logits[1] - logits[0])).abs() < 1e-5, "{told:?}");
        }
    }
}

#[test]
fn planted_motifs_are_learned_and_knowing_the_cell_type_helps() {
    let (task, parameters) = first();
    let plan = Plan {
        epochs: 12,
        rule: Rule::Adam(Betas::default()),
        rate: 1e-2,
        best_by: "roc_auc".into(),
        seed: 1,
        ..Plan::default()
    };
    let mut training = Training::new(plan.clone(), parameters);
    training.run(&task, &mut ()).unwrap();
    let area = measure(&task.evaluate(training.parameters()).unwrap(), "roc_auc");
    assert!(area > 0.9, "{area}");
    let (task, parameters) = second(training.parameters(), true);
    let before = parameters.weights().unwrap();
    let mut training = Training::new(plan, parameters);
    training.run(&task, &mut ()).unwrap();
    let measures = task.evaluate(training.parameters()).unwrap();
    // A sequence bound in one cell type only cannot be told apart without knowing which is meant.
    assert!(measure(&measures, "roc_auc") > 0.85, "{measures:?}");
    assert!(measure(&measures, "auc_difference") > 0.05, "{measures:?}");
    let after = training.parameters().weights().unwrap();
    for (name, stored) in before.tensors() {
        let same = stored.read() == after.any(name).unwrap().read();
        assert_eq!(same, ToldCell::is_stage_1(name), "{name}");
    }
}

#[test]
fn labels_that_are_no_cell_types_are_refused() {
    let (train, dev) = (planted(8, 1), planted(8, 2));
    let network = CellTypes { cells: 3, ..STAGE_1 };
    let error = CellTask::new(Stage::One(network), train.clone(), dev.clone(), 4).err().unwrap();
    assert!(error.to_string().contains("not 3 numbers"), "{error}");
    let mut none = train;
    none.labels.iter_mut().for_each(|label| label.fill(0.0));
    let error = CellTask::new(Stage::One(STAGE_1), none, dev, 4).err().unwrap().to_string();
    assert!(error.contains("both bound and unbound"), "{error}");
}
