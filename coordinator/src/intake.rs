//! What a peer said, read without copying: bodies stay the JSON text in which they came.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::Refusal;
use crate::identity::JoinProof;
use crate::limits::{EXTRA_BYTES_MAX, Limits};
use crate::object::Object;
use crate::options::Mode;
use crate::portable::portable;
use crate::signaling::Kind;

/// A string that is borrowed where nothing in it is escaped.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Any message of the protocol, over HTTP or a WebSocket: a superset of their keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Said<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) node_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) room: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) to: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) from: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    sdp: Option<&'a RawValue>,
    /// `null` is a candidate: there are no more.
    #[serde(borrow, deserialize_with = "present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<Object<Payload<'a>>>,
    #[serde(borrow)]
    sid: Option<&'a RawValue>,
    #[serde(borrow)]
    fp_sig: Option<Text<'a>>,
    #[serde(borrow)]
    pk: Option<Text<'a>>,
    ts: Option<u64>,
    #[serde(borrow)]
    nonce: Option<Text<'a>>,
    #[serde(borrow)]
    sig: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) session: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) invite: Option<Text<'a>>,
    pub(crate) cursor: Option<u64>,
    pub(crate) v: Option<u64>,
    #[serde(borrow)]
    pub(crate) caps: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub(crate) resume: Option<Object<Resume<'a>>>,
    #[serde(borrow)]
    pub(crate) messages: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload<'a> {
    #[serde(borrow)]
    sdp: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resume<'a> {
    #[serde(borrow)]
    pub(crate) session: Text<'a>,
    pub(crate) cursor: u64,
}

