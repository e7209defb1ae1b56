//! What `nyx verify` says of files of every format, what `nyx replay` makes of them, and what programs read on standard error.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::support::*;

/// Runs shell code in `directory` with our commands first on the path.
fn shell(directory: &Path, code: &str) -> Output {
    let commands = executable("nyx").parent().unwrap().to_owned();
    let path = format!("{}:{}", commands.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.current_dir(directory).env("PATH", path).args(["-euo", "pipefail", "-c", code]);
    run(command)
}

fn ok(directory: &Path, code: &str) -> String {
    let output = shell(directory, code);
    assert!(output.status.success(), "{code}\n{}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Files of all formats, made of the demo's data through pipes and files.
const MAKE: &str = "
nyx demo --data-only --outdir . > /dev/null
nyx-extract regions -q --fasta genome.fa --peaks peaks.narrowPeak --width 200 -r demo1:1-60000 |
    nyx-score -q --model model --attrib gradxinput --contributions both -o scored.arrows
nyx-view -q -O arrow -o scored.arrow scored.arrows
nyx-view -q -O parquet -o scored.parquet scored.arrows
nyx-view -q -O tsv --columns region,name,status,logits -o scored.tsv scored.arrows
nyx-view -q -O tsv --columns region,name,status,logits scored.arrows > typed.tsv
nyx-view -q -O tsv scored.arrows | gzip > scored.tsv.gz
nyx-view -q -O csv --columns region,name -o scored.csv scored.arrows
nyx-view -q -O json -o scored.jsonl scored.arrows
nyx-view -q -O fasta -o scored.fa scored.arrows
nyx-view -q -O bed -o scored.bed scored.arrows
nyx-view -q -O bedgraph --value contributions -o scored.bedgraph scored.arrows
nyx-view -q -O bigwig --value contributions -o scored.bw scored.arrows
nyx-view -q -O npz -o regions.npz scored.arrows
nyx-hits -q --motifs motifs.meme --outdir hits -o hits.arrows < scored.arrows
nyx-view -q -O hub --genome demo -o hub hits.arrows
nyx-report -q --contributions scored.arrows --hits hits.arrows --motifs motifs.meme -o report.html
nyx-motifs denovo -q --h5 modisco.h5 -z 12 -t 16 -g 4 -o patterns.arrows scored.arrows
printf 'chrom\\tpos\\tref\\talt\\tid\\ndemo1\\t1000\\tN\\tG,AT\\tv1\\ndemo1\\t3000\\tN\\tC\\tv2\\n' > variants.tsv
nyx-extract variants -q --fasta genome.fa --vcf variants.tsv --width 200 --ref-mismatch status |
    nyx-score -q --model model | nyx-effects -q -o effects.arrows
nyx-view -q -O vcf -o effects.vcf effects.arrows
nyx-model convert -q model -o copy
";

/// What MAKE makes, and whether it holds the commands that made it.
const MADE: [(&str, bool); 21] = [
    ("scored.arrows", true),
    ("scored.arrow", true),
    ("scored.parquet", true),
    ("scored.tsv", true),
    ("typed.tsv", true),
    ("scored.tsv.gz", true),
    ("scored.csv", false),
    ("scored.jsonl", false),
    ("scored.fa", false),
    ("scored.bed", true),
    ("scored.bedgraph", true),
    ("scored.bw", true),
    ("regions.npz", true),
    ("hits.arrows", true),
    ("hits/hits.tsv", false),
    ("hub/hits.bb", true),
    ("report.html", true),
    ("modisco.h5", true),
    ("effects.arrows", true),
    ("effects.vcf", true),
    ("copy/model.safetensors", false),
];

fn verify(directory: &Path, file: &str) -> (Option<i32>, String) {
    let mut command = Command::new(executable("nyx"));
    command.current_dir(directory).args(["verify", file]);
    let output = run(command);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn files_of_every_format_are_verified_and_their_commands_make_them_again() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    ok(directory, MAKE);
    for (file, has_history) in MADE {
        let (status, said) = verify(directory, file);
        assert!(status == Some(0) && said.starts_with(&format!("{file}: whole (")), "{said}");
        let replayed = shell(directory, &format!("nyx replay {file}"));
        assert_eq!(replayed.status.success(), has_history, "{file}: {}", text(&replayed.stderr));
        if has_history {
            assert!(said.contains("made by nyx-extract") && !said.contains("how it was made"), "{said}");
        }
        cut_and_damaged(directory, file);
    }
    let (status, said) = verify(directory, "copy");
    assert!(
        status == Some(0) && said.contains("copy: whole (model (BPNet")
            || said.contains("copy: whole (model ("),
        "{said}"
    );
    assert!(ok(directory, "nyx replay copy").contains("\nnyx-model convert -q model -o copy\n"));
    replayed_files_are_the_same(directory);
}

/// Checks that a file that lost its end is not whole, and that standard input says so, too.
fn cut_and_damaged(directory: &Path, file: &str) {
    let whole = fs::read(directory.join(file)).unwrap();
    let name = format!("cut.{}", file.rsplit('/').next().unwrap());
    for kept in [whole.len() - 1, whole.len() / 2] {
        fs::write(directory.join(&name), &whole[..kept]).unwrap();
        let (status, said) = verify(directory, &name);
        // Half of a text may end with a line; what it says then is that it cannot tell.
        let at_line = whole[kept - 1] == b'\n' && !said.contains("FAILED");
        assert!(status == Some(1) || at_line, "{name} of {kept} bytes: {said}");
        assert!(at_line || said.contains(&format!("{name}: FAILED: ")), "{said}");
    }
    fs::remove_file(directory.join(&name)).unwrap();
}

/// Takes files away, runs the commands that they say made them, and compares.
fn replayed_files_are_the_same(directory: &Path) {
    for (file, with) in [
        ("scored.tsv", &["scored.arrows"][..]),
        ("scored.parquet", &["scored.arrows"]),
        ("scored.bw", &["scored.arrows", "scored.bw.nyx.json"]),
        ("regions.npz", &["scored.arrows"]),
        ("hub/hits.bb", &["scored.arrows", "hits.arrows", "hub/hits.bb.nyx.json"]),
        ("effects.vcf", &["effects.arrows"]),
        ("modisco.h5", &["scored.arrows"]),
    ] {
        let script = ok(directory, &format!("nyx replay {file}"));
        let all: Vec<&str> = std::iter::once(file).chain(with.iter().copied()).collect();
        let before: Vec<_> = all.iter().map(|file| fs::read(directory.join(file)).unwrap()).collect();
        all.iter().for_each(|file| fs::remove_file(directory.join(file)).unwrap());
        ok(directory, &script);
        for (file, before) in all.iter().zip(before) {
            assert!(fs::read(directory.join(file)).unwrap() == before, "{file} is another after\n{script}");
        }
    }
    // What the shell wrote is written by a shell again.
    ok(
        directory,
        "nyx replay typed.tsv > again.sh; bash -euo pipefail again.sh > again.tsv; cmp typed.tsv again.tsv",
    );
}

#[test]
fn shards_that_were_joined_are_replayed_as_one_pipeline() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    ok(
        directory,
        "nyx demo --data-only --outdir . > /dev/null
        nyx run -q --shards 3 -o all.arrows 'nyx-extract tiles --fasta genome.fa --width 100 --stride 700 | nyx-score --model model'
        nyx-view -q --no-pg all.arrows > rows.tsv
        nyx verify all.arrows | grep 'all .* regions of shard 1/1'
        nyx replay all.arrows > again.sh
        rm all.arrows
        bash -euo pipefail again.sh
        nyx-view -q --no-pg all.arrows | cmp - rows.tsv",
    );
    let script = fs::read_to_string(directory.join("again.sh")).unwrap();
    assert!(
        script.contains("# shards were joined by: nyx-merge") && script.contains("nyx-merge - -o all.arrows")
    );
    let left_out = shell(directory, "nyx-view -q -O arrow --no-pg -o a.arrow all.arrows; nyx replay a.arrow");
    assert!(text(&left_out.stderr).contains("--no-pg"), "{}", text(&left_out.stderr));
}

#[test]
fn a_poisoned_stream_and_rows_that_are_missing_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    shell(
        directory,
        "printf '>a\\nACGT\\n>b\\n>c\\nAC\\n' | nyx-extract sequences --batch-size 1 > poisoned.arrows",
    );
    let (status, said) = verify(directory, "poisoned.arrows");
    assert_eq!(status, Some(1));
    assert!(
        said.contains("poisoned: nyx-extract failed after 1 rows") && said.contains("nyx replay"),
        "{said}"
    );
    let tiles = "nyx demo --data-only --outdir . > /dev/null
        nyx-extract tiles -q --fasta genome.fa --width 100 --stride 500 --batch-size 64 -o tiles.arrows";
    ok(directory, tiles);
    assert_eq!(verify(directory, "tiles.arrows").0, Some(0));
    // A stream without its last rows, ended by hand: every message is whole, and the scan is not.
    let whole = fs::read(directory.join("tiles.arrows")).unwrap();
    let mark = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
    let begins = |at: &usize| whole[*at..].starts_with(&mark[..4]) && whole[at + 4..at + 8] != mark[4..];
    let last = (0..whole.len() - 8).rfind(begins).unwrap();
    fs::write(directory.join("short.arrows"), [&whole[..last], &mark].concat()).unwrap();
    let (status, said) = verify(directory, "short.arrows");
    assert!(status == Some(1) && said.contains("regions have rows"), "{said}");
}

#[test]
fn standard_input_is_verified_and_a_cut_one_is_the_failure_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let made = ok(
        directory,
        "nyx demo --data-only --outdir . > /dev/null
        nyx-extract tiles -q --fasta genome.fa --width 100 --stride 500 -o tiles.arrows
        nyx verify - < tiles.arrows
        nyx-view -O bed tiles.arrows | nyx verify -
        nyx-view -O bed tiles.arrows | nyx replay -",
    );
    assert!(
        made.contains("-: whole (Arrow stream, 800 rows)") && made.contains("-: whole (BED, 800 rows)"),
        "{made}"
    );
    assert!(made.contains("nyx-view -O bed tiles.arrows\n"), "{made}");
    let cut = shell(directory, "head -c 9000 tiles.arrows | nyx verify -");
    assert_eq!(cut.status.code(), Some(3), "{}", text(&cut.stderr));
    let several =
        shell(directory, "head -c 9000 tiles.arrows > cut.arrows; nyx verify --json tiles.arrows cut.arrows");
    assert_eq!(several.status.code(), Some(1));
    let whole: Vec<Value> =
        text(&several.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&whole[0]["whole"], &whole[1]["whole"]), (&Value::from(true), &Value::from(false)));
    assert!(text(&several.stderr).contains("1 of 2 files are not whole"));
}

