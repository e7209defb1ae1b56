//! What a stream says about itself: columns, genome, history.

use std::fmt::Write as _;
use std::io::Write;

use arrow_schema::{DataType, Schema};
use serde_json::{Map, Value};

use crate::error::{Result, printable};
use crate::provenance::{self, CHAIN_KEY, GENOME_KEY, Genome, KIND_KEY, STREAM_KEY, Step};

/// Key of the comment that ends a text.
pub const END_KEY: &str = "nyx.rows";

/// Contigs listed by name before "and n more".
const CONTIGS_SHOWN: usize = 5;

/// Writes the provenance as comment lines that begin with `## nyx`.
pub fn write_comments(schema: &Schema, output: &mut impl Write) -> Result<()> {
    for key in [STREAM_KEY, KIND_KEY] {
        if let Some(value) = schema.metadata.get(key) {
            writeln!(output, "## {key}={}", printable(value))?;
        }
    }
    if let Some(genome) = Genome::of(schema)? {
        writeln!(
            output,
            "## nyx.genome={}\tcontigs={}\tdigest={}",
            printable(&genome.name),
            genome.contigs.len(),
            printable(&genome.digest)
        )?;
    }
    for step in provenance::chain(&schema.metadata)? {
        writeln!(output, "## nyx.pg={}", serde_json::to_string(&step)?)?;
    }
    Ok(())
}

/// Writes the line that ends a text with comments: how many rows it has, and how many lines that are no comments. A text
/// without it was cut.
pub fn write_end(rows: u64, lines: u64, output: &mut impl Write) -> Result<()> {
    Ok(writeln!(output, "## {END_KEY}={rows}\tlines={lines}")?)
}

/// Returns the provenance as one object, for formats that have a place for a text.
pub fn embedded(schema: &Schema) -> Map<String, Value> {
    let keys = [STREAM_KEY, KIND_KEY, GENOME_KEY, CHAIN_KEY];
    let entry = |key: &str| {
        let text = schema.metadata.get(key)?;
        // What is JSON itself is not quoted once more.
        let value = match key {
            GENOME_KEY | CHAIN_KEY => serde_json::from_str(text).ok()?,
            _ => Value::from(text.as_str()),
        };
        Some((key.to_string(), value))
    };
    keys.into_iter().filter_map(entry).collect()
}

/// Describes a stream for people: what a row is, the genome, the columns, the stages so far.
pub fn describe(schema: &Schema) -> Result<String> {
    let mut text = String::new();
    let get = |key: &str, missing: &str| schema.metadata.get(key).map_or(missing.to_string(), Clone::clone);
    line(
        &mut text,
        "stream",
        format!("version {}, rows are {}", get(STREAM_KEY, "?"), get(KIND_KEY, "rows")),
    );
    match Genome::of(schema)? {
        None => line(&mut text, "genome", "none: rows have no coordinates of a known reference".into()),
        Some(genome) => describe_genome(&mut text, &genome),
    }
    let width = schema.fields().iter().map(|field| field.name().len()).max().unwrap_or(0);
    for (index, field) in schema.fields().iter().enumerate() {
        let null = if field.is_nullable() { "" } else { ", never null" };
        let metadata: Vec<_> =
            field.metadata().iter().map(|(key, value)| format!("  {key}={value}")).collect();
        let title = if index == 0 { "columns" } else { "" };
        let kind = type_name(field.data_type());
        line(&mut text, title, format!("{:width$}  {kind}{null}{}", field.name(), metadata.concat()));
    }
    for (index, step) in provenance::chain(&schema.metadata)?.iter().enumerate() {
        describe_step(&mut text, if index == 0 { "history" } else { "" }, step);
    }
    Ok(text)
}

fn line(text: &mut String, title: &str, content: String) {
    let _ = writeln!(text, "{title:8} {}", printable(&content));
}

fn describe_genome(text: &mut String, genome: &Genome) {
    let count = genome.contigs.len();
    let bases = genome.contigs.iter().fold(0u64, |bases, (_, length)| bases.saturating_add(*length));
    line(
        text,
        "genome",
        format!(
            "{}: {count} contig{}, {bases} bases, digest {}",
            genome.name,
            if count == 1 { "" } else { "s" },
            genome.digest
        ),
    );
    for (name, length) in genome.contigs.iter().take(CONTIGS_SHOWN) {
        line(text, "", format!("  {name} {length}"));
    }
    if count > CONTIGS_SHOWN {
        line(text, "", format!("  … and {} more", count - CONTIGS_SHOWN));
    }
}

fn describe_step(text: &mut String, title: &str, step: &Step) {
    line(text, title, format!("{} {} {}", step.id, step.version, step.command));
    let seed = step.seed.map(|seed| seed.to_string());
    let details = [
        ("model", &step.model),
        ("tokenizer", &step.tokenizer),
        ("device", &step.device),
        ("dtype", &step.dtype),
        ("seed", &seed),
    ];
    for (name, value) in details {
        if let Some(value) = value {
            line(text, "", format!("  {name} {value}"));
        }
    }
}

/// Returns the name of a type as the stream contract spells it.
fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::List(item) => format!("list<{}>", type_name(item.data_type())),
        DataType::FixedSizeList(item, size) => {
            format!("fixed_size_list<{}>[{size}]", type_name(item.data_type()))
        }
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::RowKind;

    #[test]
    fn the_description_names_genome_columns_and_stages() {
        let genome = Genome::new("g.fa", (0..7).map(|n| (format!("chr{n}"), 10)).collect());
        let schema = RowKind::Labelled.schema(Some(&genome));
        let step = Step { tool: "nyx-score".into(), model: Some("m 12ab".into()), ..Step::default() };
        let metadata = provenance::append(&schema.metadata, step).unwrap();
        let schema = schema.as_ref().clone().with_metadata(metadata);
        let text = describe(&schema).unwrap();
        for part in
            ["rows are regions", "g.fa: 7 contigs, 70 bases", "… and 2 more", "nyx-score", "model m 12ab"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.contains("list<float32>") && text.contains("uint64, never null"), "{text}");
        let mut comments = Vec::new();
        write_comments(&schema, &mut comments).unwrap();
        let comments = String::from_utf8(comments).unwrap();
        assert!(comments.lines().all(|line| line.starts_with("## nyx")), "{comments}");
        assert!(comments.contains(r#""tool":"nyx-score""#), "{comments}");
    }
}