/// A value that is there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Said<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, Refusal> {
        match serde_json::from_str(text) {
            Ok(Object(said)) => Ok(said),
            Err(error) => {
                Err(Refusal::bad_request(format!("not a message of this protocol: {error}")))
            }
        }
    }

    pub(crate) fn room(&self) -> Result<&str, Refusal> {
        self.room.as_deref().ok_or_else(|| Refusal::bad_request("`room` is missing"))
    }

    pub(crate) fn to(&self) -> Result<&str, Refusal> {
        self.to.as_deref().ok_or_else(|| Refusal::bad_request("`to` is missing"))
    }

    /// The four keys of a signed join: None without `sig`, a refusal when others are missing.
    pub(crate) fn proof(&self) -> Result<Option<JoinProof>, Refusal> {
        let Some(sig) = &self.sig else { return Ok(None) };
        match (&self.pk, self.ts, &self.nonce) {
            (Some(pk), Some(ts), Some(nonce)) => Ok(Some(JoinProof {
                pk: pk.to_string(),
                ts,
                nonce: nonce.to_string(),
                sig: sig.to_string(),
            })),
            _ => Err(Refusal::bad_request("a signed join needs `pk`, `ts`, `nonce` and `sig`")),
        }
    }

    /// Its size is looked at before a signature and its nonce are.
    pub(crate) fn metadata(&self, bytes_max: usize) -> Result<Option<String>, Refusal> {
        match self.metadata.map(RawValue::get) {
            Some(text) if text.len() > bytes_max => {
                Err(Refusal::too_large("`metadata`", bytes_max))
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// What a signal carries, as JSON text, from `payload` or flat.
    pub(crate) fn body(&self, kind: Kind, limits: &Limits) -> Result<&'a str, Refusal> {
        let payload = self.payload.as_ref().map(|Object(payload)| payload);
        let body = match kind {
            Kind::Offer | Kind::Answer => payload.and_then(|payload| payload.sdp).or(self.sdp),
            Kind::Candidate => payload.and_then(|payload| payload.candidate).or(self.candidate),
            Kind::Message | Kind::Broadcast => {
                payload.and_then(|payload| payload.data).or(self.data)
            }
            Kind::PeerJoined | Kind::PeerLeft => None,
        };
        let key = kind.body_key();
        let missing = || Refusal::bad_request(format!("`{key}` is missing"));
        let body = body.ok_or_else(missing)?.get();
        let is_text = body.starts_with('"');
        match kind {
            Kind::Candidate if body.starts_with('{') || body == "null" => {}
            Kind::Candidate => {
                return Err(Refusal::bad_request("`candidate` must be an object or null"));
            }
            _ if !is_text => return Err(Refusal::bad_request(format!("`{key}` must be a string"))),
            Kind::Message => at_most(body.len() - 2, limits.message_bytes_max)?,
            Kind::Broadcast => at_most(body.len() - 2, limits.broadcast_bytes_max)?,
            _ => {}
        }
        portable(body, key)
    }

    /// `sid`, `fpSig` and `pk` as members to append, each with its comma.
    pub(crate) fn extras(&self, kind: Kind, mode: Mode) -> Result<String, Refusal> {
        let described = matches!(kind, Kind::Offer | Kind::Answer);
        let mut extras = String::new();
        if let Some(sid) = self.sid {
            let sid = sid.get();
            if sid.len() > EXTRA_BYTES_MAX || !sid.starts_with('"') {
                return Err(Refusal::bad_request("`sid` must be a short string"));
            }
            let _ = write!(extras, r#","sid":{}"#, portable(sid, "sid")?);
        }
        if mode == Mode::Required && described && (self.fp_sig.is_none() || self.pk.is_none()) {
            let sentence = "this coordinator wants `fpSig` and `pk` with offers and answers";
            return Err(Refusal::bad_request(sentence));
        }
        if described {
            for (key, value, digits) in [("fpSig", &self.fp_sig, 128), ("pk", &self.pk, 64)] {
                let Some(value) = value else { continue };
                if value.len() != digits || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    let sentence = format!("`{key}` must be {digits} hex digits");
                    return Err(Refusal::bad_request(sentence));
                }
                let _ = write!(extras, r#","{key}":"{}""#, &**value);
            }
        }
        Ok(extras)
    }
}

fn at_most(bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes > bytes_max { Err(Refusal::too_large("`data`", bytes_max)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Code;

    #[track_caller]
    fn check(json: &str, kind: Kind, want: Result<&str, Code>) {
        let got = Said::read(json).and_then(|said| said.body(kind, &Limits::default()));
        assert_eq!(got.map_err(|refusal| refusal.code), want, "{json}");
    }

    #[test]
    fn a_body_is_read_flat_or_from_the_payload_and_never_changed() {
        check(r#"{"sdp":"a\nb"}"#, Kind::Offer, Ok(r#""a\nb""#));
        check(r#"{"payload":{"sdp":"x"}}"#, Kind::Answer, Ok(r#""x""#));
        check(r#"{"candidate":{ "a":1 }}"#, Kind::Candidate, Ok(r#"{ "a":1 }"#));
        check(r#"{"candidate":null}"#, Kind::Candidate, Ok("null"));
        check(r#"{"payload":{"candidate":null}}"#, Kind::Candidate, Ok("null"));
        check(r#"{"data":"AA=="}"#, Kind::Message, Ok(r#""AA==""#));
        for (bad, kind) in [
            ("{}", Kind::Offer),
            (r#"{"sdp":null}"#, Kind::Offer),
            (r#"{"sdp":{}}"#, Kind::Offer),
            (r#"{"candidate":"x"}"#, Kind::Candidate),
            (r#"{"sdp":"x","sdp":"y"}"#, Kind::Offer),
            ("[]", Kind::Offer),
            (r#"{"payload":["x"]}"#, Kind::Offer),
            ("", Kind::Offer),
            (r#"{"payload":7}"#, Kind::Offer),
        ] {
            check(bad, kind, Err(Code::BadRequest));
        }
        let long = format!(r#"{{"data":"{}"}}"#, "A".repeat(22_000));
        check(&long, Kind::Message, Err(Code::TooLarge));
    }

    #[test]
    fn extras_are_short_and_of_their_form_and_required_where_the_mode_says_so() {
        #[track_caller]
        fn check(json: &str, mode: Mode, want: Result<&str, Code>) {
            let got = Said::read(json).and_then(|said| said.extras(Kind::Offer, mode));
            assert_eq!(got.map_err(|refusal| refusal.code), want.map(str::to_owned), "{json}");
        }
        let (fp, pk) = ("a".repeat(128), "b".repeat(64));
        let both = format!(r#""fpSig":"{fp}","pk":"{pk}""#);
        check("{}", Mode::Signed, Ok(""));
        check("{}", Mode::Required, Err(Code::BadRequest));
        check(&format!("{{{both}}}"), Mode::Required, Ok(&format!(",{both}")));
        check(r#"{"sid":"7"}"#, Mode::Open, Ok(r#","sid":"7""#));
        check(r#"{"sid":{}}"#, Mode::Open, Err(Code::BadRequest));
        check(r#"{"sid":7}"#, Mode::Open, Err(Code::BadRequest));
        check(r#"{"sid":"\ud800"}"#, Mode::Open, Err(Code::BadRequest));
        check(r#"{"fpSig":"a\"b"}"#, Mode::Open, Err(Code::BadRequest));
    }
}
