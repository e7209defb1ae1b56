//! bigWig and bigBed.

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use bigtools::{BigBedRead, BigWigRead};

use super::{Checked, broken};
use crate::error::{Error, Result};
use crate::input::track::check_lengths;

/// What is read for pictures of large regions only.
const ZOOM: &str = "its zoom levels, which are not compared with its values";

fn damaged(error: impl Display) -> Error {
    broken(format!("cut or damaged ({error})"))
}

/// Opens a file that ends with the bytes it begins with.
fn open(path: &Path) -> Result<File> {
    let mut file = File::open(path)?;
    let (mut first, mut last) = ([0; 4], [0; 4]);
    file.read_exact(&mut first)?;
    file.seek(SeekFrom::End(-4)).and_then(|_| file.read_exact(&mut last))?;
    if first != last {
        return Err(broken("cut: it does not end with its mark"));
    }
    check_lengths(&file).map_err(broken)?;
    file.rewind()?;
    Ok(file)
}

/// Checks a bigWig file: its marks, every block, and the totals in its header.
pub fn big_wig(path: &Path) -> Result<Checked> {
    let mut reader = BigWigRead::open(open(path)?).map_err(damaged)?;
    let stated = reader.get_summary().map_err(damaged)?;
    let contigs: Vec<(String, u32)> =
        reader.chroms().iter().map(|contig| (contig.name.clone(), contig.length)).collect();
    let (mut rows, mut bases) = (0, 0);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (name, length) in &contigs {
        let mut before = 0;
        for value in reader.get_interval(name, 0, *length).map_err(damaged)? {
            let value = value.map_err(damaged)?;
            if value.start < before || value.end <= value.start || value.end > *length {
                return Err(broken(format!("an interval of {name} is out of place at {}", value.start)));
            }
            before = value.end;
            rows += 1;
            bases += u64::from(value.end - value.start);
            low = low.min(value.value.into());
            high = high.max(value.value.into());
        }
    }
    if bases != stated.bases_covered {
        return Err(broken(format!(
            "{bases} bases have values, and its header says {}",
            stated.bases_covered
        )));
    }
    if low != stated.min_val || high != stated.max_val {
        let message = format!(
            "values from {low} to {high}, and its header says from {} to {}",
            stated.min_val, stated.max_val
        );
        return Err(broken(message));
    }
    let checked = Checked::of("bigWig").with_rows(rows).holds("marks at both ends, every block");
    let checked = checked.holds(format!("{bases} bases, smallest and largest value as in its header"));
    Ok(checked.cannot_tell(ZOOM))
}

/// Checks a bigBed file: its marks, every block, and the number of items in its header.
pub fn big_bed(path: &Path) -> Result<Checked> {
    let mut reader = BigBedRead::open(open(path)?).map_err(damaged)?;
    let stated = reader.item_count().map_err(damaged)?;
    let contigs: Vec<(String, u32)> =
        reader.chroms().iter().map(|contig| (contig.name.clone(), contig.length)).collect();
    let mut rows = 0;
    for (name, length) in &contigs {
        for entry in reader.get_interval(name, 0, *length).map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            if entry.end < entry.start || entry.end > *length {
                return Err(broken(format!("an item of {name} is out of place at {}", entry.start)));
            }
            rows += 1;
        }
    }
    if rows != stated {
        return Err(broken(format!("{rows} items, and its header says {stated}")));
    }
    let checked = Checked::of("bigBed").with_rows(rows).holds("marks at both ends, every block");
    Ok(checked.holds("number of items as in its header").cannot_tell(ZOOM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::bigwig;
    use crate::convert::track::Interval;
    use crate::provenance::Genome;

    fn genome() -> Genome {
        Genome::new("g.fa", vec![("chrB".into(), 100_000), ("chrA".into(), 90)])
    }

    #[test]
    fn every_cut_of_a_track_is_seen_and_the_whole_has_all_its_values() {
        let directory = tempfile::tempdir().unwrap();
        let (wig, bed) = (directory.path().join("a.bw"), directory.path().join("a.bb"));
        let value = |n: u64| Interval { chrom: "chrB".into(), start: 7 * n, end: 7 * n + 3, value: n as f32 };
        bigwig::write((0..3000).map(|n| Ok(value(n))), &genome(), &wig).unwrap();
        let line = |n: u32| ("chrB".to_string(), 3 * n, 3 * n + 11, format!("m{n}\t0\t+"));
        bigwig::write_beds((0..700).map(line).collect(), &genome(), &bed).unwrap();
        assert_eq!(big_wig(&wig).unwrap().rows, Some(3000));
        assert_eq!(big_bed(&bed).unwrap().rows, Some(700));
        for (path, check) in [(&wig, big_wig as fn(&Path) -> Result<Checked>), (&bed, big_bed)] {
            let whole = std::fs::read(path).unwrap();
            for cut in (0..whole.len()).step_by(37).chain([whole.len() - 1]) {
                std::fs::write(path, &whole[..cut]).unwrap();
                assert!(check(path).is_err(), "cut at {cut} of {}", whole.len());
            }
            // A byte that was changed is an error or changes nothing that is read; it never ends the process.
            for at in (0..whole.len()).step_by(53) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x5A;
                std::fs::write(path, damaged).unwrap();
                let _ = super::super::file(path);
            }
        }
    }
}
