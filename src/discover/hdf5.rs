//! Patterns as the HDF5 file of tfmodisco-lite, which `nyx-hits`, Fi-NeMo and `modisco report` read.
//!
//! `pos_patterns/pattern_0` has `sequence`, `contrib_scores` and `hypothetical_contribs` (W, 4) in float64; its group
//! `seqlets` has `n_seqlets`, `start`, `end`, `example_idx`, `is_revcomp` and the three arrays of every seqlet
//! (n, W, 4) in float32; its parts are groups `subpattern_0`, … of the same form. `example_idx` is the region of the row.

use std::path::Path;

use rust_hdf5::types::HBool;
use rust_hdf5::{H5File, H5Group, H5Type, Hdf5Error};

use super::modisco::{Discovered, Patterns};
use super::pattern::Pattern;
use super::tracks::{Position, Tracks};
use crate::error::{Error, InFile, Result};
use crate::motif::Matrix;
use crate::output::temporary_beside;
use crate::provenance::CHAIN_KEY;

/// Writes patterns found in windows of `window` bases, with the `chain` of stages as an attribute of the root; the file
/// appears only when it is whole.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(
    path: &Path,
    tracks: &Tracks,
    patterns: &Patterns,
    window: usize,
    chain: Option<&str>,
) -> Result<()> {
    let temporary = temporary_beside(path)?;
    write_all(temporary.path(), tracks, patterns, window, chain).map_err(data).in_file(path)?;
    temporary.commit(path)
}

fn data(error: Hdf5Error) -> Error {
    Error::data(format!("HDF5: {error}"))
}

fn write_all(
    path: &Path,
    tracks: &Tracks,
    patterns: &Patterns,
    window: usize,
    chain: Option<&str>,
) -> Result<(), Hdf5Error> {
    let file = H5File::create(path)?;
    if let Some(chain) = chain {
        file.set_attr_string(CHAIN_KEY, chain)?;
    }
    file.set_attr_numeric("window_size", &(window as i64))?;
    for (name, found) in [("pos_patterns", &patterns.positive), ("neg_patterns", &patterns.negative)] {
        let Some(found) = found else { continue };
        let group = file.create_group(name)?;
        for (index, Discovered { pattern, parts }) in found.iter().enumerate() {
            let group = group.create_group(&format!("pattern_{index}"))?;
            write_pattern(&group, tracks, pattern)?;
            for (index, part) in parts.iter().enumerate() {
                write_pattern(&group.create_group(&format!("subpattern_{index}"))?, tracks, part)?;
            }
        }
    }
    file.close()
}

fn write_pattern(group: &H5Group, tracks: &Tracks, pattern: &Pattern) -> Result<(), Hdf5Error> {
    let matrices = [
        ("sequence", pattern.frequencies()),
        ("contrib_scores", pattern.contributions()),
        ("hypothetical_contribs", pattern.hypothetical()),
    ];
    for (name, matrix) in matrices {
        write_array(group, name, &[pattern.width(), 4], &by_position(&matrix))?;
    }
    write_seqlets(&group.create_group("seqlets")?, tracks, pattern)
}

fn by_position(matrix: &Matrix) -> Vec<f64> {
    matrix.columns().into_iter().flatten().collect()
}

fn write_seqlets(group: &H5Group, tracks: &Tracks, pattern: &Pattern) -> Result<(), Hdf5Error> {
    let seqlets = pattern.seqlets();
    let count = seqlets.len();
    let column = |f: fn(&super::tracks::Seqlet) -> i64| seqlets.iter().map(f).collect::<Vec<i64>>();
    write_array(group, "n_seqlets", &[1], &[count as i64])?;
    write_array(group, "start", &[count], &column(|seqlet| seqlet.start as i64))?;
    write_array(group, "end", &[count], &column(|seqlet| seqlet.end as i64))?;
    let regions: Vec<i64> =
        seqlets.iter().map(|seqlet| tracks.examples[seqlet.example].region as i64).collect();
    write_array(group, "example_idx", &[count], &regions)?;
    let reverse: Vec<HBool> = seqlets.iter().map(|seqlet| seqlet.reverse.into()).collect();
    write_array(group, "is_revcomp", &[count], &reverse)?;
    let shape = [count, pattern.width(), 4];
    let values = |f: fn(Position) -> [f32; 4]| {
        seqlets.iter().flat_map(|seqlet| tracks.positions(seqlet).flat_map(f)).collect::<Vec<f32>>()
    };
    write_array(group, "sequence", &shape, &values(one_hot))?;
    write_array(group, "contrib_scores", &shape, &values(|position| position.contributions()))?;
    write_array(group, "hypothetical_contribs", &shape, &values(|position| position.hypothetical))
}

fn one_hot(position: Position) -> [f32; 4] {
    let mut values = [0.0; 4];
    position.base.into_iter().for_each(|base| values[base] = 1.0);
    values
}

fn write_array<T: H5Type>(
    group: &H5Group,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> Result<(), Hdf5Error> {
    group.new_dataset::<T>().shape(shape).create(name)?.write_raw(values)
}

#[cfg(test)]
mod tests {
    use super::super::tracks::{Example, Seqlet};
    use super::*;
    use crate::motif::modisco;

    #[test]
    fn what_is_written_is_read_again() {
        let values: Vec<f32> = (0..40).map(|i| i as f32 / 8.0).collect();
        let tracks = Tracks { examples: vec![Example::new(70, b"ACGTACGTAN", &values)] };
        let seqlet = |start, reverse| Seqlet { example: 0, start, end: start + 4, reverse };
        let pattern = Pattern::new(&tracks, [seqlet(1, false), seqlet(5, true)]);
        let found =
            Discovered { parts: vec![Pattern::new(&tracks, [seqlet(1, false)])], pattern: pattern.clone() };
        let patterns = Patterns { positive: Some(vec![found]), negative: Some(Vec::new()), seqlets: (2, 0) };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("modisco.h5");
        write(&path, &tracks, &patterns, 10, Some("[]")).unwrap();
        let read = modisco::read(&path).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].tag, "pos_patterns.pattern_0");
        assert_eq!(read[0].cwm, pattern.contributions());
        assert_eq!(read[0].hypothetical, Some(pattern.hypothetical()));
        let seqlets = modisco::read_seqlets(&path, &read).unwrap();
        let expected = [(1, 5, false), (5, 9, true)].map(|(start, end, reverse)| modisco::Seqlet {
            pattern: 0,
            region: 70,
            start,
            end,
            reverse,
        });
        assert_eq!(seqlets, expected);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays");
    }
}
