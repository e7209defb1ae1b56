//! The stages that made a file, from where its format keeps them.

use std::io::{BufRead as _, Read as _};
use std::path::Path;

use arrow_schema::Metadata;
use serde_json::Value;

use super::{Checked, Kind, Stdin, arrays, broken, kind, nameless, page, stdin, text, variants};
use crate::convert::sidecar;
use crate::error::{Error, InFile, Result};
use crate::input;
use crate::pipe::ipc;
use crate::provenance::{self, CHAIN_KEY, GENOME_KEY, Genome, STREAM_KEY, Step};

/// Reads the stages that made the file at `path`; `-` is standard input. Only as much of the file is
/// read as that takes: it may be cut behind.
///
/// # Errors
///
/// When the file cannot be read, or its format has no place for them and nothing lies beside it.
pub fn history(path: &Path) -> Result<Vec<Step>> {
    if path != Path::new("-") {
        return of_file(path);
    }
    match stdin()? {
        Stdin::Stream(reader) => provenance::chain(&ipc::read(reader)?.schema().metadata),
        Stdin::Other(file) => nameless(file.path(), of_file(file.path())),
    }
}

fn of_file(path: &Path) -> Result<Vec<Step>> {
    let kind = kind(path)?;
    let steps = match kind {
        Kind::Stream | Kind::ArrowFile | Kind::Parquet => {
            provenance::chain(&input::open_pipe(path)?.schema().metadata)
        }
        Kind::Npz => arrays::npz_chain(path),
        Kind::Hdf5 => arrays::hdf5_chain(path),
        Kind::Page => page::chain(path),
        Kind::Vcf | Kind::Table => text::chain(path),
        Kind::Bcf => variants::binary_chain(path),
        Kind::Json => json(path),
        Kind::Model => of_directory(path),
        _ => Ok(Vec::new()),
    };
    let steps = steps.in_file(path)?;
    if !steps.is_empty() {
        return Ok(steps);
    }
    match sidecar::read(path)? {
        Some(found) => steps_of(&found[CHAIN_KEY]).in_file(&sidecar::path_of(path)),
        None => Err(Error::data(missing(kind))).in_file(path),
    }
}

fn missing(kind: Kind) -> &'static str {
    match kind {
        Kind::BigWig | Kind::BigBed => {
            "the format has no place for commands, and FILE.nyx.json, where nyx-view puts them, is not beside it"
        }
        Kind::Fasta | Kind::Index | Kind::Npy | Kind::Meme | Kind::Safetensors | Kind::Torch => {
            "the format has no place for commands: keep the stream it was made of (-o FILE.arrows), or Parquet"
        }
        Kind::Model => {
            "no command lies in the directory (nyx.json): it is from elsewhere, or made with --no-pg"
        }
        _ => "there is no command in it: it was made with --no-pg, or not by nyx",
    }
}

/// Reads stages from the JSON of a chain; none from null.
pub fn steps_of(value: &Value) -> Result<Vec<Step>> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    serde_json::from_value(value.clone()).map_err(|error| Error::data(format!("{CHAIN_KEY}: {error}")))
}

/// Reads the stages of an object that has them as `nyx.pg`, or the command of one as `command`.
fn json(path: &Path) -> Result<Vec<Step>> {
    let mut line = Vec::new();
    input::open_text(path)?.read_until(b'\n', &mut line)?;
    // One object may take many lines.
    let value: Value = match serde_json::from_slice(&line) {
        Ok(value) => value,
        Err(_) => {
            let mut all = Vec::new();
            input::open_text(path)?.read_to_end(&mut all)?;
            serde_json::from_slice(&all)?
        }
    };
    let steps = steps_of(&value[CHAIN_KEY])?;
    let command = value["command"].as_str().filter(|command| steps.is_empty() && !command.is_empty());
    Ok(match command {
        Some(command) => vec![of_command(command, value["version"].as_str())],
        None => steps,
    })
}

/// Returns the stage of a command whose version may be known.
pub fn of_command(command: &str, version: Option<&str>) -> Step {
    let tool = command.split(' ').next().unwrap_or_default().to_string();
    let version = version.unwrap_or(env!("CARGO_PKG_VERSION")).into();
    Step { id: tool.clone(), tool, version, command: command.into(), ..Step::default() }
}

/// Reads the stages that made a model directory.
fn of_directory(path: &Path) -> Result<Vec<Step>> {
    let path = path.join(sidecar::IN_DIRECTORY);
    if path.is_file() { json(&path) } else { Ok(Vec::new()) }
}

/// Adds what the metadata of rows say of their history.
///
/// # Errors
///
/// A chain that is broken, a genome whose digest is not that of its contigs, a contract of another version.
pub fn check(metadata: &Metadata, checked: Checked) -> Result<Checked> {
    let mut checked = checked.made_by(&provenance::chain(metadata)?)?;
    if let Some(version) = metadata.get(STREAM_KEY) {
        checked = checked.holds(format!("contract version {version}"));
    }
    if let Some(text) = metadata.get(GENOME_KEY) {
        let genome: Genome = serde_json::from_str(text)
            .map_err(|error| broken(format!("{GENOME_KEY} cannot be read ({error})")))?;
        if Genome::new(genome.name.clone(), genome.contigs.clone()).digest != genome.digest {
            return Err(broken(format!(
                "the digest of the genome {} is not that of its contigs",
                genome.name
            )));
        }
        checked = checked.holds(format!(
            "genome {} with the digest of its {} contigs",
            genome.name,
            genome.contigs.len()
        ));
    }
    Ok(checked)
}

/// Checks that each stage follows the one before and returns them in words, if there are any.
pub fn describe(steps: &[Step]) -> Result<Option<String>> {
    let links = steps.windows(2).all(|pair| pair[1].previous.as_ref() == Some(&pair[0].id));
    if !links || steps.first().is_some_and(|first| first.previous.is_some()) {
        return Err(broken(format!("a stage is missing in its history ({CHAIN_KEY})")));
    }
    let tools: Vec<&str> = steps.iter().map(|step| step.tool.as_str()).collect();
    Ok((!tools.is_empty()).then(|| format!("made by {}", tools.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(tools: &[&str]) -> Metadata {
        tools.iter().fold(Metadata::new(), |metadata, tool| {
            let step = Step { tool: (*tool).into(), ..Step::default() };
            provenance::append(&metadata, step).unwrap()
        })
    }

    #[test]
    fn a_stage_that_was_taken_out_is_missed() {
        let whole = metadata(&["nyx-extract", "nyx-score", "nyx-view"]);
        let held = check(&whole, Checked::default()).unwrap().held;
        assert_eq!(held[0], "made by nyx-extract, nyx-score, nyx-view");
        for gone in 0..2 {
            let mut steps = provenance::chain(&whole).unwrap();
            steps.remove(gone);
            assert!(describe(&steps).unwrap_err().to_string().contains("missing"), "{gone}");
        }
    }

    #[test]
    fn a_genome_whose_contigs_were_changed_is_refused() {
        let genome = Genome::new("g.fa", vec![("chr1".into(), 10)]);
        let with =
            |genome: &Genome| metadata(&["a"]).with(GENOME_KEY, serde_json::to_string(genome).unwrap());
        let check = |genome: &Genome| check(&with(genome), Checked::default());
        assert!(check(&genome).is_ok());
        let longer = Genome { contigs: vec![("chr1".into(), 11)], ..genome };
        assert!(check(&longer).unwrap_err().to_string().contains("digest"));
    }
}
