//! The flags of what a model is asked for besides its classes.

use clap::ValueEnum;

use super::models::Windows;
use crate::error::{Error, Result};
use crate::model::{Attentions, Likelihood, Pooling, Wanted};

/// How the hidden states of tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PoolingArg {
    /// That of the first token.
    Cls,
    /// The mean over all tokens, specials too.
    Mean,
    /// The mean over tokens that are no specials.
    Bases,
    /// That of the last token (of causal models, which has seen all others).
    Last,
    /// The model directory's own (a SentenceTransformer's), or the mean over all tokens.
    Own,
}

/// How the likelihood of a sequence is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LikelihoodArg {
    /// A pass for each token, which is masked: the pseudo-log-likelihood.
    Masked,
    /// One pass over the sequence as it is.
    Unmasked,
    /// Each token after those before it (of causal models).
    Causal,
}

/// Which attention probabilities are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AttentionsArg {
    /// What the first token attends to.
    Cls,
    /// What every token attends to.
    All,
}

/// What becomes of rows that are longer than the model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LongArg {
    /// They get the status `too_long`, and nulls.
    #[default]
    Status,
    /// They are read in overlapping windows, the last flush with the end, whose answers are merged: the mean of
    /// logits, probabilities and embeddings over windows, and of each base's score over the windows that hold it.
    Windows,
}

/// Flags of what a model is asked for besides its classes.
#[derive(clap::Args, Clone, Debug)]
pub struct OutputArgs {
    /// Add the column `embedding` (language models)
    #[arg(long, value_enum, value_name = "POOLING")]
    pub embed: Option<PoolingArg>,
    /// Add the log-likelihood of every token in `likelihoods` and their sum in `log_likelihood` (language models)
    #[arg(long, value_enum, value_name = "HOW")]
    pub likelihood: Option<LikelihoodArg>,
    /// Add attention probabilities in `attentions`, as layers, heads, tokens (language models)
    #[arg(long, value_enum, value_name = "OF")]
    pub attentions: Option<AttentionsArg>,
    /// Layers whose attentions are written, from 0 and by comma (default: all)
    #[arg(long, value_name = "LAYER", value_delimiter = ',', requires = "attentions")]
    pub layers: Vec<usize>,
    /// What becomes of rows that are longer than the model reads; shorter ones are `too_short` in any case
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub long: LongArg,
    /// Bases (of a language model: tokens) that neighbouring windows share (default: half a window)
    #[arg(long, value_name = "N")]
    pub overlap: Option<usize>,
}

impl OutputArgs {
    /// Returns what a model is asked for.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            embedding: self.embed.map(|pooling| match pooling {
                PoolingArg::Cls => Pooling::Cls,
                PoolingArg::Mean => Pooling::Mean,
                PoolingArg::Bases => Pooling::MeanOfBases,
                PoolingArg::Last => Pooling::Last,
                PoolingArg::Own => Pooling::Own,
            }),
            likelihood: self.likelihood.map(|likelihood| match likelihood {
                LikelihoodArg::Masked => Likelihood::Masked,
                LikelihoodArg::Unmasked => Likelihood::Unmasked,
                LikelihoodArg::Causal => Likelihood::Causal,
            }),
            attentions: self.attentions.map(|attentions| match attentions {
                AttentionsArg::Cls => Attentions::Cls,
                AttentionsArg::All => Attentions::All,
            }),
            layers: self.layers.clone(),
            logits_only: false,
        }
    }

    /// Returns the windows of long rows, when they are to be read.
    ///
    /// # Errors
    ///
    /// When there is an overlap of windows without windows.
    pub fn windows(&self) -> Result<Option<Windows>> {
        match (self.long, self.overlap) {
            (LongArg::Windows, overlap) => Ok(Some(Windows { overlap })),
            (LongArg::Status, None) => Ok(None),
            (LongArg::Status, Some(_)) => Err(Error::usage("--overlap is of windows: add --long windows")),
        }
    }
}
