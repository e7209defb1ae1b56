//! One model, or several that answer as one: the mean over members and, on request, over both strands.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use rayon::prelude::*;

use crate::dna;
use crate::error::{Error, Result};
use crate::model::{Loaded, Model, Prediction};
use crate::provenance;

/// Bases computed in one pass: bounds the activations in memory whatever the batch size is. Models
/// promise that results do not depend on it.
pub const PASS_BASES: usize = 1 << 14;

/// Length of the sequence that shows which outputs a model without a window has.
const PROBE_BASES: usize = 1000;

/// A loaded model under the name a person knows it by.
pub struct Member {
    /// Name of its directory.
    pub name: String,
    /// The network.
    pub loaded: Loaded,
}

/// Which outputs every row gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Number of logits.
    pub classes: usize,
    /// Whether there are probabilities, `[classes]`.
    pub probs: bool,
    /// Whether there is one score per base, `[L]`.
    pub base_scores: bool,
    /// `tracks, length` of the profile, if there is one.
    pub profile: Option<(usize, usize)>,
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
}

impl Scores {
    /// Returns whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let optional = [&self.probs, &self.base_scores, &self.profile];
        let mut all = self.logits.iter().chain(optional.into_iter().flatten().flatten());
        all.all(|value| value.is_finite())
    }
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

/// Models that answer as one. `logits`, `probs`, `base_scores` and `profile` are each the arithmetic mean
/// over members and strands: the mean of logits is not the logit of the mean probability.
pub struct Ensemble {
    members: Vec<Member>,
    rc_average: bool,
    outputs: Outputs,
}

