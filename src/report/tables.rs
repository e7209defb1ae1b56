//! A report as tables, called and laid out as Fi-NeMo's.

use std::fmt::Write;

use super::gather::Gathered;
use crate::region::Strand;

/// Returns the files of a report and their texts: `motif_report.tsv`, `motif_occurrences.tsv`,
/// `motif_cooccurrence.tsv`, and with seqlets `seqlets.tsv` and `seqlet_confusion.tsv`.
///
/// With `compat` regions without a hit are not in `motif_occurrences.tsv`.
pub fn tables(gathered: &Gathered, chroms: &[String], compat: bool) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("motif_report.tsv", motif_report(gathered)),
        ("motif_occurrences.tsv", occurrences(gathered, compat)),
        ("motif_cooccurrence.tsv", cooccurrence(gathered)),
    ];
    if gathered.seqlets.is_some() {
        files.push(("seqlets.tsv", seqlets(gathered, chroms)));
        files.push(("seqlet_confusion.tsv", confusion(gathered)));
    }
    files
}

fn motif_report(gathered: &Gathered) -> String {
    let mut header = vec!["motif_name", "num_hits_total", "num_hits_restricted"];
    header.extend(gathered.seqlets.is_some().then_some("num_seqlets"));
    if gathered.recall {
        header.extend(["num_overlaps", "num_seqlets_only", "num_hits_restricted_only", "seqlet_recall"]);
    }
    header.push("cwm_similarity");
    let mut text = header.join("\t") + "\n";
    for motif in &gathered.motifs {
        let counts = &motif.counts;
        let _ = write!(text, "{}\t{}\t{}", motif.name, counts.hits, counts.restricted);
        if gathered.seqlets.is_some() {
            let _ = write!(text, "\t{}", counts.seqlets);
        }
        if gathered.recall {
            let (overlaps, seqlets_only) = (counts.overlaps, counts.seqlets_only);
            let recall = float(counts.recall());
            let _ = write!(text, "\t{overlaps}\t{seqlets_only}\t{}\t{recall}", counts.restricted_only);
        }
        let _ = writeln!(text, "\t{}", float(motif.cwm_similarity()));
    }
    text
}

fn occurrences(gathered: &Gathered, compat: bool) -> String {
    let mut text = String::from("peak_id");
    for motif in &gathered.motifs {
        text.push('\t');
        text += &motif.name;
    }
    text += "\ttotal\n";
    let mut regions: Vec<_> = gathered.occurrences.iter().collect();
    regions.sort_by_key(|(region, _)| *region);
    for (region, present) in regions.into_iter().filter(|(_, present)| !compat || !present.is_empty()) {
        let mut counts = vec![0; gathered.motifs.len()];
        present.iter().for_each(|&(motif, count)| counts[motif as usize] = count);
        let _ = write!(text, "{region}");
        counts.iter().for_each(|count| _ = write!(text, "\t{count}"));
        let _ = writeln!(text, "\t{}", counts.iter().sum::<u64>());
    }
    text
}

fn cooccurrence(gathered: &Gathered) -> String {
    let counts = super::recall::cooccurrence(gathered.motifs.len(), &gathered.occurrences);
    let mut text = String::from("motif_name");
    gathered.motifs.iter().for_each(|motif| _ = write!(text, "\t{}", motif.name));
    text.push('\n');
    for (motif, counts) in gathered.motifs.iter().zip(counts) {
        text += &motif.name;
        counts.iter().for_each(|count| _ = write!(text, "\t{count}"));
        text.push('\n');
    }
    text
}

fn seqlets(gathered: &Gathered, chroms: &[String]) -> String {
    let mut text = String::from(
        "chr\tstart\tend\tstart_untrimmed\tend_untrimmed\tstrand\tmotif_name\tpeak_id\tpeak_region_start\n",
    );
    for placed in gathered.seqlets.iter().flatten() {
        let seqlet = &placed.instance;
        let chrom = seqlet.chrom.map_or("NA", |chrom| &chroms[chrom as usize]);
        let strand = if seqlet.strand == Strand::Reverse { '-' } else { '+' };
        let _ = writeln!(
            text,
            "{chrom}\t{}\t{}\t{}\t{}\t{strand}\t{}\t{}\t{}",
            seqlet.start,
            seqlet.end,
            seqlet.start_untrimmed,
            seqlet.end_untrimmed,
            gathered.motifs[seqlet.motif as usize].name,
            seqlet.region,
            placed.region_start,
        );
    }
    text
}

fn confusion(gathered: &Gathered) -> String {
    let mut text = String::from("motif_name_seqlets\tmotif_name_hits\tfrac_overlap\n");
    for (row, counts) in gathered.confusion.iter().enumerate() {
        for (column, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (seqlets, hits) = (&gathered.motifs[row], &gathered.motifs[column]);
            let share = float(count as f64 / seqlets.counts.seqlets as f64);
            let _ = writeln!(text, "{}\t{}\t{share}", seqlets.name, hits.name);
        }
    }
    text
}

/// Returns a 4 × W matrix as NumPy's `savetxt` writes it; rows A, C, G, T.
pub fn matrix(columns: &[[f64; 4]]) -> String {
    let mut text = String::new();
    for base in 0..4 {
        let row: Vec<String> = columns.iter().map(|column| scientific(column[base])).collect();
        text += &row.join(" ");
        text.push('\n');
    }
    text
}

/// Returns a number as `%.18e` has it, with two digits of exponent at least.
fn scientific(value: f64) -> String {
    let text = format!("{value:.18e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().expect("Rust writes an integer");
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn float(value: f64) -> String {
    zmij::Buffer::new().format(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_numpy() {
        assert_eq!(scientific(-1.5 / 1024.0), "-1.464843750000000000e-03");
        assert_eq!(scientific(0.0), "0.000000000000000000e+00");
        assert_eq!(scientific(12.5), "1.250000000000000000e+01");
        assert_eq!(float(1.0), "1.0");
    }
}
