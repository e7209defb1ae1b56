//! Fi-NeMo's own output as the oracle of `--compat`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::take::take_record_batch;
use rand::rngs::StdRng;
use rand::{SeedableRng, seq::SliceRandom};
use serde_json::{Map, Value};

use super::Mode;
use super::call::{Hit, Place};
use super::files::Files;
use super::stage::{Called, Options, call};
use crate::motif;
use crate::motif::filters::{Choice, MotifSet, build};
use crate::npy::{Array, Npz, read_npy};
use crate::pipe::Pipe;
use crate::schema::{self, list_of};

/// A run of Fi-NeMo: its folder, its inputs, its flags, and how many of its regions to repeat.
struct Case {
    run: &'static str,
    regions: &'static str,
    motifs: &'static str,
    limit: usize,
    options: Options,
    lambda: f64,
}

const CTCFL: &str = "golden/finemo/real_CTCFL";
const USF1: &str = "golden/finemo/real_USF1";
const SYNTH: &str = "golden/finemo/synth1000_sub100";
const SPI1: &str = "data/contribs/spi1_gm12878";

impl Case {
    fn new(run: &'static str, mode: Mode, limit: usize) -> Self {
        let options = Options { mode, ..Options::default() };
        let (regions, motifs) = match run {
            _ if run.starts_with(CTCFL) => ("regions.npz", "modisco.h5"),
            _ if run.starts_with(USF1) => ("regions.npz", "modisco.h5"),
            _ if run.ends_with("hits_compact") => ("regions_projected.npz", "modisco_like.h5"),
            _ if run.starts_with(SYNTH) => ("regions.npz", "modisco_like.h5"),
            _ if run.ends_with("windows") => ("windows.regions.npz", "modisco_results.h5"),
            _ if run.ends_with("from_bigwig") => ("peaks.from_bigwig.regions.npz", "modisco_results.h5"),
            _ if run.starts_with(SPI1) => ("peaks.regions.npz", "modisco_results.h5"),
            _ => ("regions.npz", "../synth1000_sub100/modisco_like.h5"),
        };
        let mut case = Self { run, regions, motifs, limit, options, lambda: 0.7 };
        case.options.settings.compat = true;
        case
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn motif_set(&self, shared: &Path) -> MotifSet {
        let path = shared.join(self.run).parent().unwrap().join(self.motifs);
        let choice = Choice {
            hypothetical: self.options.mode.hypothetical_motifs(),
            lambda: self.lambda,
            compat: self.options.settings.compat,
            ..Choice::default()
        };
        build(&motif::read(&path).unwrap(), &choice).unwrap()
    }

    fn pipe(&self, shared: &Path) -> Pipe {
        pipe_of(&shared.join(self.run).parent().unwrap().join(self.regions), self.limit)
    }

    fn called(&self, shared: &Path, rows: usize) -> (MotifSet, Vec<Called>) {
        self.called_in(shared, self.pipe(shared).rebatch(rows))
    }

    fn called_in(&self, shared: &Path, pipe: Pipe) -> (MotifSet, Vec<Called>) {
        let set = self.motif_set(shared);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = seen.clone();
        let watch = move |called| record.lock().unwrap().extend(called);
        let (pipe, summary) = call(pipe, Arc::new(set.clone()), self.options, watch).unwrap();
        let hits: usize = pipe.into_parts().1.map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(summary.lock().unwrap().hits, hits as u64);
        let called = std::mem::take(&mut *seen.lock().unwrap());
        (set, called)
    }
}

/// Reads a region file of Fi-NeMo as rows.
fn pipe_of(path: &Path, limit: usize) -> Pipe {
    let mut npz = Npz::open(path).unwrap();
    let sequences: Array<f32> = npz.numbers("sequences").unwrap();
    let contributions: Array<f32> = npz.numbers("contributions").unwrap();
    let (count, length) = (sequences.shape[0].min(limit), sequences.shape[2]);
    let letter = |row: usize, position: usize| {
        let observed = |base: &usize| sequences.values[(row * 4 + base) * length + position] > 0.0;
        (0..4).find(observed).map_or('N', |base| ['A', 'C', 'G', 'T'][base])
    };
    let texts: Vec<String> =
        (0..count).map(|row| (0..length).map(|position| letter(row, position)).collect()).collect();
    let per_row = contributions.values.len() / contributions.shape[0];
    let rows = contributions.values.chunks_exact(per_row).take(count).map(|row| Some(row.to_vec()));
    let column = if per_row == length { schema::CONTRIBUTIONS } else { schema::HYPOTHETICAL };
    let known = npz.has("chr");
    let starts: Vec<i64> =
        if known { npz.numbers::<i64>("start").unwrap().values } else { vec![0; sequences.shape[0]] };
    let text = |npz: &mut Npz, name: &str| -> Vec<Option<String>> {
        match known {
            true => npz.texts(name).unwrap().into_iter().take(count).map(Some).collect(),
            false => vec![None; count],
        }
    };
    let ids: Vec<u64> = match known {
        true => npz.numbers::<i64>("peak_id").unwrap().values.iter().map(|&id| id as u64).collect(),
        false => (0..sequences.shape[0] as u64).collect(),
    };
    let arrays: Vec<(&str, ArrayRef)> = vec![
        (schema::REGION, Arc::new(UInt64Array::from(ids[..count].to_vec()))),
        (schema::CHROM, Arc::new(StringArray::from(text(&mut npz, "chr")))),
        (schema::START, Arc::new(Int64Array::from(starts[..count].to_vec()))),
        (
            schema::END,
            Arc::new(Int64Array::from_iter_values(starts[..count].iter().map(|s| s + length as i64))),
        ),
        (schema::STRAND, Arc::new(StringArray::from(vec!["."; count]))),
        (schema::NAME, Arc::new(StringArray::from(text(&mut npz, "peak_name")))),
        (schema::SEQUENCE, Arc::new(StringArray::from(texts))),
        (column, schema::float_lists(&rows.collect::<Vec<_>>())),
    ];
    let fields: Vec<Field> = arrays
        .iter()
        .map(|(name, array)| {
            let list = list_of(DataType::Float32);
            let kind = if *name == column { list } else { array.data_type().clone() };
            Field::new(*name, kind, true)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let batch =
        RecordBatch::try_new(schema.clone(), arrays.into_iter().map(|(_, array)| array).collect()).unwrap();
    Pipe::new(schema, std::iter::once(Ok(batch)))
}

/// Rows of a table as maps from column to cell.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_string));
    let header: Vec<String> = lines.next().unwrap().collect();
    lines.map(|cells| header.iter().cloned().zip(cells).collect()).collect()
}

fn read_table(path: &Path) -> Vec<BTreeMap<String, String>> {
    table(&std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or(f64::NAN)
}

fn key(row: &BTreeMap<String, String>) -> Vec<String> {
    [
        "peak_id",
        "chr",
        "start_untrimmed",
        "end_untrimmed",
        "start",
        "end",
        "motif_name",
        "strand",
        "peak_name",
    ]
    .map(|column| row[column].clone())
    .into()
}

/// What a comparison with Fi-NeMo found.
#[derive(Debug)]
struct Agreement {
    theirs: usize,
    ours: usize,
    shared: usize,
    /// Hits of which some number differs by more than 1e-3.
    differing: usize,
    other_steps: usize,
    regions: usize,
}

impl Agreement {
    fn of(shared: &Path, case: &Case) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (motifs, regions) = case.called(shared, 64);
        let files = Files { regions: &regions, motifs: &motifs, chrom_order: &[], compat: true };
        files.write(directory.path(), Map::new()).unwrap();
        let golden = shared.join(case.run);
        let wanted = |rows: Vec<BTreeMap<String, String>>| {
            let ids: Vec<String> = regions.iter().map(|region| region.region.to_string()).collect();
            rows.into_iter().filter(move |row| ids.contains(&row["peak_id"])).collect::<Vec<_>>()
        };
        let theirs = wanted(read_table(&golden.join("hits.tsv")));
        let ours = read_table(&directory.path().join("hits.tsv"));
        let by_key: BTreeMap<_, _> = ours.iter().map(|row| (key(row), row)).collect();
        let pairs: Vec<_> = theirs.iter().filter_map(|row| Some((row, *by_key.get(&key(row))?))).collect();
        let differing = pairs.iter().filter(|(theirs, ours)| differ(theirs, ours)).count();
        let their_steps = steps(&wanted(read_table(&golden.join("peaks_qc.tsv"))));
        let our_steps = steps(&read_table(&directory.path().join("peaks_qc.tsv")));
        assert_eq!(their_steps.len(), our_steps.len());
        Self {
            theirs: theirs.len(),
            ours: ours.len(),
            shared: pairs.len(),
            differing,
            other_steps: our_steps.iter().filter(|(id, steps)| their_steps[*id] != **steps).count(),
            regions: regions.len(),
        }
    }

    /// Checks what is promised of `--compat`.
    ///
    /// At a tolerance of 1e-6 rounding of Fi-NeMo's sums, taken in 32 bits, decides the step at which a
    /// region stops, and its path is long: there only the hits are compared.
    fn check(&self, run: &str) {
        eprintln!("{run}: {self:?}");
        assert!(self.theirs > 0, "{run} has no hits");
        assert!(self.shared as f64 >= 0.995 * self.theirs.max(self.ours) as f64, "{run}: {self:?}");
        if run.ends_with("c1e-6") {
            return;
        }
        // A region that grazes the tolerance may stop a step earlier; its numbers differ then.
        assert!(self.differing as f64 <= 0.005 * self.theirs as f64, "{run}: {self:?}");
        assert!(self.other_steps as f64 <= (0.01 * self.regions as f64).max(1.0), "{run}: {self:?}");
    }
}

fn differ(theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> bool {
    let columns =
        ["hit_coefficient", "hit_coefficient_global", "hit_similarity", "hit_correlation", "hit_importance"];
    // Fi-NeMo recovers the energy from 1/(E+1), with an error of about 1e-7 (E+1).
    let far = |column: &str, tolerance: f64| {
        let (a, b) = (number(theirs, column), number(ours, column));
        (a - b).abs() > tolerance * a.abs().max(b.abs())
    };
    columns.iter().any(|column| far(column, 1e-3)) || far("hit_importance_sq", 2e-3)
}

fn steps(rows: &[BTreeMap<String, String>]) -> BTreeMap<String, String> {
    rows.iter().map(|row| (row["peak_id"].clone(), row["num_steps"].clone())).collect()
}

fn check_all(cases: Vec<Case>) {
    let Some(shared) = crate::testing::shared("") else { return };
    for case in cases {
        Agreement::of(&shared, &case).check(case.run);
    }
}

#[test]
fn real_regions_of_ctcfl_have_the_hits_of_fi_nemo() {
    check_all(vec![
        Case::new("golden/finemo/real_CTCFL/hits_pp", Mode::Pp, 899),
        Case::new("golden/finemo/real_CTCFL/hits_ph", Mode::Ph, 899),
        Case::new("golden/finemo/real_CTCFL/hits_hp", Mode::Hp, 899),
        Case::new("golden/finemo/real_CTCFL/hits_hh", Mode::Hh, 899),
    ]);
}

#[test]
fn every_flag_does_what_it_does_in_fi_nemo() {
    check_all(vec![
        Case::new("golden/finemo/real_CTCFL/hits_pp_l0.5", Mode::Pp, 899).with(|case| case.lambda = 0.5),
        Case::new("golden/finemo/real_CTCFL/hits_pp_sqrt", Mode::Pp, 899)
            .with(|case| case.options.square_root = true),
        Case::new("golden/finemo/real_CTCFL/hits_pp_nofilt", Mode::Pp, 899)
            .with(|case| case.options.keep_dissimilar = true),
        Case::new("golden/finemo/real_CTCFL/hits_pp_c1e-6", Mode::Pp, 400)
            .with(|case| case.options.settings.tolerance = 1e-6),
    ]);
}

#[test]
fn real_regions_of_usf1_have_the_hits_of_fi_nemo() {
    check_all(vec![
        Case::new("golden/finemo/real_USF1/hits_pp", Mode::Pp, 1000),
        Case::new("golden/finemo/real_USF1/hits_ph", Mode::Ph, 300),
        Case::new("golden/finemo/real_USF1/hits_hp", Mode::Hp, 300),
        Case::new("golden/finemo/real_USF1/hits_hh", Mode::Hh, 300),
    ]);
}

#[test]
fn long_regions_with_many_motifs_have_the_hits_of_fi_nemo() {
    check_all(vec![
        Case::new("golden/finemo/synth1000_sub100/hits_pp", Mode::Pp, 100),
        Case::new("golden/finemo/synth1000_sub100/hits_compact", Mode::Pp, 25),
        Case::new("golden/finemo/synth1000_sub100/hits_ph", Mode::Ph, 20),
        Case::new("golden/finemo/synth1000_sub100/hits_hp", Mode::Hp, 50),
        Case::new("golden/finemo/synth1000_sub100/hits_hh", Mode::Hh, 20),
    ]);
}

#[test]
fn edge_cases_and_overlapping_regions_have_the_hits_of_fi_nemo() {
    check_all(vec![
        Case::new("golden/finemo/edge/hits_pp", Mode::Pp, 8),
        Case::new("golden/finemo/overlap600/hits_pp", Mode::Pp, 90),
        Case::new("data/contribs/spi1_gm12878/finemo_peaks", Mode::Pp, 40),
        Case::new("data/contribs/spi1_gm12878/finemo_peaks_from_bigwig", Mode::Pp, 40),
        Case::new("data/contribs/spi1_gm12878/finemo_windows", Mode::Pp, 400),
    ]);
}

#[test]
fn the_files_are_laid_out_as_those_of_fi_nemo() {
    let Some(shared) = crate::testing::shared("") else { return };
    let directory = tempfile::tempdir().unwrap();
    for (case, order) in [
        (Case::new("golden/finemo/overlap600/hits_pp", Mode::Pp, 90), 22),
        (Case::new("golden/finemo/edge/hits_pp", Mode::Pp, 8), 0),
        (Case::new("golden/finemo/real_CTCFL/hits_hh", Mode::Hh, 899), 0),
    ] {
        let golden = shared.join(case.run);
        let read = |root: &Path, name: &str| std::fs::read_to_string(root.join(name)).unwrap();
        let (motifs, regions) = case.called(&shared, 1000);
        let order: Vec<String> = (1..=order).map(|number| format!("chr{number}")).collect();
        let files = Files { regions: &regions, motifs: &motifs, chrom_order: &order, compat: true };
        let parameters: Map<String, Value> = serde_json::from_str(&read(&golden, "parameters.json")).unwrap();
        files.write(directory.path(), parameters).unwrap();
        // Every key and value Fi-NeMo wrote, those of ours among them, byte for byte.
        assert_eq!(read(directory.path(), "parameters.json"), read(&golden, "parameters.json"));
        assert_eq!(cells(directory.path(), "motif_data.tsv", 6), cells(&golden, "motif_data.tsv", 6));
        let scales = |root: &Path| {
            let rows = read_table(&root.join("motif_data.tsv")).into_iter();
            rows.map(|row| number(&row, "motif_scale")).collect::<Vec<_>>()
        };
        let pairs: Vec<_> = scales(directory.path()).into_iter().zip(scales(&golden)).collect();
        assert!(pairs.iter().all(|(a, b)| (a - b).abs() < 1e-12 * b), "{pairs:?}");
        let sorted = |root: &Path, name| {
            let mut lines: Vec<String> = read(root, name).lines().map(str::to_string).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(directory.path(), "hits.bed"), sorted(&golden, "hits.bed"), "{}", case.run);
        for name in ["hits.tsv", "hits_unique.tsv", "peaks_qc.tsv"] {
            assert_eq!(read(directory.path(), name).lines().next(), read(&golden, name).lines().next());
            let places = |root: &Path| {
                let column = if name == "peaks_qc.tsv" { "peak_region_start" } else { "start" };
                let rows = read_table(&root.join(name)).into_iter();
                rows.map(|row| (row["chr"].clone(), row[column].clone())).collect::<Vec<_>>()
            };
            assert_eq!(places(directory.path()), places(&golden), "{} {name}: order of rows", case.run);
        }
        let cwms = |root: &Path| read_npy::<f32>(&root.join("motif_cwms.npy")).unwrap();
        assert_eq!(cwms(directory.path()).shape, cwms(&golden).shape, "{}", case.run);
        let (ours, theirs) = (cwms(directory.path()).values, cwms(&golden).values);
        assert_eq!(ours.iter().zip(&theirs).filter(|(a, b)| a != b).count(), 0, "{}", case.run);
    }
}

/// Fi-NeMo's formula stops too early at its default tolerance; at 1e-6 its hits are nearly those of the optimum.
#[test]
fn the_exact_hits_are_those_of_fi_nemo_at_a_tight_tolerance() {
    let Some(shared) = crate::testing::shared("") else { return };
    let case = Case::new("golden/finemo/real_CTCFL/hits_pp_c1e-6", Mode::Pp, 899)
        .with(|case| case.options.settings.compat = false)
        .with(|case| case.options.settings.tolerance = 1e-10);
    let (motifs, regions) = case.called(&shared, 300);
    for region in &regions {
        assert!(region.status.converged() && region.dual_gap <= 1e-10, "{region:?}");
        let similar = |hit: &Hit| (0.7..=1.0 + 1e-5).contains(&hit.similarity);
        assert!(region.hits.iter().all(|(_, hit)| similar(hit)), "a cosine of at least lambda");
    }
    let ours: BTreeMap<_, _> = regions
        .iter()
        .flat_map(|region| region.hits.iter().map(move |(place, hit)| (region.region, place, hit)))
        .map(|(region, place, hit)| ((region, place.start, hit.filter), f64::from(hit.coefficient)))
        .collect();
    let theirs = read_table(&shared.join(case.run).join("hits.tsv"));
    let filter = |row: &BTreeMap<String, String>| {
        let named = |filter: &crate::motif::filters::Filter| {
            motifs.motifs[filter.motif].name == row["motif_name"] && filter.strand.as_str() == row["strand"]
        };
        motifs.filters.iter().position(named).unwrap()
    };
    let pairs = theirs.iter().filter_map(|row| {
        let key = (row["peak_id"].parse().unwrap(), row["start"].parse().unwrap(), filter(row));
        Some((number(row, "hit_coefficient"), *ours.get(&key)?))
    });
    let pairs: Vec<(f64, f64)> = pairs.collect();
    let close = pairs.iter().filter(|(a, b)| (a - b).abs() < 0.05 * b).count();
    eprintln!("{} hits, {} of Fi-NeMo's {}, {close} close", ours.len(), pairs.len(), theirs.len());
    assert!(pairs.len() as f64 > 0.98 * theirs.len().max(ours.len()) as f64);
    assert!(close as f64 > 0.95 * pairs.len() as f64);
}

/// Returns the cells of a table without column `skipped`.
fn cells(root: &Path, name: &str, skipped: usize) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root.join(name)).unwrap();
    let row = |line: &str| {
        let mut cells: Vec<String> = line.split('\t').map(str::to_string).collect();
        cells.remove(skipped);
        cells
    };
    text.lines().map(row).collect()
}

#[test]
fn results_do_not_depend_on_batches_threads_or_order() {
    let Some(shared) = crate::testing::shared("") else { return };
    check_independence(&shared, &Case::new("golden/finemo/real_CTCFL/hits_pp", Mode::Pp, 120));
    for (run, mode) in [
        ("golden/finemo/synth1000_sub100/hits_pp", Mode::Pp),
        ("golden/finemo/synth1000_sub100/hits_hh", Mode::Hh),
        ("golden/finemo/real_CTCFL/hits_pp", Mode::Pp),
        ("golden/finemo/real_USF1/hits_ph", Mode::Ph),
        ("golden/finemo/edge/hits_pp", Mode::Pp),
    ] {
        for tolerance in [5e-4, 1e-10] {
            let case = Case::new(run, mode, 1000).with(|case| {
                case.options.settings.compat = false;
                case.options.settings.tolerance = tolerance;
            });
            check_independence(&shared, &case);
        }
    }
}

/// All numbers of a region, to the bit.
type Bits = (Vec<u32>, u32, Vec<(Place, usize, Vec<u32>)>);

fn bits(called: &[Called]) -> BTreeMap<u64, Bits> {
    let hit = |(place, hit): &(Place, Hit)| {
        let numbers =
            [hit.coefficient, hit.coefficient_global, hit.similarity, hit.importance, hit.importance_sq];
        (*place, hit.filter, numbers.map(f32::to_bits).to_vec())
    };
    let region = |region: &Called| {
        let numbers = [region.nll, region.dual_gap, region.scale].map(f32::to_bits).to_vec();
        (region.region, (numbers, region.num_steps, region.hits.iter().map(hit).collect()))
    };
    called.iter().map(region).collect()
}

fn check_independence(shared: &Path, case: &Case) {
    let with = |threads: usize, pipe: &(dyn Fn(Pipe) -> Pipe + Sync)| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        bits(&pool.install(|| case.called_in(shared, pipe(case.pipe(shared)))).1)
    };
    let whole = with(2, &|pipe| pipe);
    assert!(whole.values().any(|(.., hits)| !hits.is_empty()), "{}", case.run);
    for (threads, rows) in [(1, 1), (2, 7), (1, 64), (2, 64)] {
        assert_eq!(with(threads, &|pipe| pipe.rebatch(rows)), whole, "{}", case.run);
        assert_eq!(with(threads, &|pipe| shuffled(pipe, rows as u64).cut(rows)), whole, "{}", case.run);
    }
}

/// The rows of a pipe in a random order.
fn shuffled(pipe: Pipe, seed: u64) -> Pipe {
    let shuffle = move |batch: RecordBatch| {
        let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        rows.shuffle(&mut StdRng::seed_from_u64(seed));
        Ok(take_record_batch(&batch, &UInt32Array::from(rows))?)
    };
    let schema = pipe.schema().clone();
    pipe.map(schema, shuffle)
}
