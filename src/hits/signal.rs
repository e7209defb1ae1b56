//! The contributions of one region, scaled, with what a solver asks of them again and again.

use half::f16;

/// The index of a position that has no base (N): nothing is predicted there.
pub const NO_BASE: u8 = 4;

/// The track y that is explained, scaled so that Σy² = L.
#[derive(Clone, Debug)]
pub struct Signal {
    length: usize,
    bases: Option<Vec<u8>>,
    values: Vec<f32>,
    scale: f32,
    energy: Vec<f64>,
}

/// How contributions become a signal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preparation {
    /// Take the signed square root.
    pub square_root: bool,
    /// Round to half precision first, as Fi-NeMo's region files do.
    pub half_precision: bool,
}

impl Signal {
    /// Creates the signal of contributions on the observed bases: `contributions` and `sequence` of length L, in
    /// upper case. Positions without a base count as zero.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn projected(contributions: &[f32], sequence: &[u8], preparation: Preparation) -> Self {
        assert_eq!(contributions.len(), sequence.len(), "one contribution per base");
        let bases: Vec<u8> =
            sequence.iter().map(|&base| crate::dna::base_index(base).map_or(NO_BASE, |b| b as u8)).collect();
        let masked = |(&value, &base): (&f32, &u8)| if base == NO_BASE { 0.0 * value } else { value };
        let values = contributions.iter().zip(&bases).map(masked).collect();
        Self::prepare(values, sequence.len(), Some(bases), preparation)
    }

    /// Creates the signal of contributions of all bases: `contributions` of length 4·L, rows A C G T.
    pub fn hypothetical(contributions: &[f32], preparation: Preparation) -> Self {
        let length = contributions.len() / 4;
        let values = (0..4 * length).map(|i| contributions[(i % 4) * length + i / 4]).collect();
        Self::prepare(values, length, None, preparation)
    }

    fn prepare(
        mut values: Vec<f32>,
        length: usize,
        bases: Option<Vec<u8>>,
        preparation: Preparation,
    ) -> Self {
        for value in &mut values {
            if preparation.half_precision {
                *value = f16::from_f32(*value).to_f32();
            }
            if preparation.square_root {
                *value = value.abs().sqrt().copysign(*value);
            }
        }
        let sum: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        // Infinite contributions make the scale NaN and the signal zero, as in Fi-NeMo.
        let scale = if sum.is_finite() { (sum / length.max(1) as f64).sqrt() as f32 } else { f32::NAN };
        for value in &mut values {
            *value = if scale > 0.0 { *value / scale } else { 0.0 };
        }
        let energy = prefix_energy(&values, length);
        Self { length, bases, values, scale, energy }
    }

    /// Returns the number of positions L.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the observed bases A C G T = 0..4, [`NO_BASE`] for N; `None` for hypothetical contributions.
    pub fn bases(&self) -> Option<&[u8]> {
        self.bases.as_deref()
    }

    /// Returns y: L values where bases are known, else L × 4 with the base fastest.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns what the contributions were divided by, γ = √(Σy²/L); NaN when they are not finite.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Returns the values of one position: one, or four for hypothetical contributions.
    pub fn planes(&self) -> usize {
        if self.bases.is_some() { 1 } else { 4 }
    }

    /// Returns Σy² over positions `start..end`.
    pub fn energy(&self, start: usize, end: usize) -> f64 {
        self.energy[end] - self.energy[start]
    }

    /// Returns Σy² over all positions before each: L + 1 sums.
    pub fn prefix_energy(&self) -> &[f64] {
        &self.energy
    }

    /// Returns Σ|y| over positions `start..end`.
    pub fn magnitude(&self, start: usize, end: usize) -> f64 {
        let planes = self.planes();
        self.values[start * planes..end * planes].iter().map(|&value| f64::from(value.abs())).sum()
    }
}

/// Returns sums of squares over all positions before each, L + 1 of them.
fn prefix_energy(values: &[f32], length: usize) -> Vec<f64> {
    let planes = values.len() / length.max(1);
    let mut total = 0.0;
    let mut sums = vec![0.0];
    for position in values.chunks_exact(planes.max(1)) {
        total += position.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        sums.push(total);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_square_of_a_signal_is_one() {
        let signal = Signal::projected(&[3.0, -4.0, 9.0], b"ACN", Preparation::default());
        assert_eq!(signal.bases(), Some(&[0, 1, NO_BASE][..]));
        assert!((signal.energy(0, 3) - 3.0).abs() < 1e-6, "{}", signal.energy(0, 3));
        assert_eq!(signal.values()[2], 0.0);
        assert!((signal.scale() - (25.0f32 / 3.0).sqrt()).abs() < 1e-6);
        assert!((signal.magnitude(0, 1) - f64::from(3.0 / signal.scale())).abs() < 1e-6);
    }

    #[test]
    fn infinite_contributions_make_a_zero_signal() {
        for bad in [f32::INFINITY, f32::NAN] {
            let signal = Signal::hypothetical(&[1.0, bad, 1.0, 1.0], Preparation::default());
            assert!(signal.scale().is_nan());
            assert_eq!(signal.values(), [0.0; 4]);
        }
        assert_eq!(Signal::projected(&[0.0], b"A", Preparation::default()).scale(), 0.0);
    }

    #[test]
    fn hypothetical_rows_are_interleaved() {
        let rows: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let signal = Signal::hypothetical(&rows, Preparation::default());
        let ratio: Vec<f32> = signal.values().iter().map(|v| (v * signal.scale()).round()).collect();
        assert_eq!(ratio, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    }

    #[test]
    fn the_square_root_keeps_the_sign() {
        let preparation = Preparation { square_root: true, half_precision: false };
        let signal = Signal::projected(&[-4.0, 9.0], b"AC", preparation);
        assert!(signal.values()[0] < 0.0);
        assert!((signal.values()[1] / signal.values()[0] + 1.5).abs() < 1e-6);
    }
}
