//! Rows in = rows out, and what a strand is.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use nyx::attrib::{self, Method};
use nyx::error::Result;
use nyx::input::open_pipe;
use nyx::model::{self, Ensemble, Member, Wanted};
use nyx::pipe::Pipe;
use nyx::region::Strand;
use nyx::schema::{self, Row, RowBuilder, RowKind, Status};
use nyx::tokenize::{self, Tokenization};
use nyx::tokenizer::Tokenizer;
use nyx::{demo, score};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{bases, reverse_complement};
use crate::support::*;

/// A row as it comes: a number that is its own, and a sequence or none.
type Given = (u64, Option<String>);

/// Makes a pipe of rows, `rows` in a batch.
fn pipe(given: &[Given], rows: usize) -> Pipe {
    let schema = RowKind::Regions.schema(None);
    let batches: Vec<_> = given
        .chunks(rows)
        .map(|part| {
            let mut builder = RowBuilder::new(RowKind::Regions, schema.clone());
            for (region, sequence) in part {
                builder.push(&Row {
                    region: *region,
                    chrom: None,
                    start: 0,
                    end: sequence.as_ref().map_or(0, |bases| bases.len() as i64),
                    strand: Strand::Unknown,
                    name: None,
                    sequence: sequence.as_deref(),
                    status: if sequence.is_some() { Status::Ok } else { Status::UnknownContig },
                });
            }
            builder.finish()
        })
        .collect();
    Pipe::new(schema, batches.into_iter())
}

/// Returns the numbers of the rows that come out, and their sequences.
fn given_back(pipe: Pipe) -> Vec<Given> {
    let mut found = Vec::new();
    for batch in pipe.into_parts().1 {
        let batch = batch.unwrap();
        let regions = schema::u64s(&batch, schema::REGION).unwrap();
        let sequences = schema::strings(&batch, schema::SEQUENCE).unwrap();
        found.extend(
            regions.values().iter().copied().zip(sequences.iter().map(|bases| bases.map(String::from))),
        );
    }
    found
}

/// The network of the demo.
fn network() -> Arc<Ensemble> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), demo::MODEL_CONFIG).unwrap();
    std::fs::write(directory.path().join("model.safetensors"), demo::MODEL_WEIGHTS).unwrap();
    let loaded = model::load(directory.path(), &Device::Cpu).unwrap();
    let member = Member { name: "demo".into(), loaded };
    Arc::new(Ensemble::new(vec![member], false, Wanted::default()).unwrap())
}

/// Rows of any length, of the length of the demo's window, without a sequence.
fn rows() -> impl Strategy<Value = Vec<Given>> {
    let sequence = prop_oneof![
        3 => "[ACGTN]{200}".prop_map(Some),
        1 => "[ACGTN]{0,400}".prop_map(Some),
        1 => "N{200}".prop_map(Some),
        1 => Just(None),
    ];
    proptest::collection::vec((any::<u32>().prop_map(u64::from), sequence), 0..9)
}

/// From a pipe to a pipe.
type Stage = Box<dyn Fn(Pipe) -> Result<Pipe>>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_stage_gives_the_rows_it_gets_in_their_order(given in rows(), size in 1usize..5) {
        let models = network();
        let tokens = |name: &str| -> Stage {
            let tokenization = Arc::new(Tokenization::new(Tokenizer::open(name).unwrap(), None).unwrap());
            Box::new(move |pipe| tokenize::tokenize(pipe, tokenization.clone()))
        };
        let attrib = |method| -> Stage {
            let models = models.clone();
            Box::new(move |pipe| attrib::attrib(pipe, models.clone(), attrib::Options::new(method, 0)))
        };
        let scoring = models.clone();
        let stages: [(&str, Stage); 7] = [
            ("kmer:6", tokens("kmer:6")),
            ("nt", tokens("nt")),
            ("onehot", tokens("onehot")),
            ("score", Box::new(move |pipe| score::score(pipe, scoring.clone(), false))),
            ("gradxinput", attrib(Method::GradientInput)),
            ("saliency", attrib(Method::Saliency)),
            ("rebatch", Box::new(|pipe| Ok(pipe.rebatch(3).cut(2).ahead(2)))),
        ];
        for (name, stage) in stages {
            let found = given_back(stage(pipe(&given, size)).unwrap());
            prop_assert_eq!(&found, &given, "{}", name);
        }
    }
}

