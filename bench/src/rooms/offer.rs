//! An SDP of any size that carries who sent it, as which one, and when, and shows whether it came
//! whole.

/// Begins the session name, which holds the numbers.
const MARK: &str = "s=bench-";
/// Digits of sender, sequence number and time, with what is between them.
const NUMBERS_BYTES: usize = 8 + 1 + 10 + 1 + 19;
/// Smallest SDP that has room for all this.
pub const OFFER_BYTES_MIN: usize = 256;

const HEAD: &str = "v=0\\r\\no=- 4611731400430051336 2 IN IP4 127.0.0.1\\r\\n";
const BODY: &str = "\\r\\nt=0 0\\r\\na=group:BUNDLE 0\\r\\na=msid-semantic: WMS\\r\\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\\r\\nc=IN IP4 0.0.0.0\\r\\n";

/// Makes and reads them; the text is as it stands in JSON.
#[derive(Debug, Clone)]
pub struct Offers {
    head: String,
    tail: String,
}

/// What one carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Number of the peer that sent it.
    pub from: u32,
    /// Its how many-th to this receiver, from 0.
    pub number: u32,
    /// When it was handed over, ns since the run began.
    pub sent_ns: u64,
    /// Every byte behind the numbers is the one that was sent.
    pub intact: bool,
}

impl Offers {
    /// Of `size_bytes` each, as the receiver sees them; at least [`OFFER_BYTES_MIN`].
    pub fn new(size_bytes: usize) -> Self {
        let head = format!("{HEAD}{MARK}");
        let mut tail = BODY.to_owned();
        // Two letters in JSON are one byte of the SDP: `\r`, `\n`.
        let length = |text: &str| text.len() - text.matches('\\').count();
        let missing = size_bytes.saturating_sub(length(&head) + NUMBERS_BYTES + length(&tail));
        let mut line = 0_u32;
        while length(&tail) + length(&head) + NUMBERS_BYTES + 2 < size_bytes {
            let room = size_bytes - length(&tail) - length(&head) - NUMBERS_BYTES - 2;
            line = line.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let candidate = format!("a=candidate:{line} 1 udp 2122260223 192.0.2.1 5000 typ host");
            tail.push_str(&candidate[..candidate.len().min(room)]);
            tail.push_str("\\r\\n");
        }
        debug_assert!(missing == 0 || tail.len() > BODY.len());
        Self { head, tail }
    }

    /// In three parts, for a JSON string.
    pub fn write<'a>(
        &'a self,
        numbers: &'a mut Vec<u8>,
        from: u32,
        number: u32,
        sent_ns: u64,
    ) -> [&'a [u8]; 3] {
        use std::io::Write as _;
        numbers.clear();
        // A Vec takes everything.
        let _infallible = write!(numbers, "{from:08}.{number:010}.{sent_ns:019}");
        [self.head.as_bytes(), numbers, self.tail.as_bytes()]
    }

    /// Finds one in a JSON text; `None` when there is none.
    pub fn read(&self, text: &str) -> Option<Carried> {
        let rest = &text[text.find(MARK)? + MARK.len()..];
        let mut numbers = rest.get(..NUMBERS_BYTES)?.split('.');
        let from = numbers.next()?.parse().ok()?;
        let number = numbers.next()?.parse().ok()?;
        let sent_ns = numbers.next()?.parse().ok()?;
        let intact = rest[NUMBERS_BYTES..].starts_with(&self.tail);
        Some(Carried { from, number, sent_ns, intact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_has_the_size_asked_for_and_says_what_was_put_into_it() {
        for size in [OFFER_BYTES_MIN, 300, 2048, 2049, 65_000] {
            let offers = Offers::new(size);
            let mut numbers = Vec::new();
            let text = offers.write(&mut numbers, 7, 4_000_000_000, 123_456_789).concat();
            let json =
                format!("{{\"type\":\"offer\",\"sdp\":\"{}\"}}", String::from_utf8_lossy(&text));
            let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
            assert_eq!(value["sdp"].as_str().map(str::len), Some(size));
            let carried =
                Carried { from: 7, number: 4_000_000_000, sent_ns: 123_456_789, intact: true };
            assert_eq!(offers.read(&json), Some(carried));
        }
    }

    #[test]
    fn an_offer_that_was_changed_on_its_way_is_seen() {
        let offers = Offers::new(400);
        let mut numbers = Vec::new();
        let whole = String::from_utf8(offers.write(&mut numbers, 1, 2, 3).concat()).expect("text");
        assert!(offers.read(&whole).is_some_and(|carried| carried.intact));
        let changed = whole.replace("typ host", "typ hose");
        assert!(offers.read(&changed).is_some_and(|carried| !carried.intact));
        assert!(offers.read(&whole[..whole.len() - 1]).is_some_and(|carried| !carried.intact));
        assert_eq!(offers.read("{\"type\":\"pong\"}"), None);
    }
}
