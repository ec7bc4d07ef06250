//! The program: found, configured, started, supervised.
