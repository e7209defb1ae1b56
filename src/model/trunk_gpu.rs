//! The layers over positions that a network begins with ([`Stack`]), on a GPU; what follows them stays on the
//! processor, which does it while the GPU has the next rows.
//!
//! Weights lie on the device, rounded once. Rows of equal length go in parts of as many as fit the memory for
//! activations. Two parts are under way at a time: while one is computed, the next is sent, and the results of the one
//! before come back. Kernels: `kernels/convolution.cu`, whose sums do not depend on the part that a row is in.
#![allow(unsafe_code)]

mod arguments;
mod layers;

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::device::backend::{Backend, Event, Locked, Memory, Number, Queue};
use crate::error::Result;
use crate::kernel::Stack;
use layers::{Launcher, Layer, padded};

/// The kernels, compiled by `scripts/kernels.sh`.
const PTX: &str = include_str!("../../kernels/ptx/convolution.ptx");

/// Bytes of the activations of one layer of a part.
const ARENA: usize = 256 << 20;

/// Positions that a thread rounds at a time.
const PACKED: usize = 1 << 14;

/// A trunk on a GPU.
pub struct GpuTrunk {
    backend: Arc<dyn Backend>,
    number: Number,
    /// The same on the processor, which knows the shapes.
    stack: Stack,
    layers: Vec<Layer>,
    /// Bytes of the activations of one layer of a part.
    arena: usize,
    state: Mutex<State>,
}

/// What parts are computed in; none of it is smaller than it has to be.
#[derive(Default)]
struct State {
    arenas: Option<[Memory; 2]>,
    slots: [Option<Slot>; 2],
}

/// What belongs to one part under way.
struct Slot {
    filled: Locked,
    input: Memory,
    output: Memory,
    results: Locked,
    /// When the results are there, and how many bytes they are.
    done: Option<(Event, usize)>,
}

/// How rows of one shape are cut into parts.
struct Plan {
    /// Positions and channels of the input and of every layer's output.
    shapes: Vec<[usize; 2]>,
    /// Rows of a part.
    rows: usize,
    /// Bytes of a row: as it is sent, as the largest activation, as it comes back.
    bytes: [usize; 3],
}

impl Plan {
    fn new(shapes: Vec<[usize; 2]>, number: Number, arena: usize) -> Self {
        let bytes = |[length, channels]: [usize; 2]| length * padded(channels) * number.bytes();
        let activation = shapes[1..].iter().map(|&shape| bytes(shape)).max().unwrap_or(0).max(1);
        let [length, channels] = shapes[shapes.len() - 1];
        let back = length * channels * size_of::<f32>();
        Self { rows: (arena / activation).max(1), bytes: [bytes(shapes[0]), activation, back], shapes }
    }
}

