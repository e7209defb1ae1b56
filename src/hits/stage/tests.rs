//! The stage on streams made by hand.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Int64Type};
use arrow_array::{ArrayRef, Float16Array, Int64Array, ListArray, StringArray, UInt16Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use half::f16;

use super::*;
use crate::dna::reverse_complement;
use crate::hits::fit::Solver;
use crate::motif::filters::{Choice, build};
use crate::motif::{Matrix, Pattern};
use crate::schema;

/// GATAAG with a strong core; nothing like its own reverse complement.
fn motifs() -> Arc<MotifSet> {
    let columns: Vec<[f64; 4]> = b"NGATAAGN"
        .iter()
        .map(|&letter| std::array::from_fn(|base| if b"ACGT"[base] == letter { 1.0 } else { 0.01 }))
        .collect();
    let cwm = Matrix::from_columns(&columns);
    let pattern = Pattern { tag: "gata".into(), hypothetical: Some(cwm.clone()), cwm };
    Arc::new(build(&[pattern], &Choice::default()).unwrap())
}

/// A row: strand, sequence, contributions on the observed bases.
type Row = (&'static str, Option<String>, Option<Vec<f32>>);

fn pipe(rows: Vec<Row>) -> Pipe {
    let count = rows.len();
    let ends = rows.iter().map(|(_, sequence, _)| 1000 + sequence.as_ref().map_or(30, String::len) as i64);
    let contributions: Vec<_> = rows.iter().map(|(.., values)| values.clone()).collect();
    let arrays: Vec<(&str, ArrayRef)> = vec![
        (schema::REGION, Arc::new(UInt64Array::from_iter_values(0..count as u64))),
        (schema::CHROM, Arc::new(StringArray::from(vec!["chr1"; count]))),
        (schema::START, Arc::new(Int64Array::from(vec![1000; count]))),
        (schema::END, Arc::new(Int64Array::from_iter_values(ends))),
        (schema::STRAND, Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
        (schema::NAME, Arc::new(StringArray::from(vec![Some("peak"); count]))),
        (schema::SEQUENCE, Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1.clone())))),
        (schema::CONTRIBUTIONS, schema::float_lists(&contributions)),
        (schema::ALLELE, Arc::new(UInt16Array::from_iter_values((0..count as u16).map(|i| 100 + i)))),
    ];
    batch_pipe(arrays)
}

fn batch_pipe(arrays: Vec<(&str, ArrayRef)>) -> Pipe {
    let fields: Vec<Field> =
        arrays.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = arrays.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    Pipe::new(schema, std::iter::once(Ok(batch)))
}

fn run(pipe: Pipe, options: Options) -> Result<(RecordBatch, Summary)> {
    let (pipe, summary) = call(pipe, motifs(), options, |_| ())?;
    let batch = pipe.into_parts().1.next().expect("one batch")?;
    let summary = summary.lock().unwrap().clone();
    Ok((batch, summary))
}

/// A sequence with the motif at 10 (trimmed GATAAG), weak noise around it.
fn planted() -> (String, Vec<f32>) {
    let sequence = "CCCTCCTCCCGATAAGCCTCCTCCTTCCCC".to_string();
    let values = (0..30).map(|i| if (10..16).contains(&i) { 1.0 } else { 0.01 * (i % 3) as f32 }).collect();
    (sequence, values)
}

