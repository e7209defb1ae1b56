//! What `kernels/hits.cu` reads and writes, laid out as it declares it.
#![allow(unsafe_code)]

use cudarc::driver::{DeviceRepr, ValidAsZeroBits};

use crate::error::{Error, Result};
use crate::hits::dictionary::{Dictionary, LANES, ROWS};
use crate::hits::fit::{Coefficient, Fit, Outcome, Settings};
use crate::hits::scan::bound;
use crate::hits::signal::Signal;

/// Threads of a block.
pub(super) const THREADS: usize = 256;
/// Bytes that one block needs in global memory, for clusters of more than 16 members.
pub(super) const SCRATCH_BYTES: usize = 136_576;
/// The most hits a region can have: the members of its working set.
pub(super) const HITS_MAX: usize = 512;
/// Positions and filters share 32 bits.
const KEY_MAX: usize = 1 << 16;

/// Bytes of the working set in shared memory.
const SET_BYTES: usize = 21_056;
/// Bytes of the places that a pass has found.
const SITES_BYTES: usize = 6144;
/// Bytes of the clusters of eight warps.
const WORKS_BYTES: usize = 8 * 2736;

/// A group of filters; `Group` there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    width: u32,
    shortest: u32,
    weights: u32,
    reserved: u32,
}

/// A filter; `Filter` there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Atom {
    start: u32,
    span: u32,
    width: u32,
    columns: u32,
    lambda: f32,
    reserved: [u32; 3],
}

/// Where a region's values lie; `Region` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    length: u32,
    offset: u32,
}

/// What became of a region; `Outcome` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending {
    gap: f64,
    nll: f64,
    steps: u32,
    status: u32,
    first: u32,
    count: u32,
}

/// A coefficient that is not zero; `Hit` there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    filter: u32,
    position: u32,
    value: f32,
}

/// The kernel's argument; addresses first, in the order of [`Arguments::ADDRESSES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arguments {
    pub groups: u64,
    pub lanes: u64,
    pub bounds: u64,
    pub weights: u64,
    pub filters: u64,
    pub columns: u64,
    pub regions: u64,
    pub values: u64,
    pub bases: u64,
    pub cursors: u64,
    pub outcomes: u64,
    pub hits: u64,
    pub scratch: u64,
    pub tolerance: f64,
    pub group_count: u32,
    pub region_count: u32,
    pub length_max: u32,
    pub reach: u32,
    pub shared_bytes: u32,
    pub reserved: u32,
    pub max_steps: u32,
    pub hit_capacity: u32,
}

// The sizes that hits.cu asserts on its side.
const _: () = assert!(size_of::<Lanes>() == 16 && size_of::<Atom>() == 32 && size_of::<Place>() == 8);
const _: () = assert!(size_of::<Ending>() == 32 && size_of::<Entry>() == 12 && size_of::<Arguments>() == 144);

macro_rules! plain {
    ($($name:ty),*) => {$(
        // SAFETY: numbers only, laid out as in C, without padding.
        unsafe impl DeviceRepr for $name {}
        // SAFETY: all of its numbers may be zero.
        unsafe impl ValidAsZeroBits for $name {}
    )*};
}

plain!(Lanes, Atom, Place, Ending, Entry, Arguments);

/// A dictionary as the kernel reads it.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub groups: Vec<Lanes>,
    /// Filters by group and lane.
    pub lanes: Vec<u32>,
    /// What a correlation must exceed, by group and lane.
    pub bounds: Vec<f32>,
    /// Groups × taps × 4 quads × 4 bases × 4 lanes.
    pub weights: Vec<f32>,
    pub filters: Vec<Atom>,
    /// Filters × taps × 4 bases.
    pub columns: Vec<f32>,
    pub reach: usize,
}

