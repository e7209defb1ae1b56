//! Where examples come from: folders with train, dev and test, single files, a stream.

use std::path::{Path, PathBuf};

use nyx::error::InFile;
use nyx::extract::sequences::{self, Options};
use nyx::input::{self, Opened};
use nyx::train::Examples;
use nyx::{Error, Result};

/// Endings of files that examples are read from.
const ENDINGS: [&str; 8] = ["csv", "tsv", "csv.gz", "tsv.gz", "csv.zst", "tsv.zst", "parquet", "arrows"];

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

impl DataArgs {
    /// Reads the three sets.
    pub fn read(&self) -> Result<Sets> {
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
        let train = need(path(&self.train, &["train", "Train"]), "train")?;
        let dev = need(path(&self.dev, &["dev", "valid", "val"]), "dev")?;
        let test = path(&self.test, &["test"]);
        Ok(Sets { train: read(&train)?, dev: read(&dev)?, test: test.map(|path| read(&path)).transpose()? })
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
