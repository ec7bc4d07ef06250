//! One room: who is in it, who may be, and who hears of whom.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::Now;
use crate::error::Refusal;
use crate::identity::PublicKey;
use crate::limits::{GLOBAL_SAMPLE_PEERS, Limits};
use crate::peers::Peer;
use crate::portable::portable;
use crate::shards::lock;
use crate::wire::Code;

/// The rooms that always exist.
pub const BUILT_IN: [&str; 3] = ["global", "memory-sync", "learning"];

/// The room whose joins are not refused: above the cap a newcomer sees a sample.
pub const GLOBAL: &str = "global";

/// What a room's name says of who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomKind {
    /// Anybody; made by the first join.
    Public,
    /// `p:…`: the owner and the invited.
    Private,
    /// `s:…`: whom the port `Admission` lets in.
    Stream,
}

/// The kind of a name that matches `^[a-z0-9][a-z0-9._:-]{0,63}$`; a refusal for any other.
pub fn kind_of(name: &str) -> Result<RoomKind, Refusal> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = (1..=64).contains(&name.len())
        && name.bytes().enumerate().all(|(index, byte)| {
            allowed(byte) || (index > 0 && matches!(byte, b'.' | b'_' | b':' | b'-'))
        });
    if !good {
        let form = "`room` must be a name like `global`: up to 64 of a-z 0-9 . _ : -";
        return Err(Refusal::bad_request(form));
    }
    Ok(match &name[..name.len().min(2)] {
        "p:" => RoomKind::Private,
        "s:" => RoomKind::Stream,
        _ => RoomKind::Public,
    })
}

/// A room.
#[derive(Debug)]
pub struct Room {
    pub name: Arc<str>,
    state: Mutex<RoomState>,
}

/// What changes about a room. Its lock is held while its members are told, so that all of them
/// hear comings and goings in one order; telling is putting frames into outboxes.
#[derive(Debug)]
pub struct RoomState {
    /// In the order of joining.
    members: BTreeMap<u64, Member>,
    by_id: HashMap<Arc<str>, u64>,
    next: u64,
    pub owner: Option<Owner>,
    /// Since when nobody is in it (mono ms).
    empty_since_ms: u64,
    /// Removed from the registry: who still holds it must look the name up again.
    pub dead: bool,
}

/// Who is in a room.
#[derive(Debug, Clone)]
pub struct Member {
    pub peer: Arc<Peer>,
    /// Unix ms.
    pub joined_ms: u64,
    pub card: Arc<Card>,
    /// The members whom one that came above the cap knows of; None: all.
    sample: Option<Box<[u64]>>,
}

/// What a member says of itself, as JSON texts.
#[derive(Debug, PartialEq, Eq)]
pub struct Card {
    /// An object.
    pub metadata: Box<str>,
    /// A string: the metadata's `name`, else the id.
    pub name: Box<str>,
}

impl Card {
    /// Of a join's `metadata`: an object, or nothing; a refusal for anything else.
    pub fn new(metadata: Option<&str>, node_id: &str, bytes_max: usize) -> Result<Self, Refusal> {
        #[derive(serde::Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            name: Option<&'a serde_json::value::RawValue>,
        }
        let metadata = metadata.filter(|text| *text != "null").unwrap_or("{}");
        if metadata.len() > bytes_max {
            return Err(Refusal::too_large("`metadata`", bytes_max));
        }
        if !metadata.starts_with('{') {
            return Err(Refusal::bad_request("`metadata` must be an object"));
        }
        portable(metadata, "metadata")?;
        let named: Named<'_> = serde_json::from_str(metadata)
            .map_err(|error| Refusal::bad_request(format!("`metadata` cannot be read: {error}")))?;
        let name = named.name.map(|raw| raw.get()).filter(|raw| raw.starts_with('"'));
        let name = name.map_or_else(|| format!("\"{node_id}\"").into(), Into::into);
        Ok(Self { metadata: metadata.into(), name })
    }
}

/// Who made a private room, and for whom it is closed.
#[derive(Debug, Clone)]
pub struct Owner {
    pub key: PublicKey,
    pub ban: Vec<String>,
    pub peers_max: Option<usize>,
}

/// What a join did.
pub(crate) struct Entered {
    /// Whom the newcomer sees.
    pub(crate) others: Vec<Member>,
    /// Whether it was not in before, so that the others are to hear of it.
    pub(crate) fresh: bool,
}

impl Room {
    pub fn new(name: Arc<str>, owner: Option<Owner>, now: Now) -> Self {
        let state = RoomState {
            members: BTreeMap::new(),
            by_id: HashMap::new(),
            next: 0,
            owner,
            empty_since_ms: now.mono_ms,
            dead: false,
        };
        Self { name, state: Mutex::new(state) }
    }

