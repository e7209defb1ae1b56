//! The order of the work: a head's keys and values are packed, then a few queries at a time go all the way.

use super::super::Instructions;
use super::super::product::{self, HEIGHT, Job, Strip, Sums, WIDTH};
use super::Attention;
use super::pack::{self, Number};
use super::softmax::{Query, softmax};

/// Queries that go through together: their scores stay in cache.
const QUERIES: usize = 2 * HEIGHT;

/// Units added to a row, so that rows do not fall on the same few lines of the first cache.
const APART: usize = 16;

/// One sequence to attend within.
pub(super) struct Sequence<'a> {
    pub attention: &'a Attention,
    pub instructions: Instructions,
    pub qkv: &'a [f32],
    pub length: usize,
}

/// Keys and values of one head, and what a block of its queries needs.
#[derive(Default)]
pub(super) struct Buffers<T> {
    /// `[strips of keys, channels in units]`.
    keys: Vec<Strip<T>>,
    /// `[strips of channels, keys in units]`.
    values: Vec<Strip<T>>,
    /// `[QUERIES, channels in units]`.
    queries: Vec<T>,
    /// `[QUERIES, keys]`.
    scores: Vec<f32>,
    /// `[QUERIES, keys in units]`.
    weights: Vec<T>,
    /// A strip of keys before it is packed, `[WIDTH, channels in units]`.
    rows: Vec<T>,
    /// One head's channels, turned.
    turned: Vec<f32>,
}

/// Queries of a head, and the keys that any of them sees, rounded out to strips.
struct Block {
    head: usize,
    queries: std::ops::Range<usize>,
    keys: std::ops::Range<usize>,
}

