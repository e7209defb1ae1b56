//! bigWig and bigBed. The one place with a runtime: the writer of bigtools asks for it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bigtools::bed::bedparser::BedValueError;
use bigtools::beddata::BedParserStreamingIterator;
use bigtools::{BBIProcessError, BedEntry, BigBedWrite, BigWigWrite, InputSortType, Value};

use super::bed::Line;
use super::track::Interval;
use crate::error::{Error, InFile, Result, guarded};
use crate::output::temporary_beside;
use crate::provenance::Genome;

/// Writes intervals, in order of position within each contig, to the bigWig file at `path`, which appears
/// when it is whole.
///
/// # Errors
///
/// The first error of `intervals`; no interval at all, which the format has no room for; a contig of more
/// than 4 gigabases.
pub fn write(
    intervals: impl Iterator<Item = Result<Interval>> + Send,
    genome: &Genome,
    path: &Path,
) -> Result<()> {
    let mut intervals = intervals.peekable();
    match intervals.peek() {
        None => return Err(Error::data("no row has a value: a bigWig file cannot be empty")),
        Some(Err(_)) => return Err(intervals.next().expect("peeked").expect_err("peeked")),
        Some(Ok(_)) => {}
    }
    let temporary = temporary_beside(path)?;
    let writer = temporary.file().try_clone().in_file(path)?;
    write_values(intervals, sizes(genome)?, writer).in_file(path)?;
    temporary.commit(path)
}

/// The columns of a bigBed file, in UCSC's own language.
const COLUMNS: &str = "table hits\n\"Motif hits\"\n(\nstring chrom; \"Contig\"\nuint chromStart; \"Start\"\nuint chromEnd; \"End\"\n\
    string name; \"Motif\"\nuint score; \"Score\"\nchar[1] strand; \"Strand\"\n)\n";

/// Writes lines, in order of position within each contig, to the bigBed file at `path`, which appears when it is whole.
///
/// # Errors
///
/// No line at all, which the format has no room for; a contig of more than 4 gigabases.
pub fn write_beds(lines: Vec<Line>, genome: &Genome, path: &Path) -> Result<()> {
    if lines.is_empty() {
        return Err(Error::data("there is no hit: a bigBed file cannot be empty"));
    }
    let temporary = temporary_beside(path)?;
    let failure = Arc::new(Failure::default());
    let file = Noted { file: temporary.file().try_clone().in_file(path)?, failure: failure.clone() };
    let mut writer = BigBedWrite::new(file, sizes(genome)?);
    writer.autosql = Some(COLUMNS.into());
    writer.options.input_sort_type = InputSortType::START;
    writer.options.channel_size = 0;
    let lines = lines
        .into_iter()
        .map(|(chrom, start, end, rest)| Ok::<_, BedValueError>((chrom, BedEntry { start, end, rest })));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let write = || writer.write(BedParserStreamingIterator::wrap_iter(lines, true), runtime);
    failure.resolve(write).in_file(path)?;
    temporary.commit(path)
}

/// The first error of a file or of what is written into it, while another crate says something else, or panics.
#[derive(Default)]
struct Failure(Mutex<Option<Error>>);

impl Failure {
    fn note(&self, error: Error) {
        self.0.lock().expect("no thread panics with it").get_or_insert(error);
    }

    /// Gives the first error back, or else turns what `write` says or panics about into one.
    fn resolve(&self, write: impl FnOnce() -> Result<(), BBIProcessError<BedValueError>>) -> Result<()> {
        let outcome = guarded("the file", write);
        if let Some(error) = self.0.lock().expect("no thread panics with it").take() {
            return Err(error);
        }
        let outcome = outcome.map_err(|_| {
            Error::data("it cannot be written: is a disk full, that of temporary files (TMPDIR) perhaps?")
        })?;
        outcome.map_err(|error| match error {
            BBIProcessError::IoError(error) => error.into(),
            other => Error::data(other.to_string()),
        })
    }
}

/// A file that notes its first error.
struct Noted {
    file: File,
    failure: Arc<Failure>,
}

impl Noted {
    fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            let same = error.raw_os_error().map_or(error.kind().into(), io::Error::from_raw_os_error);
            if same.kind() != io::ErrorKind::Interrupted {
                self.failure.note(same.into());
            }
        })
    }
}

