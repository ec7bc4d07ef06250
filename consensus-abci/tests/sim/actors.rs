//! Who sends: a few accounts that remember what they sent until a block has it, and send it again.

use std::collections::BTreeMap;

use bytes::Bytes;
use chain_types::{
    AccountId, Balance, ChannelId, Params, Payload, Policy, SplitShares, StreamId, Transaction,
    TransactionBody, VOUCHER_SIGNED_BYTES, Voucher, transaction_hash,
};

use crate::{
    chance::Chance,
    node::OPERATOR,
    staked::{delegate, undelegate, withdraw},
    world::{CHAIN_ID, NAMES, id, keep, key, price, redeem, register, relay_facts, signed, sut},
};

/// Who pays out of channels, and who is paid.
const PAYERS: [&str; 2] = ["viewer", "submitter"];
const PAYEES: [&str; 3] = ["relay", "origin", "other"];
/// Signs the relays' redeems.
const RELAY_KEY: &str = "submitter";
/// Transactions of one account that wait at once: fewer than a mempool lets wait.
const PENDING_MAX: usize = 12;

/// What is on its way.
pub struct Pending {
    pub bytes: Bytes,
    /// Last height; 0: none.
    valid_until: u64,
    /// A mempool has it.
    pub is_waiting: bool,
}

/// An account and what it has sent.
struct Actor {
    name: &'static str,
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

/// All of them.
pub struct Actors {
    params: Params,
    chance: Chance,
    actors: Vec<Actor>,
    channels: Vec<ChannelId>,
    streams: Vec<StreamId>,
    /// Newest version that somebody asked for.
    versions: u64,
}

impl Actors {
    /// With what each does first: relays and streams are registered.
    pub fn new(seed: u64, params: Params) -> Self {
        let actor = |name| Actor { name, next: 0, pending: BTreeMap::new() };
        let mut actors = Self {
            params,
            chance: Chance::of(seed, "actors"),
            actors: NAMES.into_iter().map(actor).collect(),
            channels: Vec::new(),
            streams: Vec::new(),
            versions: 1,
        };
        for (at, actor) in NAMES.into_iter().enumerate() {
            if PAYEES.contains(&actor) {
                let relay = relay_facts(RELAY_KEY);
                actors.send(at, Payload::RegisterRelay { relay, bond: Balance::ZERO }, 0);
            }
        }
        for policy in [Policy::Paid, Policy::Ticketed] {
            let creator = actors.place("creator");
            actors.streams.push(StreamId::of(&id("creator"), actors.actors[creator].next));
            actors.send(creator, register(policy), 0);
        }
        actors
    }

    fn place(&self, name: &str) -> usize {
        self.actors.iter().position(|actor| actor.name == name).expect("one of the names")
    }

    fn send(&mut self, at: usize, payload: Payload, valid_until: u64) {
        let nonce = self.actors[at].next;
        self.actors[at].next += 1;
        let sponsor = self.chance.once_in(12).then_some("creator");
        let bytes = self.sign(self.actors[at].name, sponsor, nonce, valid_until, payload);
        let pending = Pending { bytes, valid_until, is_waiting: false };
        self.actors[at].pending.insert(nonce, pending);
    }

    fn sign(
        &self,
        name: &str,
        sponsor: Option<&str>,
        nonce: u64,
        valid_until_height: u64,
        payload: Payload,
    ) -> Bytes {
        let fee_payer = sponsor.filter(|sponsor| *sponsor != name);
        let mut body = TransactionBody {
            signer: id(name),
            fee_payer: fee_payer.map(id),
            nonce,
            valid_until_height,
            fee: Balance::ZERO,
            payload,
        };
        body.fee = self.params.fee_min(&body.payload, body.signed_len_bytes());
        let signed = match fee_payer {
            Some(sponsor) => body.sign_with_fee_payer(&key(name), &key(sponsor), CHAIN_ID),
            None => body.sign(&key(name), CHAIN_ID),
        };
        signed.encode().into()
    }

    /// Some of them want something new. `height` is the newest that they know of.
    pub fn act(&mut self, height: u64) {
        for _ in 0..self.chance.within(0, 9) {
            let at = self.chance.within(0, self.actors.len() as u64) as usize;
            if self.actors[at].pending.len() < PENDING_MAX {
                let name = self.actors[at].name;
                let payload = self.wish(name, self.actors[at].next, height);
                let in_haste = self.chance.once_in(8);
                let valid_until = if in_haste { height + self.chance.within(1, 5) } else { 0 };
                self.send(at, payload, valid_until);
            }
        }
    }

    fn amount(&mut self) -> u64 {
        match self.chance.within(0, 10) {
            0 => self.chance.within(0, 1_000),
            1 => self.chance.within(2_000_000_000_000, 4_000_000_000_000), // More than anybody has.
            _ => self.chance.within(1_000, 3_000_000),
        }
    }

