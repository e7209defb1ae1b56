//! Stage: contributions and motifs → motif instances.
//!
//! Per region, contributions y are explained as a non-negative sum of CWMs (Fi-NeMo's model):
//!
//! ```text
//! minimize ½ Σ (y − ŷ(c))² + Σ_m λ_m Σ_q c[m,q],  c ≥ 0,  ŷ(c) = X ⊙ Σ_{m,q} c[m,q] · s[m,q] · K_m shifted to q
//! ```
//!
//! with X the one-hot sequence for projected contributions and 1 for hypothetical ones, K_m the trimmed CWM,
//! and `s[m,q] = 1/√(E+1)` for the energy E of y in the window. [`signal`] makes y, [`dictionary`] packs K,
//! [`fit`] finds c by one of two solvers (`active`, exact, on `scan` and `nnls`; `proxgrad`, Fi-NeMo's
//! iteration, on [`engine`]), [`call`] turns coefficients into hits, [`stage`] puts it all on a stream,
//! [`files`] writes Fi-NeMo's files.

mod active;
pub mod call;
pub mod cuda;
pub mod dictionary;
pub mod engine;
pub mod files;
pub mod fit;
#[cfg(test)]
mod golden;
mod nnls;
#[cfg(test)]
mod optimality;
mod proxgrad;
#[cfg(test)]
mod reference;
mod rows;
mod scan;
pub mod signal;
pub mod stage;
pub mod table;

/// A CWM kind and a contribution kind, as Fi-NeMo names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Projected CWMs on projected contributions.
    #[default]
    Pp,
    /// Projected CWMs on hypothetical contributions.
    Ph,
    /// Hypothetical CWMs on projected contributions.
    Hp,
    /// Hypothetical CWMs on hypothetical contributions.
    Hh,
}

impl Mode {
    /// Returns whether the CWMs are hypothetical.
    pub fn hypothetical_motifs(self) -> bool {
        matches!(self, Self::Hp | Self::Hh)
    }

    /// Returns whether the contributions are hypothetical.
    pub fn hypothetical_contributions(self) -> bool {
        matches!(self, Self::Ph | Self::Hh)
    }

    /// Returns the two letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pp => "pp",
            Self::Ph => "ph",
            Self::Hp => "hp",
            Self::Hh => "hh",
        }
    }
}
