//! The whole pipeline on the data of `nyx demo`: every stage's output, and that it depends on nothing but
//! its input.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::*;

/// A genome, peaks, a model and motifs that the project made itself.
struct Demo {
    directory: PathBuf,
}

impl Demo {
    /// Lets `nyx demo` write its data into `directory`, without running anything.
    fn new(directory: &Path) -> Self {
        let mut command = Command::new(executable("nyx"));
        command.args(["demo", "--data-only", "--outdir"]).arg(directory);
        stdout_of(command, b"");
        Self { directory: directory.to_owned() }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("scratch paths are UTF-8").to_string()
    }

    /// The first `count` peaks as rows.
    fn extract(&self, count: usize) -> Vec<u8> {
        let peaks = std::fs::read_to_string(self.path("peaks.narrowPeak")).unwrap();
        let few: String = peaks.lines().take(count).map(|line| format!("{line}\n")).collect();
        let path = self.path("few.narrowPeak");
        std::fs::write(&path, few).unwrap();
        let genome = self.path("genome.fa");
        stdout_of(
            nyx("extract", &["regions", "--no-pg", "--fasta", &genome, "--peaks", &path, "--width", "200"]),
            b"",
        )
    }

    fn score(&self, flags: &[&str]) -> Command {
        let mut command = nyx("score", &["--no-pg", "--model", &self.path("model")]);
        command.args(flags);
        command
    }

    fn attrib(&self, flags: &[&str]) -> Command {
        let mut command = nyx("attrib", &["--no-pg", "--model", &self.path("model")]);
        command.args(flags);
        command
    }

    fn hits(&self, flags: &[&str]) -> Command {
        let mut command = nyx("hits", &["--no-pg", "--motifs", &self.path("motifs.meme")]);
        command.args(flags);
        command
    }
}

/// Returns a stream as text without provenance, so that only rows count.
fn text(stream: &[u8]) -> String {
    String::from_utf8(stdout_of(nyx("view", &["-O", "tsv", "--no-pg"]), stream)).unwrap()
}

/// Returns how many rows a stream has.
fn rows(stream: &[u8]) -> usize {
    text(stream).lines().count() - 1
}

/// Writes a stream of every stage into `directory`; returns the files and their numbers of rows.
pub fn every_stage(directory: &Path) -> Vec<(PathBuf, u64)> {
    let demo = Demo::new(directory);
    let extracted = demo.extract(6);
    let tokenized = stdout_of(nyx("tokenize", &["--tokenizer", "kmer:6"]), &extracted);
    let scored = stdout_of(demo.score(&[]), &extracted);
    let attributed = stdout_of(demo.attrib(&["--method", "gradxinput"]), &extracted);
    let hits = stdout_of(demo.hits(&[]), &attributed);
    let merged = stdout_of(nyx("merge", &["-"]), &scored);
    let vcf = directory.join("few.vcf");
    std::fs::write(&vcf, variants(&demo)).unwrap();
    let genome = demo.path("genome.fa");
    let alleles = stdout_of(
        nyx("extract", &["variants", "--fasta", &genome, "--vcf", vcf.to_str().unwrap(), "--width", "200"]),
        b"",
    );
    [
        ("extract", extracted),
        ("tokenize", tokenized),
        ("score", scored),
        ("attrib", attributed),
        ("hits", hits),
        ("merge", merged),
        ("variants", alleles),
    ]
    .map(|(name, stream)| {
        let path = directory.join(format!("{name}.arrows"));
        std::fs::write(&path, &stream).unwrap();
        (path, rows(&stream) as u64)
    })
    .into()
}

/// A VCF whose reference alleles are those of the demo's genome: a substitution, an insertion, a deletion,
/// two alternates, a spanning deletion and a symbolic allele.
fn variants(demo: &Demo) -> String {
    let fasta = std::fs::read_to_string(demo.path("genome.fa")).unwrap();
    let contig = fasta.lines().next().unwrap()[1..].split_whitespace().next().unwrap().to_string();
    let bases: String = fasta.lines().skip(1).take_while(|line| !line.starts_with('>')).collect();
    let at = |position: usize, length: usize| bases[position - 1..position - 1 + length].to_uppercase();
    let other = |base: &str| if base == "A" { "C" } else { "A" };
    let mut text = format!("##fileformat=VCFv4.3\n##contig=<ID={contig},length={}>\n", bases.len());
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    let mut record = |position: usize, reference: &str, alternate: &str| {
        text += &format!("{contig}\t{position}\tv{position}\t{reference}\t{alternate}\t.\t.\t.\n");
    };
    let base = at(1000, 1);
    record(1000, &base, other(&base));
    record(2000, &at(2000, 1), &format!("{}ACGT", at(2000, 1)));
    record(3000, &at(3000, 5), &at(3000, 1));
    let base = at(4000, 1);
    record(4000, &base, &format!("{},*", other(&base)));
    record(5000, &at(5000, 1), "<DEL>");
    text
}

