//! A small file of every format that a command reads, how the library reads it, and a command that does.

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use candle_core::Device;
use noodles::bgzf;
use npyz::WriterBuilder;
use npyz::zip::{CompressionMethod, ZipWriter, write::FileOptions};
use nyx::extract::contribs::{self, Window};
use nyx::extract::sequences::{self, Options};
use nyx::extract::variants::{self, ContigMap, Selection};
use nyx::genome::Genome;
use nyx::genome::bed::{Columns, Reader};
use nyx::model::weights::Weights;
use nyx::pipe::Pipe;
use nyx::tokenizer::Tokenizer;
use nyx::{Error, Result, input, model, motif, npy};

use super::lab::{Fault, Lab};
use crate::support::write_bcf;

/// What damage may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// It is an error, or the content is what it was.
    Fail,
    /// It may give other valid content: text, or numbers without a checksum.
    Change,
}

/// A format as a file.
pub struct Format {
    pub name: &'static str,
    /// The name of the file that is damaged.
    pub file: &'static str,
    pub bytes: Vec<u8>,
    /// What lies beside it.
    pub beside: Vec<(&'static str, Vec<u8>)>,
    /// What reading makes beside it, which goes before the next time.
    pub made: &'static [&'static str],
    /// What is done to the damaged bytes: where the format is compressed, damage inside.
    pub wrap: fn(&[u8]) -> Vec<u8>,
    /// Reads all of it; what it found, as text.
    pub read: fn(&Path) -> Result<String>,
    /// What cutting the file may do.
    pub cut: May,
    /// What changing a byte may do.
    pub flip: May,
    /// A command that reads it.
    pub command: Option<&'static str>,
}

impl Format {
    fn new(
        name: &'static str,
        file: &'static str,
        bytes: Vec<u8>,
        read: fn(&Path) -> Result<String>,
    ) -> Self {
        Self {
            name,
            file,
            bytes,
            beside: Vec::new(),
            made: &[],
            wrap: <[u8]>::to_vec,
            read,
            cut: May::Change,
            flip: May::Change,
            command: None,
        }
    }

    fn beside(mut self, files: Vec<(&'static str, Vec<u8>)>) -> Self {
        self.beside = files;
        self
    }

    fn made(self, made: &'static [&'static str]) -> Self {
        Self { made, ..self }
    }

    /// A file that says how long it is: cutting it is an error.
    fn measured(self) -> Self {
        Self { cut: May::Fail, ..self }
    }

    /// A file with checksums, or one that is checked against another: no change passes.
    fn checked(self) -> Self {
        Self { cut: May::Fail, flip: May::Fail, ..self }
    }

    fn wrapped(self, wrap: fn(&[u8]) -> Vec<u8>) -> Self {
        Self { wrap, ..self }
    }

    fn command(self, command: &'static str) -> Self {
        Self { command: Some(command), ..self }
    }
}

const FASTA: &str = ">a first\nACGTACGTAC\nGTNNACGTAC\nGGA\n>b\nACGTACGTAC\nTTTTACGTAC\nTT\n>c\nACGGT\n";
const BED: &str = "a\t2\t9\tone\t7\t+\nb\t0\t12\ttwo\t.\t-\nc\t1\t4\n";
const NARROW_PEAK: &str = "a\t2\t9\tone\t7\t.\t1.5\t3\t2\t3\nb\t0\t12\ttwo\t0\t.\t2\t-1\t-1\t-1\n";
const VCF: &str = "##fileformat=VCFv4.3\n##contig=<ID=a,length=23>\n##INFO=<ID=DP,Number=1,Type=Integer,Description=\"d\">\n\
    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"g\">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\n\
    a\t3\tr1\tG\tA,T\t.\tPASS\tDP=3\tGT\t0|1\na\t6\t.\tCG\tC\t9\t.\t.\tGT\t1|1\nb\t4\t.\tT\t<DEL>\t.\t.\t.\tGT\t.|1\n";
