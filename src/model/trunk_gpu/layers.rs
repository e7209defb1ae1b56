//! Layers as their weights on the device and their launches.

use super::arguments::{Convolve, Unpack, Window};
use crate::device::backend::{Argument, Backend, Launch, Memory, Number};
use crate::error::{Error, Result};
use crate::kernel;
use crate::kernel::pointwise::Affine;

/// Threads of a block that multiplies, and of one that has 16 bytes a thread.
const THREADS: usize = 128;
const ELEMENT_THREADS: usize = 256;
/// Filters of a block, and the numbers that weights are filled up to.
const FILTERS: usize = 64;
const DEPTH: usize = 32;

/// Returns the channels that activations have room for.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(8)
}

/// Returns the names of all kernels that a trunk launches.
pub fn kernels(number: Number) -> Vec<String> {
    ["convolve", "window", "unpack"].map(|kernel| name(kernel, number)).into()
}

fn name(kernel: &str, number: Number) -> String {
    format!("{kernel}_{}", number.name())
}

/// A layer on the device.
pub enum Layer {
    /// A convolution; addresses and shapes of activations are left out.
    Convolve { argument: Convolve, _weights: Memory, _bias: Memory },
    /// Any other.
    Window { argument: Window, _map: Option<[Memory; 2]> },
}

impl Layer {
    /// Puts a layer on the device.
    ///
    /// # Errors
    ///
    /// When there are no kernels for it, or memory is full.
    pub fn upload(backend: &dyn Backend, layer: &kernel::Layer, number: Number) -> Result<Self> {
        let window = Window { size: 1, stride: 1, ..NO_WINDOW };
        Ok(match layer {
            kernel::Layer::Conv(conv) => convolution(backend, conv, false, number)?,
            kernel::Layer::Residual(conv) => convolution(backend, conv, true, number)?,
            kernel::Layer::Norm(map) => norm(backend, map)?,
            kernel::Layer::Relu => Self::Window { argument: Window { relu: 1, ..window }, _map: None },
            &kernel::Layer::MaxPool { size, stride } => {
                let argument = Window { size: size as u32, stride: stride as u32, ..window };
                Self::Window { argument, _map: None }
            }
            &kernel::Layer::Crop { start, .. } => {
                Self::Window { argument: Window { start: start as u32, ..window }, _map: None }
            }
        })
    }
}

const NO_WINDOW: Window = Window {
    input: 0,
    scale: 0,
    shift: 0,
    output: 0,
    rows: 0,
    length: 0,
    count: 0,
    channels: 0,
    start: 0,
    size: 0,
    stride: 0,
    relu: 0,
};

fn convolution(backend: &dyn Backend, conv: &kernel::Conv, residual: bool, number: Number) -> Result<Layer> {
    let conv = conv.parameters().ok_or_else(|| {
        Error::data("--device cuda: there are no kernels for convolutions over images; use --device cpu")
    })?;
    let [outputs, taps, inputs] = conv.shape;
    let (filters, wide) = (outputs.next_multiple_of(FILTERS), padded(inputs));
    let depth = taps * wide;
    let pitch = depth.next_multiple_of(DEPTH);
    let mut weights = vec![0.0; filters * pitch];
    for (row, filter) in weights.chunks_exact_mut(pitch).zip(conv.weights.chunks_exact(taps * inputs)) {
        for (to, from) in row.chunks_exact_mut(wide).zip(filter.chunks_exact(inputs)) {
            to[..inputs].copy_from_slice(from);
        }
    }
    let mut bias = conv.bias.to_vec();
    bias.resize(filters, 0.0);
    let weights = backend.upload(&number.round(&weights))?;
    let bias = backend.upload(bytemuck::cast_slice(&bias))?;
    let argument = Convolve {
        input: 0,
        weights: weights.address(),
        bias: bias.address(),
        output: 0,
        rows: 0,
        length: 0,
        inputs: wide as u32,
        count: 0,
        outputs: padded(outputs) as u32,
        depth: depth as u32,
        stride: conv.stride as u32,
        dilation: conv.dilation as u32,
        left: conv.left as u32,
        relu: conv.relu.into(),
        residual: residual.into(),
        reserved: 0,
    };
    Ok(Layer::Convolve { argument, _weights: weights, _bias: bias })
}

