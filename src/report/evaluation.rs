//! The page of an evaluation: numbers, confusion matrices, ROC, precision-recall and calibration plots.

pub mod pictures;

use std::fmt::Write;

use super::{chain_element, escape, short};
use crate::evaluate::{Interval, Metric, Predictions};
use crate::metrics::{self, Curve};
use crate::provenance::{Step, extend};

const STYLE: &str = include_str!("page.css");
const PALETTE: [&str; 8] =
    ["#2b5f8f", "#b4483b", "#3f7d4f", "#8a5a9e", "#b57f1f", "#2f8487", "#a34573", "#5f6b7a"];
/// Sets drawn into one plot; more could not be told apart.
const DRAWN: usize = 8;
/// Points of a curve that are drawn.
const POINTS: usize = 600;
/// Parts of a calibration plot.
const BINS: usize = 10;

/// One evaluated set.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Its name.
    pub name: String,
    /// What was predicted.
    pub predictions: Predictions,
    /// Rows without a label or a prediction.
    pub without: u64,
    /// Scores above it count as positive.
    pub threshold: f64,
    /// Its numbers.
    pub metrics: Vec<Metric>,
    /// Their intervals, where they were asked for.
    pub intervals: Vec<Interval>,
}

/// Returns the page. `differences` are those of models less the first one, by name.
pub fn page(sets: &[Evaluated], differences: &[(String, Vec<Interval>)], step: &Step) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nyx: evaluation</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body><main>\n\
         <header><h1>Evaluation</h1></header>\n"
    );
    html += &numbers(sets);
    html += &self::differences(differences);
    html += &plots(sets);
    html += &confusions(sets);
    let _ = write!(
        html,
        "<section><h2>How this was made</h2>\n<p class=\"note\">{} {}</p><p><code>{}</code></p></section>\n",
        escape(&step.tool),
        escape(&step.version),
        escape(&step.command)
    );
    html += &chain_element(&extend(Vec::new(), step.clone()));
    html + "</main></body></html>\n"
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.4}"))
}

fn cell(name: &str, value: Option<f64>, intervals: &[Interval]) -> String {
    let interval = intervals.iter().find(|interval| interval.name == name);
    let interval = interval.filter(|interval| interval.low.is_some()).map_or(String::new(), |interval| {
        format!("<small>{} to {}</small>", number(interval.low), number(interval.high))
    });
    format!("<td class=\"n\">{}{interval}</td>", number(value))
}

fn numbers(sets: &[Evaluated]) -> String {
    let names: Vec<&str> =
        sets.first().map_or(Vec::new(), |set| set.metrics.iter().map(|(name, _)| name.as_str()).collect());
    let mut html = String::from("<section><h2>Numbers</h2>\n<table><thead><tr><th></th>");
    for (index, set) in sets.iter().enumerate().take(DRAWN) {
        let _ = write!(
            html,
            "<th class=\"n\"><i style=\"background:{}\"></i>{}<small>{} predictions, threshold {}</small></th>",
            PALETTE[index % PALETTE.len()],
            escape(&set.name),
            set.predictions.len(),
            short(set.threshold)
        );
    }
    html += "</tr></thead><tbody>\n";
    for name in names {
        let _ = write!(html, "<tr><td>{}</td>", escape(name));
        for set in sets.iter().take(DRAWN) {
            let value = set.metrics.iter().find(|(other, _)| other == name).and_then(|(_, value)| *value);
            html += &cell(name, value, &set.intervals);
        }
        html += "</tr>\n";
    }
    html += "</tbody></table>\n";
    if sets.len() > DRAWN {
        let _ = writeln!(
            html,
            "<p class=\"note\">The first {DRAWN} of {} sets; the table beside this page has all.</p>",
            sets.len()
        );
    }
    html + "<p class=\"note\">positive: of the positive class; macro: the mean over classes; average_precision sums steps, \
            pr_auc_trapezoid the trapezoids under the same curve.</p></section>\n"
}

