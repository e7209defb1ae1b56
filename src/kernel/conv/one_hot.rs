//! Columns of four numbers, and which of them are bases: one-hot, or all zero.

use crate::kernel::tile::{LANES, NO_BASE, NOT_ONE_HOT};

/// The column of each base, and of none, as bits.
const COLUMNS: [u128; 5] = {
    let one = 1f32.to_bits() as u128;
    [one, one << 32, one << 64, one << 96, 0]
};

/// Finds the codes of columns `[L, 4]`.
pub(super) fn encode(columns: &[f32], codes: &mut Vec<u32>) {
    codes.clear();
    codes.extend(columns.as_chunks::<4>().0.iter().map(code));
}

fn code(column: &[f32; 4]) -> u32 {
    let bits = column.map(|value| u128::from(value.to_bits()));
    let bits = bits[0] | bits[1] << 32 | bits[2] << 64 | bits[3] << 96;
    // The lowest bit of a one lies in the lane of its base; no bit at all, in the lane after the last.
    let base = bits.trailing_zeros() / 32;
    if COLUMNS[base as usize] == bits { base * LANES as u32 } else { NOT_ONE_HOT }
}

const _: () = assert!(NO_BASE == 4 * LANES as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_hot_columns_and_zeros_have_a_code() {
        let code = |column| code(&column);
        for base in 0..4 {
            let mut column = [0.0; 4];
            column[base] = 1.0;
            assert_eq!(code(column), (base * LANES) as u32);
            column[base] = 0.5;
            assert_eq!(code(column), NOT_ONE_HOT);
            column[base] = -1.0;
            assert_eq!(code(column), NOT_ONE_HOT);
        }
        assert_eq!(code([0.0; 4]), NO_BASE);
        assert_eq!(code([0.25; 4]), NOT_ONE_HOT);
        assert_eq!(code([1.0, 0.0, 1.0, 0.0]), NOT_ONE_HOT);
        assert_eq!(code([0.0, f32::NAN, 0.0, 0.0]), NOT_ONE_HOT);
    }
}
