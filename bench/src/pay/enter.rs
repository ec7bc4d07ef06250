//! Being let in: to a priced stream by terms, Bind and first voucher; to publish it by a token.

use std::time::Instant;

use anyhow::Context;
use chain_types::{
    AccountId, Balance, Grants, PaymentStatus, SignedBind, SignedVoucher, StreamId, Token, TokenId,
};
use wallet::http::{Answer, Request};
use wallet::{Identity, Offer, Paid, Payer, Payment};

use super::{Bank, Purse, Seat, now_ms};
use crate::client::JoinError;

/// Requests of one joining: for the terms, to pay, and what the relay may ask beyond that.
const REQUESTS_MAX: usize = 4;
/// A token of a run lives longer than the run.
const TOKEN_MS: u64 = 24 * 3_600_000;

/// Answer, session's path, and the seat to pay from.
pub(crate) type Entered = (String, Option<String>, Seat);

/// What is signed while it is not yet let in.
struct Attempt {
    payer: Payer,
    bind: SignedBind,
    last: SignedVoucher,
    vouchers: u64,
    signed_before: Balance,
}

impl Bank {
    /// Joins a stream of this run with a WHEP offer, and pays for it. The purse is taken where that
    /// succeeds, and stays where it is else.
    pub(crate) fn enter(
        &self,
        name: &str,
        offer: &str,
        purse: &mut Option<Purse>,
    ) -> Result<Entered, JoinError> {
        let none = || JoinError::Paying("every pool of this run is in use".to_owned());
        let stream = self.stream(name)?;
        let path = format!("/whep/{stream}");
        let mut attempt: Option<Attempt> = None;
        let mut reason = String::new();
        for _ in 0..REQUESTS_MAX {
            let held = purse.as_mut().ok_or_else(none)?;
            let payment = attempt.as_ref().map(|Attempt { bind, last, .. }| {
                Payment { bind, voucher: Some(last), token: None }.header(self.chain.id())
            });
            let header = payment.as_deref().map(|value| ("PAYMENT-SIGNATURE", value));
            let answer = self.post(&path, offer, header)?;
            let next = match (answer.status, attempt) {
                (201, Some(attempt)) => return self.admitted(&answer, attempt, stream, purse),
                (402, Some(attempt)) => self.pay_more(&answer, attempt, stream, held),
                (402, None) => self.first_money(&answer, stream, offer, held),
                (status, _) => {
                    return Err(JoinError::Refused { path, status, reason: said(&answer) });
                }
            };
            reason = said(&answer);
            attempt = Some(next.map_err(|why| JoinError::Paying(format!("{why:#}")))?);
        }
        Err(JoinError::Refused { path, status: 402, reason })
    }

    fn first_money(
        &self,
        answer: &Answer,
        stream: StreamId,
        sdp: &str,
        purse: &mut Purse,
    ) -> anyhow::Result<Attempt> {
        let offer = Offer::read(&answer.body, self.chain.id())?;
        let facts = self.facts(stream, offer.terms.payee)?;
        let agreed = facts.agree(offer.terms)?;
        let voucher_key = purse.pool.pool().voucher_key();
        let client_fingerprint =
            fingerprint(sdp).context("the offer names no certificate by SHA-256")?;
        let identity = Identity {
            viewer: AccountId::from(&purse.key),
            holder_key: voucher_key,
            token_id: TokenId::ZERO,
            channel: purse.pool.pool().channel,
            client_fingerprint,
        };
        let bind = purse.pool.bind(agreed.bind(&identity), None);
        let room = purse.pool.room(now_ms(), &stream)?;
        let known = purse.pool.pool().lanes.clone();
        let mut payer =
            Payer::new(self.chain.id(), identity, voucher_key, facts, agreed, &known, room);
        let signed_before = payer.signed();
        let (voucher, basis) = payer.admission(offer.lane)?;
        let last = purse.pool.pay(voucher, basis, now_ms())?;
        payer.set_room(purse.pool.room(now_ms(), &stream)?);
        Ok(Attempt { payer, bind, last, vouchers: 1, signed_before })
    }

    /// The relay knows more of the lane than we did.
    fn pay_more(
        &self,
        answer: &Answer,
        mut attempt: Attempt,
        stream: StreamId,
        purse: &mut Purse,
    ) -> anyhow::Result<Attempt> {
        let offer = Offer::read(&answer.body, self.chain.id())?;
        let (voucher, basis) = attempt.payer.admission(offer.lane)?;
        attempt.last = purse.pool.pay(voucher, basis, now_ms())?;
        attempt.payer.set_room(purse.pool.room(now_ms(), &stream)?);
        Ok(Attempt { vouchers: attempt.vouchers + 1, ..attempt })
    }

