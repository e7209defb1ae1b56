//! The rows of every reader against the regions files that Fi-NeMo made from the same sources.

use std::path::{Path, PathBuf};

use super::*;
use crate::schema::strings;
use crate::testing::shared;

fn spi1(name: &str) -> Option<PathBuf> {
    shared(&format!("data/contribs/spi1_gm12878/{name}"))
}

/// One row, to compare.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    region: u64,
    chrom: Option<String>,
    start: i64,
    name: Option<String>,
    sequence: String,
    status: String,
    contributions: Vec<f32>,
    hypothetical: Vec<f32>,
}

fn rows(pipe: Pipe) -> Vec<Seen> {
    let mut seen = Vec::new();
    for batch in pipe.into_parts().1 {
        seen.extend(batch_rows(&batch.unwrap()));
    }
    seen
}

fn batch_rows(batch: &arrow_array::RecordBatch) -> Vec<Seen> {
    let text = |name: &str, row: usize| {
        let texts = strings(batch, name).unwrap();
        arrow_array::Array::is_valid(texts, row).then(|| texts.value(row).to_string())
    };
    let floats = |name: &str, row: usize| match schema::has(&batch.schema(), name) {
        true => schema::float_items(schema::lists(batch, name).unwrap(), row).unwrap().to_vec(),
        false => Vec::new(),
    };
    let row = |row: usize| Seen {
        region: schema::u64s(batch, schema::REGION).unwrap().value(row),
        chrom: text(schema::CHROM, row),
        start: schema::i64s(batch, schema::START).unwrap().value(row),
        name: text(schema::NAME, row),
        sequence: text(schema::SEQUENCE, row).unwrap(),
        status: text(schema::STATUS, row).unwrap(),
        contributions: floats(schema::CONTRIBUTIONS, row),
        hypothetical: floats(schema::HYPOTHETICAL, row),
    };
    (0..batch.num_rows()).map(row).collect()
}

fn regions(file: &Path, batch_rows: usize) -> Vec<Seen> {
    let (arrays, windows, width) = finemo_regions(file, None).unwrap();
    rows(from_arrays(arrays, windows, width, None, batch_rows).unwrap())
}

fn assert_same(ours: &[Seen], theirs: &[Seen]) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        let identity = |row: &Seen| (row.region, row.chrom.clone(), row.start, row.name.clone());
        assert_eq!(identity(a), identity(b));
        assert_eq!(a.sequence, b.sequence, "region {}", a.region);
        assert_eq!(a.status, b.status, "region {}", a.region);
        assert_close(&a.contributions, &b.contributions);
        assert_close(&a.hypothetical, &b.hypothetical);
    }
}

/// Fi-NeMo rounds to float16: half a unit of 11 bits, and 3e-8 where float16 has no more bits.
fn assert_close(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= b.abs() / 2047.0 + 3.1e-8, "{a} {b}");
    }
}

#[test]
fn every_array_reader_gives_the_rows_of_finemo() {
    let Some(golden) = spi1("peaks.regions.npz") else { return };
    let golden = regions(&golden, 7);
    assert_eq!(golden.len(), 40);
    assert_eq!(golden[0].hypothetical.len(), 4000);
    let file = |name: &str| spi1(name).unwrap();
    let peaks = || Some(around_summits(&file("peaks.narrowPeak"), 1000).unwrap());
    for arrays in [
        chrombpnet(&[file("peaks.chrombpnet.h5")]).unwrap(),
        bpnet(&[file("peaks.bpnet.h5")]).unwrap(),
        numpy(&file("peaks.ohe.npz"), &[file("peaks.hyp.npz")]).unwrap(),
        // The mean of equal files is that file.
        chrombpnet(&[file("peaks.chrombpnet.h5"), file("peaks.chrombpnet.h5")]).unwrap(),
    ] {
        assert_same(&rows(from_arrays(arrays, peaks(), 1000, None, 16).unwrap()), &golden);
    }
    let own = bpnet_windows(&file("peaks.bpnet.h5"), 1000).unwrap();
    assert_eq!(own, peaks(), "the coordinates in the file are those of the peaks");
}

