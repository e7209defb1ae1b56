//! Which shard is which part of the whole, and what their histories have in common.

use arrow_schema::Metadata;

use super::Shard;
use crate::error::{Error, Result};
use crate::provenance::{self, CHAIN_KEY, Share, Step};

/// Options that say how a command runs and not what it computes; those of the second list have a value.
const HOW: [&str; 6] = ["-q", "--quiet", "-v", "--verbose", "--no-pg", "--strict"];
const HOW_WITH_VALUE: [&str; 9] =
    ["-o", "--output", "-@", "--threads", "--batch-size", "--progress", "--stats", "--shard", "--device"];

/// Sorts the shards by the part of the whole they say they are and returns those parts; none when none says so.
///
/// # Errors
///
/// Parts of different wholes; a part that is missing (unless `allow_gaps`) or there twice; parts that do not meet.
pub fn order(shards: &mut [Shard], allow_gaps: bool) -> Result<Vec<Option<Share>>> {
    let share = |shard: &Shard| provenance::share(&shard.1.schema().metadata);
    let shares = shards.iter().map(share).collect::<Result<Vec<_>>>()?;
    let Some(first) = shares.iter().flatten().next() else { return Ok(shares) };
    for ((path, _), share) in shards.iter().zip(&shares) {
        let differs = |what: String| Err(Error::data(what).at(path.display().to_string()));
        match share {
            None => return differs("does not say which shard it is, others do".into()),
            Some(share) if (share.parts, share.total) != (first.parts, first.total) => {
                let of = |share: &Share| format!("{share} of {} regions", share.total);
                return differs(format!("{}, but another is {}: of two scans", of(share), of(first)));
            }
            Some(_) => {}
        }
    }
    // Each says so, as was checked above; the order of those is total.
    shards.sort_by_key(|shard| share(shard).ok().flatten().map_or(0, |share| share.part));
    let ordered: Vec<Share> = shards.iter().filter_map(|shard| share(shard).ok().flatten()).collect();
    check_parts(shards, &ordered, allow_gaps)?;
    Ok(ordered.into_iter().map(Some).collect())
}

/// Checks that ordered parts follow each other from the first to the last.
fn check_parts(shards: &[Shard], shares: &[Share], allow_gaps: bool) -> Result<()> {
    let name = |index: usize| shards[index].0.display();
    for (index, pair) in (1..).zip(shares.windows(2)) {
        let [before, after] = pair else { unreachable!("windows of two") };
        if before.part == after.part {
            return Err(Error::data(format!("{} and {} are both {before}", name(index - 1), name(index))));
        }
        if before.part + 1 == after.part && before.end != after.first {
            let message = format!(
                "{after} begins at region {}, {before} ended before {}: made of different inputs",
                after.first, before.end
            );
            return Err(Error::data(message).at(name(index).to_string()));
        }
    }
    let parts = shares.first().map_or(0, |share| share.parts);
    let missing: Vec<String> = (1..=parts)
        .filter(|part| shares.binary_search_by_key(part, |share| share.part).is_err())
        .map(|part| format!("{part}/{parts}"))
        .collect();
    if missing.is_empty() || allow_gaps {
        return Ok(());
    }
    let shown = missing.len().min(5);
    let more =
        if missing.len() > shown { format!(" and {} more", missing.len() - shown) } else { String::new() };
    Err(Error::data(format!(
        "{} of {parts} shards missing: {}{more} (--allow-gaps joins anyway)",
        missing.len(),
        missing[..shown].join(", ")
    )))
}

/// Returns a command without the options that only say how it ran.
pub fn what(command: &str) -> String {
    let mut kept = Vec::new();
    // What is no command of words is compared as it is.
    let mut words = provenance::words(command).unwrap_or_else(|| vec![command]).into_iter();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        if HOW.contains(&word) {
            continue;
        }
        if HOW_WITH_VALUE.contains(&name) {
            if name == word {
                words.next();
            }
            continue;
        }
        kept.push(word);
    }
    kept.join(" ")
}

