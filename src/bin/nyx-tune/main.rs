//! nyx-tune: many trainings → the best hyper-parameters and their model.

mod presets;
mod records;
mod runner;
mod session;
mod tables;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nyx::cli::{self, Common};
use nyx::output;
use nyx::train::run::larger_is_better;
use nyx::tune::{Method, Parameter, Search, Space};
use nyx::{Error, Result};

use presets::Preset;
use session::Session;

/// Trials of random and Bayesian search unless said otherwise: those of SigTFB.
const TRIALS: usize = 15;
/// Hyperband's epochs and factor unless said otherwise: Keras Tuner's.
const EPOCHS: u64 = 30;
const FACTOR: u64 = 3;

/// Search for the hyper-parameters with which nyx-train does best.
///
/// What stands after `--` is a command of nyx-train, without -o; each trial is that command with flags added, and has a model
/// directory of its own in DIR/trials. DIR/best is the best one, DIR/trials.tsv and trials.jsonl list all, DIR/search.svg
/// shows them. The list of trials follows from the seed (of bayes also from --jobs), not from what runs faster. The same
/// command again goes on where it was killed, within trials, too; more --trials go on from those that are done.
///
/// Ranges: a,b,c (values; `on,off` is a flag that is there or not), 0.1..0.5, log:1e-5..1e-2, int:16..100, 512..2048/256.
///
/// Example: nyx-tune --search bayes -p learning-rate=log:1e-4..1e-2 -p train-batch=32,64,128 --objective roc_auc -o tuned -- cnn --architecture deepbind --data CTCFL/
#[derive(Parser)]
#[command(name = "nyx-tune", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// How trials are chosen [default: the preset's, or random]
    #[arg(long, value_enum, value_name = "METHOD")]
    search: Option<SearchArg>,
    /// A flag of nyx-train and its range. May be repeated; replaces that of a preset
    #[arg(short, long = "param", value_name = "NAME=RANGE")]
    params: Vec<String>,
    /// A published search: its space, method, trials and objective
    #[arg(long, value_enum, value_name = "NAME")]
    preset: Option<Preset>,
    /// Trials of random and bayes [default: 15]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    trials: Option<u32>,
    /// Epochs of the trials that Hyperband lets run to the end [default: 30]
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u64).range(1..))]
    max_epochs: Option<u64>,
    /// Of so many trials Hyperband lets one go on, for so many times the epochs [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    factor: Option<u64>,
    /// The measure of the dev set that is searched by; the smallest where it is a loss [default: the preset's, or loss]
    #[arg(long, value_name = "MEASURE")]
    objective: Option<String>,
    /// Trials that run at once; the threads are shared among them
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Models that stay on disk: of all trials, or the best one's
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    keep: Keep,
    /// Write the trials that are known beforehand as a table, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// A command of nyx-train: its subcommand and flags
    #[arg(last = true, required = true, value_name = "TRAIN")]
    train: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SearchArg {
    /// All combinations of values
    Grid,
    /// Points drawn evenly
    Random,
    /// Many trials for few epochs, the best of them for more
    Hyperband,
    /// Where a Gaussian process expects most improvement
    Bayes,
}

/// Which models stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Keep {
    #[default]
    All,
    Best,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.check()?;
    let texts = args.texts();
    let parameters: Vec<Parameter> = texts.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    let space = Space::new(parameters)?;
    args.refuse_doubles(&space)?;
    let search = Search { space, method: args.method(), seed: args.common.seed };
    let beginning = search.next(&[])?.unwrap_or_default();
    if args.dry_run {
        let table = tables::planned(&search.space, &beginning);
        return output::write_file(&args.common.output, table.as_bytes());
    }
    Session::open(&args, &search, texts)?.run()
}

impl Args {
    fn check(&self) -> Result<()> {
        if self.common.output.as_os_str() == "-" && !self.dry_run {
            return Err(Error::usage("a search is a directory: name it with -o DIR"));
        }
        if runner::has(&self.train, &["-o", "--output"]) {
            return Err(Error::usage("-o after --: nyx-tune names the directories of its trials itself"));
        }
        let method = self.search();
        let unused = [
            ("--trials", self.trials.is_some(), matches!(method, SearchArg::Random | SearchArg::Bayes)),
            ("--max-epochs", self.max_epochs.is_some(), method == SearchArg::Hyperband),
            ("--factor", self.factor.is_some(), method == SearchArg::Hyperband),
        ];
        match unused.iter().find(|(_, given, used)| *given && !used) {
            Some((flag, ..)) => Err(Error::usage(format!("{flag} is not for --search {}", self.name()))),
            None => Ok(()),
        }
    }

    /// Refuses flags that are searched and given at once.
    fn refuse_doubles(&self, space: &Space) -> Result<()> {
        for Parameter { name, .. } in space.parameters() {
            let own = name == "epochs" && self.search() == SearchArg::Hyperband;
            let flag = name.split('.').next().unwrap_or(name);
            if own || runner::has(&self.train, &[&format!("--{flag}")]) {
                let why = if own { "Hyperband gives the epochs itself" } else { "it stands after --, too" };
                return Err(Error::usage(format!("--param {name}: {why}")));
            }
        }
        Ok(())
    }

    fn search(&self) -> SearchArg {
        self.search.or(self.preset.map(Preset::search)).unwrap_or(SearchArg::Random)
    }

    /// Returns the method's name on the command line.
    fn name(&self) -> String {
        self.search().to_possible_value().map_or(String::new(), |value| value.get_name().to_string())
    }

    fn method(&self) -> Method {
        let trials = self.trials.map_or(TRIALS, |trials| trials as usize);
        match self.search() {
            SearchArg::Grid => Method::Grid,
            SearchArg::Random => Method::Random { trials },
            SearchArg::Bayes => Method::Bayes { trials, at_once: self.jobs.into() },
            SearchArg::Hyperband => Method::Hyperband {
                epochs: self.max_epochs.unwrap_or(EPOCHS),
                factor: self.factor.unwrap_or(FACTOR),
            },
        }
    }

    fn objective(&self) -> String {
        let preset = self.preset.map(|preset| preset.objective().to_string());
        self.objective.clone().or(preset).unwrap_or("loss".into())
    }

    /// Returns -1 where a smaller objective is better: searches look for the largest.
    fn sign(&self) -> f64 {
        if larger_is_better(&self.objective()) { 1.0 } else { -1.0 }
    }

    /// Returns the ranges of the preset with those of the user in their place, and the user's others after them.
    fn texts(&self) -> Vec<String> {
        let name =
            |text: &str| text.split('=').next().unwrap_or_default().trim_start_matches('-').to_string();
        let preset = self.preset.map_or(&[] as &[&str], Preset::space);
        let own = |text: &str| self.params.iter().find(|param| name(param) == name(text));
        let mut texts: Vec<String> =
            preset.iter().map(|text| own(text).cloned().unwrap_or((*text).to_string())).collect();
        let others = self.params.iter().filter(|param| !preset.iter().any(|text| name(text) == name(param)));
        texts.extend(others.cloned());
        texts
    }
}
