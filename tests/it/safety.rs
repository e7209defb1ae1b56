//! What becomes of every kind of variant record that can go wrong: an outcome for each, and no row lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::*;

//                      1         2
//             12345678901234567890
const BASES: &str = "ACGTACGGTTCCAAGTCTGA";

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("g.fa"), format!(">chr1\n{BASES}\n>chr2\nACGTACGT\n")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a VCF with the records (CHROM POS REF ALT, or with a genotype).
    fn vcf(&self, records: &[&str]) -> PathBuf {
        let mut text = "##fileformat=VCFv4.2\n\
             ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n\
             #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\n"
            .to_string();
        for record in records {
            let fields: Vec<&str> = record.split(' ').collect();
            let genotype = fields.get(4).unwrap_or(&"0|1");
            let (chrom, pos, reference, alt) = (fields[0], fields[1], fields[2], fields[3]);
            text += &format!("{chrom}\t{pos}\t.\t{reference}\t{alt}\t.\t.\t.\tGT\t{genotype}\n");
        }
        let path = self.path("v.vcf");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn extract(&self, vcf: &Path, more: &[&str]) -> std::process::Output {
        let mut command = nyx("extract", &["variants", "--width", "6", "--fasta"]);
        command.arg(self.path("g.fa")).arg("--vcf").arg(vcf).args(more);
        run(command)
    }

    /// Returns position, allele, haplotype and status of every row, and what was said.
    fn rows(&self, records: &[&str], more: &[&str]) -> (Vec<String>, String) {
        let output = self.extract(&self.vcf(records), more);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{records:?} {said}");
        let columns = ["-O", "tsv", "--no-pg", "--no-header", "--columns", "pos,allele,haplotype,status"];
        let text = String::from_utf8(stdout_of(nyx("view", &columns), &output.stdout)).unwrap();
        (text.lines().map(|line| line.replace('\t', " ")).collect(), said)
    }

    /// Returns exit status and message of a failure.
    fn failure(&self, records: &[&str], more: &[&str]) -> (i32, String) {
        let output = self.extract(&self.vcf(records), more);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn every_kind_of_record_has_its_outcome() {
    let bench = Bench::new();
    let huge = format!("chr1 10 T T{}", "ACGT".repeat(50_000));
    let statuses = |record: &str, more: &[&str]| bench.rows(&[record], more).0;
    for (record, more, expected) in [
        (
            "chr1 10 G T",
            &["--ref-mismatch", "status"][..],
            &["10 0 . ref_mismatch", "10 1 . ref_mismatch"][..],
        ),
        ("chr1 10 G T", &["--ref-mismatch", "swap"], &["10 0 . swapped", "10 1 . swapped"]),
        ("1 10 T C", &["--unknown-contig", "status"], &["10 0 . unknown_contig", "10 1 . unknown_contig"]),
        ("chr1 10 T R", &[], &["10 0 . ok", "10 1 . not_bases"]),
        ("chr1 10 Y T", &[], &["10 0 . not_bases", "10 1 . not_bases"]),
        ("chr1 10 t c", &[], &["10 0 . ok", "10 1 . ok"]),
        (huge.as_str(), &[], &["10 0 . ok", "10 1 . too_long"]),
        ("chr1 1 A C", &[], &["1 0 . off_contig", "1 1 . off_contig"]),
        ("chr1 20 A C", &[], &["20 0 . off_contig", "20 1 . off_contig"]),
        ("chr1 20 AC A", &["--ref-mismatch", "status"], &["20 0 . ref_mismatch", "20 1 . ref_mismatch"]),
        (
            "chr1 10 T *,<DEL>,T[chr2:3[",
            &[],
            &["10 0 . ok", "10 1 . spanning_deletion", "10 2 . symbolic_allele", "10 3 . symbolic_allele"],
        ),
        ("chr1 10 T .", &[], &["10 0 . ok"]),
    ] {
        assert_eq!(statuses(record, more), expected, "{}", &record[..record.len().min(40)]);
    }
}

#[test]
fn duplicates_and_any_order_give_the_rows_of_the_file() {
    let bench = Bench::new();
    let (rows, _) =
        bench.rows(&["chr1 10 T C", "chr1 10 T C", "chr1 5 A G", "chr2 4 T A", "chr1 9 T A"], &[]);
    let positions: Vec<_> = rows.iter().map(|row| row.split(' ').next().unwrap()).collect();
    assert_eq!(positions, ["10", "10", "10", "10", "5", "5", "4", "4", "9", "9"]);
}

#[test]
fn what_cannot_be_meant_is_an_error_that_names_place_and_remedy() {
    let bench = Bench::new();
    for (records, more, status, words) in [
        (&["chr1 10 G T"][..], &[][..], 1, &["line 4", "chr1:10 REF `G`, genome `T`", "--ref-mismatch"][..]),
        (&["1 10 T C"], &[], 1, &["line 4", "`1`", "chr1", "--contig-map"]),
        (&["chr1 10 T C", "chr1 9 T C"], &["--haplotypes"], 1, &["line 5", "chr1:9", "bcftools sort"]),
        (
            &["chr1 10 T C", "chr2 1 A C", "chr1 11 C T"],
            &["--haplotypes"],
            1,
            &["line 6", "second time", "bcftools sort"],
        ),
        (&["chr1 10 T C 0|7"], &["--haplotypes"], 1, &["line 4", "allele 7"]),
        (&["chr1 10 T C 0-1"], &["--haplotypes"], 1, &["line 4", "`0-1`"]),
        (&["chr1 10 T C"], &["--haplotypes", "--samples", "t"], 2, &["`t`", "it has 1 (s)"]),
        (&["chr1 10 T C"], &["--samples", "s"], 2, &["--haplotypes"]),
    ] {
        let (found, message) = bench.failure(records, more);
        assert_eq!(found, status, "{message}");
        for word in words {
            assert!(message.contains(word), "no `{word}` in {message}");
        }
    }
    let map = bench.path("map.tsv");
    std::fs::write(&map, "1\tchr1\n").unwrap();
    let (rows, _) = bench.rows(&["1 10 T C"], &["--contig-map", map.to_str().unwrap()]);
    assert_eq!(rows, ["10 0 . ok", "10 1 . ok"]);
}

#[test]
fn a_region_without_an_index_reads_everything_and_says_so() {
    let bench = Bench::new();
    let records = ["chr1 10 T C", "chr1 5 A G", "chr2 4 T A"];
    let (rows, said) = bench.rows(&records, &["-r", "chr1:4-6"]);
    assert_eq!(rows, ["5 0 . ok", "5 1 . ok"]);
    assert!(said.contains("no index: all of the file is read"), "{said}");
    assert!(said.contains("1 records in the regions, 2 read outside"), "{said}");
    let compressed = bench.path("v.vcf.gz");
    let mut view = Command::new("bcftools");
    view.args(["view", "-Oz", "-o"]).arg(&compressed).arg(bench.vcf(&records[..1]));
    if !view.output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no bcftools here");
        return;
    }
    let output = bench.extract(&compressed, &["-r", "chr1:4-12"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("no index (.tbi, .csi) beside it"), "{said}");
}

#[test]
fn every_kind_of_genotype_has_its_outcome() {
    let bench = Bench::new();
    let haplotypes = |records: &[&str]| {
        let (rows, said) = bench.rows(records, &["--haplotypes", "--ref-mismatch", "status"]);
        let own = rows.into_iter().filter(|row| row.contains("s|")).map(|row| row.replace("s|", ""));
        (own.collect::<Vec<_>>(), said)
    };
    for (record, expected) in [
        ("chr1 10 T C 0|1", ["10 0 1 ok", "10 1 2 ok"]),
        ("chr1 10 T C 0/1", ["10 0 1 unphased", "10 1 2 unphased"]),
        ("chr1 10 T C 1/1", ["10 1 1 ok", "10 1 2 ok"]),
        ("chr1 10 T C .|1", ["10 0 1 missing_genotype", "10 1 2 ok"]),
        ("chr1 10 T C .", ["10 0 1 missing_genotype", "10 0 2 missing_genotype"]),
        ("chr1 10 T C 1", ["10 1 1 ok", "10 0 2 haploid"]),
        ("chr1 10 T <DUP> 0|1", ["10 0 1 ok", "10 1 2 symbolic_allele"]),
        ("chr1 10 T * 0|1", ["10 0 1 ok", "10 1 2 spanning_deletion"]),
        ("chr1 10 T R 0|1", ["10 0 1 ok", "10 1 2 not_bases"]),
        ("chr1 10 T TACGT 0|1", ["10 0 1 ok", "10 1 2 too_long"]),
        ("chr1 10 G C 0|1", ["10 0 1 ref_mismatch", "10 1 2 ref_mismatch"]),
        ("chr1 20 A C 0|1", ["20 0 1 off_contig", "20 1 2 off_contig"]),
    ] {
        assert_eq!(haplotypes(&[record]).0, expected, "{record}");
    }
    let (rows, said) = haplotypes(&["chr1 10 T C 0|1", "chr1 10 T G 0|1"]);
    assert_eq!(rows, ["10 0 1 ok", "10 1 2 overlap", "10 0 1 ok", "10 1 2 overlap"]);
    assert!(said.contains("left out, as bcftools consensus does"), "{said}");
    // A deletion that a `*` stands for explains it.
    let (rows, _) = haplotypes(&["chr1 9 TT T 0|1", "chr1 10 T *,C 2|1"]);
    assert_eq!(rows, ["9 0 1 ok", "9 1 2 ok", "10 2 1 ok", "10 1 2 ok"]);
}
