//! Fi-NeMo's set of files: hits.tsv, hits_unique.tsv, hits.bed, peaks_qc.tsv, motif_data.tsv, motif_cwms.npy,
//! parameters.json.
//!
//! They are sorted by contig and start, so they can only be written when all regions have been seen: the
//! regions and hits wait in memory (about 150 bytes a region and 60 bytes a hit).

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use half::f16;
use npyz::WriterBuilder;
use serde_json::{Map, Value};

use super::call::{Hit, Place};
use super::stage::Called;
use crate::error::{Error, InFile, Result};
use crate::motif::filters::MotifSet;
use crate::output::write_file;

/// What the files are made of.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// All regions, in input order.
    pub regions: &'a [Called],
    /// The motifs that were called.
    pub motifs: &'a MotifSet,
    /// Contigs in the order of the files; others follow in order of first appearance.
    pub chrom_order: &'a [String],
    /// Fi-NeMo's columns only, and its treatment of regions without coordinates, whose unique hits it mixes
    /// up. Else `peaks_qc.tsv` has a column `status` too, and hits of different regions stay apart.
    pub compat: bool,
}

/// A hit with its region.
type Row<'a> = (&'a Called, &'a Place, &'a Hit);

const HITS_HEADER: &str = "chr\tstart\tend\tstart_untrimmed\tend_untrimmed\tmotif_name\thit_coefficient\t\
    hit_coefficient_global\thit_similarity\thit_correlation\thit_importance\thit_importance_sq\tstrand\t\
    peak_name\tpeak_id\n";

