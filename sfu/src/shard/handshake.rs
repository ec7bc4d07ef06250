//! Handshakes wait for media: a certificate's signature takes as long as sealing hundreds of packets.

use std::collections::VecDeque;
use std::time::Instant;

use super::core::Core;
use crate::limits::{
    HANDSHAKE_DATAGRAMS_MAX, HANDSHAKE_DATAGRAMS_PER_SESSION_MAX, HANDSHAKES_PER_TURN,
};
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
    /// [`HANDSHAKE_DATAGRAMS_MAX`] in all, or [`HANDSHAKE_DATAGRAMS_PER_SESSION_MAX`] of one session,
    /// so that no peer takes the others' places, it is dropped and counted; DTLS sends it again.
    pub(super) fn defer_handshake(&mut self, index: usize, path: Path, datagram: &[u8]) {
        let Some(session) = self.sessions[index].as_mut() else { return };
        if self.handshakes.0.len() == HANDSHAKE_DATAGRAMS_MAX
            || session.waiting_datagrams == HANDSHAKE_DATAGRAMS_PER_SESSION_MAX
        {
            self.counters.dropped_handshake_datagrams += 1;
            return;
        }
        session.waiting_datagrams += 1;
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
            let known = self.sessions[session].as_mut().filter(|known| known.key == key);
            if let Some(known) = known {
                known.waiting_datagrams -= 1;
                self.handle_cold(session, path, &datagram);
            }
            if began.elapsed() >= HANDSHAKES_PER_TURN {
                break;
            }
        }
        !self.handshakes.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::ports::gate::MonotonicClock;
    use crate::ports::{Role, StreamKey};
    use crate::shard::Command;
    use crate::shard::bench::{facts, new_session};

    /// A core with sessions that have not shaken hands, and a path.
    fn core(sessions: usize) -> (Core, Path) {
        let now = Instant::now();
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let here = crate::io::Endpoint { bind: remote, advertise: remote };
        let clock = MonotonicClock::new(now, 1_000_000_000);
        let mut core = Core::new(0, vec![here], vec![None], clock, now);
        for key in 1..=sessions as u64 {
            let new = new_session(key, StreamKey(1), Role::Publisher, None, facts(7), now);
            core.handle_command(Command::Create(Box::new(new), 0));
        }
        (core, Path { endpoint: 0, remote })
    }

    /// The begin of a DTLS 1.2 record (RFC 6347 §4.1): enough to be told from media.
    const RECORD: [u8; 13] = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn what_waits_is_bounded_and_a_turn_makes_progress() {
        let sessions = HANDSHAKE_DATAGRAMS_MAX / HANDSHAKE_DATAGRAMS_PER_SESSION_MAX + 1;
        let (mut core, path) = core(sessions);
        for _ in 0..HANDSHAKE_DATAGRAMS_PER_SESSION_MAX {
            (0..sessions).for_each(|session| core.defer_handshake(session, path, &RECORD));
        }
        let beyond = HANDSHAKE_DATAGRAMS_PER_SESSION_MAX as u64;
        assert_eq!(core.counters.dropped_handshake_datagrams, beyond, "those of one session");
        let turns = (0..=HANDSHAKE_DATAGRAMS_MAX).take_while(|_| core.shake_hands()).count();
        assert!(turns < HANDSHAKE_DATAGRAMS_MAX, "each turn takes one datagram at least");
        assert!(!core.shake_hands());
    }

    #[test]
    fn a_peer_that_floods_takes_no_place_of_the_others() {
        let (mut core, path) = core(2);
        for _ in 0..HANDSHAKE_DATAGRAMS_MAX {
            core.defer_handshake(0, path, &RECORD);
        }
        core.defer_handshake(1, path, &RECORD);
        let dropped = (HANDSHAKE_DATAGRAMS_MAX - HANDSHAKE_DATAGRAMS_PER_SESSION_MAX) as u64;
        assert_eq!(core.counters.dropped_handshake_datagrams, dropped);
        while core.shake_hands() {}
        core.defer_handshake(0, path, &RECORD);
        assert_eq!(core.counters.dropped_handshake_datagrams, dropped, "its places are free again");
    }
}
