//! Streams of the chain over HTTP: watching by Bind and voucher, publishing by a creator's token, the
//! pay channel of clients without data channels, and what pages ask about the chain.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{
    Json,
    body::Body,
    extract::{
        ConnectInfo, Path, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use chain_types::{AccountId, SignedToken, StreamId, hex};
use serde::{Deserialize, Serialize};
use serde_json::json;
use settlement::{Admit, Refusal};

use super::{
    Http, Problem,
    admit::{bearer_of, sentence},
    api::fresh,
    body, sdp, x402,
};
use crate::{
    chain::{FaucetRefused, NodeChain},
    paying::Paying,
    streams::{Lease, ResourceId, StreamName},
};

/// Media type of frames, each behind its length.
const FRAMES: &str = "application/octet-stream";

/// Blocks that a request waits for which may speak of one that is not known here yet.
const CATCH_UP_BLOCKS: u32 = 2;
/// The longest that it waits.
const CATCH_UP_MAX: Duration = Duration::from_secs(4);
/// Between two looks.
const CATCH_UP_POLL: Duration = Duration::from_millis(20);

/// The stream of the chain that a name means: MONEY decides about it.
pub fn stream_of(http: &Http, name: &StreamName) -> Option<(Arc<Paying>, StreamId, StreamName)> {
    let paying = http.paying.clone()?;
    let (stream, name) = paying.resolve(name)?;
    Some((paying, stream, name))
}

/// As [`stream_of`] for who wants to publish or watch: an id that the chain does not know, or cannot
/// be asked for, is no name of this node's own.
pub async fn entered(
    http: &Http,
    name: &StreamName,
) -> Result<Option<(Arc<Paying>, StreamId, StreamName)>, Problem> {
    if let Some(found) = stream_of(http, name) {
        return Ok(Some(found));
    }
    if let (Some(paying), Ok(_)) = (&http.paying, name.as_str().parse::<StreamId>()) {
        // Who has just registered it saw a block that this node may not know yet.
        let mut wait = CatchUp::new(paying);
        while wait.another_block().await {
            if let Some(found) = stream_of(http, name) {
                return Ok(Some(found));
            }
        }
    }
    match (&http.paying, name.as_str().parse::<StreamId>()) {
        (Some(paying), Ok(id)) => Err(match paying.chain.stream(&id) {
            Ok(_) => {
                let message = "The chain has no such stream; check the address.";
                Problem::new(StatusCode::NOT_FOUND, "stream_unknown", message)
            }
            Err(error) => unreadable(&error),
        }),
        _ => Ok(None),
    }
}

/// Waits until a chain that is followed from afar has come to where its endpoints were: people act on
/// what they saw in a block, and a relay without a state knows that block's records one later.
struct CatchUp {
    chain: Arc<dyn NodeChain>,
    target: u64,
    blocks_left: u32,
    deadline: Instant,
}

impl CatchUp {
    fn new(paying: &Paying) -> Self {
        let chain = paying.chain.clone();
        let target = chain.tip();
        // A state of one's own is where its blocks are.
        let blocks_left = if chain.is_remote() { CATCH_UP_BLOCKS } else { 0 };
        Self { chain, target, blocks_left, deadline: Instant::now() + CATCH_UP_MAX }
    }

    /// Whether more is known now than before.
    async fn another_block(&mut self) -> bool {
        if self.blocks_left == 0 {
            return false;
        }
        self.blocks_left -= 1;
        while self.chain.head().height < self.target {
            if Instant::now() >= self.deadline {
                return false;
            }
            tokio::time::sleep(CATCH_UP_POLL).await;
        }
        // The endpoint's word of the newest block may have been on its way still.
        self.target += 1;
        true
    }
}

/// Whether a refusal may be about a block that is not known here yet.
fn may_be_early(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::StreamUnknown
            | Refusal::Channel(_)
            | Refusal::AccessDenied(_)
            | Refusal::BindStale(_)
    )
}

/// The title on the chain.
pub fn title(paying: &Paying, stream: StreamId) -> Option<String> {
    paying.stream(stream).map(|stream| stream.title)
}

/// Whether a request may publish a stream of the chain: its creator, or whom the creator's token
/// names.
pub async fn may_publish(
    paying: &Paying,
    stream: StreamId,
    parts: &Parts,
) -> Result<Lease, Problem> {
    let refused = |status, code, message: &str| {
        Problem::new(status, code, message).challenge("Bearer realm=\"sutantra\"")
    };
    let bearer = bearer_of(parts).ok_or_else(|| {
        refused(
            StatusCode::UNAUTHORIZED,
            "missing",
            "Publishing this stream needs a token signed by its creator's account: publish it from the wallet that registered it.",
        )
    })?;
    let token = SignedToken::from_bearer(bearer).map_err(|error| {
        refused(StatusCode::UNAUTHORIZED, "malformed", &sentence(&error.to_string()))
    })?;
    let money = paying.money.clone();
    let allowed = tokio::task::spawn_blocking(move || money.publish_allowed(stream, &token)).await;
    match allowed.map_err(|_| sdp::busy("internal", "The relay failed to decide; try again."))? {
        Ok(()) => Ok(Lease::OPEN),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.http_status());
            let status = status.unwrap_or(StatusCode::FORBIDDEN);
            Err(refused(status, refusal.code(), &sentence(&refusal.to_string())))
        }
    }
}

