//! The stage on streams made by hand.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};

use super::significance;
use super::*;
use crate::region::Strand;
use crate::schema::{APPLIED, Allele, PROBS, Row, RowBuilder, RowKind, float_vectors, strings};

/// A row: region, allele, probability of two classes if scored, status.
type Given = (u64, u16, Option<f32>, Status);

/// Two variants, the second with three alternates of which one is not scored.
const ROWS: [Given; 6] = [
    (0, 0, Some(0.9), Status::Ok),
    (0, 1, Some(0.3), Status::Ok),
    (4, 0, Some(0.2), Status::Ok),
    (4, 1, Some(0.6), Status::OffContig),
    (4, 2, None, Status::SymbolicAllele),
    (4, 3, Some(0.2), Status::Ok),
];

fn scored(rows: &[Given], shift: f32) -> Pipe {
    let base = RowKind::Variants.schema(None);
    let field = Field::new(PROBS, schema::floats(2), true)
        .with_metadata([(LABELS_KEY.to_string(), "off,on".to_string())]);
    let target = schema::with_field(&base, field);
    let mut builder = RowBuilder::new(RowKind::Variants, base);
    for &(region, allele, _, status) in rows {
        let row = Row {
            region,
            chrom: Some("chr1"),
            start: 95,
            end: 106,
            strand: Strand::Unknown,
            name: None,
            sequence: Some("ACGTACGTACG"),
            status,
        };
        let identity = Allele {
            variant: region,
            id: None,
            position: 101,
            reference: "C",
            alternate: ["A,G,T", "A", "G", "T"][usize::from(allele)],
            allele,
            haplotype: None,
        };
        builder.push_allele(&row, &identity);
    }
    let probs: Vec<_> = rows.iter().map(|row| row.2.map(|p| vec![1.0 - (p + shift), p + shift])).collect();
    let batch = builder.finish().unwrap();
    let batch = schema::with_columns(&batch, &target, vec![(PROBS, float_vectors(&probs, 2))]);
    Pipe::new(target, vec![batch].into_iter())
}

fn source(name: &str, pipe: Pipe) -> Source {
    Source { name: name.into(), pipe }
}

fn options() -> Options {
    Options { targets: vec!["on".into()], threshold: Some(0.5), ..Options::default() }
}

fn run(sources: Vec<Source>) -> RecordBatch {
    whole(effects(sources, options()).unwrap())
}

fn whole(pipe: Pipe) -> RecordBatch {
    let (schema, batches) = pipe.into_parts();
    let batches: Vec<_> = batches.map(Result::unwrap).collect();
    arrow_select::concat::concat_batches(&schema, &batches).unwrap()
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<Vec<f32>>> {
    let lists = batch[name].as_fixed_size_list();
    (0..lists.len())
        .map(|row| {
            lists.is_valid(row).then(|| lists.value(row).as_primitive::<Float32Type>().values().to_vec())
        })
        .collect()
}

fn texts<'b>(batch: &'b RecordBatch, name: &str) -> Vec<&'b str> {
    strings(batch, name).unwrap().iter().map(Option::unwrap_or_default).collect()
}

fn calls(batch: &RecordBatch) -> Vec<String> {
    let lists = batch[CALL].as_fixed_size_list();
    let text = |row| {
        lists
            .value(row)
            .as_string::<i32>()
            .iter()
            .map(|call| call.unwrap_or("."))
            .collect::<Vec<_>>()
            .join(",")
    };
    (0..lists.len()).map(|row| if lists.is_valid(row) { text(row) } else { ".".into() }).collect()
}

#[test]
fn every_alternate_is_one_row_and_keeps_its_status() {
    let batch = run(vec![source("", scored(&ROWS, 0.0))]);
    assert_eq!(batch.num_rows(), 4);
    assert_eq!(texts(&batch, STATUS), ["ok", "off_contig", "symbolic_allele", "ok"]);
    assert_eq!(texts(&batch, ALT), ["A", "A", "G", "T"]);
    let diff = numbers(&batch, "diff");
    assert!((diff[0].as_ref().unwrap()[0] - (0.3 - 0.9) * 0.9).abs() < 1e-6, "{diff:?}");
    assert_eq!((diff[2].clone(), diff[3].clone()), (None, Some(vec![0.0])));
    assert_eq!(calls(&batch), ["loss", "gain", ".", "none"]);
    assert!(!schema::has(batch.schema_ref(), PROBS) && !schema::has(batch.schema_ref(), schema::SEQUENCE));
}

#[test]
fn where_batches_end_does_not_matter() {
    let expected = run(vec![source("", scored(&ROWS, 0.0))]);
    for size in 1..6 {
        assert_eq!(run(vec![source("", scored(&ROWS, 0.0).rebatch(size))]), expected);
    }
}

