//! Matrix products by cuBLASLt, which is opened at run time.
//!
//! An algorithm is chosen once for a kind of product (numbers, inputs, outputs, epilogue), for the rows of the first
//! product of that kind rounded up to a full pack, and never one that divides the sum: so a row's bits do not depend
//! on how many rows there are. Where the algorithm cannot take a number of rows, another is chosen for it.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::{CudaContext, CudaStream};

use super::backend::Allocation;
use super::refusal;
use crate::device::backend::{Number, Product};
use crate::error::{Error, Result};

/// The oldest cuBLASLt that we know, as `cublasLtGetVersion` numbers it.
const VERSION_MIN: usize = 120_000;
/// Memory that algorithms may use: what NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Rows that algorithms are chosen for: those of a full pack.
const ROWS: usize = 1 << 15;
/// What addresses and rows are aligned to, at least: 8 numbers of 16 bits.
const ALIGNMENT: u32 = 16;

/// Says which cuBLASLt there is.
///
/// # Errors
///
/// When there is none, or one that is too old, with the remedy.
pub fn version() -> Result<String> {
    const REMEDY: &str = "install it (`pip install nvidia-cublas-cu12`, or CUDA 12's libcublas package) and name its \
                          folder in LD_LIBRARY_PATH, or use --device cpu";
    // SAFETY: opening the library runs its initializers, as any program that uses it does.
    if !unsafe { sys::is_culib_present() } {
        return Err(refusal(&format!("the library cuBLASLt (libcublasLt.so.12) cannot be opened; {REMEDY}")));
    }
    // SAFETY: the library is there, and the call needs no handle.
    let version = unsafe { sys::cublasLtGetVersion() };
    if version < VERSION_MIN {
        return Err(refusal(&format!(
            "the library cuBLASLt is too old ({version}), 12.0 is needed; {REMEDY}"
        )));
    }
    // 12.3.4 is 120304.
    Ok(format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100))
}

/// cuBLASLt, with memory to work in.
pub struct Blas {
    handle: sys::cublasLtHandle_t,
    workspace: Allocation,
    algorithms: Mutex<HashMap<Kind, sys::cublasLtMatmulAlgo_t>>,
}

// SAFETY: cuBLASLt's handle may be used by several threads at once; the algorithms are plain data behind a lock. The
// workspace is used in one stream, in order.
unsafe impl Send for Blas {}
// SAFETY: as above.
unsafe impl Sync for Blas {}

/// What an algorithm is chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    number: Number,
    inputs: usize,
    outputs: usize,
    epilogue: u32,
    residual: bool,
}

impl Blas {
    /// Opens the library.
    ///
    /// # Errors
    ///
    /// When it is not there, or not willing.
    pub fn open(context: &Arc<CudaContext>) -> Result<Self> {
        version()?;
        context.bind_to_thread().map_err(super::explain)?;
        let handle = result::create_handle().map_err(|error| explain(error, "start"))?;
        let workspace = Allocation::new(context, WORKSPACE)?;
        Ok(Self { handle, workspace, algorithms: Mutex::default() })
    }

