//! Mutations of a sequence, all of them or those of a file. Pure but for the file's lines.

use std::io::BufRead;
use std::ops::Range;

use crate::dna::BASES;
use crate::error::{Error, Result};

/// Bases `[start, end)` of a sequence replaced by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// First base that is replaced, from 0.
    pub start: usize,
    /// One past the last base; `start` for an insertion before `start`.
    pub end: usize,
    /// What is there instead, upper-case `ACGTN`; nothing for a deletion.
    pub bases: Vec<u8>,
}

impl Mutation {
    /// Returns the mutated sequence. With `width` it has that many bases: what is missing on the right is N, what
    /// is too much there is cut off.
    pub fn apply(&self, sequence: &[u8], width: Option<usize>) -> Vec<u8> {
        let mut mutant = Vec::with_capacity(sequence.len() + self.bases.len());
        mutant.extend_from_slice(&sequence[..self.start]);
        mutant.extend_from_slice(&self.bases);
        mutant.extend_from_slice(&sequence[self.end..]);
        if let Some(width) = width {
            mutant.resize(width, b'N');
        }
        mutant
    }
}

/// Which mutations a saturation has besides substitutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saturation {
    /// Every base deleted.
    pub deletions: bool,
    /// Every base inserted before every base.
    pub insertions: bool,
    /// Only this many bases in the middle are mutated.
    pub span: Option<usize>,
}

impl Saturation {
    /// Returns the mutations of a sequence from left to right: of each base the substitutions in the order A C G T,
    /// its deletion, the insertions before it. An N is not mutated.
    pub fn mutations(self, sequence: &[u8]) -> Vec<Mutation> {
        let range = self.range(sequence.len());
        let known = range.filter(|&place| BASES.contains(&sequence[place]));
        known.flat_map(|place| self.at(place, sequence[place])).collect()
    }

    fn range(self, length: usize) -> Range<usize> {
        let span = self.span.unwrap_or(length).min(length);
        let first = (length - span) / 2;
        first..first + span
    }

    fn at(self, start: usize, base: u8) -> impl Iterator<Item = Mutation> {
        let others = BASES.into_iter().filter(move |&other| other != base);
        let substitutions = others.map(move |other| Mutation { start, end: start + 1, bases: vec![other] });
        let deletion = Mutation { start, end: start + 1, bases: Vec::new() };
        let inserted = if self.insertions { &BASES[..] } else { &[] };
        let insertions = inserted.iter().map(move |&base| Mutation { start, end: start, bases: vec![base] });
        substitutions.chain(self.deletions.then_some(deletion)).chain(insertions)
    }
}

/// Lines of DNABERT's mutation file: index of the sequence, start, end (0-based, half-open), allele, separated by
/// tabs and without a header. An empty allele is a deletion, `start = end` an insertion.
pub struct MutationFile {
    lines: Box<dyn Iterator<Item = (u64, std::io::Result<String>)> + Send>,
    waiting: Option<(u64, u64, Mutation)>,
    place: String,
}

impl MutationFile {
    /// Reads lines from `text`; `place` is the file's name in errors.
    pub fn new(text: Box<dyn BufRead + Send>, place: String) -> Self {
        let lines = (1..).zip(text.lines());
        Self {
            lines: Box::new(lines.filter(|(_, line)| !matches!(line, Ok(line) if line.is_empty()))),
            waiting: None,
            place,
        }
    }

    /// Returns the mutations of the `index`-th sequence, whose bases these are. Sequences are asked for in order.
    ///
    /// # Errors
    ///
    /// When a line is no mutation, is of a sequence before this one, or reaches past its end.
    pub fn of(&mut self, index: u64, sequence: &[u8]) -> Result<Vec<Mutation>> {
        let mut mutations = Vec::new();
        while let Some((number, own, mutation)) = self.next()? {
            if own > index {
                self.waiting = Some((number, own, mutation));
                break;
            }
            if own < index {
                let message =
                    format!("sequence {own} comes after a later one: sort the file (`sort -s -k1,1n`)");
                return Err(self.at(number, Error::data(message)));
            }
            if mutation.end > sequence.len() {
                let (start, end, length) = (mutation.start, mutation.end, sequence.len());
                let message = format!("{start}-{end} reaches past the {length} bases of sequence {index}");
                return Err(self.at(number, Error::data(message)));
            }
            mutations.push(mutation);
        }
        Ok(mutations)
    }

