//! What a process did, for MultiQC and for `nyx plan`: `--stats FILE.json`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{Common, Tally};
use crate::error::{Error, Result};
use crate::output;

/// The environment variable that names a directory in which every command leaves its statistics.
pub const STATS_DIRECTORY: &str = "NYX_STATS";

/// Writes the statistics of this process where they are wanted, also when it failed.
pub fn write(common: &Common, began: Instant, outcome: &Result<()>) -> Result<()> {
    let directory = std::env::var_os(STATS_DIRECTORY).map(PathBuf::from);
    let tool = common.step().tool;
    let in_directory =
        directory.map(|directory| directory.join(format!("{tool}.{}.json", std::process::id())));
    for path in common.stats.iter().chain(&in_directory) {
        let text = format!("{:#}\n", report(path, common, began, outcome));
        output::write_file(path, text.as_bytes())?;
    }
    Ok(())
}

/// Returns the statistics as custom content of MultiQC, which reads `data` and passes over the rest.
fn report(path: &Path, common: &Common, began: Instant, outcome: &Result<()>) -> Value {
    let step = common.step();
    let seconds = began.elapsed().as_secs_f64();
    let passed = common.passed.lock().expect("no thread panics with it").clone();
    let tally = passed.as_ref().map(|tally| tally.lock().expect("the counting thread did not panic"));
    let status = match outcome {
        Ok(()) | Err(Error::Closed) => 0,
        Err(error) => error.exit_status(),
    };
    let mut row = Map::new();
    if let Some(tally) = tally.as_deref() {
        row.insert("rows".into(), tally.rows().into());
        row.insert("not_ok".into(), tally.not_ok().into());
        row.insert("rows_per_second".into(), rounded(tally.rows() as f64 / seconds.max(1e-3)));
    }
    row.insert("seconds".into(), rounded(seconds));
    row.insert("cpu_seconds".into(), cpu_seconds().map_or(Value::Null, rounded));
    row.insert(
        "peak_mib".into(),
        peak_bytes().map_or(Value::Null, |bytes| rounded(bytes as f64 / 1048576.0)),
    );
    row.insert("exit_status".into(), status.into());
    row.retain(|_, value| !value.is_null());
    json!({
        "id": "nyx",
        "section_name": "nyx",
        "description": "Rows, time and memory of every nyx command.",
        "plot_type": "table",
        "pconfig": { "id": "nyx_commands", "title": "nyx: commands", "col1_header": "Command" },
        "headers": headers(),
        "data": { sample(path, &step.tool): row },
        "tool": step.tool,
        "version": step.version,
        "command": step.command,
        "statuses": tally.as_deref().map(statuses),
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
        "seconds": column("Time", "seconds from start to end", " s", "{:,.1f}"),
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

fn statuses(tally: &Tally) -> Value {
    tally.statuses.iter().map(|(status, count)| (status.clone(), Value::from(*count))).collect()
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

/// Returns the largest resident memory of this process, where the system tells.
fn peak_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
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
    fn linux_tells_time_and_memory() {
        assert!(cpu_seconds().is_some() && peak_bytes().unwrap() > 1 << 20);
    }
}
