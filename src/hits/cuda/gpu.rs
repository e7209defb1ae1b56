//! The kernel on a GPU, against the active set on the processor. Ignored unless asked for: `scripts/gpu_check.sh`
//! runs them where there is a GPU.

use super::CudaSolver;
use super::host::{check, oracle, random_signals};
use crate::device::cuda::Cuda;
use crate::hits::Mode;
use crate::hits::dictionary::Dictionary;
use crate::hits::fit::Settings;
use crate::hits::signal::Signal;
use crate::motif::filters::Filter;

/// Runs batches of `rows` regions, two under way, and compares.
fn compare(filters: &[Filter], signals: &[Signal], rows: usize) -> usize {
    let cuda = Cuda::open(0).unwrap();
    let dictionary = Dictionary::new(filters, false);
    let mut solver = CudaSolver::new(&cuda, &dictionary, signals[0].planes() == 4).unwrap();
    let settings = Settings { tolerance: 1e-8, ..Settings::default() };
    assert!(signals.iter().all(|signal| solver.takes(signal)));
    let mut fits = Vec::new();
    let mut under_way = 0;
    for batch in signals.chunks(rows) {
        if under_way == super::SLOTS {
            fits.extend(solver.collect().unwrap());
            under_way -= 1;
        }
        solver.submit(&batch.iter().collect::<Vec<_>>(), &settings).unwrap();
        under_way += 1;
    }
    (0..under_way).for_each(|_| fits.extend(solver.collect().unwrap()));
    check(filters, signals, &settings, &fits)
}

#[test]
#[ignore = "needs a GPU"]
fn a_gpu_finds_what_the_active_set_finds_in_random_regions() {
    for seed in 0..20 {
        for hypothetical in [false, true] {
            let (filters, signals) = random_signals(seed, 200, 0.6, hypothetical);
            assert!(compare(&filters, &signals, 64) > 0, "seed {seed} has no hits");
        }
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_gpu_finds_what_the_active_set_finds_in_the_oracle() {
    for (folder, motifs, mode) in [
        ("synth1000_sub100", "modisco_like.h5", Mode::Pp),
        ("synth1000_sub100", "modisco_like.h5", Mode::Hh),
        ("real_CTCFL", "modisco.h5", Mode::Pp),
        ("real_CTCFL", "modisco.h5", Mode::Hh),
        ("real_USF1", "modisco.h5", Mode::Ph),
        ("real_USF1", "modisco.h5", Mode::Hp),
    ] {
        let Some((filters, signals)) = oracle(folder, motifs, mode, usize::MAX) else { return };
        assert!(compare(&filters, &signals, 97) > 0, "{folder}");
    }
}
