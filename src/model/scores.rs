//! What goes into a model and what comes out, one row at a time.

use crate::error::{Error, Result};

/// One row, as a model reads it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Upper-case `ACGTN`.
    pub bases: &'a [u8],
    /// The second sequence of a pair.
    pub second: Option<&'a [u8]>,
    /// Token ids, specials included, where a stage before has made them with the model's own tokenizer.
    pub tokens: Option<&'a [u32]>,
}

impl<'a> Input<'a> {
    /// Returns a row of bases and nothing else.
    pub fn of(bases: &'a [u8]) -> Self {
        Self { bases, second: None, tokens: None }
    }
}

/// Why a model cannot read a row that others of the stream it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// More bases or tokens than the model reads.
    TooLong,
    /// Fewer bases or tokens than the model reads.
    TooShort,
}

/// What a model says to a row.
pub type Answer = Result<Scores, Misfit>;

/// How the hidden states of the tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's.
    Cls,
    /// The mean over all tokens, specials too.
    Mean,
    /// The mean over the tokens that are no specials.
    MeanOfBases,
    /// The last token's: of a causal language model, the only one that has seen the whole sequence.
    Last,
    /// The model directory's own (a SentenceTransformer's weighted layers), or the mean over all tokens.
    Own,
}

impl Pooling {
    /// Returns the name that users give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::MeanOfBases => "bases",
            Self::Last => "last",
            Self::Own => "own",
        }
    }
}

/// How likely a language model finds a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likelihood {
    /// Every token masked in turn, a pass each: the pseudo-log-likelihood.
    Masked,
    /// One pass over the sequence as it is.
    Unmasked,
    /// Each token after those before it, by a causal model. A first token that nothing precedes, not even a special
    /// one, has no likelihood and is left out.
    Causal,
}

impl Likelihood {
    /// Returns the name that users give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            Self::Unmasked => "unmasked",
            Self::Causal => "causal",
        }
    }
}

/// Which attention probabilities are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attentions {
    /// What the first token attends to.
    Cls,
    /// What every token attends to.
    All,
}

/// What is asked of a model besides its classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// An embedding.
    pub embedding: Option<Pooling>,
    /// Log-likelihoods.
    pub likelihood: Option<Likelihood>,
    /// Attention probabilities.
    pub attentions: Option<Attentions>,
    /// Layers whose attentions are given, from 0; empty for all.
    pub layers: Vec<usize>,
    /// Nothing but the logits.
    pub logits_only: bool,
}

impl Wanted {
    /// Returns what is wanted besides classes, in words; nothing when that is nothing.
    pub fn describe(&self) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.embedding.map(|pooling| format!("embedding {}", pooling.name())));
        words.extend(self.likelihood.map(|likelihood| format!("likelihood {}", likelihood.name())));
        words.extend(self.attentions.map(|attentions| {
            let which = if attentions == Attentions::Cls { "cls" } else { "all" };
            let layers: Vec<_> = self.layers.iter().map(usize::to_string).collect();
            let of =
                if layers.is_empty() { String::new() } else { format!(" of layers {}", layers.join("+")) };
            format!("attentions {which}{of}")
        }));
        words
    }

    /// Refuses whatever only language models have.
    ///
    /// # Errors
    ///
    /// When any of it is wanted, naming `what` it is asked of.
    pub fn refuse_extras(&self, what: &str) -> Result<()> {
        let asked = [
            (self.embedding.is_some(), "embeddings"),
            (self.likelihood.is_some(), "likelihoods"),
            (self.attentions.is_some(), "attentions"),
        ];
        match asked.iter().find(|(asked, _)| *asked) {
            Some((_, name)) => Err(Error::usage(format!("{what} has no {name}; use a language model"))),
            None => Ok(()),
        }
    }
}

/// Which outputs every row gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Number of logits; none for a model without a head.
    pub classes: usize,
    /// Whether there are probabilities, `[classes]`.
    pub probs: bool,
    /// Whether there is one score per base, `[L]`.
    pub base_scores: bool,
    /// `tracks, length` of the profile, if there is one.
    pub profile: Option<(usize, usize)>,
    /// Length of the embedding; 0 for none.
    pub embedding: usize,
    /// Whether there are log-likelihoods.
    pub likelihood: bool,
    /// `layers, heads` of the attentions, if there are any.
    pub attentions: Option<(usize, usize)>,
}

/// What is predicted for one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// `[classes]`.
    pub logits: Vec<f32>,
    /// `[classes]`.
    pub probs: Option<Vec<f32>>,
    /// `[L]`.
    pub base_scores: Option<Vec<f32>>,
    /// `[tracks, length]`.
    pub profile: Option<Vec<f32>>,
    /// `[hidden]`.
    pub embedding: Option<Vec<f32>>,
    /// Natural logarithm of the probability of every token that is no special, `[tokens]`.
    pub likelihoods: Option<Vec<f32>>,
    /// `[layers, heads, tokens]` or `[layers, heads, tokens, tokens]`.
    pub attentions: Option<Vec<f32>>,
}

impl Scores {
    /// Returns whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let Self { logits, probs, base_scores, profile, embedding, likelihoods, attentions } = self;
        let optional = [probs, base_scores, profile, embedding, likelihoods, attentions];
        let mut all = logits.iter().chain(optional.into_iter().flatten().flatten());
        all.all(|value| value.is_finite())
    }
}
