//! Where the arithmetic runs. `cuda` fails where there is none; only `auto` chooses, and today it chooses the
//! processor: the kernels have not run on a GPU yet (see `kernels/README.md`).

pub mod backend;
pub mod cuda;
#[cfg(test)]
pub mod host;

use std::fmt;
use std::str::FromStr;

use crate::error::Result;
use cuda::Cuda;

/// A device as named on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best device this program can use here.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "write auto, cpu, cuda or cuda:N".into()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A device that is open, for commands that have kernels for it.
#[derive(Clone)]
pub enum Opened {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(Cuda),
}

impl DeviceChoice {
    /// Opens the device for a command that has kernels for GPUs.
    ///
    /// # Errors
    ///
    /// When a GPU is asked for and cannot be used; there is no fallback.
    pub fn open(self) -> Result<Opened> {
        match self {
            Self::Auto | Self::Cpu => Ok(Opened::Cpu),
            Self::Cuda(number) => Cuda::open(number).map(Opened::Cuda),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_never_replaced_silently() {
        assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert!(matches!(DeviceChoice::Auto.open(), Ok(Opened::Cpu)));
        let error = DeviceChoice::Cuda(usize::MAX >> 33).open().err().expect("no machine has so many GPUs");
        assert!(error.to_string().contains("--device cpu"), "{error}");
    }
}
