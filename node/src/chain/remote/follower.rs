//! The thread that follows: one verified header after the other, and the records between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chain_types::{BlockDelta, ChainEvent, StateChange};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use light::{LightBlock, LightClient, LightError, Provider};
use tendermint::{Time, block::Height};

use super::{
    blocks::{self, Unknown},
    endpoint::Endpoint,
    kept,
    records::{self, Mirror},
};

/// Blocks that are made up one by one after an outage; beyond it all records are read anew.
const GAP_BLOCKS_MAX: u64 = 64;
/// Blocks that may be waiting for a follower; one that is slower resynchronises.
const DELTAS_MAX: usize = 1024;
/// Between two attempts, unless a watcher rings.
const PATIENCE: Duration = Duration::from_millis(250);
/// The primary is left when another one is ahead of it for so long.
const STUCK: Duration = Duration::from_secs(2);
/// What is in the way for less is nobody's concern.
const TROUBLE: Duration = Duration::from_secs(1);
/// Trusted headers are written this often: losing some costs one skip more.
const KEEP_INTERVAL: Duration = Duration::from_secs(30);

/// What the thread knows and others read.
pub(super) struct Shared {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    mirror: Option<Mirror>,
    subscribers: Vec<Sender<Arc<BlockDelta>>>,
    halted: Option<String>,
    note: Option<String>,
}

