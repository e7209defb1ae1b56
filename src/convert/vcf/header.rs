//! The header of a VCF: lines for fields, and the numbers that BCF gives to names.

use std::collections::HashMap;

use arrow_schema::Schema;

use super::fields::{Fields, Kind, STATUS};
use crate::error::{Error, Result, printable};
use crate::provenance::Genome;

/// Returns the lines of all fields, with their IDs, that of the status first.
fn definitions(fields: &Fields) -> Vec<(String, String)> {
    let status =
        "Why there are no other NYX fields, or what was found: the status of each ALT, or not_scored";
    let line = |id: &str, number: &str, kind: &str, description: &str| {
        let description = printable(description).replace('\\', "\\\\").replace('"', "\\\"");
        let line = format!("##INFO=<ID={id},Number={number},Type={kind},Description=\"{description}\"");
        (id.to_string(), line)
    };
    let mut lines = vec![line(STATUS, ".", "String", status)];
    lines.extend(fields.infos.iter().map(|info| {
        let kind = if info.kind == Kind::Float { "Float" } else { "String" };
        line(&info.id, "A", kind, &info.description)
    }));
    lines
}

/// A header with lines added.
pub struct Edited {
    /// The whole text, up to and with the `#CHROM` line and its line end.
    pub text: Vec<u8>,
    /// The numbers of the fields in BCF, that of the status first.
    pub numbers: Vec<usize>,
    /// Names of the contigs, by number, and their lengths where they are stated.
    pub contigs: Vec<(String, Option<u64>)>,
    /// Columns of the `#CHROM` line.
    pub columns: usize,
}

/// Adds the lines of `fields` and `extra` lines in front of the `#CHROM` line; a line of the same INFO field is
/// replaced where it stands. Everything else stays as it is.
///
/// # Errors
///
/// When there is no `#CHROM` line.
pub fn edit(text: &[u8], fields: &Fields, extra: &[String]) -> Result<Edited> {
    let mut dictionary = Dictionary::default();
    let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    lines.iter().try_for_each(|line| dictionary.read(&String::from_utf8_lossy(line), text.len()))?;
    let definitions = definitions(fields);
    let numbers: Vec<usize> = definitions.iter().map(|(id, _)| dictionary.number(id)).collect();
    let finish = |place: usize| {
        let index = if dictionary.numbered { format!(",IDX={}", numbers[place]) } else { String::new() };
        format!("{}{index}>\n", definitions[place].1).into_bytes()
    };
    let mut edited = Vec::with_capacity(text.len() + 4096);
    let mut replaced = vec![false; definitions.len()];
    let mut columns = None;
    for line in lines {
        let id = String::from_utf8_lossy(line)
            .strip_prefix("##INFO=<")
            .and_then(|rest| value_of(rest, "ID").map(String::from));
        let place = id.and_then(|id| definitions.iter().position(|(own, _)| *own == id));
        if let Some(place) = place {
            edited.extend(finish(place));
            replaced[place] = true;
            continue;
        }
        if line.starts_with(b"#CHROM") {
            (0..definitions.len())
                .filter(|&place| !replaced[place])
                .for_each(|place| edited.extend(finish(place)));
            extra.iter().for_each(|line| edited.extend([line.as_bytes(), b"\n"].concat()));
            columns = Some(1 + line.iter().filter(|&&byte| byte == b'\t').count());
        }
        edited.extend_from_slice(line);
    }
    let columns =
        columns.ok_or_else(|| Error::data("the header has no #CHROM line: the file is cut, or no VCF"))?;
    if !edited.ends_with(b"\n") {
        edited.push(b'\n');
    }
    Ok(Edited { text: edited, numbers, contigs: dictionary.contigs, columns })
}

/// Names and their numbers (VCF specification, 6.2.1): in the order in which they first appear as FILTER, INFO or
/// FORMAT, `PASS` before all, unless the lines state an `IDX`.
#[derive(Default)]
struct Dictionary {
    numbers: HashMap<String, usize>,
    contigs: Vec<(String, Option<u64>)>,
    next: usize,
    numbered: bool,
}

