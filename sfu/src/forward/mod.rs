//! From a publisher's packets to every open subscription: sans-IO and free of allocation.

pub mod cache;
pub mod codec;
pub mod gate;
pub mod keyframe;
pub mod loss;
pub mod outlet;
pub mod packet;
pub mod reception;
pub mod run;
pub mod track;
pub mod usage;
