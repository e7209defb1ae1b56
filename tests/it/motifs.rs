//! `nyx-motifs` as a user sees it: pipes, files, statuses.

use std::path::Path;

use nyx::input::open_pipe;
use nyx::schema;

use super::support::*;

/// 60 positive sequences with CACGTG in the middle and 60 negative ones without, as CSV, with scores that stand out
/// over the motif as a NumPy file.
fn labelled(directory: &Path) {
    use npyz::WriterBuilder;
    let mut state = 7u64;
    let mut base = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        char::from(b"ACGT"[(state >> 62) as usize])
    };
    let mut text = String::from("sequence,label\n");
    let mut scores = Vec::new();
    for row in 0..120 {
        let positive = row % 2 == 0;
        let mut sequence: String = (0..40).map(|_| base()).collect();
        if positive {
            sequence.replace_range(15..21, "CACGTG");
        }
        text += &format!("{sequence},{}\n", u8::from(positive));
        scores.extend((0..40).map(|i| if (15..21).contains(&i) { 1.0f32 } else { 0.05 }));
    }
    std::fs::write(directory.join("set.csv"), text).unwrap();
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&[120, 40]);
    let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
    writer.extend(scores).unwrap();
    writer.finish().unwrap();
    std::fs::write(directory.join("atten.npy"), bytes).unwrap();
}

fn motifs(directory: &Path, arguments: &[&str], input: &[u8]) -> std::process::Output {
    let mut command = nyx("motifs", arguments);
    command.current_dir(directory);
    run_with(command, input)
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(stream: &Path) -> Vec<String> {
    let batches = open_pipe(stream).unwrap().into_parts().1;
    let names = |batch: arrow_array::RecordBatch| {
        let names = schema::strings(&batch, "motif").unwrap();
        names.iter().flatten().map(str::to_string).collect::<Vec<_>>()
    };
    batches.flat_map(|batch| names(batch.unwrap())).collect()
}

#[test]
fn the_planted_motif_is_the_enriched_one() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    labelled(here);
    let rows = stdout_of(
        {
            let mut command = nyx("extract", &["sequences", "set.csv", "--no-pg"]);
            command.current_dir(here);
            command
        },
        b"",
    );
    let flags = ["--npy", "atten.npy", "--window", "10", "--outdir", "out", "-o", "motifs.arrows"];
    let output = motifs(here, &flags, &rows);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("60 positive and 60 negative sequences"), "{}", said(&output));
    assert_eq!(names(&here.join("motifs.arrows")), ["CACGTG"]);
    let files = ["motif_CACGTG_60.txt", "motif_CACGTG.jaspar", "motif_CACGTG.svg", "motifs.meme"];
    assert!(files.iter().all(|name| here.join("out").join(name).exists()));
    let meme = std::fs::read_to_string(here.join("out/motifs.meme")).unwrap();
    assert!(meme.contains("MOTIF CACGTG\n") && meme.contains("w= 10 nsites= 60"), "{meme}");
    let flags = ["--npy", "atten.npy", "--window", "10", "--outdir", "old", "--compat", "-o", "/dev/null"];
    assert!(motifs(here, &flags, &rows).status.success());
    let meme = std::fs::read_to_string(here.join("old/motifs.meme")).unwrap();
    assert!(meme.contains("w= 9 nsites= 20"), "{meme}");
}

#[test]
fn mistakes_end_with_their_status_and_name_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    labelled(here);
    let extract = |text: &str| {
        std::fs::write(here.join("in.csv"), text).unwrap();
        let mut command = nyx("extract", &["sequences", "in.csv", "--no-pg"]);
        command.current_dir(here);
        stdout_of(command, b"")
    };
    let labelled = extract(&std::fs::read_to_string(here.join("set.csv")).unwrap());
    let unlabelled = extract("sequence\nACGT\n");
    for (arguments, input, status, words) in [
        (&["--npy", "atten.npy"][..], &unlabelled, 1, "--negatives"),
        (&[], &labelled, 1, "attention, contributions, base_scores"),
        (&["--scores", "logits"], &labelled, 1, "`logits`"),
        (&["--npy", "atten.npy", "--pval", "2"], &labelled, 2, "--pval"),
        (&["--npy", "atten.npy", "--window", "0"], &labelled, 2, "--window"),
        (&["--npy", "atten.npy", "--class", "3"], &labelled, 1, "label number 3"),
        (&["denovo", "-"], &labelled, 1, "`contributions`"),
        (&["denovo", "--fdr", "7"], &labelled, 2, "--fdr"),
        (&["bases", "--npy", "atten.npy", "--name", "a/b"], &labelled, 2, "--name"),
        (&["seqlets", "--recursive", "--threshold", "2"], &labelled, 2, "--threshold"),
        (&["seqlets", "--recursive", "--max-length", "3"], &labelled, 2, "--max-length"),
        (&["seqlets", "--recursive", "--size", "9"], &labelled, 2, "--recursive"),
        (&["seqlets", "--threshold", "0.1"], &labelled, 2, "--recursive"),
        (&["--npy", "atten.npy"], &labelled[..labelled.len() - 20].to_vec(), 3, "did not finish"),
    ] {
        let output = motifs(here, &[arguments, &["-o", "never.arrows"]].concat(), input);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
        assert!(!here.join("never.arrows").exists());
    }
    let few = extract("sequence,label\nACGTACGTAC,1\n");
    let output = motifs(here, &["--npy", "atten.npy", "-o", "never.arrows"], &few);
    assert!(said(&output).contains("not of the same sequences"), "{}", said(&output));
}

