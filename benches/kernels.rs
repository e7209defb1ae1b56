//! Operations per second of processor time of the kernels of transformers, beside what the processor's
//! multipliers can do at all.
//!
//! `cargo bench --bench kernels [word]` prints one line a case whose name has the word. Everything runs on one
//! thread and counts the time that this thread has been on a core, so a busy machine disturbs it little; the
//! best of several rounds stands.

use nyx::kernel::{Activation, Attention, Linear, Norm, Precision, Scratch};

/// Nanoseconds that this thread has been on a core.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells of its threads");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number comes first")
}

/// Says whether a case of this name was asked for.
fn asked(name: &str) -> bool {
    std::env::args().skip(1).all(|word| word.starts_with("--") || name.contains(&word))
}

/// Prints the best rate of a few rounds of some hundredths of a second.
fn time(name: &str, operations: f64, mut call: impl FnMut()) {
    if !asked(name) {
        return;
    }
    let mut round = |calls: usize| {
        let start = processor_time();
        (0..calls).for_each(|_| call());
        processor_time() - start
    };
    round(1);
    let mut calls = 1;
    while round(calls) < 4e7 {
        calls *= 2;
    }
    let best = (0..7).map(|_| round(calls)).fold(f64::INFINITY, f64::min) / calls as f64;
    println!("{name:<44} {:>9.1} GOP per cpu-s {:>10.1} µs", operations / best, best / 1e3);
}

/// Numbers between -1 and 1 that look random.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / f32::from_bits(0x4b00_0000) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(target_arch = "x86_64")]
mod peak {
    //! Multiplications of registers by registers, with nothing to load: no product can be faster.
    use std::arch::x86_64::*;
    use std::hint::black_box;

    const ROUNDS: usize = 100_000;
    const CHAINS: usize = 24;

    macro_rules! peak {
        ($name:ident, $features:literal, $product:expr) => {
            #[target_feature(enable = $features)]
            pub fn $name() {
                let value = black_box(_mm512_set1_epi32(1));
                let mut sums = [_mm512_setzero_si512(); CHAINS];
                for _ in 0..ROUNDS {
                    let mut chain = 0;
                    while chain < CHAINS {
                        sums[chain] = $product(sums[chain], value);
                        chain += 1;
                    }
                }
                black_box(sums);
            }
        };
    }
    peak!(f32, "avx512f", |sum, value| {
        let value = _mm512_castsi512_ps(value);
        _mm512_castps_si512(_mm512_fmadd_ps(value, value, _mm512_castsi512_ps(sum)))
    });
    peak!(bf16, "avx512f,avx512bf16", |sum, value: __m512i| {
        // SAFETY: both types are 512 bits without meaning.
        let value = unsafe { std::mem::transmute::<__m512i, __m512bh>(value) };
        _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sum), value, value))
    });
    peak!(int8, "avx512f,avx512vnni", |sum, value| _mm512_dpbusd_epi32(sum, value, value));

    pub fn print() {
        let operations = |group: usize| (ROUNDS * CHAINS * 16 * group * 2) as f64;
        // SAFETY: each is called only where the processor has what it asks for.
        unsafe {
            if is_x86_feature_detected!("avx512f") {
                super::time("peak f32", operations(1), || f32());
            }
            if is_x86_feature_detected!("avx512bf16") {
                super::time("peak bf16", operations(2), || bf16());
            }
            if is_x86_feature_detected!("avx512vnni") {
                super::time("peak int8", operations(4), || int8());
            }
        }
    }
}

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

fn linear() {
    let tokens = 512;
    for precision in PRECISIONS {
        for (inputs, outputs) in [(768, 768), (768, 2304), (768, 3072), (3072, 768), (1024, 4096)] {
            let name = format!("linear {precision:?} {inputs} to {outputs}");
            if !asked(&name) && !asked(&format!("{name} gelu gated")) {
                continue;
            }
            let weights = noise(inputs * outputs);
            let linear = Linear::new(&weights, [outputs, inputs], Some(&noise(outputs)), precision);
            let (input, mut output) = (noise(tokens * inputs), vec![0.0; tokens * outputs]);
            let operations = (2 * tokens * inputs * outputs) as f64;
            time(&name, operations, || linear.apply(&input, &mut output));
            if outputs == 3072 {
                let gelu = linear.clone().with_activation(Activation::Gelu);
                time(&format!("{name} gelu"), operations, || gelu.apply(&input, &mut output));
                let shape = [outputs / 2, inputs];
                let gated = Linear::gated(&weights, shape, None, Activation::Gelu, precision);
                let half = &mut output[..tokens * outputs / 2];
                time(&format!("{name} gated"), operations, || gated.apply(&input, half));
            }
        }
    }
}

