//! The core in simulated time.
