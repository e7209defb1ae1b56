//! Attention of one sequence, head by head: scores of a few queries, softmax, and what they take of the
//! values, all in cache.
//!
//! Each score and each number of the context is one chain in the order of channels and keys, each softmax sum
//! one tree that the position of the key decides; keys that are not seen count as zeros. So neither the
//! neighbours of a sequence in its batch nor the way a sequence is cut into blocks can change a bit.

mod blocks;
mod pack;
mod rotary;
mod softmax;

use super::Instructions;
use super::linear::Precision;
use super::product::Pair;
use blocks::Buffers;
pub use rotary::Rotary;

/// Multi-head attention over the tokens of a sequence.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and of values, which divide the query heads.
    pub key_value_heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// What q·k is multiplied by.
    pub scale: f32,
    /// ALiBi: of each head, what a token of distance takes off a score.
    pub slopes: Option<Vec<f32>>,
    /// Whether a query sees only its own and earlier positions.
    pub causal: bool,
    /// The farthest distance a query sees.
    pub window: Option<usize>,
    /// Turns queries and keys by their positions.
    pub rotary: Option<Rotary>,
    /// Of the products with keys and values. There are no bytes here: [`Precision::Int8`] means bfloat16.
    pub precision: Precision,
}

/// Memory that a thread uses again from one sequence to the next.
#[derive(Default)]
pub struct Scratch {
    singles: Buffers<f32>,
    pairs: Buffers<Pair>,
}

impl Attention {
    /// Creates plain attention: as many heads of keys as of queries, scale 1/√width, every position seen.
    pub fn new(heads: usize, width: usize) -> Self {
        Self {
            heads,
            key_value_heads: heads,
            width,
            scale: (width as f32).sqrt().recip(),
            slopes: None,
            causal: false,
            window: None,
            rotary: None,
            precision: Precision::F32,
        }
    }

    /// Returns the numbers of a token that go in: its queries, keys, values.
    pub fn inputs(&self) -> usize {
        (self.heads + 2 * self.key_value_heads) * self.width
    }

    /// Returns the numbers of a token that come out.
    pub fn outputs(&self) -> usize {
        self.heads * self.width
    }

    /// Attends within one sequence: `qkv`, `[length, queries | keys | values]`, to `context`, `[length, heads·width]`,
    /// and perhaps to the softmax of the scores, `[heads, length, length]` by query and key.
    ///
    /// # Panics
    ///
    /// When the lengths do not belong together, or the rotary table is shorter than the sequence.
    pub fn apply(
        &self,
        qkv: &[f32],
        length: usize,
        context: &mut [f32],
        scratch: &mut Scratch,
        probabilities: Option<&mut [f32]>,
    ) {
        self.apply_with(Instructions::detect(), qkv, length, context, scratch, probabilities);
    }

    fn apply_with(
        &self,
        instructions: Instructions,
        qkv: &[f32],
        length: usize,
        context: &mut [f32],
        scratch: &mut Scratch,
        probabilities: Option<&mut [f32]>,
    ) {
        assert!(self.key_value_heads > 0 && self.heads.is_multiple_of(self.key_value_heads), "{self:?}");
        assert_eq!((qkv.len(), context.len()), (length * self.inputs(), length * self.outputs()), "{self:?}");
        let all = self.heads * length * length;
        assert!(probabilities.as_ref().is_none_or(|probabilities| probabilities.len() == all));
        assert!(self.slopes.as_ref().is_none_or(|slopes| slopes.len() == self.heads), "a slope a head");
        if let Some(rotary) = &self.rotary {
            assert!(length <= rotary.positions(), "{length} tokens, the table has {}", rotary.positions());
            assert!(2 * rotary.pairs() <= self.width, "{self:?}");
        }
        let sequence = blocks::Sequence { attention: self, instructions, qkv, length };
        match self.precision {
            Precision::F32 => sequence.run(&mut scratch.singles, context, probabilities),
            Precision::Bf16 | Precision::Int8 => sequence.run(&mut scratch.pairs, context, probabilities),
        }
    }
}

/// Returns the slopes of ALiBi for as many heads: r, r², … with r = 2^(-8/n) for n a power of two, else those of
/// the lower power of two and then every other of the higher.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let geometric = |n: usize| {
        let ratio = (-8.0 / n as f64).exp2();
        (1..=n).map(move |power| ratio.powi(power as i32) as f32)
    };
    let lower = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    geometric(lower).chain(geometric(2 * lower).step_by(2)).take(heads).collect()
}

#[cfg(test)]
mod tests;
