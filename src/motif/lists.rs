//! The small tables that say something about single motifs: which to use, their names, lambdas and trims.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, InFile, Result};
use crate::input::read_text;

/// A table from a motif's tag to a value, in which every tag occurs once.
pub type Table<T> = BTreeMap<String, T>;

/// Reads the tags of a list: the first column of every line. Empty lines and lines that begin with `#` are
/// skipped in this and the other tables.
pub fn read_tags(path: &Path) -> Result<Vec<String>> {
    let text = read_text(path)?;
    let lines = text.lines().map(str::trim_end).filter(|line| says_something(line));
    Ok(lines.map(|line| line.split('\t').next().unwrap_or(line).to_string()).collect())
}

/// Reads a table of two columns, tag and value.
///
/// # Errors
///
/// A line without a second column, a value that is not a `T`, a tag that occurs twice.
pub fn read_table<T: FromStr>(path: &Path) -> Result<Table<T>> {
    read_rows(path, |cells| match cells {
        [value] => value.parse().ok(),
        _ => None,
    })
}

/// Reads a table of three columns, tag, start and end (0-based, half-open).
///
/// # Errors
///
/// As [`read_table`], and for an empty span.
pub fn read_spans(path: &Path) -> Result<Table<(usize, usize)>> {
    read_rows(path, |cells| match cells {
        [start, end] => Some((start.parse().ok()?, end.parse().ok()?)).filter(|(start, end)| start < end),
        _ => None,
    })
}

fn read_rows<T>(path: &Path, parse: impl Fn(&[&str]) -> Option<T>) -> Result<Table<T>> {
    let text = read_text(path)?;
    let mut table = Table::new();
    for (index, line) in text.lines().map(str::trim_end).enumerate().filter(|(_, line)| says_something(line))
    {
        let place = || format!("{} line {}", path.display(), index + 1);
        let cells: Vec<&str> = line.split('\t').map(str::trim).collect();
        let value = parse(&cells[1..]).ok_or_else(|| {
            Error::data(format!("`{line}` is not a motif's name and its value, separated by a tab"))
                .at(place())
        })?;
        if table.insert(cells[0].to_string(), value).is_some() {
            return Err(Error::data(format!("`{}` occurs twice", cells[0])).at(place()));
        }
    }
    if table.is_empty() {
        return Err(Error::data("the table is empty")).in_file(path);
    }
    Ok(table)
}

fn says_something(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lambdas.tsv");
        std::fs::write(&path, "# tag\tlambda\na\t0.5\n\nb\tx\n").unwrap();
        let error = read_table::<f64>(&path).unwrap_err().to_string();
        assert!(error.contains("lambdas.tsv line 4"), "{error}");
        std::fs::write(&path, "a\t0.5\na\t0.6\n").unwrap();
        assert!(read_table::<f64>(&path).unwrap_err().to_string().contains("twice"));
        std::fs::write(&path, "a\t3\t7\r\n").unwrap();
        assert_eq!(read_spans(&path).unwrap()["a"], (3, 7));
        assert_eq!(read_tags(&path).unwrap(), ["a"]);
    }
}
