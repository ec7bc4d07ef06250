//! The state of one process, in memory.
//!
//! Locks, in the order in which they may be held together: a shard of the registry or of the
//! rooms, or a room; then the owners, or one inbox at a time. None is held while anything is
//! awaited or written to a socket: what is told goes into outboxes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::{Attach, Counts, Join, Page, PeerView, PollCall, Shown, StateBackend};
use crate::clock::Now;
use crate::error::Refusal;
use crate::identity::PublicKey;
use crate::limits::Limits;
use crate::peers::{Attached, Delivery, Flavor, Inbox, Peer, SessionId, Waiting, presence};
use crate::ports::MediaControl;
use crate::queue::{Bounds, Entry};
use crate::room::{self, BUILT_IN, Member, Owner, Room, RoomKind, RoomState};
use crate::shards::{Shards, lock};
use crate::signaling::{Draft, Fan, Kind};
use crate::tokens::Bucket;
use crate::wire::{Code, close};

/// Looks at a registry again after somebody else removed what was found there.
const TRIES: usize = 8;

/// Peers in all; the next is refused (`rate_limited`).
const PEERS_MAX: usize = 1 << 18;

/// The state.
pub struct Memory {
    limits: Limits,
    bounds: Bounds,
    media: Arc<dyn MediaControl>,
    peers: Shards<Arc<str>, Arc<Peer>>,
    peer_count: AtomicUsize,
    rooms: Shards<Arc<str>, Arc<Room>>,
    /// Rooms but private ones.
    room_count: AtomicUsize,
    owners: Mutex<Owners>,
    counters: Counters,
}

/// How many private rooms there are, in all and of each owner.
#[derive(Default)]
struct Owners {
    rooms: usize,
    by_key: HashMap<PublicKey, usize>,
}

impl Owners {
    /// Counts one more where there may be.
    fn add(&mut self, key: PublicKey, limits: &Limits) -> Result<(), Refusal> {
        if self.by_key.get(&key).is_some_and(|made| *made >= limits.owner_rooms_max) {
            let sentence = "this owner has as many private rooms as one may have";
            return Err(Refusal::rate_limited(sentence));
        }
        if self.rooms >= limits.owned_rooms_max {
            return Err(crowded("private rooms"));
        }
        *self.by_key.entry(key).or_default() += 1;
        self.rooms += 1;
        Ok(())
    }

    fn remove(&mut self, key: &PublicKey) {
        if let Some(made) = self.by_key.get_mut(key) {
            *made -= 1;
            self.rooms -= 1;
            if *made == 0 {
                self.by_key.remove(key);
            }
        }
    }
}

#[derive(Default)]
struct Counters {
    joins: AtomicU64,
    leaves: AtomicU64,
    pushed: AtomicU64,
    queued: AtomicU64,
    dropped: AtomicU64,
    broadcasts: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn crowded(what: &str) -> Refusal {
    Refusal::rate_limited(format!("this coordinator has as many {what} as it can; try again later"))
        .after(crate::limits::BACKOFF_MS_MAX)
}

fn no_peer() -> Refusal {
    Refusal::new(Code::UnknownPeer, "this node is in no room; join one first")
}

impl Memory {
    /// An empty state: the built-in rooms, nobody in them.
    pub fn new(limits: &Limits, media: Arc<dyn MediaControl>, now: Now) -> Self {
        let rooms: Shards<Arc<str>, Arc<Room>> = Shards::new();
        for name in BUILT_IN {
            let name: Arc<str> = name.into();
            rooms
                .of(&*name)
                .insert(Arc::clone(&name), Arc::new(Room::new(name.clone(), None, now)));
        }
        Self {
            limits: limits.clone(),
            bounds: Bounds {
                entries_max: limits.queue_signals_max,
                bytes_max: limits.queue_bytes_max,
                ttl_ms: limits.queue_ttl_ms,
            },
            media,
            peers: Shards::new(),
            peer_count: AtomicUsize::new(0),
            rooms,
            room_count: AtomicUsize::new(BUILT_IN.len()),
            owners: Mutex::default(),
            counters: Counters::default(),
        }
    }

