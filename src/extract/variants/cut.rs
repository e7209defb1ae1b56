//! Cutting a window out of an edited genome. Pure: what it is made of, not yet its bases.

use std::sync::Arc;

use super::edits::Edit;

/// A part of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bases `[.0, .1)` of the genome.
    Genome(i64, i64),
    /// Bases `[.1, .2)` of what an edit puts in.
    Edit(Arc<Edit>, usize, usize),
}

/// A window of an edited genome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// First base of the genome in the window, 0-based.
    pub start: i64,
    /// One past the last base of the genome in the window.
    pub end: i64,
    /// Left to right; their lengths add up to the width.
    pub parts: Vec<Part>,
    /// The edits in the window, left to right, deletions as well.
    pub edits: Vec<Arc<Edit>>,
}

/// Where a window lies: `ahead` bases of the haplotype after its base for `position` of the genome have
/// offset `width / 2`. Where that base is deleted the next one that is left takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Center {
    /// 0-based.
    pub position: i64,
    /// Bases to go right from there.
    pub ahead: usize,
}

/// Cuts `width` bases. `edits` are ascending and do not overlap.
pub fn cut(edits: &[Arc<Edit>], center: Center, width: usize) -> Cut {
    let Center { position, ahead } = center;
    // An insertion before `position` belongs to the base before it.
    let split = edits.partition_point(|edit| edit.start < position || edit.end <= position);
    let (left, right) = edits.split_at(split);
    let half = width / 2;
    let mut window = Cut { start: position, end: position, ..Cut::default() };
    // An edit that `position` lies in belongs to both sides.
    let inside = left.last().filter(|edit| edit.end > position);
    let (whole, broken) = left.split_at(left.len() - usize::from(inside.is_some()));
    let place = |edit: &Edit| edit.bases.len().min((position - edit.start) as usize);
    let broken = broken.first();
    take_left(&mut window, whole, broken.map(|edit| (edit, place(edit))), half.saturating_sub(ahead));
    window.parts.reverse();
    window.edits.reverse();
    let skipped = ahead.saturating_sub(half);
    let wanted = width - (half - ahead.min(half));
    take_right(&mut window, right, broken.map(|edit| (edit, place(edit))), skipped, wanted);
    window
}

/// Takes `wanted` bases leftwards, parts and edits in that order.
fn take_left(window: &mut Cut, edits: &[Arc<Edit>], broken: Option<(&Arc<Edit>, usize)>, mut wanted: usize) {
    let mut cursor = window.start;
    let whole = edits.iter().rev().map(|edit| (edit, edit.bases.len()));
    for (edit, length) in broken.into_iter().chain(whole) {
        let gap = (cursor - edit.end.min(cursor)).min(wanted as i64);
        if gap > 0 {
            window.parts.push(Part::Genome(cursor - gap, cursor));
        }
        wanted -= gap as usize;
        cursor -= gap;
        window.start = cursor;
        if wanted == 0 {
            return;
        }
        window.edits.push(edit.clone());
        let taken = length.min(wanted);
        if taken > 0 {
            window.parts.push(Part::Edit(edit.clone(), length - taken, length));
        }
        wanted -= taken;
        let kept = (length - taken) as i64;
        window.start = if wanted == 0 { edit.end.min(edit.start + kept) } else { edit.start };
        cursor = edit.start;
        if wanted == 0 {
            return;
        }
    }
    window.parts.push(Part::Genome(cursor - wanted as i64, cursor));
    window.start = cursor - wanted as i64;
}

/// Takes `wanted` bases rightwards after `skipped` ones.
fn take_right(
    window: &mut Cut,
    edits: &[Arc<Edit>],
    broken: Option<(&Arc<Edit>, usize)>,
    mut skipped: usize,
    mut wanted: usize,
) {
    let mut cursor = window.end;
    let mut began = skipped == 0;
    let whole = edits.iter().map(|edit| (edit, 0));
    for (edit, from) in broken.into_iter().chain(whole) {
        let gap = (edit.start - cursor).max(0);
        let passed = gap.min(skipped as i64);
        skipped -= passed as usize;
        let taken = (gap - passed).min(wanted as i64);
        if taken > 0 {
            begin(window, &mut began, cursor + passed);
            window.parts.push(Part::Genome(cursor + passed, cursor + passed + taken));
        }
        wanted -= taken as usize;
        window.end = cursor + passed + taken;
        if wanted == 0 {
            return;
        }
        let passed = (edit.bases.len() - from).min(skipped);
        skipped -= passed;
        let first = from + passed;
        let last = edit.bases.len().min(first + wanted);
        if last > first {
            begin(window, &mut began, edit.end.min(edit.start + first as i64));
            window.parts.push(Part::Edit(edit.clone(), first, last));
        }
        if began && window.edits.last() != Some(edit) {
            window.edits.push(edit.clone());
        }
        wanted -= last - first;
        let through = last == edit.bases.len();
        window.end = if through { edit.end } else { edit.end.min(edit.start + last as i64) };
        cursor = edit.end;
        if wanted == 0 {
            return;
        }
    }
    let first = cursor + skipped as i64;
    begin(window, &mut began, first);
    window.parts.push(Part::Genome(first, first + wanted as i64));
    window.end = first + wanted as i64;
}

