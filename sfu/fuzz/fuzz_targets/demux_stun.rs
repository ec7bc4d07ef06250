//! Any datagram has a kind, and names a user or fails by name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu_fuzz::wire::demux::{DatagramKind, classify};
use sfu_fuzz::wire::stun::{is_binding_request, username_local};

fuzz_target!(|datagram: &[u8]| {
    let kind = classify(datagram);
    if is_binding_request(datagram) {
        assert_eq!(kind, DatagramKind::Stun);
    }
    if let Ok(local) = username_local(datagram) {
        assert!(!local.is_empty() && !local.contains(':'));
        let username = format!("{local}:");
        assert!(datagram.windows(username.len()).any(|part| part == username.as_bytes()));
    }
});
