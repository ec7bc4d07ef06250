//! What peers say, and what they make of what they hear: over sockets, and over requests.

use super::connections::Lane;
use super::{Ended, Engine};
use crate::rooms::dialect::Heard;
use crate::rooms::peer::{Asked, BACKLOG_MAX, Role, State};
use crate::rooms::track::Step;
use crate::rooms::{frame, poll};

/// A connection with so much to write takes no further offer: the server does not read.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// What came before the server is told, where it wants to be.
const ACKNOWLEDGE_EVERY: u32 = 32;
/// Of a server's own words, so much is kept.
const REASON_CHARS_MAX: usize = 60;

impl Engine<'_> {
    pub(super) fn consume(
        &mut self,
        slot: usize,
        owner: u32,
        lane: Lane,
        bytes: &[u8],
    ) -> Result<usize, Ended> {
        match lane {
            Lane::Socket => self.consume_frames(slot, owner, bytes),
            Lane::Poll | Lane::Post => {
                let mut used = 0;
                while let Some(answer) = poll::read(&bytes[used..])? {
                    used += answer.len_bytes;
                    match lane {
                        Lane::Poll => self.polled(owner, &answer)?,
                        _ => self.answered(owner, &answer)?,
                    }
                }
                Ok(used)
            }
        }
    }

    fn consume_frames(&mut self, slot: usize, owner: u32, bytes: &[u8]) -> Result<usize, Ended> {
        let mut used = 0;
        if !self.connections.at(slot).upgraded {
            let Some(head_bytes) = poll::head_bytes(bytes)? else { return Ok(0) };
            let head = std::str::from_utf8(&bytes[..head_bytes])?;
            match poll::status_of(head) {
                Some(101) if poll::header(head, "sec-websocket-accept") == Some(&self.accept) => {}
                Some(101) => return Err(Ended::Upgrade("a wrong Sec-WebSocket-Accept".into())),
                Some(status) => {
                    let body = std::str::from_utf8(&bytes[head_bytes..]).unwrap_or_default();
                    let answer = poll::Answer { status, body, len_bytes: 0 };
                    return Err(Ended::Upgrade(poll::refusal(&answer)));
                }
                None => return Err(poll::NotHttp.into()),
            }
            self.connections.at(slot).upgraded = true;
            used = head_bytes;
            for text in self.dialect.greet(&self.peers[owner as usize].seat) {
                self.reply(&text);
            }
        }
        while let Some(frame) = frame::read(&bytes[used..])? {
            used += frame.len_bytes;
            match frame.kind {
                frame::Kind::Text => {
                    self.hear(owner, std::str::from_utf8(frame.payload)?);
                    if let Some(code) = self.refused.take() {
                        return Err(Ended::Join(code));
                    }
                }
                frame::Kind::Ping => {
                    let mask = self.mask();
                    frame::write_pong(&mut self.replies, mask, frame.payload);
                }
                frame::Kind::Close(code) => return Err(Ended::Closed(code)),
                frame::Kind::Pong | frame::Kind::Binary => {}
            }
        }
        Ok(used)
    }

    fn hear(&mut self, owner: u32, text: &str) {
        let mut heard = Vec::new();
        let seat = &self.peers[owner as usize].seat;
        self.dialect.hear(seat, text, &mut |one| heard.push(one));
        for one in heard {
            match one {
                Heard::Offer(text) => self.offered(owner, text),
                Heard::Cursor(cursor) => self.heard_up_to(owner, cursor),
                Heard::Joined | Heard::Left => self.counts.presence += 1,
                Heard::Say(text) => self.reply(&text),
                Heard::Ready => self.is_ready(owner),
                Heard::Refused(code) => {
                    let code: String = code.chars().take(REASON_CHARS_MAX).collect();
                    match self.peers[owner as usize].state {
                        State::Coming => self.refused = Some(code),
                        _ => self.because(code),
                    }
                }
            }
        }
    }

    fn heard_up_to(&mut self, owner: u32, cursor: u64) {
        let peer = &mut self.peers[owner as usize];
        peer.cursor = peer.cursor.max(cursor);
        peer.unacknowledged += 1;
        if peer.unacknowledged >= ACKNOWLEDGE_EVERY {
            peer.unacknowledged = 0;
            if let Some(text) = self.dialect.acknowledge(cursor) {
                self.reply(&text);
            }
        }
    }

    /// An offer came.
    fn offered(&mut self, owner: u32, text: &str) {
        let now_ns = self.now_ns();
        let peer = &self.peers[owner as usize];
        let Role::Talker(to) = peer.role else {
            self.counts.alien += 1;
            return;
        };
        let Some(carried) = self.offers.read(text) else {
            self.counts.damaged += 1;
            return;
        };
        let Some(track) = self.talks.track(to, carried.from) else {
            self.counts.alien += 1;
            return;
        };
        match track.take(carried.number) {
            Step::InOrder => self.counts.delivered += 1,
            Step::Late => {
                self.counts.delivered += 1;
                self.counts.reordered += 1;
            }
            Step::Again => {
                self.counts.doubled += 1;
                return;
            }
        }
        self.counts.damaged += u64::from(!carried.intact);
        let took = now_ns.saturating_sub(carried.sent_ns);
        let is_measured = carried.sent_ns >= self.measured_from_ns;
        if peer.http.is_some() {
            self.counts.polled += 1;
            if is_measured {
                self.poll_latency.record(took);
            }
        } else {
            self.recent.record(took);
            if is_measured {
                self.latency.record(took);
            }
        }
    }

    /// The answer to a poll: what it brought, and the next poll.
    fn polled(&mut self, owner: u32, answer: &poll::Answer<'_>) -> Result<(), Ended> {
        if answer.status != 200 {
            return Err(Ended::Poll(poll::refusal(answer)));
        }
        let polled: poll::Polled<'_> =
            serde_json::from_str(answer.body).map_err(|error| Ended::Poll(error.to_string()))?;
        for signal in &polled.signals {
            match serde_json::from_str::<poll::Kind<'_>>(signal.get()).map(|kind| kind.kind) {
                Ok(kind) if kind == "offer" => self.offered(owner, signal.get()),
                Ok(_) => self.counts.presence += 1,
                Err(error) => return Err(Ended::Poll(error.to_string())),
            }
        }
        let peer = &mut self.peers[owner as usize];
        peer.cursor = polled.cursor;
        if peer.state == State::Ready && !self.ending {
            let session = peer.http.as_ref().and_then(|http| http.session.as_deref());
            let host = self.config.base.authority();
            poll::poll(&mut self.replies, host, &peer.seat, session, polled.cursor);
        }
        Ok(())
    }

    /// The answer to a join or an offer.
    fn answered(&mut self, owner: u32, answer: &poll::Answer<'_>) -> Result<(), Ended> {
        let Some(http) = &mut self.peers[owner as usize].http else { return Ok(()) };
        match std::mem::take(&mut http.asked) {
            Asked::Join if answer.status != 200 => {
                return Err(Ended::Join(poll::refusal(answer)));
            }
            Asked::Join => {
                let joined: poll::Joined = serde_json::from_str(answer.body)
                    .map_err(|error| Ended::Join(error.to_string()))?;
                http.session = joined.session;
                self.poll_again(owner);
                self.is_ready(owner);
            }
            Asked::Offer if answer.status != 200 => self.because(poll::refusal(answer)),
            Asked::Offer | Asked::Nothing => {}
        }
        let Some(http) = &mut self.peers[owner as usize].http else { return Ok(()) };
        if let Some(mut next) = http.backlog.pop_front() {
            http.asked = Asked::Offer;
            self.replies.append(&mut next);
        }
        Ok(())
    }

    pub(super) fn poll_again(&mut self, owner: u32) {
        let peer = &self.peers[owner as usize];
        let Some(http) = &peer.http else { return };
        let mut first = Vec::new();
        let host = self.config.base.authority();
        poll::poll(&mut first, host, &peer.seat, http.session.as_deref(), peer.cursor);
        let poll = self.open(owner, Lane::Poll, first);
        if let Some(http) = &mut self.peers[owner as usize].http {
            http.poll = poll;
        }
    }

    /// Has a talker send its next offer, if it is there and its partner too.
    pub fn send(&mut self, talker: u32) {
        let owner = self.first_talker + talker as usize;
        if self.peers[owner].state != State::Ready {
            self.counts.stalled += 1;
            return;
        }
        let slot = self.connections.find(self.peers[owner].socket);
        let is_full = match (&self.peers[owner].http, slot) {
            (Some(http), _) => http.backlog.len() >= BACKLOG_MAX,
            (None, Some(slot)) => {
                let link = self.connections.at(slot).link.as_ref();
                link.is_none_or(|link| link.waiting_bytes() > WAITING_BYTES_MAX)
            }
            (None, None) => true,
        };
        if is_full {
            self.counts.stalled += 1;
            return;
        }
        let (to, number) = self.talks.next(talker);
        let mut numbers = std::mem::take(&mut self.numbers);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let sdp = self.offers.write(&mut numbers, talker, number, self.now_ns());
        let to = &self.peers[self.first_talker + to as usize].seat.name;
        let seat = &self.peers[owner].seat;
        match (&self.peers[owner].http, slot) {
            (Some(http), _) => {
                let (host, session) = (self.config.base.authority(), http.session.as_deref());
                let mut request = Vec::new();
                poll::offer(&mut request, host, seat, session, to, sdp);
                if let Some(http) = &mut self.peers[owner].http {
                    http.backlog.push_back(request);
                }
                self.post_next(owner as u32);
            }
            (None, slot) => {
                self.dialect.offer(&mut text, seat, to, sdp);
                let mask = self.mask();
                if let Some(slot) = slot {
                    if let Some(link) = &mut self.connections.at(slot).link {
                        frame::write_text(link.outbox(), mask, &[&text]);
                    }
                    self.flush(slot);
                }
            }
        }
        (self.numbers, self.text) = (numbers, text);
        self.counts.sent += 1;
    }

    /// Sends what waits, where the connection for it had gone.
    pub(super) fn post_next(&mut self, owner: u32) {
        let Some(http) = &mut self.peers[owner as usize].http else { return };
        if http.asked != Asked::Nothing {
            return;
        }
        let Some(next) = http.backlog.pop_front() else { return };
        http.asked = Asked::Offer;
        let post = http.post;
        match self.connections.find(post) {
            Some(slot) => {
                if let Some(link) = &mut self.connections.at(slot).link {
                    link.outbox().extend_from_slice(&next);
                }
                self.flush(slot);
            }
            None => {
                let post = self.open(owner, Lane::Post, next);
                if let Some(http) = &mut self.peers[owner as usize].http {
                    http.post = post;
                }
            }
        }
    }

    pub(super) fn say(&mut self, owner: u32, text: &str) {
        let mask = self.mask();
        let Some(slot) = self.connections.find(self.peers[owner as usize].socket) else { return };
        if let Some(link) = &mut self.connections.at(slot).link {
            frame::write_text(link.outbox(), mask, &[text.as_bytes()]);
        }
        self.flush(slot);
    }

    /// On the connection that is being read.
    fn reply(&mut self, text: &str) {
        let mask = self.mask();
        frame::write_text(&mut self.replies, mask, &[text.as_bytes()]);
    }

    pub(super) fn mask(&mut self) -> [u8; 4] {
        // xorshift64: a mask need only be no constant here.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 32) as u32).to_ne_bytes()
    }
}
