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

fn attributed(models: &Ensemble, sequences: &[&[u8]], options: &Options) -> Vec<Attribution> {
    attribute(models, sequences, options).unwrap().into_iter().map(Result::unwrap).collect()
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
    let answers = attributed(&models, &peaks, &Options::new(Method::GradientInput, 0));
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
fn deeplift_of_a_published_network_is_that_of_tangermeme() {
    let Some(Reference { models, peaks, mut npz }) = reference(4) else { return };
    let peaks: Vec<&[u8]> = peaks.iter().map(Vec::as_slice).collect();
    // tangermeme 1.6.0, deep_lift_shap with a baseline of zeros, hypothetical.
    let expected: Array<f32> = npz.numbers("hyp_zero").unwrap();
    let answers = attributed(&models, &peaks, &Options::new(Method::DeepLift, 0));
    for ((peak, answer), expected) in peaks.iter().zip(answers).zip(expected.values.chunks_exact(4000)) {
        let of_base = |(index, &value): (usize, &f32)| if peak[index % 1000] == b'N' { 0.0 } else { value };
        let expected: Vec<f32> = expected.iter().enumerate().map(of_base).collect();
        assert_close(&answer.hypothetical, &expected, TOLERANCE, "hypothetical");
        assert_eq!(answer.converged, Some(true), "{:?}", answer.delta);
    }
}

#[test]
fn every_family_shares_out_the_difference_to_its_shuffles() {
    let networks = [
        spi1(),
        converted("data/models/bpnet_ctcf_k562/model.safetensors"),
        converted("data/models/deepbind/CTCFL.D00753.001.h5"),
        converted("data/models/nyxbind/CTCFL/DeepSNR.pth"),
        d_aednet("CTCFL"),
        hashed("DanQ", "danq"),
        hashed("DeepBind", "deepbind"),
    ];
    for models in networks.into_iter().flatten() {
        let length = models.window().unwrap_or(101);
        // A sequence in which the network sees something: the base callers are of one factor.
        let text =
            std::fs::read_to_string(shared("golden/finemo/real_CTCFL/input/seqs.txt").unwrap()).unwrap();
        let chromosome = crate::model::testing::chromosome_20();
        let sequence = match length {
            100 => text.lines().next().unwrap().as_bytes(),
            _ => &chromosome[60_000..60_000 + length],
        };
        let comparison = Comparison::Shuffles { count: 2, seed: 1 };
        let options = Options { comparison, ..Options::new(Method::DeepLift, 0) };
        let answer = attributed(&models, &[sequence], &options).remove(0);
        let sum: f32 = answer.contributions.iter().map(|value| value.abs()).sum();
        let name = models.provenance();
        assert!(answer.delta.unwrap() < 1e-4 * sum.max(1.0), "{name}: {:?} of {sum}", answer.delta);
        assert!(sum > 1e-3, "{name}");
    }
}

/// Builds a model of `tests/golden/torch_attribution.json`, of weights that a hash makes of their names.
fn own(case: &serde_json::Value, amplitude: f32) -> Ensemble {
    let tensors = crate::model::testing::hashed(&case["tensors"], amplitude, 1.0);
    let tensors: std::collections::HashMap<String, candle_core::Tensor> = tensors
        .into_iter()
        .map(|(name, array)| {
            (name, candle_core::Tensor::from_vec(array.values, array.shape, &Device::Cpu).unwrap())
        })
        .collect();
    load(&case["config"].to_string(), |path| candle_core::safetensors::save(&tensors, path).unwrap())
}

/// `scripts/torch_attribution.py` with PyTorch 2.15, captum 0.9 and tangermeme 1.6: gradients, DeepLIFT against zeros and
/// integrated gradients of a convolutional network, gradients of the tokens of a BERT over 3-mers.
#[test]
fn small_networks_are_explained_as_by_pytorch_captum_and_tangermeme() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch_attribution.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let rows: Vec<String> = serde_json::from_value(golden["sequences"].clone()).unwrap();
    let rows: Vec<&[u8]> = rows.iter().map(String::as_bytes).collect();
    let amplitude = golden["amplitude"].as_f64().unwrap() as f32;
    let count = golden["steps"].as_u64().unwrap() as usize;
    let steps = Steps { first: count, most: count, ..Steps::default() };
    let check = |model: &str, method: Method, name: &str, hypothetical: bool| {
        let expected: Vec<f32> = serde_json::from_value(golden[model][name].clone()).unwrap();
        let models = own(&golden[model], amplitude);
        let answers = attributed(&models, &rows, &Options { steps, ..Options::new(method, 1) });
        let part =
            |answer: Attribution| if hypothetical { answer.hypothetical } else { answer.contributions };
        let found: Vec<f32> = answers.into_iter().flat_map(part).collect();
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert!(largest > 1e-3, "{model} {name}: only {largest}");
        assert_close(&found, &expected, TOLERANCE * largest, name);
    };
    check("cnn", Method::GradientInput, "gradient", true);
    check("cnn", Method::DeepLift, "deeplift tangermeme", true);
    check("flat", Method::DeepLift, "deeplift captum", false);
    check("bert", Method::Saliency, "saliency", false);
    check("bert", Method::GradientInput, "gradxinput", false);
    check("bert", Method::IntegratedGradients, "ig limit", false);
    check("bert", Method::DeepLift, "deeplift", false);
}

