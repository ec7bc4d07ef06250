//! Trickle ICE fragments (RFC 8840 §9): read, so that a wrong one is refused by name.

/// Lines of a fragment; a longer one is refused.
const LINES_MAX: usize = 256;

/// What matters of a fragment here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// `a=ice-ufrag`, the first if each m-line has one.
    pub ufrag: Option<&'a str>,
    /// `a=candidate` lines.
    pub candidates: usize,
}

/// Why a text is no fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// More than the bound.
    #[error("a fragment has at most {LINES_MAX} lines")]
    TooLong,
    /// Not `x=value`.
    #[error("line {0} is no SDP line (x=value)")]
    Line(usize),
    /// Not the fields of RFC 8839 §5.1.
    #[error("line {0} is no ICE candidate (RFC 8839, section 5.1)")]
    Candidate(usize),
    /// Neither credentials nor candidates nor their end.
    #[error("the fragment says nothing about ICE")]
    Empty,
}

/// Reads a fragment; total.
pub fn parse(text: &str) -> Result<Fragment<'_>, FragmentError> {
    let (mut ufrag, mut candidates, mut says_something) = (None, 0, false);
    for (index, line) in text.lines().enumerate() {
        if index >= LINES_MAX {
            return Err(FragmentError::TooLong);
        }
        let number = index + 1;
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let (letter, value) = line.split_once('=').ok_or(FragmentError::Line(number))?;
        if letter.len() != 1 || !letter.as_bytes()[0].is_ascii_lowercase() {
            return Err(FragmentError::Line(number));
        }
        if letter != "a" {
            continue; // m= sections name what the attributes belong to; all share one transport.
        }
        if let Some(candidate) = value.strip_prefix("candidate:") {
            if !is_candidate(candidate) {
                return Err(FragmentError::Candidate(number));
            }
            candidates += 1;
            says_something = true;
        } else if let Some(given) = value.strip_prefix("ice-ufrag:") {
            ufrag = ufrag.or(Some(given));
            says_something = true;
        } else if value.starts_with("ice-pwd:") || value == "end-of-candidates" {
            says_something = true;
        }
    }
    if says_something { Ok(Fragment { ufrag, candidates }) } else { Err(FragmentError::Empty) }
}

/// `foundation component transport priority address port typ type …`. The address may be a name
/// (mDNS), so it is not read further.
fn is_candidate(text: &str) -> bool {
    let mut fields = text.split(' ');
    let mut next = || fields.next().unwrap_or_default();
    let (foundation, component, transport) = (next(), next(), next());
    let (priority, address, port, typ, kind) = (next(), next(), next(), next(), next());
    (1..=32).contains(&foundation.len())
        && component.parse::<u16>().is_ok_and(|id| (1..=256).contains(&id))
        && !transport.is_empty()
        && priority.parse::<u32>().is_ok()
        && !address.is_empty()
        && port.parse::<u16>().is_ok()
        && typ == "typ"
        && !kind.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(Option<&str>, usize), FragmentError>) {
        let got = parse(text).map(|fragment| (fragment.ufrag, fragment.candidates));
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn a_fragment_is_read_or_refused_by_name() {
        let one = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
                   m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
                   a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
                   a=candidate:34 1 udp 2122 3f1c.local 9 typ host\r\na=end-of-candidates\r\n";
        check(one, Ok((Some("EsAw"), 2)));
        check("a=end-of-candidates\n", Ok((None, 0)));
        check("", Err(FragmentError::Empty));
        check("a=mid:0\r\n", Err(FragmentError::Empty));
        check("hello", Err(FragmentError::Line(1)));
        check("a=mid:0\nab=1", Err(FragmentError::Line(2)));
        check("=1", Err(FragmentError::Line(1)));
        check("a=candidate:", Err(FragmentError::Candidate(1)));
        check("a=candidate:1 1 udp 1 192.0.2.1 70000 typ host", Err(FragmentError::Candidate(1)));
        check("a=candidate:1 0 udp 1 192.0.2.1 7 typ host", Err(FragmentError::Candidate(1)));
        check(&"a=mid:0\n".repeat(LINES_MAX + 1), Err(FragmentError::TooLong));
    }
}
