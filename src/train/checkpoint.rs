//! Checkpoints: everything that a training decides by, in one safetensors file, so that what goes on from it has
//! the numbers of a training that was never stopped.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, View};

use super::run::{State, Training};
use super::schedule::Plateau;
use crate::error::{Error, InFile, Result};
use crate::model::graph::Snapshot;
use crate::model::weights::Array;
use crate::output;

/// A tensor to be written.
struct Plain<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for Plain<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::cast_slice(self.values))
    }
    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

/// Writes where a training stands; `purpose` says what is trained on what, and is asked for again when it goes on.
///
/// # Errors
///
/// When the file cannot be written; then the one before stays.
pub fn write(training: &Training, purpose: &str, path: &Path) -> Result<()> {
    let weights = training.parameters.snapshot()?;
    let mut views: BTreeMap<String, Plain> = BTreeMap::new();
    let snapshots = [("weights", Some(&weights)), ("best", training.best.as_ref())];
    for (part, snapshot) in snapshots.into_iter().filter_map(|(part, snapshot)| Some((part, snapshot?))) {
        for (name, Array { shape, values }) in snapshot {
            views.insert(format!("{part}/{name}"), Plain { shape: shape.clone(), values });
        }
    }
    for (name, moments) in &training.optimizer.moments {
        for (part, values) in ["first", "second"].iter().zip(moments) {
            views.insert(format!("{part}/{name}"), Plain { shape: vec![values.len()], values });
        }
    }
    let metadata: HashMap<String, String> = [
        ("purpose".to_string(), purpose.to_string()),
        ("state".to_string(), text_of(&training.state)),
        ("steps".to_string(), training.optimizer.steps.to_string()),
    ]
    .into();
    let temporary = output::temporary_beside(path)?;
    safetensors::serialize_to_file(views, Some(metadata), temporary.path())
        .map_err(|error| Error::data(format!("cannot write a checkpoint: {error}")))
        .in_file(path)?;
    temporary.commit(path)
}

/// Puts a training back to where a checkpoint says it stood.
///
/// # Errors
///
/// When the file is damaged, or of a training of another purpose or network.
pub fn read(training: &mut Training, purpose: &str, path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).in_file(path)?;
    restore(training, purpose, &bytes).in_file(path)
}

fn restore(training: &mut Training, purpose: &str, bytes: &[u8]) -> Result<()> {
    let damaged = |error: safetensors::SafeTensorError| Error::data(format!("not a checkpoint: {error}"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let entry = |name: &str| {
        metadata.get(name).cloned().ok_or_else(|| Error::data("safetensors, but no checkpoint of a training"))
    };
    let found = entry("purpose")?;
    if found != purpose {
        let message = format!(
            "a checkpoint of another training ({found}; this is {purpose}): remove it, or use the \
                               same arguments and data"
        );
        return Err(Error::data(message));
    }
    let state = state_of(&entry("state")?).ok_or_else(|| Error::data("the state cannot be read"))?;
    let steps = entry("steps")?.parse().map_err(|_| Error::data("the state cannot be read"))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let mut parts = BTreeMap::<&str, Snapshot>::new();
    let names = tensors.names();
    for whole in names {
        let view = tensors.tensor(whole).map_err(damaged)?;
        let (part, name) = whole.split_once('/').unwrap_or(("", whole));
        let values = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let array = Array { shape: view.shape().to_vec(), values: values.collect() };
        parts.entry(part).or_default().insert(name.into(), array);
    }
    training.parameters.restore(&parts.remove("weights").unwrap_or_default())?;
    training.best = parts.remove("best");
    let mut second = parts.remove("second").unwrap_or_default();
    let moments = parts.remove("first").unwrap_or_default().into_iter().map(|(name, first)| {
        let second = second.remove(&name).map(|array| array.values).unwrap_or_default();
        (name, [first.values, second])
    });
    training.optimizer.moments = moments.collect();
    (training.optimizer.steps, training.state) = (steps, state);
    Ok(())
}

/// Writes a state as whole numbers: those with a point as their bits.
fn text_of(state: &State) -> String {
    let State { step, epoch, batch, best, waited, plateau, losses, is_over } = state;
    let (best, best_step) = best.unwrap_or((f64::NAN, u64::MAX));
    let numbers = [
        *step,
        *epoch,
        *batch,
        best.to_bits(),
        best_step,
        *waited,
        plateau.best.to_bits(),
        plateau.waited,
        plateau.factor.to_bits(),
        losses.0.to_bits(),
        losses.1,
        u64::from(*is_over),
    ];
    numbers.map(|number| number.to_string()).join(" ")
}

fn state_of(text: &str) -> Option<State> {
    let numbers: Vec<u64> = text.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [step, epoch, batch, best, best_step, waited, low, plateau_waited, factor, sum, count, is_over] =
        numbers.try_into().ok()?;
    Some(State {
        step,
        epoch,
        batch,
        best: (best_step != u64::MAX).then_some((f64::from_bits(best), best_step)),
        waited,
        plateau: Plateau {
            best: f64::from_bits(low),
            waited: plateau_waited,
            factor: f64::from_bits(factor),
        },
        losses: (f64::from_bits(sum), count),
        is_over: is_over == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was() {
        let state = State {
            step: 7,
            best: Some((0.1 + 0.2, 5)),
            plateau: Plateau { best: 1.0 / 3.0, waited: 2, factor: 0.25 },
            losses: (std::f64::consts::E, 3),
            is_over: true,
            ..State::default()
        };
        assert_eq!(state_of(&text_of(&state)), Some(state));
        assert_eq!(state_of(&text_of(&State::default())), Some(State::default()));
        assert_eq!(state_of("1 2 3"), None);
    }
}
