//! Random numbers that depend on a seed, a purpose and a number only: not on what was drawn before elsewhere.

use crate::kernel::learn::dropout::mix;

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    key: u64,
    drawn: u64,
}

impl Random {
    /// Creates the sequence of `seed` for a purpose and a number (an epoch, a step).
    pub fn new(seed: u64, purpose: &str, number: u64) -> Self {
        let purpose = purpose.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        Self { key: mix(mix(seed) ^ purpose).wrapping_add(mix(number)), drawn: 0 }
    }

    /// Draws 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.key.wrapping_add(self.drawn.wrapping_mul(0xD134_2543_DE82_EF95)))
    }

    /// Draws a number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws a whole number below `end`.
    ///
    /// # Panics
    ///
    /// When `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "there is no number below 0");
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Draws from the normal distribution (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Puts things in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_differ_by_seed_purpose_and_number_and_repeat() {
        let first = |seed, purpose, number| Random::new(seed, purpose, number).bits();
        assert_eq!(first(1, "a", 0), first(1, "a", 0));
        let all = [first(1, "a", 0), first(2, "a", 0), first(1, "b", 0), first(1, "a", 1)];
        assert!((1..4).all(|i| !all[..i].contains(&all[i])));
    }

    #[test]
    fn numbers_have_the_moments_of_their_distributions() {
        let mut random = Random::new(7, "test", 0);
        let count = 100_000;
        let uniform: f64 = (0..count).map(|_| random.uniform()).sum::<f64>() / f64::from(count);
        assert!((uniform - 0.5).abs() < 0.005, "{uniform}");
        let normal: Vec<f64> = (0..count).map(|_| random.normal()).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(count);
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / f64::from(count);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let mut seen = [0; 3];
        (0..3000).for_each(|_| seen[random.below(3)] += 1);
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
        let mut order: Vec<usize> = (0..50).collect();
        random.shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
