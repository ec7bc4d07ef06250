//! The videoroom plugin of Janus behind its HTTP API: a session for all clients of a run, a handle
//! for each, a room for each stream.
//!
//! Answers that take time come as events of the session, by a request that the server holds until
//! there are some (long poll). One thread asks for them as long as the session lives; that also
//! keeps the session alive, which Janus ends after a minute of silence.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use str0m::Rtc;
use str0m::RtcError;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::error::SdpError;

use super::Signalled;
use crate::client::Role;
use crate::http::{Base, HttpError};

/// Where Janus serves its API unless it is told otherwise.
const PATH: &str = "/janus";
const PLUGIN: &str = "janus.plugin.videoroom";
/// How long an answer or an event may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Janus holds a poll for 30 s at most.
const POLL_MAX: Duration = Duration::from_secs(40);
/// Between two polls after one that failed.
const POLL_RETRY: Duration = Duration::from_millis(200);
/// Failed polls in a row after which nothing more is expected.
const POLL_FAILURES_MAX: u32 = 10;
/// "Room exists already": another publisher of the run made it.
const ROOM_EXISTS: i64 = 427;
/// Ids are numbers that JavaScript can hold.
const ID_BITS: u32 = 53;

/// Why Janus's signalling failed.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// No answer.
    #[error("Janus: {0}")]
    Http(#[from] HttpError),
    /// The answer is not what the API promises.
    #[error("Janus answered {request:?} with {answer}")]
    Unexpected {
        /// What was asked.
        request: String,
        /// First characters of the answer.
        answer: String,
    },
    /// The core or the plugin refuses.
    #[error("Janus refuses {request:?}: {reason} (code {code})")]
    Refused {
        /// What was asked.
        request: String,
        /// Number of its `error_code`.
        code: i64,
        /// Its words.
        reason: String,
    },
    /// No event in time.
    #[error("Janus sent no event for {0:?}: does its HTTP transport serve long polls?")]
    Silent(String),
    /// A description does not parse.
    #[error("Janus's SDP: {0}")]
    Sdp(#[from] SdpError),
    /// A description does not fit.
    #[error("Janus's SDP does not fit: {0}")]
    Rtc(#[from] RtcError),
}

/// One session with a Janus, ended when it is dropped.
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    base: Base,
    path: String,
    transactions: AtomicU64,
    /// Events that somebody waits for, by transaction; `None` until they come.
    awaited: Mutex<HashMap<String, Option<Value>>>,
    arrived: Condvar,
}

impl Session {
    /// Begins a session and its thread.
    ///
    /// # Errors
    /// Nobody answers there as Janus would.
    pub fn begin(base: &Base) -> Result<Self, SignalError> {
        let request = json!({ "janus": "create", "transaction": "create" });
        let answer = post(base, PATH, &request)?;
        let id = data_id(&request, &answer)?;
        let shared = Arc::new(Shared {
            base: base.clone(),
            path: format!("{PATH}/{id}"),
            transactions: AtomicU64::new(0),
            awaited: Mutex::default(),
            arrived: Condvar::new(),
        });
        let weak = Arc::downgrade(&shared);
        let (poll_base, poll_path) = (base.clone(), format!("{}?maxev=20", shared.path));
        // It ends with the session, which the server is told of on drop; nothing waits for it.
        let _detached = std::thread::Builder::new().name("janus-events".into()).spawn(move || {
            let mut failures = 0;
            while failures < POLL_FAILURES_MAX {
                let events = poll_base.request_json("GET", &poll_path, "", POLL_MAX);
                let Some(shared) = weak.upgrade() else { return };
                match events.ok().and_then(|answer| events_of(&answer.body)) {
                    Some(events) => {
                        failures = 0;
                        events.into_iter().for_each(|event| shared.take(event));
                    }
                    None => {
                        failures += 1;
                        drop(shared);
                        std::thread::sleep(POLL_RETRY);
                    }
                }
            }
        });
        Ok(Self { shared })
    }

    /// Joins the room of `stream`, made if it is not there.
    ///
    /// # Errors
    /// What Janus says against it.
    pub fn join(&self, role: Role, stream: &str, rtc: &mut Rtc) -> Result<Signalled, SignalError> {
        let attach = json!({ "janus": "attach", "plugin": PLUGIN, "transaction": "attach" });
        let answer = post(&self.shared.base, &self.shared.path, &attach)?;
        let path = format!("{}/{}", self.shared.path, data_id(&attach, &answer)?);
        let room = id_of(stream);
        let mids = match role {
            Role::Publisher => {
                self.make_room(&path, room)?;
                let (offer, pending, mids, _) = super::offer(rtc, role, None);
                let body = json!({
                    "request": "joinandconfigure", "ptype": "publisher", "room": room, "id": room,
                });
                let jsep = json!({ "type": "offer", "sdp": offer.to_sdp_string() });
                let answer = self.converse(&path, &body, Some(jsep))?;
                let sdp = SdpAnswer::from_sdp_string(sdp_of(&body, &answer)?)?;
                rtc.sdp_api().accept_answer(pending, sdp)?;
                Some(mids)
            }
            Role::Viewer => {
                let body = json!({
                    "request": "join", "ptype": "subscriber", "room": room,
                    "streams": [{ "feed": room }],
                });
                let offered = self.converse(&path, &body, None)?;
                let offer = SdpOffer::from_sdp_string(sdp_of(&body, &offered)?)?;
                let answer = rtc.sdp_api().accept_offer(offer)?;
                let jsep = json!({ "type": "answer", "sdp": answer.to_sdp_string() });
                self.converse(&path, &json!({ "request": "start" }), Some(jsep))?;
                None
            }
        };
        Ok(Signalled { mids, session_path: Some(path), ..Signalled::default() })
    }

    /// Ends the handle at `path`; the HTTP status.
    ///
    /// # Errors
    /// No answer.
    pub fn leave(&self, path: &str) -> Result<u16, HttpError> {
        let request = json!({ "janus": "detach", "transaction": "detach" }).to_string();
        Ok(self.shared.base.request_json("POST", path, &request, ANSWER_MAX)?.status)
    }

    /// A room without caps, with one publisher; it goes with the server's process.
    fn make_room(&self, path: &str, room: u64) -> Result<(), SignalError> {
        let body = json!({
            "request": "create", "room": room, "is_private": true, "publishers": 1, "bitrate": 0,
            "audiocodec": "opus", "videocodec": "vp8", "audiolevel_ext": true,
            "transport_wide_cc_ext": true, "fir_freq": 0,
        });
        let request = json!({ "janus": "message", "transaction": "create-room", "body": body });
        let answer = post(&self.shared.base, path, &request)?;
        match refusal(&body, &answer) {
            Some(SignalError::Refused { code: ROOM_EXISTS, .. }) | None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// A request to the plugin, and the event that answers it.
    fn converse(
        &self,
        path: &str,
        body: &Value,
        jsep: Option<Value>,
    ) -> Result<Value, SignalError> {
        let number = self.shared.transactions.fetch_add(1, Ordering::Relaxed);
        let transaction = format!("t{number}");
        let mut request = json!({ "janus": "message", "transaction": transaction, "body": body });
        if let Some(jsep) = jsep {
            request["jsep"] = jsep;
        }
        self.shared.awaited().insert(transaction.clone(), None);
        let event = post(&self.shared.base, path, &request)
            .and_then(|_| self.shared.await_event(&transaction, &request_name(body)));
        self.shared.awaited().remove(&transaction);
        let event = event?;
        match refusal(body, &event) {
            Some(error) => Err(error),
            None => Ok(event),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let request = json!({ "janus": "destroy", "transaction": "destroy" }).to_string();
        // A server that has gone has no session left.
        let path = &self.shared.path;
        let _gone = self.shared.base.request_json("POST", path, &request, Duration::from_secs(2));
    }
}

impl Shared {
    fn awaited(&self) -> MutexGuard<'_, HashMap<String, Option<Value>>> {
        // A map of answers is whole at every moment, whoever panicked.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an event that somebody waits for; the others tell of what the media show anyway.
    fn take(&self, event: Value) {
        let Some(transaction) = event["transaction"].as_str() else { return };
        if let Some(place) = self.awaited().get_mut(transaction) {
            *place = Some(event);
            self.arrived.notify_all();
        }
    }

    fn await_event(&self, transaction: &str, request: &str) -> Result<Value, SignalError> {
        let until = Instant::now() + ANSWER_MAX;
        let mut awaited = self.awaited();
        loop {
            if let Some(event) = awaited.get_mut(transaction).and_then(Option::take) {
                return Ok(event);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SignalError::Silent(request.to_owned()));
            }
            let woken = self.arrived.wait_timeout(awaited, left);
            awaited = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn post(base: &Base, path: &str, request: &Value) -> Result<Value, SignalError> {
    let answer = base.request_json("POST", path, &request.to_string(), ANSWER_MAX)?;
    let value: Value =
        serde_json::from_str(&answer.body).map_err(|_| unexpected(request, &answer.body))?;
    match value["janus"].as_str() {
        Some("success" | "ack") => Ok(value),
        Some("error") => Err(SignalError::Refused {
            request: request_name(request),
            code: value["error"]["code"].as_i64().unwrap_or(0),
            reason: value["error"]["reason"].as_str().unwrap_or_default().to_owned(),
        }),
        _ => Err(unexpected(request, &answer.body)),
    }
}

/// The plugin's own refusal, in an answer or an event.
fn refusal(request: &Value, answer: &Value) -> Option<SignalError> {
    let data = &answer["plugindata"]["data"];
    let code = data["error_code"].as_i64()?;
    let reason = data["error"].as_str().unwrap_or_default().to_owned();
    Some(SignalError::Refused { request: request_name(request), code, reason })
}

fn sdp_of<'a>(request: &Value, event: &'a Value) -> Result<&'a str, SignalError> {
    event["jsep"]["sdp"].as_str().ok_or_else(|| unexpected(request, &event.to_string()))
}

fn data_id(request: &Value, answer: &Value) -> Result<u64, SignalError> {
    answer["data"]["id"].as_u64().ok_or_else(|| unexpected(request, &answer.to_string()))
}

/// A poll's answer: a list of events, or one.
fn events_of(body: &str) -> Option<Vec<Value>> {
    match serde_json::from_str(body).ok()? {
        Value::Array(events) => Some(events),
        // The session is no more: asking again brings nothing.
        event if event["janus"] == "error" => None,
        event => Some(vec![event]),
    }
}

fn request_name(request: &Value) -> String {
    let name = request["request"].as_str().or_else(|| request["janus"].as_str());
    name.unwrap_or_default().to_owned()
}

fn unexpected(request: &Value, answer: &str) -> SignalError {
    let answer: String = answer.chars().take(200).collect();
    SignalError::Unexpected { request: request_name(request), answer }
}

/// A stream's number: FNV-1a, cut to what Janus takes; never 0.
fn id_of(stream: &str) -> u64 {
    let hash = stream.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> (64 - ID_BITS)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_numbers_of_their_own_that_javascript_can_hold() {
        let ids: Vec<u64> = (0..1000).map(|at| id_of(&format!("bench-{at}"))).collect();
        let distinct: std::collections::BTreeSet<u64> = ids.iter().copied().collect();
        assert_eq!(distinct.len(), ids.len());
        assert!(ids.iter().all(|id| (1..1 << ID_BITS).contains(id)));
        assert_eq!(id_of("a"), 0xaf63_dc4c_8601_ec8c >> 11, "FNV-1a's own example");
    }

    #[test]
    fn a_refusal_of_core_or_plugin_is_told_in_its_words() {
        let request = json!({ "request": "join" });
        let answer = json!({ "janus": "event", "plugindata": { "data": {
            "videoroom": "event", "error_code": 426, "error": "No such room (7)" } } });
        let error = refusal(&request, &answer).expect("it is one");
        let sentence = "Janus refuses \"join\": No such room (7) (code 426)";
        assert_eq!(error.to_string(), sentence);
        assert!(refusal(&request, &json!({ "janus": "event" })).is_none());
        assert!(sdp_of(&request, &answer).is_err());
        assert!(data_id(&request, &answer).is_err());
    }

    #[test]
    fn a_poll_brings_a_list_or_one_event_and_its_end_none() {
        assert_eq!(events_of(r#"[{"janus":"event"},{"janus":"media"}]"#).map(|e| e.len()), Some(2));
        assert_eq!(events_of(r#"{"janus":"keepalive"}"#).map(|e| e.len()), Some(1));
        assert_eq!(events_of(r#"{"janus":"error","error":{"code":458}}"#), None);
        assert_eq!(events_of("<html>"), None);
    }
}
