//! A small non-negative quadratic program, solved exactly: minimize ½ xᵀGx − hᵀx over x ≥ 0.
//!
//! The method is that of Lawson and Hanson: unknowns enter where the gradient is most negative, those that are
//! not zero are solved for exactly by a Cholesky factorization, and an unknown that would become negative on the
//! way leaves. Unknowns that do not touch enter together. It ends at the exact optimum, up to rounding, after
//! finitely many steps, also where columns are nearly alike and descent by coordinates would crawl.

/// A symmetric matrix of which row i holds the columns `first[i]..=i`; what lies before is zero. `first` does
/// not decrease.
#[derive(Clone, Debug, Default)]
pub(super) struct Skyline {
    first: Vec<usize>,
    /// Where the row begins in `values`, less `first`, wrapping.
    origin: Vec<usize>,
    values: Vec<f64>,
}

impl Skyline {
    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.first.clear();
        self.origin.clear();
        self.values.clear();
    }

    /// Appends a row whose columns begin at `first`, up to and with the diagonal.
    pub fn push(&mut self, first: usize, entry: impl FnMut(usize) -> f64) {
        let row = self.first.len();
        self.first.push(first);
        self.origin.push(self.values.len().wrapping_sub(first));
        self.values.extend((first..=row).map(entry));
    }

    /// Returns an entry on or below the diagonal that is stored.
    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[self.origin[row].wrapping_add(column)]
    }

    fn row(&self, row: usize) -> &[f64] {
        let start = self.origin[row].wrapping_add(self.first[row]);
        &self.values[start..=self.origin[row].wrapping_add(row)]
    }

    /// Subtracts `factor` times column `index` from `target`.
    fn subtract_column(&self, index: usize, factor: f64, target: &mut [f64]) {
        let first = self.first[index];
        for (target, entry) in target[first..].iter_mut().zip(self.row(index)) {
            *target -= factor * entry;
        }
        let below = target.iter_mut().enumerate().skip(index + 1);
        for (row, target) in below.take_while(|(row, _)| self.first[*row] <= index) {
            *target -= factor * self.at(row, index);
        }
    }
}

/// A violation of the optimality conditions that counts as rounding; correlations are of the order of 1.
pub(super) const ROUNDING: f64 = 1e-11;
/// Part of each diagonal entry that is added to it, so that columns that depend on each other can be factorized.
const RIDGE: f64 = 1e-13;
/// From so many unknowns on, sweeps by coordinate first find most of those that are not zero.
const MANY: usize = 64;
/// The most sweeps before the exact method takes over.
const SWEEPS: usize = 40;
/// Newton steps on one set of unknowns.
const REFINEMENTS: usize = 8;

/// The solver's buffers, used again for the next problem.
#[derive(Debug, Default)]
pub(super) struct Minimizer {
    /// h − Gx.
    slope: Vec<f64>,
    /// Unknowns that are not held at zero, ascending.
    free: Vec<usize>,
    /// Unknowns that enter together, ascending.
    entering: Vec<usize>,
    /// Unknowns that would leave as soon as they enter.
    refused: Vec<bool>,
    factor: Skyline,
    step: Vec<f64>,
}

impl Minimizer {
    /// Minimizes ½ xᵀGx − hᵀx over x ≥ 0 from a feasible x; x stays feasible throughout.
    pub fn run(&mut self, gram: &Skyline, linear: &[f64], x: &mut [f64]) {
        self.measure(gram, linear, x);
        if x.len() >= MANY {
            (0..SWEEPS).find(|_| !self.sweep(gram, x));
            self.measure(gram, linear, x);
        }
        self.free.clear();
        self.free.extend((0..x.len()).filter(|&index| x[index] > 0.0));
        self.refused.clear();
        self.refused.resize(x.len(), false);
        self.settle(gram, linear, x);
        for _ in 0..50 + 10 * x.len() {
            self.choose(gram);
            if self.entering.is_empty() {
                return;
            }
            self.free.extend_from_slice(&self.entering);
            self.free.sort_unstable();
            self.settle(gram, linear, x);
            if self.entering.iter().any(|&index| x[index] > 0.0) {
                self.refused.fill(false);
            } else {
                self.entering.iter().for_each(|&index| self.refused[index] = true);
            }
        }
    }

