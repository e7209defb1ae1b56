//! A laboratory of faults: inputs that the project makes itself, every command that writes files, what it writes
//! undisturbed, and runs of it that something is done to.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{executable, genome, stdout_of, write_bcf};

/// After so long a run hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command that writes files, perhaps at the end of a pipe.
pub struct Job {
    pub name: &'static str,
    /// The stages, first to last, as a shell has them; the inputs are in `..`. All get `-q --no-pg`.
    pub stages: &'static [&'static str],
    /// Whether the same command, with `--resume` where that is a flag, goes on where it was killed.
    pub resume: Option<&'static str>,
}

const fn job(name: &'static str, stages: &'static [&'static str]) -> Job {
    Job { name, stages, resume: None }
}

const REGIONS: &str = "nyx-extract regions --fasta ../genome.fa --peaks ../few.narrowPeak --width 200";
const TILES: &str = "nyx-extract tiles --fasta ../genome.fa --width 200 --stride 500";
const VARIANTS: &str = "nyx-extract variants --fasta ../genome.fa --vcf ../few.vcf --width 200";
const SCORE: &str = "nyx-score --model ../model";
const ATTRIB: &str = "nyx-attrib --model ../model --method gradxinput";

/// Every way to write a file.
pub const JOBS: &[Job] = &[
    job(
        "extract regions",
        &["nyx-extract regions --fasta ../genome.fa --peaks ../few.narrowPeak --width 200 -o out.arrows"],
    ),
    job("extract tiles", &["nyx-extract tiles --fasta ../genome.fa --width 200 --stride 100 -o out.arrows"]),
    job(
        "extract variants",
        &["nyx-extract variants --fasta ../genome.fa --vcf ../few.vcf --width 200 -o out.arrows"],
    ),
    job("extract sequences", &["nyx-extract sequences ../data/train.csv -o out.arrows"]),
    job("extract contribs", &["nyx-extract contribs --regions ../regions.npz -o out.arrows"]),
    job("tokenize", &[REGIONS, "nyx-tokenize --tokenizer kmer:6 -o out.arrows"]),
    job("score", &[TILES, "nyx-score --model ../model -o out.arrows"]),
    job("attrib", &[REGIONS, SCORE, "nyx-attrib --model ../model --method gradxinput -o out.arrows"]),
    job("hits", &[REGIONS, ATTRIB, "nyx-hits --motifs ../motifs.meme --outdir finemo -o out.arrows"]),
    job(
        "hits --compat",
        &["nyx-hits --motifs ../motifs.meme --compat --outdir finemo -o out.arrows ../contributions.arrows"],
    ),
    job("effects vcf", &[VARIANTS, SCORE, "nyx-effects --vcf ../few.vcf -o out.vcf"]),
    job("effects vcf.gz", &[VARIANTS, SCORE, "nyx-effects --vcf ../few.vcf -o out.vcf.gz"]),
    job("effects bcf", &[VARIANTS, SCORE, "nyx-effects --vcf ../few.bcf -o out.bcf"]),
    job("effects", &["nyx-effects ../alleles.arrows -o out.arrows"]),
    job("effects tsv", &["nyx-effects ../alleles.arrows -o out.tsv"]),
    job("merge", &["nyx-merge ../1.arrows ../2.arrows -o out.arrows"]),
    job("view tsv", &[REGIONS, ATTRIB, "nyx-view -o out.tsv"]),
    job("view csv", &["nyx-view -o out.csv ../contributions.arrows"]),
    job("view json", &["nyx-view -o out.json ../contributions.arrows"]),
    job("view bed", &["nyx-view -o out.bed ../hits.arrows"]),
    job("view bedgraph", &["nyx-view --value probs -o out.bedgraph ../scored.arrows"]),
    job("view bigwig", &[TILES, SCORE, "nyx-view --value probs -o out.bw"]),
    job("view vcf", &["nyx-view -o out.vcf ../effects.arrows"]),
    job("view fasta", &["nyx-view -o out.fa ../contributions.arrows"]),
    job("view npz", &[REGIONS, ATTRIB, "nyx-view -o out.npz"]),
    job("view npz of scores", &["nyx-view -o out.npz ../scored.arrows"]),
    job("view parquet", &[REGIONS, ATTRIB, "nyx-view -o out.parquet"]),
    job("view arrow", &["nyx-view -o out.arrow ../contributions.arrows"]),
    job("view matrix", &["nyx-view -O matrix -o out.tsv ../mutants.arrows"]),
    job("view heatmap", &["nyx-view -o out.html ../mutants.arrows"]),
    job("view hub of a track", &["nyx-view -O hub --value probs --genome hg38 -o hub ../scored.arrows"]),
    job("view hub of hits", &["nyx-view -O hub --genome hg38 -o hub ../hits.arrows"]),
    job(
        "motifs denovo",
        &[
            "nyx-motifs denovo --h5 modisco.h5 --outdir motifs -z 12 -t 16 -g 4 -o out.arrows ../contributions.arrows",
        ],
    ),
    job("scan", &["nyx-scan --motifs ../motifs.meme --tsv fimo.tsv -o out.arrows ../contributions.arrows"]),
    job("tomtom", &["nyx-tomtom ../motifs.meme ../motifs.meme --html page.html -o tomtom.tsv"]),
    job("collapse", &["nyx-collapse -i ../hits.arrows -o out.arrows"]),
    job("intersect", &["nyx-intersect -i ../hits.arrows ../hits.arrows -o out.arrows"]),
    job(
        "report",
        &[
            "nyx-report -r ../contributions.arrows -H ../hits.arrows -m ../motifs.meme -o page.html --outdir report",
        ],
    ),
    Job {
        name: "run",
        stages: &[
            "nyx run --shards 3 -o out.arrows 'nyx-extract tiles --fasta ../genome.fa --width 200 --stride 500 | nyx-score --model ../model'",
        ],
        resume: Some(""),
    },
    Job {
        name: "train",
        stages: &[
            "nyx-train cnn --architecture deepbind --epochs 2 --eval-every 3 --checkpoint-every 2 --data ../data -o model",
        ],
        resume: Some(" --resume"),
    },
];

/// What one does to a job.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// Which stage it happens to.
    pub stage: usize,
    /// Killed (-9) so long after the start.
    pub kill: Option<Duration>,
    /// A signal that is sent in the place of that of the kill.
    pub signal: Option<i32>,
    /// Said to a shell before the stage begins: limits.
    pub before: String,
    /// Put into the stage's environment.
    pub environment: Vec<(String, PathBuf)>,
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Of every stage; `None` for one that a signal ended.
    pub codes: Vec<Option<i32>>,
    /// The signals that ended stages.
    pub signals: Vec<Option<i32>>,
    /// What all stages said.
    pub said: String,
    pub hung: bool,
}