    fn peer(&self, node: &str) -> Option<Arc<Peer>> {
        self.peers.of(node).get(node).cloned()
    }

    fn peer_or_new(&self, node: &Arc<str>, now: Now) -> Result<Arc<Peer>, Refusal> {
        let mut shard = self.peers.of(&**node);
        if let Some(peer) = shard.get(node) {
            return Ok(Arc::clone(peer));
        }
        if self.peer_count.load(Ordering::Relaxed) >= PEERS_MAX {
            return Err(crowded("peers"));
        }
        self.peer_count.fetch_add(1, Ordering::Relaxed);
        let signals = Bucket::full(self.limits.signals, now.mono_ms);
        let peer = Arc::new(Peer::new(Arc::clone(node), signals, now));
        shard.insert(Arc::clone(node), Arc::clone(&peer));
        Ok(peer)
    }

    fn room(&self, name: &str) -> Option<Arc<Room>> {
        self.rooms.of(name).get(name).cloned()
    }

    fn room_or_new(
        &self,
        name: &str,
        owner: Option<Owner>,
        now: Now,
    ) -> Result<Arc<Room>, Refusal> {
        let mut shard = self.rooms.of(name);
        if let Some(room) = shard.get(name) {
            return Ok(Arc::clone(room));
        }
        match &owner {
            Some(owner) => lock(&self.owners).add(owner.key, &self.limits)?,
            None if self.room_count.load(Ordering::Relaxed) >= self.limits.rooms_max => {
                return Err(crowded("rooms"));
            }
            None => {
                self.room_count.fetch_add(1, Ordering::Relaxed);
            }
        }
        let name: Arc<str> = name.into();
        let room = Arc::new(Room::new(Arc::clone(&name), owner, now));
        shard.insert(name, Arc::clone(&room));
        Ok(room)
    }

    /// One attempt at a join; None when what was found has been removed meanwhile.
    fn try_join(&self, join: &Join<'_>, now: Now) -> Result<Option<Vec<PeerView>>, Refusal> {
        let peer = self.peer_or_new(join.node, now)?;
        {
            let mut inbox = peer.inbox();
            if inbox.gone {
                return Ok(None);
            }
            inbox.seen = now;
            let inside = inbox.rooms.iter().any(|room| **room == *join.room);
            if !inside && inbox.rooms.len() >= self.limits.peer_rooms_max {
                let sentence = "this node is in as many rooms as it may; leave one first";
                return Err(Refusal::rate_limited(sentence));
            }
        }
        let room = match room::kind_of(join.room)? {
            RoomKind::Private => self.room(join.room).ok_or_else(Refusal::unknown_room)?,
            RoomKind::Public | RoomKind::Stream => self.room_or_new(join.room, None, now)?,
        };
        let mut state = room.state();
        if state.dead {
            return Ok(None);
        }
        let max = self.limits.room_peers_max;
        let entered = {
            let mut inbox = peer.inbox();
            if inbox.gone {
                return Ok(None);
            }
            let card = Arc::clone(&join.card);
            let entered = room.enter(&mut state, &peer, card, max, now, join.roll)?;
            if !inbox.rooms.contains(&room.name) {
                inbox.rooms.push(Arc::clone(&room.name));
            }
            entered
        };
        if entered.fresh {
            count(&self.counters.joins, 1);
            let news = presence(Kind::PeerJoined, &room.name, join.node, &join.card.metadata, now);
            self.tell(&room, &entered.others, news, now);
        }
        // Before the room is let go, so that a leave is not heard of sooner than its join.
        if entered.fresh && room.name.starts_with("s:") {
            self.media.joined(&room.name, join.node);
        }
        drop(state);
        Ok(Some(views(entered.others, now)))
    }

