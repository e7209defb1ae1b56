//! Tests of the whole stage: records in, rows out.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use arrow_array::RecordBatch;
use noodles::{bcf, bgzf, tabix, vcf as noodles_vcf};
use noodles_vcf::variant::io::Write as _;
use proptest::prelude::*;

use super::*;
use crate::genome::Genome;
use crate::region::Region;
use crate::schema::{self, u16s, u64s};

/// A genome in memory.
#[derive(Clone)]
struct Memory(Vec<(&'static str, String)>);

impl Bases for Memory {
    fn contig_length(&self, chrom: &str) -> Option<u64> {
        self.0.iter().find(|(name, _)| *name == chrom).map(|(_, bases)| bases.len() as u64)
    }

    fn fetch(&mut self, chrom: &str, start: i64, end: i64, bases: &mut Vec<u8>) -> Result<()> {
        let contig = self.0.iter().find(|(name, _)| *name == chrom).unwrap().1.as_bytes();
        bases.clear();
        let base = |i: i64| usize::try_from(i).ok().and_then(|i| contig.get(i)).unwrap_or(&b'N');
        bases.extend((start..end).map(|i| base(i).to_ascii_uppercase()));
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Out {
    variant: u64,
    chrom: String,
    start: i64,
    end: i64,
    sequence: Option<String>,
    id: Option<String>,
    pos: i64,
    reference: String,
    alt: String,
    allele: u16,
    status: String,
}

fn options(width: usize) -> Options {
    Options {
        shape: Shape { width, anchor: Anchor::Left },
        ref_mismatch: RefMismatch::Status,
        unknown_contig: UnknownContig::Status,
        contig_map: ContigMap::new(),
        selection: Selection::new(None),
        file: "v.vcf".into(),
        batch_rows: 1024,
    }
}

fn record(chrom: &str, position: i64, alleles: &str) -> Record {
    Record {
        chrom: chrom.into(),
        position,
        alleles: alleles.split(',').map(Into::into).collect(),
        ..Record::at(Place::Record(1))
    }
}

/// Returns the text of a row in a column, unless it is null.
fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = schema::strings(batch, name).unwrap();
    arrow_array::Array::is_valid(column, row).then(|| column.value(row).to_owned())
}

/// Returns what a row of a batch says.
fn read(batch: &RecordBatch, row: usize) -> Out {
    let text = |name| text(batch, name, row);
    let number = |name| schema::i64s(batch, name).unwrap().value(row);
    let variant = u64s(batch, schema::VARIANT).unwrap().value(row);
    Out {
        variant,
        chrom: text(schema::CHROM).unwrap(),
        start: number(schema::START),
        end: number(schema::END),
        sequence: text(schema::SEQUENCE),
        id: text(schema::VARIANT_ID),
        pos: number(schema::POS),
        reference: text(schema::REF).unwrap(),
        alt: text(schema::ALT).unwrap(),
        allele: u16s(batch, schema::ALLELE).unwrap().value(row),
        status: text(schema::STATUS).unwrap(),
    }
}

fn run<G: Bases + Send + 'static>(records: Records, genome: G, options: Options) -> Result<Vec<Out>> {
    let provenance = provenance::Genome::new("g.fa", Vec::new());
    let (pipe, _) = rows(records, genome, &provenance, options);
    let mut out = Vec::new();
    for batch in pipe.into_parts().1 {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            assert_eq!(
                u64s(&batch, schema::VARIANT).unwrap().value(row),
                u64s(&batch, schema::REGION).unwrap().value(row)
            );
            out.push(read(&batch, row));
        }
    }
    Ok(out)
}

fn run_records(records: &[Record], contig: &str, options: Options) -> Result<Vec<Out>> {
    let records = records.to_vec();
    let records: Records = Box::new(records.into_iter().map(Ok));
    run(records, Memory(vec![("c", contig.into())]), options)
}

/// The rows of one record: start, end, sequence, status.
fn windows(contig: &str, position: i64, alleles: &str, options: Options) -> Vec<(i64, i64, String, String)> {
    let rows = run_records(&[record("c", position, alleles)], contig, options).unwrap();
    rows.into_iter().map(|r| (r.start, r.end, r.sequence.unwrap_or("-".into()), r.status)).collect()
}

fn expect(rows: &[(i64, i64, String, String)], wanted: &[(i64, i64, &str, &str)]) {
    let rows: Vec<_> = rows.iter().map(|(s, e, q, t)| (*s, *e, q.as_str(), t.as_str())).collect();
    assert_eq!(rows, wanted);
}

fn anchored(width: usize, anchor: Anchor) -> Options {
    Options { shape: Shape { width, anchor }, ..options(width) }
}

//                    0         1         2
//                    0123456789012345678901234
const CONTIG: &str = "ACGTACGGTTCCAAGTCTGAACCGT";

#[test]
fn each_class_of_variant_has_its_windows() {
    // SNV, then MNV: as long as REF, so the interval stays.
    expect(&windows(CONTIG, 11, "C,T", options(7)), &[(7, 14, "GTTCCAA", "ok"), (7, 14, "GTTTCAA", "ok")]);
    expect(&windows(CONTIG, 11, "CC,ga", options(7)), &[(7, 14, "GTTCCAA", "ok"), (7, 14, "GTTGAAA", "ok")]);
    // An insertion takes its room from the right flank, a deletion gives it to the right flank.
    expect(&windows(CONTIG, 11, "C,CGG", options(7)), &[(7, 14, "GTTCCAA", "ok"), (7, 12, "GTTCGGC", "ok")]);
    expect(&windows(CONTIG, 11, "CCA,C", options(7)), &[(7, 14, "GTTCCAA", "ok"), (7, 16, "GTTCAGT", "ok")]);
    // Several alternates, an asterisk, a symbol, an IUPAC code, no alternate at all.
    expect(
        &windows(CONTIG, 11, "C,G,*,<DEL>,R,C]c:5]", options(5)),
        &[
            (8, 13, "TTCCA", "ok"),
            (8, 13, "TTGCA", "ok"),
            (8, 13, "-", "spanning_deletion"),
            (8, 13, "-", "symbolic_allele"),
            (8, 13, "-", "not_bases"),
            (8, 13, "-", "symbolic_allele"),
        ],
    );
    expect(&windows(CONTIG, 11, "C", options(5)), &[(8, 13, "TTCCA", "ok")]);
}

#[test]
fn the_center_anchor_splits_the_difference_over_both_flanks() {
    expect(
        &windows(CONTIG, 11, "C,CGGTT", anchored(7, Anchor::Center)),
        &[(7, 14, "GTTCCAA", "ok"), (9, 12, "TCGGTTC", "ok")],
    );
    expect(
        &windows(CONTIG, 11, "CCAAG,C", anchored(7, Anchor::Center)),
        &[(9, 16, "TCCAAGT", "ok"), (7, 18, "GTTCTCT", "ok")],
    );
    // Equal lengths: all windows are the same interval.
    expect(
        &windows(CONTIG, 11, "CCA,TTT", anchored(7, Anchor::Center)),
        &[(8, 15, "TTCCAAG", "ok"), (8, 15, "TTTTTAG", "ok")],
    );
}

#[test]
fn the_ends_of_a_contig_are_padded() {
    expect(
        &windows(CONTIG, 1, "A,T", options(5)),
        &[(-2, 3, "NNACG", "off_contig"), (-2, 3, "NNTCG", "off_contig")],
    );
    expect(
        &windows(CONTIG, 25, "T,TA", options(5)),
        &[(22, 27, "CGTNN", "off_contig"), (22, 26, "CGTAN", "off_contig")],
    );
    // The windows that just fit, at either end.
    expect(&windows(CONTIG, 3, "G", options(5)), &[(0, 5, "ACGTA", "ok")]);
    expect(&windows(CONTIG, 23, "C", options(5)), &[(20, 25, "ACCGT", "ok")]);
    // Telomeres: POS 0, and one past the end.
    expect(&windows(CONTIG, 0, "N,]c:9]A", options(5))[..1], &[(-3, 2, "NNNAC", "off_contig")]);
    expect(&windows(CONTIG, 26, "N", options(5)), &[(23, 28, "GTNNN", "off_contig")]);
    // Far away there is nothing.
    expect(
        &windows(CONTIG, 1 << 40, "N", options(3))[..1],
        &[((1 << 40) - 2, (1 << 40) + 1, "NNN", "all_n")],
    );
    // REF reaching past the end cannot be what the genome has there.
    let rows = windows(CONTIG, 25, "TA,T", options(5));
    assert!(rows.iter().all(|row| row.3 == "ref_mismatch"), "{rows:?}");
}

#[test]
fn an_allele_that_does_not_fit_is_too_long() {
    expect(
        &windows(CONTIG, 11, "C,CGGG,CGG", options(5)),
        &[(8, 13, "TTCCA", "ok"), (8, 13, "-", "too_long"), (8, 11, "TTCGG", "ok")],
    );
    // A long REF: its row is the genome's window, the deletion is whole.
    expect(
        &windows(CONTIG, 11, "CCAAGTC,C", options(5)),
        &[(8, 13, "TTCCA", "too_long"), (8, 19, "TTCTG", "ok")],
    );
    expect(
        &windows(CONTIG, 11, "C,CGGGG,CGGGGG", anchored(5, Anchor::Center)),
        &[(8, 13, "TTCCA", "ok"), (10, 11, "CGGGG", "ok"), (8, 13, "-", "too_long")],
    );
}

#[test]
fn reference_letters_are_compared_in_either_case_and_n_in_ref_states_nothing() {
    assert_eq!(windows("TTTTacgNacgTTTT", 6, "CGN,C", options(6))[0].3, "ok");
    assert_eq!(windows("TTTTACGNACGTTTT", 6, "cg,c", options(6))[0].3, "ok");
    assert_eq!(
        windows("TTTTACGNACGTTTT", 6, "N,T", options(6)),
        windows("TTTTACGNACGTTTT", 6, "C,T", options(6))
    );
    // N in the genome is not the letter that REF states.
    assert_eq!(windows("TTTTACGNACGTTTT", 8, "A,T", options(6))[0].3, "ref_mismatch");
    assert_eq!(windows("TTTTACGNACGTTTT", 6, "R,T", options(6))[1].3, "not_bases");
    assert_eq!(windows("NNNNNN", 3, "N,A", options(3))[0].3, "all_n");
}

#[test]
fn the_three_policies_of_a_reference_mismatch() {
    let policy = |ref_mismatch| Options { ref_mismatch, ..options(5) };
    // The genome has C at 11.
    expect(
        &windows(CONTIG, 11, "G,C,<DEL>", policy(RefMismatch::Status)),
        &[
            (8, 13, "TTGCA", "ref_mismatch"),
            (8, 13, "TTCCA", "ref_mismatch"),
            (8, 13, "-", "symbolic_allele"),
        ],
    );
    let swapped = run_records(&[record("c", 11, "G,T,C")], CONTIG, policy(RefMismatch::Swap)).unwrap();
    let columns: Vec<_> = swapped
        .iter()
        .map(|r| (r.reference.as_str(), r.alt.as_str(), r.sequence.as_deref().unwrap()))
        .collect();
    assert_eq!(columns, [("C", "T,G", "TTCCA"), ("C", "T", "TTTCA"), ("C", "G", "TTGCA")]);
    assert!(swapped.iter().all(|row| row.status == "swapped"));
    let neither = windows(CONTIG, 11, "G,T", policy(RefMismatch::Swap));
    assert!(neither.iter().all(|row| row.3 == "ref_mismatch"), "{neither:?}");
    // A reference that has the inserted bases: the record is a deletion the other way round.
    let rows = run_records(&[record("c", 11, "CG,CCAA,C")], CONTIG, policy(RefMismatch::Swap)).unwrap();
    assert_eq!((rows[0].reference.as_str(), rows[1].alt.as_str()), ("CCAA", "CG"));
    assert_eq!((rows[0].sequence.as_deref(), rows[1].sequence.as_deref()), (Some("TTCCA"), Some("TTCGG")));
    let error = run_records(&[record("c", 11, "G,T")], CONTIG, policy(RefMismatch::Error)).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_status(), 1);
    for part in ["v.vcf", "record 1", "c:11 REF `G`, genome `C`", "g.fa", "--ref-mismatch"] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

#[test]
fn positions_that_are_off_by_one_are_recognized() {
    let shifted: Vec<_> =
        (2..14).map(|p| record("c", p, &format!("{},N", &CONTIG[p as usize..p as usize + 1]))).collect();
    let strict = Options { ref_mismatch: RefMismatch::Error, ..options(5) };
    let error = run_records(&shifted, CONTIG, strict.clone()).unwrap_err().to_string();
    assert!(error.contains("0-based") && error.contains("; …"), "{error}");
    let exchanged = [record("c", 11, "G,C")];
    let error = run_records(&exchanged, CONTIG, strict).unwrap_err().to_string();
    assert!(error.contains("exchanged"), "{error}");
}

#[test]
fn an_unknown_contig_is_an_error_or_a_status_and_a_map_makes_it_known() {
    let records = [record("1", 3, "G,T"), record("c", 3, "G")];
    let strict = Options { unknown_contig: UnknownContig::Error, ..options(3) };
    let error = run_records(&records, CONTIG, strict.clone()).unwrap_err().to_string();
    assert!(error.contains("contig `1`"), "{error}");
    let rows = run_records(&records, CONTIG, options(3)).unwrap();
    let statuses: Vec<_> = rows.iter().map(|row| row.status.as_str()).collect();
    assert_eq!(statuses, ["unknown_contig", "unknown_contig", "ok"]);
    assert!(rows[0].sequence.is_none());
    let mapped = Options { contig_map: [("1".to_string(), "c".to_string())].into(), ..strict };
    let rows = run_records(&records, CONTIG, mapped).unwrap();
    assert!(rows.iter().all(|row| row.status == "ok" && row.chrom == "c"));
}

#[test]
fn a_region_keeps_whole_records_and_counts_the_others() {
    let records: Vec<_> = [5, 10, 11, 20]
        .iter()
        .map(|&p| record("c", p, &format!("{},<X>", &CONTIG[p as usize - 1..p as usize])))
        .collect();
    let regions = [Region { chrom: "c".into(), start: 9, end: 11 }];
    let chosen = Options { selection: Selection::new(Some(&regions)), ..options(3) };
    let provenance = provenance::Genome::new("g.fa", Vec::new());
    let memory = Memory(vec![("c", CONTIG.into())]);
    let (pipe, counts) = rows(Box::new(records.into_iter().map(Ok)), memory, &provenance, chosen);
    let total: usize = pipe.into_parts().1.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!((total, counts.records.load(Relaxed), counts.outside.load(Relaxed)), (4, 2, 2));
}

#[test]
fn huge_alleles_and_thousands_of_alternates_stay_bounded() {
    let long = "ACGT".repeat(250_000);
    let alternates = vec!["C"; 6000].join(",");
    let records =
        [record("c", 11, &format!("C,{long},C{long}")), record("c", 11, &format!("C,{alternates}"))];
    let provenance = provenance::Genome::new("g.fa", Vec::new());
    let memory = Memory(vec![("c", CONTIG.into())]);
    let (pipe, _) = rows(Box::new(records.into_iter().map(Ok)), memory, &provenance, options(3_000_001));
    let sizes: Vec<_> = pipe.into_parts().1.take(3).map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(sizes, [1, 2, 2], "a batch ends when it holds 4 MiB");
    let rows = run_records(&[record("c", 11, &format!("C,{alternates}"))], CONTIG, options(11)).unwrap();
    assert_eq!((rows.len(), rows[6000].allele), (6001, 6000));
}

/// Applies an allele to the whole contig, far padded with N, and cuts the window. Independent of the code.
fn naive(contig: &str, position: i64, reference: &str, allele: &str, width: usize, anchor: Anchor) -> String {
    let pad = 400;
    let padded = format!("{}{}{}", "N".repeat(pad), contig, "N".repeat(pad));
    let first = (position - 1 + pad as i64) as usize;
    let changed = format!("{}{}{}", &padded[..first], allele, &padded[first + reference.len()..]);
    let middle = first + if anchor == Anchor::Center { allele.len() / 2 } else { 0 };
    changed[middle - width / 2..][..width].to_uppercase()
}

fn alternate() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[ACGTNacgt]{1,12}",
        1 => Just("*".to_string()),
        1 => Just("<DEL>".to_string()),
        1 => Just("G]c:3]".to_string()),
        1 => Just("RY".to_string()),
    ]
}

