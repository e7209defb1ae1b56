//! The columns of rows that are motif instances, whoever found them.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{ALLELE, ALT, CHROM, END, HAPLOTYPE, POS, REF, REGION, START, STRAND, VARIANT, VARIANT_ID};
use crate::provenance::KIND_KEY;

/// First base of the untrimmed motif.
pub const START_UNTRIMMED: &str = "start_untrimmed";
/// One past the last base of the untrimmed motif.
pub const END_UNTRIMMED: &str = "end_untrimmed";
/// Name of the motif.
pub const MOTIF_NAME: &str = "motif_name";
/// Coefficient in the scaled region.
pub const HIT_COEFFICIENT: &str = "hit_coefficient";
/// Coefficient times the square of the region's scale.
pub const HIT_COEFFICIENT_GLOBAL: &str = "hit_coefficient_global";
/// Cosine of CWM and contributions over the trimmed window (with `--compat`, Fi-NeMo's variant of it).
pub const HIT_SIMILARITY: &str = "hit_similarity";
/// The same number as [`HIT_SIMILARITY`], as in Fi-NeMo.
pub const HIT_CORRELATION: &str = "hit_correlation";
/// Sum of absolute contributions in the trimmed window.
pub const HIT_IMPORTANCE: &str = "hit_importance";
/// Sum of squared contributions in the trimmed window.
pub const HIT_IMPORTANCE_SQ: &str = "hit_importance_sq";
/// Name of the region that the hit lies in.
pub const PEAK_NAME: &str = "peak_name";
/// Ordinal of the region that the hit lies in.
pub const PEAK_ID: &str = "peak_id";
/// Duality gap of the region over its length.
pub const DUAL_GAP: &str = "dual_gap";
/// Whether the gap is within tolerance.
pub const CONVERGED: &str = "converged";

/// Log-odds score of the sequence in bits.
pub const SCORE: &str = "score";
/// Chance of at least that score at one place of a random sequence.
pub const P_VALUE: &str = "p_value";

/// Columns of allele rows that go on with every hit.
pub const VARIANT_COLUMNS: [&str; 7] = [VARIANT, VARIANT_ID, POS, REF, ALT, ALLELE, HAPLOTYPE];

/// Returns the schema of hits on regions of schema `input`, with `more` columns before those of variants.
pub fn schema(input: &Schema, more: &[Field]) -> SchemaRef {
    let float = |name| Field::new(name, DataType::Float32, false);
    let integer = |name| Field::new(name, DataType::Int64, false);
    let mut fields = vec![
        Field::new(REGION, DataType::UInt64, false),
        Field::new(CHROM, DataType::Utf8, true),
        integer(START),
        integer(END),
        integer(START_UNTRIMMED),
        integer(END_UNTRIMMED),
        Field::new(MOTIF_NAME, DataType::Utf8, false),
        float(HIT_COEFFICIENT),
        float(HIT_COEFFICIENT_GLOBAL),
        float(HIT_SIMILARITY),
        float(HIT_CORRELATION),
        float(HIT_IMPORTANCE),
        float(HIT_IMPORTANCE_SQ),
        Field::new(STRAND, DataType::Utf8, false),
        Field::new(PEAK_NAME, DataType::Utf8, true),
        Field::new(PEAK_ID, DataType::UInt64, false),
        float(DUAL_GAP),
        Field::new(CONVERGED, DataType::Boolean, false),
    ];
    fields.extend_from_slice(more);
    fields.extend(VARIANT_COLUMNS.iter().filter_map(|name| input.field_with_name(name).ok().cloned()));
    let metadata = input.metadata.clone().with(KIND_KEY, "hits");
    Arc::new(Schema::new_with_metadata(fields, metadata))
}
