//! Tiles in 256-bit vectors: six positions by one panel (two vectors) fill 12 of 16 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::{CODES, Corner, Job, LANES, OneHot, Work, cover, height, sum_by_halves};

const HEIGHT: usize = 6;

/// Positions of a tile of channels that have no panel, or of one-hot columns.
const SMALL_HEIGHT: usize = 4;

pub(super) fn run(job: &Job, positions: usize, output: &mut [f32]) {
    let (wide, panels) = job.wide();
    for panel in 0..panels {
        // SAFETY: `Instructions::Avx2` exists only where the processor has avx2 and fma, and `Job::check` has seen
        // that all positions and panels exist.
        unsafe {
            match height(positions, &[HEIGHT, 4, 2]) {
                HEIGHT => run_tiles::<HEIGHT>(job, panel, positions, output),
                4 => run_tiles::<4>(job, panel, positions, output),
                2 => run_tiles::<2>(job, panel, positions, output),
                _ => run_tiles::<1>(job, panel, positions, output),
            }
        }
    }
    for channel in wide..job.channels {
        let output = RefCell::new(&mut *output);
        let corner = |position| (position, channel, channel - wide);
        // SAFETY: as above; the channels `wide..job.channels` are those that `rest` has rows for.
        unsafe {
            cover(
                positions,
                SMALL_HEIGHT,
                |position| narrow::<SMALL_HEIGHT>(job, corner(position), *output.borrow_mut()),
                |position| narrow::<1>(job, corner(position), *output.borrow_mut()),
            );
        }
    }
}

/// Computes all positions by one panel, `M` positions at a time.
///
/// # Safety
///
/// The processor has avx2 and fma; the job holds the positions and the panel.
unsafe fn run_tiles<const M: usize>(job: &Job, panel: usize, positions: usize, output: &mut [f32]) {
    let output = RefCell::new(output);
    let corner = |position| Corner { position, panel };
    // SAFETY: by this function's contract, and because `cover` stays within `positions`.
    unsafe {
        cover(
            positions,
            M,
            |position| tile::<M>(job, corner(position), *output.borrow_mut()),
            |position| tile::<1>(job, corner(position), *output.borrow_mut()),
        );
    }
}

pub(super) fn look_up(job: &OneHot, positions: usize, output: &mut [f32]) {
    for panel in 0..job.channels.div_ceil(LANES) {
        let output = RefCell::new(&mut *output);
        let corner = |position| Corner { position, panel };
        // SAFETY: `Instructions::Avx2` exists only where the processor has avx2 and fma, `OneHot::check` has
        // seen that all codes, panels and outputs exist, and `cover` stays within `positions`.
        unsafe {
            cover(
                positions,
                SMALL_HEIGHT,
                |position| one_hot::<SMALL_HEIGHT>(job, corner(position), *output.borrow_mut()),
                |position| one_hot::<1>(job, corner(position), *output.borrow_mut()),
            );
        }
    }
}

/// Runs plain code compiled for 256-bit vectors.
pub(super) fn compiled<W: Work>(work: W) {
    #[target_feature(enable = "avx2")]
    fn inner<W: Work>(work: W) {
        work.run();
    }
    // SAFETY: `Instructions::Avx2` exists only where the processor has avx2.
    unsafe { inner(work) }
}

/// Computes `M` positions by one panel.
///
/// # Safety
///
/// The processor has avx2 and fma; the job holds positions `corner.position..+M` and the panel.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize>(job: &Job, corner: Corner, output: &mut [f32]) {
    let taps = job.taps();
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: by this function's contract every address lies in its slice.
    unsafe {
        let bias = job.bias.as_ptr().add(corner.panel * LANES);
        let mut m = 0;
        while m < M {
            sums[m] = [_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))];
            m += 1;
        }
        let first = job.input.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * taps * LANES);
        for run in job.runs {
            let mut values = first.add(run.offset);
            let end = values.add(run.length);
            while values < end {
                let (low, high) = (_mm256_loadu_ps(weights), _mm256_loadu_ps(weights.add(8)));
                // By index, not by iterator: this unrolls into registers at low optimization levels, too.
                let mut m = 0;
                while m < M {
                    let value = _mm256_set1_ps(*values.add(m * job.step));
                    sums[m][0] = _mm256_fmadd_ps(value, low, sums[m][0]);
                    sums[m][1] = _mm256_fmadd_ps(value, high, sums[m][1]);
                    m += 1;
                }
                values = values.add(1);
                weights = weights.add(LANES);
            }
        }
    }
    // SAFETY: `Job::check` has seen that the output holds all real channels of all positions.
    unsafe { store(sums, corner, job.channels, job.relu, output) };
}