type Case = (i64, usize, bool, Vec<String>);

fn cases() -> impl Strategy<Value = (String, Vec<Case>)> {
    let case = (0i64..70, 1usize..14, prop::bool::weighted(0.8), prop::collection::vec(alternate(), 0..5));
    ("[ACGTN]{1,60}", prop::collection::vec(case, 0..12))
}

proptest! {
    #[test]
    fn rows_are_what_applying_the_allele_to_the_whole_contig_gives(
        (contig, cases) in cases(),
        width in 1usize..40,
        center: bool,
        batch_rows in 1usize..9,
    ) {
        let anchor = if center { Anchor::Center } else { Anchor::Left };
        let padded = |from: i64, length: usize| -> String {
            (from..from + length as i64)
                .map(|i| usize::try_from(i).ok().and_then(|i| contig.chars().nth(i)).unwrap_or('N'))
                .collect()
        };
        let records: Vec<Record> = cases
            .iter()
            .map(|(position, length, agrees, alternates)| {
                let genome = padded(position - 1, *length);
                let reference = if *agrees { genome } else { "GATTACAGATTACA"[..*length].to_string() };
                let alleles = std::iter::once(reference).chain(alternates.clone()).collect::<Vec<_>>();
                record("c", *position, &alleles.join(","))
            })
            .collect();
        let rows = run_records(&records, &contig, Options { batch_rows, ..anchored(width, anchor) }).unwrap();
        let all = run_records(&records, &contig, anchored(width, anchor)).unwrap();
        prop_assert_eq!(&rows, &all, "the batch size shows");
        prop_assert_eq!(rows.len(), records.iter().map(|r| r.alleles.len()).sum::<usize>());
        let expected = records.iter().enumerate();
        let expected = expected.flat_map(|(ordinal, r)| (0..r.alleles.len()).map(move |k| (ordinal, r, k)));
        for (row, (ordinal, record, k)) in rows.iter().zip(expected) {
            prop_assert_eq!((row.variant, usize::from(row.allele)), (ordinal as u64, k));
            let reference = &record.alleles[0];
            let allele = &record.alleles[k];
            let letters = allele.chars().all(|c| "ACGTNacgtn".contains(c));
            let room = if center { width } else { width - width / 2 };
            prop_assert_eq!(row.sequence.is_some(), k == 0 || letters && allele.len() <= room);
            let Some(sequence) = &row.sequence else { continue };
            prop_assert_eq!(sequence, &naive(&contig, record.position, reference, allele, width, anchor));
            if k > 0 {
                // The stretch that the row names, with the allele in it, is the sequence.
                let left = padded(row.start, (record.position - 1 - row.start) as usize);
                let after = record.position - 1 + reference.len() as i64;
                let right = padded(after, (row.end - after) as usize);
                prop_assert_eq!(sequence, &format!("{left}{}{right}", allele.to_uppercase()));
            }
        }
    }
}

