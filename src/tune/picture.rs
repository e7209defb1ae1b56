//! A search as a picture: values over trials with the best so far, and values over each hyper-parameter.

use std::fmt::Write;

/// A trial as it is drawn.
#[derive(Clone, Debug)]
pub struct Dot {
    /// Number of the trial.
    pub trial: usize,
    /// The objective; none of a trial that failed.
    pub value: Option<f64>,
    /// Whether it went to its end, not only to a rung.
    pub is_whole: bool,
    /// Values of the hyper-parameters.
    pub values: Vec<String>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 34.0;
const COLUMNS: usize = 3;
const DOT: &str = "#0072b2";
const LINE: &str = "#d55e00";

/// Draws a search as SVG text: a panel of values over trials, and one for each of `names`. `larger_is_better` says which
/// way the line of the best goes.
pub fn draw(objective: &str, larger_is_better: bool, names: &[String], dots: &[Dot]) -> String {
    let panels = names.len() + 1;
    let (width, height) = (WIDTH * panels.min(COLUMNS) as f64, HEIGHT * panels.div_ceil(COLUMNS) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"10\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    let values: Vec<f64> =
        dots.iter().filter_map(|dot| dot.value.filter(|value| value.is_finite())).collect();
    let y_range = range(&values);
    let trials = Axis::numbers("trial", dots.iter().map(|dot| dot.trial as f64).collect());
    svg += &Panel { place: 0, objective, y_range }.draw(&trials, dots, Some(larger_is_better));
    for (index, name) in names.iter().enumerate() {
        let axis = Axis::of(name, dots.iter().map(|dot| dot.values[index].as_str()).collect());
        svg += &Panel { place: index + 1, objective, y_range }.draw(&axis, dots, None);
    }
    svg + "</svg>\n"
}

/// What a panel has below it, and where each dot stands on it.
struct Axis {
    name: String,
    /// Of each dot, from 0 to 1.
    places: Vec<f64>,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis of words, or of numbers: by their logarithms where they go over more than a factor of 50.
    fn of(name: &str, texts: Vec<&str>) -> Self {
        let numbers: Option<Vec<f64>> = texts.iter().map(|text| text.parse().ok()).collect();
        match numbers {
            Some(numbers) => Self::numbers(name, numbers),
            None => Self::words(name, &texts),
        }
    }

    fn words(name: &str, texts: &[&str]) -> Self {
        let mut words = texts.to_vec();
        words.sort_unstable();
        words.dedup();
        let place = |word: &str| {
            let index = words.iter().position(|other| *other == word).unwrap_or(0);
            (index as f64 + 0.5) / words.len() as f64
        };
        Self {
            name: name.into(),
            places: texts.iter().map(|text| place(text)).collect(),
            ticks: words.iter().map(|word| (place(word), (*word).to_string())).collect(),
        }
    }

    fn numbers(name: &str, numbers: Vec<f64>) -> Self {
        let (low, high) = range(&numbers);
        let by_factor = low > 0.0 && high / low > 50.0;
        let map = |number: f64| if by_factor { number.ln() } else { number };
        let (first, last) = (map(low), map(high));
        let tick = |part: f64| {
            let place = first + part * (last - first);
            (part, short(if by_factor { place.exp() } else { place }))
        };
        Self {
            name: if by_factor { format!("{name} (log)") } else { name.into() },
            places: numbers.iter().map(|&number| (map(number) - first) / (last - first)).collect(),
            ticks: [0.0, 0.5, 1.0].map(tick).to_vec(),
        }
    }
}

struct Panel<'a> {
    place: usize,
    objective: &'a str,
    y_range: (f64, f64),
}

impl Panel<'_> {
    fn x(&self, part: f64) -> f64 {
        (self.place % COLUMNS) as f64 * WIDTH + LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value - self.y_range.0) / (self.y_range.1 - self.y_range.0);
        (self.place / COLUMNS) as f64 * HEIGHT + HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    fn draw(&self, axis: &Axis, dots: &[Dot], line: Option<bool>) -> String {
        let mut svg = self.frame(axis);
        if let Some(larger_is_better) = line {
            svg += &self.best_so_far(axis, dots, larger_is_better);
        }
        for (dot, &place) in dots.iter().zip(&axis.places) {
            let Some(value) = dot.value.filter(|value| value.is_finite()) else { continue };
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{}\" stroke=\"{DOT}\"><title>trial {}: {}</title></circle>",
                self.x(place),
                self.y(value),
                if dot.is_whole { DOT } else { "none" },
                dot.trial,
                short(value)
            );
        }
        svg
    }

    fn frame(&self, axis: &Axis) -> String {
        let (base, middle) = (self.y(self.y_range.0), (self.x(0.0) + self.x(1.0)) / 2.0);
        let mut svg = format!(
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
            base + 28.0,
            escape(&axis.name)
        );
        for part in [0.0, 0.5, 1.0] {
            let value = self.y_range.0 + part * (self.y_range.1 - self.y_range.0);
            let _ = write!(
                svg,
                "<path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"#d9dde1\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.x(0.0),
                self.y(value),
                self.x(1.0),
                self.x(0.0) - 5.0,
                self.y(value) + 3.5,
                short(value)
            );
        }
        for (place, text) in &axis.ticks {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                self.x(*place),
                base + 13.0,
                escape(text)
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            self.x(0.0),
            self.y(self.y_range.1) - 8.0,
            escape(self.objective)
        );
        svg
    }

    fn best_so_far(&self, axis: &Axis, dots: &[Dot], larger_is_better: bool) -> String {
        let (mut best, mut path) = (None::<f64>, String::new());
        for (dot, &place) in dots.iter().zip(&axis.places) {
            let Some(value) = dot.value.filter(|value| value.is_finite()) else { continue };
            let better = best.is_none_or(|best| if larger_is_better { value > best } else { value < best });
            let now = if better { value } else { best.unwrap_or(value) };
            let (x, y) = (self.x(place), self.y(now));
            let _ = match best {
                None => write!(path, "M{x:.1} {y:.1}"),
                Some(_) => write!(path, "H{x:.1}V{y:.1}"),
            };
            best = Some(now);
        }
        format!("<path d=\"{path}\" fill=\"none\" stroke=\"{LINE}\" stroke-width=\"1.5\"/>")
    }
}

