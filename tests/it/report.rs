//! nyx-report against Fi-NeMo's report, on its files and on streams.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{nyx, run, shared, stdout_of};

fn text(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// Rows of a table as maps from column to cell, by the first column.
fn rows(table: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let named = header.iter().zip(&cells).map(|(name, cell)| (name.to_string(), cell.to_string()));
        (cells[0].to_string(), named.collect())
    };
    lines.map(row).collect()
}

fn report(data: &Path, hits: &str, output: &Path, more: &[&str]) {
    let at = |name: &str| data.join(name).to_str().unwrap().to_string();
    let (regions, modisco) = (at("regions.npz"), at("modisco.h5"));
    let mut command = nyx("report", &["-r", &regions, "-H", hits, "-m", &modisco, "-q", "--no-pg"]);
    command.arg("-o").arg(output).args(more);
    stdout_of(command, b"");
}

#[test]
fn compat_tables_are_finemos() {
    let Some(data) = shared("golden/finemo/real_CTCFL") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("report"), data.join("report_pp"));
    report(&data, data.join("hits_pp").to_str().unwrap(), &ours, &["-W", "100", "--compat"]);
    for name in ["seqlets.tsv", "seqlet_confusion.tsv"] {
        assert_eq!(sorted(&text(ours.join(name))), sorted(&text(theirs.join(name))), "{name}");
    }
    let name = "motif_occurrences.tsv";
    assert_eq!(rows(&text(ours.join(name))), rows(&text(theirs.join(name))));
    let (mut ours, mut theirs) =
        (rows(&text(ours.join("motif_report.tsv"))), rows(&text(theirs.join("motif_report.tsv"))));
    for (motif, row) in &mut ours {
        let number = |cell: Option<String>| cell.unwrap().parse::<f64>().unwrap();
        let similarity = number(row.remove("cwm_similarity"));
        let other = number(theirs.get_mut(motif).unwrap().remove("cwm_similarity"));
        // Theirs is computed in half precision, of which one unit below 1 is 4.9e-4.
        assert!((similarity - other).abs() < 1e-3 && similarity <= 1.0, "{motif}: {similarity} {other}");
    }
    assert_eq!(ours, theirs);
}

#[test]
fn matrices_are_finemos_to_half_precision() {
    let Some(data) = shared("golden/finemo/real_CTCFL") else { return };
    let directory = tempfile::tempdir().unwrap();
    let ours = directory.path().join("report");
    report(&data, data.join("hits_pp").to_str().unwrap(), &ours, &[]);
    let matrix = |path: PathBuf| -> Vec<f64> {
        text(path).split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let mut compared = 0;
    for motif in ["pos_patterns.pattern_0", "pos_patterns.pattern_1", "pos_patterns.pattern_2"] {
        let folder = data.join("report_pp/motifs").join(motif);
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            let place = ours.join("motifs").join(motif).join(&name);
            if !name.ends_with(".txt") {
                continue;
            }
            let theirs = matrix(path);
            if theirs.iter().any(|value| value.is_nan()) {
                assert!(!place.exists(), "{motif} {name}: a mean of nothing");
                continue;
            }
            let ours = matrix(place.clone());
            let largest = theirs.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            assert_eq!(ours.len(), theirs.len(), "{motif} {name}");
            assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-3 * largest), "{motif} {name}");
            assert!(text(place.with_extension("svg")).contains("xmlns"), "{motif} {name}");
            compared += 1;
        }
    }
    assert_eq!(compared, 22);
}

#[test]
fn a_stream_of_hits_gives_the_same_tables_as_its_folder() {
    let Some(data) = shared("golden/finemo/real_CTCFL") else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let regions = data.join("regions.npz");
    let modisco = data.join("modisco.h5").to_str().unwrap().to_string();
    stdout_of(
        nyx("extract", &["contribs", "--regions", regions.to_str().unwrap(), "-o", &at("rows.arrows")]),
        b"",
    );
    let arguments =
        ["-m", &modisco, &at("rows.arrows"), "-q", "-o", &at("hits.arrows"), "--outdir", &at("hits")];
    stdout_of(nyx("hits", &arguments), b"");
    report(&data, &at("hits"), &directory.path().join("a"), &[]);
    report(&data, &at("hits.arrows"), &directory.path().join("b"), &[]);
    for name in ["seqlets.tsv", "seqlet_confusion.tsv", "motif_occurrences.tsv", "motif_cooccurrence.tsv"] {
        assert_eq!(text(directory.path().join("a").join(name)), text(directory.path().join("b").join(name)));
    }
    let page = text(directory.path().join("b/report.html"));
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Every seqlet lies on a hit of its motif at most once, so no share is above 1.
    let confusion = text(directory.path().join("a/seqlet_confusion.tsv"));
    let shares = confusion.lines().skip(1).map(|line| line.rsplit('\t').next().unwrap());
    assert!(shares.map(|share| share.parse::<f64>().unwrap()).all(|share| share > 0.0 && share <= 1.0));
}

#[test]
fn regions_without_a_hit_are_counted() {
    let Some(data) = shared("golden/finemo/synth1000_sub100") else { return };
    let directory = tempfile::tempdir().unwrap();
    let hits = text(data.join("hits_pp/hits.tsv"));
    // Only the hits of regions 0 to 9 are left.
    let few = |line: &&str| line.rsplit('\t').next().is_some_and(|region| region.len() < 2);
    let lines: Vec<&str> = hits.lines().take(1).chain(hits.lines().skip(1).filter(few)).collect();
    let path = directory.path().join("hits.tsv");
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let (regions, folder) = (data.join("regions.npz"), directory.path().join("out"));
    let mut command = nyx("report", &["-q", "-H", path.to_str().unwrap(), "-r", regions.to_str().unwrap()]);
    command.arg("--outdir").arg(&folder);
    assert!(stdout_of(command, b"").is_empty(), "a folder is asked for, not a page on standard output");
    let table = text(folder.join("motif_occurrences.tsv"));
    assert_eq!(table.lines().count(), 101);
    let empty = table.lines().skip(1).filter(|line| line.ends_with("\t0")).count();
    assert!(empty >= 90, "{empty}");
    assert!(text(folder.join("total_hit_distribution.svg")).contains(&format!("<title>0: {empty}</title>")));
    assert!(!folder.join("seqlets.tsv").exists());
}

#[test]
fn a_window_wider_than_the_regions_is_refused() {
    let Some(data) = shared("golden/finemo/real_CTCFL") else { return };
    let at = |name: &str| data.join(name).to_str().unwrap().to_string();
    let (regions, hits, motifs) = (at("regions.npz"), at("hits_pp"), at("modisco.h5"));
    let output = run(nyx("report", &["-r", &regions, "-H", &hits, "-m", &motifs, "-W", "400"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("regions have 100 bases") && output.stdout.is_empty(), "{said}");
}
