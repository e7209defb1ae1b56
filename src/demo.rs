//! The whole pipeline on data the project makes itself.
