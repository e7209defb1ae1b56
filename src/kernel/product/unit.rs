//! What is multiplied: single numbers, pairs of bfloat16, fours of bytes; 32 bits each.

use super::portable;
use super::{Job, Sums};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::kernel::{Instructions, instructions};

/// The values of neighbouring taps that are multiplied and added in one go.
pub(in crate::kernel) trait Unit: Copy + Default + Send + Sync + 'static {
    /// Values in a unit.
    const GROUP: usize;
    /// What products are added up in.
    type Sum: Copy + Default;

    /// Adds the products of a row's unit with a strip's to a sum: the definition that all instructions follow.
    fn add(self, weight: Self, sum: Self::Sum) -> Self::Sum;

    /// Multiplies as [`super::multiply`] says, which has checked the job.
    fn multiply(instructions: Instructions, job: Job<Self>, count: usize, sums: &mut Sums<Self::Sum>);
}

impl Unit for f32 {
    const GROUP: usize = 1;
    type Sum = f32;

    #[inline(always)]
    fn add(self, weight: Self, sum: f32) -> f32 {
        self.mul_add(weight, sum)
    }

    fn multiply(instructions: Instructions, job: Job<Self>, count: usize, sums: &mut Sums<f32>) {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => avx512::multiply_f32(job, count, sums),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2::multiply_f32(job, count, sums),
            Instructions::Portable => portable::multiply(job, count, sums),
        }
    }
}

/// Two bfloat16, the first in the low half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(in crate::kernel) struct Pair(pub u32);

impl Pair {
    /// Rounds two numbers to nearest, ties to even.
    #[inline(always)]
    pub fn new(first: f32, second: f32) -> Self {
        Self(upper_half(first) >> 16 | upper_half(second))
    }

    #[inline(always)]
    fn halves(self) -> [f32; 2] {
        [f32::from_bits(self.0 << 16), f32::from_bits(self.0 & 0xffff_0000)]
    }
}

/// Rounds to bfloat16 as the processor does: subnormal numbers become zero, NaN stays one.
#[inline(always)]
fn upper_half(value: f32) -> u32 {
    let value = flush(value);
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A rounding carry must not make a NaN infinite.
    (if value.is_nan() { bits | 0x0040_0000 } else { rounded }) & 0xffff_0000
}

/// Makes subnormal numbers zero of their sign.
#[inline(always)]
fn flush(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
}

impl Unit for Pair {
    const GROUP: usize = 2;
    type Sum = f32;

    /// What VDPBF16PS computes: the second product, then the first, each one fused multiply-add, with
    /// subnormal numbers taken and given as zero.
    #[inline(always)]
    fn add(self, weight: Self, sum: f32) -> f32 {
        let ([a, b], [c, d]) = (self.halves(), weight.halves());
        let sum = flush(flush(b).mul_add(flush(d), flush(sum)));
        flush(flush(a).mul_add(flush(c), sum))
    }

    fn multiply(instructions: Instructions, job: Job<Self>, count: usize, sums: &mut Sums<f32>) {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 if instructions::has_bf16() => avx512::multiply_bf16(job, count, sums),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::Avx2 => avx2::multiply_bf16(job, count, sums),
            Instructions::Portable => portable::multiply(job, count, sums),
        }
    }
}

/// Four bytes, the first in the lowest: of a row from 0 to 255, of a strip from -127 to 127.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(in crate::kernel) struct Four(pub u32);

impl Unit for Four {
    const GROUP: usize = 4;
    type Sum = i32;

    #[inline(always)]
    fn add(self, weight: Self, sum: i32) -> i32 {
        let products =
            |shift: u32| i32::from((self.0 >> shift) as u8) * i32::from((weight.0 >> shift) as u8 as i8);
        sum.wrapping_add(products(0) + products(8) + products(16) + products(24))
    }

    fn multiply(instructions: Instructions, job: Job<Self>, count: usize, sums: &mut Sums<i32>) {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 if instructions::has_vnni() => avx512::multiply_int8(job, count, sums),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 | Instructions::Avx2 => avx2::multiply_int8(job, count, sums),
            Instructions::Portable => portable::multiply(job, count, sums),
        }
    }
}

/// The body of [`super::round_pairs`].
#[inline(always)]
pub(super) fn round_pairs(values: &[f32], pairs: &mut [Pair]) {
    let (whole, rest) = values.as_chunks::<2>();
    for (pair, &[first, second]) in pairs.iter_mut().zip(whole) {
        *pair = Pair::new(first, second);
    }
    if let &[last] = rest {
        pairs[whole.len()] = Pair::new(last, 0.0);
    }
}
