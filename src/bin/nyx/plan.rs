//! `nyx plan`: what a scan will take, from a small part of it.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use nyx::cli::STATS_DIRECTORY;
use nyx::extract::shard::Shard;
use nyx::output::ScratchFolder;
use nyx::pipe::ipc;
use nyx::provenance::{self, Share};
use nyx::score::reuse::{self, KEPT_FLOATS, TRIAL};
use nyx::{Error, Result};
use serde_json::{Value, json};

use super::run::time;
use super::sharded::{self, Pipeline};

/// A calibration that is over sooner than this many seconds says more of starting than of going on.
const SECONDS_LEAST: f64 = 3.0;

/// Where in the scan parts of it are run: windows are not alike everywhere.
const PLACES: [f64; 3] = [0.5, 0.2, 0.8];

/// Memory that grows with the windows, at most: what nyx-score keeps of its answers.
const GROWTH_MOST: f64 = (KEPT_FLOATS * size_of::<f32>()) as f64 / MEBIBYTE;

/// Bytes that are kept of a window, besides those of its answer.
const OVERHEAD: f64 = (reuse::OVERHEAD * size_of::<f32>()) as f64;

const MEBIBYTE: f64 = 1048576.0;

/// Predict time, memory and size of a scan from a thousand windows of it.
///
/// The pipeline is written as for `nyx run`. A small and a larger part are run at three places of the scan, larger ones until
/// they take some seconds; the line through them is what the whole will take, on this machine as busy as it is now. The
/// spread is how far the three differ.
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
    /// Rows that went to a model, and sequences that it read.
    scored: f64,
    passes: f64,
}

/// A small and a larger part of the scan, one after the other.
#[derive(Clone, Copy, Debug)]
struct Round {
    small: Cost,
    large: Cost,
}

/// What is predicted.
#[derive(Debug)]
struct Plan {
    total: u64,
    machines: u64,
    /// Of all rounds together.
    calibration: Cost,
    /// Of one machine.
    all: Cost,
    /// How far the time of one round alone is from that of all, as a fraction.
    spread: f64,
}

pub fn run(args: &Args) -> Result<()> {
    let pipeline = Pipeline::new(&args.pipeline)?;
    let whole = share_of(&pipeline, Shard::default())?;
    if whole.total == 0 {
        return Err(Error::data("the scan has no windows"));
    }
    let rounds = calibrate(&pipeline, whole.total, args.windows)?;
    let plan = Plan::new(whole.total, args.machines, &rounds);
    let mut output = std::io::stdout().lock();
    let text = match args.json {
        true => format!("{:#}\n", plan.report()),
        false => plan.describe(),
    };
    Ok(output.write_all(text.as_bytes())?)
}

/// Runs a small and a larger part of the scan at every place.
fn calibrate(pipeline: &Pipeline, total: u64, windows: u64) -> Result<Vec<Round>> {
    let windows = enough(pipeline, total, windows)?;
    PLACES.iter().map(|place| Round::run(pipeline, total, windows, *place)).collect()
}

/// Returns how many windows take long enough to tell. What it runs does not count: files that nobody has read for a while
/// make a first run slow.
fn enough(pipeline: &Pipeline, total: u64, windows: u64) -> Result<u64> {
    let mut windows = windows.min(total);
    while windows < total {
        let Round { small, large } = Round::run(pipeline, total, windows, PLACES[0])?;
        let seconds = large.seconds - small.seconds;
        if seconds >= SECONDS_LEAST {
            break;
        }
        let times = (1.2 * SECONDS_LEAST / seconds.max(0.01)).clamp(1.5, 8.0);
        windows = ((windows as f64 * times) as u64).min(total);
    }
    Ok(windows)
}

impl Round {
    /// Runs a quarter and the whole of as many windows at a place.
    fn run(pipeline: &Pipeline, total: u64, windows: u64, place: f64) -> Result<Self> {
        let part = |windows: u64| measure(pipeline, shard_at(total, windows, place));
        Ok(Self { small: part((windows / 4).max(1))?, large: part(windows)? })
    }
}

/// Returns the shard of about as many windows that is at a place.
fn shard_at(total: u64, windows: u64, place: f64) -> Shard {
    let parts = (total / windows.max(1)).max(1);
    let part = ((parts as f64 * place) as u64 + 1).min(parts);
    Shard::new(part, parts).unwrap_or_default()
}