impl Outcome {
    /// Returns the status of the stage that writes the files.
    pub fn last(&self) -> Option<i32> {
        *self.codes.last().expect("a job has a stage")
    }
}

/// What a job leaves when nothing is done to it.
pub struct Reference {
    pub files: BTreeMap<String, Vec<u8>>,
    /// How long it took here, which says where a kill falls within the run and nothing else.
    pub took: Duration,
}

/// The inputs of all jobs, in a directory that goes when the last test is done with it.
pub struct Lab {
    directory: tempfile::TempDir,
    references: Mutex<BTreeMap<&'static str, Arc<Reference>>>,
    trials: AtomicUsize,
}

impl Lab {
    /// Returns the laboratory that tests share while one of them has it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Lab>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let lab = Arc::new(Self::new());
            *shared = Arc::downgrade(&lab);
            lab
        })
    }

    fn new() -> Self {
        let directory = tempfile::tempdir().expect("there is room for scratch files");
        let lab = Self { directory, references: Mutex::default(), trials: AtomicUsize::new(0) };
        let root = lab.directory.path();
        let mut demo = Command::new(executable("nyx"));
        stdout_of(
            {
                demo.args(["demo", "--data-only", "--outdir"]).arg(root);
                demo
            },
            b"",
        );
        fs::write(root.join("few.narrowPeak"), first_lines(&root.join("peaks.narrowPeak"), 60)).unwrap();
        fs::write(root.join("few.vcf"), variants(&root.join("genome.fa"))).unwrap();
        write_bcf(&root.join("few.vcf"), &root.join("few.bcf"));
        examples(&root.join("data"));
        for stages in [
            &[REGIONS, ATTRIB, "nyx-view -O npz -o ../regions.npz"][..],
            &[REGIONS, "nyx-attrib --model ../model --method gradxinput -o ../contributions.arrows"],
            &["nyx-hits --motifs ../motifs.meme -o ../hits.arrows ../contributions.arrows"],
            &[TILES, "nyx-score --model ../model -o ../scored.arrows"],
            &[VARIANTS, "nyx-score --model ../model -o ../alleles.arrows"],
            &["nyx-effects ../alleles.arrows -o ../effects.arrows"],
            &[
                "nyx-extract regions --fasta ../genome.fa --peaks ../few.narrowPeak --width 200 -r demo1:1-5000",
                "nyx-extract mutate --span 6 --deletions",
                "nyx-score --model ../model -o ../mutants.arrows",
            ],
            &["nyx-extract tiles --fasta ../genome.fa --width 200 --stride 500 --shard 1/2 -o ../1.arrows"],
            &["nyx-extract tiles --fasta ../genome.fa --width 200 --stride 500 --shard 2/2 -o ../2.arrows"],
        ] {
            let outcome = lab.run(stages, &lab.trial(), &Fault::default());
            assert!(outcome.codes.iter().all(|code| *code == Some(0)), "{stages:?}: {outcome:?}");
        }
        lab
    }

    /// Returns the path of an input.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns an empty directory for a run, beside the inputs.
    pub fn trial(&self) -> PathBuf {
        let path = self.path(&format!("trial.{}", self.trials.fetch_add(1, Relaxed)));
        fs::create_dir(&path).unwrap();
        path
    }

    /// Returns what a job leaves undisturbed.
    pub fn reference(&self, job: &Job) -> Arc<Reference> {
        // Held while the job runs: another test waits for it.
        let mut references = self.references.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let reference = references.entry(job.name).or_insert_with(|| {
            let directory = self.trial();
            let began = Instant::now();
            let outcome = self.run(job.stages, &directory, &Fault::default());
            let took = began.elapsed();
            assert!(outcome.codes.iter().all(|code| *code == Some(0)), "{}: {outcome:?}", job.name);
            assert_eq!(outcome.said, "", "{}: quiet is quiet", job.name);
            let files: BTreeMap<_, _> =
                files(&directory).into_iter().filter(|(name, _)| !is_record(name)).collect();
            assert!(!files.is_empty(), "{}: no files", job.name);
            fs::remove_dir_all(&directory).unwrap();
            Arc::new(Reference { files, took })
        });
        reference.clone()
    }

    /// Runs stages in `directory`, one of them with a fault, and waits for all.
    pub fn run(&self, stages: &[&str], directory: &Path, fault: &Fault) -> Outcome {
        let mut running = Running::default();
        for (index, stage) in stages.iter().enumerate() {
            let none = Fault::default();
            let own = if index == fault.stage { fault } else { &none };
            let last = index + 1 == stages.len();
            running.start(command(stage, own).current_dir(directory), last);
        }
        running.wait(fault)
    }

    /// Runs a job with a fault in a directory of its own, and says what was lost.
    pub fn endure(&self, job: &Job, fault: &Fault) -> (Outcome, Vec<String>) {
        let reference = self.reference(job);
        let directory = self.trial();
        let outcome = self.run(job.stages, &directory, fault);
        let mut losses = self.losses(job, &reference, &directory, &outcome);
        if outcome.last() != Some(0) && job.resume.is_some() && fault.kill.is_some() {
            losses.extend(self.resume(job, &reference, &directory));
        }
        fs::remove_dir_all(&directory).ok();
        let place = format!("{} with {fault:?}", job.name);
        (outcome, losses.into_iter().map(|loss| format!("{place}: {loss}")).collect())
    }

    /// Lets a killed job go on, which must end as if nothing had happened.
    fn resume(&self, job: &Job, reference: &Reference, directory: &Path) -> Vec<String> {
        let flag = job.resume.unwrap_or_default();
        let stages: Vec<String> = job.stages.iter().map(|stage| format!("{stage}{flag}")).collect();
        let stages: Vec<&str> = stages.iter().map(String::as_str).collect();
        let mut outcome = self.run(&stages, directory, &Fault::default());
        // Processes that the killed one had started may not have ended: that is said, and nothing is done meanwhile.
        for _ in 0..200 {
            if !outcome.said.contains("another `nyx run` works here") {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            outcome = self.run(&stages, directory, &Fault::default());
        }
        // What a kill left beside the final files of a model stays there; the next run is not to be blamed for it.
        let mut losses = self.losses(job, reference, directory, &outcome);
        losses.retain(|loss| !(loss.starts_with("model/.") && loss.ends_with("left behind")));
        if outcome.last() != Some(0) {
            losses.push(format!("it cannot go on: {outcome:?}"));
        }
        losses
    }

    /// Returns what breaks the invariant.
    pub fn losses(
        &self,
        job: &Job,
        reference: &Reference,
        directory: &Path,
        outcome: &Outcome,
    ) -> Vec<String> {
        let mut losses = Vec::new();
        if outcome.hung {
            losses.push("it hung".to_string());
        }
        if outcome.said.contains("panicked") || outcome.codes.contains(&Some(101)) {
            losses.push(format!("it panicked: {}", outcome.said));
        }
        let found = files(directory);
        let killed =
            [libc::SIGKILL, libc::SIGABRT].iter().any(|signal| outcome.signals.contains(&Some(*signal)));
        for (name, bytes) in &found {
            match reference.files.get(name) {
                Some(expected) if expected == bytes => {}
                Some(expected) => {
                    losses.push(format!("{name} has {} bytes of {}", bytes.len(), expected.len()));
                }
                // A killed process cannot sweep, nor one that gets no memory and aborts; one that ends by itself, or by another
                // signal, does. What `nyx run` has
                // started goes on for a while.
                None if is_temporary(name) && !killed && job.name != "run" => {
                    losses.push(format!("{name} was left behind"));
                }
                None if is_temporary(name) || is_record(name) => {}
                None => losses.push(format!("{name} is no file of this job")),
            }
        }
        if outcome.last() == Some(0) {
            let missing = reference.files.keys().filter(|name| !found.contains_key(*name));
            losses.extend(missing.map(|name| format!("status 0 without {name}")));
        }
        losses
    }
}

