//! Frames of the pay channel (`sutantra/pay/1`): type u8 ‖ version u8 = 1 ‖ body, integers
//! big-endian. The same frames go over `POST {session}/pay`, each behind its length as a u16.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{
    balance::Balance,
    bind::{BindError, SignedBind},
    id::{AccountId, ChannelId, StreamId},
    preimage::{Domain, Preimage},
    token::field,
    voucher::{SignedVoucher, VoucherError},
};

/// Label of the data channel.
pub const PAY_CHANNEL_LABEL: &str = "sutantra/pay/1";
/// Version byte of every frame.
pub const FRAME_VERSION: u8 = 1;
/// No frame is longer.
pub const FRAME_BYTES_MAX: usize = 1024;
/// Bytes of an encoded [`Receipt`].
pub const RECEIPT_BODY_BYTES: usize = 105;
/// Bytes of an encoded [`QualityReport`].
pub const QUALITY_REPORT_BODY_BYTES: usize = 164;

/// Why bytes are no frame. A frame of a type that is not known is to be ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its type and version.
    #[error("a frame has at least 2 bytes, this one has {0}")]
    Short(usize),
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame has at most {FRAME_BYTES_MAX} bytes, this one has {0}")]
    Long(usize),
    /// Another version of the protocol.
    #[error("the frame's version is {0}, expected {FRAME_VERSION}")]
    Version(u8),
    /// A type that this version does not know.
    #[error("unknown frame type {0:#04x}")]
    Type(u8),
    /// A body of another length than its type's.
    #[error("a frame of type {kind:#04x} has a body of {need_bytes} bytes, this one {len_bytes}")]
    Body {
        /// Of the frame.
        kind: u8,
        /// Bytes given.
        len_bytes: usize,
        /// Bytes of the layout.
        need_bytes: usize,
    },
    /// A value that its field cannot have.
    #[error("a field of a frame of type {0:#04x} is out of range")]
    Field(u8),
    /// The bind in it.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The voucher in it.
    #[error(transparent)]
    Voucher(#[from] VoucherError),
}

/// How a session stands with its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LaneState {
    /// Not connected, or not paid yet.
    Pending = 0,
    /// Paid up: media flows.
    Active = 1,
    /// Behind, within the grace.
    Late = 2,
    /// Behind beyond the grace: no media.
    Paused = 3,
    /// Too much of what was sent is said not to arrive: no media but for trials.
    Disputed = 4,
    /// Over.
    Closed = 5,
}

impl LaneState {
    /// All, by number.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Active, Self::Late, Self::Paused, Self::Disputed, Self::Closed];

    /// The state of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// For JSON, metrics and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Late => "late",
            Self::Paused => "paused",
            Self::Disputed => "disputed",
            Self::Closed => "closed",
        }
    }
}

/// Why a gate is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum GateReason {
    /// Nothing stands against it.
    Open = 0,
    /// Payment is overdue.
    Overdue = 1,
    /// Too much of what was sent is said not to arrive.
    Disputed = 2,
    /// Access was taken back.
    Revoked = 3,
    /// Access has expired.
    Expired = 4,
    /// The channel closes, is closed, or holds too little.
    Channel = 5,
    /// The relay's own limit of unreserved money: top up or reserve.
    Exposure = 6,
    /// The stream has ended, or its policy has changed.
    Stream = 7,
    /// The relay cannot keep its books safely now.
    Books = 8,
}

impl GateReason {
    const ALL: [Self; 9] = [
        Self::Open,
        Self::Overdue,
        Self::Disputed,
        Self::Revoked,
        Self::Expired,
        Self::Channel,
        Self::Exposure,
        Self::Stream,
        Self::Books,
    ];

    /// The reason of a number.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// The relay's word on a lane: per voucher, and at least each second. Unsigned: DTLS protects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayAck {
    /// Which.
    pub lane: u32,
    /// Highest cumulative amount that is accepted.
    pub cumulative: Balance,
    /// RTP payload sent on the lane so far, bytes.
    pub sent_bytes: u64,
    /// Time served on the lane so far, ms.
    pub served_ms: u64,
    /// How the session stands.
    pub state: LaneState,
}

/// Money is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayReq {
    /// Which lane.
    pub lane: u32,
    /// Cumulative amount that is due.
    pub due: Balance,
    /// Cumulative amount that was paid.
    pub paid: Balance,
    /// Until media stops, ms.
    pub deadline_ms: u32,
}

