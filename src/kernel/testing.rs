//! What the tests of several layers share.

use candle_core::{Device, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::error::Result;

/// Returns numbers between -1 and 1.
pub fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// Returns a tensor of numbers between -1 and 1.
pub fn noise_tensor(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(noise(shape.iter().product(), seed), shape, &Device::Cpu).unwrap()
}

/// Returns all numbers of a tensor.
pub fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Returns the bits of all numbers of a tensor.
pub fn bits(tensor: &Tensor) -> Vec<u32> {
    flat(tensor).into_iter().map(f32::to_bits).collect()
}

/// Returns the largest absolute difference.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |a, b| if b.is_nan() { f32::NAN } else { a.max(b) })
}

/// Returns the largest absolute difference from numbers in 64 bits.
pub fn largest_difference(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - b).abs())
        .fold(0.0, |a, b| if b.is_nan() { f64::NAN } else { a.max(b) })
}

/// Returns the bits of numbers.
pub fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Checks the gradient of a random weighting of the layer's outputs against central differences.
pub fn check_gradient(input: &Tensor, layer: impl Fn(&Tensor) -> Result<Tensor>) {
    let variable = Var::from_tensor(input).unwrap();
    let output = layer(variable.as_tensor()).unwrap();
    let weights = noise_tensor(output.dims(), 99);
    let objective = |output: &Tensor| -> f64 {
        flat(output).iter().zip(flat(&weights)).map(|(y, w)| f64::from(*y) * f64::from(w)).sum()
    };
    let loss = (&output * &weights).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let gradient = flat(gradients.get(variable.as_tensor()).expect("the input has a gradient"));
    let values = flat(input);
    let step = 1e-3f32;
    for (index, gradient) in gradient.iter().enumerate() {
        let shifted = |by: f32| {
            let mut values = values.clone();
            values[index] += by;
            objective(&layer(&Tensor::from_vec(values, input.shape(), &Device::Cpu).unwrap()).unwrap())
        };
        let expected = (shifted(step) - shifted(-step)) / f64::from(2.0 * step);
        let tolerance = 2e-2 * expected.abs().max(1.0);
        assert!(
            (f64::from(*gradient) - expected).abs() < tolerance,
            "input {index}: {gradient} is not {expected}"
        );
    }
}