#[test]
fn a_missing_reference_or_score_is_said() {
    let no_reference = run(vec![source("", scored(&ROWS[3..], 0.0))]);
    assert_eq!(texts(&no_reference, STATUS), ["off_contig", "symbolic_allele", "no_reference"]);
    assert_eq!(numbers(&no_reference, "diff"), [None, None, None]);
    let mut rows = ROWS;
    (rows[0].2, rows[2].3) = (None, Status::TooLong);
    let unscored = run(vec![source("", scored(&rows, 0.0))]);
    assert_eq!(texts(&unscored, STATUS), ["unscored", "off_contig", "symbolic_allele", "too_long"]);
    assert_eq!(numbers(&unscored, "diff")[0], None);
}

#[test]
fn rows_that_are_not_together_are_an_error() {
    let mut rows = ROWS;
    rows.swap(1, 2);
    let outcome = effects(vec![source("", scored(&rows, 0.0))], options()).unwrap().into_parts().1.last();
    assert!(outcome.unwrap().unwrap_err().to_string().contains("have to stay together"));
    rows = ROWS;
    rows.swap(2, 3);
    let outcome = effects(vec![source("", scored(&rows, 0.0))], options()).unwrap().into_parts().1.last();
    assert!(outcome.unwrap().unwrap_err().to_string().contains("the reference has to come first"));
    let (schema, _) = scored(&ROWS, 0.0).into_parts();
    let bare = Pipe::new(RowKind::Variants.schema(None), std::iter::empty());
    let error = effects(vec![source("", bare)], options()).err().unwrap().to_string();
    assert!(error.contains("no scores") && error.contains("nyx-score"), "{error}");
    assert!(schema::has(&schema, PROBS));
}

#[test]
fn folds_are_averaged_and_models_joined() {
    let sources = vec![
        source("enhancer", scored(&ROWS, 0.0)),
        source("TF", scored(&ROWS, 0.1)),
        source("enhancer", scored(&ROWS, 0.05)),
    ];
    let batch = run(sources);
    let schema = batch.schema();
    let field = schema.field_with_name("alt_prob").unwrap();
    assert_eq!(field.metadata()[LABELS_KEY], "enhancer,TF");
    let (means, spreads) = (numbers(&batch, "alt_prob"), numbers(&batch, "alt_prob_sd"));
    let row = means[0].as_ref().unwrap();
    assert!((row[0] - 0.325).abs() < 1e-6 && (row[1] - 0.4).abs() < 1e-6, "{row:?}");
    let row = spreads[0].as_ref().unwrap();
    assert!((row[0] - 0.05 / 2f32.sqrt()).abs() < 1e-6 && row[1].is_nan(), "{row:?}");
    assert_eq!(calls(&batch), ["loss,loss", "gain,gain", ".", "none,none"]);
}

#[test]
fn a_target_that_is_not_there_names_those_that_are() {
    let wrong = Options { targets: vec!["onn".into()], ..Options::default() };
    let error = effects(vec![source("", scored(&ROWS, 0.0))], wrong).err().unwrap();
    assert_eq!(error.exit_status(), 2);
    assert!(error.to_string().contains("off, on"), "{error}");
}

fn doubles(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let lists = batch[name].as_fixed_size_list();
    (0..lists.len())
        .map(|row| lists.is_valid(row).then(|| lists.value(row).as_primitive::<Float64Type>().value(0)))
        .collect()
}

#[test]
fn p_values_are_of_the_row_and_q_values_of_all() {
    let one = || effects(vec![source("", scored(&ROWS, 0.0))], options()).unwrap();
    let nulls = || vec![null::Null::new([0.0, 0.1, -0.2, 0.7])];
    let with_p = |pipe| significance::add_p_values(pipe, "diff", nulls()).unwrap();
    let batch = whole(significance::add_q_values(with_p(one())).unwrap());
    // |diff| is 0.54, 0.24 and 0.
    assert_eq!(doubles(&batch, significance::P_VALUE), [Some(0.4), Some(0.4), None, Some(1.0)]);
    let q: Vec<_> = doubles(&batch, significance::Q_VALUE)
        .into_iter()
        .map(|q| q.map(|q| (q * 1e9).round() / 1e9))
        .collect();
    assert_eq!(q, [Some(0.6), Some(0.6), None, Some(1.0)]);
    // Shards count their regions from 0 and have the same p-values; joined, they have the same q-values.
    let mut second = ROWS[2..].to_vec();
    second.iter_mut().for_each(|row| row.0 -= 4);
    let shards = [&ROWS[..2], &second]
        .map(|rows| with_p(effects(vec![source("", scored(rows, 0.0))], options()).unwrap()));
    let joined = whole(significance::add_q_values(shards::join(shards.into()).unwrap()).unwrap());
    assert_eq!(schema::u64s(&joined, REGION).unwrap().values(), &[0, 1, 1, 1]);
    for name in [significance::P_VALUE, significance::Q_VALUE, STATUS] {
        assert_eq!(&joined[name], &batch[name], "{name}");
    }
    let other = effects(vec![source("", scored(&ROWS, 0.0))], Options::default()).unwrap();
    let error = shards::join(vec![one(), other]).err().unwrap().to_string();
    assert!(error.contains("input 2 has other columns"), "{error}");
}

