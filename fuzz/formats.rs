//! What the fuzz targets and the replay of the corpora (`tests/it/corpus.rs`) share: for each format a function that
//! reads bytes as commands do, and uses what it read.
//!
//! Whatever the bytes: no panic, no abort, no allocation out of proportion, and an error of one line without control
//! characters. Several files in one input are separated by [`SEPARATOR`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Cursor, Write, sink};
use std::path::{Path, PathBuf};

use nyx::convert::{bed as bed_file, fasta as fasta_file, header, table, vcf};
use nyx::error::{Error, Result};
use nyx::extract::contribs;
use nyx::extract::variants::{Format, Samples, Selection, open_with};
use nyx::genome::Genome;
use nyx::genome::bed::{Columns, Reader};
use nyx::model::convert::{Hints, read as convert};
use nyx::model::weights::Weights;
use nyx::model::{Input, Opened, Pooling, Wanted};
use nyx::motif::{self, filters, modisco};
use nyx::npy::{self, Npz};
use nyx::pipe::{Pipe, ipc};
use nyx::provenance;
use nyx::region::Region;
use nyx::tokenizer::Tokenizer;

/// Reads bytes as one format.
pub type Read = fn(&[u8]) -> Result<()>;

/// All formats by name.
pub const FORMATS: &[(&str, Read)] = &[
    ("bed", bed),
    ("config", config),
    ("fasta", fasta),
    ("hdf5", hdf5),
    ("motifs", motifs),
    ("npy", npy_file),
    ("npz", npz),
    ("stream", stream),
    ("tabix", tabix),
    ("tokenizer", tokenizer),
    ("twobit", twobit),
    ("variants", variants),
    ("weights", weights),
];

/// Stands between the files of one input.
pub const SEPARATOR: &[u8] = b"\n=====\n";

/// Rows that are looked at of what could have any number.
const ROWS: usize = 1000;

/// Reads `bytes` as `format` and checks what an error says.
///
/// # Panics
///
/// When there is no such format, or an error is no line that can be shown.
pub fn check(format: &str, bytes: &[u8]) {
    let (_, read) = FORMATS.iter().find(|(name, _)| *name == format).expect("a known format");
    read(bytes).unwrap_or_else(shown);
}

/// Checks that an error is a line that can be shown.
fn shown(error: Error) {
    let message = error.to_string();
    assert!(!message.chars().any(char::is_control), "no line: {message:?}");
    assert!(message.len() < 20_000, "{} bytes of message: {message:.500}", message.len());
}

thread_local! {
    static SCRATCH: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// Writes a file into this thread's scratch directory.
fn saved(name: &str, bytes: &[u8]) -> PathBuf {
    SCRATCH.with_borrow_mut(|scratch| {
        let scratch = scratch.get_or_insert_with(|| tempfile::tempdir().expect("a scratch directory"));
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).expect("the scratch directory can be written");
        path
    })
}

/// Compresses as `bgzip` does.
pub fn bgzf(bytes: &[u8]) -> Vec<u8> {
    let mut writer = noodles::bgzf::io::Writer::new(Vec::new());
    writer.write_all(bytes).expect("memory can be written");
    writer.finish().expect("memory can be written")
}

/// Splits an input into its files; those that are not there are empty.
fn files<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut rest = bytes;
    std::array::from_fn(|index| {
        let at = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        match at.filter(|_| index + 1 < N) {
            Some(at) => {
                let file = &rest[..at];
                rest = &rest[at + SEPARATOR.len()..];
                file
            }
            None => std::mem::take(&mut rest),
        }
    })
}

/// An Arrow stream, and what writes rows as text.
fn stream(bytes: &[u8]) -> Result<()> {
    let open = || ipc::read(Cursor::new(bytes.to_vec())).map(|pipe| pipe.cut(ROWS));
    let schema = open()?.schema().clone();
    provenance::check_version(&schema)?;
    provenance::chain(&schema.metadata)?;
    provenance::share(&schema.metadata)?;
    header::describe(&schema)?;
    drain(open()?)?;
    let head = table::Head { provenance: true, names: true };
    table::write_tsv(open()?, head, sink())?;
    // What follows needs columns that not every stream has.
    for outcome in [
        bed_file::write(open()?, true, sink()),
        fasta_file::write(open()?, sink()).map(drop),
        vcf::write_sites(open()?, true, &mut sink()),
    ] {
        outcome.unwrap_or_else(shown);
    }
    Ok(())
}

/// Reads a pipe to its end, or to more rows than a small input should have.
fn drain(pipe: Pipe) -> Result<()> {
    for batch in pipe.into_parts().1.take(ROWS) {
        batch?;
    }
    Ok(())
}