#[test]
fn a_narrower_width_is_the_middle_of_the_wide_rows() {
    let Some(file) = spi1("peaks.chrombpnet.h5") else { return };
    let wide =
        rows(from_arrays(chrombpnet(std::slice::from_ref(&file)).unwrap(), None, 1000, None, 16).unwrap());
    for width in [1, 100, 401] {
        let first = 500 - width / 2;
        for (row, wide) in
            rows(from_arrays(chrombpnet(std::slice::from_ref(&file)).unwrap(), None, width, None, 3).unwrap())
                .iter()
                .zip(&wide)
        {
            assert_eq!(row.sequence, wide.sequence[first..first + width]);
            assert_eq!(row.contributions, wide.contributions[first..first + width]);
            assert_eq!(row.hypothetical[3 * width], wide.hypothetical[3000 + first]);
        }
    }
    let error = from_arrays(chrombpnet(&[file]).unwrap(), None, 1001, None, 16).err().unwrap().to_string();
    assert!(error.contains("--width 1000") && error.contains("raw/seq"), "{error}");
}

#[test]
fn rows_do_not_depend_on_the_batch_size() {
    let Some(file) = shared("golden/finemo/overlap600/regions.npz") else { return };
    let whole = regions(&file, 1000);
    assert_eq!(whole.len(), 90);
    for batch_rows in [1, 7, 89, 90] {
        assert_eq!(regions(&file, batch_rows), whole);
    }
}

#[test]
fn rows_with_n_and_without_numbers_stay_with_their_status() {
    let Some(file) = shared("golden/finemo/edge/regions.npz") else { return };
    let rows = regions(&file, 3);
    assert_eq!(rows.len(), 8);
    let broken = |row: &&Seen| row.hypothetical.iter().any(|value| !value.is_finite());
    assert!(rows.iter().filter(broken).count() >= 2, "the file has a region with inf and one with NaN");
    for row in &rows {
        let all_n = row.sequence.bytes().all(|base| base == b'N');
        let expected = if broken(&row) { "nonfinite" } else { ["ok", "all_n"][usize::from(all_n)] };
        assert_eq!(row.status, expected, "region {}", row.region);
        let observed = row.sequence.bytes().zip(&row.contributions);
        assert!(observed.filter(|(base, _)| *base == b'N').all(|(_, value)| *value == 0.0));
    }
    assert!(rows.iter().any(|row| row.sequence.contains('N')), "the file has a region with N");
}

#[test]
fn regions_without_coordinates_are_numbered() {
    let Some(file) = shared("golden/finemo/real_CTCFL/regions.npz") else { return };
    let rows = regions(&file, 100);
    assert_eq!(rows.len(), 899);
    assert!(rows.iter().enumerate().all(|(n, row)| row.region == n as u64 && row.chrom.is_none()));
}

#[test]
fn projected_regions_agree_with_hypothetical_ones() {
    let Some(folder) = shared("golden/finemo/synth1000_sub100") else { return };
    let hypothetical = regions(&folder.join("regions.npz"), 30);
    let projected = regions(&folder.join("regions_projected.npz"), 30);
    assert_eq!(hypothetical.len(), 100);
    for (a, b) in hypothetical.iter().zip(&projected) {
        assert_eq!(a.contributions, b.contributions);
        assert_eq!(a.sequence, b.sequence);
        assert!(b.hypothetical.is_empty());
    }
}

#[test]
fn peaks_that_are_not_those_of_the_arrays_are_refused() {
    let Some(file) = spi1("peaks.chrombpnet.h5") else { return };
    let windows = around_summits(&spi1("windows.narrowPeak").unwrap(), 1000).unwrap();
    let arrays = chrombpnet(&[file]).unwrap();
    let error = from_arrays(arrays, Some(windows), 1000, None, 16).err().unwrap().to_string();
    assert!(error.contains("40 rows") && error.contains("400 peaks"), "{error}");
}

