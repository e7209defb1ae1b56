//! Windows of haplotypes against `bcftools consensus`, over synthetic and real variants.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::support::*;

/// What bcftools makes of one haplotype of a contig: the sequence, and its ungapped blocks as first base of
/// the reference, first base of the haplotype, length.
#[derive(Default)]
struct Consensus {
    sequence: Vec<u8>,
    blocks: Vec<(i64, i64, i64)>,
}

impl Consensus {
    /// Returns where a base of the reference is in the haplotype; `None` inside a change of length.
    fn place(&self, position: i64) -> Option<i64> {
        let block =
            self.blocks.iter().find(|(start, _, length)| (*start..start + length).contains(&position));
        block.map(|(start, own, _)| own + position - start)
    }

    /// Returns `width` bases from `start` on, N outside.
    fn window(&self, start: i64, width: i64) -> String {
        let base = |i: i64| usize::try_from(i).ok().and_then(|i| self.sequence.get(i)).unwrap_or(&b'N');
        (start..start + width).map(|i| *base(i) as char).collect()
    }
}

/// A directory with `g.fa` and `v.vcf.gz`, indexed, and what bcftools is.
struct Bench {
    directory: tempfile::TempDir,
    fasta: PathBuf,
    vcf: PathBuf,
    bcf: PathBuf,
}

impl Bench {
    /// Writes genome and VCF; `None`, and says so, when there is no bcftools.
    fn new(fasta: &str, vcf: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("g.fa"), fasta).unwrap();
        std::fs::write(path("v.vcf"), vcf).unwrap();
        let convert = |kind: &str, name: &str| {
            let mut command = Command::new("bcftools");
            command.args(["view", kind, "-o"]).arg(path(name)).arg(path("v.vcf"));
            command.output().ok().map(|output| {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                stdout_of(bcftools(&["index", path(name).to_str().unwrap()]), b"");
            })
        };
        if convert("-Oz", "v.vcf.gz").is_none() {
            eprintln!("skipped: no bcftools here");
            return None;
        }
        convert("-Ob", "v.bcf");
        let (fasta, vcf, bcf) = (path("g.fa"), path("v.vcf.gz"), path("v.bcf"));
        Some(Self { directory, fasta, vcf, bcf })
    }

    /// Runs `bcftools consensus` for a haplotype; returns what it makes of each contig.
    fn consensus(&self, sample: &str, haplotype: &str) -> HashMap<String, Consensus> {
        let chain = self.directory.path().join("chain");
        let mut command = bcftools(&["consensus", "-s", sample, "-H", haplotype, "-f"]);
        command.arg(&self.fasta).arg("-c").arg(&chain).arg(&self.vcf);
        let mut contigs: HashMap<String, Consensus> = HashMap::new();
        for record in String::from_utf8(stdout_of(command, b"")).unwrap().split('>').skip(1) {
            let (name, bases) = record.split_once('\n').unwrap();
            let sequence = bases.bytes().filter(|base| *base != b'\n').map(|base| base.to_ascii_uppercase());
            contigs.insert(name.to_string(), Consensus { sequence: sequence.collect(), blocks: Vec::new() });
        }
        let (mut contig, mut reference, mut own) = (String::new(), 0, 0);
        for line in std::fs::read_to_string(chain).unwrap().lines().filter(|line| !line.is_empty()) {
            let fields: Vec<&str> = line.split(' ').collect();
            if fields[0] == "chain" {
                (contig, reference, own) = (fields[2].to_string(), 0, 0);
                continue;
            }
            let numbers: Vec<i64> = fields.iter().map(|number| number.parse().unwrap()).collect();
            contigs.get_mut(&contig).unwrap().blocks.push((reference, own, numbers[0]));
            reference += numbers[0] + numbers.get(1).unwrap_or(&0);
            own += numbers[0] + numbers.get(2).unwrap_or(&0);
        }
        contigs
    }

    /// Runs nyx-extract and returns its rows by column name.
    fn rows(&self, vcf: &Path, more: &[&str]) -> Rows {
        let mut command = nyx("extract", &["variants", "--haplotypes", "--fasta"]);
        command.arg(&self.fasta).arg("--vcf").arg(vcf).args(more);
        let text = stdout_of(nyx("view", &["-O", "tsv"]), &stdout_of(command, b""));
        Rows::parse(String::from_utf8(text).unwrap())
    }
}

