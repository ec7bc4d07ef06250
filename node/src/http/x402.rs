//! Payment in HTTP's words: 402 with terms, the payer's answer, and the relay's (x402, version 2).
//!
//! Headers carry base64 of JSON: `PAYMENT-REQUIRED` with a 402, `PAYMENT-SIGNATURE` with the
//! request that pays, `PAYMENT-RESPONSE` with what it brought about.

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chain_types::{SignedBind, SignedToken, SignedVoucher, Terms, hex};
use serde::Deserialize;
use serde_json::{Value, json};
use settlement::{LaneStatus, Refusal};

use super::{Problem, admit::sentence};

/// With a 402: what is asked.
pub const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// With a request: Bind, first voucher, token.
pub const PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// With the answer: BindAck and how the lane stands.
pub const PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("payment-response");

const VERSION: u64 = 2;
const SCHEME: &str = "sutantra-stream";
/// How long a 402's terms may be answered, seconds.
const TIMEOUT_S: u32 = 60;

/// What a payer sends, bytes not yet verified.
#[derive(Debug, Clone, Default)]
pub struct Payment {
    /// Its keys on this transport.
    pub bind: Option<SignedBind>,
    /// The first money.
    pub voucher: Option<SignedVoucher>,
    /// An access token.
    pub token: Option<SignedToken>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    x402_version: u64,
    scheme: String,
    network: String,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    bind: String,
    voucher: Option<String>,
    token: Option<String>,
}

/// Reads `PAYMENT-SIGNATURE`; nothing where the request has none.
pub fn payment(headers: &HeaderMap, chain_id: &str) -> Result<Payment, Problem> {
    let Some(value) = headers.get(&PAYMENT_SIGNATURE) else { return Ok(Payment::default()) };
    read(value, chain_id).map_err(|fault| {
        let message = format!("PAYMENT-SIGNATURE cannot be used: {fault}.");
        Problem::new(StatusCode::BAD_REQUEST, "bad_payment", message)
    })
}

fn read(value: &HeaderValue, chain_id: &str) -> Result<Payment, String> {
    let bytes = STANDARD.decode(value.as_bytes()).map_err(|_| "it is not base64".to_owned())?;
    let envelope: Envelope =
        serde_json::from_slice(&bytes).map_err(|error| format!("it is not its JSON: {error}"))?;
    let Envelope { x402_version, scheme, network, payload } = envelope;
    if x402_version != VERSION || scheme != SCHEME {
        return Err(format!("x402Version {VERSION} and scheme {SCHEME} are spoken here"));
    }
    if network != network_of(chain_id) {
        return Err(format!("network {network} is another chain than {}", network_of(chain_id)));
    }
    let bind = hex::bytes(&payload.bind).ok_or("bind is not hexadecimal")?;
    let bind = SignedBind::decode(&bind).map_err(|error| error.to_string())?;
    let voucher = match payload.voucher {
        None => None,
        Some(text) => {
            let bytes = hex::bytes(&text).ok_or("voucher is not hexadecimal")?;
            Some(SignedVoucher::decode(&bytes).map_err(|error| error.to_string())?)
        }
    };
    let token = match payload.token {
        None => None,
        Some(text) => Some(SignedToken::from_bearer(&text).map_err(|error| error.to_string())?),
    };
    Ok(Payment { bind: Some(bind), voucher, token })
}

/// CAIP-2 form of a chain's name.
pub fn network_of(chain_id: &str) -> String {
    format!("sutantra:{chain_id}")
}

fn lane_json(lane: &LaneStatus) -> Value {
    json!({
        "lane": lane.lane.lane,
        "due": lane.due,
        "paid": lane.paid,
        "served_ms": lane.served_ms,
        "state": lane.state.name(),
    })
}

/// `PAYMENT-RESPONSE` of a session that was begun.
pub fn response(admission: &settlement::Admission, chain_id: &str) -> HeaderValue {
    let body = json!({
        "success": true,
        "network": network_of(chain_id),
        "payer": admission.viewer,
        "bindAck": admission.bind_ack.map(|signature| hex::text(&signature)),
        "lane": admission.lane.as_ref().map(lane_json),
    });
    header_of(&body)
}

fn header_of(body: &Value) -> HeaderValue {
    HeaderValue::from_str(&STANDARD.encode(body.to_string())).expect("base64 is ASCII")
}

/// A refusal as an answer; a missing payment or Bind with the terms, so that a wallet can act upon
/// it.
pub fn refuse(refusal: Refusal, terms: Option<&Terms>, resource: &str, chain_id: &str) -> Response {
    let status = StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::FORBIDDEN);
    let words = sentence(&refusal.to_string());
    let body = match (terms_of(&refusal, resource, chain_id), terms) {
        (Some(body), _) => body,
        (None, Some(terms)) => required(refusal.code(), &words, terms, None, resource, chain_id),
        (None, None) => return Problem::new(status, refusal.code(), words).into_response(),
    };
    let headers = [
        (PAYMENT_REQUIRED, header_of(&body)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, Json(body)).into_response()
}

