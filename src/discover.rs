//! Stage: rows → motifs.
//!
//! From scores: [`enriched`]: regions of high score in positive sequences that negative ones lack, as DNABERT-viz and
//! NyxBind find them ([`regions`], [`enrichment`] on [`hypergeometric`], [`merge`], [`windows`]). [`called`]: the
//! windows of models that predict every base ([`base_calls`]).
//!
//! And from contributions, de novo: [`modisco`] is TF-MoDISco's procedure on [`tracks`]. [`seqlets`] are extracted by
//! [`thresholds`] of a null distribution, compared by [`gapped`] k-mers and by their [`jaccard`] similarity, joined in a
//! graph ([`affinity`]) that [`leiden`] clusters, and laid over each other ([`align`]) to a [`pattern`]; patterns that are
//! alike are merged ([`collapse`]). [`gather`] reads the contributions of a stream, [`hdf5`] writes patterns,
//! [`seqlet_rows`] seqlets; [`recursive`] finds seqlets of any length.
//!
//! [`rows`] reads what the others need of a stream, [`found`] is a motif and motifs as rows, [`files`] writes the files.

pub mod affinity;
pub mod align;
pub mod base_calls;
pub mod called;
pub mod collapse;
pub mod enriched;
pub mod enrichment;
pub mod files;
pub mod found;
pub mod gapped;
pub mod gather;
#[cfg(test)]
mod golden;
pub mod hdf5;
pub mod hypergeometric;
pub mod jaccard;
pub mod leiden;
pub mod merge;
pub mod modisco;
#[cfg(test)]
mod parity;
pub mod pattern;
pub mod recursive;
pub mod regions;
pub mod rows;
pub mod seqlet_rows;
pub mod seqlets;
pub mod thresholds;
pub mod tracks;
pub mod windows;
