//! Rows of haplotypes: all variants of a haplotype in the window, applied together.
//!
//! A record has the rows of its alleles (see [`super::rows`]) and then one for each haplotype of each sample:
//! the window of that haplotype around the place of the record. Records are applied to haplotypes as they are
//! read, by the rules of [`super::edits`], so that sequences are those that `bcftools consensus -H 1` and
//! `-H 2` cut out of the whole contig. The base of POS has offset `width / 2` (or the middle base of the
//! allele, by [`Anchor`](super::Anchor)); what the haplotype has left and right of it fills the window.
//! Memory is bounded by the records in two windows.
//!
//! | status | sequence of the haplotype |
//! |---|---|
//! | `unknown_contig`, `not_bases` | none: the contig is unknown, or an allele in the window is not of bases |
//! | `haploid` | none: the genotype at the record has one allele |
//! | `symbolic_allele` | none: the haplotype has an allele without known bases in the window |
//! | `too_long` | none: the allele at the record does not fit; with a sequence where that is REF |
//! | `ref_mismatch` | a record in the window does not agree with the genome, and is not applied |
//! | `swapped` | of the record, whose REF and ALT were exchanged |
//! | `missing_genotype` | with the reference where a genotype in the window is missing |
//! | `unphased` | alleles of heterozygous genotypes without a phase are taken in their order |
//! | `overlap` | a variant in the window overlaps one before it and is left out |
//! | `spanning_deletion` | `*` in the window, but no deletion: the reference is taken |
//! | `all_n`, `off_contig` | as for alleles |

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::cut::{Center, Cut, Part, cut};
use super::edits::{Change, Edit, Event, Track};
use super::genotypes::{Call, PLOIDY};
use super::*;
use crate::schema::Status;

/// Bases beside the regions in which records are read, besides two windows: a chain of records that overlap one
/// another may begin there.
const MARGIN: i64 = 100_000;

/// Which rows of haplotypes are made.
#[derive(Clone, Debug, Default)]
pub struct Haplotypes {
    /// Names of the samples, in the order of the genotypes.
    pub samples: Vec<String>,
    /// One row for all haplotypes of a record whose windows are the same; their names are joined by comma.
    pub distinct: bool,
    /// Rows of every variant that a haplotype has in the window, alone, between alleles and haplotypes.
    pub singles: bool,
}

/// Returns where records have to be read so that the haplotypes of the selected ones are known.
pub fn reading(selection: &Selection, width: usize) -> Selection {
    selection.widened(MARGIN + 2 * width as i64)
}

/// Makes rows of alleles and haplotypes, lazily. `records` have the genotypes of the samples and are
/// sorted; those within [`reading`] of the selection are applied.
pub fn haplotype_rows<G: Bases + Send + 'static>(
    records: Records,
    genome: G,
    provenance: &provenance::Genome,
    options: Options,
    haplotypes: Haplotypes,
) -> (Pipe, Arc<Counts>) {
    let schema = RowKind::Haplotypes.schema(Some(provenance));
    let batch_rows = options.batch_rows;
    let mut sites = Sites::new(records, genome, provenance, options);
    sites.reading = reading(&sites.options.selection, sites.options.shape.width);
    let counts = sites.counts.clone();
    let rows = HaplotypeRows {
        reader: Reader::new(sites, haplotypes.samples.len() * PLOIDY),
        haplotypes,
        front: None,
        builder: RowBuilder::new(RowKind::Haplotypes, schema.clone()),
        bytes: 0,
    };
    (Pipe::new(schema, Batched::new(rows, batch_rows)), counts)
}

/// A record that was applied and whose rows are not made yet.
struct Waiting {
    /// Its number among all that were read.
    number: u64,
    site: Site,
}

/// Applies records to haplotypes, ahead of the record whose rows are made.
struct Reader<G> {
    sites: Sites<G>,
    tracks: Vec<Track>,
    waiting: VecDeque<Waiting>,
    /// Records that were read.
    read: u64,
    /// Contig of `tracks`.
    chrom: String,
    /// Start of the last record on it.
    last: i64,
    /// First record of the next contig.
    next_contig: Option<Record>,
    ended: bool,
    /// Contigs that were left.
    left: HashSet<String>,
    context: Context,
}