fn differences(differences: &[(String, Vec<Interval>)]) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut html = String::from(
        "<section><h2>Differences</h2>\n<p class=\"note\">Of the numbers on the same bootstrap samples of the rows; an \
         interval without 0 is bold.</p>\n<table><thead><tr><th></th>",
    );
    differences.iter().for_each(|(name, _)| html += &format!("<th class=\"n\">{}</th>", escape(name)));
    html += "</tr></thead><tbody>\n";
    for (row, first) in differences[0].1.iter().enumerate() {
        let _ = write!(html, "<tr><td>{}</td>", escape(&first.name));
        for (_, intervals) in differences {
            let interval = &intervals[row];
            let sure =
                interval.low.is_some_and(|low| low > 0.0) || interval.high.is_some_and(|high| high < 0.0);
            let value = number(interval.value);
            let value = if sure { format!("<b>{value}</b>") } else { value };
            let _ = write!(
                html,
                "<td class=\"n\">{value}<small>{} to {}</small></td>",
                number(interval.low),
                number(interval.high)
            );
        }
        html += "</tr>\n";
    }
    html + "</tbody></table></section>\n"
}

/// A line of a plot, in the unit square.
struct Line {
    points: Vec<(f64, f64)>,
    colour: &'static str,
    title: String,
    dots: bool,
}

/// A plot: its name as a file and as a title, its lines, its axes.
struct Chart {
    name: &'static str,
    title: &'static str,
    note: &'static str,
    lines: Vec<Line>,
    axes: [&'static str; 2],
    diagonal: bool,
}

/// Returns the ROC, precision-recall and calibration plots of sets with two classes; none where there is no such set.
fn charts(sets: &[Evaluated]) -> Vec<Chart> {
    let (mut roc, mut precision, mut calibration) = (Vec::new(), Vec::new(), Vec::new());
    for (index, set) in sets.iter().enumerate().take(DRAWN) {
        let Predictions::Binary { scores, labels } = &set.predictions else { continue };
        let (curve, colour) = (Curve::new(scores, labels), PALETTE[index % PALETTE.len()]);
        let line = |points, title, dots| Line { points, colour, title, dots };
        let title = format!("{}: area {}", set.name, number(curve.roc_auc()));
        roc.push(line(thinned(curve.roc()), title, false));
        let title = format!("{}: average precision {}", set.name, number(curve.average_precision()));
        precision.push(line(thinned(curve.precision_recall()), title, false));
        let bins = metrics::calibration(scores, labels, BINS);
        let points = bins.iter().filter(|bin| bin.0 > 0).map(|bin| (bin.1, bin.2)).collect();
        calibration.push(line(points, set.name.clone(), true));
    }
    if roc.is_empty() {
        return Vec::new();
    }
    let chart = |name, title, note, lines, axes, diagonal| Chart { name, title, note, lines, axes, diagonal };
    vec![
        chart("roc", "ROC", "", roc, ["false positive rate", "true positive rate"], true),
        chart("precision_recall", "Precision and recall", "", precision, ["recall", "precision"], false),
        chart(
            "calibration",
            "Calibration",
            "Ten parts of 0 to 1.",
            calibration,
            ["mean prediction", "part that is positive"],
            true,
        ),
    ]
}

fn plots(sets: &[Evaluated]) -> String {
    let charts = charts(sets);
    if charts.is_empty() {
        return String::new();
    }
    let mut html = String::from("<section><h2>Curves</h2>\n<div class=\"charts\">");
    for Chart { title, note, lines, axes, diagonal, .. } in charts {
        let picture = plot(&lines, axes, diagonal, 340.0);
        let _ = writeln!(html, "<figure><figcaption><b>{title}</b>{note}</figcaption>{picture}</figure>");
    }
    html + "</div></section>\n"
}

/// Leaves points out where a line has more than can be seen, never the first or the last.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points;
    }
    let at = |index: usize| points[index * (points.len() - 1) / (POINTS - 1)];
    (0..POINTS).map(at).collect()
}

