//! An encoder with its classifier as a graph that can be differentiated with respect to the embeddings of tokens.
//!
//! The encoder itself has no way back. This is the same arithmetic in candle's operations, of the same weights, for
//! attribution: as many passes as steps, not as rows. Sequences of a batch have one length, `[B, T, hidden]`.

use candle_core::{D, Device, Tensor};

use super::{Attending, Encoder, LanguageModel, LongHead, NormPlace, Reads, Runner, Spec};
use crate::error::{Error, Result};
use crate::kernel::attention::alibi_slopes;
use crate::kernel::{Activation, Linear, Norm, pointwise};

/// A matrix with its bias.
struct Matrix {
    /// `[inputs, outputs]`.
    weights: Tensor,
    /// `[outputs]`.
    bias: Tensor,
    activation: Activation,
    gated: bool,
}

/// A norm of rows.
struct Scale {
    weights: Tensor,
    bias: Option<Tensor>,
    epsilon: f64,
    centred: bool,
}

struct Layer {
    projection: Matrix,
    output: Matrix,
    attention_norm: Option<Scale>,
    up: Matrix,
    down: Matrix,
    feed_forward_norm: Scale,
}

/// The graph of one language model.
pub struct TokenGraph {
    spec: Spec,
    norm: Option<Scale>,
    layers: Vec<Layer>,
    last_norm: Option<Scale>,
    reads: Reads,
    pooler: Option<Matrix>,
    head_norm: Option<Scale>,
    output: Matrix,
}

impl TokenGraph {
    /// Builds the graph of a model.
    ///
    /// # Errors
    ///
    /// When the model has no classifier, or parts that are not differentiated here.
    pub fn new(model: &LanguageModel) -> Result<Self> {
        let Runner::Processor(encoder) = model.encoder() else {
            return Err(Error::usage(
                "gradients of language models are computed on the processor: --device cpu",
            ));
        };
        let classifier =
            model.classifier().ok_or_else(|| Error::data("the model has no class to explain"))?;
        if !matches!(classifier.long, None | Some(LongHead::Mean)) {
            return Err(Error::data(
                "a model that reads sequences in pieces has no gradient here: use --method ism",
            ));
        }
        let spec = encoder.spec().clone();
        let plain = |attending: &Attending| !attending.causal && attending.reach.is_none();
        if spec.key_value_heads != spec.heads || !spec.layers.iter().all(plain) {
            return Err(Error::data("this kind of attention has no gradient here: use --method ism"));
        }
        let Encoder { norm, blocks, last_norm, .. } = &**encoder;
        if blocks.iter().any(|block| block.head_norms.is_some()) {
            return Err(Error::data("norms of queries and keys have no gradient here: use --method ism"));
        }
        let layers = blocks.iter().map(|block| {
            Ok(Layer {
                projection: Matrix::new(&block.projection)?,
                output: Matrix::new(&block.output)?,
                attention_norm: block.attention_norm.as_ref().map(Scale::new).transpose()?,
                up: Matrix::new(&block.up)?,
                down: Matrix::new(&block.down)?,
                feed_forward_norm: Scale::new(&block.feed_forward_norm)?,
            })
        });
        Ok(Self {
            norm: norm.as_ref().map(Scale::new).transpose()?,
            layers: layers.collect::<Result<_>>()?,
            last_norm: last_norm.as_ref().map(Scale::new).transpose()?,
            reads: classifier.reads,
            pooler: classifier.pooler.as_ref().map(Matrix::new).transpose()?,
            head_norm: classifier.norm.as_ref().map(Scale::new).transpose()?,
            output: Matrix::new(&classifier.output)?,
            spec,
        })
    }

    /// Returns the logits `[B, classes]` of embedded tokens `[B, T, hidden]`, before the norm that follows them.
    ///
    /// # Errors
    ///
    /// When the shapes do not belong together.
    pub fn forward(&self, embedded: &Tensor) -> Result<Tensor> {
        let mut hidden = apply(&self.norm, embedded)?;
        for (layer, attending) in self.layers.iter().zip(&self.spec.layers) {
            hidden = self.layer(layer, attending, &hidden)?;
        }
        let hidden = apply(&self.last_norm, &hidden)?;
        let read = self.reads.of(hidden.dim(1)?);
        let read = hidden.narrow(1, read.start, read.len())?.mean(1)?;
        let pooled = match &self.pooler {
            Some(pooler) => pooler.forward(&read)?,
            None => read,
        };
        self.output.forward(&apply(&self.head_norm, &pooled)?)
    }

    fn layer(&self, layer: &Layer, attending: &Attending, hidden: &Tensor) -> Result<Tensor> {
        let before = self.spec.place == NormPlace::Before;
        let read = if before { &apply(&layer.attention_norm, hidden)? } else { hidden };
        let context = self.attend(&layer.projection.forward(read)?, attending)?;
        let hidden = (layer.output.forward(&context)? + hidden)?;
        if before {
            let read = layer.feed_forward_norm.forward(&hidden)?;
            return Ok((layer.down.forward(&layer.up.forward(&read)?)? + hidden)?);
        }
        let hidden = apply(&layer.attention_norm, &hidden)?;
        let wide = layer.up.forward(&hidden)?;
        layer.feed_forward_norm.forward(&(layer.down.forward(&wide)? + hidden)?)
    }

