use proptest::prelude::*;

use super::*;
use crate::region::Strand;
use crate::schema::{Row, RowBuilder, RowKind, Status};
use arrow_schema::Field;

/// A window at `start` of contig `chrom` with one value a base.
type Window = (usize, i64, Vec<f32>);

const NAMES: [&str; 3] = ["chrB", "chrA", "chrC"];

fn genome() -> Genome {
    Genome::new("g.fa", NAMES.iter().map(|name| (name.to_string(), 60)).collect())
}

/// Makes a pipe of windows with contributions and, as their first value, the scalar `delta`.
pub(crate) fn pipe(windows: &[Window], batch: usize) -> Pipe {
    let base = RowKind::Regions.schema(Some(&genome()));
    let list = schema::list_of(DataType::Float32);
    let schema = schema::with_field(&base, Field::new(schema::CONTRIBUTIONS, list, true));
    let schema = schema::with_field(&schema, Field::new(schema::DELTA, DataType::Float32, true));
    let mut batches = Vec::new();
    for windows in windows.chunks(batch) {
        let mut rows = RowBuilder::new(RowKind::Regions, base.clone());
        for (chrom, start, values) in windows {
            let end = start + values.len() as i64;
            rows.push(&Row {
                region: 0,
                chrom: Some(NAMES[*chrom]),
                start: *start,
                end,
                strand: Strand::Unknown,
                name: None,
                sequence: None,
                status: Status::Ok,
            });
        }
        let lists: Vec<_> = windows.iter().map(|(_, _, values)| Some(values.clone())).collect();
        let deltas = windows.iter().map(|(_, _, values)| values.first().copied());
        let columns: Vec<(&str, arrow_array::ArrayRef)> = vec![
            (schema::CONTRIBUTIONS, schema::float_lists(&lists)),
            (schema::DELTA, Arc::new(deltas.collect::<arrow_array::Float32Array>())),
        ];
        batches.push(schema::with_columns(&rows.finish().unwrap(), &schema, columns));
    }
    Pipe::new(schema, batches.into_iter())
}

fn run(windows: &[Window], batch: usize, column: &str, bytes: usize) -> Result<Vec<Interval>> {
    let pipe = pipe(windows, batch);
    let choice = Choice::new(pipe.schema(), Some(column), None)?;
    intervals(pipe, choice, Some(&genome()), bytes)?.collect()
}

/// Spreads intervals over bases.
fn bases(intervals: &[Interval]) -> HashMap<(String, u64), f32> {
    let spread = |interval: &Interval| {
        let Interval { chrom, start, end, value } = interval.clone();
        (start..end).map(move |base| ((chrom.to_string(), base), value))
    };
    intervals.iter().flat_map(spread).collect()
}

/// The mean of each base, by adding up every window over the whole contig.
fn naive(windows: &[Window], scalar: bool) -> HashMap<(String, u64), f32> {
    let mut sums: HashMap<(String, u64), (f64, u32)> = HashMap::new();
    for (chrom, start, values) in windows {
        for (offset, value) in values.iter().enumerate() {
            let base = start + offset as i64;
            let value = if scalar { values[0] } else { *value };
            if (0..60).contains(&base) && value.is_finite() {
                let entry = sums.entry((NAMES[*chrom].to_string(), base as u64)).or_default();
                entry.0 += f64::from(value);
                entry.1 += 1;
            }
        }
    }
    sums.into_iter().map(|(base, (sum, count))| (base, (sum / f64::from(count)) as f32)).collect()
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    let value = prop_oneof![8 => (-3i8..4).prop_map(f32::from), 1 => Just(f32::NAN)];
    let window = (0usize..3, -9i64..58, prop::collection::vec(value, 0..15));
    prop::collection::vec(window, 0..14)
}

proptest! {
    #[test]
    fn every_base_has_the_mean_of_the_windows_over_it(windows in windows(), batch in 1usize..5) {
        for (column, scalar) in [(schema::CONTRIBUTIONS, false), (schema::DELTA, true)] {
            let found = run(&windows, batch, column, 1 << 20).unwrap();
            // Small whole numbers add up exactly in any order.
            prop_assert_eq!(bases(&found), naive(&windows, scalar));
        }
    }

    #[test]
    fn sorted_rows_give_the_same_with_and_without_memory(mut windows in windows()) {
        windows.sort_by_key(|(chrom, start, _)| (*chrom, *start));
        let streamed = run(&windows, 3, schema::CONTRIBUTIONS, 0).unwrap();
        prop_assert_eq!(&streamed, &run(&windows, 2, schema::CONTRIBUTIONS, 1 << 20).unwrap());
        let apart = |pair: &[Interval]| {
            pair[0].chrom != pair[1].chrom || pair[0].end < pair[1].start
                || (pair[0].end == pair[1].start && pair[0].value != pair[1].value)
        };
        prop_assert!(streamed.windows(2).all(apart), "intervals overlap or could be one: {:?}", streamed);
    }
}

#[test]
fn rows_out_of_order_beyond_the_memory_are_an_error() {
    let windows = [(0, 9, vec![1.0]), (0, 3, vec![2.0])];
    let error = run(&windows, 5, schema::CONTRIBUTIONS, 0).unwrap_err().to_string();
    assert!(error.contains("chrB:4") && error.contains("--sort-memory"), "{error}");
    let twice = [(0, 9, vec![1.0]), (1, 3, vec![2.0]), (0, 12, vec![2.0])];
    assert!(run(&twice, 1, schema::CONTRIBUTIONS, 0).is_err());
    assert_eq!(run(&twice, 1, schema::CONTRIBUTIONS, 1000).unwrap()[1].start, 12, "sorted in memory");
}

#[test]
fn a_class_has_to_be_chosen_among_several() {
    let field = |size| Schema::new(vec![Field::new(schema::PROBS, schema::floats(size), true)]);
    assert_eq!(Choice::new(&field(1), None, None).unwrap().kind, Kind::Class(0));
    assert_eq!(Choice::new(&field(3), None, Some(2)).unwrap().kind, Kind::Class(2));
    for class in [None, Some(3)] {
        let error = Choice::new(&field(3), None, class).unwrap_err().to_string();
        assert!(error.contains("3 classes"), "{error}");
    }
    assert!(Choice::new(&field(1), Some("status"), None).is_err());
    assert!(Choice::new(&field(1), Some(schema::DELTA), None).is_err());
}
