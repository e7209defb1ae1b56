//! The files of a motif: windows, JASPAR, logos; and MEME for all.

use std::path::Path;

use super::found::Found;
use crate::error::{InFile, Result};
use crate::motif::{Matrix, jaspar, meme};
use crate::output::write_file;
use crate::report::logo;

/// Pixels of one position of a logo.
const STEP: f64 = 22.0;
/// Pixels of a logo's height.
const HEIGHT: f64 = 120.0;

/// Writes `motif_KEY_N.txt`, its windows one a line, `motif_KEY.jaspar` and `motif_KEY.svg` into a directory,
/// which is made if it is not there.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write_windows(directory: &Path, motif: &Found, windows: &[String]) -> Result<()> {
    std::fs::create_dir_all(directory).in_file(directory)?;
    let name = &motif.name;
    let text: String = windows.iter().map(|window| format!("{window}\n")).collect();
    write_file(&directory.join(format!("motif_{name}_{}.txt", windows.len())), text.as_bytes())?;
    let counts = jaspar::write("None", "", &motif.counts);
    write_file(&directory.join(format!("motif_{name}.jaspar")), counts.as_bytes())?;
    write_file(&directory.join(format!("motif_{name}.svg")), sequence_logo(&motif.counts).as_bytes())
}

/// Writes motifs as MEME text. With `drop_first_column` as NyxBind's converter does, which loses the first position
/// and says that there were 20 sites.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_meme(path: &Path, motifs: &[Found], drop_first_column: bool) -> Result<()> {
    let convert = |found: &Found| {
        let mut motif = found.meme();
        if drop_first_column {
            motif.ppm = motif.ppm.span(1.min(motif.ppm.width()), motif.ppm.width());
            motif.sites = 20.0;
        }
        motif
    };
    let motifs: Vec<meme::Motif> = motifs.iter().map(convert).collect();
    write_file(path, meme::write(&motifs).as_bytes())
}

/// Writes `NAME.contributions.svg` and `NAME.sequence.svg`, the logos of a pattern, into a directory, which is made if it
/// is not there.
///
/// # Errors
///
/// When a file cannot be written.
pub fn write_logos(directory: &Path, motif: &Found) -> Result<()> {
    std::fs::create_dir_all(directory).in_file(directory)?;
    let save = |kind: &str, svg: String| {
        write_file(&directory.join(format!("{}.{kind}.svg", motif.name)), svg.as_bytes())
    };
    save("sequence", sequence_logo(&motif.counts))?;
    match &motif.contributions {
        Some((contributions, _)) => save("contributions", contribution_logo(contributions)),
        None => Ok(()),
    }
}

/// Returns the logo of counts as an SVG file, letters by their information content.
pub fn sequence_logo(counts: &Matrix) -> String {
    picture(&logo::information(&counts.probabilities().columns(), [0.25; 4]), "bits")
}

/// Returns the logo of contributions as an SVG file.
pub fn contribution_logo(contributions: &Matrix) -> String {
    picture(&contributions.columns(), "")
}

/// Returns a logo as a picture that stands alone.
fn picture(columns: &[[f64; 4]], unit: &str) -> String {
    let width = 60.0 + STEP * columns.len() as f64;
    let svg = logo::draw(columns, width, HEIGHT, unit);
    let style = "<style>.axis{stroke:#888}.tick{font:10px sans-serif;fill:#555}</style>";
    let opened = svg.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
    let head = opened.find('>').map_or(0, |end| end + 1);
    format!("{}{style}{}{}\n", &opened[..head], logo::definitions(), &opened[head..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logo_stands_alone() {
        let counts = Matrix::from_columns(&[[9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 8.0]]);
        let svg = sequence_logo(&counts);
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("id=\"base-A\"") && svg.contains("href=\"#base-T\""), "{svg}");
        assert_eq!(svg.matches("<svg").count(), 1);
    }
}
