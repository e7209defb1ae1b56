//! Stand-ins for the kernels.

use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    Bf16,
    Int8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    Gelu,
    GeluTanh,
    Silu,
    Tanh,
}

fn erf(x: f64) -> f64 {
    // Abramowitz and Stegun's series, good enough to stand in.
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut sum, mut term) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
        if term.abs() < 1e-18 {
            break;
        }
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

impl Activation {
    fn of(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Relu => x.max(0.0),
            Self::Gelu => (0.5 * f64::from(x) * (1.0 + erf(f64::from(x) / 2f64.sqrt()))) as f32,
            Self::GeluTanh => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044715 * x * x * x)).tanh()),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Linear {
    /// `[inputs, rows]`
    columns: Arc<[f32]>,
    bias: Vec<f32>,
    outputs: usize,
    inputs: usize,
    gated: bool,
    activation: Activation,
}

impl Linear {
    pub fn new(weights: &[f32], shape: [usize; 2], bias: Option<&[f32]>, _: Precision) -> Self {
        Self::pack(weights, shape, bias, false, Activation::None)
    }
    pub fn gated(
        weights: &[f32],
        shape: [usize; 2],
        bias: Option<&[f32]>,
        activation: Activation,
        _: Precision,
    ) -> Self {
        Self::pack(weights, shape, bias, true, activation)
    }
    fn pack(
        weights: &[f32],
        [outputs, inputs]: [usize; 2],
        bias: Option<&[f32]>,
        gated: bool,
        activation: Activation,
    ) -> Self {
        let rows = if gated { 2 * outputs } else { outputs };
        assert_eq!(weights.len(), rows * inputs);
        let columns = (0..rows * inputs).map(|i| weights[i % rows * inputs + i / rows]).collect();
        let bias = bias.map_or(vec![0.0; rows], <[f32]>::to_vec);
        Self { columns, bias, outputs, inputs, gated, activation }
    }
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    pub fn outputs(&self) -> usize {
        self.outputs
    }
    pub fn apply(&self, input: &[f32], output: &mut [f32]) {
        output.fill(0.0);
        self.add(input, output);
    }
    pub fn add(&self, input: &[f32], output: &mut [f32]) {
        let rows = self.bias.len();
        for (input, output) in input.chunks(self.inputs).zip(output.chunks_mut(self.outputs)) {
            let mut sums = self.bias.clone();
            for (x, column) in input.iter().zip(self.columns.chunks(rows)) {
                sums.iter_mut().zip(column).for_each(|(sum, w)| *sum = x.mul_add(*w, *sum));
            }
            for (index, y) in output.iter_mut().enumerate() {
                *y += match self.gated {
                    true => self.activation.of(sums[index]) * sums[index + self.outputs],
                    false => self.activation.of(sums[index]),
                };
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Norm {
    weights: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
    centred: bool,
}

impl Norm {
    pub fn layer(weights: &[f32], bias: Option<&[f32]>, epsilon: f32) -> Self {
        let bias = bias.map_or(vec![0.0; weights.len()], <[f32]>::to_vec);
        Self { weights: weights.to_vec(), bias, epsilon, centred: true }
    }
    pub fn rms(weights: &[f32], epsilon: f32) -> Self {
        Self { weights: weights.to_vec(), bias: vec![0.0; weights.len()], epsilon, centred: false }
    }
    pub fn apply(&self, values: &mut [f32]) {
        let width = self.weights.len();
        for row in values.chunks_mut(width) {
            let mean = if self.centred { row.iter().sum::<f32>() / width as f32 } else { 0.0 };
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
            let scale = 1.0 / (variance + self.epsilon).sqrt();
            for ((x, w), b) in row.iter_mut().zip(&self.weights).zip(&self.bias) {
                *x = (*x - mean) * scale * w + b;
            }
        }
    }
    pub fn apply_to(&self, input: &[f32], output: &mut [f32]) {
        output.copy_from_slice(input);
        self.apply(output);
    }
}

#[derive(Clone, Debug)]
pub struct Attention {
    pub heads: usize,
    pub key_value_heads: usize,
    pub width: usize,
    pub scale: f32,
    pub slopes: Option<Vec<f32>>,
    pub causal: bool,
    pub window: Option<usize>,
    pub rotary: Option<f32>,
}

impl Attention {
    pub fn apply(&self, qkv: &[f32], length: usize, context: &mut [f32], mut probabilities: Option<&mut [f32]>) {
        let (d, stride) = (self.width, (self.heads + 2 * self.key_value_heads) * self.width);
        let vector = |token: usize, head: usize| {
            let mut v = qkv[token * stride + head * d..][..d].to_vec();
            if let (Some(base), true) = (self.rotary, head < self.heads + self.key_value_heads) {
                let old = v.clone();
                for j in 0..d / 2 {
                    let angle = token as f32 * base.powf(-2.0 * j as f32 / d as f32);
                    v[j] = old[j] * angle.cos() - old[j + d / 2] * angle.sin();
                    v[j + d / 2] = old[j + d / 2] * angle.cos() + old[j] * angle.sin();
                }
            }
            v
        };
        for head in 0..self.heads {
            let group = head / (self.heads / self.key_value_heads);
            let keys: Vec<_> = (0..length).map(|t| vector(t, self.heads + group)).collect();
            let values: Vec<_> =
                (0..length).map(|t| vector(t, self.heads + self.key_value_heads + group)).collect();
            for i in 0..length {
                let query = vector(i, head);
                let mut p: Vec<f32> = (0..length)
                    .map(|j| {
                        let hidden = self.causal && j > i || self.window.is_some_and(|w| i.abs_diff(j) > w);
                        let slope = self.slopes.as_ref().map_or(0.0, |s| s[head] * i.abs_diff(j) as f32);
                        let dot: f32 = query.iter().zip(&keys[j]).map(|(a, b)| a * b).sum();
                        if hidden { f32::NEG_INFINITY } else { dot * self.scale - slope }
                    })
                    .collect();
                let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                p.iter_mut().for_each(|x| *x = (*x - max).exp());
                let sum: f32 = p.iter().sum();
                p.iter_mut().for_each(|x| *x /= sum);
                let out = &mut context[i * self.heads * d + head * d..][..d];
                out.fill(0.0);
                for (p, v) in p.iter().zip(&values) {
                    out.iter_mut().zip(v).for_each(|(o, v)| *o += p * v);
                }
                if let Some(all) = probabilities.as_deref_mut() {
                    all[(head * length + i) * length..][..length].copy_from_slice(&p);
                }
            }
        }
    }
}
