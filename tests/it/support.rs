//! Running commands and pipelines, scratch directories, and the folder of reference data.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Returns the path of an executable of this package.
pub fn executable(name: &str) -> PathBuf {
    let any = Path::new(env!("CARGO_BIN_EXE_nyx"));
    any.with_file_name(name)
}

/// Returns `nyx-NAME ARGUMENTS` as a command that has not run yet.
pub fn nyx(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(executable(&format!("nyx-{name}")));
    command.args(arguments);
    command
}

/// Runs a command with `input` on its standard input and returns what it did.
pub fn run_with(mut command: Command, input: &[u8]) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the executable starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A child that stops reading closes the pipe: that is the child's affair.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the child can be waited for");
    feeder.join().expect("the feeder does not panic");
    output
}

/// Runs a command without input.
pub fn run(command: Command) -> Output {
    run_with(command, b"")
}

/// Runs a command that must succeed and returns its standard output.
pub fn stdout_of(command: Command, input: &[u8]) -> Vec<u8> {
    let shown = format!("{command:?}");
    let output = run_with(command, input);
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Starts commands that read each other's output; the first reads nothing. All standard errors are dropped.
pub fn pipeline(commands: Vec<Command>) -> Vec<Child> {
    let mut children: Vec<Child> = Vec::new();
    for mut command in commands {
        let stdin = match children.last_mut() {
            None => Stdio::null(),
            Some(previous) => Stdio::from(previous.stdout.take().expect("piped")),
        };
        let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        children.push(child.expect("the executable starts"));
    }
    children
}

/// Returns the path `name` in the folder of reference data, or `None` with a note when it is not there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: ../shared/{name} is not there");
    None
}

/// Writes a FASTA of one contig of `length` pseudo-random bases and returns its path.
pub fn genome(directory: &Path, length: usize) -> PathBuf {
    let mut state = 1u64;
    let mut text = String::from(">chr1\n");
    for position in 0..length {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.push(b"ACGT"[(state >> 62) as usize] as char);
        if position % 60 == 59 {
            text.push('\n');
        }
    }
    text.push('\n');
    let path = directory.join("genome.fa");
    std::fs::write(&path, text).expect("the scratch directory can be written");
    path
}

/// Turns a VCF into a BCF, as noodles writes it.
pub fn write_bcf(vcf: &Path, bcf: &Path) {
    use noodles::vcf::variant::io::Write;
    let file = std::fs::File::open(vcf).expect("it is there");
    let mut reader = noodles::vcf::io::Reader::new(std::io::BufReader::new(file));
    let header = reader.read_header().expect("it has a header");
    let mut writer = noodles::bcf::io::Writer::new(std::fs::File::create(bcf).expect("there is room"));
    writer.write_variant_header(&header).expect("there is room");
    for record in reader.records() {
        writer.write_variant_record(&header, &record.expect("a record")).expect("there is room");
    }
    writer.try_finish().expect("there is room");
}
