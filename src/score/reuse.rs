//! Answers that are kept, so that a model reads every distinct input once.
//!
//! Inputs are known by the SHA-256 of all that a model reads: bases, second sequence, tokens. A model's answer
//! does not depend on the rows beside an input, so an answer that is used again has the bits that a further
//! pass would give. The answers used last are kept up to a number of floats; which ones does not depend on how
//! rows are cut into batches. Windows of a genome hardly ever come again: where the first [`TRIAL`] rows do not, nothing is
//! kept from there on, which for a small network is a quarter of the time.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sha2::{Digest, Sha256};

use crate::model::{Answer, Attentions, Input, Outputs, Wanted};

/// Floats of answers that are kept: 64 MiB.
pub const KEPT_FLOATS: usize = 16 << 20;

/// Floats that an entry costs besides its answer: its key, twice, the vectors of the answer, and the tables' empty places.
/// Counted by the memory of a process that kept 130,000 answers of one class: 1420 bytes each.
pub const OVERHEAD: usize = 352;

/// Rows after which it shows whether inputs come again.
pub const TRIAL: usize = 10_000;

/// The part of them that has to come again for answers to be kept any longer.
const SHARE: f64 = 0.01;

/// Returns whether so many passes for so many rows are worth keeping answers.
pub fn is_worth_it(rows: f64, passes: f64) -> bool {
    passes <= (1.0 - SHARE) * rows
}

type Key = [u8; 32];

/// What was read.
#[derive(Debug, Default)]
pub struct Counts {
    /// Rows that a model can read.
    pub rows: AtomicU64,
    /// Those that went through the model.
    pub passes: AtomicU64,
}

impl Counts {
    /// Returns rows and passes.
    pub fn get(&self) -> (u64, u64) {
        (self.rows.load(Relaxed), self.passes.load(Relaxed))
    }
}

/// The answers that are kept.
pub struct Reuse {
    capacity: usize,
    held: usize,
    kept: HashMap<Key, Kept>,
    /// Keys by the time of their last use.
    order: BTreeMap<u64, Key>,
    clock: u64,
    /// Rows that were looked up, and those of them that had to be read.
    looked_up: usize,
    missed: usize,
}

struct Kept {
    answer: Kind,
    cost: usize,
    used: u64,
}

enum Kind {
    Known(Answer),
    /// To be computed in this batch, as this one of the new inputs.
    Coming(usize),
}

/// Where the answers of a batch come from.
#[derive(Default)]
pub struct Plan {
    /// Rows whose inputs have to be read, by number.
    pub new: Vec<usize>,
    keys: Vec<Key>,
    sources: Vec<Source>,
}

enum Source {
    Kept(Answer),
    New(usize),
}

impl Reuse {
    /// Keeps answers up to `capacity` floats; with 0 every row is read.
    pub fn new(capacity: usize) -> Self {
        let (kept, order) = (HashMap::new(), BTreeMap::new());
        Self { capacity, held: 0, kept, order, clock: 0, looked_up: 0, missed: 0 }
    }

    /// Decides which inputs have to be read; `cost` is the number of floats in an answer.
    pub fn plan(&mut self, inputs: &[Input], cost: impl Fn(&Input) -> usize) -> Plan {
        let mut plan = Plan::default();
        for (row, input) in inputs.iter().enumerate() {
            if self.capacity == 0 {
                plan.sources.push(Source::New(plan.new.len()));
                plan.new.push(row);
                continue;
            }
            let key = key_of(input);
            let source = self.look_up(&key).unwrap_or_else(|| {
                let index = plan.new.len();
                plan.new.push(row);
                plan.keys.push(key);
                self.missed += 1;
                self.insert(key, index, cost(input) + OVERHEAD);
                Source::New(index)
            });
            plan.sources.push(source);
            self.looked_up += 1;
            if self.looked_up == TRIAL && !is_worth_it(TRIAL as f64, self.missed as f64) {
                *self = Self::new(0);
            }
        }
        plan
    }

    /// Keeps the answers for the inputs that had to be read, and returns those of all rows.
    pub fn complete(&mut self, plan: Plan, answers: Vec<Answer>) -> Vec<Answer> {
        for (index, (key, answer)) in plan.keys.iter().zip(&answers).enumerate() {
            if let Some(kept) = self.kept.get_mut(key)
                && matches!(kept.answer, Kind::Coming(coming) if coming == index)
            {
                kept.answer = Kind::Known(answer.clone());
            }
        }
        let answer = |source| match source {
            Source::Kept(answer) => answer,
            Source::New(index) => answers[index].clone(),
        };
        plan.sources.into_iter().map(answer).collect()
    }

    fn look_up(&mut self, key: &Key) -> Option<Source> {
        let kept = self.kept.get_mut(key)?;
        self.order.remove(&kept.used);
        self.clock += 1;
        kept.used = self.clock;
        self.order.insert(self.clock, *key);
        Some(match &kept.answer {
            Kind::Known(answer) => Source::Kept(answer.clone()),
            Kind::Coming(index) => Source::New(*index),
        })
    }

    fn insert(&mut self, key: Key, index: usize, cost: usize) {
        if cost > self.capacity {
            return;
        }
        self.clock += 1;
        self.kept.insert(key, Kept { answer: Kind::Coming(index), cost, used: self.clock });
        self.order.insert(self.clock, key);
        self.held += cost;
        while self.held > self.capacity {
            let (_, oldest) = self.order.pop_first().expect("what is held has an order");
            self.held -= self.kept.remove(&oldest).expect("what has an order is kept").cost;
        }
    }
}

