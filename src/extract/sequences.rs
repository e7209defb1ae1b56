//! Rows of `nyx-extract sequences`: sequences that do not come from a genome.

use std::io::{BufRead, Read};

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_schema::{DataType, Field, SchemaRef};

use super::windows::{BATCH_BASES, ROW_BASES};
use crate::dna;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::region::Strand;
use crate::schema::{self, Row, RowBuilder, RowKind, Status};

/// How a file of sequences is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Column of a table that holds the sequences.
    pub sequence_column: String,
    /// Column of a table that holds the second sequence of a pair; without it, `sequence1` and `sequence2` make a
    /// pair in a table that has both.
    pub second_column: Option<String>,
    /// Column of a table that holds the labels; a table may do without it.
    pub label_column: String,
    /// Take coordinates from FASTA headers as bedtools writes them (`chr1:99-200`, 0-based and half-open).
    pub coordinates: bool,
    /// Rows of a batch.
    pub batch_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sequence_column: "sequence".into(),
            second_column: None,
            label_column: "label".into(),
            coordinates: false,
            batch_rows: super::windows::BATCH_ROWS,
        }
    }
}

/// Makes a row of each sequence of a file: FASTA, or CSV or TSV with a header, known by its first bytes. Pairs of
/// sequences have the second in the column `sequence_2`; a table whose first line is a pair and a label needs no
/// header. `place` is the file's name in errors.
///
/// # Errors
///
/// When the file is neither, or its header lacks the column; from the batches, when a record has no sequence, a line
/// has more or fewer columns than the header, or a label is no number.
pub fn sequences(mut text: Box<dyn BufRead + Send>, place: &str, options: Options) -> Result<Pipe> {
    let first = skip_blank(&mut text).map_err(|error| error.at(place))?;
    match first {
        None => Err(Error::data("there is nothing in it")).map_err(|error: Error| error.at(place)),
        Some(b'>') => {
            let labelled = first_line(&mut text).map_err(|error| error.at(place))?.contains(LABEL_MARK);
            let records = Fasta::new(text, options.coordinates, labelled);
            let kind = if labelled { RowKind::Labelled } else { RowKind::Regions };
            Ok(pipe(kind, false, records, place, options.batch_rows))
        }
        Some(_) => {
            let table = Table::new(text, &options).map_err(|error| error.at(place))?;
            let kind = if table.label.is_some() { RowKind::Labelled } else { RowKind::Regions };
            let pairs = table.second.is_some();
            Ok(pipe(kind, pairs, table, place, options.batch_rows))
        }
    }
}

/// What stands before the label in headers of FASTA as DNABERT-Enhancer writes them: `chr1:99-200;label=1`.
const LABEL_MARK: &str = ";label=";

