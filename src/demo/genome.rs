//! The synthetic genome: random bases, and motif instances planted in half of its peaks.

use super::random::SplitMix;
use super::{MOTIFS, WINDOW};
use crate::dna::{BASES, reverse_complement};
use crate::region::Strand;

/// Contig names and lengths in bases.
const CONTIGS: [(&str, usize); 3] = [("demo1", 180_000), ("demo2", 130_000), ("demo3", 90_000)];
/// Probabilities of A, C, G and T in the background: 42 % GC.
const BACKGROUND: [f64; 4] = [0.29, 0.21, 0.21, 0.29];
/// There is one peak in every stretch of this many bases.
const SPACING: usize = 1000;
/// Most instances planted in one peak.
const INSTANCES_MAX: usize = 3;
/// Planted instances keep this many bases between each other.
const GAP: usize = 6;
/// Planted instances keep this many bases from the ends of the window that the network reads.
const MARGIN: usize = 15;

/// A motif to plant: its name, and the probabilities of A, C, G and T at each position.
#[derive(Clone, Debug)]
pub struct Planting {
    /// The motif's name.
    pub name: String,
    /// One row per position.
    pub probabilities: Vec<[f64; 4]>,
}

/// A called peak of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Contig.
    pub chrom: String,
    /// First base, 0-based.
    pub start: usize,
    /// One past the last base.
    pub end: usize,
    /// The base of the summit, 0-based.
    pub summit: usize,
    /// Unique name.
    pub name: String,
    /// How many instances were planted here.
    pub instances: usize,
}

/// A planted motif instance, the truth that hits are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Contig.
    pub chrom: String,
    /// First base, 0-based.
    pub start: usize,
    /// One past the last base.
    pub end: usize,
    /// The motif's name.
    pub motif: String,
    /// Strand on which the motif reads.
    pub strand: Strand,
}

/// The genome, its peaks and what was planted, in coordinate order.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// Contig names and upper-case bases.
    pub contigs: Vec<(String, Vec<u8>)>,
    /// All peaks; about half hold planted instances.
    pub peaks: Vec<Peak>,
    /// All planted instances.
    pub planted: Vec<Instance>,
}

/// Makes the genome of `seed`; the same bytes in every release and on every machine.
pub fn synthesize(seed: u64) -> Synthetic {
    let mut random = SplitMix::new(seed);
    let plantings = plantings();
    let mut genome = Synthetic { contigs: Vec::new(), peaks: Vec::new(), planted: Vec::new() };
    for (chrom, length) in CONTIGS {
        let mut bases: Vec<u8> = (0..length).map(|_| BASES[random.category(&BACKGROUND)]).collect();
        for slot in (0..length).step_by(SPACING) {
            let number = genome.peaks.len() + 1;
            let mut peak = place_peak(&mut random, chrom, slot, number);
            if random.uniform() < 0.5 {
                let planted = plant(&mut random, &plantings, &peak, &mut bases);
                peak.instances = planted.len();
                genome.planted.extend(planted);
            }
            genome.peaks.push(peak);
        }
        genome.contigs.push((chrom.into(), bases));
    }
    genome
}

/// Reads the matrices of [`MOTIFS`].
pub fn plantings() -> Vec<Planting> {
    let mut plantings: Vec<Planting> = Vec::new();
    for line in MOTIFS.lines() {
        if let Some(name) = line.strip_prefix("MOTIF ") {
            plantings.push(Planting { name: name.trim().into(), probabilities: Vec::new() });
        } else if let Some(planting) = plantings.last_mut() {
            let row: Vec<f64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
            if let Ok(row) = row.try_into() {
                planting.probabilities.push(row);
            }
        }
    }
    plantings
}

/// Places a peak of 200 to 320 bases somewhere in the middle of its stretch.
fn place_peak(random: &mut SplitMix, chrom: &str, slot: usize, number: usize) -> Peak {
    let summit = slot + SPACING / 3 + random.below(SPACING / 3);
    let start = summit - 100 - random.below(60);
    let end = summit + 100 + random.below(60);
    Peak { chrom: chrom.into(), start, end, summit, name: format!("peak{number:03}"), instances: 0 }
}

