//! What a haplotype is: the genome with edits. Pure.
//!
//! Records are applied in the order of the file by the rules of `bcftools consensus -H` (1.16):
//!
//! * An allele that begins at or before the last base of the reference allele applied before it overlaps it,
//!   and is left out. An insertion or deletion that keeps its first base may begin at that last base, unless
//!   an insertion was applied there before.
//! * `<DEL>` with an `END` deletes from the base after POS to `END`. `<*>` and `<NON_REF>` are the reference,
//!   and protect their stretch.
//!
//! Two rules are nyx's own. `*` changes nothing (bcftools writes an asterisk where no deletion was applied),
//! and an allele without known bases makes the sequence unknown (bcftools stops, or writes the text of a
//! breakend).

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{AlleleKind, Record};
use crate::schema::Status;

/// Bases `[start, end)` of the genome replaced by others.
#[derive(Debug, PartialEq, Eq)]
pub struct Edit {
    /// First base that is replaced, 0-based.
    pub start: i64,
    /// One past the last base that is replaced; `start` for an insertion before `start`.
    pub end: i64,
    /// What is there instead, upper-case `ACGTN`.
    pub bases: Vec<u8>,
    /// The variant: contig, position, alleles and ID as the record has them.
    pub variant: Variant,
}

/// An allele of a record, as its row names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Number of the record among all that were read.
    pub record: u64,
    /// Number of the allele, from 1.
    pub allele: u16,
    /// 1-based position of the record.
    pub position: i64,
    /// Its reference allele.
    pub reference: String,
    /// The allele.
    pub alternate: String,
    /// The record's ID.
    pub id: Option<String>,
}

impl Variant {
    /// Returns `POS:REF>ALT`.
    pub fn name(&self) -> String {
        format!("{}:{}>{}", self.position, self.reference, self.alternate)
    }
}

/// What carrying an allele does to a haplotype.
#[derive(Clone, Debug)]
pub enum Change {
    /// It replaces bases.
    Edit {
        /// The bases.
        edit: Arc<Edit>,
        /// The stretch of the reference allele, which nothing else may change, 0-based and half-open.
        span: (i64, i64),
        /// Whether it keeps the first base of that stretch, so that it may follow a change of that base.
        keeps_first: bool,
        /// Whether it has more bases than it replaces.
        inserts: bool,
    },
    /// It is the reference in `[.0, .1)`.
    Reference(i64, i64),
    /// It says that another record deletes the base at `.0`.
    Spanning(i64),
    /// Its bases in `[.1, .2)` are not known, for this reason.
    Unknown(Status, i64, i64),
    /// It changes nothing, for this reason, if there is one.
    Nothing(Option<Status>),
}

impl Change {
    /// Returns what allele `k` (from 1) of a record does; `ordinal` is the record's number.
    pub fn of(record: &Record, ordinal: u64, k: u16) -> Self {
        let reference = &record.alleles[0];
        let alternate = &record.alleles[usize::from(k)];
        let (start, end) = record.span();
        if AlleleKind::of(reference) != AlleleKind::Bases {
            return Self::Unknown(Status::NotBases, start, end);
        }
        let stated_end = record.end.unwrap_or(end).max(end);
        match AlleleKind::of(alternate) {
            AlleleKind::Spanning => Self::Spanning(start),
            AlleleKind::NotBases => Self::Unknown(Status::NotBases, start, end),
            AlleleKind::Symbolic => match alternate.to_ascii_uppercase().as_str() {
                "<*>" | "<NON_REF>" => Self::Reference(start, stated_end),
                "<DEL>" if stated_end > start + 1 => Self::deletion(record, ordinal, k, (start, stated_end)),
                _ => Self::Unknown(Status::SymbolicAllele, start, stated_end),
            },
            // Before the first base of a contig there is nothing to change.
            AlleleKind::Bases if start < 0 => Self::Nothing(None),
            AlleleKind::Bases => Self::replacement(record, ordinal, k),
        }
    }