/// Returns how far numbers are from others, as a part of these; both added up without signs.
fn apart(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value.abs())).sum::<f64>();
    sum(&mut found.iter().zip(wanted).map(|(a, b)| a - b)) / sum(&mut wanted.iter().copied())
}

/// Of the same file: captum's integrated gradients with 50 and with very many steps.
#[test]
fn integrated_gradients_are_nearer_to_captums_limit_than_captums_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch_attribution.json");
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let rows: Vec<String> = serde_json::from_value(golden["sequences"].clone()).unwrap();
    let count = golden["steps"].as_u64().unwrap() as usize;
    let models = own(&golden["cnn"], golden["amplitude"].as_f64().unwrap() as f32);
    let [few, limit] = ["ig", "ig limit"]
        .map(|name| serde_json::from_value::<Vec<f32>>(golden["cnn"][name].clone()).unwrap());
    let middles: Vec<f32> =
        rows.iter().flat_map(|row| by_midpoints(&models, row.as_bytes(), 1, count)).collect();
    assert!(apart(&middles, &few) < 1e-4, "the oracle is not captum's: {}", apart(&middles, &few));
    let with = |steps: Steps| -> Vec<Attribution> {
        let rows: Vec<&[u8]> = rows.iter().map(String::as_bytes).collect();
        attributed(&models, &rows, &Options { steps, ..Options::new(Method::IntegratedGradients, 1) })
    };
    let contributions = |answers: &[Attribution]| -> Vec<f32> {
        answers.iter().flat_map(|answer| answer.contributions.iter().copied()).collect()
    };
    let same = with(Steps { first: count, most: count, ..Steps::default() });
    let [ours, theirs] = [apart(&contributions(&same), &limit), apart(&few, &limit)];
    println!("{count} steps: chords {ours:.2e}, captum {theirs:.2e} from the limit");
    assert!(ours < theirs && ours < 1e-2, "{ours}, and captum {theirs}");
    let refined = with(Steps::default());
    assert!(refined.iter().all(|answer| answer.converged == Some(true)));
    let settled = apart(&contributions(&refined), &limit);
    assert!(settled < Steps::default().settled, "{settled}");
}

/// Returns the contributions by gradients at the middle of so many steps from zeros: the oracle.
fn by_midpoints(models: &Ensemble, sequence: &[u8], class: usize, count: usize) -> Vec<f32> {
    let network = models.models().next().unwrap().network().unwrap();
    let found = model::explain::midpoints::hypothetical(network, sequence, class, count).unwrap();
    let of_base =
        |(&base, column): (&u8, &[f64])| dna::base_index(base).map_or(0.0, |base| column[base] as f32);
    sequence.iter().zip(found.chunks_exact(4)).map(of_base).collect()
}