/// Writes one to three instances into the window around the peak's summit.
fn plant(random: &mut SplitMix, plantings: &[Planting], peak: &Peak, bases: &mut [u8]) -> Vec<Instance> {
    let wanted = 1 + random.below(INSTANCES_MAX);
    let window = peak.summit - WINDOW / 2..peak.summit + WINDOW / 2;
    let mut planted: Vec<Instance> = Vec::new();
    while planted.len() < wanted {
        let planting = &plantings[random.below(plantings.len())];
        let width = planting.probabilities.len();
        let start = window.start + MARGIN + random.below(WINDOW - 2 * MARGIN - width);
        let end = start + width;
        let strand = if random.uniform() < 0.5 { Strand::Forward } else { Strand::Reverse };
        let word = draw(random, planting, strand);
        if planted.iter().any(|other| start < other.end + GAP && other.start < end + GAP) {
            continue;
        }
        bases[start..end].copy_from_slice(&word);
        let motif = planting.name.clone();
        planted.push(Instance { chrom: peak.chrom.clone(), start, end, motif, strand });
    }
    planted.sort_by_key(|instance| instance.start);
    planted
}

/// Draws an instance of a motif, as it reads on the forward strand of the genome.
fn draw(random: &mut SplitMix, planting: &Planting, strand: Strand) -> Vec<u8> {
    let mut word: Vec<u8> = planting.probabilities.iter().map(|row| BASES[random.category(row)]).collect();
    if strand == Strand::Reverse {
        reverse_complement(&mut word);
    }
    word
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::demo::{SEED, text};
    use crate::dna::base_index;
    use crate::provenance::hexadecimal;

    #[test]
    fn the_genome_is_the_same_in_every_release() {
        // The digests are printed by scripts/demo_genome.py, which shares no code with this module.
        let genome = synthesize(SEED);
        let digest = |text: String| hexadecimal(&Sha256::digest(text))[..16].to_string();
        assert_eq!(digest(text::fasta(&genome)), "6afec99f284ba211");
        assert_eq!(digest(text::truth_bed(&genome)), "2907ad787890a338");
    }

    #[test]
    fn every_planted_instance_reads_like_its_motif() {
        let genome = synthesize(SEED);
        let plantings = plantings();
        for instance in &genome.planted {
            let contig = &genome.contigs.iter().find(|(name, _)| *name == instance.chrom).unwrap().1;
            let mut word = contig[instance.start..instance.end].to_vec();
            if instance.strand == Strand::Reverse {
                reverse_complement(&mut word);
            }
            let rows = &plantings.iter().find(|p| p.name == instance.motif).unwrap().probabilities;
            assert_eq!(rows.len(), word.len());
            let odds = |word: &[u8]| -> f64 {
                let score = |(base, row): (&u8, &[f64; 4])| (row[base_index(*base).unwrap()] / 0.25).log2();
                word.iter().zip(rows).map(score).sum()
            };
            reverse_complement(&mut word);
            let other_strand = odds(&word);
            reverse_complement(&mut word);
            assert!(odds(&word) > 0.0 && odds(&word) > other_strand, "{instance:?}");
        }
    }

    #[test]
    fn instances_lie_in_the_windows_of_their_peaks_and_apart() {
        let genome = synthesize(SEED);
        let inside = |instance: &Instance, peak: &Peak| {
            instance.chrom == peak.chrom
                && peak.start <= instance.start
                && instance.end <= peak.end
                && peak.summit - WINDOW / 2 <= instance.start
                && instance.end <= peak.summit + WINDOW / 2
        };
        for peak in &genome.peaks {
            let here = genome.planted.iter().filter(|instance| inside(instance, peak)).count();
            assert_eq!(here, peak.instances, "{}", peak.name);
        }
        let counts: usize = genome.peaks.iter().map(|peak| peak.instances).sum();
        assert_eq!(counts, genome.planted.len());
        assert!(genome.planted.windows(2).all(|w| w[0].chrom != w[1].chrom || w[0].end < w[1].start));
        assert_eq!(genome.peaks.len(), 400);
        assert!(genome.peaks.iter().filter(|peak| peak.instances > 0).count().abs_diff(200) < 30);
    }
}
