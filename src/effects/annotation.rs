//! What is near a variant: intervals that overlap its REF, and the nearest genes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, SchemaRef};

use super::DESCRIPTION_KEY;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::region::Strand;
use crate::schema::{self, CHROM, POS, REF};

/// A named interval, 0-based and half-open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Contig.
    pub chrom: String,
    /// First base.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
    /// What it is called.
    pub name: String,
    /// The strand it is read from.
    pub strand: Strand,
}

/// Which features a row is annotated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// All that share a base with REF: their names by comma.
    Overlapping,
    /// This many nearest ones: `NAME:DISTANCE` by comma, from near to far. The distance is 0 inside, negative
    /// upstream and positive downstream in the direction of the feature's strand; a neighbouring base is at 1.
    Nearest(usize),
}

/// A column to add.
pub struct Annotation {
    /// Name of the column.
    pub column: String,
    /// The features.
    pub features: Features,
    /// Which of them.
    pub relation: Relation,
}

/// Adds a column for every annotation; null where there is nothing to say.
///
/// # Errors
///
/// When the rows have no alleles with coordinates, or a column is there already.
pub fn annotate(pipe: Pipe, annotations: Vec<Annotation>) -> Result<Pipe> {
    for (name, kind) in [(CHROM, DataType::Utf8), (POS, DataType::Int64), (REF, DataType::Utf8)] {
        schema::require(pipe.schema(), name, &kind)?;
    }
    let mut target = pipe.schema().clone();
    for Annotation { column, relation, .. } in &annotations {
        if schema::has(&target, column) {
            return Err(Error::usage(format!(
                "--annotate {column}=…: the stream has this column, name it otherwise"
            )));
        }
        let description = match relation {
            Relation::Overlapping => format!("Overlapping {column}"),
            Relation::Nearest(_) => {
                format!("Nearest {column} and their distances, negative upstream and positive downstream")
            }
        };
        let metadata = [(DESCRIPTION_KEY.to_string(), description)];
        target =
            schema::with_field(&target, Field::new(column, DataType::Utf8, true).with_metadata(metadata));
    }
    let schema = target.clone();
    Ok(pipe.map(target, move |batch| annotate_batch(&batch, &schema, &annotations)))
}

fn annotate_batch(
    batch: &RecordBatch,
    target: &SchemaRef,
    annotations: &[Annotation],
) -> Result<RecordBatch> {
    let (chroms, positions) = (schema::strings(batch, CHROM)?, schema::i64s(batch, POS)?);
    let references = schema::strings(batch, REF)?;
    let columns = annotations.iter().map(|annotation| {
        let text = |row: usize| {
            let start = positions.value(row) - 1;
            let end = start + references.value(row).len() as i64;
            let chrom = chroms.is_valid(row).then(|| chroms.value(row))?;
            annotation.features.describe(chrom, start, end, annotation.relation)
        };
        let texts: StringArray = (0..batch.num_rows()).map(text).collect();
        (annotation.column.as_str(), Arc::new(texts) as ArrayRef)
    });
    schema::with_columns(batch, target, columns.collect())
}

/// Features by contig.
#[derive(Clone, Debug, Default)]
pub struct Features {
    contigs: HashMap<String, Contig>,
}

#[derive(Clone, Debug, Default)]
struct Contig {
    /// By start, those of the same start in their order.
    by_start: Vec<Feature>,
    /// The largest end of all features up to each of `by_start`.
    furthest: Vec<i64>,
    /// Places in `by_start` by end, those of the same end in reverse.
    by_end: Vec<usize>,
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        let mut contigs: HashMap<String, Contig> = HashMap::new();
        for feature in features {
            contigs.entry(feature.chrom.clone()).or_default().by_start.push(feature);
        }
        contigs.values_mut().for_each(Contig::index);
        Self { contigs }
    }
}

impl Features {
    /// Returns the contigs that have features, in no order.
    pub fn contigs(&self) -> impl Iterator<Item = &str> {
        self.contigs.keys().map(String::as_str)
    }

    fn describe(&self, chrom: &str, start: i64, end: i64, relation: Relation) -> Option<String> {
        let contig = self.contigs.get(chrom)?;
        let texts: Vec<String> = match relation {
            Relation::Overlapping => contig
                .overlapping(start, end)
                .into_iter()
                .map(|place| contig.by_start[place].name.clone())
                .collect(),
            Relation::Nearest(count) => {
                let nearest = contig.nearest(start, end, count).into_iter();
                nearest
                    .map(|(place, distance)| format!("{}:{distance}", contig.by_start[place].name))
                    .collect()
            }
        };
        (!texts.is_empty()).then(|| texts.join(","))
    }
}

impl Contig {
    fn index(&mut self) {
        self.by_start.sort_by_key(|feature| feature.start);
        let furthest = self.by_start.iter().scan(i64::MIN, |furthest, feature| {
            *furthest = feature.end.max(*furthest);
            Some(*furthest)
        });
        self.furthest = furthest.collect();
        self.by_end = (0..self.by_start.len()).rev().collect();
        self.by_end.sort_by_key(|&place| self.by_start[place].end);
    }

