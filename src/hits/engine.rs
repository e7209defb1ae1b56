//! The arithmetic of a fit on the CPU: residual, correlations, window scales of one region.
//!
//! A solver sees places, numbers that stand for (filter, position), in one order: by group, position, lane.

#![allow(unsafe_code)]

use super::dictionary::{Dictionary, LANES, ROWS};
use super::signal::{NO_BASE, Signal};
#[cfg(target_arch = "x86_64")]
use crate::kernel;
use crate::region::unite;

/// The most places of a region. They are numbered in 32 bits and kept in memory, all of one region at once.
const MOST_PLACES: usize = 1 << 29;

/// A coefficient that is not zero: its place and its value.
pub type Entry = (u32, f32);

/// The state of one region on the CPU. Its buffers are used again for the next region.
pub struct Engine<'d> {
    dictionary: &'d Dictionary,
    length: usize,
    planes: usize,
    /// Observed bases, padded by the reach of the dictionary with [`NO_BASE`].
    bases: Vec<u8>,
    signal: Vec<f32>,
    prediction: Vec<f32>,
    /// y − ŷ, padded with zeros, planes fastest.
    residual: Vec<f32>,
    /// s by place; 0 where a filter may not lie.
    scales: Vec<f32>,
    /// g by place.
    gradient: Vec<f32>,
    above: Vec<u32>,
    /// The places above λ when the residual is the signal, by group; empty before the first correlation.
    above_signal: Vec<Vec<u32>>,
    /// Half-open ranges of positions under coefficients, in order and disjoint: now, and at the last correlation.
    covered: Vec<(usize, usize)>,
    covered_before: Vec<(usize, usize)>,
}

/// Sums over the residual r of coefficients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums {
    /// Σr².
    pub squares: f64,
    /// Σr·y.
    pub with_signal: f64,
}

impl<'d> Engine<'d> {
    /// Creates an engine without a region.
    pub fn new(dictionary: &'d Dictionary) -> Self {
        Self {
            dictionary,
            length: 0,
            planes: 1,
            bases: Vec::new(),
            signal: Vec::new(),
            prediction: Vec::new(),
            residual: Vec::new(),
            scales: Vec::new(),
            gradient: Vec::new(),
            above: Vec::new(),
            above_signal: Vec::new(),
            covered: Vec::new(),
            covered_before: Vec::new(),
        }
    }

    /// Returns the most positions a region can have: its places take eight bytes each, four GiB in all.
    pub fn most_positions(&self) -> usize {
        MOST_PLACES / (self.dictionary.groups().len().max(1) * LANES)
    }

    /// Takes up a region of at most [`Engine::most_positions`].
    pub fn load(&mut self, signal: &Signal) {
        self.length = signal.length();
        self.planes = signal.planes();
        let padded = self.length + self.dictionary.reach();
        self.bases.clear();
        self.bases.extend_from_slice(signal.bases().unwrap_or_default());
        self.bases.resize(padded, NO_BASE);
        self.signal.clear();
        self.signal.extend_from_slice(signal.values());
        self.prediction.clear();
        self.prediction.resize(signal.values().len(), 0.0);
        self.residual.clear();
        self.residual.resize(padded * self.planes, 0.0);
        let places = self.dictionary.groups().len() * self.length * LANES;
        self.gradient.clear();
        self.gradient.resize(places, 0.0);
        self.scales.clear();
        self.scales.resize(places, 0.0);
        self.fill_scales(signal);
        self.above_signal.clear();
        self.covered.clear();
    }

    fn fill_scales(&mut self, signal: &Signal) {
        let mut scales = Vec::new();
        let mut span = 0;
        for (index, group) in self.dictionary.groups().iter().enumerate() {
            for (lane, &atom) in group.atoms.iter().enumerate() {
                let atom = self.dictionary.atoms()[atom];
                // Filters are in order of their spans, and many spans are the same.
                if atom.span != span {
                    span = atom.span;
                    let prefix = signal.prefix_energy();
                    let energies = prefix.iter().zip(prefix.get(span..).unwrap_or_default());
                    scales.clear();
                    scales.extend(energies.map(|(a, b)| 1.0 / ((b - a) as f32 + 1.0).sqrt()));
                }
                for position in atom.positions(self.length) {
                    self.scales[(index * self.length + position) * LANES + lane] = scales[position];
                }
            }
        }
    }

    /// Returns the number of positions L of the region.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the filter and the position q of a place.
    pub fn locate(&self, place: u32) -> (usize, usize) {
        let (row, lane) = (place as usize / LANES, place as usize % LANES);
        (self.dictionary.groups()[row / self.length].atoms[lane], row % self.length)
    }