    /// Tells members of a room whose lock the caller holds; gives how many.
    fn tell(&self, room: &Room, members: &[Member], draft: Draft<'_>, now: Now) -> usize {
        let mut fan = Fan::new(draft, &room.name);
        let mut deflated = None;
        let (mut told, mut dropped) = (0, 0);
        for member in members {
            let mut inbox = member.peer.inbox();
            if !inbox.gone {
                told += usize::from(inbox.tell(&mut fan, &mut deflated, now, self.bounds));
                dropped += inbox.queue.take_dropped();
            }
        }
        count(&self.counters.dropped, dropped);
        told
    }

    /// Takes a peer out of one room.
    fn exit(&self, name: &str, peer: &Arc<Peer>, now: Now) -> bool {
        let Some(room) = self.room(name) else { return false };
        let mut state = room.state();
        let Some(audience) = state.exit(peer, now) else { return false };
        peer.inbox().rooms.retain(|room| **room != *name);
        self.tell(&room, &audience, presence(Kind::PeerLeft, name, &peer.id, "", now), now);
        if name.starts_with("s:") {
            self.media.left(name, &peer.id);
        }
        drop(state);
        count(&self.counters.leaves, 1);
        true
    }

    /// Forgets a peer, if `still` holds when nobody else can change it.
    fn remove(&self, peer: &Arc<Peer>, now: Now, still: impl FnOnce(&Inbox) -> bool) {
        let rooms = {
            let mut shard = self.peers.of(&*peer.id);
            let mut inbox = peer.inbox();
            if inbox.gone || !still(&inbox) {
                return;
            }
            inbox.gone = true;
            shard.remove(&peer.id);
            self.peer_count.fetch_sub(1, Ordering::Relaxed);
            if let Some(poll) = inbox.poll.take() {
                poll.waker.wake();
            }
            std::mem::take(&mut inbox.rooms)
        };
        for room in rooms {
            self.exit(&room, peer, now);
        }
    }

    /// The room, locked by `look`, after the sender was found in it.
    fn in_room<T>(
        &self,
        room: &str,
        from: &str,
        look: impl FnOnce(&Arc<Room>, &RoomState, &Member) -> T,
    ) -> Result<T, Refusal> {
        let room = self.room(room).ok_or_else(Refusal::unknown_room)?;
        let state = room.state();
        let Some(sender) = state.member(from) else {
            return Err(Refusal::forbidden("the sender is not in this room; join it first"));
        };
        Ok(look(&room, &state, sender))
    }

    fn take_signal_token(&self, sender: &Peer, now: Now, roll: u64) -> Result<(), Refusal> {
        let mut inbox = sender.inbox();
        inbox.seen = now;
        if inbox.signals.take(self.limits.signals, now.mono_ms) {
            inbox.backoff.succeed();
            return Ok(());
        }
        let sentence = "too many signals of this node; wait, then try again";
        Err(Refusal::rate_limited(sentence).after(inbox.backoff.refuse(roll)))
    }

