//! What the coordinator asks of its host: who may enter a stream's room, who hears of it, and what
//! the host knows of other nodes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use crate::identity::PublicKey;

/// A future of a port, boxed because ports are values.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Somebody who wants into a stream's room.
#[derive(Debug, Clone)]
pub struct Applicant {
    /// `s:{stream}`.
    pub room: String,
    pub node_id: String,
    /// The key that signed the join, where one did.
    pub key: Option<PublicKey>,
    /// `invite` of the join, else a bearer token that is no session: the host knows its form.
    pub token: Option<String>,
}

/// Why an applicant stays outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// With the stream's terms as JSON.
    PaymentRequired(Value),
    /// With a sentence that says what to do next.
    Forbidden(String),
}

/// Decides who may enter a stream's room.
pub trait Admission: Send + Sync {
    fn admit(&self, applicant: Applicant) -> PortFuture<'_, Result<(), Refused>>;
}

/// Hears who came into and left a stream's room, in the order in which it happened: the room is
/// locked meanwhile, so this must not block, nor ask the coordinator.
pub trait MediaControl: Send + Sync {
    fn joined(&self, room: &str, node_id: &str);
    fn left(&self, room: &str, node_id: &str);
}

/// What `/nodes` says about other nodes.
pub trait Directory: Send + Sync {
    /// URLs to begin with, beside those of the options.
    fn seeds(&self) -> Vec<String>;
    /// Nodes that this one called.
    fn outbound(&self) -> Vec<Value>;
    /// Nodes that called this one.
    fn inbound(&self) -> Vec<Value>;
}

/// The three ports. The default: no streams, nobody to tell, no other nodes.
#[derive(Clone)]
pub struct Ports {
    pub admission: Arc<dyn Admission>,
    pub media: Arc<dyn MediaControl>,
    pub directory: Arc<dyn Directory>,
}

impl Default for Ports {
    fn default() -> Self {
        Self { admission: Arc::new(Alone), media: Arc::new(Alone), directory: Arc::new(Alone) }
    }
}

/// A coordinator without a relay beside it.
struct Alone;

impl Admission for Alone {
    fn admit(&self, _: Applicant) -> PortFuture<'_, Result<(), Refused>> {
        let why = "this coordinator has no streams; join another room, or ask a node that relays";
        Box::pin(std::future::ready(Err(Refused::Forbidden(why.to_owned()))))
    }
}

impl MediaControl for Alone {
    fn joined(&self, _: &str, _: &str) {}
    fn left(&self, _: &str, _: &str) {}
}

impl Directory for Alone {
    fn seeds(&self) -> Vec<String> {
        Vec::new()
    }
    fn outbound(&self) -> Vec<Value> {
        Vec::new()
    }
    fn inbound(&self) -> Vec<Value> {
        Vec::new()
    }
}
