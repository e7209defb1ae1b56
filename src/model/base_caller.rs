//! What networks that call single bases have in common: a logit per base, and its sum for the row.

use candle_core::Tensor;

use super::Prediction;
use crate::error::Result;
use crate::kernel::pointwise;

/// Bases of a row of DeepSNR and D-AEDNet.
pub(super) const LENGTH: usize = 100;

/// Turns a logit per base, `[B, L]`, into a prediction: the row's logit is their log-sum-exp.
pub(super) fn predict(base_logits: &Tensor) -> Result<Prediction> {
    Ok(Prediction {
        logits: pointwise::log_sum_exp(base_logits)?,
        probs: None,
        base_scores: Some(pointwise::sigmoid(base_logits)?),
        profile: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Network;
    use super::super::convert::Hints;
    use super::super::testing::*;
    use crate::kernel::testing::{distance, flat};
    use crate::npy::{Npz, read_npy};

    const NETWORKS: [&str; 2] = ["DeepSNR", "D_AEDNet"];

    fn rows(sequences: &[String]) -> Vec<&[u8]> {
        sequences.iter().map(|sequence| sequence.as_bytes()).collect()
    }

    /// Returns the scores of all bases.
    fn base_scores(model: &dyn Network, sequences: &[String]) -> Vec<f32> {
        let scores = |batch: &[String]| {
            let prediction = model.forward(&model.encode(&rows(batch)).unwrap()).unwrap();
            flat(&prediction.base_scores.unwrap())
        };
        sequences.chunks(64).flat_map(scores).collect()
    }

    #[test]
    fn published_weights_give_the_probabilities_of_their_own_class() {
        let Some(folder) = shared("data/models/nyxbind") else { return };
        let mut factors = 0;
        for factor in std::fs::read_dir(folder).unwrap() {
            let factor = factor.unwrap().file_name().into_string().unwrap();
            let path = format!("data/models/nyxbind/{factor}");
            let input = text(&shared(&format!("{path}/reference_input.tsv")).unwrap());
            let sequences: Vec<String> = (input.lines())
                .filter_map(|line| line.split('\t').nth(1).filter(|bases| bases.len() == super::LENGTH))
                .map(str::to_string)
                .collect();
            for network in NETWORKS {
                let model = converted(&format!("{path}/{network}.pth"), &Hints::default()).unwrap();
                let expected =
                    read_npy::<f32>(&shared(&format!("{path}/{network}.reference_output.npy")).unwrap())
                        .unwrap();
                assert_eq!(expected.shape, [sequences.len(), super::LENGTH], "{factor}");
                let scores = base_scores(&*model, &sequences);
                let name = format!("{network} {factor}");
                check_parity(&name, "base scores", "f32", [&scores, &expected.values], 1e-4);
            }
            factors += 1;
        }
        assert!(factors >= 10);
    }

    #[test]
    fn the_areas_under_the_curve_are_the_published_ones() {
        let Some(metrics) = shared("golden/models/deepsnr_daednet/metrics.json") else { return };
        let metrics: serde_json::Value = serde_json::from_str(&text(&metrics)).unwrap();
        for factor in ["CTCFL", "MEF2A"] {
            let read = |kind: &str| {
                text(&shared(&format!("data/benchmarks/per_base/{factor}.{kind}.txt.gz")).unwrap())
            };
            let sequences: Vec<String> =
                read("sequence").lines().map(|line| line.trim().to_string()).collect();
            let sequences = &sequences[..sequences.len() / 5];
            let labels: Vec<bool> = (read("label").lines().take(sequences.len()))
                .flat_map(|line| {
                    line.bytes().filter(u8::is_ascii_digit).map(|b| b == b'1').collect::<Vec<_>>()
                })
                .collect();
            for network in NETWORKS {
                let path = format!("data/models/nyxbind/{factor}/{network}.pth");
                let model = converted(&path, &Hints::default()).unwrap();
                let area = auc(&base_scores(&*model, sequences), &labels);
                let expected = &metrics[format!("{factor}/{network}")];
                assert_eq!(expected["n_test"].as_f64().unwrap(), sequences.len() as f64);
                let expected = expected["roc_auc"].as_f64().unwrap();
                println!(
                    "| {network} {factor} | AUC over the bases of {} test sequences: {area:.4} | 1 | f32 | {:.1e} | \
                     not run |",
                    sequences.len(),
                    (area - expected).abs()
                );
                assert!((area - expected).abs() < 1e-3, "{factor} {network}: {area} is not {expected}");
            }
        }
    }

    #[test]
    fn the_logit_of_a_row_is_the_log_sum_exp_of_its_bases() {
        for factor in ["CTCFL", "USF1"] {
            let path = format!("golden/finemo/real_{factor}/input");
            let Some(folder) = shared(&path) else { return };
            let expected = read_npy::<f32>(&folder.join("ref_logit.npy")).unwrap();
            let sequences = text(&folder.join("seqs.txt"));
            let sequences: Vec<String> = sequences.lines().map(str::to_string).collect();
            let model =
                converted(&format!("data/models/nyxbind/{factor}/D_AEDNet.pth"), &Hints::default()).unwrap();
            let (logits, _) = predict(&*model, &rows(&sequences));
            assert!(distance(&logits, &expected.values) < 1e-4, "{factor}");
            let mut one_hot = Npz::open(&folder.join("ohe.npz")).unwrap();
            let name = one_hot.names()[0].clone();
            assert_eq!(one_hot.numbers::<f32>(&name).unwrap().shape, [sequences.len(), 4, super::LENGTH]);
        }
    }

    #[test]
    fn the_rest_of_the_batch_changes_no_bit() {
        let Some(folder) = shared("golden/finemo/real_CTCFL/input") else { return };
        let sequences: Vec<String> =
            text(&folder.join("seqs.txt")).lines().take(7).map(str::to_string).collect();
        for network in NETWORKS {
            let path = format!("data/models/nyxbind/CTCFL/{network}.pth");
            let model = converted(&path, &Hints::default()).unwrap();
            check_batch_invariance(&*model, &rows(&sequences));
            check_gradient_direction(&*model, sequences[0].as_bytes());
        }
    }
}
