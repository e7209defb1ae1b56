//! What the kernels of `kernels/transformer.cu` take by value, field by field as declared there.

use crate::device::backend::Argument;
use crate::kernel::Activation;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Embed {
    pub tokens: u64,
    pub places: u64,
    pub words: u64,
    pub positions: u64,
    pub weights: u64,
    pub bias: u64,
    pub output: u64,
    pub rows: u32,
    pub hidden: u32,
    pub epsilon: f32,
    pub reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Norm {
    pub input: u64,
    pub weights: u64,
    pub bias: u64,
    pub output: u64,
    pub rows: u32,
    pub hidden: u32,
    pub epsilon: f32,
    pub reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Activate {
    pub input: u64,
    pub output: u64,
    pub rows: u32,
    pub width: u32,
    pub function: u32,
    pub gated: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Rotate {
    pub values: u64,
    pub places: u64,
    pub table: u64,
    pub rows: u32,
    pub heads: u32,
    pub width: u32,
    pub stride: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Attend {
    pub inputs: u64,
    pub output: u64,
    pub tiles: u64,
    pub slopes: u64,
    pub tile_count: u32,
    pub heads: u32,
    pub width: u32,
    pub scale: f32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pool {
    pub input: u64,
    pub ranges: u64,
    pub output: u64,
    pub count: u32,
    pub hidden: u32,
}

const _: () = assert!(size_of::<Embed>() == 72 && size_of::<Norm>() == 48 && size_of::<Activate>() == 32);
const _: () = assert!(size_of::<Rotate>() == 40 && size_of::<Attend>() == 48 && size_of::<Pool>() == 32);

// SAFETY: addresses first, then an even number of 32-bit fields, so that there is no padding; the sizes are asserted
// here and in the .cu file, and the library of the tests checks them at every launch.
unsafe impl Argument for Embed {}
// SAFETY: as above.
unsafe impl Argument for Norm {}
// SAFETY: as above.
unsafe impl Argument for Activate {}
// SAFETY: as above.
unsafe impl Argument for Rotate {}
// SAFETY: as above.
unsafe impl Argument for Attend {}
// SAFETY: as above.
unsafe impl Argument for Pool {}

/// Returns a function's number in the kernels.
pub fn function(activation: Activation) -> u32 {
    match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Gelu => 2,
        Activation::GeluTanh => 3,
        Activation::Silu => 4,
        Activation::Tanh => 5,
    }
}
