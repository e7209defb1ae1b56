//! Stage: rows → predictions.
