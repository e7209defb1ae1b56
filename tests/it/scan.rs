//! nyx-scan against FIMO's own tests, and in a pipe.

use std::path::Path;

use serde_json::Value;

use crate::support::{genome, nyx, run_with, shared, stdout_of};

/// The motifs of a MEME page (their data are JSON) as MEME text.
fn meme_text(page: &Path) -> String {
    let page = std::fs::read_to_string(page).unwrap();
    let data = page.split("var data = ").nth(1).unwrap();
    let data: Value = serde_json::Deserializer::from_str(data).into_iter().next().unwrap().unwrap();
    let mut text = String::from("MEME version 4\n\nALPHABET= ACGT\n\n");
    for motif in data["motifs"].as_array().unwrap() {
        let (name, other, sites) =
            (motif["id"].as_str().unwrap(), motif["alt"].as_str().unwrap(), &motif["nsites"]);
        let rows = motif["pwm"].as_array().unwrap();
        text += &format!(
            "MOTIF {name} {other}\nletter-probability matrix: alength= 4 w= {} nsites= {sites} E= 0\n",
            rows.len()
        );
        for row in rows {
            let cells: Vec<String> = row.as_array().unwrap().iter().map(Value::to_string).collect();
            text += &(cells.join(" ") + "\n");
        }
    }
    text
}

#[test]
fn the_table_of_fimos_own_test_comes_out() {
    let Some(folder) = shared("data/motifs/meme_suite_tests/fimo") else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    std::fs::write(at("motifs.meme"), meme_text(&folder.join("MCM1.meme.html"))).unwrap();
    let sequences = folder.join("spiked.fasta");
    let rows = stdout_of(nyx("extract", &["sequences", sequences.to_str().unwrap(), "-q"]), b"");
    let arguments = ["-m", &at("motifs.meme"), "--thresh", "0.001", "--norc", "--tsv", &at("fimo.tsv"), "-q"];
    let hits = stdout_of(nyx("scan", &arguments), &rows);
    let expected = std::fs::read_to_string(folder.join("fimo.tsv")).unwrap();
    let table = std::fs::read_to_string(at("fimo.tsv")).unwrap();
    let lines = |text: &str| -> Vec<Vec<String>> {
        let rows = text.lines().take_while(|line| !line.is_empty());
        rows.map(|line| line.split('\t').map(str::to_string).collect()).collect()
    };
    let (ours, theirs) = (lines(&table), lines(&expected));
    assert_eq!((ours.len(), &ours[0]), (theirs.len(), &theirs[0]));
    assert!(theirs.len() > 10);
    for (ours, theirs) in ours.iter().zip(&theirs).skip(1) {
        for column in [0, 1, 2, 3, 4, 5, 6, 7, 9] {
            assert_eq!(ours[column], theirs[column], "{ours:?} {theirs:?}");
        }
        // Theirs has a share of null places that is found with random numbers.
        let number = |cells: &[String]| cells[8].parse::<f64>().unwrap();
        assert!((number(ours) / number(theirs) - 1.0).abs() < 0.05, "{ours:?} {theirs:?}");
    }
    let view =
        stdout_of(nyx("view", &["-O", "tsv", "--no-pg", "--columns", "start,end,motif_name,p_value"]), &hits);
    assert_eq!(String::from_utf8(view).unwrap().lines().count(), theirs.len());
}

#[test]
fn hits_are_where_the_genome_has_the_motif_whatever_the_batches_and_strands() {
    let directory = tempfile::tempdir().unwrap();
    let fasta = genome(directory.path(), 3000);
    let bases: Vec<u8> =
        std::fs::read_to_string(&fasta).unwrap().lines().skip(1).flat_map(|line| line.bytes()).collect();
    let word = std::str::from_utf8(&bases[1001..1009]).unwrap().to_string();
    let row =
        |base: char| word.chars().map(|other| if other == base { " 50" } else { " 0" }).collect::<String>();
    let counts: String = "ACGT".chars().map(|base| format!("{base} [{} ]\n", row(base))).collect();
    let motifs = directory.path().join("m.jaspar");
    std::fs::write(&motifs, format!(">word w\n{counts}")).unwrap();
    let extract = |strand: &str| {
        let (fasta, region) = (fasta.to_str().unwrap(), directory.path().join("r.bed"));
        std::fs::write(
            &region,
            format!("chr1\t500\t1500\ta\t0\t{strand}\nchr1\t1004\t1400\tb\t0\t{strand}\n"),
        )
        .unwrap();
        let arguments = [
            "regions",
            "--fasta",
            fasta,
            "--peaks",
            region.to_str().unwrap(),
            "--width",
            "0",
            "--strand",
            "-q",
        ];
        stdout_of(nyx("extract", &arguments), b"")
    };
    for strand in ["+", "-"] {
        let rows = extract(strand);
        let scan = |batch: &str, threads: &str| {
            let arguments = [
                "-m",
                motifs.to_str().unwrap(),
                "--thresh",
                "2e-5",
                "-q",
                "--no-pg",
                "--batch-size",
                batch,
                "-@",
                threads,
            ];
            let view =
                ["-O", "tsv", "--no-pg", "--columns", "region,chrom,start,end,strand,motif_name,score"];
            let hits = stdout_of(nyx("scan", &arguments), &rows);
            String::from_utf8(stdout_of(nyx("view", &view), &hits)).unwrap()
        };
        let table = scan("1", "1");
        assert_eq!(table, scan("1000", "2"));
        // The word itself lies wholly in the first region alone.
        let exact = table.lines().filter(|line| line.contains("\t1001\t1009\t+\tword")).count();
        assert_eq!(exact, 1, "{strand}: {table}");
    }
    let output = run_with(nyx("scan", &["-m", motifs.to_str().unwrap()]), b"");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}
