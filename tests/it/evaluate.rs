//! nyx-eval: the numbers of scikit-learn from a file and from a pipe, comparison, and the page.

use serde_json::Value;

use crate::support::{nyx, run, shared, stdout_of};

fn table(text: &[u8]) -> Vec<std::collections::BTreeMap<String, String>> {
    let text = std::str::from_utf8(text).unwrap();
    let header: Vec<&str> = text.lines().next().unwrap().split('\t').collect();
    let row = |line: &str| {
        header.iter().zip(line.split('\t')).map(|(a, b)| (a.to_string(), b.to_string())).collect()
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn the_golden_numbers_have_their_names() {
    let Some(path) = shared("golden/models/metrics/golden.json") else { return };
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (index, case) in cases.as_array().unwrap().iter().enumerate() {
        let list = |name: &str| {
            case[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>()
        };
        let rows = list("y").into_iter().zip(list("score")).map(|(y, score)| format!("{y},{score}\n"));
        let text = "label,score\n".to_string() + &rows.collect::<String>();
        std::fs::write(directory.path().join(format!("set_{index}.csv")), text).unwrap();
    }
    let arguments = [directory.path().to_str().unwrap(), "-q", "--no-pg"];
    let rows = table(&stdout_of(nyx("eval", &arguments), b""));
    assert_eq!(rows.len(), cases.as_array().unwrap().len() + 2, "a line each, their mean and median");
    for (row, case) in rows.iter().zip(cases.as_array().unwrap()) {
        for (ours, theirs) in [
            ("accuracy", "acc"),
            ("f1_positive", "f1_bin"),
            ("f1_macro", "f1_macro"),
            ("precision_positive", "prec_bin"),
            ("precision_macro", "prec_macro"),
            ("recall_positive", "rec_bin"),
            ("recall_macro", "rec_macro"),
            ("mcc", "mcc"),
            ("roc_auc", "roc_auc"),
            ("average_precision", "average_precision"),
            ("pr_auc_trapezoid", "pr_auc_trapz"),
        ] {
            let (found, expected) = (row[ours].parse::<f64>().unwrap(), case[theirs].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-12, "{ours} of {}: {found} {expected}", row["set"]);
        }
    }
}

#[test]
fn models_on_the_same_rows_are_compared_and_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let write = |name: &str, count: usize, score: &dyn Fn(usize) -> f64| {
        let rows: String = (0..count).map(|row| format!("{}\t{}\n", row % 2, score(row))).collect();
        std::fs::write(at(name), "label\tscore\n".to_string() + &rows).unwrap();
    };
    write("good.tsv", 200, &|row| ((row * 7919 % 100) as f64 + 60.0 * (row % 2) as f64) / 200.0);
    write("bad.tsv", 200, &|row| ((row * 6151 % 100) as f64 + 5.0 * (row % 2) as f64) / 200.0);
    write("short.tsv", 100, &|_| 0.5);
    let (bad, good, json, html) = (at("bad.tsv"), at("good.tsv"), at("e.json"), at("e.html"));
    let compare = |threads: &str| {
        let arguments = [
            &bad,
            &good,
            "--compare",
            "--bootstrap",
            "200",
            "--threshold",
            "0.3",
            "--round",
            "4",
            "--json",
            &json,
            "--html",
            &html,
            "-@",
            threads,
            "-q",
            "--no-pg",
        ];
        stdout_of(nyx("eval", &arguments), b"")
    };
    let text = compare("2");
    assert_eq!(text, compare("1"), "threads change nothing");
    let rows = table(&text);
    assert_eq!(rows.iter().map(|row| row["set"].as_str()).collect::<Vec<_>>(), ["bad", "good", "good - bad"]);
    assert!(rows[2]["roc_auc_low"].parse::<f64>().unwrap() > 0.0);
    let document: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let counts: u64 = document["sets"][0]["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(counts, 200);
    let page = std::fs::read_to_string(&html).unwrap();
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let output = run(nyx("eval", &[&bad, &at("short.tsv"), "--compare"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("same rows"));
}

#[test]
fn folders_of_models_are_compared_set_by_set_and_on_average() {
    let directory = tempfile::tempdir().unwrap();
    let folder = |model: &str| directory.path().join(model);
    for (model, shift) in [("a", 10), ("b", 60)] {
        std::fs::create_dir(folder(model)).unwrap();
        for (set, step) in [("CTCF", 7919), ("GATA2", 6151), ("MEF2A", 4409)] {
            let score = |row: usize| ((row * step % 100) + shift * (row % 2)) as f64 / 200.0;
            let rows: String = (0..120).map(|row| format!("{}\t{}\n", row % 2, score(row))).collect();
            std::fs::write(folder(model).join(format!("{set}.tsv")), format!("label\tscore\n{rows}"))
                .unwrap();
        }
    }
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let (a, b, curves, svg) = (at("a"), at("b"), at("curves.tsv"), at("plots"));
    let more = ["--compare", "--bootstrap", "100", "--curves", &curves, "--svg", &svg, "-q", "--no-pg"];
    let arguments = [&[a.as_str(), b.as_str()], &more[..]].concat();
    let rows = table(&stdout_of(nyx("eval", &arguments), b""));
    let names: Vec<&str> = rows.iter().map(|row| row["set"].as_str()).collect();
    let sets = ["a/CTCF", "b/CTCF", "a/GATA2", "b/GATA2", "a/MEF2A", "b/MEF2A"];
    let summary = ["a: mean", "a: median", "b: mean", "b: median"];
    let differences =
        ["b/CTCF - a/CTCF", "b/GATA2 - a/GATA2", "b/MEF2A - a/MEF2A", "mean of b - a", "sets where b > a"];
    assert_eq!(names, [&sets[..], &summary, &differences].concat());
    let number = |name: &str, column: &str| -> f64 {
        rows.iter().find(|row| row["set"] == name).unwrap()[column].parse().unwrap()
    };
    let mean = (number("b/CTCF - a/CTCF", "roc_auc")
        + number("b/GATA2 - a/GATA2", "roc_auc")
        + number("b/MEF2A - a/MEF2A", "roc_auc"))
        / 3.0;
    assert!((number("mean of b - a", "roc_auc") - mean).abs() < 1e-12);
    assert!(number("mean of b - a", "roc_auc_low") > 0.0);
    assert_eq!(number("sets where b > a", "roc_auc"), 3.0);
    for name in ["roc", "precision_recall", "calibration", "confusion"] {
        assert!(directory.path().join(format!("plots/{name}.svg")).is_file(), "{name}");
    }
    let points = std::fs::read_to_string(&curves).unwrap();
    assert!(points.lines().count() > 6 * 100 && points.contains("b/MEF2A\tprecision_recall\t"));
    std::fs::remove_file(folder("b").join("CTCF.tsv")).unwrap();
    let output = run(nyx("eval", &arguments));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("`CTCF`"), "{said}");
}
