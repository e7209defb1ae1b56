//! What must hold for any input, against oracles that share no code with what they judge.

mod hits;
mod models;
mod round_trips;
mod rows;
mod tokenizers;

/// Letters of a random sequence, of which every one after the fourth is rarer: mostly bases, some N.
fn bases(random: &mut impl rand::Rng, length: usize) -> String {
    (0..length).map(|_| char::from(b"ACGTACGTACGTACGTACGTACGTN"[random.random_range(0..25)])).collect()
}

/// Returns the reverse complement, a letter at a time.
fn reverse_complement(sequence: &str) -> String {
    let other = |base| match base {
        'A' => 'T',
        'C' => 'G',
        'G' => 'C',
        'T' => 'A',
        other => other,
    };
    sequence.chars().rev().map(other).collect()
}
