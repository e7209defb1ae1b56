//! `nyx plan`: what a scan will take, from a small part of it.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use nyx::cli::STATS_DIRECTORY;
use nyx::extract::shard::Shard;
use nyx::pipe::ipc;
use nyx::provenance::{self, Share};
use nyx::{Error, Result};
use serde_json::{Value, json};

use super::run::time;
use super::sharded::{self, Pipeline};

/// A calibration that is over sooner than this many seconds says more of starting than of going on.
const SECONDS_LEAST: f64 = 2.0;

/// Predict time, memory and size of a scan from a thousand windows of it.
///
/// The pipeline is written as for `nyx run`. A small and a larger part from its middle are run (twice each, and larger
/// ones until they take two seconds); the line through them is what the whole will take, on this machine as busy as it
/// is now.
///
/// Example: nyx plan 'nyx-extract tiles --fasta hg38.fa --n-policy drop | nyx-score --model ctcf/'
#[derive(clap::Args)]
pub struct Args {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// Windows of the calibration, at least
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    windows: u64,
    /// Machines that share the scan evenly
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    machines: u64,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// What a part of the scan took.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    windows: f64,
    seconds: f64,
    /// Of all commands together.
    cpu_seconds: f64,
    bytes: f64,
    /// Of all commands together.
    peak_mib: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let pipeline = Pipeline::new(&args.pipeline)?;
    let whole = share_of(&pipeline, Shard::default())?;
    if whole.total == 0 {
        return Err(Error::data("the scan has no windows"));
    }
    let (small, large) = calibrate(&pipeline, whole.total, args.windows)?;
    let all = extrapolate(small, large, whole.total.div_ceil(args.machines) as f64);
    let mut output = std::io::stdout().lock();
    let text = match args.json {
        true => format!("{:#}\n", report(args, whole, large, all)),
        false => describe(args, whole, large, all),
    };
    Ok(output.write_all(text.as_bytes())?)
}

/// Runs parts of the scan until they are long enough to tell; returns what a quarter and the whole of the last took.
fn calibrate(pipeline: &Pipeline, total: u64, windows: u64) -> Result<(Cost, Cost)> {
    let mut windows = windows.min(total);
    loop {
        let small = best(pipeline, total, (windows / 4).max(1))?;
        let large = best(pipeline, total, windows)?;
        if large.seconds - small.seconds >= SECONDS_LEAST || windows == total {
            return Ok((small, large));
        }
        windows = (windows * 4).min(total);
    }
}

/// Returns the less disturbed of two runs of a part with about as many windows.
fn best(pipeline: &Pipeline, total: u64, windows: u64) -> Result<Cost> {
    let parts = (total / windows.max(1)).max(1);
    let shard = Shard::new(parts.div_ceil(2), parts).unwrap_or_default();
    let (one, other) = (measure(pipeline, shard)?, measure(pipeline, shard)?);
    Ok(if one.seconds <= other.seconds { one } else { other })
}

/// Asks the pipeline's first command how many regions a shard has, without waiting for its rows.
fn share_of(pipeline: &Pipeline, shard: Shard) -> Result<Share> {
    let code = pipeline.first_of(shard);
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let mut child =
        sharded::shell(&code, Stdio::piped(), Stdio::from(std::fs::File::create(&log)?))?.spawn()?;
    let stream = BufReader::new(child.stdout.take().expect("piped"));
    let schema = ipc::read(Box::new(stream)).map(|pipe| pipe.schema().clone());
    // The pipe is closed by now, which ends the command.
    let _ = child.wait();
    let failed = |error: Error| Error::Command { message: error.to_string(), log: sharded::end_of(&log) };
    let share = provenance::share(&schema.map_err(failed)?.metadata)?;
    share.ok_or_else(|| Error::data(format!("`{}` does not say how many regions it has", code.trim())))
}