/// What the relay says it sent and was paid, signed once a minute and at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Who paid.
    pub channel: ChannelId,
    /// Who signs.
    pub relay_key: AccountId,
    /// Which lane.
    pub lane: u32,
    /// Of the newest voucher.
    pub nonce: u64,
    /// Of the newest voucher.
    pub cumulative: Balance,
    /// RTP payload sent on the lane so far, bytes.
    pub sent_bytes: u64,
    /// How the session stands.
    pub state: LaneState,
}

impl Receipt {
    /// The body: channel 32 ‖ relay_key 32 ‖ lane u32 ‖ nonce u64 ‖ cumulative u128 ‖ sent_bytes
    /// u64 ‖ state u8 ‖ 4 zeros.
    pub fn encode(&self) -> [u8; RECEIPT_BODY_BYTES] {
        let Self { channel, relay_key, lane, nonce, cumulative, sent_bytes, state } = self;
        let mut body = [0; RECEIPT_BODY_BYTES];
        body[..32].copy_from_slice(&channel.0);
        body[32..64].copy_from_slice(&relay_key.0);
        body[64..68].copy_from_slice(&lane.to_be_bytes());
        body[68..76].copy_from_slice(&nonce.to_be_bytes());
        body[76..92].copy_from_slice(&cumulative.to_be_bytes());
        body[92..100].copy_from_slice(&sent_bytes.to_be_bytes());
        body[100] = *state as u8;
        body
    }

    fn decode(body: &[u8; RECEIPT_BODY_BYTES]) -> Option<Self> {
        if body[101..] != [0; 4] {
            return None;
        }
        Some(Self {
            channel: ChannelId(field(body, 0)),
            relay_key: AccountId(field(body, 32)),
            lane: u32::from_be_bytes(field(body, 64)),
            nonce: u64::from_be_bytes(field(body, 68)),
            cumulative: Balance::from_be_bytes(field(body, 76)).ok()?,
            sent_bytes: u64::from_be_bytes(field(body, 92)),
            state: LaneState::from_code(body[100])?,
        })
    }

    fn preimage(&self, chain_id: &str) -> Preimage {
        Preimage::new(Domain::RECEIPT, chain_id).bytes(&self.encode())
    }

    /// The relay's signature.
    pub fn sign(&self, relay: &SigningKey, chain_id: &str) -> [u8; 64] {
        relay.sign(self.preimage(chain_id).as_slice()).to_bytes()
    }

    /// Whether `relay_key` signed it.
    pub fn is_signed(&self, signature: &[u8; 64], chain_id: &str) -> bool {
        is_signed(&self.relay_key, &self.preimage(chain_id), signature)
    }
}

/// What a viewer saw in the last ten seconds, signed by the voucher key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the fields of the layout, units included")]
pub struct QualityReport {
    pub stream: [u8; 32],
    pub channel: [u8; 32],
    pub relay_key: [u8; 32],
    pub lane: u32,
    pub seq: u32,
    pub from_ms: u64,
    pub to_ms: u64,
    pub packets: u64,
    pub lost: u32,
    pub jitter_us: u32,
    pub rtt_us: u32,
    pub freezes: u16,
    pub freeze_ms: u32,
    pub frames: u32,
    pub kbps: u32,
    pub layer_switches: u16,
    pub first_frame_ms: u16,
    pub pauses: u16,
    pub pause_ms: u32,
}

impl QualityReport {
    /// The body, fields in the order of the struct, big-endian.
    pub fn encode(&self) -> [u8; QUALITY_REPORT_BODY_BYTES] {
        let mut body = Vec::with_capacity(QUALITY_REPORT_BODY_BYTES);
        body.extend_from_slice(&self.stream);
        body.extend_from_slice(&self.channel);
        body.extend_from_slice(&self.relay_key);
        body.extend_from_slice(&self.lane.to_be_bytes());
        body.extend_from_slice(&self.seq.to_be_bytes());
        body.extend_from_slice(&self.from_ms.to_be_bytes());
        body.extend_from_slice(&self.to_ms.to_be_bytes());
        body.extend_from_slice(&self.packets.to_be_bytes());
        body.extend_from_slice(&self.lost.to_be_bytes());
        body.extend_from_slice(&self.jitter_us.to_be_bytes());
        body.extend_from_slice(&self.rtt_us.to_be_bytes());
        body.extend_from_slice(&self.freezes.to_be_bytes());
        body.extend_from_slice(&self.freeze_ms.to_be_bytes());
        body.extend_from_slice(&self.frames.to_be_bytes());
        body.extend_from_slice(&self.kbps.to_be_bytes());
        body.extend_from_slice(&self.layer_switches.to_be_bytes());
        body.extend_from_slice(&self.first_frame_ms.to_be_bytes());
        body.extend_from_slice(&self.pauses.to_be_bytes());
        body.extend_from_slice(&self.pause_ms.to_be_bytes());
        body.try_into().expect("the fields have 164 bytes")
    }

