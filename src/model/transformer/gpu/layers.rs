//! The launches of an encoder, in order.

use super::super::{Attending, NormPlace, Spec};
use super::arguments::{Activate, Attend, Embed, Norm, Pool, Rotate, function};
use super::pack::{Layout, Pack};
use super::weights::{self, Weights};
use crate::device::backend::{Argument, Backend, Launch, Memory, Number, Product};
use crate::error::Result;
use crate::kernel::Activation;

/// Threads of a block, and rows of one, in the kernels that have a warp a row.
const ROW_THREADS: usize = 128;
const ROWS: usize = 4;
/// Threads of a block in the kernels that have 16 bytes a thread.
const ELEMENT_THREADS: usize = 256;
/// Threads of a block in attention.
const ATTENTION_THREADS: usize = 128;
/// Widths of heads that the kernels in 16 bits are compiled for.
const WIDTHS: [usize; 4] = [32, 64, 80, 128];

/// Activations of a pack, none of them smaller than a pack may need.
pub struct Arenas {
    /// The hidden states, `[tokens, hidden]`.
    hidden: Memory,
    /// The same before or after a norm.
    other: Memory,
    /// Queries, keys and values; then the feed-forward part.
    wide: Memory,
    /// What attention gives; then the gated feed-forward part.
    narrow: Memory,
}

impl Arenas {
    /// Allocates them.
    ///
    /// # Errors
    ///
    /// When memory is full.
    pub fn allocate(backend: &dyn Backend, spec: &Spec, number: Number, tokens: usize) -> Result<Self> {
        let up = if spec.gated { 2 * spec.intermediate } else { spec.intermediate };
        let gated = if spec.gated { spec.intermediate } else { 0 };
        let arena = |columns: usize| backend.allocate(tokens * columns * number.bytes());
        Ok(Self {
            hidden: arena(spec.hidden)?,
            other: arena(spec.hidden)?,
            wide: arena(spec.projected().max(up))?,
            narrow: arena((spec.heads * spec.width).max(gated))?,
        })
    }
}

/// Returns the names of all kernels that an encoder launches.
pub fn kernels(spec: &Spec, number: Number) -> Vec<String> {
    let mut names: Vec<String> =
        ["embed", "norm", "activate", "rotate", "pool"].map(|kernel| name(kernel, number)).into();
    names.push(attention(spec, number).0);
    names
}

fn name(kernel: &str, number: Number) -> String {
    format!("{kernel}_{}", number.name())
}

/// Returns the kernel of attention, and its shared memory: queries, keys and values (two blocks of each in 16 bits,
/// one and a weight for each thread in 32 bits).
fn attention(spec: &Spec, number: Number) -> (String, usize) {
    let width = WIDTHS.into_iter().find(|&width| width >= spec.width).unwrap_or(WIDTHS[3]);
    match number {
        Number::F32 => (name("attend", number), ((16 + 2 * 32) * (128 + 1) + 4 * 32) * 4),
        _ => (format!("attend_{}_{width}", number.name()), 5 * 64 * (width + 8) * 2),
    }
}

/// One pack on its way.
pub struct Run<'a> {
    pub backend: &'a dyn Backend,
    pub spec: &'a Spec,
    pub number: Number,
    pub weights: &'a Weights,
    pub arenas: &'a Arenas,
    pub layout: &'a Layout,
    pub pack: &'a Pack,
    /// Address of the pack, as [`Pack::fill`] writes it.
    pub input: u64,
}

