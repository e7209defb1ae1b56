//! One NVIDIA GPU: modules of embedded PTX, memory, streams, launches.
//!
//! The driver's library is opened when a GPU is asked for, so that the same executable runs where there is
//! none. Every error is one line with a remedy. Kernels take one struct by value, which holds sizes and
//! addresses ([`Buffer::address`]); the test of a kernel on the processor builds the same struct from host
//! addresses.
//!
//! Nothing here has run on a GPU yet: see `kernels/README.md`.
#![allow(unsafe_code)]

mod backend;
mod blas;

use std::ffi::c_int;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUfunction_attribute_enum, CUresult};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig,
    PinnedHostSlice, PushKernelArg, result,
};
pub use cudarc::driver::{DeviceRepr, ValidAsZeroBits};
use cudarc::nvrtc::Ptx;

pub use backend::CudaBackend;
pub use blas::version as cublaslt_version;

use crate::error::{Error, Result};

/// The oldest driver interface that reads our PTX (ISA 8.0), as `cuDriverGetVersion` numbers it.
const DRIVER_MIN: i32 = 12_000;
/// The oldest architecture our PTX is for.
const CAPABILITY_MIN: (i32, i32) = (8, 0);

/// An open GPU.
#[derive(Clone)]
pub struct Cuda {
    context: Arc<CudaContext>,
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (i32, i32),
    /// Bytes of memory.
    pub memory: usize,
    /// Bytes of memory that are free.
    pub memory_free: usize,
    /// Multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of shared memory that a block may ask for.
    pub shared_per_block: usize,
    /// The driver's interface, such as 12040 for 12.4.
    pub driver: i32,
}

impl std::fmt::Display for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let gib = |bytes: usize| bytes as f64 / (1u64 << 30) as f64;
        write!(
            f,
            "cuda:{} is {} (compute {}.{}, {} multiprocessors, {:.1} GiB, {:.1} of it free; driver for CUDA {}.{})",
            self.number,
            self.name,
            self.capability.0,
            self.capability.1,
            self.multiprocessors,
            gib(self.memory),
            gib(self.memory_free),
            self.driver / 1000,
            self.driver % 1000 / 10
        )
    }
}

impl Cuda {
    /// Opens the GPU of this number.
    ///
    /// # Errors
    ///
    /// When there is no driver, no such GPU, or either is too old for our kernels.
    pub fn open(number: usize) -> Result<Self> {
        // SAFETY: opening libcuda runs its initializers, as any program that uses it does.
        if !unsafe { sys::is_culib_present() } {
            return Err(refusal(
                "there is no NVIDIA driver here (libcuda.so.1 cannot be opened); install one, or use --device cpu",
            ));
        }
        let driver = driver_version()?;
        if driver < DRIVER_MIN {
            return Err(refusal(&format!(
                "the NVIDIA driver is too old: it is for CUDA {}.{}, and 12.0 (driver 525) is needed; update it, or use --device cpu",
                driver / 1000,
                driver % 1000 / 10
            )));
        }
        let count = CudaContext::device_count().map_err(explain)?;
        if number >= count.max(0) as usize {
            return Err(refusal(&format!(
                "there are {count} NVIDIA GPUs here and none has number {number}; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu"
            )));
        }
        let cuda = Self { context: CudaContext::new(number).map_err(explain)? };
        let capability = cuda.context.compute_capability().map_err(explain)?;
        if capability < CAPABILITY_MIN {
            return Err(refusal(&format!(
                "GPU {number} has compute capability {}.{} and {}.{} is needed; use --device cpu",
                capability.0, capability.1, CAPABILITY_MIN.0, CAPABILITY_MIN.1
            )));
        }
        Ok(cuda)
    }