    /// Refuses mutations that are left when there were `sequences` sequences.
    ///
    /// # Errors
    ///
    /// When there are any.
    pub fn finish(&mut self, sequences: u64) -> Result<()> {
        let Some((number, index, _)) = self.next()? else { return Ok(()) };
        let message = format!("it mutates sequence {index} (from 0), but there are {sequences}");
        Err(self.at(number, Error::data(message)))
    }

    fn next(&mut self) -> Result<Option<(u64, u64, Mutation)>> {
        if self.waiting.is_some() {
            return Ok(self.waiting.take());
        }
        let Some((number, line)) = self.lines.next() else { return Ok(None) };
        match line.map_err(Error::from).and_then(|line| parse(&line)) {
            Ok((index, mutation)) => Ok(Some((number, index, mutation))),
            Err(error) => Err(self.at(number, error)),
        }
    }

    fn at(&self, number: u64, error: Error) -> Error {
        error.at(format!("{}:{number}", self.place))
    }
}

fn parse(line: &str) -> Result<(u64, Mutation)> {
    let bad = || {
        let shown: String = line.chars().take(40).collect();
        Error::data(format!("`{shown}` is no mutation: index, start, end (0-based), allele, by tabs"))
    };
    let mut fields = line.trim_end_matches('\r').split('\t');
    let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok());
    let (index, start, end) =
        (number().ok_or_else(bad)?, number().ok_or_else(bad)?, number().ok_or_else(bad)?);
    let bases = fields.next().unwrap_or_default().trim().to_ascii_uppercase().into_bytes();
    let letters = bases.iter().all(|base| b"ACGTN".contains(base));
    if start > end || !letters || fields.next().is_some() {
        return Err(bad());
    }
    Ok((index, Mutation { start: start as usize, end: end as usize, bases }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(saturation: Saturation, sequence: &str) -> Vec<String> {
        let mutants = saturation.mutations(sequence.as_bytes());
        let text = |mutation: &Mutation| mutation.apply(sequence.as_bytes(), None);
        mutants.iter().map(|mutation| String::from_utf8(text(mutation)).unwrap()).collect()
    }

    #[test]
    fn every_other_base_at_every_known_base() {
        let plain = Saturation::default();
        assert_eq!(texts(plain, "ANC"), ["CNC", "GNC", "TNC", "ANA", "ANG", "ANT"]);
        assert_eq!(texts(Saturation { span: Some(1), ..plain }, "AAC"), ["ACC", "AGC", "ATC"]);
        let all = Saturation { deletions: true, insertions: true, span: None };
        assert_eq!(texts(all, "G"), ["A", "C", "T", "", "AG", "CG", "GG", "TG"]);
        let distinct: std::collections::HashSet<_> = texts(plain, "ACGTTGCA").into_iter().collect();
        assert_eq!(distinct.len(), 24);
    }

    #[test]
    fn the_width_is_kept_at_the_right_end() {
        let mutation = |start, end, bases: &str| Mutation { start, end, bases: bases.into() };
        assert_eq!(mutation(1, 2, "").apply(b"ACGT", Some(4)), b"AGTN");
        assert_eq!(mutation(1, 1, "TT").apply(b"ACGT", Some(4)), b"ATTC");
        assert_eq!(mutation(1, 3, "GGG").apply(b"ACGT", None), b"AGGGT");
    }

    #[test]
    fn a_file_gives_each_sequence_its_own() {
        let open = |text: &'static str| MutationFile::new(Box::new(text.as_bytes()), "m.tsv".into());
        let mut file = open("0\t1\t2\tg\n0\t1\t1\tTT\n\n2\t0\t1\t\n2\t0\t1\n");
        assert_eq!(file.of(0, b"ACG").unwrap().len(), 2);
        assert_eq!(file.of(1, b"ACG").unwrap(), []);
        assert_eq!(file.of(2, b"ACG").unwrap()[1], Mutation { start: 0, end: 1, bases: Vec::new() });
        assert!(file.finish(3).is_ok());
        for (text, place, word) in [
            ("0\t1\t9\tA\n", "m.tsv:1", "past the 3 bases"),
            ("1\t0\t1\tA\n0\t0\t1\tA\n", "m.tsv:2", "sort"),
            ("0\t2\t1\tA\n", "m.tsv:1", "no mutation"),
            ("0\t0\t1\tR\n", "m.tsv:1", "no mutation"),
            ("index\tstart\n", "m.tsv:1", "no mutation"),
            ("5\t0\t1\tA\n", "m.tsv:1", "there are 2"),
        ] {
            let mut file = open(text);
            let outcome = file.of(0, b"ACG").and_then(|_| file.of(1, b"ACG")).and_then(|_| file.finish(2));
            let error = outcome.unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(word), "{error}");
        }
    }
}
