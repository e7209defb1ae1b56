//! The arithmetic of a fit on the CPU: residual, correlations, window scales of one region.
//!
//! A solver sees places, numbers that stand for (filter, position), in one order: by group, position, lane.

#![allow(unsafe_code)]

use super::dictionary::{Dictionary, LANES, ROWS};
use super::signal::{NO_BASE, Signal};

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
    largest: f32,
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
            largest: f32::NEG_INFINITY,
        }
    }

    /// Returns whether all places of a region can be numbered.
    pub fn fits(&self, signal: &Signal) -> bool {
        let places = self.dictionary.groups().len() as u64 * signal.length() as u64 * LANES as u64;
        places <= u64::from(u32::MAX)
    }

    /// Takes up a region; [`Engine::fits`] must hold.
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
    }

    fn fill_scales(&mut self, signal: &Signal) {
        for (index, group) in self.dictionary.groups().iter().enumerate() {
            for (lane, &atom) in group.atoms.iter().enumerate() {
                let atom = self.dictionary.atoms()[atom];
                for position in atom.positions(self.length) {
                    let energy = signal.energy(position, position + atom.span) as f32;
                    self.scales[(index * self.length + position) * LANES + lane] =
                        1.0 / (energy + 1.0).sqrt();
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
        if self.largest >= 0.0 {
            // Between 0 and 1, where its value does not matter.
            return 1.0;
        }
        let valid = (0..self.scales.len() as u32).filter(|&place| self.scale(place) > 0.0);
        valid.map(|place| ratio(&place)).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Computes the residual r = y − ŷ of `coefficients`, on their support only.
    pub fn subtract(&mut self, coefficients: &[Entry]) -> Sums {
        self.prediction.fill(0.0);
        for &(place, coefficient) in coefficients {
            self.add(place, coefficient * self.scale(place));
        }
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
    pub fn correlate(&mut self) {
        self.above.clear();
        self.largest = f32::NEG_INFINITY;
        for index in 0..self.dictionary.groups().len() {
            if self.planes == 1 {
                self.correlate_group::<true>(index);
            } else {
                self.correlate_group::<false>(index);
            }
        }
    }

    /// Runs [`Engine::correlate_group_body`] with the widest vectors of this machine. Products and sums are
    /// rounded one by one on all of them, so the bits do not depend on it.
    fn correlate_group<const PROJECTED: bool>(&mut self, index: usize) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, which is all that the function asks for.
            unsafe { self.correlate_group_avx2::<PROJECTED>(index) };
            return;
        }
        self.correlate_group_body::<PROJECTED>(index);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn correlate_group_avx2<const PROJECTED: bool>(&mut self, index: usize) {
        self.correlate_group_body::<PROJECTED>(index);
    }

    #[inline(always)]
    fn correlate_group_body<const PROJECTED: bool>(&mut self, index: usize) {
        let dictionary = self.dictionary;
        let group = &dictionary.groups()[index];
        let ranges = group.atoms.iter().map(|&atom| dictionary.atoms()[atom].positions(self.length));
        let ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
        let first = ranges.iter().map(|range| range.start).min().unwrap_or(0);
        let last = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        let mut position = first;
        while position + BLOCK <= last {
            let sums = block::<BLOCK, PROJECTED>(&group.weights, &self.bases, &self.residual, position);
            self.settle(index, position, &sums);
            position += BLOCK;
        }
        while position < last {
            let sums = block::<1, PROJECTED>(&group.weights, &self.bases, &self.residual, position);
            self.settle(index, position, &sums);
            position += 1;
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
            let mut largest = f32::NEG_INFINITY;
            for lane in 0..LANES {
                let gradient = sums[lane] * scales[lane];
                gradients[lane] = gradient;
                any |= gradient > lambda[lane];
                largest = if scales[lane] > 0.0 && gradient > largest { gradient } else { largest };
            }
            self.largest = self.largest.max(largest);
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
        *sum += weight * residual;
    }
}