    /// Asks the GPU what it is.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn describe(&self) -> Result<Description> {
        let (memory_free, memory) = self.context.mem_get_info().map_err(explain)?;
        let attribute = |attribute| self.context.attribute(attribute).map_err(explain);
        Ok(Description {
            number: self.context.ordinal(),
            name: self.context.name().map_err(explain)?,
            capability: self.context.compute_capability().map_err(explain)?,
            memory,
            memory_free,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
            shared_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?
                as usize,
            driver: driver_version()?,
        })
    }

    /// Loads PTX; the driver compiles it for the GPU.
    ///
    /// # Errors
    ///
    /// When the driver cannot read it.
    pub fn load(&self, ptx: &str) -> Result<Module> {
        Ok(Module(self.context.load_module(Ptx::from_src(ptx)).map_err(explain)?))
    }

    /// Creates a stream; what is put into it is done in order.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn stream(&self) -> Result<Stream> {
        Ok(Stream(self.context.new_stream().map_err(explain)?))
    }

    /// Allocates page-locked memory of `length` zeros on the host, which copies do not wait for.
    ///
    /// # Errors
    ///
    /// When so much memory cannot be locked.
    pub fn pinned<T: DeviceRepr + ValidAsZeroBits>(&self, length: usize) -> Result<Pinned<T>> {
        // SAFETY: the memory is filled with zeros before anybody sees it, and zeros are a valid T.
        let mut slice = unsafe { self.context.alloc_pinned_with_flags::<T>(length, 0) }.map_err(explain)?;
        let start = slice.as_mut_ptr().map_err(explain)?;
        // SAFETY: the allocation has `length` items of T.
        unsafe { std::ptr::write_bytes(start, 0, length) };
        Ok(Pinned(slice))
    }
}

/// Returns the driver's interface version.
fn driver_version() -> Result<i32> {
    let mut version: c_int = 0;
    // SAFETY: the library is there, and the pointer is to a live int; this call needs no initialization.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(explain)?;
    Ok(version)
}

fn refusal(reason: &str) -> Error {
    Error::data(format!("--device cuda: {reason}"))
}

/// Says what the driver's error means and what helps.
fn explain(error: DriverError) -> Error {
    refusal(&match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => {
            "the driver finds no NVIDIA GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu".into()
        }
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "the GPU's memory is full; lower --batch-size, or see nvidia-smi for who else uses it".into()
        }
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUresult::CUDA_ERROR_INVALID_PTX => {
            "the driver cannot compile our kernels for this GPU; update the driver, or use --device cpu".into()
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUresult::CUDA_ERROR_SYSTEM_NOT_READY => {
            "the driver's library and its kernel module are not of one version, or not ready; reboot or reinstall the driver".into()
        }
        // Asking the driver for its text would go through the library again, which may be what failed.
        code => format!("the driver says {code:?}; use --device cpu, and please report this"),
    })
}

/// Loaded kernels.
pub struct Module(Arc<CudaModule>);

impl Module {
    /// Returns a kernel by its `extern "C"` name.
    ///
    /// # Errors
    ///
    /// When the module has no such kernel.
    pub fn function(&self, name: &str) -> Result<Function> {
        Ok(Function(self.0.load_function(name).map_err(explain)?))
    }
}

/// A kernel.
pub struct Function(CudaFunction);

impl Function {
    /// Allows blocks to ask for up to `bytes` of dynamic shared memory, which beyond 48 KiB must be asked for.
    ///
    /// # Errors
    ///
    /// When the GPU has not as much.
    pub fn allow_shared(&self, bytes: usize) -> Result<()> {
        let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        self.0.set_attribute(attribute, bytes as i32).map_err(explain)
    }

    /// Returns how many blocks of `threads` and `shared` bytes fit on a multiprocessor.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn blocks_per_multiprocessor(&self, threads: usize, shared: usize) -> Result<usize> {
        let blocks = self.0.occupancy_max_active_blocks_per_multiprocessor(threads as u32, shared, None);
        Ok(blocks.map_err(explain)? as usize)
    }
}

/// Work that is done in order.
pub struct Stream(Arc<CudaStream>);

impl Stream {
    /// Allocates `length` zeros on the GPU.
    ///
    /// # Errors
    ///
    /// When its memory is full.
    pub fn zeros<T: DeviceRepr + ValidAsZeroBits>(&self, length: usize) -> Result<Buffer<T>> {
        Ok(Buffer(self.0.alloc_zeros(length.max(1)).map_err(explain)?))
    }

    /// Copies a slice to new memory on the GPU, and waits.
    ///
    /// # Errors
    ///
    /// When its memory is full.
    pub fn upload<T: DeviceRepr + ValidAsZeroBits>(&self, values: &[T]) -> Result<Buffer<T>> {
        let mut buffer = self.zeros(values.len())?;
        self.0.memcpy_htod(values, &mut buffer.0).map_err(explain)?;
        self.wait()?;
        Ok(buffer)
    }

    /// Copies a buffer back, and waits.
    ///
    /// # Errors
    ///
    /// The driver's; a kernel that failed shows here.
    pub fn download<T: DeviceRepr>(&self, buffer: &Buffer<T>) -> Result<Vec<T>> {
        let values = self.0.clone_dtoh(&buffer.0).map_err(explain)?;
        self.wait()?;
        Ok(values)
    }

