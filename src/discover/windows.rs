//! Windows of one width around the instances of a key, and the motif they make.

use super::enrichment::{Instance, Key};
use crate::dna::base_index;
use crate::motif::Matrix;

/// Widens (or trims) every instance to `width` bases about its middle; of an odd difference the right side gets
/// one more. Windows that do not fit into their sequence are left out. `lose_last` leaves out those that touch
/// the last base, too, as DNABERT does.
pub fn around(key: &Key, lengths: impl Fn(usize) -> usize, width: usize, lose_last: bool) -> Vec<Instance> {
    let window = |at: &Instance| {
        let missing = width as i64 - (at.end - at.start);
        let start = at.start - missing.div_euclid(2);
        Instance { start, end: start + width as i64, ..*at }
    };
    let fits = |at: &Instance| at.start >= 0 && at.end + i64::from(lose_last) <= lengths(at.sequence) as i64;
    key.instances.iter().map(window).filter(fits).collect()
}

/// Returns the counts of A, C, G and T at each position of `windows`, which are all of `width` bases. What is no
/// base counts nowhere.
pub fn counts<'a>(windows: impl IntoIterator<Item = &'a [u8]>, width: usize) -> Matrix {
    let mut columns = vec![[0.0; 4]; width];
    for window in windows {
        for (column, &base) in columns.iter_mut().zip(window) {
            if let Some(base) = base_index(base) {
                column[base] += 1.0;
            }
        }
    }
    Matrix::from_columns(&columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(start: i64, end: i64, width: usize, lose_last: bool) -> Vec<(i64, i64)> {
        let instances = vec![Instance { sequence: 0, start, end }];
        let key = Key { bases: b"ACGTA".to_vec(), instances, p_value: 0.0, q_value: 0.0 };
        around(&key, |_| 20, width, lose_last).iter().map(|at| (at.start, at.end)).collect()
    }

    #[test]
    fn an_odd_difference_widens_to_the_right() {
        assert_eq!(spans(8, 13, 9, false), [(6, 15)]);
        assert_eq!(spans(8, 13, 8, false), [(7, 15)]);
        assert_eq!(spans(8, 13, 3, false), [(9, 12)], "a negative difference trims");
    }

    #[test]
    fn the_window_at_the_end_is_lost_only_as_upstream_does() {
        assert_eq!(spans(13, 18, 9, false), [(11, 20)]);
        assert!(spans(13, 18, 9, true).is_empty());
        assert!(spans(14, 19, 9, false).is_empty());
        assert_eq!(spans(2, 7, 9, false), [(0, 9)]);
        assert!(spans(1, 6, 9, false).is_empty());
    }

    #[test]
    fn letters_that_are_no_bases_count_nowhere() {
        let matrix = counts([&b"AN"[..], b"AC"], 2);
        assert_eq!(matrix, Matrix::from_columns(&[[2.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]));
    }
}