/// Returns the first line, as far as it is in the buffer.
fn first_line(text: &mut dyn BufRead) -> Result<String> {
    let line = text.fill_buf()?.split(|&byte| byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

/// Passes over blank space and a byte-order mark; returns the first byte after it.
fn skip_blank(text: &mut dyn BufRead) -> Result<Option<u8>> {
    loop {
        let head = text.fill_buf()?;
        let Some(&first) = head.first() else { return Ok(None) };
        let mark = head.starts_with("\u{FEFF}".as_bytes());
        if !mark && !first.is_ascii_whitespace() {
            return Ok(Some(first));
        }
        text.consume(if mark { 3 } else { 1 });
    }
}

/// A sequence and what is known of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Record {
    name: Option<String>,
    chrom: Option<String>,
    start: i64,
    strand: Strand,
    /// Upper-case `ACGTN`, not empty.
    bases: Vec<u8>,
    /// The second sequence of a pair.
    second: Option<Vec<u8>>,
    labels: Option<Vec<f32>>,
}

fn pipe(
    kind: RowKind,
    pairs: bool,
    records: impl Iterator<Item = Result<Record>> + Send + 'static,
    place: &str,
    batch_rows: usize,
) -> Pipe {
    let schema = kind.schema(None);
    let builder = RowBuilder::new(kind, schema.clone());
    let place = place.to_string();
    let seconds = pairs.then(Vec::new);
    let target = match pairs {
        true => schema::with_field(&schema, Field::new(schema::SECOND, DataType::Utf8, true)),
        false => schema,
    };
    let batches = Batches {
        kind,
        records,
        builder,
        seconds,
        schema: target.clone(),
        region: 0,
        place,
        batch_rows,
        done: false,
    };
    Pipe::new(target, batches)
}

struct Batches<I> {
    kind: RowKind,
    records: I,
    builder: RowBuilder,
    /// The second sequences of the rows in the builder, where rows are pairs.
    seconds: Option<Vec<Option<String>>>,
    schema: SchemaRef,
    region: u64,
    place: String,
    batch_rows: usize,
    done: bool,
}

impl<I: Iterator<Item = Result<Record>>> Batches<I> {
    fn push(&mut self, record: &Record) -> Result<()> {
        let text = std::str::from_utf8(&record.bases).map_err(|_| Error::data("bases are not ASCII"))?;
        let all_n = |bases: &[u8]| bases.iter().all(|&base| base == b'N');
        let all_n = all_n(&record.bases) || record.second.as_deref().is_some_and(all_n);
        let row = Row {
            region: self.region,
            chrom: record.chrom.as_deref(),
            start: record.start,
            end: record.start + text.len() as i64,
            strand: record.strand,
            name: record.name.as_deref(),
            sequence: Some(text),
            status: if all_n { Status::AllN } else { Status::Ok },
        };
        match self.kind {
            RowKind::Labelled => self.builder.push_labelled(&row, record.labels.as_deref()),
            _ => self.builder.push(&row),
        }
        if let Some(seconds) = &mut self.seconds {
            // ASCII, as the first: `checked` has seen both.
            let second = record.second.as_deref().map(|bases| String::from_utf8_lossy(bases).into_owned());
            seconds.push(second);
        }
        self.region += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let batch = self.builder.finish()?;
        let Some(seconds) = &mut self.seconds else { return Ok(batch) };
        let seconds = StringArray::from_iter(seconds.drain(..));
        schema::with_columns(&batch, &self.schema, vec![(schema::SECOND, Arc::new(seconds))])
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut bases = 0;
        while !self.done && self.builder.len() < self.batch_rows.max(1) && bases < BATCH_BASES {
            match self.records.next().transpose()? {
                None => self.done = true,
                Some(record) => {
                    bases += record.bases.len() + record.second.as_ref().map_or(0, Vec::len);
                    self.push(&record)?;
                }
            }
        }
        if self.builder.is_empty() { Ok(None) } else { self.finish().map(Some) }
    }
}

impl<I: Iterator<Item = Result<Record>>> Iterator for Batches<I> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_batch().map_err(|error| error.at(self.place.as_str()));
        self.done |= item.is_err();
        item.transpose()
    }
}

/// Records of FASTA text.
struct Fasta<R> {
    text: R,
    coordinates: bool,
    /// Whether headers end with a label.
    labelled: bool,
    /// The line that was read last: a header, once the first record was begun.
    line: Vec<u8>,
    number: u64,
    begun: bool,
}

impl<R: BufRead> Fasta<R> {
    fn new(text: R, coordinates: bool, labelled: bool) -> Self {
        Self { text, coordinates, labelled, line: Vec::new(), number: 0, begun: false }
    }

    /// Reads a line; returns whether there was one.
    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        self.number += 1;
        let most = ROW_BASES as u64 + 2;
        Ok(self.text.by_ref().take(most).read_until(b'\n', &mut self.line)? > 0)
    }

    fn read(&mut self) -> Result<Option<Record>> {
        if !self.begun {
            self.begun = true;
            self.read_line()?;
        }
        if self.line.is_empty() {
            return Ok(None);
        }
        let header = String::from_utf8_lossy(&self.line[1..]).trim().to_string();
        let word = header.split_ascii_whitespace().next().unwrap_or_default().to_string();
        let place = format!("line {} (`{word}`)", self.number);
        let mut bases = Vec::new();
        // More than a row can have is refused before the rest is read.
        while bases.len() as i64 <= ROW_BASES && self.read_line()? && !self.line.starts_with(b">") {
            bases.extend_from_slice(self.line.trim_ascii());
        }
        let (word, labels) = self.label(word).map_err(|error| error.at(place.as_str()))?;
        let record = record(word, bases, self.coordinates).map_err(|error| error.at(place))?;
        Ok(Some(Record { labels, ..record }))
    }

    /// Takes the label off a header, where headers have one.
    fn label(&self, word: String) -> Result<(String, Option<Vec<f32>>)> {
        if !self.labelled {
            return Ok((word, None));
        }
        let (name, label) = word
            .split_once(LABEL_MARK)
            .ok_or_else(|| Error::data(format!("no `{LABEL_MARK}` in the header, as the first one has")))?;
        Ok((name.to_string(), Some(parse_labels(label)?)))
    }
}