    fn decode(body: &[u8; QUALITY_REPORT_BODY_BYTES]) -> Self {
        let u16_at = |at| u16::from_be_bytes(field(body, at));
        let u32_at = |at| u32::from_be_bytes(field(body, at));
        let u64_at = |at| u64::from_be_bytes(field(body, at));
        Self {
            stream: field(body, 0),
            channel: field(body, 32),
            relay_key: field(body, 64),
            lane: u32_at(96),
            seq: u32_at(100),
            from_ms: u64_at(104),
            to_ms: u64_at(112),
            packets: u64_at(120),
            lost: u32_at(128),
            jitter_us: u32_at(132),
            rtt_us: u32_at(136),
            freezes: u16_at(140),
            freeze_ms: u32_at(142),
            frames: u32_at(146),
            kbps: u32_at(150),
            layer_switches: u16_at(154),
            first_frame_ms: u16_at(156),
            pauses: u16_at(158),
            pause_ms: u32_at(160),
        }
    }

    /// What is signed.
    pub fn preimage(&self, chain_id: &str) -> Preimage {
        Preimage::new(Domain::QUALITY_REPORT, chain_id).bytes(&self.encode())
    }

    /// The viewer's signature.
    pub fn sign(&self, voucher_key: &SigningKey, chain_id: &str) -> [u8; 64] {
        voucher_key.sign(self.preimage(chain_id).as_slice()).to_bytes()
    }

    /// Whether `voucher_key` signed it.
    pub fn is_signed(&self, voucher_key: &AccountId, signature: &[u8; 64], chain_id: &str) -> bool {
        is_signed(voucher_key, &self.preimage(chain_id), signature)
    }

    /// The stream as an id.
    pub fn stream_id(&self) -> StreamId {
        StreamId(self.stream)
    }
}

fn is_signed(key: &AccountId, preimage: &Preimage, signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .and_then(|key| key.verify_strict(preimage.as_slice(), &Signature::from_bytes(signature)))
        .is_ok()
}

/// One message of the pay channel. Signatures in it may be wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// 01: what the relay asks from now on, JSON of [`crate::Terms`] as bytes.
    Terms(String),
    /// 02: the payer's keys on this transport.
    Bind(Box<SignedBind>),
    /// 03: the relay's signature over the bind.
    BindAck([u8; 64]),
    /// 10: money.
    Voucher(Box<SignedVoucher>),
    /// 11: the relay's word on a lane.
    PayAck(PayAck),
    /// 12: money is due.
    PayReq(PayReq),
    /// 13: the relay's newest voucher of a lane; may only raise what a wallet believes.
    PaySync(Box<SignedVoucher>),
    /// 14: what was sent and paid, signed by the relay.
    Receipt(Box<Receipt>, [u8; 64]),
    /// 20: what the viewer saw, signed by the voucher key.
    QualityReport(Box<QualityReport>, [u8; 64]),
    /// 41: the gate has changed.
    GateNotice {
        /// Whether media may flow.
        open: bool,
        /// Why (not).
        reason: GateReason,
    },
    /// 7f: what went wrong: a code and a sentence.
    Error {
        /// HTTP's number, with 4000 added where the session ends.
        code: u16,
        /// What to do next.
        message: String,
    },
}

