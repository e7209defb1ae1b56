//! Files from people who mean harm: nothing of theirs runs, nothing is written elsewhere, nothing they wrote reaches
//! the terminal or a page as anything but text.

use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Output;

use npyz::zip::{ZipWriter, write::FileOptions};
use nyx::model::weights::Weights;
use rust_hdf5::H5File;

use crate::corpus::{pickle_of_a_tensor, torch_legacy, torch_zip};
use crate::support::{nyx, run, run_with, stdout_of};

/// A pickle of protocol 2 under construction.
struct Script(Vec<u8>);

impl Script {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }
    fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }
    /// Calls `module.name(argument)`, and leaves the result on the stack.
    fn call(self, module: &str, name: &str, argument: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes()).text(argument).op(b"\x85R")
    }
    fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// Pickles that run `command` where Python loads them, and ways to make a reader spend what it has.
fn hostile_pickles(command: &str) -> Vec<(&'static str, Vec<u8>)> {
    let python = format!("__import__('os').system({command:?})");
    let stacked = |script: Script, module: &str, name: &str| script.text(module).text(name).op(b"\x93");
    let deep = (0..200_000).fold(Script::new().op(b")"), |script, _| script.op(b"\x85"));
    let bomb = (0..200u8).fold(Script::new().op(b"]q\x00"), |script, memo| {
        script.op(b"](").op(&[b'h', memo].repeat(10)).op(&[b'e', b'q', memo + 1])
    });
    let names = (0..4u8).fold(Script::new().op(b"}q\x00"), |script, memo| {
        let keys = (0..40)
            .fold(script.op(b"}("), |script, key| script.text(&format!("{key:0>200}")).op(&[b'h', memo]));
        keys.op(&[b'u', b'q', memo + 1])
    });
    vec![
        ("os.system", Script::new().call("os", "system", command).stop()),
        ("posix.system", Script::new().call("posix", "system", command).stop()),
        ("__builtin__.eval", Script::new().call("__builtin__", "eval", &python).stop()),
        ("builtins.exec", Script::new().call("builtins", "exec", &python).stop()),
        ("subprocess", Script::new().call("subprocess", "getoutput", command).stop()),
        ("runpy", Script::new().call("runpy", "_run_code", &python).stop()),
        ("webbrowser", Script::new().call("webbrowser", "open", "http://localhost/").stop()),
        ("torch gadget", Script::new().call("torch.serialization", "load", "other.pt").stop()),
        ("torch hub", Script::new().call("torch.hub", "load", "someone/else").stop()),
        ("torch.jit", Script::new().call("torch.jit._script", "unpackage_script_module", "x").stop()),
        ("numpy load", Script::new().call("numpy", "load", "x.npy").stop()),
        ("a storage that is none", Script::new().call("torch.os", "systemStorage", command).stop()),
        ("STACK_GLOBAL", stacked(Script::new(), "os", "system").text(command).op(b"\x85R").stop()),
        (
            "STACK_GLOBAL with a dotted name",
            stacked(Script::new(), "torch._utils", "os.system").text(command).op(b"\x85R").stop(),
        ),
        (
            "STACK_GLOBAL of memoized parts",
            Script::new()
                .text("system")
                .op(b"q\x00")
                .text("os")
                .op(b"h\x00\x93")
                .text(command)
                .op(b"\x85R")
                .stop(),
        ),
        ("INST", Script::new().op(b"(").text(command).op(b"ios\nsystem\n").stop()),
        ("OBJ", Script::new().op(b"(cos\nsystem\n").text(command).op(b"o").stop()),
        ("NEWOBJ", Script::new().op(b"cos\nsystem\n").text(command).op(b"\x85\x81").stop()),
        ("NEWOBJ_EX", Script::new().op(b"csubprocess\nPopen\n").text(command).op(b"\x85}\x92").stop()),
        ("EXT1", Script::new().op(b"\x82\x01").text(command).op(b"\x85R").stop()),
        (
            "BUILD with __setstate__",
            Script::new()
                .op(b"cos\nsystem\n)\x81}(")
                .text("__setstate__")
                .op(b"cos\nsystem\nub")
                .text(command)
                .op(b"b")
                .stop(),
        ),
        (
            "a call of what a call gave",
            Script::new().call("builtins", "getattr", "x").op(b"(").text(command).op(b"tR").stop(),
        ),
        ("after the tensors", {
            let mut pickle = pickle_of_a_tensor();
            pickle.pop();
            Script(pickle).op(b"0").call("os", "system", command).stop()
        }),
        ("a persistent id that is a call", Script::new().call("os", "system", command).op(b"Q").stop()),
        ("nesting", deep.stop()),
        ("billion laughs", bomb.stop()),
        ("names of names", names.stop()),
        ("a string of 4 GiB", Script::new().op(b"X\xff\xff\xff\xff").stop()),
        ("a long of 2 GiB", Script::new().op(b"\x8b\xff\xff\xff\x7f").stop()),
        ("a memo of 4 GiB", Script::new().op(b"}r\xff\xff\xff\xff0.").stop()),
        ("a frame of 16 EiB", Script::new().op(b"\x95\xff\xff\xff\xff\xff\xff\xff\xff").stop()),
    ]
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are text")
}

