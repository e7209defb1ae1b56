//! nyx-tomtom as a user sees it: MEME's table, pairs, and a page that opens offline.

use crate::support::{nyx, run, shared, stdout_of};

/// Lines of a table without header and comments.
fn lines(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip(1).filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

#[test]
fn the_published_matches_and_pairs_of_learned_motifs_come_out() {
    let Some(folder) = shared("data/motifs") else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let published = std::fs::read_to_string(folder.join("nyxbind_learned/tomtom.tsv")).unwrap();
    let filtered = std::fs::read_to_string(folder.join("nyxbind_learned/filtered.csv")).unwrap();
    // One file of all motifs, as their recipe makes it: the header of the first, the motifs of all.
    let (mut motifs, mut pairs) = (String::new(), String::new());
    for line in filtered.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        pairs += &format!("{}\t{}\n", cells[0], cells[1]);
        let text =
            std::fs::read_to_string(folder.join(format!("nyxbind_learned/{}.meme", cells[0]))).unwrap();
        let from = if motifs.is_empty() { 0 } else { text.find("MOTIF").unwrap() };
        motifs += &text[from..];
    }
    std::fs::write(at("learned.meme"), motifs).unwrap();
    std::fs::write(at("pairs.tsv"), pairs).unwrap();
    let known = folder.join("human.meme.gz");
    let run = |threads: &str| {
        let arguments = [
            &at("learned.meme"),
            known.to_str().unwrap(),
            "--evalue",
            "--thresh",
            "0.5",
            "--html",
            &at("page.html"),
            "--pairs",
            &at("pairs.tsv"),
            "--pairs-output",
            &at("pairs.csv"),
            "-q",
            "--no-pg",
            "-@",
            threads,
        ];
        String::from_utf8(stdout_of(nyx("tomtom", &arguments), b"")).unwrap()
    };
    let table = run("2");
    assert_eq!(table, run("1"), "threads change nothing");
    assert_eq!(table.lines().next(), published.lines().next());
    let (ours, theirs) = (lines(&table), lines(&published));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for column in [0, 1, 2, 6, 7, 8, 9] {
            assert_eq!(ours[column], theirs[column]);
        }
        for column in [3, 4, 5] {
            let number = |cells: &[String]| cells[column].parse::<f64>().unwrap();
            assert!((number(ours) / number(theirs) - 1.0).abs() < 1e-4, "{ours:?} {theirs:?}");
        }
    }
    let status = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(',').take(4).collect::<Vec<_>>().join(",")).collect()
    };
    assert_eq!(status(&std::fs::read_to_string(at("pairs.csv")).unwrap()), status(&filtered));
    let page = std::fs::read_to_string(at("page.html")).unwrap();
    assert!(page.contains("MA0836.2") && page.contains("<svg"));
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_motif_finds_itself_whatever_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let counts = ">GATA one\nA [ 0 10 0 10 9 ]\nC [ 0 0 0 0 0 ]\nG [ 10 0 0 0 1 ]\nT [ 0 0 10 0 0 ]\n";
    let other = ">CGCG two\nA [ 0 0 0 0 ]\nC [ 9 1 9 0 ]\nG [ 1 9 1 10 ]\nT [ 0 0 0 0 ]\n";
    std::fs::write(at("query.jaspar"), counts).unwrap();
    std::fs::write(at("known.jaspar"), format!("{other}{}", counts.replace("GATA one", "TATC x"))).unwrap();
    let (query, known) = (at("query.jaspar"), at("known.jaspar"));
    let table = stdout_of(nyx("tomtom", &[&query, &known, "-q", "--thresh", "1"]), b"");
    let best = &lines(std::str::from_utf8(&table).unwrap())[0];
    assert_eq!(
        (best[0].as_str(), best[1].as_str(), best[2].as_str(), best[6].as_str()),
        ("GATA", "TATC", "0", "5")
    );
    assert_eq!((best[7].as_str(), best[9].as_str()), ("GATAA", "+"));
    let output = run(nyx("tomtom", &[&query, &known, "--motifs", "GATA,nothing"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no motif `nothing`"));
}

/// Random motifs beside which those of the demo are known.
fn decoys(count: usize) -> String {
    let mut state = 3u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % limit
    };
    let mut text = String::new();
    for number in 0..count {
        let width = 8 + below(9);
        text +=
            &format!("\nMOTIF decoy{number}\nletter-probability matrix: alength= 4 w= {width} nsites= 100\n");
        for _ in 0..width {
            let counts: Vec<u64> = (0..4).map(|_| 1 + below(9).pow(2)).collect();
            let sum: u64 = counts.iter().sum();
            let cells: Vec<String> =
                counts.iter().map(|&count| format!("{:.6}", count as f64 / sum as f64)).collect();
            text += &(cells.join(" ") + "\n");
        }
    }
    text
}

#[test]
fn planted_motifs_are_found_by_what_drives_the_network_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let command = |name: &str, arguments: &str| {
        let mut command = nyx(name, &arguments.split(' ').collect::<Vec<_>>());
        command.current_dir(here);
        command
    };
    let mut data = std::process::Command::new(crate::support::executable("nyx"));
    data.args(["demo", "--data-only", "--outdir"]).arg(here);
    stdout_of(data, b"");
    let known = std::fs::read_to_string(here.join("motifs.meme")).unwrap() + &decoys(60);
    std::fs::write(here.join("known.meme"), known).unwrap();
    let extract = "regions --fasta genome.fa --peaks peaks.narrowPeak --width 200 -q";
    let rows = stdout_of(command("extract", extract), b"");
    let contributions =
        stdout_of(command("attrib", "--model model --method deeplift --background zero -q"), &rows);
    let motifs = stdout_of(command("motifs", "denovo -z 12 -t 16 -g 4 --h5 modisco.h5 -q"), &contributions);
    let table = stdout_of(command("tomtom", "modisco.h5 known.meme -q"), b"");
    let table = String::from_utf8(table).unwrap();
    let mut best: Vec<(String, String)> = Vec::new();
    for line in lines(&table) {
        // The matches of a pattern stand together, the best first.
        if best.iter().all(|(pattern, _)| *pattern != line[0]) {
            best.push((line[0].clone(), line[1].clone()));
        }
    }
    let named = |motif: &str| best.iter().any(|(_, known)| known == motif);
    assert!(["GATA", "SPI1", "CTCF"].into_iter().all(named), "{best:?}");
    // Patterns stand by their number of seqlets: the largest is one that was planted, too.
    assert!(["GATA", "SPI1", "CTCF"].contains(&best[0].1.as_str()), "{best:?}");

    // The same motifs as MEME text, of the stream and of the file.
    let of_stream = stdout_of(command("view", "-O meme"), &motifs);
    let of_file = stdout_of(command("view", "-O meme modisco.h5"), b"");
    let names = |text: &[u8]| -> Vec<String> {
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.lines().filter(|line| line.starts_with("MOTIF")).map(str::to_string).collect()
    };
    assert!(!names(&of_stream).is_empty());
    assert_eq!(names(&of_stream), names(&of_file));
    std::fs::write(here.join("again.meme"), of_stream).unwrap();
    let again = stdout_of(command("tomtom", "again.meme known.meme -q"), b"");
    assert!(String::from_utf8(again).unwrap().contains("SPI1"));
}
