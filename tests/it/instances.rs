//! nyx-collapse and nyx-intersect on Fi-NeMo's tables and on streams.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_select::concat::concat_batches;
use nyx::input::open_pipe;

use crate::support::{nyx, run, shared, stdout_of};

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn golden(name: &str) -> Option<PathBuf> {
    shared(&format!("golden/finemo/{name}"))
}

fn table(tool: &str, arguments: &[&str]) -> String {
    String::from_utf8(stdout_of(nyx(tool, arguments), b"")).unwrap()
}

/// Calls hits on the real regions and returns the stream.
fn stream_of_hits(directory: &Path) -> Option<PathBuf> {
    let data = golden("real_CTCFL")?;
    let at = |name: &str| directory.join(name).to_str().unwrap().to_string();
    let regions = data.join("regions.npz");
    stdout_of(
        nyx("extract", &["contribs", "--regions", regions.to_str().unwrap(), "-o", &at("rows.arrows")]),
        b"",
    );
    let motifs = data.join("modisco.h5");
    let arguments = ["-m", motifs.to_str().unwrap(), &at("rows.arrows"), "-q", "-o", &at("hits.arrows")];
    stdout_of(nyx("hits", &arguments), b"");
    Some(directory.join("hits.arrows"))
}

fn batch(path: &Path) -> RecordBatch {
    let (schema, batches) = open_pipe(path).unwrap().into_parts();
    let batches: Vec<_> = batches.map(|batch| batch.unwrap()).collect();
    concat_batches(&schema, &batches).unwrap()
}

#[test]
fn compat_collapses_as_finemo_does() {
    for (hits, collapsed) in [
        ("real_CTCFL/hits_pp/hits.tsv", "real_CTCFL/hits_pp/hits_collapsed.tsv"),
        ("real_CTCFL/hits_hh/hits.tsv", "real_CTCFL/hits_hh/hits_collapsed.tsv"),
        ("real_USF1/hits_pp/hits.tsv", "real_USF1/hits_pp/hits_collapsed.tsv"),
        ("overlap600/hits_pp/hits_unique.tsv", "overlap600/hits_pp/hits_unique_collapsed.tsv"),
    ] {
        let (Some(hits), Some(collapsed)) = (golden(hits), golden(collapsed)) else { return };
        let ours = table("collapse", &["--compat", "-q", "-i", hits.to_str().unwrap()]);
        assert_eq!(sorted(&ours), sorted(&text(&collapsed)), "{}", hits.display());
    }
}

/// A hit of a table: place, span, similarity, is_primary.
fn collapsed(table: &str) -> Vec<(String, i64, i64, f32, bool)> {
    let hit = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let place = if cells[0] == "NA" { cells[14] } else { cells[0] };
        let number = |column: usize| cells[column].parse::<i64>().unwrap();
        (place.to_string(), number(1), number(2), cells[8].parse().unwrap(), cells[15] == "1")
    };
    table.lines().skip(1).map(hit).collect()
}

#[test]
fn whoever_falls_overlaps_a_better_one_that_stands_and_no_two_that_stand_overlap() {
    for name in ["real_CTCFL/hits_pp/hits.tsv", "overlap600/hits_pp/hits.tsv"] {
        let Some(hits) = golden(name) else { return };
        let table = table("collapse", &["-q", "-i", hits.to_str().unwrap()]);
        let lines: Vec<&str> = table.lines().map(|line| line.rsplit_once('\t').unwrap().0).collect();
        assert_eq!(lines, text(&hits).lines().collect::<Vec<_>>(), "rows stay as they were");
        let hits = collapsed(&table);
        let overlap = |a: usize, b: usize| {
            let (a, b) = (&hits[a], &hits[b]);
            let shared = a.2.min(b.2) - a.1.max(b.1);
            a.0 == b.0 && shared > 0 && 10 * shared >= (a.2 - a.1) + (b.2 - b.1)
        };
        for a in 0..hits.len() {
            let stands = |&b: &usize| b != a && hits[b].4 && overlap(a, b);
            match hits[a].4 {
                true => assert_eq!((0..hits.len()).find(stands), None),
                false => assert!((0..hits.len()).filter(stands).any(|b| hits[b].3 >= hits[a].3)),
            }
        }
    }
}

