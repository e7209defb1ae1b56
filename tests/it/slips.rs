//! What a tired user does: names and files that are not as they should be. Nothing of it may go wrong in silence.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::support::*;

/// Runs shell code in `directory` with our commands first on the path.
fn shell(directory: &Path, code: &str) -> Output {
    let commands = executable("nyx").parent().unwrap().to_owned();
    let path = format!("{}:{}", commands.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.current_dir(directory).env("PATH", path).args(["-uo", "pipefail", "-c", code]);
    run(command)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs code that must succeed and returns what it wrote.
fn ok(directory: &Path, code: &str) -> String {
    let output = shell(directory, code);
    assert!(output.status.success(), "{code}\n{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs code that must fail with a status and one line that has all `words`.
fn fails(directory: &Path, code: &str, status: i32, words: &[&str]) {
    let output = shell(directory, code);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(status), "{code}\n{said}");
    assert_eq!(said.lines().count(), 1, "{code}\n{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{code}: no `{word}` in {said}"));
}

/// A directory with a small genome and peaks on it.
fn bench() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("g.fa"), ">chr1\nACGTTGCAAC\nGGTTA\n>chr2\nNNNNGGTTnA\n>one\nG\n")
        .unwrap();
    fs::write(
        directory.path().join("p.bed"),
        "chr1\t2\t7\ta\t0\t-\nchr2\t4\t8\tb\t0\t+\none\t0\t1\tc\t0\t-\n",
    )
    .unwrap();
    directory
}

/// Rows as lines of contig, start, strand, sequence and status.
const ROWS: &str = "nyx-view -q --no-pg --no-header --columns chrom,start,strand,name,sequence,status";

#[test]
fn names_that_a_shell_would_take_apart_are_replayed() {
    let directory = bench();
    let here = directory.path();
    let odd = [
        "it's a $HOME;*",
        "-dash",
        "new\nline",
        "back\\slash",
        "é[1]{a,b}",
        "a [and 3 other shards]",
        "#~&|<>\"`!",
    ];
    for name in odd {
        fs::write(here.join(format!("{name}.fa")), fs::read(here.join("g.fa")).unwrap()).unwrap();
        let quoted = format!("'{}'", name.replace('\'', r"'\''"));
        let pipe = format!(
            "nyx-extract regions -q --fasta ./{quoted}.fa --peaks p.bed --width 6 |
            nyx-tokenize -q --tokenizer kmer:3 - | nyx-view -q -O tsv -o ./{quoted}.tsv"
        );
        ok(here, &pipe);
        let made = fs::read(here.join(format!("{name}.tsv"))).unwrap();
        ok(
            here,
            &format!("nyx replay ./{quoted}.tsv > again.sh; rm ./{quoted}.tsv; bash -euo pipefail again.sh"),
        );
        assert!(fs::read(here.join(format!("{name}.tsv"))).unwrap() == made, "{name:?}");
        // Through a file in the middle, whose name the second command has in its history.
        ok(
            here,
            &format!(
                "nyx-extract regions -q --fasta g.fa --peaks p.bed --width 6 -o ./{quoted}.arrows
            nyx-view -q -O bed -o out.bed ./{quoted}.arrows; nyx replay out.bed > again.sh
            mv out.bed before.bed; rm ./{quoted}.arrows; bash -euo pipefail again.sh; cmp before.bed out.bed"
            ),
        );
    }
}

#[test]
fn a_script_of_a_stranger_is_not_printed() {
    let directory = bench();
    let here = directory.path();
    ok(here, "nyx-extract regions -q --fasta g.fa --peaks p.bed --width 6 | nyx-view -q -O tsv -o rows.tsv");
    let text = fs::read_to_string(here.join("rows.tsv")).unwrap();
    assert!(text.contains("nyx-view -q -O tsv -o rows.tsv"));
    fs::write(
        here.join("rows.tsv"),
        text.replace("nyx-view -q -O tsv -o rows.tsv", "nyx-view -q; touch owned"),
    )
    .unwrap();
    fails(here, "nyx replay rows.tsv", 1, &["rows.tsv", "nyx-view -q; touch owned", "no command of nyx"]);
}

