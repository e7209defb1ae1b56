//! Bytes per second through pipes between processes: arrow-rs alone (the ceiling), and nyx's reader and
//! writer with their end marks, provenance and threads.
//!
//! `cargo bench --bench pipe` prints one line a case. Each case is producer | stage | consumer or
//! producer | consumer, every part a process; the bytes are those of the Arrow buffers.

use std::io::{BufReader, stdin, stdout};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{Float32Array, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use nyx::pipe::{Pipe, ipc};

/// Rows of 1000 bases with four contributions a base: about 17 kB each, 4 MiB a batch.
fn batch() -> RecordBatch {
    let (rows, bases) = (250, 1000);
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Float32Array::from_iter_values((0..rows * 4 * bases).map(|i| i as f32));
    let lists = ListArray::new(
        item.clone(),
        OffsetBuffer::from_lengths(vec![4 * bases; rows]),
        Arc::new(values),
        None,
    );
    let schema = Schema::new(vec![
        Field::new("region", DataType::UInt64, false),
        Field::new("sequence", DataType::Utf8, false),
        Field::new("hypothetical", DataType::List(item), false),
    ]);
    let sequence = "ACGT".repeat(bases / 4);
    let columns: Vec<arrow_array::ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&sequence, rows))),
        Arc::new(lists),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).expect("the columns have the schema")
}

const BATCHES: usize = 1000;

/// The same rows, numbered on from batch to batch: a stream whose regions do not continue is refused.
fn batches() -> impl Iterator<Item = RecordBatch> + Send {
    let first = batch();
    (0..BATCHES as u64).map(move |index| {
        let rows = first.num_rows() as u64;
        let mut columns = first.columns().to_vec();
        columns[0] = Arc::new(UInt64Array::from_iter_values(index * rows..(index + 1) * rows));
        RecordBatch::try_new(first.schema(), columns).expect("the columns have the schema")
    })
}

/// Standard output without the line buffer of Rust's own, as a fair program would use it.
fn unbuffered() -> std::io::BufWriter<std::fs::File> {
    let file = stdout().as_fd().try_clone_to_owned().expect("standard output is open");
    std::io::BufWriter::with_capacity(1 << 20, file.into())
}

fn part(name: &str) {
    match name {
        "produce" => {
            let mut writer = StreamWriter::try_new(unbuffered(), &batch().schema()).unwrap();
            for batch in batches() {
                writer.write(&batch).unwrap();
            }
            writer.finish().unwrap();
        }
        "arrow" => {
            let reader = StreamReader::try_new(BufReader::new(stdin()), None).unwrap();
            let mut writer = StreamWriter::try_new(unbuffered(), &reader.schema()).unwrap();
            for batch in reader {
                writer.write(&batch.unwrap()).unwrap();
            }
            writer.finish().unwrap();
        }
        "consume" => {
            let reader = StreamReader::try_new(BufReader::new(stdin()), None).unwrap();
            assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), BATCHES * 250);
        }
        "nyx-produce" => {
            let pipe = Pipe::new(batch().schema(), batches().map(Ok));
            let output = nyx::output::Output::create("-".as_ref()).unwrap();
            ipc::write(pipe, output).unwrap();
        }
        "nyx-consume" => {
            let pipe = nyx::input::open_pipe("-".as_ref()).unwrap().ahead(2);
            let rows: usize = pipe.into_parts().1.map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(rows, BATCHES * 250);
        }
        other => panic!("unknown part {other}"),
    }
}

/// Runs parts as processes joined by pipes and returns the seconds it took.
fn time(parts: &[&str]) -> f64 {
    let own = std::env::current_exe().unwrap();
    let merge = env!("CARGO_BIN_EXE_nyx-merge");
    let start = Instant::now();
    let mut children = Vec::new();
    let mut input = Stdio::null();
    for (index, part) in parts.iter().enumerate() {
        let mut command = if *part == "nyx-merge" {
            let mut command = Command::new(merge);
            command.args(["-q", "-"]);
            command
        } else {
            let mut command = Command::new(&own);
            command.env("NYX_BENCH_PART", part);
            command
        };
        let last = index + 1 == parts.len();
        command.stdin(input).stdout(if last { Stdio::null() } else { Stdio::piped() });
        let mut child = command.spawn().unwrap();
        input = child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        children.push(child);
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    start.elapsed().as_secs_f64()
}

fn main() {
    if let Ok(name) = std::env::var("NYX_BENCH_PART") {
        return part(&name);
    }
    let gigabytes = batch().get_array_memory_size() as f64 * BATCHES as f64 / 1e9;
    let cases: [&[&str]; 5] = [
        &["produce", "consume"],
        &["nyx-produce", "nyx-consume"],
        &["produce", "arrow", "consume"],
        &["nyx-produce", "nyx-merge", "nyx-consume"],
        &["produce", "nyx-merge", "consume"],
    ];
    println!("{gigabytes:.2} GB of record batches, best and median of 5 interleaved runs");
    let mut seconds = vec![Vec::new(); cases.len()];
    for _ in 0..5 {
        for (case, seconds) in cases.iter().zip(&mut seconds) {
            seconds.push(time(case));
        }
    }
    for (case, mut seconds) in cases.iter().zip(seconds) {
        seconds.sort_by(f64::total_cmp);
        let (best, median) = (gigabytes / seconds[0], gigabytes / seconds[2]);
        println!("{:55} {best:6.2} GB/s best {median:6.2} median", case.join(" | "));
    }
}