/// Asks the pipeline's first command how many regions a shard has, without waiting for its rows.
fn share_of(pipeline: &Pipeline, shard: Shard) -> Result<Share> {
    let code = pipeline.first_of(shard);
    let directory = ScratchFolder::new()?;
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
    let directory = ScratchFolder::new()?;
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
    let windows = (share.end - share.first) as f64;
    Ok(Cost { windows, seconds, bytes, ..processes(directory.path())? })
}

fn drain(mut stream: impl Read) -> Result<f64> {
    Ok(std::io::copy(&mut stream, &mut std::io::sink())? as f64)
}

/// Adds up what the commands that left their statistics took.
fn processes(directory: &Path) -> Result<Cost> {
    let mut sums = Cost::default();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let stats: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        for row in stats["data"].as_object().into_iter().flat_map(|data| data.values()) {
            let number = |name: &str| row[name].as_f64();
            sums.cpu_seconds += number("cpu_seconds").unwrap_or(0.0);
            sums.peak_mib += number("peak_mib").unwrap_or(0.0);
            if let (Some(rows), Some(passes)) = (number("rows"), number("passes")) {
                sums.scored += rows;
                sums.passes += passes;
            }
        }
    }
    Ok(sums)
}

impl Cost {
    /// Returns the mean of each.
    fn mean(costs: impl Iterator<Item = Self> + Clone) -> Self {
        let count = costs.clone().count().max(1) as f64;
        let mean = |of: fn(&Self) -> f64| costs.clone().map(|cost| of(&cost)).sum::<f64>() / count;
        Self {
            windows: mean(|cost| cost.windows),
            seconds: mean(|cost| cost.seconds),
            cpu_seconds: mean(|cost| cost.cpu_seconds),
            bytes: mean(|cost| cost.bytes),
            peak_mib: mean(|cost| cost.peak_mib),
            scored: mean(|cost| cost.scored),
            passes: mean(|cost| cost.passes),
        }
    }

    /// Returns up to which window of a scan memory grows: answers are kept as long as they are of use.
    fn last_kept(&self, windows: f64) -> f64 {
        if reuse::is_worth_it(self.scored, self.passes) { windows } else { windows.min(TRIAL as f64) }
    }
}

/// Continues the line through two parts to `windows` windows.
fn extrapolate(Round { small, large }: Round, windows: f64) -> Cost {
    // Noise must not make a scan that takes less the longer it is.
    let run = large.windows - small.windows;
    let slope = |of: fn(&Cost) -> f64| match run > 0.0 {
        true => ((of(&large) - of(&small)) / run).max(0.0),
        false => of(&large) / large.windows.max(1.0),
    };
    let line = |of: fn(&Cost) -> f64| of(&large) + slope(of) * (windows - large.windows);
    // Memory does not grow with the input but for what is kept of each answer, up to a limit.
    let kept = slope(|cost| cost.peak_mib).min((OVERHEAD + slope(|cost| cost.bytes)) / MEBIBYTE);
    let more = large.last_kept(windows) - large.windows;
    // What the larger part has kept is in its peak.
    let most = (GROWTH_MOST - kept * large.windows).max(0.0);
    let growth = if run > 0.0 { (kept * more).clamp(0.0, most) } else { 0.0 };
    Cost {
        windows,
        scored: line(|cost| cost.scored),
        passes: line(|cost| cost.passes),
        seconds: line(|cost| cost.seconds),
        cpu_seconds: line(|cost| cost.cpu_seconds),
        bytes: line(|cost| cost.bytes),
        peak_mib: large.peak_mib.max(small.peak_mib) + growth,
    }
}

impl Plan {
    fn new(total: u64, machines: u64, rounds: &[Round]) -> Self {
        let windows = total.div_ceil(machines) as f64;
        let small = Cost::mean(rounds.iter().map(|round| round.small));
        let large = Cost::mean(rounds.iter().map(|round| round.large));
        let all = extrapolate(Round { small, large }, windows);
        let apart =
            rounds.iter().map(|round| (extrapolate(*round, windows).seconds / all.seconds - 1.0).abs());
        Self { total, machines, calibration: large, all, spread: apart.fold(0.0, f64::max) }
    }

    fn describe(&self) -> String {
        let Self { total, machines, calibration, all, spread } = self;
        let per = if *machines > 1 { format!(", on each of {machines} machines") } else { String::new() };
        format!(
            "windows  {total}{per}\ntime     {} ({:.0} s, {:.1} windows/s, spread {:.0} %)\nprocessor {:.0} s\n\
             memory   {:.0} MiB\nsize     {:.1} MiB\nfrom {} times {:.0} windows in {:.1} s\n",
            time(all.seconds),
            all.seconds,
            all.windows / all.seconds,
            100.0 * spread,
            all.cpu_seconds,
            all.peak_mib,
            all.bytes / MEBIBYTE,
            PLACES.len(),
            calibration.windows,
            calibration.seconds,
        )
    }

