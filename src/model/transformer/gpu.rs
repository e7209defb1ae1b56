//! Encoders on a GPU: the layers as a sequence of launches and matrix products.
//!
//! Weights lie on the device, rounded once. Sequences go in packs of some ten thousand tokens, end to end without
//! padding. Two packs are under way at a time: while one is computed, the next is filled and sent, and the results
//! of the one before come back. What comes back are means over ranges of tokens of the last hidden states (of one
//! token, where that is what a head reads), not the states of all tokens. Kernels: `kernels/transformer.cu`.
//!
//! A sequence's numbers do not depend on its pack: kernels add in an order that depends on the place in the sequence
//! alone, and the algorithm of a matrix product is chosen once for the encoder (see [`crate::device::cuda`]).
#![allow(unsafe_code)]
// A list of one range is one, and no list of its numbers.
#![allow(clippy::single_range_in_vec_init)]

mod arguments;
mod layers;
mod pack;
mod read;
mod weights;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::encoder::Sequence;
use super::{NormKind, Spec, Tensors};
use crate::device::backend::{Backend, Event, Locked, Memory, Number, Queue};
use crate::error::{Error, Result};
use layers::Arenas;
use pack::{Layout, Pack};
pub use read::{guess, refuse};
use weights::Weights;

/// The kernels, compiled by `scripts/kernels.sh`.
const PTX: &str = include_str!("../../../kernels/ptx/transformer.ptx");

/// The widest head that the kernels have.
const WIDTH_MAX: usize = 128;

/// How much goes through the layers at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of a pack, and so of the longest sequence.
    pub tokens: usize,
    /// Vectors that a pack gives.
    pub vectors: usize,
}

impl Default for Limits {
    /// Enough tokens to keep the tensor cores of any GPU busy, in about a GiB for BERT-base.
    fn default() -> Self {
        Self { tokens: 1 << 15, vectors: 1 << 13 }
    }
}

/// An encoder on a GPU.
pub struct GpuEncoder {
    backend: Arc<dyn Backend>,
    spec: Spec,
    number: Number,
    layout: Layout,
    weights: Weights,
    state: Mutex<State>,
}

/// What packs are computed in.
struct State {
    arenas: Arenas,
    slots: [Slot; 2],
}

/// What belongs to one pack under way.
struct Slot {
    filled: Locked,
    input: Memory,
    output: Memory,
    results: Locked,
    /// When the results are there, and how many vectors they are.
    done: Option<(Event, usize)>,
}

impl GpuEncoder {
    /// Puts an encoder on a device.
    ///
    /// # Errors
    ///
    /// When there are no kernels for its kind, a tensor is missing or has another shape, or memory is full.
    pub fn new(
        backend: Arc<dyn Backend>,
        spec: Spec,
        tensors: &dyn Tensors,
        number: Number,
        limits: Limits,
    ) -> Result<Self> {
        check(&spec)?;
        // Before anything else: what it says is about the installation.
        backend.prepare_products()?;
        backend.prepare(PTX, &layers::kernels(&spec, number))?;
        let layout = Layout::new(limits, number);
        let weights = Weights::upload(&*backend, &spec, tensors, number, layout.tokens)?;
        let slot = || -> Result<Slot> {
            let results = layout.vectors * spec.hidden * size_of::<f32>();
            Ok(Slot {
                filled: backend.lock(layout.bytes())?,
                input: backend.allocate(layout.bytes())?,
                output: backend.allocate(results)?,
                results: backend.lock(results)?,
                done: None,
            })
        };
        let arenas = Arenas::allocate(&*backend, &spec, number, layout.tokens)?;
        let state = State { arenas, slots: [slot()?, slot()?] }.into();
        Ok(Self { backend, spec, number, layout, weights, state })
    }

    /// Returns the shape of the encoder.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Takes sequences through all layers. For each, returns the means of the last hidden states over each of its
    /// `ranges` of tokens, `[ranges, hidden]`.
    ///
    /// # Errors
    ///
    /// When a sequence is too long for a pack or for the model, a token is beyond the vocabulary, or the device
    /// fails.
    ///
    /// # Panics
    ///
    /// When there are not as many lists of ranges as sequences, or a range is empty or beyond its sequence.
    pub fn run(&self, sequences: &[Sequence], ranges: &[Vec<Range<usize>>]) -> Result<Vec<Vec<f32>>> {
        assert_eq!(sequences.len(), ranges.len(), "a list of ranges for each sequence");
        self.check_sequences(sequences)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let vectors = self.run_packs(&mut state, sequences, ranges);
        if vectors.is_err() {
            // Whatever is still under way must not write into the next packs.
            self.settle();
            state.slots.iter_mut().for_each(|slot| slot.done = None);
        }
        let mut rest = vectors?.into_iter();
        let take = |ranges: &Vec<Range<usize>>| rest.by_ref().take(ranges.len() * self.spec.hidden).collect();
        Ok(ranges.iter().map(take).collect())
    }

