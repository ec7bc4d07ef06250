//! STUN messages (RFC 8489), with the attributes of TURN (RFC 8656); reading is total on any input.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::hmac;

/// Of every message.
pub const HEADER_BYTES: usize = 20;
/// Length of MESSAGE-INTEGRITY, its header included.
const INTEGRITY_BYTES: usize = 4 + 20;
const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Ties an answer to its request (§6): 96 random bits.
pub type TransactionId = [u8; 12];

/// What is asked (RFC 8489 §18.2, RFC 8656 §17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFCs'")]
pub enum Method {
    Binding,
    Allocate,
    Refresh,
    Send,
    Data,
    CreatePermission,
    ChannelBind,
}

const METHODS: [(Method, u16); 7] = [
    (Method::Binding, 0x001),
    (Method::Allocate, 0x003),
    (Method::Refresh, 0x004),
    (Method::Send, 0x006),
    (Method::Data, 0x007),
    (Method::CreatePermission, 0x008),
    (Method::ChannelBind, 0x009),
];

/// Who speaks, and how it went (§5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

const CLASSES: [(Class, u16); 4] =
    [(Class::Request, 0), (Class::Indication, 1), (Class::Success, 2), (Class::Error, 3)];

/// An attribute's number (RFC 8489 §18.3, RFC 8656 §18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFCs'")]
pub enum Attribute {
    MappedAddress = 0x0001,
    Username = 0x0006,
    MessageIntegrity = 0x0008,
    ErrorCode = 0x0009,
    ChannelNumber = 0x000C,
    Lifetime = 0x000D,
    XorPeerAddress = 0x0012,
    Data = 0x0013,
    Realm = 0x0014,
    Nonce = 0x0015,
    XorRelayedAddress = 0x0016,
    RequestedTransport = 0x0019,
    XorMappedAddress = 0x0020,
}

impl Attribute {
    fn code(self) -> u16 {
        self as u16
    }
}

/// Why bytes are not a STUN message. A server can cause every variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Shorter than a header, or than the header says.
    #[error("{len_bytes} bytes, a STUN message needs {need_bytes}")]
    Truncated { len_bytes: usize, need_bytes: usize },
    /// High bits, cookie, a length that is no multiple of four or leaves bytes over.
    #[error("no STUN header")]
    Header,
    /// None of [`Method`].
    #[error("a STUN method that this client does not speak: {0:#05x}")]
    Method(u16),
    /// An attribute that reaches beyond the message.
    #[error("a STUN attribute that reaches beyond its message")]
    Attribute,
}

/// A message, in the bytes that brought it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What is asked or answered.
    pub method: Method,
    /// Which of the two, and how it went.
    pub class: Class,
    /// Ties them together.
    pub id: TransactionId,
    whole: &'a [u8],
}

/// Whether a datagram is meant to be STUN (RFC 9443 §3): its two high bits are zero, with the cookie.
pub fn looks_like_stun(bytes: &[u8]) -> bool {
    let cookie = bytes.get(4..8);
    bytes.first().is_some_and(|first| first >> 6 == 0)
        && cookie == Some(&MAGIC_COOKIE.to_be_bytes())
}

