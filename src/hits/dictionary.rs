//! The trimmed filters of all motifs, packed so that sixteen are correlated at once.

use crate::motif::filters::Filter;

/// Filters in a group: as many as fit into one vector register.
pub const LANES: usize = 16;
/// Rows of weights per position: four bases, and zeros for a position without one.
pub const ROWS: usize = 5;

/// Filters grouped by trimmed width. A filter is laid at the first position *q* of its trimmed span; it may
/// lie where its untrimmed window is inside the region: start ≤ q ≤ L − W + start.
#[derive(Clone, Debug)]
pub struct Dictionary {
    groups: Vec<Group>,
    atoms: Vec<Atom>,
    columns: Vec<Vec<[f32; 4]>>,
    reach: usize,
}

/// Up to [`LANES`] filters of similar trimmed width.
#[derive(Clone, Debug)]
pub struct Group {
    /// Largest trimmed width in the group.
    pub width: usize,
    /// Smallest trimmed width in the group.
    pub shortest: usize,
    /// Indices into [`Dictionary::atoms`], one per lane; short in the last group.
    pub atoms: Vec<usize>,
    /// Penalties by lane, infinite where there is no filter.
    pub lambda: [f32; LANES],
    /// Weights, width × ROWS × LANES, lanes fastest.
    pub weights: Vec<f32>,
}

/// What is known of one filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Atom {
    /// First position of the trimmed span.
    pub start: usize,
    /// Trimmed width.
    pub span: usize,
    /// Untrimmed width W.
    pub width: usize,
    /// Penalty.
    pub lambda: f32,
    /// Norm of the trimmed filter.
    pub norm: f32,
}

impl Atom {
    /// Returns the half-open range of positions q in a region of `length`.
    pub fn positions(&self, length: usize) -> std::ops::Range<usize> {
        match length.checked_sub(self.width) {
            Some(last) => self.start..self.start + last + 1,
            None => 0..0,
        }
    }
}

impl Dictionary {
    /// Packs `filters`. With `square_root`, weights become their signed square roots and each trimmed
    /// filter gets norm 1.
    pub fn new(filters: &[Filter], square_root: bool) -> Self {
        let trimmed: Vec<Vec<[f32; 4]>> = filters.iter().map(|filter| trim(filter, square_root)).collect();
        let atoms: Vec<Atom> =
            filters.iter().zip(&trimmed).map(|(filter, columns)| atom(filter, columns)).collect();
        let mut order: Vec<usize> = (0..atoms.len()).collect();
        order.sort_by_key(|&index| atoms[index].span);
        let groups = order.chunks(LANES).map(|lanes| Group::new(lanes, &atoms, &trimmed)).collect();
        let reach = atoms.iter().map(|atom| atom.span).max().unwrap_or(0);
        Self { groups, atoms, columns: trimmed, reach }
    }

    /// Returns the groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns what is known of each filter, in the order of the filters.
    pub fn atoms(&self) -> &[Atom] {
        &self.atoms
    }

    /// Returns the weights of a filter's trimmed span, bases A C G T, as they are laid over a region.
    pub fn columns(&self, filter: usize) -> &[[f32; 4]] {
        &self.columns[filter]
    }

    /// Returns the largest trimmed width.
    pub fn reach(&self) -> usize {
        self.reach
    }
}

impl Group {
    fn new(lanes: &[usize], atoms: &[Atom], trimmed: &[Vec<[f32; 4]>]) -> Self {
        let spans = lanes.iter().map(|&index| atoms[index].span);
        let width = spans.clone().max().unwrap_or(0);
        let shortest = spans.min().unwrap_or(0);
        let mut weights = vec![0.0; width * ROWS * LANES];
        let mut lambda = [f32::INFINITY; LANES];
        for (lane, &index) in lanes.iter().enumerate() {
            lambda[lane] = atoms[index].lambda;
            for (position, column) in trimmed[index].iter().enumerate() {
                for (base, &weight) in column.iter().enumerate() {
                    weights[(position * ROWS + base) * LANES + lane] = weight;
                }
            }
        }
        Self { width, shortest, atoms: lanes.to_vec(), lambda, weights }
    }
}

fn trim(filter: &Filter, square_root: bool) -> Vec<[f32; 4]> {
    let mut columns: Vec<[f32; 4]> = (filter.start..filter.end)
        .map(|position| std::array::from_fn(|base| filter.cwm[base * filter.width + position]))
        .collect();
    if square_root {
        let root = |value: f32| value.abs().sqrt().copysign(value);
        columns.iter_mut().flatten().for_each(|value| *value = root(*value));
        let norm = norm(&columns);
        columns.iter_mut().flatten().for_each(|value| *value /= norm);
    }
    columns
}

fn norm(columns: &[[f32; 4]]) -> f32 {
    columns.iter().flatten().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32
}

fn atom(filter: &Filter, columns: &[[f32; 4]]) -> Atom {
    Atom {
        start: filter.start,
        span: filter.end - filter.start,
        width: filter.width,
        lambda: filter.lambda,
        norm: norm(columns),
    }
}