#[test]
fn a_cut_or_damaged_archive_is_an_error_that_names_it() {
    let Some(file) = spi1("peaks.regions.npz") else { return };
    let whole = std::fs::read(file).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.npz");
    let outcome = |bytes: &[u8]| -> Result<usize> {
        std::fs::write(&path, bytes).unwrap();
        let (arrays, windows, width) = finemo_regions(&path, None)?;
        let batches = from_arrays(arrays, windows, width, None, 16)?.into_parts().1;
        batches.map(|batch| Ok(batch?.num_rows())).sum()
    };
    assert_eq!(outcome(&whole).unwrap(), 40);
    for cut in [3, 100, whole.len() / 2, whole.len() - 1] {
        let error = outcome(&whole[..cut]).expect_err("a cut file passed").to_string();
        assert!(error.contains("broken.npz"), "{error}");
    }
    for place in [whole.len() / 10, whole.len() / 2] {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        let error = outcome(&damaged).expect_err("a damaged file passed").to_string();
        assert!(error.contains("broken.npz"), "{error}");
    }
}

#[test]
fn the_bigwig_reader_gives_the_rows_of_finemo() {
    let Some(golden) = spi1("peaks.from_bigwig.regions.npz") else { return };
    let genome = Genome::open(&shared("data/genome/hg19_chr20_1Mb/chr20.fa.gz").unwrap()).unwrap();
    let windows = around_summits(&spi1("peaks.narrowPeak").unwrap(), 1000).unwrap();
    let bigwig = spi1("peaks.contrib.chr20.hg19.bw").unwrap();
    for files in [vec![bigwig.clone()], vec![bigwig.clone(), bigwig.clone()]] {
        let pipe = from_bigwig(&files, genome.clone(), windows.clone(), 1000, 16).unwrap();
        assert!(provenance::Genome::of(pipe.schema()).unwrap().is_some());
        assert_same(&rows(pipe), &regions(&golden, 40));
    }
}

#[test]
fn windows_past_the_ends_of_a_contig_are_padded_and_unknown_contigs_kept() {
    let Some(bigwig) = spi1("peaks.contrib.chr20.hg19.bw") else { return };
    let genome = Genome::open(&shared("data/genome/hg19_chr20_1Mb/chr20.fa.gz").unwrap()).unwrap();
    let length = genome.contig_length("chr20").unwrap() as i64;
    let window = |chrom: &str, start| Window { start, chrom: Some(chrom.into()), ..Window::unknown(0) };
    let windows = vec![window("chr20", -500), window("chr20", length - 10), window("chrNone", 5)];
    let pipe = from_bigwig(&[bigwig], genome, windows, 1001, 2).unwrap();
    let batches: Vec<_> = pipe.into_parts().1.map(|batch| batch.unwrap()).collect();
    let padded = batch_rows(&batches[0]);
    for row in padded {
        assert_eq!((row.sequence.len(), row.contributions.len()), (1001, 1001));
        assert_eq!(row.status, "all_n", "this genome is N at its ends");
    }
    assert_eq!(strings(&batches[1], schema::STATUS).unwrap().value(0), "unknown_contig");
    let contributions = schema::lists(&batches[1], schema::CONTRIBUTIONS).unwrap();
    assert!(arrow_array::Array::is_null(contributions, 0));
}

#[test]
fn the_genome_refuses_the_sequences_of_other_peaks() {
    let Some(file) = spi1("peaks.chrombpnet.h5") else { return };
    let genome = Genome::open(&shared("data/genome/hg19_chr20_1Mb/chr20.fa.gz").unwrap()).unwrap();
    let mut windows = around_summits(&spi1("peaks.narrowPeak").unwrap(), 1000).unwrap();
    let outcome = |windows: &[Window]| -> Result<usize> {
        let arrays = chrombpnet(std::slice::from_ref(&file))?;
        let pipe = from_arrays(arrays, Some(windows.to_vec()), 1000, Some(genome.clone()), 16)?;
        pipe.into_parts().1.map(|batch| Ok(batch?.num_rows())).sum()
    };
    assert_eq!(outcome(&windows).unwrap(), 40);
    windows.swap(20, 21);
    let error = outcome(&windows).unwrap_err().to_string();
    assert!(error.contains("region 21 at chr20:") && error.contains("differs from the genome"), "{error}");
}
