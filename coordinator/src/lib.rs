//! Rooms and signalling for peers that talk to each other directly (`docs/coordinator.md`).
