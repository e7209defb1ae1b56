//! A row on its way through the layers, and rows that differ from it in a few positions: only what a difference
//! reaches is computed again. What comes out has the bits of the whole row computed anew.

use std::ops::Range;

use super::super::pool;
use super::{Layer, Stack};
use crate::error::Result;

/// What each layer makes of a row.
pub struct Trace {
    stack: Stack,
    /// Of the input and of every layer's output, `[length, channels]`.
    shapes: Vec<[usize; 2]>,
    /// The input, then every layer's output.
    activations: Vec<Vec<f32>>,
    /// The positions of each of them that the output depends on.
    needed: Vec<Range<usize>>,
}

impl Layer {
    /// Returns the layer as it is computed in parts.
    fn in_parts(&self) -> Self {
        match self {
            Self::Conv(conv) => Self::Conv(conv.in_parts()),
            Self::Residual(conv) => Self::Residual(conv.in_parts()),
            other => other.clone(),
        }
    }

    /// Returns the outputs, of `count`, that may differ in any bit when these inputs do.
    fn reached(&self, inputs: Range<usize>, count: usize) -> Range<usize> {
        match *self {
            // What is added lies among the taps.
            Self::Conv(ref conv) | Self::Residual(ref conv) => conv.reached(inputs, count),
            Self::MaxPool { size, stride } => {
                let last = ((inputs.end - 1) / stride + 1).min(count);
                (inputs.start + 1).saturating_sub(size).div_ceil(stride).min(last)..last
            }
            Self::Crop { start, .. } => {
                let last = inputs.end.saturating_sub(start).min(count);
                inputs.start.saturating_sub(start).min(last)..last
            }
            Self::Norm(_) | Self::Relu => inputs,
        }
    }

    /// Returns the inputs, of `length`, that these outputs are computed from.
    fn read(&self, outputs: Range<usize>, length: usize) -> Range<usize> {
        match *self {
            Self::Conv(ref conv) | Self::Residual(ref conv) => conv.read(outputs, length),
            Self::MaxPool { size, stride } => outputs.start * stride..(outputs.end - 1) * stride + size,
            Self::Crop { start, .. } => outputs.start + start..outputs.end + start,
            Self::Norm(_) | Self::Relu => outputs,
        }
    }

    /// Computes these outputs of a row, and returns which were written.
    fn run_part(
        &self,
        input: &[f32],
        [length, channels]: [usize; 2],
        outputs: Range<usize>,
        output: &mut [f32],
    ) -> Range<usize> {
        match *self {
            Self::Conv(ref conv) => return conv.run_part(input, length, false, outputs, output),
            Self::Residual(ref conv) => return conv.run_part(input, length, true, outputs, output),
            Self::MaxPool { size, stride } => {
                let part = &mut output[outputs.start * channels..outputs.end * channels];
                pool::max_of_row(&input[outputs.start * stride * channels..], channels, size, stride, part);
            }
            // The others go position by position.
            _ => {
                let inputs = self.read(outputs.clone(), length);
                let [from, to] =
                    [inputs, outputs.clone()].map(|part| part.start * channels..part.end * channels);
                self.run_positions(&input[from], &mut output[to]);
            }
        }
        outputs
    }

    /// Computes a layer of which each output reads one input.
    fn run_positions(&self, input: &[f32], output: &mut [f32]) {
        match self {
            Self::Crop { .. } => output.copy_from_slice(input),
            _ => self.run(input, [0, 0], output),
        }
    }
}

impl Stack {
    /// Takes a row `[length, channels]` through the layers, and keeps what each makes of it. Dilated convolutions
    /// are summed directly, so that the last bits may differ from those of [`Stack::forward`]; without them, none.
    ///
    /// # Errors
    ///
    /// When a layer does not fit what comes from the one before.
    pub fn trace(&self, input: &[f32], shape: [usize; 2]) -> Result<Trace> {
        let stack = Self::new(self.layers.iter().map(Layer::in_parts).collect());
        let shapes = stack.shapes(shape)?;
        let mut activations = vec![input.to_vec()];
        for (layer, shapes) in stack.layers.iter().zip(shapes.windows(2)) {
            let mut output = vec![0.0; shapes[1][0] * shapes[1][1]];
            layer.run(&activations[activations.len() - 1], shapes[0], &mut output);
            activations.push(output);
        }
        let mut needed: Vec<Range<usize>> = Vec::with_capacity(shapes.len());
        needed.push(0..shapes[shapes.len() - 1][0]);
        for (layer, shape) in stack.layers.iter().zip(&shapes).rev() {
            let outputs: &Range<usize> = &needed[needed.len() - 1];
            needed.push(if outputs.is_empty() { 0..0 } else { layer.read(outputs.clone(), shape[0]) });
        }
        needed.reverse();
        Ok(Trace { stack, shapes, activations, needed })
    }
}

impl Trace {
    /// Returns what the last layer made of the row.
    pub fn output(&self) -> &[f32] {
        &self.activations[self.activations.len() - 1]
    }

    /// Returns length and channels of that.
    pub fn output_shape(&self) -> [usize; 2] {
        self.shapes[self.shapes.len() - 1]
    }

    /// Returns room to compute other rows in.
    pub fn variants(&self) -> Variants<'_> {
        Variants { trace: self, activations: self.activations.clone() }
    }
}

/// Rows that differ from a traced one, one at a time.
pub struct Variants<'a> {
    trace: &'a Trace,
    /// Those of the trace, but for the row at work.
    activations: Vec<Vec<f32>>,
}

