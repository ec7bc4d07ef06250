//! From an SDP offer to an answer and the facts a shard needs; runs on the control side.

use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::config::{DtlsCert, DtlsVersion, Fingerprint};
use str0m::format::CodecSpec;
use str0m::media::{MediaKind, Mid};
use str0m::rtp::Extension;
use str0m::{Candidate, IceCreds, Rtc};

use super::fingerprint::{self, FingerprintError};
use super::keys::{self, KeySlot};
use crate::io::Endpoint;
use crate::limits::{MEDIA_SECTIONS_MAX, SSRCS_PER_SESSION_MAX};
use crate::ports::{Codec, Kind, Role};

/// Why an offer got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    #[error("the SDP offer cannot be read: {0}")]
    Sdp(String),
    #[error("the offer names more than {SSRCS_PER_SESSION_MAX} SSRCs")]
    TooManySsrcs,
    #[error("the offer has no audio or video section")]
    NoMedia,
    #[error("a publisher offers media to send, a viewer media to receive; this offer has none")]
    WrongDirection,
    #[error("the offer names no codec this relay forwards (Opus, VP8, VP9, H.264, AV1)")]
    NoCommonCodec,
    #[error("the offer has {0} media sections, at most {MEDIA_SECTIONS_MAX} are taken")]
    TooManySections(usize),
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    #[error("every shard holds as many sessions as it may")]
    Full,
    #[error("the relay drains and takes no new sessions")]
    Draining,
}

/// A codec as negotiated for one media section, with its payload types.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NegotiatedCodec {
    pub codec: Codec,
    pub spec: CodecSpec,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
}

/// One media section: what a shard must know about a track it receives or sends.
#[derive(Debug, Clone)]
pub struct TrackFacts {
    pub mid: String,
    pub kind: Kind,
    pub codecs: Vec<NegotiatedCodec>,
    /// Receiving: from `a=ssrc`, if there is one. Sending: ours.
    pub ssrc: Option<u32>,
    pub rtx_ssrc: Option<u32>,
    pub twcc_id: Option<u8>,
    pub mid_id: Option<u8>,
}

/// A session that is ready to move to its shard.
pub struct Prepared {
    pub rtc: Rtc,
    pub keys: KeySlot,
    pub ufrag: String,
    pub answer: String,
    pub tracks: Vec<TrackFacts>,
}

/// Answers `offer` for a session whose home is `shard`.
///
/// The shard's number leads the ICE username fragment, so that whichever shard receives a check
/// knows whose it is (see [`home_shard`]).
pub fn prepare(
    offer: &str,
    role: Role,
    shard: u16,
    endpoints: &[Endpoint],
    certificate: &DtlsCert,
    now: Instant,
) -> Result<Prepared, OfferError> {
    let fingerprint = fingerprint::read(offer)?;
    let offer = bounded(offer, role)?;
    let offer = SdpOffer::from_sdp_string(&offer).map_err(|e| unreadable(&e.to_string()))?;
    let keys = KeySlot::default();
    let credentials = credentials(shard);
    let ufrag = credentials.ufrag.clone();
    // str0m would build SR and RR that it can never send; an hour keeps its timers quiet.
    let never = Duration::from_secs(3600);
    let config = Rtc::builder()
        .set_rtp_mode(true)
        .set_ice_lite(true)
        .set_dtls_version(DtlsVersion::Dtls12)
        .set_crypto_provider(keys::provider())
        .set_dtls_cert(certificate.clone())
        .set_local_ice_credentials(credentials)
        .set_rtcp_report_interval_audio(never)
        .set_rtcp_report_interval_video(never)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_vp8(true)
        .enable_h264(true)
        .enable_vp9(true)
        .enable_av1(true)
        .clear_extension_map()
        .set_extension(3, Extension::TransportSequenceNumber)
        .set_extension(4, Extension::RtpMid);
    let mut rtc = keys::with_slot(&keys, || config.build(now));
    for endpoint in endpoints {
        // An address ICE refuses (unspecified, say) is no candidate; the others still are.
        if let Ok(candidate) = Candidate::host(endpoint.advertise, "udp") {
            rtc.add_local_candidate(candidate);
        }
    }
    // Set before the offer is, it is what str0m holds the certificate against: the very value that
    // `offer_fingerprint` returns, and not the one of several that its own reading prefers.
    if let Some(bytes) = fingerprint {
        let hash_func = "sha-256".to_owned();
        let promised = Fingerprint { hash_func, bytes: bytes.to_vec() };
        rtc.direct_api().set_remote_fingerprint(promised);
    }
    let answer = rtc.sdp_api().accept_offer(offer).map_err(|e| unreadable(&e.to_string()))?;
    let answer = one_media_stream(&answer.to_sdp_string());
    let mids: Vec<&str> =
        answer.lines().filter_map(|line| line.trim_end().strip_prefix("a=mid:")).collect();
    let tracks = tracks(&mut rtc, role, &mids)?;
    Ok(Prepared { rtc, keys, ufrag, answer, tracks })
}

