//! Streams of the same rows, side by side: batches that end where a group of alleles ends, and as many rows of every
//! other stream.
//!
//! A group is the rows of one `region`; regions only go up, so a group that comes again is seen at once and nothing
//! has to be remembered but the group at hand.

use std::collections::VecDeque;

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;

use crate::error::{Error, Result};
use crate::pipe::{Batches, Pipe};
use crate::schema::{self, ALLELE, ALT, CHROM, HAPLOTYPE, POS, REF, REGION};

/// Columns in which the same row of two streams has to be the same.
const SAME: [&str; 7] = [REGION, CHROM, POS, REF, ALT, ALLELE, HAPLOTYPE];

/// Batches of the same rows, one batch of every stream.
pub(super) struct Lockstep {
    leader: WholeGroups,
    others: Vec<(String, Cursor)>,
    done: bool,
}

impl Lockstep {
    /// Reads `pipes` (at least one), which have names for messages.
    pub(super) fn new(mut pipes: Vec<(String, Pipe)>) -> Self {
        let (_, first) = pipes.remove(0);
        let others = pipes.into_iter().map(|(name, pipe)| (name, Cursor::new(pipe))).collect();
        Self { leader: WholeGroups::new(first), others, done: false }
    }

    fn read(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let Some(first) = self.leader.read()? else {
            for (name, other) in &mut self.others {
                if other.fill(1)? > 0 {
                    return Err(unequal(name, "has more rows than the first"));
                }
            }
            return Ok(None);
        };
        let mut batches = vec![first];
        for (name, other) in &mut self.others {
            if other.fill(batches[0].num_rows())? < batches[0].num_rows() {
                return Err(unequal(name, "has fewer rows than the first"));
            }
            let batch = other.take(batches[0].num_rows())?;
            check_same(&batches[0], &batch).map_err(|error| error.at(name.clone()))?;
            batches.push(batch);
        }
        Ok(Some(batches))
    }
}

impl Iterator for Lockstep {
    type Item = Result<Vec<RecordBatch>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batches = self.read().transpose();
        self.done = !matches!(batches, Some(Ok(_)));
        batches
    }
}

fn unequal(name: &str, how: &str) -> Error {
    let message = format!("it {how} stream: score the same rows with every model");
    Error::data(message).at(name.to_string())
}

fn check_same(first: &RecordBatch, other: &RecordBatch) -> Result<()> {
    for name in SAME {
        let (Some(a), Some(b)) = (first.column_by_name(name), other.column_by_name(name)) else { continue };
        if a.as_ref() == b.as_ref() {
            continue;
        }
        let differs = (0..a.len()).find(|&row| a.slice(row, 1).as_ref() != b.slice(row, 1).as_ref());
        let (row, of_other) = (differs.unwrap_or(0), schema::describe(other, differs.unwrap_or(0)));
        return Err(Error::data(format!(
            "its row is {of_other}, that of the first stream {}: `{name}` differs. Score the same rows with every model",
            schema::describe(first, row)
        )));
    }
    Ok(())
}

/// The rows of a pipe, any number at a time.
struct Cursor {
    schema: SchemaRef,
    batches: Batches,
    parts: VecDeque<RecordBatch>,
    held: usize,
}

impl Cursor {
    fn new(pipe: Pipe) -> Self {
        let (schema, batches) = pipe.into_parts();
        Self { schema, batches, parts: VecDeque::new(), held: 0 }
    }

    /// Reads until `rows` rows are held or the pipe ends, and returns how many are.
    fn fill(&mut self, rows: usize) -> Result<usize> {
        while self.held < rows {
            let Some(batch) = self.batches.next().transpose()? else { break };
            self.held += batch.num_rows();
            if batch.num_rows() > 0 {
                self.parts.push_back(batch);
            }
        }
        Ok(self.held)
    }

    /// Takes `rows` rows, which are held.
    fn take(&mut self, rows: usize) -> Result<RecordBatch> {
        let mut taken = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let part = self.parts.pop_front().expect("as many rows are held");
            let count = part.num_rows().min(missing);
            if count < part.num_rows() {
                self.parts.push_front(part.slice(count, part.num_rows() - count));
            }
            taken.push(part.slice(0, count));
            missing -= count;
        }
        self.held -= rows;
        if taken.len() == 1 { Ok(taken.remove(0)) } else { Ok(concat_batches(&self.schema, &taken)?) }
    }
}

