//! A language model: a tokenizer, an encoder and its heads, as a model that answers rows.

use std::borrow::Cow;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::super::config::Config;
use super::super::weights::Weights;
use super::super::{Answer, Input, Likelihood, Misfit, Model, Outputs, Pooling, Scores, Wanted};
use super::encoder::Sequence;
use super::explain::{Differentiable, OwnClassifier, StateReader};
use super::gpu;
use super::head::{Classifier, Decision, LongHead, TokenHead};
use super::read::{Plan, Reading, guess};
use super::runner::Runner;
use super::sentence::LayerPooling;
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::tokenizer::Tokenizer;

/// Tokens of one piece of a long sequence (DNABERT-XL).
pub(super) const PIECE: usize = 512;
/// Masked copies of sequences that are guessed together.
const COPIES: usize = 1 << 14;

/// What a language model is made of.
pub struct Parts {
    /// Turns bases into tokens.
    pub tokenizer: Tokenizer,
    /// Turns tokens into hidden states.
    pub encoder: Runner,
    /// Puts sequences into classes.
    pub classifier: Option<Classifier>,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Guesses tokens.
    pub token_head: Option<TokenHead>,
    /// The directory's own embedding: over tokens, and over layers.
    pub pooling: Option<(Pooling, LayerPooling)>,
    /// What it was read from, to be differentiated.
    pub checkpoint: Checkpoint,
}

/// What a language model was read from.
pub struct Checkpoint {
    /// Its `config.json`.
    pub config: Config,
    /// Its tensors.
    pub weights: Weights,
    /// The numbers that its encoder multiplies in.
    pub precision: Precision,
}

/// A language model. A row's numbers are one fixed chain, whatever it shares a batch with.
pub struct LanguageModel {
    parts: Parts,
    /// Tokens that the tokenizer puts around every sequence.
    specials: Vec<u32>,
    mask: Option<u32>,
    /// The states of the last layer alone.
    last: LayerPooling,
    /// What the classifier's first layer makes of a piece of padding.
    padding: OnceLock<Vec<f32>>,
    /// The model as a graph that can be differentiated, built when it first is.
    differentiable: OnceLock<Differentiable>,
}

impl LanguageModel {
    /// Joins the parts.
    ///
    /// # Errors
    ///
    /// When the tokenizer does not work.
    pub fn new(parts: Parts) -> Result<Self> {
        let mut specials = parts.tokenizer.encode("", None)?.ids;
        specials.sort_unstable();
        specials.dedup();
        let mask = parts.tokenizer.mask();
        let last = LayerPooling::last(parts.encoder.spec().layers.len());
        Ok(Self { parts, specials, mask, last, padding: OnceLock::new(), differentiable: OnceLock::new() })
    }

    /// Returns the model as a graph that can be differentiated.
    pub(super) fn differentiable(&self) -> Result<&Differentiable> {
        if self.differentiable.get().is_none() {
            // Of two that are built at once, one stays.
            let _ = self.differentiable.set(Differentiable::new(self)?);
        }
        Ok(self.differentiable.get().expect("it was just set"))
    }