/// A VCF with every class of record, on a contig that really has these bases.
fn sample_vcf() -> String {
    let mut text = "##fileformat=VCFv4.3\n##contig=<ID=d,length=9>\n##contig=<ID=c,length=25>\n\
                    ##INFO=<ID=END,Number=1,Type=Integer,Description=\"End, of a symbol\">\n\
                    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n\
                    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n"
        .to_string();
    for site in [
        "c\t11\trs1\tC\tT",
        "c\t11\t.\tCCA\tC,CCAA",
        "c\t3\t.\tG\t<DEL>",
        "c\t3\trs2;rs3\tG\t*,A",
        "c\t3\t.\tG\t.",
        "c\t3\t.\tG\t]c:9]G",
    ] {
        text += &format!("{site}\t.\t.\t.\tGT\t0|0\t0/1\n");
    }
    text
}

fn bgzip(text: &[u8]) -> Vec<u8> {
    let mut writer = bgzf::io::Writer::new(Vec::new());
    writer.write_all(text).unwrap();
    writer.finish().unwrap()
}

/// Converts VCF text to uncompressed BCF with noodles' own reader and writer.
fn to_bcf(text: &str) -> Vec<u8> {
    let mut reader = noodles_vcf::io::Reader::new(text.as_bytes());
    let header = reader.read_header().unwrap();
    let mut writer = bcf::io::Writer::from(Vec::new());
    writer.write_header(&header).unwrap();
    for record in reader.records() {
        writer.write_variant_record(&header, &record.unwrap()).unwrap();
    }
    writer.into_inner()
}

