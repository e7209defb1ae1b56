//! Dropout: which numbers fall out is a function of a key and their place, so that it needs no memory and no
//! order.

use candle_core::{CpuStorage, CustomOp1, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::{argument, output};
use crate::error::Result;

/// Makes every number zero with probability `rate`, and divides the others by what is left. `key` decides which.
///
/// # Errors
///
/// When the tensor is not on the processor.
pub fn dropout(input: &Tensor, rate: f64, key: u64) -> Result<Tensor> {
    if rate <= 0.0 {
        return Ok(input.clone());
    }
    Ok(input.contiguous()?.apply_op1(Dropout { rate, key })?)
}

#[derive(Clone, Copy)]
struct Dropout {
    rate: f64,
    key: u64,
}

/// Numbers that one thread takes at a time.
const PIECE: usize = 1 << 14;

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let mut values = argument(input, layout)?.to_vec();
        let scale = (1.0 / (1.0 - self.rate)) as f32;
        let limit = (self.rate * f64::from(u32::MAX)) as u32;
        let key = mix(self.key);
        values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| {
            for (place, value) in values.iter_mut().enumerate() {
                let random = mix(key.wrapping_add((piece * PIECE + place) as u64)) >> 32;
                *value = if random as u32 >= limit { *value * scale } else { 0.0 };
            }
        });
        output(values, layout.shape().clone())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Candle<Option<Tensor>> {
        gradient.contiguous()?.apply_op1(*self).map(Some)
    }
}

/// Mixes the bits of a number (the finalizer of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::*;

    #[test]
    fn as_many_fall_out_as_are_asked_and_the_others_keep_the_mean() {
        let ones = Tensor::ones((200, 500), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let values = flat(&dropout(&ones, 0.3, 5).unwrap());
        let zeros = values.iter().filter(|&&value| value == 0.0).count() as f64 / values.len() as f64;
        assert!((zeros - 0.3).abs() < 0.005, "{zeros}");
        assert!(values.iter().all(|&value| value == 0.0 || (value - 1.0 / 0.7).abs() < 1e-6));
        assert_eq!(values, flat(&dropout(&ones, 0.3, 5).unwrap()));
        assert_ne!(values, flat(&dropout(&ones, 0.3, 6).unwrap()));
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        check_gradient(&noise_tensor(&[5, 7], 1), |x| dropout(x, 0.5, 3));
    }
}
