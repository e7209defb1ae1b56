//! One model, or several that answer as one: the mean over members and, on request, over both strands.

use candle_core::{Tensor, Var};

use super::explain::{self, Background, Explanation, Way};
use super::transformer::{TokenShare, TokenWay};
use super::{Answer, Input, Loaded, Misfit, Model, Network, Outputs, Scores, Table, Wanted, substitute};
use crate::dna;
use crate::error::{Error, Result};
use crate::kernel::rule;
use crate::provenance;
use crate::tokenizer::Tokenizer;

/// A loaded model under the name a person knows it by.
pub struct Member {
    /// Name of its directory.
    pub name: String,
    /// The network.
    pub loaded: Loaded,
}

/// A logit and its gradient with respect to the encoded sequence.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// `[L, 4]`, base order A C G T.
    pub values: Vec<f32>,
    /// The logit of the sequence.
    pub logit: f32,
    /// The logit of the all-zero encoding of the same length.
    pub logit_of_zeros: f32,
}

/// Models that answer as one. `logits`, `probs`, `base_scores`, `profile` and `embedding` are each the
/// arithmetic mean over members and strands: the mean of logits is not the logit of the mean probability.
pub struct Ensemble {
    members: Vec<Member>,
    rc_average: bool,
    wanted: Wanted,
    outputs: Outputs,
}

impl Ensemble {
    /// Joins models. With `rc_average` every answer is the mean of a sequence and its reverse complement,
    /// per-base answers turned back; a profile of two tracks has its strands exchanged as well.
    ///
    /// # Errors
    ///
    /// When there is no model, windows, classes or outputs differ, a model cannot give what is `wanted`, or
    /// a mean of it would mean nothing.
    pub fn new(members: Vec<Member>, rc_average: bool, wanted: Wanted) -> Result<Self> {
        let first = members.first().ok_or_else(|| Error::usage("no model given"))?;
        let outputs_of =
            |member: &Member| member.loaded.model.outputs(&wanted).map_err(|error| error.at(&member.name));
        let outputs = outputs_of(first)?;
        for member in &members[1..] {
            check_agreement(first, member)?;
            if outputs_of(member)? != outputs {
                let (a, b) = (&first.name, &member.name);
                return Err(Error::data(format!("{a} and {b} do not predict the same outputs: no ensemble")));
            }
        }
        check_means(members.len(), rc_average, &wanted)?;
        Ok(Self { members, rc_average, wanted, outputs })
    }

    /// Returns the number of bases a row must have; `None` when any number will do.
    pub fn window(&self) -> Option<usize> {
        self.members[0].loaded.model.window()
    }

    /// Returns the names of the classes.
    pub fn labels(&self) -> &[String] {
        self.members[0].loaded.model.labels()
    }

    /// Returns which outputs every row gets.
    pub fn outputs(&self) -> Outputs {
        self.outputs
    }