impl Frame {
    /// The type's number.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Terms(_) => 0x01,
            Self::Bind(_) => 0x02,
            Self::BindAck(_) => 0x03,
            Self::Voucher(_) => 0x10,
            Self::PayAck(_) => 0x11,
            Self::PayReq(_) => 0x12,
            Self::PaySync(_) => 0x13,
            Self::Receipt(..) => 0x14,
            Self::QualityReport(..) => 0x20,
            Self::GateNotice { .. } => 0x41,
            Self::Error { .. } => 0x7f,
        }
    }

    /// The bytes. A text too long for a frame is cut at a letter.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind(), FRAME_VERSION];
        match self {
            Self::Terms(json) => bytes.extend_from_slice(json.as_bytes()),
            Self::Bind(bind) => bytes.extend_from_slice(&bind.encode()),
            Self::BindAck(signature) => bytes.extend_from_slice(signature),
            Self::Voucher(voucher) | Self::PaySync(voucher) => {
                bytes.extend_from_slice(&voucher.encode());
            }
            Self::PayAck(PayAck { lane, cumulative, sent_bytes, served_ms, state }) => {
                bytes.extend_from_slice(&lane.to_be_bytes());
                bytes.extend_from_slice(&cumulative.to_be_bytes());
                bytes.extend_from_slice(&sent_bytes.to_be_bytes());
                bytes.extend_from_slice(&served_ms.to_be_bytes());
                bytes.push(*state as u8);
            }
            Self::PayReq(PayReq { lane, due, paid, deadline_ms }) => {
                bytes.extend_from_slice(&lane.to_be_bytes());
                bytes.extend_from_slice(&due.to_be_bytes());
                bytes.extend_from_slice(&paid.to_be_bytes());
                bytes.extend_from_slice(&deadline_ms.to_be_bytes());
            }
            Self::Receipt(receipt, signature) => {
                bytes.extend_from_slice(&receipt.encode());
                bytes.extend_from_slice(signature);
            }
            Self::QualityReport(report, signature) => {
                bytes.extend_from_slice(&report.encode());
                bytes.extend_from_slice(signature);
            }
            Self::GateNotice { open, reason } => {
                bytes.push(u8::from(*open));
                bytes.extend_from_slice(&(*reason as u16).to_be_bytes());
            }
            Self::Error { code, message } => {
                bytes.extend_from_slice(&code.to_be_bytes());
                let end = message.floor_char_boundary(FRAME_BYTES_MAX - 4);
                bytes.extend_from_slice(&message.as_bytes()[..end]);
            }
        }
        bytes
    }

    /// Reads one frame; signatures are not checked.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameError::Long(bytes.len()));
        }
        let [kind, version, body @ ..] = bytes else {
            return Err(FrameError::Short(bytes.len()));
        };
        let kind = *kind;
        if *version != FRAME_VERSION {
            return Err(FrameError::Version(*version));
        }
        let out_of_range = FrameError::Field(kind);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| out_of_range);
        Ok(match kind {
            0x01 => Self::Terms(text(body)?),
            0x02 => Self::Bind(Box::new(SignedBind::decode(body)?)),
            0x03 => Self::BindAck(exactly(kind, body)?),
            0x10 => Self::Voucher(Box::new(SignedVoucher::decode(body)?)),
            0x11 => {
                let body: [u8; 37] = exactly(kind, body)?;
                Self::PayAck(PayAck {
                    lane: u32::from_be_bytes(field(&body, 0)),
                    cumulative: amount(kind, field(&body, 4))?,
                    sent_bytes: u64::from_be_bytes(field(&body, 20)),
                    served_ms: u64::from_be_bytes(field(&body, 28)),
                    state: LaneState::from_code(body[36]).ok_or(out_of_range)?,
                })
            }
            0x12 => {
                let body: [u8; 40] = exactly(kind, body)?;
                Self::PayReq(PayReq {
                    lane: u32::from_be_bytes(field(&body, 0)),
                    due: amount(kind, field(&body, 4))?,
                    paid: amount(kind, field(&body, 20))?,
                    deadline_ms: u32::from_be_bytes(field(&body, 36)),
                })
            }
            0x13 => Self::PaySync(Box::new(SignedVoucher::decode(body)?)),
            0x14 => {
                let body: [u8; RECEIPT_BODY_BYTES + 64] = exactly(kind, body)?;
                let receipt = Receipt::decode(&field(&body, 0)).ok_or(out_of_range)?;
                Self::Receipt(Box::new(receipt), field(&body, RECEIPT_BODY_BYTES))
            }
            0x20 => {
                let body: [u8; QUALITY_REPORT_BODY_BYTES + 64] = exactly(kind, body)?;
                let report = QualityReport::decode(&field(&body, 0));
                Self::QualityReport(Box::new(report), field(&body, QUALITY_REPORT_BODY_BYTES))
            }
            0x41 => {
                let body: [u8; 3] = exactly(kind, body)?;
                let reason = u16::from_be_bytes(field(&body, 1));
                Self::GateNotice {
                    open: match body[0] {
                        0 => false,
                        1 => true,
                        _ => return Err(out_of_range),
                    },
                    reason: GateReason::from_code(reason).ok_or(out_of_range)?,
                }
            }
            0x7f => {
                let (code, message) = body.split_at_checked(2).ok_or(FrameError::Body {
                    kind,
                    len_bytes: body.len(),
                    need_bytes: 2,
                })?;
                Self::Error { code: u16::from_be_bytes(field(code, 0)), message: text(message)? }
            }
            other => return Err(FrameError::Type(other)),
        })
    }
}