#[test]
fn a_model_of_every_base_gives_one_window_a_row() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    labelled(here);
    let mut extract = nyx("extract", &["sequences", "set.csv", "--no-pg"]);
    extract.current_dir(here);
    let rows = stdout_of(extract, b"");
    let flags =
        ["bases", "--npy", "atten.npy", "--window", "6", "--share", "1", "--outdir", "out", "-o", "m.arrows"];
    let output = motifs(here, &flags, &rows);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("120 windows in 120 rows"), "{}", said(&output));
    let windows = std::fs::read_to_string(here.join("out/motif_motif_120.txt")).unwrap();
    assert_eq!(windows.lines().filter(|line| *line == "CACGTG").count(), 60);
}

/// Fi-NeMo's planted motifs: found again, in a file that nyx-hits calls hits with, whatever the threads.
#[test]
fn patterns_found_de_novo_call_hits() {
    let Some(golden) = shared("golden/finemo/real_CTCFL") else { return };
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut extract = nyx("extract", &["contribs", "--no-pg", "--regions"]);
    extract.arg(golden.join("regions.npz"));
    let rows = stdout_of(extract, b"");
    let flags =
        "denovo -n 400 -z 15 -f 5 -t 20 -g 5 --h5 modisco.h5 --outdir out -o motifs.arrows -q --no-pg -@";
    let run = |threads: &str| {
        let flags: Vec<&str> = flags.split(' ').chain([threads]).collect();
        let output = motifs(here, &flags, &rows);
        assert!(output.status.success(), "{}", said(&output));
        std::fs::read(here.join("modisco.h5")).unwrap()
    };
    assert!(run("1") == run("2"), "the same bytes on one thread and on two");
    assert_eq!(names(&here.join("motifs.arrows"))[0], "pos_patterns.pattern_0");
    let cwms = nyx::motif::read(&here.join("modisco.h5")).unwrap();
    let consensus = cwms[0].cwm.consensus() + "|" + &cwms[0].cwm.reverse_complement().consensus();
    assert!(consensus.contains("GCCAGGGGG"), "CTCFL's motif: {consensus}");
    assert!(here.join("out/pos_patterns.pattern_0.contributions.svg").exists());
    let mut hits = nyx("hits", &["-m", "modisco.h5", "-o", "hits.arrows"]);
    hits.current_dir(here);
    let output = run_with(hits, &rows);
    assert!(output.status.success() && said(&output).contains(" hits in 899 regions"), "{}", said(&output));
}

/// The seqlets of a stream of rows as lines: place, contribution, p-value.
fn seqlets(directory: &Path, flags: &str, rows: &[u8]) -> Vec<(i64, i64, f64, f64)> {
    let flags: Vec<&str> = flags.split(' ').chain(["-o", "seqlets.arrows", "-q"]).collect();
    let output = motifs(directory, &flags, rows);
    assert!(output.status.success(), "{}", said(&output));
    let mut found = Vec::new();
    for batch in open_pipe(&directory.join("seqlets.arrows")).unwrap().into_parts().1 {
        let batch = batch.unwrap();
        let places = (schema::i64s(&batch, "start").unwrap(), schema::i64s(&batch, "end").unwrap());
        let p_values = batch.column_by_name("p_value").unwrap();
        let p_values = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Float64Type>(p_values);
        let sums = schema::f32s(&batch, "contribution").unwrap();
        for row in 0..batch.num_rows() {
            let place = (places.0.value(row), places.1.value(row));
            found.push((place.0, place.1, f64::from(sums.value(row)), p_values.value(row)));
        }
    }
    found
}

#[test]
fn recursive_seqlets_are_as_long_as_what_stands_out() {
    let Some(golden) = shared("golden/finemo/real_CTCFL") else { return };
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut extract = nyx("extract", &["contribs", "--no-pg", "--regions"]);
    extract.arg(golden.join("regions.npz"));
    let rows = stdout_of(extract, b"");
    let found = seqlets(here, "seqlets --recursive --threshold 0.001", &rows);
    assert!(found.len() > 300, "only {}", found.len());
    assert!(found.iter().all(|(start, end, _, p)| (4..=25).contains(&(end - start)) && *p < 0.001));
    let lengths: std::collections::BTreeSet<i64> = found.iter().map(|(start, end, ..)| end - start).collect();
    assert!(lengths.len() > 2, "{lengths:?}");
    let longer = seqlets(here, "seqlets --recursive --threshold 0.001 -f 2 --min-length 6", &rows);
    assert!(longer.iter().all(|(start, end, ..)| end - start >= 6));
    assert!(longer.len() < found.len());
}