impl Image {
    /// Lays out a dictionary; `None` when it has more filters than the kernel can number.
    pub fn new(dictionary: &Dictionary) -> Option<Self> {
        let mut image = Self {
            groups: Vec::new(),
            lanes: Vec::new(),
            bounds: Vec::new(),
            weights: Vec::new(),
            filters: Vec::new(),
            columns: Vec::new(),
            reach: dictionary.reach(),
        };
        for group in dictionary.groups() {
            image.groups.push(Lanes {
                width: group.width as u32,
                shortest: group.shortest as u32,
                weights: (image.weights.len() / 4) as u32,
                reserved: 0,
            });
            image.lanes.extend((0..LANES).map(|lane| group.atoms.get(lane).map_or(0, |&atom| atom as u32)));
            image.bounds.extend(group.lambda.map(bound));
            for (tap, quad, base) in triples(group.width) {
                let from = (tap * ROWS + base) * LANES + quad * 4;
                image.weights.extend_from_slice(&group.weights[from..from + 4]);
            }
        }
        for (index, atom) in dictionary.atoms().iter().enumerate() {
            image.filters.push(Atom {
                start: atom.start as u32,
                span: atom.span as u32,
                width: atom.width as u32,
                columns: (image.columns.len() / 4) as u32,
                lambda: atom.lambda,
                reserved: [0; 3],
            });
            image.columns.extend(dictionary.columns(index).iter().flatten());
        }
        (image.filters.len() <= KEY_MAX).then_some(image)
    }

    /// Returns the argument of a launch but for its addresses.
    pub fn arguments(
        &self,
        settings: &Settings,
        regions: usize,
        length_max: usize,
        planes: usize,
    ) -> Arguments {
        Arguments {
            tolerance: settings.tolerance,
            group_count: self.groups.len() as u32,
            region_count: regions as u32,
            length_max: length_max as u32,
            reach: self.reach as u32,
            shared_bytes: shared_bytes(length_max, self.reach, planes) as u32,
            max_steps: settings.max_steps,
            hit_capacity: (regions * HITS_MAX) as u32,
            ..Arguments::default()
        }
    }
}

/// Taps, quads of lanes and bases, the last fastest.
fn triples(taps: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..taps).flat_map(|tap| (0..16).map(move |at| (tap, at / 4, at % 4)))
}

/// Returns the bytes of shared memory that a block needs for regions of up to `length` positions; `Solver::divide`
/// there, which checks it.
pub(super) fn shared_bytes(length: usize, reach: usize, planes: usize) -> usize {
    let padded = length + reach;
    let mut at = SET_BYTES + SITES_BYTES + reach * LANES * 16 + length * 2;
    at = at.max(SET_BYTES + WORKS_BYTES);
    for (count, size) in [
        (padded * planes, 4),
        (length * planes, 4),
        (length * planes, 8),
        (length + 1, 8),
        (length / 32 + 1, 4),
        (padded, 1),
    ] {
        at = at.next_multiple_of(size) + count * size;
    }
    at
}

/// Returns the longest region that fits into `shared` bytes, 0 when none does.
pub(super) fn longest(shared: usize, reach: usize, planes: usize) -> usize {
    let (mut fits, mut too_long) = (0, KEY_MAX);
    while fits + 1 < too_long {
        let middle = (fits + too_long) / 2;
        if shared_bytes(middle, reach, planes) <= shared { fits = middle } else { too_long = middle }
    }
    fits
}

/// Lays regions one behind the other.
///
/// # Panics
///
/// When a slice is too short for them.
pub(super) fn pack<'s>(
    signals: impl IntoIterator<Item = &'s Signal>,
    places: &mut [Place],
    values: &mut [f32],
    bases: &mut [u8],
) {
    let mut offset = 0;
    for (signal, place) in signals.into_iter().zip(places) {
        let planes = signal.planes();
        *place = Place { length: signal.length() as u32, offset: offset as u32 };
        values[offset * planes..][..signal.length() * planes].copy_from_slice(signal.values());
        if let Some(known) = signal.bases() {
            bases[offset..][..known.len()].copy_from_slice(known);
        }
        offset += signal.length();
    }
}

/// Returns the fit of a region, or `None` when it is left to the processor.
///
/// # Errors
///
/// When the kernel says that it was not launched as it must be, which is a fault of ours.
pub(super) fn fit(ending: &Ending, hits: &[Entry]) -> Result<Option<Fit>> {
    let outcome = match ending.status {
        0 => Outcome::Converged,
        1 => Outcome::TimedOut,
        2 => return Ok(None),
        status => {
            return Err(Error::data(format!(
                "the GPU kernel ended with status {status}: please report this; --device cpu computes the same"
            )));
        }
    };
    let own = &hits[ending.first as usize..][..ending.count as usize];
    let coefficient = |hit: &Entry| Coefficient {
        filter: hit.filter as usize,
        position: hit.position as usize,
        value: hit.value,
    };
    Ok(Some(Fit {
        coefficients: own.iter().map(coefficient).collect(),
        nll: ending.nll,
        dual_gap: ending.gap,
        num_steps: ending.steps,
        step_size: f32::NAN,
        outcome,
    }))
}