    fn admitted(
        &self,
        answer: &Answer,
        attempt: Attempt,
        stream: StreamId,
        purse: &mut Option<Purse>,
    ) -> Result<Entered, JoinError> {
        let Attempt { mut payer, last, vouchers, signed_before, .. } = attempt;
        let sdp = answer.text().into_owned();
        let path = answer.header("location").map(|at| crate::http::location_path(at).to_owned());
        let settled = (|| -> anyhow::Result<()> {
            let shown = fingerprint(&sdp).context("the answer names no certificate")?;
            let paid = answer.header("payment-response").map(Paid::read).transpose()?;
            let ack = paid.as_ref().and_then(Paid::bind_ack);
            let lane = paid.and_then(|paid| paid.lane);
            Ok(payer.handle_admitted(Instant::now(), ack, shown, lane)?)
        })();
        if let Err(error) = settled {
            if let Some(path) = path {
                // Whatever is wrong, the session must not stay behind.
                let _left = self.delete(&path);
            }
            return Err(JoinError::Paying(format!("{error:#}")));
        }
        let purse = purse.take().expect("this attempt was signed from it");
        Ok((sdp, path, Seat::new(purse, payer, stream, last, vouchers, signed_before)))
    }

    /// Publishes a stream of this run with a WHIP offer, by its creator's token.
    pub(crate) fn publish(
        &self,
        name: &str,
        offer: &str,
    ) -> Result<(String, Option<String>), JoinError> {
        let stream = self.stream(name)?;
        let (path, now_ms) = (format!("/whip/{stream}"), now_ms());
        let token = Token {
            token_id: TokenId(rand::random()),
            stream,
            viewer: AccountId::ZERO,
            holder_key: AccountId::ZERO,
            issuer_key: AccountId::from(&self.creator),
            grants: Grants::PUBLISH,
            max_layer: u8::MAX,
            payment_status: PaymentStatus::Free,
            rev_epoch: 0,
            not_before_ms: now_ms,
            valid_until_ms: now_ms.saturating_add(TOKEN_MS),
        };
        let signed = token.sign(&self.creator, self.chain.id());
        let bearer = signed.map_err(|error| JoinError::Paying(error.to_string()))?.to_bearer();
        let value = format!("Bearer {bearer}");
        let answer = self.post(&path, offer, Some(("Authorization", &value)))?;
        if answer.status != 201 {
            return Err(JoinError::Refused { path, status: answer.status, reason: said(&answer) });
        }
        let session = answer.header("location").map(|at| crate::http::location_path(at).to_owned());
        Ok((answer.text().into_owned(), session))
    }

    fn post(
        &self,
        path: &str,
        sdp: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Answer, JoinError> {
        let paying = |error: wallet::http::HttpError| JoinError::Paying(error.to_string());
        let mut headers = vec![("Content-Type", "application/sdp")];
        headers.extend(header);
        let url = self.base.at(path).map_err(paying)?;
        let body = sdp.as_bytes();
        url.send(Request { method: "POST", headers: &headers, body }).map_err(paying)
    }

    fn delete(&self, path: &str) -> Result<Answer, wallet::http::HttpError> {
        self.base.at(path)?.send(Request { method: "DELETE", headers: &[], body: &[] })
    }
}

/// What a relay says that refuses: its sentence, else the first line of the body.
pub(super) fn said(answer: &Answer) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str());
    let line = || answer.text().lines().next().unwrap_or_default().to_owned();
    message.map_or_else(line, str::to_owned)
}

/// SHA-256 of the certificate that an SDP names (RFC 8122 §5).
fn fingerprint(sdp: &str) -> Option<[u8; 32]> {
    let lines = sdp.lines().filter_map(|line| line.trim_end().strip_prefix("a=fingerprint:"));
    let text = lines.filter_map(|value| value.split_once(' ')).find_map(|(function, text)| {
        function.eq_ignore_ascii_case("sha-256").then(|| text.trim())
    })?;
    let mut bytes = [0; 32];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_whole_or_not_at_all() {
        let text = |bytes: usize| vec!["aB"; bytes].join(":");
        let sdp = |text: &str| format!("v=0\r\na=fingerprint:SHA-256 {text}\r\nm=video\r\n");
        assert_eq!(fingerprint(&sdp(&text(32))), Some([0xab; 32]));
        for wrong in [text(31), text(33), text(32).replace('a', "g"), String::new()] {
            assert_eq!(fingerprint(&sdp(&wrong)), None, "{wrong}");
        }
        assert_eq!(fingerprint("v=0\r\na=fingerprint:sha-1 AB\r\n"), None);
    }
}
