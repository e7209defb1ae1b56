//! Products of matrices that were not packed before: what training needs, where weights change at every step.
//!
//! A number is a chain over the inner axis, in blocks of a fixed length that are added in order: its bits depend
//! neither on the threads nor on the other rows.

use rayon::prelude::*;

use super::Instructions;
use super::product::{self, HEIGHT, Job, Strip, Sums, WIDTH};

/// Steps of the inner axis that are multiplied before the sums go to memory: a strip of them stays in cache.
const BLOCK: usize = 1024;

/// Rows that one thread computes at a time.
const ROWS: usize = 4 * HEIGHT;

/// Products below which waking another thread costs more than it brings.
const WORTH_SHARING: usize = 1 << 19;

/// A matrix in row-major order, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    turned: bool,
}

impl<'a> Matrix<'a> {
    /// Takes values as `[rows, columns]`.
    ///
    /// # Panics
    ///
    /// When there are more or fewer.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self { values, rows, columns, turned: false }
    }

    /// Exchanges rows and columns; no value moves.
    pub fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, turned: !self.turned, ..self }
    }

    /// Copies rows `first..first + count`, columns `from..from + length`, for tiles to read.
    fn copy_rows(&self, [first, count]: [usize; 2], [from, length]: [usize; 2], values: Vec<f32>) -> Rows {
        let mut copy = Rows { values, length, turned: self.turned };
        if self.turned {
            copy.fill_panels(count, |column| &self.values[(from + column) * self.rows + first..][..count]);
        } else {
            copy.fill_rows(count, |row| &self.values[(first + row) * self.columns + from..][..length]);
        }
        copy
    }

    /// Copies the columns of a strip, for some rows, zeros beyond the last.
    fn fill_strip(&self, strip: usize, first: usize, taps: &mut [Strip<f32>]) {
        let from = strip * WIDTH;
        let count = WIDTH.min(self.columns - from);
        if !self.turned {
            for (row, tap) in taps.iter_mut().enumerate() {
                let values = &self.values[(first + row) * self.columns + from..][..count];
                tap.0[..count].copy_from_slice(values);
                tap.0[count..].fill(0.0);
            }
            return;
        }
        for column in 0..WIDTH {
            let values = (column < count).then(|| &self.values[(from + column) * self.rows + first..]);
            for (row, tap) in taps.iter_mut().enumerate() {
                tap.0[column] = values.map_or(0.0, |values| values[row]);
            }
        }
    }
}

/// Rows of a first factor, as tiles read them: row by row, or of a turned matrix in panels of [`HEIGHT`] rows, tap by tap,
/// so that what lies together is copied together.
struct Rows {
    values: Vec<f32>,
    /// Values of a row.
    length: usize,
    turned: bool,
}

impl Rows {
    /// Returns the values from one row to the next where they lie row by row: rows of a power of two would all want the
    /// same few lines of the first cache.
    fn pitch(&self) -> usize {
        if self.length.is_multiple_of(256) { self.length + 16 } else { self.length }
    }

