//! Logos: stacks of letters whose heights are numbers.

use std::fmt::Write;

use super::COLOURS;

/// Pixels left of the letters, for the axis.
const LEFT: f64 = 44.0;

/// Letters as paths in a box of 100 × 100, in base order.
const GLYPHS: [&str; 4] = [
    "M0 100L38 0H62L100 100H79L71 76H29L21 100ZM35 58H65L50 17Z",
    "M98 32C92 12 75 0 52 0C20 0 2 21 2 50C2 79 20 100 52 100C75 100 93 88 98 66L78 61C75 74 66 82 52 82C34 82 23 \
     70 23 50C23 30 34 18 52 18C65 18 74 25 77 37Z",
    "M98 31C91 11 75 0 52 0C20 0 2 21 2 50C2 79 20 100 53 100C72 100 88 93 98 83V46H54V63H78V74C72 79 63 82 54 \
     82C35 82 23 70 23 50C23 30 34 18 52 18C65 18 73 24 77 35Z",
    "M0 0H100V18H60V100H40V18H0Z",
];

/// Returns the letters as SVG symbols; a page with logos or tracks needs them once.
pub fn symbols() -> String {
    format!(
        "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\">{}</svg>",
        definitions()
    )
}

/// Returns the definitions of the letters, for a picture that stands alone.
pub fn definitions() -> String {
    let mut svg = String::from("<defs>");
    for ((letter, path), colour) in "ACGT".chars().zip(GLYPHS).zip(COLOURS) {
        let _ =
            write!(svg, "<path id=\"base-{letter}\" d=\"{path}\" fill=\"{colour}\" fill-rule=\"evenodd\"/>");
    }
    svg + "</defs>"
}

/// Returns the SVG of one letter in the box at (`x`, `y`) of `width` × `height` pixels.
pub fn letter(base: usize, x: f64, y: f64, width: f64, height: f64) -> String {
    let name = ['A', 'C', 'G', 'T'][base];
    let (a, d) = (width / 100.0, height / 100.0);
    format!("<use href=\"#base-{name}\" transform=\"matrix({a:.4} 0 0 {d:.5} {x:.2} {y:.2})\"/>")
}

/// Returns letter heights in bits: probability times the information content of its position,
/// `p[b] · Σ_a p[a] log2(p[a] / background[a])` (Schneider and Stephens, 1990).
pub fn information(probabilities: &[[f64; 4]], background: [f64; 4]) -> Vec<[f64; 4]> {
    let bits = |column: &[f64; 4]| -> f64 {
        let terms = column.iter().zip(background).filter(|(p, _)| **p > 0.0);
        terms.map(|(&p, q)| p * (p / q).log2()).sum::<f64>().max(0.0)
    };
    probabilities.iter().map(|column| column.map(|p| p * bits(column))).collect()
}

/// A letter in its place: positions count from 0, heights are in the unit of the numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Position of the stack.
    pub position: usize,
    /// A, C, G, T = 0, 1, 2, 3.
    pub base: usize,
    /// The lower edge.
    pub bottom: f64,
    /// The upper edge.
    pub top: f64,
}

/// Stacks letters: positive ones upwards from zero with the largest on top, negative ones downwards with
/// the largest at the bottom.
pub fn stack(columns: &[[f64; 4]]) -> Vec<Placed> {
    let mut placed = Vec::new();
    for (position, column) in columns.iter().enumerate() {
        let mut order: Vec<usize> = (0..4).filter(|&base| column[base] != 0.0).collect();
        order.sort_by(|&a, &b| column[a].abs().total_cmp(&column[b].abs()));
        let (mut above, mut below) = (0.0, 0.0);
        for base in order {
            let height = column[base];
            if height > 0.0 {
                placed.push(Placed { position, base, bottom: above, top: above + height });
                above += height;
            } else {
                placed.push(Placed { position, base, bottom: below + height, top: below });
                below += height;
            }
        }
    }
    placed
}

