//! The published procedure's own output on real sequences is the oracle: every step of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use serde_json::Value;

use super::enriched::{Options, find};
use super::enrichment::Keys;
use super::files;
use super::merge::merge;
use super::regions::high_regions;
use super::rows::Scores;
use crate::npy::{Array, Npz};
use crate::pipe::Pipe;
use crate::schema::{self, LABEL, SEQUENCE};

struct Case {
    sequences: Vec<String>,
    positive: Vec<bool>,
    scores: Array<f32>,
    steps: Value,
    options: Options,
}

impl Case {
    fn read(golden: &Path, factor: &str, name: &str) -> Self {
        let text = crate::input::read_text(&golden.join(format!("{factor}_motif.csv.gz"))).unwrap();
        let rows: Vec<(&str, &str)> =
            text.lines().skip(1).map(|line| line.split_once(',').unwrap()).collect();
        let steps = std::fs::read_to_string(golden.join(name).join("steps.json")).unwrap();
        let steps: Value = serde_json::from_str(&steps).unwrap();
        let number = |key: &str| steps[key].as_u64().unwrap() as usize;
        Self {
            sequences: rows.iter().map(|row| row.0.to_string()).collect(),
            positive: rows.iter().map(|row| row.1.trim() == "1").collect(),
            scores: Npz::open(&golden.join(format!("{factor}_scores.npz")))
                .unwrap()
                .numbers("scores")
                .unwrap(),
            options: Options {
                window: number("window"),
                min_length: number("min_len"),
                min_windows: number("min_n"),
                cutoff: steps["pval"].as_f64().unwrap(),
                lose_last: true,
                ..Options::default()
            },
            steps,
        }
    }

    fn pipe(&self) -> Pipe {
        let labels: Vec<_> =
            self.positive.iter().map(|&label| Some(vec![f32::from(u8::from(label))])).collect();
        let arrays: Vec<(&str, ArrayRef)> = vec![
            (SEQUENCE, Arc::new(StringArray::from_iter_values(&self.sequences))),
            (LABEL, schema::float_lists(&labels)),
        ];
        let fields: Vec<Field> =
            arrays.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let columns = arrays.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        Pipe::new(schema, std::iter::once(Ok(batch))).cut(700)
    }

    /// Scores as a run had them: the z-scored runs normalize the raw ones.
    fn scores(&self, z: bool) -> Array<f32> {
        let mut scores = self.scores.clone();
        if z {
            for row in scores.values.chunks_mut(scores.shape[1]) {
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / row.len() as f64;
                let squares = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
                let deviation = (squares / (row.len() - 1) as f64).sqrt();
                row.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) / deviation) as f32);
            }
        }
        scores
    }
}

fn cases() -> Option<Vec<(Case, Array<f32>, std::path::PathBuf)>> {
    let golden = crate::testing::shared("golden/models/motif_pipeline")?;
    let case = |factor: &str, kind: &str| {
        let name = format!("{factor}_{kind}");
        let case = Case::read(&golden, factor, &name);
        let scores = case.scores(kind.starts_with('z'));
        (case, scores, golden.join(name))
    };
    let kinds = ["raw_dnabert", "z_nyxbind"];
    Some(["GATA2", "MEF2A"].iter().flat_map(|factor| kinds.map(|kind| case(factor, kind))).collect())
}

#[test]
fn every_key_and_its_p_values_are_the_published_ones() {
    for (case, scores, folder) in cases().unwrap_or_default() {
        let mut keys = Keys::default();
        let (mut positives, mut negatives) = (Vec::new(), Vec::new());
        for (row, sequence) in case.sequences.iter().enumerate() {
            if !case.positive[row] {
                negatives.push(sequence.as_bytes());
                continue;
            }
            let width = scores.shape[1];
            let regions = high_regions(&scores.values[row * width..][..width], case.options.min_length);
            keys.add(positives.len(), sequence.as_bytes(), &regions);
            positives.push(sequence.as_bytes());
        }
        assert_eq!(keys.len() as u64, case.steps["n_keys"].as_u64().unwrap(), "{folder:?}");
        let mut keys = keys.test(&positives, &negatives).unwrap();
        for (key, expected) in keys.iter().zip(case.steps["first_keys"].as_array().unwrap()) {
            let number = |index: usize| expected[index].as_f64().unwrap();
            assert_eq!(String::from_utf8_lossy(&key.bases), expected[0].as_str().unwrap(), "{folder:?}");
            // Sums of logarithms of factorials in either program lose about 1e-11 of a probability.
            assert!((key.p_value / number(1) - 1.0).abs() < 1e-9, "{} {}", key.p_value, number(1));
            assert!((key.q_value / number(2) - 1.0).abs() < 1e-9, "{} {}", key.q_value, number(2));
            assert_eq!(key.instances.len() as f64, number(3));
        }
        keys.retain(|key| key.q_value < case.options.cutoff);
        let kept: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(&key.bases).into_owned()).collect();
        assert_eq!(serde_json::to_value(kept).unwrap(), case.steps["kept"], "{folder:?}");
        let merged = merge(keys, case.options.min_length);
        let sizes: BTreeMap<_, _> =
            merged.iter().map(|key| (String::from_utf8_lossy(&key.bases), key.instances.len())).collect();
        assert_eq!(serde_json::to_value(sizes).unwrap(), case.steps["merged"], "{folder:?}");
    }
}

#[test]
fn windows_and_files_are_the_published_ones_byte_for_byte() {
    for (case, scores, folder) in cases().unwrap_or_default() {
        let scores = Scores::array(scores).unwrap();
        let (motifs, _) = find(case.pipe(), None, &scores, &case.options).unwrap();
        let last = case.steps["final"].as_object().unwrap();
        assert_eq!(motifs.len(), last.len(), "{folder:?}");
        let directory = tempfile::tempdir().unwrap();
        for motif in &motifs {
            let expected = &last[&motif.key];
            assert_eq!(motif.windows.len() as u64, expected["n"].as_u64().unwrap());
            for ((at, bases), expected) in
                motif.windows.iter().zip(&motif.sequences).zip(expected["first"].as_array().unwrap())
            {
                assert_eq!(serde_json::json!([at.sequence, at.start, at.end, bases]), *expected);
            }
            files::write_windows(directory.path(), &motif.found(), &motif.sequences).unwrap();
        }
        let mut compared = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "json") {
                continue;
            }
            let ours = std::fs::read(directory.path().join(path.file_name().unwrap())).unwrap();
            assert!(ours == std::fs::read(&path).unwrap(), "{path:?}");
            compared += 1;
        }
        assert!(compared >= 6, "{compared}");
    }
}
