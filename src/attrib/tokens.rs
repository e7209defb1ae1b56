//! Attribution of language models by the gradients, or the multipliers, of their tokens' embeddings.
//!
//! | method | score of a token with the embedding e of its word, ∂f/∂e = g |
//! |---|---|
//! | `saliency` | the L2 norm of g |
//! | `gradxinput` | Σ g · e |
//! | `ig` | Σ ḡ · (e − m), ḡ the mean gradient on the straight path from m to e |
//! | `deeplift` | Σ μ · (e − m), μ the multipliers of the rescale rule ([`crate::kernel::rule`]) |
//!
//! m is the embedding of the masked token: the background is the sequence with all its tokens masked but the special
//! ones. Or that of the token at the same place of a dinucleotide shuffle, where tokens do not depend on bases in where
//! they begin and end (k-mers); of several the mean. A token's score is divided equally among its bases, and a base
//! has the sum of its shares.

use rayon::prelude::*;

use super::{Attribution, Method, Options, shared};
use crate::error::{Error, Result};
use crate::model::Ensemble;
use crate::model::transformer::TokenWay;

/// Explains the logit of a class of every sequence.
pub(super) fn attribute(
    models: &Ensemble,
    sequences: &[&[u8]],
    options: &Options,
) -> Result<Vec<Attribution>> {
    let way = way(options)?;
    let explain = |sequence: &&[u8]| -> Result<Attribution> {
        let background = shared::background(sequence, options.comparison);
        let share = models.explain_tokens(sequence, options.class, &background, way)?;
        let difference = share.logit - share.logit_of_background;
        let delta = (share.contributions.iter().sum::<f64>() - difference).abs();
        let shares_difference = way.shares_difference();
        Ok(Attribution {
            hypothetical: Vec::new(),
            contributions: share.contributions.into_iter().map(|value| value as f32).collect(),
            delta: (way != TokenWay::Norm).then_some(delta as f32),
            change: shares_difference.then_some(share.change as f32),
            converged: shares_difference.then(|| options.steps.hold(delta, difference, share.change)),
        })
    };
    sequences.par_iter().map(explain).collect()
}

fn way(options: &Options) -> Result<TokenWay> {
    match options.method {
        Method::Saliency => Ok(TokenWay::Norm),
        Method::GradientInput => Ok(TokenWay::Product),
        Method::IntegratedGradients => Ok(TokenWay::Path(options.steps)),
        Method::DeepLift => Ok(TokenWay::Rescale),
        Method::Ism(_) | Method::Attention | Method::Rollout => {
            Err(Error::usage("the method has no gradients of tokens"))
        }
    }
}
