//! Language models on the first GPU: the ceiling of cuBLASLt, and windows per second of a DNABERT-6 at 201 bp (198
//! tokens) with random weights in bfloat16. Its peer is `benches/gpu.py`; both are run by
//! `scripts/gpu_check_models.sh`.
#![allow(unsafe_code)]
// A list of one range is one, and no list of its numbers.
#![allow(clippy::single_range_in_vec_init)]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use nyx::Result;
use nyx::device::backend::{Backend, Number, Product, Queue};
use nyx::device::cuda::Cuda;
use nyx::kernel::Activation;
use nyx::model::transformer::gpu::{GpuEncoder, Limits};
use nyx::model::transformer::{
    Attending, Embeddings, Layer, Matrix, NormKind, NormPlace, Scale, Sequence, Spec, Tensors,
};

const HIDDEN: usize = 768;
const INNER: usize = 3072;
const LAYERS: usize = 12;
const VOCABULARY: usize = 4101;
const TOKENS: usize = 198;
const WINDOWS: usize = 20_000;
/// Rows, inputs and outputs of the products whose speed is the ceiling.
const CEILING: usize = 8192;

/// Random weights of a small size.
struct Random;

fn random(seed: usize, count: usize, centre: f32, spread: f32) -> Cow<'static, [f32]> {
    let mut state = seed as u64 + 1;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * spread + centre
    };
    (0..count).map(|_| number()).collect::<Vec<_>>().into()
}

fn matrix(seed: usize, shape: [usize; 2]) -> Matrix<'static> {
    Matrix {
        values: random(seed, shape[0] * shape[1], 0.0, 0.03),
        shape,
        bias: Some(random(seed, shape[0], 0.0, 0.1)),
    }
}

fn norm(seed: usize) -> Scale<'static> {
    Scale { weights: random(seed, HIDDEN, 1.0, 0.1), bias: Some(random(seed + 1, HIDDEN, 0.0, 0.1)) }
}

impl Tensors for Random {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        Ok(Embeddings {
            words: random(1, VOCABULARY * HIDDEN, 0.0, 0.05),
            constant: None,
            positions: Some(random(2, 512 * HIDDEN, 0.0, 0.05)),
            norm: Some(norm(3)),
        })
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let seed = 10 * (index + 1);
        Ok(Layer {
            projection: matrix(seed, [3 * HIDDEN, HIDDEN]),
            head_norms: None,
            output: matrix(seed + 1, [HIDDEN, HIDDEN]),
            attention_norm: Some(norm(seed + 2)),
            up: matrix(seed + 4, [INNER, HIDDEN]),
            down: matrix(seed + 5, [HIDDEN, INNER]),
            feed_forward_norm: norm(seed + 6),
        })
    }

    fn last_norm(&self) -> Result<Option<Scale<'_>>> {
        Ok(None)
    }
}

fn main() -> Result<()> {
    let cuda = Cuda::open(0)?;
    println!("{}; cuBLASLt {}", cuda.describe()?, nyx::device::cuda::cublaslt_version()?);
    let backend = Arc::new(cuda.backend()?);
    let ceiling = ceiling(&*backend)?;
    println!("bf16 products of {CEILING} by {CEILING} by {CEILING}: {:.0} TFLOP/s", ceiling / 1e12);
    let spec = Spec {
        vocabulary: VOCABULARY,
        positions: Some(512),
        hidden: HIDDEN,
        heads: 12,
        key_value_heads: 12,
        head_norms: false,
        width: 64,
        intermediate: INNER,
        activation: Activation::Gelu,
        gated: false,
        norm: NormKind::Layer,
        epsilon: 1e-12,
        place: NormPlace::After,
        layers: vec![Attending::default(); LAYERS],
    };
    let encoder = GpuEncoder::new(backend, spec, &Random, Number::Bf16, Limits::default())?;
    let tokens: Vec<u32> = (0..TOKENS as u32).map(|place| place * 7919 % VOCABULARY as u32).collect();
    let sequences = vec![Sequence::of(&tokens); WINDOWS];
    let ranges = vec![vec![0..1]; WINDOWS];
    encoder.run(&sequences, &ranges)?;
    let start = Instant::now();
    encoder.run(&sequences, &ranges)?;
    let rate = WINDOWS as f64 / start.elapsed().as_secs_f64();
    let operations = 2 * LAYERS * TOKENS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER + 2 * TOKENS * HIDDEN);
    let utilization = rate * operations as f64 / ceiling;
    println!(
        "DNABERT-6, {TOKENS} tokens, bf16: {rate:.0} windows a second, {:.0} % of the ceiling",
        100.0 * utilization
    );
    Ok(())
}

/// Returns the operations a second of a large product.
fn ceiling(backend: &dyn Backend) -> Result<f64> {
    let square = || backend.upload(&Number::Bf16.round(&random(1, CEILING * CEILING, 0.0, 1.0)));
    let (input, weights, output) = (square()?, square()?, square()?);
    let product = Product {
        number: Number::Bf16,
        rows: CEILING,
        inputs: CEILING,
        outputs: CEILING,
        input: input.address(),
        weights: weights.address(),
        bias: None,
        residual: None,
        output: output.address(),
        gelu_tanh: false,
    };
    let run = |times: usize| -> Result<()> {
        for _ in 0..times {
            // SAFETY: all arrays are squares of this size, and live until the queue has been waited for.
            unsafe { backend.multiply(&product) }?;
        }
        backend.reach(&backend.record(Queue::Compute)?)
    };
    run(10)?;
    let (times, start) = (100, Instant::now());
    run(times)?;
    Ok((2 * times * CEILING.pow(3)) as f64 / start.elapsed().as_secs_f64())
}
