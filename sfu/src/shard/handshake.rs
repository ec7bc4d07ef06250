//! Handshakes wait for media: a certificate's signature takes as long as sealing hundreds of packets.

use std::collections::VecDeque;
use std::time::Instant;

use super::core::Core;
use crate::limits::{HANDSHAKE_DATAGRAMS_MAX, HANDSHAKES_PER_TURN};
use crate::ports::SessionKey;
use crate::session::transport::Path;

/// A datagram of a handshake that waits for its turn.
#[derive(Debug)]
struct Waiting {
    session: usize,
    /// The place may have become another's meanwhile.
    key: SessionKey,
    path: Path,
    datagram: Vec<u8>,
}

/// DTLS of sessions that are not connected yet, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Handshakes(VecDeque<Waiting>);

impl Core {
    /// Keeps a datagram of a handshake until this turn's media has left. Beyond
    /// [`HANDSHAKE_DATAGRAMS_MAX`] it is dropped and counted; DTLS sends it again.
    pub(super) fn defer_handshake(&mut self, index: usize, path: Path, datagram: &[u8]) {
        let Some(session) = self.sessions[index].as_ref() else { return };
        if self.handshakes.0.len() == HANDSHAKE_DATAGRAMS_MAX {
            self.counters.dropped_handshake_datagrams += 1;
            return;
        }
        let (key, datagram) = (session.key, datagram.to_vec());
        self.handshakes.0.push_back(Waiting { session: index, key, path, datagram });
    }

    /// Goes on with handshakes for [`HANDSHAKES_PER_TURN`], one datagram at least. True: more wait.
    pub fn shake_hands(&mut self) -> bool {
        if self.handshakes.0.is_empty() {
            return false;
        }
        let began = Instant::now();
        while let Some(Waiting { session, key, path, datagram }) = self.handshakes.0.pop_front() {
            if self.sessions[session].as_ref().is_some_and(|known| known.key == key) {
                self.handle_cold(session, path, &datagram);
            }
            if began.elapsed() >= HANDSHAKES_PER_TURN {
                break;
            }
        }
        !self.handshakes.0.is_empty()
    }
}
