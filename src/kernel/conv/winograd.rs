//! Convolution of deep layers with half the multiplications: Winograd's minimal filtering.
//!
//! Four neighbouring outputs of a filter of r taps are a product of polynomials, which r + 3 values at as many
//! points determine. So input and filters are evaluated at the points, multiplied, and the outputs interpolated:
//! r + 3 multiplications for 4·r. At each point the work that is left is a convolution itself, of every fourth
//! position, and goes through the same tiles. Filters of three taps use r = 3; longer ones are cut into groups of
//! r = 4, whose inputs overlap by a whole step, so that all groups share one evaluation.
//!
//! The points 0, ±1, ±2, ½ and ∞ keep all coefficients small: the error is about twice that of the direct sum in
//! f32, and the sums are shorter. A number that is not finite spreads to the four outputs of its step.

use std::ops::{Add, Mul, Range, Sub};

use super::filters::Packed;
use super::pairs::{Finish, PairWeights, Pitch};
use super::row::Row;
use crate::kernel::linear::resize;
use crate::kernel::product::{self, Pair};
use crate::kernel::tile::{LANES, Run, Work};
use crate::kernel::{Instructions, Precision};

/// Outputs that are computed together.
const STEP: usize = 4;

/// The most points of any scheme.
const MOST: usize = 7;

/// Floats of evaluated inputs and products that a block may have: they stay in the second-level cache.
const BLOCK: usize = 64 << 10;

/// Tiles of a block come in this number, which every tile height divides.
const BLOCK_UNIT: usize = 12;

/// One vector of channels.
#[derive(Clone, Copy)]
struct Vector([f32; LANES]);

impl Vector {
    /// Loads what there is; zeros follow it.
    #[inline(always)]
    fn load(values: &[f32], at: usize) -> Self {
        match values[at..].first_chunk::<LANES>() {
            Some(values) => Self(*values),
            None => Self(last(&values[at..])),
        }
    }

    /// Stores as many lanes as there is room for.
    #[inline(always)]
    fn store(self, values: &mut [f32], at: usize) {
        match values[at..].first_chunk_mut::<LANES>() {
            Some(values) => *values = self.0,
            None => {
                let room = values.len() - at;
                values[at..].copy_from_slice(&self.0[..room]);
            }
        }
    }
}

