//! The plots of an evaluation as files: a picture each, and the points of all curves as a table.

use std::fmt::Write;

use super::{BINS, Chart, DRAWN, Evaluated, PALETTE, charts, class_name, plot};
use crate::evaluate::Predictions;
use crate::metrics::{self, Confusion, Curve};
use crate::report::escape;

/// Width and height of a plot, and the height of a line of its legend.
const SIDE: f64 = 400.0;
const LEGEND: f64 = 16.0;
/// Width and height of a cell of a confusion matrix.
const CELL: (f64, f64) = (92.0, 44.0);
/// What the page's style sheet says of a plot.
const STYLE: &str = ".tick{font-size:10px;fill:#7a838c;font-family:sans-serif}.grid{stroke:#eef0f1;fill:none}\
                     .equal{stroke:#b4bac0;stroke-dasharray:4 4;fill:none}.name{font-size:11px;font-family:sans-serif}";

/// Returns pictures by name: `roc`, `precision_recall` and `calibration` of sets with two classes, `confusion` of sets
/// with classes. The first eight sets are drawn.
pub fn all(sets: &[Evaluated]) -> Vec<(&'static str, String)> {
    let mut pictures: Vec<(&str, String)> =
        charts(sets).into_iter().map(|chart| (chart.name, picture(&chart))).collect();
    pictures.extend(confusions(sets).map(|picture| ("confusion", picture)));
    pictures
}

/// A plot with a legend below it.
fn picture(chart: &Chart) -> String {
    let height = SIDE + LEGEND * (chart.lines.len() as f64 + 0.5);
    let mut svg = begin(SIDE, height);
    svg += &plot(&chart.lines, chart.axes, chart.diagonal, SIDE);
    for (index, line) in chart.lines.iter().enumerate() {
        let y = SIDE + LEGEND * (index as f64 + 0.5);
        let _ = write!(
            svg,
            "<path d=\"M44 {y:.1}h18\" stroke=\"{}\" stroke-width=\"1.8\"/><text class=\"name\" x=\"68\" y=\"{:.1}\">{}</text>",
            line.colour,
            y + 4.0,
            escape(&line.title)
        );
    }
    svg + "</svg>\n"
}

fn begin(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <style>{STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    )
}

/// Confusion matrices below each other; none where no set has classes.
fn confusions(sets: &[Evaluated]) -> Option<String> {
    let found: Vec<(&Evaluated, Confusion)> = sets
        .iter()
        .take(DRAWN)
        .filter_map(|set| Some((set, set.predictions.confusion(set.threshold)?)))
        .collect();
    let most = found.iter().map(|(_, confusion)| confusion.counts().len()).max()?;
    let rows: usize = found.iter().map(|(_, confusion)| confusion.counts().len()).sum();
    let height = rows as f64 * CELL.1 + found.len() as f64 * 64.0;
    let mut svg = begin(CELL.0 * (most as f64 + 1.0) + 16.0, height);
    let mut top = 0.0;
    for (set, confusion) in &found {
        let size = confusion.counts().len();
        matrix(&mut svg, &set.name, confusion, top);
        top += size as f64 * CELL.1 + 64.0;
    }
    Some(svg + "</svg>\n")
}

fn matrix(svg: &mut String, name: &str, confusion: &Confusion, top: f64) {
    let counts = confusion.counts();
    let text = |svg: &mut String, x: f64, y: f64, class: &str, text: &str| {
        let _ = write!(
            svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
            escape(text)
        );
    };
    let _ = write!(
        svg,
        "<text class=\"name\" x=\"8\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        top + 20.0,
        escape(name)
    );
    for (class, row) in counts.iter().enumerate() {
        let (left, y) = (CELL.0 * (class as f64 + 1.0), top + 48.0 + CELL.1 * class as f64);
        text(
            svg,
            left + CELL.0 / 2.0,
            top + 42.0,
            "tick",
            &format!("predicted {}", class_name(class, counts.len())),
        );
        text(svg, CELL.0 / 2.0, y + CELL.1 / 2.0 + 4.0, "tick", &class_name(class, counts.len()));
        let total = row.iter().sum::<u64>().max(1) as f64;
        for (predicted, count) in row.iter().enumerate() {
            let (share, x) = (*count as f64 / total, CELL.0 * (predicted as f64 + 1.0));
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{}\" height=\"{}\" fill=\"{}\" fill-opacity=\"{:.2}\" stroke=\"#d9dcdf\"/>",
                CELL.0,
                CELL.1,
                PALETTE[0],
                0.45 * share
            );
            text(svg, x + CELL.0 / 2.0, y + 19.0, "name", &count.to_string());
            text(svg, x + CELL.0 / 2.0, y + 34.0, "tick", &format!("{:.1} %", 100.0 * share));
        }
    }
}

