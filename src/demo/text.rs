//! The demo's data as the text formats of the field.

use std::fmt::Write;

use super::genome::Synthetic;

/// Bases on a line of FASTA.
const LINE: usize = 60;

/// Returns the genome as FASTA.
pub fn fasta(genome: &Synthetic) -> String {
    let mut text = String::new();
    for (name, bases) in &genome.contigs {
        let _ = writeln!(text, ">{name}");
        for line in bases.chunks(LINE) {
            text.extend(line.iter().map(|&base| base as char));
            text.push('\n');
        }
    }
    text
}

/// Returns the peaks as narrowPeak (0-based half-open, the summit relative to the start).
pub fn narrow_peaks(genome: &Synthetic) -> String {
    let mut text = String::new();
    for peak in &genome.peaks {
        let (start, end, summit) = (peak.start, peak.end, peak.summit - peak.start);
        let signal = 5 + 5 * peak.instances;
        let _ =
            writeln!(text, "{}\t{start}\t{end}\t{}\t0\t.\t{signal}\t-1\t-1\t{summit}", peak.chrom, peak.name);
    }
    text
}

/// Returns the planted instances as BED6 (0-based half-open).
pub fn truth_bed(genome: &Synthetic) -> String {
    let mut text = String::new();
    for planted in &genome.planted {
        let (start, end, strand) = (planted.start, planted.end, planted.strand.as_str());
        let _ = writeln!(text, "{}\t{start}\t{end}\t{}\t0\t{strand}", planted.chrom, planted.motif);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::genome::synthesize;

    #[test]
    fn a_peak_s_summit_is_relative_to_its_start() {
        let genome = synthesize(3);
        let text = narrow_peaks(&genome);
        for (line, peak) in text.lines().zip(&genome.peaks) {
            let fields: Vec<_> = line.split('\t').collect();
            assert_eq!(fields.len(), 10);
            let number = |index: usize| fields[index].parse::<usize>().unwrap();
            assert_eq!(number(1) + number(9), peak.summit);
            assert!(number(1) < peak.summit && peak.summit < number(2));
        }
    }
}
