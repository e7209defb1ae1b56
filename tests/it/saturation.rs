//! In-silico saturation through the pipe: rows, scores, matrix and pictures.

use super::support::*;

/// A model of one filter that scores a sequence, made by the demo.
fn demo() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut data = std::process::Command::new(executable("nyx"));
    data.args(["demo", "--data-only", "--outdir"]).arg(directory.path());
    stdout_of(data, b"");
    directory
}

#[test]
fn scored_mutants_become_a_matrix_and_a_page() {
    let directory = demo();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let (fasta, model) = (path("genome.fa"), path("model"));
    let width = window_of(&model);
    let region = format!("demo1:1001-{}", 1000 + width);
    let rows = stdout_of(nyx("extract", &["regions", "--fasta", &fasta, "-r", &region]), b"");
    let mutants = stdout_of(nyx("extract", &["mutate", "--span", "12", "--deletions"]), &rows);
    let scored = stdout_of(nyx("score", &["--model", &model]), &mutants);
    // Answers that are used again are those of another pass, whatever the batches.
    let scores = |more: &[&str]| {
        let arguments = [&["--model", model.as_str(), "--no-pg"], more].concat();
        let twice = [&mutants[..]].concat();
        stdout_of(nyx("view", &["--no-pg"]), &stdout_of(nyx("score", &arguments), &twice))
    };
    let expected = scores(&["--no-reuse"]);
    assert!(scores(&[]) == expected && scores(&["--batch-size", "5", "-@", "1"]) == expected);

    let matrix = String::from_utf8(stdout_of(nyx("view", &["-O", "matrix", "--no-pg"]), &scored)).unwrap();
    let lines: Vec<Vec<&str>> = matrix.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), width);
    let filled = lines.iter().flat_map(|line| &line[6..]).filter(|cell| **cell != ".").count();
    assert_eq!(filled, 12 * 4, "three substitutions and a deletion of each of twelve bases");
    let table = String::from_utf8(stdout_of(nyx("view", &["--no-pg", "--no-header"]), &scored)).unwrap();
    let columns = ["pos", "ref", "alt", "logits"];
    let numbers = ["--columns", &columns.join(","), "--no-pg", "--no-header"].map(str::to_string);
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let text = String::from_utf8(stdout_of(nyx("view", &numbers), &scored)).unwrap();
    assert_eq!(table.lines().count(), 1 + 12 * 4);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let score = |row: &[&str]| row[3].parse::<f32>().unwrap();
    for row in &rows[1..] {
        let line = lines.iter().find(|line| line[3] == row[0]).unwrap();
        assert_eq!(line[5], row[1]);
        let column = ["A", "C", "G", "T", "-"].iter().position(|letter| *letter == row[2]).unwrap();
        assert_eq!(line[6 + column].parse::<f32>().unwrap(), score(row) - score(&rows[0]), "{row:?}");
    }

    let page = path("m.html");
    stdout_of(nyx("view", &["-o", &page]), &scored);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<h1>Saturation</h1>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<rect").count(), width * 5);
    assert!(!page.contains("http://") && !page.contains("https://"), "it opens without a network");
}

/// Returns how many bases a model reads.
fn window_of(model: &str) -> usize {
    let text = String::from_utf8(stdout_of(nyx("model", &["info", model, "--json"]), b"")).unwrap();
    let number = text.split("\"window\":").nth(1).expect("the window is told");
    let digits: String = number.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[test]
fn haplotypes_of_the_same_sequence_go_through_the_model_once() {
    let directory = demo();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let (fasta, model) = (path("genome.fa"), path("model"));
    let width = window_of(&model).to_string();
    let genome = std::fs::read_to_string(&fasta).unwrap();
    let bases: String = genome.split('>').nth(1).unwrap().lines().skip(1).collect::<String>().to_uppercase();
    let name = genome[1..].split_whitespace().next().unwrap();
    let samples: Vec<String> = (0..20).map(|sample| format!("s{sample}")).collect();
    let mut vcf = format!(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t{}\n",
        samples.join("\t")
    );
    for position in (1000..1200).step_by(25) {
        let reference = &bases[position - 1..position];
        let alternate = if reference == "A" { "C" } else { "A" };
        let genotypes: Vec<_> = (0..20).map(|sample| if sample % 3 == 0 { "0|1" } else { "0|0" }).collect();
        vcf += &format!(
            "{name}\t{position}\t.\t{reference}\t{alternate}\t.\t.\t.\tGT\t{}\n",
            genotypes.join("\t")
        );
    }
    let file = path("v.vcf");
    std::fs::write(&file, vcf).unwrap();
    let extract = ["variants", "--haplotypes", "--fasta", &fasta, "--vcf", &file, "--width", &width];
    let rows = stdout_of(nyx("extract", &extract), b"");
    let run = |more: &[&str]| {
        let arguments = [&["--model", model.as_str(), "--no-pg"], more].concat();
        let output = run_with(nyx("score", &arguments), &rows);
        assert!(output.status.success());
        (stdout_of(nyx("view", &["--no-pg"]), &output.stdout), String::from_utf8(output.stderr).unwrap())
    };
    let (reused, said) = run(&[]);
    let (read, silent) = run(&["--no-reuse"]);
    assert!(reused == read, "every score has the same bits");
    // 8 records of 2 alleles and 40 haplotypes, of which 3 windows differ: REF, this variant, all variants.
    assert!(said.contains("24 distinct sequences read for 336 rows (14.00 rows a pass)"), "{said}");
    assert!(!silent.contains("rows a pass"), "{silent}");
}
