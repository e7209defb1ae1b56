//! Convolutions against their definition.

use super::super::rule::testing::check_completeness;
use super::super::testing::*;
use super::filters::Packed;
use super::image::*;
use super::row::Row;
use super::*;
use crate::kernel::tile::{OneHot, Run};
use candle_core::Device;
use proptest::prelude::*;

/// A convolution as its definition has it, in f64. `weights` is `[outputs, inputs, rows, columns]`.
fn naive(input: &Tensor, weights: &[f32], shape: [usize; 4], bias: &[f32], conv: &Conv) -> Vec<f64> {
    let (batch, height, width, _) = input.dims4().unwrap();
    let [outputs, inputs, rows, columns] = shape;
    let values = flat(input);
    let [out_height, out_width] = conv.output_size([height, width]).unwrap();
    let at = |b: usize, y: isize, x: isize, c: usize| {
        let inside = y >= 0 && x >= 0 && y < height as isize && x < width as isize;
        let index = |y: isize, x: isize| ((b * height + y as usize) * width + x as usize) * inputs + c;
        if inside { f64::from(values[index(y, x)]) } else { 0.0 }
    };
    let mut all = Vec::new();
    for b in 0..batch {
        for (y, x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
            for o in 0..outputs {
                let mut sum = f64::from(bias[o]);
                for (c, ky, kx) in (0..inputs)
                    .flat_map(|c| (0..rows).flat_map(move |y| (0..columns).map(move |x| (c, y, x))))
                {
                    let iy =
                        (y * conv.stride[0] + ky * conv.dilation[0]) as isize - conv.padding.top as isize;
                    let ix =
                        (x * conv.stride[1] + kx * conv.dilation[1]) as isize - conv.padding.left as isize;
                    let weight = weights[((o * inputs + c) * rows + ky) * columns + kx];
                    sum += at(b, iy, ix, c) * f64::from(weight);
                }
                all.push(if conv.relu { sum.max(0.0) } else { sum });
            }
        }
    }
    all
}

prop_compose! {
    /// A convolution, its weights and an input that it fits.
    fn cases()(
        shape in (1usize..40, 1usize..6, 1usize..4, 1usize..6).prop_map(|(o, i, h, w)| [o, i, h, w]),
        stride in [1usize..3, 1usize..4],
        dilation in [1usize..3, 1usize..4],
        padding in (0usize..3, 0usize..3, 0usize..5, 0usize..5),
        more in (0usize..3, 0usize..20),
        batch in 1usize..4,
        relu: bool,
        seed: u64,
    ) -> (Conv, Vec<f32>, [usize; 4], Vec<f32>, Tensor) {
        let weights = noise(shape.iter().product(), seed);
        let bias = noise(shape[0], seed ^ 1);
        let (top, bottom, left, right) = padding;
        let conv = Conv::new(&weights, shape, &bias)
            .with_stride(stride)
            .with_dilation(dilation)
            .with_padding(Padding { top, bottom, left, right });
        let conv = if relu { conv.with_relu() } else { conv };
        let height = (dilation[0] * (shape[2] - 1) + 1 + more.0).saturating_sub(top + bottom).max(1);
        let width = (dilation[1] * (shape[3] - 1) + 1 + more.1).saturating_sub(left + right).max(1);
        let input = noise_tensor(&[batch, height, width, shape[1]], seed ^ 2);
        (conv, weights, shape, bias, input)
    }
}

