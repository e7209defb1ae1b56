//! What a genome is: contigs, lengths, bases.

pub mod bed;
mod bgzf;
pub mod faidx;
mod fasta;
mod positioned;
mod twobit;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::dna;
use crate::error::{Error, InFile, Result};
use crate::provenance;

use fasta::Fasta;
use twobit::TwoBit;

/// An open reference genome.
///
/// A clone reads the same file with a cache of its own, so threads can fetch at the same time.
#[derive(Clone)]
pub struct Genome {
    record: Arc<provenance::Genome>,
    ordinals: Arc<HashMap<String, usize>>,
    warnings: Arc<[String]>,
    bases: Bases,
}

#[derive(Clone)]
enum Bases {
    Fasta(Box<Fasta>),
    TwoBit(TwoBit),
}

impl Genome {
    /// Opens a FASTA file (plain or BGZF, indexed here when it has no index) or a 2bit file, known by its
    /// bytes.
    ///
    /// A missing index is written beside the file; where that is not possible it stays in memory.
    ///
    /// # Errors
    ///
    /// When the file is something else (gzip without blocks, a pipe), is damaged, or its lines differ in
    /// length.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_file(path)?;
        let mut warnings = Vec::new();
        let (contigs, bases) = match kind(&file, path)? {
            Kind::TwoBit => {
                let (two_bit, contigs) = TwoBit::open(file).in_file(path)?;
                (contigs, Bases::TwoBit(two_bit))
            }
            kind => {
                let fasta = Fasta::open(path, file, kind == Kind::Bgzf, &mut warnings)?;
                (fasta.lengths(), Bases::Fasta(Box::new(fasta)))
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut ordinals = HashMap::with_capacity(contigs.len());
        for (ordinal, (contig, _)) in contigs.iter().enumerate() {
            // As samtools has it, the first contig of a name is the one that can be asked for.
            ordinals.entry(contig.clone()).or_insert(ordinal);
        }
        Ok(Self {
            record: Arc::new(provenance::Genome::new(name, contigs)),
            ordinals: Arc::new(ordinals),
            warnings: warnings.into(),
            bases,
        })
    }

    /// Returns what the stream's metadata says about this genome.
    pub fn record(&self) -> &provenance::Genome {
        &self.record
    }

    /// Returns what the user should know about the file and its index, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the length of a contig in bases; `None` when the genome has no such contig.
    pub fn contig_length(&self, name: &str) -> Option<u64> {
        self.ordinals.get(name).map(|&ordinal| self.record.contigs[ordinal].1)
    }

    /// Returns whether reading bases means decoding them (BGZF, 2bit), which threads can share.
    pub fn is_compressed(&self) -> bool {
        match &self.bases {
            Bases::Fasta(fasta) => fasta.is_compressed(),
            Bases::TwoBit(_) => true,
        }
    }

    /// Replaces `bases` by those of `[start, end)` of a contig as upper-case `ACGTN`, with `N` where the
    /// window passes an end of the contig.
    ///
    /// # Errors
    ///
    /// When the contig is unknown or the file cannot be read.
    pub fn fetch(&mut self, chrom: &str, start: i64, end: i64, bases: &mut Vec<u8>) -> Result<()> {
        bases.clear();
        let Some(&ordinal) = self.ordinals.get(chrom) else { return Err(self.unknown_contig(chrom)) };
        let length = self.record.contigs[ordinal].1 as i64;
        let (first, last) = (start.clamp(0, length), end.clamp(0, length));
        let width = usize::try_from(end - start).unwrap_or(0);
        if first >= last {
            bases.resize(width, b'N');
            return Ok(());
        }
        bases.reserve(width);
        bases.resize((first - start) as usize, b'N');
        let filled = bases.len();
        match &mut self.bases {
            Bases::Fasta(fasta) => fasta.append(ordinal, first as u64, last as u64, bases)?,
            Bases::TwoBit(two_bit) => two_bit.append(chrom, first as usize, last as usize, bases)?,
        }
        dna::normalize(&mut bases[filled..]);
        bases.resize(width, b'N');
        Ok(())
    }

    /// Returns the error for a contig that the genome does not have, with a hint where `chr` is the whole
    /// difference.
    pub fn unknown_contig(&self, chrom: &str) -> Error {
        let genome = &self.record.name;
        let other = match chrom.strip_prefix("chr") {
            Some("M") => "MT".to_string(),
            Some(bare) => bare.to_string(),
            None if chrom == "MT" => "chrM".to_string(),
            None => format!("chr{chrom}"),
        };
        let hint = if self.ordinals.contains_key(&other) {
            format!("it has `{other}`: name the contigs alike, or give a --contig-map FILE")
        } else {
            let some: Vec<_> = self.record.contigs.iter().take(3).map(|(name, _)| name.as_str()).collect();
            format!("it has {}, …: is it the right genome?", some.join(", "))
        };
        Error::data(format!("contig `{chrom}` is not in {genome}; {hint}"))
    }
}

/// What a genome file is, by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Bgzf,
    TwoBit,
}