#[test]
fn results_do_not_depend_on_batches_or_threads() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::new(directory.path());
    let extracted = demo.extract(20);
    let mut seen: Option<[String; 3]> = None;
    for (batch, threads) in [("1", "1"), ("7", "2"), ("64", "1"), ("1000", "2")] {
        let flags = ["--batch-size", batch, "-@", threads];
        let scored = stdout_of(demo.score(&flags), &extracted);
        let ism: Vec<&str> = flags.into_iter().chain(["--method", "gradxinput"]).collect();
        let attributed = stdout_of(demo.attrib(&ism), &scored);
        let hits = stdout_of(demo.hits(&flags), &attributed);
        let texts = [&scored, &attributed, &hits].map(|stream| text(stream));
        match &seen {
            None => seen = Some(texts),
            Some(seen) => assert!(*seen == texts, "batch size {batch}, threads {threads}"),
        }
    }
}

#[test]
fn extraction_does_not_depend_on_batches() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::new(directory.path());
    let tiles = |size: &str| {
        let genome = demo.path("genome.fa");
        text(&stdout_of(
            nyx(
                "extract",
                &["tiles", "--fasta", &genome, "--width", "201", "--stride", "97", "--batch-size", size],
            ),
            b"",
        ))
    };
    let reference = tiles("1");
    for size in ["7", "64", "100000"] {
        assert!(tiles(size) == reference, "batch size {size}");
    }
}

#[test]
fn scoring_with_attribution_is_attribution_after_scoring() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::new(directory.path());
    let extracted = demo.extract(3);
    let together = stdout_of(demo.score(&["--attrib", "ism"]), &extracted);
    let after = stdout_of(demo.attrib(&["--method", "ism"]), &stdout_of(demo.score(&[]), &extracted));
    assert_eq!(text(&together), text(&after));
}

#[test]
fn a_missing_column_names_the_tool_that_makes_it() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::new(directory.path());
    let output = run_with(demo.hits(&[]), &demo.extract(2));
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("contributions") && message.contains("nyx-attrib"), "{message}");
}

#[test]
fn the_chain_of_stages_reaches_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let stages = every_stage(directory.path());
    let hits = stages.iter().find(|(path, _)| path.ends_with("hits.arrows")).unwrap();
    let header = stdout_of(nyx("view", &["-H", hits.0.to_str().unwrap()]), b"");
    let header = String::from_utf8(header).unwrap();
    for tool in ["nyx-extract", "nyx-attrib", "nyx-hits"] {
        assert!(header.contains(tool), "{header}");
    }
}

#[test]
fn contributions_of_every_method_reach_the_hit_caller_and_say_how_complete_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::new(directory.path());
    let extracted = demo.extract(3);
    for (flags, complete) in [
        (&["--method", "deeplift", "--background", "shuffle:3", "--tolerance", "1e-3"][..], true),
        (&["--method", "ig", "--steps", "20", "--max-steps", "180", "--tolerance", "0.05"][..], true),
        (&["--method", "saliency"][..], false),
    ] {
        let output = {
            let mut command = demo.attrib(flags);
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            command.stderr(std::process::Stdio::piped());
            let mut child = command.spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), &extracted).unwrap();
            child.wait_with_output().unwrap()
        };
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{flags:?}: {said}");
        assert_eq!(said.contains("largest completeness error"), complete, "{said}");
        assert_eq!(text(&output.stdout).lines().next().unwrap().contains("converged"), complete);
        assert_eq!(rows(&output.stdout), 3);
        stdout_of(demo.hits(&[]), &output.stdout);
    }
}

#[test]
fn shuffled_backgrounds_depend_on_the_row_and_the_seed_alone() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::new(directory.path());
    let extracted = demo.extract(4);
    let run = |more: &[&str]| {
        let flags = ["--method", "deeplift", "--background", "shuffle:2", "--contributions", "projected"];
        text(&stdout_of(demo.attrib(&[&flags, more].concat()), &extracted))
    };
    let whole = run(&[]);
    assert_eq!(run(&["--batch-size", "1"]), whole);
    assert_eq!(run(&["--batch-size", "3", "-@", "1"]), whole);
    assert_ne!(run(&["--seed", "7"]), whole);
}
