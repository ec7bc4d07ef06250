//! Real WebRTC clients in number, against any server that speaks WHIP and WHEP, and what they saw;
//! peers in number, against the coordinator.

pub mod child;
pub mod client;
pub mod find_max;
pub mod histogram;
pub mod html;
pub mod http;
pub mod interrupt;
pub mod load;
pub mod metrics;
pub mod pay;
pub mod payload;
pub mod plot;
pub mod publisher;
pub mod reference;
pub mod report;
pub mod rooms;
pub mod screen;
pub mod series;
pub mod server;
pub mod signal;
pub mod sink;
pub mod socket;
pub mod span;
pub mod trace;
pub mod viewer;
pub mod worker;