    fn fill_rows<'v>(&mut self, count: usize, row: impl Fn(usize) -> &'v [f32]) {
        let (length, pitch) = (self.length, self.pitch());
        self.values.resize(count * pitch, 0.0);
        for (index, copy) in self.values.chunks_exact_mut(pitch).enumerate() {
            copy[..length].copy_from_slice(row(index));
        }
    }

    /// Rows beyond the last keep what was there; no tile reads them.
    fn fill_panels<'v>(&mut self, count: usize, column: impl Fn(usize) -> &'v [f32]) {
        let panel = self.length * HEIGHT;
        self.values.resize(count.div_ceil(HEIGHT) * panel, 0.0);
        for tap in 0..self.length {
            let (whole, rest) = column(tap).as_chunks::<HEIGHT>();
            for (tile, values) in whole.iter().enumerate() {
                self.values[tile * panel + tap * HEIGHT..][..HEIGHT].copy_from_slice(values);
            }
            if !rest.is_empty() {
                self.values[whole.len() * panel + tap * HEIGHT..][..rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// Returns the job of one tile of rows.
    fn job<'a>(&'a self, tile: usize, strip: &'a [Strip<f32>]) -> Job<'a, f32> {
        match self.turned {
            false => {
                let pitch = self.pitch();
                Job::new(&[0.0; WIDTH], &self.values[tile * HEIGHT * pitch..], pitch, strip)
            }
            true => {
                let panel = &self.values[tile * HEIGHT * self.length..];
                Job::new(&[0.0; WIDTH], panel, 1, strip).in_runs(strip.len(), HEIGHT)
            }
        }
    }
}

/// Computes `output = a·b`, `[a.rows, b.columns]`, on all threads.
///
/// # Panics
///
/// When the shapes do not belong together.
pub fn multiply(a: Matrix, b: Matrix, output: &mut [f32]) {
    assert_eq!(a.columns, b.rows, "the inner axes of a product");
    assert_eq!(output.len(), a.rows * b.columns, "a product of {} by {}", a.rows, b.columns);
    if output.is_empty() {
        return;
    }
    if b.turned && b.columns >= LARGE * a.rows {
        let mut transpose = vec![0.0; output.len()];
        multiply_as_they_are(b.transpose(), a.transpose(), &mut transpose);
        return turn(&transpose, a.rows, output);
    }
    multiply_as_they_are(a, b, output);
}

/// How many times as many columns as rows a product has that is computed as its transpose, where that spares bringing
/// a turned second factor into strips, value by value. Each number is the same chain.
const LARGE: usize = 4;

/// Transposes `[rows, columns]`.
fn turn(values: &[f32], columns: usize, turned: &mut [f32]) {
    let rows = values.len() / columns;
    for (column, turned) in turned.chunks_exact_mut(rows).enumerate() {
        for (turned, row) in turned.iter_mut().zip(values.chunks_exact(columns)) {
            *turned = row[column];
        }
    }
}

fn multiply_as_they_are(a: Matrix, b: Matrix, output: &mut [f32]) {
    let packed = pack(b);
    let least = WORTH_SHARING / (ROWS * a.columns * b.columns + 1) + 1;
    output
        .par_chunks_mut(ROWS * b.columns)
        .with_min_len(least)
        .enumerate()
        .for_each_init(Vec::new, |scratch, (chunk, output)| {
            rows(a, b.columns, &packed, chunk * ROWS, output, scratch)
        });
}

/// Computes `count` products of the matrices that lie one behind the other in `a`, `b` and `output`; `of` makes
/// matrices of the values of one.
///
/// # Panics
///
/// As [`multiply`].
pub fn multiply_each<'v>(
    count: usize,
    [a, b]: [&'v [f32]; 2],
    of: impl Fn(&'v [f32], &'v [f32]) -> (Matrix<'v>, Matrix<'v>) + Sync,
    output: &mut [f32],
) {
    if output.is_empty() || count == 0 {
        return;
    }
    let (a_size, b_size, size) = (a.len() / count, b.len() / count, output.len() / count);
    output.par_chunks_mut(size).enumerate().for_each(|(index, output)| {
        let (a, b) = of(&a[index * a_size..][..a_size], &b[index * b_size..][..b_size]);
        multiply_here(a, b, output);
    });
}

/// Computes `output = a·b` on the calling thread.
///
/// # Panics
///
/// As [`multiply`].
pub fn multiply_here(a: Matrix, b: Matrix, output: &mut [f32]) {
    assert_eq!((a.columns, output.len()), (b.rows, a.rows * b.columns), "the shapes of a product");
    if output.is_empty() {
        return;
    }
    let strips = b.columns.div_ceil(WIDTH);
    let mut taps = vec![Strip([0.0; WIDTH]); strips * b.rows];
    for (block, taps) in taps.chunks_mut(BLOCK * strips).enumerate() {
        let length = taps.len() / strips;
        for (strip, taps) in taps.chunks_mut(length).enumerate() {
            b.fill_strip(strip, block * BLOCK, taps);
        }
    }
    let (packed, mut scratch) = (Packed(taps), Vec::new());
    for (chunk, output) in output.chunks_mut(ROWS * b.columns).enumerate() {
        rows(a, b.columns, &packed, chunk * ROWS, output, &mut scratch);
    }
}

/// The strips of a matrix, block after block of its rows.
pub(super) struct Packed(Vec<Strip<f32>>);

/// Brings a second factor into the order in which it is read.
pub(super) fn pack(b: Matrix) -> Packed {
    let strips = b.columns.div_ceil(WIDTH);
    let mut taps = vec![Strip([0.0; WIDTH]); strips * b.rows];
    for (block, taps) in taps.chunks_mut((BLOCK * strips).max(1)).enumerate() {
        let length = taps.len() / strips;
        let least = (1 << 16) / (length * WIDTH) + 1;
        taps.par_chunks_mut(length).with_min_len(least).enumerate().for_each(|(strip, taps)| {
            b.fill_strip(strip, block * BLOCK, taps);
        });
    }
    Packed(taps)
}

/// Computes the rows of the product from `first` on, `[rows, columns]`.
pub(super) fn rows(
    a: Matrix,
    columns: usize,
    packed: &Packed,
    first: usize,
    output: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    let instructions = Instructions::detect();
    let strips = columns.div_ceil(WIDTH);
    let count = output.len() / columns;
    let mut sums = Sums([[0.0; WIDTH]; HEIGHT]);
    if packed.0.is_empty() {
        output.fill(0.0);
    }
    for (block, taps) in packed.0.chunks((BLOCK * strips).max(1)).enumerate() {
        let length = taps.len() / strips;
        let copied = a.copy_rows([first, count], [block * BLOCK, length], std::mem::take(scratch));
        for (strip, taps) in taps.chunks_exact(length).enumerate() {
            for (tile, output) in output.chunks_mut(HEIGHT * columns).enumerate() {
                product::multiply(instructions, copied.job(tile, taps), output.len() / columns, &mut sums);
                match block {
                    0 => store_tile(&sums, strip, columns, output),
                    _ => add_tile(&sums, strip, columns, output),
                }
            }
        }
        *scratch = copied.values;
    }
}

/// Stores the sums of a tile as rows of the product.
fn store_tile(sums: &Sums<f32>, strip: usize, columns: usize, output: &mut [f32]) {
    let from = strip * WIDTH;
    for (row, sums) in output.chunks_exact_mut(columns).zip(&sums.0) {
        match row[from..].first_chunk_mut::<WIDTH>() {
            Some(row) => *row = *sums,
            None => row[from..].copy_from_slice(&sums[..columns - from]),
        }
    }
}

/// Adds the sums of a tile to rows of the product.
fn add_tile(sums: &Sums<f32>, strip: usize, columns: usize, output: &mut [f32]) {
    let from = strip * WIDTH;
    let count = WIDTH.min(columns - from);
    for (row, sums) in output.chunks_exact_mut(columns).zip(&sums.0) {
        row[from..from + count].iter_mut().zip(sums).for_each(|(value, sum)| *value += sum);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::noise;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_product_is_its_definition_however_its_factors_lie(
            (m, k, n) in (1usize..60, 1usize..70, 1usize..80), turned: [bool; 2], seed: u64,
        ) {
            let (a, b) = (noise(m * k, seed), noise(k * n, seed ^ 1));
            let view = |values, rows, columns, turned| match turned {
                false => Matrix::new(values, [rows, columns]),
                true => Matrix::new(values, [columns, rows]).transpose(),
            };
            let at = |values: &[f32], row: usize, column: usize, [rows, columns]: [usize; 2], turned: bool| {
                f64::from(values[if turned { column * rows + row } else { row * columns + column }])
            };
            let mut output = vec![f32::NAN; m * n];
            multiply(view(&a, m, k, turned[0]), view(&b, k, n, turned[1]), &mut output);
            for (place, value) in output.iter().enumerate() {
                let term = |i| at(&a, place / n, i, [m, k], turned[0]) * at(&b, i, place % n, [k, n], turned[1]);
                let expected: f64 = (0..k).map(term).sum();
                prop_assert!((f64::from(*value) - expected).abs() < 1e-4, "{} is not {}", value, expected);
            }
        }
    }

    #[test]
    fn long_inner_axes_are_whole_and_threads_change_no_bit() {
        let (m, k, n) = (70, 2 * BLOCK + 37, 45);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let run = |threads| {
            let mut output = vec![0.0; m * n];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| multiply(Matrix::new(&a, [m, k]), Matrix::new(&b, [k, n]), &mut output));
            output
        };
        let alone = run(1);
        assert_eq!(alone, run(3));
        let expected: f64 = (0..k).map(|i| f64::from(a[5 * k + i]) * f64::from(b[i * n + 7])).sum();
        assert!((f64::from(alone[5 * n + 7]) - expected).abs() < 1e-4);
    }

    #[test]
    fn products_in_a_row_are_those_of_each() {
        let (a, b) = (noise(3 * 5 * 7, 1), noise(3 * 9 * 7, 2));
        let of = |a, b| (Matrix::new(a, [5, 7]), Matrix::new(b, [9, 7]).transpose());
        let mut together = vec![0.0; 3 * 5 * 9];
        multiply_each(3, [&a, &b], of, &mut together);
        for index in 0..3 {
            let (a, b) = of(&a[index * 35..][..35], &b[index * 63..][..63]);
            let mut alone = vec![0.0; 45];
            multiply(a, b, &mut alone);
            assert_eq!(alone, together[index * 45..][..45]);
        }
    }
}