/// Returns less than a vector, with zeros behind.
#[cold]
fn last(values: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

macro_rules! lane_by_lane {
    ($operation:ident, $name:ident, $operator:tt) => {
        impl $operation for Vector {
            type Output = Self;
            #[inline(always)]
            fn $name(mut self, other: Self) -> Self {
                let mut lane = 0;
                while lane < LANES {
                    self.0[lane] $operator other.0[lane];
                    lane += 1;
                }
                self
            }
        }
    };
}
lane_by_lane!(Add, add, +=);
lane_by_lane!(Sub, sub, -=);

impl Mul<Vector> for f32 {
    type Output = Vector;
    #[inline(always)]
    fn mul(self, mut other: Vector) -> Vector {
        let mut lane = 0;
        while lane < LANES {
            other.0[lane] *= self;
            lane += 1;
        }
        other
    }
}

/// The points of an evaluation.
trait Scheme {
    /// Number of points.
    const POINTS: usize;
    /// Taps of a group.
    const TAPS: usize;
    /// From the taps of a group to the points.
    const FILTER: &[[f64; STEP]];

    /// Evaluates the inputs of one step at the points.
    fn evaluate(inputs: [Vector; MOST]) -> [Vector; MOST];

    /// Interpolates the outputs of one step.
    fn interpolate(products: [Vector; MOST]) -> [Vector; STEP];
}

/// Filters of three taps: the points 0, 1, -1, 2, -2, ∞.
struct Three;

/// Groups of four taps: the points 0, 1, -1, 2, -2, ½, ∞.
struct Four;

/// Evaluates five inputs at 0, 1, -1, 2, -2.
#[inline(always)]
fn evaluate_five([a, b, c, d, e]: [Vector; 5]) -> [Vector; 5] {
    let (even, odd) = (e - 4.0 * c, d - 4.0 * b);
    let (small, twice) = (e - c, 2.0 * (d - b));
    [4.0 * a - 5.0 * c + e, even + odd, even - odd, small + twice, small - twice]
}

impl Scheme for Three {
    const POINTS: usize = 6;
    const TAPS: usize = 3;
    const FILTER: &[[f64; STEP]] = &[
        [1.0 / 4.0, 0.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, 0.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0, 0.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0, 0.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
    ];

    #[inline(always)]
    fn evaluate([a, b, c, d, e, f, unused]: [Vector; MOST]) -> [Vector; MOST] {
        let [zero, one, minus_one, two, minus_two] = evaluate_five([a, b, c, d, e]);
        [zero, one, minus_one, two, minus_two, 4.0 * b - 5.0 * d + f, unused]
    }

    #[inline(always)]
    fn interpolate([zero, one, minus_one, two, minus_two, infinity, _]: [Vector; MOST]) -> [Vector; STEP] {
        let (sum, difference) = (one + minus_one, one - minus_one);
        let (sum_2, difference_2) = (two + minus_two, two - minus_two);
        [
            zero + sum + sum_2,
            difference + 2.0 * difference_2,
            sum + 4.0 * sum_2,
            difference + 8.0 * difference_2 + infinity,
        ]
    }
}

impl Scheme for Four {
    const POINTS: usize = 7;
    const TAPS: usize = 4;
    const FILTER: &[[f64; STEP]] = &[
        [-1.0 / 4.0, 0.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 18.0, -1.0 / 18.0, 1.0 / 18.0, -1.0 / 18.0],
        [1.0 / 72.0, 1.0 / 36.0, 1.0 / 18.0, 1.0 / 9.0],
        [-1.0 / 120.0, 1.0 / 60.0, -1.0 / 30.0, 1.0 / 15.0],
        [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0, 4.0 / 45.0],
        [0.0, 0.0, 0.0, 1.0 / 2.0],
    ];

    #[inline(always)]
    fn evaluate([a, b, c, d, e, f, g]: [Vector; MOST]) -> [Vector; MOST] {
        // The root ½ first, 2·x - 1: what remains are the other points.
        let [p, q, r] = [2.0 * b - a, 2.0 * c - b, 2.0 * d - c];
        let [s, t, u] = [2.0 * e - d, 2.0 * f - e, 2.0 * g - f];
        let [zero, one, minus_one, two, minus_two] = evaluate_five([p, q, r, s, t]);
        [zero, one, minus_one, two, minus_two, 4.0 * b - 5.0 * d + f, 4.0 * q - 5.0 * s + u]
    }

    #[inline(always)]
    fn interpolate([zero, one, minus_one, two, minus_two, half, infinity]: [Vector; MOST]) -> [Vector; STEP] {
        let (sum, difference) = (one + minus_one, one - minus_one);
        let (sum_2, difference_2) = (two + minus_two, two - minus_two);
        [
            zero + sum + sum_2 + half,
            difference + 2.0 * difference_2 + 0.5 * half,
            sum + 4.0 * sum_2 + 0.25 * half,
            difference + 8.0 * difference_2 + 0.125 * half + infinity,
        ]
    }
}

/// The filters of a one-dimensional convolution at the points.
pub(super) struct Winograd {
    inputs: usize,
    outputs: usize,
    groups: usize,
    points: Points,
    /// At least a vector.
    bias: Vec<f32>,
}

/// One filter for each point, taps `[groups, inputs]`.
enum Points {
    Exact(Vec<Packed>),
    /// Inputs and filters are rounded after the evaluation, which makes the error of a product some four times that
    /// of the direct sum in bfloat16. Without dilation, or for a single group.
    Rounded(Vec<PairWeights>),
}

impl Points {
    fn count(&self) -> usize {
        match self {
            Self::Exact(points) => points.len(),
            Self::Rounded(points) => points.len(),
        }
    }
}

/// Fewest channels.
const LEAST: usize = LANES / 2;

/// Says whether [`Winograd`] applies. Less than a vector of channels is loaded and stored as a whole one, whose last
/// lanes the next position writes anew: that needs positions in order, so no dilation.
pub(super) fn applies(inputs: usize, outputs: usize, width: usize, dilation: usize) -> bool {
    let least = inputs.min(outputs);
    width >= 3 && least >= if dilation == 1 { LEAST } else { LANES }
}

/// Returns what follows the values of a point, for vectors that reach beyond the last channel.
fn margin(channels: usize) -> usize {
    if channels < LANES { LANES } else { 0 }
}

/// Returns the points and the groups of a filter of this width.
pub(super) fn points_and_groups(width: usize) -> [usize; 2] {
    match width {
        3 => [Three::POINTS, 1],
        _ => [Four::POINTS, width.div_ceil(Four::TAPS)],
    }
}

impl Row<'_> {
    /// Returns how many steps cover the output. Step `j` has the outputs [`Row::first`] `+ (0..4) · dilation`.
    pub fn steps(&self) -> usize {
        let span = STEP * self.dilation;
        self.count / span * self.dilation + (self.count % span).min(self.dilation)
    }

    /// Returns the first output of a step.
    fn first(&self, step: usize) -> usize {
        step / self.dilation * STEP * self.dilation + step % self.dilation
    }
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    evaluated: Vec<f32>,
    products: Vec<f32>,
    rounded: Vec<Pair>,
}

impl Winograd {
    /// Evaluates weights `[outputs, width, inputs]` at the points. All products but those of 32-bit floats are of
    /// bfloat16.
    pub fn new(
        plain: &[f32],
        [outputs, width, inputs]: [usize; 3],
        bias: &[f32],
        precision: Precision,
    ) -> Self {
        let (filter, taps) = if width == 3 { (Three::FILTER, 3) } else { (Four::FILTER, Four::TAPS) };
        let groups = width.div_ceil(taps);
        let nothing = vec![0.0; outputs];
        let evaluate = |row: &[f64; STEP]| {
            let mut weights = vec![0.0; outputs * groups * inputs];
            for (index, weight) in weights.iter_mut().enumerate() {
                let (output, group, input) =
                    (index / (groups * inputs), index / inputs % groups, index % inputs);
                let within = (0..taps).filter(|tap| group * taps + tap < width);
                let terms = within.map(|tap| {
                    let place = (output * width + group * taps + tap) * inputs + input;
                    row[tap] * f64::from(plain[place])
                });
                *weight = terms.sum::<f64>() as f32;
            }
            weights
        };
        let evaluated = filter.iter().map(evaluate);
        let points = match precision {
            Precision::F32 => Points::Exact(
                evaluated.map(|weights| Packed::new(&weights, groups * inputs, &nothing, true)).collect(),
            ),
            Precision::Bf16 | Precision::Int8 => Points::Rounded(
                evaluated.map(|weights| PairWeights::new(&weights, inputs, &nothing)).collect(),
            ),
        };
        let mut bias = bias.to_vec();
        bias.resize(outputs.max(LANES), 0.0);
        Self { inputs, outputs, groups, points, bias }
    }

    /// Returns whether products are of bfloat16.
    pub fn is_rounded(&self) -> bool {
        matches!(self.points, Points::Rounded(_))
    }

    /// Returns how many steps go together through the caches.
    pub fn block(&self, dilation: usize) -> usize {
        // Few channels are transformed more than they are multiplied, and that goes through the first cache.
        let block = if self.inputs.min(self.outputs) < LANES { BLOCK / 4 } else { BLOCK };
        let fit = block / (self.points.count() * (self.inputs + self.outputs));
        let overlap = (self.groups - 1) * dilation;
        (fit / BLOCK_UNIT * BLOCK_UNIT).max(2 * BLOCK_UNIT).max(4 * overlap).next_multiple_of(BLOCK_UNIT)
    }

    /// Returns how many neighbouring inputs are mixed into the outputs of one step without dilation.
    pub fn span(&self) -> usize {
        (self.groups - 1) * STEP + self.points.count()
    }

    /// Returns the outputs of `steps` steps without dilation.
    pub fn positions(steps: usize) -> usize {
        steps * STEP
    }

    /// Computes some steps of a row. `output` begins with the position `origin`.
    pub fn run(
        &self,
        instructions: Instructions,
        row: &Row,
        steps: Range<usize>,
        (output, origin): (&mut [f32], usize),
        scratch: &mut Scratch,
    ) {
        let mut start = steps.start;
        while start < steps.end {
            let end = (start + self.block(row.dilation)).min(steps.end);
            if self.points.count() == Three::POINTS {
                self.run_block::<Three>(instructions, row, start..end, (output, origin), scratch);
            } else {
                self.run_block::<Four>(instructions, row, start..end, (output, origin), scratch);
            }
            start = end;
        }
    }

    fn run_block<S: Scheme>(
        &self,
        instructions: Instructions,
        row: &Row,
        steps: Range<usize>,
        (output, origin): (&mut [f32], usize),
        scratch: &mut Scratch,
    ) {
        let (inputs, dilation) = (self.inputs, row.dilation);
        let count = steps.len();
        let with_overlap = count + (self.groups - 1) * dilation;
        let Scratch { evaluated, products, rounded } = scratch;
        let (used, made) = (with_overlap * inputs, count * self.outputs);
        let (plane, product) = (used + margin(inputs), made + margin(self.outputs));
        evaluated.resize(evaluated.len().max(S::POINTS * plane), 0.0);
        products.resize(products.len().max(S::POINTS * product), 0.0);
        let wanted = steps.start..steps.start + with_overlap;
        instructions.compiled(Evaluate::<S> {
            row,
            steps: wanted,
            channels: inputs,
            zeros: &vec![0.0; inputs.max(LANES)],
            output: &mut evaluated[..S::POINTS * plane],
            scheme: std::marker::PhantomData,
        });
        let planes = evaluated.chunks_exact(plane).zip(products.chunks_exact_mut(product));
        let planes = planes.map(|(evaluated, products)| (&evaluated[..used], &mut products[..made]));
        match &self.points {
            Points::Exact(points) => {
                let runs = self.runs(dilation);
                for (filters, (evaluated, products)) in points.iter().zip(planes) {
                    instructions.run(&filters.job(evaluated, inputs, &runs, false), count, products);
                }
            }
            Points::Rounded(points) => {
                debug_assert!(dilation == 1 || self.groups == 1);
                for (filters, (evaluated, products)) in points.iter().zip(planes) {
                    self.multiply_rounded(instructions, filters, evaluated, rounded, products);
                }
            }
        }
        instructions.compiled(Interpolate::<S> {
            row,
            steps,
            bias: &self.bias,
            products: &products[..S::POINTS * product],
            channels: self.outputs,
            output,
            origin,
            scheme: std::marker::PhantomData,
        });
    }
}

impl Winograd {
    /// Returns where the taps of a step lie.
    fn runs(&self, dilation: usize) -> Vec<Run> {
        let inputs = self.inputs;
        if dilation == 1 {
            return vec![Run { offset: 0, length: self.groups * inputs }];
        }
        (0..self.groups).map(|group| Run { offset: group * dilation * inputs, length: inputs }).collect()
    }

    /// Rounds what was evaluated at a point, and multiplies it by the filters.
    fn multiply_rounded(
        &self,
        instructions: Instructions,
        filters: &PairWeights,
        evaluated: &[f32],
        rounded: &mut Vec<Pair>,
        products: &mut [f32],
    ) {
        let pairs = self.inputs.div_ceil(2);
        let steps = evaluated.len() / self.inputs;
        resize(rounded, steps * pairs);
        if self.inputs.is_multiple_of(2) {
            product::round_pairs(instructions, evaluated, &mut rounded[..steps * pairs]);
        } else {
            let steps = evaluated.chunks_exact(self.inputs).zip(rounded.chunks_exact_mut(pairs));
            steps.for_each(|(values, pairs)| product::round_pairs(instructions, values, pairs));
        }
        let finish = Finish { relu: false, residual: None };
        filters.apply(instructions, &rounded[..steps * pairs], Pitch::whole(pairs), finish, products);
    }
}

/// Returns the first channel of the next vector; the last vector moves back to stay inside. No closure
/// runs over them: it would be compiled for no instructions in particular.
#[inline(always)]
fn next_vector(channel: usize, channels: usize) -> usize {
    if channel + LANES >= channels { channels } else { (channel + LANES).min(channels - LANES) }
}

/// The evaluation of steps: `output` is `[points, steps, channels]`.
struct Evaluate<'a, S> {
    row: &'a Row<'a>,
    steps: Range<usize>,
    channels: usize,
    zeros: &'a [f32],
    output: &'a mut [f32],
    scheme: std::marker::PhantomData<S>,
}

