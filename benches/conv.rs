//! The subject that `cnn.py` times: layers and whole networks of nyx, driven by lines on standard input.
//!
//! - `precision f32` or `precision bf16` is what the subjects after it multiply in;
//! - `layer DIRECTORY INPUTS OUTPUTS LENGTH WIDTH DILATION BATCH` reads `input`, `weight` and `bias` (raw f32) there;
//! - `network MODEL SEQUENCES` loads a model directory, and a sequence a line;
//! - `run COUNT` computes the present subject that often;
//! - `write FILE` computes it once more and writes what came out as raw f32.
//!
//! Each is answered by a line once it is done. Who drives reads this process's clocks.

use std::io::BufRead;
use std::path::Path;

use candle_core::{Device, Tensor};
use nyx::kernel::{Conv, Padding, Precision};
use nyx::model::{Ensemble, Input, Member, Misfit, Opened, Scores, Wanted};

/// What is timed: returns the numbers, or what can be made into them.
type Subject = Box<dyn Fn() -> nyx::Result<Output>>;

enum Output {
    Tensor(Tensor),
    Scores(Vec<Scores>),
}

impl Output {
    fn values(self) -> nyx::Result<Vec<f32>> {
        Ok(match self {
            Self::Tensor(tensor) => tensor.flatten_all()?.to_vec1()?,
            Self::Scores(rows) => {
                let row = |row: Scores| [row.logits, row.profile.unwrap_or_default()];
                rows.into_iter().flat_map(row).flatten().collect()
            }
        })
    }
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("the driver has written it");
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// A convolution of `[B, L, C]`, padded so that there are as many outputs as inputs.
fn layer(directory: &Path, shape: [usize; 6], precision: Precision) -> Subject {
    let [inputs, outputs, length, width, dilation, batch] = shape;
    let weights = floats(&directory.join("weight"));
    let reach = dilation * (width - 1);
    let padding = Padding { left: reach / 2, right: reach - reach / 2, ..Padding::default() };
    let conv = Conv::new(&weights, [outputs, inputs, 1, width], &floats(&directory.join("bias")))
        .with_dilation([1, dilation])
        .with_padding(padding)
        .with_precision(precision);
    let input = floats(&directory.join("input"));
    let input =
        Tensor::from_vec(input, (batch, length, inputs), &Device::Cpu).expect("the input has the shape");
    Box::new(move || Ok(Output::Tensor(conv.forward_1d(&input)?)))
}

/// What `nyx-score` computes: sequences in, logits (and the profile, where there is one) out.
fn network(directory: &Path, sequences: &Path, precision: Precision) -> Subject {
    let opened = Opened::read(directory).expect("a model directory");
    // A network whose layers gain nothing from bfloat16 has f32 only.
    let loaded =
        opened.build(&Device::Cpu, precision).or_else(|_| opened.build(&Device::Cpu, Precision::F32));
    let loaded = loaded.expect("a model");
    let models = Ensemble::new(vec![Member { name: "bench".into(), loaded }], false, Wanted::default())
        .expect("a model");
    let text = std::fs::read_to_string(sequences).expect("a file of sequences");
    let sequences: Vec<String> = text.lines().map(str::to_string).collect();
    Box::new(move || {
        let rows: Vec<Input> = sequences.iter().map(|sequence| Input::of(sequence.as_bytes())).collect();
        let answers: Result<Vec<Scores>, Misfit> = models.predict(&rows)?.into_iter().collect();
        Ok(Output::Scores(answers.expect("sequences of the model's length")))
    })
}

fn main() {
    let mut precision = Precision::F32;
    let mut subject: Subject = Box::new(|| Ok(Output::Scores(Vec::new())));
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["precision", "f32"] => precision = Precision::F32,
            ["precision", "bf16"] => precision = Precision::Bf16,
            ["layer", directory, ref shape @ ..] => {
                let numbers: Vec<usize> = shape.iter().map(|n| n.parse().expect("a number")).collect();
                subject = layer(Path::new(directory), numbers.try_into().expect("six numbers"), precision);
            }
            ["network", directory, sequences] => {
                subject = network(Path::new(directory), Path::new(sequences), precision)
            }
            ["run", count] => (0..count.parse().expect("a number")).for_each(|_| {
                std::hint::black_box(subject().expect("the subject computes"));
            }),
            ["write", file] => {
                let values = subject().and_then(Output::values).expect("the subject computes");
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                std::fs::write(file, bytes).expect("a file that can be written");
            }
            // Cargo's own arguments are no lines; anything else is a mistake of the driver.
            _ => panic!("unknown: {line}"),
        }
        println!("done");
    }
}