    pub fn state(&self) -> MutexGuard<'_, RoomState> {
        lock(&self.state)
    }

    /// Whether it has been empty for so long that it ends, and may end.
    pub(crate) fn has_ended(&self, state: &RoomState, now: Now, limits: &Limits) -> bool {
        let empty_ms = match &state.owner {
            Some(_) => limits.owned_room_empty_ms,
            None => limits.room_empty_ms,
        };
        let until = state.empty_since_ms.saturating_add(empty_ms);
        state.members.is_empty() && until <= now.mono_ms && !BUILT_IN.contains(&&*self.name)
    }

    /// Lets a peer in; a second time changes its metadata alone. `roll` is random.
    pub(crate) fn enter(
        &self,
        state: &mut RoomState,
        peer: &Arc<Peer>,
        card: Arc<Card>,
        peers_max: usize,
        now: Now,
        roll: u64,
    ) -> Result<Entered, Refusal> {
        if let Some(&at) = state.by_id.get(&peer.id)
            && let Some(member) = state.members.get_mut(&at)
        {
            member.peer = Arc::clone(peer);
            member.card = card;
            return Ok(Entered { others: state.seen_by(at), fresh: false });
        }
        let owned_max = state.owner.as_ref().and_then(|owner| owner.peers_max);
        let full = state.members.len() >= owned_max.map_or(peers_max, |max| max.min(peers_max));
        let sample = match (full, &*self.name == GLOBAL) {
            (false, _) => None,
            (true, true) => Some(state.sample(roll)),
            (true, false) => {
                let sentence = "the room is full; try again when somebody has left";
                return Err(Refusal::new(Code::RoomFull, sentence));
            }
        };
        let at = state.next;
        state.next += 1;
        let peer = Arc::clone(peer);
        state.by_id.insert(Arc::clone(&peer.id), at);
        state.members.insert(at, Member { peer, joined_ms: now.unix_ms, card, sample });
        Ok(Entered { others: state.seen_by(at), fresh: true })
    }
}

impl RoomState {
    /// Its owner makes it, again perhaps: if it is empty it is so from now on.
    pub(crate) fn own(&mut self, owner: Owner, now: Now) {
        self.owner = Some(owner);
        self.empty_since_ms = now.mono_ms;
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The member of this id.
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(self.by_id.get(id)?)
    }

