//! The space that is searched: a range for each hyper-parameter, and the unit cube that stands for all of them.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Digits of a number that is drawn: enough for a learning rate, few enough to be written down.
const DIGITS: usize = 4;
/// Most points of a grid.
const GRID_MOST: usize = 1_000_000;

/// The values that a hyper-parameter can have.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// These, written `a,b,c`. Numbers among themselves are in order, words are not.
    Values(Vec<String>),
    /// Every number between two, written `0.1..0.5`, or `log:1e-5..1e-2` where each factor counts as much.
    Between {
        /// The smallest.
        low: f64,
        /// The largest.
        high: f64,
        /// Whether factors count, not differences.
        by_factor: bool,
    },
    /// Numbers at equal distances, written `512..2048/256`, or `int:16..100` for a distance of 1.
    Steps {
        /// The smallest.
        low: f64,
        /// The distance.
        step: f64,
        /// How many.
        count: usize,
    },
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!(
                "`{text}` is no range: write a,b,c or 0.1..0.5 or log:1e-5..1e-2 or int:16..100 or 512..2048/256"
            ))
        };
        let (kind, rest) = match text.split_once(':') {
            Some((kind @ ("log" | "int"), rest)) => (kind, rest),
            _ => ("", text),
        };
        let Some((low, rest)) = rest.split_once("..") else {
            let values: Vec<String> = rest.split(',').map(|word| word.trim().to_string()).collect();
            let fits = kind.is_empty() && values.iter().all(|value| !value.is_empty());
            return if fits { Ok(Self::Values(values)) } else { Err(wrong()) };
        };
        let (high, step) = match rest.split_once('/') {
            Some((high, step)) => (high, Some(step)),
            None => (rest, (kind == "int").then_some("1")),
        };
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(wrong);
        let (low, high) = (number(low)?, number(high)?);
        let range = match step.map(number).transpose()? {
            _ if low > high || (kind == "log" && (low <= 0.0 || step.is_some())) => return Err(wrong()),
            None => Self::Between { low, high, by_factor: kind == "log" },
            Some(step) if step > 0.0 && (high - low) / step < 1e9 => {
                // Steps of 0.1 end at 0.5 although their sum may be a little more.
                Self::Steps { low, step, count: ((high - low) / step + 1e-9).floor() as usize + 1 }
            }
            Some(_) => return Err(wrong()),
        };
        match range {
            Self::Steps { low, step, .. } if kind == "int" && (low.fract() != 0.0 || step.fract() != 0.0) => {
                Err(wrong())
            }
            range => Ok(range),
        }
    }
}

impl Range {
    /// Returns how many values there are; none of an interval.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Values(values) => Some(values.len()),
            Self::Steps { count, .. } => Some(*count),
            Self::Between { .. } => None,
        }
    }

    /// Returns the value at a place from 0 to 1.
    pub fn value(&self, place: f64) -> String {
        match self {
            Self::Values(values) => values[index(place, values.len())].clone(),
            Self::Steps { low, step, count } => number(low + step * index(place, *count) as f64, 12),
            Self::Between { .. } => number(self.number(place), DIGITS),
        }
    }

    fn number(&self, place: f64) -> f64 {
        match *self {
            Self::Between { low, high, by_factor: true } => (low.ln() + place * (high.ln() - low.ln())).exp(),
            Self::Between { low, high, .. } => low + place * (high - low),
            _ => f64::NAN,
        }
    }

    /// Returns the place in the middle of all places that give the same value as this one.
    pub fn settle(&self, place: f64) -> f64 {
        match self.count() {
            Some(count) => (index(place, count) as f64 + 0.5) / count as f64,
            None => place.clamp(0.0, 1.0),
        }
    }

    /// Appends coordinates in which near values are near: one of an ordered range, one for each word of others.
    fn features(&self, place: f64, features: &mut Vec<f64>) {
        match self {
            Self::Values(values) if values.iter().any(|value| value.parse::<f64>().is_err()) => {
                let chosen = index(place, values.len());
                features.extend((0..values.len()).map(|word| if word == chosen { 0.5 } else { 0.0 }));
            }
            range => features.push(match range.count() {
                Some(count) => index(place, count) as f64 / (count.max(2) - 1) as f64,
                None => place,
            }),
        }
    }
}

