//! Annotation of files made by hand, in text and in binary.

use std::fs;
use std::io::Write as _;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, StringArray};
use arrow_schema::{DataType, Field};
use noodles::{bcf, vcf as noodles_vcf};

use super::*;
use crate::region::Strand;
use crate::schema::{self, Allele, LABELS_KEY, Row, RowBuilder, RowKind, Status, float_vectors};

const HEADER: &str = "##fileformat=VCFv4.2\n\
    ##FILTER=<ID=PASS,Description=\"All filters passed\">\n\
    ##INFO=<ID=DP,Number=1,Type=Integer,Description=\"Depth, of reads; ID=x\">\n\
    ##INFO=<ID=DB,Number=0,Type=Flag,Description=\"dbSNP\">\n\
    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n\
    ##contig=<ID=chr1,length=100000>\n\
    ##contig=<ID=chr2,length=100000>\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n";

const RECORDS: [&str; 6] = [
    "chr1\t10\trs1\tA\tC\t50\tPASS\tDP=5;DB\tGT\t0|1\t1|1\n",
    "chr1\t10\t.\tA\tC\t.\t.\t.\tGT\t0|1\t.|1\n",
    "chr1\t20\t.\tG\t.\t.\tPASS\tDP=1\tGT\t0|0\t0|0\n",
    "chr1\t30\ta;b\tAT\tA,ATT,<DEL>\t1.5\t.\tDP=3\tGT\t1|2\t0|3\n",
    "chr2\t7\t.\tT\tG\t.\t.\tDB\tGT\t0|0\t0|1\n",
    "chr2\t8\t.\tT\tG\t.\t.\t.\tGT\t0|0\t0|1\n",
];

/// The rows of [`effects`] with another text in one column of the first row.
fn effects_with(column: &str, text: &str) -> Pipe {
    let (schema, batches) = effects().into_parts();
    let index = schema.index_of(column).unwrap();
    let mut batches: Vec<_> = batches.collect::<Result<_>>().unwrap();
    let mut columns = batches[0].columns().to_vec();
    let rest = schema::strings(&batches[0], column).unwrap().iter().skip(1);
    columns[index] = Arc::new(std::iter::once(Some(text)).chain(rest).collect::<StringArray>());
    batches[0] = arrow_array::RecordBatch::try_new(schema.clone(), columns).unwrap();
    Pipe::new(schema, batches.into_iter().map(Ok))
}

/// What a stream holds may be anybody's: it must not begin a column, a field or a line of a VCF.
#[test]
fn texts_that_would_be_more_than_a_column_are_refused() {
    let write = |column: &str, text: &str| {
        let mut output = Vec::new();
        write_sites(effects_with(column, text), false, &mut output)
            .map(|()| String::from_utf8(output).unwrap())
    };
    let whole = write(schema::STATUS, "ok").unwrap();
    let lines = |text: &str| text.lines().count();
    assert_eq!(lines(&write(schema::STATUS, "a_status_of_later").unwrap()), lines(&whole));
    for status in ["", "ok;DP=5", "ok,ok", "ok\tx", "ok\nchr1\t1\t.\tA\tC", "a b", "a=b", "\u{1b}[2J", "é"] {
        let error = write(schema::STATUS, status).unwrap_err().to_string();
        assert!(error.contains("is no status") && !error.contains(['\n', '\t', '\u{1b}']), "{error}");
    }
    for column in [schema::CHROM, schema::REF, schema::ALT] {
        for text in ["A\tC", "A\nchr1", "A C", "A\r"] {
            let error = write(column, text).unwrap_err().to_string();
            assert!(error.contains("cannot be a column of a VCF"), "{column}: {error}");
        }
    }
}

/// In the header, a name stands between commas and brackets.
#[test]
fn contigs_that_cannot_be_named_in_a_header_are_refused() {
    let write = |contig: &str| {
        let genome = crate::provenance::Genome::new("g.fa", vec![("chr1".into(), 9), (contig.into(), 5)]);
        let (schema, batches) = effects().into_parts();
        let metadata = schema.metadata.clone();
        let metadata = metadata.with(crate::provenance::GENOME_KEY, serde_json::to_string(&genome).unwrap());
        let pipe = Pipe::new(schema.clone(), batches);
        let pipe = pipe.with_schema(Arc::new(schema.as_ref().clone().with_metadata(metadata)));
        let mut output = Vec::new();
        write_sites(pipe, false, &mut output).map(|()| String::from_utf8(output).unwrap())
    };
    assert!(write("HLA:A*01:01").unwrap().contains("##contig=<ID=HLA:A*01:01,length=5>\n"));
    for contig in ["a,length=1", "a>", "<a", "a\"b", "a b", "a\n##x=", "a\t"] {
        let error = write(contig).unwrap_err().to_string();
        assert!(error.contains("cannot be named in the header") && !error.contains('\n'), "{error}");
    }
}