/// FASTA; its `.fai`, if any; its `.gzi`, if any: then it is compressed here.
fn fasta(bytes: &[u8]) -> Result<()> {
    let [fasta, fai, gzi] = files(bytes);
    let path = if gzi.is_empty() { saved("genome.fa", fasta) } else { saved("genome.fa", &bgzf(fasta)) };
    for (suffix, bytes) in [("fai", fai), ("gzi", gzi)] {
        let index = path.with_added_extension(suffix);
        let _ = std::fs::remove_file(&index);
        if !bytes.is_empty() {
            saved(index.file_name().and_then(|name| name.to_str()).expect("a name"), bytes);
        }
    }
    fetch_some(Genome::open(&path)?)
}

/// A 2bit file.
fn twobit(bytes: &[u8]) -> Result<()> {
    fetch_some(Genome::open(&saved("genome.2bit", bytes))?)
}

/// Reads the ends and the middle of some contigs.
fn fetch_some(mut genome: Genome) -> Result<()> {
    let contigs = genome.record().contigs.clone();
    let mut bases = Vec::new();
    for (name, length) in contigs.iter().take(8) {
        let length = *length as i64;
        for (start, end) in
            [(-5, 20), (0, length.min(1000)), (length / 2, length / 2 + 70), (length - 3, length + 3)]
        {
            genome.fetch(name, start, end, &mut bases)?;
            assert_eq!(bases.len() as i64, end - start, "{name}:{start}-{end}");
        }
    }
    Ok(())
}

/// BED and narrowPeak.
fn bed(bytes: &[u8]) -> Result<()> {
    let read = |columns| -> Result<()> {
        for interval in Reader::new(bytes, "peaks.bed", columns) {
            let interval = interval?;
            assert!(0 <= interval.start && interval.start <= interval.end);
            let window = Region::around(interval.chrom.as_str(), interval.center(), 2114);
            assert_eq!(window.end - window.start, 2114);
        }
        Ok(())
    };
    read(Columns::Three)?;
    read(Columns::All)
}

/// VCF, BCF and tables, with and without genotypes.
fn variants(bytes: &[u8]) -> Result<()> {
    let path = saved("variants", bytes);
    let read = |samples| -> Result<()> {
        let everything = Selection::default();
        let variants = open_with(&path, Format::Auto, &everything, &HashMap::new(), &samples)?;
        for record in variants.records {
            let record = record?;
            assert!(!record.alleles.is_empty() && record.span().0 <= record.span().1);
        }
        Ok(())
    };
    // Tables have no genotypes.
    read(Samples::All).unwrap_or_else(shown);
    read(Samples::None)
}

/// A file of variants and its index, a `.tbi` and a `.csi`, which are compressed here: no fuzzer finds a checksum.
fn tabix(bytes: &[u8]) -> Result<()> {
    let [file, index] = files(bytes).map(bgzf);
    let path = saved("variants.gz", &file);
    let mut outcomes = Vec::new();
    for (suffix, other) in [("tbi", "csi"), ("csi", "tbi")] {
        let _ = std::fs::remove_file(path.with_added_extension(other));
        saved(&format!("variants.gz.{suffix}"), &index);
        let region: Region = "chr1:5-4000".parse()?;
        let selection = Selection::new(Some(&[region]));
        let variants = open_with(&path, Format::Auto, &selection, &HashMap::new(), &Samples::None);
        outcomes
            .push(variants.and_then(|mut variants| variants.records.try_for_each(|record| record.map(drop))));
    }
    outcomes.into_iter().find(Result::is_ok).unwrap_or_else(|| Err(Error::data("no index")))
}

/// An `.npy` array, whole and row by row.
fn npy_file(bytes: &[u8]) -> Result<()> {
    let path = saved("array.npy", bytes);
    let rows = contribs::numpy(&path, std::slice::from_ref(&path)).and_then(|arrays| {
        let width = arrays.length();
        drain(contribs::from_arrays(arrays, None, width, None, 7)?)
    });
    let array = npy::read_npy::<f32>(&path)?;
    assert_eq!(array.shape.iter().product::<usize>(), array.values.len());
    motif::read(&path)?;
    rows
}

/// An `.npz` archive, and as Fi-NeMo's regions.
fn npz(bytes: &[u8]) -> Result<()> {
    let path = saved("arrays.npz", bytes);
    let mut archive = Npz::open(&path)?;
    for name in archive.names() {
        let texts = archive.texts(&name);
        let numbers = archive.numbers::<f64>(&name);
        numbers.map(drop).or(texts.map(drop))?;
    }
    let (arrays, windows, width) = contribs::finemo_regions(&path, None)?;
    drain(contribs::from_arrays(arrays, windows, width, None, 7)?)
}

