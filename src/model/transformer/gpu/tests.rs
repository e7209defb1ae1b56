//! The path of a GPU, run on the processor, against the encoder of the processor.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::device::cuda::Cuda;
use crate::device::host::Host;
use crate::error::Result;
use crate::kernel::{Activation, Precision};
use crate::model::transformer::{
    Attending, Embeddings, Encoder, Layer, Matrix, NormPlace, Scale, Scratch, Sequence,
};

/// Tensors of numbers that look like those of a trained model.
struct Noise<'a>(&'a Spec);

impl Noise<'_> {
    fn uniform(&self, seed: usize, count: usize, centre: f32, spread: f32) -> Cow<'static, [f32]> {
        let number = |i: usize| {
            let z = ((seed * 1_000_003 + i) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z >> 40) as f32 / (1 << 23) as f32 - 1.0) * spread + centre
        };
        (0..count).map(number).collect::<Vec<_>>().into()
    }

    fn matrix(&self, seed: usize, shape: [usize; 2], bias: bool) -> Matrix<'static> {
        let values = self.uniform(seed, shape[0] * shape[1], 0.0, 1.7 / (shape[1] as f32).sqrt());
        Matrix { values, shape, bias: bias.then(|| self.uniform(seed + 1, shape[0], 0.0, 0.3)) }
    }

    fn norm(&self, seed: usize) -> Scale<'static> {
        let weights = self.uniform(seed, self.0.hidden, 1.0, 0.3);
        Scale { weights, bias: Some(self.uniform(seed + 1, self.0.hidden, 0.0, 0.3)) }
    }
}

impl Tensors for Noise<'_> {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        let Spec { vocabulary, hidden, place, .. } = *self.0;
        let after = place == NormPlace::After;
        let absolute = self.0.layers.iter().all(|layer| !layer.alibi && layer.rotary.is_none());
        Ok(Embeddings {
            words: self.uniform(1, vocabulary * hidden, 0.0, 1.0),
            constant: after.then(|| self.uniform(2, hidden, 0.0, 0.5)),
            positions: absolute.then(|| self.uniform(3, 200 * hidden, 0.0, 0.5)),
            norm: after.then(|| self.norm(4)),
        })
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let (spec, seed) = (self.0, 100 * (index + 1));
        let up = if spec.gated { 2 * spec.intermediate } else { spec.intermediate };
        Ok(Layer {
            projection: self.matrix(seed, [spec.projected(), spec.hidden], true),
            output: self.matrix(seed + 10, [spec.hidden, spec.heads * spec.width], true),
            head_norms: None,
            attention_norm: Some(self.norm(seed + 20)),
            up: self.matrix(seed + 30, [up, spec.hidden], !spec.gated),
            down: self.matrix(seed + 40, [spec.hidden, spec.intermediate], true),
            feed_forward_norm: self.norm(seed + 50),
        })
    }

    fn last_norm(&self) -> Result<Option<Scale<'_>>> {
        Ok((self.0.place == NormPlace::Before).then(|| self.norm(9)))
    }
}

/// DNABERT, DNABERT-2 and Nucleotide Transformer v1 and v2 in small, with so many heads of such a width.
fn specs(heads: usize, width: usize) -> [Spec; 4] {
    let bert = Spec {
        vocabulary: 50,
        positions: Some(200),
        hidden: heads * width,
        heads,
        key_value_heads: heads,
        width,
        intermediate: 48,
        activation: Activation::Gelu,
        gated: false,
        norm: NormKind::Layer,
        epsilon: 1e-12,
        place: NormPlace::After,
        head_norms: false,
        layers: vec![Attending::default(); 2],
    };
    let alibi = Attending { alibi: true, ..Attending::default() };
    let rotary = Attending { rotary: Some(10_000.0), ..Attending::default() };
    let mosaic = Spec { gated: true, layers: vec![alibi; 2], ..bert.clone() };
    let v1 = Spec { place: NormPlace::Before, activation: Activation::GeluTanh, ..bert.clone() };
    let v2 = Spec { gated: true, activation: Activation::Silu, layers: vec![rotary; 2], ..v1.clone() };
    [bert, mosaic, v1, v2]
}

fn tokens(lengths: &[usize]) -> Vec<Vec<u32>> {
    let token = |sequence: usize, place: usize| ((sequence * 31 + place * place * 7 + place) % 50) as u32;
    let sequence = |(index, &length): (usize, &usize)| (0..length).map(|place| token(index, place)).collect();
    lengths.iter().enumerate().map(sequence).collect()
}

/// The last hidden states of the processor.
fn expected(spec: &Spec, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let encoder = Encoder::new(spec.clone(), &Noise(spec), Precision::F32).unwrap();
    let run = |sequence: &Sequence| {
        encoder.run(std::slice::from_ref(sequence), None, &mut (), &mut Scratch::default()).to_vec()
    };
    sequences.iter().map(run).collect()
}

fn gpu(backend: Arc<dyn Backend>, spec: &Spec, number: Number, tokens: usize) -> GpuEncoder {
    let limits = Limits { tokens, vectors: tokens };
    GpuEncoder::new(backend, spec.clone(), &Noise(spec), number, limits).unwrap()
}

/// Ranges of one token each.
fn every_token(sequences: &[Sequence]) -> Vec<Vec<Range<usize>>> {
    sequences
        .iter()
        .map(|sequence| (0..sequence.tokens.len()).map(|place| place..place + 1).collect())
        .collect()
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.iter().map(Vec::len).collect::<Vec<_>>(), b.iter().map(Vec::len).collect::<Vec<_>>());
    a.concat()
        .iter()
        .zip(b.concat())
        .map(|(a, b)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY })
        .fold(0.0, f32::max)
}

