//! Which model, class and measure stands where in the columns of effects.

use arrow_schema::Field;

use super::measure::{Measure, Window};
use super::{EPISTASIS, Options, Source, described, scored};
use crate::error::{Error, Result};
use crate::schema::{self, APPLIED};

/// A model: its streams, and which of its classes count.
pub(super) struct Model {
    pub name: String,
    /// Places of its streams.
    pub folds: Vec<usize>,
    /// Index and name.
    classes: Vec<(usize, String)>,
    measures: Vec<Measure>,
}

/// One number of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub model: usize,
    pub measure: Measure,
    /// 0 where the measure is not of classes.
    pub class: usize,
}

/// A column of effects.
pub(super) struct Column {
    name: &'static str,
    description: String,
    labels: Vec<String>,
    pub parts: Vec<Part>,
    pub has_spread: bool,
}

/// The column of calls.
pub(super) struct Calls {
    pub labels: Vec<String>,
    /// The measure of a part says whether probabilities or logits are compared.
    pub parts: Vec<Part>,
    pub threshold: f64,
    pub change: f64,
    pub description: String,
}

/// The columns of effects.
pub(super) struct Layout {
    pub models: Vec<Model>,
    pub columns: Vec<Column>,
    pub calls: Option<Calls>,
    /// What a haplotype does beyond the sum of its variants.
    pub epistasis: Option<Column>,
}

/// The probability from which on a window is what a model looks for.
const THRESHOLD: f64 = 0.5;

/// Measures whose sum over variants means something, the first that there is.
const ADDITIVE: [Measure; 3] = [Measure::DeltaLogit, Measure::LogLikelihoodRatio, Measure::LogOddsRatio];

impl Layout {
    /// Lays out the effects of `sources`.
    ///
    /// # Errors
    ///
    /// When a stream has no scores, folds of a model have different ones, or a target is unknown.
    pub fn new(sources: &[Source], options: &Options) -> Result<Self> {
        let mut models: Vec<Model> = Vec::new();
        for (place, source) in sources.iter().enumerate() {
            let mut model =
                Model::new(source, place, &options.targets).map_err(|error| named(error, &source.name))?;
            match models.iter_mut().find(|other| other.name == model.name) {
                None => models.push(model),
                Some(other) if other.agrees(&model) => other.folds.append(&mut model.folds),
                Some(_) => {
                    return Err(named(
                        Error::data("its streams have different scores or classes"),
                        &model.name,
                    ));
                }
            }
        }
        let columns = columns(&models);
        let calls = calls(&models, options);
        let haplotypes = sources.iter().all(|source| schema::has(source.pipe.schema(), APPLIED));
        let epistasis = epistasis(&columns).filter(|_| haplotypes);
        Ok(Self { models, columns, calls, epistasis })
    }

    /// Returns the columns of numbers in their order.
    pub fn all_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().chain(&self.epistasis)
    }

    /// Returns a number of every fold of its model, of a reference and an alternate window in each stream; none when
    /// a fold has none, for a mean of fewer would be another number.
    pub fn of_folds(&self, part: &Part, windows: &[(Window, Window)]) -> Vec<f64> {
        let of = |&fold: &usize| part.measure.of(&windows[fold].0, &windows[fold].1, part.class);
        self.models[part.model].folds.iter().map(of).collect::<Option<Vec<f64>>>().unwrap_or_default()
    }
}

fn named(error: Error, name: &str) -> Error {
    if name.is_empty() { error } else { error.at(name.to_string()) }
}

impl Model {
    fn new(source: &Source, place: usize, targets: &[String]) -> Result<Self> {
        let schema = source.pipe.schema();
        let measures = scored::measures(schema)?;
        let all: Vec<(usize, String)> = scored::classes(schema)?.into_iter().enumerate().collect();
        // Where there is one class, it is what every target means.
        let classes = if targets.is_empty() || all.len() <= 1 { all } else { chosen(&all, targets)? };
        Ok(Self { name: source.name.clone(), folds: vec![place], classes, measures })
    }

    fn agrees(&self, other: &Self) -> bool {
        self.classes == other.classes && self.measures == other.measures
    }