fn read_bytes(bytes: &[u8]) -> Result<Vec<Record>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("variants");
    std::fs::write(&path, bytes).unwrap();
    open(&path, Format::Auto, &Selection::new(None), &ContigMap::new())?.records.collect()
}

fn without_places(records: Vec<Record>) -> Vec<Record> {
    records.into_iter().map(|record| Record { place: Place::Record(0), ..record }).collect()
}

#[test]
fn all_formats_of_one_file_give_the_same_records() {
    let text = sample_vcf();
    let expected = without_places(read_bytes(text.as_bytes()).unwrap());
    assert_eq!(expected.len(), 6);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let bcf = to_bcf(&text);
    for bytes in [
        bgzip(text.as_bytes()),
        gzip.finish().unwrap(),
        zstd::encode_all(text.as_bytes(), 1).unwrap(),
        bgzip(&bcf),
        bcf,
        text.replace('\n', "\r\n").into_bytes(),
    ] {
        assert_eq!(without_places(read_bytes(&bytes).unwrap()), expected);
    }
}

#[test]
fn a_cut_file_is_an_error_that_names_it() {
    let text = sample_vcf();
    let bcf = to_bcf(&text);
    let whole = bgzip(&bcf);
    for cut in 1..whole.len() {
        let error = read_bytes(&whole[..cut]).unwrap_err().to_string();
        assert!(error.contains("variants"), "cut at {cut}: {error}");
    }
    assert!(read_bytes(b"").is_err());
    // Without BGZF only a cut inside a record can be seen.
    let mut wholes = 0;
    for cut in 1..bcf.len() {
        wholes += u32::from(read_bytes(&bcf[..cut]).is_ok());
    }
    assert_eq!(wholes, 6, "after the header and after each record but the last");
    let gzip = zstd::encode_all(text.as_bytes(), 1).unwrap();
    assert!(read_bytes(&gzip[..gzip.len() - 3]).is_err());
}