const MEME: &str = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies\nA 0.25 C 0.25 G 0.25 T 0.25\n\n\
    MOTIF one first\nletter-probability matrix: alength= 4 w= 3 nsites= 20 E= 0\n0.1 0.2 0.3 0.4\n1 0 0 0\n0 0.5 0.5 0\n";
const JASPAR: &str =
    ">MA1 one\nA [ 1 2 3 ]\nC [ 4 0 1 ]\nG [ 0 9 1 ]\nT [ 2 2 2 ]\n>MA2 two\nA 1 2\nC 2 1\nG 0 3\nT 4 1\n";
const TABLE: &str = "name,sequence,label\nx,ACGT,1\ny,ACGTTN,0\n";
const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":"[UNK]",
"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":null,
"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,"model":{"type":"BPE","dropout":null,
"unk_token":"[UNK]","continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,
"vocab":{"[UNK]":0,"A":1,"C":2,"G":3,"T":4,"AC":5,"GT":6,"ACGT":7},"merges":["A C","G T","AC GT"]}}"#;

/// Makes a file of every format; `lab` has the commands for those that only commands write.
pub fn all(lab: &Lab) -> Vec<Format> {
    let written = written(lab);
    let file = |name: &str| fs::read(written.join(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let indexed = indexed(folder.path());
    let fasta_gz = blocks(FASTA.as_bytes());
    let demo = |name: &str| fs::read(lab.path("model").join(name)).unwrap();
    let genome = || vec![("g.fa", FASTA.into())];
    vec![
        Format::new("FASTA", "g.fa", FASTA.into(), read_genome)
            .made(&["g.fa.fai"])
            .command("nyx-extract tiles --fasta g.fa --width 4 --stride 3"),
        Format::new("FASTA in BGZF", "g.fa.gz", fasta_gz.clone(), read_genome)
            .made(&["g.fa.gz.fai", "g.fa.gz.gzi"])
            .checked()
            .command("nyx-extract tiles --fasta g.fa.gz --width 4 --stride 3"),
        Format::new(".fai", "g.fa.fai", indexed.fai, |path| read_genome(&path.with_extension("")))
            .beside(genome())
            .checked()
            .command("nyx-extract tiles --fasta g.fa --width 4 --stride 3"),
        Format::new(".gzi", "g.fa.gz.gzi", indexed.gzi, |path| read_genome(&path.with_extension("")))
            .beside(vec![("g.fa.gz", fasta_gz), ("g.fa.gz.fai", indexed.gz_fai)])
            .checked()
            .command("nyx-extract tiles --fasta g.fa.gz --width 4 --stride 3"),
        Format::new("2bit", "g.2bit", two_bit(), read_genome)
            .measured()
            .command("nyx-extract tiles --fasta g.2bit --width 4 --stride 3"),
        Format::new("BED", "p.bed", BED.into(), read_bed)
            .beside(genome())
            .command("nyx-extract regions --fasta g.fa --peaks p.bed --width 0"),
        Format::new("narrowPeak", "p.narrowPeak", NARROW_PEAK.into(), read_bed)
            .beside(genome())
            .command("nyx-extract regions --fasta g.fa --peaks p.narrowPeak --width 4"),
        Format::new("BED in gzip", "p.bed.gz", gzip(BED.as_bytes()), read_bed)
            .beside(genome())
            .checked()
            .command("nyx-extract regions --fasta g.fa --peaks p.bed.gz --width 0"),
        Format::new("BED in BGZF", "p.bed.gz", blocks(BED.as_bytes()), read_bed)
            .beside(genome())
            .checked()
            .command("nyx-extract regions --fasta g.fa --peaks p.bed.gz --width 0"),
        Format::new("BED in zstd", "p.bed.zst", zstd::encode_all(BED.as_bytes(), 1).unwrap(), read_bed)
            .beside(genome())
            .measured()
            .command("nyx-extract regions --fasta g.fa --peaks p.bed.zst --width 0"),
        Format::new("VCF", "v.vcf", VCF.into(), read_variants)
            .beside(genome())
            .command("nyx-extract variants --fasta g.fa --vcf v.vcf --width 4 --ref-mismatch status"),
        Format::new("VCF in BGZF", "v.vcf.gz", blocks(VCF.as_bytes()), read_variants)
            .beside(genome())
            .checked()
            .command("nyx-extract variants --fasta g.fa --vcf v.vcf.gz --width 4 --ref-mismatch status"),
        Format::new("BCF", "v.bcf", file("out.bcf"), read_variants).checked(),
        Format::new("BCF, inflated", "v.bcf", inflated(&file("out.bcf")), read_variants)
            .wrapped(blocks)
            .beside(genome())
            .command("nyx-extract variants --fasta g.fa --vcf v.bcf --width 4 --ref-mismatch status --unknown-contig status"),
        Format::new(".tbi", "out.vcf.gz.tbi", file("out.vcf.gz.tbi"), read_selected)
            .beside(vec![("out.vcf.gz", file("out.vcf.gz"))]),
        Format::new(".csi", "out.bcf.csi", file("out.bcf.csi"), read_selected)
            .beside(vec![("out.bcf", file("out.bcf"))]),
        Format::new("FASTA of sequences", "s.fa", FASTA.into(), read_sequences).command("nyx-extract sequences s.fa"),
        Format::new("CSV", "s.csv", TABLE.into(), read_sequences).command("nyx-extract sequences s.csv"),
        Format::new("npy", "a.npy", npy(), |path| Ok(format!("{:?}", npy::read_npy::<f32>(path)?)))
            .measured()
            .command("nyx-extract contribs --sequences a.npy --attributions a.npy --width 4"),
        Format::new("npz", "regions.npz", file("regions.npz"), read_regions)
            .checked()
            .command("nyx-extract contribs --regions regions.npz"),
        Format::new("bigWig", "c.bw", file("out.bw"), read_bigwig)
            .beside(vec![("genome.fa", fs::read(lab.path("genome.fa")).unwrap())])
            .measured(),
        Format::new("contributions in HDF5", "c.h5", contributions(folder.path()), |path| {
            let arrays = contribs::chrombpnet(&[path.to_owned()])?;
            drain(contribs::from_arrays(arrays, None, 6, None, 10)?)
        })
        .measured()
        .command("nyx-extract contribs --chrombpnet-h5 c.h5 --width 6"),
        Format::new("MEME", "m.meme", MEME.into(), read_motifs).command("nyx-tomtom m.meme m.meme"),
        Format::new("JASPAR", "m.jaspar", JASPAR.into(), read_motifs).command("nyx-tomtom m.jaspar m.jaspar"),
        Format::new("TF-MoDISco's HDF5", "m.h5", patterns(folder.path()), read_motifs)
            .measured()
            .command("nyx-tomtom m.h5 m.h5"),
        Format::new("CWMs", "cwms.npy", npy(), read_motifs).measured(),
        Format::new("safetensors", "model.safetensors", demo("model.safetensors")[..].to_vec(), read_weights)
            .beside(vec![("config.json", demo("config.json"))])
            .measured()
            .command("nyx-model info ."),
        Format::new("PyTorch's zip", "w.pth", torch(), read_weights).checked(),
        Format::new("PyTorch's zip, its pickle", "w.pth", pickle(), read_weights).wrapped(torch_of),
        Format::new("tokenizer.json", "tokenizer.json", TOKENIZER.into(), |path| {
            let tokenizer = Tokenizer::from_file(path)?;
            Ok(format!("{:?}", tokenizer.encode("ACGTTTGNACGT", None)?.ids))
        })
        .beside(vec![("r.arrows", file("c.arrows"))])
        .command("nyx-tokenize --tokenizer tokenizer.json r.arrows"),
        Format::new("config.json", "config.json", demo("config.json"), |path| {
            let loaded = model::load(path.parent().expect("it has one"), &Device::Cpu)?;
            Ok(format!("{} {:?}", loaded.architecture, loaded.model.labels()))
        })
        .beside(vec![("model.safetensors", demo("model.safetensors"))])
        .command("nyx-model info ."),
        Format::new("Parquet", "r.parquet", file("out.parquet"), read_pipe)
            .measured()
            .command("nyx-view -O tsv r.parquet"),
        Format::new("Arrow file", "r.arrow", file("out.arrow"), read_pipe)
            .measured()
            .command("nyx-view -O tsv r.arrow"),
        Format::new("Arrow stream", "r.arrows", file("a.arrows"), read_pipe)
            .measured()
            .command("nyx-view -O tsv r.arrows"),
    ]
}

/// Writes what only commands write; returns the folder.
fn written(lab: &Lab) -> PathBuf {
    let folder = lab.trial();
    let lines = |name: &str, count: usize| -> String {
        let text = fs::read_to_string(lab.path(name)).unwrap();
        text.lines().take(count).map(|line| format!("{line}\n")).collect()
    };
    fs::write(folder.join("two.narrowPeak"), lines("few.narrowPeak", 2)).unwrap();
    fs::write(folder.join("four.vcf"), lines("few.vcf", 7)).unwrap();
    write_bcf(&folder.join("four.vcf"), &folder.join("four.bcf"));
    let contributions = [
        "nyx-extract regions --fasta ../genome.fa --peaks two.narrowPeak --width 200",
        "nyx-attrib --model ../model --method gradxinput --contributions projected -o c.arrows",
    ];
    let alleles = [
        "nyx-extract variants --fasta ../genome.fa --vcf four.vcf --width 200",
        "nyx-score --model ../model -o a.arrows",
    ];
    for stages in [
        &contributions[..],
        &alleles,
        &["nyx-effects --vcf four.bcf -o out.bcf a.arrows"],
        &["nyx-effects --vcf four.vcf -o out.vcf.gz a.arrows"],
        &["nyx-view -o regions.npz c.arrows"],
        &["nyx-view -o out.bw c.arrows"],
        &["nyx-view --columns region,chrom,start,status,probs -o out.parquet a.arrows"],
        &["nyx-view --columns region,chrom,start,status,probs -o out.arrow a.arrows"],
    ] {
        let outcome = lab.run(stages, &folder, &Fault::default());
        assert!(outcome.codes.iter().all(|code| *code == Some(0)), "{stages:?}: {outcome:?}");
    }
    folder
}

fn drain(pipe: Pipe) -> Result<String> {
    let batches = pipe.into_parts().1;
    batches.map(|batch| Ok(format!("{:?}\n", batch?))).collect()
}

fn read_pipe(path: &Path) -> Result<String> {
    drain(input::open_pipe(path)?)
}

/// Reads every contig, whole and a base less at both ends.
fn read_genome(path: &Path) -> Result<String> {
    let mut genome = Genome::open(path)?;
    let mut text = String::new();
    let mut bases = Vec::new();
    for (name, length) in genome.record().contigs.clone() {
        // A damaged length would be a long text.
        let end = (length as i64).min(1000);
        for (start, end) in [(0, end), (1, end - 1)] {
            genome.fetch(&name, start, end, &mut bases)?;
            text += &format!("{name} {length} {}\n", String::from_utf8_lossy(&bases));
        }
    }
    Ok(text)
}

fn read_bed(path: &Path) -> Result<String> {
    let reader = Reader::new(input::open_text(path)?, "p.bed", Columns::All);
    reader.map(|interval| Ok(format!("{:?}\n", interval?))).collect()
}

fn read_variants(path: &Path) -> Result<String> {
    let opened = variants::open(path, variants::Format::Auto, &Selection::default(), &ContigMap::new())?;
    opened.records.map(|record| Ok(format!("{:?}\n", record?))).collect()
}

/// Reads records near a region of the file whose index is damaged.
fn read_selected(path: &Path) -> Result<String> {
    let region = nyx::region::Region { chrom: "demo1".into(), start: 0, end: 1600 };
    let selection = Selection::new(Some(&[region]));
    let data = path.with_extension("");
    let opened = variants::open(&data, variants::Format::Auto, &selection, &ContigMap::new())?;
    opened.records.map(|record| Ok(format!("{:?}\n", record?))).collect()
}

fn read_sequences(path: &Path) -> Result<String> {
    drain(sequences::sequences(input::open_text(path)?, "s", Options::default())?)
}

fn read_regions(path: &Path) -> Result<String> {
    let (arrays, windows, width) = contribs::finemo_regions(path, None)?;
    drain(contribs::from_arrays(arrays, windows, width, None, 10)?)
}

fn read_bigwig(path: &Path) -> Result<String> {
    let fasta = path.with_file_name("genome.fa");
    let windows = (0..100u64)
        .map(|region| Window { region, chrom: Some("demo1".into()), start: 1000 * region as i64, name: None })
        .collect();
    drain(contribs::from_bigwig(&[path.to_owned()], Genome::open(&fasta)?, windows, 1000, 10)?)
}

fn read_motifs(path: &Path) -> Result<String> {
    let mut text = match motif::read(path) {
        Ok(patterns) if path.extension().is_some_and(|suffix| suffix == "h5") => {
            let seqlets = motif::modisco::read_seqlets(path, &patterns)?;
            format!("{patterns:?}{seqlets:?}")
        }
        Ok(patterns) => format!("{patterns:?}"),
        Err(error) if path.extension().is_some_and(|suffix| suffix == "jaspar") => drop_text(error),
        Err(error) => return Err(error),
    };
    if path.extension().is_some_and(|suffix| suffix != "npy") {
        text += &format!("{:?}", motif::read_probabilities(path, 0.3)?);
    }
    Ok(text)
}

/// JASPAR is no format of contributions: that reading says so is what is wanted.
fn drop_text(_: Error) -> String {
    String::new()
}

fn read_weights(path: &Path) -> Result<String> {
    let weights = Weights::read(path)?;
    let tensors = weights.tensors().iter();
    Ok(tensors.map(|(name, tensor)| format!("{name} {:?}\n", tensor.read())).collect())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compresses to BGZF in blocks of 40 bytes.
fn blocks(bytes: &[u8]) -> Vec<u8> {
    let mut writer = bgzf::io::Writer::new(Vec::new());
    for block in bytes.chunks(40) {
        writer.write_all(block).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap()
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    bgzf::io::Reader::new(bytes).read_to_end(&mut found).unwrap();
    found
}

/// The indexes that nyx makes of the FASTA file.
struct Indexed {
    fai: Vec<u8>,
    gz_fai: Vec<u8>,
    gzi: Vec<u8>,
}

fn indexed(folder: &Path) -> Indexed {
    let path = |name: &str| folder.join(name);
    fs::write(path("g.fa"), FASTA).unwrap();
    fs::write(path("g.fa.gz"), blocks(FASTA.as_bytes())).unwrap();
    Genome::open(&path("g.fa")).unwrap();
    Genome::open(&path("g.fa.gz")).unwrap();
    let read = |name: &str| fs::read(path(name)).unwrap();
    Indexed { fai: read("g.fa.fai"), gz_fai: read("g.fa.gz.fai"), gzi: read("g.fa.gz.gzi") }
}

/// Two contigs, one with a block of N.
fn two_bit() -> Vec<u8> {
    let record = |bases: &str| {
        let mut bytes = (bases.len() as u32).to_le_bytes().to_vec();
        let run = bases.find('N').map(|start| [start, bases.rfind('N').expect("one is there") + 1 - start]);
        bytes.extend((run.is_some() as u32).to_le_bytes());
        run.into_iter().flatten().for_each(|number| bytes.extend((number as u32).to_le_bytes()));
        // No soft masks; a reserved word.
        bytes.extend([0; 8]);
        for four in bases.as_bytes().chunks(4) {
            let digit = |base: &u8| b"TCAG".iter().position(|letter| letter == base).unwrap_or(0) as u8;
            bytes.push(
                four.iter().enumerate().map(|(place, base)| digit(base) << (6 - 2 * place)).sum::<u8>(),
            );
        }
        bytes
    };
    let records = [("a", record("ACGTACGTACGTNNACGTAC")), ("b", record("TTTTACG"))];
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = words(&[0x1A41_2743, 0, 2, 0]);
    let mut offset = bytes.len() as u32 + 2 * 6;
    for (name, record) in &records {
        bytes.push(1);
        bytes.extend(name.as_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += record.len() as u32;
    }
    records.iter().for_each(|(_, record)| bytes.extend(record));
    bytes
}

/// One-hot sequences (2, 4, 6), which are good CWMs, too.
fn npy() -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&[2, 4, 6]);
    let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
    let one_hot =
        |row: usize, base: usize, place: usize| if (row + place) % 4 == base { 1.0f32 } else { 0.0 };
    for row in 0..2 {
        for base in 0..4 {
            writer.extend((0..6).map(|place| one_hot(row, base, place))).unwrap();
        }
    }
    writer.finish().unwrap();
    bytes
}

/// ChromBPNet's layout: sequences and contributions (2, 4, 6), in chunks that are compressed.
fn contributions(folder: &Path) -> Vec<u8> {
    let path = folder.join("c.h5");
    let file = rust_hdf5::H5File::create(&path).unwrap();
    let one_hot: Vec<f32> = (0..48).map(|i| if (i / 6 + i % 6) % 4 == 0 { 1.0 } else { 0.0 }).collect();
    for name in ["raw", "shap"] {
        let group = file.create_group(name).unwrap();
        let dataset = group.new_dataset::<f32>().shape([2, 4, 6]).chunk(&[1, 4, 6]).deflate(6);
        dataset.create("seq").unwrap().write_raw(&one_hot).unwrap();
    }
    file.close().unwrap();
    fs::read(path).unwrap()
}

/// TF-MoDISco's layout: one pattern with two seqlets.
fn patterns(folder: &Path) -> Vec<u8> {
    let path = folder.join("m.h5");
    let file = rust_hdf5::H5File::create(&path).unwrap();
    let pattern = file.create_group("pos_patterns").unwrap().create_group("pattern_0").unwrap();
    let values: Vec<f64> = (0..16).map(|i| if i % 5 == 0 { 0.7 } else { 0.1 }).collect();
    for name in ["sequence", "contrib_scores", "hypothetical_contribs"] {
        pattern.new_dataset::<f64>().shape([4, 4]).create(name).unwrap().write_raw(&values).unwrap();
    }
    let seqlets = pattern.create_group("seqlets").unwrap();
    for (name, numbers) in [("start", [1i64, 5]), ("end", [5, 9]), ("example_idx", [0, 3])] {
        seqlets.new_dataset::<i64>().shape([2]).create(name).unwrap().write_raw(&numbers).unwrap();
    }
    seqlets.new_dataset::<i64>().shape([1]).create("n_seqlets").unwrap().write_raw(&[2i64]).unwrap();
    let reverse = [false, true].map(rust_hdf5::types::HBool::from);
    let dataset = seqlets.new_dataset::<rust_hdf5::types::HBool>().shape([2]).create("is_revcomp");
    dataset.unwrap().write_raw(&reverse).unwrap();
    file.close().unwrap();
    fs::read(path).unwrap()
}

/// What PyTorch pickles for `{"weight": tensor([[1, 2], [3, 4]])}`, protocol 2.
fn pickle() -> Vec<u8> {
    let mut bytes = b"\x80\x02}X\x06\0\0\0weightctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    bytes.extend(b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ");
    bytes.extend(b"K\0K\x02K\x02\x86K\x02K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.");
    bytes
}

fn torch() -> Vec<u8> {
    torch_of(&pickle())
}

/// The archive that `torch.save` writes around a pickle.
fn torch_of(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = FileOptions::default().compression_method(CompressionMethod::Stored);
    let numbers: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    for (name, bytes) in [("w/data.pkl", pickle), ("w/data/0", &numbers), ("w/version", b"3\n")] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
