//! An evaluation as JSON.

use nyx::evaluate::Interval;
use nyx::report::evaluation::Evaluated;
use serde_json::{Map, Value, json};

use super::compare::Difference;

/// Returns everything as JSON.
pub fn document(sets: &[Evaluated], differences: &[Difference], command: &str) -> Value {
    let intervals = |intervals: &[Interval]| -> Map<String, Value> {
        let one = |interval: &Interval| {
            (
                interval.name.clone(),
                json!({ "value": interval.value, "low": interval.low, "high": interval.high }),
            )
        };
        intervals.iter().map(one).collect()
    };
    let set = |set: &Evaluated| {
        let metrics: Map<String, Value> =
            set.metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "name": set.name,
            "predictions": set.predictions.len(),
            "rows_without": set.without,
            "threshold": set.threshold,
            "metrics": metrics,
            "confusion": set.predictions.confusion(set.threshold).map(|confusion| confusion.counts().to_vec()),
            "intervals": intervals(&set.intervals),
        })
    };
    let difference = |(name, found): &Difference| json!({ "name": name, "intervals": intervals(found) });
    json!({
        "command": command,
        "sets": sets.iter().map(set).collect::<Vec<_>>(),
        "differences": differences.iter().map(difference).collect::<Vec<_>>(),
    })
}
