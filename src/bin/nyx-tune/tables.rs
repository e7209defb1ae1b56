//! The trials of a search as tables and as a picture, and what is told of the best.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nyx::error::InFile;
use nyx::train::run::larger_is_better;
use nyx::tune::{Search, Space, Task, picture};
use nyx::{Result, output};
use serde_json::{Map, Value, json};

use super::records::{self, Directory, Trial};

/// Returns tasks as a table, before anything is known of them.
pub fn planned(space: &Space, tasks: &[Task]) -> String {
    let names: Vec<&str> = space.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    let mut text = format!("trial\tepochs\t{}\n", names.join("\t"));
    for task in tasks {
        let epochs = task.epochs.map_or(".".into(), |epochs| epochs.to_string());
        let _ = writeln!(text, "{}\t{epochs}\t{}", task.trial, space.values(&task.point).join("\t"));
    }
    text
}

/// Writes trials.tsv, trials.jsonl and search.svg.
pub fn write(
    directory: &Path,
    objective: &str,
    search: &Search,
    trials: &BTreeMap<usize, Trial>,
) -> Result<()> {
    output::write_file(&directory.join("trials.tsv"), table(objective, search, trials).as_bytes())?;
    let line = |trial: &Trial| {
        let line = json!({
            "trial": trial.trial,
            "bracket": trial.bracket,
            "parameters": parameters(trial),
            "results": trial.results,
        });
        format!("{line}\n")
    };
    let lines: String = trials.values().map(line).collect();
    output::write_file(&directory.join("trials.jsonl"), lines.as_bytes())?;
    let names: Vec<String> =
        search.space.parameters().iter().map(|parameter| parameter.name.clone()).collect();
    let most = trials.values().filter_map(|trial| trial.results.last()?.epochs).max();
    let dot = |trial: &Trial| {
        let last = trial.results.last();
        picture::Dot {
            trial: trial.trial,
            value: last.and_then(|outcome| outcome.value),
            is_whole: last.is_some_and(|outcome| outcome.epochs == most),
            values: trial.parameters.iter().map(|(_, value)| value.clone()).collect(),
        }
    };
    let dots: Vec<picture::Dot> = trials.values().map(dot).collect();
    let svg = picture::draw(objective, larger_is_better(objective), &names, &dots);
    output::write_file(&directory.join("search.svg"), svg.as_bytes())
}

/// A line for every result: a trial that climbed rungs has several.
fn table(objective: &str, search: &Search, trials: &BTreeMap<usize, Trial>) -> String {
    let names: Vec<&str> =
        search.space.parameters().iter().map(|parameter| parameter.name.as_str()).collect();
    let mut text =
        format!("trial\tbracket\tepochs\tstatus\t{objective}\tsteps\tseconds\t{}\n", names.join("\t"));
    for trial in trials.values() {
        let values: Vec<&str> = trial.parameters.iter().map(|(_, value)| value.as_str()).collect();
        for outcome in &trial.results {
            let or_none = |value: Option<String>| value.unwrap_or(".".into());
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{}\t{}\t{}\t{:.2}\t{}",
                trial.trial,
                or_none(trial.bracket.map(|bracket| bracket.to_string())),
                or_none(outcome.epochs.map(|epochs| epochs.to_string())),
                if outcome.error.is_some() { "failed" } else { "ok" },
                or_none(outcome.value.map(|value| value.to_string())),
                outcome.steps,
                outcome.seconds,
                values.join("\t")
            );
        }
    }
    text
}

/// Returns hyper-parameters by name.
fn parameters(trial: &Trial) -> Map<String, Value> {
    trial.parameters.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
}

/// Writes best.json and hyperparameters.txt (SigTFB's lines), and points `best` to the model.
pub fn write_best(directory: &Directory, trial: &Trial, objective: &str, value: f64) -> Result<()> {
    let model = directory.relative(trial.trial);
    let best =
        json!({ "trial": trial.trial, objective: value, "parameters": parameters(trial), "model": model });
    records::write_json(&directory.path().join("best.json"), &best)?;
    let lines = trial.parameters.iter().map(|(name, value)| format!("{name},{value}\n"));
    let text = format!("{},{value}\n{}", objective.to_uppercase(), lines.collect::<String>());
    output::write_file(&directory.path().join("hyperparameters.txt"), text.as_bytes())?;
    let (link, new) = (directory.path().join("best"), directory.path().join(".best.new"));
    let _ = fs::remove_file(&new);
    symlink(&model, &new).in_file(&new)?;
    fs::rename(&new, &link).in_file(&link)
}
