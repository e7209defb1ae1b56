//! nyx-effects as a user runs it: pipes, files, statuses, and what bcftools says to its VCFs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::score::write_model;
use super::support::*;

const WIDTH: usize = 20;

/// A genome, a VCF on it and a model whose logit is the mean over bases of 1, 2, 3, 4 for A, C, G, T.
struct Case {
    directory: tempfile::TempDir,
    bases: Vec<u8>,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fasta = std::fs::read_to_string(genome(directory.path(), 5000)).unwrap();
        let bases: Vec<u8> = fasta.lines().skip(1).flat_map(str::bytes).collect();
        write_model(&directory.path().join("model"), 1.0);
        let case = Self { directory, bases };
        std::fs::write(case.path("in.vcf"), case.vcf()).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn base(&self, position: usize) -> char {
        self.bases[position - 1] as char
    }

    /// SNPs, one of them twice; two ALTs; an insertion, a deletion; a symbolic allele, no ALT, the contig's end.
    fn vcf(&self) -> String {
        let other = |base| if base == 'A' { 'C' } else { 'A' };
        let mut text = String::from(
            "##fileformat=VCFv4.2\n##FILTER=<ID=PASS,Description=\"All filters passed\">\n\
             ##INFO=<ID=DP,Number=1,Type=Integer,Description=\"Depth\">\n##contig=<ID=chr1,length=5000>\n\
             ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n##ALT=<ID=DEL,Description=\"d\">\n\
             #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\n",
        );
        let mut add = |position: usize, length: usize, alternates: String, info: &str| {
            let reference: String = (position..position + length).map(|p| self.base(p)).collect();
            text += &format!("chr1\t{position}\t.\t{reference}\t{alternates}\t30\tPASS\t{info}\tGT\t0|1\n");
        };
        add(3, 1, other(self.base(3)).to_string(), "DP=1");
        for position in (100..200).step_by(7) {
            add(position, 1, other(self.base(position)).to_string(), ".");
        }
        add(300, 1, other(self.base(300)).to_string(), "DP=2");
        add(300, 1, other(self.base(300)).to_string(), "DP=3");
        add(400, 3, format!("{},{}TTTT", self.base(400), self.base(400)), ".");
        add(500, 1, "<DEL>".into(), "DP=9");
        add(600, 1, ".".into(), ".");
        text
    }

    fn extract(&self, vcf: &str, flags: &[&str]) -> Vec<u8> {
        let (fasta, vcf, width) = (self.text("genome.fa"), self.text(vcf), WIDTH.to_string());
        let mut command = nyx("extract", &["variants", "--fasta", &fasta, "--vcf", &vcf, "--width", &width]);
        command.args(flags);
        stdout_of(command, b"")
    }

    fn score(&self, rows: &[u8]) -> Vec<u8> {
        stdout_of(nyx("score", &["--no-pg", "--model", &self.text("model")]), rows)
    }

    fn scored(&self) -> Vec<u8> {
        self.score(&self.extract("in.vcf", &["--no-pg"]))
    }

    /// The logit of an allele in the place of REF.
    fn logit(&self, position: usize, reference: usize, allele: &str) -> f64 {
        let first = position - 1;
        let before = (0..WIDTH / 2).rev().map(|n| first.checked_sub(n + 1).map_or(b'N', |at| self.bases[at]));
        let after = self.bases[first + reference..].iter().copied();
        let window = before.chain(allele.bytes()).chain(after).take(WIDTH);
        window.map(|base| b"NACGT".iter().position(|&b| b == base).unwrap() as f64).sum::<f64>()
            / WIDTH as f64
    }
}

/// Returns the rows of a table, by column.
fn table(text: &[u8]) -> Vec<HashMap<String, String>> {
    let text = std::str::from_utf8(text).unwrap();
    let mut lines =
        text.lines().filter(|line| !line.starts_with("##")).map(|line| line.split('\t').map(String::from));
    let names: Vec<String> = lines.next().expect("names").collect();
    lines.map(|line| names.iter().cloned().zip(line).collect()).collect()
}

fn tsv(stream: &[u8], flags: &[&str]) -> Vec<u8> {
    let mut command = nyx("effects", &["-O", "tsv", "--no-pg"]);
    command.args(flags);
    stdout_of(command, stream)
}

