//! How a SentenceTransformer directory makes one vector of a sequence.

use crate::error::{Error, Result};

/// A weighted mean over hidden states, each the mean over all tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerPooling {
    /// The weight of each hidden state: of the embeddings, then of each layer. They add up to 1.
    pub weights: Vec<f64>,
}

impl LayerPooling {
    /// Returns the mean over the tokens of the last of `layers` layers.
    pub fn last(layers: usize) -> Self {
        Self { weights: (0..=layers).map(|state| if state == layers { 1.0 } else { 0.0 }).collect() }
    }

    /// Returns whether it is the last layer's alone.
    pub fn is_last(&self) -> bool {
        self.weights.iter().rev().skip(1).all(|&weight| weight == 0.0)
    }

    /// Returns a mean over the layers from `start` on, counted from 0, with these weights.
    ///
    /// sentence-transformers counts the embeddings as a layer, NyxBind does not: the number of weights tells.
    ///
    /// # Errors
    ///
    /// When there are not as many weights as layers.
    pub fn weighted(layers: usize, start: usize, weights: &[f32]) -> Result<Self> {
        let first = match start.saturating_add(weights.len()) {
            count if count == layers => start + 1,
            count if count == layers + 1 => start,
            _ => {
                return Err(Error::data(format!(
                    "{} weights from layer {start} on, but the encoder has {layers} layers",
                    weights.len()
                )));
            }
        };
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        if weights.is_empty() || sum == 0.0 {
            return Err(Error::data("the weights of the layers add up to nothing"));
        }
        let mut all = vec![0.0; layers + 1];
        all[first..].iter_mut().zip(weights).for_each(|(all, &weight)| *all = f64::from(weight) / sum);
        Ok(Self { weights: all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_weights_tells_whether_the_embeddings_count() {
        let weights = |pooling: Result<LayerPooling>| pooling.unwrap().weights;
        assert_eq!(weights(LayerPooling::weighted(3, 1, &[1.0, 1.0])), [0.0, 0.0, 0.5, 0.5]);
        assert_eq!(weights(LayerPooling::weighted(3, 2, &[3.0, 1.0])), [0.0, 0.0, 0.75, 0.25]);
        assert_eq!(weights(LayerPooling::weighted(3, 2, &[1.0])), LayerPooling::last(3).weights);
        assert!(LayerPooling::weighted(3, 3, &[]).is_err());
        assert!(LayerPooling::weighted(3, 0, &[1.0]).is_err());
    }
}
