//! The bridge between the layers: what MONEY wants done, on its way to the chain and to the relay.

use std::{sync::Arc, time::Duration};

use chain_types::{AccountId, BlockDelta, SignedVoucher};
use crossbeam_channel::{
    Receiver as CommandReceiver, RecvTimeoutError, Sender, TrySendError, bounded,
};
use sfu::ports::{Gate, SessionKey, SlotId};

use super::{Bus, Receiver, SutantraEvent};
use crate::{chain::BlockchainState, ports::Outlets};

/// Commands that wait for the submitter; beyond it a redeem is refused and comes again later, a
/// block is replaced by a resynchronisation.
pub const BLOCKCHAIN_COMMANDS_MAX: usize = 1024;
/// Commands that wait for the relay's outlets, which take each at once. Beyond it the decision
/// thread waits: a gate that should close is never forgotten.
pub const STREAMING_COMMANDS_MAX: usize = 65_536;

/// After so long without a command, gates that found a full ring are handed over again.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(20);

/// What the submitter of transactions is told.
#[derive(Debug, Clone)]
pub enum BlockchainCommand {
    /// Redeem these vouchers of one payee, at most [`chain_types::params::REDEEM_ENTRIES_MAX`], all
    /// of them synced to disk.
    Redeem {
        /// Who is paid by all of them.
        payee: AccountId,
        /// Newest of their lanes.
        entries: Vec<SignedVoucher>,
    },
    /// A block was committed.
    Block {
        /// What it changed.
        delta: Arc<BlockDelta>,
        /// The state behind it.
        state: Arc<BlockchainState>,
    },
    /// Blocks were missed; this is the state now.
    Resynchronised(Arc<BlockchainState>),
}

/// What the relay is told; the same as the methods of [`Outlets`].
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are those of the arguments there")]
pub enum StreamingCommand {
    /// [`Outlets::set_gate`].
    Gate { slot: SlotId, gate: Gate },
    /// [`Outlets::send`].
    Send { session: SessionKey, frame: Vec<u8> },
    /// [`Outlets::close`].
    Close { session: SessionKey, last_frame: Vec<u8> },
}

/// Carries transactions to the chain and gates to the relay, and hears what happened (R26).
#[derive(Debug)]
pub struct EventBridge {
    /// To the submitter.
    pub blockchain_tx: Sender<BlockchainCommand>,
    /// To the relay's outlets.
    pub streaming_tx: Sender<StreamingCommand>,
    /// From the bus.
    pub event_rx: Receiver<SutantraEvent>,
}

/// Where the commands of an [`EventBridge`] come out.
#[derive(Debug)]
pub struct BridgeEnds {
    /// For the submitter.
    pub blockchain_rx: CommandReceiver<BlockchainCommand>,
    /// For [`deliver`].
    pub streaming_rx: CommandReceiver<StreamingCommand>,
}

/// A command to the chain did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BridgeError {
    /// [`BLOCKCHAIN_COMMANDS_MAX`] wait already: the command comes again later.
    #[error("the submitter of transactions is behind")]
    Full,
    /// There is no submitter any more.
    #[error("the submitter of transactions has ended")]
    Ended,
}

impl EventBridge {
    /// A bridge that listens to `bus`, and the ends of its two queues.
    pub fn new(bus: &Bus<SutantraEvent>) -> (Self, BridgeEnds) {
        let (blockchain_tx, blockchain_rx) = bounded(BLOCKCHAIN_COMMANDS_MAX);
        let (streaming_tx, streaming_rx) = bounded(STREAMING_COMMANDS_MAX);
        let bridge = Self { blockchain_tx, streaming_tx, event_rx: bus.subscribe() };
        (bridge, BridgeEnds { blockchain_rx, streaming_rx })
    }

