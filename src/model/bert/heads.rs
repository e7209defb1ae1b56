//! The heads of BERTs by the names of their tensors.

use super::super::Source;
use super::super::transformer::{
    Classifier, Direction, LongHead, Matrix, Reads, Recurrent, Spec, TokenHead, matrix, scale,
};
use super::super::weights::Weights;
use super::{Shape, activation, decision};
use crate::error::{Error, Result};
use crate::kernel::{Activation, Linear, Precision};

/// Pieces of a long sequence where the config does not say.
const PIECES: usize = 10;

/// Reads the classifier, where there is one. Its pooler belongs to the `body`.
pub fn classifier(
    source: &Source,
    shape: &Shape,
    body: &Weights,
    hidden: usize,
) -> Result<Option<Classifier>> {
    let outer = source.weights;
    let (long, inputs, output) = match long_head(source, shape, hidden)? {
        Some((long, inputs, output)) => (Some(long), inputs, output),
        None => (None, hidden, "classifier"),
    };
    let weights = format!("{output}.weight");
    if !outer.contains(&weights) {
        return Ok(None);
    }
    let [classes, _] = outer.shape(&weights)?;
    let pooler = matrix(body, "pooler.dense", [hidden, hidden])?.linear(source.precision);
    Ok(Some(Classifier {
        reads: Reads::First,
        pooler: Some(pooler.with_activation(Activation::Tanh)),
        norm: None,
        long,
        output: matrix(outer, output, [classes, inputs])?.linear(Precision::F32),
        decision: decision(shape.problem_type.as_deref(), classes),
    }))
}

/// Reads what a long head has before the logits, what it gives them, and the name of the layer that follows.
fn long_head(
    source: &Source,
    shape: &Shape,
    hidden: usize,
) -> Result<Option<(LongHead, usize, &'static str)>> {
    let outer = source.weights;
    if outer.contains("rnn.weight_ih_l0") {
        let recurrent = recurrent(outer, hidden)?;
        let long = LongHead::Recurrent(recurrent, shape.split.unwrap_or(PIECES));
        return Ok(Some((long, hidden, "classifier")));
    }
    if outer.contains("classifier1.weight") {
        let [outputs, inputs] = outer.shape("classifier1.weight")?;
        let joined = matrix(outer, "classifier1", [outputs, inputs])?.linear(source.precision);
        let long = LongHead::Joined(joined.with_activation(Activation::Relu), inputs / hidden);
        return Ok(Some((long, outputs, "classifier2")));
    }
    let mean = source.config.architecture() == "DNABertForSequenceClassification";
    Ok(mean.then_some((LongHead::Mean, hidden, "classifier")))
}

/// Reads recurrent layers, forwards and backwards.
fn recurrent(outer: &Weights, hidden: usize) -> Result<Recurrent> {
    let count = (0..).take_while(|layer| outer.contains(&format!("rnn.weight_ih_l{layer}"))).count();
    let [gates, _] = outer.shape("rnn.weight_ih_l0")?;
    if ![3 * hidden, 4 * hidden].contains(&gates) {
        let message = format!("rnn.weight_ih_l0 has {gates} rows: neither 3 nor 4 gates of {hidden} units");
        return Err(Error::data(message));
    }
    let linear = |kind: &str, place: &str, inputs: usize| -> Result<Linear> {
        let matrix = Matrix {
            values: outer.read_tensor(&format!("rnn.weight_{kind}_{place}"), &[gates, inputs])?,
            shape: [gates, inputs],
            bias: Some(outer.read_tensor(&format!("rnn.bias_{kind}_{place}"), &[gates])?),
        };
        Ok(matrix.linear(Precision::F32))
    };
    let direction = |layer: usize, suffix: &str| -> Result<Direction> {
        let (place, inputs) = (format!("l{layer}{suffix}"), if layer == 0 { hidden } else { 2 * hidden });
        Ok(Direction { input: linear("ih", &place, inputs)?, hidden: linear("hh", &place, hidden)? })
    };
    let layer = |layer| Ok([direction(layer, "")?, direction(layer, "_reverse")?]);
    Ok(Recurrent { layers: (0..count).map(layer).collect::<Result<_>>()? })
}

/// Reads the head of a masked language model, where there is one.
pub fn token_head(source: &Source, shape: &Shape, spec: &Spec) -> Result<Option<TokenHead>> {
    let outer = source.weights;
    let transform = "cls.predictions.transform.dense";
    if !outer.contains(&format!("{transform}.weight")) {
        return Ok(None);
    }
    let (vocabulary, hidden) = (spec.vocabulary, spec.hidden);
    // Tied to the word embeddings, and not always saved.
    let words = outer.first(&["cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"])?;
    let bias = outer.first(&["cls.predictions.decoder.bias", "cls.predictions.bias"])?;
    let decoder = Matrix {
        values: outer.read_tensor(words, &[vocabulary, hidden])?,
        shape: [vocabulary, hidden],
        bias: Some(outer.read_tensor(bias, &[vocabulary])?),
    };
    let transform = matrix(outer, transform, [hidden, hidden])?.linear(source.precision);
    Ok(Some(TokenHead {
        transform: Some(transform.with_activation(activation(&shape.hidden_act)?)),
        norm: Some(scale(outer, "cls.predictions.transform.LayerNorm", hidden)?.norm(spec)),
        decoder: decoder.linear(source.precision),
    }))
}
