//! Columns of a stream as INFO fields.

use std::collections::HashSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};

use crate::error::{Error, Result};
use crate::schema::{self, LABELS_KEY};

/// The field of the row's status.
pub const STATUS: &str = "NYX_STATUS";

/// Columns that are no fields: the identity of a row, and what is too long for a field.
const NO_FIELDS: [&str; 20] = [
    schema::REGION,
    schema::CHROM,
    schema::START,
    schema::END,
    schema::STRAND,
    schema::NAME,
    schema::SEQUENCE,
    schema::SECOND,
    schema::VARIANT,
    schema::VARIANT_ID,
    schema::POS,
    schema::REF,
    schema::ALT,
    schema::ALLELE,
    schema::HAPLOTYPE,
    schema::STATUS,
    schema::EMBEDDING,
    schema::APPLIED,
    "ref_sequence",
    "alt_sequence",
];

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Type=Float`.
    Float,
    /// `Type=String`.
    Text,
}

/// A value of one allele.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `.`
    Missing,
    /// A number.
    Float(f32),
    /// Text with nothing in it that would end a value.
    Text(String),
}

/// An INFO field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its ID, which begins with `NYX_`.
    pub id: String,
    /// Type of its values.
    pub kind: Kind,
    /// One line.
    pub description: String,
    column: String,
    /// Which number of a list.
    item: Option<usize>,
}

/// All fields of a stream.
#[derive(Clone, Debug)]
pub struct Fields {
    /// In the order of the columns, without that of the status.
    pub infos: Vec<Info>,
}

impl Fields {
    /// Returns the fields of a stream of this schema.
    ///
    /// # Errors
    ///
    /// When its rows are no alleles.
    pub fn new(schema: &Schema) -> Result<Self> {
        for (name, kind) in [
            (schema::CHROM, DataType::Utf8),
            (schema::POS, DataType::Int64),
            (schema::REF, DataType::Utf8),
            (schema::ALT, DataType::Utf8),
            (schema::ALLELE, DataType::UInt16),
            (schema::VARIANT, DataType::UInt64),
            (schema::STATUS, DataType::Utf8),
        ] {
            schema::require(schema, name, &kind).map_err(|error| error.at("VCF is of variants"))?;
        }
        let columns = schema.fields().iter().filter(|field| !NO_FIELDS.contains(&field.name().as_str()));
        let mut infos: Vec<Info> = columns.flat_map(|field| infos_of(field)).collect();
        let mut seen = HashSet::from([STATUS.to_string()]);
        for info in &mut infos {
            let base = info.id.clone();
            let mut number = 1;
            while !seen.insert(info.id.clone()) {
                number += 1;
                info.id = format!("{base}_{number}");
            }
        }
        Ok(Self { infos })
    }

    /// Returns the values of a row, in the order of the fields.
    ///
    /// # Errors
    ///
    /// When a column is not what the schema says.
    pub fn values(&self, batch: &RecordBatch, row: usize) -> Result<Vec<Value>> {
        let value = |info: &Info| {
            let column = schema::column(batch, &info.column)?;
            match info.item {
                None => value(column, row),
                Some(_) if column.is_null(row) => Ok(Value::Missing),
                Some(item) => {
                    let lists = column.as_fixed_size_list();
                    value(lists.values(), lists.value_offset_at(row) + item)
                }
            }
        };
        self.infos.iter().map(value).collect()
    }
}

fn kind_of(kind: &DataType) -> Option<Kind> {
    match kind {
        DataType::Float32 | DataType::Float64 => Some(Kind::Float),
        DataType::Utf8 => Some(Kind::Text),
        _ => None,
    }
}

/// Returns the fields of a column: one for each number of a list.
fn infos_of(field: &Field) -> Vec<Info> {
    let base = format!("NYX_{}", identifier(field.name()).to_uppercase());
    let description = field.metadata().get("description").cloned().unwrap_or_else(|| field.name().clone());
    let info =
        |id, kind, description, item| Info { id, kind, description, column: field.name().clone(), item };
    if let Some(kind) = kind_of(field.data_type()) {
        return vec![info(base, kind, description, None)];
    }
    let DataType::FixedSizeList(inner, size) = field.data_type() else { return Vec::new() };
    let Some(kind) = kind_of(inner.data_type()) else { return Vec::new() };
    let size = *size as usize;
    if size == 1 {
        return vec![info(base, kind, description, Some(0))];
    }
    let labels: Vec<&str> =
        field.metadata().get(LABELS_KEY).map_or(Vec::new(), |labels| labels.split(',').collect());
    let label = |item: usize| match labels.len() == size {
        true => labels[item].to_string(),
        false => item.to_string(),
    };
    let of_item = |item: usize| {
        let id = format!("{base}_{}", identifier(&label(item)));
        info(id, kind, format!("{description}, of {}", label(item)), Some(item))
    };
    (0..size).map(of_item).collect()
}

/// Returns a name with nothing but the letters of an INFO ID.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect()
}

fn value(column: &dyn Array, row: usize) -> Result<Value> {
    if column.is_null(row) {
        return Ok(Value::Missing);
    }
    let float = |value: f32| if value.is_nan() { Value::Missing } else { Value::Float(value) };
    Ok(match column.data_type() {
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row) as f32),
        DataType::Utf8 => Value::Text(escape(column.as_string::<i32>().value(row))),
        other => return Err(Error::data(format!("{other} is no value of an INFO field"))),
    })
}

/// Writes a text so that nothing in it ends a value: commas become `&`, other delimiters are percent-encoded (VCF 4.3,
/// 1.2).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ',' => escaped.push('&'),
            ' ' | ';' | '=' | '%' | '&' | '\0'..='\x1f' => escaped.push_str(&format!("%{:02X}", c as u32)),
            c => escaped.push(c),
        }
    }
    if escaped.is_empty() { ".".into() } else { escaped }
}