/// `POST /whep/{stream}` for a stream of the chain.
pub async fn whep(
    http: Http,
    paying: Arc<Paying>,
    stream: StreamId,
    name: StreamName,
    parts: Parts,
    body: Body,
) -> Result<Response, Problem> {
    let chain_id = paying.chain.chain_id().to_owned();
    let payment = x402::payment(&parts.headers, &chain_id)?;
    let offer = body::text(&parts.headers, body, sdp::SDP).await?;
    if let Some(stale) = paying.chain.is_stale() {
        // Nothing could be redeemed, and no close would be seen.
        tracing::debug!(%stale, "a viewer is sent away");
        let refusal = Refusal::Books("its chain does not go on");
        http.metrics.admission(refusal.code());
        return Ok(x402::refuse(refusal, None, parts.uri.path(), &chain_id));
    }
    let client_fingerprint = sfu::offer_fingerprint(&offer).ok_or_else(|| {
        let message = "The offer must name one certificate by its SHA-256 fingerprint (RFC 8122).";
        Problem::new(StatusCode::BAD_REQUEST, "bad_fingerprint", message)
    })?;
    let x402::Payment { bind, voucher, token } = payment;
    let request = Admit { stream, bind, voucher, token, client_fingerprint };
    let admit = || {
        let (paying, request) = (paying.clone(), request.clone());
        async move {
            let asked = tokio::task::spawn_blocking(move || {
                let admission = paying.money.admit(request);
                // Who has to show itself signs the terms as well: they go with the refusal.
                let terms = match &admission {
                    Err(Refusal::BindMissing) => paying.money.terms(stream).map(Box::new),
                    _ => None,
                };
                admission.map_err(|refusal| (refusal, terms))
            });
            asked.await.map_err(|_| sdp::busy("internal", "The relay failed to decide; try again."))
        }
    };
    let mut admission = admit().await?;
    let mut wait = CatchUp::new(&paying);
    while matches!(&admission, Err((refusal, _)) if may_be_early(refusal))
        && wait.another_block().await
    {
        // MONEY takes the block from its queue in the next turn.
        tokio::time::sleep(CATCH_UP_POLL).await;
        admission = admit().await?;
    }
    let admission = match admission {
        Ok(admission) => admission,
        Err((refusal, terms)) => {
            http.metrics.admission(refusal.code());
            return Ok(x402::refuse(refusal, terms.as_deref(), parts.uri.path(), &chain_id));
        }
    };
    http.metrics.admission("admitted");
    let work = {
        let (money, id) = (paying.money.clone(), admission.id);
        // Runs to its end even if the client hangs up: an admission is used or given back.
        move |http: &Http, name: &StreamName| {
            let lease = Lease { admission: Some(id), ..Lease::OPEN };
            let begun = http.control.subscribe(name, &offer, lease);
            match &begun {
                Ok(begun) => match begun.slot {
                    Some(slot) => money.begun(id, begun.session, slot),
                    None => money.abandoned(id),
                },
                Err(_) => money.abandoned(id),
            }
            begun
        }
    };
    let begun = sdp::begin(&http, &name, work).await?;
    let mut answer = sdp::created(begun);
    let paid = x402::response(&admission, &chain_id);
    answer.headers_mut().insert(x402::PAYMENT_RESPONSE, paid);
    Ok(answer)
}

/// `POST /session/{resource}/pay`: frames in, frames out.
pub async fn frames(
    State(http): State<Http>,
    resource: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let paying = paying(&http)?;
    let resource = resource.ok().and_then(|Path(text)| text.parse::<ResourceId>().ok());
    let session = resource.and_then(|resource| http.control.paying_session(resource));
    let session = session.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no_session",
            "This session is over, or never was; post a new offer.",
        )
    })?;
    let bytes = body::bytes(&headers, body, FRAMES).await?;
    let posted =
        tokio::task::spawn_blocking(move || paying.money.post_frames(session, &bytes)).await;
    let answer = posted
        .map_err(|_| sdp::busy("internal", "The relay failed to answer; try again."))?
        .map_err(|error| {
            let status = StatusCode::from_u16(error.http_status());
            let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            Problem::new(status, "pay_refused", sentence(&error.to_string()))
        })?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(FRAMES)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, answer).into_response())
}

/// `GET /api/chain`: what a wallet must know before it pays.
pub async fn chain(State(http): State<Http>) -> Result<Response, Problem> {
    let paying = paying(&http)?;
    let mut answer = chain_facts(&*paying.chain)?;
    answer["faucet"] = paying.faucet.is_some().into();
    answer["relay"] = json!({
        "account": paying.payee,
        "relay_key": paying.relay_key,
        "fingerprint": hex::text(&http.control.relay().fingerprint()),
    });
    // Wallets take rate and relay_key from here until they have the light client.
    answer["unproved"] = true.into();
    Ok(fresh(answer))
}