    /// Returns what the heads read, `[B, T, heads·width]`, of queries, keys and values `[B, T, 3·heads·width]`.
    fn attend(&self, projected: &Tensor, attending: &Attending) -> Result<Tensor> {
        let (batch, length, _) = projected.dims3()?;
        let (heads, width) = (self.spec.heads, self.spec.width);
        let part = |index: usize| -> Result<Tensor> {
            let part = projected.narrow(2, index * heads * width, heads * width)?;
            Ok(part.reshape((batch, length, heads, width))?.transpose(1, 2)?.contiguous()?)
        };
        let (mut queries, mut keys, values) = (part(0)?, part(1)?, part(2)?);
        if let Some(base) = attending.rotary {
            let angles = angles(length, width, base)?;
            (queries, keys) = (turn(&queries, &angles)?, turn(&keys, &angles)?);
        }
        let scores = queries.matmul(&keys.transpose(2, 3)?.contiguous()?)?;
        let mut scores = scores.affine(1.0 / (width as f64).sqrt(), 0.0)?;
        if attending.alibi {
            scores = scores.broadcast_add(&distances(heads, length)?)?;
        }
        let context = pointwise::softmax(&scores)?.matmul(&values)?;
        Ok(context.transpose(1, 2)?.contiguous()?.reshape((batch, length, heads * width))?)
    }
}

/// Applies a norm, if there is one.
fn apply(norm: &Option<Scale>, values: &Tensor) -> Result<Tensor> {
    norm.as_ref().map_or_else(|| Ok(values.clone()), |norm| norm.forward(values))
}

/// Returns what distance costs each head, `[heads, T, T]`.
fn distances(heads: usize, length: usize) -> Result<Tensor> {
    let cost = |slope: f32| {
        (0..length * length).map(move |place| -slope * (place / length).abs_diff(place % length) as f32)
    };
    let costs: Vec<f32> = alibi_slopes(heads).into_iter().flat_map(cost).collect();
    Ok(Tensor::from_vec(costs, (heads, length, length), &Device::Cpu)?)
}

/// Returns cosine and sine of the angle of each pair of channels at each position, `[T, width / 2]` each.
fn angles(length: usize, width: usize, base: f32) -> Result<[Tensor; 2]> {
    let frequency = |pair: usize| 1.0 / base.powf(2.0 * pair as f32 / width as f32);
    let angles: Vec<f32> = (0..length)
        .flat_map(|position| (0..width / 2).map(move |pair| position as f32 * frequency(pair)))
        .collect();
    let angles = Tensor::from_vec(angles, (length, width / 2), &Device::Cpu)?;
    Ok([angles.cos()?, angles.sin()?])
}

/// Turns pairs of channels, one half of a head against the other.
fn turn(heads: &Tensor, [cosines, sines]: &[Tensor; 2]) -> Result<Tensor> {
    let half = heads.dim(D::Minus1)? / 2;
    let (a, b) = (heads.narrow(3, 0, half)?, heads.narrow(3, half, half)?);
    let first = (a.broadcast_mul(cosines)? - b.broadcast_mul(sines)?)?;
    let second = (b.broadcast_mul(cosines)? + a.broadcast_mul(sines)?)?;
    Ok(Tensor::cat(&[first, second], 3)?.contiguous()?)
}

impl Matrix {
    fn new(linear: &Linear) -> Result<Self> {
        let plain = linear
            .plain()
            .ok_or_else(|| Error::usage("gradients need weights in 32-bit numbers: leave --dtype out"))?;
        let rows = plain.bias.len();
        let weights = Tensor::from_vec(plain.weights, (rows, linear.inputs()), &Device::Cpu)?;
        Ok(Self {
            weights: weights.t()?.contiguous()?,
            bias: Tensor::from_vec(plain.bias, rows, &Device::Cpu)?,
            activation: plain.activation,
            gated: rows != linear.outputs(),
        })
    }

    /// Applies the layer to `[…, inputs]`.
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let mut shape = input.dims().to_vec();
        let inputs = shape.pop().unwrap_or(1);
        let rows = input.contiguous()?.reshape((input.elem_count() / inputs, inputs))?;
        let output = rows.matmul(&self.weights)?.broadcast_add(&self.bias)?;
        let output = if self.gated {
            let half = output.dim(1)? / 2;
            (activate(self.activation, &output.narrow(1, 0, half)?.contiguous()?)?
                * output.narrow(1, half, half)?)?
        } else {
            activate(self.activation, &output)?
        };
        shape.push(output.dim(1)?);
        Ok(output.reshape(shape)?)
    }
}

fn activate(activation: Activation, values: &Tensor) -> Result<Tensor> {
    Ok(match activation {
        Activation::None => values.clone(),
        Activation::Relu => pointwise::relu(values)?,
        Activation::Gelu => values.gelu_erf()?,
        Activation::GeluTanh => values.gelu()?,
        Activation::Silu => (values * pointwise::sigmoid(values)?)?,
        Activation::Tanh => pointwise::tanh(values)?,
    })
}

impl Scale {
    fn new(norm: &Norm) -> Result<Self> {
        let tensor = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        Ok(Self {
            weights: tensor(norm.weights())?,
            bias: norm.bias().map(tensor).transpose()?,
            epsilon: f64::from(norm.epsilon()),
            centred: norm.is_centred(),
        })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let centred =
            if self.centred { input.broadcast_sub(&input.mean_keepdim(D::Minus1)?)? } else { input.clone() };
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&variance.affine(1.0, self.epsilon)?.sqrt()?)?;
        let scaled = normed.broadcast_mul(&self.weights)?;
        Ok(match &self.bias {
            Some(bias) => scaled.broadcast_add(bias)?,
            None => scaled,
        })
    }
}
