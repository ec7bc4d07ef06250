//! The embedded single-validator engine: it decides blocks and keeps them.