fn bcftools(arguments: &[&str]) -> Command {
    let mut command = Command::new("bcftools");
    command.args(arguments);
    command
}

/// Returns a FASTA of one contig.
fn fasta(contig: &str, bases: &str) -> String {
    let lines: Vec<_> = bases.as_bytes().chunks(60).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!(">{contig}\n{}\n", lines.join("\n"))
}

/// Rows of a stream as text.
#[derive(PartialEq)]
struct Rows {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    fn parse(text: String) -> Self {
        let mut lines = text.lines().filter(|line| !line.starts_with("##"));
        let split = |line: &str| line.split('\t').map(str::to_string).collect::<Vec<_>>();
        let header = split(lines.next().unwrap());
        Self { header, rows: lines.map(split).collect() }
    }

    fn column(&self, name: &str) -> Vec<&str> {
        let index = self.header.iter().position(|column| column == name).expect("a known column");
        self.rows.iter().map(|row| row[index].as_str()).collect()
    }
}

/// Compares every haplotype's windows with those of the whole consensus; returns how many were compared, and
/// how many of them lie at a base that the haplotype does not have.
fn compare(bench: &Bench, rows: &Rows, samples: &[&str], width: i64) -> (usize, usize) {
    let (mut compared, mut deleted) = (0, 0);
    let columns = ["haplotype", "sequence", "pos", "status", "chrom"].map(|name| rows.column(name));
    for sample in samples {
        for which in ["1", "2"] {
            let contigs = bench.consensus(sample, which);
            let name = format!("{sample}|{which}");
            for row in (0..rows.rows.len()).filter(|&row| columns[0][row] == name) {
                let (sequence, position) = (columns[1][row], columns[2][row].parse::<i64>().unwrap() - 1);
                if sequence.is_empty() || sequence == "." {
                    assert!(["haploid", "too_long"].contains(&columns[3][row]), "{:?}", rows.rows[row]);
                    continue;
                }
                compared += 1;
                let consensus = &contigs[columns[4][row]];
                match consensus.place(position) {
                    Some(place) => {
                        let expected = consensus.window(place - width / 2, width);
                        assert_eq!(sequence, expected, "{:?}", rows.rows[row]);
                    }
                    None => {
                        deleted += 1;
                        let text = String::from_utf8_lossy(&consensus.sequence);
                        assert!(text.contains(sequence.trim_matches('N')), "{:?}", rows.rows[row]);
                    }
                }
            }
        }
    }
    (compared, deleted)
}

const HEADER: &str = "##fileformat=VCFv4.3\n\
    ##INFO=<ID=END,Number=1,Type=Integer,Description=\"End\">\n\
    ##FORMAT=<ID=DP,Number=1,Type=Integer,Description=\"Depth\">\n\
    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n";

fn header(contig: &str, length: usize, samples: &[&str]) -> String {
    format!(
        "{HEADER}##contig=<ID={contig},length={length}>\n\
         #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{}\n",
        samples.join("\t")
    )
}

fn random_bases(random: &mut StdRng, length: usize) -> String {
    (0..length).map(|_| b"ACGT"[random.random_range(0..4)] as char).collect()
}

/// An allele that differs from REF: a substitution, an insertion, a deletion, or anything at all.
fn random_allele(random: &mut StdRng, reference: &str) -> String {
    let length = random.random_range(1..5);
    let new = random_bases(random, length);
    match random.random_range(0..5) {
        0 => format!("{reference}{new}"),
        1 => reference[..1].to_string(),
        2 => format!("{}{new}", &reference[..1]),
        3 => random_bases(random, reference.len()),
        _ => new,
    }
}

/// A genotype: mostly phased, at times unphased, missing, half missing or haploid.
fn random_genotype(random: &mut StdRng, alleles: usize) -> String {
    let mut allele = || random.random_range(0..=alleles).to_string();
    let (a, b) = (allele(), allele());
    match random.random_range(0..20) {
        0 => format!("{a}/{b}"),
        1 => "./.".into(),
        2 => format!(".|{b}"),
        3 => a,
        _ => format!("{a}|{b}"),
    }
}