proptest! {
    #[test]
    fn a_convolution_is_what_its_definition_says((conv, weights, shape, bias, input) in cases()) {
        let output = flat(&conv.forward(&input).unwrap());
        let expected = naive(&input, &weights, shape, &bias, &conv);
        prop_assert_eq!(output.len(), expected.len());
        for (output, expected) in output.iter().zip(expected) {
            prop_assert!((f64::from(*output) - expected).abs() < 1e-4, "{} is not {}", output, expected);
        }
    }

    #[test]
    fn a_row_alone_has_the_bits_it_has_in_a_batch((conv, _, _, _, input) in cases()) {
        let together = bits(&conv.forward(&input).unwrap());
        let alone: Vec<u32> = (0..input.dim(0).unwrap())
            .flat_map(|row| bits(&conv.forward(&input.narrow(0, row, 1).unwrap()).unwrap()))
            .collect();
        prop_assert_eq!(together, alone);
    }

    /// ⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩: the transpose, and so the gradient, is the adjoint.
    #[test]
    fn the_transpose_is_the_adjoint((conv, weights, shape, _, input) in cases()) {
        let conv = Conv { relu: false, ..conv };
        let zero = Conv { filters: Conv::new(&weights, shape, &vec![0.0; shape[0]]).filters, ..conv };
        let output = zero.forward(&input).unwrap();
        let other = noise_tensor(output.dims(), 5);
        let back = zero.transpose(&other, [input.dim(1).unwrap(), input.dim(2).unwrap()]).unwrap();
        prop_assert_eq!(back.dims(), input.dims());
        let dot = |a: &Tensor, b: &Tensor| -> f64 {
            flat(a).iter().zip(flat(b)).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
        };
        let (left, right) = (dot(&output, &other), dot(&input, &back));
        prop_assert!((left - right).abs() < 1e-3 * left.abs().max(1.0), "{} is not {}", left, right);
    }

    #[test]
    fn a_deep_layer_is_what_its_definition_says_alone_and_in_a_batch(
        (outputs, inputs, width) in (8usize..40, 8usize..40, 3usize..20), dilation in 1usize..9,
        (left, right) in (0usize..12, 0usize..12), more in 0usize..60, relu: bool, seed: u64,
    ) {
        // Few channels are filtered this way only without dilation.
        let dilation = if inputs.min(outputs) < 16 { 1 } else { dilation };
        let shape = [outputs, inputs, 1, width];
        let weights = noise(outputs * inputs * width, seed);
        let bias = noise(outputs, seed ^ 1);
        let conv = Conv::new(&weights, shape, &bias)
            .with_dilation([1, dilation])
            .with_padding(Padding { left, right, ..Padding::default() });
        let conv = if relu { conv.with_relu() } else { conv };
        let length = (dilation * (width - 1) + 1 + more).saturating_sub(left + right).max(1);
        let input = noise_tensor(&[2, 1, length, inputs], seed ^ 2);
        prop_assert!(matches!(conv.way(), Way::Winograd(_)) || inputs.min(outputs) < 16);
        let output = conv.forward(&input).unwrap();
        for (output, expected) in flat(&output).iter().zip(naive(&input, &weights, shape, &bias, &conv)) {
            prop_assert!((f64::from(*output) - expected).abs() < 1e-4, "{} is not {}", output, expected);
        }
        let alone = conv.forward(&input.narrow(0, 1, 1).unwrap()).unwrap();
        prop_assert_eq!(bits(&alone), bits(&output.narrow(0, 1, 1).unwrap()));
    }

    #[test]
    fn in_bfloat16_a_layer_is_its_definition_on_rounded_numbers(
        (outputs, inputs, width) in (1usize..70, 1usize..40, 1usize..6), stride in 1usize..3,
        dilation in 1usize..5, (left, right) in (0usize..9, 0usize..9), more in 0usize..40, relu: bool, seed: u64,
    ) {
        let shape = [outputs, inputs, 1, width];
        let weights = rounded(&noise(outputs * inputs * width, seed));
        let bias = noise(outputs, seed ^ 1);
        let conv = Conv::new(&weights, shape, &bias)
            .with_stride([1, stride])
            .with_dilation([1, dilation])
            .with_padding(Padding { left, right, ..Padding::default() });
        let conv = if relu { conv.with_relu() } else { conv };
        let length = (dilation * (width - 1) + 1 + more).saturating_sub(left + right).max(1);
        let input = noise(length * inputs, seed ^ 2);
        let exact = Tensor::from_vec(rounded(&input), (1, 1, length, inputs), &Device::Cpu).unwrap();
        let expected = naive(&exact, &weights, shape, &bias, &conv);
        let count = expected.len() / outputs;
        let residual = noise(count * outputs, seed ^ 3);
        let row = Row {
            input: &input, length, left, stride, dilation, count, relu, residual: Some(&residual),
        };
        let mut runs = Instructions::available().into_iter().map(|instructions| {
            let mut output = vec![f32::NAN; count * outputs];
            // In two parts, as two threads would.
            let (first, second) = output.split_at_mut(count / 2 * outputs);
            let mut scratch = Vec::new();
            conv.filters.rounded().run(instructions, &row, 0, first, &mut scratch);
            conv.filters.rounded().run(instructions, &row, count / 2, second, &mut scratch);
            output
        });
        let widest = runs.next().unwrap();
        for other in runs {
            prop_assert!(widest.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        for ((found, expected), residual) in widest.iter().zip(expected).zip(&residual) {
            let expected = expected + f64::from(*residual);
            prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{} is not {}", found, expected);
        }
    }

    #[test]
    fn in_bfloat16_a_row_alone_has_the_bits_it_has_in_a_batch_whatever_the_way(
        (outputs, inputs, width) in (16usize..70, 8usize..40, 1usize..8), dilation in 1usize..4,
        length in 30usize..400, seed: u64,
    ) {
        let conv = Conv::new(&noise(outputs * inputs * width, seed), [outputs, inputs, 1, width], &noise(outputs, 1))
            .with_dilation([1, dilation])
            .with_precision(Precision::Bf16);
        let input = noise_tensor(&[3, length, inputs], seed ^ 2);
        let together = conv.forward_1d(&input).unwrap();
        for row in 0..3 {
            let alone = conv.forward_1d(&input.narrow(0, row, 1).unwrap()).unwrap();
            prop_assert_eq!(bits(&alone), bits(&together.narrow(0, row, 1).unwrap()));
        }
    }

    #[test]
    fn bases_that_are_looked_up_have_the_bits_of_products(
        (outputs, width) in (1usize..70, 1usize..9), stride in 1usize..3, dilation in 1usize..4,
        bases in prop::collection::vec(0usize..40, 40..90), relu: bool, seed: u64,
    ) {
        let conv = Conv::new(&noise(outputs * 4 * width, seed), [outputs, 4, 1, width], &noise(outputs, seed ^ 1))
            .with_stride([1, stride])
            .with_dilation([1, dilation]);
        let conv = if relu { conv.with_relu() } else { conv };
        // Mostly bases; now and then nothing, or a quarter of each.
        let column = |&base: &usize| match base {
            38 => [0.25; 4],
            39 => [0.0; 4],
            _ => std::array::from_fn(|letter| if letter == base % 4 { 1.0 } else { 0.0 }),
        };
        let columns: Vec<f32> = bases.iter().flat_map(column).collect();
        let input = Tensor::from_slice(&columns, (1, 1, bases.len(), 4), &Device::Cpu).unwrap();
        let size = [1, bases.len()];
        let image = Image { conv: &conv, size, output: conv.output_size(size).unwrap() };
        let mut products = vec![f32::NAN; image.output[1] * outputs];
        image.multiply(&columns, 0, &mut products);
        let products: Vec<u32> = products.into_iter().map(f32::to_bits).collect();
        prop_assert_eq!(bits(&conv.forward(&input).unwrap()), products);
    }

    #[test]
    fn all_instructions_look_up_and_filter_the_same_bits(
        (outputs, inputs, width) in (8usize..40, 8usize..40, 3usize..6), dilation in 1usize..4,
        count in 1usize..40, relu: bool, seed: u64,
    ) {
        let dilation = if inputs.min(outputs) < 16 { 1 } else { dilation };
        let filters = Winograd::new(&noise(outputs * inputs * width, seed), [outputs, width, inputs], &noise(outputs, 1), Precision::F32);
        let input = noise(count * inputs, seed ^ 1);
        let residual = noise(count * outputs, seed ^ 2);
        let row = Row {
            input: &input, length: count, left: dilation, stride: 1, dilation, count, relu, residual: Some(&residual),
        };
        let codes: Vec<u32> = (0..count + dilation * width).map(|i| ((seed >> (i % 60)) % 5 * 16) as u32).collect();
        let plain = Filters::new(noise(outputs * 4 * width, seed), &noise(outputs, 3), [outputs, 1, width, 4]);
        let job = OneHot {
            codes: &codes, step: 1, dilation, taps: width, weights: plain.columns(),
            bias: plain.packed().bias(), channels: outputs, relu,
        };
        let mut outputs = Instructions::available().into_iter().map(|instructions| {
            let mut output = vec![f32::NAN; 2 * count * outputs];
            let (filtered, looked_up) = output.split_at_mut(count * outputs);
            filters.run(instructions, &row, 0..row.steps(), (filtered, 0), &mut winograd::Scratch::default());
            instructions.look_up(&job, count, looked_up);
            output.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        });
        let portable = outputs.next_back().unwrap();
        for output in outputs {
            prop_assert_eq!(&output, &portable);
        }
    }

    #[test]
    fn all_instructions_compute_the_same_bits(
        taps in 1usize..90, channels in 1usize..70, positions in 1usize..40, step in 1usize..5, relu: bool,
        seed: u64,
    ) {
        let input = noise((positions - 1) * step + taps + 3, seed);
        let filters = Packed::new(&noise(channels * taps, seed ^ 1), taps, &noise(channels, seed ^ 2), true);
        let runs = [Run { offset: 3, length: taps / 2 }, Run { offset: 0, length: taps - taps / 2 }];
        let job = filters.job(&input, step, &runs, relu);
        let mut outputs = Instructions::available().into_iter().map(|instructions| {
            let mut output = vec![f32::NAN; positions * channels];
            instructions.run(&job, positions, &mut output);
            output.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        });
        let portable = outputs.next_back().unwrap();
        for output in outputs {
            prop_assert_eq!(&output, &portable);
        }
    }
}

/// Rounds to the nearest bfloat16.
fn rounded(values: &[f32]) -> Vec<f32> {
    let round = |value: &f32| {
        let bits = value.to_bits();
        f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
    };
    values.iter().map(round).collect()
}

#[test]
fn the_error_of_each_way_in_bfloat16_is_what_the_parity_card_says() {
    for (width, bound) in [(3, 0.009), (11, 0.011)] {
        let normal = |count: usize, seed: u64| -> Vec<f32> {
            noise(12 * count, seed).chunks(12).map(|sum| 0.5 * sum.iter().sum::<f32>()).collect()
        };
        let shape = [64, 64, 1, width];
        let weights = normal(64 * 64 * width, 1);
        let input: Vec<f32> = normal(100 * 64, 2).into_iter().map(|x| x.max(0.0)).collect();
        let conv = Conv::new(&weights, shape, &[0.0; 64]);
        let count = 100 - width + 1;
        let row = Row {
            input: &input,
            length: 100,
            left: 0,
            stride: 1,
            dilation: 1,
            count,
            relu: false,
            residual: None,
        };
        let image = Tensor::from_slice(&input, (1, 1, 100, 64), &Device::Cpu).unwrap();
        let expected = naive(&image, &weights, shape, &[0.0; 64], &conv);
        let error = |output: &[f32]| {
            let square = |x: f64| x * x;
            let of: f64 = expected.iter().copied().map(square).sum();
            let by: f64 = output.iter().zip(&expected).map(|(a, b)| square(f64::from(*a) - b)).sum();
            (by / of).sqrt()
        };
        let mut output = vec![f32::NAN; count * 64];
        conv.filters.rounded().run(Instructions::detect(), &row, 0, &mut output, &mut Vec::new());
        assert!(error(&output) < 0.0026, "width {width}: {}", error(&output));
        let runs = Instructions::available().into_iter().map(|instructions| {
            let mut output = vec![f32::NAN; count * 64];
            let scratch = &mut winograd::Scratch::default();
            let filters = conv.filters.rounded_winograd();
            filters.run(instructions, &row, 0..row.steps(), (&mut output, 0), scratch);
            output
        });
        let runs: Vec<Vec<f32>> = runs.collect();
        assert!(error(&runs[0]) < bound, "width {width}: {}", error(&runs[0]));
        assert!(runs.iter().all(|run| run == &runs[0]));
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let weights = noise(5 * 3 * 2 * 4, 1);
    let conv = Conv::new(&weights, [5, 3, 2, 4], &noise(5, 2))
        .with_stride([1, 2])
        .with_dilation([1, 2])
        .with_padding(Padding { top: 1, left: 3, right: 1, ..Padding::default() });
    check_gradient(&noise_tensor(&[2, 3, 9, 3], 3), |x| conv.forward(x));
    let shifted = conv.with_relu();
    check_gradient(&noise_tensor(&[1, 3, 8, 3], 4), |x| shifted.forward(x));
}

#[test]
fn multipliers_share_out_the_difference_of_a_pair() {
    let conv = Conv::new(&noise(20 * 18 * 5, 1), [20, 18, 1, 5], &noise(20, 2)).with_relu();
    check_completeness(&noise_tensor(&[4, 30, 18], 3), |x| conv.forward_1d(x));
    let linear = Conv::linear(&noise(50 * 31, 1), [50, 31], &noise(50, 2)).with_relu();
    check_completeness(&noise_tensor(&[6, 31], 3), |x| linear.forward_rows(x));
}

#[test]
fn a_linear_layer_gives_a_row_the_same_bits_in_any_batch() {
    let linear = Conv::linear(&noise(50 * 31, 1), [50, 31], &noise(50, 2)).with_relu();
    let input = noise_tensor(&[300, 31], 3);
    let together = bits(&linear.forward_rows(&input).unwrap());
    for row in [0, 7, 250, 299] {
        let alone = bits(&linear.forward_rows(&input.narrow(0, row, 1).unwrap()).unwrap());
        assert_eq!(alone, together[row * 50..][..50]);
    }
}

#[test]
fn a_wrong_input_is_an_error_and_no_panic() {
    let conv = Conv::new(&noise(2 * 3 * 5, 1), [2, 3, 1, 5], &[0.0; 2]);
    let message = |shape: &[usize]| conv.forward_1d(&noise_tensor(shape, 1)).unwrap_err().to_string();
    assert!(message(&[1, 9, 4]).contains("reads 3 channels"));
    assert!(message(&[1, 4, 3]).contains("5 that the kernel spans"));
    let empty = Tensor::zeros((0, 9, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert_eq!(conv.forward_1d(&empty).unwrap().dims(), [0, 5, 2]);
}
