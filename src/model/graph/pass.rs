//! One way of a batch through a network in training: what drops out, and the statistics that norms see.

use candle_core::Tensor;

use super::Parameters;
use crate::error::Result;
use crate::kernel::Activation;
use crate::kernel::learn::block::{self, Vectors};
use crate::kernel::learn::conv::{self, Geometry};
use crate::kernel::learn::norm::Statistics;
use crate::kernel::learn::pointwise::activate;
use crate::kernel::learn::{self, dropout};

/// PyTorch's share of the batch in running statistics.
const MOMENTUM: f64 = 0.1;

/// What batch norms add to variances.
const EPSILON: f32 = 1e-5;

/// One way through a network.
pub struct Pass<'a> {
    parameters: &'a Parameters,
    /// Whether norms use the statistics of the batch.
    is_training: bool,
    /// What dropout draws from; nothing drops where there is none.
    key: Option<u64>,
    dropouts: u64,
    statistics: Vec<(String, f64, Statistics)>,
}

impl<'a> Pass<'a> {
    /// Begins a way in training; `key` decides what drops out.
    pub fn training(parameters: &'a Parameters, key: u64) -> Self {
        Self { is_training: true, key: Some(key), ..Self::in_use(parameters) }
    }

    /// Begins a way in training on which nothing drops out.
    pub fn without_dropout(parameters: &'a Parameters) -> Self {
        Self { is_training: true, ..Self::in_use(parameters) }
    }

    /// Begins a way in use: nothing drops out, norms use their running statistics.
    pub fn in_use(parameters: &'a Parameters) -> Self {
        Self { parameters, is_training: false, key: None, dropouts: 0, statistics: Vec::new() }
    }

    /// Returns whether this is training.
    pub fn is_training(&self) -> bool {
        self.is_training
    }

