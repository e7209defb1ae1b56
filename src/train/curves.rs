//! Curves of a training as a picture: losses, and the measures of the dev set, over steps.

use std::fmt::Write;

/// A line in a panel.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Step and value, steps ascending.
    pub points: Vec<(f64, f64)>,
}

/// Colours that differ in lightness, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 32.0;

/// Draws panels one below the other, each of its lines, as SVG text.
pub fn draw(panels: &[(&str, Vec<Line>)]) -> String {
    let height = HEIGHT * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    for (index, (title, lines)) in panels.iter().enumerate() {
        svg += &panel(title, lines, index as f64 * HEIGHT);
    }
    svg + "</svg>\n"
}

fn panel(title: &str, lines: &[Line], top: f64) -> String {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| y.is_finite());
    let (x_range, y_range) = (range(points().map(|point| point.0)), range(points().map(|point| point.1)));
    let place = |(low, high): (f64, f64), value: f64| (value - low) / (high - low);
    let x = |value: f64| LEFT + place(x_range, value) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| top + HEIGHT - BOTTOM - place(y_range, value) * (HEIGHT - TOP - BOTTOM);
    let mut svg =
        format!("<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>", top + 14.0, escape(title));
    for tick in 0..=4 {
        let part = f64::from(tick) / 4.0;
        let value = y_range.0 + part * (y_range.1 - y_range.0);
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {0:.1}H{1:.1}\" stroke=\"#d9dde1\"/><text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>",
            y(value),
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(value) + 4.0,
            number(value)
        );
        let step = x_range.0 + part * (x_range.1 - x_range.0);
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(step),
            top + HEIGHT - BOTTOM + 16.0,
            number(step)
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = line.points.iter().filter(|(_, value)| value.is_finite());
        let path: Vec<String> =
            points.map(|&(step, value)| format!("{:.1},{:.1}", x(step), y(value))).collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            path.join(" "),
            WIDTH - RIGHT + 8.0,
            top + TOP + 14.0 * (index as f64 + 1.0),
            escape(&line.name)
        );
    }
    svg
}

/// Returns the ends of numbers, never equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    match low < high {
        true => (low, high),
        false if low.is_finite() => (low - 0.5, low + 0.5),
        false => (0.0, 1.0),
    }
}

fn number(value: f64) -> String {
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_point_for_each_value_that_is_a_number() {
        let points = vec![(1.0, 0.5), (2.0, f64::NAN), (3.0, 0.25)];
        let svg = draw(&[("a < b", vec![Line { name: "x".into(), points }]), ("empty", Vec::new())]);
        let path = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path.split(' ').count(), 2);
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
