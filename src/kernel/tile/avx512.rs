//! Tiles in 512-bit vectors: twelve positions by two panels fill 24 of 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::{CODES, Corner, Job, LANES, OneHot, Work, cover, height};

const HEIGHT: usize = 12;

/// Positions of a tile of channels that have no panel.
const NARROW_HEIGHT: usize = 8;

/// Positions of a tile of one-hot columns.
const ONE_HOT_HEIGHT: usize = 8;

pub(super) fn run(job: &Job, positions: usize, output: &mut [f32]) {
    let (wide, panels) = job.wide();
    for panel in (0..panels).step_by(2) {
        // SAFETY: `Instructions::Avx512` exists only where the processor has avx512f, and `Job::check` has seen
        // that all positions and panels exist.
        unsafe {
            if panel + 1 < panels {
                run_panels::<2>(job, panel, positions, output);
            } else {
                run_panels::<1>(job, panel, positions, output);
            }
        }
    }
    for channel in (wide..job.channels).step_by(2) {
        let output = RefCell::new(&mut *output);
        let corner = |position| Narrow { position, channel, row: channel - wide };
        // SAFETY: as above; the channels `wide..job.channels` are those that `rest` has rows for.
        unsafe {
            if channel + 1 < job.channels {
                cover(
                    positions,
                    NARROW_HEIGHT,
                    |position| narrow::<NARROW_HEIGHT, 2>(job, corner(position), *output.borrow_mut()),
                    |position| narrow::<1, 2>(job, corner(position), *output.borrow_mut()),
                );
            } else {
                cover(
                    positions,
                    NARROW_HEIGHT,
                    |position| narrow::<NARROW_HEIGHT, 1>(job, corner(position), *output.borrow_mut()),
                    |position| narrow::<1, 1>(job, corner(position), *output.borrow_mut()),
                );
            }
        }
    }
}

/// Computes all positions by `P` panels, in tiles as tall as suits their number.
///
/// # Safety
///
/// The processor has avx512f; the job holds the positions and panels `panel..+P`.
unsafe fn run_panels<const P: usize>(job: &Job, panel: usize, positions: usize, output: &mut [f32]) {
    // SAFETY: by this function's contract.
    unsafe {
        match height(positions, &[HEIGHT, 8, 6, 4]) {
            HEIGHT => run_tiles::<HEIGHT, P>(job, panel, positions, output),
            8 => run_tiles::<8, P>(job, panel, positions, output),
            6 => run_tiles::<6, P>(job, panel, positions, output),
            4 => run_tiles::<4, P>(job, panel, positions, output),
            _ => run_tiles::<1, P>(job, panel, positions, output),
        }
    }
}

/// Computes all positions by `P` panels, `M` positions at a time.
///
/// # Safety
///
/// As [`run_panels`].
unsafe fn run_tiles<const M: usize, const P: usize>(
    job: &Job,
    panel: usize,
    positions: usize,
    output: &mut [f32],
) {
    let output = RefCell::new(output);
    let corner = |position| Corner { position, panel };
    // SAFETY: by this function's contract, and because `cover` stays within `positions`.
    unsafe {
        cover(
            positions,
            M,
            |position| tile::<M, P>(job, corner(position), *output.borrow_mut()),
            |position| tile::<1, P>(job, corner(position), *output.borrow_mut()),
        );
    }
}

pub(super) fn look_up(job: &OneHot, positions: usize, output: &mut [f32]) {
    let panels = job.channels.div_ceil(LANES);
    for panel in (0..panels).step_by(2) {
        let output = RefCell::new(&mut *output);
        let corner = |position| Corner { position, panel };
        // SAFETY: `Instructions::Avx512` exists only where the processor has avx512f, `OneHot::check` has
        // seen that all codes, panels and outputs exist, and `cover` stays within `positions`.
        unsafe {
            if panel + 1 < panels {
                cover(
                    positions,
                    ONE_HOT_HEIGHT,
                    |position| one_hot::<ONE_HOT_HEIGHT, 2>(job, corner(position), *output.borrow_mut()),
                    |position| one_hot::<1, 2>(job, corner(position), *output.borrow_mut()),
                );
            } else {
                cover(
                    positions,
                    ONE_HOT_HEIGHT,
                    |position| one_hot::<ONE_HOT_HEIGHT, 1>(job, corner(position), *output.borrow_mut()),
                    |position| one_hot::<1, 1>(job, corner(position), *output.borrow_mut()),
                );
            }
        }
    }
}