/// Bases of the genome that were fetched last.
#[derive(Default)]
struct Context {
    chrom: String,
    start: i64,
    bases: Vec<u8>,
}

impl<G: Bases> Reader<G> {
    fn new(sites: Sites<G>, haplotypes: usize) -> Self {
        Self {
            sites,
            tracks: vec![Track::default(); haplotypes],
            waiting: VecDeque::new(),
            read: 0,
            chrom: String::new(),
            last: i64::MIN,
            next_contig: None,
            ended: false,
            left: HashSet::new(),
            context: Context::default(),
        }
    }

    /// Takes the next selected record, all before it applied.
    fn next(&mut self) -> Result<Option<Waiting>> {
        loop {
            while let Some(waiting) = self.waiting.pop_front() {
                let (start, end) = waiting.site.record.span();
                if self.sites.options.selection.overlaps(&self.chrom, start, end) {
                    return Ok(Some(waiting));
                }
                self.sites.counts.outside.fetch_add(1, Relaxed);
            }
            if !self.read_ahead()? && !self.enter_contig()? {
                return Ok(None);
            }
        }
    }

    /// Reads and applies one more record of the contig; `false` at its end.
    fn read_ahead(&mut self) -> Result<bool> {
        if self.ended || self.next_contig.is_some() {
            return Ok(false);
        }
        let Some(record) = self.sites.next_record()? else {
            self.ended = true;
            return Ok(false);
        };
        if record.chrom != self.chrom {
            self.next_contig = Some(record);
            return Ok(false);
        }
        self.apply(record)?;
        Ok(true)
    }

    /// Goes on to the next contig; `false` when there is none.
    fn enter_contig(&mut self) -> Result<bool> {
        let Some(record) = self.next_contig.take() else { return Ok(false) };
        let left = std::mem::replace(&mut self.chrom, record.chrom.clone());
        self.left.insert(left);
        if self.left.contains(&record.chrom) {
            return Err(self.unsorted(&record, "its contig comes a second time"));
        }
        self.tracks.fill(Track::default());
        self.last = i64::MIN;
        self.apply(record)?;
        Ok(true)
    }

    fn unsorted(&self, record: &Record, why: &str) -> Error {
        let (chrom, position) = (&record.chrom, record.position);
        let message = format!(
            "{chrom}:{position}: {why}; --haplotypes needs sorted records (`bcftools sort` makes them so)"
        );
        Error::data(message).at(self.sites.place(record))
    }

    /// Returns the first base after which records may come that were not read.
    fn known_to(&self) -> i64 {
        if self.ended || self.next_contig.is_some() { i64::MAX } else { self.last }
    }

    /// Applies a record to all haplotypes.
    fn apply(&mut self, record: Record) -> Result<()> {
        let span = record.span();
        if span.0 < self.last {
            return Err(self.unsorted(&record, "it begins before the record in front of it"));
        }
        self.last = span.0;
        let anchor = self.sites.options.shape.anchor;
        let site = self.sites.lay(record, Shape { width: 1, anchor })?;
        let number = self.read;
        self.read += 1;
        let counts = &self.sites.counts;
        counts.polyploid.fetch_add(site.record.genotypes.polyploid, Relaxed);
        counts.left_out.fetch_add(apply_to(&mut self.tracks, &site, number), Relaxed);
        self.waiting.push_back(Waiting { number, site });
        Ok(())
    }

    /// Adds bases `[start, end)` of the contig.
    fn add_bases(&mut self, start: i64, end: i64, sequence: &mut Vec<u8>) -> Result<()> {
        let context = &mut self.context;
        let loaded = context.start..context.start + context.bases.len() as i64;
        if context.chrom != self.chrom || start < loaded.start || end > loaded.end {
            context.chrom.clone_from(&self.chrom);
            context.start = start;
            let width = self.sites.options.shape.width as i64;
            self.sites.genome.fetch(&self.chrom, start, end + 4 * width, &mut context.bases)?;
        }
        let from = (start - context.start) as usize;
        sequence.extend_from_slice(&context.bases[from..from + (end - start) as usize]);
        Ok(())
    }