impl Sequence<'_> {
    pub fn run<T: Number>(
        &self,
        buffers: &mut Buffers<T>,
        context: &mut [f32],
        mut probabilities: Option<&mut [f32]>,
    ) {
        buffers.resize(self.attention.width, self.length);
        let group = self.attention.heads / self.attention.key_value_heads;
        for shared in 0..self.attention.key_value_heads {
            self.pack_keys(shared, buffers);
            self.pack_values(shared, buffers);
            for head in shared * group..(shared + 1) * group {
                for first in (0..self.length).step_by(QUERIES) {
                    let block = self.block(head, first);
                    self.scores(&block, buffers);
                    let factors = self.softmax(&block, buffers, probabilities.as_deref_mut());
                    self.context(&block, buffers, &factors, context);
                }
            }
        }
    }

    fn block(&self, head: usize, first: usize) -> Block {
        let queries = first..(first + QUERIES).min(self.length);
        let keys = self.seen(queries.start).start / WIDTH * WIDTH
            ..self.seen(queries.end - 1).end.next_multiple_of(WIDTH);
        Block { head, queries, keys }
    }

    /// Returns the keys that a query sees.
    fn seen(&self, position: usize) -> std::ops::Range<usize> {
        let Attention { causal, window, .. } = *self.attention;
        let window = window.unwrap_or(self.length);
        let end = if causal { position + 1 } else { position.saturating_add(window).saturating_add(1) };
        position.saturating_sub(window)..end.min(self.length)
    }

    /// Returns the channels of a token's head, heads counted from the first query on.
    fn channels(&self, token: usize, head: usize) -> &[f32] {
        let width = self.attention.width;
        &self.qkv[token * self.attention.inputs() + head * width..][..width]
    }

    /// Returns channels turned by their position, times a factor.
    fn turn<'t>(&'t self, token: usize, head: usize, factor: f32, turned: &'t mut [f32]) -> &'t [f32] {
        let channels = self.channels(token, head);
        if factor == 1.0 && self.attention.rotary.is_none() {
            return channels;
        }
        for (turned, channel) in turned.iter_mut().zip(channels) {
            *turned = channel * factor;
        }
        if let Some(rotary) = &self.attention.rotary {
            rotary.turn(token, turned);
        }
        turned
    }

    fn pack_keys<T: Number>(&self, shared: usize, buffers: &mut Buffers<T>) {
        let Buffers { keys, rows, turned, .. } = buffers;
        let (taps, head) = (self.attention.width.div_ceil(T::GROUP), self.attention.heads + shared);
        for (first, strip) in (0..self.length).step_by(WIDTH).zip(keys.chunks_exact_mut(taps)) {
            let tokens = first..(first + WIDTH).min(self.length);
            for (token, row) in tokens.zip(rows.chunks_exact_mut(taps)) {
                T::row(self.instructions, self.turn(token, head, 1.0, turned), row);
            }
            pack::transpose(self.instructions, rows, strip);
        }
    }

    fn pack_values<T: Number>(&self, shared: usize, buffers: &mut Buffers<T>) {
        let head = self.attention.heads + self.attention.key_value_heads + shared;
        let taps = self.length.div_ceil(T::GROUP);
        for tap in 0..taps {
            let first = tap * T::GROUP;
            let last = (first + T::GROUP).min(self.length) - 1;
            let rows = [self.channels(first, head), self.channels(last, head)];
            let rows = &rows[..last - first + 1];
            T::values(self.instructions, rows, taps, &mut buffers.values[tap..]);
        }
    }

    /// Computes the scores of a block, `[queries, keys]`.
    fn scores<T: Number>(&self, block: &Block, buffers: &mut Buffers<T>) {
        let Buffers { keys, queries, scores, turned, .. } = buffers;
        let (taps, stride) = (self.attention.width.div_ceil(T::GROUP), row_of(self.length));
        for (token, query) in block.queries.clone().zip(queries.chunks_exact_mut(taps)) {
            let channels = self.turn(token, block.head, self.attention.scale, turned);
            T::row(self.instructions, channels, query);
        }
        for first in (0..block.queries.len()).step_by(HEIGHT) {
            let count = (block.queries.len() - first).min(HEIGHT);
            for key in block.keys.clone().step_by(WIDTH) {
                let strip = &keys[key / WIDTH * taps..][..taps];
                let mut sums = Sums([[0.0; WIDTH]; HEIGHT]);
                let job = Job::new(&[0.0; WIDTH], &queries[first * taps..], taps, strip);
                product::multiply(self.instructions, job, count, &mut sums);
                let places = scores.chunks_exact_mut(stride).skip(first);
                for (place, sums) in places.zip(&sums.0[..count]) {
                    place[key - block.keys.start..][..WIDTH].copy_from_slice(sums);
                }
            }
        }
    }

    /// Makes weights of scores; returns what each query's are to be multiplied by.
    fn softmax<T: Number>(
        &self,
        block: &Block,
        buffers: &mut Buffers<T>,
        mut probabilities: Option<&mut [f32]>,
    ) -> [f32; QUERIES] {
        let mut factors = [0.0; QUERIES];
        let stride = row_of(self.length);
        let slope = self.attention.slopes.as_ref().map_or(0.0, |slopes| slopes[block.head]);
        let rows = buffers.scores.chunks_exact_mut(stride).zip(buffers.weights.chunks_exact_mut(stride));
        for ((position, factor), (scores, weights)) in block.queries.clone().zip(&mut factors).zip(rows) {
            let seen = self.seen(position);
            let query =
                Query { position, first_key: block.keys.start, from: seen.start, to: seen.end, slope };
            let scores = &mut scores[..block.keys.len()];
            softmax(self.instructions, &query, scores, factor);
            T::row(self.instructions, scores, &mut weights[..block.keys.len() / T::GROUP]);
            if let Some(probabilities) = probabilities.as_deref_mut() {
                let row =
                    &mut probabilities[(block.head * self.length + position) * self.length..][..self.length];
                row.fill(0.0);
                let keys = block.keys.start..block.keys.end.min(self.length);
                for (probability, weight) in row[keys].iter_mut().zip(scores) {
                    *probability = *weight * *factor;
                }
            }
        }
        factors
    }

    /// Adds up the values of a block's keys.
    fn context<T: Number>(
        &self,
        block: &Block,
        buffers: &Buffers<T>,
        factors: &[f32; QUERIES],
        context: &mut [f32],
    ) {
        let (width, outputs) = (self.attention.width, self.attention.outputs());
        let (all, stride) = (self.length.div_ceil(T::GROUP), row_of(self.length));
        let taps = block.keys.start / T::GROUP..(block.keys.end.min(self.length)).div_ceil(T::GROUP);
        for first in (0..block.queries.len()).step_by(HEIGHT) {
            let count = (block.queries.len() - first).min(HEIGHT);
            for (index, strip) in buffers.values.chunks_exact(all).take(width.div_ceil(WIDTH)).enumerate() {
                let mut sums = Sums([[0.0; WIDTH]; HEIGHT]);
                let rows = &buffers.weights[first * stride..];
                let job = Job::new(&[0.0; WIDTH], rows, stride, &strip[taps.clone()]);
                product::multiply(self.instructions, job, count, &mut sums);
                let channels = (width - index * WIDTH).min(WIDTH);
                for (row, sums) in sums.0[..count].iter().enumerate() {
                    let token = block.queries.start + first + row;
                    let place = token * outputs + block.head * width + index * WIDTH;
                    for (value, sum) in context[place..][..channels].iter_mut().zip(sums) {
                        *value = sum * factors[first + row];
                    }
                }
            }
        }
    }
}

/// Returns the distance of rows of scores.
fn row_of(length: usize) -> usize {
    length.next_multiple_of(WIDTH) + APART
}

impl<T: Number> Buffers<T> {
    /// Makes room; what stands in it is of no interest, as columns that are no key are never read.
    fn resize(&mut self, width: usize, length: usize) {
        fn grow<V: Clone>(buffer: &mut Vec<V>, length: usize, value: V) {
            if buffer.len() < length {
                buffer.resize(length, value);
            }
        }
        let channels = width.div_ceil(T::GROUP);
        grow(&mut self.keys, length.div_ceil(WIDTH) * channels, Strip([T::default(); WIDTH]));
        grow(
            &mut self.values,
            width.div_ceil(WIDTH) * length.div_ceil(T::GROUP),
            Strip([T::default(); WIDTH]),
        );
        grow(&mut self.rows, WIDTH * channels, T::default());
        grow(&mut self.queries, QUERIES * channels, T::default());
        grow(&mut self.scores, QUERIES * row_of(length), 0.0);
        grow(&mut self.weights, QUERIES * row_of(length), T::default());
        self.turned.resize(width, 0.0);
    }
}
