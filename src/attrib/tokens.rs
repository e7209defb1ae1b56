//! Attribution of language models by the gradients of their tokens' embeddings.
//!
//! | method | score of a token with the embedding e of its word, ∂f/∂e = g |
//! |---|---|
//! | `saliency` | the L2 norm of g |
//! | `gradxinput` | Σ g · e |
//! | `ig` | Σ ḡ · (e − m), m the embedding of the masked token, ḡ the mean gradient on the straight path from m to e |
//!
//! A token's score is divided equally among its bases, and a base has the sum of its shares. The background of `ig`
//! is the sequence with all its tokens masked but the special ones: what it shares out is f(x) − f(that).

use rayon::prelude::*;

use super::{Attribution, Comparison, Method, Options};
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
        let share = models.explain_tokens(sequence, options.class, way)?;
        let difference = share.logit - share.logit_of_background;
        let delta = (share.contributions.iter().sum::<f64>() - difference).abs();
        let complete = way != TokenWay::Norm;
        Ok(Attribution {
            hypothetical: Vec::new(),
            contributions: share.contributions.into_iter().map(|value| value as f32).collect(),
            delta: complete.then_some(delta as f32),
            converged: matches!(way, TokenWay::Path(_))
                .then_some(delta <= options.steps.tolerance * difference.abs()),
        })
    };
    sequences.par_iter().map(explain).collect()
}

fn way(options: &Options) -> Result<TokenWay> {
    match options.method {
        Method::Saliency => Ok(TokenWay::Norm),
        Method::GradientInput => Ok(TokenWay::Product),
        Method::IntegratedGradients if options.comparison == Comparison::Zero => {
            Ok(TokenWay::Path(options.steps))
        }
        Method::IntegratedGradients => Err(Error::usage(
            "a shuffled sequence has other tokens at other places than the sequence: language models are compared with \
             their masked token, --background zero",
        )),
        _ => Err(Error::usage(
            "--method deeplift has no rules for language models (layer norm, attention, gated units): use ig or ism",
        )),
    }
}
