//! The flags of attribution.

use std::str::FromStr;

use clap::ValueEnum;

use super::Common;
use crate::attrib::attention::{Reading, Rule};
use crate::attrib::{Center, Columns, Comparison, Completeness, Method, Options};
use crate::error::{Error, Result};
use crate::model::{Ensemble, Steps};

/// Rows of a batch whose contributions are wanted, unless the user says otherwise.
pub const ATTRIB_ROWS: usize = 32;

/// What mutagenesis compares a mutated logit with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CenterArg {
    /// The mean over the four bases at that position.
    #[default]
    Mean,
    /// The sequence as it is.
    Reference,
}

/// Which columns of contributions are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColumnsArg {
    /// `contributions`: one number per base, of the observed base.
    Projected,
    /// `hypothetical`: four numbers per base.
    Hypothetical,
    /// Both.
    #[default]
    Both,
}

/// Flags of attribution; the command has the argument `method` beside them.
#[derive(clap::Args, Clone, Debug)]
pub struct AttribArgs {
    /// The class to explain: its name, or its index from 0. `all` is for models with one class
    #[arg(long, value_name = "CLASS", default_value = "0", requires = "method")]
    pub target: String,
    /// What mutagenesis compares a mutant with: the mean of the four bases, or the sequence as it is
    #[arg(long, value_enum, value_name = "CENTER", default_value_t, requires = "method")]
    pub ism_center: CenterArg,
    /// Columns to write: of the observed base (projected), of all four bases (hypothetical), or both
    #[arg(long = "contributions", value_enum, value_name = "COLUMNS", default_value_t, requires = "method")]
    pub columns: ColumnsArg,
    /// What ig and deeplift compare a sequence with: zero (for language models all tokens masked), or shuffle:N, exact
    /// dinucleotide shuffles of the sequence itself that depend on it and --seed alone; not for language models whose
    /// tokens differ in length (default: shuffle:20 for deeplift of networks over bases, else zero)
    #[arg(long, value_name = "BACKGROUND", requires = "method")]
    pub background: Option<BackgroundArg>,
    /// Steps of ig. A third of them are taken first; they are tripled while that changes more than --settled
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20), default_value_t = Steps::default().first as u32, requires = "method")]
    pub steps: u32,
    /// The most steps of ig
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20), default_value_t = Steps::default().most as u32, requires = "method")]
    pub max_steps: u32,
    /// What part of ig's contributions tripling its steps may change, all added up without their signs; rows beyond are
    /// not `converged`, and an error with --strict
    #[arg(long, value_name = "PART", default_value_t = Steps::default().settled, requires = "method")]
    pub settled: f64,
    /// What part of the difference between sequence and background the contributions may miss; rows beyond are
    /// not `converged`, and an error with --strict
    #[arg(long, value_name = "PART", default_value_t = Steps::default().tolerance, requires = "method")]
    pub tolerance: f64,
    /// Heads whose attention is read, from 0 and by comma (default: all)
    #[arg(long, value_name = "HEAD", value_delimiter = ',', requires = "method")]
    pub heads: Vec<usize>,
    /// How attention to tokens becomes attention to bases (default: dnabert for k-mers, nyxbind for other tokens)
    #[arg(long, value_enum, value_name = "RULE", requires = "method")]
    pub attention_rule: Option<RuleArg>,
}

/// How attention to tokens becomes attention to bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuleArg {
    /// Heads and layers are summed, a base has the mean over the k-mers that cover it, the row is divided by its L2
    /// norm.
    Dnabert,
    /// Heads and layers are averaged, a token's attention is shared among its bases, the row is standardized.
    Nyxbind,
}

/// What a sequence is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackgroundArg {
    /// No base anywhere.
    Zero,
    /// So many shuffles.
    Shuffle(usize),
}

impl FromStr for BackgroundArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| text.parse().ok().filter(|&count| count > 0);
        match text.split_once(':') {
            None if text == "zero" => Ok(Self::Zero),
            Some(("shuffle", number)) if count(number).is_some() => {
                Ok(Self::Shuffle(count(number).expect("it was just read")))
            }
            _ => Err("write zero or shuffle:N".into()),
        }
    }
}

impl BackgroundArg {
    fn comparison(self, seed: u64) -> Comparison {
        match self {
            Self::Zero => Comparison::Zero,
            Self::Shuffle(count) => Comparison::Shuffles { count, seed },
        }
    }
}

/// What attribution takes from the flags of the command beside its own.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// `--strict`.
    pub strict: bool,
    /// `--seed`.
    pub seed: u64,
    /// `--layers`.
    pub layers: &'a [usize],
}

impl AttribArgs {
    /// Returns what to attribute, how, and what to write; `layers` are those whose attention is read.
    ///
    /// # Errors
    ///
    /// When the models have no such class.
    pub fn options(
        &self,
        method: Method,
        models: &Ensemble,
        Plain { strict, seed, layers }: Plain,
    ) -> Result<Options> {
        let center = match self.ism_center {
            CenterArg::Mean => Center::Mean,
            CenterArg::Reference => Center::Reference,
        };
        Ok(Options {
            method: if matches!(method, Method::Ism(_)) { Method::Ism(center) } else { method },
            // Attention is of the row, not of a class: a model without classes has it, too.
            class: if method.is_attention() { 0 } else { models.class(&self.target)? },
            columns: match self.columns {
                ColumnsArg::Projected => Columns::Projected,
                ColumnsArg::Hypothetical => Columns::Hypothetical,
                ColumnsArg::Both => Columns::Both,
            },
            strict,
            comparison: self.comparison(method, models, seed)?,
            steps: Steps {
                first: self.steps as usize,
                most: self.max_steps.max(self.steps) as usize,
                settled: self.settled,
                tolerance: self.tolerance,
            },
            attention: Reading {
                layers: layers.to_vec(),
                heads: self.heads.clone(),
                rule: self.attention_rule.map(|rule| match rule {
                    RuleArg::Dnabert => Rule::Kmers,
                    RuleArg::Nyxbind => Rule::Tokens,
                }),
            },
        })
    }

    /// Returns what sequences are compared with.
    fn comparison(&self, method: Method, models: &Ensemble, seed: u64) -> Result<Comparison> {
        let background = self.background.unwrap_or(usual_background(method, models));
        let shuffles = matches!(background, BackgroundArg::Shuffle(_)) && method.is_complete();
        if shuffles && models.models().filter_map(|model| model.tokenizer()).any(|tokens| !tokens.is_even()) {
            return Err(Error::usage(
                "--background shuffle:N: the tokens of this model differ in length, so that those of a shuffled sequence \
                 lie at other places; use --background zero, which compares with the masked token",
            ));
        }
        Ok(background.comparison(seed))
    }

    /// Says how complete contributions are, if the method promises it.
    pub fn say(&self, common: &Common, completeness: &Completeness) {
        if let Some(words) = completeness.describe() {
            common.say(&words);
        }
    }
}

/// Returns what a method compares sequences with, unless the user says otherwise.
fn usual_background(method: Method, models: &Ensemble) -> BackgroundArg {
    match method == Method::DeepLift && !models.reads_tokens() {
        true => BackgroundArg::Shuffle(20),
        false => BackgroundArg::Zero,
    }
}
