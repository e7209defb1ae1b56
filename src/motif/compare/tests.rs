//! Tomtom's own tests are the oracle.

use super::*;
use crate::testing::shared;

/// A line of tomtom.tsv.
#[derive(Debug)]
struct Line {
    query: String,
    target: String,
    offset: i64,
    p_value: f64,
    e_value: f64,
    q_value: f64,
    overlap: usize,
    consensus: [String; 2],
    reverse: bool,
}

fn lines(text: &str) -> Vec<Line> {
    let rows = text.lines().skip(1).take_while(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('\t').collect();
        let number = |cell: usize| cells[cell].parse::<f64>().unwrap();
        Line {
            query: cells[0].into(),
            target: cells[1].into(),
            offset: cells[2].parse().unwrap(),
            p_value: number(3),
            e_value: number(4),
            q_value: number(5),
            overlap: cells[6].parse().unwrap(),
            consensus: [cells[7].into(), cells[8].into()],
            reverse: cells[9] == "-",
        }
    })
    .collect()
}

fn profiles(motifs: &[meme::Motif], background: [f64; 4]) -> Vec<(&str, Profile)> {
    motifs.iter().map(|motif| (motif.identifier.as_str(), Profile::new(motif, 0.1, background))).collect()
}

/// Six digits are printed.
fn near(ours: f64, theirs: f64, tolerance: f64) -> bool {
    (ours - theirs).abs() <= tolerance * theirs.abs() + 1e-300
}

/// Compares a table with our matches: all lines of each query, in order.
fn check(
    name: &str,
    queries: &[meme::Motif],
    targets: &[meme::Motif],
    table: &str,
    options: Options,
    tolerance: f64,
) {
    let background = queries[0].background;
    let motifs = profiles(targets, background);
    let pool = Targets::new(&motifs, true);
    let table = lines(table);
    for (query, profile) in profiles(queries, background) {
        let expected: Vec<&Line> = table.iter().filter(|line| line.query == query).collect();
        let matches = better_strands(&Comparison::new(&pool, options).compare(&profile));
        for (line, found) in expected.iter().zip(&matches) {
            let (id, target) = &motifs[found.target];
            let target = if found.reverse { target.reverse_complement() } else { target.clone() };
            assert_eq!(
                (*id, found.reverse),
                (line.target.as_str(), line.reverse),
                "{name}: {line:?} {found:?}"
            );
            assert_eq!(
                (found.offset, found.overlap),
                (line.offset, line.overlap),
                "{name}: {line:?} {found:?}"
            );
            assert_eq!([profile.consensus(), target.consensus()], line.consensus, "{name}");
            let pairs =
                [(found.p_value, line.p_value), (found.e_value, line.e_value), (found.q_value, line.q_value)];
            assert!(
                pairs.iter().all(|&(ours, theirs)| near(ours, theirs, tolerance)),
                "{name}: {line:?} {found:?}"
            );
        }
    }
    assert!(table.len() > 5, "{name}: only {} lines", table.len());
}

#[test]
fn the_tables_of_memes_own_tests_come_out() {
    let Some(folder) = shared("data/motifs/meme_suite_tests/tomtom") else { return };
    let motifs = meme::read(&folder.join("sample.meme")).unwrap();
    for (distance, name) in
        [(Distance::Euclidean, "ed"), (Distance::Pearson, "pearson"), (Distance::Allr, "allr")]
    {
        for (complete, file) in [(true, "complete.out"), (false, "out")] {
            let file = format!("tomtom.{file}.{name}.tsv");
            let table = std::fs::read_to_string(folder.join(&file)).unwrap();
            let options =
                Options { distance, complete, background: motifs[0].background, ..Options::default() };
            check(&file, &motifs, &motifs, &table, options, 1e-5);
        }
    }
}

/// A score that lies just between two levels falls to either side, depending on how a column was made to sum to 1;
/// that moves some p-values in the fifth digit.
#[test]
fn the_published_matches_of_learned_motifs_come_out() {
    let Some(folder) = shared("data/motifs") else { return };
    let targets = meme::read(&folder.join("human.meme.gz")).unwrap();
    let table = std::fs::read_to_string(folder.join("nyxbind_learned/tomtom.tsv")).unwrap();
    let names = lines(&table).into_iter().map(|line| line.query).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names.len(), 10);
    let queries: Vec<meme::Motif> = names
        .iter()
        .flat_map(|name| meme::read(&folder.join(format!("nyxbind_learned/{name}.meme"))).unwrap())
        .collect();
    check("nyxbind", &queries, &targets, &table, Options::default(), 1e-4);
    // As many as the published threshold lets through, no more.
    let motifs = profiles(&targets, [0.25; 4]);
    let pool = Targets::new(&motifs, true);
    for (name, profile) in profiles(&queries, [0.25; 4]) {
        let matches = better_strands(&Comparison::new(&pool, Options::default()).compare(&profile));
        let found = matches.iter().filter(|found| found.e_value <= 0.5).count();
        assert_eq!(found, lines(&table).iter().filter(|line| line.query == name).count(), "{name}");
    }
}
