//! The innermost loop of a gradient of filters: outer products of the numbers at each position of two images, added up
//! over the positions and held in registers.
//!
//! Each sum is one chain of fused multiply-adds over the rows of positions, from the first to the last, which is then
//! added to what was there. All instruction sets compute the same chain, so they agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::Instructions;

/// Numbers of a vector.
const LANES: usize = 16;

/// Some neighbouring numbers at each position of an image.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    /// Numbers, beginning with those of the first position.
    pub values: &'a [f32],
    /// Numbers from one row of positions to the next, and from one position to the next.
    pub pitch: [usize; 2],
    /// Numbers taken at a position.
    pub width: usize,
}

impl Walk<'_> {
    /// Returns the numbers from the first to behind the last.
    fn reach(&self, [rows, columns]: [usize; 2]) -> usize {
        (rows - 1) * self.pitch[0] + (columns - 1) * self.pitch[1] + self.width
    }
}

/// Two images to walk over together.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    /// The factor whose numbers are rows of the sums.
    pub left: Walk<'a>,
    /// The factor whose numbers are columns of the sums.
    pub right: Walk<'a>,
    /// Rows and columns of positions.
    pub size: [usize; 2],
}

/// One tile of a job: where it begins.
#[derive(Clone, Copy)]
struct Corner {
    left: usize,
    right: usize,
}

/// The sums of a job, `[left.width, right.width]`, in rows that are `pitch` apart.
struct Place<'a> {
    values: &'a mut [f32],
    pitch: usize,
}

/// Adds Σ left · right over all positions to the sums, `[left.width, right.width]` in rows that are `pitch` apart.
///
/// # Panics
///
/// When a factor has fewer numbers than are walked over, or there is no place for a sum.
pub(super) fn add(instructions: Instructions, job: &Job, sums: &mut [f32], pitch: usize) {
    let Job { left, right, size } = job;
    if size.contains(&0) || left.width == 0 || right.width == 0 {
        return;
    }
    assert!(left.reach(*size) <= left.values.len() && right.reach(*size) <= right.values.len());
    assert!(right.width <= pitch && (left.width - 1) * pitch + right.width <= sums.len());
    let mut place = Place { values: sums, pitch };
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => avx512::add(job, &mut place),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => avx2::add(job, &mut place),
        Instructions::Portable => portable::add(job, &mut place),
    }
}

/// Returns the vector instructions that a position takes, with so many numbers on either side.
pub(super) fn cost(left: usize, right: usize) -> usize {
    left * right.div_ceil(LANES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{bits_of, noise};
    use super::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_definition_with_any_instructions(
            rows in 1usize..5, columns in 1usize..9, left in 1usize..60, right in 1usize..70,
            more: [u8; 5], seed: u64,
        ) {
            let more = more.map(|more| usize::from(more % 4));
            let walk = |width: usize, more: usize, seed| {
                // Positions may overlap or lie apart.
                let pitch = (width + more).saturating_sub(2).max(1);
                let pitch = [pitch * columns + more, pitch];
                let values = noise((rows - 1) * pitch[0] + (columns - 1) * pitch[1] + width, seed);
                (values, pitch)
            };
            let (left_values, left_pitch) = walk(left, more[0], seed);
            let (right_values, right_pitch) = walk(right, more[1], seed ^ 1);
            let pitch = right + more[2];
            let before = noise(left * pitch, seed ^ 2);
            let job = Job {
                left: Walk { values: &left_values, pitch: left_pitch, width: left },
                right: Walk { values: &right_values, pitch: right_pitch, width: right },
                size: [rows, columns],
            };
            let mut reference = None;
            for instructions in Instructions::available() {
                let mut sums = before.clone();
                add(instructions, &job, &mut sums, pitch);
                let reference = reference.get_or_insert_with(|| bits_of(&sums));
                prop_assert_eq!(&*reference, &bits_of(&sums), "{:?}", instructions);
                for (place, (&sum, &before)) in sums.iter().zip(&before).enumerate() {
                    let (m, n) = (place / pitch, place % pitch);
                    let mut expected = f64::from(before);
                    for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))).filter(|_| n < right) {
                        let left = left_values[y * left_pitch[0] + x * left_pitch[1] + m];
                        let right = right_values[y * right_pitch[0] + x * right_pitch[1] + n];
                        expected += f64::from(left) * f64::from(right);
                    }
                    prop_assert!((f64::from(sum) - expected).abs() < 1e-4, "{} is not {}", sum, expected);
                }
            }
        }
    }
}