fn starts(batch: &RecordBatch) -> Vec<i64> {
    batch["start"].as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn a_planted_motif_is_found_where_it_is_on_either_strand() {
    let (sequence, values) = planted();
    let mut reverse = sequence.clone().into_bytes();
    reverse_complement(&mut reverse);
    let reversed: Vec<f32> = values.iter().rev().copied().collect();
    let rows: Vec<Row> = vec![
        ("+", Some(sequence.clone()), Some(values.clone())),
        (".", Some(sequence), Some(values)),
        ("-", Some(String::from_utf8(reverse).unwrap()), Some(reversed)),
    ];
    let (hits, _) = run(pipe(rows), Options::default()).unwrap();
    assert_eq!(starts(&hits), [1010; 3], "one hit each, at the same place of the genome");
    assert_eq!(hits["end"].as_primitive::<Int64Type>().values(), &[1016; 3]);
    assert_eq!(hits["start_untrimmed"].as_primitive::<Int64Type>().values(), &[1009; 3]);
    assert_eq!(hits["end_untrimmed"].as_primitive::<Int64Type>().values(), &[1017; 3]);
    assert!(hits["strand"].as_string::<i32>().iter().all(|strand| strand == Some("+")));
    let coefficients = hits["hit_coefficient"].as_primitive::<Float32Type>();
    assert!((coefficients.value(0) - coefficients.value(2)).abs() < 1e-4 * coefficients.value(0));
    assert!((hits["hit_similarity"].as_primitive::<Float32Type>().value(0) - 1.0).abs() < 1e-3);
    assert_eq!(hits["allele"].as_primitive::<arrow_array::types::UInt16Type>().values(), &[100, 101, 102]);
}

#[test]
fn rows_that_cannot_have_hits_are_counted_and_harm_none() {
    let (sequence, values) = planted();
    let bad = |value: f32| {
        let mut values = values.clone();
        values[3] = value;
        values
    };
    let rows: Vec<Row> = vec![
        ("+", Some(sequence.clone()), Some(bad(f32::NAN))),
        ("+", Some(sequence.clone()), Some(bad(f32::NEG_INFINITY))),
        ("+", Some(sequence.clone()), Some(vec![0.0; 30])),
        ("+", Some("N".repeat(30)), Some(values.clone())),
        ("+", Some("ACG".into()), Some(vec![1.0; 3])),
        ("+", Some(sequence.clone()), None),
        ("+", None, None),
        ("+", Some(format!("{sequence}CC")), Some([values.clone(), vec![0.0; 2]].concat())),
        ("+", Some(String::new()), Some(vec![])),
        ("+", Some(sequence), Some(values)),
    ];
    for compat in [false, true] {
        let mut options = Options { strict: true, ..Options::default() };
        options.settings.compat = compat;
        let (hits, summary) = run(pipe(rows.clone()), options).unwrap();
        assert_eq!(hits["region"].as_primitive::<arrow_array::types::UInt64Type>().values(), &[7, 9]);
        assert_eq!(
            summary.to_string(),
            "2 hits in 10 regions; 2 missing; 2 nonfinite; 1 all_zero; 1 all_n; 2 too_short"
        );
    }
}

#[test]
fn strict_names_the_first_region_that_has_not_converged() {
    let (sequence, values) = planted();
    let rows: Vec<Row> =
        vec![("+", Some(sequence.clone()), Some(vec![0.0; 30])), ("+", Some(sequence), Some(values))];
    let mut options = Options { strict: true, ..Options::default() };
    options.settings.solver = Solver::Proxgrad;
    options.settings.max_steps = 1;
    options.settings.tolerance = 1e-9;
    let error = run(pipe(rows.clone()), options).unwrap_err();
    assert!(error.to_string().starts_with("region 1 (peak) has not converged"), "{error}");
    assert_eq!(error.exit_status(), 1);
    options.strict = false;
    let (hits, summary) = run(pipe(rows), options).unwrap();
    assert_eq!(summary.statuses[&RegionStatus::NotConverged], 1);
    assert!(!hits["converged"].as_boolean().value(0));
}

#[test]
fn what_a_mode_lacks_is_named() {
    let rows = || pipe(vec![("+", Some("ACGT".into()), Some(vec![0.0; 4]))]);
    let hypothetical = Options { mode: Mode::Ph, ..Options::default() };
    let error = run(rows(), hypothetical).unwrap_err().to_string();
    assert!(error.contains("mode ph") && error.contains("`hypothetical`"), "{error}");
    let (schema, batches) = rows().into_parts();
    let without = |name: &str| {
        let keep: Vec<usize> =
            (0..schema.fields().len()).filter(|&i| schema.field(i).name() != name).collect();
        Pipe::new(Arc::new(schema.project(&keep).unwrap()), std::iter::empty())
    };
    drop(batches);
    for name in ["sequence", "contributions"] {
        let error = call(without(name), motifs(), Options::default(), |_| ()).err().unwrap().to_string();
        assert!(error.contains(&format!("`{name}`")), "{error}");
    }
    let short = pipe(vec![("+", Some("ACGTACGTAC".into()), Some(vec![0.0; 9]))]);
    let error = run(short, Options::default()).unwrap_err().to_string();
    assert!(error.starts_with("region 0: 9 contributions for a sequence of 10 bases"), "{error}");
}

/// One row per list of hypothetical contributions, 4 × 30 in half precision, of the planted sequence.
fn half_precision(rows: &[Vec<f16>]) -> Pipe {
    let count = rows.len();
    let item = Arc::new(Field::new("item", DataType::Float16, false));
    let lists = ListArray::new(
        item,
        arrow_buffer::OffsetBuffer::from_lengths(rows.iter().map(Vec::len)),
        Arc::new(Float16Array::from(rows.concat())),
        None,
    );
    assert!(lists.values().as_primitive_opt::<Float16Type>().is_some());
    batch_pipe(vec![
        (schema::REGION, Arc::new(UInt64Array::from_iter_values(0..count as u64))),
        (schema::CHROM, Arc::new(StringArray::from(vec![None::<&str>; count]))),
        (schema::START, Arc::new(Int64Array::from(vec![0; count]))),
        (schema::END, Arc::new(Int64Array::from(vec![30; count]))),
        (schema::STRAND, Arc::new(StringArray::from(vec!["."; count]))),
        (schema::NAME, Arc::new(StringArray::from(vec![None::<&str>; count]))),
        (schema::SEQUENCE, Arc::new(StringArray::from(vec![planted().0; count]))),
        (schema::HYPOTHETICAL, Arc::new(lists)),
    ])
}

/// Hypothetical contributions of the planted sequence, with another value where a base is not observed.
fn planted_hypothetical(unobserved: f32) -> Vec<f16> {
    let (sequence, values) = planted();
    let observed = |base: usize, at: usize| sequence.as_bytes()[at] == b"ACGT"[base];
    let value = |base, at| if observed(base, at) { values[at] } else { unobserved };
    (0..120).map(|cell| f16::from_f32(value(cell / 30, cell % 30))).collect()
}

#[test]
fn hypothetical_contributions_serve_projected_modes_in_half_precision_too() {
    let (sequence, values) = planted();
    let (expected, _) = run(pipe(vec![("+", Some(sequence), Some(values))]), Options::default()).unwrap();
    let (hits, _) = run(half_precision(&[planted_hypothetical(-7.0)]), Options::default()).unwrap();
    assert_eq!(starts(&hits), [10]);
    let number = |batch: &RecordBatch| batch["hit_coefficient"].as_primitive::<Float32Type>().value(0);
    assert!((number(&hits) - number(&expected)).abs() < 1e-2 * number(&expected));
}

#[test]
fn bad_hypothetical_contributions_harm_no_other_row() {
    let good = planted_hypothetical(-0.1);
    let bad = |value: f16| {
        let mut row = good.clone();
        row[45] = value;
        row
    };
    let rows = [
        bad(f16::NEG_INFINITY),
        bad(f16::INFINITY),
        bad(f16::NAN),
        vec![f16::ZERO; 120],
        good[..20].to_vec(),
        good.clone(),
    ];
    for mode in [Mode::Ph, Mode::Hh] {
        let (schema, batches) = half_precision(&rows).into_parts();
        // A sequence is not needed here, and one of another length would be an error.
        let keep: Vec<usize> =
            (0..schema.fields().len()).filter(|&at| schema.field(at).name() != "sequence").collect();
        let target = Arc::new(schema.project(&keep).unwrap());
        let projected = batches.map(move |batch| Ok(batch?.project(&keep)?));
        let options = Options { mode, strict: true, ..Options::default() };
        let (hits, summary) = run(Pipe::new(target, projected), options).unwrap();
        assert_eq!(starts(&hits), [10], "{mode:?}");
        assert_eq!(
            summary.to_string(),
            "1 hits in 6 regions; 3 nonfinite; 1 all_zero; 1 too_short",
            "{mode:?}"
        );
    }
}