#[test]
fn effects_are_those_of_the_formulas() {
    let case = Case::new();
    let rows = table(&tsv(&case.scored(), &[]));
    assert_eq!(rows.len(), 1 + 15 + 2 + 2 + 1, "a row for every ALT");
    for row in rows {
        if row["alt"] == "<DEL>" {
            assert_eq!((row["status"].as_str(), row["diff"].as_str()), ("symbolic_allele", "."));
            continue;
        }
        let position = row["pos"].parse().unwrap();
        let (r, a) = (
            case.logit(position, row["ref"].len(), &row["ref"]),
            case.logit(position, row["ref"].len(), &row["alt"]),
        );
        let (p, q) = (1.0 / (1.0 + (-r).exp()), 1.0 / (1.0 + (-a).exp()));
        for (name, expected) in [
            ("delta_logit", a - r),
            ("ref_prob", p),
            ("alt_prob", q),
            ("diff", (q - p) * q.max(p)),
            ("log2_fold_change", (q / p).log2()),
            ("log_odds_ratio", (r - a) / std::f64::consts::LN_2),
        ] {
            let found: f64 = row[name].parse().unwrap();
            // Single precision of the probabilities, which the odds of 0.9 stretch tenfold.
            assert!((found - expected).abs() < 2e-5, "{name}: {found} and {expected} of {row:?}");
        }
        let status = if position == 3 { "off_contig" } else { "ok" };
        assert_eq!(row["status"], status, "{row:?}");
    }
}

#[test]
fn neither_batches_nor_threads_change_a_byte() {
    let case = Case::new();
    let scored = case.scored();
    let null = case.path("null.arrows");
    let shuffled = stdout_of(nyx("effects", &["--make-null", "3", "--seed", "5", "--no-pg"]), &scored);
    let in_ones = nyx("effects", &["--make-null", "3", "--seed", "5", "--no-pg", "--batch-size", "1"]);
    assert_eq!(tsv_of(&stdout_of(in_ones, &scored)), tsv_of(&shuffled));
    std::fs::write(&null, case.score(&shuffled)).unwrap();
    let null = null.to_str().unwrap();
    let expected = tsv(&scored, &["--null", null]);
    let p_values: Vec<f64> = table(&expected).iter().filter_map(|row| row["p_value"].parse().ok()).collect();
    assert_eq!(p_values.len(), 20);
    assert!(p_values.iter().all(|p| (1.0 / 61.0..=1.0).contains(p)), "{p_values:?}");
    for flags in [&["--batch-size", "1"][..], &["--batch-size", "7", "-@", "1"], &["-@", "2"]] {
        assert!(tsv(&scored, &[&["--null", null], flags].concat()) == expected, "{flags:?}");
    }
}

fn tsv_of(stream: &[u8]) -> Vec<u8> {
    stdout_of(nyx("view", &["-O", "tsv", "--no-pg"]), stream)
}

#[test]
fn shards_together_have_the_q_values_of_the_whole() {
    let case = Case::new();
    let whole_scored = case.scored();
    let null = case.text("null.txt");
    std::fs::write(&null, (0..50).map(|n| format!("{}\n", f64::from(n) * 0.004)).collect::<String>())
        .unwrap();
    let shard = |region: &str, name: &str| {
        let scored = case.score(&case.extract("in.vcf", &["-r", region, "--no-pg"]));
        let effects = stdout_of(nyx("effects", &["--null", &null, "--no-q", "--no-pg"]), &scored);
        std::fs::write(case.path(name), effects).unwrap();
        case.text(name)
    };
    let (first, second) = (shard("chr1:1-170", "1.arrows"), shard("chr1:171-5000", "2.arrows"));
    let joined = table(&tsv(b"", &[&first, &second]));
    let whole = table(&tsv(&whole_scored, &["--null", &null]));
    assert_eq!(joined.len(), whole.len());
    for (one, other) in joined.iter().zip(&whole) {
        for name in ["pos", "alt", "p_value", "q_value", "delta_logit"] {
            assert_eq!(one[name], other[name], "{name}");
        }
    }
    assert!(whole.iter().any(|row| row["q_value"].parse::<f64>().is_ok_and(|q| q < 1.0)));
}

/// Returns what bcftools prints, or `None` with a note when it is not installed.
fn bcftools(arguments: &[&str]) -> Option<Vec<u8>> {
    if Command::new("bcftools").arg("--version").output().is_err() {
        eprintln!("skipped: bcftools is not installed");
        return None;
    }
    let mut command = Command::new("bcftools");
    command.args(arguments);
    Some(stdout_of(command, b""))
}

