//! The sums that a continuous Jaccard similarity is made of.
//!
//! `Σ sign(a) sign(b) min(|a|, |b|) = (Σ|a + b| − Σ|a − b|) / 2` and `Σ max(|a|, |b|) = (Σ|a + b| + Σ|a − b|) / 2`.

use super::instructions::vectorize;

/// Chains that are summed side by side, whatever the width of a vector.
const LANES: usize = 16;

vectorize! {
    /// Writes Σ|a + b| and Σ|a − b| over slices of one length into `sums`.
    pub fn sums_and_differences(a: &[f32], b: &[f32], sums: &mut (f32, f32)) = portable
}

#[inline(always)]
fn portable(a: &[f32], b: &[f32], total: &mut (f32, f32)) {
    let (mut sums, mut differences) = ([0.0f32; LANES], [0.0f32; LANES]);
    let whole = a.len().min(b.len()) / LANES * LANES;
    for (a, b) in a[..whole].chunks_exact(LANES).zip(b[..whole].chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += (a[lane] + b[lane]).abs();
            differences[lane] += (a[lane] - b[lane]).abs();
        }
    }
    for (lane, (a, b)) in a[whole..].iter().zip(&b[whole..]).enumerate() {
        sums[lane] += (a + b).abs();
        differences[lane] += (a - b).abs();
    }
    *total = (halve(sums), halve(differences));
}

/// Adds up by halves.
#[inline(always)]
fn halve(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Instructions;
    use super::*;

    proptest! {
        #[test]
        fn all_instructions_give_the_same_bits_and_the_right_sums(
            pairs in prop::collection::vec((-1.0f32..1.0, -1.0f32..1.0), 0..60),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let mut expected = (0.0, 0.0);
            portable(&a, &b, &mut expected);
            for instructions in Instructions::available() {
                let mut found = (1.0, 1.0);
                sums_and_differences(instructions, &a, &b, &mut found);
                prop_assert_eq!((found.0.to_bits(), found.1.to_bits()), (expected.0.to_bits(), expected.1.to_bits()));
            }
            let naive: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a + b).abs()).sum();
            // Sixty sums of order 1 in f32.
            prop_assert!((f64::from(expected.0) - naive).abs() < 1e-4);
        }
    }
}