fn attention() {
    for precision in [Precision::F32, Precision::Bf16] {
        for length in [32, 128, 512, 2048] {
            let attention = Attention { precision, ..Attention::new(12, 64) };
            let qkv = noise(length * attention.inputs());
            let mut context = vec![0.0; length * attention.outputs()];
            let mut scratch = Scratch::default();
            let operations = (4 * length * length * attention.outputs()) as f64;
            time(&format!("attention {precision:?} 12 heads, {length} tokens"), operations, || {
                attention.apply(&qkv, length, &mut context, &mut scratch, None);
            });
        }
    }
}

fn pointwise() {
    let (tokens, width) = (512, 768);
    let norm = Norm::layer(&noise(width), Some(&noise(width)), 1e-12);
    let mut values = noise(tokens * width);
    time("layer norm (numbers)", values.len() as f64, || norm.apply(&mut values));
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Tanh] {
        let (input, mut values) = (noise(4096), vec![0.0; 4096]);
        time(&format!("{activation:?} (numbers)"), 4096.0, || {
            values.copy_from_slice(&input);
            activation.apply(&mut values);
        });
    }
}

/// A layer of BERT-base over 4 sequences of 128 tokens, as a model would call it.
fn layer() {
    for precision in PRECISIONS {
        let name = format!("layer of BERT-base {precision:?}, 4 x 128 tokens");
        if !asked(&name) {
            continue;
        }
        let (hidden, inner, length, sequences) = (768, 3072, 128, 4);
        let tokens = length * sequences;
        let linear = |inputs: usize, outputs: usize| {
            let weights: Vec<f32> = noise(inputs * outputs).iter().map(|x| x * 0.05).collect();
            Linear::new(&weights, [outputs, inputs], Some(&noise(outputs)), precision)
        };
        let (queries, dense) = (linear(hidden, 3 * hidden), linear(hidden, hidden));
        let (up, down) = (linear(hidden, inner).with_activation(Activation::Gelu), linear(inner, hidden));
        let norm = Norm::layer(&noise(hidden), Some(&noise(hidden)), 1e-12);
        let attention = Attention { precision, ..Attention::new(12, 64) };
        let mut scratch = Scratch::default();
        let mut x = noise(tokens * hidden);
        let mut qkv = vec![0.0; tokens * 3 * hidden];
        let mut context = vec![0.0; tokens * hidden];
        let mut between = vec![0.0; tokens * inner];
        let products = 2 * tokens * (4 * hidden * hidden + 2 * hidden * inner);
        let operations = products + 4 * sequences * length * length * hidden;
        time(&name, operations as f64, || {
            queries.apply(&x, &mut qkv);
            for (qkv, context) in qkv.chunks(length * 3 * hidden).zip(context.chunks_mut(length * hidden)) {
                attention.apply(qkv, length, context, &mut scratch, None);
            }
            dense.add(&context, &mut x);
            norm.apply(&mut x);
            up.apply(&x, &mut between);
            down.add(&between, &mut x);
            norm.apply(&mut x);
        });
    }
}

/// The linear layers of six feed-forward blocks, more weights than caches hold, by the tokens of a pack.
fn packs() {
    for precision in PRECISIONS {
        let name = |tokens: usize| format!("six blocks {precision:?}, packs of {tokens} tokens");
        let sizes = [16, 32, 64, 128, 256, 512, 1024];
        if !sizes.iter().any(|&tokens| asked(&name(tokens))) {
            continue;
        }
        let linear = |inputs, outputs| {
            let weights: Vec<f32> = noise(inputs * outputs).iter().map(|x| x * 0.05).collect();
            Linear::new(&weights, [outputs, inputs], None, precision)
        };
        let blocks: Vec<[Linear; 2]> = (0..6).map(|_| [linear(768, 3072), linear(3072, 768)]).collect();
        for tokens in sizes {
            let input = noise(tokens * 768);
            let (mut x, mut between) = (input.clone(), vec![0.0; tokens * 3072]);
            time(&name(tokens), (24 * tokens * 768 * 3072) as f64, || {
                x.copy_from_slice(&input);
                for [up, down] in &blocks {
                    up.apply(&x, &mut between);
                    down.apply(&between, &mut x);
                }
            });
        }
    }
}

fn main() {
    #[cfg(target_arch = "x86_64")]
    peak::print();
    linear();
    attention();
    pointwise();
    layer();
    packs();
}