impl Ensemble {
    /// Joins models. With `rc_average` every answer is the mean of a sequence and its reverse complement,
    /// per-base answers turned back; a profile of two tracks has its strands exchanged as well.
    ///
    /// # Errors
    ///
    /// When there is no model, or windows, classes or outputs differ.
    pub fn new(members: Vec<Member>, rc_average: bool) -> Result<Self> {
        let first = members.first().ok_or_else(|| Error::usage("no model given"))?;
        let outputs = probe(first.loaded.model.as_ref()).map_err(|error| error.at(&first.name))?;
        for member in &members[1..] {
            check_agreement(first, member)?;
            if probe(member.loaded.model.as_ref()).map_err(|error| error.at(&member.name))? != outputs {
                let (a, b) = (&first.name, &member.name);
                return Err(Error::data(format!("{a} and {b} do not predict the same outputs: no ensemble")));
            }
        }
        Ok(Self { members, rc_average, outputs })
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

    /// Returns digest and name of every member, for the provenance chain.
    pub fn provenance(&self) -> String {
        let mut text: Vec<_> =
            self.members.iter().map(|member| format!("{} {}", member.loaded.digest, member.name)).collect();
        if self.rc_average {
            text.push("mean of both strands".into());
        }
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

    /// Predicts every sequence (upper-case `ACGTN`, any mixture of lengths), in order.
    pub fn predict(&self, sequences: &[&[u8]]) -> Result<Vec<Scores>> {
        self.in_passes(sequences, |pass| self.predict_pass(pass))
    }

    /// Returns the logit of `class` of every sequence, in order.
    pub fn logits(&self, sequences: &[&[u8]], class: usize) -> Result<Vec<f32>> {
        self.in_passes(sequences, |pass| {
            let mut sums = vec![0.0; pass.len()];
            for (model, reverse) in self.orientations() {
                let logits = oriented(model, pass, reverse)?.logits.narrow(1, class, 1)?;
                for (sum, logit) in sums.iter_mut().zip(logits.flatten_all()?.to_vec1::<f32>()?) {
                    *sum += f64::from(logit);
                }
            }
            Ok(sums.into_iter().map(|sum| self.mean(sum)).collect())
        })
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
            let (mut part, of_sequence, of_zeros) = gradient_of(model, sequence, reverse, class)?;
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

    /// Predicts sequences of equal length.
    fn predict_pass(&self, pass: &[&[u8]]) -> Result<Vec<Scores>> {
        let mut answers = Vec::new();
        for (model, reverse) in self.orientations() {
            let mut rows = split(oriented(model, pass, reverse)?)?;
            if reverse {
                rows.iter_mut().for_each(|row| turn_back(row, self.outputs));
            }
            answers.push(rows);
        }
        if answers.len() == 1 {
            return Ok(answers.remove(0));
        }
        Ok((0..pass.len()).map(|row| self.average(&answers, row)).collect())
    }

    /// Returns the mean of the answers for one row.
    fn average(&self, answers: &[Vec<Scores>], row: usize) -> Scores {
        let mean = |part: &dyn Fn(&Scores) -> Option<&Vec<f32>>| -> Option<Vec<f32>> {
            let mut sums = vec![0.0; part(&answers[0][row])?.len()];
            for answer in answers {
                let values = part(&answer[row])?;
                sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            Some(sums.into_iter().map(|sum| self.mean(sum)).collect())
        };
        Scores {
            logits: mean(&|scores| Some(&scores.logits)).unwrap_or_default(),
            probs: mean(&|scores| scores.probs.as_ref()),
            base_scores: mean(&|scores| scores.base_scores.as_ref()),
            profile: mean(&|scores| scores.profile.as_ref()),
        }
    }

    /// Runs `f` on passes of sequences of equal length on all threads and returns its answers in the
    /// order of `sequences`.
    fn in_passes<T: Send>(
        &self,
        sequences: &[&[u8]],
        f: impl Fn(&[&[u8]]) -> Result<Vec<T>> + Sync,
    ) -> Result<Vec<T>> {
        let mut lengths = BTreeMap::<usize, Vec<usize>>::new();
        for (row, sequence) in sequences.iter().enumerate() {
            lengths.entry(sequence.len()).or_default().push(row);
        }
        let passes: Vec<&[usize]> = lengths
            .iter()
            .flat_map(|(&length, rows)| rows.chunks((PASS_BASES / length.max(1)).max(1)))
            .collect();
        let answers: Vec<Vec<T>> = passes
            .par_iter()
            .map(|rows| f(&rows.iter().map(|&row| sequences[row]).collect::<Vec<_>>()))
            .collect::<Result<_>>()?;
        let mut ordered: Vec<_> = passes.into_iter().flatten().zip(answers.into_iter().flatten()).collect();
        ordered.sort_unstable_by_key(|(row, _)| **row);
        Ok(ordered.into_iter().map(|(_, answer)| answer).collect())
    }
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

/// Finds out what a model predicts.
fn probe(model: &dyn Model) -> Result<Outputs> {
    let sequence = vec![b'A'; model.window().unwrap_or(PROBE_BASES)];
    let prediction = model.forward(&model.encode(&[&sequence])?)?;
    let classes = prediction.logits.dim(1)?;
    if classes != model.labels().len() {
        let labels = model.labels().len();
        return Err(Error::data(format!("the model has {classes} outputs and {labels} labels")));
    }
    Ok(Outputs {
        classes,
        probs: prediction.probs.is_some(),
        base_scores: prediction.base_scores.is_some(),
        profile: prediction
            .profile
            .map(|profile| Ok((profile.dim(1)?, profile.dim(2)?)))
            .transpose()
            .map_err(|error: candle_core::Error| Error::from(error))?,
    })
}

/// Encodes sequences of equal length, each as it is or reverse-complemented.
fn encode(model: &dyn Model, pass: &[&[u8]], reverse: bool) -> Result<Tensor> {
    if !reverse {
        return model.encode(pass);
    }
    let turned: Vec<Vec<u8>> = pass
        .iter()
        .map(|sequence| {
            let mut sequence = sequence.to_vec();
            dna::reverse_complement(&mut sequence);
            sequence
        })
        .collect();
    model.encode(&turned.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn oriented(model: &dyn Model, pass: &[&[u8]], reverse: bool) -> Result<Prediction> {
    model.forward(&encode(model, pass, reverse)?)
}

/// Differentiates one logit: gradient `[L, 4]`, the logit, and the logit of zeros.
fn gradient_of(
    model: &dyn Model,
    sequence: &[u8],
    reverse: bool,
    class: usize,
) -> Result<(Vec<f32>, f32, f32)> {
    let input = Var::from_tensor(&encode(model, &[sequence], reverse)?)?;
    let logit = |input: &Tensor| -> Result<Tensor> {
        Ok(model.forward(input)?.logits.narrow(1, class, 1)?.sum_all()?)
    };
    let of_sequence = logit(input.as_tensor())?;
    let gradients = of_sequence.backward()?;
    let gradient = gradients
        .get(input.as_tensor())
        .ok_or_else(|| Error::data("the model cannot be differentiated: use --method ism"))?;
    let of_zeros = logit(&input.as_tensor().zeros_like()?)?;
    Ok((gradient.flatten_all()?.to_vec1()?, of_sequence.to_scalar()?, of_zeros.to_scalar()?))
}

/// Splits a prediction into rows.
fn split(prediction: Prediction) -> Result<Vec<Scores>> {
    let rows = |tensor: Option<Tensor>| -> Result<Vec<Option<Vec<f32>>>> {
        let Some(tensor) = tensor else { return Ok(Vec::new()) };
        Ok(tensor.flatten_from(1)?.to_vec2()?.into_iter().map(Some).collect())
    };
    let logits = prediction.logits.to_vec2()?;
    let mut probs = rows(prediction.probs)?.into_iter();
    let mut base_scores = rows(prediction.base_scores)?.into_iter();
    let mut profile = rows(prediction.profile)?.into_iter();
    let row = |logits| Scores {
        logits,
        probs: probs.next().flatten(),
        base_scores: base_scores.next().flatten(),
        profile: profile.next().flatten(),
    };
    Ok(logits.into_iter().map(row).collect())
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