/// Sets the start of a window whose first base lies right of where it is looked for.
fn begin(window: &mut Cut, began: &mut bool, start: i64) {
    if !*began {
        window.start = start;
        window.edits.clear();
        *began = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::edits::Variant;
    use super::*;

    fn edit(start: i64, end: i64, bases: &str) -> Arc<Edit> {
        let (reference, alternate) = (String::new(), String::new());
        let variant = Variant { record: 0, allele: 1, position: start, reference, alternate, id: None };
        Arc::new(Edit { start, end, bases: bases.into(), variant })
    }

    /// The letters of the genome: far outside of it as well, so that no window passes its ends.
    fn genome(from: i64, to: i64) -> Vec<u8> {
        (from..to).map(|i| b"ACGT"[(i.rem_euclid(7) * i.rem_euclid(3) % 4) as usize]).collect()
    }

    fn letters(cut: &Cut) -> String {
        let part = |part: &Part| match part {
            Part::Genome(start, end) => genome(*start, *end),
            Part::Edit(edit, start, end) => edit.bases[*start..*end].to_vec(),
        };
        String::from_utf8(cut.parts.iter().flat_map(part).collect()).unwrap()
    }

    /// The haplotype from -300 to 400 as letters, and where position `at` is in it.
    fn naive(edits: &[Arc<Edit>], at: i64) -> (String, usize) {
        let (mut text, mut cursor, mut offset) = (Vec::new(), -300, None);
        for edit in edits {
            for position in cursor..edit.start {
                if position == at {
                    offset = Some(text.len());
                }
                text.extend(genome(position, position + 1));
            }
            if offset.is_none() && at < edit.end && at >= edit.start.max(cursor) {
                offset = Some(text.len() + edit.bases.len().min((at - edit.start) as usize));
            }
            text.extend(&edit.bases);
            cursor = edit.end;
        }
        for position in cursor..400 {
            if position == at {
                offset = Some(text.len());
            }
            text.extend(genome(position, position + 1));
        }
        (String::from_utf8(text).unwrap(), offset.unwrap())
    }

    proptest! {
        #[test]
        fn a_window_is_cut_out_of_the_whole_edited_genome(
            steps in prop::collection::vec((0i64..6, 0i64..5, "[ACGT]{0,5}"), 0..8),
            position in 0i64..40,
            ahead in 0usize..12,
            width in 1usize..40,
        ) {
            let mut edits = Vec::new();
            let mut cursor = 0;
            for (gap, length, bases) in steps {
                cursor += gap;
                edits.push(edit(cursor, cursor + length, &bases));
                cursor += length;
            }
            let window = cut(&edits, Center { position, ahead }, width);
            let (whole, offset) = naive(&edits, position);
            let expected = &whole[offset + ahead - width / 2..][..width];
            prop_assert_eq!(&letters(&window), expected);
            prop_assert!(window.start <= window.end);
            // The stretch of the genome, with the edits that lie in it, holds the window.
            let inside = edits.iter().filter(|edit| edit.start >= window.start && edit.end <= window.end);
            prop_assert!(inside.clone().all(|edit| edit.start == edit.end
                || edit.start == window.start || edit.end == window.end || window.edits.contains(edit)));
        }
    }

    #[test]
    fn coordinates_name_the_stretch_of_the_genome() {
        let at = |edits: &[Arc<Edit>], position| {
            let window = cut(edits, Center { position, ahead: 0 }, 10);
            (window.start, window.end, window.edits.len())
        };
        assert_eq!(at(&[], 20), (15, 25, 0));
        // A deletion of three bases right, then left of the middle; an insertion of two.
        assert_eq!(at(&[edit(22, 25, "")], 20), (15, 28, 1));
        assert_eq!(at(&[edit(16, 19, "")], 20), (12, 25, 1));
        assert_eq!(at(&[edit(21, 21, "GG")], 20), (15, 23, 1));
        // Just outside of the window there is nothing.
        assert_eq!(at(&[edit(10, 15, ""), edit(25, 30, "")], 20), (15, 25, 0));
    }
}