    /// Returns the penalty at a place.
    pub fn lambda(&self, place: u32) -> f32 {
        let (row, lane) = (place as usize / LANES, place as usize % LANES);
        self.dictionary.groups()[row / self.length].lambda[lane]
    }

    /// Returns the window scale s at a place.
    pub fn scale(&self, place: u32) -> f32 {
        self.scales[place as usize]
    }

    /// Returns `g[m,q] = s · ⟨K_m, r⟩` at a place, after [`Engine::correlate`].
    pub fn gradient(&self, place: u32) -> f32 {
        self.gradient[place as usize]
    }

    /// Returns the places with g > λ in ascending order, after [`Engine::correlate`].
    pub fn above(&self) -> &[u32] {
        &self.above
    }

    /// Returns the largest g/λ of all places, after [`Engine::correlate`]; −∞ when no filter fits.
    pub fn largest_ratio(&self) -> f32 {
        let ratio = |&place: &u32| self.gradient(place) / self.lambda(place);
        if !self.above.is_empty() {
            return self.above.iter().map(ratio).fold(f32::NEG_INFINITY, f32::max);
        }
        let valid = (0..self.scales.len() as u32).filter(|&place| self.scale(place) > 0.0);
        if valid.clone().any(|place| self.gradient(place) >= 0.0) {
            // Between 0 and 1, where its value does not matter.
            return 1.0;
        }
        valid.map(|place| ratio(&place)).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Computes the residual r = y − ŷ of `coefficients`, on their support only.
    pub fn subtract(&mut self, coefficients: &[Entry]) -> Sums {
        self.prediction.fill(0.0);
        self.covered.clear();
        for &(place, coefficient) in coefficients {
            self.add(place, coefficient * self.scale(place));
            let (filter, position) = self.locate(place);
            self.covered.push((position, position + self.dictionary.atoms()[filter].span));
        }
        unite(&mut self.covered);
        let mut sums = Sums { squares: 0.0, with_signal: 0.0 };
        let residual = self.residual.iter_mut().zip(self.signal.iter().zip(&self.prediction));
        for (residual, (&signal, &prediction)) in residual {
            *residual = signal - prediction;
            sums.squares += f64::from(*residual) * f64::from(*residual);
            sums.with_signal += f64::from(*residual) * f64::from(signal);
        }
        sums
    }

    /// Adds `amplitude` times the filter at `place` to the prediction.
    fn add(&mut self, place: u32, amplitude: f32) {
        let (row, lane) = (place as usize / LANES, place as usize % LANES);
        let group = &self.dictionary.groups()[row / self.length];
        let position = row % self.length;
        let span = self.dictionary.atoms()[group.atoms[lane]].span;
        for offset in 0..span {
            let weight = |base: usize| group.weights[(offset * ROWS + base) * LANES + lane];
            if self.planes == 1 {
                let base = self.bases[position + offset] as usize;
                self.prediction[position + offset] += amplitude * weight(base);
            } else {
                for base in 0..4 {
                    self.prediction[(position + offset) * 4 + base] += amplitude * weight(base);
                }
            }
        }
    }

    /// Computes g at every place, and which exceed λ.
    ///
    /// Where no coefficient covers the window, now or at the last call, g is what it was; it is computed again
    /// for all other places, by the same sums, so that nothing depends on what was computed when.
    pub fn correlate(&mut self) {
        self.above.clear();
        let first = self.above_signal.is_empty();
        let mut ranges = std::mem::take(&mut self.covered_before);
        if first {
            ranges.clear();
            ranges.push((0, self.length));
        }
        ranges.extend_from_slice(&self.covered);
        unite(&mut ranges);
        for index in 0..self.dictionary.groups().len() {
            if self.planes == 1 {
                self.correlate_group::<true>(index, &ranges);
            } else {
                self.correlate_group::<false>(index, &ranges);
            }
        }
        if first {
            self.remember_above();
        }
        ranges.clear();
        ranges.extend_from_slice(&self.covered);
        self.covered_before = ranges;
    }

    /// Keeps the places above λ of the signal itself, which was correlated first.
    fn remember_above(&mut self) {
        let stride = (self.length * LANES).max(1);
        self.above_signal.resize(self.dictionary.groups().len().max(1), Vec::new());
        for &place in &self.above {
            self.above_signal[place as usize / stride].push(place);
        }
        debug_assert!(self.covered.is_empty(), "a fit begins with the signal");
    }

    /// Runs [`Engine::correlate_group_body`] with the vectors of this machine. Sums are the same chains of fused
    /// multiply-adds on all of them, so the bits do not depend on it.
    fn correlate_group<const PROJECTED: bool>(&mut self, index: usize, ranges: &[(usize, usize)]) {
        #[cfg(target_arch = "x86_64")]
        if kernel::Instructions::detect() != kernel::Instructions::Portable {
            // SAFETY: every other set includes AVX2 and FMA, which is all that the function asks for.
            unsafe { self.correlate_group_avx2::<PROJECTED>(index, ranges) };
            return;
        }
        self.correlate_group_body::<PROJECTED>(index, ranges);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn correlate_group_avx2<const PROJECTED: bool>(&mut self, index: usize, ranges: &[(usize, usize)]) {
        self.correlate_group_body::<PROJECTED>(index, ranges);
    }

    #[inline(always)]
    fn correlate_group_body<const PROJECTED: bool>(&mut self, index: usize, ranges: &[(usize, usize)]) {
        let dictionary = self.dictionary;
        let group = &dictionary.groups()[index];
        let windows = group.atoms.iter().map(|&atom| dictionary.atoms()[atom].positions(self.length));
        let (mut first, mut last) = (usize::MAX, 0);
        for window in windows.filter(|window| !window.is_empty()) {
            (first, last) = (first.min(window.start), last.max(window.end));
        }
        let above = self.above_signal.get_mut(index).map(std::mem::take).unwrap_or_default();
        let mut known = above.as_slice();
        for &(start, end) in ranges {
            let mut position = first.max((start + 1).saturating_sub(group.width));
            let end = last.min(end);
            if position >= end {
                continue;
            }
            let row = |position: usize| ((index * self.length + position) * LANES) as u32;
            let kept = known.partition_point(|&place| place < row(position));
            self.above.extend_from_slice(&known[..kept]);
            known = &known[known.partition_point(|&place| place < row(end))..];
            while position + BLOCK <= end {
                let sums = block::<BLOCK, PROJECTED>(&group.weights, &self.bases, &self.residual, position);
                self.settle(index, position, &sums);
                position += BLOCK;
            }
            while position < end {
                let sums = block::<1, PROJECTED>(&group.weights, &self.bases, &self.residual, position);
                self.settle(index, position, &sums);
                position += 1;
            }
            first = position;
        }
        self.above.extend_from_slice(known);
        if let Some(place) = self.above_signal.get_mut(index) {
            *place = above;
        }
    }

    /// Scales correlations of one group at positions from `position` on and notes those above λ.
    #[inline(always)]
    fn settle(&mut self, index: usize, position: usize, sums: &[[f32; LANES]]) {
        let lambda = &self.dictionary.groups()[index].lambda;
        let first = (index * self.length + position) * LANES;
        let gradients = self.gradient[first..].chunks_exact_mut(LANES);
        let scales = self.scales[first..].chunks_exact(LANES);
        for (row, (sums, (gradients, scales))) in sums.iter().zip(gradients.zip(scales)).enumerate() {
            let mut any = false;
            for lane in 0..LANES {
                let gradient = sums[lane] * scales[lane];
                gradients[lane] = gradient;
                any |= gradient > lambda[lane];
            }
            if any {
                let above = (0..LANES).filter(|&lane| gradients[lane] > lambda[lane] && scales[lane] > 0.0);
                self.above.extend(above.map(|lane| (first + row * LANES + lane) as u32));
            }
        }
    }
}

/// Positions whose sums are kept in registers together.
const BLOCK: usize = 4;

/// Returns Σ over the window of weight · residual for `N` adjacent positions and all lanes. The order of
/// the sum is that of the window whatever `N`.
#[inline(always)]
fn block<const N: usize, const PROJECTED: bool>(
    weights: &[f32],
    bases: &[u8],
    residual: &[f32],
    position: usize,
) -> [[f32; LANES]; N] {
    let mut sums = [[0.0; LANES]; N];
    for (offset, rows) in weights.chunks_exact(ROWS * LANES).enumerate() {
        let rows: &[f32; ROWS * LANES] = rows.try_into().expect("chunks are exact");
        for (row, sums) in sums.iter_mut().enumerate() {
            let at = position + row + offset;
            if PROJECTED {
                accumulate(sums, &rows[bases[at] as usize * LANES..][..LANES], residual[at]);
            } else {
                for base in 0..4 {
                    accumulate(sums, &rows[base * LANES..][..LANES], residual[at * 4 + base]);
                }
            }
        }
    }
    sums
}

#[inline(always)]
fn accumulate(sums: &mut [f32; LANES], weights: &[f32], residual: f32) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum = weight.mul_add(residual, *sum);
    }
}