/// Batches that hold every row of the groups they hold any row of.
struct WholeGroups {
    schema: SchemaRef,
    batches: Batches,
    /// The rows of the last group seen, which may go on.
    tail: Option<RecordBatch>,
    /// The largest region so far.
    last: Option<u64>,
    ended: bool,
}

impl WholeGroups {
    fn new(pipe: Pipe) -> Self {
        let (schema, batches) = pipe.into_parts();
        Self { schema, batches, tail: None, last: None, ended: false }
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        while !self.ended {
            let Some(batch) = self.batches.next().transpose()? else {
                self.ended = true;
                break;
            };
            if batch.num_rows() == 0 {
                continue;
            }
            self.check_order(&batch)?;
            let joined = match self.tail.take() {
                Some(tail) => concat_batches(&self.schema, &[tail, batch])?,
                None => batch,
            };
            let regions = schema::u64s(&joined, REGION)?.values();
            let last = regions[regions.len() - 1];
            let whole = regions.iter().rposition(|&region| region != last).map_or(0, |row| row + 1);
            self.tail = Some(joined.slice(whole, joined.num_rows() - whole));
            if whole > 0 {
                return Ok(Some(joined.slice(0, whole)));
            }
        }
        Ok(self.tail.take())
    }

    fn check_order(&mut self, batch: &RecordBatch) -> Result<()> {
        for (row, &region) in schema::u64s(batch, REGION)?.values().iter().enumerate() {
            if self.last.is_some_and(|last| region < last) {
                return Err(Error::data(format!(
                    "{} comes after region {}: the rows of a variant have to stay together and in order \
                     (nyx-merge joins shards so)",
                    schema::describe(batch, row),
                    self.last.unwrap_or_default()
                )));
            }
            self.last = Some(region);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{UInt16Array, UInt64Array};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn pipe(regions: &[u64], sizes: &[usize]) -> Pipe {
        let fields = [(REGION, DataType::UInt64), (ALLELE, DataType::UInt16)];
        let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, false)).to_vec()));
        let alleles: Vec<u16> = (0..regions.len() as u16).collect();
        let columns: Vec<arrow_array::ArrayRef> =
            vec![Arc::new(UInt64Array::from(regions.to_vec())), Arc::new(UInt16Array::from(alleles))];
        let all = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let mut start = 0;
        let mut batches = Vec::new();
        for &size in sizes {
            batches.push(Ok(all.slice(start, size)));
            start += size;
        }
        Pipe::new(schema, batches.into_iter())
    }

    fn named(pipes: Vec<Pipe>) -> Lockstep {
        Lockstep::new(pipes.into_iter().enumerate().map(|(n, pipe)| (format!("s{n}"), pipe)).collect())
    }

    #[test]
    fn no_group_is_cut_wherever_the_batches_are() {
        let regions = [0, 0, 0, 1, 2, 2, 5, 5, 5, 5];
        for sizes in [&[10][..], &[1; 10], &[2, 3, 0, 4, 1], &[9, 1]] {
            let pair = named(vec![pipe(&regions, sizes), pipe(&regions, &[4, 6])]);
            let mut seen = Vec::new();
            for batches in pair {
                let batches = batches.unwrap();
                let of = |batch: &RecordBatch| schema::u64s(batch, REGION).unwrap().values().to_vec();
                assert_eq!(of(&batches[0]), of(&batches[1]));
                let regions = of(&batches[0]);
                assert!(!seen.contains(&regions[0]), "a group was cut: {sizes:?}");
                seen.extend(regions);
            }
            assert_eq!(seen, regions);
        }
    }

    #[test]
    fn a_group_that_comes_again_is_an_error() {
        let error = named(vec![pipe(&[0, 1, 0], &[2, 1])]).last().unwrap().unwrap_err().to_string();
        assert!(error.contains("region 0 comes after region 1"), "{error}");
    }

    #[test]
    fn streams_of_other_rows_are_refused() {
        for (other, words) in [
            (&[0, 0, 1][..], "fewer rows"),
            (&[0, 0, 1, 1, 2], "more rows"),
            (&[0, 0, 1, 2], "`region` differs"),
        ] {
            let both = named(vec![pipe(&[0, 0, 1, 1], &[4]), pipe(other, &[other.len()])]);
            let error = both.last().unwrap().unwrap_err().to_string();
            assert!(error.starts_with("s1: ") && error.contains(words), "{error}");
        }
    }
}
