//! A short token for the node's own pages, so that they work where the node is at home.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chain_types::{
    AccountId, Grants, LOCAL_CHAIN_ID, PaymentStatus, SigningKey, StreamId, Token, TokenId,
};

use super::{
    Http, Problem,
    admit::{sentence, unix_ms},
    origin::{self, Names},
};
use crate::streams::StreamName;

/// How long a page's token counts; its sessions end with it. A working day: nobody's evening ends
/// because a page was opened in the morning, and a token that leaked on this machine dies over
/// night.
const VALID: Duration = Duration::from_secs(12 * 60 * 60);

/// What a page asks for.
#[derive(Debug, serde::Deserialize)]
pub struct GrantQuery {
    stream: String,
    role: String,
}

/// `GET /api/grant?stream=…&role=publish|subscribe`: only on a loopback address or an open relay,
/// and only for the node's own pages.
pub async fn grant(
    State(http): State<Http>,
    query: Result<Query<GrantQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let forbidden = |message: &str| Problem::new(StatusCode::FORBIDDEN, "no_grant", message);
    let names = match (http.about.open, http.about.loopback) {
        (true, _) => Names::Any,
        (false, true) => Names::Loopback,
        (false, false) => {
            return Err(forbidden(
                "This relay gives no tokens to visitors: ask its operator for one.",
            ));
        }
    };
    origin::check(request.uri(), request.headers(), names)
        .map_err(|foreign| forbidden(&sentence(&foreign.to_string())))?;
    let bad_request = || {
        let message = "Ask with ?stream=NAME&role=publish or role=subscribe.";
        Problem::new(StatusCode::BAD_REQUEST, "bad_query", message)
    };
    let Query(GrantQuery { stream, role }) = query.map_err(|_| bad_request())?;
    let stream: StreamName = stream.parse().map_err(|_| bad_request())?;
    let grants = match role.as_str() {
        "publish" => Grants::PUBLISH,
        "subscribe" => Grants::SUBSCRIBE,
        _ => return Err(bad_request()),
    };
    let now = SystemTime::now();
    let token = mint(&http.access.issuer, &stream, grants, now);
    let body = serde_json::json!({
        "token": token,
        "valid_until_ms": unix_ms(now + VALID),
    });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

fn mint(issuer: &SigningKey, stream: &StreamName, grants: Grants, now: SystemTime) -> String {
    let token = Token {
        token_id: TokenId(rand::random()),
        stream: StreamId::local(stream.as_str()),
        viewer: AccountId::ZERO,
        holder_key: AccountId::ZERO,
        issuer_key: AccountId::from(issuer),
        grants,
        max_layer: u8::MAX,
        payment_status: PaymentStatus::Free,
        rev_epoch: 0,
        // Not a moment earlier: a revocation covers what was valid before it.
        not_before_ms: unix_ms(now),
        valid_until_ms: unix_ms(now + VALID),
    };
    let signed = token.sign(issuer, LOCAL_CHAIN_ID);
    signed.expect("a Free token of the issuer's own key with a span").to_bearer()
}