/// Standard error as the events that it is.
fn events(output: &Output) -> Vec<Value> {
    let lines = text(&output.stderr);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

#[test]
fn programs_read_what_a_pipeline_does_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    ok(directory, "nyx demo --data-only --outdir . > /dev/null");
    let pipeline = shell(
        directory,
        "export NYX_LOG=json
        nyx-extract tiles --fasta genome.fa --width 200 --stride 1000 | nyx-score --model model --stats s.json -o s.arrows",
    );
    let all = events(&pipeline);
    for stage in ["nyx-extract", "nyx-score"] {
        let own: Vec<&Value> = all.iter().filter(|event| event["stage"] == stage).collect();
        assert_eq!(
            (&own[0]["event"], &own.last().unwrap()["event"]),
            (&"start".into(), &"finish".into()),
            "{own:?}"
        );
        let finish = own.last().unwrap();
        assert_eq!((finish["rows"].as_u64(), finish["exit_status"].as_u64()), (Some(400), Some(0)));
        assert!(finish["peak_mib"].as_f64().unwrap() > 1.0 && finish["compute_seconds"].as_f64().is_some());
        assert_eq!(
            finish["read_seconds"].is_null(),
            stage == "nyx-extract",
            "only a stage that reads rows reads"
        );
        for event in own {
            assert!(event["command"].as_str().unwrap().starts_with(stage));
            assert!(event["time"].as_str().unwrap().ends_with('Z') && event["pid"].as_u64().is_some());
        }
    }
    let stats: Value = serde_json::from_slice(&fs::read(directory.join("s.json")).unwrap()).unwrap();
    let row = &stats["data"]["s nyx-score"];
    for key in ["read_seconds", "compute_seconds", "write_seconds", "peak_mib"] {
        assert!(row[key].as_f64().is_some() && stats["headers"][key].is_object(), "{key}: {row}");
    }
    for (code, status, word) in [
        ("nyx-score --log-json --model nowhere < s.arrows", 1, "nowhere"),
        ("nyx-score --log-json --no-such-flag", 2, "--no-such-flag"),
        ("nyx --log-json verify nowhere.arrows > /dev/null", 1, "not whole"),
    ] {
        let failed = shell(directory, code);
        assert_eq!(failed.status.code(), Some(status), "{code}");
        let all = events(&failed);
        let error =
            all.iter().find(|event| event["event"] == "error").unwrap_or_else(|| panic!("{code}: {all:?}"));
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
        assert_eq!(error["exit_status"].as_i64(), Some(status.into()));
    }
    let people = shell(directory, "nyx-view -v -O bed -o a.bed s.arrows");
    let said = text(&people.stderr);
    assert!(said.starts_with("nyx-view: 400 rows\n") && said.contains("MiB at most"), "{said}");
}
