//! From one-hot columns and hypothetical contributions to bases and the contributions on them.

use crate::dna::{BASES, base_index};
use crate::error::{Error, Result};

/// Turns a one-hot sequence `[4, L]`, rows A C G T, into bases; a column of zeros is `N`.
///
/// # Errors
///
/// A column that is neither zeros nor a single one.
pub fn decode(onehot: &[f32]) -> Result<String> {
    let length = onehot.len() / 4;
    (0..length).map(|column| base(onehot, length, column).map(char::from)).collect()
}

fn base(onehot: &[f32], length: usize, column: usize) -> Result<u8> {
    let mut base = b'N';
    for (row, letter) in BASES.into_iter().enumerate() {
        let value = onehot[row * length + column];
        if value == 1.0 && base == b'N' {
            base = letter;
        } else if value != 0.0 {
            return Err(Error::data(format!(
                "the sequence is not one-hot at column {column}: row {} is {value}",
                char::from(letter)
            )));
        }
    }
    Ok(base)
}

/// Picks the contribution of the observed base of each column out of `[4, L]`; 0 where it is `N`.
pub fn project(hypothetical: &[f32], sequence: &str) -> Vec<f32> {
    let length = sequence.len();
    let observed = sequence.bytes().enumerate();
    observed
        .map(|(column, base)| base_index(base).map_or(0.0, |b| hypothetical[b * length + column]))
        .collect()
}

/// Puts 0 where the base is `N`: there is nothing that could contribute.
pub fn mask(contributions: &mut [f32], sequence: &str) {
    for (value, base) in contributions.iter_mut().zip(sequence.bytes()) {
        if base_index(base).is_none() {
            *value = 0.0;
        }
    }
}

/// Adds the values of one file to `sums`.
pub fn add(sums: &mut [f32], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(sequence: &str) -> Vec<f32> {
        let rows = BASES.iter();
        rows.flat_map(|&row| sequence.bytes().map(move |base| f32::from(base == row))).collect()
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(sequence in "[ACGTN]{0,40}") {
            prop_assert_eq!(decode(&encode(&sequence)).unwrap(), sequence);
        }

        #[test]
        fn projection_is_the_sum_over_bases_of_one_hot_times_contribution(
            sequence in "[ACGTN]{1,20}", seed in any::<u32>()
        ) {
            let length = sequence.len();
            let hypothetical: Vec<f32> =
                (0..4 * length).map(|i| (seed.wrapping_mul(i as u32 + 7) % 1000) as f32 - 500.0).collect();
            let onehot = encode(&sequence);
            let expected: Vec<f32> = (0..length)
                .map(|p| (0..4).map(|b| onehot[b * length + p] * hypothetical[b * length + p]).sum())
                .collect();
            prop_assert_eq!(project(&hypothetical, &sequence), expected);
        }
    }

    #[test]
    fn a_column_with_two_ones_or_a_fraction_is_no_base() {
        assert!(decode(&[1.0, 1.0, 0.0, 0.0]).unwrap_err().to_string().contains("column 0: row C"));
        assert!(decode(&[0.25; 4]).is_err());
        assert!(decode(&[f32::NAN, 0.0, 0.0, 0.0]).is_err());
    }
}
