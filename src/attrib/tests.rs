use arrow_array::Array;

use super::*;
use crate::dna::BASES;
use crate::score::tests::{bases, collect, ensemble, rows, scores_of};

const LENGTH: usize = 24;

/// Returns the logit of class 1 of one sequence.
fn logit(models: &Ensemble, sequence: &[u8]) -> f64 {
    f64::from(scores_of(models, &[sequence])[0].logits[1])
}

fn attributed(models: &Ensemble, sequence: &[u8], method: Method) -> Attribution {
    attribute(models, &[sequence], &Options::new(method, 1)).unwrap().remove(0).unwrap()
}

/// Mutagenesis by a loop, every mutant scored alone.
fn naive(models: &Ensemble, sequence: &[u8], center: Center) -> Attribution {
    let length = sequence.len();
    let (mut hypothetical, mut contributions) = (vec![0.0; 4 * length], vec![0.0; length]);
    for index in (0..length).filter(|&index| sequence[index] != b'N') {
        let mutated = BASES.map(|base| {
            let mut mutant = sequence.to_vec();
            mutant[index] = base;
            logit(models, &mutant)
        });
        let observed = BASES.iter().position(|&base| base == sequence[index]).unwrap();
        let mean = mutated.iter().sum::<f64>() / 4.0;
        let from = if center == Center::Mean { mean } else { mutated[observed] };
        for base in 0..4 {
            hypothetical[base * length + index] = (mutated[base] - from) as f32;
        }
        let factor = if center == Center::Mean { 1.0 } else { 4.0 / 3.0 };
        contributions[index] = (factor * (mutated[observed] - mean)) as f32;
    }
    Attribution { hypothetical, contributions, delta: None, change: None, converged: None }
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "{index}: {a} and {b}");
    }
}

#[test]
fn mutagenesis_equals_a_loop_over_mutants() {
    for (models, seed) in [(ensemble(&[1], None, false), 1), (ensemble(&[1, 2], None, true), 2)] {
        let mut sequence = bases(seed, LENGTH);
        sequence[3] = b'N';
        for center in [Center::Mean, Center::Reference] {
            let fast = attributed(&models, &sequence, Method::Ism(center));
            let slow = naive(&models, &sequence, center);
            assert_close(&fast.hypothetical, &slow.hypothetical, 1e-6);
            assert_close(&fast.contributions, &slow.contributions, 1e-6);
            assert_eq!(fast.contributions[3], 0.0);
        }
    }
}

