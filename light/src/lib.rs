//! Headers and records of the chain, verified without trusting who sends them.
