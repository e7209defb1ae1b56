//! Where a stream came from, in its schema metadata, as `@PG` and `@SQ` lines do in BAM.

mod script;

use arrow_schema::{Metadata, Schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

pub use script::{quote, script, words};

/// The version of the stream contract; it changes when an old reader would misread a new stream.
pub const STREAM_VERSION: &str = "1";

/// Metadata key of the contract version.
pub const STREAM_KEY: &str = "nyx.stream";
/// Metadata key of what a row is: `regions`, `variants`, `hits`.
pub const KIND_KEY: &str = "nyx.kind";
/// Metadata key of the reference genome.
pub const GENOME_KEY: &str = "nyx.genome";
/// Metadata key of the chain of stages.
pub const CHAIN_KEY: &str = "nyx.pg";

/// The reference genome that coordinates of a stream refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genome {
    /// File name without its directory.
    pub name: String,
    /// Contig names and lengths in bases, in file order.
    pub contigs: Vec<(String, u64)>,
    /// SHA-256 over `name TAB length NEWLINE` of every contig, in hexadecimal.
    pub digest: String,
}

impl Genome {
    /// Creates the record of a genome, computing its digest from the names and lengths.
    pub fn new(name: impl Into<String>, contigs: Vec<(String, u64)>) -> Self {
        let mut hasher = Sha256::new();
        for (name, length) in &contigs {
            hasher.update(format!("{name}\t{length}\n"));
        }
        Self { name: name.into(), contigs, digest: hexadecimal(&hasher.finalize()) }
    }

    /// Reads the genome of a stream; `None` when its rows have no coordinates.
    pub fn of(schema: &Schema) -> Result<Option<Self>> {
        let Some(text) = schema.metadata.get(GENOME_KEY) else { return Ok(None) };
        let genome = serde_json::from_str(text)
            .map_err(|error| Error::data(format!("metadata {GENOME_KEY} of the stream: {error}")))?;
        Ok(Some(genome))
    }
}

/// One stage in the history of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique within the chain: the tool, and a number when it occurs again.
    pub id: String,
    /// The `id` of the stage before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The executable's name.
    pub tool: String,
    /// Its version.
    pub version: String,
    /// Its command line, quoted for a shell.
    pub command: String,
    /// Digest of the model's weights, and its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Digest of the tokenizer, and its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// The device that computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The number format it computed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// The seed of everything random.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The file it read its rows from, where it was not standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The file it wrote, where it was not standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Which part of its input the stage took, where it knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// A contiguous part of the regions of an input: with the others of its plan it is the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which part, counted from 1.
    pub part: u64,
    /// How many parts there are.
    pub parts: u64,
    /// First region of the part.
    pub first: u64,
    /// One past its last region.
    pub end: u64,
    /// Regions of all parts together.
    pub total: u64,
    /// Whether regions may have no row because a filter dropped them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
}

impl Share {
    /// Returns the whole input that this is a part of.
    pub fn whole(self) -> Self {
        Self { part: 1, parts: 1, first: 0, end: self.total, ..self }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "shard {}/{}", self.part, self.parts)
    }
}

/// Returns the part of its input that a stream is, where its chain says so: the last stage that took a part, for what was
/// before it was whole.
pub fn share(metadata: &Metadata) -> Result<Option<Share>> {
    Ok(chain(metadata)?.iter().rev().find_map(|step| step.share))
}

/// Reads the chain of stages of a stream; empty when it has none.
pub fn chain(metadata: &Metadata) -> Result<Vec<Step>> {
    match metadata.get(CHAIN_KEY) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| Error::data(format!("metadata {CHAIN_KEY} of the stream: {error}"))),
    }
}

/// Returns the name of the tool that wrote a stream, if its chain can be read.
pub fn last_tool(schema: &Schema) -> Option<String> {
    chain(&schema.metadata).ok()?.pop().map(|step| step.tool)
}

/// Adds a stage at the end of the chain, filling in its `id` and `previous`.
pub fn append(metadata: &Metadata, step: Step) -> Result<Metadata> {
    let chain = serde_json::to_string(&extend(chain(metadata)?, step))?;
    Ok(metadata.clone().with(STREAM_KEY, STREAM_VERSION).with(CHAIN_KEY, chain))
}

/// Returns the chain with a stage at its end, filling in its `id` and `previous`.
pub fn extend(mut steps: Vec<Step>, mut step: Step) -> Vec<Step> {
    let again = steps.iter().filter(|earlier| earlier.tool == step.tool).count();
    step.id = if again == 0 { step.tool.clone() } else { format!("{}.{again}", step.tool) };
    step.previous = steps.last().map(|earlier| earlier.id.clone());
    steps.push(step);
    steps
}

/// Refuses a stream of a contract this program does not know.
pub fn check_version(schema: &Schema) -> Result<()> {
    match schema.metadata.get(STREAM_KEY).map(String::as_str) {
        None | Some(STREAM_VERSION) => Ok(()),
        Some(other) => Err(Error::data(format!(
            "the stream has contract version {other}, this program knows {STREAM_VERSION}: use one nyx release in all stages"
        ))),
    }
}

/// Returns lower-case hexadecimal digits of `bytes`.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(tool: &str) -> Step {
        Step { tool: tool.into(), ..Step::default() }
    }

    #[test]
    fn a_chain_links_each_stage_to_the_one_before() {
        let mut metadata = Metadata::new();
        for tool in ["nyx-extract", "nyx-score", "nyx-score"] {
            metadata = append(&metadata, step(tool)).unwrap();
        }
        let chain = chain(&metadata).unwrap();
        assert_eq!(chain[2].id, "nyx-score.1");
        assert_eq!(chain[2].previous.as_deref(), Some("nyx-score"));
        assert_eq!(chain[0].previous, None);
    }

    #[test]
    fn the_digest_sees_names_and_lengths() {
        let genome = |name: &str, length| Genome::new("g.fa", vec![(name.to_string(), length)]);
        assert_eq!(genome("chr1", 5).digest, genome("chr1", 5).digest);
        assert_ne!(genome("chr1", 5).digest, genome("1", 5).digest);
        assert_ne!(genome("chr1", 5).digest, genome("chr1", 6).digest);
    }

    #[test]
    fn a_newer_contract_is_refused() {
        let schema = Schema::empty().with_metadata(Metadata::new().with(STREAM_KEY, "2"));
        assert!(check_version(&schema).unwrap_err().to_string().contains("contract version 2"));
    }
}