    /// Hands a command to the submitter, at once or not at all.
    ///
    /// # Errors
    /// See [`BridgeError`]; the caller keeps what has to come again.
    pub fn to_chain(&self, command: BlockchainCommand) -> Result<(), BridgeError> {
        self.blockchain_tx.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => BridgeError::Full,
            TrySendError::Disconnected(_) => BridgeError::Ended,
        })
    }

    fn to_relay(&self, command: StreamingCommand) {
        // An end that is gone is a relay that is gone, with all its gates.
        let _ = self.streaming_tx.send(command);
    }
}

impl Outlets for EventBridge {
    fn set_gate(&mut self, slot: SlotId, gate: Gate) {
        self.to_relay(StreamingCommand::Gate { slot, gate });
    }

    fn send(&mut self, session: SessionKey, frame: Vec<u8>) {
        self.to_relay(StreamingCommand::Send { session, frame });
    }

    fn close(&mut self, session: SessionKey, last_frame: Vec<u8>) {
        self.to_relay(StreamingCommand::Close { session, last_frame });
    }
}

/// Takes commands to the relay's outlets, in order, until the bridge is dropped.
pub fn deliver(commands: &CommandReceiver<StreamingCommand>, outlets: &mut dyn Outlets) {
    loop {
        match commands.recv_timeout(FLUSH_INTERVAL) {
            Ok(StreamingCommand::Gate { slot, gate }) => outlets.set_gate(slot, gate),
            Ok(StreamingCommand::Send { session, frame }) => outlets.send(session, frame),
            Ok(StreamingCommand::Close { session, last_frame }) => {
                outlets.close(session, last_frame);
            }
            Err(RecvTimeoutError::Timeout) => outlets.flush(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Outlets for Told {
        fn set_gate(&mut self, slot: SlotId, gate: Gate) {
            self.0.push(format!("gate {} open={}", slot.index, gate.open));
        }
        fn send(&mut self, session: SessionKey, frame: Vec<u8>) {
            self.0.push(format!("send {} {frame:?}", session.0));
        }
        fn close(&mut self, session: SessionKey, last_frame: Vec<u8>) {
            self.0.push(format!("close {} {last_frame:?}", session.0));
        }
    }

    /// R26
    #[test]
    fn what_enters_the_bridge_for_the_relay_leaves_it_in_order() {
        let (mut bridge, ends) = EventBridge::new(&Bus::new());
        let slot = SlotId { shard: 0, index: 7, generation: 1 };
        bridge.set_gate(slot, Gate::OPEN);
        bridge.send(SessionKey(3), vec![1]);
        bridge.set_gate(slot, Gate::CLOSED);
        bridge.close(SessionKey(3), vec![2]);
        drop(bridge);
        let mut told = Told::default();
        deliver(&ends.streaming_rx, &mut told);
        assert_eq!(told.0, ["gate 7 open=true", "send 3 [1]", "gate 7 open=false", "close 3 [2]"]);
    }

    /// R26
    #[test]
    fn a_submitter_that_is_behind_or_gone_is_said_so_and_blocks_nobody() {
        let (bridge, ends) = EventBridge::new(&Bus::new());
        let redeem = || BlockchainCommand::Redeem { payee: AccountId([2; 32]), entries: vec![] };
        for _ in 0..BLOCKCHAIN_COMMANDS_MAX {
            assert_eq!(bridge.to_chain(redeem()), Ok(()));
        }
        assert_eq!(bridge.to_chain(redeem()), Err(BridgeError::Full));
        drop(ends);
        assert_eq!(bridge.to_chain(redeem()), Err(BridgeError::Ended));
    }

    /// R26
    #[test]
    fn the_bridge_hears_what_is_published() {
        let bus = Bus::new();
        let (bridge, _ends) = EventBridge::new(&bus);
        let event = SutantraEvent::ChannelClosing { channel_id: chain_types::ChannelId([1; 32]) };
        bus.publish(event.clone());
        assert_eq!(bridge.event_rx.try_recv(), Some(super::super::Received::Value(event)));
    }
}