/// Checks that a command failed with one line that a terminal shows as it is.
fn check_one_line(what: &str, output: &Output) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{what}: {said}");
    let line = said.strip_suffix('\n').expect("a line has an end");
    assert!(!line.contains(|c: char| c.is_control()), "{what}: {said:?}");
    line.to_string()
}

#[test]
fn no_pickle_runs_anything_and_each_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("owned");
    let command = format!("touch {}", mark.display());
    for (what, pickle) in hostile_pickles(&command) {
        for (format, bytes) in [("zip", torch_zip(&pickle)), ("legacy", torch_legacy(&pickle))] {
            let path = directory.path().join("model.bin");
            std::fs::write(&path, bytes).unwrap();
            let error = Weights::read(&path).err().unwrap_or_else(|| panic!("{what} ({format}) passed"));
            let line = error.to_string();
            assert!(line.contains("model.bin") && !line.contains('\n'), "{what}: {line}");
            // Whole modules are read without the classes that they name.
            if let Err(error) = Weights::read_module(&path) {
                assert!(!error.to_string().contains('\n'), "{what}: {error}");
            }
        }
    }
    assert!(!mark.exists(), "a pickle was run");
    // Through the door that users take.
    let path = directory.path().join("model.pt");
    std::fs::write(&path, torch_zip(&Script::new().call("os", "system", &command).stop())).unwrap();
    let target = directory.path().join("converted");
    let output = run(nyx("model", &["convert", path.to_str().unwrap(), "-o", target.to_str().unwrap()]));
    check_one_line("nyx-model convert", &output);
    assert!(!mark.exists() && !target.exists());
}

/// The pickles do what they say where something runs them: else the test above could not fail.
#[test]
fn python_would_run_them() {
    let directory = tempfile::tempdir().unwrap();
    let command = |name: &str| format!("touch {}", directory.path().join(name).display());
    for (index, (what, _)) in hostile_pickles("true").iter().enumerate().take(5) {
        let (name, path) = (format!("mark_{index}"), directory.path().join("pickle"));
        std::fs::write(&path, &hostile_pickles(&command(&name))[index].1).unwrap();
        let mut python = std::process::Command::new("python3");
        python.args(["-c", "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"]).arg(&path);
        match python.output() {
            Err(_) => return eprintln!("skipped: python3 is not there"),
            Ok(_) => assert!(directory.path().join(&name).exists(), "{what}"),
        }
    }
}

/// What a terminal would obey: a title, a cleared screen, a line of its own, text that runs backwards.
const ESCAPES: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\u{202e}";

