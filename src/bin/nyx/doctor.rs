//! `nyx doctor`.

use std::io::Write;
use std::process::Command;

use nyx::device::{DeviceChoice, Opened};
use nyx::kernel::instructions::{self, Instructions};
use nyx::{Error, Result};
use serde_json::{Value, json};

use super::siblings;

/// Say what the commands will run on and why, and whether they are all here and of one version.
#[derive(clap::Args)]
pub struct Args {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
struct Finding {
    subject: &'static str,
    /// Whether it is as it should be.
    fine: bool,
    text: String,
    value: Value,
}

pub fn run(args: &Args) -> Result<()> {
    let findings = [version(), processor(), memory(), gpu(), cublaslt(), device(), scratch(), executables()];
    let mut output = std::io::stdout().lock();
    if args.json {
        let fields = findings.iter().map(|finding| (finding.subject.to_string(), finding.value.clone()));
        writeln!(output, "{:#}", Value::Object(fields.collect()))?;
    } else {
        for Finding { subject, fine, text, .. } in &findings {
            writeln!(output, "{} {subject:<12} {text}", if *fine { " " } else { "!" })?;
        }
    }
    let faults: Vec<_> = findings.iter().filter(|finding| !finding.fine).map(|f| f.subject).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::data(format!("not as it should be: {}", faults.join(", "))))
}

fn version() -> Finding {
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({ "version": version, "target": target, "stream": nyx::provenance::STREAM_VERSION });
    Finding { subject: "nyx", fine: true, text: format!("{version} for {target}"), value }
}

fn processor() -> Finding {
    let features: Vec<&str> =
        instructions::extensions().into_iter().filter(|(_, here)| *here).map(|(name, _)| name).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let path = Instructions::detect().name();
    let text = format!("{cores} cores, {}: {path} code runs", features.join(" "));
    Finding {
        subject: "processor",
        fine: true,
        text,
        value: json!({ "cores": cores, "features": features, "code": path }),
    }
}

fn memory() -> Finding {
    let kib = |key: &str| -> Option<u64> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    };
    let (total, free) = (kib("MemTotal"), kib("MemAvailable"));
    let gib =
        |kib: Option<u64>| kib.map_or("unknown".into(), |kib| format!("{:.1} GiB", kib as f64 / 1048576.0));
    let text = format!("{}, {} of it available", gib(total), gib(free));
    Finding {
        subject: "memory",
        fine: true,
        text,
        value: json!({ "total_kib": total, "available_kib": free }),
    }
}

/// Opens the first GPU as `--device cuda` does, so that this line cannot differ from what the commands do.
fn gpu() -> Finding {
    let found = DeviceChoice::Cuda(0).open().and_then(|opened| match opened {
        Opened::Cuda(cuda) => cuda.describe(),
        Opened::Cpu => unreachable!("a GPU was asked for"),
    });
    let (text, value) = match found {
        Ok(gpu) => (
            gpu.to_string(),
            json!({
                "name": gpu.name,
                "capability": [gpu.capability.0, gpu.capability.1],
                "memory": gpu.memory,
                "multiprocessors": gpu.multiprocessors,
                "driver": gpu.driver,
            }),
        ),
        Err(error) => {
            let why = error.to_string();
            let why = why.trim_start_matches("--device cuda: ").to_string();
            (why.clone(), json!({ "error": why }))
        }
    };
    Finding { subject: "gpu", fine: true, text, value }
}

/// Opens the library that language models multiply matrices with on a GPU.
fn cublaslt() -> Finding {
    let (text, value) = match nyx::device::cuda::cublaslt_version() {
        Ok(version) => (format!("{version}, for language models on a GPU"), json!({ "version": version })),
        Err(error) => {
            let why = error.to_string().trim_start_matches("--device cuda: ").to_string();
            (why.clone(), json!({ "error": why }))
        }
    };
    Finding { subject: "cublaslt", fine: true, text, value }
}

fn device() -> Finding {
    let text = "`--device auto` takes the processor, because no kernel has run on a GPU yet; `--device cuda` is for nyx-hits \
                and for nyx-score with language models and with the networks that begin with convolutions over positions";
    Finding { subject: "device", fine: true, text: text.into(), value: json!({ "auto": "cpu", "why": text }) }
}

fn scratch() -> Finding {
    let directory = std::env::temp_dir();
    let outcome = tempfile::NamedTempFile::new().map_err(|error| error.to_string());
    let text = match &outcome {
        Ok(_) => format!("{} can be written", directory.display()),
        Err(error) => format!("{}: {error} (set TMPDIR)", directory.display()),
    };
    let value = json!({ "path": directory, "error": outcome.as_ref().err() });
    Finding { subject: "scratch", fine: outcome.is_ok(), text, value }
}

fn executables() -> Finding {
    let versions: Vec<(&str, Option<String>)> =
        siblings::TOOLS.iter().map(|(tool, _)| (*tool, version_of(tool))).collect();
    let named = |missing: bool| -> Vec<String> {
        let expected = |tool: &str| format!("{tool} {}", env!("CARGO_PKG_VERSION"));
        let wrong = versions.iter().filter(|(tool, version)| match version {
            None => missing,
            Some(version) => !missing && *version != expected(tool),
        });
        wrong.map(|(tool, version)| version.clone().unwrap_or(tool.to_string())).collect()
    };
    let (missing, other) = (named(true), named(false));
    let text = match (missing.is_empty(), other.is_empty()) {
        (true, true) => format!("all {} are here, of this version", versions.len()),
        (false, _) => format!("not found beside nyx or on the path: {}", missing.join(", ")),
        (true, false) => format!("of another version: {}", other.join(", ")),
    };
    let value = versions.iter().map(|(tool, version)| (tool.to_string(), json!(version))).collect();
    let fine = missing.is_empty() && other.is_empty();
    Finding { subject: "executables", fine, text, value: Value::Object(value) }
}

fn version_of(tool: &str) -> Option<String> {
    let output = Command::new(siblings::find(tool)?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}
