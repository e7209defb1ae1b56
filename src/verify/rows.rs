//! Rows as Arrow streams, Arrow files and Parquet.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::{Checked, broken, history};
use crate::error::{Error, Result};
use crate::input;
use crate::pipe::{Pipe, ipc};
use crate::provenance::{self, Share, Step};
use crate::schema;

/// Bytes read at once.
const BUFFER: usize = 1 << 18;

/// Stages that give a row for every row.
const KEEPING: [&str; 6] =
    ["nyx-extract", "nyx-tokenize", "nyx-score", "nyx-attrib", "nyx-merge", "nyx-view"];

/// Checks a stream: its end mark, that nothing follows, every batch. `piped` says that another program writes it.
pub fn stream(reader: Box<dyn BufRead + Send>, piped: bool) -> Result<Checked> {
    let last = Arc::new(Mutex::new(Vec::new()));
    let reader = Tail { inner: reader, last: last.clone() };
    let counted = ipc::read(BufReader::with_capacity(BUFFER, reader)).and_then(|pipe| {
        provenance::check_version(pipe.schema())?;
        count(pipe, Checked::of("Arrow stream").holds("end mark, and nothing behind it"))
    });
    counted.map_err(|error| match error {
        // In a pipe it is the failure of another.
        Error::Truncated { .. } if piped => error,
        Error::Truncated { upstream, rows } => {
            let poisoned = *last.lock().expect("no thread panics with it") == ipc::POISON;
            broken(match poisoned {
                true => {
                    format!("poisoned: {upstream} failed after {rows} rows, which are not the whole result")
                }
                false => {
                    format!("cut after {rows} rows: {upstream} was killed, or a copy did not come to its end")
                }
            })
        }
        Error::Data(message) => broken(message),
        other => other,
    })
}

/// Checks an Arrow file: its footer and every batch.
pub fn file(path: &Path, format: &str) -> Result<Checked> {
    let pipe = input::open_pipe(path).map_err(cut)?;
    count(pipe, Checked::of(format).holds("footer"))
}

/// Checks a Parquet file: its footer, every page, the number of rows.
pub fn parquet(path: &Path) -> Result<Checked> {
    let reader = SerializedFileReader::new(std::fs::File::open(path)?).map_err(cut)?;
    let stated = reader.metadata().file_metadata().num_rows();
    let checked = file(path, "Parquet")?;
    let rows = checked.rows.unwrap_or(0);
    if u64::try_from(stated) != Ok(rows) {
        return Err(broken(format!("the footer says {stated} rows, and there are {rows}")));
    }
    let checked = checked.holds("number of rows as in the footer");
    Ok(checked.cannot_tell("pages have no checksum: a number that was changed within one is not seen"))
}

fn cut(error: impl std::fmt::Display) -> Error {
    broken(error.to_string().trim_end_matches('.'))
}

/// Reads all rows.
fn count(pipe: Pipe, checked: Checked) -> Result<Checked> {
    let metadata = pipe.schema().metadata.clone();
    let steps = provenance::chain(&metadata)?;
    let checked = history::check(&metadata, checked)?;
    let mut regions = Regions::new(&steps, schema::has(pipe.schema(), schema::REGION));
    let mut rows = 0;
    for batch in pipe.into_parts().1 {
        let batch = batch.map_err(|error| match error {
            Error::Truncated { .. } => error,
            error => broken(format!("damaged after row {rows} ({error})")),
        })?;
        regions.add(&batch)?;
        rows += batch.num_rows() as u64;
    }
    regions.finish(checked.with_rows(rows))
}

/// Which regions rows are of, for those that say which part of how many they are.
struct Regions {
    share: Option<Share>,
    /// Whether every region must have a row.
    each: bool,
    seen: u64,
    last: Option<u64>,
}

impl Regions {
    /// Prepares for rows that these stages made, where they have a column for the region.
    fn new(steps: &[Step], column: bool) -> Self {
        let share = steps.iter().rev().find_map(|step| step.share).filter(|_| column);
        let begins = steps.iter().filter(|step| step.tool == "nyx-extract").count();
        let keeping = steps.iter().all(|step| KEEPING.contains(&step.tool.as_str()));
        let each = keeping && begins == 1 && share.is_some_and(|share| !share.sparse);
        Self { share, each, seen: 0, last: None }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(share) = self.share else { return Ok(()) };
        for &region in schema::u64s(batch, schema::REGION)?.values() {
            if !(share.first..share.end).contains(&region) {
                let Share { first, end, .. } = share;
                return Err(broken(format!(
                    "region {region} is none of {share}, which has {first} to before {end}"
                )));
            }
            // Another order is for the user to choose: then regions are not counted.
            self.each &= self.last.is_none_or(|last| last <= region);
            self.seen += u64::from(self.last != Some(region));
            self.last = Some(region);
        }
        Ok(())
    }

    fn finish(self, checked: Checked) -> Result<Checked> {
        let Some(share) = self.share else {
            return Ok(checked.cannot_tell("how many rows there should be: it is no scan, and no shard"));
        };
        let expected = share.end - share.first;
        if !self.each {
            return Ok(
                checked.cannot_tell("how many rows there should be: a stage leaves some out or adds some")
            );
        }
        if self.seen != expected {
            return Err(broken(format!("{} of {expected} regions have rows ({share})", self.seen)));
        }
        Ok(checked.holds(format!("all {expected} regions of {share}")))
    }
}

/// Passes bytes on and remembers the last ones.
struct Tail<R> {
    inner: R,
    last: Arc<Mutex<Vec<u8>>>,
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut last = self.last.lock().expect("no thread panics with it");
        last.extend_from_slice(&buffer[count.saturating_sub(ipc::POISON.len())..count]);
        let surplus = last.len().saturating_sub(ipc::POISON.len());
        last.drain(..surplus);
        Ok(count)
    }
}
