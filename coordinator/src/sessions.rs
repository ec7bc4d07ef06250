//! What is remembered about callers beside the rooms: sessions, nonces, how often.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::clock::Now;
use crate::error::Refusal;
use crate::identity::PublicKey;
use crate::limits::{IPV6_PREFIX_BITS, JOIN_BEFORE_START_MS, Limits, REMEMBERED_MAX, Rate};
use crate::peers::SessionId;
use crate::shards::Shards;
use crate::tokens::{Backoff, Bucket};

/// Who calls, when it is known.
#[derive(Debug, Clone)]
pub struct Caller {
    pub node_id: Arc<str>,
    /// The key of a session that was signed for.
    pub key: Option<PublicKey>,
    pub session: Option<SessionId>,
}

/// Whose calls are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Node(Arc<str>),
    /// What [`network_of`] makes of the address of one that has shown no session.
    Address(IpAddr),
}

/// The address that stands for all that one line has: IPv6 by its first bits, IPv4 as it is,
/// however a socket of both kinds writes it.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - IPV6_PREFIX_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

struct Session {
    node_id: Arc<str>,
    key: Option<PublicKey>,
    until_ms: u64,
}

struct Often {
    bucket: Bucket,
    backoff: Backoff,
}

/// The memory. All of it is bounded by [`REMEMBERED_MAX`] and forgotten with time.
pub(crate) struct Sessions {
    sessions: Shards<SessionId, Session>,
    /// Until when (mono ms) a nonce is remembered.
    nonces: Shards<[u8; 16], u64>,
    joins: Shards<Who, Often>,
    opens: Shards<IpAddr, Often>,
    connections: Shards<IpAddr, usize>,
    joins_rate: Rate,
    opens_rate: Rate,
    connections_max: usize,
    session_ms: u64,
    nonce_ms: u64,
    /// When this memory began.
    started: Now,
}

fn busy() -> Refusal {
    Refusal::rate_limited("this coordinator remembers as many callers as it can; try again later")
        .after(crate::limits::BACKOFF_MS_MAX)
}

impl Sessions {
    pub(crate) fn new(limits: &Limits, started: Now) -> Self {
        Self {
            sessions: Shards::new(),
            nonces: Shards::new(),
            joins: Shards::new(),
            opens: Shards::new(),
            connections: Shards::new(),
            joins_rate: limits.joins,
            opens_rate: limits.address_opens,
            connections_max: limits.address_connections_max,
            session_ms: limits.session_ms,
            // A signed time may lie a window ahead, and is good for a window after that, its last
            // millisecond too.
            nonce_ms: limits.join_window_ms.saturating_mul(2).saturating_add(1),
            started,
        }
    }

    /// Remembers a session under a secret that the caller drew.
    pub(crate) fn open(
        &self,
        secret: SessionId,
        node_id: &Arc<str>,
        key: Option<PublicKey>,
        now: Now,
    ) -> Result<(), Refusal> {
        let mut shard = self.sessions.of(&secret);
        full(&shard)?;
        let until_ms = now.mono_ms.saturating_add(self.session_ms);
        shard.insert(secret, Session { node_id: Arc::clone(node_id), key, until_ms });
        Ok(())
    }

    /// Whose session it is; its end moves on.
    pub(crate) fn caller(&self, secret: &SessionId, now: Now) -> Result<Caller, Refusal> {
        let mut shard = self.sessions.of(secret);
        match shard.get_mut(secret) {
            Some(session) if session.until_ms > now.mono_ms => {
                session.until_ms = now.mono_ms.saturating_add(self.session_ms);
                let Session { node_id, key, .. } = session;
                Ok(Caller { node_id: Arc::clone(node_id), key: *key, session: Some(*secret) })
            }
            _ => Err(Refusal::unauthenticated("the session has ended; sign a join again")),
        }
    }