/// The offer without what costs str0m memory and us nothing to do without; refused if it asks for
/// more than a session may have.
///
/// Candidates go: an ICE-lite agent learns addresses from checks. A viewer's SSRCs go: nothing it
/// sends is forwarded.
fn bounded(offer: &str, role: Role) -> Result<String, OfferError> {
    let sections = offer.lines().filter(|line| line.starts_with("m=")).count();
    if sections > MEDIA_SECTIONS_MAX {
        return Err(OfferError::TooManySections(sections));
    }
    let mut ssrcs: Vec<&str> = Vec::new();
    let mut out = String::with_capacity(offer.len());
    for line in offer.split_inclusive('\n') {
        let value = line.strip_prefix("a=").unwrap_or_default();
        let names_ssrc = value.strip_prefix("ssrc:").and_then(|rest| rest.split(' ').next());
        let is_group = value.starts_with("ssrc-group:");
        let is_candidate =
            value.starts_with("candidate:") || value.starts_with("end-of-candidates");
        if is_candidate || (role == Role::Subscriber && (names_ssrc.is_some() || is_group)) {
            continue;
        }
        if let Some(ssrc) = names_ssrc
            && !ssrcs.contains(&ssrc)
        {
            if ssrcs.len() == SSRCS_PER_SESSION_MAX {
                return Err(OfferError::TooManySsrcs);
            }
            ssrcs.push(ssrc);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// str0m's complaint in one line. Its parser names addresses of memory, which are nobody's business.
fn unreadable(complaint: &str) -> OfferError {
    let line = complaint.lines().next().unwrap_or_default();
    let is_presentable = !line.is_empty() && !line.contains("0x");
    OfferError::Sdp(if is_presentable { line } else { "it is not SDP (RFC 8866)" }.to_owned())
}

/// The shard that [`prepare`] wrote into an ICE username fragment.
pub fn home_shard(ufrag: &str) -> Option<u16> {
    u16::from_str_radix(ufrag.get(..SHARD_DIGITS)?, 16).ok()
}

const SHARD_DIGITS: usize = 2;

/// RFC 8445 §5.3: at least 24 bits of randomness in the fragment, 128 in the password; 72 and 192
/// here, from ice-chars only.
fn credentials(shard: u16) -> IceCreds {
    let random = |count: usize| -> String {
        let mut bytes = vec![0u8; count];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
        const ICE_CHARS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        bytes.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte & 63)])).collect()
    };
    IceCreds { ufrag: format!("{shard:02x}{}", random(12)), pass: random(32) }
}

fn tracks(rtc: &mut Rtc, role: Role, mids: &[&str]) -> Result<Vec<TrackFacts>, OfferError> {
    let mut facts: Vec<TrackFacts> = Vec::new();
    let mut media = 0;
    for &name in mids {
        let mid = Mid::from(name);
        let Some(section) = rtc.media(mid) else { continue }; // The data channel's section.
        media += 1;
        let direction = section.direction();
        let wanted = match role {
            Role::Publisher => direction.is_receiving(),
            Role::Subscriber => direction.is_sending(),
        };
        let kind = match section.kind() {
            MediaKind::Audio => Kind::Audio,
            MediaKind::Video => Kind::Video,
        };
        // One track of each kind; a second one is answered and ignored.
        if !wanted || facts.iter().any(|track| track.kind == kind) {
            continue;
        }
        let extension_id =
            |extension| section.remote_extmap().id_of(extension).filter(|id| *id > 0);
        let twcc_id = extension_id(Extension::TransportSequenceNumber);
        let mid_id = extension_id(Extension::RtpMid);
        let codecs = negotiated(rtc, section.remote_pts(), kind);
        if codecs.is_empty() {
            continue;
        }
        let mut direct = rtc.direct_api();
        let (ssrc, rtx_ssrc) = match role {
            Role::Publisher => match direct.stream_rx_by_mid(mid, None) {
                Some(stream) => (Some(*stream.ssrc()), stream.rtx().map(|ssrc| *ssrc)),
                None => (None, None),
            },
            Role::Subscriber => match direct.stream_tx_by_mid(mid, None) {
                Some(stream) => (Some(*stream.ssrc()), stream.rtx().map(|ssrc| *ssrc)),
                None => continue,
            },
        };
        facts.push(TrackFacts { mid: name.into(), kind, codecs, ssrc, rtx_ssrc, twcc_id, mid_id });
    }
    match (facts.is_empty(), media) {
        (false, _) => Ok(facts),
        (true, 0) => Err(OfferError::NoMedia),
        (true, _) => Err(why_no_track(rtc, role, mids)),
    }
}

fn why_no_track(rtc: &Rtc, role: Role, mids: &[&str]) -> OfferError {
    let any_wanted =
        mids.iter().filter_map(|mid| rtc.media(Mid::from(*mid))).any(|section| match role {
            Role::Publisher => section.direction().is_receiving(),
            Role::Subscriber => section.direction().is_sending(),
        });
    if any_wanted { OfferError::NoCommonCodec } else { OfferError::WrongDirection }
}

