//! The HDF5 file of tfmodisco-lite.

use std::path::Path;

use super::meme::Motif;
use super::{Matrix, Pattern};
use crate::error::{Error, InFile, Result};
use crate::input::hdf5::{self, Hdf5};

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
    let file = Hdf5::open(path)?;
    let present = file.groups("").in_file(path)?;
    let mut patterns = Vec::new();
    for group in GROUPS.iter().filter(|group| present.iter().any(|name| name == *group)) {
        let mut names = file.groups(group).in_file(path)?;
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

/// Reads what [`read`] reads as probabilities, the mean one-hot `sequence` of each pattern, trimmed to the span in
/// which its contributions reach `trim` times the largest.
///
/// # Errors
///
/// As [`read`], and when a pattern has no `sequence` of its width.
pub fn read_probabilities(path: &Path, trim: f64) -> Result<Vec<Motif>> {
    let patterns = read(path)?;
    let seqlets = read_seqlets(path, &patterns)?;
    let file = Hdf5::open(path)?;
    let mut motifs = Vec::new();
    for (index, pattern) in patterns.into_iter().enumerate() {
        let name = format!("{}/sequence", pattern.tag.replacen('.', "/", 1));
        let sequence = read_matrix(&file, &name).in_file(path)?;
        if sequence.width() != pattern.cwm.width() {
            return Err(Error::data(format!("{name}: its width is not that of the contributions")))
                .in_file(path);
        }
        let (start, end) = pattern.cwm.trim(trim);
        let columns: Vec<[f64; 4]> =
            (start..end).map(|position| probabilities(&sequence, position)).collect();
        let sites = seqlets.iter().filter(|seqlet| seqlet.pattern == index).count();
        motifs.push(Motif {
            identifier: pattern.tag,
            alternate: None,
            ppm: Matrix::from_columns(&columns),
            sites: if sites > 0 { sites as f64 } else { 20.0 },
            background: [0.25; 4],
        });
    }
    Ok(motifs)
}

/// Returns a column of sum 1; `N`s may have taken from it.
fn probabilities(sequence: &Matrix, position: usize) -> [f64; 4] {
    let column: [f64; 4] = std::array::from_fn(|base| sequence.at(base, position).max(0.0));
    let sum: f64 = column.iter().sum();
    if sum > 0.0 { column.map(|value| value / sum) } else { [0.25; 4] }
}

/// An instance that a pattern was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seqlet {
    /// Index of its pattern among those that [`read`] returns.
    pub pattern: usize,
    /// Ordinal of the example, the region, that it lies in.
    pub region: u64,
    /// First base in the window that TF-MoDISco looked at.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
    /// Whether the pattern reads on the reverse strand.
    pub reverse: bool,
}

/// Reads the seqlets of `patterns`, which [`read`] has returned for the same file, in the order of patterns; a
/// pattern need not have any.
///
/// # Errors
///
/// When the columns of seqlets differ in length.
pub fn read_seqlets(path: &Path, patterns: &[Pattern]) -> Result<Vec<Seqlet>> {
    let file = Hdf5::open(path)?;
    let mut seqlets = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let base = pattern.tag.replacen('.', "/", 1);
        if !file.groups(&base).in_file(path)?.iter().any(|name| name == "seqlets") {
            continue;
        }
        let base = format!("{base}/seqlets");
        let column = |name: &str| read_integers(&file, &format!("{base}/{name}")).in_file(path);
        let (starts, ends) = (column("start")?, column("end")?);
        let (regions, reverse) = (column("example_idx")?, column("is_revcomp")?);
        if [ends.len(), regions.len(), reverse.len()].iter().any(|&length| length != starts.len()) {
            return Err(Error::data(format!("{base}: columns of different lengths"))).in_file(path);
        }
        seqlets.extend((0..starts.len()).map(|row| Seqlet {
            pattern: index,
            region: regions[row] as u64,
            start: starts[row],
            end: ends[row],
            reverse: reverse[row] != 0,
        }));
    }
    Ok(seqlets)
}

fn read_integers(file: &Hdf5, name: &str) -> Result<Vec<i64>> {
    let dataset = file.dataset(name)?;
    // NumPy's booleans are an enumeration over bytes, which is no number to the library.
    let bytes = || Ok(dataset.read_raw::<u8>()?.into_iter().map(i64::from).collect());
    hdf5::run(|| dataset.read_numeric_as::<i64>().or_else(|_| bytes())).map_err(|error| error.at(name))
}

fn read_pattern(file: &Hdf5, group: &str, name: &str) -> Result<Pattern> {
    let base = format!("{group}/{name}");
    let cwm = read_matrix(file, &format!("{base}/contrib_scores"))?;
    let hypothetical = read_matrix(file, &format!("{base}/hypothetical_contribs"))?;
    if cwm.width() != hypothetical.width() {
        return Err(Error::data(format!("{base}: its two matrices differ in width")));
    }
    Ok(Pattern { tag: format!("{group}.{name}"), cwm, hypothetical: Some(hypothetical) })
}

/// Reads a dataset of shape (W, 4).
fn read_matrix(file: &Hdf5, name: &str) -> Result<Matrix> {
    let dataset = file.dataset(name)?;
    let shape = dataset.shape();
    let values = hdf5::run(|| dataset.read_numeric_as::<f64>()).map_err(|error| error.at(name))?;
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

#[cfg(test)]
mod tests {
    use rust_hdf5::H5File;

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

    /// Fi-NeMo's table of seqlets is the oracle; its windows were as wide as its regions, from 0.
    #[test]
    fn real_seqlets_are_where_finemo_finds_them() {
        let Some(golden) = crate::testing::shared("golden/finemo/real_CTCFL") else { return };
        let path = golden.join("modisco.h5");
        let patterns = read(&path).unwrap();
        let line = |seqlet: &Seqlet| {
            let strand = if seqlet.reverse { "-" } else { "+" };
            let Seqlet { start, end, region, .. } = seqlet;
            format!("{start} {end} {strand} {} {region}", patterns[seqlet.pattern].tag)
        };
        let mut ours: Vec<String> = read_seqlets(&path, &patterns).unwrap().iter().map(line).collect();
        let table = std::fs::read_to_string(golden.join("report_pp/seqlets.tsv")).unwrap();
        let mut theirs: Vec<String> =
            table.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>()[3..8].join(" ")).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }

    /// Fi-NeMo's table of the motifs it read is the oracle.
    #[test]
    fn real_files_give_their_patterns_in_order() {
        let Some(shared) = crate::testing::shared("") else { return };
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
