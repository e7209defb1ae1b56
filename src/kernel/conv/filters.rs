//! The weights of a convolution, and the orders in which the loops read them: each is made when first wanted.

use std::sync::{Arc, OnceLock};

use super::rounded::Rounded;
use super::winograd::Winograd;
use crate::kernel::Precision;
use crate::kernel::tile::{CODES, Job, LANES, Run};

/// Fewest taps at which channels that are left over are computed without a panel.
const LEAST_TAPS: usize = 64;

/// Weights as tiles read them.
pub(super) struct Packed {
    channels: usize,
    /// `[panels, taps, LANES]`, zero beyond the last channel.
    panels: Vec<f32>,
    /// `[channels, taps]`: the channels that are too few for a panel.
    rest: Vec<f32>,
    /// One for each channel, and zeros for one panel more.
    bias: Vec<f32>,
}

impl Packed {
    /// Packs weights `[channels, taps]`. Half a panel or less is left out of the panels where `rest` allows.
    pub fn new(plain: &[f32], taps: usize, bias: &[f32], rest: bool) -> Self {
        let channels = bias.len();
        let over = channels % LANES;
        let over = if rest && over <= LANES / 2 && taps >= LEAST_TAPS { over } else { 0 };
        let wide = channels - over;
        let mut panels = vec![0.0; wide.div_ceil(LANES) * taps * LANES];
        for (channel, weights) in plain.chunks_exact(taps.max(1)).enumerate().take(wide) {
            let panel = &mut panels[channel / LANES * taps * LANES..][..taps * LANES];
            for (tap, &weight) in weights.iter().enumerate() {
                panel[tap * LANES + channel % LANES] = weight;
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(channels.next_multiple_of(LANES), 0.0);
        Self { channels, panels, rest: plain[wide * taps..].to_vec(), bias }
    }

    /// Returns the job of applying the weights to `input`.
    pub fn job<'a>(&'a self, input: &'a [f32], step: usize, runs: &'a [Run], relu: bool) -> Job<'a> {
        let Self { channels, panels, rest, bias } = self;
        Job { input, step, runs, weights: panels, rest, bias, channels: *channels, relu }
    }

    /// Returns the biases, with zeros up to a whole panel.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }
}

/// The weights of a convolution.
pub(super) struct Filters {
    /// Kernel rows and columns.
    pub kernel: [usize; 2],
    pub inputs: usize,
    pub outputs: usize,
    /// `[outputs, kernel rows, kernel columns, inputs]`.
    pub plain: Vec<f32>,
    bias: Vec<f32>,
    packed: OnceLock<Packed>,
    columns: OnceLock<Vec<f32>>,
    winograd: OnceLock<Winograd>,
    rounded: OnceLock<Rounded>,
    rounded_winograd: OnceLock<Winograd>,
    flipped: OnceLock<Arc<Filters>>,
}

impl Filters {
    pub fn new(plain: Vec<f32>, bias: &[f32], [outputs, height, width, inputs]: [usize; 4]) -> Self {
        Self {
            kernel: [height, width],
            inputs,
            outputs,
            plain,
            bias: bias.to_vec(),
            packed: OnceLock::new(),
            columns: OnceLock::new(),
            winograd: OnceLock::new(),
            rounded: OnceLock::new(),
            rounded_winograd: OnceLock::new(),
            flipped: OnceLock::new(),
        }
    }

    /// Returns the biases.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Returns the taps of a filter.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.inputs
    }

    /// Returns the weights as the direct algorithm reads them.
    pub fn packed(&self) -> &Packed {
        // One-hot columns are looked up in panels: what is computed for the others must have the same bits.
        self.packed.get_or_init(|| Packed::new(&self.plain, self.taps(), &self.bias, self.inputs >= LANES))
    }

    /// Returns the weights of four bases as one-hot columns read them, `[panels, columns, CODES, LANES]`.
    pub fn columns(&self) -> &[f32] {
        self.columns.get_or_init(|| {
            let taps = self.taps();
            let mut columns = vec![0.0; self.outputs.div_ceil(LANES) * taps / 4 * CODES * LANES];
            for (index, &weight) in self.plain.iter().enumerate() {
                let (channel, tap) = (index / taps, index % taps);
                let column = channel / LANES * (taps / 4) + tap / 4;
                columns[(column * CODES + tap % 4) * LANES + channel % LANES] = weight;
            }
            columns
        })
    }

    /// Returns the weights as Winograd's algorithm reads them.
    pub fn winograd(&self) -> &Winograd {
        let shape = [self.outputs, self.kernel[1], self.inputs];
        self.winograd.get_or_init(|| Winograd::new(&self.plain, shape, &self.bias, Precision::F32))
    }

    /// Returns the weights as the direct algorithm reads them in bfloat16.
    pub fn rounded(&self) -> &Rounded {
        let shape = [self.outputs, self.kernel[1], self.inputs];
        self.rounded.get_or_init(|| Rounded::new(&self.plain, shape, &self.bias))
    }

    /// Returns the weights as Winograd's algorithm reads them in bfloat16.
    pub fn rounded_winograd(&self) -> &Winograd {
        let shape = [self.outputs, self.kernel[1], self.inputs];
        self.rounded_winograd.get_or_init(|| Winograd::new(&self.plain, shape, &self.bias, Precision::Bf16))
    }

    /// Returns the filters that carry a gradient from the outputs to the inputs: the kernel turned by 180°,
    /// inputs and outputs exchanged.
    pub fn flip(&self) -> &Arc<Filters> {
        self.flipped.get_or_init(|| {
            let [height, width] = self.kernel;
            let (inputs, outputs) = (self.inputs, self.outputs);
            let mut plain = vec![0.0; self.plain.len()];
            let mut weights = self.plain.iter();
            for output in 0..outputs {
                for tap in (0..height * width).rev() {
                    for input in 0..inputs {
                        plain[(input * height * width + tap) * outputs + output] =
                            *weights.next().expect("as many weights as taps");
                    }
                }
            }
            Arc::new(Self::new(plain, &vec![0.0; inputs], [inputs, height, width, outputs]))
        })
    }
}