    fn wish(&mut self, name: &'static str, nonce: u64, height: u64) -> Payload {
        let of_payee = PAYEES.contains(&name) || name == RELAY_KEY;
        match self.chance.within(0, 20) {
            0..=3 if PAYERS.contains(&name) => self.open(name, nonce, height),
            0..=7 if of_payee => self.redeem(name),
            0..=2 if name == "creator" => self.stream(),
            8..=14 if !self.channels.is_empty() => self.channel(name, height),
            15 => {
                let stream = self.chance.one_of(&self.streams);
                let terms_version = self.chance.within(1, self.versions + 2) as u32;
                Payload::BuyAccess { stream, terms_version, max_price: sut(500_000_000) }
            }
            16 => {
                let stream = self.chance.one_of(&self.streams);
                let viewer = id(self.chance.one_of(&PAYERS));
                let valid_until = self.chance.next();
                Payload::GrantAccess {
                    stream,
                    viewer,
                    valid_until,
                    payment_status: 1,
                    max_layer: 1,
                }
            }
            17 => delegate(OPERATOR, self.chance.within(1, 4) * 1_000_000_000),
            18 => undelegate(OPERATOR, self.chance.within(1, 3) * 1_000_000_000),
            19 => withdraw(OPERATOR),
            _ => {
                let to = match self.chance.once_in(6) {
                    true => id(&format!("stranger {}", self.chance.within(0, 5))),
                    false => id(self.chance.one_of(&NAMES)),
                };
                Payload::Transfer { to, amount: sut(self.amount()) }
            }
        }
    }

    fn open(&mut self, name: &str, nonce: u64, height: u64) -> Payload {
        self.channels.push(ChannelId::of(&id(name), nonce));
        if self.channels.len() > 6 {
            self.channels.remove(0);
        }
        let payees: Vec<_> = PAYEES.into_iter().filter(|_| self.chance.once_in(3)).collect();
        Payload::OpenChannel {
            deposit: sut(self.chance.within(1_000_000, 20_000_000)),
            voucher_key: id("session"),
            expires_height: height + self.chance.within(0, 60),
            reserves: payees
                .into_iter()
                .map(|payee| {
                    let until = height + self.chance.within(0, 20);
                    keep(payee, self.chance.within(0, 4_000_000), until)
                })
                .collect(),
        }
    }

    fn channel(&mut self, name: &str, height: u64) -> Payload {
        let channel = self.chance.one_of(&self.channels);
        match self.chance.within(0, 6) {
            0 => Payload::RequestClose { channel },
            1 => Payload::Finalize { channel },
            2 | 3 => {
                let amount = sut(self.amount());
                Payload::TopUp { channel, amount, reserves: Vec::new() }
            }
            _ => {
                let payee = match PAYEES.contains(&name) {
                    true => name, // Its own is all that a payee may change.
                    false => self.chance.one_of(&PAYEES),
                };
                let until = height + self.chance.within(0, 20);
                let amount = self.chance.within(0, 3_000_000);
                Payload::Reserve { channel, reserve: keep(payee, amount, until) }
            }
        }
    }

    fn stream(&mut self) -> Payload {
        let stream = self.chance.one_of(&self.streams);
        self.versions += 1;
        match self.chance.within(0, 3) {
            0 => Payload::SetPrice {
                stream,
                price: price(self.chance.within(1, 2_000_000)),
                from_height: 0,
            },
            1 => {
                let creator_bps = self.chance.within(0, 10_001) as u16;
                let origin_bps = self.chance.within(0, 10_001 - u64::from(creator_bps)) as u16;
                let split = SplitShares { creator_bps, origin_bps };
                Payload::SetSplit { stream, split, from_height: 0 }
            }
            _ => Payload::BumpRevocation { stream },
        }
    }

    fn redeem(&mut self, name: &str) -> Payload {
        let mut payee = match PAYEES.contains(&name) && !self.chance.once_in(8) {
            true => name,
            false => self.chance.one_of(&PAYEES),
        };
        let mut entries = Vec::new();
        for _ in 0..self.chance.within(1, 5) {
            if self.chance.once_in(12) {
                payee = self.chance.one_of(&PAYEES);
            }
            entries.push(self.voucher(payee));
        }
        redeem(entries)
    }

    fn voucher(&mut self, payee: &str) -> [u8; VOUCHER_SIGNED_BYTES] {
        if self.channels.is_empty() || self.chance.once_in(20) {
            let noise = self.chance.bytes(VOUCHER_SIGNED_BYTES);
            return noise.try_into().expect("as many as asked for");
        }
        let voucher = Voucher {
            channel: self.chance.one_of(&self.channels),
            payee: id(payee),
            stream: self.chance.one_of(&self.streams),
            lane: self.chance.within(0, 2) as u32,
            // The newest few: older ones are not paid any more.
            terms_version: (self.versions.saturating_sub(self.chance.within(0, 3))).max(1) as u32,
            nonce: self.chance.next(),
            cumulative: sut(self.amount()),
            media_ms: 0,
            bytes: 0,
            qos: [0; 32],
        };
        let mut signed = signed(voucher);
        if self.chance.once_in(12) {
            let at = self.chance.within(0, VOUCHER_SIGNED_BYTES as u64) as usize;
            signed[at] ^= 1 << self.chance.within(0, 8);
        }
        signed
    }

