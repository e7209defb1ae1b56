//! Products of rows of bfloat16 pairs with the weights of some outputs, and what follows the sums.

use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;
use crate::kernel::linear::pack::{Columns, Strips};
use crate::kernel::product::{self, HEIGHT, Job, Pair, Sums, WIDTH};

/// Weights in bfloat16, rounded once.
pub(super) struct PairWeights {
    strips: Strips<Pair>,
    /// What sums begin with, `[strips, WIDTH]`.
    bias: Vec<[f32; WIDTH]>,
    outputs: usize,
}

/// How rows lie among pairs. They may overlap.
#[derive(Clone, Copy)]
pub(super) struct Pitch {
    /// Pairs from one row to the next.
    pub stride: usize,
    /// Pieces in which a row lies.
    pub runs: usize,
    /// Pairs from one piece to the next.
    pub gap: usize,
}

impl Pitch {
    /// Returns the pitch of rows in one piece.
    pub fn whole(stride: usize) -> Self {
        Self { stride, runs: 1, gap: 0 }
    }
}

/// What follows the sums of a tile.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    /// Whether negative sums become zero.
    pub relu: bool,
    /// What is added after that, as many rows as the output has.
    pub residual: Option<&'a [f32]>,
}

/// Where the sums of a strip go.
#[derive(Clone, Copy)]
struct Columnwise {
    first: usize,
    outputs: usize,
}

impl PairWeights {
    /// Packs weights `[outputs, taps, inputs]`: pairs are of neighbouring inputs of one tap, the last with a zero where
    /// inputs are odd.
    pub fn new(plain: &[f32], inputs: usize, bias: &[f32]) -> Self {
        let outputs = bias.len();
        let even = inputs.next_multiple_of(2);
        let taps = plain.len() / (outputs * inputs);
        let mut padded = vec![0.0; outputs * taps * even];
        for (padded, plain) in padded.chunks_exact_mut(even).zip(plain.chunks_exact(inputs)) {
            padded[..inputs].copy_from_slice(plain);
        }
        let columns = Columns { inputs: taps * even, outputs, gated: false };
        Self {
            strips: columns.pack(&padded, |pair| Pair::new(pair[0], pair[1])),
            bias: columns.spread(|output| bias[output]),
            outputs,
        }
    }

    /// Multiplies rows, as many as there are of `output`, `[rows, outputs]`.
    pub fn apply(
        &self,
        instructions: Instructions,
        rows: &[Pair],
        Pitch { stride, runs, gap }: Pitch,
        finish: Finish,
        output: &mut [f32],
    ) {
        let mut sums = Sums([[0.0; WIDTH]; HEIGHT]);
        for (index, (strip, begin)) in self.strips.iter().zip(&self.bias).enumerate() {
            let place = Columnwise { first: index * WIDTH, outputs: self.outputs };
            for (tile, output) in output.chunks_mut(HEIGHT * self.outputs).enumerate() {
                let rows = &rows[tile * HEIGHT * stride..];
                let job = Job::new(begin, rows, stride, strip).in_runs(runs, gap);
                product::multiply(instructions, job, output.len() / self.outputs, &mut sums);
                let from = tile * HEIGHT * self.outputs;
                let residual = finish.residual.map(|residual| &residual[from..][..output.len()]);
                store(instructions, place, Finish { residual, ..finish }, &sums, output);
            }
        }
    }
}

vectorize!(
    /// Writes the sums of a tile to their columns of `output`, `[rows, outputs]`.
    fn store(place: Columnwise, finish: Finish, sums: &Sums<f32>, output: &mut [f32]) = store_body
);

// No closures from here on: one that is not inlined is compiled without the instructions of its caller.

#[inline(always)]
fn store_body(place: Columnwise, finish: Finish, sums: &Sums<f32>, output: &mut [f32]) {
    let Columnwise { first, outputs } = place;
    let count = (outputs - first).min(WIDTH);
    let mut from = first;
    for (sums, row) in sums.0.iter().zip(output.chunks_exact_mut(outputs)) {
        let residual = match finish.residual {
            Some(residual) => &residual[from..from + count],
            None => &[],
        };
        from += outputs;
        let row = &mut row[first..first + count];
        match (row.first_chunk_mut::<WIDTH>(), residual.first_chunk::<WIDTH>()) {
            (Some(row), Some(residual)) => put(sums, finish.relu, Some(residual), row),
            (Some(row), None) => put(sums, finish.relu, None, row),
            (None, _) => put(&sums[..count], finish.relu, finish.residual.and(Some(residual)), row),
        }
    }
}

#[inline(always)]
fn put(sums: &[f32], relu: bool, residual: Option<&[f32]>, row: &mut [f32]) {
    for (value, &sum) in row.iter_mut().zip(sums) {
        // What is no number stays, as in PyTorch.
        *value = if relu && sum < 0.0 { 0.0 } else { sum };
    }
    if let Some(residual) = residual {
        for (value, more) in row.iter_mut().zip(residual) {
            *value += more;
        }
    }
}
