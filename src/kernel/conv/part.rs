//! Part of a row: which outputs a change of some inputs reaches to the bit, and their computation.
//!
//! A direct sum reads its taps alone. Winograd's algorithm mixes all inputs of a step into each of its outputs: they
//! cancel, but not to the last bit. So there the unit of change is the step, whole steps at fixed places.

use std::ops::Range;

use super::image::SEGMENT;
use super::way::Way;
use super::winograd::Winograd;
use super::{Conv, Image, Instructions, Precision, SCRATCH};

impl Conv {
    /// Returns the layer as it is computed where parts of rows are: in f32, and dilated layers, whose steps of
    /// Winograd's algorithm spread any change far, by the direct sum. Their numbers differ in the last bits.
    pub(in crate::kernel) fn in_parts(&self) -> Self {
        Self { direct: self.dilation[1] > 1, precision: Precision::F32, ..self.clone() }
    }

    /// Returns the filters for Winograd's algorithm, where the layer is computed by it.
    fn winograd(&self) -> Option<&Winograd> {
        match self.way() {
            Way::Winograd(filters) => Some(filters),
            Way::Direct | Way::Rounded(_) => None,
        }
    }

    /// Returns the outputs of a row, of `count`, that may differ in any bit when these inputs do.
    pub(in crate::kernel) fn reached(&self, inputs: Range<usize>, count: usize) -> Range<usize> {
        let left = self.padding.left;
        let (first, last) = match self.winograd() {
            Some(_) if self.dilation[1] > 1 => return 0..count,
            Some(filters) => {
                let first =
                    (inputs.start + left + 1).saturating_sub(filters.span()).div_ceil(Winograd::positions(1));
                let last = (inputs.end - 1 + left) / Winograd::positions(1);
                (Winograd::positions(first), Winograd::positions(last + 1))
            }
            None => {
                let reach = self.dilation[1] * (self.filters.kernel[1] - 1);
                let first = (inputs.start + left).saturating_sub(reach).div_ceil(self.stride[1]);
                (first, (inputs.end - 1 + left) / self.stride[1] + 1)
            }
        };
        let last = last.min(count);
        first.min(last)..last
    }

    /// Returns the inputs of a row, of `length`, that these outputs are computed from, to the bit.
    pub(in crate::kernel) fn read(&self, outputs: Range<usize>, length: usize) -> Range<usize> {
        let left = self.padding.left;
        let (first, last) = match self.winograd() {
            Some(_) if self.dilation[1] > 1 => return 0..length,
            Some(filters) => {
                let steps = steps(&outputs);
                (Winograd::positions(steps.start), Winograd::positions(steps.end - 1) + filters.span())
            }
            None => {
                let reach = self.dilation[1] * (self.filters.kernel[1] - 1);
                (outputs.start * self.stride[1], (outputs.end - 1) * self.stride[1] + reach + 1)
            }
        };
        let last = last.saturating_sub(left).min(length);
        first.saturating_sub(left).min(last)..last
    }

    /// Computes these outputs of a row `[L, C]` on this thread, and returns which were written: whole steps. Where
    /// `residual`, the row is added to them.
    pub(in crate::kernel) fn run_part(
        &self,
        input: &[f32],
        length: usize,
        residual: bool,
        outputs: Range<usize>,
        output: &mut [f32],
    ) -> Range<usize> {
        let channels = self.filters.outputs;
        let count = output.len() / channels;
        let image = Image { conv: self, size: [1, length], output: [1, count] };
        let residual = residual.then_some(input);
        SCRATCH.with_borrow_mut(|scratch| {
            if let Some(filters) = self.winograd() {
                let row = image.flat_row(input, residual);
                let whole = self.dilation[1] > 1;
                let steps = if whole { 0..row.steps() } else { steps(&outputs) };
                let written = Winograd::positions(steps.start)..Winograd::positions(steps.end).min(count);
                let scratch = &mut scratch.winograd;
                filters.run(Instructions::detect(), &row, steps, (output, 0), scratch);
                return if whole { 0..count } else { written };
            }
            for start in outputs.clone().step_by(SEGMENT) {
                let part = start * channels..outputs.end.min(start + SEGMENT) * channels;
                image.segment(input, [0, start], &mut output[part.clone()], scratch);
                if let Some(residual) = residual {
                    output[part.clone()].iter_mut().zip(&residual[part]).for_each(|(y, x)| *y += x);
                }
            }
            outputs
        })
    }
}

/// Returns the steps of Winograd's algorithm, without dilation, that have these outputs.
fn steps(outputs: &Range<usize>) -> Range<usize> {
    let step = Winograd::positions(1);
    outputs.start / step..outputs.end.div_ceil(step)
}
