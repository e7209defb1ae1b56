//! Bases as bytes. Base order is A, C, G, T = 0, 1, 2, 3 everywhere.

mod shuffle;

pub use shuffle::{dinucleotide_shuffles, mononucleotide_shuffles};

/// The bases in their order.
pub const BASES: [u8; 4] = *b"ACGT";

/// Returns the index of an upper-case base, or `None` for anything else.
pub fn base_index(base: u8) -> Option<usize> {
    match base {
        b'A' => Some(0),
        b'C' => Some(1),
        b'G' => Some(2),
        b'T' => Some(3),
        _ => None,
    }
}

/// Turns every byte into one of `ACGTN`: lower case is raised, all else is `N`.
pub fn normalize(bases: &mut [u8]) {
    for base in bases {
        // Without a table and without a branch the compiler makes vector code of this.
        let upper = *base & 0xDF;
        let known = (upper == b'A') | (upper == b'C') | (upper == b'G') | (upper == b'T');
        *base = if known { upper } else { b'N' };
    }
}

/// Reverse-complements upper-case `ACGTN` in place.
pub fn reverse_complement(bases: &mut [u8]) {
    bases.reverse();
    for base in bases {
        *base = match *base {
            b'A' => b'T',
            b'C' => b'G',
            b'G' => b'C',
            b'T' => b'A',
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_are_not_bases_become_n() {
        let mut bases = *b"acgtRu-N";
        normalize(&mut bases);
        assert_eq!(&bases, b"ACGTNNNN");
    }

    #[test]
    fn only_the_letters_of_bases_are_bases() {
        let mut bytes: Vec<u8> = (0..=255).collect();
        normalize(&mut bytes);
        let kept: Vec<u8> = (0..=255).filter(|&byte| bytes[byte as usize] != b'N').collect();
        assert_eq!(kept, b"ACGTacgt");
    }

    #[test]
    fn the_reverse_complement_undoes_itself() {
        let mut bases = *b"AACGTN";
        reverse_complement(&mut bases);
        assert_eq!(&bases, b"NACGTT");
        reverse_complement(&mut bases);
        assert_eq!(&bases, b"AACGTN");
    }
}