/// The stages of a pipe.
#[derive(Default)]
struct Running {
    children: Vec<Child>,
    listeners: Vec<JoinHandle<String>>,
}

impl Running {
    fn start(&mut self, command: &mut Command, last: bool) {
        let stdin = match self.children.last_mut() {
            None => Stdio::null(),
            Some(before) => Stdio::from(before.stdout.take().expect("piped")),
        };
        let stdout = if last { Stdio::null() } else { Stdio::piped() };
        let child = hearing(command).stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the executable starts");
        let mut stderr = child.stderr.take().expect("piped");
        self.listeners.push(std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        }));
        self.children.push(child);
    }

    /// Waits for all stages, kills the one that is to be killed, and all of them when they hang.
    fn wait(mut self, fault: &Fault) -> Outcome {
        let began = Instant::now();
        let mut kill = fault.kill;
        let mut hung = false;
        let mut ends: Vec<Option<ExitStatus>> = vec![None; self.children.len()];
        while ends.iter().any(Option::is_none) {
            for (child, end) in self.children.iter_mut().zip(&mut ends) {
                if end.is_none() {
                    *end = child.try_wait().expect("the child can be waited for");
                }
            }
            if kill.is_some_and(|after| began.elapsed() >= after) {
                kill = None;
                if ends[fault.stage].is_none() {
                    send(&self.children[fault.stage], fault.signal.unwrap_or(libc::SIGKILL));
                }
            }
            if began.elapsed() > PATIENCE && !hung {
                hung = true;
                self.children.iter_mut().for_each(|child| drop(child.kill()));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        let said = self.listeners.into_iter().map(|listener| listener.join().expect("it only reads"));
        let said = said.collect();
        let ends = || ends.iter().flatten();
        Outcome {
            codes: ends().map(ExitStatus::code).collect(),
            signals: ends().map(ExitStatusExt::signal).collect(),
            said,
            hung,
        }
    }
}

/// Sends a signal to a process that has not been waited for.
pub fn send(child: &Child, signal: i32) {
    let process = i32::try_from(child.id()).expect("a number of a process");
    // SAFETY: the call touches no memory of this process, and the child keeps its number until it is waited for.
    unsafe {
        libc::kill(process, signal);
    }
}

/// Has a command hear the signals that whoever runs the tests may have it ignore (`nohup`, a job of a script).
pub fn hearing(command: &mut Command) -> &mut Command {
    let hear = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the call may be made between fork and exec, and sets what the system begins with.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        Ok(())
    };
    // SAFETY: the function makes nothing but these calls.
    unsafe { command.pre_exec(hear) }
}

