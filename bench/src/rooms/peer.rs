//! A peer of a run: where it is, what it does, how far it has come.

use std::collections::VecDeque;
use std::time::Instant;

use super::dialect::Seat;
use super::track::Track;

/// Partners to whom one peer sends, its next ones in the room.
const PARTNERS_MAX: usize = 16;
/// Offers of a poller that wait for the answer to the one before; a further one is not sent.
pub const BACKLOG_MAX: usize = 64;

/// What it is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Stays, and says nothing.
    Idle,
    /// The `n`th of those who send offers.
    Talker(u32),
    /// Comes and goes.
    Passer,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not yet here.
    Away,
    /// Connects and joins.
    Coming,
    /// Where it wanted to be.
    Ready,
    /// Has said good-bye.
    Leaving,
    /// Refused, ended, or gone of its own will.
    Gone,
}

/// One peer.
pub struct Peer {
    /// As the server knows it.
    pub seat: Seat,
    /// See [`Role`].
    pub role: Role,
    /// See [`State`].
    pub state: State,
    /// Its WebSocket.
    pub socket: Option<u64>,
    /// Of one that polls.
    pub http: Option<Box<Http>>,
    /// All up to this has arrived.
    pub cursor: u64,
    /// What came since the server was told.
    pub unacknowledged: u32,
    /// When it began to come.
    pub began: Instant,
    /// Told apart from who had this place before.
    pub life: u32,
    /// Chooses the address that it comes from.
    pub number: usize,
}

/// What a peer that polls keeps.
#[derive(Default)]
pub struct Http {
    /// Connection of the polls.
    pub poll: Option<u64>,
    /// Connection of everything else.
    pub post: Option<u64>,
    /// What the last request there was.
    pub asked: Asked,
    /// Requests that wait for their turn.
    pub backlog: VecDeque<Vec<u8>>,
    /// Stands for the signature.
    pub session: Option<String>,
}

/// A request without its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asked {
    /// None.
    #[default]
    Nothing,
    /// To be let in.
    Join,
    /// To pass on an offer.
    Offer,
}

impl Peer {
    /// One that has not come yet.
    pub fn new(seat: Seat, role: Role, number: usize) -> Self {
        Self {
            seat,
            role,
            state: State::Away,
            socket: None,
            http: None,
            cursor: 0,
            unacknowledged: 0,
            began: Instant::now(),
            life: 0,
            number,
        }
    }
}

/// Who sends to whom in the rooms, and what arrived.
pub struct Talks {
    peers_per_room: usize,
    partners: usize,
    /// By sender and partner.
    sent: Vec<u32>,
    /// By receiver and partner.
    tracks: Vec<Track>,
    /// By sender: its next partner.
    turns: Vec<u8>,
}

impl Talks {
    /// Among `talkers` peers, room after room.
    pub fn new(talkers: usize, peers_per_room: usize) -> Self {
        let partners = peers_per_room.saturating_sub(1).min(PARTNERS_MAX);
        Self {
            peers_per_room,
            partners,
            sent: vec![0; talkers * partners],
            tracks: vec![Track::default(); talkers * partners],
            turns: vec![0; talkers],
        }
    }

    /// To whom `from` sends next, and as which number.
    pub fn next(&mut self, from: u32) -> (u32, u32) {
        let sender = from as usize;
        let turn = usize::from(self.turns[sender]);
        self.turns[sender] = ((turn + 1) % self.partners) as u8;
        let sent = &mut self.sent[sender * self.partners + turn];
        let number = *sent;
        *sent += 1;
        let (room, place) = (sender / self.peers_per_room, sender % self.peers_per_room);
        let to = room * self.peers_per_room + (place + 1 + turn) % self.peers_per_room;
        (to as u32, number)
    }

    /// What has come to `to` from `from`; `None`: it does not send there.
    pub fn track(&mut self, to: u32, from: u32) -> Option<&mut Track> {
        let (to, from, each) = (to as usize, from as usize, self.peers_per_room);
        if each == 0 || to / each != from / each || to == from {
            return None;
        }
        let turn = (to + each - from - 1) % each;
        (turn < self.partners).then(|| &mut self.tracks[to * self.partners + turn])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::track::Step;

    #[test]
    fn everybody_sends_to_partners_of_its_room_in_turn_and_each_pair_counts_for_itself() {
        for (rooms, peers_per_room) in [(1, 2), (3, 5), (2, 40)] {
            let talkers = rooms * peers_per_room;
            let mut talks = Talks::new(talkers, peers_per_room);
            for _round in 0..3 * PARTNERS_MAX {
                for from in 0..talkers as u32 {
                    let (to, number) = talks.next(from);
                    let room = |peer: u32| peer as usize / peers_per_room;
                    assert!(to != from && room(to) == room(from), "{from} to {to}");
                    let track = talks.track(to, from).expect("they are partners");
                    assert_eq!(track.take(number), Step::InOrder, "{from} to {to}");
                }
            }
            assert!(talks.track(0, talkers as u32).is_none(), "another room");
            assert!(talks.track(0, 0).is_none(), "itself");
        }
        let mut talks = Talks::new(40, 40);
        assert!(talks.track(17, 0).is_none(), "not a partner: 0 sends to 1..=16");
        assert!(talks.track(16, 0).is_some());
    }
}
