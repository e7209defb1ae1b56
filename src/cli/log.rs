//! What commands say on standard error: lines for people, or an object of JSON a line for programs (`--log-json`, or
//! `NYX_LOG=json` in the environment).
//!
//! Every object has `time` (RFC 3339, UTC), `stage` (the command's name), `pid`, `event`, `rows` where rows pass, and
//! `command`. Events are `start`, `progress`, `message`, `warning`, `error` and `finish`.

use std::io::Write;
use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::error::printable;

/// The flag, as [`super::Common`] describes it.
const FLAG: &str = "--log-json";
/// The environment variable that does as the flag for all commands of a pipeline.
const VARIABLE: &str = "NYX_LOG";

/// Decided before arguments are parsed, because a mistake in those is an event, too.
static JSON: LazyLock<bool> = LazyLock::new(|| {
    let mut words = std::env::args_os().skip(1).take_while(|word| word.to_str() != Some("--"));
    std::env::var_os(VARIABLE).is_some_and(|value| value == "json") || words.any(|word| word == FLAG)
});

/// Returns whether events are written as JSON.
pub fn is_json() -> bool {
    *JSON
}

/// Returns the variable that makes the commands this one starts do as this one does.
pub fn environment() -> Option<(&'static str, &'static str)> {
    is_json().then_some((VARIABLE, "json"))
}

/// Says a line: for people as `name: line`, for programs as an event; `warning: ` at its begin makes it a warning.
pub fn say(name: &str, line: &str, rows: Option<u64>) {
    if !is_json() {
        // Nobody may be listening; that is no reason to fail.
        let _ = writeln!(std::io::stderr(), "{name}: {}", printable(line));
        return;
    }
    let (event, line) = match line.strip_prefix("warning: ") {
        Some(line) => ("warning", line),
        None => ("message", line),
    };
    write(event, rows, [("message", line.into())]);
}

/// Writes an event with what there is to say of it.
pub fn write<S: Into<String>>(event: &str, rows: Option<u64>, fields: impl IntoIterator<Item = (S, Value)>) {
    let step = super::own_step();
    let time = DateTime::<Utc>::from(std::time::SystemTime::now());
    let mut object = Map::new();
    object.insert("time".into(), time.to_rfc3339_opts(SecondsFormat::Millis, true).into());
    object.insert("stage".into(), step.tool.into());
    object.insert("pid".into(), std::process::id().into());
    object.insert("event".into(), event.into());
    object.extend(rows.map(|rows| ("rows".to_string(), rows.into())));
    let told = fields.into_iter().filter(|(_, value)| !value.is_null());
    object.extend(told.map(|(name, value)| (name.into(), value)));
    object.insert("command".into(), step.command.into());
    // One write, so that the lines of several commands do not mix.
    let line = format!("{}\n", Value::Object(object));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
