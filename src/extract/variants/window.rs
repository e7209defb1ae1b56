//! How an allele sits in a window that keeps its width.
//!
//! The first base of REF (the POS of a VCF) has offset `width / 2`, the convention of
//! [`Region::around`](crate::region::Region::around). An allele of another length than REF leaves more or
//! less room for flanks; [`Anchor`] says on which side.

/// Which flank gives way when an allele is longer or shorter than one base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The left flank is fixed: the allele's first base has offset `width / 2`, the right flank gives way.
    #[default]
    Left,
    /// Both flanks give way: base `length / 2` (from 0) of each allele has offset `width / 2`.
    Center,
}

/// Bases of the genome on either side of an allele.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flanks {
    /// Bases left of the allele.
    pub left: usize,
    /// Bases right of the allele.
    pub right: usize,
}

impl Anchor {
    /// Returns how many bases of an allele of `length` bases lie left of offset `width / 2`.
    pub fn ahead(self, length: usize) -> usize {
        match self {
            Self::Left => 0,
            Self::Center => length / 2,
        }
    }

    /// Returns the flanks of an allele of `length` bases in a window of `width`: left + length + right =
    /// width. `None` when the window cannot hold the whole allele.
    pub fn flanks(self, width: usize, length: usize) -> Option<Flanks> {
        let left = (width / 2).checked_sub(self.ahead(length))?;
        Some(Flanks { left, right: width.checked_sub(left + length)? })
    }

    /// Returns where the reference window begins when REF begins at `first` and has `length` bases.
    pub fn reference_start(self, width: usize, first: i64, length: usize) -> i64 {
        first + self.ahead(length) as i64 - (width / 2) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Region;

    #[test]
    fn the_first_base_of_ref_is_where_region_around_has_its_center() {
        for width in [1, 2, 5, 200, 201] {
            assert_eq!(
                Anchor::Left.reference_start(width, 70, 9),
                Region::around("c", 70, width as i64).start
            );
            assert_eq!(
                Anchor::Center.reference_start(width, 70, 1),
                Region::around("c", 70, width as i64).start
            );
        }
    }

    #[test]
    fn the_left_anchor_moves_only_the_right_flank() {
        assert_eq!(Anchor::Left.flanks(11, 1), Some(Flanks { left: 5, right: 5 }));
        assert_eq!(Anchor::Left.flanks(11, 6), Some(Flanks { left: 5, right: 0 }));
        assert_eq!(Anchor::Left.flanks(11, 7), None);
    }

    #[test]
    fn the_center_anchor_moves_both_flanks() {
        assert_eq!(Anchor::Center.flanks(11, 1), Some(Flanks { left: 5, right: 5 }));
        assert_eq!(Anchor::Center.flanks(11, 5), Some(Flanks { left: 3, right: 3 }));
        assert_eq!(Anchor::Center.flanks(11, 11), Some(Flanks { left: 0, right: 0 }));
        assert_eq!(Anchor::Center.flanks(11, 12), None);
        assert_eq!(Anchor::Center.flanks(10, 10), Some(Flanks { left: 0, right: 0 }));
    }

    #[test]
    fn flanks_and_allele_fill_the_window() {
        for anchor in [Anchor::Left, Anchor::Center] {
            for width in 1..30 {
                for length in 1..40 {
                    let Some(flanks) = anchor.flanks(width, length) else {
                        assert!(length > width - width / 2, "{anchor:?} {width} {length}");
                        continue;
                    };
                    assert_eq!(flanks.left + length + flanks.right, width);
                }
            }
        }
    }
}
