//! tfmodisco-lite's own patterns on the same contributions are the oracle.

use super::align::correlate;
use super::modisco::{Settings, discover};
use super::seqlets::Extraction;
use super::tracks::{Example, Tracks};
use crate::motif::modisco;
use crate::npy::Npz;

/// Reads one-hot sequences and hypothetical contributions, both (N, 4, L).
fn tracks(sequences: &mut Npz, contributions: &mut Npz) -> Tracks {
    let first = |file: &mut Npz| file.numbers::<f32>(&file.names()[0]).unwrap();
    let (one_hot, values) = (first(sequences), first(contributions));
    let (size, length) = (4 * one_hot.shape[2], one_hot.shape[2]);
    let base = |one_hot: &[f32], i: usize| {
        (0..4).find(|&base| one_hot[base * length + i] > 0.5).map_or(b'N', |base| b"ACGT"[base])
    };
    let example = |(region, (one_hot, values)): (usize, (&[f32], &[f32]))| {
        let sequence: Vec<u8> = (0..length).map(|i| base(one_hot, i)).collect();
        Example::new(region as u64, &sequence, values)
    };
    let rows = one_hot.values.chunks(size).zip(values.values.chunks(size)).enumerate();
    Tracks { examples: rows.map(example).collect() }
}

/// The strongest patterns on contributions of a trained network, by mutagenesis on 1000 sequences of 100 bases, are
/// those that tfmodisco-lite found, with about as many seqlets.
#[test]
fn the_patterns_of_tfmodisco_lite_are_found() {
    let Some(golden) = crate::testing::shared("golden/finemo") else { return };
    for factor in ["real_CTCFL", "real_USF1"] {
        let input = golden.join(factor).join("input");
        let mut files = ["ohe.npz", "ism_hyp.npz"].map(|name| Npz::open(&input.join(name)).unwrap());
        let [sequences, contributions] = &mut files;
        let tracks = tracks(sequences, contributions);
        // As the golden's README says: -n 2000 -w 100 -z 15 -f 5 -t 20 -g 5.
        let settings = Settings {
            extraction: Extraction { core: 15, flank: 5, ..Extraction::default() },
            max_seqlets: 2000,
            trim: 20,
            flank: 5,
            ..Settings::default()
        };
        let found = discover(&tracks, &settings);
        let path = golden.join(factor).join("modisco.h5");
        let theirs = modisco::read(&path).unwrap();
        let seqlets = modisco::read_seqlets(&path, &theirs).unwrap();
        let strongest = theirs.iter().position(|pattern| pattern.tag == "pos_patterns.pattern_0").unwrap();
        let count = seqlets.iter().filter(|seqlet| seqlet.pattern == strongest).count() as f64;
        let positive = found.positive.unwrap();
        let ours = &positive[0].pattern;
        let similarity = correlate(&theirs[strongest].cwm, &ours.contributions(), 0.7).similarity;
        assert!(similarity > 0.95, "{factor}: {similarity}");
        let ratio = ours.seqlets().len() as f64 / count;
        assert!((0.7..1.4).contains(&ratio), "{factor}: {} seqlets, theirs {count}", ours.seqlets().len());
        let theirs = theirs.iter().filter(|pattern| pattern.tag.starts_with("pos")).count();
        assert!(
            positive.len().abs_diff(theirs) <= 2.max(theirs / 2),
            "{factor}: {} of {theirs}",
            positive.len()
        );
    }
}

/// The same on any number of threads.
#[test]
fn threads_do_not_change_the_patterns() {
    let Some(golden) = crate::testing::shared("golden/finemo/synth1000_sub100") else { return };
    let mut files = [0, 1].map(|_| Npz::open(&golden.join("regions.npz")).unwrap());
    let [sequences, contributions] = &mut files;
    let read = |file: &mut Npz, name: &str| file.numbers::<f32>(name).unwrap();
    let (one_hot, values) = (read(sequences, "sequences"), read(contributions, "contributions"));
    let length = one_hot.shape[2];
    let examples =
        one_hot.values.chunks(4 * length).zip(values.values.chunks(4 * length)).enumerate().take(40);
    let examples = examples.map(|(region, (one_hot, values))| {
        let base =
            |i| (0..4).find(|&base| one_hot[base * length + i] > 0.5).map_or(b'N', |base| b"ACGT"[base]);
        Example::new(region as u64, &(0..length).map(base).collect::<Vec<u8>>(), values)
    });
    let tracks = Tracks { examples: examples.collect() };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| discover(&tracks, &Settings::default()))
    };
    let one = on(1);
    assert!(one.seqlets.0 > 100, "{:?}", one.seqlets);
    assert_eq!(on(3), one);
}