    fn report(&self) -> Value {
        let Self { total, machines, calibration, all, spread } = self;
        json!({
            "windows": total,
            "machines": machines,
            "seconds": all.seconds,
            "spread": spread,
            "cpu_seconds": all.cpu_seconds,
            "peak_mib": all.peak_mib,
            "bytes": all.bytes.round(),
            "calibration": { "windows": calibration.windows, "seconds": calibration.seconds },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(windows: f64, seconds: f64, bytes: f64, peak_mib: f64) -> Cost {
        Cost { windows, seconds, cpu_seconds: seconds, bytes, peak_mib, ..Cost::default() }
    }

    fn round(small: Cost, large: Cost) -> Round {
        Round { small, large }
    }

    #[test]
    fn what_starting_takes_is_not_multiplied() {
        let parts = round(cost(100.0, 3.0, 1100.0, 50.0), cost(200.0, 4.0, 2100.0, 50.0));
        let all = extrapolate(parts, 1000.0);
        assert_eq!((all.seconds, all.bytes, all.peak_mib), (12.0, 10100.0, 50.0));
    }

    #[test]
    fn noise_does_not_make_time_run_backwards() {
        let all = extrapolate(round(cost(100.0, 3.0, 0.0, 1.0), cost(200.0, 2.0, 0.0, 1.0)), 1000.0);
        assert_eq!(all.seconds, 2.0);
    }

    #[test]
    fn memory_grows_by_what_is_kept_of_answers_and_no_further() {
        // 512 bytes of each window are kept, and as many written.
        let grown = |windows: f64| 40.0 + windows * 512.0 / MEBIBYTE;
        let part = |windows: f64| cost(windows, windows, 512.0 * windows, grown(windows));
        let peak = |windows| extrapolate(round(part(1000.0), part(4000.0)), windows).peak_mib;
        assert!((peak(20_000.0) - grown(20_000.0)).abs() < 1e-9);
        assert!((peak(1e9) - (40.0 + GROWTH_MOST)).abs() < 1e-9);
        // Noise: no window of 16 bytes keeps a megabyte.
        let kept = 1000.0 * (OVERHEAD + 16.0) / MEBIBYTE;
        let noisy = round(cost(10.0, 1.0, 160.0, 40.0), cost(20.0, 2.0, 320.0, 50.0));
        assert!(extrapolate(noisy, 1020.0).peak_mib < 50.1 + kept);
    }

    #[test]
    fn memory_does_not_grow_past_the_trial_where_no_sequence_comes_again() {
        let part = |windows: f64, passes: f64| Cost {
            scored: windows,
            passes,
            ..cost(windows, windows, 512.0 * windows, 40.0 + windows * 512.0 / MEBIBYTE)
        };
        let peak = |share: f64| {
            let parts = round(part(1000.0, 1000.0 * share), part(4000.0, 4000.0 * share));
            extrapolate(parts, 20_000.0).peak_mib
        };
        assert!((peak(1.0) - (40.0 + TRIAL as f64 * 512.0 / MEBIBYTE)).abs() < 1e-9);
        assert!((peak(0.5) - (40.0 + 20_000.0 * 512.0 / MEBIBYTE)).abs() < 1e-9);
    }

    #[test]
    fn the_plan_is_of_all_places_and_says_how_far_they_differ() {
        let at = |seconds: f64| round(cost(100.0, seconds, 0.0, 1.0), cost(200.0, 2.0 * seconds, 0.0, 1.0));
        let plan = Plan::new(2000, 2, &[at(1.0), at(2.0), at(3.0)]);
        assert_eq!((plan.all.windows, plan.all.seconds, plan.spread), (1000.0, 20.0, 0.5));
        assert!(plan.describe().contains("on each of 2 machines") && plan.describe().contains("spread 50 %"));
    }

    #[test]
    fn parts_are_at_their_places_and_no_larger_than_the_scan() {
        let of = |total, windows| PLACES.map(|place| shard_at(total, windows, place).part());
        assert_eq!(of(1000, 100), [6, 3, 9]);
        assert_eq!(of(1000, 1000), [1, 1, 1]);
        assert_eq!(of(1000, 5000), [1, 1, 1]);
    }
}
