//! How the learning rate goes: warm-up, then a fall, or lower when the dev set stands still.

/// What the learning rate is multiplied by, over the steps of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Always 1, after the warm-up.
    Constant,
    /// Falls to 0 on a line.
    Linear,
    /// Falls to `floor` on half a wave of the cosine.
    Cosine {
        /// What is left at the end.
        floor: f64,
    },
    /// Stays, and is multiplied by `factor` each time that the dev loss has not fallen for more than `patience`
    /// evaluations.
    Plateau {
        /// What the rate is multiplied by.
        factor: f64,
        /// Evaluations without a better loss that are borne.
        patience: u64,
    },
}

impl Schedule {
    /// Returns the factor of the step `step` (from 0) of `total`, of which `warmup` are warm-up.
    pub fn factor(self, step: u64, warmup: u64, total: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let rest = total.saturating_sub(warmup).max(1) as f64;
        let gone = ((step - warmup) as f64 / rest).min(1.0);
        match self {
            Self::Constant | Self::Plateau { .. } => 1.0,
            Self::Linear => 1.0 - gone,
            Self::Cosine { floor } => {
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * gone).cos())
            }
        }
    }
}

/// What [`Schedule::Plateau`] remembers (PyTorch's ReduceLROnPlateau, relative threshold 1e-4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plateau {
    /// The lowest loss.
    pub best: f64,
    /// Evaluations since.
    pub waited: u64,
    /// What the learning rate is multiplied by now.
    pub factor: f64,
}

impl Default for Plateau {
    fn default() -> Self {
        Self { best: f64::INFINITY, waited: 0, factor: 1.0 }
    }
}

impl Plateau {
    /// Takes notice of a dev loss.
    pub fn see(&mut self, loss: f64, factor: f64, patience: u64) {
        if loss < self.best * (1.0 - 1e-4) {
            (self.best, self.waited) = (loss, 0);
            return;
        }
        self.waited += 1;
        if self.waited > patience {
            (self.factor, self.waited) = (self.factor * factor, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls_as_in_transformers() {
        let at = |step| Schedule::Linear.factor(step, 10, 110);
        assert_eq!([at(0), at(5), at(10), at(60), at(110), at(500)], [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]);
        let cosine = Schedule::Cosine { floor: 0.1 };
        let at = |step| cosine.factor(step, 0, 100);
        assert!(
            (at(0) - 1.0).abs() < 1e-12 && (at(50) - 0.55).abs() < 1e-12 && (at(100) - 0.1).abs() < 1e-12
        );
        assert_eq!(Schedule::Constant.factor(7, 14, 20), 0.5);
    }

    #[test]
    fn a_plateau_lowers_the_rate_after_patience() {
        let mut plateau = Plateau::default();
        let mut factors = Vec::new();
        for loss in [1.0, 0.9, 0.9, 0.95, 0.91, 0.5, 0.6, 0.6, 0.6] {
            plateau.see(loss, 0.5, 1);
            factors.push(plateau.factor);
        }
        assert_eq!(factors, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]);
    }
}