fn negotiated(rtc: &Rtc, payload_types: &[str0m::media::Pt], kind: Kind) -> Vec<NegotiatedCodec> {
    let known = rtc.codec_config().params().iter();
    known
        .filter(|params| payload_types.contains(&params.pt()))
        .filter_map(|params| {
            let codec = match params.spec().codec {
                str0m::format::Codec::Opus => Codec::Opus,
                str0m::format::Codec::Vp8 => Codec::Vp8,
                str0m::format::Codec::Vp9 => Codec::Vp9,
                str0m::format::Codec::H264 => Codec::H264,
                str0m::format::Codec::Av1 => Codec::Av1,
                _ => return None,
            };
            (codec.kind() == kind).then(|| NegotiatedCodec {
                codec,
                spec: params.spec(),
                payload_type: *params.pt(),
                rtx_payload_type: params.resend().map(|pt| *pt),
            })
        })
        .collect()
}

/// Puts audio and video of an answer into one media stream.
///
/// str0m gives each section a stream id of its own, and browsers synchronise (RFC 3550 CNAME and
/// MSID, RFC 8830) only what shares one.
fn one_media_stream(answer: &str) -> String {
    let mut out = String::with_capacity(answer.len());
    let mut stream_id: Option<&str> = None;
    for line in answer.split_inclusive('\n') {
        let Some(at) = line.find("msid:") else {
            out.push_str(line);
            continue;
        };
        let (head, value) = line.split_at(at + "msid:".len());
        let (own, rest) = value.split_at(value.find([' ', '\r', '\n']).unwrap_or(value.len()));
        let shared = *stream_id.get_or_insert(own);
        out.push_str(head);
        out.push_str(if own == "-" { own } else { shared });
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_shard_is_read_back_from_the_fragment() {
        for shard in [0, 1, 7, 63, 255] {
            assert_eq!(home_shard(&credentials(shard).ufrag), Some(shard));
        }
        for garbage in ["", "0", "zz12", "é1"] {
            assert_eq!(home_shard(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn audio_and_video_share_one_media_stream() {
        let answer =
            "a=mid:0\r\na=msid:aaa t0\r\na=ssrc:1 msid:aaa t0\r\na=mid:1\r\na=msid:bbb t1\r\n";
        let want =
            "a=mid:0\r\na=msid:aaa t0\r\na=ssrc:1 msid:aaa t0\r\na=mid:1\r\na=msid:aaa t1\r\n";
        assert_eq!(one_media_stream(answer), want);
    }

    #[test]
    fn an_offer_is_cut_down_to_what_a_session_may_have() {
        let line = |ssrc: u32| format!("a=ssrc:{ssrc} cname:x\r\na=ssrc:{ssrc} msid:a b\r\n");
        let ssrcs = |count: usize| (1..=count as u32).map(line).collect::<String>();
        let of = |count| format!("v=0\r\nm=video 9 x 96\r\n{}", ssrcs(count));
        let full = of(SSRCS_PER_SESSION_MAX);
        assert_eq!(bounded(&full, Role::Publisher), Ok(full.clone()));
        let more = of(SSRCS_PER_SESSION_MAX + 1);
        assert_eq!(bounded(&more, Role::Publisher), Err(OfferError::TooManySsrcs));
        let bare = "v=0\r\nm=video 9 x 96\r\n";
        assert_eq!(bounded(&of(2800), Role::Subscriber), Ok(bare.to_owned()));
        let candidates = "a=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n".repeat(1000);
        assert_eq!(bounded(&format!("{bare}{candidates}"), Role::Publisher), Ok(bare.to_owned()));
        let sections = "m=audio 9 x 1\r\n".repeat(MEDIA_SECTIONS_MAX + 1);
        let count = MEDIA_SECTIONS_MAX + 1;
        assert_eq!(bounded(&sections, Role::Publisher), Err(OfferError::TooManySections(count)));
    }

    #[test]
    fn a_refusal_names_no_address_of_memory() {
        let certificate = keys::generate_certificate().expect("randomness");
        let refused =
            prepare("v=0\r\n", Role::Subscriber, 0, &[], &certificate, Instant::now()).map(|_| ());
        let message = refused.expect_err("it is cut off").to_string();
        assert!(!message.contains("0x") && !message.contains('\n'), "{message}");
    }

    #[test]
    fn an_unreadable_offer_is_refused_with_the_reason() {
        let certificate = keys::generate_certificate().expect("randomness");
        let refused = |sdp: &str| {
            prepare(sdp, Role::Publisher, 0, &[], &certificate, Instant::now())
                .map(|_| ())
                .unwrap_err()
        };
        assert!(matches!(refused("not SDP at all"), OfferError::Sdp(_)));
        assert!(matches!(refused(""), OfferError::Sdp(_)));
    }
}