/// Returns the points of the curves of all sets with two classes, none left out: set, curve, x, y, the score there, and how
/// many predictions a part of the calibration has.
pub fn table(sets: &[Evaluated]) -> String {
    let mut text = String::from("set\tcurve\tx\ty\tthreshold\tpredictions\n");
    for set in sets {
        let Predictions::Binary { scores, labels } = &set.predictions else { continue };
        let curve = Curve::new(scores, labels);
        for (name, points) in [("roc", curve.roc()), ("precision_recall", curve.precision_recall())] {
            for ((x, y), threshold) in points.into_iter().zip(curve.thresholds()) {
                let _ = writeln!(text, "{}\t{name}\t{x}\t{y}\t{threshold}\t.", set.name);
            }
        }
        for (count, mean, positive) in metrics::calibration(scores, labels, BINS) {
            if count > 0 {
                let _ = writeln!(text, "{}\tcalibration\t{mean}\t{positive}\t.\t{count}", set.name);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, predictions: Predictions) -> Evaluated {
        Evaluated {
            name: name.into(),
            threshold: 0.5,
            without: 0,
            metrics: Vec::new(),
            intervals: Vec::new(),
            predictions,
        }
    }

    fn sets() -> Vec<Evaluated> {
        let binary =
            Predictions::Binary { scores: vec![0.1, 0.4, 0.35, 0.8], labels: vec![false, false, true, true] };
        let classes = Predictions::Classes {
            scores: vec![vec![0.8, 0.1, 0.1], vec![0.1, 0.2, 0.7]],
            labels: vec![0, 1],
        };
        vec![set("a&b", binary), set("three", classes)]
    }

    #[test]
    fn the_table_has_the_points_that_scikit_learn_draws() {
        // sklearn.metrics.roc_curve([0, 0, 1, 1], [.1, .4, .35, .8], drop_intermediate=False): the page's own example.
        let table = table(&sets());
        let of = |curve: &str| -> Vec<Vec<String>> {
            let cells = |line: &str| line.split('\t').map(str::to_string).collect::<Vec<_>>();
            table
                .lines()
                .map(cells)
                .filter(|cells| cells[1] == curve)
                .map(|cells| cells[2..5].to_vec())
                .collect()
        };
        let expected = [
            ["0", "0", "inf"],
            ["0", "0.5", "0.8"],
            ["0.5", "0.5", "0.4"],
            ["0.5", "1", "0.35"],
            ["1", "1", "0.1"],
        ];
        assert_eq!(of("roc"), expected.map(|row| row.map(String::from).to_vec()));
        assert_eq!(of("precision_recall").len(), 5);
        assert_eq!(of("calibration").len(), 4);
    }

    #[test]
    fn every_picture_stands_alone() {
        let pictures = all(&sets());
        let names: Vec<&str> = pictures.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["roc", "precision_recall", "calibration", "confusion"]);
        for (name, svg) in &pictures {
            assert!(
                svg.starts_with("<svg xmlns=") && svg.contains("a&amp;b") && !svg.contains("NaN"),
                "{name}"
            );
            assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        }
        assert_eq!(pictures[3].1.matches("<rect x=").count(), 4 + 9);
        assert_eq!(all(&sets()[1..]).len(), 1, "curves are of two classes");
    }
}