fn index(place: f64, count: usize) -> usize {
    ((place * count as f64) as usize).min(count - 1)
}

/// Writes a number with so many digits, as short as it reads back.
fn number(value: f64, digits: usize) -> String {
    let rounded: f64 = format!("{value:.*e}", digits - 1).parse().unwrap_or(value);
    let small = rounded != 0.0 && rounded.abs() < 1e-3;
    if small { format!("{rounded:e}") } else { format!("{rounded}") }
}

/// A hyper-parameter: a flag of the training and its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The flag, without dashes.
    pub name: String,
    /// Its values.
    pub range: Range,
}

impl FromStr for Parameter {
    type Err = Error;

    /// Reads `NAME=RANGE`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, range) =
            text.split_once('=').filter(|(name, _)| !name.trim_matches('-').is_empty()).ok_or_else(|| {
                Error::usage(format!("`{text}`: write NAME=RANGE, as learning-rate=log:1e-5..1e-2"))
            })?;
        Ok(Self { name: name.trim_start_matches('-').into(), range: range.parse()? })
    }
}

/// All hyper-parameters that are searched. A point has a place from 0 to 1 for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Space(Vec<Parameter>);

impl Space {
    /// Creates a space.
    ///
    /// # Errors
    ///
    /// When it is empty or a parameter is there twice.
    pub fn new(parameters: Vec<Parameter>) -> Result<Self> {
        if parameters.is_empty() {
            return Err(Error::usage("nothing to search: give --param NAME=RANGE or --preset"));
        }
        for (index, parameter) in parameters.iter().enumerate() {
            if parameters[..index].iter().any(|other| other.name == parameter.name) {
                return Err(Error::usage(format!("--param {} is there twice", parameter.name)));
            }
        }
        Ok(Self(parameters))
    }

    /// Returns the hyper-parameters.
    pub fn parameters(&self) -> &[Parameter] {
        &self.0
    }

    /// Returns how many there are.
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// Returns the values at a point.
    pub fn values(&self, point: &[f64]) -> Vec<String> {
        self.0.iter().zip(point).map(|(parameter, &place)| parameter.range.value(place)).collect()
    }

    /// Moves every place into the middle of those that mean the same.
    pub fn settle(&self, point: &[f64]) -> Vec<f64> {
        self.0.iter().zip(point).map(|(parameter, &place)| parameter.range.settle(place)).collect()
    }

    /// Returns coordinates in which near values are near.
    pub fn features(&self, point: &[f64]) -> Vec<f64> {
        let mut features = Vec::new();
        self.0
            .iter()
            .zip(point)
            .for_each(|(parameter, &place)| parameter.range.features(place, &mut features));
        features
    }

    /// Returns the number of points of the whole grid; none where a range is an interval.
    pub fn size(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |size, parameter| size.checked_mul(parameter.range.count()?))
    }

    /// Returns all points, the last parameter running fastest.
    ///
    /// # Errors
    ///
    /// When a range has no end of values, or there are too many points.
    pub fn grid(&self) -> Result<Vec<Vec<f64>>> {
        let open = self.0.iter().find(|parameter| parameter.range.count().is_none());
        if let Some(Parameter { name, .. }) = open {
            return Err(Error::usage(format!(
                "--param {name}: a grid needs values (a,b,c) or steps (LOW..HIGH/STEP), not an interval"
            )));
        }
        let size = self.size().filter(|&size| size <= GRID_MOST);
        let size = size.ok_or_else(|| Error::usage("the grid has more than a million points"))?;
        let counts: Vec<usize> = self.0.iter().filter_map(|parameter| parameter.range.count()).collect();
        let point = |mut rest: usize| {
            let mut point = vec![0.0; counts.len()];
            for (place, &count) in point.iter_mut().zip(&counts).rev() {
                *place = ((rest % count) as f64 + 0.5) / count as f64;
                rest /= count;
            }
            point
        };
        Ok((0..size).map(point).collect())
    }
}