#[test]
fn standard_output_has_its_other_names() {
    if !Path::new("/dev/stdout").exists() {
        eprintln!("skipped: no /dev/stdout here");
        return;
    }
    let directory = bench();
    let here = directory.path();
    let extract = "nyx-extract regions -q --no-pg --fasta g.fa --peaks p.bed --width 6";
    ok(here, &format!("{extract} > a.arrows"));
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        // A file behind the name, which must not be replaced, nor begun again behind what is there.
        ok(here, &format!("{extract} -o {name} > b.arrows; cmp a.arrows b.arrows"));
        ok(here, &format!("{extract} -o {name} | cmp a.arrows -"));
        ok(here, &format!("printf x > c; {extract} -o {name} >> c; (printf x; cat a.arrows) | cmp - c"));
    }
    ok(here, &format!("{extract} -o /dev/fd/5 5> d.arrows; cmp a.arrows d.arrows"));
    fails(here, "nyx-view -q -O npz -o /dev/stdout a.arrows > e", 2, &["-o FILE"]);
    fails(here, "nyx-model convert -q g.fa -o /dev/stdout", 1, &["g.fa"]);
    assert!(Path::new("/dev/stdout").is_symlink() || !Path::new("/dev/stdout").is_file());
}

#[test]
fn two_outputs_do_not_share_a_name() {
    let directory = bench();
    let here = directory.path();
    ok(here, "nyx demo --data-only --outdir . > /dev/null
        nyx-extract regions -q --fasta genome.fa --peaks peaks.narrowPeak --width 100 -r demo1:1-9000 -o r.arrows");
    for (code, words) in [
        ("nyx-scan -m motifs.meme --tsv x -o ./x r.arrows", ["--output and --tsv", "both x"]),
        ("nyx-scan -m motifs.meme --tsv - r.arrows", ["--output and --tsv", "standard output"]),
        ("nyx-tomtom motifs.meme motifs.meme --html x -o x", ["--output and --html", "both x"]),
        ("nyx-merge r.arrows --stats x -o x", ["--output and --stats", "both x"]),
    ] {
        fails(here, code, 2, &words);
        assert!(!here.join("x").exists(), "{code}");
    }
}

#[test]
fn a_name_says_what_is_in_the_file_or_is_refused() {
    let directory = bench();
    let here = directory.path();
    ok(here, "nyx-extract regions -q --fasta g.fa --peaks p.bed --width 6 -o r.arrows");
    for name in ["r.bed", "r.tsv", "r.fa", "r.jsonl"] {
        ok(here, &format!("nyx-view -q -o {name} r.arrows; nyx-view -q -o {name}.gz r.arrows"));
        ok(
            here,
            &format!(
                "gzip -t {name}.gz; gunzip -c {name}.gz | grep -v nyx.pg > a; grep -v nyx.pg {name} | cmp - a"
            ),
        );
        ok(here, &format!("nyx verify {name}.gz"));
    }
    for name in ["r.arrows", "r.bcf", "r.h5", "r.npy", "r.tsv.zst"] {
        fails(here, &format!("nyx-view -o ./new.{name} r.arrows"), 2, &["-O says what to write"]);
    }
    fails(here, "nyx-view -o r.parquet.gz r.arrows", 2, &["leave .gz out"]);
    for name in ["r.tsv", "r.bed", "r.parquet", "r.arrows.gz"] {
        fails(here, &format!("nyx-merge r.arrows -o new.{name}"), 2, &["an Arrow stream, not"]);
        assert!(!here.join(format!("new.{name}")).exists());
    }
}

/// Line ends, a byte order mark, a last line without its end, compression in parts: all are the same peaks.
#[test]
fn peaks_are_the_same_however_their_text_is_written() {
    let directory = bench();
    let here = directory.path();
    let rows = |peaks: &str| {
        ok(here, &format!("nyx-extract regions -q --strand --fasta g.fa --peaks {peaks} --width 0 | {ROWS}"))
    };
    let expected = "chr1\t2\t-\ta\tGCAAC\tok\nchr2\t4\t+\tb\tGGTT\tok\none\t0\t-\tc\tC\tok\n";
    assert_eq!(rows("p.bed"), expected);
    let text = fs::read_to_string(here.join("p.bed")).unwrap();
    for (name, bytes) in [
        ("crlf.bed", text.replace('\n', "\r\n")),
        ("mark.bed", format!("\u{FEFF}{text}")),
        ("both.bed", format!("\u{FEFF}{}", text.replace('\n', "\r\n"))),
        ("open.bed", text.trim_end().to_string()),
        ("open_crlf.bed", text.replace('\n', "\r\n").trim_end().to_string()),
        ("blank.bed", text.replace('\n', "\n\n") + "\n\n"),
        ("comments.bed", format!("#a\ntrack name=x\nbrowser y\n{text}# end")),
        ("blanks.bed", text.replace('\t', " ")),
    ] {
        fs::write(here.join(name), bytes).unwrap();
        assert_eq!(rows(name), expected, "{name}");
    }
    ok(here, "(head -1 p.bed | gzip; tail -2 p.bed | gzip) > parts.gz");
    assert_eq!(rows("parts.gz"), expected, "members of gzip one after the other");
    assert_eq!(rows("- < p.bed"), expected);
    assert_eq!(rows("<(cat p.bed)"), expected);
}

/// Fi-NeMo's file has no strands: what was read backwards must not come back as if it were the forward strand.
#[test]
fn rows_of_the_reverse_strand_come_back_from_a_regions_file_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    ok(here, "nyx demo --data-only --outdir . > /dev/null");
    let rows = |strand: &str, contributions: &str, name: &str| {
        let peaks: String = ["5480\t5510", "7397\t7409", "11690\t11703"]
            .map(|span| format!("demo1\t{span}\tp\t0\t{strand}\n"))
            .concat();
        fs::write(here.join("p.bed"), peaks).unwrap();
        ok(
            here,
            &format!(
                "nyx-extract regions -q --fasta genome.fa --peaks p.bed --strand --width 200 |
            nyx-attrib -q --model model --method ism --contributions {contributions} -o {name}.arrows
            nyx-view -q -O npz -o {name}.npz {name}.arrows
            nyx-extract contribs -q --regions {name}.npz --fasta genome.fa -o {name}.back.arrows
            nyx-hits -q -m motifs.meme {name}.arrows -o {name}.hits.arrows
            nyx-hits -q -m motifs.meme {name}.back.arrows -o {name}.back.hits.arrows"
            ),
        );
    };
    for contributions in ["projected", "hypothetical"] {
        rows("+", contributions, "plus");
        rows("-", contributions, "minus");
        let hits = |name: &str| {
            let columns = "nyx-view -q --no-pg --no-header --columns chrom,start,end,strand,motif_name";
            ok(here, &format!("{columns} {name}.hits.arrows | sort"))
        };
        let found = hits("minus");
        assert!(found.lines().count() >= 3, "{found}");
        // The network is another one backwards, but what it found is where it found it.
        assert_eq!(hits("minus.back"), found, "{contributions}");
        assert_eq!(hits("plus.back"), hits("plus"), "{contributions}");
        let sequences = |name: &str| {
            ok(here, &format!("nyx-view -q --no-pg --columns start,sequence {name}.back.arrows"))
        };
        assert_eq!(sequences("minus"), sequences("plus"), "both are the genome's");
    }
}

