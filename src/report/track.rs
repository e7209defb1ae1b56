//! Tracks: the contribution of every base of a region, with its hits marked.

use std::fmt::Write;

use super::logo::{axis_labels, letter};
use super::{escape, short};
use crate::dna::base_index;

/// A hit to mark on a track, in bases from the track's start, half-open.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// First base.
    pub start: usize,
    /// One past the last base.
    pub end: usize,
    /// What to write above it.
    pub label: String,
    /// Fill colour.
    pub colour: String,
}

/// Returns the stretch of at most `width` bases with the largest sum of absolute contributions, half-open.
pub fn busiest(contributions: &[f32], width: usize) -> (usize, usize) {
    if contributions.len() <= width {
        return (0, contributions.len());
    }
    let mut sum: f64 = contributions[..width].iter().map(|&c| f64::from(c.abs())).sum();
    let (mut best, mut start) = (sum, 0);
    for end in width..contributions.len() {
        sum += f64::from(contributions[end].abs()) - f64::from(contributions[end - width].abs());
        if sum > best {
            (best, start) = (sum, end + 1 - width);
        }
    }
    (start, start + width)
}

/// Draws one letter per base of `sequence`, as tall as its contribution, with `marks` behind; `width` ×
/// `height` pixels. The page needs [`super::logo::symbols`].
pub fn draw(sequence: &[u8], contributions: &[f32], marks: &[Mark], width: f64, height: f64) -> String {
    let values = || contributions.iter().map(|&value| f64::from(value)).filter(|value| value.is_finite());
    let (top, bottom) = (values().fold(0.0, f64::max), values().fold(0.0, f64::min));
    let range = if top > bottom { top - bottom } else { 1.0 };
    let (left, above, below) = (44.0, 30.0, 6.0);
    let step = (width - left) / sequence.len().max(1) as f64;
    let scale = (height - above - below) / range;
    let y = |value: f64| above + (top - value) * scale;
    let mut svg = format!(
        "<svg class=\"track\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">"
    );
    let mut label_end = f64::MIN;
    for mark in marks {
        let centre = left + (mark.start + mark.end) as f64 / 2.0 * step;
        let half = 3.4 * mark.label.chars().count() as f64;
        // A label that would be written over the one before goes a line higher.
        let lifted = centre - half < label_end;
        label_end = if lifted { label_end } else { centre + half };
        svg += &draw_mark(mark, left, step, height, if lifted { 9.0 } else { 20.0 });
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" stroke=\"#c5cacf\" x1=\"{left}\" x2=\"{width}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>",
        y(0.0)
    );
    for (position, (&base, &value)) in sequence.iter().zip(contributions).enumerate() {
        let (Some(base), tall) = (base_index(base), f64::from(value).abs() * scale) else { continue };
        if tall > 0.25 {
            let x = left + position as f64 * step;
            svg += &letter(base, x, y(f64::from(value).max(0.0)), 0.94 * step, tall);
        }
    }
    svg += &axis_labels(top, bottom, left, &y, "");
    svg + "</svg>"
}