#[test]
fn the_gradient_predicts_a_small_step() {
    // The network is piecewise linear: far from a kink a step along one input is exact but for rounding.
    let models = ensemble(&[7], None, false);
    let sequence = bases(3, LENGTH);
    let gradient = attributed(&models, &sequence, Method::GradientInput);
    let member = crate::score::tests::tiny(7, None);
    let model = member.loaded.model.network().unwrap();
    let input = model.encode(&[&sequence]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let at = |index: usize, step: f32| {
        let mut moved = input.clone();
        moved[index] += step;
        let moved = candle_core::Tensor::from_vec(moved, (1, LENGTH, 4), &candle_core::Device::Cpu).unwrap();
        model.forward(&moved).unwrap().logits.to_vec2::<f32>().unwrap()[0][1]
    };
    let step = 1e-2;
    for index in (0..LENGTH).filter(|&index| sequence[index] != b'N') {
        for base in 0..4 {
            let slope = (at(4 * index + base, step) - at(4 * index + base, -step)) / (2.0 * step);
            let analytic = gradient.hypothetical[base * LENGTH + index];
            assert!((slope - analytic).abs() < 2e-3, "{index} {base}: {slope} and {analytic}");
        }
    }
}

#[test]
fn input_times_gradient_is_complete_where_the_network_is_homogeneous() {
    // Convolution, ReLU and sum have no bias, so f(x) = x · gradient and f(0) = 0.
    let sequence: Vec<u8> =
        bases(4, LENGTH).iter().map(|&base| if base == b'N' { b'A' } else { base }).collect();
    let models = ensemble(&[8], None, false);
    let answer = attributed(&models, &sequence, Method::GradientInput);
    assert!(answer.delta.unwrap() < 1e-4);
    let sum: f32 = answer.contributions.iter().sum();
    assert!((f64::from(sum) - logit(&models, &sequence)).abs() < 1e-4);
    let saliency = attributed(&models, &sequence, Method::Saliency);
    let absolute: Vec<f32> = answer.hypothetical.iter().map(|value| value.abs()).collect();
    assert_eq!((saliency.hypothetical, saliency.delta), (absolute, None));
}

#[test]
fn the_gradient_of_both_strands_turns_with_the_sequence() {
    let sequence = bases(9, LENGTH);
    let mut turned = sequence.clone();
    crate::dna::reverse_complement(&mut turned);
    let models = ensemble(&[1, 2], None, true);
    let forward = attributed(&models, &sequence, Method::GradientInput);
    let mut backward = attributed(&models, &turned, Method::GradientInput);
    backward.hypothetical.reverse();
    assert_eq!(forward.hypothetical, backward.hypothetical);
}

#[test]
fn contributions_do_not_depend_on_the_batch() {
    let sequences: Vec<_> = (0..12).map(|seed| bases(seed, 30 + (seed as usize % 3))).collect();
    let sequences: Vec<_> = sequences.iter().map(|sequence| Some(sequence.as_slice())).collect();
    let models = Arc::new(ensemble(&[1, 2], None, true));
    let methods = [Method::Ism(Center::Mean), Method::Saliency, Method::GradientInput];
    for method in methods.into_iter().chain([Method::DeepLift, Method::IntegratedGradients]) {
        let comparison = Comparison::Shuffles { count: 3, seed: 1 };
        let steps = Steps { first: 4, most: 12, ..Steps::default() };
        let options = Options { comparison, steps, ..Options::new(method, 1) };
        let run =
            |size| collect(attrib(rows(&sequences).rebatch(size), models.clone(), options.clone()).unwrap());
        let whole = run(12);
        assert_eq!(run(1), whole, "{method}");
        assert_eq!(run(5), whole, "{method}");
    }
}

#[test]
fn the_columns_are_those_asked_for_and_say_what_they_are() {
    let models = Arc::new(ensemble(&[1], Some(8), false));
    let options = Options { columns: Columns::Projected, ..Options::new(Method::Saliency, 1) };
    let input = || rows(&[Some(b"ACGTACGT"), Some(b"ACG"), None]);
    let batch = collect(attrib(input(), models.clone(), options.clone()).unwrap());
    assert!(batch.column_by_name(schema::HYPOTHETICAL).is_none());
    let statuses = schema::strings(&batch, schema::STATUS).unwrap();
    assert_eq!(statuses.iter().flatten().collect::<Vec<_>>(), ["ok", "too_short", "not_bases"]);
    assert!(batch[schema::CONTRIBUTIONS].is_valid(0) && batch[schema::CONTRIBUTIONS].is_null(1));
    let schema = batch.schema();
    let metadata = schema.field_with_name(schema::CONTRIBUTIONS).unwrap().metadata();
    assert_eq!((metadata[schema::METHOD_KEY].as_str(), metadata[TARGET_KEY].as_str()), ("saliency", "open"));
    let options = Options { columns: Columns::Hypothetical, method: Method::Ism(Center::Mean), ..options };
    let batch = collect(attrib(input(), models, options).unwrap());
    assert!(batch.column_by_name(schema::CONTRIBUTIONS).is_none());
    assert_eq!(
        schema::float_items(schema::lists(&batch, schema::HYPOTHETICAL).unwrap(), 0).unwrap().len(),
        32
    );
}

/// The multipliers of the logit of class 1 of `tiny(seed)` by hand, in f64: the layer is ReLU(filter · x), so that
/// each position and filter has one slope between a sequence and a background.
fn by_hand(seed: u64, sequence: &[u8], background: &[[f64; 4]]) -> Vec<f64> {
    let member = crate::score::tests::tiny(seed, None);
    let network = member.loaded.model.network().unwrap();
    let length = sequence.len();
    let [filters, weights] = crate::score::tests::tiny_weights(seed);
    let (count, width) = (3, 5);
    let encoded = network.encode(&[sequence]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let at = |position: isize, base: usize| {
        let inside = position >= 0 && (position as usize) < length;
        if inside {
            [f64::from(encoded[position as usize * 4 + base]), background[position as usize][base]]
        } else {
            [0.0; 2]
        }
    };
    let weight =
        |filter: usize, base: usize, tap: usize| f64::from(filters[(filter * 4 + base) * width + tap]);
    let mut multipliers = vec![0.0; 4 * length];
    for position in 0..length {
        for filter in 0..count {
            let inputs = || (0..width).flat_map(|tap| (0..4).map(move |base| (tap, base)));
            let place = |tap: usize| (position + tap) as isize - 2;
            let [a, b] = [0, 1].map(|which| {
                inputs()
                    .map(|(tap, base)| at(place(tap), base)[which] * weight(filter, base, tap))
                    .sum::<f64>()
            });
            let slope = match (a > 0.0, b > 0.0) {
                (true, true) => 1.0,
                (false, false) => 0.0,
                _ => (a.max(0.0) - b.max(0.0)) / (a - b),
            };
            for (tap, base) in inputs() {
                if let Some(position) = usize::try_from(place(tap)).ok().filter(|&place| place < length) {
                    multipliers[base * length + position] +=
                        f64::from(weights[count + filter]) * slope * weight(filter, base, tap);
                }
            }
        }
    }
    multipliers
}

#[test]
fn deeplift_is_what_a_hand_computes_and_integrated_gradients_come_to_the_same_in_one_layer() {
    let sequence: Vec<u8> = bases(12, LENGTH);
    let models = ensemble(&[5], None, false);
    let options = Options::new(Method::DeepLift, 1);
    // Zeros, but for the N of the sequence, which is zeros already.
    let expected = by_hand(5, &sequence, &[[0.0; 4]; LENGTH]);
    let found = attribute(&models, &[&sequence], &options).unwrap().remove(0).unwrap();
    for (index, (found, expected)) in found.hypothetical.iter().zip(&expected).enumerate() {
        let expected = if sequence[index % LENGTH] == b'N' { 0.0 } else { *expected };
        assert!((f64::from(*found) - expected).abs() < 1e-5, "{index}: {found}, not {expected}");
    }
    assert_eq!(found.converged, Some(true));
    // Along the path a filter is above zero for exactly the part that the secant has, in any number of steps.
    let steps = Steps { first: 2, most: 2, ..Steps::default() };
    let options = Options { steps, ..Options::new(Method::IntegratedGradients, 1) };
    let integrated = attribute(&models, &[&sequence], &options).unwrap().remove(0).unwrap();
    assert_close(&integrated.hypothetical, &found.hypothetical, 1e-5);
    assert_eq!(integrated.converged, Some(true), "{:?}", integrated.change);
}

#[test]
fn contributions_share_out_the_difference_to_the_mean_of_the_shuffles() {
    let sequence = bases(13, 60);
    let models = ensemble(&[5, 6], None, true);
    let shuffles = crate::dna::dinucleotide_shuffles(&sequence, 4, 9);
    let mean = shuffles.iter().map(|shuffle| logit(&models, shuffle)).sum::<f64>() / 4.0;
    let comparison = Comparison::Shuffles { count: 4, seed: 9 };
    for method in [Method::DeepLift, Method::IntegratedGradients] {
        // Few steps, and complete all the same.
        let steps = Steps { first: 3, most: 27, ..Steps::default() };
        let options = Options { comparison, steps, ..Options::new(method, 1) };
        let answer = attribute(&models, &[&sequence], &options).unwrap().remove(0).unwrap();
        let sum: f64 = answer.contributions.iter().map(|&value| f64::from(value)).sum();
        let difference = logit(&models, &sequence) - mean;
        assert!(
            (sum - difference).abs() <= 1.01 * steps.tolerance * difference.abs(),
            "{method}: {sum} of {difference}"
        );
        assert_eq!(answer.converged, Some(true), "{method}: {:?}", answer.delta);
    }
}

#[test]
fn too_few_steps_are_told_and_an_error_where_strict() {
    let models = Arc::new(ensemble(&[5], None, false));
    // One step shares out all of the difference, but nothing tells how far it is from the integral.
    let steps = Steps { first: 1, most: 2, ..Steps::default() };
    let options = Options { steps, ..Options::new(Method::IntegratedGradients, 1) };
    let row = bases(14, 40);
    let run = |options: Options| attrib(rows(&[Some(&row), None]), models.clone(), options).unwrap();
    let told = Completeness::default();
    let batch = collect(told.watch(run(options.clone())));
    let converged = schema::booleans(&batch, schema::CONVERGED).unwrap();
    assert!(!converged.value(0) && converged.is_null(1));
    let whole = attribute(&models, &[&row], &options).unwrap().remove(0).unwrap();
    assert_eq!(whole.change, Some(f32::INFINITY));
    assert!(whole.delta.unwrap() < 1e-4);
    let words = told.describe().unwrap();
    assert!(words.contains("1 of 1 rows not converged"), "{words}");
    let mut batches = run(Options { strict: true, ..options }).into_parts().1;
    let error = batches.find_map(Result::err).unwrap();
    assert!(error.to_string().contains("raise --max-steps"), "{error}");
}
