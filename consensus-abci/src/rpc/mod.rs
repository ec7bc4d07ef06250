//! CometBFT 0.38 RPC over the embedded engine.
