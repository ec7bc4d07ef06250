//! What a client says over a WebSocket, and what it is answered.

use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::frame;
use super::socket::text_frame;
use crate::answers::{self, Extended, json};
use crate::coordinator::{Coordinator, JoinRequest};
use crate::error::Refusal;
use crate::http::Asked;
use crate::identity::{JoinProof, hex};
use crate::intake::Said;
use crate::limits::{BATCH_MESSAGES_MAX, EXTRA_BYTES_MAX};
use crate::link::Link;
use crate::object::Object;
use crate::options::Mode;
use crate::peers::Flavor;
use crate::room::kind_of;
use crate::sessions::Caller;
use crate::signaling::{Draft, Kind};
use crate::state::{Attach, PeerView, Shown};
use crate::tokens::Bucket;
use crate::turn::ice_servers;
use crate::wire::{Code, close};

const CAP_BATCH: &str = "batch";
const CAP_RESUME: &str = "resume";

/// A conversation. Dropping it is the loss of its connection.
pub(crate) struct Talk {
    coordinator: Coordinator,
    link: Arc<Link>,
    caller: Option<Caller>,
    flavor: Flavor,
    /// What its hello asked for; None before it.
    greeted: Option<Batch>,
    messages: Bucket,
    /// Joins for which a stream's admission is being asked. Nothing is read meanwhile.
    waiting: Vec<Waiting>,
}

/// Whether the client takes batches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batch {
    No,
    Yes,
}

type Waiting = Pin<Box<dyn Future<Output = Joined> + Send>>;

/// What came of a join.
struct Joined {
    room: String,
    wish: Wish,
    result: Result<Vec<PeerView>, Refusal>,
}

/// Where a join was asked for.
enum Wish {
    /// What is refused there ends the connection.
    Query,
    /// With the message's `id`, as JSON text.
    Message(Option<String>),
}

/// Whether a message stands in a batch, where another batch may not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Frame,
    Batch,
}

impl Talk {
    pub(crate) fn new(coordinator: Coordinator, link: Arc<Link>, subprotocol: bool) -> Self {
        let messages = Bucket::full(coordinator.options().limits.socket_messages, link.opened_ms());
        let flavor = if subprotocol { Flavor::Extended } else { Flavor::Base };
        Self {
            coordinator,
            link,
            caller: None,
            flavor,
            greeted: None,
            messages,
            waiting: Vec::new(),
        }
    }

    /// Joins as the query says; what is refused there ends the connection.
    pub(crate) fn begin(&mut self, asked: &Asked) {
        let Some(node_id) = asked.query("nodeId").filter(|id| !id.is_empty()) else {
            if asked.query("session").is_some() {
                let refusal = Refusal::bad_request("`session` in the query needs `nodeId`");
                self.refuse_and_close(&refusal);
            }
            return;
        };
        if let Err(refusal) = self.begin_as(asked, node_id) {
            self.refuse_and_close(&refusal);
        }
    }

    fn begin_as(&mut self, asked: &Asked, node_id: &str) -> Result<(), Refusal> {
        let room = asked.query("room").filter(|room| !room.is_empty());
        let proof = match (asked.query("pk"), asked.query("nonce"), asked.query("sig")) {
            (Some(pk), Some(nonce), Some(sig)) => Some(JoinProof {
                pk: pk.to_owned(),
                ts: asked.number("ts")?.unwrap_or(0),
                nonce: nonce.to_owned(),
                sig: sig.to_owned(),
            }),
            _ => None,
        };
        let session = asked.query("session").or(asked.session());
        let (caller, shown) =
            self.identify(Some(node_id), room.unwrap_or(""), session, proof.as_ref())?;
        self.attach(caller, shown)?;
        let Some(room) = room else { return Ok(()) };
        let request = JoinRequest {
            room: room.to_owned(),
            metadata: asked.query("metadata").map(str::to_owned),
            invite: asked.query("invite").map(str::to_owned),
            token: asked.token(),
        };
        self.join(request, Wish::Query)
    }

    fn refuse_and_close(&self, refusal: &Refusal) {
        self.refuse(refusal, None);
        let code = match refusal.code {
            Code::BadRequest => close::BAD_REQUEST,
            Code::Unauthenticated => close::UNAUTHENTICATED,
            Code::PaymentRequired => close::PAYMENT_REQUIRED,
            Code::IdTaken => close::REPLACED,
            Code::TooLarge => close::TOO_LARGE,
            Code::RateLimited => close::RATE_LIMITED,
            Code::Draining => close::DRAINING,
            Code::Forbidden
            | Code::UnknownRoom
            | Code::UnknownPeer
            | Code::NotFound
            | Code::RoomFull
            | Code::Internal => close::FORBIDDEN,
        };
        self.close(code, &refusal.message);
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.coordinator.options().limits.signal_bytes_max
    }