/// Runs a shard, throws away what it writes and returns what it took.
fn measure(pipeline: &Pipeline, shard: Shard) -> Result<Cost> {
    let share = share_of(pipeline, shard)?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let began = Instant::now();
    let mut command =
        sharded::shell(&pipeline.of(shard), Stdio::piped(), Stdio::from(std::fs::File::create(&log)?))?;
    let mut child = command.env(STATS_DIRECTORY, directory.path()).spawn()?;
    let bytes = drain(child.stdout.take().expect("piped"))?;
    let status = child.wait()?;
    let seconds = began.elapsed().as_secs_f64();
    if !status.success() {
        let message = format!("the calibration failed ({status})");
        return Err(Error::Command { message, log: sharded::end_of(&log) });
    }
    let (cpu_seconds, peak_mib) = processes(directory.path())?;
    let windows = (share.end - share.first) as f64;
    Ok(Cost { windows, seconds, cpu_seconds, bytes, peak_mib })
}

fn drain(mut stream: impl Read) -> Result<f64> {
    Ok(std::io::copy(&mut stream, &mut std::io::sink())? as f64)
}

/// Adds up processor time and memory of the commands that left their statistics.
fn processes(directory: &Path) -> Result<(f64, f64)> {
    let mut sums = (0.0, 0.0);
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let stats: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        for row in stats["data"].as_object().into_iter().flat_map(|data| data.values()) {
            sums.0 += row["cpu_seconds"].as_f64().unwrap_or(0.0);
            sums.1 += row["peak_mib"].as_f64().unwrap_or(0.0);
        }
    }
    Ok(sums)
}

/// Continues the line through two parts to `windows` windows. Memory does not grow with the input: it is the larger.
fn extrapolate(small: Cost, large: Cost, windows: f64) -> Cost {
    let line = |of: fn(&Cost) -> f64| {
        let (a, b) = (of(&small), of(&large));
        let run = large.windows - small.windows;
        // Noise must not make a scan that takes less the longer it is.
        let slope = if run > 0.0 { ((b - a) / run).max(0.0) } else { b / large.windows.max(1.0) };
        b + slope * (windows - large.windows)
    };
    Cost {
        windows,
        seconds: line(|cost| cost.seconds),
        cpu_seconds: line(|cost| cost.cpu_seconds),
        bytes: line(|cost| cost.bytes),
        peak_mib: small.peak_mib.max(large.peak_mib),
    }
}

fn describe(args: &Args, whole: Share, calibration: Cost, all: Cost) -> String {
    let per =
        if args.machines > 1 { format!(", on each of {} machines", args.machines) } else { String::new() };
    format!(
        "windows  {}{per}\ntime     {} ({:.0} s, {:.1} windows/s)\nprocessor {:.0} s\nmemory   {:.0} MiB\nsize     {:.1} MiB\n\
         from {:.0} windows in {:.1} s\n",
        whole.total,
        time(all.seconds),
        all.seconds,
        all.windows / all.seconds,
        all.cpu_seconds,
        all.peak_mib,
        all.bytes / 1048576.0,
        calibration.windows,
        calibration.seconds,
    )
}

fn report(args: &Args, whole: Share, calibration: Cost, all: Cost) -> Value {
    json!({
        "windows": whole.total,
        "machines": args.machines,
        "seconds": all.seconds,
        "cpu_seconds": all.cpu_seconds,
        "peak_mib": all.peak_mib,
        "bytes": all.bytes.round(),
        "calibration": { "windows": calibration.windows, "seconds": calibration.seconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(windows: f64, seconds: f64, bytes: f64, peak_mib: f64) -> Cost {
        Cost { windows, seconds, cpu_seconds: seconds, bytes, peak_mib }
    }

    #[test]
    fn what_starting_takes_is_not_multiplied() {
        let all = extrapolate(cost(100.0, 3.0, 1100.0, 50.0), cost(200.0, 4.0, 2100.0, 55.0), 1000.0);
        assert_eq!((all.seconds, all.bytes, all.peak_mib), (12.0, 10100.0, 55.0));
    }

    #[test]
    fn noise_does_not_make_time_run_backwards() {
        let all = extrapolate(cost(100.0, 3.0, 0.0, 1.0), cost(200.0, 2.0, 0.0, 1.0), 1000.0);
        assert_eq!(all.seconds, 2.0);
    }
}