impl<'a> Message<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// [`StunError`].
    pub fn parse(whole: &'a [u8]) -> Result<Self, StunError> {
        let missing = |need_bytes| StunError::Truncated { len_bytes: whole.len(), need_bytes };
        let header = whole.first_chunk::<HEADER_BYTES>().ok_or(missing(HEADER_BYTES))?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let attribute_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !looks_like_stun(whole) || attribute_bytes % 4 != 0 {
            return Err(StunError::Header);
        }
        let need_bytes = HEADER_BYTES + attribute_bytes;
        match whole.len() {
            len_bytes if len_bytes < need_bytes => return Err(missing(need_bytes)),
            len_bytes if len_bytes > need_bytes => return Err(StunError::Header),
            _ => {}
        }
        // §5: the class's two bits lie between the method's.
        let class = (kind >> 4 & 1) | (kind >> 7 & 2);
        let method = (kind & 0x000F) | (kind >> 1 & 0x0070) | (kind >> 2 & 0x0F80);
        let (class, _) = CLASSES[usize::from(class)];
        let known = METHODS.iter().find(|(_, code)| *code == method);
        let (method, _) = *known.ok_or(StunError::Method(method))?;
        let id = *header.last_chunk().expect("a header is longer than an id");
        let message = Self { method, class, id, whole };
        // Every attribute is walked once here, so that later looks cannot fail.
        let mut at = HEADER_BYTES;
        while at < whole.len() {
            at = message.attribute_end(at).ok_or(StunError::Attribute)?;
        }
        Ok(message)
    }

    /// The value of the first attribute of that number.
    pub fn attribute(&self, wanted: Attribute) -> Option<&'a [u8]> {
        self.find(wanted).map(|(_, value)| value)
    }

    /// An address, unmasked (§14.2), or plain for [`Attribute::MappedAddress`].
    pub fn address(&self, wanted: Attribute) -> Option<SocketAddr> {
        let value = self.attribute(wanted)?;
        let (head, address) = value.split_first_chunk::<4>()?;
        let mut mask = [0; 16];
        if wanted != Attribute::MappedAddress {
            mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(&self.id);
        }
        let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
        let ip: IpAddr = match (head[1], address.len()) {
            (1, 4) => Ipv4Addr::from_bits(u32::from_be_bytes(xor(address, &mask)?)).into(),
            (2, 16) => Ipv6Addr::from(xor::<16>(address, &mask)?).into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// A text.
    pub fn text(&self, wanted: Attribute) -> Option<&'a str> {
        str::from_utf8(self.attribute(wanted)?).ok()
    }

    /// A number of 32 bits.
    pub fn number(&self, wanted: Attribute) -> Option<u32> {
        Some(u32::from_be_bytes(self.attribute(wanted)?.try_into().ok()?))
    }

    /// Code and reason of an error (§14.8).
    pub fn error(&self) -> Option<(u16, &'a str)> {
        let (head, reason) = self.attribute(Attribute::ErrorCode)?.split_first_chunk::<4>()?;
        let code = u16::from(head[2] & 7) * 100 + u16::from(head[3]);
        Some((code, str::from_utf8(reason).unwrap_or("")))
    }

    /// Whether MESSAGE-INTEGRITY (§14.5) is there and was made with `key`.
    pub fn is_signed_by(&self, key: &[u8]) -> bool {
        let Some((at, tag)) = self.find(Attribute::MessageIntegrity) else { return false };
        let mut signed = self.whole[..at].to_vec();
        set_length(&mut signed, at + INTEGRITY_BYTES - HEADER_BYTES);
        hmac::verify(&hmac_key(key), &signed, tag).is_ok()
    }

    /// Where an attribute begins, and its value.
    fn find(&self, wanted: Attribute) -> Option<(usize, &'a [u8])> {
        let mut at = HEADER_BYTES;
        while at < self.whole.len() {
            let (kind, value) = self.attribute_at(at)?;
            if kind == wanted.code() {
                return Some((at, value));
            }
            at = self.attribute_end(at)?;
        }
        None
    }

    fn attribute_at(&self, at: usize) -> Option<(u16, &'a [u8])> {
        let (head, rest) = self.whole.get(at..)?.split_first_chunk::<4>()?;
        let len_bytes = usize::from(u16::from_be_bytes([head[2], head[3]]));
        Some((u16::from_be_bytes([head[0], head[1]]), rest.get(..len_bytes)?))
    }

    fn attribute_end(&self, at: usize) -> Option<usize> {
        let (_, value) = self.attribute_at(at)?;
        Some(at + 4 + value.len().next_multiple_of(4)).filter(|end| *end <= self.whole.len())
    }
}

fn xor<const N: usize>(bytes: &[u8], mask: &[u8; 16]) -> Option<[u8; N]> {
    let mut out: [u8; N] = bytes.try_into().ok()?;
    out.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    Some(out)
}

fn hmac_key(key: &[u8]) -> hmac::Key {
    // SHA-1 is what RFC 8489 §14.5 says and what servers check.
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key)
}