impl Dictionary {
    /// Reads a line of a header of `length` bytes.
    fn read(&mut self, line: &str, length: usize) -> Result<()> {
        if self.numbers.is_empty() {
            self.numbers.insert("PASS".into(), 0);
            self.next = 1;
        }
        let Some((kind, fields)) = line.strip_prefix("##").and_then(|line| line.split_once("=<")) else {
            return Ok(());
        };
        let Some(id) = value_of(fields, "ID") else { return Ok(()) };
        let index: Option<usize> =
            value_of(fields, "IDX").and_then(|index| index.trim_end().trim_end_matches('>').parse().ok());
        // A number far past the lines of the header would only cost memory.
        if let Some(index) = index.filter(|&index| index > length) {
            return Err(Error::data(format!("the header is damaged: {kind} {id} has IDX={index}")));
        }
        self.numbered |= index.is_some();
        match kind {
            "FILTER" | "INFO" | "FORMAT" => match index {
                Some(index) => {
                    self.numbers.insert(id.to_string(), index);
                    self.next = self.next.max(index + 1);
                }
                None => _ = self.number(id),
            },
            "contig" => {
                let bases = value_of(fields, "length")
                    .and_then(|length| length.trim_end().trim_end_matches('>').parse().ok());
                let place = index.unwrap_or(self.contigs.len());
                self.contigs.resize(self.contigs.len().max(place + 1), (String::new(), None));
                self.contigs[place] = (id.to_string(), bases);
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the number of a name, a new one if it has none.
    fn number(&mut self, id: &str) -> usize {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        self.numbers.insert(id.to_string(), self.next);
        self.next += 1;
        self.next - 1
    }
}

/// Returns the value of a key in `KEY=VALUE,KEY="VALUE",…>`, without what quoted values hold.
fn value_of<'a>(fields: &'a str, key: &str) -> Option<&'a str> {
    let mut quoted = false;
    let mut parts = fields.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    let value = parts.find_map(|part| part.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_end().trim_end_matches('>'))
}

/// Returns the header of a VCF without samples.
pub fn of_sites(schema: &Schema, fields: &Fields, extra: &[String]) -> Result<Vec<u8>> {
    let mut text =
        String::from("##fileformat=VCFv4.3\n##FILTER=<ID=PASS,Description=\"All filters passed\">\n");
    if let Some(genome) = Genome::of(schema)? {
        text += &format!("##reference={}\n", printable(&genome.name));
        for (name, length) in &genome.contigs {
            // The name is a value between commas and brackets, and a newline in it would begin another line.
            if name.contains(|c: char| c.is_control() || c.is_whitespace() || "<>,\"".contains(c)) {
                let message = format!("contig `{name}` cannot be named in the header of a VCF: rename it");
                return Err(Error::data(message));
            }
            text += &format!("##contig=<ID={name},length={length}>\n");
        }
    }
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    Ok(edit(text.as_bytes(), fields, extra)?.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_in_the_order_of_the_lines_or_as_they_say() {
        let mut dictionary = Dictionary::default();
        for line in [
            "##fileformat=VCFv4.2\n",
            "##FILTER=<ID=PASS,Description=\"a, b\">\n",
            "##INFO=<ID=DP,Number=1,Type=Integer,Description=\"x,ID=no\">\n",
            "##FORMAT=<ID=DP,Number=1,Type=Integer,Description=\"y\">\n",
            "##contig=<ID=chr1,length=5>\n",
            "##FORMAT=<ID=GT,Number=1,Type=String,Description=\"z\">\n",
        ] {
            dictionary.read(line, 1000).unwrap();
        }
        assert_eq!(["PASS", "DP", "GT", "NEW"].map(|id| dictionary.number(id)), [0, 1, 2, 3]);
        assert_eq!(dictionary.contigs, [("chr1".to_string(), Some(5))]);
        let mut dictionary = Dictionary::default();
        for line in ["##INFO=<ID=B,Description=\"b\",IDX=7>\n", "##contig=<ID=c,IDX=1>\n"] {
            dictionary.read(line, 1000).unwrap();
        }
        assert_eq!(["B", "NEW"].map(|id| dictionary.number(id)), [7, 8]);
        assert_eq!(dictionary.contigs.len(), 2);
    }
}