/// Rows of the records 0, 1, 3 (all alternates but the second) and 5.
fn effects() -> Pipe {
    let base = RowKind::Variants.schema(None);
    let labelled = Field::new("diff", schema::floats(2), true)
        .with_metadata([(LABELS_KEY.to_string(), "enhancer/on,GATA1".to_string())]);
    let mut target = schema::with_field(&base, labelled);
    for (name, kind) in [("jsd", DataType::Float32), ("genes", DataType::Utf8)] {
        target = schema::with_field(&target, Field::new(name, kind, true));
    }
    let rows = [
        (0, "chr1", 10, "A", "C", 1, Status::Ok),
        (1, "chr1", 10, "A", "C", 1, Status::Unscored),
        (3, "chr1", 30, "AT", "A", 1, Status::OffContig),
        (3, "chr1", 30, "AT", "<DEL>", 3, Status::SymbolicAllele),
        (5, "chr2", 8, "T", "G", 1, Status::Ok),
    ];
    let mut builder = RowBuilder::new(RowKind::Variants, base);
    for (variant, chrom, position, reference, alternate, allele, status) in rows {
        let row = Row {
            region: variant,
            chrom: Some(chrom),
            start: position - 50,
            end: position + 50,
            strand: Strand::Unknown,
            name: None,
            sequence: None,
            status,
        };
        let identity = Allele { variant, id: None, position, reference, alternate, allele, haplotype: None };
        builder.push_allele(&row, &identity);
    }
    let diffs = [
        Some(vec![0.125, f32::NAN]),
        None,
        Some(vec![-1.5e-7, 2.0]),
        None,
        Some(vec![f32::NEG_INFINITY, 0.1]),
    ];
    let genes = [Some("A:-5,B c:7"), None, None, Some("x=y;z:0"), None];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("diff", float_vectors(&diffs, 2)),
        ("jsd", Arc::new(Float32Array::from(vec![Some(0.5), None, None, None, None]))),
        ("genes", Arc::new(StringArray::from(genes.to_vec()))),
    ];
    let batch = schema::with_columns(&builder.finish().unwrap(), &target, columns).unwrap();
    // A variant may be cut between batches.
    Pipe::new(target, [batch.slice(0, 3), batch.slice(3, 2)].into_iter().map(Ok))
}

fn annotate_text(text: &str) -> Result<String> {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.vcf"), directory.path().join("out.vcf"));
    fs::write(&input, text).unwrap();
    let outcome = annotate(effects(), &input, &Options::default(), &output);
    assert_eq!(outcome.is_ok(), output.exists(), "a file appears when all went well, and only then");
    let written = outcome?;
    assert_eq!((written.records, written.annotated, written.index), (6, 4, None));
    Ok(fs::read_to_string(&output).unwrap())
}

/// The text without the fields and their header lines.
fn stripped(text: &str) -> String {
    let field = regex::Regex::new(r"(;|\b)NYX_[^=;\t]*=[^;\t]*").unwrap();
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with("##INFO=<ID=NYX_"));
    lines.map(|line| field.replace_all(line, "").replace("\t\tGT", "\t.\tGT")).collect()
}

#[test]
fn nothing_but_the_fields_is_new() {
    let text = HEADER.to_string() + &RECORDS.concat();
    let annotated = annotate_text(&text).unwrap();
    assert_eq!(stripped(&annotated), text);
    let infos: Vec<&str> =
        annotated.lines().filter(|l| !l.starts_with('#')).map(|l| l.split('\t').nth(7).unwrap()).collect();
    assert_eq!(
        infos,
        [
            "DP=5;DB;NYX_STATUS=ok;NYX_DIFF_enhancer_on=0.125;NYX_JSD=0.5;NYX_GENES=A:-5&B%20c:7",
            "NYX_STATUS=unscored",
            "DP=1;NYX_STATUS=not_scored",
            "DP=3;NYX_STATUS=off_contig,not_scored,symbolic_allele;NYX_DIFF_enhancer_on=-1.5e-7,.,.;\
             NYX_DIFF_GATA1=2.0,.,.;NYX_GENES=.,.,x%3Dy%3Bz:0",
            "DB;NYX_STATUS=not_scored",
            "NYX_STATUS=ok;NYX_DIFF_enhancer_on=-inf;NYX_DIFF_GATA1=0.1",
        ]
    );
    assert_eq!(annotate_text(&annotated).unwrap(), annotated, "fields are replaced, not added again");
}

