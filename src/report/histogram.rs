//! Histograms of streams whose range is not known before they end.

use std::fmt::Write;

/// Bars of a histogram.
const BARS: usize = 48;

/// A histogram from zero upwards whose bars widen as larger values arrive; memory is constant.
#[derive(Clone, Debug)]
pub struct Histogram {
    width: f64,
    counts: [u64; BARS],
    total: u64,
    sum: f64,
}

impl Histogram {
    /// Creates an empty histogram whose range is `0..range` until a larger value arrives.
    pub fn new(range: f64) -> Self {
        Self { width: range / BARS as f64, counts: [0; BARS], total: 0, sum: 0.0 }
    }

    /// Counts a value; negative ones count as zero, what is not finite does not count.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.total += 1;
        self.sum += value;
        while value > self.width * BARS as f64 {
            self.widen();
        }
        // The upper end of the range belongs to the last bar.
        let bar = ((value / self.width).max(0.0) as usize).min(BARS - 1);
        self.counts[bar] += 1;
    }

    /// Makes every bar twice as wide.
    fn widen(&mut self) {
        for bar in 0..BARS {
            let pair = 2 * bar;
            self.counts[bar] = if pair < BARS { self.counts[pair] + self.counts[pair + 1] } else { 0 };
        }
        self.width *= 2.0;
    }

    /// Returns how many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns the mean of all values; not a number when there were none.
    pub fn mean(&self) -> f64 {
        self.sum / self.total as f64
    }

    /// Returns the bars that are in use: their width, and their counts.
    pub fn bars(&self) -> (f64, &[u64]) {
        let used = self.counts.iter().rposition(|&count| count > 0).map_or(1, |last| last + 1);
        (self.width, &self.counts[..used])
    }
}

/// Draws a histogram of `width` × `height` pixels in `colour`.
pub fn draw(histogram: &Histogram, width: f64, height: f64, colour: &str) -> String {
    let (step, counts) = histogram.bars();
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let (base, wide) = (height - 16.0, width / counts.len() as f64);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">");
    for (bar, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let tall = (count as f64 / most * (base - 4.0)).max(0.7);
        let _ = write!(
            svg,
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{tall:.2}\" fill=\"{colour}\"><title>{} to {}: {count}</title></rect>",
            bar as f64 * wide,
            base - tall,
            0.88 * wide,
            super::short(bar as f64 * step),
            super::short((bar + 1) as f64 * step),
        );
    }
    let _ = write!(svg, "<line class=\"axis\" x1=\"0\" x2=\"{width}\" y1=\"{base}\" y2=\"{base}\"/>");
    // Numbers that stand on the last line of pixels lose their feet.
    let (end, y) = (super::short(step * counts.len() as f64), height - 3.0);
    let _ = write!(svg, "<text class=\"tick\" x=\"0\" y=\"{y}\">0</text>");
    let _ = write!(svg, "<text class=\"tick\" x=\"{width}\" y=\"{y}\" text-anchor=\"end\">{end}</text>");
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bars_count_what_lies_in_them_however_they_widened(values in prop::collection::vec(0.0f64..500.0, 1..200)) {
            let mut histogram = Histogram::new(1.0);
            values.iter().for_each(|&value| histogram.add(value));
            let (width, counts) = histogram.bars();
            prop_assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
            for (bar, &count) in counts.iter().enumerate().take(BARS - 1) {
                let inside = |value: &&f64| (bar as f64 * width..(bar + 1) as f64 * width).contains(*value);
                prop_assert_eq!(values.iter().filter(inside).count() as u64, count);
            }
        }
    }
}
