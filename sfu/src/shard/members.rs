//! Sessions and streams of a shard: how they begin, what they go through, how they end.

use std::cmp::Reverse;

use super::core::{Core, Outbox, Owner, SlotEntry};
use super::lane::LaneMessage;
use super::stream::Stream;
use crate::io::Endpoint;
use crate::limits::{HANDSHAKE_MAX, SILENCE_MAX};
use crate::ports::{CloseReason, Event, Kind, Role, SrtpProfile, StreamKey};
use crate::session::srtp::{OpenContext, SealContext};
use crate::session::transport::{Closed, Driven, NewSession, Path, Session};

impl Core {
    pub(super) fn create(&mut self, new: NewSession, home: u16) {
        let stream = self.stream_index(new.stream, home);
        let index = self.free_sessions.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() - 1
        });
        let mut bit = 0;
        if let Some(slot) = new.slot {
            let entry = slot.index as usize;
            if self.slots.len() <= entry {
                self.slots.resize(entry + 1, None);
            }
            self.slots[entry] = Some(SlotEntry { generation: slot.generation, session: index });
            let subscribed = self.streams[stream].as_mut().expect("the index was just looked up");
            bit = subscribed.add_slot(index);
            self.tell_interest(stream, true);
            self.subscribers += 1;
        }
        self.by_key.insert(new.key, index);
        self.by_ufrag.insert(new.ufrag.clone(), index);
        self.sessions[index] = Some(Box::new(Session::new(new, stream, bit, self.now)));
        self.counters.sessions_opened += 1;
        self.drive(index);
        if self.draining {
            self.close(index, CloseReason::Drain);
        }
    }

    /// Makes a session what it is after a handshake, for [`super::bench`].
    pub(super) fn make_ready(
        &mut self,
        index: usize,
        contexts: (SealContext, OpenContext),
        path: Path,
    ) {
        let session = self.sessions[index].as_mut().expect("the bench just made it");
        (session.seal, session.open) = (Some(contexts.0), Some(contexts.1));
        session.path = Some(path);
        session.add_path(path);
        self.by_path.insert(path, Owner::Session(index));
        self.connected(index, SrtpProfile::AEAD_AES_256_GCM);
    }

    /// Polls str0m and obeys; the session may be gone afterwards.
    pub(super) fn drive(&mut self, index: usize) -> Driven {
        let Some(session) = self.sessions[index].as_mut() else { return Default::default() };
        let label = self.side_channel.as_ref().map(|side| side.label.as_str());
        let mut driven = poll(session, label, &self.endpoints, &mut self.outbox);
        let side = std::mem::take(&mut driven.side);
        if session.queued_timeout.is_none_or(|queued| session.next_timeout < queued) {
            session.queued_timeout = Some(session.next_timeout);
            self.timers.push(Reverse((session.next_timeout, index, session.key)));
        }
        if let Some(profile) = driven.connected {
            self.connected(index, profile);
        }
        self.note_side_events(index, side);
        if let Some(closed) = driven.closed {
            let reason = match closed {
                Closed::ByPeer => CloseReason::Peer,
                Closed::Fingerprint => CloseReason::Fingerprint,
                Closed::Transport => CloseReason::Transport,
            };
            self.remove(index, reason);
        }
        driven
    }

    fn connected(&mut self, index: usize, profile: SrtpProfile) {
        let now = self.now;
        let Some(session) = self.sessions[index].as_mut() else { return };
        let (key, stream_key, role) = (session.key, session.stream_key, session.role);
        let (slot, stream) = (session.slot, session.stream);
        let after = now.duration_since(session.offered_at);
        match self.profiles.iter_mut().find(|(known, _)| *known == profile) {
            Some((_, count)) => *count += 1,
            None => self.profiles.push((profile, 1)),
        }
        if role == Role::Publisher {
            if let Some(stream) = self.streams[stream].as_mut() {
                stream.publisher = Some(index);
            }
            self.want_keyframe(stream);
        }
        self.emit(Event::Connected {
            session: key,
            stream: stream_key,
            role,
            slot,
            profile,
            after,
        });
    }

    /// Ends a session in order: close_notify, then [`Core::remove`].
    pub(super) fn close(&mut self, index: usize, reason: CloseReason) {
        self.close_with(index, reason, None);
    }

    /// The same with a last frame on the side channel, sent before close_notify, once.
    pub(super) fn close_with(
        &mut self,
        index: usize,
        reason: CloseReason,
        last_frame: Option<&[u8]>,
    ) {
        if let Some(frame) = last_frame {
            self.write_frame(index, frame);
            self.drive(index);
        }
        let Some(session) = self.sessions[index].as_mut() else { return };
        session.start_close();
        poll(session, None, &self.endpoints, &mut self.outbox);
        self.remove(index, reason);
    }

    fn remove(&mut self, index: usize, reason: CloseReason) {
        let Some(mut session) = self.sessions[index].take() else { return };
        let usage = self.last_usage(&mut session);
        self.free_sessions.push(index);
        self.by_key.remove(&session.key);
        self.by_ufrag.remove(&session.ufrag);
        for path in session.paths() {
            if self.by_path.get(path) == Some(&Owner::Session(index)) {
                self.by_path.remove(path);
            }
            for lane in self.lanes.iter_mut().flatten() {
                lane.send(LaneMessage::Forget { path: *path });
            }
        }
        if let Some(slot) = session.slot {
            self.slots[slot.index as usize] = None;
            self.subscribers -= 1;
        }
        if let Some(stream) = self.streams[session.stream].as_mut() {
            match session.role {
                Role::Subscriber => stream.remove_slot(session.bit),
                Role::Publisher if stream.publisher == Some(index) => stream.publisher = None,
                Role::Publisher => {}
            }
            let forsaken = session.role == Role::Subscriber && stream.subscribers() == 0;
            if forsaken {
                self.tell_interest(session.stream, false);
            }
        }
        self.retire_stream(session.stream);
        self.counters.sessions_closed += 1;
        self.counters.fingerprint_mismatches += u64::from(reason == CloseReason::Fingerprint);
        self.emit(Event::Closed {
            session: session.key,
            stream: session.stream_key,
            role: session.role,
            slot: session.slot,
            reason,
            usage,
        });
    }

    /// Ends sessions that nobody answers for, a few times a second.
    pub(super) fn sweep(&mut self) {
        for index in 0..self.sessions.len() {
            let Some(session) = self.sessions[index].as_ref() else { continue };
            let silent_for = self.now.duration_since(session.heard_at);
            match session.is_connected() {
                true if silent_for >= SILENCE_MAX => self.close(index, CloseReason::Silence),
                false if self.now.duration_since(session.offered_at) >= HANDSHAKE_MAX => {
                    self.close(index, CloseReason::HandshakeTimeout);
                }
                _ => {}
            }
        }
    }

    pub(super) fn stream_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let index = self.stream_by_key.get(&key).copied()?;
        self.streams[index].as_deref_mut()
    }

    pub(super) fn stream_index(&mut self, key: StreamKey, home: u16) -> usize {
        if let Some(index) = self.stream_by_key.get(&key).copied() {
            return index;
        }
        let index = self.streams.iter().position(Option::is_none).unwrap_or(self.streams.len());
        if index == self.streams.len() {
            self.streams.push(None);
        }
        self.streams[index] = Some(Box::new(Stream::new(key, home)));
        self.stream_by_key.insert(key, index);
        index
    }

    /// Tells the home shard whether we have subscribers of a stream.
    fn tell_interest(&mut self, index: usize, wanted: bool) {
        let Some(stream) = self.streams[index].as_ref() else { return };
        let (key, home) = (stream.key, stream.home);
        if home == self.id {
            return;
        }
        if let Some(Some(lane)) = self.lanes.get_mut(usize::from(home)) {
            lane.send(LaneMessage::Interest { stream: key, wanted });
        }
    }

    pub(super) fn end_stream(&mut self, key: StreamKey) {
        let Some(index) = self.stream_by_key.get(&key).copied() else { return };
        let Some(stream) = self.streams[index].as_mut() else { return };
        stream.is_local = false;
        let publisher = stream.publisher;
        let subscribers: Vec<usize> = stream.slots.iter().flatten().copied().collect();
        for session in publisher.into_iter().chain(subscribers) {
            self.close(session, CloseReason::Control);
        }
        self.retire_stream(index);
    }

    /// Frees a stream that nobody here publishes, feeds, watches or wants.
    pub(super) fn retire_stream(&mut self, index: usize) {
        let Some(stream) = self.streams[index].as_mut() else { return };
        let used = stream.publisher.is_some()
            || stream.is_local
            || stream.interested != 0
            || stream.subscribers() > 0
            // A publisher may still be shaking hands.
            || self.sessions.iter().flatten().any(|session| session.stream == index);
        if used {
            return;
        }
        for kind in [Kind::Audio, Kind::Video] {
            if let Some(track) = stream.existing_track_mut(kind) {
                track.cache.clear(&mut self.pool);
            }
        }
        let key = stream.key;
        self.streams[index] = None;
        self.stream_by_key.remove(&key);
        self.dirty.retain(|dirty| *dirty != index);
    }
}

/// Polls str0m; its datagrams wait in `outbox`.
fn poll(
    session: &mut Session,
    side_label: Option<&str>,
    endpoints: &[Endpoint],
    outbox: &mut Outbox,
) -> Driven {
    session.drive(side_label, |local, remote, datagram| {
        let of_local = |endpoint: &Endpoint| endpoint.advertise == local;
        let endpoint = endpoints.iter().position(of_local).unwrap_or(0);
        let path = Path { endpoint, remote };
        outbox.push(path, datagram);
        path
    })
}