    /// Returns the places of the features that share a base with `[start, end)`, in order.
    fn overlapping(&self, start: i64, end: i64) -> Vec<usize> {
        let end = end.max(start + 1);
        let before_end = self.by_start.partition_point(|feature| feature.start < end);
        // Going left, nothing reaches `start` any more once the furthest end so far does not.
        let near = (0..before_end).rev().take_while(|&place| self.furthest[place] > start);
        let mut places: Vec<usize> = near.filter(|&place| self.by_start[place].end > start).collect();
        places.reverse();
        places
    }

    /// Returns the `count` nearest features and their distances; of equally near ones the first by start.
    fn nearest(&self, start: i64, end: i64, count: usize) -> Vec<(usize, i64)> {
        let end = end.max(start + 1);
        let mut found: Vec<(usize, i64)> =
            self.overlapping(start, end).into_iter().map(|place| (place, 0)).collect();
        let left = self.by_end.partition_point(|&place| self.by_start[place].end <= start);
        for &place in self.by_end[..left].iter().rev().take(count) {
            let feature = &self.by_start[place];
            // The variant is right of the feature: downstream of a forward one.
            let distance = start - feature.end + 1;
            found.push((place, if feature.strand == Strand::Reverse { -distance } else { distance }));
        }
        let right = self.by_start.partition_point(|feature| feature.start < end);
        for (place, feature) in self.by_start.iter().enumerate().skip(right).take(count) {
            let distance = feature.start - end + 1;
            found.push((place, if feature.strand == Strand::Reverse { distance } else { -distance }));
        }
        found.sort_by_key(|&(place, distance)| (distance.abs(), place));
        found.truncate(count);
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feature(start: i64, end: i64, strand: Strand, name: usize) -> Feature {
        Feature { chrom: "c".into(), start, end, name: name.to_string(), strand }
    }

    fn features(spans: &[(i64, i64, bool)]) -> Vec<Feature> {
        let mut features: Vec<Feature> = spans
            .iter()
            .enumerate()
            .map(|(name, &(start, width, reverse))| {
                feature(start, start + width, if reverse { Strand::Reverse } else { Strand::Forward }, name)
            })
            .collect();
        features.sort_by_key(|feature| feature.start);
        features
    }

    fn naive_distance(feature: &Feature, start: i64, end: i64) -> i64 {
        let gap = |left: i64, right: i64| right - left + 1;
        let (size, is_after) = if feature.end <= start {
            (gap(feature.end, start), true)
        } else if feature.start >= end {
            (gap(end, feature.start), false)
        } else {
            return 0;
        };
        // Downstream is after a forward feature and before a reverse one.
        if is_after == (feature.strand != Strand::Reverse) { size } else { -size }
    }

    proptest! {
        #[test]
        fn the_nearest_are_those_of_a_search_through_all(
            spans in prop::collection::vec((0i64..60, 1i64..15, any::<bool>()), 0..15),
            start in 0i64..70,
            width in 1i64..4,
            count in 1usize..5,
        ) {
            let sorted = features(&spans);
            let all: Features = sorted.iter().cloned().collect();
            let mut naive: Vec<(i64, usize)> = sorted.iter().enumerate()
                .map(|(place, feature)| (naive_distance(feature, start, start + width), place)).collect();
            let overlapping: Vec<&str> =
                naive.iter().filter(|(d, _)| *d == 0).map(|&(_, place)| sorted[place].name.as_str()).collect();
            let found = all.describe("c", start, start + width, Relation::Overlapping);
            prop_assert_eq!(found.unwrap_or_default(), overlapping.join(","));
            naive.sort_by_key(|&(distance, place)| (distance.abs(), place));
            let expected: Vec<String> = naive.iter().take(count)
                .map(|&(distance, place)| format!("{}:{distance}", sorted[place].name)).collect();
            let found = all.describe("c", start, start + width, Relation::Nearest(count));
            prop_assert_eq!(found.unwrap_or_default(), expected.join(","));
        }
    }

    #[test]
    fn upstream_follows_the_strand() {
        let all: Features = [feature(100, 200, Strand::Forward, 1), feature(300, 400, Strand::Reverse, 2)]
            .into_iter()
            .collect();
        let nearest = |position| all.describe("c", position, position + 1, Relation::Nearest(2)).unwrap();
        assert_eq!(nearest(250), "1:51,2:50".split(',').rev().collect::<Vec<_>>().join(","));
        assert_eq!(nearest(90), "1:-10,2:210");
        assert_eq!(nearest(200), "1:1,2:100");
        assert_eq!(nearest(150), "1:0,2:150");
        assert_eq!(nearest(400), "2:-1,1:201");
        assert_eq!(all.describe("d", 0, 1, Relation::Nearest(2)), None);
    }
}