/// Runs plain code compiled for 512-bit vectors.
pub(super) fn compiled<W: Work>(work: W) {
    #[target_feature(enable = "avx512f")]
    fn inner<W: Work>(work: W) {
        work.run();
    }
    // SAFETY: `Instructions::Avx512` exists only where the processor has avx512f.
    unsafe { inner(work) }
}

/// Computes `M` positions by `P` panels.
///
/// # Safety
///
/// The processor has avx512f; the job holds positions `corner.position..+M` and panels `corner.panel..+P`.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize, const P: usize>(job: &Job, corner: Corner, output: &mut [f32]) {
    let taps = job.taps();
    let mut sums = [[_mm512_setzero_ps(); P]; M];
    // Loops by index, not iterators: they unroll into registers at low optimization levels, too.
    // SAFETY: by this function's contract every address lies in its slice.
    unsafe {
        let bias = job.bias.as_ptr().add(corner.panel * LANES);
        let mut p = 0;
        while p < P {
            let mut m = 0;
            while m < M {
                sums[m][p] = _mm512_loadu_ps(bias.add(p * LANES));
                m += 1;
            }
            p += 1;
        }
        let first = job.input.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * taps * LANES);
        for run in job.runs {
            let mut values = first.add(run.offset);
            let end = values.add(run.length);
            while values < end {
                let mut weight = [_mm512_setzero_ps(); P];
                let mut p = 0;
                while p < P {
                    weight[p] = _mm512_loadu_ps(weights.add(p * taps * LANES));
                    p += 1;
                }
                let mut m = 0;
                while m < M {
                    let value = _mm512_set1_ps(*values.add(m * job.step));
                    let mut p = 0;
                    while p < P {
                        sums[m][p] = _mm512_fmadd_ps(value, weight[p], sums[m][p]);
                        p += 1;
                    }
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

/// Stores the real channels of `M` positions by `P` panels, after the activation.
///
/// # Safety
///
/// The processor has avx512f; the output holds `channels` at positions `corner.position..+M`, and the first of
/// each panel is real.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store<const M: usize, const P: usize>(
    sums: [[__m512; P]; M],
    corner: Corner,
    channels: usize,
    relu: bool,
    output: &mut [f32],
) {
    // By index again: a reference into `sums` would keep them in memory all along.
    let mut p = 0;
    while p < P {
        let first = (corner.panel + p) * LANES;
        let real = (channels - first).min(LANES);
        let mask = (u32::MAX >> (32 - real)) as u16;
        let mut m = 0;
        while m < M {
            let positive = _mm512_max_ps(_mm512_setzero_ps(), sums[m][p]);
            let value = if relu { positive } else { sums[m][p] };
            let place = (corner.position + m) * channels + first;
            // SAFETY: by this function's contract the place is in the output, as far as the mask goes.
            unsafe { _mm512_mask_storeu_ps(output.as_mut_ptr().add(place), mask, value) };
            m += 1;
        }
        p += 1;
    }
}

/// Where a tile of channels that have no panel begins.
struct Narrow {
    position: usize,
    channel: usize,
    /// The row of the channel in [`Job::rest`].
    row: usize,
}

/// Computes `M` positions by `R` channels that have no panel: the taps lie along the vectors.
///
/// # Safety
///
/// The processor has avx512f; the job holds positions `corner.position..+M` and rows `corner.row..+R`.
#[target_feature(enable = "avx512f")]
unsafe fn narrow<const M: usize, const R: usize>(job: &Job, corner: Narrow, output: &mut [f32]) {
    let taps = job.taps();
    let mut sums = [[_mm512_setzero_ps(); R]; M];
    // SAFETY: by this function's contract every address lies in its slice, as far as the mask goes.
    unsafe {
        let first = job.input.as_ptr().add(corner.position * job.step);
        let mut weights = job.rest.as_ptr().add(corner.row * taps);
        for run in job.runs {
            let mut values = first.add(run.offset);
            let end = values.add(run.length / LANES * LANES);
            while values < end {
                let mut weight = [_mm512_setzero_ps(); R];
                let mut r = 0;
                while r < R {
                    weight[r] = _mm512_loadu_ps(weights.add(r * taps));
                    r += 1;
                }
                let mut m = 0;
                while m < M {
                    let value = _mm512_loadu_ps(values.add(m * job.step));
                    let mut r = 0;
                    while r < R {
                        sums[m][r] = _mm512_fmadd_ps(value, weight[r], sums[m][r]);
                        r += 1;
                    }
                    m += 1;
                }
                (values, weights) = (values.add(LANES), weights.add(LANES));
            }
            let left = run.length % LANES;
            if left > 0 {
                let mask = (1u16 << left) - 1;
                let mut m = 0;
                while m < M {
                    let value = _mm512_maskz_loadu_ps(mask, values.add(m * job.step));
                    let mut r = 0;
                    while r < R {
                        let weight = _mm512_maskz_loadu_ps(mask, weights.add(r * taps));
                        sums[m][r] = _mm512_fmadd_ps(value, weight, sums[m][r]);
                        r += 1;
                    }
                    m += 1;
                }
                weights = weights.add(left);
            }
        }
    }
    let mut m = 0;
    while m < M {
        let mut r = 0;
        while r < R {
            let sum = sum_by_halves(sums[m][r]) + job.bias[corner.channel + r];
            let value = if job.relu { super::rectified(sum) } else { sum };
            output[(corner.position + m) * job.channels + corner.channel + r] = value;
            r += 1;
        }
        m += 1;
    }
}

/// Sums sixteen chains by halves.
#[target_feature(enable = "avx512f")]
#[inline]
fn sum_by_halves(values: __m512) -> f32 {
    let halves = _mm512_castps_pd(values);
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(halves));
    let eight = _mm256_add_ps(_mm512_castps512_ps256(values), high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Computes `M` positions of one-hot columns by `P` panels.
///
/// # Safety
///
/// The processor has avx512f; the job holds positions `corner.position..+M` and panels `corner.panel..+P`.
#[target_feature(enable = "avx512f")]
unsafe fn one_hot<const M: usize, const P: usize>(job: &OneHot, corner: Corner, output: &mut [f32]) {
    let mut sums = [[_mm512_setzero_ps(); P]; M];
    let panel = job.taps * CODES * LANES;
    // SAFETY: by this function's contract every address lies in its slice.
    unsafe {
        let mut p = 0;
        while p < P {
            let bias = _mm512_loadu_ps(job.bias.as_ptr().add((corner.panel + p) * LANES));
            let mut m = 0;
            while m < M {
                sums[m][p] = bias;
                m += 1;
            }
            p += 1;
        }
        let mut codes = job.codes.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * panel);
        let mut tap = 0;
        while tap < job.taps {
            let mut m = 0;
            while m < M {
                let column = weights.add(*codes.add(m * job.step) as usize);
                let mut p = 0;
                while p < P {
                    sums[m][p] = _mm512_add_ps(sums[m][p], _mm512_loadu_ps(column.add(p * panel)));
                    p += 1;
                }
                m += 1;
            }
            tap += 1;
            weights = weights.add(CODES * LANES);
            codes = codes.wrapping_add(job.dilation);
        }
        store(sums, corner, job.channels, job.relu, output);
    }
}
