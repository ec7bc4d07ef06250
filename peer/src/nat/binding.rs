//! Our address as a STUN server sees it (RFC 8489, Binding), asked from each local socket.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::stun::{Attribute, Builder, Class, Message, Method, TransactionId};

/// First wait for an answer; it doubles.
const RTO: Duration = Duration::from_millis(500);
/// Requests until a server counts as silent: 7.5 s in all.
const SENDS_MAX: u32 = 4;
/// Questions at once. One more is not asked.
const QUESTIONS_MAX: usize = 256;

#[derive(Debug)]
struct Question {
    local: SocketAddr,
    server: SocketAddr,
    sends: u32,
    next_at: Instant,
}

/// A request to send.
#[derive(Debug, PartialEq, Eq)]
pub struct BindingRequest {
    /// From which socket.
    pub local: SocketAddr,
    /// To which server.
    pub server: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
}

/// All questions that are open; sans-IO.
#[derive(Debug, Default)]
pub struct Bindings {
    open: BTreeMap<TransactionId, Question>,
    requests: VecDeque<BindingRequest>,
}

impl Bindings {
    /// Asks `server` for the address of `local`.
    pub fn ask(&mut self, id: TransactionId, local: SocketAddr, server: SocketAddr, now: Instant) {
        if self.open.len() >= QUESTIONS_MAX || local.is_ipv4() != server.is_ipv4() {
            return;
        }
        self.open.insert(id, Question { local, server, sends: 0, next_at: now });
        self.handle_timeout(now);
    }

    /// The next request to send.
    pub fn poll_request(&mut self) -> Option<BindingRequest> {
        self.requests.pop_front()
    }

    /// Takes a datagram that came to `local`: our address, where it answers a question asked there.
    /// `None` is a datagram that is not for us.
    pub fn handle(&mut self, local: SocketAddr, from: SocketAddr, bytes: &[u8]) -> Option<Mapped> {
        let message = Message::parse(bytes).ok()?;
        let question = self.open.get(&message.id)?;
        let is_answer = matches!(message.class, Class::Success | Class::Error);
        let is_ours = question.local == local && question.server == from && is_answer;
        if message.method != Method::Binding || !is_ours {
            return None;
        }
        self.open.remove(&message.id);
        let address = message.address(Attribute::XorMappedAddress);
        // Servers of RFC 3489 know only the plain one.
        let address = address.or_else(|| message.address(Attribute::MappedAddress));
        Some(Mapped { address: address.filter(|_| message.class == Class::Success) })
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.open.retain(|_, question| question.next_at > now || question.sends < SENDS_MAX);
        for (id, question) in &mut self.open {
            if question.next_at <= now {
                question.next_at = now + RTO * 2_u32.pow(question.sends);
                question.sends += 1;
                let bytes = Builder::new(Method::Binding, Class::Request, *id).finish(None);
                let Question { local, server, .. } = *question;
                self.requests.push_back(BindingRequest { local, server, bytes });
            }
        }
    }

    /// When [`Bindings::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.values().map(|question| question.next_at).min()
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// Where others see the socket; `None`: the server did not say.
    pub address: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: TransactionId) -> Vec<u8> {
        Builder::new(Method::Binding, Class::Success, id)
            .address(Attribute::XorMappedAddress, "203.0.113.7:9".parse().unwrap())
            .finish(None)
    }

    #[test]
    fn an_answer_counts_once_and_only_from_who_was_asked() {
        let now = Instant::now();
        let local = "10.0.0.1:5000".parse().unwrap();
        let server = "192.0.2.1:3478".parse().unwrap();
        let mut bindings = Bindings::default();
        bindings.ask([1; 12], local, server, now);
        let request = bindings.poll_request().unwrap();
        assert_eq!((request.local, request.server), (local, server));
        let stranger = "192.0.2.2:3478".parse().unwrap();
        assert_eq!(bindings.handle(local, stranger, &answer([1; 12])), None);
        assert_eq!(bindings.handle(local, server, &answer([2; 12])), None);
        let mapped = bindings.handle(local, server, &answer([1; 12])).unwrap();
        assert_eq!(mapped.address, Some("203.0.113.7:9".parse().unwrap()));
        assert_eq!(bindings.handle(local, server, &answer([1; 12])), None);
    }

    #[test]
    fn a_silent_server_is_asked_four_times() {
        let mut now = Instant::now();
        let mut bindings = Bindings::default();
        let local = "10.0.0.1:5000".parse().unwrap();
        bindings.ask([1; 12], local, "192.0.2.1:3478".parse().unwrap(), now);
        let mut sends = 0;
        while let Some(at) = bindings.poll_timeout() {
            sends += std::iter::from_fn(|| bindings.poll_request()).count();
            now = now.max(at);
            bindings.handle_timeout(now);
        }
        assert_eq!(sends, 4);
    }
}