#[test]
fn peaks_that_become_no_row_are_counted() {
    let directory = bench();
    let here = directory.path();
    fs::write(here.join("more.bed"), "chrX\t1\t2\nchr1\t3\t4\n").unwrap();
    fs::write(here.join("list"), "A\tp.bed\r\nB\tmore.bed\r\n").unwrap();
    let merge = "nyx-extract merge-peaks list --fasta g.fa --width 4 --overlap 4";
    fails(here, &format!("{merge} > x.arrows"), 1, &["more.bed", "`chrX`"]);
    let output = shell(here, &format!("{merge} --ignore-unknown-contigs -o m.arrows"));
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("1 peaks left out, on contigs shorter")
            && said.contains("1 peaks left out, on contigs that"),
        "{said}"
    );
}

/// The first reader takes all there is, and the other found nothing: no peaks, or nothing excluded.
#[test]
fn standard_input_is_not_read_by_two() {
    let directory = bench();
    let here = directory.path();
    let extract = "nyx-extract regions -q --fasta g.fa --width 4";
    ok(here, &format!("{extract} --peaks p.bed -o r.arrows"));
    for (code, input) in [
        (format!("{extract} --peaks - --exclude -"), "p.bed"),
        (format!("{extract} --peaks - -R -"), "p.bed"),
        (format!("{extract} --peaks - -"), "p.bed"),
        ("nyx-merge - -".to_string(), "r.arrows"),
    ] {
        let output = shell(here, &format!("{code} < {input} > out"));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{code}: {said}");
    }
    fails(here, &format!("{extract} --peaks - --exclude - < p.bed > out"), 2, &["given twice"]);
    // A shard reads it a second time, from where it began.
    let halves = ["1/2", "2/2"]
        .map(|shard| ok(here, &format!("cat p.bed | {extract} --peaks - --shard {shard} | {ROWS}")));
    assert_eq!(halves.concat(), ok(here, &format!("{ROWS} r.arrows")));
}