/// Writes random intervals of `genome`'s one contig, at its ends and beyond them.
fn intervals(path: &Path, strand: &str, random: &mut StdRng) -> usize {
    let mut text = String::new();
    for row in 0..400 {
        let start = random.random_range(0..5100);
        let end = start + random.random_range(1..300);
        text += &format!("chr1\t{start}\t{end}\tr{row}\t0\t{strand}\n");
    }
    std::fs::write(path, text).unwrap();
    400
}

/// Extracts a file of intervals; returns status and sequence of every row.
fn extract(directory: &Path, peaks: &str, more: &[&str]) -> Vec<(String, Option<String>)> {
    let mut command = nyx("extract", &["regions", "-q", "--fasta", "genome.fa"]);
    command.args(["--peaks", peaks, "--width", "0", "-o", "rows.arrows"]).args(more).current_dir(directory);
    stdout_of(command, b"");
    let mut found = Vec::new();
    for batch in open_pipe(&directory.join("rows.arrows")).unwrap().into_parts().1 {
        let batch = batch.unwrap();
        let statuses = schema::strings(&batch, schema::STATUS).unwrap();
        let sequences = schema::strings(&batch, schema::SEQUENCE).unwrap();
        let rows = statuses.iter().zip(sequences.iter());
        found.extend(rows.map(|(status, bases)| (status.unwrap().to_string(), bases.map(String::from))));
    }
    found
}

#[test]
fn the_reverse_strand_is_the_reverse_complement_and_no_interval_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    genome(directory.path(), 5000);
    for seed in 0..4 {
        let at = |name: &str| directory.path().join(name);
        let count = intervals(&at("forward.bed"), "+", &mut StdRng::seed_from_u64(seed));
        intervals(&at("reverse.bed"), "-", &mut StdRng::seed_from_u64(seed));
        let forward = extract(directory.path(), "forward.bed", &["--strand"]);
        let reverse = extract(directory.path(), "reverse.bed", &["--strand"]);
        assert_eq!((forward.len(), reverse.len()), (count, count), "rows in = rows out");
        for (forward, reverse) in forward.iter().zip(&reverse) {
            assert_eq!(forward.0, reverse.0);
            assert_eq!(forward.1.as_deref().map(reverse_complement), reverse.1);
        }
        let both = extract(directory.path(), "forward.bed", &["--both-strands"]);
        assert_eq!(both.len(), 2 * count);
        for (pair, forward) in both.chunks(2).zip(&forward) {
            assert_eq!(pair[0], *forward);
            assert_eq!(pair[1].1, forward.1.as_deref().map(reverse_complement));
        }
    }
}

#[test]
fn random_variants_have_a_row_for_every_allele_and_an_effect_for_every_alternate() {
    let directory = tempfile::tempdir().unwrap();
    let fasta = std::fs::read_to_string(genome(directory.path(), 5000)).unwrap();
    let sequence: String = fasta.lines().skip(1).collect();
    let model = directory.path().join("model");
    crate::score::write_model(&model, 1.0);
    let mut random = StdRng::seed_from_u64(3);
    let mut text = String::from("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n");
    let (mut alleles, mut alternates) = (0, 0);
    for record in 0..300 {
        let position = random.random_range(0..4990usize);
        let reference = &sequence[position..position + random.random_range(1..6)];
        let count = random.random_range(1..4);
        let alternate = |_| match random.random_range(0..8) {
            0 => "*".to_string(),
            1 => "<DEL>".to_string(),
            _ => {
                let length = random.random_range(1..7);
                bases(&mut random, length)
            }
        };
        let list: Vec<String> = (0..count).map(alternate).collect();
        text += &format!("chr1\t{}\tv{record}\t{reference}\t{}\t.\t.\t.\n", position + 1, list.join(","));
        alleles += 1 + count;
        alternates += count;
    }
    std::fs::write(directory.path().join("v.vcf"), text).unwrap();
    let mut extract =
        nyx("extract", &["variants", "-q", "--fasta", "genome.fa", "--vcf", "v.vcf", "--width", "20"]);
    extract.current_dir(directory.path());
    let rows = stdout_of(extract, b"");
    let scored = stdout_of(nyx("score", &["-q", "--model", model.to_str().unwrap()]), &rows);
    let effects = stdout_of(nyx("effects", &["-q"]), &scored);
    for (stream, expected) in [(&rows, alleles), (&scored, alleles), (&effects, alternates)] {
        let columns = ["-q", "--no-pg", "--no-header", "--columns", "region,status"];
        let text = stdout_of(nyx("view", &columns), stream);
        assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), expected);
    }
}
