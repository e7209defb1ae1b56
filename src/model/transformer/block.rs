//! One layer: attention and a feed-forward part, each inside a residual.

use super::encoder::{Scratch, Watch};
use super::{Attending, Layer, NormPlace, Spec};
use crate::kernel::attention::alibi_slopes;
use crate::kernel::{Attention, Linear, Norm, Precision, Rotary};

/// A layer as it runs.
pub struct Block {
    place: NormPlace,
    projection: Linear,
    /// Of each head's queries, and of its keys.
    head_norms: Option<[Norm; 2]>,
    attention: Attention,
    output: Linear,
    attention_norm: Option<Norm>,
    up: Linear,
    down: Linear,
    feed_forward_norm: Norm,
}

impl Block {
    /// Builds a layer.
    pub fn new(spec: &Spec, attention: Attention, tensors: &Layer) -> Self {
        let precision = attention.precision;
        let up = &tensors.up;
        let up = match spec.gated {
            true => Linear::gated(
                &up.values,
                [spec.intermediate, spec.hidden],
                up.bias.as_deref(),
                spec.activation,
                precision,
            ),
            false => up.linear(precision).with_activation(spec.activation),
        };
        Self {
            place: spec.place,
            projection: tensors.projection.linear(precision),
            head_norms: tensors.head_norms.as_ref().map(|norms| norms.each_ref().map(|norm| norm.norm(spec))),
            attention,
            output: tensors.output.linear(precision),
            attention_norm: tensors.attention_norm.as_ref().map(|scale| scale.norm(spec)),
            up,
            down: tensors.down.linear(precision),
            feed_forward_norm: tensors.feed_forward_norm.norm(spec),
        }
    }

    /// Takes `scratch.hidden` `[tokens, hidden]` of sequences that begin at `starts` (and end at its last) through
    /// the layer. With `kept` only these rows come out: what a row becomes after attention needs no other row.
    pub fn forward(
        &self,
        layer: usize,
        starts: &[usize],
        kept: Option<&[usize]>,
        watch: &mut dyn Watch,
        scratch: &mut Scratch,
    ) {
        self.attend(layer, starts, watch, scratch);
        if let Some(kept) = kept {
            gather(&mut scratch.hidden, self.output.outputs(), kept);
            gather(&mut scratch.context, self.output.inputs(), kept);
        }
        let Scratch { hidden, normed, context, wide, .. } = scratch;
        let rows = hidden.len() / self.output.outputs();
        self.output.add(context, hidden);
        wide.resize(rows * self.up.outputs(), 0.0);
        match self.place {
            NormPlace::After => {
                self.attention_norm.iter().for_each(|norm| norm.apply(hidden));
                self.up.apply(hidden, wide);
                self.down.add(wide, hidden);
                self.feed_forward_norm.apply(hidden);
            }
            NormPlace::Before => {
                normed.resize(hidden.len(), 0.0);
                self.feed_forward_norm.apply_to(hidden, normed);
                self.up.apply(normed, wide);
                self.down.add(wide, hidden);
            }
        }
    }

    /// Fills `scratch.context` `[tokens, heads·width]`.
    fn attend(&self, layer: usize, starts: &[usize], watch: &mut dyn Watch, scratch: &mut Scratch) {
        let Scratch { hidden, normed, projected, context, probabilities, attention, .. } = scratch;
        let rows = hidden.len() / self.projection.inputs();
        projected.resize(rows * self.projection.outputs(), 0.0);
        context.resize(rows * self.output.inputs(), 0.0);
        match (&self.attention_norm, self.place) {
            (Some(norm), NormPlace::Before) => {
                normed.resize(hidden.len(), 0.0);
                norm.apply_to(hidden, normed);
                self.projection.apply(normed, projected);
            }
            _ => self.projection.apply(hidden, projected),
        }
        self.norm_heads(projected);
        let watched = watch.wants_attentions(layer);
        for (sequence, ends) in starts.windows(2).enumerate() {
            let (first, length) = (ends[0], ends[1] - ends[0]);
            let projected =
                &projected[first * self.projection.outputs()..][..length * self.projection.outputs()];
            let context = &mut context[first * self.output.inputs()..][..length * self.output.inputs()];
            if watched {
                probabilities.resize(self.attention.heads * length * length, 0.0);
                self.attention.apply(projected, length, context, attention, Some(probabilities));
                watch.attentions(layer, sequence, probabilities);
            } else {
                self.attention.apply(projected, length, context, attention, None);
            }
        }
    }
}

impl Block {
    /// Applies the norms of queries and of keys, where there are any, to `[tokens, queries | keys | values]`.
    fn norm_heads(&self, projected: &mut [f32]) {
        let Some([queries, keys]) = &self.head_norms else { return };
        let Attention { heads, key_value_heads, width, .. } = self.attention;
        for token in projected.chunks_exact_mut(self.attention.inputs()) {
            let (of_queries, rest) = token.split_at_mut(heads * width);
            queries.apply(of_queries);
            keys.apply(&mut rest[..key_value_heads * width]);
        }
    }
}

/// Returns what lets the tokens of a layer see each other.
pub fn attention(
    spec: &Spec,
    attending: &Attending,
    rotary: Option<Rotary>,
    precision: Precision,
) -> Attention {
    Attention {
        key_value_heads: spec.key_value_heads,
        slopes: attending.alibi.then(|| alibi_slopes(spec.heads)),
        causal: attending.causal,
        window: attending.reach,
        rotary,
        precision,
        ..Attention::new(spec.heads, spec.width)
    }
}

/// Keeps some rows, whose numbers ascend.
fn gather(values: &mut Vec<f32>, width: usize, rows: &[usize]) {
    for (place, &row) in rows.iter().enumerate() {
        values.copy_within(row * width..(row + 1) * width, place * width);
    }
    values.truncate(rows.len() * width);
}
