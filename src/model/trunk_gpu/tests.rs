//! The path of a GPU, run on the processor, against the layers of the processor.

use super::*;
use crate::device::cuda::Cuda;
use crate::device::host::Host;
use crate::kernel::pointwise::Affine;
use crate::kernel::testing::{flat, noise, noise_tensor};
use crate::kernel::{Conv, Layer as Step, Padding};

fn conv([outputs, inputs, taps]: [usize; 3], seed: u64) -> Conv {
    let weights = noise(outputs * inputs * taps, seed);
    let scale = 1.5 / ((inputs * taps) as f32).sqrt();
    let weights: Vec<f32> = weights.into_iter().map(|weight| weight * scale).collect();
    Conv::new(&weights, [outputs, inputs, 1, taps], &noise(outputs, seed + 1))
}

/// BPNet in small: a stem, residual layers of growing dilation, a cut.
fn dilated() -> Stack {
    let around = |conv: Conv, amount| conv.with_padding(Padding::width(amount)).with_relu();
    Stack::new(vec![
        Step::Conv(around(conv([18, 4, 7], 1), 3)),
        Step::Residual(around(conv([18, 18, 3], 3).with_dilation([1, 2]), 2)),
        Step::Residual(around(conv([18, 18, 3], 5).with_dilation([1, 4]), 4)),
        Step::Crop { start: 5, count: 61 },
    ])
}

/// Layers of all other kinds: strides, more filters than a block has, norms, windows that overlap.
fn mixed() -> Stack {
    let right = Padding { left: 1, right: 4, ..Padding::default() };
    Stack::new(vec![
        Step::Conv(conv([70, 4, 11], 7).with_relu()),
        Step::Norm(Affine::new(noise(70, 9), noise(70, 10))),
        Step::Relu,
        Step::MaxPool { size: 4, stride: 3 },
        Step::Conv(conv([33, 70, 5], 11).with_stride([1, 2]).with_padding(right)),
        Step::Residual(conv([33, 33, 1], 13)),
    ])
}

/// Runs rows through few at a time.
fn gpu(backend: Arc<dyn Backend>, stack: &Stack, number: Number) -> GpuTrunk {
    let mut trunk = GpuTrunk::new(backend, stack, number).unwrap();
    trunk.arena = 30_000;
    trunk
}

fn largest_difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let pairs = flat(found).into_iter().zip(flat(expected));
    pairs.map(|(a, b)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY }).fold(0.0, f32::max)
}

/// Checks both stacks, whose outputs are about as large as 1, in parts of a few rows.
fn check(backend: Arc<dyn Backend>, number: Number, tolerance: f32) {
    for stack in [dilated(), mixed()] {
        let input = noise_tensor(&[5, 75, 4], 21);
        let expected = stack.forward(&input).unwrap();
        let trunk = gpu(backend.clone(), &stack, number);
        let found = trunk.forward(&input).unwrap();
        let difference = largest_difference(&found, &expected);
        assert!(difference < tolerance, "{number:?}: {difference}");
        // A row alone, and among others in another part, has the same bits.
        let alone = trunk.forward(&input.narrow(0, 3, 1).unwrap()).unwrap();
        assert_eq!(flat(&alone), flat(&found.narrow(0, 3, 1).unwrap()), "{number:?}");
    }
}

#[test]
fn the_path_of_a_gpu_computes_what_the_processor_does_whatever_the_parts() {
    let Some(host) = Host::convolution() else { return };
    check(host.clone(), Number::F32, 2e-6);
    check(host.clone(), Number::Bf16, 0.06);
    check(host.clone(), Number::F16, 0.008);
    assert!(host.launches() > 100);
}

#[test]
fn rows_of_other_lengths_follow_and_what_does_not_fit_is_an_error_after_which_it_goes_on() {
    let Some(host) = Host::convolution() else { return };
    let stack = dilated();
    let trunk = gpu(host, &stack, Number::F32);
    for (rows, length) in [(2, 75), (0, 75), (1, 90), (3, 66)] {
        let input = noise_tensor(&[rows, length, 4], 5);
        assert!(largest_difference(&trunk.forward(&input).unwrap(), &stack.forward(&input).unwrap()) < 2e-6);
    }
    let message = trunk.forward(&noise_tensor(&[1, 65, 4], 5)).unwrap_err().to_string();
    assert!(message.contains("65 positions are fewer than the 61 from 5"), "{message}");
    let input = noise_tensor(&[1, 75, 4], 6);
    assert!(largest_difference(&trunk.forward(&input).unwrap(), &stack.forward(&input).unwrap()) < 2e-6);
}

#[test]
fn images_are_refused() {
    let Some(host) = Host::convolution() else { return };
    let image = Conv::new(&noise(36, 1), [1, 4, 3, 3], &[0.0]);
    let error = GpuTrunk::new(host, &Stack::new(vec![Step::Conv(image)]), Number::F32).err().unwrap();
    assert!(error.to_string().contains("--device cpu"), "{error}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn trunks_on_a_gpu_compute_what_the_processor_does() {
    let backend = Arc::new(Cuda::open(0).unwrap().backend().unwrap());
    check(backend.clone(), Number::F32, 2e-5);
    check(backend.clone(), Number::Bf16, 0.06);
    check(backend, Number::F16, 0.008);
}
