//! Stage: contributions and motifs → motif instances.
