//! The HDF5 file of tfmodisco-lite.

use std::path::Path;

use rust_hdf5::H5File;

use super::{Matrix, Pattern};
use crate::error::{Error, InFile, Result};
use crate::input;

/// The groups of patterns, in the order in which patterns are numbered.
const GROUPS: [&str; 2] = ["pos_patterns", "neg_patterns"];

/// Reads the patterns of a tfmodisco-lite file: those with positive contributions first, each group by
/// the number at the end of the pattern's name.
///
/// # Errors
///
/// When the file is not HDF5, has no group of patterns (a file from before tfmodisco-lite), or a pattern
/// lacks `contrib_scores` of shape (W, 4).
pub fn read(path: &Path) -> Result<Vec<Pattern>> {
    let file = input::open_hdf5(path)?;
    let present = file.root_group().group_names().map_err(hdf5).in_file(path)?;
    let mut patterns = Vec::new();
    for group in GROUPS.iter().filter(|group| present.iter().any(|name| name == *group)) {
        let mut names = file
            .root_group()
            .group(group)
            .and_then(|group| group.group_names())
            .map_err(hdf5)
            .in_file(path)?;
        names.sort_by_key(|name| (number(name).is_none(), number(name), name.clone()));
        for name in names {
            patterns.push(read_pattern(&file, group, &name).in_file(path)?);
        }
    }
    if patterns.is_empty() {
        return Err(Error::data(
            "no patterns in groups pos_patterns and neg_patterns (a file of the old TF-MoDISco needs `modisco convert` first)",
        ))
        .in_file(path);
    }
    Ok(patterns)
}

fn read_pattern(file: &H5File, group: &str, name: &str) -> Result<Pattern> {
    let base = format!("{group}/{name}");
    let cwm = read_matrix(file, &format!("{base}/contrib_scores"))?;
    let hypothetical = read_matrix(file, &format!("{base}/hypothetical_contribs"))?;
    if cwm.width() != hypothetical.width() {
        return Err(Error::data(format!("{base}: its two matrices differ in width")));
    }
    Ok(Pattern { tag: format!("{group}.{name}"), cwm, hypothetical: Some(hypothetical) })
}

/// Reads a dataset of shape (W, 4).
fn read_matrix(file: &H5File, name: &str) -> Result<Matrix> {
    let dataset = file.dataset(name).map_err(hdf5).map_err(|error| error.at(name))?;
    let shape = dataset.shape();
    let values = dataset.read_numeric_as::<f64>().map_err(hdf5).map_err(|error| error.at(name))?;
    if shape.len() != 2 || shape[1] != 4 || shape[0] == 0 || values.len() != 4 * shape[0] {
        return Err(Error::data(format!("{name}: shape {shape:?}, expected (W, 4)")));
    }
    let columns: Vec<[f64; 4]> =
        values.chunks_exact(4).map(|column| [column[0], column[1], column[2], column[3]]).collect();
    Ok(Matrix::from_columns(&columns))
}

/// Returns the number after the last `_`, else after the last `#`.
fn number(name: &str) -> Option<u64> {
    let after = |mark| name.rsplit_once(mark).and_then(|(_, digits)| digits.parse().ok());
    after('_').or_else(|| after('#'))
}

fn hdf5(error: rust_hdf5::Hdf5Error) -> Error {
    Error::data(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_ordered_by_number_not_by_letter() {
        assert_eq!(number("pattern_10"), Some(10));
        assert_eq!(number("metacluster#3"), Some(3));
        assert_eq!(number("other"), None);
    }

    #[test]
    fn a_file_without_patterns_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.h5");
        let file = H5File::create(&path).unwrap();
        file.create_group("metacluster_idx_to_submetacluster_results").unwrap();
        file.close().unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("old.h5") && error.contains("modisco convert"), "{error}");
    }

    /// Fi-NeMo's table of the motifs it read is the oracle.
    #[test]
    fn real_files_give_their_patterns_in_order() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        if !shared.exists() {
            eprintln!("skipped: ../shared is not there");
            return;
        }
        let cases = [
            ("golden/finemo/real_CTCFL/modisco.h5", "golden/finemo/real_CTCFL/hits_hh", 30),
            ("golden/finemo/synth1000_sub100/modisco_like.h5", "golden/finemo/synth1000_sub100/hits_hh", 30),
            ("data/contribs/spi1_gm12878/modisco_results.h5", "data/contribs/spi1_gm12878/finemo_peaks", 50),
        ];
        for (file, table, width) in cases {
            let patterns = read(&shared.join(file)).unwrap();
            let table = std::fs::read_to_string(shared.join(table).join("motif_data.tsv")).unwrap();
            let tags: Vec<&str> =
                table.lines().skip(1).step_by(2).map(|line| line.split('\t').nth(2).unwrap()).collect();
            assert_eq!(patterns.iter().map(|pattern| &pattern.tag).collect::<Vec<_>>(), tags, "{file}");
            assert!(patterns.iter().all(|pattern| pattern.cwm.width() == width), "{file}");
        }
    }
}