    /// Takes the nonce of what was signed at `ts` (Unix ms), once within its window.
    pub(crate) fn take_nonce(&self, nonce: [u8; 16], ts: u64, now: Now) -> Result<(), Refusal> {
        // What was signed before this memory began may have been used before it, too.
        let earliest = self.started.unix_ms.saturating_sub(JOIN_BEFORE_START_MS);
        if ts < earliest {
            let sentence = "this was signed before the coordinator started; sign again, now";
            return Err(Refusal::rate_limited(sentence).after(earliest - ts));
        }
        let mut shard = self.nonces.of(&nonce);
        if shard.get(&nonce).is_some_and(|until_ms| *until_ms > now.mono_ms) {
            let sentence = "this signed join was used before; sign again with a new nonce";
            return Err(Refusal::unauthenticated(sentence));
        }
        full(&shard)?;
        shard.insert(nonce, now.mono_ms.saturating_add(self.nonce_ms));
        Ok(())
    }

    /// Counts a join, sign-in, made room or invite's code; `roll` is random.
    pub(crate) fn take_join(&self, who: &Who, now: Now, roll: u64) -> Result<(), Refusal> {
        let sentence = "too many joins of this node; wait, then try again";
        let mut shard = self.joins.of(who);
        take(&mut shard, who.clone(), self.joins_rate, sentence, now, roll)
    }

    /// Counts a new connection of an address; [`Sessions::close_connection`] must follow.
    pub(crate) fn open_connection(
        &self,
        address: IpAddr,
        now: Now,
        roll: u64,
    ) -> Result<(), Refusal> {
        let address = network_of(address);
        let sentence = "too many new connections from this address; wait, then try again";
        take(&mut self.opens.of(&address), address, self.opens_rate, sentence, now, roll)?;
        self.hold_connection(address)
    }

    /// Counts a held poll likewise, without a rate: its node's rates hold.
    pub(crate) fn hold_connection(&self, address: IpAddr) -> Result<(), Refusal> {
        let address = network_of(address);
        let mut shard = self.connections.of(&address);
        full(&shard)?;
        let held = shard.entry(address).or_insert(0);
        if *held >= self.connections_max {
            let sentence = "too many connections from this address; close one first";
            return Err(Refusal::rate_limited(sentence).after(crate::limits::BACKOFF_MS_MIN));
        }
        *held += 1;
        Ok(())
    }

    pub(crate) fn close_connection(&self, address: IpAddr) {
        let address = network_of(address);
        let mut shard = self.connections.of(&address);
        if let Some(held) = shard.get_mut(&address) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                shard.remove(&address);
            }
        }
    }

    /// Forgets what time has ended.
    pub(crate) fn sweep(&self, now: Now) {
        self.sessions.retain(|_, session| session.until_ms > now.mono_ms);
        self.nonces.retain(|_, until_ms| *until_ms > now.mono_ms);
        let (joins, opens) = (self.joins_rate, self.opens_rate);
        self.joins.retain(|_, often| !often.bucket.is_full(joins, now.mono_ms));
        self.opens.retain(|_, often| !often.bucket.is_full(opens, now.mono_ms));
    }

    pub(crate) fn count(&self) -> usize {
        self.sessions.len()
    }
}

fn full<K, V>(shard: &HashMap<K, V>) -> Result<(), Refusal> {
    // A sixteenth of the whole is a shard's share.
    if shard.len() >= REMEMBERED_MAX / 16 { Err(busy()) } else { Ok(()) }
}

