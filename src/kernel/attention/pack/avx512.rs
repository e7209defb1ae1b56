//! Squares of sixteen by sixteen units turned over in registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Strip, Unit, WIDTH};

/// Units of a side.
const SIDE: usize = 16;

/// Turns whole squares of rows of `strip.len()` units; returns how many taps that were.
pub(super) fn transpose<T: Unit>(rows: &[T], strip: &mut [Strip<T>]) -> usize {
    const { assert!(size_of::<T>() == 4 && size_of::<Strip<T>>() == 4 * WIDTH) };
    let taps = strip.len();
    let whole = taps / SIDE * SIDE;
    assert!(rows.len() >= WIDTH * taps);
    for column in (0..WIDTH).step_by(SIDE) {
        for tap in (0..whole).step_by(SIDE) {
            // SAFETY: the caller has seen that the processor has avx512f; rows `column..column + 16` have units
            // `tap..tap + 16`, and so has the strip the other way round.
            unsafe {
                let from = rows.as_ptr().add(column * taps + tap).cast();
                let to = strip.as_mut_ptr().add(tap).cast::<i32>().add(column);
                square(from, taps, to);
            }
        }
    }
    whole
}

/// Turns one square.
///
/// # Safety
///
/// The processor has avx512f; 16 units can be read at each of 16 rows `stride` apart, and written at each of 16
/// places `WIDTH` apart.
#[target_feature(enable = "avx512f")]
unsafe fn square(from: *const i32, stride: usize, to: *mut i32) {
    // SAFETY: by this function's contract.
    unsafe {
        let mut rows = [_mm512_setzero_si512(); SIDE];
        let mut row = 0;
        while row < SIDE {
            rows[row] = _mm512_loadu_epi32(from.add(row * stride));
            row += 1;
        }
        exchange::<8>(&mut rows);
        exchange::<4>(&mut rows);
        exchange::<2>(&mut rows);
        exchange::<1>(&mut rows);
        let mut row = 0;
        while row < SIDE {
            _mm512_storeu_epi32(to.add(row * WIDTH), rows[row]);
            row += 1;
        }
    }
}

/// Exchanges the upper right and the lower left blocks of `HALF` by `HALF` in each square of twice that side.
#[inline]
#[target_feature(enable = "avx512f")]
fn exchange<const HALF: usize>(rows: &mut [__m512i; SIDE]) {
    const fn pick(half: usize, lower: bool) -> [i32; SIDE] {
        let mut from = [0; SIDE];
        let mut lane = 0;
        while lane < SIDE {
            let second = lane & half != 0;
            // Lanes of the second row count from 16 on.
            from[lane] = match (lower, second) {
                (false, false) => lane,
                (false, true) => SIDE + lane - half,
                (true, false) => lane + half,
                (true, true) => SIDE + lane,
            } as i32;
            lane += 1;
        }
        from
    }
    let (upper, lower) = (const { pick(HALF, false) }, const { pick(HALF, true) });
    // SAFETY: both are 16 numbers of 32 bits.
    let (upper, lower) = unsafe { (_mm512_loadu_epi32(upper.as_ptr()), _mm512_loadu_epi32(lower.as_ptr())) };
    let mut row = 0;
    while row < SIDE {
        if row & HALF == 0 {
            let (a, b) = (rows[row], rows[row + HALF]);
            rows[row] = _mm512_permutex2var_epi32(a, upper, b);
            rows[row + HALF] = _mm512_permutex2var_epi32(a, lower, b);
        }
        row += 1;
    }
}
