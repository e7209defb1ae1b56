//! Which set of examples a row belongs to: train, dev or test.
//!
//! | rule | rows go |
//! |---|---|
//! | by contig | where their contig is held out; one that is held out for both goes to either by a coin (NyxBind's chr11 and chr12) |
//! | by label | in blocks: of every 10 rows of a label, 8 to train, 1 to dev and 1 to test, in random order |
//! | by region, by sequence | by chance, but all rows of a region, or of a sequence and its reverse complement, together |
//!
//! Everything random follows from the seed and from what the row is, so that neither batches nor other rows change it.

use std::collections::{HashMap, HashSet};

use arrow_array::{Array, RecordBatch};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::dna::reverse_complement;
use crate::error::{Error, Result};
use crate::schema::{self, CHROM, LABEL, REGION, SEQUENCE, STATUS, Status};

/// Labels that are told apart; more are measurements, not classes.
const MOST_LABELS: usize = 10_000;

/// A set of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Set {
    /// What weights are learned from.
    Train,
    /// What chooses weights and ends training.
    Dev,
    /// What is measured once, at the end.
    Test,
}

impl Set {
    /// All sets, in the order of a split.
    pub const ALL: [Self; 3] = [Self::Train, Self::Dev, Self::Test];

    /// Returns the name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

/// How many rows of a whole go to train, dev and test: `80:10:10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts([usize; 3]);

impl std::str::FromStr for Parts {
    type Err = Error;

    /// Reads two or three whole numbers by `:`; the third part is 0 where there are two.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::usage(format!("`{text}`: write parts as 80:20 or 80:10:10"));
        let numbers: Vec<usize> =
            text.split(':').map(|part| part.trim().parse().map_err(|_| wrong())).collect::<Result<_>>()?;
        let parts = match numbers[..] {
            [train, dev] => [train, dev, 0],
            [train, dev, test] => [train, dev, test],
            _ => return Err(wrong()),
        };
        let whole: usize = parts.iter().sum();
        if parts[0] == 0 || whole > 1_000_000 {
            return Err(wrong());
        }
        let divisor = parts.into_iter().fold(0, greatest_common_divisor);
        Ok(Self(parts.map(|part| part / divisor)))
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

impl Parts {
    /// Returns the smallest number of rows that can be parted so.
    fn block(self) -> usize {
        self.0.iter().sum()
    }

    /// Returns the set of the row at a place of a block, before the block is shuffled.
    fn set(self, place: usize) -> Set {
        let [train, dev, _] = self.0;
        match place {
            place if place < train => Set::Train,
            place if place < train + dev => Set::Dev,
            _ => Set::Test,
        }
    }
}

/// What decides.
#[derive(Clone, Debug)]
pub enum Rule {
    /// Contigs that are held out for dev and for test.
    Contigs {
        /// Those of dev.
        dev: HashSet<String>,
        /// Those of test.
        test: HashSet<String>,
    },
    /// The same parts of every label.
    Label(Parts),
    /// Rows of a region stay together.
    Region(Parts),
    /// Rows of a sequence, and of its reverse complement, stay together.
    Sequence(Parts),
}

impl Rule {
    /// Says whether rows can go to a set at all: it has a part of the whole, or contigs.
    pub fn fills(&self, set: Set) -> bool {
        match (self, set) {
            (Self::Label(parts) | Self::Region(parts) | Self::Sequence(parts), _) => {
                parts.0[set as usize] > 0
            }
            (Self::Contigs { .. }, Set::Train) => true,
            (Self::Contigs { dev, .. }, Set::Dev) => !dev.is_empty(),
            (Self::Contigs { test, .. }, Set::Test) => !test.is_empty(),
        }
    }
}

/// Which rows are examples at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Bases that a sequence has at least.
    pub length_least: usize,
    /// Whether sequences with N are left out.
    pub without_n: bool,
}

/// Decides row by row.
pub struct Splitter {
    rule: Rule,
    wanted: Wanted,
    seed: u64,
    /// By label, the rows so far and the order of the present block.
    blocks: HashMap<Vec<u32>, Block>,
    /// Region and contig of the last row that had one: shuffles of a sequence stand nowhere and go with it.
    last: Option<(u64, String)>,
}

#[derive(Default)]
struct Block {
    rows: usize,
    order: Vec<usize>,
}

impl Splitter {
    /// Begins a split.
    pub fn new(rule: Rule, wanted: Wanted, seed: u64) -> Self {
        Self { rule, wanted, seed, blocks: HashMap::new(), last: None }
    }