    /// Puts a product into a stream, whose context is current.
    ///
    /// # Safety
    ///
    /// Every address is of memory that is large enough and lives until the product is done. All products go into one
    /// stream.
    ///
    /// # Errors
    ///
    /// When the library has no way to compute it.
    pub unsafe fn multiply(&self, product: &Product, stream: &CudaStream) -> Result<()> {
        let call = Call::describe(product, product.rows)?;
        let algorithm = self.algorithm(product, &call)?;
        let (one, beta) = (1.0f32, if product.residual.is_some() { 1.0f32 } else { 0.0 });
        let residual = product.residual.unwrap_or(product.output);
        // SAFETY: descriptors are alive and describe arrays of the caller's contract; numbers for scaling are 32-bit
        // floats, as the description says; the workspace is as long as stated.
        unsafe {
            result::matmul(
                self.handle,
                call.product.0,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                product.weights as *const c_void,
                call.weights.0,
                product.input as *const c_void,
                call.input.0,
                residual as *const c_void,
                call.output.0,
                product.output as *mut c_void,
                call.output.0,
                &raw const algorithm,
                self.workspace.address as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
        .map_err(|error| explain(error, "compute a product"))
    }

    /// Returns the algorithm of this kind of product, if it can take as many rows, or another.
    fn algorithm(&self, product: &Product, call: &Call) -> Result<sys::cublasLtMatmulAlgo_t> {
        let kind = Kind {
            number: product.number,
            inputs: product.inputs,
            outputs: product.outputs,
            epilogue: epilogue(product) as u32,
            residual: product.residual.is_some(),
        };
        let mut algorithms = self.algorithms.lock().unwrap_or_else(PoisonError::into_inner);
        let algorithm = match algorithms.get(&kind) {
            Some(algorithm) => *algorithm,
            None => {
                let full = Call::describe(product, product.rows.max(ROWS))?;
                let algorithm = self.choose(&full)?;
                algorithms.insert(kind, algorithm);
                algorithm
            }
        };
        if self.takes(call, &algorithm) { Ok(algorithm) } else { self.choose(call) }
    }

    fn takes(&self, call: &Call, algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
        let mut checked = std::mem::MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit();
        let (product, output) = (call.product.0, call.output.0);
        // SAFETY: descriptors are alive, and the library fills what it is given when it succeeds.
        unsafe {
            let status = sys::cublasLtMatmulAlgoCheck(
                self.handle,
                product,
                call.weights.0,
                call.input.0,
                output,
                output,
                algorithm,
                checked.as_mut_ptr(),
            );
            status.result().is_ok() && checked.assume_init().workspaceSize <= WORKSPACE
        }
    }

    fn choose(&self, call: &Call) -> Result<sys::cublasLtMatmulAlgo_t> {
        let preference = Preference::new()?;
        // SAFETY: descriptors are alive.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                self.handle,
                call.product.0,
                call.weights.0,
                call.input.0,
                call.output.0,
                call.output.0,
                preference.0,
            )
        };
        Ok(found.map_err(|error| explain(error, "find a way to compute a product"))?.algo)
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: the handle is of `create_handle`, and destroyed here alone.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// Our rows are its columns: it computes outputᵀ = weights · inputᵀ, where a matrix of rows side by side is its
/// matrix of columns, and weights are given transposed.
struct Call {
    product: Description,
    weights: Layout,
    input: Layout,
    output: Layout,
}

impl Call {
    fn describe(product: &Product, rows: usize) -> Result<Self> {
        let Product { number, inputs, outputs, .. } = *product;
        let description = Description::new()?;
        description.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, 1i32)?;
        description.set(
            sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE,
            epilogue(product) as u32,
        )?;
        if let Some(bias) = product.bias {
            description.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)?;
        }
        Ok(Self {
            product: description,
            weights: Layout::new(number, inputs, outputs)?,
            input: Layout::new(number, inputs, rows)?,
            output: Layout::new(number, outputs, rows)?,
        })
    }
}

fn epilogue(product: &Product) -> sys::cublasLtEpilogue_t {
    match (product.bias.is_some(), product.gelu_tanh) {
        (false, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
        (true, false) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
        (false, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU,
        (true, true) => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
    }
}

/// A product's description.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    /// Sums and scales in 32-bit floats; products of 32-bit floats are not rounded to TF32.
    fn new() -> Result<Self> {
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = result::create_matmul_desc(compute, sys::cudaDataType_t::CUDA_R_32F);
        Ok(Self(description.map_err(|error| explain(error, "describe a product"))?))
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: T) -> Result<()> {
        // SAFETY: the description is alive; the value is copied, and of the type that the attribute has.
        unsafe {
            result::set_matmul_desc_attribute(self.0, attribute, (&raw const value).cast(), size_of::<T>())
        }
        .map_err(|error| explain(error, "describe a product"))
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed here alone.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// A matrix's description: columns side by side.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(number: Number, rows: usize, columns: usize) -> Result<Self> {
        let kind = match number {
            Number::F32 => sys::cudaDataType_t::CUDA_R_32F,
            Number::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
            Number::F16 => sys::cudaDataType_t::CUDA_R_16F,
        };
        let layout = result::create_matrix_layout(kind, rows as u64, columns as u64, rows as i64);
        Ok(Self(layout.map_err(|error| explain(error, "describe a matrix"))?))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed here alone.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm must be like.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference =
            result::create_matmul_pref().map_err(|error| explain(error, "describe a preference"))?;
        let preference = Self(preference);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE as u64)?;
        let undivided = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_NONE as u32;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, undivided)?;
        for attribute in [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(attribute, ALIGNMENT)?;
        }
        Ok(preference)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulPreferenceAttributes_t, value: T) -> Result<()> {
        // SAFETY: the preference is alive; the value is copied, and of the type that the attribute has.
        unsafe {
            result::set_matmul_pref_attribute(self.0, attribute, (&raw const value).cast(), size_of::<T>())
        }
        .map_err(|error| explain(error, "describe a preference"))
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created in `new`, destroyed here alone.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// Says what failed.
fn explain(error: CublasError, what: &str) -> Error {
    refusal(&format!(
        "cuBLASLt cannot {what}: it says {:?}; use --device cpu, and please report this",
        error.0
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_its_remedy() {
        // Where there is one, it has a version.
        match version() {
            Ok(version) => assert_eq!(version.split('.').count(), 3, "{version}"),
            Err(error) => {
                let error = error.to_string();
                for part in
                    ["--device cuda: ", "libcublasLt.so.12", "pip install", "LD_LIBRARY_PATH", "--device cpu"]
                {
                    assert!(error.contains(part), "{error} names no {part}");
                }
            }
        }
    }

    #[test]
    fn every_failure_has_a_remedy() {
        let error =
            explain(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED), "compute a product");
        let error = error.to_string();
        assert!(error.contains("NOT_SUPPORTED") && error.contains("--device cpu"), "{error}");
    }
}