#[test]
fn names_from_files_reach_the_terminal_as_text() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let save = |name: &str, text: String| std::fs::write(at(name), text).unwrap();
    let evil = ESCAPES.replace('\r', "");
    save("g.fa", ">chr1\nACGTACGTACGTACGT\n".into());
    save("evil.fa", format!(">c{evil}\nACGT\nAC\nACGTACGT\n"));
    save("evil.bed", format!("chr{evil}\t1\t5\n"));
    save("odd.bed", format!("chr1\t{evil}\t5\n"));
    save(
        "evil.vcf",
        format!(
            "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr{evil}\t3\t.\tG\tA\t.\t.\t.\n"
        ),
    );
    save("evil.meme", format!("MEME version 4\n\nMOTIF M{evil}\nMOTIF N\n"));
    save(
        "config.json",
        format!(
            "{{\"architectures\": [\"Net{}\"]}}",
            evil.replace('\u{1b}', "\\u001b").replace('\u{7}', "\\u0007")
        ),
    );
    std::fs::write(at("model.safetensors"), {
        let header = b"{}      ";
        [&(header.len() as u64).to_le_bytes()[..], header].concat()
    })
    .unwrap();
    let folder = directory.path().to_str().unwrap().to_string();
    let commands: [(&str, Vec<String>); 6] = [
        (
            "extract",
            vec![
                "regions".into(),
                "--peaks".into(),
                at("evil.bed"),
                "--fasta".into(),
                at("g.fa"),
                "--width".into(),
                "4".into(),
            ],
        ),
        (
            "extract",
            vec![
                "regions".into(),
                "--peaks".into(),
                at("odd.bed"),
                "--fasta".into(),
                at("g.fa"),
                "--width".into(),
                "4".into(),
            ],
        ),
        ("extract", vec!["tiles".into(), "--fasta".into(), at("evil.fa"), "--width".into(), "4".into()]),
        (
            "extract",
            vec![
                "variants".into(),
                "--vcf".into(),
                at("evil.vcf"),
                "--fasta".into(),
                at("g.fa"),
                "--width".into(),
                "4".into(),
            ],
        ),
        ("tomtom", vec![at("evil.meme"), at("evil.meme")]),
        ("model", vec!["info".into(), folder]),
    ];
    for (tool, words) in commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = run(nyx(tool, &words));
        let line = check_one_line(&format!("nyx-{tool} {words:?}"), &output);
        assert!(line.contains("\\u{1b}"), "{words:?}: {line}");
    }
}

