//! Merging similar keys: the best alignment without gaps, as DNABERT's and NyxBind's `merge_motifs` gives it.
//!
//! They align by Biopython 1.83 with match 1, mismatch 0, free end gaps and internal gaps of −10000, so the best
//! offset decides. Among offsets of equal score Biopython prefers those beyond the end, then those before the start;
//! the rule is written out in [`best_offset`]. (Releases up to 1.78 join a query to every key that ties, and 1.88
//! charges for end gaps: they give other merges.)

use super::enrichment::{Instance, Key};

/// How a query lies on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alignment {
    /// Bases that agree.
    score: usize,
    /// Where the key begins in the query; may be negative.
    offset: i64,
}

/// Merges keys, shortest first, into the first of the most similar keys so far. A query joins a key when at least
/// `max(min_length − 1, half of the shorter one)` bases agree; its instances become those of the key's span. What
/// joins nothing is a key of its own.
pub fn merge(mut keys: Vec<Key>, min_length: usize) -> Vec<Key> {
    keys.sort_by_key(|key| key.bases.len());
    let mut merged: Vec<Key> = Vec::new();
    for query in keys {
        match most_similar(&merged, &query.bases, min_length) {
            Some((place, offset)) => {
                let width = merged[place].bases.len() as i64;
                let moved = |at: &Instance| Instance {
                    start: at.start + offset,
                    end: at.start + offset + width,
                    ..*at
                };
                merged[place].instances.extend(query.instances.iter().map(moved));
            }
            None => merged.push(query),
        }
    }
    merged
}

/// Returns the place of the key that `query` joins and where that key begins in it.
fn most_similar(keys: &[Key], query: &[u8], min_length: usize) -> Option<(usize, i64)> {
    let mut best: Option<(usize, Alignment)> = None;
    for (place, key) in keys.iter().enumerate() {
        let alignment = best_offset(query, &key.bases);
        let shorter = query.len().min(key.bases.len());
        // Twice the condition, to stay with whole numbers.
        let accepted = 2 * alignment.score >= (2 * min_length.saturating_sub(1)).max(shorter);
        if accepted && best.is_none_or(|(_, best)| alignment.score > best.score) {
            best = Some((place, alignment));
        }
    }
    best.map(|(place, alignment)| (place, alignment.offset))
}

/// Returns the offset at which most bases agree. Ties, with d the difference in length: the largest offset if one
/// is above d, else the smallest if one is below d, else d.
fn best_offset(query: &[u8], key: &[u8]) -> Alignment {
    let (query_length, key_length) = (query.len() as i64, key.len() as i64);
    let difference = query_length - key_length;
    let agree = |offset: i64| {
        let first = offset.max(0);
        let last = query_length.min(offset + key_length);
        (first..last).filter(|&i| query[i as usize] == key[(i - offset) as usize]).count()
    };
    let scores: Vec<(i64, usize)> =
        (1 - key_length..query_length).map(|offset| (offset, agree(offset))).collect();
    let score = scores.iter().map(|&(_, score)| score).max().unwrap_or(0);
    let tied = || scores.iter().filter(|&&(_, other)| other == score).map(|&(offset, _)| offset);
    let beyond = tied().rfind(|&offset| offset > difference);
    let before = tied().find(|&offset| offset < difference);
    Alignment { score, offset: beyond.or(before).unwrap_or(difference) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bases: &str, sequence: usize) -> Key {
        let at = Instance { sequence, start: 10, end: 10 + bases.len() as i64 };
        Key { bases: bases.into(), instances: vec![at], p_value: 0.0, q_value: 0.0 }
    }

    #[test]
    fn a_longer_key_joins_the_shorter_at_its_span() {
        let merged = merge(vec![key("CATTCTTAT", 1), key("ATTCTT", 0)], 5);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].bases, b"ATTCTT");
        assert_eq!(merged[0].instances[1], Instance { sequence: 1, start: 11, end: 17 });
    }

    #[test]
    fn too_few_equal_bases_make_a_new_key() {
        let merged = merge(vec![key("AAAAA", 0), key("AAACC", 1), key("AAAAC", 2)], 5);
        let keys: Vec<&[u8]> = merged.iter().map(|key| key.bases.as_slice()).collect();
        assert_eq!(keys, [b"AAAAA", b"AAACC"], "AAAAC agrees in four of five with both and joins the first");
        assert_eq!(merged[0].instances.len(), 2);
    }

    #[test]
    fn ties_go_beyond_the_end_then_before_the_start() {
        assert_eq!(best_offset(b"AAAA", b"AA"), Alignment { score: 2, offset: 0 });
        assert_eq!(best_offset(b"ACACA", b"ACGCA"), Alignment { score: 4, offset: 0 });
        // One base agrees at offsets 0 and 1.
        assert_eq!(best_offset(b"AA", b"AC"), Alignment { score: 1, offset: 1 });
    }
}
