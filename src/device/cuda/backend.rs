//! An NVIDIA GPU as a [`Backend`]: raw memory, three streams, kernels by name, cuBLASLt's products.
//!
//! Nothing here has run on a GPU yet: see `kernels/README.md`.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::driver::sys::CUfunction_attribute_enum;
use cudarc::driver::{CudaContext, CudaEvent, CudaFunction, CudaStream, result};
use cudarc::nvrtc::Ptx;

use super::blas::Blas;
use super::{Cuda, explain};
use crate::device::backend::{Backend, Event, Launch, Locked, Memory, Product, Queue};
use crate::error::Result;

/// Dynamic shared memory that a kernel may have without asking.
const SHARED_UNASKED: usize = 48 << 10;

/// A GPU with kernels and products.
pub struct CudaBackend {
    context: Arc<CudaContext>,
    functions: Mutex<HashMap<String, Kernel>>,
    streams: [Arc<CudaStream>; 3],
    blas: OnceLock<Blas>,
}

struct Kernel {
    function: CudaFunction,
    /// Shared memory that it may ask for.
    shared: usize,
}

impl Cuda {
    /// Makes a backend of the GPU.
    ///
    /// # Errors
    ///
    /// When its driver fails.
    pub fn backend(&self) -> Result<CudaBackend> {
        let stream = || self.context.new_stream().map_err(explain);
        Ok(CudaBackend {
            context: self.context.clone(),
            functions: Mutex::default(),
            streams: [stream()?, stream()?, stream()?],
            blas: OnceLock::new(),
        })
    }
}

impl CudaBackend {
    fn stream(&self, queue: Queue) -> &Arc<CudaStream> {
        &self.streams[queue as usize]
    }

    /// Allocates memory whose bytes are anything.
    fn raw(&self, bytes: usize) -> Result<Memory> {
        let allocation = Allocation::new(&self.context, bytes)?;
        Ok(Memory::new(allocation.address, bytes, Box::new(allocation)))
    }
}

/// Memory of a GPU, freed when dropped.
pub(super) struct Allocation {
    context: Arc<CudaContext>,
    /// Where it is.
    pub(super) address: u64,
}

impl Allocation {
    /// Allocates memory whose bytes are anything.
    pub(super) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        context.bind_to_thread().map_err(explain)?;
        // SAFETY: an allocation of at least one byte, freed once, when dropped.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(explain)?;
        Ok(Self { context: context.clone(), address })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the address is of `malloc_sync`, and is freed here alone. An error means that the context is
            // broken; then the memory goes with it.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

/// Page-locked memory, freed when dropped.
struct PageLocked {
    context: Arc<CudaContext>,
    start: *mut c_void,
}

// SAFETY: the pointer is only kept to be freed, once.
unsafe impl Send for PageLocked {}
// SAFETY: as above; nothing reads through it.
unsafe impl Sync for PageLocked {}

impl Drop for PageLocked {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: the address is of `malloc_host`, and is freed here alone.
            let _ = unsafe { result::free_host(self.start) };
        }
    }
}