impl Variants<'_> {
    /// Computes what the layers make of the row with other `values` from `position` on: `output` becomes that of
    /// the last layer.
    ///
    /// # Panics
    ///
    /// When the values reach beyond the row, or `output` has another length.
    pub fn run(&mut self, position: usize, values: &[f32], output: &mut [f32]) {
        let Trace { stack, shapes, needed, .. } = self.trace;
        let channels = shapes[0][1];
        self.activations[0][position * channels..][..values.len()].copy_from_slice(values);
        let mut changed = position..position + values.len() / channels;
        let mut written = vec![changed.clone()];
        for (index, layer) in stack.layers.iter().enumerate() {
            let [length, _] = shapes[index + 1];
            if !changed.is_empty() {
                changed = common(&layer.reached(changed, length), &needed[index + 1]);
            }
            if changed.is_empty() {
                break;
            }
            let (before, after) = self.activations.split_at_mut(index + 1);
            written.push(layer.run_part(&before[index], shapes[index], changed.clone(), &mut after[0]));
        }
        output.copy_from_slice(&self.activations[self.activations.len() - 1]);
        self.restore(&written);
    }

    /// Puts the numbers of the traced row back.
    fn restore(&mut self, written: &[Range<usize>]) {
        let rows = self.activations.iter_mut().zip(&self.trace.activations).zip(&self.trace.shapes);
        for (((row, traced), [_, channels]), written) in rows.zip(written) {
            let part = written.start * channels..written.end * channels;
            row[part.clone()].copy_from_slice(&traced[part]);
        }
    }
}

/// Returns what two ranges share.
fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let (start, end) = (a.start.max(b.start), a.end.min(b.end));
    start.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::*;
    use crate::kernel::pointwise::Affine;
    use crate::kernel::{Conv, Padding};
    use proptest::prelude::*;

    /// The outputs of the row with other values, all layers computed anew.
    fn anew(stack: &Stack, input: &[f32], shape: [usize; 2], at: usize, values: &[f32]) -> Vec<u32> {
        let mut row = input.to_vec();
        row[at..][..values.len()].copy_from_slice(values);
        stack.trace(&row, shape).unwrap().output().iter().map(|x| x.to_bits()).collect()
    }

    fn conv(outputs: usize, inputs: usize, width: usize, dilation: usize, seed: u64) -> Conv {
        let weights = noise(outputs * inputs * width, seed);
        Conv::new(&weights, [outputs, inputs, 1, width], &noise(outputs, seed + 1))
            .with_dilation([1, dilation])
    }

    prop_compose! {
        /// Layers with convolutions of every kind: narrow, wide enough for Winograd's algorithm, dilated, strided.
        fn stacks()(
            width in 1usize..8, deep in 3usize..16, dilation in 1usize..5, stride in 1usize..3,
            pool in (1usize..5, 1usize..5), padding in 0usize..9, crop in 0usize..4, seed: u64,
        ) -> Stack {
            let same = Padding { left: dilation, right: dilation, ..Padding::default() };
            Stack::new(vec![
                Layer::Conv(conv(18, 4, width, 1, seed).with_padding(Padding::width(width)).with_relu()),
                Layer::Norm(Affine::new(noise(18, seed ^ 3), noise(18, seed ^ 4))),
                Layer::Conv(conv(18, 18, deep, 1, seed ^ 5).with_padding(Padding::width(padding))),
                Layer::Relu,
                Layer::Residual(conv(18, 18, 3, dilation, seed ^ 6).with_padding(same).with_relu()),
                Layer::Conv(conv(5, 18, 2, 1, seed ^ 7).with_stride([1, stride])),
                Layer::Crop { start: crop, count: 9 },
                Layer::MaxPool { size: pool.0, stride: pool.1 },
            ])
        }
    }

    proptest! {
        #[test]
        fn a_row_with_other_values_has_the_bits_of_all_layers_computed_anew(
            stack in stacks(), places in prop::collection::vec((0usize..60, 1usize..4), 1..6), seed: u64,
        ) {
            let shape = [63, 4];
            // Only bases as in sequences: looked up in the first layer, and now and then something else.
            let input: Vec<f32> = noise(63, seed)
                .iter()
                .flat_map(|x| std::array::from_fn::<f32, 4, _>(|base| if base as f32 == ((x + 1.0) * 2.0).floor() { 1.0 } else { 0.0 }))
                .collect();
            let trace = stack.trace(&input, shape).unwrap();
            let mut variants = trace.variants();
            let mut output = vec![0.0; trace.output().len()];
            for (position, count) in places {
                let values = noise(4 * count, seed ^ position as u64);
                variants.run(position, &values, &mut output);
                let found: Vec<u32> = output.iter().map(|x| x.to_bits()).collect();
                prop_assert_eq!(found, anew(&stack, &input, shape, 4 * position, &values));
            }
            prop_assert_eq!(&variants.activations, &trace.activations, "the traced row is back");
        }
    }

    #[test]
    fn without_dilation_a_trace_has_the_bits_of_the_whole_batch() {
        let stack = Stack::new(vec![
            Layer::Conv(conv(20, 4, 7, 1, 1).with_relu()),
            Layer::Conv(conv(20, 20, 5, 1, 2).with_padding(Padding::width(2)).with_relu()),
            Layer::MaxPool { size: 3, stride: 3 },
        ]);
        let input = noise_tensor(&[1, 50, 4], 3);
        let traced: Vec<u32> =
            stack.trace(&flat(&input), [50, 4]).unwrap().output().iter().map(|x| x.to_bits()).collect();
        assert_eq!(traced, bits(&stack.forward(&input).unwrap()));
    }
}
