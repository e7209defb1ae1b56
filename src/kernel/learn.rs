//! Layers that can be differentiated with respect to their weights too: what networks are trained with.
//!
//! Weights are tensors in PyTorch's shapes, activations channels-last as everywhere in [`super`]. Sums over a
//! batch are taken in groups of fixed size that are added in order, so that a step has the same bits with any
//! number of threads.

pub mod attention;
mod batch;
pub mod block;
pub mod conv;
pub mod dropout;
pub mod gate;
pub mod leaf;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod pointwise;
pub mod recurrent;
mod sums;

use candle_core::{CpuStorage, Layout, Shape, Tensor};

use super::pointwise::values;

/// The numbers of a contiguous tensor on the processor.
pub(crate) fn read<T>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> T) -> candle_core::Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => Ok(work(values(storage, layout)?)),
        _ => candle_core::bail!("training runs on the processor"),
    }
}

/// Makes a tensor on the processor.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)
}

/// What an operation gives back to candle.
pub(crate) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> candle_core::Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// Parts in which a batch is summed up, whatever the threads.
pub(crate) const GROUPS: usize = 8;

/// The arguments of an operation, as the two that every closure needs.
pub(crate) fn argument<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    values(storage, layout)
}