impl Backend for CudaBackend {
    fn prepare(&self, ptx: &str, kernels: &[String]) -> Result<()> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if kernels.iter().all(|name| functions.contains_key(name)) {
            return Ok(());
        }
        // A function keeps its module.
        let module = self.context.load_module(Ptx::from_src(ptx)).map_err(explain)?;
        for name in kernels {
            let function = module.load_function(name).map_err(explain)?;
            functions.insert(name.clone(), Kernel { function, shared: SHARED_UNASKED });
        }
        Ok(())
    }

    fn prepare_products(&self) -> Result<()> {
        if self.blas.get().is_none() {
            // Of two that were opened at the same time one stays.
            let _ = self.blas.set(Blas::open(&self.context)?);
        }
        Ok(())
    }

    fn allocate(&self, bytes: usize) -> Result<Memory> {
        let memory = self.raw(bytes)?;
        // SAFETY: the allocation has as many bytes. The call may return before they are zeros, in the default
        // stream, which ours do not wait for: hence the wait.
        unsafe { result::memset_d8_sync(memory.address(), 0, bytes.max(1)) }.map_err(explain)?;
        self.context.synchronize().map_err(explain)?;
        Ok(memory)
    }

    fn lock(&self, bytes: usize) -> Result<Locked> {
        self.context.bind_to_thread().map_err(explain)?;
        // SAFETY: an allocation of at least one byte; its keeper frees it once.
        let start = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(explain)?;
        let keeper = Box::new(PageLocked { context: self.context.clone(), start });
        // SAFETY: the allocation has as many bytes.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, bytes) };
        // SAFETY: page-locked memory is aligned to pages; the bytes are initialized, live as long as the keeper, and
        // nobody else has been told of them.
        Ok(unsafe { Locked::new(start.cast(), bytes, keeper) })
    }

    fn upload(&self, bytes: &[u8]) -> Result<Memory> {
        let memory = self.raw(bytes.len())?;
        // SAFETY: the memory has as many bytes.
        unsafe { result::memcpy_htod_sync(memory.address(), bytes) }.map_err(explain)?;
        self.context.synchronize().map_err(explain)?;
        Ok(memory)
    }

    unsafe fn send(&self, from: &Locked, to: &Memory, bytes: usize) -> Result<()> {
        assert!(bytes <= from.length() && bytes <= to.bytes());
        self.context.bind_to_thread().map_err(explain)?;
        // SAFETY: as many bytes are there on both sides; the caller leaves them alone until the copy is done.
        unsafe {
            let source = std::slice::from_raw_parts(from.start().cast_const(), bytes);
            let stream = self.stream(Queue::Upload).cu_stream();
            result::memcpy_htod_async(to.address(), source, stream).map_err(explain)
        }
    }

    unsafe fn fetch(&self, from: &Memory, to: &Locked, bytes: usize) -> Result<()> {
        assert!(bytes <= to.length() && bytes <= from.bytes());
        self.context.bind_to_thread().map_err(explain)?;
        // SAFETY: as many bytes are there on both sides; the caller leaves them alone until the copy is done.
        unsafe {
            let target = std::slice::from_raw_parts_mut(to.start(), bytes);
            let stream = self.stream(Queue::Download).cu_stream();
            result::memcpy_dtoh_async(target, from.address(), stream).map_err(explain)
        }
    }

    unsafe fn launch(&self, kernel: &str, shape: Launch, argument: &[u8]) -> Result<()> {
        if shape.blocks == 0 {
            return Ok(());
        }
        self.context.bind_to_thread().map_err(explain)?;
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = functions.get_mut(kernel).expect("kernels are prepared before they are launched");
        if shape.shared > kernel.shared {
            let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            kernel.function.set_attribute(attribute, shape.shared as i32).map_err(explain)?;
            kernel.shared = shape.shared;
        }
        let mut parameters = [argument.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the driver copies the argument before it returns; the rest is the caller's contract.
        unsafe {
            result::launch_kernel(
                kernel.function.cu_function(),
                (shape.blocks as u32, 1, 1),
                (shape.threads as u32, 1, 1),
                shape.shared as u32,
                self.stream(Queue::Compute).cu_stream(),
                &mut parameters,
            )
        }
        .map_err(explain)
    }

    unsafe fn multiply(&self, product: &Product) -> Result<()> {
        self.context.bind_to_thread().map_err(explain)?;
        let blas = self.blas.get().expect("products are prepared before they are asked for");
        // SAFETY: the caller's contract.
        unsafe { blas.multiply(product, self.stream(Queue::Compute)) }
    }

    fn record(&self, queue: Queue) -> Result<Event> {
        let event = self.stream(queue).record_event(None).map_err(explain)?;
        Ok(Event(Box::new(event) as Box<dyn Any + Send + Sync>))
    }

    fn follow(&self, queue: Queue, event: &Event) -> Result<()> {
        self.stream(queue).wait(own(event)).map_err(explain)
    }

    fn reach(&self, event: &Event) -> Result<()> {
        own(event).synchronize().map_err(explain)
    }
}

fn own(event: &Event) -> &CudaEvent {
    event.0.downcast_ref().expect("an event of this backend")
}