/// Checks all four kinds; the states are about as large as 1.
fn check_parity(backend: Arc<dyn Backend>, heads: usize, width: usize, number: Number, tolerance: f32) {
    let tokens = tokens(&[70, 1, 17]);
    let mut sequences: Vec<Sequence> = tokens.iter().map(|tokens| Sequence::of(tokens)).collect();
    sequences[2].masked = Some((3, 49));
    for (kind, spec) in specs(heads, width).iter().enumerate() {
        let encoder = gpu(backend.clone(), spec, number, 80);
        let states = encoder.run(&sequences, &every_token(&sequences)).unwrap();
        let difference = largest_difference(&states, &expected(spec, &sequences));
        println!("kind {kind}, heads of {width}, {number:?}: {difference:.1e}");
        assert!(difference < tolerance, "kind {kind}, heads of {width}, {number:?}: {difference}");
    }
}

#[test]
fn in_32_bits_all_kinds_agree_with_the_processor() {
    let Some(host) = Host::transformer() else { return };
    check_parity(host, 3, 16, Number::F32, 2e-5);
}

#[test]
fn in_16_bits_all_kinds_agree_with_the_processor_as_far_as_rounding_lets_them() {
    let Some(host) = Host::transformer() else { return };
    check_parity(host.clone(), 3, 16, Number::Bf16, 0.08);
    check_parity(host, 1, 64, Number::F16, 0.01);
}

#[test]
fn wide_heads_use_their_own_kernels() {
    let Some(host) = Host::transformer() else { return };
    check_parity(host.clone(), 1, 80, Number::F16, 0.01);
    check_parity(host, 1, 128, Number::Bf16, 0.08);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn on_a_gpu_all_kinds_agree_with_the_processor() {
    let backend = Arc::new(Cuda::open(0).unwrap().backend().unwrap());
    for (heads, width) in [(3, 16), (4, 32), (12, 64), (2, 80), (5, 128)] {
        for (number, tolerance) in [(Number::F32, 5e-5), (Number::F16, 0.02), (Number::Bf16, 0.15)] {
            check_parity(backend.clone(), heads, width, number, tolerance);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn on_a_gpu_a_sequence_has_the_same_bits_in_any_pack() {
    check_packs(Arc::new(Cuda::open(0).unwrap().backend().unwrap()), 12, 64);
}

#[test]
fn a_sequence_has_the_same_bits_in_any_pack() {
    let Some(host) = Host::transformer() else { return };
    check_packs(host, 2, 16);
}

fn check_packs(backend: Arc<dyn Backend>, heads: usize, width: usize) {
    let tokens = tokens(&[40, 66, 5, 64, 1, 80, 33]);
    let sequences: Vec<Sequence> = tokens.iter().map(|tokens| Sequence::of(tokens)).collect();
    let [_, spec, ..] = specs(heads, width);
    let ranges = every_token(&sequences);
    let run =
        |limit: usize| gpu(backend.clone(), &spec, Number::Bf16, limit).run(&sequences, &ranges).unwrap();
    let together = run(512);
    assert_eq!(run(80), together, "several packs, two of them under way at a time");
    let encoder = gpu(backend.clone(), &spec, Number::Bf16, 512);
    for (index, sequence) in sequences.iter().enumerate().rev() {
        assert_eq!(encoder.run(&[*sequence], &ranges[index..=index]).unwrap()[0], together[index], "alone");
    }
}

#[test]
fn vectors_are_means_over_ranges() {
    let Some(host) = Host::transformer() else { return };
    let tokens = tokens(&[9, 20]);
    let sequences: Vec<Sequence> = tokens.iter().map(|tokens| Sequence::of(tokens)).collect();
    let [spec, ..] = specs(2, 16);
    let encoder = gpu(host, &spec, Number::F32, 64);
    let vectors = encoder.run(&sequences, &[vec![0..1, 1..8], vec![]]).unwrap();
    assert!(vectors[1].is_empty());
    let states = &expected(&spec, &sequences)[0];
    let mean = |range: Range<usize>| -> Vec<f32> {
        let column = |column: usize| {
            let sum: f32 = range.clone().map(|row| states[row * spec.hidden + column]).sum();
            sum / range.len() as f32
        };
        (0..spec.hidden).map(column).collect()
    };
    let expected = [mean(0..1), mean(1..8)].concat();
    assert!(largest_difference(&vectors[..1], &[expected]) < 2e-5);
}

#[test]
fn what_the_kernels_cannot_do_is_refused_with_a_remedy() {
    let Some(host) = Host::transformer() else { return };
    let [bert, ..] = specs(2, 16);
    let causal = Attending { causal: true, ..Attending::default() };
    let others = [
        Spec { norm: NormKind::RootMeanSquare, ..bert.clone() },
        Spec { key_value_heads: 1, ..bert.clone() },
        Spec { layers: vec![causal], ..bert.clone() },
        Spec { width: 136, ..bert.clone() },
    ];
    for spec in others {
        let made =
            GpuEncoder::new(host.clone(), spec.clone(), &Noise(&spec), Number::Bf16, Limits::default());
        let error = made.err().expect("there are no such kernels").to_string();
        assert!(error.contains("--device cpu"), "{error}");
    }
    let encoder = gpu(host, &bert, Number::Bf16, 256);
    let beyond = [50];
    assert!(
        encoder.run(&[Sequence::of(&beyond)], &[vec![0..1]]).unwrap_err().to_string().contains("vocabulary")
    );
    let long = vec![0; 201];
    assert!(
        encoder.run(&[Sequence::of(&long)], &[vec![0..1]]).unwrap_err().to_string().contains("positions")
    );
}
