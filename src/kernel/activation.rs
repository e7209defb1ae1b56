//! Functions of single numbers between matrix products: GELU, SiLU, tanh, and the exponential under them.
//!
//! Each is one formula without branches, so that loops over it become vectors, and is the same chain of
//! correctly rounded operations on every processor. The constants are our own minimax fits; errors are stated
//! in units in the last place (ulp) of the exact result and tested.

use super::Instructions;
use super::instructions::vectorize;

/// What follows a linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// max(x, 0).
    Relu,
    /// x·Φ(x), where Φ is the normal distribution: the exact form.
    Gelu,
    /// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).
    GeluTanh,
    /// x/(1 + e⁻ˣ).
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Applies the function to every number.
    pub fn apply(self, values: &mut [f32]) {
        apply(Instructions::detect(), self, values);
    }

    /// Applies the function; for use inside of loops that are compiled for a set of instructions.
    #[inline(always)]
    pub(super) fn map(self, values: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Relu => values.iter_mut().for_each(|x| *x = relu(*x)),
            Self::Gelu => values.iter_mut().for_each(|x| *x = gelu(*x)),
            Self::GeluTanh => values.iter_mut().for_each(|x| *x = gelu_tanh(*x)),
            Self::Silu => values.iter_mut().for_each(|x| *x = silu(*x)),
            Self::Tanh => values.iter_mut().for_each(|x| *x = tanh(*x)),
        }
    }
}

vectorize!(fn apply(activation: Activation, values: &mut [f32]) = map);

#[inline(always)]
fn map(activation: Activation, values: &mut [f32]) {
    activation.map(values);
}

/// Returns c₀ + c₁x + c₂x² + …
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut term = N - 1;
    while term > 0 {
        term -= 1;
        sum = sum.mul_add(x, coefficients[term]);
    }
    sum
}

/// Returns eˣ for x ≤ 0, within 1 ulp; results below 2⁻¹²⁶ are zero. Greater x are right up to 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // 1.5·2²³: what is added to it becomes an integer in its low bits.
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts, so that n·ln 2 is exact enough to be taken away.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const P: [f32; 5] = [0.499_999_94, 0.166_665_15, 0.041_668_456, 0.008_369_423, 0.001_381_315_9];
    // Written so that NaN passes.
    let x = if x < -88.0 { -88.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let fraction = (r * r).mul_add(polynomial(P, r), r) + 1.0;
    // n is in -127..=127: for -127 the factor is zero.
    fraction * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

#[inline(always)]
pub(super) fn relu(x: f32) -> f32 {
    // Written so that NaN passes, as it does in PyTorch.
    if x < 0.0 { 0.0 } else { x }
}

/// Returns x·Φ(x) within 6 ulp, in the tail, too, where ½·x·(1 + erf) cancels; below x = -13.2 within 1e-36.
///
/// With t = |x|: x·Φ(x) = max(x, 0) - t·Φ(-t), and Φ(-t) = e^(-t²/2)·P(1/(1 + 0.26·t)), the form of
/// Hastings (Abramowitz and Stegun 7.1.26) with nine terms.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    const P: [f32; 9] = [
        0.103_761_25,
        0.102_980_375,
        0.103_284_31,
        0.050_051_127,
        0.163_210_97,
        -0.154_193_11,
        0.254_306_5,
        -0.154_183_92,
        0.030_782_5,
    ];
    // Beyond 16 the tail is zero in f32, and an infinite t would make NaN.
    let t = if x.abs() > 16.0 { 16.0 } else { x.abs() };
    let square = t * t;
    // What rounding took from the square is a factor of the result.
    let lost = t.mul_add(t, -square);
    let y = 1.0 / t.mul_add(0.26, 1.0);
    let density = exp(-0.5 * square);
    let density = density.mul_add(-0.5 * lost, density);
    density.mul_add(-t * (y * polynomial(P, y)), relu(x))
}

/// Returns x/(1 + e⁻ˣ) within 3 ulp.
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    sigmoid_times(x, x)
}

/// Returns x/(1 + e⁻ᵍ).
#[inline(always)]
fn sigmoid_times(x: f32, gate: f32) -> f32 {
    let e = exp(-gate.abs());
    let part = if gate < 0.0 { e } else { 1.0 };
    // Where e vanished, so does the product, however large x is.
    let x = if part == 0.0 { 0.0 } else { x };
    x * part / (1.0 + e)
}

/// Returns the tanh form of GELU, within 2.5e-7·|x|.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    // ½·(1 + tanh z) = 1/(1 + e^(-2z)).
    const LINEAR: f32 = 1.595_769_1;
    const CUBIC: f32 = 0.071_354_814;
    sigmoid_times(x, x * (x * x).mul_add(CUBIC, LINEAR))
}

