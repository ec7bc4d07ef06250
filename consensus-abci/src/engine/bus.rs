//! Committed blocks to whoever follows the chain: bounded queues, a slow reader is let go.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tendermint_proto::v0_38::abci::ResponseFinalizeBlock;
use tendermint_proto::v0_38::types as pb;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Most subscribers; one more is refused.
pub const BLOCK_SUBSCRIBERS_MAX: usize = 256;

/// A block whose state is durable.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedBlock {
    pub height: u64,
    pub block_id: pb::BlockId,
    pub block: pb::Block,
    pub results: ResponseFinalizeBlock,
}

/// Follows the chain from the next block on.
#[derive(Debug)]
pub struct BlockSubscription {
    receiver: Receiver<Arc<CommittedBlock>>,
    lagged: Arc<AtomicBool>,
}

/// Why no further block comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionEnd {
    /// Subscribe again and read what was missed from the store.
    #[error("the subscriber was too slow and was let go")]
    Lagged,
    #[error("the engine stopped")]
    Stopped,
}

impl BlockSubscription {
    /// The next block. Blocks that were queued before the end still come.
    pub async fn recv(&mut self) -> Result<Arc<CommittedBlock>, SubscriptionEnd> {
        self.receiver.recv().await.ok_or_else(|| self.end())
    }

    /// [`BlockSubscription::recv`] for a thread outside of any runtime.
    pub fn blocking_recv(&mut self) -> Result<Arc<CommittedBlock>, SubscriptionEnd> {
        self.receiver.blocking_recv().ok_or_else(|| self.end())
    }

    /// The next block if it is there; `None` while there is none.
    pub fn try_recv(&mut self) -> Result<Option<Arc<CommittedBlock>>, SubscriptionEnd> {
        match self.receiver.try_recv() {
            Ok(block) => Ok(Some(block)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.end()),
        }
    }

    fn end(&self) -> SubscriptionEnd {
        match self.lagged.load(Ordering::Acquire) {
            true => SubscriptionEnd::Lagged,
            false => SubscriptionEnd::Stopped,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct BlockBus {
    subscribers: Mutex<Subscribers>,
}

#[derive(Debug, Default)]
struct Subscribers {
    closed: bool,
    senders: Vec<(Sender<Arc<CommittedBlock>>, Arc<AtomicBool>)>,
}

impl BlockBus {
    /// A subscription with room for `capacity` blocks; `None` when there are too many or the engine
    /// stopped.
    pub(crate) fn subscribe(&self, capacity: usize) -> Option<BlockSubscription> {
        let mut subscribers = self.subscribers.lock().expect("no subscriber code runs in here");
        subscribers.senders.retain(|(sender, _)| !sender.is_closed());
        if subscribers.closed || subscribers.senders.len() >= BLOCK_SUBSCRIBERS_MAX {
            return None;
        }
        let (sender, receiver) = channel(capacity.max(1));
        let lagged = Arc::new(AtomicBool::new(false));
        subscribers.senders.push((sender, lagged.clone()));
        Some(BlockSubscription { receiver, lagged })
    }

    pub(crate) fn publish(&self, block: &Arc<CommittedBlock>) {
        let mut subscribers = self.subscribers.lock().expect("no subscriber code runs in here");
        subscribers.senders.retain(|(sender, lagged)| match sender.try_send(block.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                lagged.store(true, Ordering::Release);
                false
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }

    /// Ends every subscription.
    pub(crate) fn close(&self) {
        let mut subscribers = self.subscribers.lock().expect("no subscriber code runs in here");
        subscribers.closed = true;
        subscribers.senders.clear();
    }
}