proptest! {
    #[test]
    fn damaged_bytes_are_an_error_or_records_but_never_a_panic(at in 0usize..2000, byte: u8) {
        let mut bcf = to_bcf(&sample_vcf());
        let at = at % bcf.len();
        bcf[at] = byte;
        let _ = read_bytes(&bcf);
        let mut text = sample_vcf().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let _ = read_bytes(&text);
    }
}

#[test]
fn an_error_is_the_last_item() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("v.vcf");
    for text in ["##fileformat=VCFv4.2\n", "##fileformat=VCFv4.2\nc\t1\n#CHROM\n"] {
        std::fs::write(&path, text).unwrap();
        let records = open(&path, Format::Auto, &Selection::new(None), &ContigMap::new()).unwrap().records;
        assert_eq!(records.take(9).map(|record| record.is_err()).collect::<Vec<_>>(), [true]);
    }
}

#[test]
fn an_index_gives_what_reading_all_gives() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.vcf.gz");
    let mut text = "##fileformat=VCFv4.3\n##contig=<ID=a>\n##contig=<ID=b>\n\
                    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        .to_string();
    for contig in ["a", "b"] {
        for n in 0..9000 {
            text += &format!("{contig}\t{}\tid{n}\tA\tG\t.\t.\t.\n", 1 + n * 7);
        }
    }
    std::fs::write(&path, bgzip(text.as_bytes())).unwrap();
    let noodles_vcf::Index::Tabix(index) = noodles_vcf::fs::index(&path).unwrap() else {
        panic!("not a tabix index");
    };
    tabix::fs::write(directory.path().join("many.vcf.gz.tbi"), &index).unwrap();
    let map: ContigMap = [("a".to_string(), "chrA".to_string())].into();
    for regions in
        ["chrA:1-1", "chrA:30000-31000 b:2-9", "b", "b:62990 chrA:9-9", "chrX", "chrA:1-70000 chrA:5-9"]
    {
        let regions: Vec<Region> = regions.split(' ').map(|text| text.parse().unwrap()).collect();
        let selection = Selection::new(Some(&regions));
        let select = |variants: Variants| -> Vec<Record> {
            let named = variants.records.map(|record| {
                let mut record = record.unwrap();
                record.chrom = map.get(&record.chrom).unwrap_or(&record.chrom).clone();
                record
            });
            without_places(named.filter(|r| selection.overlaps(&r.chrom, r.span().0, r.span().1)).collect())
        };
        let indexed = open(&path, Format::Auto, &selection, &map).unwrap();
        assert!(indexed.notes.is_empty());
        let all = open(&path, Format::Auto, &Selection::new(None), &map).unwrap();
        assert_eq!(select(indexed), select(all), "{regions:?}");
    }
    let near = Selection::new(Some(&["chrA:30000-31000".parse().unwrap()]));
    let read = open(&path, Format::Auto, &near, &map).unwrap().records.count();
    assert!((143..9000).contains(&read), "it did not seek: {read} records");
}

