//! Where examples come from: folders with train, dev and test, single files, a stream.

use std::path::{Path, PathBuf};

use nyx::cli::Common;
use nyx::error::InFile;
use nyx::extract::sequences::{self, Options};
use nyx::input::{self, Opened};
use nyx::train::Examples;
use nyx::{Error, Result};

/// Endings of files that examples are read from.
const ENDINGS: [&str; 8] = ["csv", "tsv", "csv.gz", "tsv.gz", "csv.zst", "tsv.zst", "parquet", "arrows"];

/// The part of a training set that becomes the dev set where there is none.
const DEV_SHARE: f64 = 0.2;

/// The sets of a folder: train, dev and test.
pub fn folder(folder: &Path) -> Result<Sets> {
    DataArgs { data: Some(folder.into()), train: None, dev: None, test: None }.read()
}

/// Flags that name the data.
#[derive(clap::Args, Clone, Debug)]
pub struct DataArgs {
    /// A folder with train, dev and test: .csv or .tsv (columns `sequence` and `label`; gzip or not), .parquet, .arrows
    #[arg(long, value_name = "DIR", required_unless_present = "train")]
    pub data: Option<PathBuf>,
    /// The training set: such a file, or `-` for a stream on standard input
    #[arg(long, value_name = "FILE")]
    pub train: Option<PathBuf>,
    /// The dev set: chooses the best weights, ends training early
    #[arg(long, value_name = "FILE")]
    pub dev: Option<PathBuf>,
    /// The test set: measured once at the end
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
}

/// The three sets.
#[derive(Clone)]
pub struct Sets {
    pub train: Examples,
    pub dev: Examples,
    pub test: Option<Examples>,
}

impl Sets {
    /// Returns what tells the sets to train and to choose by from others.
    pub fn digest(&self) -> String {
        format!("{}{}", &self.train.digest()[..16], &self.dev.digest()[..16])
    }

    /// Says how large the sets are.
    pub fn say(&self, common: &Common) {
        let sizes = format!("{} examples to train on, {} dev", self.train.len(), self.dev.len());
        common.say(&format!("{sizes}, {} test", self.test.as_ref().map_or(0, Examples::len)));
    }
}

impl DataArgs {
    /// Reads the three sets.
    pub fn read(&self) -> Result<Sets> {
        self.sets(None)
    }

    /// Reads the three sets; where there is no dev set, a fifth of the training set becomes it, drawn by `seed`.
    pub fn read_or_split(&self, seed: u64) -> Result<Sets> {
        self.sets(Some(seed))
    }

    fn sets(&self, splits: Option<u64>) -> Result<Sets> {
        let path = |own: &Option<PathBuf>, names: &[&str]| -> Option<PathBuf> {
            own.clone().or_else(|| find(self.data.as_deref()?, names))
        };
        let need = |path: Option<PathBuf>, name: &str| {
            path.ok_or_else(|| {
                let place =
                    self.data.as_ref().map_or(String::new(), |data| format!(" in {}", data.display()));
                Error::usage(format!("no {name} set{place}: name it with --{name}, or put {name}.csv there"))
            })
        };
        let mut train = read(&need(path(&self.train, &["train", "Train"]), "train")?)?;
        let dev = match (path(&self.dev, &["dev", "valid", "val"]), splits) {
            (None, Some(seed)) => {
                let [rest, dev] = train.split(DEV_SHARE, seed);
                train = rest;
                dev
            }
            (dev, _) => read(&need(dev, "dev")?)?,
        };
        let test = path(&self.test, &["test"]).map(|path| read(&path)).transpose()?;
        Ok(Sets { train, dev, test })
    }
}

/// Finds the file of a set in a folder.
fn find(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    let paths = names.iter().flat_map(|name| ENDINGS.iter().map(move |ending| format!("{name}.{ending}")));
    paths.map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Reads one set.
pub fn read(path: &Path) -> Result<Examples> {
    let pipe = match input::open_any(path)? {
        Opened::Pipe(pipe) => pipe,
        Opened::Text(text) => sequences::sequences(text, &path.display().to_string(), Options::default())?,
    };
    let examples = Examples::collect(pipe).in_file(path)?;
    match examples.is_empty() {
        true => Err(Error::data("there are no examples in it")).in_file(path),
        false => Ok(examples),
    }
}