/// HDF5: TF-MoDISco's motifs, contributions, and Keras' networks (with a `model.json` after it, if any).
fn hdf5(bytes: &[u8]) -> Result<()> {
    let [file, json] = files(bytes);
    let path = saved("file.h5", file);
    let json = (!json.is_empty()).then(|| saved("model.json", json));
    let motifs = motif::read(&path).and_then(|patterns| {
        modisco::read_seqlets(&path, &patterns)?;
        modisco::read_probabilities(&path, 0.3)?;
        filters::build(&patterns, &filters::Choice::default()).map(drop)
    });
    let arrays = |open: fn(&[PathBuf]) -> Result<contribs::Arrays>| -> Result<()> {
        let arrays = open(std::slice::from_ref(&path))?;
        let width = arrays.length();
        drain(contribs::from_arrays(arrays, None, width, None, 7)?)
    };
    let outcomes = [
        motifs,
        arrays(contribs::chrombpnet),
        arrays(contribs::bpnet).and_then(|()| contribs::bpnet_windows(&path, 1).map(drop)),
        convert(&path, &Hints { keras_json: json.as_deref(), ..Hints::default() }).map(drop),
    ];
    // A file is of one kind; what is wrong with it is told by the reader of that kind.
    outcomes.into_iter().find(Result::is_ok).unwrap_or_else(|| Err(Error::data("of no kind")))
}

/// Weights: safetensors, and both formats of PyTorch.
fn weights(bytes: &[u8]) -> Result<()> {
    let path = saved("model.bin", bytes);
    let strict = Weights::read(&path);
    let (module, _) = Weights::read_module(&path)?;
    // Views may share their numbers: together they can be more than the file has.
    module.tensors().values().take(64).for_each(|tensor| drop(tensor.read()));
    if bytes.len() < 1 << 14 {
        convert(&path, &Hints::default()).map(drop).unwrap_or_else(shown);
    }
    strict.map(drop)
}

/// `tokenizer.json`, and vocabularies.
fn tokenizer(bytes: &[u8]) -> Result<()> {
    let tokenizer = Tokenizer::from_file(&saved("tokenizer.json", bytes))?;
    for sequence in ["", "A", "ACGTNACGTTTGGA", "acgt", &"ACGGT".repeat(60)] {
        let tokens = tokenizer.encode(sequence, Some(100))?;
        assert!(tokens.ids.len() == tokens.starts.len() && tokens.starts.len() == tokens.ends.len());
    }
    Ok(())
}

/// MEME, JASPAR and HOMER text.
fn motifs(bytes: &[u8]) -> Result<()> {
    let path = saved("motifs.txt", bytes);
    // JASPAR and HOMER are no contributions.
    let contributions = motif::read(&path)
        .and_then(|patterns| filters::build(&patterns, &filters::Choice::default()).map(drop));
    contributions.unwrap_or_else(shown);
    for found in motif::read_probabilities(&path, 0.3)? {
        assert!(
            found.ppm.width() > 0 && found.ppm.values().iter().all(|p| (0.0..=1.0).contains(p)),
            "{found:?}"
        );
    }
    Ok(())
}

/// A model directory: `config.json`, weights (safetensors), `tokenizer.json` or `vocab.txt` if any.
fn config(bytes: &[u8]) -> Result<()> {
    let [config, weights, tokens] = files(bytes);
    let path = saved("config.json", config);
    let directory = path.parent().expect("a directory");
    saved("model.safetensors", weights);
    for name in ["tokenizer.json", "vocab.txt"] {
        let _ = std::fs::remove_file(directory.join(name));
    }
    if !tokens.is_empty() {
        saved(if tokens.starts_with(b"{") { "tokenizer.json" } else { "vocab.txt" }, tokens);
    }
    run(directory)
}

/// Builds the model and reads a sequence with it.
fn run(directory: &Path) -> Result<()> {
    let opened = Opened::read(directory)?;
    let loaded = opened.build(&candle_core::Device::Cpu, nyx::kernel::Precision::F32)?;
    let bases = b"ACGTTGCANACGTTACGATCCAGT".repeat(40);
    let length = loaded.model.window().unwrap_or(60).min(bases.len());
    let rows = [Input::of(&bases[..length])];
    let wanted = [Wanted::default(), Wanted { embedding: Some(Pooling::Mean), ..Wanted::default() }];
    let outcomes =
        wanted.map(|wanted| loaded.model.predict(&rows, &wanted).map(|answers| assert_eq!(answers.len(), 1)));
    outcomes.into_iter().find(Result::is_ok).unwrap_or_else(|| Err(Error::data("it gives nothing")))
}