    /// Returns the weights.
    pub fn parameters(&self) -> &'a Parameters {
        self.parameters
    }

    /// Returns the tensor `name`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<&'a Tensor> {
        self.parameters.get(name)
    }

    /// Returns the tensor `name` if there is one.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn find(&self, name: &str) -> Result<Option<&'a Tensor>> {
        if self.parameters.contains(name) { self.parameters.get(name).map(Some) } else { Ok(None) }
    }

    /// Drops numbers out with probability `rate`.
    ///
    /// # Errors
    ///
    /// When the tensor is not on the processor.
    pub fn dropout(&mut self, input: &Tensor, rate: f64) -> Result<Tensor> {
        match self.dropout_key() {
            Some(key) => dropout::dropout(input, rate, key),
            None => Ok(input.clone()),
        }
    }

    /// Draws the key of a dropout that an operation does itself; `None` where nothing drops.
    pub fn dropout_key(&mut self) -> Option<u64> {
        self.dropouts += 1;
        self.key.map(|key| dropout::mix(key ^ dropout::mix(self.dropouts)))
    }

    /// Applies the layer norm `name` to rows, `[…, width]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn layer_norm(&self, input: &Tensor, name: &str, epsilon: f32) -> Result<Tensor> {
        let bias = self.find(&format!("{name}.bias"))?;
        learn::norm::layer_norm(input, self.get(&format!("{name}.weight"))?, bias, epsilon)
    }

    /// Applies the linear layer `name` to rows, `[…, inputs]`, with its adapter where there is one.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn linear(&mut self, input: &Tensor, name: &str) -> Result<Tensor> {
        let bias = self.find(&format!("{name}.bias"))?;
        let output = learn::linear::linear(input, self.get(&format!("{name}.weight"))?, bias)?;
        let (Some(lora), true) = (self.parameters.lora(), self.is_adapted(name)) else { return Ok(output) };
        let [a, b] = ["lora_A", "lora_B"].map(|factor| self.get(&format!("{name}.{factor}.weight")));
        let narrow = learn::linear::linear(&self.dropout(input, lora.dropout)?, a?, None)?;
        Ok((output + (learn::linear::linear(&narrow, b?, None)? * lora.scale)?)?)
    }

    fn is_adapted(&self, name: &str) -> bool {
        self.parameters.lora().is_some() && self.parameters.contains(&format!("{name}.lora_A.weight"))
    }

    /// Applies several linear layers to rows and puts what they give side by side. Layers without adapters, and with
    /// biases or all without, are one.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn linear_abreast(&mut self, input: &Tensor, names: &[String]) -> Result<Tensor> {
        let with_bias = |name: &&String| self.parameters.contains(&format!("{name}.bias"));
        let biases = names.iter().filter(with_bias).count();
        if names.iter().any(|name| self.is_adapted(name)) || !(biases == 0 || biases == names.len()) {
            let parts = names.iter().map(|name| self.linear(input, name)).collect::<Result<Vec<_>>>()?;
            return Ok(Tensor::cat(&parts, input.rank() - 1)?);
        }
        let all = |part: &str| -> Result<Tensor> {
            let parts = names.iter().map(|name| self.get(&format!("{name}.{part}")));
            Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?)
        };
        let bias = if biases > 0 { Some(all("bias")?) } else { None };
        learn::linear::linear(input, &all("weight")?, bias.as_ref())
    }

    /// Applies a function to rows, then the linear layer `name`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn activated_linear(&mut self, input: &Tensor, function: Activation, name: &str) -> Result<Tensor> {
        match self.find(&format!("{name}.bias"))? {
            Some(bias) if !self.is_adapted(name) => {
                let weight = self.get(&format!("{name}.weight"))?;
                learn::linear::activated_linear(input, function, weight, bias)
            }
            _ => self.linear(&activate(input, function)?, name),
        }
    }

    /// Applies the convolution `name` to images `[B, H, W, inputs]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn conv(&self, input: &Tensor, name: &str, geometry: Geometry) -> Result<Tensor> {
        let bias = self.find(&format!("{name}.bias"))?;
        conv::conv(input, self.get(&format!("{name}.weight"))?, bias, geometry)
    }

    /// Applies the convolution `names[0]`, which has a bias, to images `[B, H, W, inputs]`, makes negative numbers zero
    /// where `is_rectified`, and applies the batch norm `names[1]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn normed_conv(
        &mut self,
        input: &Tensor,
        names: [&str; 2],
        geometry: Geometry,
        is_rectified: bool,
    ) -> Result<Tensor> {
        let weight = self.get(&format!("{}.weight", names[0]))?;
        self.normed_filters(input, weight, names, geometry, is_rectified)
    }

    /// Does what [`Pass::normed_conv`] does, on rows `[B, L, inputs]` with filters `[outputs, inputs, columns]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn normed_conv_1d(
        &mut self,
        input: &Tensor,
        filters: &Tensor,
        names: [&str; 2],
        geometry: Geometry,
        is_rectified: bool,
    ) -> Result<Tensor> {
        let (input, filters) = (input.unsqueeze(1)?, filters.unsqueeze(2)?);
        Ok(self.normed_filters(&input, &filters, names, geometry, is_rectified)?.squeeze(1)?)
    }

    fn normed_filters(
        &mut self,
        input: &Tensor,
        weight: &Tensor,
        [conv, norm]: [&str; 2],
        geometry: Geometry,
        is_rectified: bool,
    ) -> Result<Tensor> {
        let bias = self.get(&format!("{conv}.bias"))?;
        if !self.is_training() {
            let maps = conv::conv(input, weight, Some(bias), geometry)?;
            let maps = if is_rectified { activate(&maps, Activation::Relu)? } else { maps };
            return self.batch_norm(&maps, norm);
        }
        let vectors = Vectors {
            bias,
            scale: self.get(&format!("{norm}.weight"))?,
            shift: self.get(&format!("{norm}.bias"))?,
        };
        let (output, statistics) = block::normed(input, weight, vectors, geometry, is_rectified, EPSILON)?;
        self.statistics.push((norm.into(), MOMENTUM, statistics));
        Ok(output)
    }

    /// Applies the one-dimensional convolution `name` to rows `[B, L, inputs]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn conv_1d(&self, input: &Tensor, name: &str, geometry: Geometry) -> Result<Tensor> {
        let bias = self.find(&format!("{name}.bias"))?;
        conv::conv_1d(input, self.get(&format!("{name}.weight"))?, bias, geometry)
    }

    /// Applies the batch norm `name` to `[…, channels]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn batch_norm(&mut self, input: &Tensor, name: &str) -> Result<Tensor> {
        self.batch_norm_with(input, name, MOMENTUM)
    }

    /// Applies the batch norm `name`, whose running statistics take this share of the batch's.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn batch_norm_with(&mut self, input: &Tensor, name: &str, momentum: f64) -> Result<Tensor> {
        let (weight, bias) = (self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?);
        if self.is_training() {
            let (output, statistics) = learn::norm::batch_norm(input, weight, bias, EPSILON)?;
            self.statistics.push((name.into(), momentum, statistics));
            return Ok(output);
        }
        let running = |part: &str| self.parameters.buffer(&format!("{name}.{part}"));
        let mean = &running("running_mean")?.values;
        let scale = running("running_var")?.values.iter().map(|variance| 1.0 / (variance + EPSILON).sqrt());
        let channels = mean.len();
        let mean = learn::tensor(mean.clone(), channels)?;
        let scale = learn::tensor(scale.collect(), channels)?;
        let normal = input.broadcast_sub(&mean)?.broadcast_mul(&scale)?;
        Ok(normal.broadcast_mul(weight)?.broadcast_add(bias)?)
    }

    /// Ends the way and returns what norms saw.
    pub fn finish(self) -> Seen {
        Seen(self.statistics)
    }
}