/// Returns a stage as a command with its part of a fault.
pub fn command(stage: &str, fault: &Fault) -> Command {
    let mut words = words(stage).into_iter();
    let tool = words.next().expect("a stage has a tool");
    let mut command = match fault.before.as_str() {
        "" => Command::new(executable(&tool)),
        before => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("{before}; exec \"$0\" \"$@\"")).arg(executable(&tool));
            shell
        }
    };
    command.args(words).args(["-q", "--no-pg"]);
    command.envs(fault.environment.iter().map(|(name, value)| (name, value)));
    command
}

/// Splits a stage into words; those between single quotes are one.
fn words(stage: &str) -> Vec<String> {
    let parts = stage.split('\'').enumerate();
    parts
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(String::from).collect(),
            _ => vec![part.to_string()],
        })
        .collect()
}

/// Returns the files below a directory and what they hold.
pub fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(directory).expect("below it").to_string_lossy().into_owned();
            match path.is_dir() {
                true => waiting.push(path),
                // A file may go between the two calls where a job that lost its parent still runs.
                false => drop(fs::read(&path).map(|bytes| found.insert(name, bytes))),
            }
        }
    }
    found
}

/// Whether a file is one that is not finished, by its name.
fn is_temporary(name: &str) -> bool {
    let file = name.rsplit('/').next().expect("a name has an end");
    file.starts_with('.') && file.ends_with(".tmp")
}