    /// Returns what it was read from.
    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.parts.checkpoint
    }

    /// Returns the token that stands for a masked one, if the tokenizer has it.
    pub(super) fn mask(&self) -> Option<u32> {
        self.mask
    }

    /// Returns what turns bases into tokens.
    pub(super) fn tokenizer_of_bases(&self) -> &Tokenizer {
        &self.parts.tokenizer
    }

    /// Returns the encoder.
    pub fn encoder(&self) -> &Runner {
        &self.parts.encoder
    }

    /// Returns what puts sequences into classes.
    pub fn classifier(&self) -> Option<&Classifier> {
        self.parts.classifier.as_ref()
    }

    /// Returns the head that guesses tokens.
    pub fn token_head(&self) -> Option<&TokenHead> {
        self.parts.token_head.as_ref()
    }

    /// Returns the most tokens of one sequence, specials included, if there is such a number.
    pub fn limit(&self) -> Option<usize> {
        self.encoder().spec().positions.filter(|_| self.long().is_none())
    }

    fn long(&self) -> Option<&LongHead> {
        self.parts.classifier.as_ref()?.long.as_ref()
    }

    /// Returns the tokens of a row: those it brings, or its bases' (and those of the second sequence of a pair).
    ///
    /// # Errors
    ///
    /// When the tokenizer fails or an id is beyond the vocabulary.
    pub fn tokens<'a>(&self, row: &Input<'a>) -> Result<Cow<'a, [u32]>> {
        let encode = |bases: &[u8]| -> Result<Vec<u32>> {
            let bases = std::str::from_utf8(bases).map_err(|_| Error::data("a sequence is no text"))?;
            Ok(self.parts.tokenizer.encode(bases, None)?.ids)
        };
        let mut tokens = match row.tokens {
            Some(tokens) => Cow::Borrowed(tokens),
            None => encode(row.bases)?.into(),
        };
        if let Some(second) = row.second {
            // [CLS] first [SEP] second [SEP]
            tokens.to_mut().extend(encode(second)?.get(1..).unwrap_or_default());
        }
        let vocabulary = self.parts.encoder.spec().vocabulary;
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::data(format!(
                "token {id} is beyond the vocabulary of the model ({vocabulary} tokens): use the tokenizer of its \
                 directory"
            )));
        }
        Ok(if self.long().is_none() { self.in_one_piece(tokens) } else { tokens })
    }

    /// Joins the pieces into which the k-mer tokenizer cuts long sequences, for models without a head for them.
    fn in_one_piece<'a>(&self, tokens: Cow<'a, [u32]>) -> Cow<'a, [u32]> {
        let (Tokenizer::Kmer(_), [class, separator]) = (&self.parts.tokenizer, self.specials.as_slice())
        else {
            return tokens;
        };
        if tokens.len() <= PIECE {
            return tokens;
        }
        let seam = |place: usize| -> bool {
            let pair = |place: usize| tokens.get(place..place + 2) == Some(&[*separator, *class]);
            pair(place) || place > 0 && pair(place - 1)
        };
        (0..tokens.len()).filter(|&place| !seam(place)).map(|place| tokens[place]).collect()
    }

    /// Predicts sequences of tokens, specials included, in order, on all threads.
    ///
    /// # Errors
    ///
    /// When the model cannot give what is wanted.
    pub fn predict_tokens(&self, rows: &[&[u32]], wanted: &Wanted) -> Result<Vec<Answer>> {
        self.outputs(wanted)?;
        let pieces: Vec<Result<Vec<&[u32]>, Misfit>> = rows.iter().map(|row| self.pieces(row)).collect();
        let sequences: Vec<Sequence> =
            pieces.iter().flatten().flatten().map(|piece| Sequence::of(piece)).collect();
        let layers = self.layers(wanted);
        let plan = self.plan(wanted, &layers);
        let mut readings = match plan.is_empty() {
            true => vec![Reading::default(); sequences.len()],
            false => plan.read(&self.parts.encoder, &sequences)?,
        }
        .into_iter();
        let mut scores = |count: usize| self.scores(readings.by_ref().take(count).collect(), wanted);
        let mut answers: Vec<Answer> = Vec::with_capacity(rows.len());
        for pieces in pieces {
            answers.push(match pieces {
                Ok(pieces) => Ok(scores(pieces.len())?),
                Err(misfit) => Err(misfit),
            });
        }
        if wanted.likelihood == Some(Likelihood::Masked) && !wanted.logits_only {
            self.guess(rows, &mut answers)?;
        }
        Ok(answers)
    }

    /// Cuts a row into what goes through the encoder by itself.
    fn pieces<'a>(&self, tokens: &'a [u32]) -> Result<Vec<&'a [u32]>, Misfit> {
        if tokens.iter().all(|token| self.specials.contains(token)) {
            return Err(Misfit::TooShort);
        }
        let Some(long) = self.long() else {
            let fits = self.encoder().spec().positions.is_none_or(|limit| tokens.len() <= limit);
            return if fits { Ok(vec![tokens]) } else { Err(Misfit::TooLong) };
        };
        let mut pieces: Vec<&[u32]> = tokens.chunks(PIECE).collect();
        let most = long.pieces().unwrap_or(usize::MAX);
        // DNABERT adds an empty piece when the others are full, and cuts it off again.
        if pieces.len() == most.saturating_add(1) && pieces[most].len() == self.specials.len() {
            pieces.pop();
        }
        if pieces.len() <= most { Ok(pieces) } else { Err(Misfit::TooLong) }
    }

    fn plan<'a>(&'a self, wanted: &Wanted, layers: &'a [usize]) -> Plan<'a> {
        let all = !wanted.logits_only;
        let pooling = |pooling| match (pooling, &self.parts.pooling) {
            (Pooling::Own, Some((own, layers))) => (*own, layers),
            (Pooling::Own, None) => (Pooling::Mean, &self.last),
            _ => (pooling, &self.last),
        };
        Plan {
            classifier: self.parts.classifier.as_ref(),
            embedding: wanted.embedding.filter(|_| all).map(pooling),
            attentions: wanted.attentions.filter(|_| all).map(|which| (which, layers)),
            token_head: self
                .parts
                .token_head
                .as_ref()
                .filter(|_| all && wanted.likelihood.is_some_and(|how| how != Likelihood::Masked)),
            causal: wanted.likelihood == Some(Likelihood::Causal),
            specials: &self.specials,
        }
    }

    /// Returns the layers whose attentions are given.
    fn layers(&self, wanted: &Wanted) -> Vec<usize> {
        match wanted.layers.as_slice() {
            [] => (0..self.parts.encoder.spec().layers.len()).collect(),
            layers => layers.to_vec(),
        }
    }

    /// Makes the answer to a row of what its pieces gave.
    fn scores(&self, pieces: Vec<Reading>, wanted: &Wanted) -> Result<Scores> {
        let mut scores = Scores::default();
        if let Some(classifier) = &self.parts.classifier {
            let mut pooled: Vec<f32> = pieces.iter().flat_map(|piece| piece.pooled.iter().copied()).collect();
            let wished = classifier.long.as_ref().and_then(LongHead::pieces).unwrap_or(0);
            for _ in pieces.len()..wished {
                pooled.extend_from_slice(self.padding(classifier)?);
            }
            scores.logits = classifier.logits(&pooled);
            if !wanted.logits_only {
                scores.probs = classifier.decision.probabilities(&scores.logits);
            }
        }
        if wanted.logits_only {
            return Ok(scores);
        }
        scores.embedding = wanted.embedding.map(|_| mean(&pieces));
        let mut pieces = pieces.into_iter();
        let first = pieces.next().unwrap_or_default();
        scores.attentions = wanted.attentions.map(|_| first.attentions);
        scores.likelihoods = wanted.likelihood.map(|_| first.likelihoods);
        Ok(scores)
    }

    /// Returns what DNABERT's long heads read where a sequence has no more pieces: padding, unmasked because all
    /// of it would be masked alike.
    fn padding(&self, classifier: &Classifier) -> Result<&[f32]> {
        if let Some(padding) = self.padding.get() {
            return Ok(padding);
        }
        let piece = [0; PIECE];
        let plan = Plan {
            classifier: Some(classifier),
            embedding: None,
            attentions: None,
            token_head: None,
            causal: false,
            specials: &[],
        };
        let pooled = plan.read(&self.parts.encoder, &[Sequence::of(&piece)])?.remove(0).pooled;
        Ok(self.padding.get_or_init(|| pooled))
    }

    /// Fills in how likely each token is when it is masked.
    fn guess(&self, rows: &[&[u32]], answers: &mut [Answer]) -> Result<()> {
        let (Some(head), Some(mask)) = (&self.parts.token_head, self.mask) else { return Ok(()) };
        let answered = (0..rows.len()).filter(|&row| answers[row].is_ok());
        let bases = |row: usize| {
            let tokens = rows[row].iter().enumerate();
            tokens.filter(|(_, token)| !self.specials.contains(token)).map(move |(place, _)| (row, place))
        };
        let copies: Vec<(usize, usize)> = answered.flat_map(bases).collect();
        for copies in copies.chunks(COPIES) {
            let copy =
                |&(row, place): &(usize, usize)| Sequence { tokens: rows[row], masked: Some((place, mask)) };
            let sequences: Vec<Sequence> = copies.iter().map(copy).collect();
            for ((row, _), likelihood) in copies.iter().zip(guess(&self.parts.encoder, head, &sequences)?) {
                let scores = answers[*row].iter_mut();
                scores.for_each(|scores| scores.likelihoods.get_or_insert_default().push(likelihood));
            }
        }
        Ok(())
    }

    /// Refuses what the model cannot give.
    fn check(&self, wanted: &Wanted) -> Result<()> {
        let layers = self.parts.encoder.spec().layers.len();
        let refuse = |asked: bool, message: &str| if asked { Err(Error::usage(message)) } else { Ok(()) };
        refuse(
            wanted.likelihood.is_some() && self.parts.token_head.is_none(),
            "the model has no head that guesses tokens, so no likelihoods: use the language model itself \
             (architecture …ForMaskedLM or …ForCausalLM)",
        )?;
        let causal = self.parts.encoder.spec().layers.iter().all(|layer| layer.causal);
        refuse(
            causal && wanted.likelihood.is_some_and(|how| how != Likelihood::Causal),
            "the model guesses each token from those before it: ask for causal likelihoods",
        )?;
        refuse(
            !causal && wanted.likelihood == Some(Likelihood::Causal),
            "the model sees tokens on both sides: ask for masked or unmasked likelihoods",
        )?;
        refuse(
            wanted.likelihood == Some(Likelihood::Masked) && self.mask.is_none(),
            "the model's tokenizer has no [MASK] token: ask for unmasked likelihoods",
        )?;
        gpu::refuse(self.parts.encoder.is_gpu() && wanted.attentions.is_some(), "attentions")?;
        let long = self.long().is_some();
        refuse(
            wanted.attentions.is_some() && long,
            "a model that reads sequences in pieces gives no attentions",
        )?;
        refuse(
            wanted.likelihood.is_some() && long,
            "a model that reads sequences in pieces gives no likelihoods",
        )?;
        match wanted.layers.iter().find(|&&layer| layer >= layers) {
            Some(layer) => {
                Err(Error::usage(format!("layer {layer}: the model has layers 0 to {}", layers - 1)))
            }
            None => Ok(()),
        }
    }
}

