use proptest::prelude::*;

use super::super::testing::*;
use super::*;

/// The layer in 64 bits, straight from its definition.
fn naive(
    input: &[f32],
    weights: &[f32],
    bias: &[f32],
    inputs: usize,
    function: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let dot = |row: &[f32], weights: &[f32]| -> f64 {
        row.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
    };
    let outputs = |row: &[f32]| -> Vec<f64> {
        weights
            .chunks(inputs)
            .zip(bias)
            .map(|(weights, bias)| function(dot(row, weights) + f64::from(*bias)))
            .collect()
    };
    input.chunks(inputs).flat_map(outputs).collect()
}

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

/// What a layer may be off from exact products of its inputs, all between -1 and 1: the error of a product adds
/// up like a random walk.
fn tolerance(precision: Precision, inputs: usize) -> f64 {
    let step = match precision {
        Precision::F32 => 1e-6,
        // Two factors, each off by up to 2⁻⁹.
        Precision::Bf16 => 4e-3,
        // Two factors, each off by up to 2⁻⁸: 2e-3 in the mean square. Among thousands of outputs some are off by
        // more than four times that.
        Precision::Int8 => 1.2e-2,
    };
    step * (inputs as f64).sqrt() + step
}

proptest! {
    #[test]
    fn a_layer_is_the_matrix_product_and_all_instructions_give_the_same_bits(
        tokens in 0usize..40, inputs in 1usize..90, outputs in 1usize..80, seed: u64, biased: bool,
    ) {
        let (weights, bias) = (noise(outputs * inputs, seed), noise(outputs, seed ^ 1));
        let bias = if biased { bias } else { vec![0.0; outputs] };
        let input = noise(tokens * inputs, seed ^ 2);
        for precision in PRECISIONS {
            let linear = Linear::new(&weights, [outputs, inputs], biased.then_some(&bias), precision)
                .with_activation(Activation::Relu);
            let expected = naive(&input, &weights, &bias, inputs, |x| x.max(0.0));
            let mut found = Instructions::available().into_iter().map(|instructions| {
                let mut output = vec![f32::NAN; tokens * outputs];
                linear.run(instructions, &input, &mut output, false);
                output
            });
            let widest = found.next().unwrap();
            let error = largest_difference(&widest, &expected);
            prop_assert!(error <= tolerance(precision, inputs), "{precision:?}: {error}");
            for other in found {
                prop_assert_eq!(bits_of(&other), bits_of(&widest), "{:?}", precision);
            }
        }
    }

    #[test]
    fn a_gated_layer_multiplies_its_halves(
        tokens in 1usize..30, inputs in 1usize..50, outputs in 1usize..50, seed: u64,
    ) {
        let (weights, bias) = (noise(2 * outputs * inputs, seed), noise(2 * outputs, seed ^ 1));
        let input = noise(tokens * inputs, seed ^ 2);
        let (a, b) = weights.split_at(outputs * inputs);
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let gate = naive(&input, a, &bias[..outputs], inputs, silu);
        let value = naive(&input, b, &bias[outputs..], inputs, |x| x);
        let expected: Vec<f64> = gate.iter().zip(&value).map(|(a, b)| a * b).collect();
        for precision in PRECISIONS {
            let shape = [outputs, inputs];
            let linear = Linear::gated(&weights, shape, Some(&bias), Activation::Silu, precision);
            let mut output = vec![f32::NAN; tokens * outputs];
            linear.apply(&input, &mut output);
            let error = largest_difference(&output, &expected);
            // A half may be as large as the inputs are many.
            let largest = gate.iter().chain(&value).fold(1.0f64, |a, b| a.max(b.abs()));
            prop_assert!(error <= 2.2 * largest * tolerance(precision, inputs), "{precision:?}: {error}");
        }
    }
}