/// Sorted records, many of which overlap, begin at the same base, or are the same.
fn crowded_vcf(seed: u64, bases: &str, samples: &[&str]) -> String {
    let mut random = StdRng::seed_from_u64(seed);
    let mut text = header("c", bases.len(), samples);
    let mut position = 1;
    while position + 8 < bases.len() {
        let length = *[1, 1, 1, 2, 3, 6].choose(&mut random).unwrap();
        let reference = &bases[position - 1..position - 1 + length];
        let count = random.random_range(1..3);
        let mut alleles: Vec<String> = (0..count).map(|_| random_allele(&mut random, reference)).collect();
        alleles.retain(|allele| allele != reference);
        let mut info = ".".to_string();
        if random.random_range(0..12) == 0 {
            alleles = vec!["<DEL>".to_string()];
            info = format!("END={}", position + random.random_range(1..7));
        }
        let reference = if info == "." { reference } else { &reference[..1] };
        let alternates = if alleles.is_empty() { ".".to_string() } else { alleles.join(",") };
        write!(text, "c\t{position}\t.\t{reference}\t{alternates}\t.\t.\t{info}\tDP:GT").unwrap();
        for _ in samples {
            let genotype = random_genotype(&mut random, alleles.len());
            write!(text, "\t7:{genotype}").unwrap();
        }
        text.push('\n');
        position += *[0, 0, 1, 1, 2, 3, 9].choose(&mut random).unwrap();
    }
    text
}

#[test]
fn crowded_records_are_applied_as_bcftools_consensus_applies_them() {
    let samples = ["a", "b", "c"];
    for seed in 0..4 {
        let bases = random_bases(&mut StdRng::seed_from_u64(100 + seed), 1500);
        let vcf = crowded_vcf(seed, &bases, &samples);
        let Some(bench) = Bench::new(&fasta("c", &bases), &vcf) else { return };
        let rows = bench.rows(&bench.vcf, &["--width", "40"]);
        let (compared, deleted) = compare(&bench, &rows, &samples, 40);
        assert!(compared > 2000 && deleted > 20, "{compared} {deleted}");
        assert!(rows.column("status").contains(&"overlap"));
        // BCF, plain text and small batches change nothing.
        assert!(bench.rows(&bench.bcf, &["--width", "40", "--batch-size", "7"]) == rows);
        let plain = bench.directory.path().join("v.vcf");
        assert!(bench.rows(&plain, &["--width", "40"]) == rows);
    }
}

/// Prints the records of a VCF whose alleles are all of bases, from `bcftools view`.
fn plain_records(vcf: &Path, more: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut command = Command::new("bcftools");
    let output = command.args(["view", "-H", "-e", "ALT~\"<\""]).args(more).arg(vcf).output();
    let Ok(output) = output else {
        eprintln!("skipped: no bcftools here");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| line.split('\t').map(str::to_string).collect()).collect())
}

/// Adds a record's line: its first five columns, then genotypes.
fn add_line(text: &mut String, columns: &[String], genotypes: &[String]) {
    *text += &columns[..5].join("\t");
    *text += "\t.\t.\t.\tGT\t";
    *text += &genotypes.join("\t");
    text.push('\n');
}

#[test]
fn real_variants_on_their_genome_are_applied_as_bcftools_consensus_applies_them() {
    let Some(folder) = shared("data/variants/1000G_chr20_1Mb") else { return };
    let Some(genome) = shared("data/genome/hg19_chr20_1Mb/z.fa.gz") else { return };
    let Some(records) = plain_records(&folder.join("z.vcf.gz"), &["-r", "z:1-120000"]) else { return };
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(genome).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let bases: String = text.lines().skip(1).collect::<String>().to_ascii_uppercase();
    // The sites have no genotypes: phased ones are drawn, so often that variants meet in most windows.
    let samples = ["a", "b", "c"];
    let mut vcf = header("z", bases.len(), &samples);
    let mut random = StdRng::seed_from_u64(20);
    for columns in &records {
        let alleles = columns[4].split(',').count();
        let mut allele = || if random.random_bool(0.2) { random.random_range(1..=alleles) } else { 0 };
        let genotypes: Vec<String> = samples.iter().map(|_| format!("{}|{}", allele(), allele())).collect();
        add_line(&mut vcf, columns, &genotypes);
    }
    let Some(bench) = Bench::new(&fasta("z", &bases), &vcf) else { return };
    let rows = bench.rows(&bench.vcf, &["--width", "300"]);
    let (compared, _) = compare(&bench, &rows, &samples, 300);
    assert_eq!(compared, records.len() * 6);
    let several = rows.column("applied").iter().filter(|applied| applied.matches(';').count() >= 2).count();
    assert!(several > compared / 4 && compared > 15_000, "{several} of {compared}");
    // A region with an index gives the rows that reading all of the file gives.
    let chosen = ["--width", "300", "-r", "z:50001-60000", "--samples", "b", "--anchor", "center"];
    let indexed = bench.rows(&bench.bcf, &chosen);
    assert!(
        indexed == bench.rows(&bench.directory.path().join("v.vcf"), &chosen) && indexed.rows.len() > 800
    );
}

