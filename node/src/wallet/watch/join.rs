//! Coming in: offer, terms, the wallet's checks, Bind and first voucher, the relay's answer.

use std::{
    thread,
    time::{Duration, Instant},
};

use ::wallet::{
    Agreed, Basis, Chain, Identity, Offer, OpenPool, Paid, Payer, Payment, Stop,
    http::{Answer, Request, Url},
};
use anyhow::{Context as _, bail};
use chain_types::{
    AccountId, Balance, ChannelId, Policy, SignedBind, SignedToken, SignedVoucher, SigningKey,
    StreamId, TokenId, Voucher,
};
use sfu::offer_fingerprint;

use super::{
    super::{Surroundings, args::WatchArgs, pools, said},
    courier,
    peer::Peer,
};
use crate::now_ms;

/// Requests of one joining: for the terms, to pay, to pay what was still owed, and once more.
const REQUESTS_MAX: usize = 5;
/// A relay that is busy, or whose chain has just stood still, is asked again.
const BUSY_MAX: u32 = 10;
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// A paying session that was let in.
pub struct Paying {
    pub payer: Payer,
    pub pool: OpenPool,
    /// The newest, to be sent again.
    pub last: SignedVoucher,
    /// What the pool had signed before this session.
    pub signed_before: Balance,
}

impl Paying {
    /// Writes down and signs.
    pub fn pay(&mut self, voucher: Voucher, basis: Basis, stream: &StreamId) -> anyhow::Result<()> {
        self.last = self.pool.pay(voucher, basis, now_ms())?;
        self.payer.set_room(self.pool.room(now_ms(), stream)?);
        Ok(())
    }
}

/// A session.
pub struct Joined {
    pub peer: Peer,
    pub session: Url,
    pub paying: Option<Paying>,
    pub payee: AccountId,
}

/// What is signed for one stream at one relay, while it is not yet let in.
enum Attempt {
    Paying { paying: Box<Paying>, bind: SignedBind },
    Bound { agreed: Agreed, bind: SignedBind },
}

struct Joining<'a> {
    around: &'a Surroundings,
    args: &'a WatchArgs,
    chain: &'a Chain,
    key: &'a SigningKey,
    stream: StreamId,
    token: Option<SignedToken>,
    client_fingerprint: [u8; 32],
}

/// Joins a stream, and pays for it where it is paid.
pub fn join(
    around: &Surroundings,
    args: &WatchArgs,
    chain: &Chain,
    key: &SigningKey,
    stream: StreamId,
    with_channel: bool,
) -> anyhow::Result<Joined> {
    let mut peer = Peer::new(around.relay.resolve()?, with_channel)?;
    let client_fingerprint =
        offer_fingerprint(&peer.offer).context("the offer names its certificate")?;
    let token = args.token.as_deref().map(|text| SignedToken::from_bearer(text.trim()));
    let token = token.transpose().context("--token")?;
    let joining = Joining { around, args, chain, key, stream, token, client_fingerprint };
    let whep = around.relay.at(&format!("/whep/{}", args.stream))?;
    let mut attempt: Option<Attempt> = None;
    let (mut requests, mut busy) = (0, 0);
    while requests < REQUESTS_MAX {
        requests += 1;
        let payment = attempt.as_ref().map(|attempt| attempt.header(args, chain.id()));
        let mut headers = vec![("Content-Type", "application/sdp")];
        headers.extend(payment.as_deref().map(|value| ("PAYMENT-SIGNATURE", value)));
        let body = peer.offer.as_bytes();
        let answer = whep.send(Request { method: "POST", headers: &headers, body })?;
        match answer.status {
            201 => {
                let location = answer.header("location").context("the relay names no session")?;
                let session = whep.at(location)?;
                let sdp = answer.text().into_owned();
                // Whatever is wrong from here on, the session must not stay behind.
                let settled = settle(&answer, &sdp, attempt, chain.id())
                    .and_then(|paying| peer.accept(&sdp).map(|()| paying));
                let (paying, payee) = settled.inspect_err(|_| leave(&session))?;
                return Ok(Joined { peer, session, paying, payee });
            }
            503 if busy < BUSY_MAX => {
                (busy, requests) = (busy + 1, requests - 1);
                thread::sleep(BUSY_WAIT);
            }
            401 | 402 => attempt = Some(joining.answer(&answer, attempt)?),
            // The terms have changed between two requests.
            409 if attempt.is_some() => attempt = None,
            status => bail!("the relay does not let you in (status {status}): {}", said(&answer)),
        }
    }
    bail!("the relay asks again and again: it does not agree with this wallet on what is owed")
}

/// Ends a session; the relay would notice by itself, later.
pub fn leave(session: &Url) {
    let _noticed = session.send(Request { method: "DELETE", headers: &[], body: &[] });
}