/// What every node says about its chain; one that relays puts itself into it.
pub fn chain_facts(chain: &dyn NodeChain) -> Result<serde_json::Value, Problem> {
    let params = chain.params().map_err(|error| unreadable(&error))?;
    let head = chain.head();
    Ok(json!({
        "chain_id": chain.chain_id(),
        "engine": chain.engine(),
        "rpc": "/rpc",
        "height": head.height,
        "block_time_ms": head.block_time_ms,
        "halted": chain.halted(),
        "faucet": false,
        "relay": null,
        "params": {
            "fee_base": params.fee_base,
            "fee_per_byte": params.fee_per_byte,
            "fee_per_voucher": params.fee_per_voucher,
            "close_window_ms": params.close_window_ms,
            "close_window_blocks": params.close_window_blocks,
            "notice_blocks": params.notice_blocks,
            "channel_blocks_min": params.channel_blocks_min,
            "min_deposit": params.deposit_min(),
            "min_new_account": params.new_account_min(),
        },
    }))
}

/// Who asks the faucet.
#[derive(Debug, Deserialize)]
pub struct FaucetRequest {
    account: AccountId,
}

/// `POST /api/faucet`: play money, on a development chain.
pub async fn faucet(
    State(http): State<Http>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Result<Json<FaucetRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let paying = paying(&http)?;
    if paying.faucet.is_none() {
        let message = "This node's faucet is closed: it serves its own machine only, unless it is started with --faucet-public.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "faucet_closed", message));
    }
    let Json(FaucetRequest { account }) = request.map_err(|rejection| {
        let message =
            format!("Send {{\"account\": \"64 hex digits\"}}: {}.", rejection.body_text());
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    })?;
    let dripped = tokio::task::spawn_blocking(move || {
        let till = paying.faucet.as_ref().context("the faucet is closed")?;
        till.drip(&*paying.chain, account, peer.ip())
    });
    let dripped = dripped.await;
    match dripped {
        Ok(Ok((hash, amount))) => {
            Ok(fresh(json!({"hash": hex::text(&hash).to_uppercase(), "amount": amount})))
        }
        Ok(Err(error)) => Err(match error.downcast_ref::<FaucetRefused>() {
            Some(refused) => {
                let message = sentence(&refused.to_string());
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "faucet_refused", message)
            }
            None => {
                let message = format!("The chain did not take the transfer: {error:#}.");
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "faucet_failed", message)
            }
        }),
        Err(_) => Err(sdp::busy("internal", "The faucet failed; try again.")),
    }
}

/// `GET /api/earnings/{stream}`: what this relay's books say about one stream.
pub async fn earnings(
    State(http): State<Http>,
    stream: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let name = sdp::stream_name(stream)?;
    let (paying, stream, _) = stream_of(&http, &name).ok_or_else(|| {
        let message = format!("The chain has no stream {name}.");
        Problem::new(StatusCode::NOT_FOUND, "stream_unknown", message)
    })?;
    let earnings = tokio::task::spawn_blocking(move || paying.money.earnings(stream)).await;
    let earnings = earnings.map_err(|_| sdp::busy("internal", "The books failed; try again."))?;
    Ok(fresh(json!({
        "paid_viewers": earnings.viewers,
        "owed": earnings.owed,
        "accepted": earnings.accepted,
        "redeemed": earnings.redeemed,
    })))
}

/// What `/api/streams` adds for a stream of the chain.
#[derive(Debug, Default, Serialize)]
pub struct ChainFacts {
    pub(super) stream_id: Option<StreamId>,
    pub(super) policy: Option<chain_types::Policy>,
    /// Decimal, in 10⁻⁹ SUT.
    pub(super) price_per_second: String,
    pub(super) terms_version: Option<u32>,
    pub(super) creator: Option<AccountId>,
}

impl ChainFacts {
    /// Of a live stream.
    pub fn of(http: &Http, name: &StreamName) -> Self {
        let free = Self { price_per_second: "0".to_owned(), ..Self::default() };
        let Some((paying, id, _)) = stream_of(http, name) else { return free };
        let Some(stream) = paying.stream(id) else { return free };
        let terms = stream.terms_at(paying.chain.head().height);
        let is_paid = stream.policy == chain_types::Policy::Paid;
        let rate = terms.filter(|_| is_paid).map_or(0, |terms| terms.rate_per_second);
        Self {
            stream_id: Some(id),
            policy: Some(stream.policy),
            price_per_second: rate.to_string(),
            terms_version: terms.map(|terms| terms.version),
            creator: Some(stream.creator),
        }
    }
}

fn paying(http: &Http) -> Result<Arc<Paying>, Problem> {
    http.paying.clone().ok_or_else(|| {
        let message = "This node runs without a chain: nothing is paid here.";
        Problem::new(StatusCode::NOT_FOUND, "no_chain", message)
    })
}

fn unreadable(error: &settlement::ChainError) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "chain_unreadable", sentence(&error.to_string()))
}