#[test]
fn pipes_serve_where_files_do() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    ok(
        here,
        "nyx demo --data-only --outdir . > /dev/null
        nyx-extract regions -q --fasta genome.fa --peaks peaks.narrowPeak --width 200 -r demo1:1-9000 |
            nyx-attrib -q --model model --method gradxinput -o a.arrows
        nyx-view -q -O parquet -o a.parquet a.arrows; nyx-view -q -O arrow -o a.arrow a.arrows
        nyx-hits -q --no-pg -m motifs.meme -o h.arrows a.arrows",
    );
    for code in [
        "nyx-hits -q --no-pg -m <(cat motifs.meme) a.arrows | cmp - h.arrows",
        "cat motifs.meme | nyx-hits -q --no-pg -m - a.arrows | cmp - h.arrows",
        "nyx-report -q -r <(cat a.arrows) -H <(cat h.arrows) -m <(cat motifs.meme) -o page.html",
        "cmp <(nyx-merge --no-pg -q - < a.parquet) <(nyx-merge --no-pg -q a.parquet)",
        "cmp <(cat a.parquet | nyx-view --no-pg -q) <(nyx-view --no-pg -q a.arrows)",
        "cmp <(nyx-view --no-pg -q <(cat a.arrow)) <(nyx-view --no-pg -q a.arrows)",
        // A byte now and then.
        "cmp <(while IFS= read -rn1 c; do printf '%s' \"${c:-$'\\n'}\"; done < peaks.narrowPeak | head -6 |
            nyx-extract regions -q --no-pg --fasta genome.fa --peaks - --width 50 | nyx-view -q --no-pg) \
            <(head -6 peaks.narrowPeak | nyx-extract regions -q --no-pg --fasta genome.fa --peaks - --width 50 | nyx-view -q --no-pg)",
    ] {
        ok(here, code);
    }
}

/// No row is no error: what is written of none is read as none, whatever width is asked for.
#[test]
fn files_of_no_rows_are_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    ok(
        here,
        "nyx demo --data-only --outdir . > /dev/null; : > none.bed
        nyx-extract regions -q --fasta genome.fa --peaks none.bed --width 200 -o r.arrows
        nyx-attrib -q --model model --method gradxinput --contributions hypothetical -o h.arrows r.arrows
        nyx-attrib -q --model model --method gradxinput --contributions projected -o p.arrows r.arrows",
    );
    for name in ["h", "p"] {
        ok(here, &format!("nyx-view -q -o {name}.npz {name}.arrows; nyx verify {name}.npz"));
        for width in ["", "--width 200", "--width 0", "--fasta genome.fa"] {
            let extract = format!("nyx-extract contribs -q --regions {name}.npz {width}");
            let hits = "nyx-hits -q -m motifs.meme | nyx-view -q --no-pg --no-header";
            assert_eq!(ok(here, &format!("{extract} | {ROWS}")), "", "{extract}");
            assert_eq!(ok(here, &format!("{extract} | {hits}")), "", "{extract}");
        }
        for format in ["parquet", "arrow", "arrows"] {
            let view = if format == "arrows" { "nyx-merge" } else { "nyx-view" };
            ok(here, &format!("{view} -q -o {name}.again.{format} {name}.arrows"));
            assert_eq!(ok(here, &format!("{ROWS} {name}.again.{format}")), "", "{format}");
        }
    }
}
