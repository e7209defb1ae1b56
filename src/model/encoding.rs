//! One-hot bases, in the conventions of the families for letters that are no base.

use candle_core::{Device, Tensor};

use crate::dna;
use crate::error::{Error, Result};

/// What stands for a letter that is none of `ACGT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Four zeros.
    Zeros,
    /// A quarter of each base.
    Quarter,
    /// A `T`, as BertSNR's encoder has it.
    Thymine,
}

/// Encodes sequences of equal length, `[B, L, 4]`.
///
/// # Errors
///
/// When the lengths differ or there is no sequence.
pub fn one_hot(sequences: &[&[u8]], unknown: Unknown, device: &Device) -> Result<Tensor> {
    let length = sequences.first().map_or(0, |sequence| sequence.len());
    if length == 0 {
        return Err(Error::data("there are no bases to encode"));
    }
    let mut values = vec![0.0f32; sequences.len() * length * 4];
    for (row, sequence) in values.chunks_exact_mut(length * 4).zip(sequences) {
        if sequence.len() != length {
            let lengths = format!("{length} and {} bases", sequence.len());
            return Err(Error::data(format!("sequences of one batch have {lengths}: they must be equal")));
        }
        for (column, &base) in row.chunks_exact_mut(4).zip(*sequence) {
            match (dna::base_index(base), unknown) {
                (Some(index), _) => column[index] = 1.0,
                (None, Unknown::Zeros) => {}
                (None, Unknown::Quarter) => column.fill(0.25),
                (None, Unknown::Thymine) => column[3] = 1.0,
            }
        }
    }
    Ok(Tensor::from_vec(values, (sequences.len(), length, 4), device)?)
}

/// Checks that an input is `[B, window, 4]`, or of any length where there is no window.
///
/// # Errors
///
/// When it is not.
pub fn check_input(input: &Tensor, window: Option<usize>) -> Result<()> {
    let (_, length, bases) = input.dims3()?;
    if bases != 4 {
        return Err(Error::data(format!("a one-hot input has 4 channels, this one {bases}")));
    }
    match window {
        Some(window) if window != length => Err(Error::data(format!(
            "the model reads {window} bases, the rows have {length}: extract with --width {window}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_convention_has_its_own_n() {
        let column = |unknown| {
            let encoded = one_hot(&[b"NA"], unknown, &Device::Cpu).unwrap();
            encoded.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(column(Unknown::Zeros), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(column(Unknown::Quarter)[..4], [0.25; 4]);
        assert_eq!(column(Unknown::Thymine)[..4], [0.0, 0.0, 0.0, 1.0]);
        assert!(one_hot(&[b"A", b"AC"], Unknown::Zeros, &Device::Cpu).is_err());
    }
}
