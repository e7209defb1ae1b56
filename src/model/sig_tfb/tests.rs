use super::super::convert::{self, Hints};
use super::super::testing::*;
use super::influence::FilterMeans;
use super::*;
use crate::kernel::testing::{distance, flat};
use crate::npy::Npz;

const CELLS: [&str; 3] = ["GM12878", "HepG2", "K562"];

fn labels() -> Option<Vec<String>> {
    Some(CELLS.map(String::from).to_vec())
}

fn hints() -> Hints<'static> {
    Hints { labels: labels(), ..Hints::default() }
}

fn golden(name: &str) -> Option<Vec<f32>> {
    let path = shared("golden/models/sigtfb/golden.npz")?;
    Some(Npz::open(&path).unwrap().numbers::<f32>(name).unwrap().values)
}

fn sequences() -> Vec<Vec<u8>> {
    golden_sequences(&shared("golden/models/sigtfb").unwrap())
}

/// Returns the input of the golden outputs, `[B, L, 4]`. It has zeros where one sequence has an `N`.
fn input() -> Tensor {
    let mut golden = Npz::open(&shared("golden/models/sigtfb/golden.npz").unwrap()).unwrap();
    let values = golden.numbers::<f32>("onehot").unwrap().values;
    let image = Tensor::from_vec(values, (8, 4, 101), &Device::Cpu).unwrap();
    image.transpose(1, 2).unwrap().contiguous().unwrap()
}

fn logits(model: &dyn Network) -> Vec<f32> {
    flat(&model.forward(&input()).unwrap().logits)
}

/// Returns the model that leaves out filters, with means over the golden sequences.
fn left_out(path: &str) -> Option<(Vec<f32>, Box<dyn Network>)> {
    let converted = convert::read(&shared(path)?, &hints()).unwrap();
    let mut means = FilterMeans::new(&converted.config, &converted.weights).unwrap();
    for row in 0..8 {
        means.add_encoded(&input().narrow(0, row, 1).unwrap()).unwrap();
    }
    let values = means.means().unwrap();
    let converted = means.into_model(converted.config, converted.weights).unwrap();
    let directory = tempfile::tempdir().unwrap();
    convert::write(&converted, directory.path()).unwrap();
    let weights = Weights::read(&directory.path().join("model.safetensors")).unwrap();
    Some((values, model(&Config::read(directory.path()).unwrap(), &weights)))
}

#[test]
fn the_authors_checkpoint_gives_the_logits_of_its_cell_types() {
    let Some(expected) = golden("stage1_logits") else { return };
    for file in ["stage1_like_author.pth.tar", "stage1.safetensors"] {
        let model = converted(&format!("golden/models/sigtfb/{file}"), &hints()).unwrap();
        assert_eq!((model.window(), model.labels()), (Some(101), &CELLS.map(String::from)[..]));
        check_parity(
            "SigTFB stage 1",
            &format!("logits, {file}"),
            "f32",
            [&logits(&*model), &expected],
            1e-5,
        );
        let sequences = sequences();
        let sequences: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        check_batch_invariance(&*model, &sequences);
        check_gradient_direction(&*model, sequences[0]);
        // An unknown base is a quarter of each; all others are as in the golden input.
        let difference = (model.encode(&sequences).unwrap() - input()).unwrap();
        assert_eq!(flat(&difference).into_iter().filter(|&x| x != 0.0).collect::<Vec<_>>(), [0.25; 4]);
    }
}

#[test]
fn stage_2_has_the_log_odds_of_the_cell_type_it_is_told() {
    let Some(log_probs) = golden("stage2_logsoftmax") else { return };
    let cell_types = golden("celltype").unwrap();
    let model = converted("golden/models/sigtfb/stage2.safetensors", &hints()).unwrap();
    assert_eq!(model.labels(), ["GM12878", "HepG2", "K562", UNTOLD]);
    let found = logits(&*model);
    let mut seen = [false; 4];
    let (mut odds, mut references) = (Vec::new(), Vec::new());
    for (row, told) in cell_types.chunks_exact(3).enumerate() {
        let class = told.iter().position(|&told| told == 1.0).unwrap_or(3);
        seen[class] = true;
        let expected = log_probs[2 * row + 1] - log_probs[2 * row];
        let logit = found[4 * row + class];
        odds.push(logit);
        references.push(expected);
    }
    check_parity("SigTFB stage 2", "log odds", "f32", [&odds, &references], 1e-5);
    assert!(seen[3], "no row of the golden is not told its cell type");
    let sequences = sequences();
    let sequences: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
    check_batch_invariance(&*model, &sequences);
    check_gradient_direction(&*model, sequences[0]);
}

