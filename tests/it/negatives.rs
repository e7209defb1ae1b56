//! nyx-extract negatives and merge-peaks, through pipes.

use crate::support::{genome, nyx, run_with, stdout_of};

fn view(rows: &[u8], columns: &str) -> Vec<Vec<String>> {
    let text = stdout_of(nyx("view", &["-O", "tsv", "--no-pg", "--columns", columns]), rows);
    let text = String::from_utf8(text).unwrap();
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

#[test]
fn negatives_of_every_kind_keep_what_they_promise() {
    let directory = tempfile::tempdir().unwrap();
    let fasta = genome(directory.path(), 20_000);
    let fasta = fasta.to_str().unwrap();
    let peaks = directory.path().join("p.bed");
    let lines: String =
        (0..20).map(|i| format!("chr1\t{0}\t{1}\tp{i}\n", 500 + 800 * i, 600 + 800 * i)).collect();
    std::fs::write(&peaks, lines).unwrap();
    let rows = stdout_of(
        nyx(
            "extract",
            &["regions", "--fasta", fasta, "--peaks", peaks.to_str().unwrap(), "--width", "101", "-q"],
        ),
        b"",
    );
    let positives = view(&rows, "region,start,end,sequence");
    let made = |kind: &str, more: &[&str]| {
        let arguments = [&["negatives", "--kind", kind, "-q", "--seed", "3"], more].concat();
        let first = stdout_of(nyx("extract", &arguments), &rows);
        let again = stdout_of(nyx("extract", &[&arguments[..], &["--batch-size", "3"]].concat()), &rows);
        let columns = "region,start,end,sequence,label";
        assert_eq!(view(&first, columns), view(&again, columns), "{kind}: batches change nothing");
        view(&first, columns)
    };
    let gc =
        |sequence: &str| 100 * sequence.bytes().filter(|base| b"GC".contains(base)).count() / sequence.len();
    let matched = made("gc", &["--fasta", fasta]);
    assert_eq!(matched.len(), positives.len());
    for (negative, positive) in matched.iter().zip(&positives) {
        assert_eq!((&negative[0], gc(&negative[3])), (&positive[0], gc(&positive[3])));
        assert_eq!(negative[4].parse::<f32>().unwrap(), 0.0);
    }
    let anywhere = made("intervals", &["--fasta", fasta, "--exclude", peaks.to_str().unwrap()]);
    assert!(anywhere.iter().all(|row| row[3].len() == 101));
    let shuffled = made("dinucleotide", &["--with-positives", "--count", "2"]);
    assert_eq!(shuffled.len(), 3 * positives.len());
    let pairs = |sequence: &str| {
        let mut pairs: Vec<String> = sequence.as_bytes().windows(2).map(|pair| format!("{pair:?}")).collect();
        pairs.sort();
        pairs
    };
    for three in shuffled.chunks(3) {
        assert_eq!(three[0][4].parse::<f32>().unwrap(), 1.0);
        assert_eq!(pairs(&three[1][3]), pairs(&three[0][3]));
        assert_ne!(three[1][3], three[2][3]);
    }
    let output = run_with(nyx("extract", &["negatives", "--kind", "gc"]), &rows);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn merged_peaks_have_a_label_for_each_cell_type() {
    let directory = tempfile::tempdir().unwrap();
    let fasta = genome(directory.path(), 5000);
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("a.bed", "chr1\t990\t1010\nchr1\t3000\t3020\n");
    write("b.bed", "chr1\t1030\t1050\n");
    write("list.tsv", "K562\ta.bed\nHepG2\tb.bed\n");
    let list = directory.path().join("list.tsv");
    let arguments = ["merge-peaks", list.to_str().unwrap(), "--fasta", fasta.to_str().unwrap(), "-q"];
    let rows = stdout_of(nyx("extract", &arguments), b"");
    let table = view(&rows, "region,chrom,start,end,label");
    let numbers =
        |row: &[String]| row[4].split(',').map(|cell| cell.parse::<f32>().unwrap()).collect::<Vec<_>>();
    assert_eq!(table[0][..4], ["0", "chr1", "970", "1071"].map(String::from));
    assert_eq!(numbers(&table[0]), [1.0, 1.0]);
    assert_eq!(table[1][..4], ["1", "chr1", "2960", "3061"].map(String::from));
    assert_eq!(numbers(&table[1]), [1.0, 0.0]);
}
