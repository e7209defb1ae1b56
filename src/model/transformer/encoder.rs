//! Token ids to hidden states.

use super::block::{Block, attention};
use super::{Embeddings, Spec, Tensors};
use crate::error::{Error, Result};
use crate::kernel;
use crate::kernel::{Norm, Precision, Rotary};

/// Positions that rotary angles are made for where a spec has no end.
const POSITIONS: usize = 8192;

/// One sequence of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Its token ids, specials included.
    pub tokens: &'a [u32],
    /// A position, and the id that is read there instead.
    pub masked: Option<(usize, u32)>,
}

impl<'a> Sequence<'a> {
    /// Returns tokens as they are.
    pub fn of(tokens: &'a [u32]) -> Self {
        Self { tokens, masked: None }
    }
}

/// Looks on while sequences go through the layers.
pub trait Watch {
    /// Returns whether the attentions of this layer, from 0, are looked at.
    fn wants_attentions(&self, _layer: usize) -> bool {
        false
    }

    /// Sees the attention probabilities of a sequence in a layer, `[heads, tokens, tokens]`.
    fn attentions(&mut self, _layer: usize, _sequence: usize, _probabilities: &[f32]) {}

    /// Sees the hidden states of all sequences, `[tokens, hidden]`: the embeddings first, then those after each
    /// layer. Of the last layer it sees what was asked to be kept, after the norm that may follow.
    fn states(&mut self, _states: &[f32]) {}
}

/// Looks at nothing.
impl Watch for () {}

/// The memory that a thread works in.
#[derive(Default)]
pub struct Scratch {
    /// `[tokens, hidden]`.
    pub(super) hidden: Vec<f32>,
    /// `[tokens, hidden]`.
    pub(super) normed: Vec<f32>,
    /// Queries, keys and values, `[tokens, projected]`.
    pub(super) projected: Vec<f32>,
    /// `[tokens, heads·width]`.
    pub(super) context: Vec<f32>,
    /// `[tokens, intermediate]`.
    pub(super) wide: Vec<f32>,
    /// `[heads, length, length]`.
    pub(super) probabilities: Vec<f32>,
    pub(super) attention: kernel::Scratch,
}

/// An encoder on the processor.
pub struct Encoder {
    spec: Spec,
    /// `[vocabulary, hidden]`, with what is added to every token.
    words: Vec<f32>,
    /// `[positions, hidden]`.
    positions: Option<Vec<f32>>,
    norm: Option<Norm>,
    blocks: Vec<Block>,
    last_norm: Option<Norm>,
}

/// Most tokens that a sequence may have: a few times those of any published model.
const POSITIONS_MAX: usize = 1 << 22;

impl Encoder {
    /// Builds an encoder.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn new(spec: Spec, tensors: &dyn Tensors, precision: Precision) -> Result<Self> {
        if let Some(positions) = spec.positions.filter(|&positions| positions > POSITIONS_MAX) {
            let message = format!("config.json: {positions} positions; nyx has room for {POSITIONS_MAX}");
            return Err(Error::data(message));
        }
        if spec.width < 2 && spec.layers.iter().any(|layer| layer.rotary.is_some()) {
            return Err(Error::data("config.json: heads of one number have no pairs to turn"));
        }
        let Embeddings { words, constant, positions, norm } = tensors.embeddings()?;
        let mut words = words.into_owned();
        for word in words.chunks_exact_mut(spec.hidden) {
            constant.iter().for_each(|constant| add(word, constant));
        }
        let mut blocks = Vec::new();
        let mut angles: Vec<(f32, Rotary)> = Vec::new();
        for (index, attending) in spec.layers.iter().enumerate() {
            let rotary = attending.rotary.map(|base| {
                let known = angles.iter().find(|(known, _)| *known == base);
                known.map(|(_, rotary)| rotary.clone()).unwrap_or_else(|| {
                    let rotary = rotary(&spec, base);
                    angles.push((base, rotary.clone()));
                    rotary
                })
            });
            let attention = attention(&spec, attending, rotary, precision);
            blocks.push(Block::new(&spec, attention, &tensors.layer(index)?));
        }
        Ok(Self {
            words,
            positions: positions.map(|table| table.into_owned()),
            norm: norm.map(|scale| scale.norm(&spec)),
            blocks,
            last_norm: tensors.last_norm()?.map(|scale| scale.norm(&spec)),
            spec,
        })
    }

    /// Returns the shape of the encoder.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Takes sequences, laid end to end, through all layers on the calling thread, and returns the hidden states
    /// of the tokens `kept` (by their number in the whole, ascending; `None` for all), `[kept, hidden]`.
    ///
    /// # Panics
    ///
    /// When a token id is beyond the vocabulary or a position beyond the table.
    pub fn run<'s>(
        &self,
        sequences: &[Sequence],
        kept: Option<&[usize]>,
        watch: &mut dyn Watch,
        scratch: &'s mut Scratch,
    ) -> &'s [f32] {
        let starts = starts(sequences);
        self.embed(sequences, &mut scratch.hidden);
        let last = self.blocks.len() - 1;
        for (layer, block) in self.blocks.iter().enumerate() {
            watch.states(&scratch.hidden);
            block.forward(layer, &starts, kept.filter(|_| layer == last), watch, scratch);
        }
        self.last_norm.iter().for_each(|norm| norm.apply(&mut scratch.hidden));
        watch.states(&scratch.hidden);
        &scratch.hidden
    }

    fn embed(&self, sequences: &[Sequence], hidden: &mut Vec<f32>) {
        let width = self.spec.hidden;
        hidden.clear();
        for sequence in sequences {
            for (position, &token) in sequence.tokens.iter().enumerate() {
                let masked = sequence.masked.filter(|(masked, _)| *masked == position);
                let token = masked.map_or(token, |(_, id)| id) as usize;
                let first = hidden.len();
                hidden.extend_from_slice(&self.words[token * width..(token + 1) * width]);
                if let Some(table) = &self.positions {
                    add(&mut hidden[first..], &table[position * width..(position + 1) * width]);
                }
            }
        }
        self.norm.iter().for_each(|norm| norm.apply(hidden));
    }
}

/// Returns the angles of rotary positions: frequencies base^(−2j/width), j < width/2.
pub(super) fn rotary(spec: &Spec, base: f32) -> Rotary {
    let frequency = |pair: usize| 1.0 / base.powf(2.0 * pair as f32 / spec.width as f32);
    let frequencies: Vec<f32> = (0..spec.width / 2).map(frequency).collect();
    Rotary::new(&frequencies, spec.positions.unwrap_or(POSITIONS))
}

/// Returns where each sequence begins, and where the last ends.
pub fn starts(sequences: &[Sequence]) -> Vec<usize> {
    let mut starts = vec![0];
    for sequence in sequences {
        starts.push(starts[starts.len() - 1] + sequence.tokens.len());
    }
    starts
}

fn add(values: &mut [f32], more: &[f32]) {
    values.iter_mut().zip(more).for_each(|(value, more)| *value += more);
}