#[test]
fn real_phased_genotypes_are_applied_as_bcftools_consensus_applies_them() {
    let Some(phased) = shared("data/variants/vcf_misc/chr22.vcf.gz") else { return };
    let Some(records) = plain_records(&phased, &[]) else { return };
    // Its stretch of chromosome 22 is not among the data: bases are drawn, and the reference alleles put in.
    let records: Vec<Vec<String>> = records.into_iter().take(2000).collect();
    let position = |columns: &[String]| columns[1].parse::<usize>().unwrap();
    let offset = position(&records[0]) - 500;
    let length = position(records.last().unwrap()) - offset + 1000;
    let mut bases = random_bases(&mut StdRng::seed_from_u64(22), length).into_bytes();
    let samples = ["HG00096", "HG00097", "HG00099", "HG00100", "HG00101"];
    let mut vcf = header("22", length, &samples);
    for columns in &records {
        let first = position(columns) - offset;
        bases[first - 1..first - 1 + columns[3].len()].copy_from_slice(columns[3].as_bytes());
        let mut moved = columns.clone();
        moved[1] = first.to_string();
        let genotypes: Vec<String> =
            columns[9..].iter().map(|column| column.split(':').next().unwrap().to_string()).collect();
        add_line(&mut vcf, &moved, &genotypes);
    }
    let bases = String::from_utf8(bases).unwrap();
    let Some(bench) = Bench::new(&fasta("22", &bases), &vcf) else { return };
    let rows = bench.rows(&bench.bcf, &["--width", "500"]);
    let (compared, _) = compare(&bench, &rows, &samples, 500);
    assert_eq!(compared, records.len() * 10);
    // Each distinct window once: fewer rows, and together they are all haplotypes.
    let distinct = bench.rows(&bench.vcf, &["--width", "500", "--distinct"]);
    let windows = |rows: &Rows| {
        let [variants, haplotypes, sequences] =
            ["variant", "haplotype", "sequence"].map(|name| rows.column(name));
        let mut windows = Vec::new();
        for ((variant, names), sequence) in variants.iter().zip(haplotypes).zip(sequences) {
            for name in names.split(',') {
                windows.push((variant.to_string(), name.to_string(), sequence.to_string()));
            }
        }
        windows.sort();
        windows
    };
    assert!(distinct.rows.len() * 2 < rows.rows.len(), "{} of {}", distinct.rows.len(), rows.rows.len());
    assert!(windows(&distinct) == windows(&rows));
}

#[test]
fn the_cases_of_bcftools_own_tests_are_the_same() {
    let Some(folder) = shared("data/benchmarks/peer_cases/bcftools_consensus") else { return };
    let mut all = 0;
    for (genome, variants) in [
        ("consensus2.fa", "consensus2.vcf"),
        ("consensus2.fa", "consensus3.vcf"),
        ("consensus7.fa", "consensus7.vcf"),
        ("consensus.overlaps.1.fa", "consensus.overlaps.1.vcf"),
        ("consensus.11.fa", "consensus.11.vcf"),
        ("consensus.gvcf-missing.fa", "consensus.gvcf-missing.1.vcf"),
    ] {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let Some(bench) = Bench::new(&read(genome), &read(variants)) else { return };
        let rows = bench.rows(&bench.vcf, &["--width", "20"]);
        let names = stdout_of(bcftools(&["query", "-l", bench.vcf.to_str().unwrap()]), b"");
        let names = String::from_utf8(names).unwrap();
        let (compared, _) = compare(&bench, &rows, &names.lines().collect::<Vec<_>>(), 20);
        assert!(compared > 0, "{variants}");
        all += compared;
    }
    assert!(all > 40, "{all}");
}
