//! Intervals of BED and narrowPeak files.
