//! One RPC endpoint of the chain: asked by everybody, watched by a thread of its own.
//!
//! Only the watcher finds out that an endpoint is back, so that no one else ever waits for one that
//! is gone.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use comet::rpc::{Client, NEW_BLOCK_HEADER, RpcError, RpcUrl, Subscription, Update};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use light::{LightBlock, Provider, ProviderError};
use tendermint::{
    Hash,
    block::Height,
    validator::{Info, Set},
};

use crate::metrics::EndpointSight;

/// A call may take so long; whoever waits longer serves by old books.
const CALL_WAIT: Duration = Duration::from_secs(4);
/// How long an endpoint that lied is not asked. Asking a liar costs time and nothing else, since all
/// is proved: it is short, so that one that was mended is not missed for long.
const BAN: Duration = Duration::from_secs(60);
/// An endpoint that is gone is looked for this often: what waits for it must go on within a second.
const LOOK_GONE: Duration = Duration::from_millis(300);
/// One that tells of no blocks by itself is asked this often.
const LOOK_SILENT: Duration = Duration::from_millis(500);
/// One that does, only to see that it lives.
const LOOK_SUBSCRIBED: Duration = Duration::from_secs(3);
/// Headers that may wait for the watcher.
const HEADERS_MAX: usize = 64;
/// Validator sets that are remembered: they change rarely, and every header names two.
const SETS_MAX: usize = 4;

/// An endpoint and what is known about it.
pub(super) struct Endpoint {
    client: Client,
    url: RpcUrl,
    standing: Mutex<Standing>,
    sets: Mutex<VecDeque<(Hash, Vec<Info>)>>,
}

#[derive(Default)]
struct Standing {
    is_up: bool,
    /// The newest block that it told of; it may lie.
    height: u64,
    answer_seconds: f64,
    failures: u64,
    lies: u64,
    banned_until: Option<Instant>,
    /// What went wrong last.
    trouble: Option<String>,
}

impl Standing {
    fn is_banned(&self) -> bool {
        self.banned_until.is_some_and(|until| until > Instant::now())
    }
}

impl Endpoint {
    pub(super) fn new(url: RpcUrl) -> Self {
        let client = Client::with_timeout(url.clone(), CALL_WAIT);
        Self { client, url, standing: Mutex::default(), sets: Mutex::default() }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its address.
    pub(super) fn url(&self) -> &str {
        self.client.name()
    }

    /// For transactions in bulk.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it is to be asked now.
    pub(super) fn is_up(&self) -> bool {
        let standing = self.standing();
        standing.is_up && !standing.is_banned()
    }

    /// The newest height that it told of.
    pub(super) fn height(&self) -> u64 {
        self.standing().height
    }

    /// What is wrong with it, for people.
    pub(super) fn trouble(&self) -> Option<String> {
        self.standing().trouble.clone()
    }

    /// Answers that did not verify.
    #[cfg(test)]
    pub(super) fn lies(&self) -> u64 {
        self.standing().lies
    }

    /// For metrics.
    pub(super) fn sight(&self) -> EndpointSight {
        let is_up = self.is_up();
        let standing = self.standing();
        EndpointSight {
            is_up,
            height: standing.height,
            answer_seconds: standing.answer_seconds,
            failures: standing.failures,
            clock_ahead_seconds: None,
        }
    }

    /// Asks it.
    ///
    /// # Errors
    /// As the client's. One that does not answer, or answers nonsense, is not asked again before its
    /// watcher reached it.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Client) -> Result<T, RpcError>,
    ) -> Result<T, RpcError> {
        let asked = Instant::now();
        let answer = question(&self.client);
        let mut standing = self.standing();
        match &answer {
            Ok(_) | Err(RpcError::Refused { .. }) => {
                standing.is_up = true;
                standing.answer_seconds = asked.elapsed().as_secs_f64();
            }
            // Nonsense, such as a page that says that somebody works on it, is signed by nobody and
            // disproves nothing: it is no lie, and over when the next look finds it over.
            Err(
                error @ (RpcError::Unreachable { .. }
                | RpcError::Malformed { .. }
                | RpcError::TooLarge { .. }),
            ) => {
                standing.failures += 1;
                standing.is_up = false;
                standing.trouble = Some(error.to_string());
            }
        }
        answer
    }

    /// Does not ask it for a while: what it said cannot be true.
    pub(super) fn drop_for(&self, sentence: &str) {
        let mut standing = self.standing();
        // Its watcher looks on; that it lies still is no news.
        if !standing.is_banned() {
            let seconds = BAN.as_secs();
            tracing::error!("{sentence}; {} is not asked for {seconds} s", self.url());
            standing.lies += 1;
        }
        standing.banned_until = Some(Instant::now() + BAN);
        standing.trouble = Some(sentence.to_owned());
    }