    fn measure(&mut self, gram: &Skyline, linear: &[f64], x: &[f64]) {
        self.slope.clear();
        self.slope.extend_from_slice(linear);
        for (index, &value) in x.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            gram.subtract_column(index, value, &mut self.slope);
        }
    }

    /// Minimizes along each coordinate in turn; returns whether one has left zero or come to it.
    fn sweep(&mut self, gram: &Skyline, x: &mut [f64]) -> bool {
        let mut moved = false;
        for (index, value) in x.iter_mut().enumerate() {
            let diagonal = gram.at(index, index);
            let next = if diagonal > 0.0 { (*value + self.slope[index] / diagonal).max(0.0) } else { 0.0 };
            if next != *value {
                gram.subtract_column(index, next - *value, &mut self.slope);
                moved |= (next > 0.0) != (*value > 0.0);
                *value = next;
            }
        }
        moved
    }

    /// Chooses unknowns at zero that would gain by growing and do not touch each other: of those that touch the
    /// one that gains most, the first of equals.
    fn choose(&mut self, gram: &Skyline) {
        self.entering.clear();
        for (index, &slope) in self.slope.iter().enumerate() {
            if slope <= ROUNDING || self.refused[index] || self.free.binary_search(&index).is_ok() {
                continue;
            }
            match self.entering.last_mut() {
                Some(last) if gram.first[index] <= *last => {
                    if slope > self.slope[*last] {
                        *last = index;
                    }
                }
                _ => self.entering.push(index),
            }
        }
    }

    /// Solves for the free unknowns; those that reach zero on the way leave.
    fn settle(&mut self, gram: &Skyline, linear: &[f64], x: &mut [f64]) {
        let mut refinements = 0;
        while !self.free.is_empty() && refinements < REFINEMENTS {
            self.newton(gram);
            if self.turn_back(x) {
                continue;
            }
            if !self.step.iter().all(|step| step.is_finite()) {
                return;
            }
            let (mut length, mut blocking) = (1.0, None);
            for (&index, &step) in self.free.iter().zip(&self.step) {
                if x[index] + step < 0.0 && x[index] < length * -step {
                    (length, blocking) = (x[index] / -step, Some(index));
                }
            }
            for (&index, &step) in self.free.iter().zip(&self.step) {
                // The one that blocks leaves whatever rounding says, so that each round makes progress.
                let leaves = blocking == Some(index);
                x[index] = if leaves { 0.0 } else { (x[index] + length * step).max(0.0) };
            }
            let before = self.free.len();
            self.free.retain(|&index| x[index] > 0.0);
            self.measure(gram, linear, x);
            if self.free.len() == before {
                if self.free.iter().all(|&index| self.slope[index].abs() <= 0.1 * ROUNDING) {
                    return;
                }
                refinements += 1;
            }
        }
    }

    /// Lets unknowns at zero leave that would become negative at once; returns whether there were any.
    fn turn_back(&mut self, x: &[f64]) -> bool {
        let before = self.free.len();
        let mut steps = self.step.iter();
        self.free.retain(|&index| steps.next().is_none_or(|&step| x[index] > 0.0 || step > 0.0));
        self.free.len() < before
    }

    /// Solves G step = slope over the free unknowns.
    fn newton(&mut self, gram: &Skyline) {
        self.factorize(gram);
        let count = self.free.len();
        self.step.clear();
        self.step.extend(self.free.iter().map(|&index| self.slope[index]));
        for row in 0..count {
            let (first, entries) = (self.factor.first[row], self.factor.row(row));
            let (diagonal, entries) = entries.split_last().expect("a row has its diagonal");
            let sum: f64 = entries.iter().zip(&self.step[first..]).map(|(a, b)| a * b).sum();
            self.step[row] = (self.step[row] - sum) / diagonal;
        }
        for row in (0..count).rev() {
            let (first, entries) = (self.factor.first[row], self.factor.row(row));
            let (diagonal, entries) = entries.split_last().expect("a row has its diagonal");
            let value = self.step[row] / diagonal;
            self.step[row] = value;
            for (target, entry) in self.step[first..].iter_mut().zip(entries) {
                *target -= entry * value;
            }
        }
    }

    /// Factorizes G, with a slight ridge, over the free unknowns. Where columns depend on each other the ridge
    /// makes the step follow the dependence until an unknown leaves; elsewhere refinements undo it.
    fn factorize(&mut self, gram: &Skyline) {
        let Self { factor, free, .. } = self;
        factor.clear();
        for (row, &index) in free.iter().enumerate() {
            let first = free[..row].partition_point(|&other| other < gram.first[index]);
            let mut built = std::mem::take(factor);
            let start = built.values.len();
            built.first.push(first);
            built.origin.push(start.wrapping_sub(first));
            for (column, &other) in free[..row].iter().enumerate().skip(first) {
                let shared = built.first[column].max(first);
                let left = &built.values[start + (shared - first)..start + (column - first)];
                let right = &built.row(column)[shared - built.first[column]..];
                let sum: f64 = left.iter().zip(right).map(|(a, b)| a * b).sum();
                let entry = (gram.at(index, other) - sum) / built.at(column, column);
                built.values.push(entry);
            }
            let diagonal = gram.at(index, index);
            let pivot = diagonal * (1.0 + RIDGE)
                - built.values[start..].iter().map(|entry| entry * entry).sum::<f64>();
            built.values.push(pivot.max(RIDGE * diagonal).max(f64::MIN_POSITIVE).sqrt());
            *factor = built;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unknowns that were almost zero once did not leave, and the others then stayed where they were.
    #[test]
    fn an_unknown_that_is_all_but_zero_leaves() {
        let entries = [[0.0164, 0.0, 0.0], [0.0121, 0.0142, 0.0], [0.0142, 0.0134, 0.0335]];
        let mut gram = Skyline::default();
        for (row, entries) in entries.iter().enumerate() {
            gram.push(0, |column| if column <= row { entries[column] } else { 0.0 });
        }
        let linear = [0.17, 0.20, 0.10];
        for tiny in [f64::MIN_POSITIVE, 5e-324, 3e-323, 1e-300, 1e-20] {
            let mut x = [3.0, 1.0, tiny];
            let mut minimizer = Minimizer::default();
            minimizer.run(&gram, &linear, &mut x);
            minimizer.measure(&gram, &linear, &x);
            for (x, slope) in x.iter().zip(&minimizer.slope) {
                assert!(*slope <= ROUNDING && (*x == 0.0 || slope.abs() <= ROUNDING), "{tiny}: {x} {slope}");
            }
            assert_eq!(x[2], 0.0);
        }
    }
}
