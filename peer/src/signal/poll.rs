//! The membership over plain HTTP: join, a long poll that acknowledges as it asks, and posts.

use std::time::Duration;

use coordinator::wire::{
    ErrorBody, JoinAnswer, JoinRequest, LeaveRequest, Payload, PollAnswer, Signal, SignalRequest,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    End, HttpError, Incoming, Outgoing, Session, Transport, Update, What,
    http::{Answer, HttpClient, percent},
};

/// For an answer that need not wait for anything.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a poll waits.
const POLL: Duration = Duration::from_secs(25);

/// Joins, and stays until something ends it.
pub(super) async fn run(
    session: &mut Session,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    updates: &mpsc::Sender<Update>,
) -> End {
    match stay(session, outgoing, updates).await {
        Ok(end) | Err(end) => end,
    }
}

async fn stay(
    session: &mut Session,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    updates: &mpsc::Sender<Update>,
) -> Result<End, End> {
    let mut posts = HttpClient::new(&session.found.url).map_err(lost)?;
    let mut polls = HttpClient::new(&session.found.url).map_err(lost)?;
    let joined = join(session, &mut posts).await?;
    session.cursor = joined.cursor.unwrap_or(0);
    session.secret = joined.session;
    session.is_member = true;
    let update = Update::Joined {
        transport: Transport::Poll,
        peers: Some(joined.peers),
        ice_servers: joined.ice_servers,
    };
    updates.send(update).await.map_err(|_| End::Left)?;
    loop {
        let (path, secret) = (poll_path(session), session.secret.clone());
        let poll = polls.get(&path, secret.as_deref(), POLL + WITHIN);
        tokio::pin!(poll);
        let answer = loop {
            tokio::select! {
                answer = &mut poll => break answer.map_err(lost)?,
                signal = outgoing.recv() => match signal {
                    Some(signal) => post(session, &mut posts, signal).await?,
                    None => return Ok(leave(session, &mut posts).await),
                },
            }
        };
        if !answer.status.is_success() {
            return Err(refused(session, &answer));
        }
        let answer: PollAnswer = answer.json().map_err(lost)?;
        for signal in answer.signals {
            if signal.seq.is_some_and(|seq| seq <= session.cursor) {
                continue;
            }
            session.cursor = signal.seq.unwrap_or(session.cursor);
            if let Some(update) = told(&session.membership.room, signal) {
                updates.send(update).await.map_err(|_| End::Left)?;
            }
        }
        session.cursor = answer.cursor.unwrap_or(session.cursor);
    }
}

fn poll_path(session: &Session) -> String {
    let (node_id, room) = (percent(&session.node_id), percent(&session.membership.room));
    let (cursor, timeout) = (session.cursor, POLL.as_millis());
    format!("/signal?nodeId={node_id}&room={room}&cursor={cursor}&timeout={timeout}")
}

async fn join(session: &Session, posts: &mut HttpClient) -> Result<JoinAnswer, End> {
    let request = JoinRequest {
        node_id: session.node_id.clone(),
        room: session.membership.room.clone(),
        metadata: Some(session.metadata()),
        proof: Some(session.proof(&session.membership.room)),
        invite: session.membership.invite.clone(),
    };
    let answer = posts.post("/join", None, &request, WITHIN).await.map_err(lost)?;
    if answer.status.is_success() {
        return answer.json().map_err(lost);
    }
    let body: ErrorBody = answer.json().map_err(lost)?;
    Err(session.refusal(&body))
}

async fn post(session: &Session, posts: &mut HttpClient, signal: Outgoing) -> Result<(), End> {
    let Outgoing { to, sid, what } = signal;
    let payload = |sdp| Payload { sdp: Some(sdp), ..Payload::default() };
    let (kind, payload, signature) = match what {
        What::Offer(sdp) => ("offer", payload(sdp.clone()), session.sign(&to, &sdp)),
        What::Answer(sdp) => ("answer", payload(sdp.clone()), session.sign(&to, &sdp)),
        What::Candidate(candidate) => {
            ("ice-candidate", Payload { candidate: Some(candidate), ..Payload::default() }, None)
        }
    };
    let (pk, fp_sig) = signature.unzip();
    let request = SignalRequest {
        from: session.node_id.clone(),
        to,
        room: session.membership.room.clone(),
        kind: kind.to_owned(),
        payload: Some(payload),
        sid: Some(sid),
        fp_sig,
        pk,
    };
    let answer = posts.post("/signal", session.secret.as_deref(), &request, WITHIN).await;
    let answer = answer.map_err(lost)?;
    match answer.status.as_u16() {
        401 | 503 => Err(refused(session, &answer)),
        // 404 and the like: the receiver has just left, and presence tells.
        _ => Ok(()),
    }
}

async fn leave(session: &Session, posts: &mut HttpClient) -> End {
    let (node_id, room) = (session.node_id.clone(), session.membership.room.clone());
    let request = LeaveRequest { node_id, room };
    // Whoever cannot be told notices by the silence.
    let secret = session.secret.as_deref();
    let _told = posts.post("/leave", secret, &request, Duration::from_secs(1)).await;
    End::Left
}

/// What a refused call means once we are in the room.
fn refused(session: &Session, answer: &Answer) -> End {
    let Ok(body) = answer.json::<ErrorBody>() else {
        return End::Lost {
            why: format!("the coordinator answers {}", answer.status),
            after: None,
        };
    };
    match answer.status.as_u16() {
        // A coordinator that started again knows neither session nor room.
        401 | 404 => End::Forgotten,
        _ => session.refusal(&body),
    }
}

fn told(room: &str, signal: Signal) -> Option<Update> {
    if signal.room.as_deref().is_some_and(|of| of != room) {
        return None;
    }
    let described = |what| {
        let signature = signal.pk.clone().zip(signal.fp_sig.clone());
        let (from, sid) = (signal.from.clone()?, signal.sid.clone());
        Some(Update::Signal(Incoming { from, sid, what, signature }))
    };
    let payload = signal.payload.clone().unwrap_or_default();
    match &*signal.kind {
        "offer" => described(What::Offer(payload.sdp?)),
        "answer" => described(What::Answer(payload.sdp?)),
        "ice-candidate" => described(What::Candidate(payload.candidate?)),
        "peer-joined" => {
            let peer = signal.peer?;
            let name = peer.metadata.get("name").and_then(Value::as_str);
            let name = name.unwrap_or(&peer.node_id).to_owned();
            Some(Update::PeerJoined { id: peer.node_id, name })
        }
        "peer-left" => Some(Update::PeerLeft { id: signal.peer_id? }),
        // Messages and broadcasts are for clients without channels.
        _ => None,
    }
}

fn lost(error: HttpError) -> End {
    End::Lost { why: error.to_string(), after: None }
}
