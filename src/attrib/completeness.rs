//! How complete the contributions of all rows are: what a command says when it has ended.

use std::sync::{Arc, Mutex};

use arrow_array::{Array, RecordBatch};

use crate::error::Result;
use crate::pipe::Pipe;
use crate::schema;

/// Rows that passed, and how far their contributions miss what they share out.
#[derive(Clone, Debug, Default)]
pub struct Completeness {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    rows: u64,
    unconverged: u64,
    largest: f32,
}

impl Completeness {
    /// Watches the rows of a pipe as they pass.
    pub fn watch(&self, pipe: Pipe) -> Pipe {
        let (schema, counts) = (pipe.schema().clone(), self.counts.clone());
        if !schema::has(&schema, schema::CONVERGED) {
            return pipe;
        }
        pipe.map(schema, move |batch| {
            counts.lock().expect("no other thread counts").add(&batch)?;
            Ok(batch)
        })
    }

    /// Returns it in words; nothing where no row has such an error.
    pub fn describe(&self) -> Option<String> {
        let counts = self.counts.lock().expect("no other thread counts");
        let Counts { rows, unconverged, largest } = *counts;
        let beyond = match unconverged {
            0 => "all rows converged".to_string(),
            _ => format!("{unconverged} of {rows} rows not converged: see `converged`"),
        };
        (rows > 0).then(|| format!("largest completeness error {largest:.2e}, {beyond}"))
    }
}

impl Counts {
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let errors = schema::f32s(batch, schema::DELTA)?;
        let converged = schema::booleans(batch, schema::CONVERGED)?;
        for row in (0..batch.num_rows()).filter(|&row| converged.is_valid(row)) {
            self.rows += 1;
            self.unconverged += u64::from(!converged.value(row));
            self.largest = self.largest.max(errors.value(row));
        }
        Ok(())
    }
}
