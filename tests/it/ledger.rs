//! The determinism ledger: digests of everything that a fixed pipeline leaves, for every batch size, number of threads,
//! split into shards and set of instructions. `--nocapture` prints it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nyx::kernel::Instructions;
use sha2::{Digest, Sha256};

use crate::support::*;

/// How the pipeline is run.
#[derive(Clone, Copy, Debug)]
struct Way {
    batch: &'static str,
    threads: &'static str,
    shards: usize,
    instructions: Option<&'static str>,
}

/// A directory with the data of `nyx demo`.
struct Ledger {
    directory: tempfile::TempDir,
}

impl Ledger {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut demo = Command::new(executable("nyx"));
        demo.args(["demo", "--data-only", "--outdir"]).arg(directory.path());
        stdout_of(demo, b"");
        let ledger = Self { directory };
        let peaks = fs::read_to_string(ledger.path("peaks.narrowPeak")).unwrap();
        let few: String = peaks.lines().take(30).map(|line| format!("{line}\n")).collect();
        fs::write(ledger.path("few.narrowPeak"), few).unwrap();
        let fasta = fs::read_to_string(ledger.path("genome.fa")).unwrap();
        let bases: String = fasta.lines().skip(1).take_while(|line| !line.starts_with('>')).collect();
        let mut table = String::from("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n");
        for record in 0..30 {
            let position = 700 + 411 * record;
            let reference = bases[position - 1..position].to_uppercase();
            table += &format!(
                "demo1\t{position}\tv{record}\t{reference}\t{reference}TTG,{}\t.\t.\t.\n",
                if reference == "A" { "C" } else { "A" }
            );
        }
        fs::write(ledger.path("v.vcf"), table).unwrap();
        ledger
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `nyx-TOOL WORDS` in the directory, as `way` has it.
    fn run(&self, way: Way, line: &str) {
        let mut words = line.split_whitespace();
        let tool = words.next().unwrap();
        let mut command = nyx(tool, &["-q", "--no-pg", "-@", way.threads, "--batch-size", way.batch]);
        // The subcommand comes first.
        let mut words: Vec<&str> = words.collect();
        if tool == "extract" {
            command =
                nyx(tool, &[words.remove(0), "-q", "--no-pg", "-@", way.threads, "--batch-size", way.batch]);
        }
        command.args(words).current_dir(self.directory.path());
        command.envs(way.instructions.map(|name| ("NYX_INSTRUCTIONS", name)));
        stdout_of(command, b"");
    }

    /// Extracts in shards and joins what each stage made of them.
    fn sharded(&self, way: Way, extract: &str, stages: &[&str], output: &str) {
        let mut parts = Vec::new();
        for part in 1..=way.shards {
            let shard = if way.shards > 1 { format!("--shard {part}/{}", way.shards) } else { String::new() };
            self.run(way, &format!("extract {extract} {shard} -o 0.arrows"));
            for (number, stage) in stages.iter().enumerate() {
                self.run(way, &format!("{stage} {number}.arrows -o {}.arrows", number + 1));
            }
            let name = format!("part{part}.arrows");
            fs::rename(self.path(&format!("{}.arrows", stages.len())), self.path(&name)).unwrap();
            parts.push(name);
        }
        match way.shards {
            1 => fs::rename(self.path(&parts[0]), self.path(output)).unwrap(),
            _ => self.run(way, &format!("merge {} -o {output}", parts.join(" "))),
        }
    }

    /// Runs everything; returns a digest for every output. Streams count by their rows: where a batch ends is the
    /// batch size itself.
    fn digests(&self, way: Way) -> BTreeMap<&'static str, String> {
        let regions = "regions --fasta genome.fa --peaks few.narrowPeak --width 200";
        let (score, attrib) =
            ("score --model model", "attrib --model model --method deeplift --background shuffle:2");
        self.sharded(way, regions, &[], "rows.arrows");
        self.sharded(way, regions, &[score, attrib], "contributions.arrows");
        let tiles = "tiles --fasta genome.fa --width 200 --stride 900";
        self.sharded(way, tiles, &[score], "scan.arrows");
        self.sharded(way, "variants --fasta genome.fa --vcf v.vcf --width 200", &[score], "alleles.arrows");
        for line in [
            "hits --motifs motifs.meme --outdir finemo -o hits.arrows contributions.arrows",
            "scan --motifs motifs.meme --tsv fimo.tsv -o scanned.arrows rows.arrows",
            "effects -o effects.arrows alleles.arrows",
            "effects --vcf v.vcf -o effects.vcf alleles.arrows",
            "effects --vcf v.vcf -o effects.vcf.gz alleles.arrows",
            "view -O bed -o hits.bed hits.arrows",
            "view -O bedgraph --value probs -o scan.bedgraph scan.arrows",
            "view -O bigwig --value probs -o scan.bw scan.arrows",
            "view -O npz -o regions.npz contributions.arrows",
            "view -O fasta -o rows.fa rows.arrows",
        ] {
            self.run(way, line);
        }
        let streams = ["rows", "contributions", "scan", "alleles", "hits", "scanned", "effects"];
        for name in streams {
            self.run(way, &format!("view -O tsv -o {name}.tsv {name}.arrows"));
        }
        let outputs = [
            "rows.tsv",
            "contributions.tsv",
            "scan.tsv",
            "alleles.tsv",
            "hits.tsv",
            "scanned.tsv",
            "effects.tsv",
            "effects.vcf",
            "effects.vcf.gz",
            "hits.bed",
            "scan.bedgraph",
            "scan.bw",
            "regions.npz",
            "rows.fa",
            "fimo.tsv",
            "finemo/hits.tsv",
            "finemo/hits.bed",
            "finemo/peaks_qc.tsv",
            "finemo/motif_data.tsv",
        ];
        outputs.into_iter().map(|name| (name, digest(&self.path(name)))).collect()
    }
}

fn digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(bytes.len() > 100, "{} has something in it", path.display());
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_output_is_the_same_for_any_batch_size_threads_shards_and_instructions() {
    let ledger = Ledger::new();
    let usual = Way { batch: "64", threads: "2", shards: 1, instructions: None };
    let expected = ledger.digests(usual);
    for (name, digest) in &expected {
        eprintln!("{digest}  {name}");
    }
    let mut ways = vec![
        Way { batch: "1", threads: "1", ..usual },
        Way { batch: "7", ..usual },
        Way { batch: "4000000000", threads: "1", ..usual },
        Way { batch: "7", threads: "1", shards: 5, ..usual },
        Way { batch: "4000000000", shards: 5, ..usual },
    ];
    // The long run has every combination.
    if std::env::var_os("NYX_FAULT_RUNS").is_some() {
        for batch in ["1", "7", "64", "4000000000"] {
            for threads in ["1", "2"] {
                ways.extend([1, 5].map(|shards| Way { batch, threads, shards, ..usual }));
            }
        }
    }
    let narrower = Instructions::available().into_iter().skip(1);
    ways.extend(narrower.map(|set| Way { instructions: Some(set.name()), ..usual }));
    for way in ways {
        let found = ledger.digests(way);
        eprintln!("{way:?}: {}", if found == expected { "the same" } else { "others" });
        for (name, digest) in &found {
            assert_eq!(digest, &expected[name], "{name} with {way:?}");
        }
    }
}

#[test]
fn instructions_that_the_processor_does_not_have_are_a_usage_error() {
    let mut command = nyx("view", &["-"]);
    command.env("NYX_INSTRUCTIONS", "avx1024");
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("avx1024") && said.contains("portable"), "{said}");
}
