//! What a process did, for MultiQC and for `nyx plan`: `--stats FILE.json`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::meter::peak_bytes;
use super::{Common, Tally};
use crate::error::{Error, Result};
use crate::output;

/// The environment variable that names a directory in which every command leaves its statistics.
pub const STATS_DIRECTORY: &str = "NYX_STATS";

/// Writes the statistics of this process where they are wanted, also when it failed.
pub fn write(common: &Common, outcome: &Result<()>) -> Result<()> {
    let directory = std::env::var_os(STATS_DIRECTORY).map(PathBuf::from);
    let tool = common.step().tool;
    let in_directory =
        directory.map(|directory| directory.join(format!("{tool}.{}.json", std::process::id())));
    for path in common.stats.iter().chain(&in_directory) {
        let text = format!("{:#}\n", report(path, common, outcome));
        output::write_file(path, text.as_bytes())?;
    }
    Ok(())
}

/// Returns what a process did: rows, where the time went, memory, exit status.
pub fn row(common: &Common, outcome: &Result<()>) -> Map<String, Value> {
    let (tally, seconds) = (common.meter.tally(), common.meter.seconds());
    let status = match outcome {
        Ok(()) | Err(Error::Closed) => 0,
        Err(error) => error.exit_status(),
    };
    let mebibytes = |bytes: u64| bytes as f64 / 1048576.0;
    let mut row = Map::new();
    if let Some(tally) = &tally {
        row.insert("rows".into(), tally.rows().into());
        row.insert("not_ok".into(), tally.not_ok().into());
        row.insert("rows_per_second".into(), rounded(tally.rows() as f64 / seconds.all.max(1e-3)));
    }
    if let Some(passes) = common.meter.passes() {
        row.insert("passes".into(), passes.into());
    }
    let measured = [
        ("seconds", Some(seconds.all)),
        ("read_seconds", seconds.read),
        ("compute_seconds", seconds.compute),
        ("write_seconds", seconds.write),
        ("cpu_seconds", cpu_seconds()),
        ("peak_mib", peak_bytes().map(mebibytes)),
    ];
    let measured = measured.into_iter().filter_map(|(name, value)| Some((name.to_string(), rounded(value?))));
    row.extend(measured);
    row.insert("exit_status".into(), status.into());
    row
}

/// Returns the statistics as custom content of MultiQC, which reads `data` and passes over the rest.
fn report(path: &Path, common: &Common, outcome: &Result<()>) -> Value {
    let step = common.step();
    json!({
        "id": "nyx",
        "section_name": "nyx",
        "description": "Rows, time and memory of every nyx command.",
        "plot_type": "table",
        "pconfig": { "id": "nyx_commands", "title": "nyx: commands", "col1_header": "Command" },
        "headers": headers(),
        "data": { sample(path, &step.tool): row(common, outcome) },
        "tool": step.tool,
        "version": step.version,
        "command": step.command,
        "statuses": common.meter.tally().as_ref().map(statuses),
        "error": outcome.as_ref().err().map(ToString::to_string),
    })
}

/// Returns how MultiQC shows the columns.
fn headers() -> Value {
    let column = |title: &str, description: &str, suffix: &str, format: &str| json!({ "title": title, "description": description, "suffix": suffix, "format": format });
    json!({
        "rows": column("Rows", "rows that went through", "", "{:,.0f}"),
        "not_ok": column("Not ok", "rows with a status other than ok", "", "{:,.0f}"),
        "rows_per_second": column("Rows/s", "rows per second", "", "{:,.0f}"),
        "passes": column("Passes", "distinct sequences that a model read", "", "{:,.0f}"),
        "seconds": column("Time", "seconds from start to end", " s", "{:,.1f}"),
        "read_seconds": column("Reading", "seconds of reading rows, or of waiting for who writes them", " s", "{:,.1f}"),
        "compute_seconds": column("Computing", "seconds of making rows", " s", "{:,.1f}"),
        "write_seconds": column("Writing", "seconds of writing rows, or of waiting for who reads them", " s", "{:,.1f}"),
        "cpu_seconds": column("Processor time", "seconds of all threads together", " s", "{:,.1f}"),
        "peak_mib": column("Memory", "largest resident memory", " MiB", "{:,.0f}"),
        "exit_status": column("Exit", "exit status", "", "{:,.0f}"),
    })
}

/// Returns what to call a run: the file's name without its endings, and the tool where that is not in it.
fn sample(path: &Path, tool: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.trim_end_matches(".json").trim_end_matches("_mqc").trim_end_matches(".stats");
    if stem.contains(tool) { stem.to_string() } else { format!("{stem} {tool}") }
}

/// Returns how many rows had which status.
pub fn statuses(tally: &Tally) -> Value {
    tally.statuses().iter().map(|(status, count)| (status.clone(), Value::from(*count))).collect()
}

fn rounded(number: f64) -> Value {
    ((number * 1000.0).round() / 1000.0).into()
}

/// Returns the processor time of all threads of this process, where the system tells.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything; 11 fields later come the two times,
    // in hundredths of a second on every Linux.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_called_by_its_file_and_its_tool() {
        assert_eq!(sample(Path::new("a/chr20_mqc.json"), "nyx-score"), "chr20 nyx-score");
        assert_eq!(sample(Path::new("nyx-score.17.json"), "nyx-score"), "nyx-score.17");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_the_time_of_all_threads() {
        assert!(cpu_seconds().is_some());
    }
}
