//! Rows of `nyx-extract regions`.

use std::collections::HashMap;
use std::sync::Arc;

use super::shard::{Census, Shard};
use super::windows::{self, Dropped, NPolicy, Window};
use crate::error::Result;
use crate::genome::Genome;
use crate::genome::bed::{Interval, IntervalSet};
use crate::pipe::Pipe;
use crate::provenance::Share;
use crate::region::{Region, Strand};

/// Which strands of an interval become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strands {
    /// As the reference is written, whatever the interval says.
    #[default]
    Reference,
    /// The interval's own: reverse-complemented when it is `-`.
    Own,
    /// Two rows of the same region, `+` and then `-`.
    Both,
}

/// How intervals become windows.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Width of the window around the summit or midpoint; 0 keeps the interval.
    pub width: i64,
    /// Which strands to read.
    pub strands: Strands,
    /// Contig names of the intervals → those of the genome; a name without an entry stays.
    pub contig_map: HashMap<String, String>,
    /// Keep only intervals that overlap these, in names of the genome.
    pub within: Option<IntervalSet>,
    /// Drop windows that overlap these, in names of the genome.
    pub exclude: IntervalSet,
    /// Take only these of the intervals; all without it.
    pub share: Option<Share>,
    /// How windows become rows.
    pub rows: windows::Options,
}

/// Returns what a shard takes of the intervals, as many bases as others where it can be.
///
/// # Errors
///
/// Those of the intervals.
pub fn share(
    intervals: impl Iterator<Item = Result<Interval>>,
    shard: Shard,
    options: &Options,
) -> Result<Share> {
    let mut census = Census::default();
    for (interval, region) in intervals.zip(0..) {
        let interval = interval?;
        let width = if options.width == 0 { interval.end - interval.start } else { options.width };
        census.add(region, width.max(0) as u64);
    }
    let sparse = options.within.is_some()
        || options.exclude.contigs().next().is_some()
        || options.rows.n_policy == NPolicy::Drop;
    Ok(Share { sparse, ..census.share(shard) })
}

/// Makes a row (two, for both strands) of each interval; the `region` column is the interval's ordinal before any
/// was dropped.
pub fn regions(
    genome: Genome,
    intervals: impl Iterator<Item = Result<Interval>> + Send + 'static,
    options: Options,
    dropped: Arc<Dropped>,
) -> Pipe {
    let rows = options.rows;
    let counts = dropped.clone();
    let (first, end) = options.share.map_or((0, u64::MAX), |share| (share.first, share.end));
    // An interval that cannot be read is an error of every shard that reads so far.
    let mine =
        (0..end).zip(intervals).filter(move |(region, interval)| *region >= first || interval.is_err());
    let windows = mine.flat_map(move |(region, interval)| match interval {
        Ok(interval) => windows_of(interval, region, &options, &counts),
        Err(error) => vec![Err(error)],
    });
    windows::rows(genome, windows, rows, dropped)
}

