//! The text of one value of a column.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{
    Array, FixedSizeListArray, Float16Array, Float32Array, Float64Array, ListArray, StringArray,
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;

use crate::error::Result;

/// A column, ready to be written as text: floats as the shortest decimal that reads back as the same
/// number, lists joined by commas.
pub struct Cells<'a> {
    array: &'a dyn Array,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Text(&'a StringArray),
    Half(&'a Float16Array),
    Single(&'a Float32Array),
    Double(&'a Float64Array),
    List(&'a ListArray, Box<Cells<'a>>),
    Fixed(&'a FixedSizeListArray, Box<Cells<'a>>),
    Other(ArrayFormatter<'a>),
}

impl<'a> Cells<'a> {
    /// Prepares a column of any type.
    pub fn new(array: &'a dyn Array) -> Result<Self> {
        let kind = match array.data_type() {
            DataType::Utf8 => Kind::Text(array.as_string()),
            DataType::Float16 => Kind::Half(array.as_primitive::<Float16Type>()),
            DataType::Float32 => Kind::Single(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Kind::Double(array.as_primitive::<Float64Type>()),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Kind::List(list, Box::new(Self::new(list.values())?))
            }
            DataType::FixedSizeList(..) => {
                let list = array.as_fixed_size_list();
                Kind::Fixed(list, Box::new(Self::new(list.values())?))
            }
            _ => Kind::Other(ArrayFormatter::try_new(array, &FormatOptions::default())?),
        };
        Ok(Self { array, kind })
    }

    /// Appends the value of `row` to `text`, or `null` when there is none.
    pub fn write(&self, row: usize, null: &str, text: &mut String) {
        if self.array.is_null(row) {
            return text.push_str(null);
        }
        // Writing to a string cannot fail.
        let _ = match &self.kind {
            Kind::Text(array) => text.write_str(array.value(row)),
            Kind::Half(array) => write!(text, "{:?}", array.value(row).to_f32()),
            Kind::Single(array) => write!(text, "{:?}", array.value(row)),
            Kind::Double(array) => write!(text, "{:?}", array.value(row)),
            Kind::List(array, items) => {
                let offsets = array.value_offsets();
                items.join(offsets[row] as usize..offsets[row + 1] as usize, null, text);
                Ok(())
            }
            Kind::Fixed(array, items) => {
                let first = array.value_offset_at(row);
                items.join(first..first + array.value_length() as usize, null, text);
                Ok(())
            }
            Kind::Other(formatter) => write!(text, "{}", formatter.value(row)),
        };
    }

    fn join(&self, rows: std::ops::Range<usize>, null: &str, text: &mut String) {
        for (index, row) in rows.enumerate() {
            if index > 0 {
                text.push(',');
            }
            self.write(row, null, text);
        }
    }
}