#[test]
fn compat_intersects_as_finemo_does() {
    for factor in ["real_CTCFL", "real_USF1"] {
        let Some(data) = golden(factor) else { return };
        let hits = |mode: &str| data.join(format!("hits_{mode}/hits.tsv")).to_str().unwrap().to_string();
        let ours = table("intersect", &["--compat", "-q", "-i", &hits("pp"), &hits("hh")]);
        assert_eq!(sorted(&ours), sorted(&text(&data.join("intersect_pp_hh.tsv"))), "{factor}");
        let modes = [hits("pp"), hits("ph"), hits("hp")];
        let ours = table("intersect", &["--compat", "-q", "-r", "-i", &modes[0], &modes[1], &modes[2]]);
        let mut counts: HashMap<&str, i64> = HashMap::new();
        ours.lines().for_each(|line| *counts.entry(line).or_default() += 1);
        for line in text(&data.join("intersect_relaxed.head500.tsv")).lines() {
            let count = counts.get_mut(line).unwrap_or_else(|| panic!("{factor}: {line}"));
            *count -= 1;
            assert!(*count >= 0, "{factor}: too often {line}");
        }
    }
}

#[test]
fn regions_without_coordinates_only_meet_themselves() {
    let Some(data) = golden("real_CTCFL") else { return };
    let hits = |mode: &str| data.join(format!("hits_{mode}/hits.tsv")).to_str().unwrap().to_string();
    let (pp, ph) = (hits("pp"), hits("ph"));
    let ours = table("intersect", &["-q", "-r", "-i", &pp, &ph]);
    let header: Vec<&str> = ours.lines().next().unwrap().split('\t').collect();
    assert!(!header.iter().any(|name| name.starts_with("count")));
    let column = |name| header.iter().position(|other| *other == name).unwrap();
    let (a, b) = (column("peak_id"), column("peak_id_1"));
    assert!(ours.lines().count() > 1000);
    for line in ours.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(cells[a], cells[b]);
    }
}

#[test]
fn a_stream_and_its_table_collapse_and_intersect_alike() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let Some(hits) = stream_of_hits(directory.path()) else { return };
    let hits = hits.to_str().unwrap();
    stdout_of(nyx("collapse", &["-i", hits, "-o", &at("collapsed.arrows")]), b"");
    let whole = batch(&directory.path().join("collapsed.arrows"));
    let primary = whole["is_primary"].as_boolean();
    assert!(whole.num_rows() > primary.true_count() && primary.true_count() > 800, "{primary:?}");
    assert_eq!(whole.schema().metadata["nyx.kind"], "hits");
    let from_stdin = stdout_of(nyx("collapse", &["-i", "-"]), &std::fs::read(hits).unwrap());
    assert!(from_stdin.len() > 1000);
    // Every hit is itself; numbers of the second list stand beside those of the first.
    stdout_of(nyx("intersect", &["-i", hits, hits, "-o", &at("both.arrows")]), b"");
    let both = batch(&directory.path().join("both.arrows"));
    assert_eq!(both.num_rows(), whole.num_rows());
    assert_eq!(both["hit_coefficient"].to_data(), both["hit_coefficient_1"].to_data());
    assert!(both.column_by_name("start_1").is_none());
}

#[test]
fn mistakes_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hits.tsv");
    let header = "chr\tstart\tend\tstart_untrimmed\tend_untrimmed\tmotif_name\thit_coefficient\thit_coefficient_global\t\
        hit_similarity\thit_correlation\thit_importance\thit_importance_sq\tstrand\tpeak_name\tpeak_id";
    let row = "chr1\t5\t9\t3\t11\tm\t1\t1\t0.9\t0.9\t1\t1\t+\tp\t0";
    for (content, arguments, status, words) in [
        (
            format!("{header}\n{row}\n{}\n", row.replace("\t9\t", "\tnine\t")),
            &[][..],
            1,
            "line 3: column 3: `nine`",
        ),
        (format!("{header}\n{row}\textra\n"), &[], 1, "line 2: 16 columns"),
        (format!("{header}\tis_primary\n{row}\t1\n"), &[], 1, "is_primary"),
        ("chr1\t5\t9\n".to_string(), &[], 1, "no column `chr`"),
        (String::new(), &[], 3, "ended before its end mark"),
        (format!("{header}\n{row}\n"), &["-O", "1.5"], 2, "--overlap-frac"),
    ] {
        std::fs::write(&path, content).unwrap();
        let mut command = nyx("collapse", &["-i", path.to_str().unwrap()]);
        command.args(arguments);
        let output = run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(output.stdout.is_empty());
    }
}
