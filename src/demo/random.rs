//! Random numbers whose values are part of the demo: the same bytes in every release.
//!
//! SplitMix64 (Steele, Lea and Flood, 2014). A library's generator may change its stream with a version;
//! `scripts/train_demo_model.py` has the same few lines.

/// A seeded SplitMix64 generator.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// Creates the generator of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns an integer in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// Returns the index of a category drawn with these probabilities (the last one takes what rounding leaves).
    pub fn category(&mut self, probabilities: &[f64]) -> usize {
        let mut left = self.uniform();
        for (index, probability) in probabilities.iter().enumerate() {
            left -= probability;
            if left < 0.0 {
                return index;
            }
        }
        probabilities.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_published_algorithm() {
        // The first outputs for seed 1234567 of the authors' C code, as many libraries test them.
        let mut random = SplitMix::new(1_234_567);
        assert_eq!(
            [random.bits(), random.bits(), random.bits()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn categories_follow_their_probabilities() {
        let mut random = SplitMix::new(1);
        let mut counts = [0usize; 4];
        for _ in 0..100_000 {
            counts[random.category(&[0.1, 0.2, 0.0, 0.7])] += 1;
        }
        for (count, expected) in counts.iter().zip([10_000usize, 20_000, 0, 70_000]) {
            assert!(count.abs_diff(expected) < 700, "{counts:?}");
        }
    }
}
