//! What is written is read again: Parquet and Arrow files, bigWig, VCF, BGZF VCF and BCF.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_select::concat::concat_batches;
use nyx::convert::track::Choice;
use nyx::convert::{bigwig, columnar, track};
use nyx::extract::contribs::{self, Window};
use nyx::extract::variants::{self, ContigMap, Selection};
use nyx::genome::Genome;
use nyx::input::open_pipe;
use nyx::pipe::Pipe;
use nyx::provenance;
use nyx::region::Strand;
use nyx::schema::{self, Row, RowBuilder, RowKind, Status};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::bases;
use crate::support::*;

/// A row with contributions: contig 0 or 1, start, values or none.
type Given = (usize, i64, Option<Vec<f32>>);

const CONTIGS: [(&str, u64); 2] = [("chr2", 4000), ("chr1", 2500)];

fn record() -> provenance::Genome {
    provenance::Genome::new("g.fa", CONTIGS.map(|(name, length)| (name.to_string(), length)).to_vec())
}

/// Makes a pipe of rows with contributions, `size` in a batch.
fn pipe(rows: &[Given], size: usize) -> Pipe {
    let base = RowKind::Regions.schema(Some(&record()));
    let field = arrow_schema::Field::new(
        schema::CONTRIBUTIONS,
        schema::list_of(arrow_schema::DataType::Float32),
        true,
    );
    let target = schema::with_field(&base, field);
    let mut before = 0;
    let batches: Vec<RecordBatch> = rows
        .chunks(size)
        .map(|part| {
            let mut builder = RowBuilder::new(RowKind::Regions, base.clone());
            for (chrom, start, values) in part {
                let length = values.as_ref().map_or(0, Vec::len);
                let sequence = "A".repeat(length);
                builder.push(&Row {
                    region: before,
                    chrom: Some(CONTIGS[*chrom].0),
                    start: *start,
                    end: start + length as i64,
                    strand: Strand::Unknown,
                    name: (before % 3 == 0).then_some("peak, \"odd\"\tname"),
                    sequence: values.as_ref().map(|_| sequence.as_str()),
                    status: if values.is_some() { Status::Ok } else { Status::TooLong },
                });
                before += 1;
            }
            let values: Vec<Option<Vec<f32>>> = part.iter().map(|(_, _, values)| values.clone()).collect();
            let column: ArrayRef = schema::float_lists(&values);
            schema::with_columns(&builder.finish().unwrap(), &target, vec![(schema::CONTRIBUTIONS, column)])
                .unwrap()
        })
        .collect();
    Pipe::new(target, batches.into_iter().map(Ok))
}

