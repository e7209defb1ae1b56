//! A report as a folder: Fi-NeMo's tables, matrices and pictures beside the page.

use std::path::Path;

use super::gather::{Gathered, MotifSummary};
use super::{chart, histogram, logo, page, tables};
use crate::error::{InFile, Result};
use crate::output::write_file;

/// Writes `report.html`, the tables, `motifs/NAME/*.txt` and `*.svg`, and the charts of single motifs into
/// `directory`, which is made if it is not there.
///
/// # Errors
///
/// When something cannot be written.
pub fn write(
    directory: &Path,
    gathered: &Gathered,
    html: &str,
    chroms: &[String],
    compat: bool,
) -> Result<()> {
    let save = |name: &str, text: &str| -> Result<()> {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).in_file(parent)?;
        write_file(&path, text.as_bytes())
    };
    for (name, text) in tables::tables(gathered, chroms, compat) {
        save(name, &text)?;
    }
    for (name, svg) in page::charts(gathered) {
        save(&format!("{name}.svg"), &alone(&svg))?;
    }
    for motif in &gathered.motifs {
        let name = file_name(&motif.name);
        for (kind, columns) in matrices(motif, gathered.recall) {
            save(&format!("motifs/{name}/{kind}.txt"), &tables::matrix(&columns))?;
            save(&format!("motifs/{name}/{kind}.svg"), &alone(&logo::draw(&columns, 1000.0, 200.0, "")))?;
        }
        for (kind, values) in [
            ("coefficients", &motif.global_coefficients),
            ("similarities", &motif.similarities),
            ("importances", &motif.importances),
        ] {
            let svg = histogram::draw(values, 500.0, 200.0, "#2b5f8f");
            save(&format!("motif_stat_distributions/{name}_{kind}.svg"), &alone(&svg))?;
        }
        let counts = per_region(motif, gathered.regions);
        let svg = chart::bars(&counts, 500.0, 200.0, "#2b5f8f");
        save(&format!("motif_hit_distributions/{name}.svg"), &alone(&svg))?;
    }
    save("report.html", html)
}

/// Returns the name of a motif as that of a file in a folder: it leads nowhere else, is not hidden, and is not longer
/// than names may be.
fn file_name(motif: &str) -> String {
    let shown = |c: char| if c.is_control() || "/\\".contains(c) { '_' } else { c };
    let name: String = motif.chars().take(50).map(shown).collect();
    if name.starts_with('.') || name.is_empty() { format!("_{name}") } else { name }
}

/// Returns how many of all regions have 0, 1, 2, … hits of a motif.
pub fn per_region(motif: &MotifSummary, regions: u64) -> Vec<u64> {
    let mut counts = vec![regions.saturating_sub(motif.regions)];
    for (&hits, &regions) in &motif.per_region {
        counts.resize(hits as usize + 1, 0);
        counts[hits as usize] = regions;
    }
    counts
}

/// Returns the matrices of a motif by Fi-NeMo's names for them.
fn matrices(motif: &MotifSummary, recall: bool) -> Vec<(&'static str, Vec<[f64; 4]>)> {
    let hits = motif.aligned.mean_contributions();
    let frequencies = motif.aligned.mean_sequence();
    let mut matrices = vec![
        ("hits_rc", reversed(&hits)),
        ("hits_fc", hits),
        ("hits_ppm_rc", reversed(&frequencies)),
        ("hits_ppm_fc", frequencies),
    ];
    if let Some(known) = &motif.known {
        let cwm = page::columns(&known.cwm);
        matrices.push(("modisco_rc", reversed(&cwm)));
        matrices.push(("modisco_fc", cwm));
    }
    if recall {
        matrices.push(("seqlets_only", motif.seqlets_only.mean_contributions()));
        matrices.push(("hits_restricted_only", motif.hits_only.mean_contributions()));
    }
    // What has no window has no matrix.
    matrices.retain(|(_, columns)| !columns.is_empty());
    matrices
}

/// Returns the matrix of the reverse complement.
pub fn reversed(columns: &[[f64; 4]]) -> Vec<[f64; 4]> {
    columns.iter().rev().map(|&[a, c, g, t]| [t, g, c, a]).collect()
}

/// Makes a picture of the page a file of its own.
fn alone(svg: &str) -> String {
    let svg = svg.replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
    let letters = if svg.contains("#base-") { logo::definitions() } else { String::new() };
    let Some(head) = svg.find('>') else { return svg };
    let (head, rest) = svg.split_at(head + 1);
    format!("{head}<style>{}</style>{letters}{rest}\n", page::PICTURE_STYLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_motif_leads_nowhere_else() {
        assert_eq!(file_name("pos_patterns.pattern_0"), "pos_patterns.pattern_0");
        for (motif, name) in
            [("../../x", "_.._.._x"), ("..", "_.."), ("a/b\\c", "a_b_c"), ("", "_"), ("x\u{1b}\n", "x__")]
        {
            assert_eq!(file_name(motif), name);
        }
        assert_eq!(file_name(&"é".repeat(300)).len(), 100);
    }
}
