//! What turns bases into tokens.
