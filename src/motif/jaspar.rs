//! JASPAR text: counts of bases, one line a base.

use std::fmt::Write;

use super::Matrix;

/// Returns counts as JASPAR text, as Biopython 1.83 writes it: `>identifier name`, then a line a base of counts
/// with two decimals.
pub fn write(identifier: &str, name: &str, counts: &Matrix) -> String {
    let mut text = format!(">{identifier} {name}\n");
    for (base, letter) in "ACGT".chars().enumerate() {
        let row: Vec<String> = (0..counts.width()).map(|i| format!("{:6.2}", counts.at(base, i))).collect();
        let _ = writeln!(text, "{letter} [{}]", row.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_base_has_a_line_of_counts() {
        let counts = Matrix::from_columns(&[[3.0, 0.0, 0.0, 1.0], [0.0, 400.0, 0.5, 0.0]]);
        let lines = ["A [  3.00   0.00]", "C [  0.00 400.00]", "G [  0.00   0.50]", "T [  1.00   0.00]"];
        assert_eq!(write("MA1", "CTCF", &counts), format!(">MA1 CTCF\n{}\n", lines.join("\n")));
    }
}
