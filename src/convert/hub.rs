//! A track hub in one file, which UCSC's browser and IGV load by its address.

use std::io::Write;

use crate::error::{Error, Result};
use crate::schema;

/// What a hub shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// The assembly by its name at UCSC: hg38, mm10.
    pub genome: String,
    /// Column or kind that is shown; also the name of the data file.
    pub track: String,
    /// A line about it.
    pub about: String,
    /// The format of the data file.
    pub data: Data,
}

/// The format of a hub's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Values along the genome.
    BigWig,
    /// Motif hits.
    BigBed,
}

impl Hub {
    /// Returns the name of the data file, beside `hub.txt`.
    pub fn file(&self) -> String {
        let ending = match self.data {
            Data::BigWig => "bw",
            Data::BigBed => "bb",
        };
        format!("{}.{ending}", self.track)
    }

    /// Writes `hub.txt`.
    ///
    /// # Errors
    ///
    /// An assembly or a track whose name is no word; a disk that is full.
    pub fn write(&self, mut output: impl Write) -> Result<()> {
        let Self { genome, track, about, .. } = self;
        for name in [genome, track] {
            if name.is_empty()
                || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
            {
                return Err(Error::usage(format!(
                    "`{name}` is no name for a hub: letters, digits, _ . and - only"
                )));
            }
        }
        let kind = match self.data {
            Data::BigWig => {
                "type bigWig\nautoScale on\nalwaysZero on\nmaxHeightPixels 100:40:8\nwindowingFunction mean"
            }
            Data::BigBed => "type bigBed 6\nitemRgb off",
        };
        // A field ends with its line.
        let about = about.replace(['\n', '\r'], " ");
        write!(
            output,
            "hub nyx_{track}\nshortLabel nyx {track}\nlongLabel {about}\nuseOneFile on\nemail nobody@example.org\n\n\
             genome {genome}\n\n\
             track {track}\nbigDataUrl {}\nshortLabel {track}\nlongLabel {about}\nvisibility full\n{kind}\n",
            self.file()
        )?;
        Ok(output.flush()?)
    }
}

/// Returns what a file name says of the assembly: what is before the first dot.
pub fn genome_of(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default().to_string()
}

/// Returns whether rows of a stream are motif hits.
pub fn is_hits(stream: &arrow_schema::Schema) -> bool {
    schema::has(stream, super::bed::MOTIF_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(genome: &str, about: &str) -> Result<String> {
        let hub =
            Hub { genome: genome.into(), track: "probs".into(), about: about.into(), data: Data::BigWig };
        let mut text = Vec::new();
        hub.write(&mut text)?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_hub_is_three_stanzas_and_every_line_a_field() {
        let text = hub("hg38", "two\nlines").unwrap();
        let stanzas: Vec<_> = text.split("\n\n").collect();
        let begins: Vec<_> = stanzas.iter().map(|stanza| stanza.split(' ').next().unwrap()).collect();
        assert_eq!(begins, ["hub", "genome", "track"]);
        assert!(text.contains("bigDataUrl probs.bw\n") && text.contains("longLabel two lines\n"));
        assert!(
            text.lines()
                .all(|line| line.is_empty()
                    || line.split_once(' ').is_some_and(|(_, value)| !value.is_empty()))
        );
    }

    #[test]
    fn an_assembly_is_one_word() {
        assert_eq!(hub("hg 38", "x").unwrap_err().exit_status(), 2);
        assert_eq!(genome_of("data/hg38.fa.gz"), "hg38");
    }
}