    /// Returns the vectors of all packs, in order.
    fn run_packs(
        &self,
        state: &mut State,
        sequences: &[Sequence],
        ranges: &[Vec<Range<usize>>],
    ) -> Result<Vec<f32>> {
        let mut vectors = Vec::new();
        let State { arenas, slots } = state;
        let packs = self.layout.packs(sequences, ranges)?;
        for (turn, sequences_of_pack) in packs.iter().enumerate() {
            let slot = &mut slots[turn % 2];
            self.collect(slot, &mut vectors)?;
            let of_pack = sequences_of_pack.clone();
            let pack =
                Pack::fill(&self.layout, &sequences[of_pack.clone()], &ranges[of_pack], slot.filled.bytes());
            self.submit(&pack, arenas, slot)?;
        }
        for turn in packs.len()..packs.len() + 2 {
            self.collect(&mut slots[turn % 2], &mut vectors)?;
        }
        Ok(vectors)
    }

    /// Sends a pack, computes it, and fetches what it gives, all without waiting.
    fn submit(&self, pack: &Pack, arenas: &Arenas, slot: &mut Slot) -> Result<()> {
        let backend = &*self.backend;
        // SAFETY: both are `layout.bytes()` long and live in the slot; `collect` has waited for whatever used them
        // before, and does so before anybody touches them again.
        unsafe { backend.send(&slot.filled, &slot.input, self.layout.bytes_of(pack)) }?;
        backend.follow(Queue::Compute, &backend.record(Queue::Upload)?)?;
        let run = layers::Run {
            backend,
            spec: &self.spec,
            number: self.number,
            weights: &self.weights,
            arenas,
            layout: &self.layout,
            pack,
            input: slot.input.address(),
        };
        // SAFETY: the layout of the input is that of the pack; arenas and output are as large as its limits.
        unsafe { run.all(slot.output.address()) }?;
        backend.follow(Queue::Download, &backend.record(Queue::Compute)?)?;
        let bytes = pack.vectors * self.spec.hidden * size_of::<f32>();
        // SAFETY: as for `send`.
        unsafe { backend.fetch(&slot.output, &slot.results, bytes) }?;
        slot.done = Some((backend.record(Queue::Download)?, pack.vectors));
        Ok(())
    }

    /// Waits for the pack in a slot, if there is one, and takes its vectors.
    fn collect(&self, slot: &mut Slot, vectors: &mut Vec<f32>) -> Result<()> {
        let Some((done, count)) = &slot.done else { return Ok(()) };
        let numbers = count * self.spec.hidden;
        self.backend.reach(done)?;
        slot.done = None;
        let (floats, _) = slot.results.bytes().as_chunks::<4>();
        vectors.extend(floats[..numbers].iter().map(|bytes| f32::from_le_bytes(*bytes)));
        Ok(())
    }

    fn check_sequences(&self, sequences: &[Sequence]) -> Result<()> {
        let places = self.weights.places.unwrap_or(usize::MAX);
        for sequence in sequences {
            let length = sequence.tokens.len();
            if length > places {
                return Err(Error::data(format!("{length} tokens: the model has positions for {places}")));
            }
            let masked = sequence.masked.map(|(_, id)| id);
            let mut ids = sequence.tokens.iter().copied().chain(masked);
            if let Some(id) = ids.find(|&id| id as usize >= self.spec.vocabulary) {
                let vocabulary = self.spec.vocabulary;
                return Err(Error::data(format!(
                    "token {id} is beyond the vocabulary of {vocabulary} tokens"
                )));
            }
        }
        Ok(())
    }

    /// Waits for everything, failed or not.
    fn settle(&self) {
        for queue in [Queue::Upload, Queue::Compute, Queue::Download] {
            // There is nothing to be done about errors here: whoever caused them has been told.
            let _ = self.backend.record(queue).and_then(|event| self.backend.reach(&event));
        }
    }
}

impl Drop for GpuEncoder {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Refuses encoders that the kernels are not for.
fn check(spec: &Spec) -> Result<()> {
    let rotary = spec.layers.iter().any(|layer| layer.rotary.is_some());
    let refusals = [
        (spec.norm != NormKind::Layer, "root mean square norms"),
        (spec.key_value_heads != spec.heads, "fewer heads of keys than of queries"),
        (spec.layers.iter().any(|layer| layer.causal), "causal attention"),
        (spec.layers.iter().any(|layer| layer.reach.is_some()), "attention within a window"),
        (
            spec.layers.windows(2).any(|pair| pair[0].rotary != pair[1].rotary),
            "several kinds of rotary positions",
        ),
        (spec.head_norms, "norms of heads"),
        (spec.width > WIDTH_MAX, "heads wider than 128"),
        (
            !spec.width.is_multiple_of(if rotary { 16 } else { 8 }),
            "heads whose width is no multiple of 8 (of 16 with rotary positions)",
        ),
        (
            !spec.hidden.is_multiple_of(8) || !spec.intermediate.is_multiple_of(8),
            "layers whose width is no multiple of 8",
        ),
    ];
    match refusals.iter().find(|(refused, _)| *refused) {
        Some((_, what)) => {
            Err(Error::data(format!("--device cuda: there are no kernels for {what}; use --device cpu")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