fn exactly<const N: usize>(kind: u8, body: &[u8]) -> Result<[u8; N], FrameError> {
    body.try_into().map_err(|_| FrameError::Body { kind, len_bytes: body.len(), need_bytes: N })
}

fn amount(kind: u8, bytes: [u8; 16]) -> Result<Balance, FrameError> {
    Balance::from_be_bytes(bytes).map_err(|_| FrameError::Field(kind))
}

/// Joins frames for an HTTP body: each behind its length, u16 big-endian.
pub fn join_frames<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let len = u16::try_from(frame.len()).expect("a frame has at most 1024 bytes");
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes
}

/// Divides an HTTP body into frames; `None`: a length does not fit.
pub fn divide_frames(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut frames = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let (frame, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        frames.push(frame);
        bytes = rest;
    }
    bytes.is_empty().then_some(frames)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_frame_comes_back_as_it_was() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let receipt = Receipt {
            channel: ChannelId([1; 32]),
            relay_key: AccountId::from(&key),
            lane: 7,
            nonce: 8,
            cumulative: Balance::of(9),
            sent_bytes: 10,
            state: LaneState::Late,
        };
        let signature = receipt.sign(&key, "a");
        assert!(receipt.is_signed(&signature, "a"));
        assert!(!receipt.is_signed(&signature, "b"));
        let report = QualityReport { lane: 1, packets: 2, pause_ms: 3, ..Default::default() };
        let report_signature = report.sign(&key, "a");
        assert!(report.is_signed(&AccountId::from(&key), &report_signature, "a"));
        let lane = 7;
        let (due, paid) = (Balance::of(5), Balance::of(4));
        let ack = PayAck {
            lane,
            cumulative: paid,
            sent_bytes: 1,
            served_ms: 2,
            state: LaneState::Active,
        };
        let frames = [
            Frame::Terms("{}".to_owned()),
            Frame::BindAck([9; 64]),
            Frame::PayAck(ack),
            Frame::PayReq(PayReq { lane, due, paid, deadline_ms: 3000 }),
            Frame::Receipt(Box::new(receipt), signature),
            Frame::QualityReport(Box::new(report), report_signature),
            Frame::GateNotice { open: false, reason: GateReason::Overdue },
            Frame::Error { code: 4402, message: "Payment required".to_owned() },
        ];
        for frame in &frames {
            assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(frame));
        }
        let bytes: Vec<_> = frames.iter().map(Frame::encode).collect();
        let joined = join_frames(bytes.iter().map(Vec::as_slice));
        assert_eq!(divide_frames(&joined), Some(bytes.iter().map(Vec::as_slice).collect()));
        assert_eq!(divide_frames(&joined[..joined.len() - 1]), None);
    }

    #[test]
    fn a_malformed_frame_is_refused_by_name() {
        #[track_caller]
        fn check(bytes: &[u8], expected: FrameError) {
            assert_eq!(Frame::decode(bytes), Err(expected));
        }
        check(&[], FrameError::Short(0));
        check(&[0x10], FrameError::Short(1));
        check(&[0x10, 2], FrameError::Version(2));
        check(&[0x99, 1], FrameError::Type(0x99));
        check(&[0x10, 1, 0], FrameError::Voucher(VoucherError::Length { len_bytes: 1 }));
        check(&[0x02, 1], FrameError::Bind(BindError::Length { len_bytes: 0 }));
        check(&[0x41, 1, 2, 0, 0], FrameError::Field(0x41));
        check(&[0x41, 1, 1, 9, 9], FrameError::Field(0x41));
        check(&[0x7f, 1, 0], FrameError::Body { kind: 0x7f, len_bytes: 1, need_bytes: 2 });
        check(&[0x01, 1, 0xff], FrameError::Field(0x01));
        check(&[0; FRAME_BYTES_MAX + 1], FrameError::Long(FRAME_BYTES_MAX + 1));
        let mut ack = vec![0x11, 1];
        ack.extend([0xff; 37]);
        check(&ack, FrameError::Field(0x11));
    }

    #[test]
    fn a_long_error_is_cut_to_a_frame() {
        let message = "é".repeat(1000);
        let bytes = Frame::Error { code: 500, message }.encode();
        assert!(bytes.len() <= FRAME_BYTES_MAX && Frame::decode(&bytes).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_frame_that_encodes_to_them_or_an_error(
            kind in prop::sample::select(vec![1, 2, 3, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20, 0x41, 0x7f]),
            body in prop::collection::vec(any::<u8>(), 0..420),
        ) {
            let bytes = [&[kind, 1][..], &body].concat();
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
