//! Heat maps of saturation: for each sequence what every base in every place does.

use std::fmt::Write as _;
use std::io::Write;

use super::{chain_element, escape, logo, short};
use crate::convert::saturation::{Saturation, Saturations, importances, letter};
use crate::dna;
use crate::error::Result;
use crate::provenance::Step;

const STYLE: &str = include_str!("page.css");

/// Bases of a line of a heat map; longer sequences have several lines.
const LINE_BASES: usize = 100;
/// Width and height of a cell in pixels.
const CELL: (f64, f64) = (9.0, 13.0);
/// Pixels left of the cells.
const LEFT: f64 = 64.0;
/// Height of the letters above the cells.
const LETTERS: f64 = 46.0;

/// Writes a page that holds everything it needs: a heat map for each sequence, as they come. `value` is what the
/// effects are differences of, `chain` the stages up to the program that writes the page. Returns how many sequences there were.
///
/// # Errors
///
/// When the stream fails or the page cannot be written.
pub fn write(
    saturations: &mut Saturations,
    value: &str,
    chain: &[Step],
    mut output: impl Write,
) -> Result<u64> {
    write!(
        output,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nyx: saturation</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style></head>\n<body><main>\n{}\
         <h1>Saturation</h1>\n<p>A cell is the {value} with that base in that place minus the {value} of the sequence as \
         it is: red is lower, blue is higher, grey is the base itself. A letter is as tall as the mean of its three \
         substitutions, turned round.</p>\n",
        logo::symbols(),
        value = escape(value),
    )?;
    let mut count = 0;
    for saturation in saturations {
        let saturation = saturation?;
        write!(output, "<section><h2>{}</h2>\n{}</section>\n", title(&saturation), picture(&saturation))?;
        count += 1;
    }
    let made = chain.last().map(|step| format!("{} {} {}", step.tool, step.version, step.command));
    writeln!(
        output,
        "<footer><p>Made by <code>{}</code></p></footer>\n{}</main></body></html>",
        escape(made.unwrap_or_default().trim()),
        chain_element(chain)
    )?;
    output.flush()?;
    Ok(count)
}

fn title(saturation: &Saturation) -> String {
    let name = saturation.name.as_deref().unwrap_or_default();
    let last = saturation.first + saturation.sequence.len() as i64 - 1;
    let place = match &saturation.chrom {
        Some(chrom) => format!("{chrom}:{}-{last}", saturation.first),
        None => format!("{} bases", saturation.sequence.len()),
    };
    let strand = if saturation.reverse { ", reverse strand" } else { "" };
    let value = saturation.value.map_or("no score".to_string(), |value| short(f64::from(value)));
    escape(&format!("{} {name} ({place}{strand}): {value}", saturation.region))
}

/// Draws the heat map of one sequence.
pub fn picture(saturation: &Saturation) -> String {
    let all = saturation.substitutions.iter().flatten().chain(&saturation.deletions).flatten();
    let largest = all.fold(0.0f32, |largest, effect| largest.max(effect.abs())).max(f32::MIN_POSITIVE);
    let importances = importances(saturation);
    let tallest = importances.iter().fold(0.0f32, |tallest, height| tallest.max(height.abs()));
    let has_deletions = saturation.deletions.iter().any(Option::is_some);
    let mut svg = String::new();
    for first in (0..saturation.sequence.len()).step_by(LINE_BASES) {
        let line = first..(first + LINE_BASES).min(saturation.sequence.len());
        let rows = if has_deletions { 5 } else { 4 };
        let width = LEFT + CELL.0 * line.len() as f64 + 8.0;
        let height = LETTERS + CELL.1 * f64::from(rows) + 20.0;
        let _ = write!(
            svg,
            "<svg class=\"saturation\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             role=\"img\">"
        );
        for (column, index) in line.clone().enumerate() {
            let x = LEFT + column as f64 * CELL.0;
            svg += &own_letter(saturation.sequence[index], importances[index], tallest, x);
            svg += &cells(saturation, index, x, largest, has_deletions);
        }
        svg += &labels(saturation, &line, has_deletions, largest);
        svg += "</svg>\n";
    }
    svg
}

