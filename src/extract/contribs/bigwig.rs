//! Contribution tracks in bigWig files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bigtools::{BBIReadError, BigWigRead, BigWigReadOpenError, CachedBBIFileRead};

use super::onehot;
use super::rows::{Batch, Payload};
use super::windows::Window;
use crate::error::{Error, InFile, Result, guarded};
use crate::genome::Genome;
use crate::input::track::check_lengths;
use crate::provenance;
use crate::schema::Status;

type Reader = BigWigRead<CachedBBIFileRead<BufReader<File>>>;

/// Tracks that are averaged.
pub struct Tracks(Vec<Track>);

struct Track {
    path: PathBuf,
    reader: Reader,
}

impl Tracks {
    /// Opens tracks of `genome`.
    ///
    /// # Errors
    ///
    /// A file that is no bigWig, one without a contig of the genome, one with another length for a contig.
    pub fn open(paths: &[PathBuf], genome: &provenance::Genome) -> Result<Self> {
        paths.iter().map(|path| Track::open(path, genome).in_file(path)).collect::<Result<_>>().map(Self)
    }

    /// Returns the mean of the tracks over `[start, end)` of a contig; 0 where there are no data and outside
    /// of the contig.
    pub fn mean(&mut self, chrom: &str, start: i64, end: i64) -> Result<Vec<f32>> {
        let mut sums = vec![0.0; (end - start) as usize];
        for Track { path, reader } in &mut self.0 {
            let place = || format!("{chrom}:{}-{end}", start + 1);
            let values = guarded("the bigWig file", || values(reader, chrom, start, end))
                .and_then(|values| values.map_err(failure))
                .map_err(|error| error.at(place()))
                .in_file(path)?;
            onehot::add(&mut sums, &values);
        }
        if self.0.len() > 1 {
            let files = self.0.len() as f32;
            sums.iter_mut().for_each(|sum| *sum /= files);
        }
        Ok(sums)
    }
}

impl Track {
    fn open(path: &Path, genome: &provenance::Genome) -> Result<Self> {
        let file = File::open(path)?;
        check_lengths(&file)?;
        let file = BufReader::new(file);
        let reader = guarded("the bigWig file", || BigWigRead::open(file))?.map_err(open_failure)?.cached();
        let mut common = false;
        for contig in reader.chroms() {
            let Some((_, length)) = genome.contigs.iter().find(|(name, _)| *name == contig.name) else {
                continue;
            };
            common = true;
            if u64::from(contig.length) != *length {
                let (name, found) = (&contig.name, contig.length);
                return Err(Error::data(format!(
                    "{name} has {found} bases, in {} it has {length}: another assembly",
                    genome.name
                )));
            }
        }
        if !common {
            let names = reader.chroms().iter().take(3).map(|contig| contig.name.as_str());
            return Err(Error::data(format!(
                "no contig of {} is in it (it has {}, …): another naming of contigs?",
                genome.name,
                names.collect::<Vec<_>>().join(", ")
            )));
        }
        Ok(Self { path: path.to_owned(), reader })
    }
}

fn open_failure(error: BigWigReadOpenError) -> Error {
    match error {
        BigWigReadOpenError::NotABigWig => Error::data("not a bigWig file"),
        BigWigReadOpenError::InvalidChroms => Error::data("the table of contigs is damaged"),
        BigWigReadOpenError::IoError(error) => read_failure(error),
    }
}

fn failure(error: BBIReadError) -> Error {
    match error {
        BBIReadError::IoError(error) => read_failure(error),
        other => Error::data(format!("bigWig: {other}")),
    }
}

fn read_failure(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::data("the file is cut: it ends before its data"),
        _ => error.into(),
    }
}

/// Reads the values of one track; 0 for no data, as the writers of contribution tracks mean it.
fn values(reader: &mut Reader, chrom: &str, start: i64, end: i64) -> Result<Vec<f32>, BBIReadError> {
    let mut values = vec![0.0; (end - start) as usize];
    let Some(contig) = reader.chroms().iter().find(|contig| contig.name == chrom) else {
        return Ok(values);
    };
    let from = start.clamp(0, contig.length.into());
    let to = end.clamp(0, contig.length.into());
    if from < to {
        for interval in reader.get_interval(chrom, from as u32, to as u32)? {
            let interval = interval?;
            let first = i64::from(interval.start).max(from);
            let last = i64::from(interval.end).min(to);
            if first < last && !interval.value.is_nan() {
                values[(first - start) as usize..(last - start) as usize].fill(interval.value);
            }
        }
    }
    Ok(values)
}

/// The batches of a pipe made from bigWig tracks.
pub struct Rows {
    tracks: Tracks,
    genome: Genome,
    windows: VecDeque<Window>,
    width: usize,
    batch_rows: usize,
    schema: SchemaRef,
}

impl Rows {
    /// Creates rows of windows, all `width` bases wide.
    pub fn new(
        tracks: Tracks,
        genome: Genome,
        windows: Vec<Window>,
        width: usize,
        batch_rows: usize,
        schema: SchemaRef,
    ) -> Self {
        Self { tracks, genome, windows: windows.into(), width, batch_rows, schema }
    }

    fn batch(&mut self, count: usize) -> Result<RecordBatch> {
        let mut batch = Batch::new(self.schema.clone());
        for window in self.windows.drain(..count) {
            let payload = payload(&mut self.tracks, &mut self.genome, &window, self.width)?;
            batch.push(&window, self.width, payload);
        }
        batch.finish()
    }
}

fn payload(tracks: &mut Tracks, genome: &mut Genome, window: &Window, width: usize) -> Result<Payload> {
    let chrom = window.chrom.as_deref().expect("peaks have coordinates");
    let (start, end) = (window.start, window.start + width as i64);
    let Some(length) = genome.contig_length(chrom) else {
        let status = Status::UnknownContig;
        return Ok(Payload { sequence: None, contributions: None, hypothetical: None, status });
    };
    let mut bases = Vec::new();
    genome.fetch(chrom, start, end, &mut bases).map_err(|error| error.at(window.place()))?;
    let sequence = String::from_utf8(bases).expect("bases are ASCII");
    let mut contributions = tracks.mean(chrom, start, end)?;
    onehot::mask(&mut contributions, &sequence);
    let status = match sequence.bytes().all(|base| base == b'N') {
        true => Status::AllN,
        false if start < 0 || end > length as i64 => Status::OffContig,
        false => Status::Ok,
    };
    Ok(Payload { sequence: Some(sequence), contributions: Some(contributions), hypothetical: None, status })
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let count = self.windows.len().min(self.batch_rows);
        if count == 0 {
            return None;
        }
        let batch = self.batch(count);
        if batch.is_err() {
            self.windows.clear();
        }
        Some(batch)
    }
}