/// Of published networks: complete with any number of steps, and at least as near to the limit as gradients at the middle
/// of as many. Prints lines for `benches/README.md`.
#[test]
fn chords_of_few_steps_are_nearer_to_the_limit_than_gradients_at_their_middles() {
    let text = shared("golden/finemo/real_CTCFL/input/seqs.txt");
    let Some(text) = text.map(|path| std::fs::read_to_string(path).unwrap()) else { return };
    let chromosome = crate::model::testing::chromosome_20();
    let networks = [
        ("DeepBind", converted("data/models/deepbind/CTCFL.D00753.001.h5"), 1000),
        ("DeepSNR", converted("data/models/nyxbind/CTCFL/DeepSNR.pth"), 300),
    ];
    for (name, models, most) in networks {
        let Some(models) = models else { return };
        let sequence = match models.window() {
            Some(100) => text.lines().next().unwrap().as_bytes(),
            length => &chromosome[60_000..60_000 + length.unwrap_or(101)],
        };
        let limit = by_midpoints(&models, sequence, 0, most);
        for count in [5, 15] {
            let steps = Steps { first: count, most: count, ..Steps::default() };
            let options = Options { steps, ..Options::new(Method::IntegratedGradients, 0) };
            let found = attributed(&models, &[sequence], &options).remove(0);
            let [ours, theirs] = [&found.contributions, &by_midpoints(&models, sequence, 0, count)]
                .map(|contributions| apart(contributions, &limit));
            let (sum, delta) = (found.contributions.iter().sum::<f32>(), found.delta.unwrap());
            let change = found.change.unwrap();
            println!(
                "| {name} | {count} | {delta:.1e} of {sum:.3} | {ours:.1e} | {theirs:.1e} | {change:.1e} |"
            );
            assert!(delta <= 1e-4 * sum.abs(), "{name}, {count} steps: misses {delta:e} of {sum}");
            assert!(ours <= theirs, "{name}, {count} steps: {ours} from the limit, not {theirs}");
        }
    }
}

