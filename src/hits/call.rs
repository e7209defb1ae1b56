//! Coefficients → hits: where they lie, how alike and how important they are.

use super::dictionary::Dictionary;
use super::engine::Engine;
use super::fit::Fit;
use super::signal::Signal;
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
pub fn hits(
    engine: &Engine,
    dictionary: &Dictionary,
    signal: &Signal,
    fit: &Fit,
    calling: Calling,
) -> Vec<Hit> {
    let gamma = signal.scale();
    let hit = |&(place, coefficient): &(u32, f32)| {
        let (filter, position) = engine.locate(place);
        let atom = &dictionary.atoms()[filter];
        let end = position + atom.span;
        let (energy, norm) = if calling.compat {
            (1.0 / (engine.scale(place) * engine.scale(place)) - 1.0, 1.0)
        } else {
            (signal.energy(position, end) as f32, atom.norm)
        };
        let hit = Hit {
            filter,
            position,
            coefficient,
            coefficient_global: coefficient * (gamma * gamma),
            similarity: engine.dot_signal(place) / (norm * energy.sqrt()),
            importance: signal.magnitude(position, end) as f32 * gamma,
            importance_sq: energy * (gamma * gamma),
        };
        (calling.keep_dissimilar || hit.similarity >= atom.lambda).then_some(hit)
    };
    fit.coefficients.iter().filter_map(hit).collect()
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
