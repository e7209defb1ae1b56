//! The motifs that hits were called with: from Fi-NeMo's folder, or from the file of motifs.

use std::path::Path;

use crate::error::{Error, InFile, Result};
use crate::input::read_text;
use crate::motif::{Matrix, Pattern};
use crate::npy;

/// A motif and how it was trimmed.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Name that hits carry.
    pub name: String,
    /// Name in the file of motifs.
    pub tag: String,
    /// The CWM on its forward strand, 4 × W.
    pub cwm: Matrix,
    /// Trimmed span on the forward strand, half-open.
    pub forward: (usize, usize),
    /// Trimmed span on the reverse strand.
    pub reverse: (usize, usize),
}

impl Known {
    /// Creates what is known of a pattern that is trimmed at `threshold` of its largest column.
    pub fn of(pattern: &Pattern, threshold: f64) -> Self {
        let (start, end) = pattern.cwm.trim(threshold);
        let width = pattern.cwm.width();
        Self {
            name: pattern.tag.clone(),
            tag: pattern.tag.clone(),
            cwm: pattern.cwm.clone(),
            forward: (start, end),
            reverse: (width - end, width - start),
        }
    }
}

/// Reads `motif_data.tsv` and `motif_cwms.npy` of a folder that Fi-NeMo or `nyx-hits --outdir` has written.
///
/// # Errors
///
/// A file or column that is missing, a row that is not what `motif_id` says, an array of another size.
pub fn read_folder(folder: &Path) -> Result<Vec<Known>> {
    let path = folder.join("motif_data.tsv");
    let text = read_text(&path)?;
    let cwms = npy::read_npy::<f64>(&folder.join("motif_cwms.npy"))?;
    let &[count, 4, width] = cwms.shape.as_slice() else {
        let message = format!("shape {:?}: expected (M, 4, W)", cwms.shape);
        return Err(Error::data(message)).in_file(&folder.join("motif_cwms.npy"));
    };
    let rows = rows(&text).in_file(&path)?;
    if rows.len() != count {
        let message = format!("{} motifs, but motif_cwms.npy has {count}", rows.len());
        return Err(Error::data(message)).in_file(&path);
    }
    let matrix = |row: usize| Matrix::new(width, cwms.values[row * 4 * width..][..4 * width].to_vec());
    pairs(&rows, matrix).in_file(&path)
}

/// A row of `motif_data.tsv`: name, original name, strand, span.
type Row<'t> = (&'t str, &'t str, &'t str, (usize, usize));

fn rows(text: &str) -> Result<Vec<Row<'_>>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let find = |name: &str| {
        let column = header.iter().position(|column| *column == name);
        column.ok_or_else(|| Error::data(format!("no column `{name}`")))
    };
    let columns = [
        find("motif_name")?,
        find("motif_name_orig")?,
        find("strand")?,
        find("motif_start")?,
        find("motif_end")?,
    ];
    lines.enumerate().map(|(index, line)| row(line, columns, index + 2)).collect()
}

fn row(line: &str, columns: [usize; 5], number: usize) -> Result<Row<'_>> {
    let bad = || Error::data(format!("line {number}: not a row of motif_data.tsv"));
    let cells: Vec<&str> = line.split('\t').collect();
    let cell = |index: usize| cells.get(columns[index]).copied().ok_or_else(bad);
    let position = |index: usize| cell(index)?.parse::<usize>().map_err(|_| bad());
    Ok((cell(0)?, cell(1)?, cell(2)?, (position(3)?, position(4)?)))
}

fn pairs(rows: &[Row], matrix: impl Fn(usize) -> Matrix) -> Result<Vec<Known>> {
    rows.chunks(2)
        .enumerate()
        .map(|(pair, rows)| match rows {
            [(name, tag, "+", forward), (other, _, "-", reverse)] if name == other => Ok(Known {
                name: name.to_string(),
                tag: tag.to_string(),
                cwm: matrix(2 * pair),
                forward: *forward,
                reverse: *reverse,
            }),
            _ => Err(Error::data(format!("line {}: expected a motif on + and then on -", 2 * pair + 2))),
        })
        .collect()
}