impl Write for Noted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.file.write(bytes);
        self.note(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.file.flush();
        self.note(outcome)
    }
}

impl Seek for Noted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let outcome = self.file.seek(to);
        self.note(outcome)
    }
}

fn sizes(genome: &Genome) -> Result<HashMap<String, u32>> {
    let size = |(name, length): &(String, u64)| match u32::try_from(*length) {
        Ok(length) => Ok((name.clone(), length)),
        Err(_) => Err(Error::data(format!("contig {name} of {length} bases is too long for bigWig"))),
    };
    genome.contigs.iter().map(size).collect()
}

fn write_values(
    intervals: impl Iterator<Item = Result<Interval>>,
    sizes: HashMap<String, u32>,
    file: File,
) -> Result<()> {
    // Our error steps aside while another crate carries word of it.
    let failure = Arc::new(Failure::default());
    let noted = failure.clone();
    let file = Noted { file, failure: failure.clone() };
    let values = intervals.map(move |interval| match interval {
        Ok(Interval { chrom, start, end, value }) => {
            // The contig's length fits, so do positions within it.
            Ok((chrom.to_string(), Value { start: start as u32, end: end as u32, value }))
        }
        Err(error) => {
            noted.note(error);
            Err(BedValueError::InvalidInput("the input failed".into()))
        }
    });
    let mut writer = BigWigWrite::new(file, sizes);
    writer.options.input_sort_type = InputSortType::START;
    // As bigtools itself has it with one thread: whoever fills the channel yields to whoever empties it.
    writer.options.channel_size = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    failure.resolve(|| writer.write(BedParserStreamingIterator::wrap_iter(values, true), runtime))
}

#[cfg(test)]
mod tests {
    use bigtools::{BigBedRead, BigWigRead};

    use super::*;

    fn interval(chrom: &str, start: u64, end: u64, value: f32) -> Interval {
        Interval { chrom: chrom.into(), start, end, value }
    }

    fn genome() -> Genome {
        Genome::new("g.fa", vec![("chrB".into(), 100_000), ("chrA".into(), 90)])
    }

    #[test]
    fn what_is_written_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("track.bw");
        // Contigs in another order than the alphabet, more values than a block holds.
        let mut written: Vec<Interval> =
            (0..5000).map(|n| interval("chrB", 7 * n, 7 * n + 1 + n % 6, n as f32 / 8.0 - 9.0)).collect();
        written.push(interval("chrA", 89, 90, -1.5));
        write(written.iter().cloned().map(Ok), &genome(), &path).unwrap();
        let mut reader = BigWigRead::open(File::open(&path).unwrap()).unwrap();
        let mut found = Vec::new();
        for (name, length) in [("chrB", 100_000), ("chrA", 90)] {
            for value in reader.get_interval(name, 0, length).unwrap() {
                let Value { start, end, value } = value.unwrap();
                found.push(interval(name, start.into(), end.into(), value));
            }
        }
        assert_eq!(found, written);
    }

    #[test]
    fn lines_that_overlap_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hits.bb");
        let lines: Vec<Line> =
            (0..3000).map(|n| ("chrB".to_string(), 3 * n, 3 * n + 11, format!("m{n}\t0\t+"))).collect();
        write_beds(lines.clone(), &genome(), &path).unwrap();
        let mut reader = BigBedRead::open(File::open(&path).unwrap()).unwrap();
        let found: Vec<Line> = reader
            .get_interval("chrB", 0, 100_000)
            .unwrap()
            .map(|entry| {
                entry.map(|BedEntry { start, end, rest }| ("chrB".to_string(), start, end, rest)).unwrap()
            })
            .collect();
        assert_eq!(found, lines);
        assert!(write_beds(Vec::new(), &genome(), &path).is_err());
    }

    #[test]
    fn a_failure_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("track.bw");
        for good in [0, 3, 3000] {
            let truncated = Error::Truncated { upstream: "nyx-score".into(), rows: 3 };
            let values =
                (0..good).map(|n| Ok(interval("chrB", 2 * n, 2 * n + 1, 1.0))).chain([Err(truncated)]);
            assert_eq!(write(values, &genome(), &path).unwrap_err().exit_status(), 3, "after {good}");
        }
        assert!(write(std::iter::empty(), &genome(), &path).is_err());
        assert!(write([Ok(interval("chrA", 80, 95, 1.0))].into_iter(), &genome(), &path).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