    /// Returns the bases of a window.
    fn sequence(&mut self, cut: &Cut) -> Result<Vec<u8>> {
        let mut sequence = Vec::with_capacity(self.sites.options.shape.width);
        for part in &cut.parts {
            match part {
                Part::Genome(start, end) => self.add_bases(*start, *end, &mut sequence)?,
                Part::Edit(edit, start, end) => sequence.extend_from_slice(&edit.bases[*start..*end]),
            }
        }
        Ok(sequence)
    }

    /// Returns whether a haplotype is the reference, as far as a window at a record can reach and was read.
    fn is_plain(&mut self, haplotype: usize, record: &Record) -> bool {
        let track = &mut self.tracks[haplotype];
        track.forget(record.span().0, self.sites.options.shape.width);
        track.edits.is_empty() && track.events.is_empty()
    }

    /// Cuts the window of a haplotype around a record, after reading what can lie in it.
    fn cut(&mut self, haplotype: usize, number: u64, record: &Record) -> Result<Cut> {
        let Shape { width, anchor } = self.sites.options.shape;
        loop {
            let edits = self.tracks[haplotype].edits.make_contiguous();
            let own = edits.iter().find(|edit| edit.variant.record == number);
            let mut cut = cut(edits, center(record, own, anchor), width);
            // What the record itself changes may lie behind the last base: a deletion there, or what does not fit.
            if let Some(own) = own.filter(|own| !cut.edits.iter().any(|edit| Arc::ptr_eq(edit, own))) {
                cut.edits.push(own.clone());
            }
            if cut.end <= self.known_to() || !self.read_ahead()? {
                return self.check_reach(cut, record);
            }
        }
    }

    /// Refuses windows that reach further than records were read.
    fn check_reach(&self, cut: Cut, record: &Record) -> Result<Cut> {
        let length = self.sites.genome.contig_length(&self.chrom).unwrap_or(0) as i64;
        let (start, end) = (cut.start.clamp(0, length), cut.end.clamp(0, length));
        if start >= end || self.sites.reading.holds(&self.chrom, start, end) {
            return Ok(cut);
        }
        let message = "deletions make a haplotype's window reach further than -r lets be read: leave -r out";
        Err(Error::data(message).at(self.sites.place(record)))
    }
}

/// Returns where the window of a haplotype lies; `own` is what it has of the record.
fn center(record: &Record, own: Option<&Arc<Edit>>, anchor: Anchor) -> Center {
    let first = record.span().0;
    match own {
        Some(edit) => Center { position: first, ahead: anchor.ahead(allele_length(record, edit)) },
        None => {
            let length = record.alleles[0].len();
            Center { position: first + anchor.ahead(length) as i64, ahead: 0 }
        }
    }
}

/// Returns the bases of the allele that an edit puts in; of `<DEL>` the first base of REF is left.
fn allele_length(record: &Record, edit: &Edit) -> usize {
    let allele = &record.alleles[usize::from(edit.variant.allele)];
    if AlleleKind::of(allele) == AlleleKind::Bases { allele.len() } else { 1 }
}

/// Applies a record to all haplotypes; returns how many leave it out because it overlaps another.
fn apply_to(tracks: &mut [Track], site: &Site, number: u64) -> u64 {
    let record = &site.record;
    let span = record.span();
    let mismatch = site.is_mismatch();
    let change = |k| match mismatch {
        true => Change::Nothing(Some(Status::RefMismatch)),
        false => Change::of(record, number, k),
    };
    let changes: Vec<Change> = (1..record.alleles.len() as u16).map(change).collect();
    let mut left_out = 0;
    for (track, call) in tracks.iter_mut().zip(&record.genotypes.calls) {
        match *call {
            Call::Allele(0) if mismatch => track.say(span, Status::RefMismatch),
            Call::Allele(0) | Call::Absent => {}
            Call::Allele(k) => left_out += u64::from(track.apply(&changes[usize::from(k) - 1], span)),
            Call::Missing => track.say(span, Status::MissingGenotype),
        }
    }
    for sample in &record.genotypes.unphased {
        for track in &mut tracks[sample * PLOIDY..(sample + 1) * PLOIDY] {
            track.say(span, Status::Unphased);
        }
    }
    left_out
}