/// Draws the base of the sequence, upwards when it adds, downwards when it takes.
fn own_letter(base: u8, importance: f32, tallest: f32, x: f64) -> String {
    let Some(base) = dna::base_index(base).filter(|_| tallest > 0.0) else { return String::new() };
    let half = LETTERS / 2.0 - 2.0;
    let height = f64::from(importance.abs() / tallest) * half;
    let y = if importance >= 0.0 { half - height } else { half };
    logo::letter(base, x, y, CELL.0, height)
}

/// Draws the cells of one base of the sequence.
fn cells(saturation: &Saturation, index: usize, x: f64, largest: f32, has_deletions: bool) -> String {
    let own = dna::base_index(saturation.sequence[index]);
    let mut svg = String::new();
    let deletion = has_deletions.then_some(saturation.deletions[index]);
    let effects = saturation.substitutions[index].into_iter().chain(deletion);
    for (row, effect) in effects.enumerate() {
        let (fill, what) = match effect {
            Some(effect) => (colour(effect / largest), short(f64::from(effect))),
            None if own == Some(row) => ("#c9ced3".to_string(), "as it is".to_string()),
            None => ("#f4f5f6".to_string(), "not scored".to_string()),
        };
        let base = char::from(saturation.sequence[index]);
        let to = if row < 4 { letter(row) } else { '-' };
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\"><title>{} {base} to {to}: \
             {what}</title></rect>",
            LETTERS + row as f64 * CELL.1,
            CELL.0 - 0.5,
            CELL.1 - 0.5,
            saturation.position(index),
        );
    }
    svg
}

/// Writes what rows and columns are, and the range of the colours.
fn labels(
    saturation: &Saturation,
    line: &std::ops::Range<usize>,
    has_deletions: bool,
    largest: f32,
) -> String {
    let mut svg = String::new();
    let names =
        (0..4).map(|base| letter(base).to_string()).chain(has_deletions.then(|| "deletion".to_string()));
    for (row, name) in names.enumerate() {
        let y = LETTERS + (row as f64 + 0.75) * CELL.1;
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 5.0
        );
    }
    let base = LETTERS + CELL.1 * if has_deletions { 5.0 } else { 4.0 } + 13.0;
    for index in line.clone().step_by(20) {
        let x = LEFT + (index - line.start) as f64 * CELL.0;
        let _ = write!(
            svg,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{base:.1}\">{}</text>",
            saturation.position(index)
        );
    }
    let range = short(f64::from(largest));
    let _ = write!(svg, "<text class=\"tick\" x=\"0\" y=\"12\">±{range}</text>");
    svg
}

/// Returns a colour from red (−1) by white (0) to blue (1).
fn colour(value: f32) -> String {
    let end: [f32; 3] = if value < 0.0 { [180.0, 40.0, 45.0] } else { [37.0, 92.0, 153.0] };
    let size = value.abs().min(1.0);
    let [red, green, blue] = end.map(|part| (255.0 + (part - 255.0) * size).round() as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_cell_for_every_base_in_every_place() {
        let sequence = b"ACGTN".repeat(50);
        let saturation = Saturation {
            chrom: Some("<c>".into()),
            first: 101,
            substitutions: sequence.iter().map(|_| [Some(-0.5), None, Some(0.25), None]).collect(),
            deletions: vec![None; sequence.len()],
            sequence,
            ..Saturation::default()
        };
        let svg = picture(&saturation);
        assert_eq!(svg.matches("<rect").count(), 250 * 4);
        assert_eq!(svg.matches("<svg").count(), 3, "100 bases a line");
        assert_eq!(svg.matches(&colour(-1.0)).count(), 250);
        assert!(svg.contains(">101</text>") && svg.contains("101 A to G: 0.25"), "{}", &svg[..2000]);
        assert!(title(&saturation).contains("&lt;c&gt;:101-350"));
    }

    #[test]
    fn colours_go_from_red_by_white_to_blue() {
        assert_eq!([-1.0, 0.0, 1.0, 5.0].map(colour), ["#b4282d", "#ffffff", "#255c99", "#255c99"]);
    }
}