    /// Returns the set of every row of a batch; `None` for rows that are no examples: without a sequence, with a status
    /// other than `ok`, without a label where others have one, or not wanted.
    ///
    /// # Errors
    ///
    /// When a row has no contig to go by, or labels are no classes.
    pub fn sets(&mut self, batch: &RecordBatch) -> Result<Vec<Option<Set>>> {
        let (regions, sequences) = (schema::u64s(batch, REGION)?, schema::strings(batch, SEQUENCE)?);
        let (chroms, statuses) = (schema::strings(batch, CHROM)?, schema::strings(batch, STATUS)?);
        let labels = match schema::has(&batch.schema(), LABEL) {
            true => Some(schema::lists(batch, LABEL)?),
            false => None,
        };
        let mut sets = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let label = match labels {
                Some(labels) if labels.is_null(row) => None,
                Some(labels) => Some(schema::float_items(labels, row)?),
                None => Some(&[] as &[f32]),
            };
            let usable = sequences.is_valid(row) && statuses.value(row) == Status::Ok.as_str();
            let Some(label) = label.filter(|_| usable && self.is_wanted(sequences.value(row))) else {
                sets.push(None);
                continue;
            };
            let chrom = chroms.is_valid(row).then(|| chroms.value(row));
            let set = self.set(regions.value(row), chrom, sequences.value(row), label);
            sets.push(Some(set.map_err(|error| error.at(schema::describe(batch, row)))?));
        }
        Ok(sets)
    }

    fn is_wanted(&self, sequence: &str) -> bool {
        sequence.len() >= self.wanted.length_least && !(self.wanted.without_n && sequence.contains('N'))
    }

    fn set(&mut self, region: u64, chrom: Option<&str>, sequence: &str, label: &[f32]) -> Result<Set> {
        match &self.rule {
            Rule::Contigs { .. } => {
                self.remember(region, chrom)?;
                Ok(self.of_contig(region))
            }
            Rule::Label(parts) => self.of_label(*parts, label),
            Rule::Region(parts) => Ok(parts.set(self.draw(&region.to_le_bytes(), parts.block()))),
            Rule::Sequence(parts) => {
                let mut other = sequence.as_bytes().to_vec();
                reverse_complement(&mut other);
                let key = sequence.as_bytes().min(&other);
                Ok(parts.set(self.draw(key, parts.block())))
            }
        }
    }

    fn remember(&mut self, region: u64, chrom: Option<&str>) -> Result<()> {
        match (chrom, &self.last) {
            (None, Some((last, _))) if *last == region => Ok(()),
            (Some(chrom), Some((last, known))) if *last == region && known == chrom => Ok(()),
            (Some(chrom), _) => {
                self.last = Some((region, chrom.to_string()));
                Ok(())
            }
            (None, _) => Err(Error::data(
                "no contig, and it does not follow a row of its region that has one: split by label, region or sequence",
            )),
        }
    }

    fn of_contig(&self, region: u64) -> Set {
        let Rule::Contigs { dev, test } = &self.rule else { return Set::Train };
        let chrom = self.last.as_ref().map_or("", |(_, chrom)| chrom);
        match (dev.contains(chrom), test.contains(chrom)) {
            (false, false) => Set::Train,
            (true, false) => Set::Dev,
            (false, true) => Set::Test,
            (true, true) if self.draw(&region.to_le_bytes(), 2) == 0 => Set::Dev,
            (true, true) => Set::Test,
        }
    }