    fn saw(&self, height: u64) {
        let mut standing = self.standing();
        standing.is_up = true;
        standing.height = height;
        // What is said of one that is banned stays said.
        if !standing.is_banned() {
            standing.trouble = None;
        }
    }

    /// Asks how far it is.
    fn probe(&self, chain_id: &str) {
        let was_gone = !self.standing().is_up;
        let Ok(status) = self.ask(Client::status) else { return };
        if status.chain_id != chain_id {
            let found = status.chain_id;
            self.drop_for(&format!(
                "{} follows the chain {found}, not {chain_id}: give an endpoint of {chain_id}",
                self.url()
            ));
            return;
        }
        if was_gone {
            tracing::info!(endpoint = self.url(), "the chain's endpoint answers");
        }
        self.saw(status.latest_height);
    }

    /// Watches it until `ended` ends; rings when there may be something to do.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn watch(
        self: &Arc<Self>,
        chain_id: &str,
        bell: &Sender<()>,
        ended: &Receiver<Infallible>,
    ) -> std::io::Result<()> {
        let headers = Subscription::start(&self.url, NEW_BLOCK_HEADER, HEADERS_MAX)?;
        let (endpoint, chain_id) = (Arc::clone(self), chain_id.to_owned());
        let (bell, ended) = (bell.clone(), ended.clone());
        let watch = move || {
            let mut is_subscribed = false;
            while ended.try_recv() != Err(TryRecvError::Disconnected) {
                let (is_up, is_banned) = {
                    let standing = endpoint.standing();
                    (standing.is_up, standing.is_banned())
                };
                let patience = match (is_up, is_subscribed) {
                    _ if is_banned => LOOK_SUBSCRIBED,
                    (false, _) => LOOK_GONE,
                    (true, false) => LOOK_SILENT,
                    (true, true) => LOOK_SUBSCRIBED,
                };
                match headers.updates().recv_timeout(patience) {
                    Ok(Update::Event(event)) => {
                        let height = &event["data"]["value"]["header"]["height"];
                        if let Some(height) = height.as_str().and_then(|text| text.parse().ok()) {
                            endpoint.saw(height);
                        }
                    }
                    Ok(Update::Connected) => {
                        is_subscribed = true;
                        endpoint.probe(&chain_id);
                    }
                    Ok(Update::Lost(_)) => {
                        is_subscribed = false;
                        endpoint.probe(&chain_id);
                    }
                    Err(RecvTimeoutError::Timeout) => endpoint.probe(&chain_id),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                // Full: it rings already.
                let _ = bell.try_send(());
            }
        };
        thread::Builder::new().name("chain-watch".to_owned()).spawn(watch)?;
        Ok(())
    }

    /// The validators whose hash a header names.
    fn validators(&self, hash: Hash, height: u64) -> Result<Vec<Info>, RpcError> {
        let sets = || self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = sets().iter().find(|(known, _)| *known == hash) {
            return Ok(known.clone());
        }
        let found = self.ask(|client| client.validators(height))?;
        // Another hash is the verifier's to complain about; only what fits is remembered.
        let is_sound = light::block::check_validators(&found).is_ok();
        if is_sound && Set::without_proposer(found.clone()).hash() == hash {
            let mut sets = sets();
            sets.push_front((hash, found.clone()));
            sets.truncate(SETS_MAX);
        }
        Ok(found)
    }

    fn fetch(&self, height: Option<u64>) -> Result<LightBlock, RpcError> {
        let signed = self.ask(|client| client.commit(height))?;
        let header = &signed.header;
        let height = header.height.value();
        let malformed = |reason: String| RpcError::Malformed {
            url: self.url().to_owned(),
            method: "commit".to_owned(),
            reason,
        };
        let next = height.checked_add(1).filter(|next| i64::try_from(*next).is_ok());
        let next = next.ok_or_else(|| malformed("a height without a next one".to_owned()))?;
        let validators = self.validators(header.validators_hash, height)?;
        let next_validators = self.validators(header.next_validators_hash, next)?;
        light::light_block(signed.header, signed.commit, validators, next_validators)
            .map_err(|error| malformed(error.to_string()))
    }
}

impl Provider for Endpoint {
    fn name(&self) -> &str {
        self.url()
    }

    fn light_block(&self, height: Option<Height>) -> Result<LightBlock, ProviderError> {
        self.fetch(height.map(|height| height.value())).map_err(|error| {
            let sentence = error.to_string();
            match error {
                RpcError::Malformed { .. } | RpcError::TooLarge { .. } => {
                    ProviderError::Malformed(sentence)
                }
                RpcError::Refused { .. } => ProviderError::Missing(sentence),
                RpcError::Unreachable { .. } => ProviderError::Unreachable(sentence),
            }
        })
    }
}