    pub(crate) fn batches(&self) -> bool {
        self.greeted == Some(Batch::Yes)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Ready when no admission is awaited any more.
    pub(crate) fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut index = 0;
        while let Some(waiting) = self.waiting.get_mut(index) {
            match waiting.as_mut().poll(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(joined) => {
                    drop(self.waiting.remove(index));
                    self.joined(joined);
                }
            }
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    pub(crate) fn ping(&mut self, payload: &[u8]) {
        if self.may_speak() {
            self.link.push(frame::pong(payload));
        }
    }

    pub(crate) fn pong(&mut self) {
        self.may_speak();
    }

    pub(crate) fn close(&self, code: u16, reason: &str) {
        self.link.close(code, reason, self.coordinator.mono_ms());
    }

    /// Counts a message of any kind, also a bad one.
    fn may_speak(&mut self) -> bool {
        let now_ms = self.coordinator.mono_ms();
        self.link.hear(now_ms);
        let rate = self.coordinator.options().limits.socket_messages;
        let may = self.messages.take(rate, now_ms);
        if !may {
            self.close(close::RATE_LIMITED, "too many messages; send fewer");
        }
        may
    }

    /// A message has arrived.
    pub(crate) fn hear(&mut self, text: &str) {
        if self.may_speak() {
            self.message(text, Within::Frame);
        }
    }

    fn message(&mut self, text: &str, within: Within) {
        let said = match Said::read(text) {
            Ok(said) => said,
            Err(refusal) => return self.refuse(&refusal, None),
        };
        if let Err(refusal) = self.act(&said, within) {
            self.refuse(&refusal, reference(&said).as_deref());
        }
    }

    fn act(&mut self, said: &Said<'_>, within: Within) -> Result<(), Refusal> {
        let kind = said.kind.as_deref().unwrap_or_default();
        if let Some(kind) = Kind::of_signal(kind) {
            return self.signal(said, kind);
        }
        match kind {
            "ping" => {
                self.acknowledge(said);
                self.say(r#"{"type":"pong"}"#);
                Ok(())
            }
            "ack" => {
                self.acknowledge(said);
                Ok(())
            }
            "join" => self.join_said(said),
            "leave" => self.leave(said),
            "broadcast" => self.signal(said, Kind::Broadcast),
            "hello" => self.hello(said),
            "batch" if within == Within::Frame => self.batch(said),
            "batch" => Err(Refusal::bad_request("a batch may not stand in a batch")),
            _ => Err(Refusal::bad_request("unknown `type`; docs/coordinator.md lists them")),
        }
    }

    fn batch(&mut self, said: &Said<'_>) -> Result<(), Refusal> {
        let messages =
            said.messages.as_ref().ok_or_else(|| Refusal::bad_request("`messages` is missing"))?;
        if messages.len() > BATCH_MESSAGES_MAX {
            let sentence = format!("a batch has at most {BATCH_MESSAGES_MAX} messages");
            return Err(Refusal::bad_request(sentence));
        }
        for message in messages {
            if !self.may_speak() {
                break;
            }
            self.message(message.get(), Within::Batch);
        }
        Ok(())
    }

    fn acknowledge(&self, said: &Said<'_>) {
        if let (Some(cursor), Some(caller)) = (said.cursor, &self.caller) {
            self.coordinator.state().acknowledge(&caller.node_id, cursor);
        }
    }

    /// Who has been told to the coordinator; a message that names somebody else is refused.
    fn known(&self, said: &Said<'_>) -> Result<&Caller, Refusal> {
        let caller = self.caller.as_ref().ok_or_else(|| {
            Refusal::unauthenticated("nobody is known here yet; join a room or say hello first")
        })?;
        let named = [&said.from, &said.node_id];
        if named.into_iter().flatten().any(|named| **named != *caller.node_id) {
            let sentence = "this connection belongs to another node; speak for yourself";
            return Err(Refusal::forbidden(sentence));
        }
        Ok(caller)
    }

    fn signal(&self, said: &Said<'_>, kind: Kind) -> Result<(), Refusal> {
        let caller = self.known(said)?;
        let options = self.coordinator.options();
        let extras = said.extras(kind, options.mode)?;
        let draft = Draft {
            kind,
            room: said.room()?,
            from: &caller.node_id,
            body: said.body(kind, &options.limits)?,
            extras: &extras,
            at_ms: self.coordinator.now().unix_ms,
        };
        if kind == Kind::Broadcast {
            return self.coordinator.broadcast_to_room(draft).map(drop);
        }
        self.coordinator.queue_signal(said.to()?, draft).map(drop)
    }

    fn leave(&self, said: &Said<'_>) -> Result<(), Refusal> {
        let caller = self.known(said)?;
        let room = said.room()?;
        kind_of(room)?;
        self.coordinator.leave_room(&caller.node_id, room);
        if self.extended() == Extended::Yes {
            self.say(&format!(r#"{{"type":"left","room":"{room}"}}"#));
        }
        Ok(())
    }

    fn join_said(&mut self, said: &Said<'_>) -> Result<(), Refusal> {
        let room = said.room()?;
        kind_of(room)?;
        let metadata = said.metadata(self.coordinator.options().limits.metadata_bytes_max)?;
        if self.caller.is_some() {
            self.known(said)?;
        } else {
            let session = said.session.as_deref();
            let proof = said.proof()?;
            let (caller, shown) =
                self.identify(said.node_id.as_deref(), room, session, proof.as_ref())?;
            self.attach(caller, shown)?;
        }
        let request = JoinRequest {
            room: room.to_owned(),
            metadata,
            invite: said.invite.as_deref().map(str::to_owned),
            token: None,
        };
        self.join(request, Wish::Message(reference(said)))
    }

    fn join(&mut self, request: JoinRequest, wish: Wish) -> Result<(), Refusal> {
        let Some(caller) = self.caller.clone() else {
            return Err(Refusal::unauthenticated("say who you are first"));
        };
        let room = request.room.clone();
        let mut wanted = self.coordinator.may_join(&caller, request)?;
        let Some(applicant) = wanted.applicant.take() else {
            let result = self.coordinator.enter(&caller, wanted);
            self.joined(Joined { room, wish, result });
            return Ok(());
        };
        let coordinator = self.coordinator.clone();
        self.waiting.push(Box::pin(async move {
            let result = match coordinator.admit(applicant).await {
                Ok(()) => coordinator.enter(&caller, wanted),
                Err(refusal) => Err(refusal),
            };
            Joined { room, wish, result }
        }));
        Ok(())
    }

    fn joined(&self, joined: Joined) {
        match joined.result {
            Ok(peers) => {
                if self.extended() == Extended::Yes
                    && let Some(caller) = &self.caller
                {
                    let unix_ms = self.coordinator.now().unix_ms;
                    let ice = ice_servers(self.coordinator.options(), &caller.node_id, unix_ms);
                    self.say(&answers::joined(&joined.room, &peers, &ice));
                }
            }
            Err(refusal) => match joined.wish {
                Wish::Query => self.refuse_and_close(&refusal),
                Wish::Message(reference) => self.refuse(&refusal, reference.as_deref()),
            },
        }
    }

    /// Whose connection it is, by what it shows: a signature, a session, or its word.
    fn identify(
        &self,
        node_id: Option<&str>,
        room: &str,
        session: Option<&str>,
        proof: Option<&JoinProof>,
    ) -> Result<(Caller, Shown), Refusal> {
        let now = self.coordinator.now();
        if let Some(proof) = proof {
            let node_id = node_id.ok_or_else(|| Refusal::bad_request("`nodeId` is missing"))?;
            let caller = self.coordinator.signer(node_id, room, proof, now)?;
            return Ok((caller, Shown::Key));
        }
        let caller = self.coordinator.caller(session, node_id, now)?;
        let shown = match (caller.key, caller.session) {
            (Some(_), _) => Shown::Key,
            (None, Some(session)) => Shown::Session(session),
            (None, None) => Shown::Word,
        };
        Ok((caller, shown))
    }

    /// Binds the node to this connection, without a welcome.
    fn attach(&mut self, caller: Caller, shown: Shown) -> Result<(), Refusal> {
        let attach = Attach {
            node: &caller.node_id,
            link: Arc::clone(&self.link),
            flavor: self.flavor,
            shown,
            session: caller.session,
            acknowledged: None,
            welcome: &mut |_, _| None,
        };
        self.coordinator.state().attach(attach, self.coordinator.now())?;
        self.caller = Some(caller);
        Ok(())
    }

    fn hello(&mut self, said: &Said<'_>) -> Result<(), Refusal> {
        if self.greeted.is_some() {
            let sentence = "this connection has said hello; open another to say it again";
            return Err(Refusal::bad_request(sentence));
        }
        if said.v != Some(1) {
            return Err(Refusal::bad_request("`v` must be 1"));
        }
        let now = self.coordinator.now();
        let (mut caller, shown, acknowledged) = self.greeter(said)?;
        if self.caller.as_ref().is_some_and(|known| known.node_id != caller.node_id) {
            let sentence = "this connection belongs to another node; open one for each";
            return Err(Refusal::forbidden(sentence));
        }
        let session = match caller.session {
            Some(session) => session,
            None => {
                self.coordinator.take_join(&caller, now)?;
                self.coordinator.open_session(&mut caller, now)?
            }
        };
        let has = |cap: &str| said.caps.iter().flatten().any(|asked| **asked == *cap);
        let (batch, resume) = (has(CAP_BATCH), has(CAP_RESUME));
        let flavor = if resume { Flavor::Resumable } else { Flavor::Extended };
        let caps: Vec<&str> = [(CAP_BATCH, batch), (CAP_RESUME, resume)]
            .into_iter()
            .filter(|c| c.1)
            .map(|c| c.0)
            .collect();
        let options = self.coordinator.options();
        let ice = json(&ice_servers(options, &caller.node_id, now.unix_ms));
        let (heartbeat, stale) = (options.limits.heartbeat_ms, options.limits.stale_ms);
        let node_id = Arc::clone(&caller.node_id);
        let mut welcome = |cursor: u64, rooms: &[Arc<str>]| {
            let mut text = format!(
                r#"{{"type":"welcome","v":1,"nodeId":"{node_id}","session":"{}","cursor":{cursor}"#,
                hex(&session)
            );
            let rooms: Vec<&str> = rooms.iter().map(|room| &**room).collect();
            let _ = write!(
                text,
                r#","caps":{},"heartbeatMs":{heartbeat},"staleMs":{stale},"iceServers":{ice},"resumed":{}}}"#,
                json(&caps),
                json(&rooms)
            );
            Some(text_frame(&text))
        };
        let attach = Attach {
            node: &caller.node_id,
            link: Arc::clone(&self.link),
            flavor,
            shown,
            session: Some(session),
            acknowledged,
            welcome: &mut welcome,
        };
        self.coordinator.state().attach(attach, now)?;
        self.caller = Some(caller);
        self.flavor = flavor;
        self.greeted = Some(if batch { Batch::Yes } else { Batch::No });
        Ok(())
    }

    /// Who says hello, and up to where it has heard all. A session that has ended gives way to
    /// what else the hello shows: the coordinator may have been started anew.
    fn greeter(&self, said: &Said<'_>) -> Result<(Caller, Shown, Option<u64>), Refusal> {
        let node_id = said.node_id.as_deref();
        let proof = said.proof()?;
        let session = said.session.as_deref();
        if let Some(Object(resume)) = &said.resume {
            match self.identify(node_id, "", Some(&resume.session), None) {
                Ok((caller, shown)) => return Ok((caller, shown, Some(resume.cursor))),
                Err(refusal) => {
                    let open = self.coordinator.options().mode == Mode::Open && node_id.is_some();
                    if refusal.code != Code::Unauthenticated || (proof.is_none() && !open) {
                        return Err(refusal);
                    }
                }
            }
        }
        let (caller, shown) = self.identify(node_id, "", session, proof.as_ref())?;
        Ok((caller, shown, None))
    }

    fn extended(&self) -> Extended {
        match self.flavor {
            Flavor::Base => Extended::No,
            Flavor::Extended | Flavor::Resumable => Extended::Yes,
        }
    }

    fn say(&self, text: &str) {
        self.link.push(text_frame(text));
    }

    fn refuse(&self, refusal: &Refusal, reference: Option<&str>) {
        self.coordinator.refused(refusal);
        self.say(&answers::socket_error(refusal, reference, self.extended()));
    }
}

/// The `id` of a message, as JSON text, to be repeated in an error.
fn reference(said: &Said<'_>) -> Option<String> {
    let id = said.id?.get();
    (id.len() <= EXTRA_BYTES_MAX).then(|| id.to_owned())
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Some(caller) = &self.caller {
            let now = self.coordinator.now();
            self.coordinator.state().detach(&caller.node_id, self.link.id, now);
        }
        self.coordinator.close_link(&self.link);
    }
}
