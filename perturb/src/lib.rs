//! A network of real nodes on this machine, disturbed on purpose while it carries a load, and held
//! against what must be true of it all the same.
//!
//! ```text
//! manifest ─► homes ─► nodes (node, proxy, processes) ◄─ faults
//!                        │ RPC                          when the chain is at a height
//!                        ▼
//!             watch ─► ledger ─► history, stake, supply ─► report, exit code
//!                        ▲
//!                      load
//! ```

pub mod accounts;
pub mod audit;
pub mod conduct;
pub mod damage;
pub mod faults;
pub mod generate;
pub mod history;
pub mod homes;
pub mod ledger;
pub mod load;
pub mod manifest;
pub mod node;
pub mod patient;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod report;
pub mod stake;
pub mod tools;
pub mod watch;
pub mod world;
