//! Bases as bytes. Base order is A, C, G, T = 0, 1, 2, 3 everywhere.

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
        *base = NORMAL[*base as usize];
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

const NORMAL: [u8; 256] = {
    let mut table = [b'N'; 256];
    let mut i = 0;
    while i < 4 {
        table[BASES[i] as usize] = BASES[i];
        table[BASES[i].to_ascii_lowercase() as usize] = BASES[i];
        i += 1;
    }
    table
};

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
    fn the_reverse_complement_undoes_itself() {
        let mut bases = *b"AACGTN";
        reverse_complement(&mut bases);
        assert_eq!(&bases, b"NACGTT");
        reverse_complement(&mut bases);
        assert_eq!(&bases, b"AACGTN");
    }
}
