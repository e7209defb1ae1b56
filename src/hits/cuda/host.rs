//! `kernels/hits.cu` compiled as C++ and run on the processor, on the very bytes that the launcher sends.
//!
//! Its twin is the active-set solver; the gap is checked by a naive sum over all places in 64 bits, written from
//! the formulas alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::layout::{self, Arguments, Ending, Entry, HITS_MAX, Image, Place, SCRATCH_BYTES, THREADS};
use crate::hits::Mode;
use crate::hits::dictionary::Dictionary;
use crate::hits::fit::{Coefficient, Fit, Fitter, Outcome, Settings};
use crate::hits::signal::{Preparation, Signal};
use crate::motif;
use crate::motif::filters::{Choice, Filter, build};
use crate::motif::{Matrix, Pattern};
use crate::npy::{Array, Npz};

/// How the kernel is compiled: what the compiler is asked to watch.
#[derive(Clone, Copy)]
enum Watch {
    Nothing,
    Addresses,
    Races,
}

/// Compiles the kernel, once for each way; `None` when there is no compiler.
fn program(watch: Watch) -> Option<&'static Path> {
    static PROGRAMS: [OnceLock<Option<PathBuf>>; 3] = [const { OnceLock::new() }; 3];
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let built = PROGRAMS[watch as usize].get_or_init(|| {
        if Command::new("c++").arg("--version").output().is_err() {
            eprintln!("skipped: there is no C++ compiler (scripts/install.sh test installs one)");
            return None;
        }
        let program =
            FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path().join((watch as u8).to_string());
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let flags: &[&str] = match watch {
            Watch::Nothing => &["-O2"],
            Watch::Addresses => &["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
            Watch::Races => &["-O1", "-g1", "-fsanitize=thread"],
        };
        let output = Command::new("c++")
            .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"])
            .args(flags)
            .arg(kernels.join("shim/hits_on_host.cpp"))
            .arg("-o")
            .arg(&program)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(program)
    });
    built.as_deref()
}

/// How a launch is made.
#[derive(Clone, Copy)]
struct Shape {
    blocks: u32,
    /// Seed of the order in which threads run.
    seed: u64,
    /// Shared bytes less than the kernel needs.
    missing: usize,
}

const SHAPE: Shape = Shape { blocks: 2, seed: 1, missing: 0 };

/// The bytes of a slice of numbers.
fn bytes<T: cudarc::driver::DeviceRepr>(items: &[T]) -> Vec<u8> {
    let mut bytes = vec![0u8; size_of_val(items)];
    // SAFETY: the types of the layout hold numbers only, without padding, and the target has their size.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::copy_nonoverlapping(items.as_ptr().cast::<u8>(), bytes.as_mut_ptr(), bytes.len());
    }
    bytes
}

/// The numbers in bytes.
fn items<T: cudarc::driver::DeviceRepr + cudarc::driver::ValidAsZeroBits + Default + Clone>(
    bytes: &[u8],
) -> Vec<T> {
    let mut items = vec![T::default(); bytes.len() / size_of::<T>()];
    // SAFETY: as above, the other way round; any bits are a number.
    #[allow(unsafe_code)]
    unsafe {
        std::ptr::copy_nonoverlapping(
            bytes.as_ptr(),
            items.as_mut_ptr().cast::<u8>(),
            size_of_val(&items[..]),
        );
    }
    items
}

