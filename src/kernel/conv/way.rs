//! Which algorithm computes a layer: the one with the fewest vector instructions, counted.

use super::Conv;
use super::filters::Filters;
use super::rounded::Rounded;
use super::winograd::{self, Winograd, points_and_groups};
use crate::kernel::Precision;
use crate::kernel::product::WIDTH;
use crate::kernel::tile::LANES;

/// Fewest inputs that are worth rounding. Columns of four are bases, which are looked up.
const LEAST_INPUTS: usize = 8;

/// How much cheaper bfloat16 must be before it is worth its rounding error.
const WORTH: f64 = 0.85;

/// What evaluating and interpolating costs at a point, for each vector of inputs or outputs of a step: 4.5 instructions,
/// and the time of the second cache, which makes of them what `benches/cnn.py` measures (a layer of 64 channels and
/// three taps reaches two thirds of what its multiplications alone would allow, one of 21 taps nine tenths).
const TRANSFORM: f64 = 20.0;

/// How a layer is computed.
pub(super) enum Way<'a> {
    /// Sums over all taps, in f32.
    Direct,
    /// Winograd's algorithm, in f32 or bfloat16.
    Winograd(&'a Winograd),
    /// Sums over all taps, in bfloat16.
    Rounded(&'a Rounded),
}

/// An algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Direct,
    Winograd,
    Rounded,
    RoundedWinograd,
}

/// What the choice depends on.
#[derive(Clone, Copy)]
struct Shape {
    inputs: usize,
    outputs: usize,
    width: usize,
    dilation: usize,
    /// Whether Winograd's algorithm applies.
    winograd: bool,
}

impl Shape {
    /// Returns the vector instructions that four outputs take.
    fn cost(self, choice: Choice) -> f64 {
        let Self { inputs, outputs, width, .. } = self;
        let panels = outputs.div_ceil(LANES);
        let strips = outputs.div_ceil(WIDTH);
        let [points, groups] = points_and_groups(width);
        let read = inputs as f64 / LANES as f64;
        let transform = TRANSFORM * points as f64 * (inputs + outputs) as f64 / LANES as f64;
        match choice {
            // Half a panel or less is summed along the taps.
            Choice::Direct => 4.0 * (width * inputs) as f64 * narrow(outputs).min(panels as f64),
            Choice::Winograd => {
                (points * groups * inputs) as f64 * narrow(outputs).min(panels as f64) + transform
            }
            Choice::Rounded => (4 * width * inputs.div_ceil(2) * 2 * strips) as f64 + 4.0 * 3.0 * read,
            Choice::RoundedWinograd => {
                let products = (points * groups * inputs.div_ceil(2) * 2 * strips) as f64;
                products + transform + 2.0 * points as f64 * read
            }
        }
    }

    fn exact(self) -> Choice {
        let wide = self.inputs.min(self.outputs) >= LANES;
        let cheaper = || self.cost(Choice::Winograd) < self.cost(Choice::Direct);
        if self.winograd && (wide || cheaper()) { Choice::Winograd } else { Choice::Direct }
    }

    /// Returns the cheapest, where bfloat16 is allowed.
    fn rounded(self) -> Choice {
        if self.inputs < LEAST_INPUTS {
            return self.exact();
        }
        let mut best = (self.exact(), WORTH * self.cost(self.exact()));
        // The groups of a dilated row are apart.
        let together = self.dilation == 1 || points_and_groups(self.width)[1] == 1;
        for (choice, applies) in
            [(Choice::Rounded, true), (Choice::RoundedWinograd, self.winograd && together)]
        {
            let cost = self.cost(choice);
            if applies && cost < best.1 {
                best = (choice, cost);
            }
        }
        best.0
    }
}

/// Returns the panels that outputs are worth, where the last few have none.
fn narrow(outputs: usize) -> f64 {
    let over = outputs % LANES;
    (outputs / LANES) as f64 + if over <= LANES / 2 { over as f64 / LANES as f64 } else { 1.0 }
}

impl Conv {
    /// Returns how the layer is computed.
    pub(super) fn way(&self) -> Way<'_> {
        let Filters { kernel: [height, width], inputs, outputs, .. } = *self.filters;
        let flat = height == 1 && self.padding.top == 0 && self.padding.bottom == 0 && self.stride[0] == 1;
        if !flat || self.direct {
            return Way::Direct;
        }
        let winograd = self.stride[1] == 1 && winograd::applies(inputs, outputs, width, self.dilation[1]);
        let shape = Shape { inputs, outputs, width, dilation: self.dilation[1], winograd };
        let choice = if self.precision == Precision::F32 { shape.exact() } else { shape.rounded() };
        match choice {
            Choice::Direct => Way::Direct,
            Choice::Winograd => Way::Winograd(self.filters.winograd()),
            Choice::Rounded => Way::Rounded(self.filters.rounded()),
            Choice::RoundedWinograd => Way::Winograd(self.filters.rounded_winograd()),
        }
    }
}

impl Way<'_> {
    /// Returns whether products are of bfloat16.
    pub(super) fn is_rounded(&self) -> bool {
        match self {
            Self::Direct => false,
            Self::Rounded(_) => true,
            Self::Winograd(filters) => filters.is_rounded(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape([inputs, outputs, width, dilation]: [usize; 4]) -> Shape {
        let winograd = winograd::applies(inputs, outputs, width, dilation);
        Shape { inputs, outputs, width, dilation, winograd }
    }

    #[test]
    fn bfloat16_is_taken_where_it_is_fewer_instructions() {
        let choice = |layer| shape(layer).rounded();
        // Bases are looked up, one or two outputs are summed along the taps.
        assert_eq!(choice([4, 256, 21, 1]), Choice::Direct);
        assert_eq!(choice([64, 2, 75, 1]), Choice::Direct);
        // BPNet's layers: three taps, whose transforms cost as much as they save.
        assert_eq!(choice([64, 64, 3, 1]), Choice::Rounded);
        assert_eq!(choice([64, 64, 3, 512]), Choice::Rounded);
        // Long filters save half by either, and three quarters by both.
        assert_eq!(choice([256, 64, 11, 1]), Choice::RoundedWinograd);
        assert_eq!(choice([50, 50, 15, 1]), Choice::RoundedWinograd);
        assert_eq!(choice([64, 64, 21, 1]), Choice::RoundedWinograd);
        assert_eq!(choice([1000, 925, 1, 1]), Choice::Rounded);
    }

    #[test]
    fn few_channels_are_filtered_by_winograd_where_filters_are_long() {
        let choice = |layer| shape(layer).exact();
        assert_eq!(choice([15, 15, 15, 1]), Choice::Winograd);
        // Three taps save less than the transforms cost; dilated positions are out of order.
        assert_eq!(choice([15, 15, 3, 1]), Choice::Direct);
        assert_eq!(choice([15, 15, 15, 2]), Choice::Direct);
        assert_eq!(choice([16, 16, 3, 2]), Choice::Winograd);
    }

    #[test]
    fn nothing_is_taken_that_does_not_apply() {
        // Dilated groups are apart, so only the direct sum is left, and it saves nothing over Winograd's.
        assert_ne!(shape([64, 64, 21, 2]).rounded(), Choice::RoundedWinograd);
        let strided = Shape { winograd: false, ..shape([64, 64, 21, 1]) };
        assert_eq!((strided.exact(), strided.rounded()), (Choice::Direct, Choice::Rounded));
    }
}