    fn deletion(record: &Record, ordinal: u64, k: u16, span: (i64, i64)) -> Self {
        let variant = variant_of(record, ordinal, k);
        let edit = Edit { start: span.0 + 1, end: span.1, bases: Vec::new(), variant };
        Self::Edit { edit: Arc::new(edit), span, keeps_first: true, inserts: false }
    }

    fn replacement(record: &Record, ordinal: u64, k: u16) -> Self {
        let reference = record.alleles[0].as_bytes();
        let alternate = record.alleles[usize::from(k)].as_bytes();
        let span = record.span();
        let inserts = alternate.len() > reference.len();
        let keeps_first = is_indel(reference, alternate) && reference[0] == alternate[0];
        // Where the first base stays, it is not written: a change of it before this one is to stay, too.
        let trimmed = usize::from(keeps_first || inserts && reference[0].eq_ignore_ascii_case(&alternate[0]));
        let edit = Edit {
            start: span.0 + trimmed as i64,
            end: span.1,
            bases: alternate[trimmed..].to_ascii_uppercase(),
            variant: variant_of(record, ordinal, k),
        };
        Self::Edit { edit: Arc::new(edit), span, keeps_first, inserts }
    }
}

fn variant_of(record: &Record, ordinal: u64, k: u16) -> Variant {
    Variant {
        record: ordinal,
        allele: k,
        position: record.position,
        reference: record.alleles[0].clone(),
        alternate: record.alleles[usize::from(k)].clone(),
        id: record.id.clone(),
    }
}

/// Returns whether htslib takes an allele for an insertion or a deletion: what is left after the common
/// beginning, and of that what is left before the common end, is nothing on one side.
fn is_indel(reference: &[u8], alternate: &[u8]) -> bool {
    let same = |pair: &(&u8, &u8)| pair.0.eq_ignore_ascii_case(pair.1);
    let ahead = reference.iter().zip(alternate).take_while(same).count();
    let (reference, alternate) = (&reference[ahead..], &alternate[ahead..]);
    if reference.is_empty() || alternate.is_empty() {
        return reference.len() != alternate.len();
    }
    let behind = reference.iter().rev().zip(alternate.iter().rev()).take_while(same).count();
    reference.len() != alternate.len() && behind >= reference.len().min(alternate.len())
}

/// Something that a window which holds its place has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// First base it is about, 0-based.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
    /// What happened.
    pub status: Status,
}

/// A haplotype on one contig, as far as it was read.
#[derive(Clone, Debug)]
pub struct Track {
    /// Last base that may not be changed again.
    frozen: i64,
    /// Whether the last change was an insertion.
    inserted: bool,
    /// Edits, left to right; none overlaps another.
    pub edits: VecDeque<Arc<Edit>>,
    /// Events in the order of the records.
    pub events: VecDeque<Event>,
}

impl Default for Track {
    fn default() -> Self {
        Self { frozen: -1, inserted: false, edits: VecDeque::new(), events: VecDeque::new() }
    }
}

impl Track {
    /// Applies a change whose record has its reference allele in `span`. Returns whether it was left out
    /// because it overlaps another.
    pub fn apply(&mut self, change: &Change, span: (i64, i64)) -> bool {
        match change {
            Change::Nothing(None) => {}
            Change::Nothing(Some(status)) => self.say(span, *status),
            Change::Unknown(status, start, end) => self.say((*start, *end), *status),
            Change::Spanning(start) if *start <= self.frozen => {}
            Change::Spanning(_) => self.say(span, Status::SpanningDeletion),
            Change::Reference(start, _) if *start <= self.frozen => return self.leave_out(span),
            Change::Reference(_, end) => self.frozen = self.frozen.max(end - 1),
            Change::Edit { edit, span, keeps_first, inserts } => {
                let follows = span.0 > self.frozen || span.0 == self.frozen && *keeps_first && !self.inserted;
                if !follows {
                    return self.leave_out(*span);
                }
                self.frozen = span.1 - 1;
                self.inserted = *inserts;
                self.edits.push_back(edit.clone());
            }
        }
        false
    }

    /// Adds an event.
    pub fn say(&mut self, (start, end): (i64, i64), status: Status) {
        self.events.push_back(Event { start, end, status });
    }

