//! Coefficients → hits: where they lie, how alike and how important they are.

use super::dictionary::Dictionary;
use super::engine::Engine;
use super::fit::Fit;
use super::signal::Signal;

/// A motif instance in its region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Index of the filter.
    pub filter: usize,
    /// First position of the trimmed span in the region.
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

/// Returns the hits of a fit, ordered by start, then filter (motif and strand).
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
        let window = (position, position + atom.span);
        let (energy, norm) = if calling.compat {
            (1.0 / (engine.scale(place) * engine.scale(place)) - 1.0, 1.0)
        } else {
            (signal.energy(window.0, window.1) as f32, atom.norm)
        };
        let similarity = engine.dot_signal(place) / (norm * energy.sqrt());
        let hit = Hit {
            filter,
            position,
            coefficient,
            coefficient_global: coefficient * (gamma * gamma),
            similarity,
            importance: signal.magnitude(window.0, window.1) as f32 * gamma,
            importance_sq: energy * (gamma * gamma),
        };
        (calling.keep_dissimilar || similarity >= atom.lambda).then_some(hit)
    };
    let mut hits: Vec<Hit> = fit.coefficients.iter().filter_map(hit).collect();
    hits.sort_by_key(|hit| (hit.position, hit.filter));
    hits
}