impl<R: BufRead> Iterator for Fasta<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn record(word: String, bases: Vec<u8>, coordinates: bool) -> Result<Record> {
    let bases = checked(bases)?;
    let mut record = Record { bases, ..Record::default() };
    if !coordinates {
        record.name = Some(word).filter(|word| !word.is_empty());
        return Ok(record);
    }
    let Some(found) = parse_coordinates(&word) else {
        return Err(Error::data(format!("`{word}` has no coordinates as in chr1:99-200, for --coordinates")));
    };
    let length = record.bases.len();
    if found.end - found.start != length as i64 {
        return Err(Error::data(format!("`{word}` says {} bases, {length} follow", found.end - found.start)));
    }
    let name = found.name.unwrap_or(&word);
    (record.name, record.chrom) = (Some(name.into()), Some(found.chrom.into()));
    (record.start, record.strand) = (found.start, found.strand);
    Ok(record)
}

struct Coordinates<'a> {
    name: Option<&'a str>,
    chrom: &'a str,
    start: i64,
    end: i64,
    strand: Strand,
}

/// Parses `chr1:99-200`, `chr1:99-200(-)` and `name::chr1:99-200(-)`, as `bedtools getfasta` writes headers.
fn parse_coordinates(word: &str) -> Option<Coordinates<'_>> {
    let (name, rest) = match word.rsplit_once("::") {
        Some((name, rest)) => (Some(name).filter(|name| !name.is_empty()), rest),
        None => (None, word),
    };
    let (rest, strand) = match rest.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')) {
        Some((rest, strand)) => (rest, strand.parse().ok()?),
        None => (rest, Strand::Unknown),
    };
    let (chrom, range) = rest.rsplit_once(':')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (!chrom.is_empty() && 0 <= start && start <= end).then_some(Coordinates {
        name,
        chrom,
        start,
        end,
        strand,
    })
}

/// Returns upper-case `ACGTN`; refuses what is no sequence at all.
fn checked(mut bases: Vec<u8>) -> Result<Vec<u8>> {
    if bases.is_empty() {
        return Err(Error::data("the sequence is empty: remove the record"));
    }
    if bases.len() as i64 > ROW_BASES {
        return Err(Error::data(format!(
            "{} bases are too many for a row (at most {ROW_BASES})",
            bases.len()
        )));
    }
    if let Some(byte) = bases.iter().find(|byte| !byte.is_ascii_alphabetic() && !b"-*.".contains(byte)) {
        return Err(Error::data(format!("`{}` in the sequence is no base", byte.escape_ascii())));
    }
    dna::normalize(&mut bases);
    Ok(bases)
}

/// Records of a table.
struct Table<R> {
    rows: csv::StringRecordsIntoIter<R>,
    sequence: usize,
    second: Option<usize>,
    label: Option<usize>,
    name: Option<usize>,
}

impl<R: BufRead> Table<R> {
    fn new(mut text: R, options: &Options) -> Result<Self> {
        let head = text.fill_buf()?;
        let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let delimiter = if first_line.contains(&b'\t') { b'\t' } else { b',' };
        let headless = is_pair_with_label(first_line, delimiter);
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).has_headers(!headless).from_reader(text);
        if headless {
            let rows = reader.into_records();
            return Ok(Self { rows, sequence: 0, second: Some(1), label: Some(2), name: None });
        }
        let header = reader.headers().map_err(table_error)?.clone();
        let (sequence, second) = sequence_columns(&header, options)?;
        let (label, name) = (column(&header, &options.label_column), column(&header, "name"));
        Ok(Self { rows: reader.into_records(), sequence, second, label, name })
    }

    fn record(&self, row: &csv::StringRecord) -> Result<Record> {
        let field = |column: Option<usize>| column.and_then(|column| row.get(column)).map(str::trim);
        let bases = |text: &str| -> Result<Vec<u8>> {
            checked(if text.contains(' ') { join_kmers(text)? } else { text.as_bytes().to_vec() })
        };
        let second = field(self.second).map(bases).transpose();
        let labels = field(self.label).filter(|text| !text.is_empty()).map(parse_labels).transpose()?;
        let name = field(self.name).filter(|name| !name.is_empty()).map(String::from);
        Ok(Record {
            name,
            bases: bases(field(Some(self.sequence)).unwrap_or_default())?,
            second: second.map_err(|error| error.at("second sequence"))?,
            labels,
            ..Record::default()
        })
    }
}