/// What is asked, as the body of a 402; `None`: money would not help.
pub fn terms_of(refusal: &Refusal, resource: &str, chain_id: &str) -> Option<Value> {
    match refusal {
        Refusal::PaymentRequired { terms, lane } => {
            Some(required("Payment required", PAID, terms, lane.as_deref(), resource, chain_id))
        }
        _ => None,
    }
}

const PAID: &str = "This stream is paid by the second: open it in a wallet, or send PAYMENT-SIGNATURE with a bind and a first voucher.";

fn required(
    error: &str,
    message: &str,
    terms: &Terms,
    lane: Option<&LaneStatus>,
    resource: &str,
    chain_id: &str,
) -> Value {
    json!({
        "x402Version": VERSION,
        "error": error,
        "message": message,
        "resource": resource,
        "accepts": [{
            "scheme": SCHEME,
            "network": network_of(chain_id),
            "payTo": terms.payee,
            "amount": terms.min_prepay,
            "asset": "SUT",
            "maxTimeoutSeconds": TIMEOUT_S,
            "extra": {"terms": terms, "lane": lane.map(lane_json)},
        }],
    })
}

#[cfg(test)]
mod tests {
    use chain_types::{AccountId, Balance, StreamId};

    use super::*;

    const CHAIN: &str = "sutantra-test-1";

    fn terms() -> Terms {
        Terms {
            stream: StreamId([3; 32]),
            payee: AccountId([2; 32]),
            relay_key: AccountId([5; 32]),
            relay_fp: "06".repeat(32),
            terms_version: 1,
            rate: 1_000_000,
            tier: 2,
            cadence_ms: 1000,
            grace_ms: 3000,
            pause_max_s: 60,
            min_prepay: Balance::of(2_000_000),
        }
    }

    fn header(body: &Value) -> HeaderMap {
        HeaderMap::from_iter([(PAYMENT_SIGNATURE, header_of(body))])
    }

    /// R34
    #[test]
    fn who_has_not_paid_is_told_the_price_in_words_and_in_terms() {
        let refusal = Refusal::PaymentRequired { terms: Box::new(terms()), lane: None };
        let shown = refuse(Refusal::BindMissing, Some(&terms()), "/whep/demo", CHAIN);
        assert_eq!(shown.status(), StatusCode::UNAUTHORIZED);
        assert!(shown.headers().contains_key(PAYMENT_REQUIRED), "what is to be signed");
        let refused = refuse(Refusal::BindSignature, None, "/whep/demo", CHAIN);
        assert!(!refused.headers().contains_key(PAYMENT_REQUIRED));
        let answer = refuse(refusal, None, "/whep/demo", CHAIN);
        assert_eq!(answer.status(), StatusCode::PAYMENT_REQUIRED);
        let header = answer.headers().get(PAYMENT_REQUIRED).expect("the header");
        let body: Value = serde_json::from_slice(&STANDARD.decode(header).unwrap()).unwrap();
        assert_eq!(body["error"], "Payment required");
        let offer = &body["accepts"][0];
        assert_eq!(offer["amount"], "2000000");
        assert_eq!(offer["network"], "sutantra:sutantra-test-1");
        assert_eq!(
            serde_json::from_value::<Terms>(offer["extra"]["terms"].clone()).unwrap(),
            terms()
        );
    }

    #[test]
    fn a_payment_that_cannot_be_read_is_refused_by_its_fault() {
        let good = json!({
            "x402Version": 2,
            "scheme": SCHEME,
            "network": network_of(CHAIN),
            "payload": {"bind": "00".repeat(336)},
        });
        assert!(payment(&header(&good), CHAIN).is_ok_and(|payment| payment.bind.is_some()));
        assert!(payment(&HeaderMap::new(), CHAIN).is_ok_and(|payment| payment.bind.is_none()));
        #[track_caller]
        fn check(body: &Value, fault: &str) {
            let error = read(&header_of(body), CHAIN).expect_err("it is refused");
            assert!(error.contains(fault), "{error}");
        }
        let with = |key: &str, value: Value| {
            let mut body = good.clone();
            body[key] = value;
            body
        };
        check(&with("x402Version", json!(1)), "x402Version 2");
        check(&with("scheme", json!("exact")), "scheme");
        check(&with("network", json!("sutantra:other")), "another chain");
        check(&with("payload", json!({"bind": "0"})), "not hexadecimal");
        check(&with("payload", json!({"bind": "00"})), "expected 336");
        check(&with("payload", json!({})), "not its JSON");
        let voucher = json!({"bind": "00".repeat(336), "voucher": "00"});
        check(&with("payload", voucher), "expected 240");
        let token = json!({"bind": "00".repeat(336), "token": "?"});
        check(&with("payload", token), "base64url");
        assert!(read(&HeaderValue::from_static("%%%"), CHAIN).is_err());
    }
}