    /// Returns the label of a class of this model, one of `models`; of the model itself without a class.
    fn label(&self, class: Option<&str>, models: usize) -> String {
        match (class, models) {
            (Some(class), 1) => class.to_string(),
            (Some(class), _) if self.classes.len() > 1 => format!("{}/{class}", self.name),
            _ => self.name.clone(),
        }
    }

    /// Returns the labelled numbers of `measure`.
    fn parts(&self, model: usize, models: usize, measure: Measure) -> Vec<(String, Part)> {
        if !measure.is_of_classes() {
            return vec![(self.label(None, models), Part { model, measure, class: 0 })];
        }
        let part = |(class, name): &(usize, String)| {
            (self.label(Some(name), models), Part { model, measure, class: *class })
        };
        self.classes.iter().map(part).collect()
    }
}

fn chosen(all: &[(usize, String)], targets: &[String]) -> Result<Vec<(usize, String)>> {
    let find = |target: &String| {
        let by_name = all.iter().find(|(_, name)| name == target);
        let by_index = || target.parse::<usize>().ok().and_then(|index| all.get(index));
        by_name.or_else(by_index).cloned().ok_or_else(|| {
            let names: Vec<_> = all.iter().take(8).map(|(_, name)| name.as_str()).collect();
            let more = if all.len() > 8 { ", …" } else { "" };
            Error::usage(format!(
                "--target {target}: the {} classes are {}{more}",
                all.len(),
                names.join(", ")
            ))
        })
    };
    targets.iter().map(find).collect()
}

fn columns(models: &[Model]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for measure in Measure::ALL {
        for (index, model) in models.iter().enumerate().filter(|(_, model)| model.measures.contains(&measure))
        {
            let (labels, parts): (Vec<_>, Vec<_>) =
                model.parts(index, models.len(), measure).into_iter().unzip();
            let has_spread = model.folds.len() > 1;
            match columns.iter_mut().find(|column| column.name == measure.name()) {
                Some(column) => {
                    column.labels.extend(labels);
                    column.parts.extend(parts);
                    column.has_spread |= has_spread;
                }
                None => columns.push(Column {
                    name: measure.name(),
                    description: measure.description().into(),
                    labels,
                    parts,
                    has_spread,
                }),
            }
        }
    }
    columns
}

fn epistasis(columns: &[Column]) -> Option<Column> {
    let of = |measure: &Measure| columns.iter().find(|column| column.name == measure.name());
    let column = ADDITIVE.iter().find_map(of)?;
    Some(Column {
        name: EPISTASIS,
        description: format!("{} of the haplotype minus the sum of those of its variants", column.name),
        labels: column.labels.clone(),
        parts: column.parts.clone(),
        has_spread: column.has_spread,
    })
}

/// Lays out the calls: of probabilities where a model has them, of logits where a threshold is given.
fn calls(models: &[Model], options: &Options) -> Option<Calls> {
    let measures: &[Measure] = match options.threshold {
        Some(_) => &[Measure::RefProb, Measure::RefLogit],
        None => &[Measure::RefProb],
    };
    let labelled = models.iter().enumerate().flat_map(|(index, model)| {
        let measure = measures.iter().find(|measure| model.measures.contains(measure));
        measure.map_or(Vec::new(), |&measure| model.parts(index, models.len(), measure))
    });
    let (labels, parts): (Vec<_>, Vec<_>) = labelled.unzip();
    let (threshold, change) = (options.threshold.unwrap_or(THRESHOLD), options.change);
    let description =
        format!("loss: falls below {threshold}; gain: rises to it or above; by {change} at least");
    (!parts.is_empty()).then_some(Calls { labels, parts, threshold, change, description })
}

impl Column {
    /// Returns its field, and that of the standard deviation over folds.
    pub fn fields(&self) -> Vec<Field> {
        let kind = || schema::floats(self.parts.len());
        let mut fields = vec![described(self.name, kind(), &self.labels, &self.description)];
        if self.has_spread {
            let description = format!("Standard deviation over folds of {}", self.name);
            fields.push(described(&format!("{}_sd", self.name), kind(), &self.labels, &description));
        }
        fields
    }
}
