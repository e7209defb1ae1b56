//! Motifs: PFM, PWM, CWM, and the files they come in.