    /// Fills a buffer with zeros.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn clear<T: DeviceRepr + ValidAsZeroBits>(&self, buffer: &mut Buffer<T>) -> Result<()> {
        self.0.memset_zeros(&mut buffer.0).map_err(explain)
    }

    /// Puts a copy of the first `count` items into the stream, to the GPU, and does not wait.
    ///
    /// # Safety
    ///
    /// `from` is neither changed nor dropped, and `to` not dropped, before [`Stream::wait`] has returned.
    ///
    /// # Errors
    ///
    /// The driver's.
    ///
    /// # Panics
    ///
    /// When either has fewer items.
    pub unsafe fn send<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        from: &Pinned<T>,
        count: usize,
        to: &mut Buffer<T>,
    ) -> Result<()> {
        assert!(count <= from.0.len() && count <= to.0.len());
        // SAFETY: `count` items are there on both sides; the caller leaves them alone until the stream is done.
        unsafe {
            let items = &from.items()?[..count];
            result::memcpy_htod_async(to.address(self), items, self.0.cu_stream()).map_err(explain)
        }
    }

    /// Puts a copy of the first `count` items into the stream, from the GPU, and does not wait.
    ///
    /// # Safety
    ///
    /// `to` is neither read nor dropped, and `from` not dropped, before [`Stream::wait`] has returned.
    ///
    /// # Errors
    ///
    /// The driver's.
    ///
    /// # Panics
    ///
    /// When either has fewer items.
    pub unsafe fn fetch<T: DeviceRepr + ValidAsZeroBits>(
        &self,
        from: &Buffer<T>,
        count: usize,
        to: &mut Pinned<T>,
    ) -> Result<()> {
        assert!(count <= from.0.len() && count <= to.0.len());
        // SAFETY: `count` items are there on both sides; the caller leaves them alone until the stream is done.
        unsafe {
            let items = &mut to.items_mut()?[..count];
            result::memcpy_dtoh_async(items, from.address(self), self.0.cu_stream()).map_err(explain)
        }
    }

    /// Puts a launch into the stream: `blocks` of `threads`, each with `shared` bytes, one argument by value.
    ///
    /// # Safety
    ///
    /// `arguments` is laid out as the kernel declares it; every address in it is of a [`Buffer`] that is large
    /// enough for what the kernel does with it and lives until [`Stream::wait`] has returned.
    ///
    /// # Errors
    ///
    /// When the launch asks for more than the GPU has.
    pub unsafe fn launch<A: DeviceRepr>(
        &self,
        function: &Function,
        (blocks, threads, shared): (usize, usize, usize),
        arguments: &A,
    ) -> Result<()> {
        let shape = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        // SAFETY: the caller's contract.
        unsafe { self.0.launch_builder(&function.0).arg(arguments).launch(shape) }.map_err(explain)?;
        Ok(())
    }

    /// Waits until everything in the stream is done.
    ///
    /// # Errors
    ///
    /// Those of everything in it.
    pub fn wait(&self) -> Result<()> {
        self.0.synchronize().map_err(explain)
    }
}

/// Memory on the GPU.
pub struct Buffer<T>(CudaSlice<T>);

impl<T> Buffer<T> {
    /// Returns the address for a kernel's argument that is launched in `stream`.
    pub fn address(&self, stream: &Stream) -> u64 {
        // What the guard would record, this module's callers promise.
        let (address, _guard) = self.0.device_ptr(&stream.0);
        address
    }
}

/// Page-locked memory on the host.
pub struct Pinned<T>(PinnedHostSlice<T>);

impl<T: DeviceRepr + ValidAsZeroBits> Pinned<T> {
    /// Returns the items.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn items(&self) -> Result<&[T]> {
        self.0.as_slice().map_err(explain)
    }

    /// Returns the items to be changed.
    ///
    /// # Errors
    ///
    /// The driver's.
    pub fn items_mut(&mut self) -> Result<&mut [T]> {
        self.0.as_mut_slice().map_err(explain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_refused_in_one_line_with_a_remedy() {
        // On a machine with GPUs there is still none of this number.
        let error = Cuda::open(usize::MAX >> 33).err().expect("no machine has so many").to_string();
        assert!(error.starts_with("--device cuda: ") && error.contains("--device cpu"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn every_error_of_the_driver_has_a_remedy() {
        for code in [
            CUresult::CUDA_ERROR_NO_DEVICE,
            CUresult::CUDA_ERROR_OUT_OF_MEMORY,
            CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
            CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        ] {
            let text = explain(DriverError(code)).to_string();
            assert!(text.starts_with("--device cuda: ") && text.contains(';'), "{text}");
        }
    }
}
