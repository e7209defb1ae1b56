//! JSON Lines: one object a row, null where there is no value.

use std::io::Write;

use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;

use crate::error::Result;
use crate::pipe::Pipe;

/// Writes one JSON object a line; numbers that are not finite are null, as JSON has no others.
pub fn write(pipe: Pipe, output: impl Write) -> Result<()> {
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, LineDelimited>(output);
    for batch in pipe.into_parts().1 {
        writer.write(&batch?)?;
    }
    writer.finish()?;
    Ok(writer.into_inner().flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::sample;

    #[test]
    fn every_line_is_an_object_with_all_columns() {
        let mut bytes = Vec::new();
        write(sample::pipe(), &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0]["name"], "p\tq");
        assert_eq!(rows[1]["contributions"], serde_json::json!([1.0, 1.25, 1.5]));
        assert!(rows[1]["name"].is_null() && rows[1].as_object().unwrap().contains_key("name"));
    }
}
