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
