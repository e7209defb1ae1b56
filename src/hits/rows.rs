//! The columns of a row of contributions that a hit caller reads.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type};
use arrow_array::{Array, Int64Array, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Schema};
use half::f16;

use super::Mode;
use super::signal::{Preparation, Signal};
use super::stage::{Called, RegionStatus};
use crate::dna::base_index;
use crate::error::{Error, Result};
use crate::region::Strand;
use crate::schema::{self, CHROM, CONTRIBUTIONS, END, HYPOTHETICAL, NAME, REGION, SEQUENCE, START, STRAND};

/// Typed views of one batch.
pub(super) struct Columns<'b> {
    hypothetical_mode: bool,
    region: &'b UInt64Array,
    chrom: &'b StringArray,
    start: &'b Int64Array,
    end: &'b Int64Array,
    strand: &'b StringArray,
    name: &'b StringArray,
    sequence: Option<&'b StringArray>,
    contributions: Option<&'b ListArray>,
    hypothetical: Option<&'b ListArray>,
}

impl<'b> Columns<'b> {
    /// Checks that a stream has what the mode needs.
    pub(super) fn check(schema: &Schema, mode: Mode) -> Result<()> {
        for (name, kind) in [
            (REGION, DataType::UInt64),
            (CHROM, DataType::Utf8),
            (START, DataType::Int64),
            (END, DataType::Int64),
            (STRAND, DataType::Utf8),
            (NAME, DataType::Utf8),
        ] {
            schema::require(schema, name, &kind)?;
        }
        let context = |error: Error| error.at(format!("mode {}", mode.as_str()));
        if mode.hypothetical_contributions() {
            return require_floats(schema, HYPOTHETICAL).map_err(context);
        }
        schema::require(schema, SEQUENCE, &DataType::Utf8).map_err(context)?;
        let column = if schema::has(schema, CONTRIBUTIONS) || !schema::has(schema, HYPOTHETICAL) {
            CONTRIBUTIONS
        } else {
            HYPOTHETICAL
        };
        require_floats(schema, column).map_err(context)
    }

    /// Returns the views of a batch that passed [`Columns::check`]. With `compat` projected modes take the
    /// hypothetical contributions where there are any, as Fi-NeMo does, which sees what is wrong with them.
    pub(super) fn of(batch: &'b RecordBatch, mode: Mode, compat: bool) -> Result<Self> {
        let optional = |name| schema::has(batch.schema_ref(), name);
        let lists = |name| optional(name).then(|| schema::lists(batch, name)).transpose();
        let hypothetical_mode = mode.hypothetical_contributions();
        let whole = hypothetical_mode || (compat && optional(HYPOTHETICAL));
        let contributions = if whole { None } else { lists(CONTRIBUTIONS)? };
        Ok(Self {
            hypothetical_mode,
            region: schema::u64s(batch, REGION)?,
            chrom: schema::strings(batch, CHROM)?,
            start: schema::i64s(batch, START)?,
            end: schema::i64s(batch, END)?,
            strand: schema::strings(batch, STRAND)?,
            name: schema::strings(batch, NAME)?,
            sequence: optional(SEQUENCE).then(|| schema::strings(batch, SEQUENCE)).transpose()?,
            hypothetical: if contributions.is_some() { None } else { lists(HYPOTHETICAL)? },
            contributions,
        })
    }

    /// Returns a row's identity, as a region without contributions.
    pub(super) fn identity(&self, row: usize) -> Result<Called> {
        let text = |column: &StringArray| (!column.is_null(row)).then(|| column.value(row).to_string());
        Ok(Called {
            region: self.region.value(row),
            chrom: text(self.chrom),
            start: self.start.value(row),
            name: text(self.name),
            length: self.sequence.filter(|s| !s.is_null(row)).map_or(0, |s| s.value(row).len()),
            status: RegionStatus::Missing,
            nll: f32::NAN,
            dual_gap: f32::NAN,
            num_steps: 0,
            step_size: f32::NAN,
            scale: f32::NAN,
            hits: Vec::new(),
        })
    }

    /// Returns the window of a row and the strand its sequence reads.
    pub(super) fn window(&self, row: usize) -> Result<(i64, i64, Strand)> {
        let strand = self.strand.value(row).parse().map_err(|error| self.at(row, error))?;
        Ok((self.start.value(row), self.end.value(row), strand))
    }

    /// Returns the signal of a row; `None` when it has no contributions or no sequence.
    pub(super) fn signal(&self, row: usize, preparation: Preparation) -> Result<Option<Signal>> {
        let sequence = self.sequence.filter(|s| !s.is_null(row)).map(|s| s.value(row).as_bytes());
        let lists = self.contributions.or(self.hypothetical);
        let Some(lists) = lists.filter(|lists| !lists.is_null(row)) else { return Ok(None) };
        let values = floats(lists, row)?;
        let planes = if self.contributions.is_some() { 1 } else { 4 };
        if let Some(sequence) = sequence
            && values.len() != planes * sequence.len()
        {
            return Err(self.at(
                row,
                Error::data(format!(
                    "{} contributions for a sequence of {} bases (expected {})",
                    values.len(),
                    sequence.len(),
                    planes * sequence.len()
                )),
            ));
        }
        if self.hypothetical_mode {
            if !values.len().is_multiple_of(4) {
                let message = format!("{} hypothetical contributions are not four rows", values.len());
                return Err(self.at(row, Error::data(message)));
            }
            return Ok(Some(Signal::hypothetical(&values, preparation)));
        }
        let Some(sequence) = sequence else { return Ok(None) };
        if planes == 1 {
            return Ok(Some(Signal::projected(&values, sequence, preparation)));
        }
        let projected = project(&values, sequence, preparation.half_precision);
        Ok(Some(Signal::projected(&projected, sequence, preparation)))
    }

    fn at(&self, row: usize, error: Error) -> Error {
        error.at(format!("region {}", self.region.value(row)))
    }
}

/// Returns the contributions of the observed bases: `hypothetical` of length 4·L, rows A C G T.
fn project(hypothetical: &[f32], sequence: &[u8], compat: bool) -> Vec<f32> {
    let length = sequence.len();
    let observed = |(position, &base): (usize, &u8)| {
        base_index(base).map_or(0.0, |base| hypothetical[base * length + position])
    };
    let mut projected: Vec<f32> = sequence.iter().enumerate().map(observed).collect();
    // Fi-NeMo multiplies by the one-hot sequence, and infinity times zero is no number.
    if compat && hypothetical.iter().any(|&value| !f16::from_f32(value).is_finite()) {
        projected.fill(f32::NAN);
    }
    projected
}

fn require_floats(schema: &Schema, name: &str) -> Result<()> {
    let half = schema::list_of(DataType::Float16);
    if schema::require(schema, name, &half).is_ok() {
        return Ok(());
    }
    schema::require(schema, name, &schema::list_of(DataType::Float32))
}

/// Returns the items of a row as float32.
fn floats(lists: &ListArray, row: usize) -> Result<Cow<'_, [f32]>> {
    if lists.value_type() != DataType::Float16 {
        debug_assert!(lists.values().as_primitive_opt::<Float32Type>().is_some());
        return Ok(Cow::Borrowed(schema::float_items(lists, row)?));
    }
    let values = lists.values().as_primitive::<Float16Type>();
    let offsets = lists.value_offsets();
    let items = &values.values()[offsets[row] as usize..offsets[row + 1] as usize];
    Ok(Cow::Owned(items.iter().map(|value| value.to_f32()).collect()))
}
