//! What a hit caller needs of motifs: normalized CWMs of both strands, their trims and lambdas.
//!
//! Formulas are those of Fi-NeMo 0.41 (`call-hits`).

use half::f16;

use super::lists::Table;
use super::{Matrix, Pattern};
use crate::error::{Error, Result};
use crate::region::Strand;

/// How patterns become filters.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Use the hypothetical CWMs; trims always come from the projected ones.
    pub hypothetical: bool,
    /// Fraction of the largest column at which a CWM is trimmed.
    pub trim_threshold: f64,
    /// Weight of the lasso penalty, a cosine threshold.
    pub lambda: f64,
    /// Tags of the motifs to use; all when `None`.
    pub include: Option<Vec<String>>,
    /// Names to show, by tag.
    pub names: Table<String>,
    /// Lambdas of single motifs, by tag.
    pub lambdas: Table<f64>,
    /// Trim thresholds of single motifs, by tag.
    pub trim_thresholds: Table<f64>,
    /// Trimmed spans of single motifs, by tag; they win over thresholds.
    pub trim_spans: Table<(usize, usize)>,
    /// Do as Fi-NeMo does: CWMs rounded to half precision, thresholds and spans looked up by the *shown*
    /// name, unknown tags ignored.
    pub compat: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            hypothetical: false,
            trim_threshold: 0.3,
            lambda: 0.7,
            include: None,
            names: Table::new(),
            lambdas: Table::new(),
            trim_thresholds: Table::new(),
            trim_spans: Table::new(),
            compat: false,
        }
    }
}

/// One strand of a motif, ready to be laid over contributions.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// Index of the motif in [`MotifSet::motifs`].
    pub motif: usize,
    /// [`Strand::Forward`] or [`Strand::Reverse`].
    pub strand: Strand,
    /// Number of positions W before trimming.
    pub width: usize,
    /// First position of the trimmed span.
    pub start: usize,
    /// One past the last position of the trimmed span.
    pub end: usize,
    /// The CWM over its norm, 4 × W row-major, not trimmed.
    pub cwm: Vec<f32>,
    /// Weight of the penalty.
    pub lambda: f32,
}

/// A motif and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Motif {
    /// Name in the file.
    pub tag: String,
    /// Name to show.
    pub name: String,
    /// The norm its CWM was divided by.
    pub scale: f64,
    /// Weight of the penalty.
    pub lambda: f64,
}

/// Motifs with the two filters of each.
#[derive(Clone, Debug, PartialEq)]
pub struct MotifSet {
    /// The motifs, in file order.
    pub motifs: Vec<Motif>,
    /// Filters: forward and reverse strand of every motif, in the same order.
    pub filters: Vec<Filter>,
}

impl MotifSet {
    /// Returns the largest width W of a motif before trimming.
    pub fn width(&self) -> usize {
        self.filters.iter().map(|filter| filter.width).max().unwrap_or(0)
    }
}

/// Makes the filters of `patterns`.
///
/// # Errors
///
/// When no motif is left, names are not unique, a table has a tag that is not there (not with `compat`), a
/// span does not fit its motif, a CWM is zero everywhere or not finite, or hypothetical CWMs are wanted from
/// a file that has none.
pub fn build(patterns: &[Pattern], choice: &Choice) -> Result<MotifSet> {
    check_tags(patterns, choice)?;
    let included = |pattern: &&Pattern| match &choice.include {
        Some(tags) => tags.contains(&pattern.tag),
        None => true,
    };
    let mut set = MotifSet { motifs: Vec::new(), filters: Vec::new() };
    for pattern in patterns.iter().filter(included) {
        add(&mut set, pattern, choice).map_err(|error| error.at(format!("motif {}", pattern.tag)))?;
    }
    if set.motifs.is_empty() {
        return Err(Error::data("the list of motifs to include leaves none"));
    }
    check_names(&set)?;
    Ok(set)
}

fn add(set: &mut MotifSet, pattern: &Pattern, choice: &Choice) -> Result<()> {
    let matrix = match (choice.hypothetical, &pattern.hypothetical) {
        (false, _) => &pattern.cwm,
        (true, Some(matrix)) => matrix,
        (true, None) => {
            return Err(Error::data(
                "no hypothetical CWM: modes hp and hh need the HDF5 file of tfmodisco-lite",
            ));
        }
    };
    let scale = matrix.norm();
    if !(scale > 0.0 && scale.is_finite()) {
        return Err(Error::data("the CWM is zero everywhere or not finite"));
    }
    let name = choice.names.get(&pattern.tag).unwrap_or(&pattern.tag).clone();
    let (start, end) = trim(pattern, &name, choice)?;
    let lambda = choice.lambdas.get(&pattern.tag).copied().unwrap_or(choice.lambda);
    if !(lambda >= 0.0 && lambda.is_finite()) {
        return Err(Error::data(format!("lambda {lambda} is not a number of at least 0")));
    }
    let width = matrix.width();
    let forward = matrix.over(scale);
    let motif = set.motifs.len();
    let filter = |strand, matrix: &Matrix, start, end| {
        let cwm = matrix.values().iter().map(|&value| round(value, choice.compat)).collect();
        Filter { motif, strand, width, start, end, cwm, lambda: lambda as f32 }
    };
    set.filters.push(filter(Strand::Forward, &forward, start, end));
    set.filters.push(filter(Strand::Reverse, &forward.reverse_complement(), width - end, width - start));
    set.motifs.push(Motif { tag: pattern.tag.clone(), name, scale, lambda });
    Ok(())
}