    /// What is to be sent now, in an order of chance; some of it waits for another time.
    pub fn outbox(&mut self) -> Vec<(AccountId, u64, Bytes)> {
        let mut outbox = Vec::new();
        for actor in &self.actors {
            for (nonce, pending) in &actor.pending {
                if !pending.is_waiting {
                    outbox.push((id(actor.name), *nonce, pending.bytes.clone()));
                }
            }
        }
        self.chance.shuffle(&mut outbox);
        outbox.retain(|_| !self.chance.once_in(5));
        outbox
    }

    fn actor(&mut self, account: &AccountId) -> &mut Actor {
        let is_theirs = |actor: &&mut Actor| id(actor.name) == *account;
        self.actors.iter_mut().find(is_theirs).expect("one of the names")
    }

    /// A mempool took it.
    pub fn is_taken(&mut self, account: &AccountId, nonce: u64) {
        if let Some(pending) = self.actor(account).pending.get_mut(&nonce) {
            pending.is_waiting = true;
        }
    }

    /// Nothing waits any more: the node died.
    pub fn node_died(&mut self) {
        for actor in &mut self.actors {
            actor.pending.values_mut().for_each(|pending| pending.is_waiting = false);
        }
    }

    /// A block has these; it is the newest. What can come into no block any more is replaced.
    pub fn saw(&mut self, height: u64, txs: &[Bytes]) {
        for tx in txs {
            let Ok(Transaction { body, .. }) = Transaction::decode(tx) else { continue };
            let hash = transaction_hash(tx);
            let pending = &mut self.actor(&body.signer).pending;
            if pending.get(&body.nonce).is_some_and(|sent| transaction_hash(&sent.bytes) == hash) {
                pending.remove(&body.nonce);
            }
        }
        let late: Vec<(usize, u64)> = (self.actors.iter().enumerate())
            .flat_map(|(at, actor)| {
                actor.pending.iter().map(move |(nonce, sent)| (at, nonce, sent))
            })
            .filter(|(.., sent)| (1..=height).contains(&sent.valid_until))
            .map(|(at, nonce, _)| (at, *nonce))
            .collect();
        for (at, nonce) in late {
            let payload = Payload::Transfer { to: id("creator"), amount: sut(1) };
            let bytes = self.sign(self.actors[at].name, None, nonce, 0, payload);
            let pending = Pending { bytes, valid_until: 0, is_waiting: false };
            self.actors[at].pending.insert(nonce, pending);
        }
    }

    /// The first that no block has yet.
    pub fn left(&self) -> Option<(AccountId, u64)> {
        let first = |actor: &Actor| Some((id(actor.name), *actor.pending.keys().next()?));
        self.actors.iter().find_map(first)
    }
}

/// What no chain takes, with its name.
pub fn junk(chance: &mut Chance, committed: &[Bytes], params: &Params) -> (&'static str, Bytes) {
    let body = |nonce, payload| {
        let mut body = TransactionBody {
            signer: id("other"),
            fee_payer: None,
            nonce,
            valid_until_height: 0,
            fee: Balance::ZERO,
            payload,
        };
        body.fee = params.fee_min(&body.payload, body.signed_len_bytes());
        body
    };
    let transfer = || Payload::Transfer { to: id("relay"), amount: sut(1) };
    let signed = |body: TransactionBody, chain: &str| body.sign(&key("other"), chain).encode();
    match chance.within(0, 7) {
        0 => (
            "garbage",
            {
                let count = chance.within(1, 300);
                chance.bytes(count as usize)
            }
            .into(),
        ),
        1 => ("oversize", chance.bytes(params.transaction_bytes_max as usize + 1).into()),
        2 => ("another chain", signed(body(0, transfer()), "sutantra-test-2").into()),
        3 => ("a nonce far away", signed(body(1 << 60, transfer()), CHAIN_ID).into()),
        4 => {
            let mut bytes = signed(body(0, transfer()), CHAIN_ID);
            let at = bytes.len() - 1 - chance.within(0, 64) as usize;
            bytes[at] ^= 1 << chance.within(0, 8);
            ("a wrong signature", bytes.into())
        }
        5 => {
            let mut cheap = body(0, transfer());
            cheap.fee = sut(1);
            ("a fee too small", signed(cheap, CHAIN_ID).into())
        }
        _ if !committed.is_empty() => (
            "what is in a block",
            committed[chance.within(0, committed.len() as u64) as usize].clone(),
        ),
        _ => ("nothing", Bytes::new()),
    }
}
