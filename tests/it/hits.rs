//! `nyx-hits` as a user sees it: flags, files, exit statuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{Field, Schema};
use nyx::input::open_pipe;
use nyx::output;
use nyx::pipe::{Pipe, ipc};
use nyx::schema;

use crate::support;

/// GATAAG.
const MEME: &str = "MEME version 4\n\nALPHABET= ACGT\n\nMOTIF GATA1 gata\n\
    letter-probability matrix: alength= 4 w= 6 nsites= 20\n\
    0.01 0.01 0.97 0.01\n0.97 0.01 0.01 0.01\n0.01 0.01 0.01 0.97\n0.97 0.01 0.01 0.01\n0.97 0.01 0.01 0.01\n0.01 0.01 0.97 0.01\n";

/// A folder with motifs and a stream of regions, each with one GATAAG at its own place.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.path("motifs.meme"), MEME).unwrap();
        let count = 9;
        let places: Vec<usize> = (0..count).map(|row| 3 + 5 * row % 20).collect();
        let sequence = |at: &usize| format!("{}GATAAG{}", "C".repeat(*at), "C".repeat(40 - at));
        let values =
            |at: &usize| (0..46).map(|i| if (*at..at + 6).contains(&i) { 1.0 } else { 0.01 }).collect();
        let contributions: Vec<Option<Vec<f32>>> = places.iter().map(|at| Some(values(at))).collect();
        // Contigs in an order that is not that of their names.
        let chroms = (0..count).map(|row| if row % 2 == 0 { "chr2" } else { "chr1" });
        let arrays: Vec<(&str, ArrayRef)> = vec![
            (schema::REGION, Arc::new(UInt64Array::from_iter_values(0..count as u64))),
            (schema::CHROM, Arc::new(StringArray::from_iter_values(chroms))),
            (
                schema::START,
                Arc::new(Int64Array::from_iter_values((0..count).map(|row| 1000 - 100 * row as i64))),
            ),
            (
                schema::END,
                Arc::new(Int64Array::from_iter_values((0..count).map(|row| 1046 - 100 * row as i64))),
            ),
            (schema::STRAND, Arc::new(StringArray::from(vec!["+"; count]))),
            (schema::NAME, Arc::new(StringArray::from(vec![Some("peak"); count]))),
            (schema::SEQUENCE, Arc::new(StringArray::from_iter_values(places.iter().map(sequence)))),
            (schema::CONTRIBUTIONS, schema::float_lists(&contributions)),
        ];
        let fields: Vec<Field> =
            arrays.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let columns = arrays.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let mut stream = output::Output::create(&folder.path("regions.arrows")).unwrap();
        ipc::write(Pipe::new(schema, std::iter::once(Ok(batch))), &mut stream).unwrap();
        stream.commit().unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn hits(&self, arguments: &[&str]) -> Output {
        self.command(&["regions.arrows"]).args(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nyx-hits"));
        command.current_dir(self.0.path()).args(["-m", "motifs.meme"]).args(arguments);
        command
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_stream_and_the_files_hold_the_same_hits() {
    let folder = Folder::new();
    let output = folder.hits(&["-o", "hits.arrows", "--outdir", "out"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("9 hits in 9 regions"), "{}", said(&output));
    let pipe = open_pipe(&folder.path("hits.arrows")).unwrap();
    assert_eq!(pipe.schema().metadata["nyx.kind"], "hits");
    let rows: usize = pipe.into_parts().1.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 9);
    let hits = text(&folder.path("out/hits.tsv"));
    let places: Vec<(&str, i64)> = hits
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|cells| (cells[0], cells[1].parse().unwrap()))
        .collect();
    assert_eq!(places.len(), 9);
    assert!(places[..5].iter().all(|place| place.0 == "chr2"), "contigs in order of first appearance");
    assert!(places[..5].is_sorted() && places[5..].is_sorted(), "{places:?}");
    let names = ["hits_unique.tsv", "hits.bed", "peaks_qc.tsv", "motif_data.tsv", "motif_cwms.npy"];
    assert!(names.iter().all(|name| folder.path("out").join(name).exists()));
    let parameters: serde_json::Value =
        serde_json::from_str(&text(&folder.path("out/parameters.json"))).unwrap();
    assert_eq!((&parameters["region_width"], &parameters["num_motifs"]), (&46.into(), &2.into()));
}

#[test]
fn the_bytes_do_not_depend_on_batches_or_threads() {
    let folder = Folder::new();
    let bytes = |name: &str, arguments: &[&str]| {
        let output = folder.hits(&[arguments, &["--no-pg", "-q", "--outdir", name]].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
        text(&folder.path(name).join("hits.tsv"))
    };
    let whole = bytes("a", &["-@", "2"]);
    assert_eq!(bytes("b", &["-@", "1", "--batch-size", "1"]), whole);
    assert_eq!(bytes("c", &["--batch-size", "4"]), whole);
}

#[test]
fn contigs_follow_the_order_that_is_given() {
    let folder = Folder::new();
    std::fs::write(folder.path("order.txt"), "chr1\nchr2\n").unwrap();
    let output = folder.hits(&["-C", "order.txt", "--outdir", "out"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(text(&folder.path("out/hits.bed")).starts_with("chr1\t"));
}

#[test]
fn mistakes_end_with_their_status_and_name_what_is_wrong() {
    let folder = Folder::new();
    std::fs::write(folder.path("list.txt"), "GATA9\n").unwrap();
    for (arguments, status, words) in [
        (vec!["-I", "list.txt"], 1, "`GATA9`, which is no motif"),
        (vec!["-l=-1"], 2, "--lambda"),
        (vec!["-l", "0", "--compat"], 2, "--compat with a lambda of 0"),
        (vec!["--solver", "active-set", "--compat"], 2, "--solver proxgrad"),
        (vec!["--device", "cuda", "--compat"], 2, "--device cpu"),
        (vec!["--device", "cuda:4096"], 1, "--device cpu"),
        (vec!["-M", "hh"], 1, "hypothetical"),
        (vec!["-M", "xx"], 2, "xx"),
        (vec!["-r", "regions.npz"], 2, "INPUT"),
        (vec!["-p", "peaks.narrowPeak"], 2, "--regions"),
        (vec!["-C", "list.txt"], 2, "--outdir"),
        (
            vec!["--solver", "proxgrad", "-S", "1", "--tol", "1e-9", "--strict", "-o", "never.arrows"],
            1,
            "region 0 (peak) has not converged",
        ),
    ] {
        let output = folder.hits(&arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
    assert!(!folder.path("never.arrows").exists());
}

#[test]
fn hits_of_a_batch_leave_before_the_next_batch_comes() {
    let folder = Folder::new();
    let (schema, batches) = open_pipe(&folder.path("regions.arrows")).unwrap().into_parts();
    let batch = batches.map(|batch| batch.unwrap()).next().unwrap();
    let mut command = folder.command(&["-q"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = StreamWriter::try_new(child.stdin.take().unwrap(), &schema).unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, arrivals) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for batch in StreamReader::try_new(stdout, None).unwrap() {
            sender.send(batch.unwrap()).unwrap();
        }
    });
    for rows in [2, 3] {
        stream.write(&batch.slice(0, rows)).unwrap();
        // Nothing more is written until these hits are here.
        let hits = arrivals.recv_timeout(Duration::from_secs(120)).expect("hits of the rows so far");
        assert_eq!(hits.num_rows(), rows);
    }
    stream.finish().unwrap();
    drop(stream);
    reader.join().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_has_not_converged_is_marked_everywhere() {
    let folder = Folder::new();
    for solver in [["--solver", "proxgrad", "-S", "1"], ["--solver", "active-set", "-S", "0"]] {
        let arguments = [&solver[..], &["--tol", "1e-9", "--outdir", "out"]].concat();
        let output = folder.hits(&[&arguments[..], &["-o", "hits.arrows"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("9 not_converged"), "{}", said(&output));
        assert!(said(&output).contains("warning: 9 regions have not converged"), "{}", said(&output));
        let quality = text(&folder.path("out/peaks_qc.tsv"));
        assert_eq!(quality.lines().filter(|line| line.ends_with("\tnot_converged")).count(), 9);
        for batch in open_pipe(&folder.path("hits.arrows")).unwrap().into_parts().1 {
            let converged = batch.unwrap()["converged"].as_boolean().clone();
            assert!(converged.iter().all(|converged| converged == Some(false)));
        }
        let strict = folder.hits(&[&arguments[..], &["--strict", "-o", "never.arrows"]].concat());
        assert_eq!(strict.status.code(), Some(1), "{}", said(&strict));
        assert!(!folder.path("never.arrows").exists());
    }
}

#[test]
fn every_table_of_motifs_is_used() {
    let folder = Folder::new();
    let second = MEME.split_once("MOTIF").unwrap().1.replace("GATA1 gata", "AAAA1 other");
    std::fs::write(folder.path("motifs.meme"), format!("{MEME}\nMOTIF{second}")).unwrap();
    for (name, line) in [
        ("include", "GATA1\tand more\n"),
        ("names", "GATA1\tshown\n"),
        ("lambdas", "GATA1\t0.6\n"),
        ("thresholds", "GATA1\t0.9\n"),
        ("coords", "GATA1\t1\t5\n"),
    ] {
        std::fs::write(folder.path(name), line).unwrap();
    }
    let data = |arguments: &[&str]| {
        let output = folder.hits(&[arguments, &["--outdir", "out", "-q"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        let rows = text(&folder.path("out/motif_data.tsv"));
        let row: Vec<String> = rows.lines().nth(1).unwrap().split('\t').map(str::to_string).collect();
        // Name, tag, span, lambda of the first filter, and how many there are.
        ([&row[1], &row[2], &row[4], &row[5], &row[7]].map(String::clone), rows.lines().count() - 1)
    };
    let row = |cells: [&str; 5]| cells.map(str::to_string);
    assert_eq!(data(&[]), (row(["GATA1", "GATA1", "0", "6", "0.7"]), 4));
    let tables = ["-I", "include", "-N", "names", "-L", "lambdas", "-R", "coords", "-T", "thresholds"];
    assert_eq!(data(&tables), (row(["shown", "GATA1", "1", "5", "0.6"]), 2));
    // Fi-NeMo's old letters win over the new ones, as there.
    std::fs::write(folder.path("alphas"), "GATA1\t0.4\n").unwrap();
    assert_eq!(data(&["-I", "include", "-l", "0.8", "-a", "0.5"]).0[4], "0.5");
    assert_eq!(data(&["-I", "include", "-L", "lambdas", "-A", "alphas", "-b", "3", "-J"]).0[4], "0.4");
}

#[test]
fn a_regions_file_of_fi_nemo_is_read_as_it_is() {
    let Some(golden) = support::shared("golden/finemo/real_CTCFL") else { return };
    let folder = tempfile::tempdir().unwrap();
    let hits = |name: &str| {
        let mut command = support::nyx("hits", &["--compat", "-q", "-o", "/dev/null", "--out-dir", name]);
        command.current_dir(folder.path()).arg("-r").arg(golden.join("regions.npz"));
        support::stdout_of(
            {
                command.arg("-m").arg(golden.join("modisco.h5"));
                command
            },
            b"",
        );
        text(&folder.path().join(name).join("hits.tsv"))
    };
    let cells = |table: &str| {
        let place = |line: &str| line.split('\t').take(6).collect::<Vec<_>>().join("\t");
        let mut rows: Vec<String> = table.lines().map(place).collect();
        rows.sort();
        rows
    };
    assert_eq!(cells(&hits("out")), cells(&text(&golden.join("hits_pp/hits.tsv"))));
}
