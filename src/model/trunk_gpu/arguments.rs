//! What the kernels of `kernels/convolution.cu` take by value, field by field as declared there.

use crate::device::backend::Argument;

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Convolve {
    pub input: u64,
    pub weights: u64,
    pub bias: u64,
    pub output: u64,
    pub rows: u32,
    pub length: u32,
    pub inputs: u32,
    pub count: u32,
    pub outputs: u32,
    pub depth: u32,
    pub stride: u32,
    pub dilation: u32,
    pub left: u32,
    pub relu: u32,
    pub residual: u32,
    pub reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Window {
    pub input: u64,
    pub scale: u64,
    pub shift: u64,
    pub output: u64,
    pub rows: u32,
    pub length: u32,
    pub count: u32,
    pub channels: u32,
    pub start: u32,
    pub size: u32,
    pub stride: u32,
    pub relu: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Unpack {
    pub input: u64,
    pub output: u64,
    pub rows: u32,
    pub padded: u32,
    pub channels: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Convolve>() == 80 && size_of::<Window>() == 64 && size_of::<Unpack>() == 32);

// SAFETY: repr(C), the sizes above are the sums of the fields', so there is no padding; laid out as in the kernels.
unsafe impl Argument for Convolve {}
// SAFETY: as above.
unsafe impl Argument for Window {}
// SAFETY: as above.
unsafe impl Argument for Unpack {}