/// Returns hyper-parameters as words of a command line: `--name value`. `on` is a flag alone and `off` none; the values
/// of `name.1`, `name.2` and so on, side by side, are those of one flag, by comma.
pub fn words(parameters: &[(String, String)]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open: Option<&str> = None;
    for (name, value) in parameters {
        let part = name.rsplit_once('.').filter(|(_, number)| number.parse::<usize>().is_ok());
        match (part, value.as_str()) {
            (Some((name, _)), value) if open == Some(name) => {
                let last = words.last_mut().expect("the flag was begun");
                *last = format!("{last},{value}");
                continue;
            }
            (None, "on") => words.push(format!("--{name}")),
            (None, "off") => {}
            (part, value) => {
                words.extend([format!("--{}", part.map_or(name.as_str(), |part| part.0)), value.to_string()]);
            }
        }
        open = part.map(|part| part.0);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(texts: &[&str]) -> Space {
        Space::new(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn ranges_give_their_ends_and_nothing_outside() {
        for (text, low, high) in [
            ("a=log:1e-6..1e-3", "1e-6", "0.001"),
            ("a=0.1..0.5", "0.1", "0.5"),
            ("a=int:16..100", "16", "100"),
            ("a=512..2048/256", "512", "2048"),
            ("a=0.2..0.5/0.1", "0.2", "0.5"),
            ("--a=x,y,z", "x", "z"),
            ("a=3e-3", "3e-3", "3e-3"),
        ] {
            let range = text.parse::<Parameter>().unwrap().range;
            assert_eq!((range.value(0.0).as_str(), range.value(1.0).as_str()), (low, high), "{text}");
            for step in 0..=100 {
                let place = f64::from(step) / 100.0;
                assert_eq!(range.value(place), range.value(range.settle(place)), "{text} {place}");
            }
        }
        let range: Range = "log:1e-6..1e-2".parse().unwrap();
        assert_eq!(range.value(0.5), "1e-4");
        for bad in ["a", "=1", "a=", "a=1..0", "a=log:0..1", "a=int:1.5..3", "a=1..2/0", "a=x..y", "a=1,,2"] {
            assert!(bad.parse::<Parameter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let space = space(&["rate=1e-3,1e-4", "warmup=10%,20%", "units=1..3/1"]);
        let grid: Vec<Vec<String>> = space.grid().unwrap().iter().map(|point| space.values(point)).collect();
        assert_eq!(grid.len(), 12);
        assert_eq!(grid[0], ["1e-3", "10%", "1"]);
        assert_eq!(grid[1], ["1e-3", "10%", "2"]);
        assert_eq!(grid[11], ["1e-4", "20%", "3"]);
        let distinct: std::collections::HashSet<_> = grid.iter().collect();
        assert_eq!(distinct.len(), 12);
        let open = Space::new(vec!["a=0..1".parse().unwrap()]).unwrap();
        assert!(open.grid().unwrap_err().to_string().contains("--param a"));
        assert!(Space::new(vec!["a=1".parse().unwrap(), "a=2".parse().unwrap()]).is_err());
    }

    #[test]
    fn flags_are_there_or_not_and_parts_are_joined() {
        let parameters = [
            ("rate", "1e-3"),
            ("freeze", "on"),
            ("keep", "off"),
            ("widths.1", "512"),
            ("widths.2", "256"),
            ("a.1", "x"),
            ("decay", "0"),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_string(), value.to_string()));
        let expected = ["--rate", "1e-3", "--freeze", "--widths", "512,256", "--a", "x", "--decay", "0"];
        assert_eq!(words(&parameters), expected);
    }

    #[test]
    fn words_are_equally_far_from_each_other_and_numbers_are_in_order() {
        let space = space(&["rule=adam,sgd,adamw", "batch=64,128,256"]);
        let features = |rule: f64, batch: f64| space.features(&[rule, batch]);
        assert_eq!(features(0.0, 0.0), [0.5, 0.0, 0.0, 0.0]);
        assert_eq!(features(0.5, 0.5), [0.0, 0.5, 0.0, 0.5]);
        assert_eq!(features(1.0, 1.0), [0.0, 0.0, 0.5, 1.0]);
    }
}