/// Draws a logo of `width` × `height` pixels, with its largest and smallest value at the left.
///
/// `unit` is written beside the axis. The page needs [`symbols`].
pub fn draw(columns: &[[f64; 4]], width: f64, height: f64, unit: &str) -> String {
    let placed = stack(columns);
    let top = placed.iter().map(|letter| letter.top).fold(0.0, f64::max);
    let bottom = placed.iter().map(|letter| letter.bottom).fold(0.0, f64::min);
    let range = if top > bottom { top - bottom } else { 1.0 };
    let (left, margin) = (LEFT, 8.0);
    let step = (width - left) / columns.len().max(1) as f64;
    let scale = (height - 2.0 * margin) / range;
    let y = |value: f64| margin + (top - value) * scale;
    let mut svg = format!(
        "<svg class=\"logo\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">"
    );
    for letter in &placed {
        let x = left + letter.position as f64 * step + 0.03 * step;
        let tall = (letter.top - letter.bottom) * scale;
        // Thinner than a tenth of a pixel is not seen.
        if tall > 0.1 {
            svg += &self::letter(letter.base, x, y(letter.top), 0.94 * step, tall);
        }
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{left}\" x2=\"{width}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>",
        y(0.0)
    );
    svg += &axis_labels(top, bottom, left, &y, unit);
    svg + "</svg>"
}

/// Draws a logo whose positions outside of `trim` (half-open) are shaded; see [`draw`].
pub fn draw_trimmed(
    columns: &[[f64; 4]],
    trim: Option<(usize, usize)>,
    width: f64,
    height: f64,
    unit: &str,
) -> String {
    let svg = draw(columns, width, height, unit);
    let Some((start, end)) = trim.filter(|&(start, end)| start < end && end <= columns.len()) else {
        return svg;
    };
    let step = (width - LEFT) / columns.len() as f64;
    let mut shades = String::new();
    for (from, to) in [(0, start), (end, columns.len())] {
        let _ = write!(
            shades,
            "<rect class=\"outside\" x=\"{:.2}\" y=\"0\" width=\"{:.2}\" height=\"{height}\" fill=\"#eef0f1\"/>",
            LEFT + from as f64 * step,
            (to - from) as f64 * step,
        );
    }
    let head = svg.find('>').map_or(svg.len(), |end| end + 1);
    format!("{}{shades}{}", &svg[..head], &svg[head..])
}

/// Writes the values at the top and bottom of an axis that ends at `right`.
pub(super) fn axis_labels(top: f64, bottom: f64, right: f64, y: &dyn Fn(f64) -> f64, unit: &str) -> String {
    // The size is said here, too: a notebook has no style of ours.
    let label = |value: f64, text: String| {
        format!(
            "<text class=\"tick\" font-size=\"10\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            right - 5.0,
            y(value) + 3.5
        )
    };
    let mut labels = label(top, super::short(top));
    if !unit.is_empty() {
        labels += &format!(
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            right - 5.0,
            y(top) + 15.0,
            super::escape(unit)
        );
    }
    // A value too near to another would be written over it.
    if bottom < 0.0 && y(bottom) - y(top) > 30.0 {
        labels += &label(bottom, super::short(bottom));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_certain_base_carries_two_bits_and_a_uniform_position_none() {
        let heights = information(&[[1.0, 0.0, 0.0, 0.0], [0.25; 4]], [0.25; 4]);
        assert_eq!(heights, [[2.0, 0.0, 0.0, 0.0], [0.0; 4]]);
    }

    proptest! {
        #[test]
        fn letter_heights_sum_to_the_information_content(counts in prop::array::uniform4(0.01f64..1.0)) {
            let sum: f64 = counts.iter().sum();
            let p = counts.map(|count| count / sum);
            // Shannon: two bits less the entropy.
            let entropy: f64 = -p.iter().map(|p| p * p.ln() / 2f64.ln()).sum::<f64>();
            let heights = information(&[p], [0.25; 4]);
            let stack = stack(&heights);
            let drawn: f64 = stack.iter().map(|letter| letter.top - letter.bottom).sum();
            prop_assert!((drawn - (2.0 - entropy)).abs() < 1e-9);
            let tallest = (0..4).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
            prop_assert_eq!(stack.last().map(|letter| letter.base), Some(tallest));
        }

        #[test]
        fn letters_of_a_stack_touch_and_do_not_overlap(column in prop::array::uniform4(-1.0f64..1.0)) {
            let placed = stack(&[column]);
            let positive: f64 = column.iter().filter(|h| **h > 0.0).sum();
            let negative: f64 = column.iter().filter(|h| **h < 0.0).sum();
            let mut edges: Vec<_> = placed.iter().map(|l| (l.bottom, l.top)).collect();
            edges.sort_by(|a, b| a.0.total_cmp(&b.0));
            prop_assert!(edges.windows(2).all(|pair| (pair[0].1 - pair[1].0).abs() < 1e-12));
            prop_assert!((edges[0].0 - negative).abs() < 1e-12 && (edges[edges.len() - 1].1 - positive).abs() < 1e-12);
        }
    }
}