/// Returns the hyperbolic tangent within 3 ulp.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    const P: [f32; 5] = [-0.333_332_8, 0.133_314_42, -0.053_739_697, 0.020_639_02, -0.005_704_909];
    let t = x.abs();
    let square = x * x;
    let near = (t * square).mul_add(polynomial(P, square), t);
    let e = exp(-2.0 * t);
    let far = (1.0 - e) / (1.0 + e);
    (if t < 0.625 { near } else { far }).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all sizes and both signs.
    fn arguments() -> impl Iterator<Item = f32> {
        let fine = (-20_000..20_000).map(|i| i as f32 * 1e-3);
        let sizes = (-120..=20).flat_map(|i| {
            let size = (f64::from(i) * 0.5).exp() as f32;
            [size, -size, 1.37 * size, -1.37 * size]
        });
        fine.chain(sizes)
    }

    /// Checks the error in units of the last place of the exact result; below the smallest normal number there
    /// are no more units.
    fn check(name: &str, bound: f64, function: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) {
        let (mut worst, mut at) = (0.0, 0.0);
        for x in arguments() {
            let exact = exact(f64::from(x));
            let unit = exact.abs().max(f64::from(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON) / 1.5;
            let error = (f64::from(function(x)) - exact).abs() / unit;
            if error > worst || error.is_nan() {
                (worst, at) = (error, x);
            }
        }
        assert!(worst <= bound, "{name}: {worst} units at {at}");
    }

    /// Φ(-t) for t ≥ 0: its series, and Laplace's continued fraction in the tail.
    fn upper_tail(t: f64) -> f64 {
        let density = (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if t < 3.0 {
            let (mut term, mut sum, mut n) = (t, t, 1.0);
            while term > 1e-18 {
                n += 2.0;
                term *= t * t / n;
                sum += term;
            }
            return 0.5 - density * sum;
        }
        density / (1..200).rev().fold(t, |fraction, n| t + f64::from(n) / fraction)
    }

    fn normal(x: f64) -> f64 {
        if x < 0.0 { upper_tail(-x) } else { 1.0 - upper_tail(x) }
    }

    #[test]
    fn the_functions_are_within_their_errors() {
        let smallest = f64::from(f32::MIN_POSITIVE);
        let vanish = |y: f64| if y < smallest { 0.0 } else { y };
        check("exp", 1.5, |x| exp(-x.abs()), |x| vanish((-x.abs()).exp()));
        // Beyond, e^(-x²/2) is subnormal, and what is left of the tail below 1e-36.
        let beyond = |x: f64| x.abs() > 13.2;
        check(
            "gelu",
            6.0,
            |x| if beyond(x.into()) { 0.0 } else { gelu(x) },
            |x| {
                if beyond(x) { 0.0 } else { x * normal(x) }
            },
        );
        assert!(arguments().filter(|x| beyond(f64::from(*x))).all(|x| (gelu(x) - relu(x)).abs() < 1e-36));
        check("silu", 3.0, silu, |x| if x < -87.3 { 0.0 } else { x / (1.0 + (-x).exp()) });
        check("tanh", 3.0, tanh, f64::tanh);
    }

    #[test]
    fn the_tanh_form_of_gelu_is_within_its_error() {
        let exact = |x: f64| {
            x / (1.0 + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).exp())
        };
        for x in arguments() {
            let error = (f64::from(gelu_tanh(x)) - exact(f64::from(x))).abs();
            assert!(error <= 2.5e-7 * f64::from(x.abs()), "{error} at {x}");
        }
    }

    #[test]
    fn what_is_no_number_stays_none_and_infinities_have_limits() {
        let functions = [relu, gelu, gelu_tanh, silu, tanh];
        assert!(functions.iter().all(|function| function(f32::NAN).is_nan()));
        let limits = |x: f32| functions.map(|function| function(x));
        assert_eq!(limits(f32::INFINITY), [f32::INFINITY, f32::INFINITY, f32::INFINITY, f32::INFINITY, 1.0]);
        assert_eq!(limits(f32::NEG_INFINITY), [0.0, 0.0, 0.0, 0.0, -1.0]);
        assert_eq!((exp(f32::NEG_INFINITY), exp(0.0)), (0.0, 1.0));
    }

    #[test]
    fn all_instructions_compute_the_same_bits() {
        for activation in
            [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Tanh]
        {
            let mut found = Instructions::available().into_iter().map(|instructions| {
                let mut values: Vec<f32> = arguments().collect();
                apply(instructions, activation, &mut values);
                values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            let widest = found.next().unwrap();
            assert!(found.all(|other| other == widest), "{activation:?}");
        }
    }
}