/// Whether a file is the record of a run, which tells of its course, or what a later run begins with.
fn is_record(name: &str) -> bool {
    name.starts_with("model/training/") || name.contains(".shards/")
}

fn first_lines(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().take(count).map(|line| format!("{line}\n")).collect()
}

/// Returns a VCF of 120 records on the first contig: substitutions, insertions, deletions, two alternates.
fn variants(fasta: &Path) -> String {
    let text = fs::read_to_string(fasta).unwrap();
    let contig = text.lines().next().unwrap()[1..].split_whitespace().next().unwrap().to_string();
    let bases: String = text.lines().skip(1).take_while(|line| !line.starts_with('>')).collect();
    let mut vcf = format!("##fileformat=VCFv4.3\n##contig=<ID={contig},length={}>\n", bases.len());
    vcf += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    for record in 0..120 {
        let position = 1000 + 300 * record;
        let reference = bases[position - 1..position + record % 3].to_uppercase();
        let first = &reference[..1];
        let other = if first == "A" { "C" } else { "A" };
        let alternates = match record % 4 {
            0 => other.to_string(),
            1 => format!("{first}TTGA"),
            2 => format!("{other},{first}A"),
            _ => first.to_string(),
        };
        // Nothing changes where REF is one base and ALT the same.
        let alternates = if alternates == reference { other.to_string() } else { alternates };
        vcf += &format!("{contig}\t{position}\tv{record}\t{reference}\t{alternates}\t.\t.\t.\n");
    }
    vcf
}

/// Writes sets of labelled sequences; those that hold TGACTCAT are positive.
fn examples(folder: &Path) {
    fs::create_dir(folder).unwrap();
    // The genome of the support module is the source of random bases.
    let bases = fs::read_to_string(genome(folder, 60 * 200)).unwrap();
    let mut lines = bases.lines().skip(1).map(|line| line[..40].to_string());
    for (name, count) in [("train", 120), ("dev", 40), ("test", 40)] {
        let mut text = String::from("sequence,label\n");
        for (row, mut sequence) in lines.by_ref().take(count).enumerate() {
            if row % 2 == 0 {
                sequence.replace_range(row % 30..row % 30 + 8, "TGACTCAT");
            }
            text += &format!("{sequence},{}\n", (row + 1) % 2);
        }
        fs::write(folder.join(format!("{name}.csv")), text).unwrap();
    }
}
