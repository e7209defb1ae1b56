//! Pairs of sequences by how often each base occurs.

use super::*;
use crate::error::Result;
use crate::kernel::testing::{distance, flat};
use crate::model::graph::Initial;
use crate::model::{Answer, Misfit, Outputs, Scores};
use crate::train::{Plan, Schedule, Training};

/// An encoder whose embedding is how often each base occurs.
struct Counter;

impl Model for Counter {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        &[]
    }

    fn outputs(&self, _: &Wanted) -> Result<Outputs> {
        Ok(Outputs { embedding: 4, ..Outputs::default() })
    }

    fn predict(&self, rows: &[Input], _: &Wanted) -> Result<Vec<Answer>> {
        let count = |row: &Input, base: u8| row.bases.iter().filter(|&&other| other == base).count() as f32;
        let answer = |row: &Input| match row.bases.len() {
            21.. => Err(Misfit::TooLong),
            _ => {
                let embedding = Some(b"ACGT".map(|base| count(row, base)).to_vec());
                Ok(Scores { embedding, ..Scores::default() })
            }
        };
        Ok(rows.iter().map(answer).collect())
    }
}

/// EmbeddedPairs that are positive where the first has more `A` than the second; one in three.
fn examples(count: usize, seed: u64) -> Examples {
    let mut random = Random::new(seed, "pairs", 0);
    let mut examples = Examples::default();
    while examples.len() < count {
        let mut draw = || -> Vec<u8> { (0..20).map(|_| b"ACGT"[random.below(4)]).collect() };
        let pair = [draw(), draw()];
        let [a, b] = pair.each_ref().map(|bases| bases.iter().filter(|&&base| base == b'A').count());
        if (a > b) == examples.len().is_multiple_of(3) {
            let [first, second] = pair;
            examples.sequences.push(first);
            examples.seconds.push(second);
            examples.labels.push(vec![f32::from(u8::from(a > b))]);
        }
    }
    examples
}

pub(in crate::train) fn task() -> (EmbeddedTask, Parameters) {
    let embed = |count, seed| EmbeddedPairs::embed(&Counter, Pooling::Mean, &examples(count, seed)).unwrap();
    let task = EmbeddedTask::new([16, 12, 8], 0.2, embed(300, 1), embed(120, 2), 16).unwrap();
    let mut initial = Initial::new(1);
    task.network().initial(&mut initial);
    (task, initial.finish())
}

#[test]
fn sequences_are_embedded_once_and_the_ends_of_all_are_the_range() {
    let mut examples = examples(2, 1);
    examples.sequences = vec![b"AAAAC".to_vec(), b"GG".to_vec()];
    examples.seconds = vec![b"GG".to_vec(), b"AAAAC".to_vec()];
    let pairs = EmbeddedPairs::embed(&Counter, Pooling::Mean, &examples).unwrap();
    assert_eq!((pairs.len(), pairs.sequences()), (2, 2));
    let Range { minimum, maximum } = pairs.range();
    assert_eq!((minimum, maximum), (0.0, 4.0));
    let features = flat(&pairs.features(&[1], pairs.range()).unwrap());
    let expected = super::features(&[0.0, 0.0, 2.0, 0.0], &[4.0, 1.0, 0.0, 0.0], pairs.range());
    assert_eq!(features, expected);
    assert!(features[..8].iter().all(|x| (-1.0..=1.0).contains(x)));
}

#[test]
fn both_labels_are_drawn_equally_often() {
    let (task, _) = task();
    let drawn: Vec<usize> =
        (0..10).flat_map(|epoch| task.batches(Random::new(1, "epoch", epoch)).concat()).collect();
    assert_eq!(drawn.len(), 3000);
    let positive = drawn.iter().filter(|&&row| task.train.labels[row]).count();
    // Four deviations of 27.
    assert!(positive.abs_diff(1500) < 110, "{positive}");
}

#[test]
fn the_network_in_use_is_the_one_that_scores() {
    let (task, parameters) = task();
    let features = task.dev.features(&[0, 1, 2, 3], task.range()).unwrap();
    let logits = task.network().logits(&features, &mut Pass::in_use(&parameters)).unwrap();
    let graph = Graph::load(&Config::new(NAME), &parameters.weights().unwrap()).unwrap();
    assert!(distance(&flat(&graph.forward(&features).unwrap()), &flat(&logits)) < 1e-5);
}

#[test]
fn pairs_are_learned_and_the_threshold_is_the_best_of_the_dev_set() {
    let (task, parameters) = task();
    let plan = Plan {
        epochs: 25,
        rate: 1e-2,
        schedule: Schedule::Plateau { factor: 0.5, patience: 3 },
        clip: Some(1.0),
        patience: Some(7),
        keep_last: true,
        seed: 1,
        ..Plan::default()
    };
    let mut training = Training::new(plan, parameters);
    training.run(&task, &mut ()).unwrap();
    let trained = training.parameters();
    let f1 = |threshold: f64| {
        let measures = task.measure(trained, &task.dev, threshold).unwrap();
        measures.iter().find(|(name, _)| name == "f1").unwrap().1
    };
    let area = task.evaluate(trained).unwrap().iter().find(|(name, _)| name == "roc_auc").unwrap().1;
    assert!(area > 0.95, "{area}");
    let best = task.threshold(trained).unwrap();
    assert!((0..17).all(|step| f1(f64::from(10 + 5 * step) / 100.0) <= f1(best)), "{best}");
}

#[test]
fn what_is_no_pair_or_cannot_be_read_is_refused() {
    let embed = |examples: &Examples| {
        EmbeddedPairs::embed(&Counter, Pooling::Mean, examples).err().unwrap().to_string()
    };
    let mut single = examples(3, 1);
    single.seconds.clear();
    assert!(embed(&single).contains("sequence2"));
    let mut long = examples(3, 1);
    long.seconds[1] = b"A".repeat(40);
    assert!(embed(&long).contains("40 bases"));
    let mut labels = examples(3, 1);
    labels.labels[2] = vec![2.0];
    assert!(embed(&labels).contains("example 3"));
}
