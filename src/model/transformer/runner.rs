//! Where an encoder runs.

use std::sync::Arc;

use super::gpu::{GpuEncoder, Limits};
use super::{Encoder, Spec};
use crate::device::backend::{Backend, Number};
use crate::error::{Error, Result};

/// A GPU that models run on, and the numbers they do it in.
#[derive(Clone)]
pub struct Gpu {
    /// The GPU.
    pub backend: Arc<dyn Backend>,
    /// Of weights and activations.
    pub number: Number,
    /// How much goes through the layers of an encoder at a time.
    pub limits: Limits,
}

/// An encoder, somewhere.
pub enum Runner {
    /// On the processor.
    Processor(Box<Encoder>),
    /// On a GPU.
    Gpu(Box<GpuEncoder>),
}

impl Runner {
    /// Returns the shape of the encoder.
    pub fn spec(&self) -> &Spec {
        match self {
            Self::Processor(encoder) => encoder.spec(),
            Self::Gpu(encoder) => encoder.spec(),
        }
    }

    /// Returns whether it is on a GPU.
    pub fn is_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// Returns the encoder, which must be on the processor.
    ///
    /// # Errors
    ///
    /// When it is on a GPU.
    pub fn processor(&self) -> Result<&Encoder> {
        match self {
            Self::Processor(encoder) => Ok(encoder),
            Self::Gpu(_) => Err(Error::data(
                "--device cuda: there are no kernels for what follows this encoder; use --device cpu",
            )),
        }
    }
}