/// Haplotypes of a record whose windows are the same.
struct Group {
    window: AlleleWindow,
    /// The allele at the record, 0 where that is the reference or not known.
    allele: u16,
    /// Names of the variants in the window.
    applied: String,
    /// The haplotypes, by number.
    members: Vec<usize>,
}

/// A variant alone in the window of another record.
struct Single {
    edit: Arc<Edit>,
    window: AlleleWindow,
}

/// The record whose rows are being made.
struct Front {
    ordinal: u64,
    site: Site,
    singles: Vec<Single>,
    groups: Vec<Group>,
    /// Group and member of each row of a haplotype, in order.
    order: Vec<(usize, usize)>,
    /// Rows that were made.
    made: usize,
}

/// Rows of alleles and haplotypes, record by record.
struct HaplotypeRows<G> {
    reader: Reader<G>,
    haplotypes: Haplotypes,
    front: Option<Front>,
    builder: RowBuilder,
    bytes: usize,
}

impl<G: Bases> Rows for HaplotypeRows<G> {
    fn push(&mut self) -> Result<bool> {
        if self.front.is_none() {
            let Some(waiting) = self.reader.next()? else { return Ok(false) };
            self.front = Some(self.open(waiting)?);
        }
        let front = self.front.as_mut().expect("a record is at hand");
        self.bytes += front.push(&self.haplotypes, &mut self.builder);
        if front.made == front.rows() {
            self.front = None;
        }
        Ok(true)
    }

    fn waiting(&mut self) -> (&mut RowBuilder, &mut usize) {
        (&mut self.builder, &mut self.bytes)
    }
}

impl<G: Bases> HaplotypeRows<G> {
    /// Makes all windows of a record.
    fn open(&mut self, waiting: Waiting) -> Result<Front> {
        let Waiting { number, site } = waiting;
        let shape = self.reader.sites.options.shape;
        let site = site.reshape(shape, &mut self.reader.sites.genome)?;
        let (groups, edits) = self.group(number, &site)?;
        let singles = match self.haplotypes.singles {
            true => self.singles(number, &site, edits)?,
            false => Vec::new(),
        };
        let order = match self.haplotypes.distinct {
            true => (0..groups.len()).map(|group| (group, 0)).collect(),
            false => in_order(&groups),
        };
        let counts = &self.reader.sites.counts;
        counts.haplotypes.fetch_add(groups.iter().map(|group| group.members.len() as u64).sum(), Relaxed);
        counts.distinct.fetch_add(groups.len() as u64, Relaxed);
        let ordinal = counts.records.fetch_add(1, Relaxed);
        Ok(Front { ordinal, site, singles, groups, order, made: 0 })
    }

    /// Cuts the windows of all haplotypes, those that are the same together. Returns the edits in them, too.
    fn group(&mut self, number: u64, site: &Site) -> Result<(Vec<Group>, Vec<Arc<Edit>>)> {
        let (mut groups, mut edits) = (Vec::<Group>::new(), Vec::new());
        let (mut known, mut seen) = (HashMap::new(), HashSet::new());
        // Groups of haplotypes without anything to say, by their call: most are of these.
        let mut plain: HashMap<Call, usize> = HashMap::new();
        for (haplotype, &call) in site.record.genotypes.calls.iter().enumerate() {
            let is_plain = self.reader.is_plain(haplotype, &site.record);
            if let Some(&index) = plain.get(&call).filter(|_| is_plain) {
                groups[index].members.push(haplotype);
                continue;
            }
            let mut cut = None;
            if site.has_contig() && site.has_bases() && call != Call::Absent {
                cut = Some(self.reader.cut(haplotype, number, &site.record)?);
            }
            let status = cut.as_ref().and_then(|cut| status_in(&self.reader.tracks[haplotype].events, cut));
            let key = key_of(call, status, cut.as_ref());
            let index = match known.get(&key) {
                Some(index) => *index,
                None => {
                    groups.push(self.new_group(number, site, call, cut.as_ref(), status)?);
                    known.insert(key, groups.len() - 1);
                    groups.len() - 1
                }
            };
            groups[index].members.push(haplotype);
            if self.reader.is_plain(haplotype, &site.record) {
                plain.insert(call, index);
            }
            let new = cut.into_iter().flat_map(|cut| cut.edits);
            edits.extend(new.filter(|edit| seen.insert((edit.variant.record, edit.variant.allele))));
        }
        Ok((groups, edits))
    }