/// Returns whether a line is two sequences, whole or as k-mers, and a number: no header has such names.
fn is_pair_with_label(line: &[u8], delimiter: u8) -> bool {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == delimiter).map(<[u8]>::trim_ascii).collect();
    let [first, second, label] = fields.as_slice() else { return false };
    let is_bases = |text: &[u8]| !text.is_empty() && text.iter().all(|byte| b" ACGTNacgtn".contains(byte));
    let is_number = std::str::from_utf8(label).is_ok_and(|label| label.parse::<f32>().is_ok());
    is_bases(first) && is_bases(second) && is_number
}

fn column(header: &csv::StringRecord, name: &str) -> Option<usize> {
    header.iter().position(|column| column.trim() == name)
}

/// Returns the columns of the sequences and of the second sequences of pairs.
fn sequence_columns(header: &csv::StringRecord, options: &Options) -> Result<(usize, Option<usize>)> {
    let missing = |name: &str, flag: &str| {
        let columns: String = header.iter().collect::<Vec<_>>().join(", ").chars().take(80).collect();
        Error::data(format!(
            "neither FASTA nor a table with a column `{name}` in its header ({flag}); found: {columns}"
        ))
    };
    let first = column(header, &options.sequence_column);
    if let Some(name) = &options.second_column {
        let second = column(header, name).ok_or_else(|| missing(name, "--second-column"))?;
        let first = first.or(column(header, "sequence1"));
        let first = first.ok_or_else(|| missing(&options.sequence_column, "--sequence-column"))?;
        return Ok((first, Some(second)));
    }
    match (first, column(header, "sequence1"), column(header, "sequence2")) {
        (Some(first), ..) => Ok((first, None)),
        (None, Some(first), Some(second)) => Ok((first, Some(second))),
        _ => Err(missing(&options.sequence_column, "--sequence-column")),
    }
}

impl<R: BufRead> Iterator for Table<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(table_error(error))),
        };
        let line = row.position().map_or(0, csv::Position::line);
        Some(self.record(&row).map_err(|error| error.at(format!("line {line}"))))
    }
}

fn table_error(error: csv::Error) -> Error {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Error::data(format!("line {line} has {len} columns where the header has {expected_len}"))
        }
        csv::ErrorKind::Utf8 { .. } => Error::data(format!("line {line} is not text (UTF-8)")),
        other => Error::data(format!("line {line}: {other:?}")),
    }
}

/// Rebuilds a sequence from overlapping k-mers: the first base of each, then the rest of the last.
fn join_kmers(text: &str) -> Result<Vec<u8>> {
    let upper = text.to_ascii_uppercase();
    let mut kmers = upper.split_ascii_whitespace().map(str::as_bytes);
    let mut bases = kmers.next().unwrap_or_default().to_vec();
    let k = bases.len();
    for (index, kmer) in (2..).zip(kmers) {
        if kmer.len() != k || bases[bases.len() - (k - 1)..] != kmer[..k - 1] {
            return Err(Error::data(format!(
                "k-mer {index} `{}` does not follow the one before by one base: these are no overlapping {k}-mers",
                kmer.escape_ascii()
            )));
        }
        bases.push(kmer[k - 1]);
    }
    Ok(bases)
}