/// A stream with a peak of this name on a contig of this name.
fn stream_of(directory: &Path, name: &str) -> Vec<u8> {
    let sequences = directory.join("s.fa");
    std::fs::write(&sequences, ">x\nACGTACGTACGT\n").unwrap();
    let words = ["sequences", sequences.to_str().unwrap(), "-q", "--no-pg"];
    let stream = stdout_of(nyx("extract", &words), b"");
    let pipe = nyx::pipe::ipc::read(Cursor::new(stream)).unwrap();
    let schema = pipe.schema().clone();
    let batch = pipe.into_parts().1.next().unwrap().unwrap();
    let column = batch.schema().index_of("name").unwrap();
    let mut columns = batch.columns().to_vec();
    columns[column] = std::sync::Arc::new(arrow_array::StringArray::from(vec![name]));
    let batch = arrow_array::RecordBatch::try_new(schema.clone(), columns).unwrap();
    let mut bytes = Vec::new();
    nyx::pipe::ipc::write(nyx::pipe::Pipe::new(schema, [Ok(batch)].into_iter()), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_name_in_a_stream_is_one_cell_of_a_table_and_one_title_of_a_record() {
    let directory = tempfile::tempdir().unwrap();
    let stream = stream_of(directory.path(), &format!("p\t1\n>evil{ESCAPES}"));
    let table = String::from_utf8(stdout_of(nyx("view", &["-O", "tsv", "--no-pg"]), &stream)).unwrap();
    assert_eq!(table.lines().count(), 2, "{table:?}");
    assert!(table.contains("p\\t1\\n>evil\\u{1b}]0;owned\\u{7}"), "{table:?}");
    let fasta = String::from_utf8(stdout_of(nyx("view", &["-O", "fasta", "--no-pg"]), &stream)).unwrap();
    assert_eq!(fasta.lines().filter(|line| line.starts_with('>')).count(), 1, "{fasta:?}");
}

/// Peaks of tfmodisco-lite and Fi-NeMo whose names are programs for a browser.
#[test]
fn names_on_pages_are_text() {
    const SCRIPT: &str = "<img src=x onerror=alert(1)>\"'&";
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let file = H5File::create(at("modisco.h5")).unwrap();
    let patterns = file.create_group("pos_patterns").unwrap();
    let group = patterns.create_group(&format!("pattern_{SCRIPT}")).unwrap();
    let cwm: Vec<f64> = (0..24).map(|index| if index % 5 == 0 { 1.0 } else { 0.0 }).collect();
    for name in ["sequence", "contrib_scores", "hypothetical_contribs"] {
        group.new_dataset::<f64>().shape([6, 4]).create(name).unwrap().write_raw(&cwm).unwrap();
    }
    file.close().unwrap();
    regions(&at("regions.npz"), SCRIPT);
    stdout_of(
        nyx("extract", &["contribs", "--regions", &at("regions.npz"), "-q", "-o", &at("rows.arrows")]),
        b"",
    );
    let words = ["-m", &at("modisco.h5"), &at("rows.arrows"), "-q", "-o", &at("hits.arrows")];
    stdout_of(nyx("hits", &words), b"");
    let words = [
        "-r",
        &at("regions.npz"),
        "-H",
        &at("hits.arrows"),
        "-m",
        &at("modisco.h5"),
        "-q",
        "-o",
        &at("report"),
    ];
    stdout_of(nyx("report", &words), b"");
    let page = std::fs::read_to_string(at("report/report.html")).unwrap();
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"), "the motif is on the page");
    let mut pages = vec![page];
    let meme = |name: &str| {
        format!(
            "MEME version 4\n\nMOTIF {name} {name}\nletter-probability matrix: w= 4\n{}",
            "1 0 0 0\n0 1 0 0\n".repeat(2)
        )
    };
    let word = SCRIPT.replace(' ', "/");
    std::fs::write(at("evil.meme"), meme(&word)).unwrap();
    let words = [&at("evil.meme"), &at("evil.meme"), "--html", &at("tomtom.html"), "-q"];
    stdout_of(nyx("tomtom", &words), b"");
    pages.push(std::fs::read_to_string(at("tomtom.html")).unwrap());
    assert!(pages[1].contains("&lt;img/src=x"), "the motif is on the page");
    pages.extend(svgs(&directory.path().join("report")));
    assert!(pages.len() > 4, "there are pictures");
    for page in &pages {
        assert!(!page.contains("<img") && !page.contains("x onerror=alert(1)>"), "{page:.2000}");
    }
}

fn svgs(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(svgs(&path));
        } else if path.extension().is_some_and(|extension| extension == "svg") {
            all.push(std::fs::read_to_string(path).unwrap());
        }
    }
    all
}