fn open_file(path: &Path) -> Result<Arc<File>> {
    let file = File::open(path).in_file(path)?;
    if !file.metadata().in_file(path)?.is_file() {
        return Err(Error::usage("a genome is read at random, so it must be a file, not a pipe"))
            .in_file(path);
    }
    Ok(Arc::new(file))
}

fn kind(mut file: &File, path: &Path) -> Result<Kind> {
    let mut head = Vec::new();
    file.by_ref().take(1 << 12).read_to_end(&mut head).in_file(path)?;
    let refuse = |what: &str| Err(Error::data(what)).in_file(path);
    match head.as_slice() {
        [0x1F, 0x8B, ..] if bgzf::is_bgzf(&head) => Ok(Kind::Bgzf),
        [0x1F, 0x8B, ..] => refuse(
            "gzip that is not BGZF cannot be read at random: `gunzip` it, then compress it with `bgzip`",
        ),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => {
            refuse("zstd cannot be read at random: decompress it, or compress it with `bgzip`")
        }
        [0x43, 0x27, 0x41, 0x1A, ..] | [0x1A, 0x41, 0x27, 0x43, ..] => Ok(Kind::TwoBit),
        [] => refuse("the file is empty: a genome is FASTA (plain or BGZF) or 2bit"),
        _ => match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'>') => Ok(Kind::Plain),
            Some(b'@') => refuse("this looks like FASTQ: a genome is FASTA (plain or BGZF) or 2bit"),
            _ => refuse("neither FASTA (plain or BGZF) nor 2bit"),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use noodles::bgzf;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::testing::shared;

    /// Two contigs and an empty one, soft-masked, with IUPAC letters; wrapped at `wrap` bases.
    fn random_fasta(seed: u64, wrap: usize, line_end: &str) -> (String, Vec<(String, Vec<u8>)>) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut text = String::new();
        let mut contigs = Vec::new();
        for (name, length) in [("chr1", 200_003), ("empty", 0), ("chr2", 70_000)] {
            let bases: Vec<u8> = (0..length).map(|_| b"ACGTacgtNnRy"[random.random_range(0..12)]).collect();
            text += &format!(">{name} described{line_end}");
            for line in bases.chunks(wrap) {
                text += std::str::from_utf8(line).unwrap();
                text += line_end;
            }
            contigs.push((name.to_string(), bases));
        }
        (text, contigs)
    }

    /// The naive reader: one base at a time.
    fn expected(bases: &[u8], start: i64, end: i64) -> Vec<u8> {
        (start..end)
            .map(|position| match usize::try_from(position).ok().and_then(|at| bases.get(at)) {
                Some(base) if b"ACGT".contains(&base.to_ascii_uppercase()) => base.to_ascii_uppercase(),
                _ => b'N',
            })
            .collect()
    }

    fn write(path: &Path, text: &str, compress: bool) {
        if !compress {
            return std::fs::write(path, text).unwrap();
        }
        let mut writer = bgzf::io::Writer::new(File::create(path).unwrap());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn every_window_is_what_a_naive_reader_finds() {
        let directory = tempfile::tempdir().unwrap();
        for (seed, wrap, line_end, compress) in
            [(1, 60, "\n", false), (2, 61, "\r\n", false), (3, 1 << 20, "\n", true), (4, 50, "\n", true)]
        {
            let (text, contigs) = random_fasta(seed, wrap, line_end);
            let path = directory.path().join(format!("{seed}.fa"));
            write(&path, &text, compress);
            let mut genome = Genome::open(&path).unwrap();
            assert_eq!(genome.warnings(), [""; 0]);
            let mut clone = genome.clone();
            let mut random = StdRng::seed_from_u64(seed);
            let mut bases = Vec::new();
            for _ in 0..300 {
                let (name, contig) = &contigs[random.random_range(0..3)];
                let start = random.random_range(-500..contig.len() as i64 + 500);
                let end = start + [1, 60, 1000, 150_000][random.random_range(0..4)];
                let reader = if random.random() { &mut genome } else { &mut clone };
                reader.fetch(name, start, end, &mut bases).unwrap();
                assert_eq!(bases, expected(contig, start, end), "{name}:{start}-{end} of {seed}");
            }
            assert_eq!(genome.contig_length("chr2"), Some(70_000));
            assert_eq!(genome.contig_length("chr3"), None);
        }
    }

    #[test]
    fn two_bit_and_fasta_of_a_genome_agree() {
        let Some(folder) = shared("data/genome/sacCer3") else { return };
        let mut fasta = Genome::open(&folder.join("sacCer3.fa.gz")).unwrap();
        let mut two_bit = Genome::open(&folder.join("sacCer3.2bit")).unwrap();
        let sorted = |genome: &Genome| {
            let mut contigs = genome.record().contigs.clone();
            contigs.sort();
            contigs
        };
        assert_eq!(sorted(&fasta), sorted(&two_bit));
        let mut random = StdRng::seed_from_u64(7);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..500 {
            let (name, length) = &sorted(&fasta)[random.random_range(0..17)];
            let start = random.random_range(-300..*length as i64 + 300);
            let end = start + random.random_range(0..3000);
            fasta.fetch(name, start, end, &mut a).unwrap();
            two_bit.fetch(name, start, end, &mut b).unwrap();
            assert_eq!(a, b, "{name}:{start}-{end}");
        }
    }

    fn fai(path: &Path) -> PathBuf {
        path.with_added_extension("fai")
    }

    fn age(path: &Path, seconds: u64) {
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn a_missing_index_appears_whole_and_a_wrong_one_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.fa");
        std::fs::write(&path, ">a\nACGT\nAC\n").unwrap();
        assert_eq!(Genome::open(&path).unwrap().warnings(), [""; 0]);
        assert_eq!(std::fs::read_to_string(fai(&path)).unwrap(), "a\t6\t3\t4\t5\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else was left");
        age(&fai(&path), 60);
        let warnings = Genome::open(&path).unwrap().warnings().join("\n");
        assert!(warnings.contains("older than the file, but agrees"), "{warnings}");
        std::fs::write(&path, ">a\nACGTACGT\n").unwrap();
        age(&fai(&path), 60);
        let genome = Genome::open(&path).unwrap();
        assert!(genome.warnings()[0].contains("made anew"), "{:?}", genome.warnings());
        assert_eq!(genome.contig_length("a"), Some(8));
        assert_eq!(std::fs::read_to_string(fai(&path)).unwrap(), "a\t8\t3\t8\t9\n");
    }

    #[test]
    fn an_index_of_another_file_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.fa");
        std::fs::write(&path, ">a\nACGT\nACGT\nACGT\n").unwrap();
        // Longer than the file: seen at once.
        std::fs::write(fai(&path), "a\t600\t3\t4\t5\n").unwrap();
        let genome = Genome::open(&path).unwrap();
        assert!(genome.warnings()[0].contains("another file"), "{:?}", genome.warnings());
        assert_eq!(genome.contig_length("a"), Some(12));
        // Another length of lines: by it the file would be shorter than it is.
        std::fs::write(fai(&path), "a\t12\t3\t12\t13\n").unwrap();
        let (mut genome, mut bases) = (Genome::open(&path).unwrap(), Vec::new());
        assert!(genome.warnings()[0].contains("another file"), "{:?}", genome.warnings());
        genome.fetch("a", 0, 12, &mut bases).unwrap();
        assert_eq!(bases, b"ACGTACGTACGT");
    }

    #[test]
    fn an_index_that_is_not_true_never_gives_bases() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.fa");
        std::fs::write(&path, ">a first\nACGTACGTAC\nGGA\n>b\nTTTT\n\n>c\nCC\n").unwrap();
        Genome::open(&path).unwrap().fetch("c", 0, 2, &mut Vec::new()).unwrap();
        let whole = std::fs::read_to_string(fai(&path)).unwrap();
        let first = "a\t13\t9\t10\t11";
        assert!(whole.starts_with(first), "{whole}");
        // Another name, a base more or less, a base to the left or right, another length of lines.
        for wrong in [
            "x\t13\t9\t10\t11",
            "a\t12\t9\t10\t11",
            "a\t14\t9\t10\t11",
            "a\t13\t8\t10\t11",
            "a\t13\t10\t10\t11",
            "a\t13\t9\t9\t11",
        ] {
            std::fs::write(fai(&path), whole.replace(first, wrong)).unwrap();
            let error = Genome::open(&path).unwrap().fetch(&wrong[..1], 0, 5, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("delete its .fai"), "{wrong}: {error}");
        }
        // An index that was cut lacks a contig: it is made anew.
        std::fs::write(fai(&path), &whole[..whole.find("c\t").unwrap()]).unwrap();
        let genome = Genome::open(&path).unwrap();
        assert_eq!((genome.contig_length("c"), genome.warnings().len()), (Some(2), 1));
        assert_eq!(std::fs::read_to_string(fai(&path)).unwrap(), whole);
    }

    #[test]
    fn a_table_of_blocks_that_is_not_true_never_gives_bases() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.fa.gz");
        let text = format!(">a\n{}\n", "ACGTTGCAAC".repeat(20_000));
        write(&path, &text, true);
        Genome::open(&path).unwrap();
        let gzi = path.with_added_extension("gzi");
        let whole = std::fs::read(&gzi).unwrap();
        // Every number of the table, the inflated offset of the second block among them.
        for number in 1..whole.len() / 8 {
            let mut bytes = whole.clone();
            bytes[8 * number] ^= 1;
            std::fs::write(&gzi, &bytes).unwrap();
            let mut genome = Genome::open(&path).unwrap();
            let mut bases = Vec::new();
            match genome.fetch("a", 0, 200_000, &mut bases) {
                Err(error) => assert!(error.to_string().contains(".gzi"), "{number}: {error}"),
                // It was seen at once, and the table made anew.
                Ok(()) => assert!(genome.warnings().len() == 1 && text.as_bytes()[3..].starts_with(&bases)),
            }
        }
    }

    #[test]
    fn an_index_that_cannot_be_written_stays_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.fa");
        std::fs::write(&path, ">a\nACGT\n").unwrap();
        let mut permissions = std::fs::metadata(directory.path()).unwrap().permissions();
        permissions.set_mode(0o555);
        std::fs::set_permissions(directory.path(), permissions.clone()).unwrap();
        let mut genome = Genome::open(&path).unwrap();
        permissions.set_mode(0o755);
        std::fs::set_permissions(directory.path(), permissions).unwrap();
        assert!(genome.warnings()[0].contains("kept in memory"), "{:?}", genome.warnings());
        assert!(!fai(&path).exists(), "not even the superuser writes into a read-only folder");
        let mut bases = Vec::new();
        genome.fetch("a", 1, 3, &mut bases).unwrap();
        assert_eq!(bases, b"CG");
    }

    #[test]
    fn the_indexes_of_bgzf_are_those_that_samtools_made() {
        let Some(folder) = shared("data/genome") else { return };
        let directory = tempfile::tempdir().unwrap();
        for name in
            ["sacCer3/sacCer3.fa.gz", "hg19_chr10_110kb/chr10.fa.gz", "hg19_windows/windows_1kb.fa.gz"]
        {
            let path = directory.path().join("g.fa.gz");
            std::fs::write(&path, std::fs::read(folder.join(name)).unwrap()).unwrap();
            Genome::open(&path).unwrap();
            for suffix in ["fai", "gzi"] {
                let made = std::fs::read(path.with_added_extension(suffix)).unwrap();
                let expected = std::fs::read(folder.join(name).with_added_extension(suffix)).unwrap();
                assert!(made == expected, "{name}.{suffix}");
                std::fs::remove_file(path.with_added_extension(suffix)).unwrap();
            }
        }
    }

    #[test]
    fn regions_are_those_of_samtools_faidx() {
        let Some(cases) = shared("data/benchmarks/peer_cases/htslib_faidx") else { return };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faidx.fa");
        std::fs::write(&path, std::fs::read(cases.join("faidx.fa")).unwrap()).unwrap();
        let mut genome = Genome::open(&path).unwrap();
        let expected = std::fs::read_to_string(cases.join("faidx.1.expected.fa")).unwrap();
        for record in expected.split('>').skip(1) {
            let (header, sequence) = record.split_once('\n').unwrap();
            let region: crate::region::Region = header.split(' ').next().unwrap().parse().unwrap();
            let mut bases = Vec::new();
            genome.fetch(&region.chrom, region.start, region.end, &mut bases).unwrap();
            assert_eq!(String::from_utf8(bases).unwrap(), sequence.trim_end(), "{header}");
        }
    }

    #[test]
    fn what_is_no_genome_is_refused_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("g.fa");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b">a\nACGT\n").unwrap();
        let mut bgzf = bgzf::io::Writer::new(Vec::new());
        bgzf.write_all(b">a\nACGT\n").unwrap();
        let whole = bgzf.finish().unwrap();
        for (bytes, remedy) in [
            (gzip.finish().unwrap(), "`bgzip`"),
            (zstd::encode_all(&b">a\nACGT\n"[..], 1).unwrap(), "`bgzip`"),
            (whole[..whole.len() - 28].to_vec(), "cut short"),
            (b"@read\nACGT\n+\nIIII\n".to_vec(), "FASTQ"),
            (b"chr1\t1\t2\n".to_vec(), "neither FASTA"),
            (b"\x43\x27\x41\x1A\x00".to_vec(), "2bit"),
            (Vec::new(), "empty"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = Genome::open(&path).err().unwrap().to_string();
            assert!(error.contains("g.fa: ") && error.contains(remedy), "{error}");
        }
        assert_eq!(Genome::open(directory.path()).err().unwrap().exit_status(), 2);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        let (text, _) = random_fasta(9, 60, "\n");
        let whole = directory.path().join("whole.fa.gz");
        write(&whole, &text, true);
        Genome::open(&whole).unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        let path = directory.path().join("cut.fa.gz");
        let mut random = StdRng::seed_from_u64(9);
        for _ in 0..50 {
            let cut = random.random_range(0..bytes.len());
            std::fs::write(&path, &bytes[..cut]).unwrap();
            for suffix in ["fai", "gzi"] {
                std::fs::copy(whole.with_added_extension(suffix), path.with_added_extension(suffix)).unwrap();
            }
            // The last bases of the file are behind every cut.
            let outcome =
                Genome::open(&path).and_then(|mut genome| genome.fetch("chr2", 0, 70_000, &mut Vec::new()));
            assert!(outcome.is_err(), "cut at {cut} of {}", bytes.len());
        }
    }
}
