//! One image: segments of its rows, each computed the layer's way.

use super::row::Row;
use super::way::Way;
use super::{Conv, Scratch, one_hot};
use crate::kernel::Instructions;
use crate::kernel::tile::{NOT_ONE_HOT, OneHot, Run};

/// Positions that one thread computes at a time: a multiple of every tile's height.
pub(super) const SEGMENT: usize = 240;

/// Positions that are looked up or multiplied together where a segment has columns of both kinds.
const MIXED: usize = 24;

/// The shapes of one convolution of an image `[H, W, C]`.
pub(super) struct Image<'a> {
    pub(super) conv: &'a Conv,
    /// Rows and columns that go in.
    pub(super) size: [usize; 2],
    /// Rows and columns that come out.
    pub(super) output: [usize; 2],
}

impl Image<'_> {
    /// Computes `count` outputs of the row `y` from column `x` on.
    pub(super) fn segment(
        &self,
        image: &[f32],
        [y, x]: [usize; 2],
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let Conv { filters, stride, dilation, padding, .. } = self.conv;
        let channels = filters.inputs;
        let count = output.len() / filters.outputs;
        let span = (count - 1) * stride[1] + (filters.kernel[1] - 1) * dilation[1] + 1;
        let first_row = (y * stride[0]) as isize - padding.top as isize;
        let first = (x * stride[1]) as isize - padding.left as isize;
        let last_row = first_row + ((filters.kernel[0] - 1) * dilation[0]) as isize;
        let [height, width] = self.size;
        let inside =
            first_row >= 0 && first >= 0 && last_row < height as isize && first as usize + span <= width;
        let Scratch { gathered, codes, .. } = scratch;
        let (input, pitch) = if inside {
            let start = (first_row as usize * width + first as usize) * channels;
            (&image[start..], dilation[0] * width * channels)
        } else {
            self.gather(image, [first_row, first], span, gathered);
            (&gathered[..], span * channels)
        };
        if channels == 4 && filters.kernel[0] == 1 {
            one_hot::encode(&input[..span * 4], codes);
            self.look_up(input, codes, output);
        } else {
            self.multiply(input, pitch, output);
        }
    }

    /// Computes outputs whose inputs lie in rows `pitch` apart.
    pub(super) fn multiply(&self, input: &[f32], pitch: usize, output: &mut [f32]) {
        let Conv { filters, stride, relu, .. } = self.conv;
        let runs = self.runs(pitch);
        let job = filters.packed().job(input, stride[1] * filters.inputs, &runs, *relu);
        Instructions::detect().run(&job, output.len() / filters.outputs, output);
    }

    /// Computes outputs from columns of four numbers, of which those with a code are looked up.
    fn look_up(&self, input: &[f32], codes: &[u32], output: &mut [f32]) {
        let Conv { filters, stride, dilation, relu, .. } = self.conv;
        let (taps, step, dilation) = (filters.kernel[1], stride[1], dilation[1]);
        let clean = !codes.contains(&NOT_ONE_HOT);
        let positions = if clean { output.len() / filters.outputs } else { MIXED };
        for (block, output) in output.chunks_mut(positions * filters.outputs).enumerate() {
            let (first, count) = (block * positions * step, output.len() / filters.outputs);
            let codes = &codes[first..][..(count - 1) * step + (taps - 1) * dilation + 1];
            if clean || !codes.contains(&NOT_ONE_HOT) {
                let (weights, bias, channels) = (filters.columns(), filters.packed().bias(), filters.outputs);
                let job = OneHot { codes, step, dilation, taps, weights, bias, channels, relu: *relu };
                Instructions::detect().look_up(&job, count, output);
            } else {
                self.multiply(&input[first * 4..], 0, output);
            }
        }
    }

    /// Computes the row `y`; `residual` is added to it, `[W, outputs]`.
    pub(super) fn row(
        &self,
        image: &[f32],
        y: usize,
        residual: Option<&[f32]>,
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let pixels = y * self.size[1] * self.conv.filters.inputs;
        match self.conv.way() {
            Way::Winograd(filters) => {
                let row = self.flat_row(&image[pixels..], residual);
                let steps = 0..row.steps();
                filters.run(Instructions::detect(), &row, steps, (output, 0), &mut scratch.winograd);
            }
            Way::Rounded(filters) => {
                let row = self.flat_row(&image[pixels..], residual);
                filters.run(Instructions::detect(), &row, 0, output, &mut scratch.rounded);
            }
            Way::Direct => {
                let outputs = self.conv.filters.outputs;
                for (segment, output) in output.chunks_mut(SEGMENT * outputs).enumerate() {
                    self.segment(image, [y, segment * SEGMENT], output, scratch);
                }
                for (output, residual) in output.iter_mut().zip(residual.into_iter().flatten()) {
                    *output += residual;
                }
            }
        }
    }

    /// Describes the row that `input` begins with.
    pub(super) fn flat_row<'a>(&self, input: &'a [f32], residual: Option<&'a [f32]>) -> Row<'a> {
        let Conv { padding, stride, dilation, relu, .. } = self.conv;
        Row {
            input,
            length: self.size[1],
            left: padding.left,
            stride: stride[1],
            dilation: dilation[1],
            count: self.output[1],
            relu: *relu,
            residual,
        }
    }

    /// Copies the rows that a segment needs, zeros where the image has none.
    fn gather(&self, image: &[f32], [row, column]: [isize; 2], span: usize, scratch: &mut Vec<f32>) {
        let Conv { filters, dilation, .. } = self.conv;
        let [height, width] = self.size;
        let channels = filters.inputs;
        scratch.clear();
        scratch.resize(filters.kernel[0] * span * channels, 0.0);
        let from = column.clamp(0, width as isize);
        let to = (column + span as isize).clamp(from, width as isize);
        for (tap, line) in scratch.chunks_exact_mut(span * channels).enumerate() {
            let y = row + (tap * dilation[0]) as isize;
            if y < 0 || y >= height as isize || from == to {
                continue;
            }
            let start = (y as usize * width + from as usize) * channels;
            let length = (to - from) as usize * channels;
            line[(from - column) as usize * channels..][..length].copy_from_slice(&image[start..][..length]);
        }
    }

    /// Returns where the taps lie; `pitch` is the distance between kernel rows.
    fn runs(&self, pitch: usize) -> Vec<Run> {
        let Conv { filters, dilation, .. } = self.conv;
        let ([height, width], channels) = (filters.kernel, filters.inputs);
        let (pieces, length) = if dilation[1] == 1 { (1, width * channels) } else { (width, channels) };
        let place = |(y, x)| Run { offset: y * pitch + x * dilation[1] * channels, length };
        (0..height).flat_map(|y| (0..pieces).map(move |x| (y, x))).map(place).collect()
    }
}