fn whole(pipe: Pipe) -> RecordBatch {
    let (schema, batches) = pipe.into_parts();
    let batches: Vec<RecordBatch> = batches.map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// Any float32 that is a number, and some that are not.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -10f32..10.0,
        1 => any::<f32>(),
        1 => Just(-0.0f32),
        1 => Just(f32::INFINITY),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Given>> {
    let values = proptest::option::weighted(0.8, proptest::collection::vec(value(), 1..40));
    proptest::collection::vec((0usize..2, 0i64..2000, values), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn columnar_files_give_back_every_bit_and_the_provenance(rows in rows(), size in 1usize..6) {
        let directory = tempfile::tempdir().unwrap();
        let expected = whole(pipe(&rows, size));
        for name in ["rows.parquet", "rows.arrow"] {
            let path = directory.path().join(name);
            let file = File::create(&path).unwrap();
            match name {
                "rows.parquet" => columnar::write_parquet(pipe(&rows, size), file).unwrap(),
                _ => columnar::write_arrow(pipe(&rows, size), file).unwrap(),
            }
            let found = whole(open_pipe(&path).unwrap());
            prop_assert_eq!(found.schema(), expected.schema(), "{}", name);
            for (found, expected) in found.columns().iter().zip(expected.columns()) {
                // Not a number is not equal to itself; its bits are.
                prop_assert_eq!(bits(found), bits(expected), "{}", name);
            }
        }
    }
}

/// Returns a column as text in which floats are bits.
fn bits(array: &ArrayRef) -> String {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Float32Type;
    let Some(lists) = array.as_list_opt::<i32>() else { return format!("{array:?}") };
    let row = |row: usize| -> Option<Vec<u32>> {
        let values = lists.is_valid(row).then(|| lists.value(row))?;
        Some(values.as_primitive::<Float32Type>().values().iter().map(|value| value.to_bits()).collect())
    };
    format!("{:?}", (0..lists.len()).map(row).collect::<Vec<_>>())
}

/// Windows side by side, with gaps, on both contigs, in the order of the genome.
fn windows(random: &mut StdRng) -> Vec<Given> {
    let mut rows = Vec::new();
    for (contig, (_, length)) in CONTIGS.iter().enumerate() {
        let mut start = random.random_range(0..50);
        loop {
            let width = random.random_range(1..120);
            if start + width >= *length as i64 {
                break;
            }
            let values = (0..width).map(|_| match random.random_range(0..6) {
                0 => 0.0,
                1 => 0.25,
                _ => random.random_range(-3f32..3.0),
            });
            rows.push((contig, start, Some(values.collect())));
            start += width + random.random_range(0..40);
        }
    }
    rows
}

#[test]
fn a_bigwig_gives_back_every_bit_of_windows_that_do_not_overlap() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let fasta: String =
        CONTIGS.iter().map(|(name, n)| format!(">{name}\n{}\n", "A".repeat(*n as usize))).collect();
    fs::write(path("g.fa"), fasta).unwrap();
    for seed in 0..12 {
        let rows = windows(&mut StdRng::seed_from_u64(seed));
        let input = pipe(&rows, 7);
        let choice = Choice::new(input.schema(), None, None).unwrap();
        let intervals = track::intervals(input, choice, Some(&record()), 1 << 20).unwrap();
        bigwig::write(intervals, &record(), &path("t.bw")).unwrap();
        for (region, (contig, start, values)) in rows.iter().enumerate() {
            let values = values.as_ref().unwrap();
            let chrom = Some(CONTIGS[*contig].0.to_string());
            let window = Window { region: region as u64, chrom, start: *start, name: None };
            let genome = Genome::open(&path("g.fa")).unwrap();
            let read = contribs::from_bigwig(&[path("t.bw")], genome, vec![window], values.len(), 1).unwrap();
            let read = whole(read);
            let found = schema::column(&read, schema::CONTRIBUTIONS).unwrap();
            let expected: ArrayRef = schema::float_lists(&[Some(values.clone())]);
            // Zero has one sign in a track: what has no data is 0, too.
            assert_eq!(bits(found), bits(&expected), "seed {seed}, row {region}");
        }
    }
}

/// Writes a random VCF over the one contig of `genome`; returns how many records it has.
fn write_vcf(directory: &Path, random: &mut StdRng) -> usize {
    let fasta = fs::read_to_string(directory.join("genome.fa")).unwrap();
    let sequence: String = fasta.lines().skip(1).collect();
    let mut text = String::from(
        "##fileformat=VCFv4.3\n##contig=<ID=chr1,length=5000>\n##INFO=<ID=DP,Number=1,Type=Integer,Description=\"d\">\n\
         ##INFO=<ID=AF,Number=A,Type=Float,Description=\"f\">\n##FILTER=<ID=q10,Description=\"q\">\n\
         ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"g\">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n",
    );
    let mut position = 20;
    let mut count = 0;
    while position < 4900 {
        let reference = &sequence[position..position + random.random_range(1..5)];
        let alternates: Vec<String> = (0..random.random_range(1..4))
            .map(|_| {
                let length = random.random_range(1..5);
                let other = bases(random, length).replace('N', "G");
                if other == reference { format!("{other}T") } else { other }
            })
            .collect();
        let frequencies: Vec<String> = alternates
            .iter()
            .map(|_| format!("{}", f64::from(random.random_range(0..1000)) / 1000.0))
            .collect();
        let filter = ["PASS", "q10", "."][random.random_range(0..3)];
        text += &format!(
            "chr1\t{}\tv{count}\t{reference}\t{}\t{}\t{filter}\tDP={};AF={}\tGT\t0|1\t./.\n",
            position + 1,
            alternates.join(","),
            random.random_range(1..99),
            random.random_range(0..200),
            frequencies.join(",")
        );
        position += random.random_range(1..120);
        count += 1;
    }
    fs::write(directory.join("in.vcf"), text).unwrap();
    count
}

/// Returns the records of a file of variants as nyx reads them.
fn records(path: &Path) -> Vec<String> {
    let opened =
        variants::open(path, variants::Format::Auto, &Selection::default(), &ContigMap::new()).unwrap();
    opened
        .records
        .map(|record| {
            let record = record.unwrap();
            format!("{} {} {:?} {:?}", record.chrom, record.position, record.id, record.alleles)
        })
        .collect()
}

/// Returns the INFO fields of every record of a VCF or BCF, by noodles' own readers.
fn fields(path: &Path) -> Vec<BTreeMap<String, String>> {
    use noodles::vcf::variant::io::Write as _;
    let mut text = Vec::new();
    match path.extension().unwrap().to_str() {
        Some("bcf") => {
            let mut reader = noodles::bcf::io::Reader::new(File::open(path).unwrap());
            let header = reader.read_header().unwrap();
            let mut writer = noodles::vcf::io::Writer::new(&mut text);
            for record in reader.records() {
                writer.write_variant_record(&header, &record.unwrap()).unwrap();
            }
        }
        Some("gz") => {
            let mut reader = noodles::bgzf::io::Reader::new(File::open(path).unwrap());
            std::io::Read::read_to_end(&mut reader, &mut text).unwrap();
        }
        _ => text = fs::read(path).unwrap(),
    }
    let text = String::from_utf8(text).unwrap();
    let info = |line: &str| {
        let info = line.split('\t').nth(7).unwrap().to_string();
        let pair = |field: &str| {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            (key.to_string(), value.split(',').map(number).collect::<Vec<_>>().join(","))
        };
        info.split(';').map(pair).collect()
    };
    text.lines().filter(|line| !line.starts_with('#')).map(info).collect()
}

/// Returns the bits of a number, so that ways to write it do not count; other words as they are.
fn number(word: &str) -> String {
    word.parse::<f32>().map_or(word.to_string(), |number| format!("{:08x}", number.to_bits()))
}

#[test]
fn effects_in_vcf_bgzf_and_bcf_are_the_same_and_leave_the_records_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    genome(directory.path(), 5000);
    crate::score::write_model(&path("model"), 1.0);
    for seed in 0..3 {
        let count = write_vcf(directory.path(), &mut StdRng::seed_from_u64(seed));
        let inside = |mut command: std::process::Command| {
            command.current_dir(directory.path());
            command
        };
        let flags = ["variants", "-q", "--fasta", "genome.fa", "--vcf", "in.vcf", "--width", "20"];
        let rows = stdout_of(inside(nyx("extract", &flags)), b"");
        let scored = stdout_of(inside(nyx("score", &["-q", "--model", "model"])), &rows);
        write_bcf(&path("in.vcf"), &path("in.bcf"));
        for (input, name) in [("in.vcf", "out.vcf"), ("in.vcf", "out.vcf.gz"), ("in.bcf", "out.bcf")] {
            stdout_of(inside(nyx("effects", &["-q", "--vcf", input, "-o", name])), &scored);
            assert_eq!(records(&path(name)), records(&path("in.vcf")), "{name}");
        }
        let expected = fields(&path("out.vcf"));
        assert_eq!(expected.len(), count);
        assert!(expected.iter().all(|info| info.contains_key("NYX_DIFF") && info.contains_key("DP")));
        for name in ["out.vcf.gz", "out.bcf"] {
            assert_eq!(fields(&path(name)), expected, "{name}");
        }
    }
}

#[test]
fn a_pipe_through_every_columnar_file_is_the_stream() {
    let rows: Vec<Given> = (0..300).map(|n| (n % 2, n as i64, Some(vec![n as f32; 1 + n % 7]))).collect();
    let directory = tempfile::tempdir().unwrap();
    let stream = directory.path().join("rows.arrows");
    let mut output = nyx::output::Output::create(&stream).unwrap();
    nyx::pipe::ipc::write(pipe(&rows, 64), &mut output).unwrap();
    output.commit().unwrap();
    let expected = whole(open_pipe(&stream).unwrap());
    for name in ["rows.parquet", "rows.arrow"] {
        let path = directory.path().join(name);
        let mut command = nyx("view", &["-q", "--no-pg", stream.to_str().unwrap(), "-o"]);
        command.arg(&path);
        stdout_of(command, b"");
        let found = whole(open_pipe(&path).unwrap());
        assert_eq!(found.columns(), expected.columns(), "{name}");
    }
}
