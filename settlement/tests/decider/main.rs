//! The deciding core from outside: what comes in, what goes out, on a clock that tests move.

mod admission;
mod lane_model;
mod limits;
mod media;
mod payment;
mod places;
mod rig;
mod rights;
mod simulation;
mod threads;
mod timing;