impl Shared {
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { endpoints, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the records, if there are any yet.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Mirror) -> T) -> Option<T> {
        self.inner().mirror.as_ref().map(look)
    }

    /// Reads the records, and every block after them.
    pub(super) fn follow<T>(
        &self,
        look: impl FnOnce(&Mirror) -> T,
    ) -> Option<(T, Receiver<Arc<BlockDelta>>)> {
        let mut inner = self.inner();
        let read = look(inner.mirror.as_ref()?);
        let (sender, deltas) = bounded(DELTAS_MAX);
        inner.subscribers.push(sender);
        Some((read, deltas))
    }

    /// Every block from now on.
    pub(super) fn blocks(&self) -> Receiver<Arc<BlockDelta>> {
        let (sender, deltas) = bounded(DELTAS_MAX);
        self.inner().subscribers.push(sender);
        deltas
    }

    pub(super) fn halted(&self) -> Option<String> {
        self.inner().halted.clone()
    }

    /// Why it does not go on right now.
    pub(super) fn note(&self) -> Option<String> {
        self.inner().note.clone()
    }

    fn set_note(&self, note: Option<String>) {
        let mut inner = self.inner();
        if inner.note != note {
            match &note {
                Some(sentence) => tracing::warn!("the chain is not followed: {sentence}"),
                None => tracing::info!("the chain is followed"),
            }
            inner.note = note;
        }
    }

    /// All anew: whoever followed the old records begins again.
    fn replace(&self, mirror: Mirror) {
        let mut inner = self.inner();
        inner.mirror = Some(mirror);
        inner.subscribers.clear();
    }

    fn publish(&self, delta: BlockDelta, keys: Vec<(Vec<u8>, StateChange)>, app_hash: Vec<u8>) {
        let mut inner = self.inner();
        let Some(mirror) = inner.mirror.as_mut() else { return };
        (mirror.height, mirror.time_ms, mirror.app_hash) = (delta.height, delta.time_ms, app_hash);
        for (key, change) in keys {
            mirror.put(key, change);
        }
        let delta = Arc::new(delta);
        inner.subscribers.retain(|subscriber| match subscriber.try_send(Arc::clone(&delta)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!(height = delta.height, "a follower of the chain lags and is let go");
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }

    fn halt(&self, sentence: Option<String>) {
        if let Some(sentence) = &sentence {
            tracing::error!("the chain is followed no longer: {sentence}");
        }
        self.inner().halted = sentence;
    }
}

/// The thread's own.
pub(super) struct Follower {
    shared: Arc<Shared>,
    client: LightClient,
    bell: Receiver<()>,
    ended: Receiver<Infallible>,
    home: PathBuf,
    kept_at: Instant,
    /// Index of the endpoint whose headers are followed.
    primary: usize,
    /// Since when another one is ahead of it.
    behind_since: Option<Instant>,
    /// Since when nothing could be done that should be.
    failing_since: Option<Instant>,
    /// Keeps the bell: it must not end by itself.
    _ring: Sender<()>,
    /// The header whose app hash the mirror stands under; `None`: there is no mirror.
    tip: Option<LightBlock>,
    /// By endpoint: up to which height it told what blocks did.
    told_to: Vec<u64>,
    /// By endpoint: whether its list of keys is in the mirror.
    is_listed: Vec<bool>,
}

/// Why a step was not made.
enum Stop {
    /// Nothing new yet.
    Wait,
    Unknown(Unknown),
    Light(LightError),
}

impl From<Unknown> for Stop {
    fn from(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl From<LightError> for Stop {
    fn from(error: LightError) -> Self {
        Self::Light(error)
    }
}

impl Follower {
    pub(super) fn new(
        shared: Arc<Shared>,
        client: LightClient,
        (ring, bell): (Sender<()>, Receiver<()>),
        ended: Receiver<Infallible>,
        home: PathBuf,
    ) -> Self {
        let count = shared.endpoints.len();
        Self {
            shared,
            client,
            bell,
            ended,
            home,
            kept_at: Instant::now(),
            primary: 0,
            behind_since: None,
            failing_since: None,
            _ring: ring,
            tip: None,
            told_to: vec![0; count],
            is_listed: vec![false; count],
        }
    }

    pub(super) fn run(mut self) {
        while self.ended.try_recv() != Err(TryRecvError::Disconnected) {
            let step = match self.tip.clone() {
                None => self.synchronise(),
                Some(tip) => self.step(&tip),
            };
            match step {
                Ok(()) => {
                    self.failing_since = None;
                    self.shared.set_note(None);
                    self.keep(false);
                    continue;
                }
                Err(Stop::Wait) => {}
                Err(Stop::Unknown(Unknown(sentence))) => self.note(sentence),
                Err(Stop::Light(error)) => {
                    if self.blame(error) {
                        break;
                    }
                }
            }
            // A ring is as good as the time.
            let _ = self.bell.recv_timeout(PATIENCE);
        }
        self.keep(true);
    }

    fn keep(&mut self, now: bool) {
        if now || self.kept_at.elapsed() > KEEP_INTERVAL {
            self.kept_at = Instant::now();
            if let Err(error) = kept::save(&self.home, &self.client.keep()) {
                tracing::warn!(%error, "the trusted headers cannot be written");
            }
        }
    }

    /// Endpoints that answer, the primary first.
    fn choose(&mut self) -> Result<Vec<Arc<Endpoint>>, Unknown> {
        let all = &self.shared.endpoints;
        if !all[self.primary].is_up() {
            let others = (1..all.len()).map(|step| (self.primary + step) % all.len());
            let Some(next) = others.into_iter().find(|index| all[*index].is_up()) else {
                let troubles: Vec<String> =
                    all.iter().filter_map(|endpoint| endpoint.trouble()).collect();
                return Err(Unknown(format!(
                    "none of the chain's endpoints can be asked ({})",
                    troubles.join("; ")
                )));
            };
            let (left, taken) = (all[self.primary].url(), all[next].url());
            tracing::warn!("the chain's endpoint {left} is left, {taken} is followed");
            self.primary = next;
        }
        let primary = &all[self.primary];
        let others = all.iter().enumerate();
        let others = others.filter(|(index, endpoint)| *index != self.primary && endpoint.is_up());
        let chosen: Vec<Arc<Endpoint>> =
            std::iter::once(primary).chain(others.map(|(_, other)| other)).cloned().collect();
        let providers = chosen.iter().map(|endpoint| Arc::clone(endpoint) as Arc<dyn Provider>);
        self.client.set_providers(providers.collect());
        Ok(chosen)
    }

    fn rotate(&mut self) {
        let count = self.shared.endpoints.len();
        let others = (1..count).map(|step| (self.primary + step) % count);
        if let Some(next) = others.into_iter().find(|next| self.shared.endpoints[*next].is_up()) {
            self.primary = next;
        }
        self.behind_since = None;
    }

    /// Draws the consequence of a header that is not believed; true: nothing goes on.
    fn blame(&mut self, error: LightError) -> bool {
        let sentence = error.to_string();
        match &error {
            LightError::Lying { provider, .. } | LightError::ChainId { provider, .. } => {
                let liar = self.shared.endpoints.iter().find(|one| one.url() == provider);
                if let Some(liar) = liar {
                    liar.drop_for(&sentence);
                }
            }
            LightError::Diverged { .. } => {
                self.shared.halt(Some(sentence));
                return true;
            }
            LightError::Expired { .. } => {
                // A clock that is set right mends it.
                if self.shared.halted().is_none() {
                    self.shared.halt(Some(sentence));
                }
                return false;
            }
            LightError::FromTheFuture { .. }
            | LightError::Behind { .. }
            | LightError::Unanswered(_)
            | LightError::TooFar { .. }
            | LightError::OtherHeader { .. }
            | LightError::OtherGenesis { .. }
            | LightError::Unconfirmed { .. } => self.rotate(),
        }
        self.note(sentence);
        false
    }

    /// Says what is in the way, when it is there for some time.
    fn note(&mut self, sentence: String) {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() > TROUBLE {
            self.shared.set_note(Some(sentence));
        }
    }

    fn verify(&mut self, height: Option<u64>) -> Result<LightBlock, Stop> {
        let height = height.map(|height| {
            Height::try_from(height).expect("one after a verified height is a height")
        });
        let block = self.client.verify_to(height, Time::now())?;
        if self.shared.halted().is_some() {
            self.shared.halt(None);
        }
        Ok(block)
    }

    /// All records, at the newest height that a header stands behind.
    fn synchronise(&mut self) -> Result<(), Stop> {
        let chosen = self.choose()?;
        let tip = self.verify(None)?;
        let height = tip.height().value() - 1;
        if height == 0 {
            // The second block's header is the first that stands for a block's state.
            return Err(Stop::Wait);
        }
        let block = self.verify(Some(height))?;
        let (mut keys, mut failure) = (BTreeSet::new(), None);
        self.is_listed.fill(false);
        for endpoint in &chosen {
            let listed = blocks::keys(endpoint)
                .and_then(|listed| Ok((listed, blocks::changed_after(endpoint, height)?)));
            match listed {
                Ok((listed, changed)) => {
                    keys.extend(listed.into_iter().chain(changed));
                    let at = self.index(endpoint);
                    self.is_listed[at] = true;
                }
                Err(error) => failure = Some(error),
            }
        }
        if let (Some(failure), false) = (failure, self.is_listed.contains(&true)) {
            return Err(failure.into());
        }
        let app_hash = blocks::app_hash(&tip);
        let keys: Vec<Vec<u8>> = keys.into_iter().collect();
        let values = blocks::values(&chosen, &keys, height, &app_hash)?;
        let mut mirror = Mirror::new(height, unix_ms(&block), app_hash);
        for (key, value) in keys.into_iter().zip(values) {
            // Listed and not there: newer than this height, or invented.
            let Some(value) = value else { continue };
            if let Some(change) = records::change(&key, Some(&value)).map_err(Unknown)? {
                mirror.put(key, change);
            }
        }
        if mirror.params().is_none() {
            return Err(Unknown("the chain's parameters are on no endpoint's list".into()).into());
        }
        tracing::info!(height, records = mirror.len(), "the chain's records are read and proved");
        self.shared.replace(mirror);
        self.told_to.fill(height);
        self.tip = Some(tip);
        Ok(())
    }

    fn index(&self, endpoint: &Arc<Endpoint>) -> usize {
        let all = &self.shared.endpoints;
        all.iter().position(|one| Arc::ptr_eq(one, endpoint)).expect("it was chosen among them")
    }

    /// The block of `tip`, as soon as the header after it stands for its state.
    fn step(&mut self, tip: &LightBlock) -> Result<(), Stop> {
        let chosen = self.choose()?;
        let (height, next) = (tip.height().value(), tip.height().value() + 1);
        self.await_header(&chosen, next)?;
        if chosen[0].height() > next + GAP_BLOCKS_MAX {
            // So it says; the header tells.
            let newest = self.verify(None)?;
            if newest.height().value() > next + GAP_BLOCKS_MAX {
                tracing::info!(height, newest = %newest.height(), "far behind: all records anew");
                self.tip = None;
                return Ok(());
            }
        }
        let after = self.verify(Some(next))?;
        let Changes { keys, told, told_to, is_listed } = self.ask_what_changed(&chosen, height)?;
        let mut results = Err(Unknown("no endpoint tells the results of the block".to_owned()));
        for (endpoint, told) in &told {
            results = blocks::results(endpoint, told, tip, &after);
            if results.is_ok() {
                break;
            }
        }
        let results = results?;
        let app_hash = blocks::app_hash(&after);
        let keys: Vec<Vec<u8>> = keys.into_iter().collect();
        let values = blocks::values(&chosen, &keys, height, &app_hash)?;
        let mut changed = BTreeMap::new();
        for (key, value) in keys.into_iter().zip(values) {
            let change = records::change(&key, value.as_deref()).map_err(Unknown)?;
            let is_new = |change: &StateChange| {
                self.shared.read(|mirror| mirror.differs(&key, change)).unwrap_or(true)
            };
            if let Some(change) = change.filter(is_new) {
                changed.insert(key, change);
            }
        }
        let events = events(&told, &changed);
        let delta = BlockDelta {
            height,
            time_ms: unix_ms(tip),
            changes: changed.values().cloned().collect(),
            events,
            results,
        };
        self.shared.publish(delta, changed.into_iter().collect(), app_hash);
        (self.told_to, self.is_listed) = (told_to, is_listed);
        self.tip = Some(after);
        Ok(())
    }

    /// Whether the primary has the header; leaves it when others are far ahead.
    fn await_header(&mut self, chosen: &[Arc<Endpoint>], next: u64) -> Result<(), Stop> {
        if chosen[0].height() >= next {
            self.behind_since = None;
            return Ok(());
        }
        if chosen.iter().any(|other| other.height() >= next) {
            let since = *self.behind_since.get_or_insert_with(Instant::now);
            if since.elapsed() > STUCK {
                tracing::warn!("the chain's endpoint {} is behind the others", chosen[0].url());
                self.rotate();
            }
        }
        Err(Stop::Wait)
    }

    /// Asks each endpoint for this block, and for blocks before about which it had no answer: what
    /// one leaves out another may tell, also later.
    fn ask_what_changed(&self, chosen: &[Arc<Endpoint>], height: u64) -> Result<Changes, Unknown> {
        let mut changes = Changes {
            keys: BTreeSet::new(),
            told: Vec::new(),
            told_to: self.told_to.clone(),
            is_listed: self.is_listed.clone(),
        };
        let mut failure = Unknown("nobody tells what a block did".to_owned());
        for endpoint in chosen {
            let index = self.index(endpoint);
            let mut from = (self.told_to[index] + 1).min(height);
            if height - from > GAP_BLOCKS_MAX {
                // It was gone for long: its list has what those blocks changed.
                changes.is_listed[index] = false;
                from = height;
            }
            for asked in from..=height {
                match blocks::told(endpoint, asked) {
                    Ok(answer) => changes.take(endpoint, index, (asked, asked == height), answer),
                    Err(error) => {
                        failure = error;
                        break;
                    }
                }
            }
            if !changes.is_listed[index]
                && let Ok(listed) = blocks::keys(endpoint)
            {
                changes.is_listed[index] = true;
                let is_new =
                    |key: &Vec<u8>| self.shared.read(|mirror| !mirror.has(key)).unwrap_or(true);
                changes.keys.extend(listed.into_iter().filter(is_new));
            }
        }
        match changes.told.is_empty() {
            true => Err(failure),
            false => Ok(changes),
        }
    }
}

/// What endpoints say that blocks changed; not more than hints.
struct Changes {
    keys: BTreeSet<Vec<u8>>,
    /// Of the block in question.
    told: Vec<(Arc<Endpoint>, blocks::Told)>,
    /// To be [`Follower::told_to`] when the values are proved.
    told_to: Vec<u64>,
    /// So too.
    is_listed: Vec<bool>,
}

impl Changes {
    fn take(
        &mut self,
        endpoint: &Arc<Endpoint>,
        index: usize,
        (height, is_the_one): (u64, bool),
        answer: blocks::Told,
    ) {
        self.told_to[index] = height;
        self.keys.extend(answer.keys.iter().cloned());
        if is_the_one {
            let subjects = answer.events.iter().filter_map(ChainEvent::subject);
            self.keys.extend(subjects.map(|key| key.to_bytes()));
            self.told.push((Arc::clone(endpoint), answer));
        }
    }
}

/// What was told of events and stands behind a record that changed. Access that was taken back is
/// always told: its record is proved gone.
fn events(
    told: &[(Arc<Endpoint>, blocks::Told)],
    changed: &BTreeMap<Vec<u8>, StateChange>,
) -> Vec<ChainEvent> {
    let mut events: Vec<ChainEvent> = Vec::new();
    // Who was caught lying since then says nothing.
    for (_, told) in told.iter().filter(|(endpoint, _)| endpoint.is_up()) {
        // One endpoint's list may say the same twice, and mean it.
        let before = events.clone();
        let is_backed = |event: &&ChainEvent| {
            event.subject().is_some_and(|key| changed.contains_key(&key.to_bytes()))
        };
        let new = told.events.iter().filter(is_backed).filter(|event| !before.contains(event));
        events.extend(new.cloned());
    }
    for change in changed.values() {
        if let StateChange::Access { stream, viewer, record: None } = *change {
            let revoked = ChainEvent::AccessRevoked { stream, viewer };
            if !events.contains(&revoked) {
                events.push(revoked);
            }
        }
    }
    events
}

/// A block's time, unix ms.
fn unix_ms(block: &LightBlock) -> u64 {
    let nanos = block.time().unix_timestamp_nanos();
    u64::try_from(nanos / 1_000_000).unwrap_or(0)
}
