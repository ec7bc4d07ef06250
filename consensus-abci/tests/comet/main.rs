//! The application behind its socket: clients that break the rules, then the real CometBFT.

mod client;
mod script;
mod server;