impl Run<'_> {
    /// Launches everything, from tokens to the vectors at `output`.
    ///
    /// # Safety
    ///
    /// `input` holds the pack by the time it is computed, its tokens are within the vocabulary and its places within
    /// the tables; the arenas are made for as many tokens, `output` for as many vectors; all of it lives until the
    /// computations are done.
    ///
    /// # Errors
    ///
    /// The device's.
    pub unsafe fn all(&self, output: u64) -> Result<()> {
        // SAFETY: the caller's contract; each step reads what the one before has written, in arenas that are as
        // large as the widest of them.
        unsafe {
            self.embed()?;
            for (attending, layer) in self.spec.layers.iter().zip(&self.weights.layers) {
                match self.spec.place {
                    NormPlace::After => self.norm_after(attending, layer)?,
                    NormPlace::Before => self.norm_before(attending, layer)?,
                }
            }
            let hidden = self.arenas.hidden.address();
            let last = match &self.weights.last_norm {
                Some(norm) => {
                    self.norm(norm, hidden, self.arenas.other.address())?;
                    self.arenas.other.address()
                }
                None => hidden,
            };
            self.pool(last, output)
        }
    }

    /// hidden = norm(hidden + attention(hidden)); hidden = norm(hidden + feed_forward(hidden)).
    ///
    /// # Safety
    ///
    /// As [`Run::all`].
    unsafe fn norm_after(&self, attending: &Attending, layer: &weights::Layer) -> Result<()> {
        let (hidden, other) = (self.arenas.hidden.address(), self.arenas.other.address());
        let narrow = self.arenas.narrow.address();
        // SAFETY: the caller's contract.
        unsafe {
            self.attend(attending, layer, hidden)?;
            self.multiply(&layer.output, narrow, Some(hidden), other, false)?;
            let normed = match &layer.attention_norm {
                Some(norm) => {
                    self.norm(norm, other, hidden)?;
                    hidden
                }
                None => other,
            };
            let inner = self.feed_forward(layer, normed)?;
            // The residual is where it is not the output, or the very output.
            self.multiply(&layer.down, inner, Some(normed), other, false)?;
            self.norm(&layer.feed_forward_norm, other, hidden)
        }
    }

    /// hidden += attention(norm(hidden)); hidden += feed_forward(norm(hidden)).
    ///
    /// # Safety
    ///
    /// As [`Run::all`].
    unsafe fn norm_before(&self, attending: &Attending, layer: &weights::Layer) -> Result<()> {
        let (hidden, other) = (self.arenas.hidden.address(), self.arenas.other.address());
        let narrow = self.arenas.narrow.address();
        // SAFETY: the caller's contract.
        unsafe {
            let normed = match &layer.attention_norm {
                Some(norm) => {
                    self.norm(norm, hidden, other)?;
                    other
                }
                None => hidden,
            };
            self.attend(attending, layer, normed)?;
            self.multiply(&layer.output, narrow, Some(hidden), hidden, false)?;
            self.norm(&layer.feed_forward_norm, hidden, other)?;
            let inner = self.feed_forward(layer, other)?;
            self.multiply(&layer.down, inner, Some(hidden), hidden, false)
        }
    }

    /// Attends from `input` to `arenas.narrow`.
    ///
    /// # Safety
    ///
    /// As [`Run::all`].
    unsafe fn attend(&self, attending: &Attending, layer: &weights::Layer, input: u64) -> Result<()> {
        let (spec, wide) = (self.spec, self.arenas.wide.address());
        let [places, tiles, _] = self.layout.offsets().map(|offset| self.input + offset as u64);
        // SAFETY: the caller's contract.
        unsafe {
            self.multiply(&layer.projection, input, None, wide, false)?;
            if let (Some(_), Some(angles)) = (attending.rotary, &self.weights.angles) {
                let rotate = Rotate {
                    values: wide,
                    places,
                    table: angles.address(),
                    rows: self.pack.tokens as u32,
                    heads: spec.heads as u32,
                    width: spec.width as u32,
                    stride: spec.projected() as u32,
                };
                self.elements("rotate", self.pack.tokens * spec.heads * spec.width, &rotate)?;
            }
            let attend = Attend {
                inputs: wide,
                output: self.arenas.narrow.address(),
                tiles,
                slopes: if attending.alibi { self.weights.slopes.address() } else { 0 },
                tile_count: self.pack.tiles as u32,
                heads: spec.heads as u32,
                width: spec.width as u32,
                scale: (spec.width as f32).sqrt().recip(),
            };
            let (kernel, shared) = attention(spec, self.number);
            let shape = Launch { blocks: self.pack.tiles * spec.heads, threads: ATTENTION_THREADS, shared };
            self.backend.launch(&kernel, shape, attend.bytes())
        }
    }

    /// Computes the inside of the feed-forward part, and returns where it is.
    ///
    /// # Safety
    ///
    /// As [`Run::all`].
    unsafe fn feed_forward(&self, layer: &weights::Layer, input: u64) -> Result<u64> {
        let (spec, wide) = (self.spec, self.arenas.wide.address());
        // In 32 bits the function is ours, for parity.
        let fused = spec.activation == Activation::GeluTanh && !spec.gated && self.number != Number::F32;
        // SAFETY: the caller's contract.
        unsafe {
            self.multiply(&layer.up, input, None, wide, fused)?;
            if fused || spec.activation == Activation::None && !spec.gated {
                return Ok(wide);
            }
            let output = if spec.gated { self.arenas.narrow.address() } else { wide };
            let activate = Activate {
                input: wide,
                output,
                rows: self.pack.tokens as u32,
                width: spec.intermediate as u32,
                function: function(spec.activation),
                gated: spec.gated.into(),
            };
            self.elements("activate", self.pack.tokens * spec.intermediate, &activate)?;
            Ok(output)
        }
    }

    /// # Safety
    ///
    /// As [`Run::all`].
    unsafe fn embed(&self) -> Result<()> {
        let norm = self.weights.norm.as_ref();
        let embed = Embed {
            tokens: self.input,
            places: self.input + self.layout.offsets()[0] as u64,
            words: self.weights.words.address(),
            positions: self.weights.positions.as_ref().map_or(0, Memory::address),
            weights: norm.map_or(0, |norm| norm.weights.address()),
            bias: norm.and_then(|norm| norm.bias.as_ref()).map_or(0, Memory::address),
            output: self.arenas.hidden.address(),
            rows: self.pack.tokens as u32,
            hidden: self.spec.hidden as u32,
            epsilon: self.spec.epsilon,
            reserved: 0,
        };
        // SAFETY: the caller's contract.
        unsafe { self.rows("embed", &embed) }
    }

    /// # Safety
    ///
    /// As [`Run::all`]; `input` and `output` are arenas of hidden states.
    unsafe fn norm(&self, norm: &weights::Norm, input: u64, output: u64) -> Result<()> {
        let norm = Norm {
            input,
            weights: norm.weights.address(),
            bias: norm.bias.as_ref().map_or(0, Memory::address),
            output,
            rows: self.pack.tokens as u32,
            hidden: self.spec.hidden as u32,
            epsilon: self.spec.epsilon,
            reserved: 0,
        };
        // SAFETY: the caller's contract.
        unsafe { self.rows("norm", &norm) }
    }

    /// # Safety
    ///
    /// As [`Run::all`].
    unsafe fn pool(&self, input: u64, output: u64) -> Result<()> {
        let pool = Pool {
            input,
            ranges: self.input + self.layout.offsets()[2] as u64,
            output,
            count: self.pack.vectors as u32,
            hidden: self.spec.hidden as u32,
        };
        // SAFETY: the caller's contract.
        unsafe { self.elements("pool", self.pack.vectors * self.spec.hidden, &pool) }
    }

    /// Launches a kernel that has a warp for each token, whose row it keeps in shared memory.
    ///
    /// # Safety
    ///
    /// As [`Backend::launch`].
    unsafe fn rows(&self, kernel: &str, argument: &impl Argument) -> Result<()> {
        let shape = Launch {
            blocks: self.pack.tokens.div_ceil(ROWS),
            threads: ROW_THREADS,
            shared: ROWS * self.spec.hidden * size_of::<f32>(),
        };
        // SAFETY: the caller's contract.
        unsafe { self.backend.launch(&name(kernel, self.number), shape, argument.bytes()) }
    }

    /// Launches a kernel that has a thread for every 16 bytes of `numbers`.
    ///
    /// # Safety
    ///
    /// As [`Backend::launch`].
    unsafe fn elements(&self, kernel: &str, numbers: usize, argument: &impl Argument) -> Result<()> {
        let blocks = (numbers * self.number.bytes() / 16).div_ceil(ELEMENT_THREADS);
        let shape = Launch { blocks, threads: ELEMENT_THREADS, shared: 0 };
        // SAFETY: the caller's contract.
        unsafe { self.backend.launch(&name(kernel, self.number), shape, argument.bytes()) }
    }

    /// # Safety
    ///
    /// As [`Backend::multiply`].
    unsafe fn multiply(
        &self,
        linear: &weights::Linear,
        input: u64,
        residual: Option<u64>,
        output: u64,
        gelu_tanh: bool,
    ) -> Result<()> {
        let [outputs, inputs] = linear.shape;
        let product = Product {
            number: self.number,
            rows: self.pack.rows(),
            inputs,
            outputs,
            input,
            weights: linear.weights.address(),
            bias: linear.bias.as_ref().map(Memory::address),
            residual,
            output,
            gelu_tanh,
        };
        // SAFETY: the caller's contract.
        unsafe { self.backend.multiply(&product) }
    }
}