#[test]
fn rows_of_another_file_are_refused_by_name() {
    let without = HEADER.to_string() + &RECORDS[..5].concat();
    let error = annotate_text(&without).unwrap_err().to_string();
    assert!(error.contains("in.vcf") && error.contains("chr2:8 T>G"), "{error}");
    let cut = HEADER.to_string() + &RECORDS.concat()[..150];
    let error = annotate_text(&cut).unwrap_err().to_string();
    assert!(error.contains("in.vcf: line 12: ") && error.contains("columns"), "{error}");
    let headless =
        annotate_text("##fileformat=VCFv4.2\nchr1\t1\t.\tA\tC\t.\t.\t.\n").unwrap_err().to_string();
    assert!(headless.contains("no #CHROM line"), "{headless}");
}

#[test]
fn contigs_of_another_name_are_mapped() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.vcf"), directory.path().join("out.vcf"));
    fs::write(&input, (HEADER.to_string() + &RECORDS.concat()).replace("\nchr", "\n")).unwrap();
    let map = |from: &str, to: &str| (from.to_string(), to.to_string());
    let contig_map = HashMap::from([map("1", "chr1"), map("2", "chr2")]);
    let options = Options { contig_map, ..Options::default() };
    assert_eq!(annotate(effects(), &input, &options, &output).unwrap().annotated, 4);
    assert!(annotate(effects(), &input, &Options::default(), &output).is_err());
}

/// Encodes VCF text as BCF with noodles.
fn encode(text: &str) -> Vec<u8> {
    let mut reader = noodles_vcf::io::Reader::new(text.as_bytes());
    let header = reader.read_header().unwrap();
    let mut writer = bcf::io::Writer::new(Vec::new());
    writer.write_header(&header).unwrap();
    for record in reader.records() {
        writer.write_variant_record(&header, &record.unwrap()).unwrap();
    }
    writer.into_inner().finish().unwrap()
}

use noodles_vcf::variant::io::Write as _;

/// Decodes BCF to the lines of its records with noodles.
fn decode(bytes: &[u8]) -> Vec<String> {
    let mut reader = bcf::io::Reader::new(bytes);
    let header = reader.read_header().unwrap();
    let mut writer = noodles_vcf::io::Writer::new(Vec::new());
    for record in reader.records() {
        writer.write_variant_record(&header, &record.unwrap()).unwrap();
    }
    String::from_utf8(writer.into_inner()).unwrap().lines().map(String::from).collect()
}

#[test]
fn binary_records_get_what_text_gets() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.bcf"), directory.path().join("out.bcf"));
    let text = HEADER.to_string() + &RECORDS.concat();
    fs::File::create(&input).unwrap().write_all(&encode(&text)).unwrap();
    let written = annotate(effects(), &input, &Options::default(), &output).unwrap();
    assert_eq!((written.records, written.annotated), (6, 4));
    assert_eq!(written.index, Some(Ok(directory.path().join("out.bcf.csi"))));
    let expected = decode(&encode(&annotate_text(&text).unwrap()));
    assert_eq!(decode(&fs::read(&output).unwrap()), expected);
    // Again: the fields are replaced where they are.
    let again = directory.path().join("again.bcf");
    annotate(effects(), &output, &Options::default(), &again).unwrap();
    assert_eq!(decode(&fs::read(&again).unwrap()), expected);
    for cut in [30, 200, 260] {
        let whole = fs::read(&input).unwrap();
        let cut_input = directory.path().join("cut.bcf");
        fs::write(&cut_input, &whole[..cut.min(whole.len() - 1)]).unwrap();
        assert!(annotate(effects(), &cut_input, &Options::default(), &again).is_err(), "cut at {cut}");
    }
}

#[test]
fn long_values_and_many_alleles_are_encoded() {
    let mut bytes = Vec::new();
    binary::push_text(&mut bytes, &"x".repeat(300));
    assert_eq!((&bytes[..4], bytes.len()), (&[0xF7, 0x12, 0x2C, 0x01][..], 304));
}

#[test]
fn rows_alone_make_a_vcf() {
    let mut bytes = Vec::new();
    write_sites(effects(), false, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let records: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(records.len(), 4);
    assert!(
        records[2].starts_with("chr1\t30\t.\tAT\tA,<DEL>\t.\t.\tNYX_STATUS=off_contig,symbolic_allele;"),
        "{text}"
    );
    noodles_vcf::io::Reader::new(text.as_bytes()).read_header().unwrap();
}