impl<S: Scheme> Work for Evaluate<'_, S> {
    #[inline(always)]
    fn run(self) {
        let Self { row, steps, channels, zeros, output, .. } = self;
        let plane = steps.len() * channels + margin(channels);
        for (index, step) in steps.enumerate() {
            let first = row.first(step) as isize - row.left as isize;
            let mut rows = [zeros; MOST];
            let mut i = 0;
            while i < S::POINTS {
                let position = first + (i * row.dilation) as isize;
                if position >= 0 && (position as usize) < row.length {
                    rows[i] = &row.input[position as usize * channels..];
                }
                i += 1;
            }
            let mut channel = 0;
            while channel < channels {
                let mut inputs = [Vector([0.0; LANES]); MOST];
                let mut i = 0;
                while i < S::POINTS {
                    inputs[i] = Vector::load(rows[i], channel);
                    i += 1;
                }
                let values = S::evaluate(inputs);
                let mut point = 0;
                while point < S::POINTS {
                    values[point].store(output, point * plane + index * channels + channel);
                    point += 1;
                }
                channel = next_vector(channel, channels);
            }
        }
    }
}

/// The interpolation of steps from products `[points, steps, channels]`, and what follows it.
struct Interpolate<'a, S> {
    row: &'a Row<'a>,
    steps: Range<usize>,
    bias: &'a [f32],
    products: &'a [f32],
    channels: usize,
    output: &'a mut [f32],
    origin: usize,
    scheme: std::marker::PhantomData<S>,
}

