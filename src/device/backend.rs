//! What a path that runs on a GPU asks of one: memory, copies, launches, matrix products.
//!
//! [`super::cuda`] has the one for NVIDIA GPUs. The tests have another, which runs the same kernels, compiled as
//! C++, and the same sequence of launches on the processor.
#![allow(unsafe_code)]

use std::any::Any;

use crate::error::Result;

/// In what numbers activations and weights stand. Sums are 32-bit floats in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// 32-bit floats, multiplied as such (no TF32).
    F32,
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
}

impl Number {
    /// Returns the bytes of one.
    pub fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Returns the name, as kernels end with it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Returns 32-bit floats rounded to these numbers, as bytes.
    pub fn round(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bf16 => {
                values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect()
            }
            Self::F16 => values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect(),
        }
    }
}

/// Memory of the device, aligned to 256 bytes on a GPU and to 16 in the tests.
pub struct Memory {
    address: u64,
    bytes: usize,
    _keeper: Box<dyn Any + Send + Sync>,
}

impl Memory {
    /// Describes memory that lives as long as `keeper`.
    pub(super) fn new(address: u64, bytes: usize, keeper: Box<dyn Any + Send + Sync>) -> Self {
        Self { address, bytes, _keeper: keeper }
    }

    /// Returns the address, for kernels.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Returns the length.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Page-locked memory of the host, which copies do not wait for.
pub struct Locked {
    start: *mut u8,
    bytes: usize,
    _keeper: Box<dyn Any + Send + Sync>,
}

// SAFETY: the memory is plain bytes that this value owns through its keeper, which is Send.
unsafe impl Send for Locked {}

impl Locked {
    /// Describes memory that lives as long as `keeper`.
    ///
    /// # Safety
    ///
    /// `start` is aligned to 16 bytes, and the start of as many initialized bytes that live as long as `keeper` and
    /// that nothing else refers to.
    pub(super) unsafe fn new(start: *mut u8, bytes: usize, keeper: Box<dyn Any + Send + Sync>) -> Self {
        Self { start, bytes, _keeper: keeper }
    }

    /// Returns the bytes. No copy from or to them may be under way.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the contract of `new`; `&mut self` makes the slice the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    /// Returns the start, for copies.
    pub(super) fn start(&self) -> *mut u8 {
        self.start
    }

    /// Returns the length.
    pub fn length(&self) -> usize {
        self.bytes
    }
}

/// Work that is done in order. Queues wait for each other only where they are told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Copies to the device.
    Upload,
    /// Launches and products.
    Compute,
    /// Copies from the device.
    Download,
}

/// A point in a queue.
pub struct Event(pub(super) Box<dyn Any + Send + Sync>);

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks.
    pub blocks: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Bytes of dynamic shared memory of a block.
    pub shared: usize,
}

/// A matrix product: output = f(input · weightsᵀ + bias + residual).
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Of all arrays.
    pub number: Number,
    /// Rows of input and output.
    pub rows: usize,
    /// Numbers of a row that goes in.
    pub inputs: usize,
    /// Numbers of a row that comes out.
    pub outputs: usize,
    /// Address of `[rows, inputs]`.
    pub input: u64,
    /// Address of `[outputs, inputs]`.
    pub weights: u64,
    /// Address of `[outputs]`.
    pub bias: Option<u64>,
    /// Address of `[rows, outputs]`; may be the output's.
    pub residual: Option<u64>,
    /// Address of `[rows, outputs]`.
    pub output: u64,
    /// Whether f is the tanh form of GELU; else it is nothing.
    pub gelu_tanh: bool,
}

/// A device.
pub trait Backend: Send + Sync {
    /// Prepares these kernels of a PTX file.
    ///
    /// # Errors
    ///
    /// When the device cannot read the file, or a kernel is not in it.
    fn prepare(&self, ptx: &str, kernels: &[String]) -> Result<()>;

    /// Prepares [`Backend::multiply`].
    ///
    /// # Errors
    ///
    /// When there is no library for it, with the remedy.
    fn prepare_products(&self) -> Result<()>;

    /// Allocates memory of zeros.
    ///
    /// # Errors
    ///
    /// When it is full.
    fn allocate(&self, bytes: usize) -> Result<Memory>;

    /// Allocates page-locked memory of zeros on the host.
    ///
    /// # Errors
    ///
    /// When so much cannot be locked.
    fn lock(&self, bytes: usize) -> Result<Locked>;

    /// Copies bytes to new memory, and waits.
    ///
    /// # Errors
    ///
    /// When it is full.
    fn upload(&self, bytes: &[u8]) -> Result<Memory>;

    /// Puts a copy of the first `bytes` into [`Queue::Upload`].
    ///
    /// # Safety
    ///
    /// Both have as many bytes; until the copy is done, `from` is not changed and neither is dropped.
    ///
    /// # Errors
    ///
    /// The device's.
    unsafe fn send(&self, from: &Locked, to: &Memory, bytes: usize) -> Result<()>;

    /// Puts a copy of the first `bytes` into [`Queue::Download`].
    ///
    /// # Safety
    ///
    /// Both have as many bytes; until the copy is done, `to` is not touched and neither is dropped.
    ///
    /// # Errors
    ///
    /// The device's.
    unsafe fn fetch(&self, from: &Memory, to: &Locked, bytes: usize) -> Result<()>;

    /// Puts a launch of a prepared kernel into [`Queue::Compute`]; a launch of no blocks is none.
    ///
    /// # Safety
    ///
    /// The bytes are the kernel's argument; every address in it is of [`Memory`] that is large enough for what the
    /// kernel does with it and lives until the launch is done.
    ///
    /// # Errors
    ///
    /// The device's.
    unsafe fn launch(&self, kernel: &str, shape: Launch, argument: &[u8]) -> Result<()>;

    /// Puts a product into [`Queue::Compute`].
    ///
    /// # Safety
    ///
    /// Every address is of [`Memory`] that is large enough and lives until the product is done.
    ///
    /// # Errors
    ///
    /// The device's, or when it has no way to compute it.
    unsafe fn multiply(&self, product: &Product) -> Result<()>;

    /// Marks the end of what is in a queue now.
    ///
    /// # Errors
    ///
    /// The device's.
    fn record(&self, queue: Queue) -> Result<Event>;

    /// Makes what is put into a queue from now on wait for an event.
    ///
    /// # Errors
    ///
    /// The device's.
    fn follow(&self, queue: Queue, event: &Event) -> Result<()>;

    /// Waits for an event.
    ///
    /// # Errors
    ///
    /// Those of everything before it.
    fn reach(&self, event: &Event) -> Result<()>;
}

/// A struct that kernels take by value.
///
/// # Safety
///
/// It is `repr(C)`, has no padding, and is laid out as the kernel declares it.
pub unsafe trait Argument: Copy {
    /// Returns its bytes.
    fn bytes(&self) -> &[u8] {
        // SAFETY: without padding every byte is initialized.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}