/// Returns the digest of an input.
fn key_of(input: &Input) -> Key {
    let mut hasher = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        // Lengths in front: no two inputs are the same bytes.
        hasher.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    part(Some(input.bases));
    part(input.second);
    part(input.tokens.map(bytemuck::cast_slice));
    hasher.finalize().into()
}

/// Returns how many floats the answer to an input has at most.
pub fn floats_of(input: &Input, outputs: &Outputs, wanted: &Wanted) -> usize {
    let length = input.bases.len() + input.second.map_or(0, <[u8]>::len) + 2;
    let mut floats = 2 * outputs.classes + outputs.embedding;
    floats += if outputs.base_scores { length } else { 0 };
    floats += if outputs.likelihood { length } else { 0 };
    floats += outputs.profile.map_or(0, |(tracks, profile)| tracks * profile.max(length));
    if let Some((layers, heads)) = outputs.attentions {
        let tokens = if wanted.attentions == Some(Attentions::All) { length * length } else { length };
        floats += layers * heads * tokens;
    }
    floats
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Scores;

    /// Runs rows through a model that says what it read; returns the answers and how many rows it read.
    fn run(rows: &[u8], batch: usize, capacity: usize) -> (Vec<f32>, usize) {
        let mut reuse = Reuse::new(capacity);
        let (mut answers, mut passes) = (Vec::new(), 0);
        for rows in rows.chunks(batch) {
            let inputs: Vec<Input> = rows.iter().map(|row| Input::of(std::slice::from_ref(row))).collect();
            let plan = reuse.plan(&inputs, |_| 1);
            passes += plan.new.len();
            let new = plan.new.iter().map(|&row| {
                Ok(Scores { logits: vec![f32::from(inputs[row].bases[0])], ..Scores::default() })
            });
            let new = new.collect();
            answers.extend(reuse.complete(plan, new).into_iter().map(|answer| answer.unwrap().logits[0]));
            assert!(reuse.held <= capacity && reuse.kept.len() == reuse.order.len());
        }
        (answers, passes)
    }

    proptest! {
        #[test]
        fn answers_are_those_of_the_rows_and_passes_do_not_depend_on_batches(
            rows in prop::collection::vec(0u8..12, 0..60),
            batch in 1usize..20,
            places in 0usize..14,
        ) {
            let expected: Vec<f32> = rows.iter().map(|&row| f32::from(row)).collect();
            let capacity = places * (OVERHEAD + 1);
            let (answers, passes) = run(&rows, batch, capacity);
            prop_assert_eq!(answers, expected);
            prop_assert_eq!(passes, run(&rows, 1, capacity).1);
            // With a place for each, every distinct row is read once; without any, every row.
            let distinct = rows.iter().collect::<std::collections::HashSet<_>>().len();
            if places >= 12 {
                prop_assert_eq!(passes, distinct);
            }
            if places == 0 {
                prop_assert_eq!(passes, rows.len());
            }
        }
    }

    /// Runs `rows` rows, each the `period`-th before once more, and returns the passes and the answers still kept.
    fn run_with_repeats(rows: usize, period: usize, batch: usize) -> (usize, usize) {
        let mut reuse = Reuse::new(KEPT_FLOATS);
        let mut passes = 0;
        let bases: Vec<[u8; 8]> = (0..rows).map(|row| (row % period).to_le_bytes()).collect();
        for rows in bases.chunks(batch) {
            let inputs: Vec<Input> = rows.iter().map(|bases| Input::of(bases)).collect();
            let plan = reuse.plan(&inputs, |_| 1);
            passes += plan.new.len();
            let answer = |row: &usize| {
                let logits = vec![f32::from(inputs[*row].bases[0]), f32::from(inputs[*row].bases[1])];
                Ok(Scores { logits, ..Scores::default() })
            };
            let new = plan.new.iter().map(answer).collect();
            for (answer, bases) in reuse.complete(plan, new).into_iter().zip(rows) {
                assert_eq!(answer.unwrap().logits, [f32::from(bases[0]), f32::from(bases[1])]);
            }
        }
        (passes, reuse.kept.len())
    }

    #[test]
    fn nothing_is_kept_any_longer_where_nothing_comes_again() {
        for batch in [64, 4000, 50_000] {
            assert_eq!(run_with_repeats(TRIAL + 500, usize::MAX, batch), (TRIAL + 500, 0));
            // Half a percent of the trial: what came before is forgotten, too.
            let period = TRIAL - TRIAL / 200;
            assert_eq!(run_with_repeats(TRIAL + 500, period, batch), (TRIAL - TRIAL / 200 + 500, 0));
            // Two percent.
            let period = TRIAL - TRIAL / 50;
            assert_eq!(run_with_repeats(TRIAL + 500, period, batch), (period, period));
        }
    }

    #[test]
    fn inputs_that_differ_in_anything_a_model_reads_have_different_keys() {
        let (bases, tokens) = (&b"ACGT"[..], &[65u32, 67][..]);
        let inputs = [
            Input::of(bases),
            Input::of(b"ACG"),
            Input { second: Some(b""), ..Input::of(bases) },
            Input { second: Some(b"ACGT"), ..Input::of(b"") },
            Input { tokens: Some(tokens), ..Input::of(bases) },
            Input { tokens: Some(&tokens[..1]), ..Input::of(bases) },
        ];
        let keys: std::collections::HashSet<_> = inputs.iter().map(key_of).collect();
        assert_eq!(keys.len(), inputs.len());
    }
}
