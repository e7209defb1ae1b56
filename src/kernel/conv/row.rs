//! One row of positions, and what becomes of what is computed at each.

/// A row of positions to convolve.
pub(super) struct Row<'a> {
    /// `[length, inputs]`.
    pub input: &'a [f32],
    /// Positions.
    pub length: usize,
    /// Zeros before the first.
    pub left: usize,
    /// Positions from one output to the next.
    pub stride: usize,
    /// Positions from one tap to the next.
    pub dilation: usize,
    /// Positions of the output.
    pub count: usize,
    /// Whether negative outputs become zero.
    pub relu: bool,
    /// What is added to the output after that, `[count, outputs]`.
    pub residual: Option<&'a [f32]>,
}
