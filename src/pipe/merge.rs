//! Joins the shards of one run into the stream that one process would have made.

use std::collections::VecDeque;
use std::path::PathBuf;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance::{self, GENOME_KEY, KIND_KEY, Share, Step};

mod plan;

/// The column that orders rows. The pipe itself knows no columns; joining does.
const REGION: &str = crate::schema::REGION;

/// A shard: what errors call it, and its rows.
pub type Shard = (PathBuf, Pipe);

/// Joins shards: by the parts they say they are, otherwise in the order given.
///
/// Shards that say which part of which whole they are (`--shard`) prove that they are complete: every part is there
/// once, each begins where the one before ends, and the last ends where the input does. The chain of the result is
/// that of the shards, without what tells one shard's command from another's. A batch of the result has `rows` rows,
/// however many shards there were.
///
/// # Errors
///
/// No shard at all; shards that differ in columns, genome, kind, tools, models, tokenizers or the layout of the scan;
/// a part that is missing or there twice; regions that overlap or go backwards; regions that are missing, unless
/// `allow_gaps` or the rows are hits, of which a region need not have any.
pub fn merge(mut shards: Vec<Shard>, allow_gaps: bool, rows: usize) -> Result<Pipe> {
    let Some((first_path, first)) = shards.first() else {
        return Err(Error::usage("no shards to join"));
    };
    let schema = first.schema().clone();
    for (path, pipe) in &shards[1..] {
        let difference = difference(&schema, pipe.schema())?;
        if let Some(difference) = difference {
            let message = format!("differs from {} in {difference}", first_path.display());
            return Err(Error::data(message).at(path.display().to_string()));
        }
    }
    if schema.index_of(REGION).is_err() {
        return Err(Error::data(format!("the shards have no column `{REGION}` to join by")));
    }
    let shares = plan::order(&mut shards, allow_gaps)?;
    let metadata = plan::common_metadata(&shards, &shares)?;
    let target = std::sync::Arc::new(schema.as_ref().clone().with_metadata(metadata));
    let gaps = allow_gaps || schema.metadata.get(KIND_KEY).is_some_and(|kind| kind == "hits");
    let shards = shards.into_iter().zip(shares).collect();
    let joined =
        Joined { schema: target.clone(), shards, next: 0, within: None, begun: false, gaps, failed: false };
    Ok(Pipe::new(target, joined).rebatch(rows))
}