#[test]
fn each_filter_is_left_out_in_turn() {
    let Some(expected) = golden("leave_one_filter_out") else { return };
    let (means, model) = left_out("golden/models/sigtfb/stage1.safetensors").unwrap();
    assert!(distance(&means, &golden("filter_means").unwrap()) < 1e-6);
    assert_eq!(model.labels().len(), 20 * 3);
    assert_eq!(model.labels()[4], "HepG2 without filter 1");
    let what = "logits without each filter";
    check_parity("SigTFB stage 1", what, "f32", [&logits(&*model), &expected], 1e-5);
    let sequences = sequences();
    check_batch_invariance(&*model, &sequences.iter().map(Vec::as_slice).collect::<Vec<_>>());
}

#[test]
fn stage_2_without_a_filter_is_stage_2_with_its_mean() {
    let Some((means, model)) = left_out("golden/models/sigtfb/stage2.safetensors") else { return };
    let converted =
        convert::read(&shared("golden/models/sigtfb/stage2.safetensors").unwrap(), &hints()).unwrap();
    let sequences = sequences();
    let input = model.encode(&[&sequences[2]]).unwrap();
    let (filters, classifier) = stage_2(&converted.config, &converted.weights, &Device::Cpu).unwrap();
    let matches: Vec<f32> =
        pool::global_max(&filters.maps(&input).unwrap()).unwrap().to_vec2().unwrap().remove(0);
    let logits = model.forward(&input).unwrap().logits.to_vec2::<f32>().unwrap().remove(0);
    for (filter, found) in logits.chunks_exact(4).enumerate() {
        let mut matches = matches.clone();
        matches[filter] = means[filter];
        let matches = Tensor::from_vec(matches, (1, 20), &Device::Cpu).unwrap();
        let expected = classifier.forward(&matches).unwrap().to_vec2::<f32>().unwrap().remove(0);
        assert!(distance(found, &expected) < 1e-6, "filter {filter}");
    }
}

#[test]
fn what_is_told_of_chromatin_is_one_of_three_and_needs_a_network_that_hears_it() {
    let told = |text: Option<&str>| {
        let mut config = Config::new("Net_Stage2");
        text.map(|text| config.rest.insert("chromatin".into(), text.into()));
        config
    };
    assert_eq!(accessibility(&told(Some("open")), 23, 20).unwrap(), [0.0, 1.0]);
    assert_eq!(accessibility(&told(None), 23, 20).unwrap(), [0.0, 0.0]);
    assert!(accessibility(&told(None), 21, 20).unwrap().is_empty());
    for (text, inputs) in [(Some("open"), 21), (Some("ajar"), 23), (None, 22), (None, 19)] {
        assert!(accessibility(&told(text), inputs, 20).is_err(), "{text:?} {inputs}");
    }
}

#[test]
fn means_need_sequences_and_a_network_with_filters() {
    let weights = Weights::default();
    let error = FilterMeans::new(&Config::new("DanQ"), &weights).err().unwrap().to_string();
    assert!(error.contains("CNN_Multilabel"), "{error}");
    let Some(path) = shared("golden/models/sigtfb/stage1.safetensors") else { return };
    let converted = convert::read(&path, &hints()).unwrap();
    let mut means = FilterMeans::new(&converted.config, &converted.weights).unwrap();
    assert!(means.means().unwrap_err().to_string().contains("no sequence"));
    let sequences = sequences();
    means.add(&[&sequences[0], &sequences[2]]).unwrap();
    assert_eq!(means.sequences(), 2);
}
