//! The table of FIMO, `fimo.tsv`.

use super::general::general;

/// Names of its columns.
pub const COLUMNS: [&str; 10] = [
    "motif_id",
    "motif_alt_id",
    "sequence_name",
    "start",
    "stop",
    "strand",
    "score",
    "p-value",
    "q-value",
    "matched_sequence",
];

/// One line of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Index of the motif; of equal p-values that of the smaller index comes first.
    pub motif: usize,
    /// Contig or name of the sequence.
    pub sequence: String,
    /// First base, 1-based.
    pub start: i64,
    /// Last base, 1-based.
    pub stop: i64,
    /// `+` or `-`.
    pub strand: &'static str,
    /// Log-odds in bits.
    pub score: f64,
    /// Chance of that score at one place.
    pub p_value: f64,
    /// False discovery rate, where it was computed.
    pub q_value: Option<f64>,
    /// The bases, as the motif reads them.
    pub matched: String,
}

/// Returns the table of `lines`, whose motifs have `names` (identifier and other name), with a comment at its end.
pub fn table(lines: &[Line], names: &[(&str, Option<&str>)], comment: &str) -> String {
    let mut text = COLUMNS.join("\t") + "\n";
    for line in lines {
        let (identifier, alternate) = names[line.motif];
        let cells = [
            identifier.to_string(),
            alternate.unwrap_or_default().to_string(),
            line.sequence.clone(),
            line.start.to_string(),
            line.stop.to_string(),
            line.strand.to_string(),
            general(line.score, 6),
            general(line.p_value, 3),
            line.q_value.map_or(String::new(), |q_value| general(q_value, 3)),
            line.matched.clone(),
        ];
        text += &cells.join("\t");
        text.push('\n');
    }
    if !comment.is_empty() {
        text += &format!("\n# {comment}\n");
    }
    text
}
