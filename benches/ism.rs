//! Times saturation mutagenesis: substitutions followed through the network, and every mutant predicted whole.
//!
//! `ism MODEL_DIRECTORY SEQUENCES ROWS followed|whole TABLE` prints the seconds that it took, and writes the logits
//! `[rows, L, 4]` as little-endian f32. `benches/ism.py` runs it beside its peers.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use nyx::dna::BASES;
use nyx::model::{self, Ensemble, Member, Wanted};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [directory, sequences, rows, how, table] = arguments.as_slice() else {
        eprintln!("usage: ism MODEL_DIRECTORY SEQUENCES ROWS followed|whole TABLE");
        return;
    };
    let loaded = model::load(Path::new(directory), &candle_core::Device::Cpu).expect("a model directory");
    let member = Member { name: "model".into(), loaded };
    let models = Ensemble::new(vec![member], false, Wanted::default()).expect("one model");
    let text = std::fs::read_to_string(sequences).expect("a file with a sequence a line");
    let sequences: Vec<&[u8]> =
        text.lines().map(str::as_bytes).take(rows.parse().expect("a number of rows")).collect();
    // Weights are packed when they are first used.
    models.logits(&sequences[..1], 0).expect("a sequence of the model's window");
    let began = Instant::now();
    let logits: Vec<f32> = match how.as_str() {
        "followed" => models.substitutions(&sequences, 0).expect("logits").concat().into_flattened(),
        _ => sequences.iter().flat_map(|sequence| whole(&models, sequence)).collect(),
    };
    println!("{}", began.elapsed().as_secs_f64());
    let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    std::fs::File::create(table).and_then(|mut file| file.write_all(&bytes)).expect("a place for the table");
}

/// Predicts the sequence with every base at every position; those that it has are not predicted again.
fn whole(models: &Ensemble, sequence: &[u8]) -> Vec<f32> {
    let mutants: Vec<Vec<u8>> = (0..sequence.len())
        .flat_map(|position| BASES.map(|base| (position, base)))
        .filter(|&(position, base)| sequence[position] != base)
        .map(|(position, base)| {
            let mut mutant = sequence.to_vec();
            mutant[position] = base;
            mutant
        })
        .collect();
    let rows: Vec<&[u8]> = mutants.iter().map(Vec::as_slice).chain([sequence]).collect();
    let logits = models.logits(&rows, 0).expect("logits");
    let (reference, mut mutants) = (logits[logits.len() - 1], logits.iter());
    let places = sequence.iter().flat_map(|&observed| BASES.map(|base| base == observed));
    places.map(|observed| if observed { reference } else { *mutants.next().expect("a logit each") }).collect()
}
