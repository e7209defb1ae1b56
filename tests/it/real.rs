//! Published models and real data through the commands, against references that are not ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::*;

/// A tab-separated table: its header, and its rows as text.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.starts_with("##"));
        let split = |line: &str| line.split('\t').map(str::to_string).collect::<Vec<_>>();
        let header = split(lines.next().expect("a table has a header"));
        Self { header, rows: lines.map(split).collect() }
    }

    fn read(path: &Path) -> Self {
        Self::parse(&std::fs::read_to_string(path).unwrap())
    }

    fn column(&self, name: &str) -> Vec<&str> {
        let index = self.header.iter().position(|column| column == name);
        let index = index.unwrap_or_else(|| panic!("no column {name} among {:?}", self.header));
        self.rows.iter().map(|row| row[index].as_str()).collect()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.column(name).iter().map(|text| text.parse().unwrap()).collect()
    }
}

fn view(stream: &[u8]) -> Table {
    Table::parse(&String::from_utf8(stdout_of(nyx("view", &["-O", "tsv"]), stream)).unwrap())
}

/// Converts the published SPI1 network into `directory`.
fn spi1(directory: &Path) -> Option<PathBuf> {
    let source = shared("data/models/kundaje_cnn/SPI1_GM12878")?;
    let model = directory.join("spi1");
    let mut command = nyx("model", &["convert"]);
    command.arg(source.join("weights.h5")).arg("--keras-json").arg(source.join("model.json"));
    stdout_of(
        {
            command.arg("-o").arg(&model);
            command
        },
        b"",
    );
    Some(model)
}

#[test]
fn the_published_spi1_network_scores_as_its_reference() {
    let directory = tempfile::tempdir().unwrap();
    let Some(model) = spi1(directory.path()) else { return };
    let Some(reference) = shared("data/models/kundaje_cnn/SPI1_GM12878/reference_outputs.tsv") else {
        return;
    };
    let Some(windows) = shared("data/genome/hg19_windows/windows_1kb.fa.gz") else { return };
    let reference = Table::read(&reference);
    let rows = stdout_of(nyx("extract", &["sequences", windows.to_str().unwrap()]), b"");
    // The reference covers the first hundred records; a reader that goes away ends the first stage quietly.
    let head = first_rows(&rows, directory.path(), reference.rows.len());
    let scored = view(&stdout_of(nyx("score", &["--model", model.to_str().unwrap()]), &head));
    assert_eq!(scored.column("name"), reference.column("id"));
    for (ours, theirs) in scored.numbers("logits").iter().zip(reference.numbers("logit0")) {
        assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
    }
    for (ours, theirs) in scored.numbers("probs").iter().zip(reference.numbers("prob0")) {
        assert!((ours - theirs).abs() < 1e-4, "{ours} {theirs}");
    }
}

/// Keeps the first `count` rows of a stream, by way of FASTA.
fn first_rows(stream: &[u8], directory: &Path, count: usize) -> Vec<u8> {
    let fasta = String::from_utf8(stdout_of(nyx("view", &["-O", "fasta"]), stream)).unwrap();
    let mut records = fasta.split_inclusive("\n>").take(count).collect::<String>();
    if records.ends_with('>') {
        records.pop();
    }
    let path = directory.join("few.fa");
    std::fs::write(&path, records).unwrap();
    stdout_of(nyx("extract", &["sequences", path.to_str().unwrap()]), b"")
}

/// Coefficients by what identifies a hit in Fi-NeMo's table.
fn hits(table: &Table) -> BTreeMap<Vec<String>, f64> {
    let keys = ["chr", "start_untrimmed", "end_untrimmed", "motif_name", "strand", "peak_id"];
    let columns: Vec<Vec<&str>> = keys.iter().map(|key| table.column(key)).collect();
    let coefficients = table.numbers("hit_coefficient");
    let key = |row: usize| columns.iter().map(|column| column[row].to_string()).collect::<Vec<_>>();
    (0..table.rows.len()).map(|row| (key(row), coefficients[row])).collect()
}