#[test]
fn a_token_has_the_same_bits_alone_and_in_any_pack() {
    // 512 inputs are copied, 500 are not; 300 tokens are several blocks and no whole tiles.
    for (inputs, precision) in [512, 500].into_iter().flat_map(|n| PRECISIONS.map(|p| (n, p))) {
        let weights = noise(70 * inputs, 1);
        let linear = Linear::new(&weights, [70, inputs], Some(&noise(70, 2)), precision)
            .with_activation(Activation::Gelu);
        let input = noise(300 * inputs, 3);
        let mut together = vec![f32::NAN; 300 * 70];
        linear.apply(&input, &mut together);
        for first in [0, 11, 160, 299] {
            let count = (300 - first).min(13);
            let mut alone = vec![f32::NAN; count * 70];
            linear.apply(&input[first * inputs..][..count * inputs], &mut alone);
            assert_eq!(bits_of(&alone), bits_of(&together[first * 70..][..count * 70]), "{linear:?}");
        }
    }
}

#[test]
fn adding_is_applying_and_adding() {
    for precision in PRECISIONS {
        let linear = Linear::new(&noise(45 * 37, 1), [45, 37], Some(&noise(45, 2)), precision);
        let (input, residual) = (noise(31 * 37, 3), noise(31 * 45, 4));
        let mut applied = vec![f32::NAN; 31 * 45];
        linear.apply(&input, &mut applied);
        let mut added = residual.clone();
        linear.add(&input, &mut added);
        let expected: Vec<f32> = applied.iter().zip(&residual).map(|(a, b)| a + b).collect();
        assert_eq!(bits_of(&added), bits_of(&expected));
    }
}

#[test]
fn a_token_that_is_no_number_spoils_itself_alone() {
    for precision in PRECISIONS {
        let linear = Linear::new(&noise(40 * 20, 1), [40, 20], None, precision);
        let mut input = noise(15 * 20, 3);
        input[7 * 20 + 5] = f32::NAN;
        let mut output = vec![0.0; 15 * 40];
        linear.apply(&input, &mut output);
        for (token, row) in output.chunks(40).enumerate() {
            assert!(row.iter().all(|x| x.is_nan() == (token == 7)), "{precision:?}, token {token}");
        }
    }
}

#[test]
fn subnormal_and_huge_numbers_round_alike_on_all_instructions() {
    let mut input = noise(24 * 10, 1);
    let mut weights = noise(32 * 10, 2);
    for (index, x) in input.iter_mut().enumerate() {
        *x *= [1e-39, 1e-30, 1e-19, 1.0, 1e19, 3e37][index % 6];
    }
    for (index, w) in weights.iter_mut().enumerate() {
        *w *= [1e-19, 1e-9, 1.0, 1e10, 1e-39][index % 5];
    }
    let linear = Linear::new(&weights, [32, 10], None, Precision::Bf16);
    let mut found = Instructions::available().into_iter().map(|instructions| {
        let mut output = vec![f32::NAN; 24 * 32];
        linear.run(instructions, &input, &mut output, false);
        bits_of(&output)
    });
    let widest = found.next().unwrap();
    assert!(found.all(|other| other == widest));
}

#[test]
fn the_error_of_each_precision_is_what_its_documentation_says() {
    let normal = |count: usize, seed: u64| -> Vec<f32> {
        noise(12 * count, seed).chunks(12).map(|sum| 0.5 * sum.iter().sum::<f32>()).collect()
    };
    let (weights, input) = (normal(96 * 768, 1), normal(40 * 768, 2));
    let expected = naive(&input, &weights, &[0.0; 96], 768, |x| x);
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let errors = PRECISIONS.map(|precision| {
        let mut output = vec![f32::NAN; 40 * 96];
        Linear::new(&weights, [96, 768], None, precision).apply(&input, &mut output);
        let mut differences = output.iter().zip(&expected).map(|(a, b)| f64::from(*a) - b);
        norm(&mut differences) / norm(&mut expected.iter().copied())
    });
    let bounds = [8e-7, 2.6e-3, 1.2e-2];
    assert!(errors.iter().zip(bounds).all(|(error, bound)| *error < bound), "{errors:?}");
}
