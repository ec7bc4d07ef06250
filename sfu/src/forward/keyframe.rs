//! Keyframe requests (PLI, RFC 4585 §6.3.1): many subscribers ask, the publisher hears once.

use std::time::{Duration, Instant};

/// Shortest time between two requests to one publisher; an unanswered one is repeated after it.
pub const PLI_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// Requests without an answer before we wait for the next subscriber to ask.
pub const PLI_UNANSWERED_MAX: u8 = 20;

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Awaiting {
        unanswered: u8,
        resend_at: Instant,
    },
}

/// Decides when a publisher is asked for a keyframe. `true` means: send a request now.
#[derive(Debug, Default)]
pub struct KeyframeRequester {
    state: State,
    /// No request earlier than this, so that keyframes cannot be made to flood.
    not_before: Option<Instant>,
}

impl KeyframeRequester {
    pub fn handle_request(&mut self, now: Instant) -> bool {
        match self.state {
            State::Awaiting { .. } => false, // The request in flight serves every subscriber.
            State::Idle => match self.not_before {
                Some(not_before) if now < not_before => {
                    self.state = State::Awaiting { unanswered: 0, resend_at: not_before };
                    false
                }
                _ => self.send(1, now),
            },
        }
    }

    pub fn handle_keyframe(&mut self) {
        self.state = State::Idle;
    }

    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        match self.state {
            State::Idle => false,
            State::Awaiting { resend_at, .. } if now < resend_at => false,
            State::Awaiting { unanswered: PLI_UNANSWERED_MAX, .. } => {
                self.state = State::Idle;
                false
            }
            State::Awaiting { unanswered, .. } => self.send(unanswered + 1, now),
        }
    }

    fn send(&mut self, unanswered: u8, now: Instant) -> bool {
        let resend_at = now + PLI_INTERVAL_MIN;
        self.not_before = Some(resend_at);
        self.state = State::Awaiting { unanswered, resend_at };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of `ms event -> pli|-`.
    #[track_caller]
    fn check(script: &str) {
        let start = Instant::now();
        let mut requester = KeyframeRequester::default();
        for line in script.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [ms, event, "->", want, ..] = words[..] else { panic!("unreadable line {line:?}") };
            let now = start + Duration::from_millis(ms.parse().expect("milliseconds"));
            let sent = match event {
                "request" => requester.handle_request(now),
                "timeout" => requester.handle_timeout(now),
                "keyframe" => {
                    requester.handle_keyframe();
                    false
                }
                other => panic!("unknown event {other}"),
            };
            assert_eq!(sent, want == "pli", "{line}");
        }
    }

    #[test]
    fn many_requests_become_one_pli() {
        check(
            "  0 request  -> pli
              10 request  -> -     // Second subscriber: served by the same keyframe.
             240 timeout  -> -
             250 timeout  -> pli   // Unanswered for PLI_INTERVAL_MIN: ask again.
             260 keyframe -> -
             261 request  -> -     // A new need, but too soon after the last request.
             500 timeout  -> pli
             510 keyframe -> -
             900 timeout  -> -     // Nobody needs one.
             901 request  -> pli",
        );
    }

    #[test]
    fn a_silent_publisher_is_not_asked_for_ever() {
        let start = Instant::now();
        let mut requester = KeyframeRequester::default();
        assert!(requester.handle_request(start));
        let later = |n: u32| start + PLI_INTERVAL_MIN * n;
        let repeats = (1..100).filter(|n| requester.handle_timeout(later(*n))).count();
        assert_eq!(repeats, usize::from(PLI_UNANSWERED_MAX) - 1);
        assert!(requester.handle_request(later(200)), "the next subscriber starts anew");
    }
}