/// Counts rows by the ALT column as `bcftools query` prints it, or from the lines of text without bcftools.
fn independent_count(path: &Path) -> usize {
    let alternates = match Command::new("bcftools").args(["query", "-f", "%ALT\\n"]).arg(path).output() {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => {
            eprintln!("bcftools is not there or refuses {}: lines are counted instead", path.display());
            let text = crate::input::read_text(path).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
            lines.map(|line| line.split('\t').nth(4).unwrap().to_string() + "\n").collect()
        }
    };
    alternates.lines().map(|alt| if alt == "." { 1 } else { 1 + alt.split(',').count() }).sum()
}

fn read_rows(path: &Path, genome: impl Bases + Send + 'static, options: Options) -> Vec<Out> {
    let variants = open(path, Format::Auto, &options.selection, &ContigMap::new()).unwrap();
    run(variants.records, genome, options).unwrap()
}

#[test]
fn every_real_vcf_has_as_many_rows_as_alleles() {
    let Some(shared) = crate::testing::shared("") else { return };
    let mut paths = vec![shared.join("data/contribs/tangermeme_tests/test.vcf")];
    for folder in ["data/variants/vcf_misc", "data/benchmarks/peer_cases/bcftools_consensus"] {
        paths.extend(std::fs::read_dir(shared.join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|suffix| suffix == "vcf" || suffix == "gz"));
    assert!(paths.len() > 20);
    for path in paths {
        let rows = read_rows(&path, Memory(vec![("1", CONTIG.into())]), options(31));
        assert_eq!(rows.len(), independent_count(&path), "{}", path.display());
    }
}

#[test]
fn the_1000_genomes_agree_with_their_genome_in_all_formats() {
    let Some(shared) = crate::testing::shared("") else { return };
    let folder = shared.join("data/variants/1000G_chr20_1Mb");
    let fasta = shared.join("data/genome/hg19_chr20_1Mb/chr20.fa.gz");
    let genome = Genome::open(&fasta).unwrap();
    let strict = Options { ref_mismatch: RefMismatch::Error, ..options(201) };
    let vcf = folder.join("chr20.1kg.hg19.vcf.gz");
    let rows = read_rows(&vcf, genome.clone(), strict.clone());
    assert_eq!(rows.len(), independent_count(&vcf));
    assert!(rows.iter().all(|row| row.status == "ok" || row.status == "symbolic_allele"));
    let bcf = read_rows(&folder.join("chr20.1kg.hg19.bcf"), genome.clone(), strict.clone());
    assert!(bcf == rows, "BCF and VCF differ");
    // Both indices, against the rows of all.
    let regions: Vec<Region> =
        ["chr20:1100000-1101000", "chr20:1500000-1500500"].map(|text| text.parse().unwrap()).into();
    let chosen = Options { selection: Selection::new(Some(&regions)), ..strict };
    let indexed = read_rows(&vcf, genome.clone(), chosen.clone());
    assert!(!indexed.is_empty());
    assert_eq!(indexed, read_rows(&folder.join("chr20.1kg.hg19.bcf"), genome, chosen));
    let inside = rows.into_iter().filter(|row| {
        let (start, end) = (row.pos - 1, row.pos - 1 + row.reference.len() as i64);
        regions.iter().any(|region| region.start < end && start < region.end)
    });
    let sequences: Vec<_> = inside.map(|row| (row.sequence, row.pos, row.alt)).collect();
    assert_eq!(
        indexed.into_iter().map(|row| (row.sequence, row.pos, row.alt)).collect::<Vec<_>>(),
        sequences
    );
}

#[test]
fn the_variant_scorer_test_tables_are_one_table() {
    let Some(shared) = crate::testing::shared("") else { return };
    let folder = shared.join("data/variants/variant_scorer_tests");
    let read = |name: &str, format| {
        let variants = open(&folder.join(name), format, &Selection::new(None), &ContigMap::new()).unwrap();
        variants.records.map(|record| record.unwrap()).collect::<Vec<_>>()
    };
    let expected = read("test.chrombpnet.tsv", Format::Table(Schema::Chrombpnet));
    assert_eq!(expected.len(), 10);
    for (name, schema) in [
        ("test.original.tsv", Schema::Original),
        ("test.plink.tsv", Schema::Plink),
        ("test.bed", Schema::Bed),
    ] {
        assert_eq!(read(name, Format::Table(schema)), expected, "{name}");
        assert_eq!(read(name, Format::Auto), expected, "{name} guessed");
    }
}

#[test]
fn real_variants_are_what_applying_them_to_the_whole_contig_gives() {
    let Some(shared) = crate::testing::shared("") else { return };
    let mut genome = Genome::open(&shared.join("data/genome/hg19_chr20_1Mb/z.2bit")).unwrap();
    let length = genome.contig_length("z").unwrap() as i64;
    let mut contig = Vec::new();
    genome.fetch("z", 0, length, &mut contig).unwrap();
    let contig = String::from_utf8(contig).unwrap();
    let vcf = shared.join("data/variants/1000G_chr20_1Mb/z.vcf.gz");
    for anchor in [Anchor::Left, Anchor::Center] {
        let mut checked = 0;
        let rows = read_rows(&vcf, genome.clone(), anchored(200, anchor));
        let indels = rows.iter().filter(|row| row.allele > 0 && row.alt.len() != row.reference.len());
        for row in indels.step_by(7).chain(rows.iter().step_by(601)) {
            let Some(sequence) = &row.sequence else { continue };
            let allele = if row.allele == 0 { &row.reference } else { &row.alt };
            assert_eq!(sequence, &naive(&contig, row.pos, &row.reference, allele, 200, anchor), "{row:?}");
            checked += 1;
        }
        assert!(checked > 150, "{checked}");
    }
}

/// A line of a fuzzed VCF: contig, position, REF, ALTs, two genotypes, how often it stands there.
type Fuzzed = (&'static str, i64, String, Vec<String>, [(usize, usize, bool); 2], usize);

fn fuzzed() -> impl Strategy<Value = Vec<Fuzzed>> {
    let reference = prop_oneof![6 => "[ACGTNacgtn]{1,6}", 1 => "[RYK]{1,2}", 1 => "[ACGT]{200,300}"];
    let alternates = prop::collection::vec(
        prop_oneof![8 => alternate(), 1 => "[ACGT]{300,500}", 1 => Just("<NON_REF>".into())],
        0..4,
    );
    let genotypes = prop::array::uniform2((0usize..5, 0usize..5, any::<bool>()));
    let contig = prop::sample::select(vec!["c", "c", "c", "d", "1"]);
    prop::collection::vec((contig, 0i64..40, reference, alternates, genotypes, 1usize..3), 0..12)
}

/// Writes the lines as a VCF with two samples.
fn fuzzed_text(lines: &[Fuzzed]) -> String {
    let mut text = "##fileformat=VCFv4.3\n##contig=<ID=c>\n##contig=<ID=d>\n##contig=<ID=1>\n\
                    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n\
                    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"
        .to_string();
    for (contig, position, reference, alternates, genotypes, times) in lines {
        let allele = |index: usize| match index {
            4 => ".".to_string(),
            index => index.min(alternates.len()).to_string(),
        };
        let genotype = |(a, b, phased): (usize, usize, bool)| {
            format!("{}{}{}", allele(a), if phased { "|" } else { "/" }, allele(b))
        };
        let alt = if alternates.is_empty() { ".".to_string() } else { alternates.join(",") };
        let [a, b] = genotypes.map(genotype);
        let line = format!("{contig}\t{position}\t.\t{reference}\t{alt}\t.\t.\t.\tGT\t{a}\t{b}\n");
        text += &line.repeat(*times);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_record_of_a_fuzzed_vcf_disappears(lines in fuzzed(), center: bool, batch_rows in 1usize..50) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.vcf");
        let anchor = if center { Anchor::Center } else { Anchor::Left };
        let memory = || Memory(vec![("c", CONTIG.into()), ("d", "ACGTNACGTA".into())]);
        // In any order, unsorted as it is.
        std::fs::write(&path, fuzzed_text(&lines)).unwrap();
        let rows = read_rows(&path, memory(), Options { batch_rows, ..anchored(31, anchor) });
        prop_assert_eq!(rows.len(), independent_count(&path));
        for row in &rows {
            let silent = ["unknown_contig", "not_bases", "symbolic_allele", "spanning_deletion"];
            let expected = !silent.contains(&row.status.as_str())
                && (row.status != "too_long" || row.allele == 0);
            prop_assert_eq!(row.sequence.is_some(), expected, "{:?}", row);
        }
        // Sorted, with the haplotypes of two samples.
        let mut sorted = lines.clone();
        sorted.sort_by_key(|line| (line.0, line.1));
        std::fs::write(&path, fuzzed_text(&sorted)).unwrap();
        let haplotypes = |batch_rows| {
            let options = Options { batch_rows, ..anchored(31, anchor) };
            let samples = Samples::All;
            let opened =
                open_with(&path, Format::Auto, &options.selection, &ContigMap::new(), &samples).unwrap();
            let wanted = Haplotypes { samples: opened.samples, distinct: false, singles: false };
            let genome = provenance::Genome::new("g.fa", Vec::new());
            let (pipe, _) = haplotype_rows(opened.records, memory(), &genome, options, wanted);
            let batches = pipe.into_parts().1.map(|batch| batch.unwrap()).collect::<Vec<_>>();
            let schema = RowKind::Haplotypes.schema(Some(&genome));
            arrow_select::concat::concat_batches(&schema, &batches).unwrap()
        };
        let records: usize = lines.iter().map(|line| line.5).sum();
        let all = haplotypes(batch_rows);
        prop_assert_eq!(all.num_rows(), independent_count(&path) + 4 * records);
        prop_assert_eq!(&all, &haplotypes(1000), "the batch size shows");
        let sequences = schema::strings(&all, schema::SEQUENCE).unwrap();
        prop_assert!(sequences.iter().flatten().all(|bases| bases.len() == 31));
    }
}

/// Makes rows of haplotypes of one sample for each pair of calls, records in memory; `applied` beside them.
fn run_haplotypes(
    records: Vec<Record>,
    options: Options,
    samples: usize,
    wanted: Haplotypes,
) -> Vec<(Out, Option<String>, Option<String>)> {
    let names = (0..samples).map(|sample| format!("s{sample}")).collect();
    let wanted = Haplotypes { samples: names, ..wanted };
    let provenance = provenance::Genome::new("g.fa", Vec::new());
    let memory = Memory(vec![("c", CONTIG.into())]);
    let records: Records = Box::new(records.into_iter().map(Ok));
    let (pipe, _) = haplotype_rows(records, memory, &provenance, options, wanted);
    let mut out = Vec::new();
    for batch in pipe.into_parts().1 {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let own = read(&batch, row);
            out.push((own, text(&batch, schema::HAPLOTYPE, row), text(&batch, schema::APPLIED, row)));
        }
    }
    out
}

fn called(position: i64, alleles: &str, calls: &[u16]) -> Record {
    let calls = calls.iter().map(|&allele| Call::Allele(allele)).collect();
    let genotypes = Genotypes { calls, ..Genotypes::default() };
    Record { genotypes, ..record("c", position, alleles) }
}

#[test]
fn a_record_has_its_alleles_then_single_variants_then_haplotypes() {
    // GTTCCAAGT around 0-based 11; the sample has C>T there and, on both haplotypes, A>ACC two bases on.
    let records = || vec![called(12, "C,T", &[0, 1]), called(14, "A,ACC", &[1, 1])];
    let rows = |wanted: Haplotypes| {
        let rows = run_haplotypes(records(), options(9), 1, wanted);
        let row = |(own, haplotype, applied): (Out, Option<String>, Option<String>)| {
            let dash = |text: Option<String>| text.unwrap_or("-".into());
            format!(
                "{} {}:{}>{} {} {} {} {}-{}",
                own.variant,
                own.pos,
                own.reference,
                own.alt,
                dash(haplotype),
                own.sequence.unwrap(),
                dash(applied),
                own.start,
                own.end
            )
        };
        rows.into_iter().map(row).collect::<Vec<_>>()
    };
    let all = rows(Haplotypes { singles: true, ..Haplotypes::default() });
    assert_eq!(
        all,
        [
            "0 12:C>T - GTTCCAAGT  7-16",
            "0 12:C>T - GTTCTAAGT 12:C>T 7-16",
            "0 14:A>ACC - GTTCCAACC 14:A>ACC 7-14",
            "0 12:C>. s0|1 GTTCCAACC 14:A>ACC 7-14",
            "0 12:C>T s0|2 GTTCTAACC 12:C>T;14:A>ACC 7-14",
            "1 14:A>ACC - TCCAAGTCT  9-18",
            "1 14:A>ACC - TCCAACCGT 14:A>ACC 9-16",
            "1 12:C>T - TCTAAGTCT 12:C>T 9-18",
            "1 14:A>ACC s0|1 TCCAACCGT 14:A>ACC 9-16",
            "1 14:A>ACC s0|2 TCTAACCGT 12:C>T;14:A>ACC 9-16",
        ]
    );
    let plain = rows(Haplotypes::default());
    assert_eq!(plain.len(), 8, "{plain:?}");
    // Two samples of the same haplotypes, once.
    let twice = vec![called(12, "C,T", &[0, 1, 1, 0])];
    let distinct = Haplotypes { distinct: true, ..Haplotypes::default() };
    let names: Vec<_> =
        run_haplotypes(twice, options(9), 2, distinct).into_iter().filter_map(|row| row.1).collect();
    assert_eq!(names, ["s0|1,s1|2", "s0|2,s1|1"]);
}

proptest! {
    #[test]
    fn a_haplotype_with_one_variant_has_the_window_of_its_allele(
        position in 1i64..25,
        length in 1usize..8,
        alternate in "[ACGT]{1,8}",
        width in 2usize..30,
        center: bool,
    ) {
        let anchor = if center { Anchor::Center } else { Anchor::Left };
        let first = (position - 1) as usize;
        let reference = &CONTIG[first..(first + length).min(CONTIG.len())];
        prop_assume!(reference != alternate);
        let record = called(position, &format!("{reference},{alternate}"), &[0, 1]);
        let rows = run_haplotypes(vec![record], anchored(width, anchor), 1, Haplotypes::default());
        prop_assert_eq!(rows.len(), 4);
        for (alleles, haplotype) in [(&rows[0].0, &rows[2].0), (&rows[1].0, &rows[3].0)] {
            prop_assert_eq!(&alleles.sequence, &haplotype.sequence);
            prop_assert_eq!(&alleles.status, &haplotype.status);
            prop_assert_eq!(alleles.start, haplotype.start);
            // Without a right flank the stretch may end before or after a deletion: nobody can tell.
            if anchor.flanks(width, alternate.len()).is_some_and(|flanks| flanks.right > 0) {
                prop_assert_eq!(alleles.end, haplotype.end);
            }
        }
    }
}