    /// Returns what every row is asked for.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Returns what turns bases into tokens in the first language model.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.members.iter().find_map(|member| member.loaded.model.tokenizer())
    }

    /// Returns the digest of the model, or of the digests of the members in their order.
    pub fn digest(&self) -> String {
        use sha2::{Digest, Sha256};
        if let [only] = self.members.as_slice() {
            return only.loaded.digest.clone();
        }
        let mut hasher = Sha256::new();
        for member in &self.members {
            hasher.update(format!("{}\n", member.loaded.digest));
        }
        provenance::hexadecimal(&hasher.finalize())
    }

    /// Returns what a user should know about the members, a line each: tensors of their weights that nothing uses may
    /// mean that `config.json` names another network than the one that was trained.
    pub fn warnings(&self) -> Vec<String> {
        const SHOWN: usize = 3;
        let with_rest = self.members.iter().filter(|member| !member.loaded.unused.is_empty());
        let line = |member: &Member| {
            let Member { name, loaded: Loaded { unused, architecture, .. } } = member;
            let names = unused.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if unused.len() > SHOWN { ", …" } else { "" };
            format!(
                "{name}: a {architecture} has no use for {} of its tensors ({names}{more}); `nyx-model info` lists them",
                unused.len()
            )
        };
        with_rest.map(line).collect()
    }

    /// Returns digest and name of every member, for the provenance chain.
    pub fn provenance(&self) -> String {
        let mut text: Vec<_> =
            self.members.iter().map(|member| format!("{} {}", member.loaded.digest, member.name)).collect();
        if self.rc_average {
            text.push("mean of both strands".into());
        }
        text.extend(self.wanted.describe());
        text.join(", ")
    }

    /// Returns the class that `text` names: a label, or an index from 0.
    ///
    /// # Errors
    ///
    /// When there is no such class, or `all` is asked of a model with several.
    pub fn class(&self, text: &str) -> Result<usize> {
        let labels = self.labels();
        if let Some(index) = labels.iter().position(|label| label == text) {
            return Ok(index);
        }
        if text == "all" && labels.len() == 1 {
            return Ok(0);
        }
        text.parse().ok().filter(|&index| index < labels.len()).ok_or_else(|| {
            let names: Vec<_> = labels.iter().take(8).map(String::as_str).collect();
            let more = if labels.len() > 8 { ", …" } else { "" };
            Error::usage(format!(
                "--target {text}: one class at a time, by name or index from 0; the model has {} ({}{more})",
                labels.len(),
                names.join(", ")
            ))
        })
    }

    /// Predicts every row (any mixture of lengths), in order.
    ///
    /// # Errors
    ///
    /// When a model fails, or rows have tokens and both strands are to be averaged.
    pub fn predict(&self, rows: &[Input]) -> Result<Vec<Answer>> {
        self.predict_wanted(rows, &self.wanted)
    }

    /// Returns the logit of `class` of every sequence, in order.
    ///
    /// # Errors
    ///
    /// When a model fails or cannot read a sequence.
    pub fn logits(&self, sequences: &[&[u8]], class: usize) -> Result<Vec<f32>> {
        let rows: Vec<Input> = sequences.iter().map(|sequence| Input::of(sequence)).collect();
        let wanted = Wanted { logits_only: true, ..Wanted::default() };
        let logit = |answer: Answer| match answer {
            Ok(scores) => Ok(scores.logits[class]),
            Err(_) => Err(Error::data("a sequence does not fit the model")),
        };
        self.predict_wanted(&rows, &wanted)?.into_iter().map(logit).collect()
    }

    /// Returns the members.
    #[cfg(test)]
    pub(crate) fn into_members(self) -> Vec<Member> {
        self.members
    }

    /// Returns the models.
    pub fn models(&self) -> impl Iterator<Item = &dyn Model> {
        self.members.iter().map(|member| member.loaded.model.as_ref())
    }

    /// Returns whether answers are means over both strands.
    pub fn averages_strands(&self) -> bool {
        self.rc_average
    }

    /// Returns whether any of the models reads tokens.
    pub fn reads_tokens(&self) -> bool {
        self.models().any(|model| model.tokenizer().is_some())
    }

    /// Returns why a model cannot read a sequence, if so, for each. Networks over bases read all of their window.
    ///
    /// # Errors
    ///
    /// When a model fails.
    pub fn misfits(&self, sequences: &[&[u8]]) -> Result<Vec<Option<Misfit>>> {
        if self.models().all(|model| model.network().is_some()) {
            return Ok(vec![None; sequences.len()]);
        }
        let rows: Vec<Input> = sequences.iter().map(|sequence| Input::of(sequence)).collect();
        let wanted = Wanted { logits_only: true, ..Wanted::default() };
        Ok(self.predict_wanted(&rows, &wanted)?.into_iter().map(Result::err).collect())
    }

    /// Returns the logit of `class` of every single-base substitution of every sequence, in order.
    ///
    /// Only what a substitution reaches is computed again. The logits have the bits of [`Ensemble::logits`], but
    /// for networks with dilated convolutions, which are computed in another order: see [`crate::kernel::stack`].
    ///
    /// # Errors
    ///
    /// When a model fails or cannot read a sequence.
    pub fn substitutions(&self, sequences: &[&[u8]], class: usize) -> Result<Vec<Table>> {
        let turned: Vec<Vec<u8>> = sequences.iter().map(|sequence| reverse_complement(sequence)).collect();
        let turned: Vec<&[u8]> = turned.iter().map(Vec::as_slice).collect();
        let mut parts = Vec::new();
        for (model, reverse) in self.orientations() {
            let mut tables = substitute::tables(model, if reverse { &turned } else { sequences }, class)?;
            if reverse {
                tables.iter_mut().for_each(|table| table.as_flattened_mut().reverse());
            }
            parts.push(tables);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mean = |row: usize, index: usize, base: usize| {
            self.mean(parts.iter().map(|tables| f64::from(tables[row][index][base])).sum())
        };
        let table = |row: usize| {
            let row_of = |index| std::array::from_fn(|base| mean(row, index, base));
            (0..sequences[row].len()).map(row_of).collect()
        };
        Ok((0..sequences.len()).map(table).collect())
    }

    fn predict_wanted(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let turned = if self.rc_average { turn(rows)? } else { Vec::new() };
        let turned: Vec<Input> = turned.iter().map(|bases| Input::of(bases)).collect();
        let mut answers = Vec::new();
        for (model, reverse) in self.orientations() {
            let mut rows = model.predict(if reverse { &turned } else { rows }, wanted)?;
            if reverse {
                rows.iter_mut().flatten().for_each(|row| turn_back(row, self.outputs));
            }
            answers.push(rows);
        }
        if answers.len() == 1 {
            return Ok(answers.remove(0));
        }
        Ok((0..rows.len()).map(|row| self.average(&answers, row)).collect())
    }

    /// Returns the logit of `class` and its gradient. One sequence at a time: the batch that autodiff
    /// sees, and so the order of its sums, is always the same.
    ///
    /// # Errors
    ///
    /// When the model cannot be differentiated with respect to its input.
    pub fn gradient(&self, sequence: &[u8], class: usize) -> Result<Gradient> {
        let mut values = vec![0.0; sequence.len() * 4];
        let (mut logit, mut logit_of_zeros) = (0.0, 0.0);
        for (model, reverse) in self.orientations() {
            let network = model.network().ok_or_else(not_differentiable)?;
            let (mut part, of_sequence, of_zeros) = gradient_of(network, sequence, reverse, class)?;
            if reverse {
                // Reversing all [L, 4] reverses positions and exchanges A with T and C with G.
                part.reverse();
            }
            values.iter_mut().zip(&part).for_each(|(sum, &value)| *sum += f64::from(value));
            logit += f64::from(of_sequence);
            logit_of_zeros += f64::from(of_zeros);
        }
        Ok(Gradient {
            values: values.into_iter().map(|sum| self.mean(sum)).collect(),
            logit: self.mean(logit),
            logit_of_zeros: self.mean(logit_of_zeros),
        })
    }

    /// Shares out what the logit of `class` differs between a sequence and a background. One sequence at a time,
    /// as [`Ensemble::gradient`]; both strands are compared with the same background.
    ///
    /// # Errors
    ///
    /// When a model cannot be differentiated with respect to its input, or a background has another length.
    pub fn explain(
        &self,
        sequence: &[u8],
        class: usize,
        background: &Background,
        way: Way,
    ) -> Result<Explanation> {
        let turned = (reverse_complement(sequence), turn_background(background));
        let mut hypothetical = vec![0.0; sequence.len() * 4];
        let (mut logit, mut logit_of_background, mut change) = (0.0, 0.0, 0.0);
        for (model, reverse) in self.orientations() {
            let network = model.network().ok_or_else(not_differentiable)?;
            let (sequence, background) =
                if reverse { (turned.0.as_slice(), &turned.1) } else { (sequence, background) };
            let mut share = explain::explain(network, sequence, class, background, way)?;
            if reverse {
                share.hypothetical.reverse();
            }
            hypothetical.iter_mut().zip(&share.hypothetical).for_each(|(sum, value)| *sum += value);
            logit += share.logit;
            logit_of_background += share.logit_of_background;
            change = larger(change, share.change);
        }
        Ok(Explanation {
            hypothetical: hypothetical.into_iter().map(|sum| self.mean(sum)).collect(),
            logit: self.mean(logit),
            logit_of_background: self.mean(logit_of_background),
            change,
        })
    }

    /// Shares the logit of `class` out to the bases of a sequence by the gradients of language models with respect to
    /// their tokens.
    ///
    /// # Errors
    ///
    /// When a model is none, or cannot be differentiated, or reads a background in other tokens.
    pub fn explain_tokens(
        &self,
        sequence: &[u8],
        class: usize,
        background: &Background,
        way: TokenWay,
    ) -> Result<TokenShare> {
        let turned = (reverse_complement(sequence), turn_background(background));
        let mut mean = TokenShare { contributions: vec![0.0; sequence.len()], ..TokenShare::default() };
        let count = self.orientations().count() as f64;
        for (model, reverse) in self.orientations() {
            let (model, reader) = model.language().ok_or_else(not_differentiable)?;
            let (sequence, background) =
                if reverse { (turned.0.as_slice(), &turned.1) } else { (sequence, background) };
            let mut share = model.explain(sequence, class, background, way, reader)?;
            if reverse {
                share.contributions.reverse();
            }
            mean.change = larger(mean.change, share.change);
            let contributions = mean.contributions.iter_mut().zip(&share.contributions);
            contributions.for_each(|(sum, value)| *sum += value / count);
            mean.logit += share.logit / count;
            mean.logit_of_background += share.logit_of_background / count;
        }
        Ok(mean)
    }

    /// Returns every model with every strand it reads (`true` for the reverse complement).
    fn orientations(&self) -> impl Iterator<Item = (&dyn Model, bool)> {
        let strands: &[bool] = if self.rc_average { &[false, true] } else { &[false] };
        let models = self.members.iter().map(|member| member.loaded.model.as_ref());
        models.flat_map(move |model| strands.iter().map(move |&reverse| (model, reverse)))
    }

    /// Divides a sum over members and strands.
    fn mean(&self, sum: f64) -> f32 {
        let count = self.members.len() * if self.rc_average { 2 } else { 1 };
        (sum / count as f64) as f32
    }

    /// Returns the mean of the answers for one row.
    fn average(&self, answers: &[Vec<Answer>], row: usize) -> Answer {
        let parts: Vec<&Scores> = answers
            .iter()
            .map(|answer| answer[row].as_ref().map_err(|&misfit| misfit))
            .collect::<Result<_, _>>()?;
        let mean = |part: &dyn Fn(&Scores) -> Option<&Vec<f32>>| -> Option<Vec<f32>> {
            let mut sums = vec![0.0; part(parts[0])?.len()];
            for scores in &parts {
                sums.iter_mut().zip(part(scores)?).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            Some(sums.into_iter().map(|sum| self.mean(sum)).collect())
        };
        Ok(Scores {
            logits: mean(&|scores| Some(&scores.logits)).unwrap_or_default(),
            probs: mean(&|scores| scores.probs.as_ref()),
            base_scores: mean(&|scores| scores.base_scores.as_ref()),
            profile: mean(&|scores| scores.profile.as_ref()),
            embedding: mean(&|scores| scores.embedding.as_ref()),
            ..Scores::default()
        })
    }
}

/// Refuses means of what belongs to one model's tokens or hidden states.
fn check_means(members: usize, rc_average: bool, wanted: &Wanted) -> Result<()> {
    let of_tokens = wanted.attentions.is_some() || wanted.likelihood.is_some();
    if of_tokens && (members > 1 || rc_average) {
        return Err(Error::usage(
            "attentions and likelihoods are of one model and one strand: no mean of them",
        ));
    }
    if wanted.embedding.is_some() && members > 1 {
        return Err(Error::usage("embeddings of different models have nothing in common: give one --model"));
    }
    Ok(())
}

/// Returns a background of the other strand.
fn turn_background(background: &Background) -> Background {
    match background {
        Background::Zeros => Background::Zeros,
        Background::Sequences(sequences) => {
            Background::Sequences(sequences.iter().map(|sequence| reverse_complement(sequence)).collect())
        }
    }
}

/// Returns the larger number; what is none stays none.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

pub(super) fn not_differentiable() -> Error {
    Error::data(
        "the model cannot be differentiated with respect to bases (on a GPU none can): use --method ism, or --device cpu",
    )
}

/// Refuses members that do not read or name the same.
fn check_agreement(first: &Member, other: &Member) -> Result<()> {
    let (a, b) = (first.loaded.model.as_ref(), other.loaded.model.as_ref());
    let (first, other) = (&first.name, &other.name);
    if a.window() != b.window() {
        let text = |window: Option<usize>| window.map_or("any number of".into(), |bases| bases.to_string());
        let (a, b) = (text(a.window()), text(b.window()));
        return Err(Error::data(format!("{first} reads {a} bases and {other} reads {b}: no ensemble")));
    }
    if a.labels() != b.labels() {
        return Err(Error::data(format!("{first} and {other} have different classes: no ensemble")));
    }
    Ok(())
}

/// Returns the reverse complements of rows.
fn turn(rows: &[Input]) -> Result<Vec<Vec<u8>>> {
    if rows.iter().any(|row| row.tokens.is_some() || row.second.is_some()) {
        let message =
            "--rc-average turns sequences, which is too late for tokens and means nothing for pairs";
        return Err(Error::usage(message));
    }
    Ok(rows.iter().map(|row| reverse_complement(row.bases)).collect())
}

fn reverse_complement(sequence: &[u8]) -> Vec<u8> {
    let mut sequence = sequence.to_vec();
    dna::reverse_complement(&mut sequence);
    sequence
}

/// Differentiates one logit: gradient `[L, 4]`, the logit, and the logit of zeros.
fn gradient_of(
    network: &dyn Network,
    sequence: &[u8],
    reverse: bool,
    class: usize,
) -> Result<(Vec<f32>, f32, f32)> {
    let turned = reverse.then(|| reverse_complement(sequence));
    let input = Var::from_tensor(&network.encode(&[turned.as_deref().unwrap_or(sequence)])?)?;
    let logit = |input: &Tensor| -> Result<Tensor> {
        Ok(network.forward(input)?.logits.narrow(1, class, 1)?.sum_all()?)
    };
    let of_sequence = logit(input.as_tensor())?;
    let gradients = rule::gradients(&of_sequence)?;
    let gradient = gradients.get(input.as_tensor()).ok_or_else(not_differentiable)?;
    let of_zeros = logit(&input.as_tensor().zeros_like()?)?;
    Ok((gradient.flatten_all()?.to_vec1()?, of_sequence.to_scalar()?, of_zeros.to_scalar()?))
}

/// Turns what was predicted for the reverse complement back to the strand of the row.
fn turn_back(scores: &mut Scores, outputs: Outputs) {
    if let Some(base_scores) = &mut scores.base_scores {
        base_scores.reverse();
    }
    if let (Some(profile), Some((tracks, _))) = (&mut scores.profile, outputs.profile) {
        let length = profile.len() / tracks;
        profile.reverse();
        if tracks != 2 {
            // Reversing all also reversed the tracks, which is right only for the two strands.
            *profile = profile.chunks(length).rev().flatten().copied().collect();
        }
    }
}