/// Runs the kernel on regions of one kind.
fn launch(
    program: &Path,
    dictionary: &Dictionary,
    signals: &[Signal],
    settings: &Settings,
    shape: Shape,
) -> crate::Result<Vec<Option<Fit>>> {
    let image = Image::new(dictionary).unwrap();
    let planes = signals[0].planes();
    let total: usize = signals.iter().map(Signal::length).sum();
    let longest = signals.iter().map(Signal::length).max().unwrap();
    let (mut places, mut values, mut bases) =
        (vec![Place::default(); signals.len()], vec![0.0f32; total * planes], vec![0u8; total]);
    layout::pack(signals, &mut places, &mut values, &mut bases);
    let mut arguments = image.arguments(settings, signals.len(), longest, planes);
    let shared = arguments.shared_bytes as usize;
    arguments.shared_bytes -= shape.missing as u32;
    let endings = vec![Ending::default(); signals.len()];
    let hits = vec![Entry::default(); signals.len() * HITS_MAX];
    // In the order of the argument's addresses.
    let buffers = [
        bytes(&image.groups),
        bytes(&image.lanes),
        bytes(&image.bounds),
        bytes(&image.weights),
        bytes(&image.filters),
        bytes(&image.columns),
        bytes(&places),
        bytes(&values),
        bytes(&bases),
        bytes(&[0u32, 0]),
        bytes(&endings),
        bytes(&hits),
        vec![0xa5; SCRATCH_BYTES * shape.blocks as usize],
    ];
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let mut file = std::io::BufWriter::new(std::fs::File::create(&input).unwrap());
    let mut write = |bytes: &[u8]| file.write_all(bytes).unwrap();
    write(b"nyxlnch1");
    [shape.blocks, THREADS as u32].iter().for_each(|number| write(&number.to_le_bytes()));
    [shared as u64, shape.seed, size_of::<Arguments>() as u64, buffers.len() as u64]
        .iter()
        .for_each(|number| write(&number.to_le_bytes()));
    write(&bytes(&[arguments]));
    for (index, buffer) in buffers.iter().enumerate() {
        write(&(8 * index as u64).to_le_bytes());
        write(&(buffer.len() as u64).to_le_bytes());
        write(buffer);
    }
    file.into_inner().unwrap();
    let kernel = if planes == 1 { "hits_projected" } else { "hits_hypothetical" };
    let ran = Command::new(program).arg(kernel).args([&input, &output]).output().unwrap();
    assert!(ran.status.success(), "{}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    let written = std::fs::read(&output).unwrap();
    let at = |index: usize| buffers[..index].iter().map(Vec::len).sum::<usize>();
    let back = |index: usize| &written[at(index)..at(index + 1)];
    for (index, buffer) in buffers.iter().enumerate().take(9) {
        assert_eq!(back(index), &buffer[..], "the kernel wrote into its input {index}");
    }
    let hits: Vec<Entry> = items(back(11));
    items::<Ending>(back(10)).iter().map(|ending| layout::fit(ending, &hits)).collect()
}

/// s·K of a filter laid at a place, from the formulas alone: what it adds to which items of y.
fn laid(filter: &Filter, first: usize, signal: &Signal) -> Vec<(usize, f64)> {
    let (planes, span) = (signal.planes(), filter.end - filter.start);
    let window = &signal.values()[first * planes..(first + span) * planes];
    let energy: f64 = window.iter().map(|&value| f64::from(value).powi(2)).sum();
    let scale = 1.0 / (energy + 1.0).sqrt();
    let weight = |base: usize, tap: usize| f64::from(filter.cwm[base * filter.width + filter.start + tap]);
    (0..span)
        .flat_map(|tap| match signal.bases() {
            Some(bases) if bases[first + tap] < 4 => {
                vec![(first + tap, scale * weight(bases[first + tap] as usize, tap))]
            }
            Some(_) => vec![],
            None => (0..4).map(|base| ((first + tap) * 4 + base, scale * weight(base, tap))).collect(),
        })
        .collect()
}

/// The signal less what a fit explains.
fn residual(filters: &[Filter], signal: &Signal, fit: &Fit) -> Vec<f64> {
    let mut residual: Vec<f64> = signal.values().iter().map(|&value| f64::from(value)).collect();
    for hit in &fit.coefficients {
        for (at, value) in laid(&filters[hit.filter], hit.position, signal) {
            residual[at] -= f64::from(hit.value) * value;
        }
    }
    residual
}

/// Correlation with the residual, and penalty, of every place.
fn places<'a>(filters: &'a [Filter], signal: &'a Signal, fit: &Fit) -> impl Iterator<Item = (f64, f64)> + 'a {
    let residual = residual(filters, signal, fit);
    let length = signal.length();
    let fitting = filters.iter().filter(move |filter| filter.width <= length);
    let sites = fitting.flat_map(move |filter| {
        (filter.start..=length - filter.width + filter.start).map(move |first| (filter, first))
    });
    sites.map(move |(filter, first)| {
        let g = laid(filter, first, signal).iter().map(|(at, value)| residual[*at] * value).sum();
        (g, f64::from(filter.lambda))
    })
}

/// The duality gap of a fit over L, all places looked at.
fn naive_gap(filters: &[Filter], signal: &Signal, fit: &Fit) -> f64 {
    let ratio = places(filters, signal, fit).map(|(g, lambda)| g / lambda).fold(1.0f64, f64::max);
    let residual = residual(filters, signal, fit);
    let penalty = |hit: &Coefficient| f64::from(filters[hit.filter].lambda) * f64::from(hit.value);
    let penalty: f64 = fit.coefficients.iter().map(penalty).sum();
    let squares: f64 = residual.iter().map(|r| r * r).sum();
    let with_signal: f64 = residual.iter().zip(signal.values()).map(|(r, &y)| r * f64::from(y)).sum();
    let sigma = 1.0 / ratio;
    let dual = sigma * with_signal - 0.5 * sigma * sigma * squares;
    (0.5 * squares + penalty - dual) / signal.length() as f64
}

/// Compares the kernel with the active-set solver; returns how many hits there are.
fn compare(program: &Path, filters: &[Filter], signals: &[Signal], settings: &Settings) -> usize {
    let fits = launch(program, &Dictionary::new(filters, false), signals, settings, SHAPE).unwrap();
    check(filters, signals, settings, &fits)
}

/// Compares fits with those of the active-set solver, and their gaps with naive ones; returns how many hits there
/// are.
pub(super) fn check(
    filters: &[Filter],
    signals: &[Signal],
    settings: &Settings,
    fits: &[Option<Fit>],
) -> usize {
    let dictionary = Dictionary::new(filters, false);
    let mut fitter = Fitter::new(&dictionary);
    let (mut hits, mut solved) = (0, 0);
    for (index, (fit, signal)) in fits.iter().zip(signals).enumerate() {
        let Some(fit) = fit else { continue };
        solved += 1;
        let twin = fitter.fit(signal, settings);
        let sites = |fit: &Fit| fit.coefficients.iter().map(|c| (c.position, c.filter)).collect::<Vec<_>>();
        assert_eq!(fit.outcome, Outcome::Converged, "region {index}: {fit:?}");
        assert_eq!(sites(fit), sites(&twin), "region {index}");
        for (ours, theirs) in fit.coefficients.iter().zip(&twin.coefficients) {
            let scale = theirs.value.abs().max(1.0);
            assert!((ours.value - theirs.value).abs() <= 1e-5 * scale, "region {index}: {ours:?} {theirs:?}");
        }
        assert!((fit.nll - twin.nll).abs() <= 1e-7, "region {index}: {} {}", fit.nll, twin.nll);
        // Naively the dual point is the residual of the rounded coefficients, which may be a little worse.
        let gap = naive_gap(filters, signal, fit);
        assert!(
            fit.dual_gap <= settings.tolerance && gap <= settings.tolerance + 1e-7,
            "region {index}: {gap}"
        );
        assert!(gap >= -1e-12, "region {index}: no gap is negative: {gap}");
        hits += fit.coefficients.len();
    }
    eprintln!("{hits} hits in {solved} of {} regions", signals.len());
    assert!(solved * 10 >= signals.len() * 9, "only {solved} of {} regions were not left", signals.len());
    hits
}

fn exact(tolerance: f64) -> Settings {
    Settings { tolerance, ..Settings::default() }
}

/// Filters of random motifs, both strands, with some of their columns trimmed away.
fn random_filters(random: &mut StdRng, motifs: usize, lambda: f64) -> Vec<Filter> {
    let patterns: Vec<Pattern> = (0..motifs)
        .map(|index| {
            let width = random.random_range(4..14);
            let column = |_| {
                let (best, height) = (random.random_range(0..4), random.random_range(0.2f64..1.0));
                std::array::from_fn(
                    |base| if base == best { height } else { random.random_range(-0.15..0.1) },
                )
            };
            let columns: Vec<[f64; 4]> = (0..width).map(column).collect();
            Pattern { tag: format!("m{index}"), cwm: Matrix::from_columns(&columns), hypothetical: None }
        })
        .collect();
    build(&patterns, &Choice { lambda, ..Choice::default() }).unwrap().filters
}

/// Noise with motif instances, some bases N.
fn random_signal(random: &mut StdRng, filters: &[Filter], length: usize, hypothetical: bool) -> Signal {
    let mut sequence: Vec<u8> = (0..length).map(|_| b"ACGTACGTACGTN"[random.random_range(0..13)]).collect();
    let mut rows: Vec<f32> = (0..4 * length).map(|_| random.random_range(-0.3..0.3)).collect();
    for _ in 0..length / 25 {
        let filter = &filters[random.random_range(0..filters.len())];
        let Some(last) = length.checked_sub(filter.width) else { continue };
        let at = random.random_range(0..=last);
        let amplitude = random.random_range(1.0f32..4.0);
        for offset in 0..filter.width {
            let weight = |base: usize| filter.cwm[base * filter.width + offset];
            (0..4).for_each(|base| rows[base * length + at + offset] += amplitude * weight(base));
            let best = (0..4).max_by(|&a, &b| weight(a).total_cmp(&weight(b))).unwrap();
            sequence[at + offset] = b"ACGT"[best];
        }
    }
    if hypothetical {
        return Signal::hypothetical(&rows, Preparation::default());
    }
    let base = |position: usize| b"ACGT".iter().position(|base| *base == sequence[position]);
    let value = |position| base(position).map_or(9.0, |base| rows[base * length + position]);
    let values: Vec<f32> = (0..length).map(value).collect();
    Signal::projected(&values, &sequence, Preparation::default())
}

/// Regions of mixed lengths, among them one that is shorter than all motifs and one that is zero.
pub(super) fn random_signals(
    seed: u64,
    count: usize,
    lambda: f64,
    hypothetical: bool,
) -> (Vec<Filter>, Vec<Signal>) {
    let mut random = StdRng::seed_from_u64(seed);
    let motifs = random.random_range(1..12);
    let filters = random_filters(&mut random, motifs, lambda);
    let mut signals: Vec<Signal> = (0..count)
        .map(|_| {
            let length = random.random_range(14..300);
            random_signal(&mut random, &filters, length, hypothetical)
        })
        .collect();
    signals.push(random_signal(&mut random, &filters, 3, hypothetical));
    signals.push(match hypothetical {
        true => Signal::hypothetical(&[0.0; 160], Preparation::default()),
        false => Signal::projected(&[0.0; 40], &[b'C'; 40], Preparation::default()),
    });
    (filters, signals)
}

/// The first regions of a folder of the oracle, with its motifs.
pub(super) fn oracle(
    folder: &str,
    motifs: &str,
    mode: Mode,
    count: usize,
) -> Option<(Vec<Filter>, Vec<Signal>)> {
    let folder = crate::testing::shared(&format!("golden/finemo/{folder}"))?;
    let choice = Choice { hypothetical: mode.hypothetical_motifs(), ..Choice::default() };
    let filters = build(&motif::read(&folder.join(motifs)).unwrap(), &choice).unwrap().filters;
    let mut npz = Npz::open(&folder.join("regions.npz")).unwrap();
    let onehot: Array<f32> = npz.numbers("sequences").unwrap();
    let scores: Array<f32> = npz.numbers("contributions").unwrap();
    let length = onehot.shape[2];
    let signal = |(onehot, scores): (&[f32], &[f32])| {
        if mode.hypothetical_contributions() {
            return Signal::hypothetical(scores, Preparation::default());
        }
        let base = |at: usize| (0..4).find(|base| onehot[base * length + at] > 0.0);
        let sequence: Vec<u8> = (0..length).map(|at| base(at).map_or(b'N', |base| b"ACGT"[base])).collect();
        let value = |at: usize| base(at).map_or(0.0, |base| scores[base * length + at]);
        Signal::projected(&(0..length).map(value).collect::<Vec<_>>(), &sequence, Preparation::default())
    };
    let rows = onehot.values.chunks(4 * length).zip(scores.values.chunks(4 * length));
    Some((filters, rows.take(count).map(signal).collect()))
}

#[test]
fn the_kernel_finds_what_the_active_set_finds_in_random_regions() {
    let Some(program) = program(Watch::Nothing) else { return };
    for seed in 0..6 {
        for (lambda, hypothetical) in [(0.7, false), (0.7, true), (0.4, seed % 2 == 0)] {
            let (filters, signals) = random_signals(seed, 12, lambda, hypothetical);
            let hits = compare(program, &filters, &signals, &exact(1e-9));
            assert!(hits > 0, "seed {seed} has no hits");
        }
    }
}

#[test]
fn the_kernel_finds_what_the_active_set_finds_in_the_oracle() {
    let Some(program) = program(Watch::Nothing) else { return };
    for (folder, motifs, mode, count) in [
        ("synth1000_sub100", "modisco_like.h5", Mode::Pp, 24),
        ("synth1000_sub100", "modisco_like.h5", Mode::Hh, 6),
        ("real_CTCFL", "modisco.h5", Mode::Pp, 150),
        ("real_USF1", "modisco.h5", Mode::Ph, 50),
        ("real_USF1", "modisco.h5", Mode::Hp, 50),
    ] {
        let Some((filters, signals)) = oracle(folder, motifs, mode, count) else { return };
        let hits = compare(program, &filters, &signals, &exact(1e-8));
        assert!(hits >= signals.len() / 4, "{folder} {}: {hits} hits", mode.as_str());
    }
}

#[test]
fn the_kernel_touches_no_memory_that_is_not_its_own() {
    let Some(program) = program(Watch::Addresses) else { return };
    for (seed, lambda, hypothetical) in [(100, 0.6, false), (101, 0.6, true), (102, 0.3, false)] {
        let (filters, signals) = random_signals(seed, 6, lambda, hypothetical);
        compare(program, &filters, &signals, &exact(1e-9));
    }
    let (filters, signals) = crowded(true);
    launch(program, &Dictionary::new(&filters, false), &signals[4..], &exact(1e-7), SHAPE).unwrap();
}

#[test]
fn no_two_threads_of_the_kernel_race() {
    let Some(program) = program(Watch::Races) else { return };
    for (seed, lambda, hypothetical) in [(200, 0.6, false), (201, 0.6, true), (202, 0.3, false)] {
        let (filters, signals) = random_signals(seed, 2, lambda, hypothetical);
        compare(program, &filters, &signals, &exact(1e-9));
    }
    let (filters, signals) = crowded(true);
    launch(program, &Dictionary::new(&filters, false), &signals[4..], &exact(1e-7), SHAPE).unwrap();
}

#[test]
fn the_kernel_gives_the_same_bits_whatever_the_order_of_threads_blocks_and_regions() {
    let Some(program) = program(Watch::Nothing) else { return };
    let (filters, mut signals) = random_signals(300, 10, 0.3, false);
    let dictionary = Dictionary::new(&filters, false);
    let bits = |signals: &[Signal], blocks, seed| -> Vec<_> {
        let shape = Shape { blocks, seed, missing: 0 };
        let fits = launch(program, &dictionary, signals, &exact(1e-6), shape).unwrap();
        fits.into_iter()
            .map(|fit| fit.map(|fit| (fit.coefficients, fit.dual_gap.to_bits(), fit.nll.to_bits())))
            .collect()
    };
    let first = bits(&signals, 1, 1);
    assert_eq!(bits(&signals, 3, 77), first);
    signals.reverse();
    let mut turned = bits(&signals, 2, 1234);
    turned.reverse();
    assert_eq!(turned, first);
}

/// Places whose correlation with the signal itself exceeds their penalty: the first working set.
fn violators(filters: &[Filter], signal: &Signal) -> usize {
    let nothing = Fit {
        coefficients: vec![],
        nll: 0.5,
        dual_gap: 0.0,
        num_steps: 0,
        step_size: f32::NAN,
        outcome: Outcome::TimedOut,
    };
    places(filters, signal, &nothing).filter(|(g, lambda)| g > lambda).count()
}

/// Short regions, in which all windows overlap and many places violate, so that the working set is one cluster that
/// is too large for shared memory.
fn crowded(hypothetical: bool) -> (Vec<Filter>, Vec<Signal>) {
    let mut random = StdRng::seed_from_u64(7);
    let filters = random_filters(&mut random, 3, 0.02);
    let lengths = (20..32).step_by(2);
    let signals = lengths.map(|length| random_signal(&mut random, &filters, length, hypothetical)).collect();
    (filters, signals)
}

#[test]
fn clusters_too_large_for_shared_memory_are_solved_and_working_sets_too_large_are_left() {
    let Some(program) = program(Watch::Nothing) else { return };
    let settings = exact(1e-7);
    for hypothetical in [false, true] {
        let (filters, signals) = crowded(hypothetical);
        let largest = signals.iter().map(|signal| violators(&filters, signal)).max().unwrap();
        assert!((17..=128).contains(&largest), "{largest} members do not try what is to be tried");
        let dictionary = Dictionary::new(&filters, false);
        let fits = launch(program, &dictionary, &signals, &settings, SHAPE).unwrap();
        for (fit, signal) in fits.iter().zip(&signals) {
            let (fit, twin) = (fit.as_ref().unwrap(), Fitter::new(&dictionary).fit(signal, &settings));
            // At so low a penalty columns may depend on each other, and coefficients not be unique; gaps are.
            assert_eq!(fit.outcome, Outcome::Converged, "{fit:?}");
            let gap = naive_gap(&filters, signal, fit);
            assert!(gap <= settings.tolerance + 1e-6, "{gap}");
            assert!((fit.nll - twin.nll).abs() <= 1e-6, "{} {}", fit.nll, twin.nll);
        }
    }
    let mut random = StdRng::seed_from_u64(8);
    let filters = random_filters(&mut random, 16, 0.001);
    let signals =
        [random_signal(&mut random, &filters, 400, false), random_signal(&mut random, &filters, 5, false)];
    assert!(violators(&filters, &signals[0]) > 1000);
    let fits = launch(program, &Dictionary::new(&filters, false), &signals, &settings, SHAPE).unwrap();
    assert!(fits[0].is_none(), "{:?}", fits[0]);
    assert!(fits[1].is_some(), "what came after it was left, too");
}

#[test]
fn the_kernel_says_that_its_steps_ran_out() {
    let Some(program) = program(Watch::Nothing) else { return };
    let (filters, signals) = random_signals(400, 4, 0.6, true);
    let dictionary = Dictionary::new(&filters, false);
    let settings = Settings { max_steps: 0, ..exact(1e-9) };
    let fits = launch(program, &dictionary, &signals[..4], &settings, SHAPE).unwrap();
    for (fit, signal) in fits.iter().zip(&signals) {
        let (fit, twin) = (fit.as_ref().unwrap(), Fitter::new(&dictionary).fit(signal, &settings));
        assert_eq!((fit.outcome, fit.num_steps), (Outcome::TimedOut, 1));
        assert!((fit.dual_gap - twin.dual_gap).abs() <= 1e-9 * twin.dual_gap, "{fit:?} {twin:?}");
    }
}

#[test]
fn without_a_penalty_the_kernel_ends_as_the_active_set_does() {
    let Some(program) = program(Watch::Nothing) else { return };
    let mut random = StdRng::seed_from_u64(11);
    let filters = random_filters(&mut random, 1, 0.0);
    let dictionary = Dictionary::new(&filters, false);
    let signals: Vec<Signal> = (0..6).map(|_| random_signal(&mut random, &filters, 40, true)).collect();
    let fits = launch(program, &dictionary, &signals, &exact(1e-6), SHAPE).unwrap();
    for (fit, signal) in fits.iter().zip(&signals) {
        let twin = Fitter::new(&dictionary).fit(signal, &exact(1e-6));
        let fit = fit.as_ref().expect("forty positions fit");
        assert_eq!(fit.outcome, twin.outcome);
        assert!((fit.nll - twin.nll).abs() <= 1e-6, "{} {}", fit.nll, twin.nll);
    }
}

#[test]
fn a_launch_that_is_not_as_the_kernel_needs_it_is_an_error() {
    let Some(program) = program(Watch::Nothing) else { return };
    let (filters, signals) = random_signals(500, 2, 0.5, false);
    let dictionary = Dictionary::new(&filters, false);
    let short = Shape { missing: 1, ..SHAPE };
    let error = launch(program, &dictionary, &signals, &exact(1e-3), short).unwrap_err().to_string();
    assert!(error.contains("status 3"), "{error}");
}

#[test]
fn the_longest_region_is_the_longest_that_fits() {
    for (shared, planes) in [(232_448, 1), (232_448, 4), (166_912, 1), (166_912, 4)] {
        let longest = layout::longest(shared, 30, planes);
        assert!(longest > 1000, "{longest}");
        assert!(layout::shared_bytes(longest, 30, planes) <= shared);
        assert!(layout::shared_bytes(longest + 1, 30, planes) > shared);
    }
    assert_eq!(layout::longest(1000, 30, 1), 0);
}