    fn leave_out(&mut self, span: (i64, i64)) -> bool {
        self.say(span, Status::Overlap);
        true
    }

    /// Forgets what lies left of `bases` bases of the haplotype before `position`.
    pub fn forget(&mut self, position: i64, bases: usize) {
        let mut reach = bases as i64;
        let mut cursor = position;
        let mut kept = 0;
        for edit in self.edits.iter().rev() {
            if edit.start < position {
                let gap = cursor - edit.end.min(cursor);
                if gap >= reach {
                    break;
                }
                reach -= gap + edit.bases.len() as i64;
                cursor = edit.start;
            }
            kept += 1;
            if reach <= 0 {
                break;
            }
        }
        self.edits.drain(..self.edits.len() - kept);
        let first = cursor.min(position) - reach.max(0);
        while self.events.front().is_some_and(|event| event.end <= first && event.start < position) {
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Place;
    use super::*;

    fn change(position: i64, reference: &str, alternate: &str) -> (Change, (i64, i64)) {
        let record = Record {
            position,
            alleles: vec![reference.into(), alternate.into()],
            ..Record::at(Place::Record(1))
        };
        (Change::of(&record, 0, 1), record.span())
    }

    /// Which of these records bcftools would apply, by its rules; checked against the program in tests/it.
    fn applied(records: &[(i64, &str, &str)]) -> Vec<bool> {
        let mut track = Track::default();
        let left_out = records.iter().map(|&(position, reference, alternate)| {
            let (change, span) = change(position, reference, alternate);
            !track.apply(&change, span)
        });
        left_out.collect()
    }

    #[test]
    fn what_overlaps_is_left_out_and_what_follows_is_not() {
        assert_eq!(applied(&[(5, "A", "C"), (5, "A", "G")]), [true, false], "two alleles of one base");
        assert_eq!(
            applied(&[(5, "A", "C"), (5, "A", "AT")]),
            [true, true],
            "an insertion after a changed base"
        );
        assert_eq!(applied(&[(5, "A", "AT"), (5, "A", "C")]), [true, false], "the other way round");
        assert_eq!(applied(&[(5, "A", "AT"), (5, "A", "AG")]), [true, false], "two insertions");
        assert_eq!(applied(&[(5, "ACG", "A"), (7, "G", "GTT")]), [true, true], "at a deletion's last base");
        assert_eq!(applied(&[(5, "ACG", "A"), (6, "C", "T"), (8, "T", "A")]), [true, false, true]);
        assert_eq!(applied(&[(5, "A", "<*>"), (5, "A", "C")]), [true, false], "a stretch of the reference");
    }

    #[test]
    fn indels_are_what_htslib_takes_for_them() {
        for (reference, alternate, indel) in [
            ("A", "C", false),
            ("A", "AT", true),
            ("ACG", "A", true),
            ("CA", "CTA", true),
            ("GAC", "AC", true),
            ("CAT", "CGGG", false),
            ("ACC", "GC", false),
            ("AC", "GT", false),
            ("A", "A", false),
        ] {
            assert_eq!(
                is_indel(reference.as_bytes(), alternate.as_bytes()),
                indel,
                "{reference}>{alternate}"
            );
        }
    }

    #[test]
    fn what_a_window_can_still_need_is_not_forgotten() {
        let mut track = Track::default();
        for (position, reference, alternate) in [(5, "A", "C"), (10, "A", "ATTTT"), (30, "A", "C")] {
            let (change, span) = change(position, reference, alternate);
            track.apply(&change, span);
        }
        // Before 0-based 13 lie 3 bases, TTTT, and then 0-based 9.
        let kept = |bases| {
            let mut track = track.clone();
            track.forget(13, bases);
            track.edits.iter().map(|edit| edit.variant.position).collect::<Vec<_>>()
        };
        assert_eq!(kept(3), [30]);
        assert_eq!(kept(4), [10, 30]);
        assert_eq!(kept(12), [10, 30]);
        assert_eq!(kept(13), [5, 10, 30]);
    }
}