/// Returns the metadata of the first shard, saying of each stage how many other commands it had, and that all parts
/// together are the whole.
pub fn common_metadata(shards: &[Shard], shares: &[Option<Share>]) -> Result<Metadata> {
    let chains = shards.iter().map(|(_, pipe)| provenance::chain(&pipe.schema().metadata));
    let chains = chains.collect::<Result<Vec<_>>>()?;
    let mut steps: Vec<Step> = chains[0].clone();
    let whole = shares.first().copied().flatten().filter(|first| shares.len() as u64 == first.parts);
    for (index, step) in steps.iter_mut().enumerate() {
        let command = what(&step.command);
        let others = chains.iter().filter(|chain| what(&chain[index].command) != command).count();
        step.command = if others > 0 { format!("{command} [and {others} other shards]") } else { command };
        step.share = step.share.and(whole).map(Share::whole);
        // Each shard had files of its own.
        (step.input, step.output) = (None, None);
    }
    let metadata = shards[0].1.schema().metadata.clone();
    Ok(if steps.is_empty() { metadata } else { metadata.with(CHAIN_KEY, serde_json::to_string(&steps)?) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{of_share, regions_of};
    use super::super::{Shard, merge};
    use super::*;

    fn part(part: u64, regions: &[u64], bounds: [u64; 3]) -> Shard {
        let [first, end, total] = bounds;
        of_share(regions, Share { part, parts: 3, first, end, total, sparse: false }, "scan --width 5")
    }

    fn parts() -> Vec<Shard> {
        vec![part(3, &[4, 4], [4, 5, 5]), part(1, &[0, 1], [0, 2, 5]), part(2, &[2, 3], [2, 4, 5])]
    }

    fn refused(shards: Vec<Shard>) -> String {
        let outcome = merge(shards, false, 8).and_then(regions_of);
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn parts_in_any_order_are_the_whole_and_say_so() {
        let merged = merge(parts(), false, 8).unwrap();
        let share = provenance::share(&merged.schema().metadata).unwrap().unwrap();
        assert_eq!(share, Share { part: 1, parts: 1, first: 0, end: 5, total: 5, sparse: false });
        assert_eq!(regions_of(merged).unwrap(), [0, 1, 2, 3, 4, 4]);
    }

    #[test]
    fn a_part_that_is_missing_is_named_even_if_it_is_the_last() {
        for (absent, name) in [(0, "3/3"), (1, "1/3"), (2, "2/3")] {
            let mut shards = parts();
            shards.remove(absent);
            assert!(refused(shards).starts_with(&format!("1 of 3 shards missing: {name}")));
        }
        let mut shards = parts();
        shards.remove(0);
        let merged = merge(shards, true, 8).unwrap();
        assert_eq!(provenance::share(&merged.schema().metadata).unwrap(), None, "it is not the whole");
    }

    #[test]
    fn a_part_that_lost_rows_at_its_end_or_has_foreign_ones_is_refused() {
        let replaced = |index: usize, shard| {
            let mut shards = parts();
            shards[index] = shard;
            refused(shards)
        };
        assert!(replaced(0, part(3, &[], [4, 5, 5])).contains("region 4 is missing at its end"));
        assert!(replaced(1, part(1, &[0], [0, 2, 5])).contains("region 1 is missing at its end"));
        assert!(replaced(2, part(2, &[2, 3, 4], [2, 4, 5])).contains("region 4 is not of shard 2/3"));
        assert!(replaced(2, part(1, &[0, 1], [0, 2, 5])).contains("are both shard 1/3"));
        assert!(replaced(2, part(2, &[3], [3, 4, 5])).contains("made of different inputs"));
        assert!(replaced(2, part(2, &[2, 3], [2, 4, 6])).contains("of two scans"));
    }

    #[test]
    fn rows_that_a_filter_dropped_are_not_missed() {
        let sparse = |part, regions: &[u64], first, end| {
            of_share(regions, Share { part, parts: 2, first, end, total: 9, sparse: true }, "scan")
        };
        let shards = vec![sparse(1, &[1], 0, 5), sparse(2, &[6, 7], 5, 9)];
        assert_eq!(regions_of(merge(shards, false, 8).unwrap()).unwrap(), [1, 6, 7]);
    }

    #[test]
    fn parts_of_scans_of_another_layout_are_refused() {
        let share = |part, first, end| Share { part, parts: 2, first, end, total: 2, sparse: false };
        let shards = vec![
            of_share(&[0], share(1, 0, 1), "scan --width 5 --shard 1/2 -@ 4"),
            of_share(&[1], share(2, 1, 2), "scan --width 6 --shard 2/2"),
        ];
        let error = refused(shards);
        assert!(error.contains("`scan --width 6`, not `scan --width 5`"), "{error}");
    }

    #[test]
    fn what_is_computed_is_told_from_how() {
        assert_eq!(
            what("nyx-extract tiles --shard 1/2 --fasta g.fa -o x -@ 2 --stats=s.json -q"),
            "nyx-extract tiles --fasta g.fa"
        );
    }
}