#[test]
fn both_windows_go_on_when_asked_for() {
    let with = Options { sequences: true, ..options() };
    let batch = whole(effects(vec![source("", scored(&ROWS[2..5], 0.0))], with.clone()).unwrap());
    assert_eq!(texts(&batch, REF_SEQUENCE), ["ACGTACGTACG"; 2]);
    assert_eq!(texts(&batch, ALT_SEQUENCE), ["ACGTACGTACG"; 2]);
    let alone = whole(effects(vec![source("", scored(&ROWS[3..5], 0.0))], with).unwrap());
    assert!(alone[REF_SEQUENCE].is_null(0) && alone[ALT_SEQUENCE].is_valid(0));
}

#[test]
fn the_long_form_has_a_row_for_every_model() {
    let sources = vec![source("enhancer", scored(&ROWS, 0.0)), source("TF", scored(&ROWS, 0.1))];
    let batch = whole(long::long(effects(sources, options()).unwrap()).unwrap());
    assert_eq!(texts(&batch, long::MODEL), ["enhancer", "TF"].repeat(4));
    assert_eq!(texts(&batch, CALL), ["loss", "loss", "gain", "gain", "", "", "none", "none"]);
    let numbers = batch["alt_prob"].as_primitive::<Float64Type>();
    assert_eq!((numbers.value(0), numbers.value(2), numbers.is_null(4)), (0.3, 0.6, true));
}

#[test]
fn a_null_is_the_effects_of_null_rows() {
    let null = || effects(vec![source("", scored(&ROWS, 0.0))], options()).unwrap();
    let nulls = significance::nulls(null(), "diff").unwrap();
    assert_eq!((nulls.len(), nulls[0].len()), (1, 3));
    let error = significance::nulls(null(), "jsd").err().unwrap().to_string();
    assert!(error.contains("they have ref_prob"), "{error}");
}

#[test]
fn a_haplotype_is_compared_with_the_sum_of_its_variants() {
    let base = with_column(RowKind::Variants.schema(None), APPLIED, DataType::Utf8);
    let target = schema::with_field(&base, Field::new(schema::LOGITS, schema::floats(1), true));
    // Allele, haplotype, applied, logit: the reference, its allele, a variant of another record, three haplotypes.
    let rows = [
        (0, None, "", 1.0),
        (1, None, "101:C>A", 3.0),
        (1, None, "103:G>T", 0.5),
        (1, Some("s|1"), "101:C>A;103:G>T", 4.0),
        (0, Some("s|2"), "", 1.0),
        (0, Some("t|1"), "103:G>T;104:T>TT", 9.0),
    ];
    let mut builder = RowBuilder::new(RowKind::Variants, RowKind::Variants.schema(None));
    for (allele, haplotype, ..) in rows {
        let (start, end, strand, status) = (95, 106, Strand::Unknown, Status::Ok);
        let row = Row { region: 0, chrom: None, start, end, strand, name: None, sequence: None, status };
        let (reference, alternate) = ("C", "A");
        builder.push_allele(
            &row,
            &Allele { variant: 0, id: None, position: 101, reference, alternate, allele, haplotype },
        );
    }
    let logits: Vec<_> = rows.iter().map(|row| Some(vec![row.3])).collect();
    let applied: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2)));
    let columns = vec![(APPLIED, applied), (schema::LOGITS, float_vectors(&logits, 1))];
    let batch = schema::with_columns(&builder.finish().unwrap(), &target, columns);
    let batch = run(vec![source("", Pipe::new(target, vec![batch].into_iter()))]);
    let one = |value: f32| Some(vec![value]);
    // The joint effect is 3, the single ones 2 and -0.5; one variant of the last haplotype is not in the group.
    assert_eq!(numbers(&batch, EPISTASIS), [None, None, one(1.5), one(0.0), None]);
    assert_eq!(numbers(&batch, "delta_logit"), [one(2.0), one(-0.5), one(3.0), one(0.0), one(8.0)]);
}

fn with_column(schema: SchemaRef, name: &str, kind: DataType) -> SchemaRef {
    schema::with_field(&schema, Field::new(name, kind, true))
}
