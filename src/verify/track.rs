//! bigWig and bigBed.

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bigtools::{BigBedRead, BigWigRead};

use super::{Checked, broken};
use crate::error::{Error, Result};

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
    let little = matches!(first[0], 0x26 | 0xEB);
    Lengths { length: file.metadata()?.len(), file: &file, little }.check()?;
    file.rewind()?;
    Ok(file)
}

/// Bytes that a block or a name may have: many times what any program writes.
const BLOCK_MAX: u64 = 64 << 20;
const NAME_MAX: u64 = 1 << 16;

/// The lengths that a file states, which the crate that reads it allocates as they stand.
struct Lengths<'a> {
    file: &'a File,
    length: u64,
    /// Whether numbers begin with their lowest byte.
    little: bool,
}

impl Lengths<'_> {
    /// Checks the lengths in the header and in the index of blocks (UCSC's layout).
    fn check(&self) -> Result<()> {
        let [contigs, index] = [self.number(8, 8)?, self.number(24, 8)?];
        if self.number(52, 4)? > BLOCK_MAX || self.number(contigs.saturating_add(8), 4)? > NAME_MAX {
            return Err(broken("damaged: its header states lengths that no file has"));
        }
        // Nodes begin behind the header of the index.
        let (mut nodes, mut seen) = (vec![index.saturating_add(48)], 0);
        while let Some(node) = nodes.pop() {
            seen += 1;
            if seen > self.length / 4 {
                return Err(broken("damaged: its index leads back to itself"));
            }
            self.check_node(node, &mut nodes)?;
        }
        Ok(())
    }

    /// Checks that the blocks of a leaf lie in the file; adds the children of another node to `nodes`.
    fn check_node(&self, node: u64, nodes: &mut Vec<u64>) -> Result<()> {
        let (is_leaf, count) = (self.number(node, 1)? == 1, self.number(node.saturating_add(2), 2)?);
        for item in 0..count {
            let at = node.saturating_add(4 + item * if is_leaf { 32 } else { 24 });
            let offset = self.number(at.saturating_add(16), 8)?;
            if !is_leaf {
                nodes.push(offset);
                continue;
            }
            let size = self.number(at.saturating_add(24), 8)?;
            if size > BLOCK_MAX || offset.saturating_add(size) > self.length {
                return Err(broken(format!(
                    "cut or damaged: a block of {size} bytes at {offset} is not in it"
                )));
            }
        }
        Ok(())
    }

    /// Reads a number of `size` bytes, 8 at most.
    fn number(&self, offset: u64, size: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        let read = self.file.read_exact_at(&mut bytes[..size], offset);
        read.map_err(|_| {
            broken(format!("cut or damaged: its header leads to byte {offset}, behind its end"))
        })?;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(match self.little {
            true => bytes[..size].iter().rev().fold(0, fold),
            false => bytes[..size].iter().fold(0, fold),
        })
    }
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