#[test]
fn hits_through_the_pipe_are_those_of_fi_nemo() {
    let directory = tempfile::tempdir().unwrap();
    let Some(data) = shared("data/contribs/spi1_gm12878") else { return };
    let regions = data.join("windows.regions.npz");
    let rows = stdout_of(nyx("extract", &["contribs", "--regions", regions.to_str().unwrap()]), b"");
    let outdir = directory.path().join("hits");
    let motifs = data.join("modisco_results.h5");
    let mut command = nyx("hits", &["--compat", "--motifs", motifs.to_str().unwrap(), "--outdir"]);
    command.arg(&outdir);
    stdout_of(command, &rows);
    let ours = hits(&Table::read(&outdir.join("hits.tsv")));
    let theirs = hits(&Table::read(&data.join("finemo_windows/hits.tsv")));
    let shared_hits = theirs.keys().filter(|key| ours.contains_key(*key)).count();
    assert!(
        shared_hits as f64 >= 0.995 * theirs.len().max(ours.len()) as f64,
        "{shared_hits} of {}",
        theirs.len()
    );
    for (key, coefficient) in &theirs {
        let Some(own) = ours.get(key) else { continue };
        assert!(
            (own - coefficient).abs() <= 1e-3 * coefficient.abs().max(1.0),
            "{key:?}: {own} {coefficient}"
        );
    }
    // Besides the hits, the files that Fi-NeMo's users load by column name.
    for name in ["motif_data.tsv", "peaks_qc.tsv", "hits_unique.tsv"] {
        let theirs = Table::read(&data.join("finemo_windows").join(name)).header;
        assert_eq!(Table::read(&outdir.join(name)).header[..theirs.len()], theirs, "{name}");
    }
}

#[test]
fn peaks_to_hits_on_real_data_find_the_factors_own_motif() {
    let directory = tempfile::tempdir().unwrap();
    let Some(model) = spi1(directory.path()) else { return };
    let Some(genome) = shared("data/genome/hg19_chr20_1Mb/chr20.fa.gz") else { return };
    let Some(data) = shared("data/contribs/spi1_gm12878") else { return };
    let (peaks, motifs) = (data.join("peaks.narrowPeak"), data.join("modisco_results.h5"));
    let [genome, peaks, motifs, model] =
        [&genome, &peaks, &motifs, &model].map(|path| path.to_str().unwrap());
    let rows = stdout_of(nyx("extract", &["regions", "--fasta", genome, "--peaks", peaks]), b"");
    let scored = stdout_of(nyx("score", &["--model", model, "--attrib", "gradxinput"]), &rows);
    let hits = view(&stdout_of(nyx("hits", &["--motifs", motifs]), &scored));
    let first = hits.column("motif_name").iter().filter(|name| **name == "pos_patterns.pattern_0").count();
    assert!(first * 2 > hits.rows.len(), "{first} of {} hits are of the PU.1 motif", hits.rows.len());
    assert!(hits.column("chrom").iter().all(|chrom| *chrom == "chr20"));
}

#[test]
fn every_allele_of_a_real_call_set_is_a_row() {
    let Some(genome) = shared("data/genome/hg19_chr20_1Mb/chr20.fa.gz") else { return };
    let Some(variants) = shared("data/variants/1000G_chr20_1Mb/chr20.1kg.hg19.bcf") else { return };
    let mut bcftools = Command::new("bcftools");
    bcftools.args(["query", "-f", "%POS\t%ALT\n"]).arg(&variants);
    let Ok(listed) = bcftools.output() else {
        eprintln!("skipped: no bcftools here");
        return;
    };
    let listed = String::from_utf8(listed.stdout).unwrap();
    let alleles = |line: &str| match line.split('\t').nth(1).unwrap() {
        "." => 0,
        alternates => alternates.split(',').count(),
    };
    let expected: usize = listed.lines().map(|line| 1 + alleles(line)).sum();
    let [genome, variants] = [&genome, &variants].map(|path| path.to_str().unwrap());
    let rows = view(&stdout_of(nyx("extract", &["variants", "--fasta", genome, "--vcf", variants]), b""));
    assert_eq!(rows.rows.len(), expected);
    assert!(rows.column("status").iter().all(|status| *status != "ref_mismatch"));
}