/// Returns the trimmed span, from the projected CWM whatever the mode.
fn trim(pattern: &Pattern, name: &str, choice: &Choice) -> Result<(usize, usize)> {
    // Fi-NeMo looks these two tables up by the shown name, and the lambdas by the tag.
    let key = if choice.compat { name } else { &pattern.tag };
    if let Some(&(start, end)) = choice.trim_spans.get(key) {
        let width = pattern.cwm.width();
        if end > width {
            return Err(Error::data(format!("trimmed span {start}-{end} of a motif of width {width}")));
        }
        return Ok((start, end));
    }
    let threshold = choice.trim_thresholds.get(key).copied().unwrap_or(choice.trim_threshold);
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Error::data(format!("trim threshold {threshold} is not between 0 and 1")));
    }
    Ok(pattern.cwm.trim(threshold))
}

fn round(value: f64, compat: bool) -> f32 {
    // `from_f64` may round twice, through f32, which NumPy does not.
    if compat { f16::from_f64_const(value).to_f32() } else { value as f32 }
}

fn check_tags(patterns: &[Pattern], choice: &Choice) -> Result<()> {
    if choice.compat {
        return Ok(());
    }
    let tables: [(&str, Vec<&String>); 5] = [
        ("motifs to include", choice.include.iter().flatten().collect()),
        ("motif names", choice.names.keys().collect()),
        ("lambdas", choice.lambdas.keys().collect()),
        ("trim thresholds", choice.trim_thresholds.keys().collect()),
        ("trim coordinates", choice.trim_spans.keys().collect()),
    ];
    for (table, tags) in tables {
        if let Some(tag) = tags.iter().find(|tag| !patterns.iter().any(|pattern| pattern.tag == ***tag)) {
            let known: Vec<&str> = patterns.iter().take(5).map(|pattern| pattern.tag.as_str()).collect();
            return Err(Error::data(format!(
                "the table of {table} has `{tag}`, which is no motif of the file (it begins with {})",
                known.join(", ")
            )));
        }
    }
    Ok(())
}

fn check_names(set: &MotifSet) -> Result<()> {
    let mut names: Vec<&str> = set.motifs.iter().map(|motif| motif.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::data(format!("two motifs are named `{}`", pair[0]))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(tag: &str) -> Pattern {
        let cwm = Matrix::from_columns(&[
            [0.1, 0.0, 0.0, 0.0],
            [0.0, 3.0, 0.0, 0.0],
            [0.0, 0.0, 4.0, 0.0],
            [0.0; 4],
        ]);
        Pattern { tag: tag.into(), cwm, hypothetical: None }
    }

    #[test]
    fn both_strands_are_made_with_mirrored_trims() {
        let set = build(&[pattern("a")], &Choice::default()).unwrap();
        let [forward, reverse] = &set.filters[..] else { panic!("two filters") };
        assert_eq!((forward.start, forward.end, reverse.start, reverse.end), (1, 3, 1, 3));
        assert_eq!(forward.cwm[4 + 1], reverse.cwm[2 * 4 + 2], "C at 1 is G at W - 1 - 1");
        assert!((set.motifs[0].scale - 25.01f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn tables_speak_of_tags_and_only_compat_of_shown_names() {
        let mut choice =
            Choice { names: [("a".to_string(), "GATA".to_string())].into(), ..Choice::default() };
        choice.trim_spans.insert("a".into(), (0, 2));
        choice.lambdas.insert("a".into(), 0.5);
        let set = build(&[pattern("a")], &choice).unwrap();
        assert_eq!((set.filters[0].end, set.filters[1].start, set.filters[0].lambda), (2, 2, 0.5));
        choice.compat = true;
        assert_eq!(build(&[pattern("a")], &choice).unwrap().filters[0].end, 3);
    }

    #[test]
    fn an_unknown_tag_is_an_error_and_compat_ignores_it() {
        let mut choice = Choice { include: Some(vec!["a".into(), "b".into()]), ..Choice::default() };
        let error = build(&[pattern("a")], &choice).unwrap_err().to_string();
        assert!(error.contains("`b`"), "{error}");
        choice.compat = true;
        assert_eq!(build(&[pattern("a")], &choice).unwrap().motifs.len(), 1);
    }

    #[test]
    fn what_cannot_be_a_filter_is_named() {
        let zero = Pattern { cwm: Matrix::new(2, vec![0.0; 8]), ..pattern("zero") };
        let choice = Choice::default();
        assert!(build(&[zero], &choice).unwrap_err().to_string().contains("motif zero"));
        let hypothetical = Choice { hypothetical: true, ..choice.clone() };
        assert!(build(&[pattern("a")], &hypothetical).unwrap_err().to_string().contains("tfmodisco-lite"));
        assert!(
            build(&[pattern("a"), pattern("a")], &choice).unwrap_err().to_string().contains("two motifs")
        );
        let mut span = choice;
        span.trim_spans.insert("a".into(), (0, 9));
        assert!(build(&[pattern("a")], &span).is_err());
    }
}
