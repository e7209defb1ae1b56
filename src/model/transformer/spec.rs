//! What tells one encoder from another.

use super::Activation;

/// Where norms stand in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Before attention and before the feed-forward part, inside the residual.
    Before,
    /// After each residual has been added.
    After,
}

/// What a norm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Takes off the mean, and divides by the standard deviation.
    Layer,
    /// Divides by the root mean square.
    RootMeanSquare,
}

/// How the tokens of one layer see each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attending {
    /// Whether distance costs a slope a head (ALiBi).
    pub alibi: bool,
    /// Base of the wavelengths of rotary positions, which count from 0.
    pub rotary: Option<f32>,
    /// Whether a token sees none that follow it.
    pub causal: bool,
    /// How far a token sees to either side; everything where there is none.
    pub reach: Option<usize>,
}

/// The shape of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Length of the vector of a token.
    pub hidden: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Heads of keys and values; each serves as many heads of queries.
    pub key_value_heads: usize,
    /// Length of the vectors of one head.
    pub width: usize,
    /// Length of the vector inside the feed-forward part.
    pub intermediate: usize,
    /// The function inside the feed-forward part.
    pub activation: Activation,
    /// Whether the feed-forward part is gated: f(a)·b, of a matrix twice as high.
    pub gated: bool,
    /// What norms do.
    pub norm: NormKind,
    /// Added to the variance in norms.
    pub epsilon: f32,
    /// Where norms stand.
    pub place: NormPlace,
    /// The layers.
    pub layers: Vec<Attending>,
}

impl Spec {
    /// Returns the length of the queries, keys and values of one token.
    pub fn projected(&self) -> usize {
        (self.heads + 2 * self.key_value_heads) * self.width
    }

    /// Returns the slope of each head with ALiBi: a geometric sequence down to 2⁻⁸ for a power of two. For other
    /// numbers of heads it is followed by every other slope of twice that power.
    pub fn slopes(&self) -> Vec<f32> {
        let sequence = |heads: usize| (1..=heads).map(move |head| (-8.0 * head as f64 / heads as f64).exp2());
        let power = if self.heads.is_power_of_two() { self.heads } else { self.heads.next_power_of_two() / 2 };
        let slopes = sequence(power).chain(sequence(2 * power).step_by(2)).take(self.heads);
        slopes.map(|slope| slope as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_twelve_heads_go_on_between_those_of_eight() {
        let mut spec = Spec::of(12, 96);
        let slopes = spec.slopes();
        assert_eq!(slopes[..8], [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]);
        assert_eq!(slopes[8..], [-0.5f32, -1.5, -2.5, -3.5].map(f32::exp2));
        spec.heads = 4;
        assert_eq!(spec.slopes(), [0.25, 0.0625, 0.015625, 0.00390625]);
    }
}

#[cfg(test)]
impl Spec {
    /// Returns a spec of so many heads and no layer.
    pub(super) fn of(heads: usize, hidden: usize) -> Self {
        Self {
            vocabulary: 16,
            hidden,
            heads,
            key_value_heads: heads,
            width: hidden / heads,
            intermediate: 2 * hidden,
            activation: Activation::Gelu,
            gated: false,
            norm: NormKind::Layer,
            epsilon: 1e-12,
            place: NormPlace::After,
            layers: Vec::new(),
        }
    }
}