    fn of_label(&mut self, parts: Parts, label: &[f32]) -> Result<Set> {
        let key: Vec<u32> = label.iter().map(|number| number.to_bits()).collect();
        if self.blocks.len() == MOST_LABELS && !self.blocks.contains_key(&key) {
            return Err(Error::data(format!(
                "more than {MOST_LABELS} labels are no classes: split by region or sequence"
            )));
        }
        let (size, seed) = (parts.block(), self.seed);
        let block = self.blocks.entry(key).or_default();
        if block.rows.is_multiple_of(size) {
            let bytes: Vec<u8> = label.iter().flat_map(|number| number.to_le_bytes()).collect();
            let mut random = generator(seed, &[&bytes, &(block.rows as u64).to_le_bytes()]);
            block.order = (0..size).collect();
            block.order.shuffle(&mut random);
        }
        let place = block.order[block.rows % size];
        block.rows += 1;
        Ok(parts.set(place))
    }

    /// Draws a number below `end` that depends on the seed and `key` only.
    fn draw(&self, key: &[u8], end: usize) -> usize {
        generator(self.seed, &[key]).random_range(0..end)
    }
}

fn generator(seed: u64, keys: &[&[u8]]) -> StdRng {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    keys.iter().for_each(|key| hasher.update(key));
    StdRng::from_seed(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Strand;
    use crate::schema::{Row, RowBuilder, RowKind};

    struct Example {
        region: u64,
        chrom: Option<&'static str>,
        sequence: &'static str,
        label: Option<f32>,
    }

    fn batch(examples: &[Example]) -> RecordBatch {
        let mut builder = RowBuilder::new(RowKind::Labelled, RowKind::Labelled.schema(None));
        for example in examples {
            let row = Row {
                region: example.region,
                chrom: example.chrom,
                start: 0,
                end: example.sequence.len() as i64,
                strand: Strand::Unknown,
                name: None,
                sequence: Some(example.sequence),
                status: Status::Ok,
            };
            builder.push_labelled(&row, example.label.as_ref().map(std::slice::from_ref));
        }
        builder.finish().unwrap()
    }

    fn many(count: u64) -> RecordBatch {
        let example = |region: u64| Example {
            region,
            chrom: Some(["a", "b", "c"][region as usize % 3]),
            sequence: "ACGT",
            label: Some(if region.is_multiple_of(4) { 1.0 } else { 0.0 }),
        };
        batch(&(0..count).map(example).collect::<Vec<_>>())
    }

    fn split(rule: Rule, seed: u64, batch: &RecordBatch, rows: usize) -> Vec<Option<Set>> {
        let mut splitter = Splitter::new(rule, Wanted::default(), seed);
        let starts = (0..batch.num_rows()).step_by(rows);
        let cut = |start| batch.slice(start, rows.min(batch.num_rows() - start));
        starts.flat_map(|start| splitter.sets(&cut(start)).unwrap()).collect()
    }

    fn count(sets: &[Option<Set>], wanted: Set, of: impl Fn(usize) -> bool) -> usize {
        sets.iter().enumerate().filter(|(row, set)| **set == Some(wanted) && of(*row)).count()
    }

    #[test]
    fn labels_have_their_parts_in_every_set_whatever_the_batches() {
        let rule = || Rule::Label("80:10:10".parse().unwrap());
        let rows = many(400);
        let sets = split(rule(), 1, &rows, 400);
        assert_eq!(sets, split(rule(), 1, &rows, 7));
        assert_ne!(sets, split(rule(), 2, &rows, 400));
        for (set, expected) in [(Set::Train, [80, 240]), (Set::Dev, [10, 30]), (Set::Test, [10, 30])] {
            let positive = |row: usize| row.is_multiple_of(4);
            assert_eq!(
                [count(&sets, set, positive), count(&sets, set, |row| !positive(row))],
                expected,
                "{set:?}"
            );
        }
        // Not the same place of every block.
        let tests: HashSet<usize> =
            (0..400).filter(|&row| sets[row] == Some(Set::Test)).map(|row| row % 40).collect();
        assert!(tests.len() > 5, "{tests:?}");
    }

    #[test]
    fn contigs_that_are_held_out_for_both_are_tossed_for_and_the_others_are_not() {
        let held = |names: &[&str]| names.iter().map(ToString::to_string).collect::<HashSet<_>>();
        let rows = many(600);
        let sets = split(Rule::Contigs { dev: held(&["a"]), test: held(&["b"]) }, 0, &rows, 9);
        let expected: Vec<_> = (0..600).map(|row| Some([Set::Dev, Set::Test, Set::Train][row % 3])).collect();
        assert_eq!(sets, expected);
        let sets = split(Rule::Contigs { dev: held(&["a", "b"]), test: held(&["b", "a"]) }, 0, &rows, 9);
        assert_eq!(count(&sets, Set::Train, |row| row % 3 == 2), 200);
        let dev = count(&sets, Set::Dev, |_| true);
        assert!((150..250).contains(&dev) && count(&sets, Set::Test, |_| true) == 400 - dev, "{dev}");
    }

    #[test]
    fn a_row_that_stands_nowhere_goes_with_the_row_of_its_region() {
        let held: HashSet<String> = ["chr11".to_string()].into();
        let rule = Rule::Contigs { dev: HashSet::new(), test: held };
        let example = |region, chrom| Example { region, chrom, sequence: "AC", label: Some(0.0) };
        let rows =
            batch(&[example(3, Some("chr11")), example(3, None), example(4, Some("chr1")), example(4, None)]);
        let sets = split(rule.clone(), 0, &rows, 1);
        assert_eq!(sets, [Set::Test, Set::Test, Set::Train, Set::Train].map(Some));
        let error = Splitter::new(rule, Wanted::default(), 0).sets(&batch(&[example(5, None)])).unwrap_err();
        assert!(error.to_string().contains("no contig"), "{error}");
    }

    #[test]
    fn a_sequence_and_its_reverse_complement_stay_together() {
        let pairs =
            [("AACG", "CGTT"), ("ACCC", "GGGT"), ("TTGA", "TCAA"), ("GATT", "AATC"), ("CATA", "TATG")];
        let example = |(region, sequence): (usize, &'static str)| Example {
            region: region as u64,
            chrom: None,
            sequence,
            label: Some(0.0),
        };
        let texts = pairs.iter().flat_map(|pair| [pair.0, pair.1]);
        let rows = batch(&texts.enumerate().map(example).collect::<Vec<_>>());
        let mut found = HashSet::new();
        for seed in 0..20 {
            let sets = split(Rule::Sequence("1:1:1".parse().unwrap()), seed, &rows, 3);
            for pair in sets.chunks(2) {
                assert_eq!(pair[0], pair[1]);
                found.insert(pair[0]);
            }
        }
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_set_without_a_part_or_contigs_is_never_filled() {
        let filled = |rule: Rule| Set::ALL.map(|set| rule.fills(set));
        assert_eq!(filled(Rule::Region("8:2".parse().unwrap())), [true, true, false]);
        assert_eq!(filled(Rule::Label("8:1:1".parse().unwrap())), [true; 3]);
        let test = HashSet::from(["chr11".to_string()]);
        assert_eq!(filled(Rule::Contigs { dev: HashSet::new(), test }), [true, false, true]);
    }

    #[test]
    fn what_is_no_example_goes_nowhere() {
        let example = |sequence, label| Example { region: 0, chrom: None, sequence, label };
        let rows = batch(&[
            example("ACGT", Some(1.0)),
            example("ACNT", Some(1.0)),
            example("ACG", Some(1.0)),
            example("ACGT", None),
        ]);
        let wanted = Wanted { length_least: 4, without_n: true };
        let mut splitter = Splitter::new(Rule::Region("1:1".parse().unwrap()), wanted, 0);
        let sets = splitter.sets(&rows).unwrap();
        assert!(sets[0].is_some() && sets[1..].iter().all(Option::is_none), "{sets:?}");
        for bad in ["80", "0:1", "a:b", "1:2:3:4"] {
            assert!(bad.parse::<Parts>().is_err(), "{bad}");
        }
    }
}
