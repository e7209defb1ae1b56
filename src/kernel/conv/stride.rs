//! The gradient of the input of a convolution with strides, without the zeros between outputs: the inputs fall into
//! phases, each of which sees only some of the taps, and of each the gradient is a convolution of the outputs'.

use candle_core::Tensor;

use super::filters::Filters;
use super::{Conv, Padding};
use crate::kernel::rule;

/// The inputs of an axis that see the same taps.
#[derive(Clone, Copy)]
pub(super) struct Phase {
    /// The first tap that they see; the others follow by the stride.
    tap: usize,
    /// Taps that they see.
    taps: usize,
    /// The first of the inputs; the others follow by the stride.
    first: usize,
    /// Inputs.
    count: usize,
    /// Zeros before and behind the outputs' gradient.
    padding: [usize; 2],
}

/// Returns the phase of an axis that begins with a tap: `None` where parts of the gradient would have to be cut off.
fn phase(
    tap: usize,
    stride: usize,
    kernel: usize,
    before: usize,
    outputs: usize,
    size: usize,
) -> Option<Phase> {
    let taps = (kernel - tap).div_ceil(stride);
    let first = (tap + before * (stride - 1)) % stride;
    let count = size.saturating_sub(first).div_ceil(stride);
    // The output that sees the first of the inputs by the first of the taps.
    let output = (first + before - tap) / stride;
    let left = (taps - 1).checked_sub(output)?;
    let right = (count + taps - 1).checked_sub(outputs + left)?;
    Some(Phase { tap, taps, first, count, padding: [left, right] })
}

impl Conv {
    /// Returns the phases of rows and columns of an input of this size; `None` where there are no strides, or taps are
    /// apart, or not every phase has a tap.
    pub(super) fn phases(
        &self,
        gradient: &Tensor,
        size: [usize; 2],
    ) -> candle_core::Result<Option<[Vec<Phase>; 2]>> {
        let (_, height, width, _) = gradient.dims4()?;
        let (kernel, stride) = (self.filters.kernel, self.stride);
        let covered = (0..2).all(|axis| stride[axis] <= kernel[axis]);
        if stride == [1, 1] || self.dilation != [1, 1] || !covered {
            return Ok(None);
        }
        let before = [self.padding.top, self.padding.left];
        let of = |axis: usize| -> Option<Vec<Phase>> {
            let outputs = [height, width][axis];
            let phase = |tap| phase(tap, stride[axis], kernel[axis], before[axis], outputs, size[axis]);
            (0..stride[axis]).map(phase).filter(|phase| phase.is_none_or(|phase| phase.count > 0)).collect()
        };
        Ok(of(0).zip(of(1)).map(Into::into))
    }

    /// Returns the gradient of an input of this size, phase by phase.
    pub(super) fn strided_input_gradient(
        &self,
        gradient: &Tensor,
        [rows, columns]: &[Vec<Phase>; 2],
        [height, width]: [usize; 2],
    ) -> candle_core::Result<Tensor> {
        let inputs = self.filters.inputs;
        let batch = gradient.dim(0)?;
        let gradient = gradient.contiguous()?;
        let mut all = vec![0.0f32; batch * height * width * inputs];
        for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
            let [[top, bottom], [left, right]] = [row.padding, column.padding];
            let back = Self::from_filters(self.flipped_part(row, column).into()).with_padding(Padding {
                top,
                bottom,
                left,
                right,
            });
            let part = rule::numbers(&gradient.apply_op1_no_bwd(&back)?)?;
            for (index, line) in part.chunks_exact((column.count * inputs).max(1)).enumerate() {
                let (image, y) = (index / row.count, index % row.count * self.stride[0] + row.first);
                let target = &mut all[((image * height + y) * width + column.first) * inputs..];
                let places = target.chunks_mut(self.stride[1] * inputs);
                for (place, pixel) in places.zip(line.chunks_exact(inputs)) {
                    place[..inputs].copy_from_slice(pixel);
                }
            }
        }
        Tensor::from_vec(all, (batch, height, width, inputs), gradient.device())
    }

    /// Returns the filters that carry the gradient to the inputs of a phase: their taps, turned by 180°.
    fn flipped_part(&self, row: &Phase, column: &Phase) -> Filters {
        let Filters { kernel: [_, kernel_width], inputs, outputs, ref plain, .. } = *self.filters;
        let area = plain.len() / (outputs * inputs);
        let mut part = Vec::with_capacity(row.taps * column.taps * inputs * outputs);
        for input in 0..inputs {
            for y in (0..row.taps).rev().map(|tap| row.tap + tap * self.stride[0]) {
                for x in (0..column.taps).rev().map(|tap| column.tap + tap * self.stride[1]) {
                    let tap = y * kernel_width + x;
                    part.extend((0..outputs).map(|output| plain[(output * area + tap) * inputs + input]));
                }
            }
        }
        Filters::new(part, &vec![0.0; inputs], [inputs, row.taps, column.taps, outputs])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::testing::*;
    use super::*;

    proptest! {
        #[test]
        fn gradients_by_phases_are_those_with_zeros_between_outputs(
            shape in [1usize..20, 1usize..20, 1usize..5, 1usize..5],
            stride in [1usize..4, 1usize..4], before in [0usize..3, 0usize..3],
            size in [1usize..9, 1usize..12], seed: u64,
        ) {
            let [top, left] = before;
            let conv = Conv::new(&noise(shape.iter().product(), seed), shape, &vec![0.0; shape[0]])
                .with_stride(stride)
                .with_padding(Padding { top, left, bottom: 1, right: 2 });
            prop_assume!(conv.output_size(size).is_ok());
            let [height, width] = conv.output_size(size).unwrap();
            let gradient = noise_tensor(&[2, height, width, shape[0]], seed ^ 1);
            let expected = flat(&conv.spread_input_gradient(&gradient, size).unwrap());
            let found = flat(&conv.input_gradient(&gradient, size).unwrap());
            prop_assert!(distance(&found, &expected) < 1e-4);
        }
    }

    #[test]
    fn layers_that_halve_an_image_are_taken_by_phases() {
        let conv = Conv::new(&noise(9, 1), [1, 1, 3, 3], &[0.0]).with_padding(Padding::all(1));
        let phases = |stride, size: [usize; 2]| {
            let conv = conv.clone().with_stride(stride);
            let [height, width] = conv.output_size(size).unwrap();
            conv.phases(&noise_tensor(&[1, height, width, 1], 1), size).unwrap().is_some()
        };
        assert!(phases([2, 2], [4, 100]) && phases([2, 2], [5, 7]) && phases([1, 2], [3, 10]));
        // Without strides there is one phase, and with more than the taps there are inputs that nobody sees.
        assert!(!phases([1, 1], [4, 100]) && !phases([4, 2], [9, 9]));
    }
}
