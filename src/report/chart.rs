//! Bars, heat maps and scatter plots.

use std::fmt::Write;

use super::{escape, short};

/// Bars of a chart; counts beyond are joined.
const BARS: usize = 60;

/// Draws how many (`counts`) have 0, 1, 2, … of something; many values are joined into bars of equal width.
/// The bar of 0 stands out.
pub fn bars(counts: &[u64], width: f64, height: f64, colour: &str) -> String {
    let step = counts.len().div_ceil(BARS).max(1);
    let mut joined: Vec<(usize, u64)> = vec![(0, counts.first().copied().unwrap_or(0))];
    let rest = counts.get(1..).unwrap_or_default();
    joined.extend(rest.chunks(step).enumerate().map(|(bar, part)| (1 + bar * step, part.iter().sum())));
    let most = joined.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let (left, base) = (44.0, height - 18.0);
    let wide = ((width - left) / joined.len() as f64).min(60.0);
    let mut svg = open(width, height);
    for (bar, &(first, count)) in joined.iter().enumerate() {
        let tall = count as f64 / most as f64 * (base - 8.0);
        let (x, fill) = (left + bar as f64 * wide, if first == 0 { "#b4bac0" } else { colour });
        let last = if first == 0 { 0 } else { first + step - 1 };
        let range = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let _ = write!(
            svg,
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{tall:.2}\" fill=\"{fill}\"><title>{range}: {count}</title></rect>",
            x + 0.06 * wide,
            base - tall,
            0.88 * wide,
        );
        if bar % joined.len().div_ceil(12) == 0 {
            svg += &text(x + wide / 2.0, height - 5.0, "middle", &first.to_string());
        }
    }
    svg += &line(left, base, width, base);
    svg += &text(left - 6.0, base, "end", "0");
    svg + &text(left - 6.0, 14.0, "end", &most.to_string()) + "</svg>"
}

/// Draws a square table of `values` from 0 to 1 (what is larger looks like 1), rows and columns called
/// `names`, darker for larger. `title` tells what a cell is, of its row, column and value.
pub fn heat_map(
    names: &[&str],
    values: &[Vec<f64>],
    colour: [u8; 3],
    title: impl Fn(usize, usize) -> String,
) -> String {
    let cell = (520.0 / names.len().max(1) as f64).clamp(8.0, 64.0);
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(40);
    let margin = 12.0 + 6.2 * longest as f64;
    let side = margin + cell * names.len() as f64;
    let mut svg = open(side + 6.0, side + 6.0);
    for (row, values) in values.iter().enumerate() {
        for (column, &value) in values.iter().enumerate() {
            let (x, y) = (margin + column as f64 * cell, row as f64 * cell);
            let _ = write!(
                svg,
                "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{}\"><title>{}</title></rect>",
                cell - 1.0,
                cell - 1.0,
                shade(colour, value),
                escape(&title(row, column)),
            );
            if cell >= 30.0 && value.is_finite() {
                let fill = if value > 0.55 { "#fff" } else { "#22272e" };
                let _ = write!(
                    svg,
                    "<text class=\"cell\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{fill}\">{value:.2}</text>",
                    x + cell / 2.0,
                    y + cell / 2.0 + 4.0,
                );
            }
        }
        svg += &text(margin - 6.0, (row as f64 + 0.5) * cell + 3.5, "end", &clip(names[row]));
    }
    for (column, name) in names.iter().enumerate() {
        let (x, y) = (margin + (column as f64 + 0.5) * cell + 3.5, side - margin + 8.0);
        let _ = write!(
            svg,
            "<text class=\"tick\" transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"end\">{}</text>",
            escape(&clip(name))
        );
    }
    svg + "</svg>"
}

/// A point of a scatter plot.
#[derive(Clone, Debug)]
pub struct Point<'a> {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub y: f64,
    /// What it is.
    pub label: &'a str,
    /// Its colour.
    pub colour: &'a str,
}

/// Draws points on two logarithmic axes of one range, with the line on which both are equal; what is 0 lies
/// on the axis.
pub fn scatter(points: &[Point], x_name: &str, y_name: &str, side: f64) -> String {
    let largest = points.iter().flat_map(|point| [point.x, point.y]).fold(1.0, f64::max);
    let decades = (largest.log10() + 0.05).ceil().max(1.0);
    let (left, base) = (54.0, side - 44.0);
    let scale = (side - left - 12.0) / (decades + 0.3);
    // A third of a decade below 1 is for 0.
    let along = |value: f64| if value > 0.0 { (value.log10() + 0.3) * scale } else { 0.0 };
    let (x, y) = (|value: f64| left + along(value), |value: f64| base - along(value));
    let mut svg = open(side, side);
    for decade in 0..=decades as i32 {
        let value = 10f64.powi(decade);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left} {0:.1}H{1:.1}M{2:.1} {base}V{3:.1}\"/>",
            y(value),
            x(10f64.powf(decades)),
            x(value),
            y(10f64.powf(decades))
        );
        svg += &text(left - 6.0, y(value) + 3.5, "end", &format!("{value}"));
        svg += &text(x(value), base + 14.0, "middle", &format!("{value}"));
    }
    let top = 10f64.powf(decades);
    let _ =
        write!(svg, "<path class=\"equal\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>", x(0.5), y(0.5), x(top), y(top));
    svg += &(line(left, base, x(top), base) + &line(left, base, left, y(top)));
    for point in points {
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\" fill=\"{}\" fill-opacity=\"0.8\"><title>{}: {} {}, {} {}</title></circle>",
            x(point.x),
            y(point.y),
            escape(point.colour),
            escape(point.label),
            point.x,
            escape(x_name),
            point.y,
            escape(y_name),
        );
    }
    svg += &text((left + x(top)) / 2.0, side - 10.0, "middle", x_name);
    let _ = write!(
        svg,
        "<text class=\"tick\" transform=\"translate(11 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (base + y(top)) / 2.0,
        escape(y_name)
    );
    svg + "</svg>"
}

/// Returns the colour between white and `colour`; grey for what is not a number.
fn shade(colour: [u8; 3], value: f64) -> String {
    if !value.is_finite() {
        return "#e3e5e8".into();
    }
    let part = value.clamp(0.0, 1.0);
    let [r, g, b] = colour.map(|full| (247.0 + (f64::from(full) - 247.0) * part).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn clip(name: &str) -> String {
    if name.chars().count() <= 40 { name.into() } else { name.chars().take(39).chain(['…']).collect() }
}

fn open(width: f64, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">")
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64) -> String {
    format!("<line class=\"axis\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>")
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text))
}

/// Returns a share as people read it.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".into() } else { format!("{} %", short(100.0 * part as f64 / whole as f64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_in_a_bar() {
        let counts: Vec<u64> = (0..500).collect();
        let svg = bars(&counts, 400.0, 100.0, "#000");
        let drawn: u64 = svg
            .split("<title>")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(drawn, counts.iter().sum::<u64>());
        assert!(bars(&[], 400.0, 100.0, "#000").contains("0: 0"));
    }

    #[test]
    fn a_heat_map_has_a_cell_for_each_pair_and_grey_for_nothing() {
        let svg = heat_map(&["<a>", "b"], &[vec![0.0, 1.0], vec![f64::NAN, 2.0]], [0, 0, 0], |a, b| {
            format!("{a},{b}")
        });
        assert_eq!(svg.matches("<rect").count(), 4);
        assert_eq!((svg.matches("#000000").count(), svg.matches("#e3e5e8").count()), (2, 1));
        assert!(!svg.contains("<a>"));
    }
}
