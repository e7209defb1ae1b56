//! The tensors of an encoder on a device.

use super::super::{Embeddings, Matrix, Scale, Spec, Tensors};
use crate::device::backend::{Backend, Memory, Number};
use crate::error::Result;
use crate::kernel::attention::alibi_slopes;

/// All tensors.
pub struct Weights {
    /// `[vocabulary, hidden]`, with what is added to every token.
    pub words: Memory,
    /// `[places, hidden]`.
    pub positions: Option<Memory>,
    /// Rows of `positions`.
    pub places: Option<usize>,
    /// The norm of the embeddings.
    pub norm: Option<Norm>,
    /// The layers.
    pub layers: Vec<Layer>,
    /// The norm behind the last layer.
    pub last_norm: Option<Norm>,
    /// `[tokens, width / 2]`, cosine and sine, 32-bit floats.
    pub angles: Option<Memory>,
    /// `[heads]`, 32-bit floats.
    pub slopes: Memory,
}

/// The tensors of a layer.
pub struct Layer {
    /// Queries, keys and values.
    pub projection: Linear,
    /// Behind attention.
    pub output: Linear,
    /// The norm of attention.
    pub attention_norm: Option<Norm>,
    /// Into the feed-forward part.
    pub up: Linear,
    /// Out of it.
    pub down: Linear,
    /// The norm of the feed-forward part.
    pub feed_forward_norm: Norm,
}

/// A matrix with its bias.
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weights: Memory,
    /// `[outputs]`.
    pub bias: Option<Memory>,
    /// `outputs, inputs`.
    pub shape: [usize; 2],
}

/// A norm, in 32-bit floats.
pub struct Norm {
    /// `[hidden]`.
    pub weights: Memory,
    /// `[hidden]`.
    pub bias: Option<Memory>,
}

/// Puts tensors on a device.
struct Uploader<'a> {
    backend: &'a dyn Backend,
    number: Number,
}

impl Weights {
    /// Uploads all tensors, and tables for sequences of up to `tokens` tokens.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape, or memory is full.
    pub fn upload(
        backend: &dyn Backend,
        spec: &Spec,
        tensors: &dyn Tensors,
        number: Number,
        tokens: usize,
    ) -> Result<Self> {
        let to = Uploader { backend, number };
        let Embeddings { words, constant, positions, norm } = tensors.embeddings()?;
        let mut words = words.into_owned();
        for (word, constant) in words.chunks_exact_mut(spec.hidden).zip(constant.iter().cycle()) {
            word.iter_mut().zip(constant.iter()).for_each(|(word, constant)| *word += constant);
        }
        let layers = (0..spec.layers.len()).map(|index| to.layer(tensors, index)).collect::<Result<_>>()?;
        let base = spec.layers.iter().find_map(|layer| layer.rotary);
        let angles = base.map(|base| to.floats(&angles(base, spec.width, tokens))).transpose()?;
        Ok(Self {
            words: to.numbers(&words)?,
            places: positions.as_ref().map(|table| table.len() / spec.hidden),
            positions: positions.map(|table| to.numbers(&table)).transpose()?,
            norm: norm.map(|norm| to.norm(&norm)).transpose()?,
            layers,
            last_norm: tensors.last_norm()?.map(|norm| to.norm(&norm)).transpose()?,
            angles,
            slopes: to.floats(&alibi_slopes(spec.heads))?,
        })
    }
}

impl Uploader<'_> {
    fn layer(&self, tensors: &dyn Tensors, index: usize) -> Result<Layer> {
        let layer = tensors.layer(index)?;
        Ok(Layer {
            projection: self.linear(&layer.projection)?,
            output: self.linear(&layer.output)?,
            attention_norm: layer.attention_norm.map(|norm| self.norm(&norm)).transpose()?,
            up: self.linear(&layer.up)?,
            down: self.linear(&layer.down)?,
            feed_forward_norm: self.norm(&layer.feed_forward_norm)?,
        })
    }

    fn linear(&self, matrix: &Matrix) -> Result<Linear> {
        let bias = matrix.bias.as_ref().map(|bias| self.numbers(bias)).transpose()?;
        Ok(Linear { weights: self.numbers(&matrix.values)?, bias, shape: matrix.shape })
    }

    fn norm(&self, norm: &Scale) -> Result<Norm> {
        let bias = norm.bias.as_ref().map(|bias| self.floats(bias)).transpose()?;
        Ok(Norm { weights: self.floats(&norm.weights)?, bias })
    }

    fn numbers(&self, values: &[f32]) -> Result<Memory> {
        self.backend.upload(&self.number.round(values))
    }

    fn floats(&self, values: &[f32]) -> Result<Memory> {
        self.backend.upload(&Number::F32.round(values))
    }
}

/// Returns cosine and sine of place·base^(-2j/width) for every place and j < width/2.
fn angles(base: f32, width: usize, places: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |pair: usize| 1.0 / base.powf((2 * pair) as f32 / width as f32);
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let turn = |place: usize, frequency: f32| {
        // The product is rounded to 32 bits, as it is where such models are trained.
        let angle = f64::from(place as f32 * frequency);
        [angle.cos() as f32, angle.sin() as f32]
    };
    let row = |place| frequencies.iter().flat_map(move |&frequency| turn(place, frequency));
    (0..places).flat_map(row).collect()
}