    /// Makes a group without members; without a cut there is no sequence.
    fn new_group(
        &mut self,
        number: u64,
        site: &Site,
        call: Call,
        cut: Option<&Cut>,
        status: Option<Status>,
    ) -> Result<Group> {
        let (start, end) = site.reference_interval();
        let haploid = site.has_contig() && site.has_bases();
        let silent = if haploid { Status::Haploid } else { site.window(0).status };
        let window = match cut {
            Some(cut) => self.window(number, site, cut, status)?,
            None => AlleleWindow { start, end, sequence: None, status: silent },
        };
        let edits = cut.map(|cut| cut.edits.as_slice()).unwrap_or_default();
        let names: Vec<_> = edits.iter().map(|edit| edit.variant.name()).collect();
        let allele = if let Call::Allele(allele) = call { allele } else { 0 };
        Ok(Group { window, allele, applied: names.join(";"), members: Vec::new() })
    }

    /// Makes the window of a haplotype.
    fn window(
        &mut self,
        number: u64,
        site: &Site,
        cut: &Cut,
        status: Option<Status>,
    ) -> Result<AlleleWindow> {
        let (start, end) = site.reference_interval();
        let silent = |status| Ok(AlleleWindow { start, end, sequence: None, status });
        if let Some(status @ (Status::SymbolicAllele | Status::NotBases)) = status {
            return silent(status);
        }
        let own = cut.edits.iter().find(|edit| edit.variant.record == number);
        let Shape { width, anchor } = self.reader.sites.options.shape;
        if own.is_some_and(|edit| anchor.flanks(width, allele_length(&site.record, edit)).is_none()) {
            return silent(Status::TooLong);
        }
        let whole = own.is_some() || site.reference_fits();
        let mut window = site.finish(cut.start, cut.end, self.reader.sequence(cut)?, whole);
        let by_itself = [Status::RefMismatch, Status::Swapped, Status::TooLong];
        if let Some(status) = status.filter(|_| !by_itself.contains(&window.status)) {
            window.status = status;
        }
        Ok(window)
    }

    /// Makes the windows of variants of other records alone.
    fn singles(&mut self, number: u64, site: &Site, mut edits: Vec<Arc<Edit>>) -> Result<Vec<Single>> {
        edits.retain(|edit| edit.variant.record != number);
        edits.sort_by_key(|edit| (edit.variant.record, edit.variant.allele));
        let Shape { width, anchor } = self.reader.sites.options.shape;
        let single = |edit: Arc<Edit>| {
            let cut = cut(std::slice::from_ref(&edit), center(&site.record, None, anchor), width);
            let sequence = self.reader.sequence(&cut)?;
            let window = site.finish(cut.start, cut.end, sequence, site.reference_fits());
            Ok(Single { edit, window })
        };
        edits.into_iter().map(single).collect()
    }
}

/// What tells the windows of one record apart: the allele there, the status, the interval, the edits.
type Key = (Call, Option<Status>, i64, i64, Vec<(u64, u16)>);

/// Returns what tells the window of a haplotype from others of the record.
fn key_of(call: Call, status: Option<Status>, cut: Option<&Cut>) -> Key {
    let Some(cut) = cut else { return (call, status, 0, 0, Vec::new()) };
    let names = cut.edits.iter().map(|edit| (edit.variant.record, edit.variant.allele)).collect();
    (call, status, cut.start, cut.end, names)
}

impl Front {
    /// Returns how many rows there are.
    fn rows(&self) -> usize {
        self.site.record.alleles.len() + self.singles.len() + self.order.len()
    }

