//! Coefficients → hits: where they lie, how alike and how important they are.

use super::dictionary::Dictionary;
use super::fit::{Coefficient, Fit};
use super::signal::{NO_BASE, Signal};
use crate::motif::filters::Filter;
use crate::region::Strand;

/// A motif instance in its region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Index of the filter.
    pub filter: usize,
    /// First position of the trimmed span in the region's sequence.
    pub position: usize,
    /// Coefficient c.
    pub coefficient: f32,
    /// c · γ², comparable between regions.
    pub coefficient_global: f32,
    /// Similarity of CWM and contributions in the trimmed window.
    pub similarity: f32,
    /// Σ|y|·γ over the trimmed window.
    pub importance: f32,
    /// Σy²·γ² over the trimmed window.
    pub importance_sq: f32,
}

/// How coefficients become hits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calling {
    /// Keep hits whose similarity is below λ.
    pub keep_dissimilar: bool,
    /// Fi-NeMo's similarity, which divides by the norm of the untrimmed CWM and by an energy recovered from
    /// the window scale; else the true cosine.
    pub compat: bool,
}

/// Returns the hits of a fit in the order of their coefficients.
pub fn hits(dictionary: &Dictionary, signal: &Signal, fit: &Fit, calling: Calling) -> Vec<Hit> {
    let gamma = signal.scale();
    let hit = |&Coefficient { filter, position, value: coefficient }: &Coefficient| {
        let atom = &dictionary.atoms()[filter];
        let end = position + atom.span;
        let energy = signal.energy(position, end) as f32;
        let (energy, norm) = if calling.compat {
            let scale = 1.0 / (energy + 1.0).sqrt();
            (1.0 / (scale * scale) - 1.0, 1.0)
        } else {
            (energy, atom.norm)
        };
        let hit = Hit {
            filter,
            position,
            coefficient,
            coefficient_global: coefficient * (gamma * gamma),
            similarity: dot(dictionary.columns(filter), signal, position) / (norm * energy.sqrt()),
            importance: signal.magnitude(position, end) as f32 * gamma,
            importance_sq: energy * (gamma * gamma),
        };
        (calling.keep_dissimilar || hit.similarity >= atom.lambda).then_some(hit)
    };
    fit.coefficients.iter().filter_map(hit).collect()
}

/// Returns ⟨K, y⟩ of a filter's columns laid at `position`, without a scale.
fn dot(columns: &[[f32; 4]], signal: &Signal, position: usize) -> f32 {
    let values = &signal.values()[position * signal.planes()..];
    let product = |weight: f32, value: f32| f64::from(weight) * f64::from(value);
    let sum: f64 = match signal.bases() {
        Some(bases) => columns
            .iter()
            .zip(bases[position..].iter().zip(values))
            .filter(|(_, (base, _))| **base != NO_BASE)
            .map(|(column, (&base, &value))| product(column[base as usize], value))
            .sum(),
        None => columns
            .iter()
            .zip(values.chunks_exact(4))
            .map(|(column, values)| (0..4).map(|base| product(column[base], values[base])).sum::<f64>())
            .sum(),
    };
    sum as f32
}

/// Where a hit lies, 0-based and half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Start of the trimmed span.
    pub start: i64,
    /// End of the trimmed span.
    pub end: i64,
    /// Start of the whole motif.
    pub start_untrimmed: i64,
    /// End of the whole motif.
    pub end_untrimmed: i64,
    /// [`Strand::Forward`] or [`Strand::Reverse`] of the reference.
    pub strand: Strand,
}

/// Returns where a hit lies on the reference when its sequence is the window `start..end` read on `strand`.
///
/// The sequence of a window on the reverse strand was reverse-complemented, so positions count from its end
/// and strands are exchanged.
pub fn place(hit: &Hit, filter: &Filter, start: i64, end: i64, strand: Strand) -> Place {
    let first = hit.position as i64;
    let last = first + (filter.end - filter.start) as i64;
    let first_untrimmed = first - filter.start as i64;
    let last_untrimmed = first_untrimmed + filter.width as i64;
    if strand == Strand::Reverse {
        return Place {
            start: end - last,
            end: end - first,
            start_untrimmed: end - last_untrimmed,
            end_untrimmed: end - first_untrimmed,
            strand: if filter.strand == Strand::Forward { Strand::Reverse } else { Strand::Forward },
        };
    }
    Place {
        start: start + first,
        end: start + last,
        start_untrimmed: start + first_untrimmed,
        end_untrimmed: start + last_untrimmed,
        strand: filter.strand,
    }
}