    /// What the passing of time does to one peer; gives the session that its WebSocket holds.
    fn sweep_peer(&self, peer: &Arc<Peer>, now: Now) -> Option<SessionId> {
        let stale_ms = self.limits.stale_ms;
        let silent = |inbox: &Inbox| inbox.seen_ms(now).saturating_add(stale_ms) <= now.mono_ms;
        let lost = |inbox: &Inbox| {
            let until = |lost_ms: u64| lost_ms.saturating_add(self.limits.resume_ms);
            inbox.lost_ms.is_none_or(|lost_ms| until(lost_ms) <= now.mono_ms)
        };
        let (session, is_silent, is_lost, rooms) = {
            let mut inbox = peer.inbox();
            inbox.queue.expire(now.mono_ms);
            count(&self.counters.dropped, inbox.queue.take_dropped());
            if silent(&inbox)
                && let Some(attached) = &inbox.attached
            {
                let reason = "nothing was heard for too long; ping in time";
                attached.link.close(close::HEARTBEAT, reason, now.mono_ms);
                if attached.flavor == Flavor::Resumable {
                    inbox.lose(now.mono_ms);
                }
                inbox.attached = None;
            }
            let is_silent = silent(&inbox);
            let rooms = if is_silent { inbox.rooms.clone() } else { Vec::new() };
            let session = inbox.attached.as_ref().and_then(|attached| attached.session);
            (session, is_silent, lost(&inbox), rooms)
        };
        for room in rooms {
            self.exit(&room, peer, now);
        }
        if is_silent && is_lost {
            self.remove(peer, now, |inbox| {
                inbox.attached.is_none() && silent(inbox) && lost(inbox)
            });
        }
        session
    }
}

/// Whether a WebSocket has shown what the place of one with this session wants.
fn shows(shown: Shown, session: Option<SessionId>) -> bool {
    match shown {
        Shown::Word => false,
        Shown::Key => true,
        Shown::Session(shown) => session == Some(shown),
    }
}

fn views(members: Vec<Member>, now: Now) -> Vec<PeerView> {
    let view = |member: Member| {
        let (online, seen_ms) = {
            let inbox = member.peer.inbox();
            let polled = inbox.seen_ms(now).saturating_add(5_000) > now.mono_ms;
            (inbox.is_online() || polled, inbox.seen_unix_ms(now))
        };
        let node = Arc::clone(&member.peer.id);
        PeerView { node, card: member.card, joined_ms: member.joined_ms, online, seen_ms }
    };
    members.into_iter().map(view).collect()
}

impl StateBackend for Memory {
    fn make_room(&self, name: &str, owner: Owner, now: Now) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            let room = self.room_or_new(name, Some(owner.clone()), now)?;
            let mut state = room.state();
            if state.dead {
                continue;
            }
            let is_banned = |member: &Member| owner.ban.iter().any(|id| **id == *member.peer.id);
            let members = state.page(None, usize::MAX);
            state.own(owner.clone(), now);
            drop(state);
            for member in members.into_iter().filter(is_banned) {
                self.exit(name, &member.peer, now);
            }
            return Ok(());
        }
        Err(Refusal::new(Code::Internal, "the room changes too fast; make it again"))
    }

    fn owner(&self, room: &str) -> Option<Owner> {
        self.room(room)?.state().owner.clone()
    }

    fn join_room(&self, join: Join<'_>, now: Now) -> Result<Vec<PeerView>, Refusal> {
        for _ in 0..TRIES {
            if let Some(views) = self.try_join(&join, now)? {
                return Ok(views);
            }
        }
        Err(Refusal::new(Code::Internal, "the room or the node changes too fast; try again"))
    }

    fn leave_room(&self, node: &str, room: &str, now: Now) -> bool {
        let Some(peer) = self.peer(node) else { return false };
        peer.inbox().seen = now;
        let left = self.exit(room, &peer, now);
        // Who is nowhere and cannot be reached is nobody.
        self.remove(&peer, now, |inbox| {
            inbox.rooms.is_empty() && !inbox.is_online() && inbox.lost_ms.is_none()
        });
        left
    }

    fn leave_all_rooms(&self, node: &str, now: Now) {
        let Some(peer) = self.peer(node) else { return };
        let rooms = peer.inbox().rooms.clone();
        for room in rooms {
            self.exit(&room, &peer, now);
        }
    }

    fn room_peers(&self, room: &str, page: Page<'_>, now: Now) -> Result<Vec<PeerView>, Refusal> {
        let room = self.room(room).ok_or_else(Refusal::unknown_room)?;
        let members = room.state().page(page.after, page.limit);
        Ok(views(members, now))
    }

    fn is_member(&self, node: &str, room: &str) -> bool {
        self.room(room).is_some_and(|room| room.state().member(node).is_some())
    }

    fn rooms(&self, max: usize) -> Vec<String> {
        let mut others = Vec::new();
        for shard in self.rooms.each() {
            let public = |name: &&Arc<str>| {
                room::kind_of(name) == Ok(RoomKind::Public) && !BUILT_IN.contains(&&***name)
            };
            let left = max - others.len();
            others.extend(shard.keys().filter(public).take(left).map(|name| name.to_string()));
        }
        others.sort_unstable();
        BUILT_IN.iter().map(|name| (*name).to_owned()).chain(others).collect()
    }

    fn queue_signal(
        &self,
        to: &str,
        draft: Draft<'_>,
        now: Now,
        roll: u64,
    ) -> Result<Delivery, Refusal> {
        let (room, sender, receiver) =
            self.in_room(draft.room, draft.from, |room, state, me| {
                let receiver = state.member(to).map(|member| Arc::clone(&member.peer));
                (Arc::clone(&room.name), Arc::clone(&me.peer), receiver)
            })?;
        self.take_signal_token(&sender, now, roll)?;
        let receiver = receiver.ok_or_else(Refusal::unknown_peer)?;
        let mut inbox = receiver.inbox();
        if inbox.gone {
            return Err(Refusal::unknown_peer());
        }
        let base = inbox.attached.as_ref().is_some_and(|attached| attached.flavor == Flavor::Base);
        if base && draft.kind == Kind::Message {
            let sentence = "that peer speaks the base protocol, which has no messages";
            return Err(Refusal::bad_request(sentence));
        }
        let mut fan = Fan::new(draft, &room);
        let delivered = inbox.deliver(&mut fan, now, self.bounds);
        count(&self.counters.dropped, inbox.queue.take_dropped());
        drop(inbox);
        match delivered {
            Ok(Delivery::Pushed) => count(&self.counters.pushed, 1),
            Ok(Delivery::Queued) => count(&self.counters.queued, 1),
            Err(full) => {
                let wait = sender.inbox().backoff.refuse(roll);
                return Err(Refusal::rate_limited(full.to_string()).after(wait));
            }
        }
        Ok(delivered.expect("an error was returned above"))
    }

    fn broadcast_to_room(&self, draft: Draft<'_>, now: Now, roll: u64) -> Result<usize, Refusal> {
        let told = self.in_room(draft.room, draft.from, |room, state, sender| {
            self.take_signal_token(&sender.peer, now, roll)?;
            let others: Vec<Member> = state.others(draft.from).cloned().collect();
            Ok(self.tell(room, &others, draft, now))
        })??;
        count(&self.counters.broadcasts, 1);
        Ok(told)
    }

    fn begin_poll(&self, node: &str, now: Now) -> Result<u64, Refusal> {
        let peer = self.peer(node).ok_or_else(no_peer)?;
        let mut inbox = peer.inbox();
        inbox.seen = now;
        inbox.polls += 1;
        if let Some(held) = inbox.poll.take() {
            held.waker.wake();
        }
        Ok(inbox.polls)
    }

    fn poll_signals(
        &self,
        call: PollCall<'_>,
        now: Now,
        waker: &Waker,
    ) -> Result<Poll<Vec<Entry>>, Refusal> {
        let peer = self.peer(call.node).ok_or_else(no_peer)?;
        let mut inbox = peer.inbox();
        if inbox.polls != call.serial {
            return Ok(Poll::Ready(Vec::new()));
        }
        if call.cursor.is_some_and(|cursor| cursor > inbox.queue.last_seq()) {
            let sentence = "`cursor` is newer than all that this node was given; begin with 0";
            return Err(Refusal::bad_request(sentence));
        }
        inbox.queue.expire(now.mono_ms);
        let found = match call.cursor {
            Some(cursor) => inbox.read_after(cursor, call.room),
            None => inbox.take_signals(call.room),
        };
        count(&self.counters.dropped, inbox.queue.take_dropped());
        match found {
            Some(entries) => {
                inbox.seen = now;
                inbox.poll = None;
                Ok(Poll::Ready(entries))
            }
            None => {
                inbox.poll = Some(Waiting { serial: call.serial, waker: waker.clone() });
                Ok(Poll::Pending)
            }
        }
    }

    fn end_poll(&self, node: &str, serial: u64, now: Now) {
        let Some(peer) = self.peer(node) else { return };
        let mut inbox = peer.inbox();
        if inbox.poll.as_ref().is_some_and(|poll| poll.serial == serial) {
            inbox.poll = None;
            inbox.seen = now;
        }
    }

    fn attach(&self, attach: Attach<'_>, now: Now) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            let peer = self.peer_or_new(attach.node, now)?;
            let mut inbox = peer.inbox();
            if inbox.gone {
                continue;
            }
            if let Some(held) = &inbox.attached
                && held.link.id != attach.link.id
                && held.link.is_open()
            {
                if !shows(attach.shown, held.session) {
                    let sentence = "this id has a connection; close it, or show its session";
                    return Err(Refusal::new(Code::IdTaken, sentence));
                }
                let reason = "another connection of this node has taken its place";
                held.link.close(close::REPLACED, reason, now.mono_ms);
            }
            // Nor does a word take the place of a connection that may still be resumed.
            let resumable = inbox
                .lost_ms
                .is_some_and(|lost_ms| lost_ms.saturating_add(self.limits.resume_ms) > now.mono_ms);
            if resumable && !shows(attach.shown, inbox.lost_session) {
                let sentence = "this id's connection may be resumed; show its session, or wait";
                return Err(Refusal::new(Code::IdTaken, sentence));
            }
            inbox.seen = now;
            inbox.lost_ms = None;
            inbox.lost_session = None;
            if let Some(cursor) = attach.acknowledged {
                inbox.queue.acknowledge(cursor);
            }
            let link = Arc::clone(&attach.link);
            if let Some(frame) = (attach.welcome)(inbox.queue.cursor(), &inbox.rooms) {
                link.push(frame);
            }
            link.name();
            inbox.attached =
                Some(Attached { link, flavor: attach.flavor, session: attach.session });
            inbox.hand_over();
            return Ok(());
        }
        Err(Refusal::new(Code::Internal, "the node changes too fast; connect again"))
    }

    fn detach(&self, node: &str, link: u64, now: Now) {
        let Some(peer) = self.peer(node) else { return };
        {
            let mut inbox = peer.inbox();
            let Some(attached) = &inbox.attached else { return };
            if attached.link.id != link {
                return;
            }
            let resumable = attached.flavor == Flavor::Resumable;
            inbox.seen = now;
            if resumable {
                inbox.lose(now.mono_ms);
                return;
            }
            inbox.attached = None;
        }
        self.remove(&peer, now, |inbox| inbox.attached.is_none() && inbox.lost_ms.is_none());
    }

    fn acknowledge(&self, node: &str, cursor: u64) {
        if let Some(peer) = self.peer(node) {
            peer.inbox().queue.acknowledge(cursor);
        }
    }

    fn touch(&self, node: &str, now: Now) {
        if let Some(peer) = self.peer(node) {
            peer.inbox().seen = now;
        }
    }

    fn cursor(&self, node: &str) -> u64 {
        self.peer(node).map_or(0, |peer| peer.inbox().queue.cursor())
    }

    fn cleanup_stale_peers(&self, now: Now) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        for index in 0..self.peers.pieces() {
            let peers: Vec<Arc<Peer>> = self.peers.piece(index).values().cloned().collect();
            sessions.extend(peers.iter().filter_map(|peer| self.sweep_peer(peer, now)));
        }
        self.peers.shrink();
        self.rooms.retain(|_, room| {
            let mut state = room.state();
            // A join that found it already sees the mark under the room's lock.
            state.dead = room.has_ended(&state, now, &self.limits);
            if state.dead {
                match &state.owner {
                    Some(owner) => lock(&self.owners).remove(&owner.key),
                    None => {
                        self.room_count.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            }
            !state.dead
        });
        sessions
    }

    fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            peers: self.peer_count.load(Ordering::Relaxed),
            rooms: self.room_count.load(Ordering::Relaxed) + lock(&self.owners).rooms,
            joins: get(&self.counters.joins),
            leaves: get(&self.counters.leaves),
            signals_pushed: get(&self.counters.pushed),
            signals_queued: get(&self.counters.queued),
            signals_dropped: get(&self.counters.dropped),
            broadcasts: get(&self.counters.broadcasts),
        }
    }
}