/// Stores the real channels of `M` positions by one panel, after the activation.
///
/// # Safety
///
/// The processor has avx2; the output holds `channels` at positions `corner.position..+M`, and the first of the
/// panel is real.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store<const M: usize>(
    sums: [[__m256; 2]; M],
    corner: Corner,
    channels: usize,
    relu: bool,
    output: &mut [f32],
) {
    // By index again: a reference into `sums` would keep them in memory all along.
    let zero = _mm256_setzero_ps();
    let first = corner.panel * LANES;
    let whole = first + LANES <= channels;
    let mut m = 0;
    while m < M {
        let [mut low, mut high] = sums[m];
        if relu {
            (low, high) = (_mm256_max_ps(zero, low), _mm256_max_ps(zero, high));
        }
        let start = (corner.position + m) * channels + first;
        // SAFETY: by this function's contract the output holds all real channels; a panel that is not whole
        // goes through `values`, which has room for two vectors.
        unsafe {
            if whole {
                let place = output.as_mut_ptr().add(start);
                _mm256_storeu_ps(place, low);
                _mm256_storeu_ps(place.add(8), high);
            } else {
                let mut values = [0.0; LANES];
                _mm256_storeu_ps(values.as_mut_ptr(), low);
                _mm256_storeu_ps(values.as_mut_ptr().add(8), high);
                super::store(&mut output[start..][..channels - first], &values, false);
            }
        }
        m += 1;
    }
}

/// Computes `M` positions of a channel that has no panel: position, channel, its row in [`Job::rest`].
///
/// # Safety
///
/// The processor has avx2 and fma; the job holds the positions and the row.
#[target_feature(enable = "avx2,fma")]
unsafe fn narrow<const M: usize>(
    job: &Job,
    (position, channel, row): (usize, usize, usize),
    output: &mut [f32],
) {
    let taps = job.taps();
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: by this function's contract every address lies in its slice; what is left of a run goes through
    // `partial`, which reads no further than `count`.
    unsafe {
        let first = job.input.as_ptr().add(position * job.step);
        let mut weights = job.rest.as_ptr().add(row * taps);
        for run in job.runs {
            let mut values = first.add(run.offset);
            let mut left = run.length;
            while left > 0 {
                let count = left.min(LANES);
                let load = |from| if count == LANES { whole(from) } else { partial(from, count) };
                let [low, high] = load(weights);
                let mut m = 0;
                while m < M {
                    let value = load(values.add(m * job.step));
                    sums[m][0] = _mm256_fmadd_ps(value[0], low, sums[m][0]);
                    sums[m][1] = _mm256_fmadd_ps(value[1], high, sums[m][1]);
                    m += 1;
                }
                (values, weights) = (values.add(count), weights.add(count));
                left -= count;
            }
        }
    }
    let mut m = 0;
    while m < M {
        let mut values = [0.0; LANES];
        // SAFETY: `values` has room for two vectors.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), sums[m][0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(8), sums[m][1]);
        }
        let sum = sum_by_halves(values) + job.bias[channel];
        output[(position + m) * job.channels + channel] = if job.relu { super::rectified(sum) } else { sum };
        m += 1;
    }
}

/// Loads sixteen values.
///
/// # Safety
///
/// The processor has avx2; there are sixteen values at `from`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn whole(from: *const f32) -> [__m256; 2] {
    // SAFETY: by this function's contract.
    unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
}

/// Loads `count` values, at most sixteen, and zeros.
///
/// # Safety
///
/// The processor has avx2; there are `count` values at `from`.
#[target_feature(enable = "avx2")]
unsafe fn partial(from: *const f32, count: usize) -> [__m256; 2] {
    let mut values = [0.0; LANES];
    // SAFETY: by this function's contract there are `count` values, and `values` has room for sixteen.
    unsafe {
        std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), count);
        whole(values.as_ptr())
    }
}

/// Computes `M` positions of one-hot columns by one panel.
///
/// # Safety
///
/// The processor has avx2; the job holds positions `corner.position..+M` and the panel.
#[target_feature(enable = "avx2")]
unsafe fn one_hot<const M: usize>(job: &OneHot, corner: Corner, output: &mut [f32]) {
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: by this function's contract every address lies in its slice.
    unsafe {
        let bias = whole(job.bias.as_ptr().add(corner.panel * LANES));
        let mut m = 0;
        while m < M {
            sums[m] = bias;
            m += 1;
        }
        let mut codes = job.codes.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * job.taps * CODES * LANES);
        let mut tap = 0;
        while tap < job.taps {
            let mut m = 0;
            while m < M {
                let [low, high] = whole(weights.add(*codes.add(m * job.step) as usize));
                sums[m] = [_mm256_add_ps(sums[m][0], low), _mm256_add_ps(sums[m][1], high)];
                m += 1;
            }
            tap += 1;
            weights = weights.add(CODES * LANES);
            codes = codes.wrapping_add(job.dilation);
        }
        store(sums, corner, job.channels, job.relu, output);
    }
}