fn windows_of(interval: Interval, region: u64, options: &Options, dropped: &Dropped) -> Vec<Result<Window>> {
    let chrom = options.contig_map.get(&interval.chrom).unwrap_or(&interval.chrom);
    let (start, end) = match options.width {
        0 => (interval.start, interval.end),
        width => {
            let window = Region::around("", interval.center(), width);
            (window.start, window.end)
        }
    };
    let strands: &[Strand] = match options.strands {
        Strands::Reference => &[Strand::Unknown],
        Strands::Own => &[interval.strand],
        Strands::Both => &[Strand::Forward, Strand::Reverse],
    };
    let elsewhere = |within: &IntervalSet| !within.overlaps(chrom, interval.start, interval.end);
    let counter = if options.within.as_ref().is_some_and(elsewhere) {
        &dropped.elsewhere
    } else if options.exclude.overlaps(chrom, start, end) {
        &dropped.excluded
    } else {
        let chrom: Arc<str> = chrom.as_str().into();
        let name = interval.name;
        let window =
            |&strand| Ok(Window { region, chrom: chrom.clone(), start, end, strand, name: name.clone() });
        return strands.iter().map(window).collect();
    };
    Dropped::add(counter, strands.len() as u64);
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::windows::tests::{genome, read};
    use super::super::windows::{Edge, NPolicy, UnknownContig};
    use super::*;
    use crate::genome::bed::{Columns, Reader};
    use crate::testing::shared;

    fn run(bed: &'static str, options: Options) -> Result<Vec<String>> {
        let genome = genome(&[("chr1", "ACGTTGCAAC"), ("chr2", "NNNNGGTTnA")]);
        let intervals = Reader::new(bed.as_bytes(), "p.bed", Columns::All);
        read(regions(genome, intervals, options, Arc::default()))
    }

    fn rows(options: windows::Options) -> Options {
        Options { rows: options, ..Options::default() }
    }

    #[test]
    fn windows_have_their_centre_on_the_summit_or_the_midpoint() {
        let bed = "chr1\t2\t7\nchr1\t1\t9\tp\t0\t-\t0\t0\t0\t6\nchr1\t1\t9\tp\t0\t-\t0\t0\t0\t-1\n";
        let options = Options { width: 4, ..Options::default() };
        assert_eq!(
            run(bed, options).unwrap(),
            ["0 chr1:2-6. GTTG ok", "1 chr1:5-9. GCAA ok", "2 chr1:3-7. TTGC ok"]
        );
        let options = Options { width: 3, ..Options::default() };
        assert_eq!(run("chr1\t2\t7\n", options).unwrap(), ["0 chr1:3-6. TTG ok"]);
    }

    #[test]
    fn windows_past_the_contig_are_padded_or_refused() {
        let bed = "chr1\t0\t2\nchr1\t9\t10\n";
        let mut options = Options { width: 6, ..Options::default() };
        assert_eq!(
            run(bed, options.clone()).unwrap(),
            ["0 chr1:-2-4. NNACGT off_contig", "1 chr1:6-12. CAACNN off_contig"]
        );
        options.rows.edge = Edge::Error;
        let error = run(bed, options).unwrap_err().to_string();
        assert!(error.contains("region 0") && error.contains("--edge pad"), "{error}");
    }

    #[test]
    fn a_reverse_strand_is_read_backwards_only_when_asked() {
        let bed = "chr1\t0\t4\ta\t0\t-\nchr1\t0\t3\tb\t0\t+\n";
        let strands = |strands| run(bed, Options { strands, ..Options::default() }).unwrap();
        assert_eq!(strands(Strands::Reference), ["0 chr1:0-4. ACGT ok", "1 chr1:0-3. ACG ok"]);
        assert_eq!(strands(Strands::Own), ["0 chr1:0-4- ACGT ok", "1 chr1:0-3+ ACG ok"]);
        assert_eq!(
            strands(Strands::Both)[2..],
            ["1 chr1:0-3+ ACG ok".to_string(), "1 chr1:0-3- CGT ok".to_string()]
        );
    }

    #[test]
    fn n_is_kept_marked_or_dropped_without_renumbering() {
        let bed = "chr2\t0\t4\nchr2\t2\t6\nchr2\t4\t8\n";
        let policy = |n_policy| run(bed, rows(windows::Options { n_policy, ..Default::default() })).unwrap();
        let ok = "2 chr2:4-8. GGTT ok".to_string();
        assert_eq!(
            policy(NPolicy::Keep),
            ["0 chr2:0-4. NNNN all_n", "1 chr2:2-6. NNGG ok", "2 chr2:4-8. GGTT ok"]
        );
        assert_eq!(policy(NPolicy::Status)[1], "1 chr2:2-6. NNGG has_n");
        assert_eq!(policy(NPolicy::Drop), [ok]);
    }

    #[test]
    fn an_unknown_contig_is_an_error_with_a_hint_or_a_status() {
        let bed = "chr1\t0\t2\n1\t0\t2\n";
        let error = run(bed, Options::default()).unwrap_err().to_string();
        assert!(error.contains("region 1") && error.contains("it has `chr1`"), "{error}");
        let unknown = rows(windows::Options { unknown: UnknownContig::Status, ..Default::default() });
        assert_eq!(run(bed, unknown).unwrap()[1], "1 1:0-2. null unknown_contig");
        let contig_map = HashMap::from([("1".to_string(), "chr1".to_string())]);
        let mapped = run(bed, Options { contig_map, ..Options::default() }).unwrap();
        assert_eq!(mapped[1], "1 chr1:0-2. AC ok");
    }

    #[test]
    fn filters_count_what_they_take_and_keep_ordinals() {
        let bed = "chr1\t0\t2\nchr1\t4\t6\nchr1\t8\t10\nchr2\t4\t6\n";
        let genome = genome(&[("chr1", "ACGTTGCAAC"), ("chr2", "NNNNGGTTnA")]);
        let options = Options {
            within: Some([Interval::new("chr1", 0, 10)].into_iter().collect()),
            exclude: [Interval::new("chr1", 5, 6)].into_iter().collect(),
            ..Options::default()
        };
        let dropped = Arc::new(Dropped::default());
        let intervals = Reader::new(bed.as_bytes(), "p.bed", Columns::All);
        let rows = read(regions(genome, intervals, options, dropped.clone())).unwrap();
        assert_eq!(rows, ["0 chr1:0-2. AC ok", "2 chr1:8-10. AC ok"]);
        let said = "2 rows dropped: 1 in excluded intervals, 1 outside the regions asked for";
        assert_eq!(dropped.to_string(), said);
    }

    #[test]
    fn rows_do_not_depend_on_the_batch_size_and_an_error_is_the_last_item() {
        let bed = "chr1\t0\t2\nchr2\t0\t2\nchr1\t3\t9\nchr2\t4\t6\nchr1\t5\t5\n";
        let batches = |batch_rows, width| {
            let rows = windows::Options { batch_rows, ..Default::default() };
            run(bed, Options { width, rows, ..Options::default() })
        };
        let all = batches(1000, 5).unwrap();
        assert_eq!(all.len(), 5);
        for batch_rows in 1..6 {
            assert_eq!(batches(batch_rows, 5).unwrap(), all);
        }
        let error = batches(2, 0).unwrap_err().to_string();
        assert!(error.contains("region 4") && error.contains("empty"), "{error}");
    }

    #[test]
    fn shards_take_as_many_bases_each_and_keep_ordinals() {
        let bed = "chr1\t0\t6\nchr1\t1\t2\nchr1\t2\t3\nchr2\t4\t6\n";
        let read_share = |part| {
            let intervals = Reader::new(bed.as_bytes(), "p.bed", Columns::All);
            let share = share(intervals, Shard::new(part, 2).unwrap(), &Options::default()).unwrap();
            (share, run(bed, Options { share: Some(share), ..Options::default() }).unwrap())
        };
        let (first, second) = (read_share(1), read_share(2));
        assert_eq!(first.1, ["0 chr1:0-6. ACGTTG ok"]);
        assert_eq!(second.1, ["1 chr1:1-2. C ok", "2 chr1:2-3. G ok", "3 chr2:4-6. GG ok"]);
        assert_eq!((first.0.end, second.0.first, second.0.end, second.0.total), (1, 1, 4, 4));
    }

    #[test]
    fn sequences_are_those_of_bedtools() {
        let Some(cases) = shared("data/benchmarks/peer_cases/bedtools_getfasta") else { return };
        let read_case = |fasta: &str, bed: &str, strands| {
            let genome = Genome::open(&cases.join(fasta)).unwrap();
            let bed = std::fs::read(cases.join(bed)).unwrap();
            let intervals = Reader::new(std::io::Cursor::new(bed), "case", Columns::All);
            read(regions(genome, intervals, Options { strands, ..Options::default() }, Arc::default()))
                .unwrap()
        };
        // Cases t08, t09, t11 and t13a of cases.tsv, in upper case and with N for IUPAC letters.
        let plus = read_case("test.iupac.fa", "test.iupac.bed", Strands::Reference);
        assert_eq!(plus, ["0 1:0-16. AGCTNNNNNNNNNNNN ok", "1 2:0-16. AGCTNNNNNNNNNNNN ok"]);
        let minus = read_case("test.iupac.fa", "test.iupac.bed", Strands::Own);
        assert_eq!(minus, ["0 1:0-16- NNNNNNNNNNNNAGCT ok", "1 2:0-16- NNNNNNNNNNNNAGCT ok"]);
        let blocks = read_case("t.fa", "blocks.bed", Strands::Own);
        assert!(blocks[0].contains("AGGGGGGGGGCGGGGGGGGGTGGGGGGGGGAGGGGGGGGG"), "{blocks:?}");
        assert!(blocks[1].contains("CCCCCCCCCTCCCCCCCCCACCCCCCCCCGCCCCCCCCCT"), "{blocks:?}");
        let compressed = read_case("t.fa.gz", "blocks.bed", Strands::Own);
        assert_eq!(compressed, blocks);
    }

    #[test]
    fn an_absurd_interval_is_an_error_and_not_an_allocation() {
        let error = run("chr1\t0\t99999999999999\n", Options::default()).unwrap_err().to_string();
        assert!(error.contains("too many for a row"), "{error}");
    }

    #[test]
    fn sequences_are_those_of_bed2fasta() {
        let Some(cases) = shared("data/benchmarks/peer_cases/meme_bed2fasta") else { return };
        let bed = std::fs::read_to_string(cases.join("a.bed")).unwrap();
        let genome = Genome::open(&cases.join("tiny_genome.fa")).unwrap();
        // bed2fasta leaves out what nyx refuses (bad coordinates) or pads, and takes any odd strand for `+`.
        let parse = |line: &str, columns| Reader::new(line.as_bytes(), "a.bed", columns).next()?.ok();
        let kept =
            bed.lines().filter_map(|line| parse(line, Columns::All).or_else(|| parse(line, Columns::Three)));
        let length = |chrom: &str| genome.contig_length(chrom).map(|length| length as i64);
        let kept: Vec<_> =
            kept.filter(|one| length(&one.chrom).is_some_and(|length| one.end <= length)).collect();
        let options = Options { strands: Strands::Own, ..Options::default() };
        let rows = read(regions(genome, kept.into_iter().map(Ok), options, Arc::default())).unwrap();
        let expected = std::fs::read_to_string(cases.join("bed2fasta2.fa")).unwrap().to_ascii_uppercase();
        let expected: Vec<_> = expected.lines().filter(|line| !line.starts_with('>')).collect();
        let found: Vec<_> = rows.iter().map(|row| row.split(' ').nth(2).unwrap()).collect();
        assert_eq!(found, expected);
    }
}
