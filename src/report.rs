//! Self-contained HTML pages and SVG pictures.