/// Reads one number, or several by comma or semicolon. Nothing else is guessed to be several labels.
fn parse_labels(text: &str) -> Result<Vec<f32>> {
    let number = |word: &str| {
        let word = word.trim();
        // `0110` is a string of labels rather than the number 110.
        let digits = word.len() > 1 && word.starts_with('0') && !word.starts_with("0.");
        word.parse::<f32>().ok().filter(|number| number.is_finite() && !digits)
    };
    let labels = text.split([',', ';']).map(number).collect::<Option<Vec<_>>>();
    labels.ok_or_else(|| {
        Error::data(format!("label `{text}` is neither a number nor a list of them (by , or ;)"))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use arrow_array::RecordBatch;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Float32Type;
    use arrow_select::concat::concat_batches;

    use super::*;
    use crate::input;
    use crate::schema::{self, strings};

    fn collect(pipe: Pipe) -> Result<RecordBatch> {
        let (schema, batches) = pipe.into_parts();
        let batches = batches.collect::<Result<Vec<_>>>()?;
        Ok(concat_batches(&schema, &batches)?)
    }

    fn read_with(text: &str, options: Options) -> Result<RecordBatch> {
        collect(sequences(Box::new(Cursor::new(text.to_string())), "s.txt", options)?)
    }

    fn read(text: &str) -> Result<RecordBatch> {
        read_with(text, Options::default())
    }

    fn column(batch: &RecordBatch, name: &str) -> Vec<String> {
        strings(batch, name).unwrap().iter().map(|text| text.unwrap_or("null").to_string()).collect()
    }

    fn labels(batch: &RecordBatch) -> Vec<Option<Vec<f32>>> {
        let lists = batch.column_by_name(schema::LABEL).unwrap().as_list::<i32>();
        lists
            .iter()
            .map(|list| list.map(|list| list.as_primitive::<Float32Type>().values().to_vec()))
            .collect()
    }

    #[test]
    fn headers_that_end_with_a_label_are_labelled_rows() {
        let text = ">chr1:9-13;label=1\nACGT\n>chr2:0-2(-);label=0\nAC\n";
        let rows = read_with(text, Options { coordinates: true, ..Options::default() }).unwrap();
        assert_eq!(labels(&rows), [Some(vec![1.0]), Some(vec![0.0])]);
        assert_eq!(column(&rows, schema::CHROM), ["chr1", "chr2"]);
        assert_eq!(column(&read(text).unwrap(), schema::NAME), ["chr1:9-13", "chr2:0-2(-)"]);
        let error = read(">a;label=1\nA\n>b\nC\n").unwrap_err().to_string();
        assert!(error.contains("line 3 (`b`)") && error.contains(";label="), "{error}");
        assert!(read(">a;label=x\nA\n").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn fasta_lines_are_joined_and_headers_are_names() {
        for text in [">a one\nacg\nTTR\n\n>b\nNN\n", "\r\n>a one\r\nacg\r\nTTR\r\n>b\r\nNN"] {
            let batch = read(text).unwrap();
            assert_eq!(column(&batch, "sequence"), ["ACGTTN", "NN"]);
            assert_eq!(column(&batch, "name"), ["a", "b"]);
            assert_eq!(column(&batch, "status"), ["ok", "all_n"]);
            assert_eq!(column(&batch, "chrom"), ["null", "null"]);
            assert_eq!(schema::i64s(&batch, "end").unwrap().values(), &[6, 2]);
            assert!(batch.column_by_name("label").is_none());
        }
    }

    #[test]
    fn pairs_have_their_second_sequence_beside_the_first() {
        let tables = [
            "sequence1,sequence2,label\nACGT,ttg,1\nNN,AC,0\n",
            "ACG CGT\tTTG\t1\nNN\tAC\t0\n",
            "ACGT,TTG,1\nNN,AC,0\n",
        ];
        for text in tables {
            let batch = read(text).unwrap();
            assert_eq!(column(&batch, "sequence"), ["ACGT", "NN"], "{text}");
            assert_eq!(column(&batch, "sequence_2"), ["TTG", "AC"], "{text}");
            assert_eq!(column(&batch, "status"), ["ok", "all_n"], "{text}");
            assert_eq!(labels(&batch), [Some(vec![1.0]), Some(vec![0.0])], "{text}");
        }
        let options = || Options {
            sequence_column: "a".into(),
            second_column: Some("b".into()),
            batch_rows: 1,
            ..Options::default()
        };
        let batch = read_with("b,a\nTTG,ACGT\nAC,GG\n", options()).unwrap();
        assert_eq!(column(&batch, "sequence"), ["ACGT", "GG"]);
        assert_eq!(column(&batch, "sequence_2"), ["TTG", "AC"]);
        assert!(batch.column_by_name("label").is_none());
        let error = read_with("a,c\nA,C\n", options()).unwrap_err().to_string();
        assert!(error.contains("`b`") && error.contains("--second-column"), "{error}");
        let error = read("sequence1,sequence2,label\nACGT,,1\n").unwrap_err().to_string();
        assert!(error.contains("line 2: second sequence: the sequence is empty"), "{error}");
        assert!(read("sequence,label\nACGT,1\n").unwrap().column_by_name("sequence_2").is_none());
    }

    #[test]
    fn coordinates_are_taken_only_when_asked() {
        let text = ">chr1:99-102\nACG\n>p::HLA:01:5-7(-)\nTT\n";
        assert_eq!(column(&read(text).unwrap(), "chrom"), ["null", "null"]);
        let with = |text| read_with(text, Options { coordinates: true, ..Options::default() });
        let batch = with(text).unwrap();
        assert_eq!(column(&batch, "chrom"), ["chr1", "HLA:01"]);
        assert_eq!(column(&batch, "name"), ["chr1:99-102", "p"]);
        assert_eq!(column(&batch, "strand"), [".", "-"]);
        assert_eq!(schema::i64s(&batch, "start").unwrap().values(), &[99, 5]);
        for bad in [">chr1:99-103\nACG\n", ">a\nACG\n", ">chr1:3-1\nACG\n"] {
            assert!(with(bad).unwrap_err().to_string().contains("line 1"), "{bad}");
        }
    }

    #[test]
    fn tables_have_labels_by_number_or_list() {
        let batch = read("label,sequence\n1,acgt\n\"0.5,1\",AC\n0;1;-2,GG\n,TT\n").unwrap();
        assert_eq!(column(&batch, "sequence"), ["ACGT", "AC", "GG", "TT"]);
        let expected = [Some(vec![1.0]), Some(vec![0.5, 1.0]), Some(vec![0.0, 1.0, -2.0]), None];
        assert_eq!(labels(&batch), expected);
        let batch = read("name\tsequence\nx\tAC\n\tGG\n").unwrap();
        assert_eq!(column(&batch, "name"), ["x", "null"]);
        assert!(batch.column_by_name("label").is_none());
    }

    #[test]
    fn kmers_are_joined_when_they_overlap() {
        let batch = read("sequence\tlabel\nACG CGT GTT\t1\nAC cg\t0\nA C\t0\n").unwrap();
        assert_eq!(column(&batch, "sequence"), ["ACGTT", "ACG", "AC"]);
        for bad in ["ACG GTT", "ACG CG", "ACG CGTT", "ACG ACG"] {
            let error = read(&format!("sequence\tlabel\n{bad}\t1\n")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("k-mer 2"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, place) in [
            (">a\nACG\n>b\n>c\nA\n", "s.txt: line 3 (`b`): the sequence is empty"),
            (">a\nAC GT\n", "s.txt: line 1 (`a`): ` `"),
            ("sequence,label\nACG,1\n,1\n", "s.txt: line 3: the sequence is empty"),
            ("sequence,label\nACG,1\nACG\n", "s.txt: line 3 has 1 columns where the header has 2"),
            ("sequence,label\nACG,1 0\n", "s.txt: line 2: label `1 0`"),
            ("sequence,label\nACG,0110\n", "s.txt: line 2: label `0110`"),
            ("sequence,label\nACG,nan\n", "s.txt: line 2: label `nan`"),
            ("id,region\nx,y\n", "s.txt: neither FASTA nor a table with a column `sequence`"),
            ("ACGT\nACGT\n", "s.txt: neither FASTA"),
            ("\n", "s.txt: there is nothing in it"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{text:?}: {error}");
        }
    }

    #[test]
    fn rows_do_not_depend_on_the_batch_size() {
        let text: String = (1..30).map(|n| format!(">{n}\n{}\n", "ACGT".repeat(n))).collect();
        let all = read(&text).unwrap();
        for batch_rows in [1, 2, 7, 29, 30] {
            assert_eq!(read_with(&text, Options { batch_rows, ..Options::default() }).unwrap(), all);
        }
    }

    #[test]
    fn real_sets_are_read_whole() {
        let Some(folder) = crate::testing::shared("data/benchmarks") else { return };
        for name in ["nyxbind_33tf/CEBPA/test.csv.gz", "GUE/mouse/0/test.csv.gz", "dnabert/ft6_dev.tsv.gz"] {
            let path = folder.join(name);
            let text = input::read_text(&path).unwrap();
            let pipe = sequences(input::open_text(&path).unwrap(), name, Options::default()).unwrap();
            let batch = collect(pipe).unwrap();
            // The naive reader: k-mers are their first letters and the rest of the last one.
            let expected: Vec<String> = text
                .lines()
                .skip(1)
                .map(|line| {
                    let field = line.split(['\t', ',']).next().unwrap();
                    let kmers: Vec<_> = field.split(' ').collect();
                    let heads: String = kmers.iter().map(|kmer| &kmer[..1]).collect();
                    heads + &kmers.last().unwrap()[1..]
                })
                .collect();
            assert_eq!(column(&batch, "sequence"), expected, "{name}");
            assert!(labels(&batch).iter().all(|label| label.as_ref().is_some_and(|label| label.len() == 1)));
        }
    }
}