impl Model for LanguageModel {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        &self.parts.labels
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        self.check(wanted)?;
        let classifier = self.parts.classifier.as_ref();
        let spec = self.parts.encoder.spec();
        let outputs = Outputs {
            classes: classifier.map_or(0, Classifier::classes),
            probs: classifier.is_some_and(|classifier| classifier.decision != Decision::Regression),
            embedding: if wanted.embedding.is_some() { spec.hidden } else { 0 },
            likelihood: wanted.likelihood.is_some(),
            attentions: wanted.attentions.map(|_| (self.layers(wanted).len(), spec.heads)),
            ..Outputs::default()
        };
        if outputs == Outputs::default() {
            return Err(Error::usage(
                "the model has no classifier: ask for embeddings, likelihoods or attentions, or give a fine-tuned \
                 model",
            ));
        }
        Ok(outputs)
    }

    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let tokens: Vec<Cow<[u32]>> = rows.par_iter().map(|row| self.tokens(row)).collect::<Result<_>>()?;
        let tokens: Vec<&[u32]> = tokens.iter().map(AsRef::as_ref).collect();
        self.predict_tokens(&tokens, wanted)
    }

    fn token_limit(&self) -> Option<usize> {
        self.limit()
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        Some(&self.parts.tokenizer)
    }

    fn language(&self) -> Option<(&LanguageModel, &dyn StateReader)> {
        // Without classes there is nothing to explain.
        self.parts.classifier.is_some().then_some((self, &OwnClassifier as &dyn StateReader))
    }
}

/// Returns the mean of the states of all pieces.
fn mean(pieces: &[Reading]) -> Vec<f32> {
    let count: usize = pieces.iter().map(|piece| piece.count).sum();
    let mut sum = vec![0.0; pieces.first().map_or(0, |piece| piece.sum.len())];
    for piece in pieces {
        sum.iter_mut().zip(&piece.sum).for_each(|(sum, value)| *sum += value);
    }
    sum.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
}