/// Holds the answer against the Bind.
fn settle(
    answer: &Answer,
    sdp: &str,
    attempt: Option<Attempt>,
    chain_id: &str,
) -> anyhow::Result<(Option<Paying>, AccountId)> {
    let Some(attempt) = attempt else { return Ok((None, AccountId::ZERO)) };
    let shown = offer_fingerprint(sdp).ok_or(Stop::Tampered("the answer names no certificate"))?;
    let paid = answer.header("payment-response").map(Paid::read).transpose()?;
    let ack = paid.as_ref().and_then(Paid::bind_ack);
    match attempt {
        Attempt::Bound { agreed, bind } => {
            agreed.check_answer(&bind.bind, ack, shown, chain_id)?;
            Ok((None, agreed.terms().payee))
        }
        Attempt::Paying { mut paying, .. } => {
            let lane = paid.and_then(|paid| paid.lane);
            paying.payer.handle_admitted(Instant::now(), ack, shown, lane)?;
            let payee = paying.payer.terms().payee;
            Ok((Some(*paying), payee))
        }
    }
}

impl Attempt {
    fn header(&self, args: &WatchArgs, chain_id: &str) -> String {
        let token = args.token.as_deref().map(str::trim);
        let (bind, voucher) = match self {
            Self::Paying { bind, paying } => (bind, Some(&paying.last)),
            Self::Bound { bind, .. } => (bind, None),
        };
        Payment { bind, voucher, token }.header(chain_id)
    }
}

impl Joining<'_> {
    /// What the next request carries, after a 402.
    fn answer(&self, answer: &Answer, attempt: Option<Attempt>) -> anyhow::Result<Attempt> {
        let offer = Offer::read(&answer.body, self.chain.id())?;
        if let Some(Attempt::Paying { mut paying, bind }) = attempt
            && *paying.payer.terms() == offer.terms
        {
            let (voucher, basis) = paying.payer.admission(offer.lane)?;
            paying.pay(voucher, basis, &self.stream)?;
            return Ok(Attempt::Paying { paying, bind });
        }
        let facts = courier::facts(self.chain, self.stream, offer.terms.payee)?;
        let policy = facts.stream.policy;
        let agreed = facts.agree(offer.terms)?;
        let terms = agreed.terms();
        let viewer = AccountId::from(self.key);
        if policy != Policy::Paid || terms.rate == 0 {
            let identity = self.identity(viewer, ChannelId::ZERO, viewer);
            let bind = agreed.bind(&identity).sign(self.key, None, self.chain.id());
            return Ok(Attempt::Bound { agreed, bind });
        }
        let pools = self.around.pools(self.chain)?;
        if let Some(back_off) = pools.ledger().back_off(&terms.payee, now_ms())? {
            let seconds = back_off.until_ms.saturating_sub(now_ms()).div_ceil(1000);
            bail!(
                "this relay took money and sent nothing, {} times in a row: it is left alone for another {seconds} s; watch through another one",
                back_off.failures
            );
        }
        let mut pool =
            pools::to_pay_from(self.chain, &pools, &viewer, &terms.payee, self.args.pool)?;
        let voucher_key = pool.pool().voucher_key();
        let identity = self.identity(viewer, pool.pool().channel, voucher_key);
        let holder = (identity.holder_key == viewer).then_some(self.key);
        let bind = pool.bind(agreed.bind(&identity), holder);
        let room = pool.room(now_ms(), &self.stream)?;
        let known = pool.pool().lanes.clone();
        let mut payer =
            Payer::new(self.chain.id(), identity, voucher_key, facts, agreed, &known, room);
        let (voucher, basis) = payer.admission(offer.lane)?;
        let signed_before = pool.pool().signed();
        let last = pool.pay(voucher, basis, now_ms())?;
        payer.set_room(pool.room(now_ms(), &self.stream)?);
        let paying = Box::new(Paying { payer, pool, last, signed_before });
        Ok(Attempt::Paying { paying, bind })
    }

    /// `otherwise` signs where no token names a holder.
    fn identity(&self, viewer: AccountId, channel: ChannelId, otherwise: AccountId) -> Identity {
        let token = self.token.as_ref().and_then(|token| {
            let token = token.verify(self.chain.id(), now_ms());
            token.ok().map(|token| (token.token_id, token.holder_key))
        });
        let (token_id, holder_key) = token.unwrap_or((TokenId::ZERO, AccountId::ZERO));
        let holder_key = if holder_key.is_zero() { otherwise } else { holder_key };
        let client_fingerprint = self.client_fingerprint;
        Identity { viewer, holder_key, token_id, channel, client_fingerprint }
    }
}