    /// Adds the next row; returns its bytes.
    fn push(&mut self, haplotypes: &Haplotypes, builder: &mut RowBuilder) -> usize {
        let index = self.made;
        self.made += 1;
        let alleles = self.site.record.alleles.len();
        if index < alleles {
            self.push_allele(index, builder)
        } else if let Some(single) = self.singles.get(index - alleles) {
            self.push_single(single, builder)
        } else {
            let (group, member) = self.order[index - alleles - self.singles.len()];
            self.push_haplotype(&self.groups[group], member, haplotypes, builder)
        }
    }

    fn push_allele(&self, k: usize, builder: &mut RowBuilder) -> usize {
        let record = &self.site.record;
        let window = self.site.window(k);
        let alternate = alternate_of(record, k);
        let applied = match k {
            0 => String::new(),
            _ => format!("{}:{}>{}", record.position, record.alleles[0], alternate),
        };
        let applied = Some(applied.as_str()).filter(|_| window.sequence.is_some());
        let row = row_of(record, self.ordinal, &window);
        builder.push_haplotype(&row, &allele_of(record, self.ordinal, k, &alternate), applied);
        bytes_of(&row, record, &alternate)
    }

    fn push_single(&self, single: &Single, builder: &mut RowBuilder) -> usize {
        let variant = &single.edit.variant;
        let row = row_of(&self.site.record, self.ordinal, &single.window);
        let row = Row { name: variant.id.as_deref(), ..row };
        let allele = Allele {
            variant: self.ordinal,
            id: variant.id.as_deref(),
            position: variant.position,
            reference: &variant.reference,
            alternate: &variant.alternate,
            allele: variant.allele,
            haplotype: None,
        };
        builder.push_haplotype(&row, &allele, Some(&variant.name()));
        bytes_of(&row, &self.site.record, &variant.alternate)
    }

    fn push_haplotype(
        &self,
        group: &Group,
        member: usize,
        haplotypes: &Haplotypes,
        builder: &mut RowBuilder,
    ) -> usize {
        let record = &self.site.record;
        let k = usize::from(group.allele);
        let alternate = if k == 0 { "." } else { record.alleles[k].as_str() };
        let members = match haplotypes.distinct {
            true => group.members.as_slice(),
            false => &group.members[member..=member],
        };
        let name = haplotypes.name(members);
        let row = row_of(record, self.ordinal, &group.window);
        let allele = allele_of(record, self.ordinal, k, alternate);
        let applied = row.sequence.map(|_| group.applied.as_str());
        builder.push_haplotype(&row, &Allele { haplotype: Some(&name), ..allele }, applied);
        bytes_of(&row, record, alternate) + group.applied.len() + name.len()
    }
}

impl Haplotypes {
    /// Returns the names of haplotypes: sample, `|`, 1 or 2; by comma.
    fn name(&self, members: &[usize]) -> String {
        let name =
            |&haplotype: &usize| format!("{}|{}", self.samples[haplotype / PLOIDY], haplotype % PLOIDY + 1);
        members.iter().map(name).collect::<Vec<_>>().join(",")
    }
}

fn bytes_of(row: &Row, record: &Record, alternate: &str) -> usize {
    row.sequence.map_or(0, str::len) + record.alleles[0].len() + alternate.len()
}

/// Returns group and member of each haplotype, in the order of the haplotypes.
fn in_order(groups: &[Group]) -> Vec<(usize, usize)> {
    let mut order: Vec<(usize, usize, usize)> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        order.extend(group.members.iter().enumerate().map(|(member, haplotype)| (*haplotype, index, member)));
    }
    order.sort_unstable();
    order.into_iter().map(|(_, group, member)| (group, member)).collect()
}

/// Returns what the events in a window say: the first of them in the order of the table above.
fn status_in(events: &VecDeque<Event>, cut: &Cut) -> Option<Status> {
    const ORDER: [Status; 7] = [
        Status::NotBases,
        Status::SymbolicAllele,
        Status::RefMismatch,
        Status::MissingGenotype,
        Status::Unphased,
        Status::Overlap,
        Status::SpanningDeletion,
    ];
    let inside = events.iter().filter(|event| event.start < cut.end && event.end > cut.start);
    inside.map(|event| event.status).min_by_key(|status| ORDER.iter().position(|other| other == status))
}
