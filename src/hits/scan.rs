//! Where filters correlate with the residual by more than their penalty: the one dense pass of the
//! active-set solver.
//!
//! Each correlation is one chain of fused multiply-adds in 32 bits, taps in order, for sixteen filters side by
//! side. All instruction sets compute the same chain, so they find the same places. Projected contributions
//! leave one base per position: the row of weights is looked up by it, which takes a quarter of the work of
//! four planes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::dictionary::{Dictionary, Group, LANES, ROWS};
use super::signal::Signal;
use crate::kernel::Instructions;

/// Positions computed together; buffers are padded by as many.
const TILE: usize = 8;
/// Positions of which the roots are kept at once.
const STRETCH: usize = 4096;
/// How far below its penalty a correlation is still reported. Rounding of 32 bits is well below it, so what is
/// not reported is certainly not above the penalty.
const MARGIN: f32 = 1e-5;

/// A filter laid at a position q of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    /// First position of the trimmed span.
    pub position: usize,
    /// Index of the filter.
    pub filter: usize,
}

/// The residual of one region in 32 bits, and what it takes to correlate it.
pub(super) struct Scan<'d> {
    dictionary: &'d Dictionary,
    instructions: Instructions,
    length: usize,
    planes: usize,
    /// Where the row of weights of a position's base begins, padded.
    rows: Vec<u8>,
    /// The residual, padded with zeros, planes fastest.
    residual: Vec<f32>,
    /// √(E+1) over the shortest span of a group at the positions of a stretch; infinite beyond the region.
    roots: Vec<f32>,
    /// Per group, the penalties less the margin, by lane.
    bounds: Vec<[f32; LANES]>,
}

/// What one group needs to be correlated.
struct Job<'a> {
    /// Weights, taps × ROWS × LANES.
    weights: &'a [f32],
    rows: &'a [u8],
    residual: &'a [f32],
    roots: &'a [f32],
    bounds: &'a [f32; LANES],
}

impl Job<'_> {
    /// Panics unless all that positions `..end`, rounded up to tiles, touch exists; vector code reads without
    /// further checks.
    fn check(&self, end: usize, planes: usize) {
        let reach = end + TILE + self.weights.len() / (ROWS * LANES);
        assert!(self.weights.len().is_multiple_of(ROWS * LANES));
        assert!(self.rows.len() >= reach && self.residual.len() >= reach * planes);
        assert!(self.roots.len() >= end + TILE);
    }
}

impl<'d> Scan<'d> {
    /// Creates a scan without a region.
    pub fn new(dictionary: &'d Dictionary, instructions: Instructions) -> Self {
        let bounds = dictionary.groups().iter().map(|group| group.lambda.map(bound)).collect();
        Self {
            dictionary,
            instructions,
            length: 0,
            planes: 1,
            rows: Vec::new(),
            residual: Vec::new(),
            roots: Vec::new(),
            bounds,
        }
    }

    /// Takes up a region; its residual is the signal.
    pub fn load(&mut self, signal: &Signal) {
        self.length = signal.length();
        self.planes = signal.planes();
        let padded = self.length + self.dictionary.reach() + TILE;
        self.rows.clear();
        // A position without a base has no residual, so that any row does.
        let row = |&base: &u8| base.min(3) * LANES as u8;
        self.rows.extend(signal.bases().unwrap_or_default().iter().map(row));
        self.rows.resize(padded, 0);
        self.residual.clear();
        self.residual.extend_from_slice(signal.values());
        self.residual.resize(padded * self.planes, 0.0);
    }

    /// Sets the residual of positions `start..`, planes fastest.
    pub fn set_residual(&mut self, start: usize, residual: &[f64]) {
        let target = &mut self.residual[start * self.planes..][..residual.len()];
        target.iter_mut().zip(residual).for_each(|(target, &value)| *target = value as f32);
    }

    /// Appends to `found` all places of `signal` whose correlation with the residual may exceed their penalty
    /// and whose window meets one of `ranges`, which must be in order and disjoint.
    pub fn run(&mut self, signal: &Signal, ranges: &[(usize, usize)], found: &mut Vec<Site>) {
        for (index, group) in self.dictionary.groups().iter().enumerate() {
            let mut done = 0;
            for &(start, end) in ranges {
                let from = done.max((start + 1).saturating_sub(group.width));
                let to = end.min((self.length + 1).saturating_sub(group.shortest));
                for first in (from..to).step_by(STRETCH) {
                    let last = to.min(first + STRETCH);
                    self.fill_roots(signal, group, first, last);
                    self.run_group(index, first, last, found);
                }
                done = done.max(to);
            }
        }
    }

    fn fill_roots(&mut self, signal: &Signal, group: &Group, first: usize, last: usize) {
        let starts = &signal.prefix_energy()[first..];
        let ends = starts.get(group.shortest..).unwrap_or_default();
        let root = |(start, end): (&f64, &f64)| ((end - start) as f32 + 1.0).sqrt();
        self.roots.clear();
        self.roots.extend(starts.iter().zip(ends).take(last - first + TILE).map(root));
        self.roots.resize(last - first + TILE, f32::INFINITY);
    }

    /// Correlates a group at positions `first..last`, of which [`Scan::fill_roots`] has made the roots.
    fn run_group(&self, index: usize, first: usize, last: usize, found: &mut Vec<Site>) {
        let group = &self.dictionary.groups()[index];
        let count = last - first;
        let job = Job {
            weights: &group.weights,
            rows: &self.rows[first..],
            residual: &self.residual[first * self.planes..],
            roots: &self.roots,
            bounds: &self.bounds[index],
        };
        job.check(count, self.planes);
        let mut note = |position: usize, lanes: u16| {
            if position < count {
                self.note(group, first + position, lanes, found);
            }
        };
        let positions = (0..count).step_by(TILE);
        match (self.instructions, self.planes == 1) {
            #[cfg(target_arch = "x86_64")]
            (Instructions::Avx512, true) => avx512::run::<true>(&job, positions, &mut note),
            #[cfg(target_arch = "x86_64")]
            (Instructions::Avx512, false) => avx512::run::<false>(&job, positions, &mut note),
            #[cfg(target_arch = "x86_64")]
            (Instructions::Avx2, true) => avx2::run::<true>(&job, positions, &mut note),
            #[cfg(target_arch = "x86_64")]
            (Instructions::Avx2, false) => avx2::run::<false>(&job, positions, &mut note),
            (Instructions::Portable, true) => portable::run::<true>(&job, positions, &mut note),
            (Instructions::Portable, false) => portable::run::<false>(&job, positions, &mut note),
        }
    }

    /// Keeps the lanes that hold a filter which may lie at `position`.
    #[cold]
    fn note(&self, group: &Group, position: usize, lanes: u16, found: &mut Vec<Site>) {
        for (lane, &filter) in group.atoms.iter().enumerate() {
            let inside = self.dictionary.atoms()[filter].positions(self.length).contains(&position);
            if lanes >> lane & 1 == 1 && inside {
                found.push(Site { position, filter });
            }
        }
    }
}

/// Returns what a correlation must exceed to be reported: a little less than its penalty.
pub(super) fn bound(lambda: f32) -> f32 {
    if lambda.is_finite() { lambda - MARGIN.min(lambda / 4.0) } else { lambda }
}

type Positions = std::iter::StepBy<std::ops::Range<usize>>;