fn norm(backend: &dyn Backend, map: &Affine) -> Result<Layer> {
    let upload = |values: &[f32]| {
        let mut values = values.to_vec();
        values.resize(padded(values.len()), 0.0);
        backend.upload(bytemuck::cast_slice(&values))
    };
    let [scale, shift] = map.parameters();
    let map = [upload(scale)?, upload(shift)?];
    let argument =
        Window { scale: map[0].address(), shift: map[1].address(), size: 1, stride: 1, ..NO_WINDOW };
    Ok(Layer::Window { argument, _map: Some(map) })
}

/// What launches of one part share.
pub struct Launcher<'a> {
    pub backend: &'a dyn Backend,
    pub number: Number,
    pub rows: usize,
}

impl Launcher<'_> {
    /// Launches a layer.
    ///
    /// # Safety
    ///
    /// The shapes are those of the layer's input and output; both arrays have room for the rows, and live until the
    /// launch is done.
    ///
    /// # Errors
    ///
    /// The device's.
    pub unsafe fn layer(
        &self,
        layer: &Layer,
        [[length, _], [count, channels]]: [[usize; 2]; 2],
        input: u64,
        output: u64,
    ) -> Result<()> {
        let (rows, length, positions) = (self.rows as u32, length as u32, self.rows * count);
        let count = count as u32;
        match *layer {
            Layer::Convolve { argument, .. } => {
                let argument = Convolve { input, output, rows, length, count, ..argument };
                // 64 or 128 outputs of a block; two halves of what 16 bits bring at a time, or one of 32 bits.
                let (outputs, shared) = match self.number {
                    Number::F32 => (64, 2 * 16 * 68 * 4),
                    _ => (128, 2 * (128 + FILTERS) * (DEPTH + 8) * 2),
                };
                let blocks = positions.div_ceil(outputs) * channels.div_ceil(FILTERS);
                // SAFETY: the caller's contract.
                unsafe { self.launch("convolve", Launch { blocks, threads: THREADS, shared }, &argument) }
            }
            Layer::Window { argument, .. } => {
                let wide = padded(channels);
                let channels = wide as u32;
                let argument = Window { input, output, rows, length, count, channels, ..argument };
                // SAFETY: the caller's contract.
                unsafe { self.elements("window", positions * wide * self.number.bytes() / 16, &argument) }
            }
        }
    }

    /// Launches the way back to 32-bit floats without channels that fill up.
    ///
    /// # Safety
    ///
    /// As [`Launcher::layer`].
    ///
    /// # Errors
    ///
    /// The device's.
    pub unsafe fn unpack(&self, [length, channels]: [usize; 2], input: u64, output: u64) -> Result<()> {
        let rows = self.rows * length;
        let (padded, wide) = (padded(channels) as u32, channels as u32);
        let argument = Unpack { input, output, rows: rows as u32, padded, channels: wide, reserved: 0 };
        // SAFETY: the caller's contract.
        unsafe { self.elements("unpack", rows * channels, &argument) }
    }

    /// Launches a kernel with a thread for each of so many elements.
    unsafe fn elements(&self, kernel: &str, elements: usize, argument: &impl Argument) -> Result<()> {
        let blocks = elements.div_ceil(ELEMENT_THREADS);
        // SAFETY: the caller's contract.
        unsafe { self.launch(kernel, Launch { blocks, threads: ELEMENT_THREADS, shared: 0 }, argument) }
    }

    unsafe fn launch(&self, kernel: &str, shape: Launch, argument: &impl Argument) -> Result<()> {
        // SAFETY: the caller's contract.
        unsafe { self.backend.launch(&name(kernel, self.number), shape, argument.bytes()) }
    }
}
