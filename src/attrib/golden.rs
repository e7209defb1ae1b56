//! Attributions of published networks against those of PyTorch.

use std::path::Path;

use candle_core::Device;

use super::*;
use crate::dna::BASES;
use crate::model;
use crate::model::{Member, Wanted};
use crate::npy::{Array, Npz, read_npy};
use crate::testing::shared;

/// 1000 bases through three convolutions, in f32 on both sides.
const TOLERANCE: f32 = 1e-4;

/// Returns sequences from a one-hot array `[N, 4, L]`; nothing hot is `N`.
fn sequences(one_hot: &Array<f32>, count: usize) -> Vec<Vec<u8>> {
    let length = one_hot.shape[2];
    let base = |rows: &[f32], index: usize| {
        (0..4).find(|base| rows[base * length + index] > 0.0).map_or(b'N', |base| BASES[base])
    };
    let rows = one_hot.values.chunks_exact(4 * length).take(count);
    rows.map(|rows| (0..length).map(|index| base(rows, index)).collect()).collect()
}

/// Writes a model directory and loads it.
fn load(config: &str, write_weights: impl FnOnce(&Path)) -> Ensemble {
    let directory = tempfile::tempdir().unwrap();
    write_weights(&directory.path().join("model.safetensors"));
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    let loaded = model::load(directory.path(), &Device::Cpu).unwrap();
    Ensemble::new(vec![Member { name: "published".into(), loaded }], false, Wanted::default()).unwrap()
}

/// Loads the Kundaje lab's SPI1 network, whose layers are in the metadata of its weights.
fn spi1() -> Option<Ensemble> {
    let weights = shared("data/models/kundaje_cnn/SPI1_GM12878/model.safetensors")?;
    let bytes = std::fs::read(weights).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let layers = &header.metadata().as_ref().unwrap()["nyx_arch"];
    let config = format!(r#"{{"architectures": ["SequentialCnn"], "layers": {layers}}}"#);
    Some(load(&config, |path| std::fs::write(path, &bytes).unwrap()))
}

/// Loads the D-AEDNet of one factor from its PyTorch state dict.
fn d_aednet(factor: &str) -> Option<Ensemble> {
    let weights = shared(&format!("data/models/nyxbind/{factor}/D_AEDNet.pth"))?;
    let tensors = candle_core::pickle::read_all(weights).unwrap().into_iter().collect();
    Some(load(r#"{"architectures": ["DAEDNet"]}"#, |path| {
        candle_core::safetensors::save(&tensors, path).unwrap()
    }))
}

struct Reference {
    models: Ensemble,
    peaks: Vec<Vec<u8>>,
    npz: Npz,
}

fn reference(count: usize) -> Option<Reference> {
    let folder = shared("data/contribs/spi1_gm12878")?;
    let one_hot = Npz::open(&folder.join("peaks.ohe.npz")).unwrap().numbers("arr_0").unwrap();
    let npz = Npz::open(&folder.join("attribution_reference.npz")).unwrap();
    Some(Reference { models: spi1()?, peaks: sequences(&one_hot, count), npz })
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance, "{what}[{index}]: {found}, expected {expected}");
    }
}

#[test]
fn gradients_of_a_published_network_are_those_of_pytorch() {
    let Some(Reference { models, peaks, mut npz }) = reference(6) else { return };
    let peaks: Vec<&[u8]> = peaks.iter().map(Vec::as_slice).collect();
    let logits: Vec<f32> = npz.numbers("logits").unwrap().values;
    assert_close(&models.logits(&peaks, 0).unwrap(), &logits[..6], TOLERANCE, "logit");
    let gradients: Array<f32> = npz.numbers("input_gradient").unwrap();
    assert_eq!(gradients.shape, [20, 4, 1000]);
    let answers = attribute(&models, &peaks, Options::new(Method::GradientInput, 0)).unwrap();
    for ((peak, answer), gradient) in peaks.iter().zip(answers).zip(gradients.values.chunks_exact(4000)) {
        let expected: Vec<f32> = gradient
            .iter()
            .enumerate()
            .map(|(index, &value)| if peak[index % 1000] == b'N' { 0.0 } else { value })
            .collect();
        assert_close(&answer.hypothetical, &expected, TOLERANCE, "gradient");
        let projected: Vec<f32> = (0..1000)
            .map(|index| {
                BASES.iter().position(|&base| base == peak[index]).map_or(0.0, |b| gradient[b * 1000 + index])
            })
            .collect();
        assert_close(&answer.contributions, &projected, TOLERANCE, "contribution");
    }
}

#[test]
fn mutants_of_a_published_network_score_as_in_pytorch() {
    let Some(Reference { models, peaks, mut npz }) = reference(2) else { return };
    let expected: Array<f32> = npz.numbers("ism_logits").unwrap();
    assert_eq!(expected.shape, [2, 1000, 4]);
    // A part of the positions: three thousand forward passes of each sequence would take minutes here.
    for (row, peak) in peaks.iter().enumerate() {
        let positions: Vec<usize> = (7..1000).step_by(220).collect();
        let mutant = |index: usize, base: u8| {
            let mut mutant = peak.clone();
            mutant[index] = base;
            mutant
        };
        let mutants: Vec<Vec<u8>> =
            positions.iter().flat_map(|&index| BASES.map(|base| mutant(index, base))).collect();
        let logits = models.logits(&mutants.iter().map(Vec::as_slice).collect::<Vec<_>>(), 0).unwrap();
        let expected: Vec<f32> =
            positions.iter().flat_map(|&i| expected.values[(row * 1000 + i) * 4..][..4].to_vec()).collect();
        assert_close(&logits, &expected, TOLERANCE, "logit");
    }
}

#[test]
fn mutagenesis_of_a_published_network_is_what_finemo_was_given() {
    let (Some(models), Some(folder)) = (d_aednet("CTCFL"), shared("golden/finemo/real_CTCFL/input")) else {
        return;
    };
    let expected: Array<f32> = Npz::open(&folder.join("ism_hyp.npz")).unwrap().numbers("arr_0").unwrap();
    let logits: Array<f32> = read_npy(&folder.join("ref_logit.npy")).unwrap();
    let text = std::fs::read_to_string(folder.join("seqs.txt")).unwrap();
    let sequences: Vec<&[u8]> = text.lines().take(3).map(str::as_bytes).collect();
    assert_close(&models.logits(&sequences, 0).unwrap(), &logits.values[..3], TOLERANCE, "logit");
    let answers = attribute(&models, &sequences, Options::new(Method::Ism(Center::Mean), 0)).unwrap();
    for (answer, expected) in answers.iter().zip(expected.values.chunks_exact(400)) {
        assert_close(&answer.hypothetical, expected, TOLERANCE, "hypothetical");
    }
    // The contributions of the observed bases must be more than noise for this to mean anything.
    assert!(answers.iter().all(|answer| answer.contributions.iter().any(|value| value.abs() > 0.1)));
}