/// Two regions of 20 bases named `name`, as Fi-NeMo keeps them, in an archive that has files with other plans, too.
fn regions(path: &str, name: &str) {
    let header = |descr: &str, shape: &str| {
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        text.push_str(&" ".repeat((64 - (10 + text.len() + 1) % 64) % 64));
        text.push('\n');
        [b"\x93NUMPY\x01\x00".as_slice(), &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
    };
    let bases = |row: usize, base: usize, at: usize| (at * 7 + row * 3 + at / 5) % 4 == base;
    let index = |value: usize| (value / 80, value / 20 % 4, value % 20);
    let of = |value: usize| {
        let (row, base, at) = index(value);
        bases(row, base, at)
    };
    let sequences: Vec<u8> = (0..160).map(|value| u8::from(of(value))).collect();
    let contributions =
        (0..160).flat_map(|value| (if of(value) { 0.5f32 } else { 0.0 }).to_le_bytes()).collect::<Vec<_>>();
    let letters = |text: &str, width: usize| -> Vec<u8> {
        text.chars()
            .map(|c| c as u32)
            .chain(std::iter::repeat(0))
            .take(width)
            .flat_map(u32::to_le_bytes)
            .collect()
    };
    let width = name.chars().count();
    let files = [
        ("sequences.npy", [header("|i1", "(2, 4, 20)"), sequences].concat()),
        ("contributions.npy", [header("<f4", "(2, 4, 20)"), contributions].concat()),
        ("chr.npy", [header("<U4", "(2,)"), letters("chr1", 4), letters("chr1", 4)].concat()),
        (
            "start.npy",
            [header("<i8", "(2,)"), [100i64, 300].iter().flat_map(|n| n.to_le_bytes()).collect()].concat(),
        ),
        (
            "peak_name.npy",
            [header(&format!("<U{width}"), "(2,)"), letters(name, width), letters(name, width)].concat(),
        ),
        ("../../escaped.npy", b"up and out".to_vec()),
        ("/nyx-escaped.npy", b"to the root".to_vec()),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name, FileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.add_symlink("link.npy", "/etc/passwd", FileOptions::default()).unwrap();
    std::fs::write(path, zip.finish().unwrap().into_inner()).unwrap();
}

#[test]
fn an_archive_is_read_where_it_is_and_its_paths_and_links_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    let path = inner.join("regions.npz");
    regions(path.to_str().unwrap(), "p");
    let mut command = nyx("extract", &["contribs", "--regions", "regions.npz", "-q", "-o", "rows.arrows"]);
    command.current_dir(&inner);
    stdout_of(command, b"");
    let mut names: Vec<_> =
        std::fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["regions.npz", "rows.arrows"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(!Path::new("/nyx-escaped.npy").exists());
    let mut archive = nyx::npy::Npz::open(&path).unwrap();
    // A link is a file whose text is a path, and no array.
    assert!(archive.numbers::<f32>("link").is_err());
}

/// A gigabyte of zeros in a megabyte.
#[test]
fn an_archive_that_expands_beyond_reason_is_refused_before_it_expands() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bomb.npz");
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("x.npy", FileOptions::default()).unwrap();
    zip.write_all(&[0; 0x4567]).unwrap();
    let mut bytes = zip.finish().unwrap().into_inner();
    // The size as both headers have it, made a gigabyte.
    let size = 0x4567u32.to_le_bytes();
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..at + 4] == size).collect();
    assert_eq!(places.len(), 2, "one in each header");
    for at in places {
        bytes[at..at + 4].copy_from_slice(&(1u32 << 30).to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    let message = nyx::npy::Npz::open(&path).unwrap().numbers::<f32>("x").unwrap_err().to_string();
    assert!(message.contains("bomb.npz") && message.contains("expand to 1073741824"), "{message}");
}

#[test]
fn a_contig_cannot_write_lines_into_a_vcf() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    std::fs::write(at("g.fa"), ">chr1\nACGTACGTACGTACGT\n>a,length=9>\nACGT\n").unwrap();
    std::fs::write(
        at("v.vcf"),
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t8\t.\tT\tA\t.\t.\t.\n",
    )
    .unwrap();
    let words = ["variants", "--vcf", &at("v.vcf"), "--fasta", &at("g.fa"), "--width", "4", "-q"];
    let stream = stdout_of(nyx("extract", &words), b"");
    let output = run_with(nyx("view", &["-O", "vcf", "--no-pg"]), &stream);
    let line = check_one_line("nyx-view -O vcf", &output);
    assert!(line.contains("a,length=9>"), "{line}");
    std::fs::write(at("g.fa"), ">chr1\nACGTACGTACGTACGT\n>HLA-A*01:01\nACGT\n").unwrap();
    std::fs::remove_file(at("g.fa.fai")).unwrap();
    let stream = stdout_of(nyx("extract", &words), b"");
    let vcf = String::from_utf8(stdout_of(nyx("view", &["-O", "vcf", "--no-pg"]), &stream)).unwrap();
    assert!(vcf.contains("##contig=<ID=HLA-A*01:01,length=4>\n"), "{vcf}");
}