/// What norms saw on one way.
pub struct Seen(Vec<(String, f64, Statistics)>);

impl Seen {
    /// Moves the running statistics towards what was seen. Variances become those of a sample, as in PyTorch.
    pub fn keep(self, parameters: &mut Parameters) {
        for (name, momentum, Statistics { mean, variance, rows }) in self.0 {
            let sample = rows as f64 / (rows.max(2) - 1) as f64;
            let mut move_to = |part: &str, seen: &[f32], factor: f64| {
                let Some(running) = parameters.buffer_mut(&format!("{name}.{part}")) else { return };
                for (running, &seen) in running.values.iter_mut().zip(seen) {
                    let next = (1.0 - momentum) * f64::from(*running) + momentum * factor * f64::from(seen);
                    *running = next as f32;
                }
            };
            move_to("running_mean", &mean, 1.0);
            move_to("running_var", &variance, sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Initial;
    use super::*;
    use crate::kernel::testing::{distance, flat, noise_tensor};

    #[test]
    fn running_statistics_go_to_those_of_the_batches() {
        let mut initial = Initial::new(1);
        initial.batch_norm("n", 3);
        let mut parameters = initial.finish();
        let input = noise_tensor(&[40, 3], 1);
        let mut trained = Vec::new();
        for step in 0..200 {
            let mut pass = Pass::training(&parameters, step);
            trained = flat(&pass.batch_norm(&input, "n").unwrap());
            pass.finish().keep(&mut parameters);
        }
        let used = flat(&Pass::in_use(&parameters).batch_norm(&input, "n").unwrap());
        // They differ by √(n/(n - 1)) of the variance.
        assert!(distance(&used, &trained) < 0.03, "{}", distance(&used, &trained));
    }

    #[test]
    fn layers_abreast_are_each_of_them_with_biases_or_without() {
        let mut initial = Initial::new(3);
        let names = ["a", "b", "c"].map(String::from);
        for name in &names {
            initial.layer(name, &[4, 5]);
        }
        let parameters = initial.finish();
        let input = noise_tensor(&[7, 5], 2);
        let mut pass = Pass::in_use(&parameters);
        let together = flat(&pass.linear_abreast(&input, &names).unwrap());
        for (index, name) in names.iter().enumerate() {
            let own = flat(&pass.linear(&input, name).unwrap());
            let part = together.chunks_exact(12).flat_map(|row| &row[4 * index..][..4]).copied();
            assert!(distance(&own, &part.collect::<Vec<_>>()) < 1e-6);
        }
    }

    #[test]
    fn each_dropout_of_a_way_has_its_own_numbers() {
        let parameters = Parameters::default();
        let ones = noise_tensor(&[100], 1);
        let mut pass = Pass::training(&parameters, 4);
        let (first, second) = (pass.dropout(&ones, 0.5).unwrap(), pass.dropout(&ones, 0.5).unwrap());
        assert_ne!(flat(&first), flat(&second));
        let again = Pass::training(&parameters, 4).dropout(&ones, 0.5).unwrap();
        assert_eq!(flat(&first), flat(&again));
        assert_eq!(flat(&Pass::in_use(&parameters).dropout(&ones, 0.5).unwrap()), flat(&ones));
    }
}