fn take<K: std::hash::Hash + Eq>(
    shard: &mut HashMap<K, Often>,
    key: K,
    rate: Rate,
    sentence: &'static str,
    now: Now,
    roll: u64,
) -> Result<(), Refusal> {
    full(shard)?;
    let often = shard.entry(key).or_insert_with(|| Often {
        bucket: Bucket::full(rate, now.mono_ms),
        backoff: Backoff::default(),
    });
    if often.bucket.take(rate, now.mono_ms) {
        often.backoff.succeed();
        return Ok(());
    }
    Err(Refusal::rate_limited(sentence).after(often.backoff.refuse(roll)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: mono_ms }
    }

    fn code<T>(result: Result<T, Refusal>) -> Option<Code> {
        result.err().map(|refusal| refusal.code)
    }

    /// R87
    #[test]
    fn a_session_lives_while_it_is_used_and_a_nonce_is_taken_once() {
        let sessions = Sessions::new(&Limits::default(), at(0));
        let node: Arc<str> = "a".into();
        sessions.open([1; 32], &node, None, at(0)).unwrap();
        assert_eq!(&*sessions.caller(&[1; 32], at(119_999)).unwrap().node_id, "a");
        assert!(sessions.caller(&[1; 32], at(239_998)).is_ok());
        assert_eq!(code(sessions.caller(&[1; 32], at(359_998))), Some(Code::Unauthenticated));
        assert_eq!(code(sessions.caller(&[2; 32], at(0))), Some(Code::Unauthenticated));
        assert_eq!(code(sessions.take_nonce([1; 16], 0, at(0))), None);
        assert_eq!(code(sessions.take_nonce([1; 16], 0, at(120_000))), Some(Code::Unauthenticated));
        assert_eq!(code(sessions.take_nonce([1; 16], 120_001, at(120_001))), None);
        sessions.sweep(at(400_000));
        assert_eq!(sessions.count(), 0);
    }

    /// R87
    #[test]
    fn what_was_signed_before_a_restart_is_refused_until_the_signers_clock_is_past_it() {
        let sessions = Sessions::new(&Limits::default(), Now { mono_ms: 0, unix_ms: 100_000 });
        let now = |unix_ms| Now { mono_ms: unix_ms - 100_000, unix_ms };
        let refusal = sessions.take_nonce([1; 16], 94_000, now(100_500)).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::RateLimited, Some(1_000)));
        // The same clock, 6 s behind, after the wait that it was told.
        assert_eq!(code(sessions.take_nonce([1; 16], 95_000, now(101_500))), None);
        // A clock that is right may join at once, and one that signed while the process began.
        assert_eq!(code(sessions.take_nonce([2; 16], 100_000, now(100_000))), None);
        assert_eq!(code(sessions.take_nonce([3; 16], 99_900, now(100_000))), None);
    }

    /// R92
    #[test]
    fn a_lines_ipv6_addresses_count_as_one_and_ipv4_addresses_each() {
        #[track_caller]
        fn check(one: &str, other: &str, same: bool) {
            let network = |text: &str| network_of(text.parse().unwrap());
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
        check("2001:db8::1", "2001:db8::ffff:1:2:3", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("::ffff:192.0.2.1", "::ffff:192.0.2.2", false);
        let limits = Limits { address_connections_max: 2, ..Limits::default() };
        let sessions = Sessions::new(&limits, at(0));
        let hold = |text: &str| code(sessions.hold_connection(text.parse().unwrap()));
        assert_eq!([hold("2001:db8::1"), hold("2001:db8::2")], [None, None]);
        assert_eq!(hold("2001:db8::3"), Some(Code::RateLimited));
        assert_eq!(hold("2001:db8:0:1::3"), None);
        sessions.close_connection("2001:db8::4".parse().unwrap());
        assert_eq!(hold("2001:db8::3"), None);
    }

    /// R92, R93
    #[test]
    fn one_nodes_joins_and_one_addresss_connections_are_limited_and_others_not() {
        let sessions = Sessions::new(&Limits::default(), at(0));
        let (a, b) = (Who::Node("a".into()), Who::Node("b".into()));
        assert!((0..20).all(|_| sessions.take_join(&a, at(0), 0).is_ok()));
        let refusal = sessions.take_join(&a, at(0), 249).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::RateLimited, Some(250)));
        let refusal = sessions.take_join(&a, at(0), 499).unwrap_err();
        assert_eq!(refusal.retry_after_ms, Some(500));
        assert!(sessions.take_join(&b, at(0), 0).is_ok());
        assert!(sessions.take_join(&a, at(6_000), 0).is_ok());
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!((0..20).all(|_| sessions.open_connection(here, at(0), 0).is_ok()));
        assert_eq!(code(sessions.open_connection(here, at(0), 0)), Some(Code::RateLimited));
        assert!((20..64).all(|_| sessions.hold_connection(here).is_ok()));
        assert_eq!(code(sessions.hold_connection(here)), Some(Code::RateLimited));
        assert!(sessions.hold_connection(there).is_ok());
        sessions.close_connection(here);
        assert!(sessions.hold_connection(here).is_ok());
    }
}