fn set_length(message: &mut [u8], attribute_bytes: usize) {
    let length = u16::try_from(attribute_bytes).expect("a datagram has fewer than 65,536 bytes");
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Writes a message.
#[derive(Debug, Clone)]
pub struct Builder {
    bytes: Vec<u8>,
    id: TransactionId,
}

impl Builder {
    /// A message without attributes.
    pub fn new(method: Method, class: Class, id: TransactionId) -> Self {
        let code = |method| METHODS.iter().find(|(known, _)| *known == method).map(|(_, c)| *c);
        let method = code(method).expect("the table has every method");
        let class = CLASSES.iter().find(|(known, _)| *known == class).map(|(_, code)| *code);
        let class = class.expect("the table has every class");
        let kind = (method & 0x000F)
            | (method & 0x0070) << 1
            | (method & 0x0F80) << 2
            | (class & 1) << 4
            | (class & 2) << 7;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes.extend_from_slice(&id);
        Self { bytes, id }
    }

    /// Adds an attribute, padded to four bytes.
    #[must_use]
    pub fn attribute(mut self, attribute: Attribute, value: &[u8]) -> Self {
        let len_bytes = u16::try_from(value.len()).expect("a datagram has fewer than 65,536 bytes");
        self.bytes.extend_from_slice(&attribute.code().to_be_bytes());
        self.bytes.extend_from_slice(&len_bytes.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an address, masked (§14.2).
    #[must_use]
    pub fn address(self, attribute: Attribute, address: SocketAddr) -> Self {
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        mask[4..].copy_from_slice(&self.id);
        let (family, ip) = match address.ip() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let port = address.port().to_be_bytes();
        let mut value = vec![0, family, port[0] ^ mask[0], port[1] ^ mask[1]];
        value.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        self.attribute(attribute, &value)
    }

    /// The message; with MESSAGE-INTEGRITY (§14.5) where there is a key.
    pub fn finish(mut self, key: Option<&[u8]>) -> Vec<u8> {
        let attribute_bytes = self.bytes.len() - HEADER_BYTES;
        set_length(&mut self.bytes, attribute_bytes);
        let Some(key) = key else { return self.bytes };
        set_length(&mut self.bytes, attribute_bytes + INTEGRITY_BYTES);
        let tag = hmac::sign(&hmac_key(key), &self.bytes);
        self.attribute(Attribute::MessageIntegrity, tag.as_ref()).bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn built(key: Option<&[u8]>) -> Vec<u8> {
        Builder::new(Method::Allocate, Class::Success, [7; 12])
            .address(Attribute::XorRelayedAddress, "192.0.2.1:49152".parse().unwrap())
            .address(Attribute::XorMappedAddress, "[2001:db8::1]:5000".parse().unwrap())
            .attribute(Attribute::Realm, b"example")
            .attribute(Attribute::Lifetime, &600_u32.to_be_bytes())
            .finish(key)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = built(Some(b"key"));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.method, message.class), (Method::Allocate, Class::Success));
        assert_eq!(message.id, [7; 12]);
        let address = |attribute| message.address(attribute).unwrap().to_string();
        assert_eq!(address(Attribute::XorRelayedAddress), "192.0.2.1:49152");
        assert_eq!(address(Attribute::XorMappedAddress), "[2001:db8::1]:5000");
        assert_eq!(message.text(Attribute::Realm), Some("example"));
        assert_eq!(message.number(Attribute::Lifetime), Some(600));
        assert!(message.is_signed_by(b"key"));
        assert!(!message.is_signed_by(b"another"));
    }

    /// The sample request of RFC 5769 §2.1 and its password.
    #[test]
    fn the_sample_of_rfc_5769_is_read_and_its_integrity_holds() {
        let hex = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e2074657374\
                   20636c69656e74002400046e0001ff80290008932ff9b151263b36000600096576\
                   746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571\
                   a280280004e57a3bcf";
        let hex: String = hex.split_whitespace().collect();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.method, message.class), (Method::Binding, Class::Request));
        assert_eq!(message.text(Attribute::Username), Some("evtj:h6vY"));
        assert!(message.is_signed_by(b"VOkJxbRl1RmTxUk/WvJxBt"));
    }

    #[test]
    fn what_is_no_message_is_refused_by_name() {
        let whole = built(None);
        let short = StunError::Truncated { len_bytes: 19, need_bytes: 20 };
        assert_eq!(Message::parse(&whole[..19]).unwrap_err(), short);
        let cut = Message::parse(&whole[..whole.len() - 1]).unwrap_err();
        assert!(matches!(cut, StunError::Truncated { .. }));
        assert_eq!(Message::parse(&[&whole[..], &[0]].concat()).unwrap_err(), StunError::Header);
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            Message::parse(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 0x80), StunError::Header);
        assert_eq!(with(4, 0), StunError::Header);
        assert_eq!(with(1, 0x05), StunError::Method(0x005));
        assert_eq!(with(22, 0xFF), StunError::Attribute);
    }

    proptest! {
        #[test]
        fn junk_is_read_or_refused(junk in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = built(None);
            for look in [junk.clone(), { bytes.truncate(20); [bytes, junk].concat() }] {
                let mut look = look;
                if look.len() >= HEADER_BYTES {
                    look.truncate(HEADER_BYTES + (look.len() - HEADER_BYTES) / 4 * 4);
                    let attribute_bytes = look.len() - HEADER_BYTES;
                    set_length(&mut look, attribute_bytes);
                }
                let Ok(message) = Message::parse(&look) else { continue };
                let _any = (message.address(Attribute::XorMappedAddress), message.error());
                let _any = (message.text(Attribute::Realm), message.number(Attribute::Lifetime));
                prop_assert!(!message.is_signed_by(b"nobody's key"));
            }
        }
    }
}