impl Files<'_> {
    /// Writes all files into `directory`, which is made if it is not there; `parameters` become
    /// `parameters.json`, followed by the sizes of regions and motifs. Each file appears whole or not at all.
    ///
    /// # Errors
    ///
    /// When the directory or a file cannot be written.
    pub fn write(&self, directory: &Path, parameters: Map<String, Value>) -> Result<()> {
        std::fs::create_dir_all(directory).in_file(directory)?;
        let save = |name: &str, bytes: &[u8]| write_file(&directory.join(name), bytes);
        let regions = self.sorted_regions();
        let rows = self.sorted_hits(&regions);
        let unique = self.unique(&rows);
        save("hits.tsv", self.hits(&rows).as_bytes())?;
        save("hits_unique.tsv", self.hits(&unique).as_bytes())?;
        save("hits.bed", self.bed(&unique).as_bytes())?;
        save("peaks_qc.tsv", self.quality(&regions).as_bytes())?;
        save("motif_data.tsv", self.motif_data().as_bytes())?;
        save("motif_cwms.npy", &self.cwms()?)?;
        save("parameters.json", &self.parameters(parameters)?)
    }

    /// Returns the regions by contig and start; those without a contig last, in input order.
    fn sorted_regions(&self) -> Vec<&Called> {
        let mut ranks: HashMap<&str, usize> = HashMap::new();
        let present = self.regions.iter().filter_map(|region| region.chrom.as_deref());
        for chrom in self.chrom_order.iter().map(String::as_str).chain(present) {
            let next = ranks.len();
            ranks.entry(chrom).or_insert(next);
        }
        let rank = |region: &Called| region.chrom.as_deref().map_or(usize::MAX, |chrom| ranks[chrom]);
        let mut regions: Vec<&Called> = self.regions.iter().collect();
        regions.sort_by_key(|region| match region.chrom {
            Some(_) => (rank(region), region.start),
            None => (usize::MAX, 0),
        });
        regions
    }

    /// Returns the hits by contig and start, then in the order of regions.
    fn sorted_hits<'a>(&self, regions: &[&'a Called]) -> Vec<Row<'a>> {
        let mut rows = Vec::new();
        // Equal contigs are adjacent; each is sorted by itself. Without a contig every region is its own.
        for chunk in regions.chunk_by(|a, b| a.chrom.is_some() && a.chrom == b.chrom) {
            let first = rows.len();
            for &region in chunk {
                rows.extend(region.hits.iter().map(|(place, hit)| (region, place, hit)));
            }
            rows[first..].sort_by_key(|(_, place, _): &Row| place.start);
        }
        rows
    }

    /// Returns the first of the hits that agree in contig, start, motif and strand.
    fn unique<'a>(&self, rows: &[Row<'a>]) -> Vec<Row<'a>> {
        let mut seen = HashSet::new();
        let new = |(region, place, hit): &&Row<'a>| {
            let apart = (region.chrom.is_none() && !self.compat).then_some(region.region);
            seen.insert((region.chrom.as_deref(), apart, place.start, self.name(hit), place.strand))
        };
        rows.iter().filter(new).copied().collect()
    }

    fn name(&self, hit: &Hit) -> &str {
        &self.motifs.motifs[self.motifs.filters[hit.filter].motif].name
    }

    fn hits(&self, rows: &[Row]) -> String {
        let mut text = String::from(HITS_HEADER);
        let mut floats = zmij::Buffer::new();
        for (region, place, hit) in rows {
            let Place { start, end, start_untrimmed, end_untrimmed, strand } = place;
            let _ = write!(text, "{}\t{start}\t{end}\t{start_untrimmed}\t{end_untrimmed}\t", chrom(region));
            text += self.name(hit);
            for value in [
                hit.coefficient,
                hit.coefficient_global,
                hit.similarity,
                hit.similarity,
                hit.importance,
                hit.importance_sq,
            ] {
                text.push('\t');
                text += floats.format(value);
            }
            let _ = writeln!(text, "\t{}\t{}\t{}", strand.as_str(), peak_name(region), region.region);
        }
        text
    }

    fn bed(&self, rows: &[Row]) -> String {
        let mut text = String::new();
        for (region, place, hit) in rows {
            let (name, strand) = (self.name(hit), place.strand.as_str());
            let _ = writeln!(text, "{}\t{}\t{}\t{name}\t0\t{strand}", chrom(region), place.start, place.end);
        }
        text
    }

    fn quality(&self, regions: &[&Called]) -> String {
        let mut text = String::from(
            "nll\tdual_gap\tnum_steps\tstep_size\tglobal_scale\tpeak_id\tchr\tpeak_region_start\tpeak_name",
        );
        text += if self.compat { "\n" } else { "\tstatus\n" };
        let float = |value: f32| zmij::Buffer::new().format(value).to_string();
        for region in regions {
            let cells = [
                float(region.nll),
                float(region.dual_gap),
                region.num_steps.to_string(),
                float(region.step_size),
                float(region.scale),
                region.region.to_string(),
                chrom(region).to_string(),
                region.start.to_string(),
                peak_name(region).to_string(),
            ];
            text += &cells.join("\t");
            if !self.compat {
                text.push('\t');
                text += region.status.as_str();
            }
            text.push('\n');
        }
        text
    }

    fn motif_data(&self) -> String {
        let mut text = String::from(
            "motif_id\tmotif_name\tmotif_name_orig\tstrand\tmotif_start\tmotif_end\tmotif_scale\tlambda\n",
        );
        for (index, filter) in self.motifs.filters.iter().enumerate() {
            let motif = &self.motifs.motifs[filter.motif];
            let (mut scale, mut lambda) = (zmij::Buffer::new(), zmij::Buffer::new());
            let _ = writeln!(
                text,
                "{index}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                motif.name,
                motif.tag,
                filter.strand.as_str(),
                filter.start,
                filter.end,
                scale.format(motif.scale),
                lambda.format(motif.lambda),
            );
        }
        text
    }

    /// Returns the normalized CWMs as a half-precision array (M, 4, W), narrower ones padded with zeros.
    fn cwms(&self) -> Result<Vec<u8>> {
        let width = self.motifs.width();
        let mut bytes = Vec::new();
        let shape = [self.motifs.filters.len() as u64, 4, width as u64];
        let options = npyz::WriteOptions::<f16>::new().default_dtype().shape(&shape);
        let mut writer = options.writer(&mut bytes).begin_nd()?;
        for filter in &self.motifs.filters {
            for row in filter.cwm.chunks_exact(filter.width) {
                writer.extend(row.iter().map(|&value| f16::from_f32(value)))?;
                writer.extend(std::iter::repeat_n(f16::ZERO, width - filter.width))?;
            }
        }
        writer.finish()?;
        Ok(bytes)
    }

    fn parameters(&self, mut parameters: Map<String, Value>) -> Result<Vec<u8>> {
        let first = self.regions.iter().find(|region| region.length > 0).map(|region| region.length);
        let one_width = self.regions.iter().all(|region| Some(region.length) == first || region.length == 0);
        parameters.insert("region_width".into(), first.filter(|_| one_width).into());
        parameters.insert("num_regions".into(), self.regions.len().into());
        parameters.insert("untrimmed_motif_width".into(), self.motifs.width().into());
        parameters.insert("num_motifs".into(), self.motifs.filters.len().into());
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        serde::Serialize::serialize(&parameters, &mut serializer).map_err(Error::from)?;
        Ok(bytes)
    }
}

fn chrom(region: &Called) -> &str {
    region.chrom.as_deref().unwrap_or("NA")
}

fn peak_name(region: &Called) -> &str {
    region.name.as_deref().unwrap_or("NA")
}