#[test]
fn bcftools_finds_the_file_as_it_was_but_for_the_fields() {
    let case = Case::new();
    let scored = case.text("scored.arrows");
    std::fs::write(&scored, case.scored()).unwrap();
    let (input, binary) = (case.text("in.vcf"), case.text("in.bcf"));
    let Some(expected) = bcftools(&["view", "-H", &input]) else { return };
    bcftools(&["view", "-Ob", "-o", &binary, &input]);
    let mut infos = Vec::new();
    for (input, output) in [(&input, "out.vcf"), (&input, "out.vcf.gz"), (&binary, "out.bcf")] {
        let output = case.text(output);
        stdout_of(nyx("effects", &["--vcf", input, "-o", &output, &scored]), b"");
        let shown =
            bcftools(&["query", "-f", "%POS %INFO/NYX_STATUS %INFO/NYX_DIFF %INFO/NYX_CALL\n", &output])
                .unwrap();
        infos.push(String::from_utf8(shown).unwrap());
        let header = String::from_utf8(bcftools(&["view", "-h", &output]).unwrap()).unwrap();
        assert!(header.contains("##nyx.pg=") && header.contains("##INFO=<ID=DP,"), "{header}");
        let own = header.lines().filter_map(|line| line.strip_prefix("##INFO=<ID=NYX_")?.split(',').next());
        let fields: Vec<String> = own.map(|id| format!("INFO/NYX_{id}")).collect();
        let without = bcftools(&["annotate", "-x", &fields.join(","), &output]).unwrap();
        let lines = String::from_utf8(without).unwrap();
        let records: Vec<&str> = lines.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(records.join("\n") + "\n", String::from_utf8(expected.clone()).unwrap(), "{output}");
        if output.ends_with("out.vcf") {
            continue;
        }
        // Through the index that was written beside it.
        let found = bcftools(&["view", "-H", "-r", "chr1:107-128", &output]).unwrap();
        assert_eq!(String::from_utf8(found).unwrap().lines().count(), 4, "{output}");
    }
    assert!(infos[0].contains("\n500 symbolic_allele . .\n600 not_scored . .\n"), "{}", infos[0]);
    assert!(infos[0] == infos[1] && infos[0] == infos[2]);
}

#[test]
fn what_fails_leaves_no_file_and_says_why() {
    let case = Case::new();
    let scored = case.scored();
    let output = case.text("out.vcf.gz");
    let input = case.text("in.vcf");
    let cut = run_with(nyx("effects", &["--vcf", &input, "-o", &output]), &scored[..scored.len() - 400]);
    assert_eq!(cut.status.code(), Some(3), "{}", String::from_utf8_lossy(&cut.stderr));
    let unsorted = case.text("other.vcf");
    let lines: Vec<String> = case.vcf().lines().map(|line| format!("{line}\n")).collect();
    std::fs::write(&unsorted, lines[..10].concat()).unwrap();
    let other = run_with(nyx("effects", &["--vcf", &unsorted, "-o", &output]), &scored);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("no record is chr1:"), "{other:?}");
    let unscored = run_with(nyx("effects", &["-O", "tsv"]), &case.extract("in.vcf", &[]));
    assert_eq!(unscored.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unscored.stderr).contains("nyx-score makes them"), "{unscored:?}");
    let no_vcf = run_with(nyx("effects", &["-o", &output]), &scored);
    assert_eq!(no_vcf.status.code(), Some(2));
    let left: Vec<_> =
        std::fs::read_dir(case.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("out.vcf")), "{left:?}");
}

#[test]
fn rows_alone_become_a_vcf() {
    let case = Case::new();
    let effects = stdout_of(nyx("effects", &["--no-pg"]), &case.scored());
    let text = String::from_utf8(stdout_of(nyx("view", &["-O", "vcf", "--no-pg"]), &effects)).unwrap();
    let records: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(records.len(), 1 + 15 + 2 + 1 + 1, "{text}");
    assert!(text.contains("##contig=<ID=chr1,length=5000>\n"), "{text}");
    assert!(records.iter().any(|record| record.contains("NYX_STATUS=symbolic_allele")), "{text}");
}

#[test]
fn the_recipes_of_variants_run() {
    let directory = tempfile::tempdir().unwrap();
    let mut data = Command::new(executable("nyx"));
    data.args(["demo", "--data-only", "--outdir"]).arg(directory.path());
    stdout_of(data, b"");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes/variants.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let script = blocks.collect::<Vec<_>>().concat();
    let commands = executable("nyx").parent().unwrap().to_owned();
    let path = format!("{}:{}", commands.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &script]).current_dir(directory.path()).env("PATH", path);
    let said = String::from_utf8(stdout_of(shell, b"")).unwrap();
    assert!(said.contains("of 400 peaks overlap an enhancer"), "{said}");
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    let (snps, long) = (table(&read("snps.tsv")), table(&read("candidates.long.tsv")));
    assert_eq!(snps.len(), 400);
    let of = |model: &str| long.iter().filter(|row| row["model"] == model).count();
    assert!(of("enhancer") > 0 && of("enhancer") == of("TF"), "{} {}", of("enhancer"), of("TF"));
    assert!(
        table(&read("candidates.tsv"))
            .iter()
            .all(|row| row["call"] == "loss,loss" || row["call"] == "gain,gain")
    );
    let changed = table(&read("hits.tsv"));
    assert!(
        changed.iter().any(|row| row["hits_lost"] != "."),
        "SNPs in the middle of planted motifs break some"
    );
    for made in ["snps.effects.vcf.gz.tbi", "two.contigs.tsv", "candidates.vcf.gz", "enhancers.bed"] {
        assert!(directory.path().join(made).metadata().unwrap().len() > 0, "{made}");
    }
}
