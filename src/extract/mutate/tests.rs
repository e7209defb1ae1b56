//! Tests of the whole stage: rows in, rows and their mutants out.

use proptest::prelude::*;

use super::*;

/// Rows `(chrom, start, end, strand, sequence)`.
type In = (Option<&'static str>, i64, i64, Strand, Option<String>);

fn pipe(rows: &[In]) -> Pipe {
    let schema = RowKind::Regions.schema(None);
    let mut builder = RowBuilder::new(RowKind::Regions, schema.clone());
    let mut batches = Vec::new();
    for (region, (chrom, start, end, strand, sequence)) in rows.iter().enumerate() {
        builder.push(&Row {
            region: region as u64 + 7,
            chrom: *chrom,
            start: *start,
            end: *end,
            strand: *strand,
            name: Some("peak"),
            sequence: sequence.as_deref(),
            status: if sequence.is_some() { Status::Ok } else { Status::UnknownContig },
        });
        batches.push(builder.finish());
    }
    Pipe::new(schema, batches.into_iter())
}

type Out = (u64, u16, i64, String, String, Option<String>);

fn run(rows: &[In], source: Source, batch_rows: usize) -> Result<Vec<Out>> {
    let mut out = Vec::new();
    for batch in mutate(pipe(rows), source, None, false, batch_rows)?.into_parts().1 {
        let batch = batch?;
        assert!(batch.num_rows() <= batch_rows);
        let text = |name: &str, row| schema::strings(&batch, name).unwrap().value(row).to_owned();
        for row in 0..batch.num_rows() {
            let variant = schema::u64s(&batch, schema::VARIANT).unwrap().value(row);
            assert_eq!(schema::u64s(&batch, schema::REGION).unwrap().value(row), variant + 7);
            let sequences = schema::strings(&batch, schema::SEQUENCE).unwrap();
            out.push((
                variant,
                schema::u16s(&batch, schema::ALLELE).unwrap().value(row),
                schema::i64s(&batch, schema::POS).unwrap().value(row),
                text(schema::REF, row),
                text(schema::ALT, row),
                sequences.is_valid(row).then(|| sequences.value(row).to_owned()),
            ));
        }
    }
    Ok(out)
}

fn all() -> Source {
    Source::Saturation(Saturation { deletions: true, insertions: true, span: None })
}

proptest! {
    #[test]
    fn applying_the_columns_to_the_forward_strand_gives_the_mutant(
        forward in "[ACGTN]{1,12}",
        reverse: bool,
        batch_rows in 1usize..30,
    ) {
        let length = forward.len();
        let turn = |text: &str| {
            let mut bases = text.as_bytes().to_vec();
            if reverse {
                dna::reverse_complement(&mut bases);
            }
            String::from_utf8(bases).unwrap()
        };
        let strand = if reverse { Strand::Reverse } else { Strand::Forward };
        let row = (Some("c"), 100, 100 + length as i64, strand, Some(turn(&forward)));
        let rows = run(&[row.clone(), row], all(), batch_rows).unwrap();
        let known = forward.bytes().filter(|base| *base != b'N').count();
        prop_assert_eq!(rows.len(), 2 * (1 + known * 8), "3 substitutions, a deletion, 4 insertions");
        for (_, allele, position, reference, alternate, sequence) in &rows {
            let bases = |text: &str| text.replace(['-', '.'], "");
            let at = (position - 101) as usize;
            let mut expected = turn(&format!(
                "{}{}{}",
                &forward[..at],
                bases(alternate),
                &forward[at + bases(reference).len()..]
            ));
            prop_assert!(forward[at..].starts_with(&bases(reference)));
            expected.truncate(length);
            let expected = format!("{expected}{}", "N".repeat(length - expected.len()));
            prop_assert_eq!(sequence.as_ref().unwrap(), &expected);
            prop_assert_eq!(*allele == 0, reference == "." && alternate == ".");
        }
    }
}

#[test]
fn a_row_without_a_sequence_stays_and_one_without_coordinates_counts_its_own_bases() {
    let rows = run(
        &[
            (None, 0, 2, Strand::Unknown, Some("AC".into())),
            (Some("c"), 5, 9, Strand::Forward, None),
            // An allele that is shorter than its stretch.
            (Some("c"), 5, 9, Strand::Reverse, Some("AC".into())),
        ],
        Source::Saturation(Saturation { span: Some(1), ..Saturation::default() }),
        100,
    );
    let rows = rows.unwrap();
    let of = |variant| rows.iter().filter(move |row| row.0 == variant).collect::<Vec<_>>();
    assert_eq!((of(0).len(), of(1).len(), of(2).len()), (4, 1, 4));
    assert_eq!((of(0)[1].2, of(0)[1].3.as_str(), of(0)[1].4.as_str()), (1, "A", "C"));
    assert_eq!(of(1)[0].5, None);
    assert_eq!((of(2)[1].2, of(2)[1].3.as_str(), of(2)[1].4.as_str()), (1, "A", "C"));
}

#[test]
fn the_mutations_of_a_file_are_those_of_dnabert() {
    let file = "0\t1\t2\tG\n0\t0\t0\tTT\n2\t1\t3\t\n";
    let source = || Source::File(MutationFile::new(Box::new(file.as_bytes()), "m".into()));
    let row = |sequence: &str| (None, 0, 0, Strand::Unknown, Some(sequence.to_string()));
    let rows = run(&[row("ACGT"), row("CCCC"), row("GATC")], source(), 2).unwrap();
    let sequences: Vec<_> = rows.iter().map(|row| row.5.as_deref().unwrap()).collect();
    assert_eq!(sequences, ["ACGT", "AGGT", "TTAC", "CCCC", "GATC", "GCNN"]);
    assert!(run(&[row("ACGT")], source(), 9).unwrap_err().to_string().contains("sequence 2"));
}

#[test]
fn more_mutants_than_alleles_are_refused_with_a_remedy() {
    let long = "ACGT".repeat(6000);
    let row = |sequence: &str| (None, 0, sequence.len() as i64, Strand::Unknown, Some(sequence.to_string()));
    let error = run(&[row(&long)], Source::Saturation(Saturation::default()), 9).unwrap_err().to_string();
    assert!(error.contains("--span"), "{error}");
}
