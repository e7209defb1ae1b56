use proptest::prelude::*;

use super::super::testing::*;
use super::*;

/// The probabilities and the context in 64 bits, straight from the definition.
fn naive(attention: &Attention, frequencies: &[f32], qkv: &[f32], length: usize) -> [Vec<f64>; 2] {
    let Attention { heads, key_value_heads, width, .. } = *attention;
    let channels = |token: usize, head: usize| -> Vec<f64> {
        qkv[token * attention.inputs() + head * width..][..width].iter().map(|x| f64::from(*x)).collect()
    };
    let turned = |token: usize, head: usize| -> Vec<f64> {
        let x = channels(token, head);
        let mut turned = x.clone();
        let pairs = frequencies.len();
        for (i, frequency) in frequencies.iter().enumerate() {
            let (sine, cosine) = f64::from(token as f32 * frequency).sin_cos();
            turned[i] = x[i] * cosine - x[i + pairs] * sine;
            turned[i + pairs] = x[i + pairs] * cosine + x[i] * sine;
        }
        turned
    };
    let mut probabilities = vec![0.0; heads * length * length];
    let mut context = vec![0.0; length * heads * width];
    for head in 0..heads {
        let shared = heads + head * key_value_heads / heads;
        for i in 0..length {
            let query = turned(i, head);
            let score = |j: usize| -> f64 {
                if attention.causal && j > i || attention.window.is_some_and(|window| i.abs_diff(j) > window)
                {
                    return f64::NEG_INFINITY;
                }
                let dot: f64 = query.iter().zip(turned(j, shared)).map(|(q, k)| q * k).sum();
                let slope = attention.slopes.as_ref().map_or(0.0, |slopes| f64::from(slopes[head]));
                dot * f64::from(attention.scale) - slope * i.abs_diff(j) as f64
            };
            let scores: Vec<f64> = (0..length).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            for (j, score) in scores.iter().enumerate() {
                let probability = (score - largest).exp() / sum;
                probabilities[(head * length + i) * length + j] = probability;
                for (channel, value) in channels(j, shared + key_value_heads).iter().enumerate() {
                    context[(i * heads + head) * width + channel] += probability * value;
                }
            }
        }
    }
    [probabilities, context]
}

fn run(attention: &Attention, instructions: Instructions, qkv: &[f32], length: usize) -> [Vec<f32>; 2] {
    let mut context = vec![f32::NAN; length * attention.outputs()];
    let mut probabilities = vec![f32::NAN; attention.heads * length * length];
    let mut scratch = Scratch::default();
    attention.apply_with(instructions, qkv, length, &mut context, &mut scratch, Some(&mut probabilities));
    [probabilities, context]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn attention_is_its_definition_and_all_instructions_give_the_same_bits(
        length in 1usize..75, shared in 1usize..3, group in 1usize..3, width in 1usize..41,
        alibi: bool, causal: bool, window in proptest::option::of(0usize..50), rotary: bool, seed: u64,
    ) {
        let heads = shared * group;
        let pairs = if rotary { width / 2 } else { 0 };
        let frequencies: Vec<f32> = (0..pairs).map(|i| 0.5f32.powi(i as i32)).collect();
        let attention = Attention {
            key_value_heads: shared,
            slopes: alibi.then(|| alibi_slopes(heads)),
            causal,
            window,
            rotary: (pairs > 0).then(|| Rotary::new(&frequencies, length)),
            ..Attention::new(heads, width)
        };
        let qkv: Vec<f32> = noise(length * attention.inputs(), seed).iter().map(|x| 3.0 * x).collect();
        let [probabilities, context] = naive(&attention, &frequencies, &qkv, length);
        for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 0.15)] {
            let attention = Attention { precision, ..attention.clone() };
            let mut found =
                Instructions::available().into_iter().map(|set| run(&attention, set, &qkv, length));
            let widest = found.next().unwrap();
            for (found, expected) in widest.iter().zip([&probabilities, &context]) {
                let error = largest_difference(found, expected);
                prop_assert!(error < tolerance, "{precision:?}: {error}");
            }
            for other in found {
                for (other, widest) in other.iter().zip(&widest) {
                    prop_assert_eq!(bits_of(other), bits_of(widest));
                }
            }
        }
    }
}

#[test]
fn asking_for_probabilities_does_not_change_the_context() {
    let attention = Attention { slopes: Some(alibi_slopes(3)), ..Attention::new(3, 64) };
    let qkv = noise(50 * attention.inputs(), 1);
    let mut context = vec![f32::NAN; 50 * attention.outputs()];
    // A scratch that has seen a longer sequence with numbers that are none.
    let mut scratch = Scratch::default();
    let spoiled = vec![f32::NAN; 90 * attention.inputs()];
    attention.apply(&spoiled, 90, &mut vec![0.0; 90 * attention.outputs()], &mut scratch, None);
    attention.apply(&qkv, 50, &mut context, &mut scratch, None);
    let [_, with] = run(&attention, Instructions::detect(), &qkv, 50);
    assert_eq!(bits_of(&context), bits_of(&with));
}

#[test]
fn scores_that_differ_by_thousands_leave_one_key() {
    let attention = Attention { scale: 1.0, ..Attention::new(1, 2) };
    let qkv = [1e4, 0.0, 1.0, 0.0, 1.0, 2.0, 1e4, 0.0, -1.0, 0.0, 3.0, 4.0];
    let [probabilities, context] = run(&attention, Instructions::detect(), &qkv, 2);
    assert_eq!(probabilities, [1.0, 0.0, 1.0, 0.0]);
    assert_eq!(context, [1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn slopes_are_those_of_the_paper() {
    let expected: Vec<f32> =
        (1..=8).map(|i| -f32::from(i as u8)).chain([-0.5, -1.5, -2.5, -3.5]).map(f32::exp2).collect();
    let slopes = alibi_slopes(12);
    assert!(slopes.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-7), "{slopes:?}");
    assert_eq!(alibi_slopes(8), expected[..8]);
}