impl<S: Scheme> Work for Interpolate<'_, S> {
    #[inline(always)]
    fn run(self) {
        let Self { row, steps, bias, products, channels, output, origin, .. } = self;
        let plane = steps.len() * channels + margin(channels);
        for (index, step) in steps.enumerate() {
            let first = row.first(step);
            let mut channel = 0;
            while channel < channels {
                let mut values = [Vector([0.0; LANES]); MOST];
                let mut point = 0;
                while point < S::POINTS {
                    values[point] = Vector::load(products, point * plane + index * channels + channel);
                    point += 1;
                }
                let values = S::interpolate(values);
                let shift = Vector::load(bias, channel);
                let mut i = 0;
                while i < STEP {
                    let position = first + i * row.dilation;
                    if position < row.count {
                        let mut value = values[i] + shift;
                        if row.relu {
                            let mut lane = 0;
                            while lane < LANES {
                                value.0[lane] = if value.0[lane] < 0.0 { 0.0 } else { value.0[lane] };
                                lane += 1;
                            }
                        }
                        if let Some(residual) = row.residual {
                            value = value + Vector::load(residual, position * channels + channel);
                        }
                        value.store(output, (position - origin) * channels + channel);
                    }
                    i += 1;
                }
                channel = next_vector(channel, channels);
            }
        }
    }
}