/// Draws all contributions of a region as thin bars, the largest and the smallest of those that share a pixel; the
/// stretch `zoom` that is shown larger is shaded, `marks` are lines above. `width` × `height` pixels.
pub fn overview(
    contributions: &[f32],
    marks: &[Mark],
    zoom: (usize, usize),
    width: f64,
    height: f64,
) -> String {
    let values = || contributions.iter().map(|&value| f64::from(value)).filter(|value| value.is_finite());
    let (top, bottom) = (values().fold(0.0, f64::max), values().fold(0.0, f64::min));
    let range = if top > bottom { top - bottom } else { 1.0 };
    let (left, above, below) = (44.0, 10.0, 4.0);
    let scale = (height - above - below) / range;
    let y = |value: f64| above + (top - value) * scale;
    let step = (width - left) / contributions.len().max(1) as f64;
    let x = |position: usize| left + position as f64 * step;
    let mut svg = format!(
        "<svg class=\"track\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <rect x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{height}\" fill=\"#eef0f1\"/>",
        x(zoom.0),
        (zoom.1 - zoom.0) as f64 * step
    );
    let mut path = String::new();
    let together = (1.0 / step).ceil().max(1.0) as usize;
    for (index, part) in contributions.chunks(together).enumerate() {
        let finite = || part.iter().map(|&value| f64::from(value)).filter(|value| value.is_finite());
        let (high, low) = (finite().fold(0.0, f64::max), finite().fold(0.0, f64::min));
        if (high - low) * scale > 0.2 {
            let _ = write!(path, "M{:.1} {:.1}V{:.1}", x(index * together) + 0.5, y(high), y(low));
        }
    }
    let _ = write!(
        svg,
        "<path d=\"{path}\" stroke=\"#5f6b7a\" stroke-width=\"{:.2}\" fill=\"none\"/>",
        (0.9 * step).max(1.0)
    );
    for mark in marks {
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"2\" width=\"{:.1}\" height=\"4\" fill=\"{}\"><title>{}</title></rect>",
            x(mark.start),
            (mark.end - mark.start) as f64 * step,
            escape(&mark.colour),
            escape(&mark.label)
        );
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{left}\" x2=\"{width}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>",
        y(0.0)
    );
    svg += &axis_labels(top, bottom, left, &y, "");
    svg + "</svg>"
}

fn draw_mark(mark: &Mark, left: f64, step: f64, height: f64, label_y: f64) -> String {
    let (x, wide) = (left + mark.start as f64 * step, (mark.end - mark.start) as f64 * step);
    let (label, colour) = (escape(&mark.label), escape(&mark.colour));
    format!(
        "<rect x=\"{x:.2}\" y=\"26\" width=\"{wide:.2}\" height=\"{:.2}\" fill=\"{colour}\" opacity=\"0.13\"/>\
         <rect x=\"{x:.2}\" y=\"24\" width=\"{wide:.2}\" height=\"2\" fill=\"{colour}\"/>\
         <text class=\"mark\" x=\"{:.2}\" y=\"{label_y}\" text-anchor=\"middle\" fill=\"{colour}\">{label}</text>",
        height - 26.0,
        x + wide / 2.0,
    )
}

/// Returns a region as people write it, 1-based and inclusive, with its width.
pub fn caption(chrom: Option<&str>, start: i64, end: i64) -> String {
    match chrom {
        Some(chrom) => format!("{}:{}-{}", escape(chrom), start + 1, end),
        None => format!("{} bases", short((end - start) as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_base_with_a_contribution_is_a_letter_and_n_is_none() {
        let svg = draw(b"ACNT", &[1.0, -1.0, 1.0, 0.0], &[], 400.0, 100.0);
        assert_eq!(svg.matches("<use").count(), 2);
        assert!(svg.contains("#base-A") && svg.contains("#base-C"));
    }

    #[test]
    fn the_busiest_stretch_holds_the_largest_contributions() {
        let mut contributions = vec![0.1f32; 50];
        contributions[30..34].fill(-2.0);
        let (start, end) = busiest(&contributions, 10);
        assert!(start <= 30 && 34 <= end && end - start == 10);
        assert_eq!(busiest(&contributions, 60), (0, 50));
    }

    #[test]
    fn an_overview_has_a_bar_wherever_there_is_a_contribution() {
        let mut contributions = vec![0.0f32; 3000];
        contributions[10] = 1.0;
        contributions[2990] = -1.0;
        let svg = overview(&contributions, &[], (0, 240), 1044.0, 60.0);
        assert_eq!(svg.matches('V').count(), 2);
        assert!(svg.contains("<rect x=\"44.0\" y=\"0\" width=\"80.0\""));
    }

    #[test]
    fn a_label_cannot_leave_its_element() {
        let mark = Mark { start: 0, end: 2, label: "<script>".into(), colour: "\"x".into() };
        let svg = draw(b"AC", &[1.0, 1.0], &[mark], 100.0, 50.0);
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script>"));
    }
}