/// Names the first thing in which two schemas differ that must not.
fn difference(a: &Schema, b: &Schema) -> Result<Option<String>> {
    if a.fields() != b.fields() {
        let names = |schema: &Schema| {
            let fields = schema.fields().iter();
            fields
                .map(|field| format!("{} {}", field.name(), field.data_type()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (of_a, of_b) = (names(a), names(b));
        return Ok(Some(match of_a == of_b {
            true => column_difference(a, b),
            false => format!("columns: {of_b}, not {of_a}"),
        }));
    }
    for (key, name) in [(GENOME_KEY, "genome"), (KIND_KEY, "what a row is")] {
        if a.metadata.get(key) != b.metadata.get(key) {
            return Ok(Some(format!("{name} ({key})")));
        }
    }
    let (a, b) = (provenance::chain(&a.metadata)?, provenance::chain(&b.metadata)?);
    if a.len() != b.len() {
        return Ok(Some("the stages they went through (nyx.pg)".into()));
    }
    let pairs = a.iter().zip(&b);
    Ok(pairs.filter_map(|(a, b)| step_difference(a, b)).next())
}

/// Names the first column whose metadata differ, and in what: the model that made it, its tokenizer, its labels.
fn column_difference(a: &Schema, b: &Schema) -> String {
    let Some((a, b)) = a.fields().iter().zip(b.fields()).find(|(a, b)| a != b) else {
        return "columns".into();
    };
    let value =
        |field: &Field, key: &str| field.metadata().get(key).map_or("nothing", String::as_str).to_string();
    let keys = a.metadata().iter().chain(b.metadata().iter()).map(|(key, _)| key);
    let different = keys.map(|key| (key, value(b, key), value(a, key))).find(|(_, of_b, of_a)| of_b != of_a);
    match different {
        Some((key, of_b, of_a)) => format!("the {key} of column `{}`: {of_b}, not {of_a}", a.name()),
        None => format!("column `{}`", a.name()),
    }
}

/// Names what differs between the same stage of two shards that must not.
fn step_difference(a: &Step, b: &Step) -> Option<String> {
    if essence(a) != essence(b) {
        return Some(format!("{}: another version, model, tokenizer or dtype (nyx.pg)", a.tool));
    }
    let (of_a, of_b) = (plan::what(&a.command), plan::what(&b.command));
    // Stages after the first read files that a shard may well name in its own way.
    if a.share.is_some() && b.share.is_some() && of_a != of_b {
        return Some(format!("how the rows were made: `{of_b}`, not `{of_a}`"));
    }
    None
}

/// Returns what of a stage decides its numbers.
fn essence(step: &Step) -> [Option<&str>; 5] {
    let Step { tool, version, model, tokenizer, dtype, .. } = step;
    [Some(tool), Some(version), model.as_deref(), tokenizer.as_deref(), dtype.as_deref()]
}

/// The batches of all shards.
struct Joined {
    schema: SchemaRef,
    shards: VecDeque<(Shard, Option<Share>)>,
    /// One past the last region seen.
    next: u64,
    /// The part that is being read, where it says which it is.
    within: Option<Share>,
    /// Whether the shard that is being read has given a row.
    begun: bool,
    gaps: bool,
    failed: bool,
}

impl Joined {
    /// Checks that the regions of a batch go on from where the last one ended.
    fn check(&mut self, batch: &RecordBatch) -> Result<()> {
        let regions = crate::schema::u64s(batch, REGION)?;
        for row in 0..regions.len() {
            self.check_region(regions, row)?;
        }
        Ok(())
    }

    fn check_region(&mut self, regions: &UInt64Array, row: usize) -> Result<()> {
        let region = regions.value(row);
        if let Some(share) = self.within
            && !(share.first..share.end).contains(&region)
        {
            let Share { first, end, .. } = share;
            return Err(Error::data(format!(
                "region {region} is not of {share}, which has those from {first} to before {end}"
            )));
        }
        // Rows of one region stay together in one shard.
        let again = self.begun && region + 1 == self.next;
        if region < self.next && !again {
            return Err(Error::data(format!(
                "region {region} comes after region {}: shards overlap or are in another order",
                self.next - 1
            )));
        }
        if region > self.next {
            self.refuse_gap(region, "before it")?;
        }
        self.next = region + 1;
        self.begun = true;
        Ok(())
    }

    /// Refuses that the regions up to before `region` are missing, unless a filter may have dropped them.
    fn refuse_gap(&self, region: u64, place: &str) -> Result<()> {
        if self.gaps || self.within.is_some_and(|share| share.sparse) {
            return Ok(());
        }
        let missing = match region - self.next {
            1 => format!("region {} is missing", self.next),
            _ => format!("regions {}-{} are missing", self.next, region - 1),
        };
        Err(Error::data(format!("{missing} {place}: a shard too few? (--allow-gaps joins anyway)")))
    }

    /// Begins with the shard at the front.
    fn begin(&mut self, share: Option<Share>) {
        if self.within != share {
            self.within = share;
            // The order of the parts was checked: nothing is missing between them, nor is there twice.
            self.next = share.map_or(self.next, |share| share.first);
        }
    }

    /// Takes the next batch of the shard at the front; `None` at its end.
    fn batch(&mut self) -> Option<Result<RecordBatch>> {
        let ((_, pipe), share) = self.shards.front_mut()?;
        let (batch, share) = (pipe.batches.next(), *share);
        self.begin(share);
        let Some(batch) = batch else {
            let end = self.within.map_or(self.next, |share| share.end);
            return match self.next < end {
                true => self.refuse_gap(end, "at its end").err().map(Err),
                false => None,
            };
        };
        Some(batch.and_then(|batch| {
            self.check(&batch)?;
            crate::pipe::with_schema(&batch, &self.schema)
        }))
    }
}

impl Iterator for Joined {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            let path = self.shards.front()?.0.0.display().to_string();
            let Some(batch) = self.batch() else {
                self.shards.pop_front();
                self.begun = false;
                continue;
            };
            self.failed = batch.is_err();
            return Some(batch.map_err(|error| match error {
                // One stream on standard input is a plain pipe: the tool is name enough.
                Error::Truncated { upstream, rows } if path != "-" => {
                    Error::Truncated { upstream: format!("{upstream}, which wrote {path},"), rows }
                }
                other => other.at(path),
            }));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::UInt64Array;
    use arrow_schema::{DataType, Field, Metadata};

    use super::*;

    fn shard(kind: &str, regions: &[u64], step: &Step) -> Shard {
        let metadata = Metadata::new().with(KIND_KEY, kind);
        let metadata = provenance::append(&metadata, step.clone()).unwrap();
        let schema = Schema::new(vec![Field::new(REGION, DataType::UInt64, false)]).with_metadata(metadata);
        let schema = Arc::new(schema);
        let batches: Vec<_> = regions
            .chunks(2)
            .map(|regions| {
                let column = Arc::new(UInt64Array::from(regions.to_vec()));
                Ok(RecordBatch::try_new(schema.clone(), vec![column])?)
            })
            .collect();
        (PathBuf::from(format!("{regions:?}.arrows")), Pipe::new(schema, batches.into_iter()))
    }

    /// Makes a part that says which it is.
    pub(super) fn of_share(regions: &[u64], share: Share, command: &str) -> Shard {
        shard("regions", regions, &Step { share: Some(share), ..step(command, "m") })
    }

    /// Returns the regions of a pipe's rows.
    pub(super) fn regions_of(pipe: Pipe) -> Result<Vec<u64>> {
        let mut regions = Vec::new();
        for batch in pipe.into_parts().1 {
            regions.extend_from_slice(crate::schema::u64s(&batch?, REGION)?.values());
        }
        Ok(regions)
    }

    fn step(command: &str, model: &str) -> Step {
        Step {
            tool: "nyx-score".into(),
            command: command.into(),
            model: Some(model.into()),
            ..Step::default()
        }
    }

    fn joined(kind: &str, shards: &[&[u64]], allow_gaps: bool) -> Result<Vec<u64>> {
        let shards = shards.iter().map(|regions| shard(kind, regions, &step("", "m"))).collect();
        regions_of(merge(shards, allow_gaps, 3)?)
    }

    #[test]
    fn shards_in_order_become_the_whole() {
        assert_eq!(
            joined("regions", &[&[0, 1, 1, 2], &[], &[3], &[4, 5]], false).unwrap(),
            [0, 1, 1, 2, 3, 4, 5]
        );
        assert_eq!(joined("hits", &[&[3, 3], &[9]], false).unwrap(), [3, 3, 9]);
        assert_eq!(joined("regions", &[&[3], &[9]], true).unwrap(), [3, 9]);
    }

    #[test]
    fn overlaps_and_gaps_are_refused_and_the_shard_is_named() {
        let refused = |kind, shards: &[&[u64]], gaps| joined(kind, shards, gaps).unwrap_err().to_string();
        let overlap = refused("regions", &[&[0, 1], &[1, 2]], false);
        assert!(overlap.starts_with("[1, 2].arrows: region 1 comes after region 1"), "{overlap}");
        assert!(refused("hits", &[&[0, 1], &[1, 2]], false).contains("overlap"));
        assert!(refused("regions", &[&[2, 3], &[0, 1]], true).contains("another order"));
        let gap = refused("regions", &[&[0], &[3]], false);
        assert!(gap.contains("regions 1-2 are missing") && gap.contains("--allow-gaps"), "{gap}");
        assert!(refused("regions", &[&[1]], false).contains("region 0 is missing"));
    }

    #[test]
    fn shards_of_another_model_or_kind_are_refused_and_other_commands_counted() {
        let commands = vec![
            shard("regions", &[0], &step("a 1.arrows -o x", "m")),
            shard("regions", &[1], &step("a 2.arrows -o y", "m")),
        ];
        let chain = provenance::chain(&merge(commands, false, 3).unwrap().schema().metadata).unwrap();
        assert_eq!(chain[0].command, "a 1.arrows [and 1 other shards]");
        for other in [shard("regions", &[1], &step("", "another")), shard("hits", &[1], &step("", "m"))] {
            let shards = vec![shard("regions", &[0], &step("", "m")), other];
            let error = merge(shards, false, 3).err().unwrap().to_string();
            assert!(error.contains("[1].arrows: differs from [0].arrows"), "{error}");
        }
    }

    #[test]
    fn a_cut_shard_is_named() {
        let (path, pipe) = shard("regions", &[0], &step("", "m"));
        let (schema, batches) = pipe.into_parts();
        let cut = batches.chain([Err(Error::Truncated { upstream: "nyx-score".into(), rows: 1 })]);
        let shards = vec![(path, Pipe::new(schema, cut)), shard("regions", &[1], &step("", "m"))];
        let outcomes: Vec<_> = merge(shards, false, 1).unwrap().into_parts().1.collect();
        let error = outcomes.last().unwrap().as_ref().unwrap_err();
        assert_eq!((outcomes.len(), error.exit_status()), (2, 3));
        assert!(error.to_string().contains("[0].arrows"), "{error}");
    }
}