    /// All others.
    pub fn others<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.values().filter(move |member| &*member.peer.id != id)
    }

    /// Up to `limit` members in the order of joining, from behind the one of id `after`.
    pub fn page(&self, after: Option<&str>, limit: usize) -> Vec<Member> {
        let from = after.and_then(|id| self.by_id.get(id)).map_or(0, |at| at + 1);
        self.members.range(from..).take(limit).map(|(_, member)| member.clone()).collect()
    }

    /// Lets a peer out; gives those who are to hear of it. None when it was not in.
    pub(crate) fn exit(&mut self, peer: &Arc<Peer>, now: Now) -> Option<Vec<Member>> {
        let at = *self.by_id.get(&peer.id)?;
        // Another life of the same id has taken the place.
        if !Arc::ptr_eq(&self.members.get(&at)?.peer, peer) {
            return None;
        }
        let audience = self.seen_by(at);
        self.by_id.remove(&peer.id);
        self.members.remove(&at);
        if self.members.is_empty() {
            self.empty_since_ms = now.mono_ms;
            self.by_id = HashMap::new();
        }
        Some(audience)
    }

    /// Those whom the member at `at` sees, and who see it.
    fn seen_by(&self, at: u64) -> Vec<Member> {
        let Some(me) = self.members.get(&at) else { return Vec::new() };
        let knows =
            |of: &Member, other: u64| of.sample.as_ref().is_some_and(|s| s.contains(&other));
        let sees = |other: u64, member: &Member| {
            let both_full = me.sample.is_none() && member.sample.is_none();
            other != at && (both_full || knows(me, other) || knows(member, at))
        };
        let heard = self.members.iter().filter(|(other, member)| sees(**other, member));
        heard.map(|(_, member)| member.clone()).collect()
    }

    /// Positions of a random few.
    fn sample(&self, roll: u64) -> Box<[u64]> {
        let mut chosen: Vec<u64> = Vec::with_capacity(GLOBAL_SAMPLE_PEERS);
        let mut random = roll | 1;
        for (seen, &at) in self.members.keys().enumerate() {
            if chosen.len() < GLOBAL_SAMPLE_PEERS {
                chosen.push(at);
                continue;
            }
            // Reservoir sampling over xorshift64 of the caller's random number.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let place = random % (seen as u64 + 1);
            if let Some(chosen) = chosen.get_mut(place as usize) {
                *chosen = at;
            }
        }
        chosen.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Rate;
    use crate::tokens::Bucket;

    const NOW: Now = Now { mono_ms: 0, unix_ms: 1_000 };

    fn peer(id: &str) -> Arc<Peer> {
        let bucket = Bucket::full(Rate { per_minute: 1, burst: 1 }, 0);
        Arc::new(Peer::new(id.into(), bucket, NOW))
    }

    fn card(metadata: &str) -> Arc<Card> {
        Arc::new(Card::new(Some(metadata), "id", 100).unwrap())
    }

    #[test]
    fn a_card_is_an_object_and_names_its_holder() {
        for (metadata, name) in [
            (None, r#""id""#),
            (Some("null"), r#""id""#),
            (Some("{}"), r#""id""#),
            (Some(r#"{"name":7}"#), r#""id""#),
            (Some(r#"{"name":"A\n","x":[]}"#), r#""A\n""#),
        ] {
            assert_eq!(&*Card::new(metadata, "id", 100).unwrap().name, name);
        }
        let code = |text: &str| Card::new(Some(text), "id", 10).map_err(|refusal| refusal.code);
        assert_eq!(code("[]"), Err(Code::BadRequest));
        assert_eq!(code("{"), Err(Code::BadRequest));
        assert_eq!(code(r#"{"name":"too long"}"#), Err(Code::TooLarge));
        let twice = Card::new(Some(r#"{"name":"a","name":"b"}"#), "id", 100).unwrap_err();
        let sentence = "`metadata` cannot be read: duplicate field `name` at line 1 column 18";
        assert_eq!((twice.code, &*twice.message), (Code::BadRequest, sentence));
    }

    fn enter(room: &Room, peer: &Arc<Peer>, max: usize) -> Result<Vec<String>, Code> {
        let mut state = room.state();
        let entered = room.enter(&mut state, peer, card("{}"), max, NOW, 77);
        let ids = |members: Vec<Member>| members.iter().map(|m| m.peer.id.to_string()).collect();
        entered.map(|entered| ids(entered.others)).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_name_says_what_kind_of_room_it_is_or_is_refused() {
        for (name, kind) in [
            ("global", RoomKind::Public),
            ("0", RoomKind::Public),
            ("a.b_c:d-e", RoomKind::Public),
            ("p:abc", RoomKind::Private),
            ("s:abc", RoomKind::Stream),
            ("p", RoomKind::Public),
        ] {
            assert_eq!(kind_of(name), Ok(kind), "{name}");
        }
        for bad in ["", "A", "-a", "a b", "é", "a/b", &"a".repeat(65)] {
            assert_eq!(
                kind_of(bad).map_err(|refusal| refusal.code),
                Err(Code::BadRequest),
                "{bad}"
            );
        }
    }

    /// R98
    #[test]
    fn a_full_room_refuses_and_who_is_in_may_join_again() {
        let room = Room::new("lobby".into(), None, NOW);
        let (a, b, c) = (peer("a"), peer("b"), peer("c"));
        assert_eq!(enter(&room, &a, 2), Ok(vec![]));
        assert_eq!(enter(&room, &b, 2), Ok(vec!["a".to_owned()]));
        assert_eq!(enter(&room, &c, 2), Err(Code::RoomFull));
        assert_eq!(enter(&room, &b, 2), Ok(vec!["a".to_owned()]));
        assert_eq!(room.state().exit(&a, NOW).map(|audience| audience.len()), Some(1));
        assert!(room.state().exit(&a, NOW).is_none());
        assert_eq!(enter(&room, &c, 2), Ok(vec!["b".to_owned()]));
    }

    #[test]
    fn global_above_its_cap_shows_a_sample_and_the_sample_hears() {
        let room = Room::new(GLOBAL.into(), None, NOW);
        let peers: Vec<_> = (0..60).map(|index| peer(&format!("n{index}"))).collect();
        for (index, peer) in peers.iter().enumerate() {
            let seen = enter(&room, peer, 50).unwrap();
            let want = if index < 50 { index } else { GLOBAL_SAMPLE_PEERS };
            assert_eq!(seen.len(), want);
        }
        let heard = room.state().exit(&peers[59], NOW).unwrap();
        assert_eq!(heard.len(), GLOBAL_SAMPLE_PEERS);
        // Who came first is heard of by those below the cap, and by who drew it.
        assert!(room.state().exit(&peers[0], NOW).unwrap().len() >= 49);
    }

    #[test]
    fn an_empty_room_that_a_join_made_ends_and_a_built_in_one_does_not() {
        let late = Now { mono_ms: 60_000, ..NOW };
        let made = Room::new("lobby".into(), None, NOW);
        let ended = |room: &Room, now| room.has_ended(&room.state(), now, &Limits::default());
        assert!(!ended(&made, Now { mono_ms: 59_999, ..NOW }));
        assert!(ended(&made, late));
        enter(&made, &peer("a"), 2).unwrap();
        assert!(!ended(&made, late));
        assert!(!ended(&Room::new("learning".into(), None, NOW), late));
    }

    #[test]
    fn a_second_life_of_an_id_is_not_ended_by_the_first_ones_end() {
        let room = Room::new("lobby".into(), None, NOW);
        let (first, second) = (peer("a"), peer("a"));
        enter(&room, &first, 2).unwrap();
        enter(&room, &second, 2).unwrap();
        assert!(room.state().exit(&first, NOW).is_none());
        assert_eq!(room.state().len(), 1);
    }
}