impl GpuTrunk {
    /// Puts a trunk on a device.
    ///
    /// # Errors
    ///
    /// When there are no kernels for a layer, or memory is full.
    pub fn new(backend: Arc<dyn Backend>, stack: &Stack, number: Number) -> Result<Self> {
        backend.prepare(PTX, &layers::kernels(number))?;
        let layers = stack.layers().iter().map(|layer| Layer::upload(&*backend, layer, number));
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { backend, number, stack: stack.clone(), layers, arena: ARENA, state: Mutex::default() })
    }

    /// Applies the layers to `[B, L, C]` in the processor's memory. Returns `[B, L', C']` there.
    ///
    /// # Errors
    ///
    /// When a layer does not fit what comes from the one before, or the device fails.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (rows, length, channels) = input.dims3()?;
        let plan = Plan::new(self.stack.shapes([length, channels])?, self.number, self.arena);
        let [last_length, last_channels] = plan.shapes[plan.shapes.len() - 1];
        let packed = pack(&input.flatten_all()?.to_vec1()?, channels, self.number);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.run_parts(&mut state, &plan, &packed);
        if found.is_err() {
            // Whatever is still under way must not write into the next parts.
            self.settle();
            state.slots.iter_mut().flatten().for_each(|slot| slot.done = None);
        }
        Ok(Tensor::from_vec(found?, (rows, last_length, last_channels), &Device::Cpu)?)
    }

    /// Returns the results of all parts, in order. Nothing here may wait for other threads' work: they may wait for
    /// this state.
    fn run_parts(&self, state: &mut State, plan: &Plan, packed: &[u8]) -> Result<Vec<f32>> {
        self.fit(state, plan)?;
        let mut results = Vec::new();
        let State { arenas: Some(arenas), slots } = state else { return Ok(results) };
        let mut turns = 0;
        for part in packed.chunks(plan.rows * plan.bytes[0].max(1)) {
            let slot = slots[turns % 2].as_mut().expect("slots are allocated with the arenas");
            self.collect(slot, &mut results)?;
            self.submit(plan, part, arenas, slot)?;
            turns += 1;
        }
        for turn in turns..turns + 2 {
            let slot = slots[turn % 2].as_mut().expect("slots are allocated with the arenas");
            self.collect(slot, &mut results)?;
        }
        Ok(results)
    }

    /// Allocates what is missing or too small.
    fn fit(&self, state: &mut State, plan: &Plan) -> Result<()> {
        let [sent, activation, back] = plan.bytes.map(|bytes| bytes * plan.rows);
        let backend = &*self.backend;
        if state.arenas.as_ref().is_none_or(|arenas| arenas[0].bytes() < activation) {
            state.arenas = Some([backend.allocate(activation)?, backend.allocate(activation)?]);
        }
        for slot in &mut state.slots {
            if slot.as_ref().is_none_or(|slot| slot.input.bytes() < sent || slot.output.bytes() < back) {
                *slot = Some(Slot {
                    filled: backend.lock(sent)?,
                    input: backend.allocate(sent)?,
                    output: backend.allocate(back)?,
                    results: backend.lock(back)?,
                    done: None,
                });
            }
        }
        Ok(())
    }

    /// Sends a part, computes it, and fetches what it gives, all without waiting.
    fn submit(&self, plan: &Plan, part: &[u8], arenas: &[Memory; 2], slot: &mut Slot) -> Result<()> {
        let backend = &*self.backend;
        let rows = part.len() / plan.bytes[0];
        slot.filled.bytes()[..part.len()].copy_from_slice(part);
        // SAFETY: both are as long as a part of `plan.rows` and live in the slot; `collect` has waited for whatever
        // used them before, and does so before anybody touches them again.
        unsafe { backend.send(&slot.filled, &slot.input, part.len()) }?;
        backend.follow(Queue::Compute, &backend.record(Queue::Upload)?)?;
        let launcher = Launcher { backend, number: self.number, rows };
        let mut from = slot.input.address();
        for (index, (layer, shapes)) in self.layers.iter().zip(plan.shapes.windows(2)).enumerate() {
            let to = arenas[index % 2].address();
            // SAFETY: the shapes are those of the layers; an arena has room for the largest of `plan.rows` rows. What
            // is put into the queue is done in order, and all of it lives until then.
            unsafe { launcher.layer(layer, [shapes[0], shapes[1]], from, to) }?;
            from = to;
        }
        let last = plan.shapes[plan.shapes.len() - 1];
        // SAFETY: as above; the output has room for `plan.rows` rows.
        unsafe { launcher.unpack(last, from, slot.output.address()) }?;
        backend.follow(Queue::Download, &backend.record(Queue::Compute)?)?;
        let bytes = rows * plan.bytes[2];
        // SAFETY: as for `send`.
        unsafe { backend.fetch(&slot.output, &slot.results, bytes) }?;
        slot.done = Some((backend.record(Queue::Download)?, bytes));
        Ok(())
    }

    /// Waits for the part in a slot, if there is one, and takes its results.
    fn collect(&self, slot: &mut Slot, results: &mut Vec<f32>) -> Result<()> {
        let Some((done, bytes)) = &slot.done else { return Ok(()) };
        let bytes = *bytes;
        self.backend.reach(done)?;
        slot.done = None;
        let (floats, _) = slot.results.bytes()[..bytes].as_chunks::<4>();
        results.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
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

impl Drop for GpuTrunk {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Rounds activations and fills their channels up with zeros.
fn pack(values: &[f32], channels: usize, number: Number) -> Vec<u8> {
    let wide = padded(channels);
    let block = |values: &[f32]| {
        let mut rows = vec![0.0; values.len() / channels * wide];
        for (row, values) in rows.chunks_exact_mut(wide).zip(values.chunks_exact(channels)) {
            row[..channels].copy_from_slice(values);
        }
        number.round(&rows)
    };
    values.par_chunks(PACKED * channels.max(1)).flat_map_iter(block).collect()
}

#[cfg(test)]
mod tests;