/// Loads a converted model.
fn converted(path: &str) -> Option<Ensemble> {
    let converted = model::convert::read(&shared(path)?, &model::convert::Hints::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    model::convert::write(&converted, directory.path()).unwrap();
    let loaded = model::load(directory.path(), &Device::Cpu).unwrap();
    let member = Member { name: path.into(), loaded };
    Some(Ensemble::new(vec![member], false, Wanted::default()).unwrap())
}

/// Builds a family of weights that are computed from their names.
fn hashed(architecture: &str, folder: &str) -> Option<Ensemble> {
    let folder = shared(&format!("golden/models/{folder}"))?;
    let weights = crate::model::testing::hashed_weights(&folder);
    let network = crate::model::testing::model(&model::config::Config::new(architecture), &weights);
    let loaded = model::Loaded {
        model: Box::new(model::NetworkModel::new(network).unwrap()),
        digest: "hashed".into(),
        unused: Vec::new(),
        architecture: architecture.into(),
    };
    let member = Member { name: architecture.into(), loaded };
    Some(Ensemble::new(vec![member], false, Wanted::default()).unwrap())
}

#[test]
fn followed_substitutions_have_the_bits_of_predicted_mutants() {
    let Some(Reference { models, peaks, mut npz }) = reference(1) else { return };
    let table = models.substitutions(&[&peaks[0]], 0).unwrap().remove(0);
    let positions: Vec<usize> =
        [0, 1, 7, 8].into_iter().chain((13..1000).step_by(89)).chain([998, 999]).collect();
    let mutants: Vec<Vec<u8>> =
        positions.iter().flat_map(|&position| BASES.map(|base| mutant(&peaks[0], position, base))).collect();
    let logits = models.logits(&mutants.iter().map(Vec::as_slice).collect::<Vec<_>>(), 0).unwrap();
    for (position, logits) in positions.iter().zip(logits.chunks_exact(4)) {
        assert_eq!(
            table[*position].map(f32::to_bits).as_slice(),
            logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
    }
    // And all of them are those of PyTorch.
    let expected: Array<f32> = npz.numbers("ism_logits").unwrap();
    assert_close(table.as_flattened(), &expected.values[..4000], TOLERANCE, "logit");
}

fn mutant(sequence: &[u8], position: usize, base: u8) -> Vec<u8> {
    let mut mutant = sequence.to_vec();
    mutant[position] = base;
    mutant
}

#[test]
fn dilated_networks_are_followed_to_the_bit_and_to_the_logits_of_the_whole() {
    let Some(models) = converted("data/models/bpnet_ctcf_k562/model.safetensors") else { return };
    let network = models.models().next().unwrap().network().unwrap();
    let length = models.window().unwrap();
    let sequence = &crate::model::testing::chromosome_20()[60_000..60_000 + length];
    let encoded = |sequence: &[u8]| -> Vec<f32> {
        network.encode(&[sequence]).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let trunk = network.trunk().unwrap();
    let trace = trunk.trace(&encoded(sequence), [length, 4]).unwrap();
    let mut variants = trace.variants();
    let mut output = vec![0.0; trace.output().len()];
    for position in [0, 300, 1057, length - 1] {
        let base = if sequence[position] == b'A' { b'G' } else { b'A' };
        let mutant = mutant(sequence, position, base);
        let column = &encoded(&mutant)[4 * position..][..4];
        variants.run(position, column, &mut output);
        let anew = trunk.trace(&encoded(&mutant), [length, 4]).unwrap();
        assert!(output.iter().zip(anew.output()).all(|(a, b)| a.to_bits() == b.to_bits()), "{position}");
        let shape = trace.output_shape();
        let tensor = candle_core::Tensor::from_slice(&output, (1, shape[0], shape[1]), &Device::Cpu).unwrap();
        let followed = network.finish(&tensor).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_close(&followed, &models.logits(&[&mutant], 0).unwrap(), 1e-5, "logit");
    }
}

/// Loads a language model of the golden folder, and the sequences it was asked for.
fn language(name: &str, tokenizer: Option<&str>) -> Option<(Ensemble, Vec<Vec<u8>>, Npz)> {
    let folder = shared(&format!("golden/models/{name}"))?;
    let directory = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(folder.join(file), directory.path().join(file)).unwrap();
    }
    if let Some(tokenizer) = tokenizer {
        std::fs::copy(shared(tokenizer)?, directory.path().join("tokenizer.json")).unwrap();
    }
    let loaded = model::load(directory.path(), &Device::Cpu).unwrap();
    let member = Member { name: name.into(), loaded };
    let models = Ensemble::new(vec![member], false, Wanted::default()).unwrap();
    let npz = Npz::open(&folder.join("golden.npz")).unwrap();
    Some((models, crate::model::testing::golden_sequences(&folder), npz))
}

#[test]
fn attention_to_kmers_is_that_of_dnaberts_visualization() {
    let Some((models, sequences, mut npz)) = language("dnabert1_tiny", None) else { return };
    let expected: Array<f64> = npz.numbers("viz_scores").unwrap();
    // The last sequence is shorter than the length that the reference pads to, and that its means assume.
    let sequences: Vec<&[u8]> = sequences[..3].iter().map(Vec::as_slice).collect();
    let answers = attributed(&models, &sequences, &Options::new(Method::Attention, 0));
    for (answer, expected) in answers.iter().zip(expected.values.chunks_exact(64)) {
        let expected: Vec<f32> = expected.iter().map(|&score| score as f32).collect();
        assert_close(&answer.contributions, &expected, 1e-5, "attention");
    }
    // DNABERT adds up the scores of its models.
    let two = Ensemble::new(
        (0..2).map(|_| language("dnabert1_tiny", None).unwrap().0.into_members().remove(0)).collect(),
        false,
        Wanted::default(),
    );
    let twice = attributed(&two.unwrap(), &sequences[..1], &Options::new(Method::Attention, 0));
    let doubled: Vec<f32> = answers[0].contributions.iter().map(|score| 2.0 * score).collect();
    assert_close(&twice[0].contributions, &doubled, 1e-6, "sum");
}

#[test]
fn gradients_of_tokens_share_out_the_logit_of_language_models() {
    let tokenizer = Some("data/tokenizers/dnabert2/tokenizer.json");
    for (name, tokenizer) in
        [("dnabert1_tiny", None), ("dnabert2_tiny", tokenizer), ("nt_v1_tiny", None), ("nt_v2_tiny", None)]
    {
        let Some((models, sequences, _)) = language(name, tokenizer) else { return };
        let sequence: &[u8] = &sequences[0];
        let way = crate::model::transformer::TokenWay::Product;
        let share = models.explain_tokens(sequence, 1, &model::Background::Zeros, way).unwrap();
        let logit = models.logits(&[sequence], 1).unwrap()[0];
        assert_close(&[share.logit as f32], &[logit], 1e-4, name);
        for method in [Method::IntegratedGradients, Method::DeepLift] {
            let steps = Steps { first: 20, most: 180, ..Steps::default() };
            let options = Options { steps, ..Options::new(method, 1) };
            let answer = attributed(&models, &[&sequence[..40]], &options).remove(0);
            let told = format!("{name} {method}: {:?}, {:?}", answer.delta, answer.change);
            assert_eq!(answer.converged, Some(true), "{told}");
            assert_eq!(answer.contributions.len(), 40);
            assert!(answer.contributions.iter().any(|value| value.abs() > 1e-3), "{told}");
            // Shuffles have tokens at the same places where these are of one length.
            let comparison = Comparison::Shuffles { count: 3, seed: 1 };
            let shuffled = attribute(&models, &[&sequence[..40]], &Options { comparison, ..options });
            match models.tokenizer().unwrap().is_even() {
                true => {
                    let shuffled = shuffled.unwrap().remove(0).unwrap();
                    assert_eq!(shuffled.converged, Some(true), "{told}, {:?}", shuffled.delta);
                    assert_ne!(shuffled.contributions, answer.contributions);
                }
                false => assert!(shuffled.unwrap_err().to_string().contains("--background zero"), "{name}"),
            }
        }
    }
}

#[test]
fn attention_to_tokens_is_that_of_nyxbinds_score_from_sft() {
    let tokenizer = Some("data/tokenizers/dnabert2/tokenizer.json");
    let Some((models, sequences, mut npz)) = language("dnabert2_tiny", tokenizer) else { return };
    let rows: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
    let answers = attributed(&models, &rows, &Options::new(Method::Attention, 0));
    for (index, answer) in answers.iter().enumerate() {
        let expected: Array<f32> = npz.numbers(&format!("base_att_z_{index}")).unwrap();
        assert_close(&answer.contributions, &expected.values, 1e-4, "attention");
    }
    let reading = attention::Reading { layers: vec![3], ..attention::Reading::default() };
    let options = Options { attention: reading, ..Options::new(Method::Attention, 0) };
    let error = attribute(&models, &rows, &options).unwrap_err().to_string();
    assert!(error.contains("there is no layer 3; the model has 3, from 0 to 2"), "{error}");
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
    let answers = attributed(&models, &sequences, &Options::new(Method::Ism(Center::Mean), 0));
    for (answer, expected) in answers.iter().zip(expected.values.chunks_exact(400)) {
        assert_close(&answer.hypothetical, expected, TOLERANCE, "hypothetical");
    }
    // The contributions of the observed bases must be more than noise for this to mean anything.
    assert!(answers.iter().all(|answer| answer.contributions.iter().any(|value| value.abs() > 0.1)));
}

/// What a family makes of a method: `yes`, or `no`, which must name a remedy.
fn verdict(name: &str, models: &Ensemble, sequence: &[u8], method: Method) -> &'static str {
    // Thousands of mutants of 2114 bases; `dilated_networks_are_followed_…` calls that pair.
    if matches!(method, Method::Ism(_)) && sequence.len() > 1000 {
        return "yes";
    }
    let steps = Steps { first: 3, most: 3, ..Steps::default() };
    match attribute(models, &[sequence], &Options { steps, ..Options::new(method, 0) }) {
        Ok(mut answers) => {
            check_answer(name, method, &answers.remove(0).unwrap());
            "yes"
        }
        Err(refused) => {
            let refused = refused.to_string();
            let remedies = ["--method ism", "nyx-extract mutate", "use a language model", "attentions"];
            assert!(remedies.iter().any(|remedy| refused.contains(remedy)), "{name} {method}: {refused}");
            "no"
        }
    }
}

fn check_answer(name: &str, method: Method, answer: &Attribution) {
    let size: f32 = answer.contributions.iter().map(|value| value.abs()).sum();
    // The first token of a causal model attends to nothing but itself.
    assert!(answer.is_finite() && (size > 0.0 || method.is_attention()), "{name} {method}: {size}");
    if method.is_complete() {
        let delta = answer.delta.unwrap();
        assert!(delta <= 1e-4 * size.max(1.0), "{name} {method}: misses {delta:e} of {size:e}");
    }
}

/// Checks that what is differentiated is what scores.
fn check_logit(name: &str, models: &Ensemble, sequence: &[u8]) {
    let way = crate::model::transformer::TokenWay::Product;
    if let Ok(share) = models.explain_tokens(sequence, 0, &model::Background::Zeros, way) {
        let logit = f64::from(models.logits(&[sequence], 0).unwrap()[0]);
        assert!((share.logit - logit).abs() < 1e-4, "{name}: {} is not {logit}", share.logit);
    }
}

/// Runs every method on every family, and finds what `docs/recipes/explain.md` says.
#[test]
fn every_family_answers_to_the_methods_that_its_line_in_the_table_names() {
    let Some(families) = model::testing::families() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes/explain.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| family |"))
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_string()).collect()
    };
    let methods: Vec<Method> =
        cells(lines.next().unwrap())[1..].iter().map(|name| name.parse().unwrap()).collect();
    assert_eq!(methods.len(), 7);
    let expected: Vec<Vec<String>> = lines.skip(1).map(cells).collect();
    let mut found = Vec::new();
    let bases: Vec<u8> = (0..4000).map(|place| b"ACGT"[(place * place + place / 3) % 31 % 4]).collect();
    // The base callers say nothing of a sequence that holds no site.
    let site = std::fs::read_to_string(shared("golden/finemo/real_CTCFL/input/seqs.txt").unwrap()).unwrap();
    let site = site.lines().next().unwrap().as_bytes();
    for (name, own) in families {
        let loaded =
            model::Loaded { model: own, digest: name.into(), unused: Vec::new(), architecture: name.into() };
        let wanted = Wanted::default();
        let models = Ensemble::new(vec![Member { name: name.into(), loaded }], false, wanted).unwrap();
        let sequence = match models.window() {
            Some(100) => site,
            length => &bases[..length.unwrap_or(60)],
        };
        check_logit(name, &models, sequence);
        let verdicts = methods.iter().map(|&method| verdict(name, &models, sequence, method).to_string());
        found.push(std::iter::once(name.to_string()).chain(verdicts).collect::<Vec<_>>());
    }
    let table = |rows: &[Vec<String>]| {
        rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect::<String>()
    };
    assert_eq!(found, expected, "the table should be\n{}", table(&found));
}