/// Draws lines in the unit square.
fn plot(lines: &[Line], names: [&str; 2], diagonal: bool, side: f64) -> String {
    let (left, base, size) = (44.0, side - 40.0, side - 56.0);
    let (x, y) = (|value: f64| left + value * size, |value: f64| base - value * size);
    let mut svg = format!("<svg viewBox=\"0 0 {side} {side}\" width=\"{side}\" height=\"{side}\">");
    for step in 0..=5 {
        let value = f64::from(step) / 5.0;
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{0:.1} {1:.1}V{2:.1}M{3:.1} {4:.1}H{5:.1}\"/>",
            x(value),
            y(0.0),
            y(1.0),
            x(0.0),
            y(value),
            x(1.0)
        );
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            x(value),
            base + 14.0,
            left - 6.0,
            y(value) + 3.5
        );
    }
    if diagonal {
        let _ = write!(
            svg,
            "<path class=\"equal\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            x(0.0),
            y(0.0),
            x(1.0),
            y(1.0)
        );
    }
    for line in lines {
        let path: Vec<String> =
            line.points.iter().map(|&(a, b)| format!("{:.1} {:.1}", x(a), y(b))).collect();
        let _ = write!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"><title>{}</title></path>",
            path.join("L"),
            line.colour,
            escape(&line.title)
        );
        if line.dots {
            for &(a, b) in &line.points {
                let _ = write!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{}\"/>",
                    x(a),
                    y(b),
                    line.colour
                );
            }
        }
    }
    let middle = (x(0.0) + x(1.0)) / 2.0;
    let _ = write!(
        svg,
        "<text class=\"tick\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text class=\"tick\" transform=\"translate(10 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        side - 8.0,
        escape(names[0]),
        (y(0.0) + y(1.0)) / 2.0,
        escape(names[1])
    );
    svg + "</svg>"
}

fn confusions(sets: &[Evaluated]) -> String {
    let mut html = String::from(
        "<section><h2>Confusion</h2>\n<p class=\"note\">Rows are what is true, columns what was predicted.</p>\n\
         <div class=\"charts\">",
    );
    let mut any = false;
    for set in sets.iter().take(DRAWN) {
        let Some(confusion) = set.predictions.confusion(set.threshold) else { continue };
        any = true;
        let counts = confusion.counts();
        let _ = write!(
            html,
            "<figure><figcaption><b>{}</b></figcaption><table><thead><tr><th></th>",
            escape(&set.name)
        );
        (0..counts.len())
            .for_each(|class| html += &format!("<th class=\"n\">{}</th>", class_name(class, counts.len())));
        html += "</tr></thead><tbody>";
        for (class, row) in counts.iter().enumerate() {
            let total = row.iter().sum::<u64>().max(1);
            let _ = write!(html, "<tr><td>{}</td>", class_name(class, counts.len()));
            for count in row {
                let share = *count as f64 / total as f64;
                let _ = write!(
                    html,
                    "<td class=\"n\" style=\"background:rgba(43,95,143,{:.2})\">{count}<small>{:.1} %</small></td>",
                    0.45 * share,
                    100.0 * share
                );
            }
            html += "</tr>";
        }
        html += "</tbody></table></figure>\n";
    }
    if any { html + "</div></section>\n" } else { String::new() }
}

fn class_name(class: usize, classes: usize) -> String {
    match (classes, class) {
        (2, 0) => "negative".into(),
        (2, _) => "positive".into(),
        _ => format!("class {class}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_each_curve_and_count_and_escapes_names() {
        let predictions = Predictions::Binary {
            scores: vec![0.1, 0.4, 0.35, 0.8, 0.7],
            labels: vec![false, false, true, true, true],
        };
        let set = Evaluated {
            name: "<a>".into(),
            threshold: 0.5,
            without: 0,
            metrics: vec![("roc_auc".into(), Some(0.75))],
            intervals: Vec::new(),
            predictions,
        };
        let page = page(&[set], &[], &Step::default());
        assert_eq!(page.matches("stroke-width=\"1.8\"").count(), 3);
        assert!(page.contains("<td class=\"n\">0.7500</td>") && page.contains("area 0.8333"));
        assert!(page.contains(">2<small>66.7 %</small>"), "two of three positives are above");
        assert!(!page.contains("<a>"));
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let points: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i), 0.0)).collect();
        let thin = thinned(points);
        assert_eq!((thin.len(), thin[0].0, thin[POINTS - 1].0), (POINTS, 0.0, 4999.0));
    }
}
