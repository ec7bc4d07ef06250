//! The payer against relays: honest ones over bad paths, greedy ones, and any frames at all.

mod rules;
mod world;
