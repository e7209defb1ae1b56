//! Which sequences go through the layers together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Tokens of a pack: enough that reading the weights costs little beside using them.
const TOKENS: usize = 512;

/// Divides sequences of these lengths into packs of about equal work, as many as make all threads finish
/// together. `hidden` tells how much of the work grows with the square of a length.
pub fn packs(lengths: &[usize], hidden: usize, threads: usize) -> Vec<Vec<usize>> {
    let tokens: usize = lengths.iter().sum();
    let count = tokens.div_ceil(TOKENS).next_multiple_of(threads.max(1)).min(lengths.len());
    let mut longest: Vec<usize> = (0..lengths.len()).collect();
    longest.sort_by_key(|&sequence| Reverse(lengths[sequence]));
    let mut packs = vec![Vec::new(); count];
    let mut loads: BinaryHeap<_> = (0..count).map(|pack| Reverse((0, pack))).collect();
    for sequence in longest {
        // The least loaded first: loads differ by one sequence at most, and the longest came first.
        let Some(Reverse((load, pack))) = loads.pop() else { break };
        packs[pack].push(sequence);
        let length = lengths[sequence];
        loads.push(Reverse((load + length * (6 * hidden + length), pack)));
    }
    packs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_is_in_one_pack_and_no_pack_is_much_heavier() {
        let lengths: Vec<usize> = (0..500).map(|i| 5 + i * 7919 % 300).collect();
        for threads in [1, 2, 16] {
            let packs = packs(&lengths, 64, threads);
            let mut all: Vec<usize> = packs.concat();
            all.sort_unstable();
            assert_eq!(all, (0..500).collect::<Vec<_>>());
            assert!(packs.len().is_multiple_of(threads));
            let loads: Vec<usize> = packs.iter().map(|pack| pack.iter().map(|&s| lengths[s]).sum()).collect();
            assert!(loads.iter().all(|&load| load <= TOKENS + 305), "{loads:?}");
        }
        assert_eq!(packs(&[9, 9], 64, 16).len(), 2);
        assert!(packs(&[], 64, 16).is_empty());
    }
}
