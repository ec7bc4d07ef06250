//! CometBFT's RPC, asked by blocking calls.