/// Returns the ends of numbers, never equal.
fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match low < high {
        true => (low, high),
        false if low.is_finite() => (low - 0.5, low + 0.5),
        false => (0.0, 1.0),
    }
}

fn short(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trial_is_a_dot_in_each_panel_and_the_line_only_rises() {
        let dot = |trial, value, rate: &str, rule: &str| Dot {
            trial,
            value,
            is_whole: trial != 1,
            values: vec![rate.into(), rule.into()],
        };
        let dots = [
            dot(0, Some(0.5), "1e-5", "adam"),
            dot(1, Some(0.4), "1e-2", "<sgd>"),
            dot(2, None, "1e-3", "adam"),
            dot(3, Some(0.9), "1e-4", "adam"),
        ];
        let svg = draw("roc_auc", true, &["learning-rate".into(), "optimizer".into()], &dots);
        assert_eq!(svg.matches("<circle").count(), 9, "three values in three panels");
        assert_eq!(svg.matches("fill=\"none\" stroke=\"#0072b2\"").count(), 3, "one is not whole");
        assert!(svg.contains("learning-rate (log)") && svg.contains("&lt;sgd&gt;") && !svg.contains("NaN"));
        let path =
            svg.split(&format!("stroke=\"{LINE}\"")).next().unwrap().rsplit("<path d=\"M").next().unwrap();
        let heights: Vec<f64> = path
            .split(['V', ' ', '"', 'H'])
            .skip(1)
            .step_by(2)
            .filter_map(|word| word.parse().ok())
            .collect();
        assert!(heights.windows(2).all(|pair| pair[1] <= pair[0]) && heights.len() == 3, "{path}");
    }

    #[test]
    fn nothing_to_draw_is_drawn_without_numbers_that_are_none() {
        let svg = draw("loss", false, &["a".into()], &[]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
