//! An application that follows the chain's blocks, in its own way: another mempool, other hash seeds,
//! other options, deaths of its own.

use bytes::Bytes;
use consensus_abci::{
    app::{App, Options},
    application::Application,
};
use tendermint_proto::v0_38::abci::{
    RequestCheckTx, RequestFinalizeBlock, RequestInfo, RequestInitChain, RequestProcessProposal,
    response_offer_snapshot::Result as Offered, response_process_proposal::ProposalStatus,
};

use crate::{
    chance::Chance,
    finding::Finding,
    statesync::{apply, chunks_of, offer, snapshot_of, take},
    tap::Decided,
    world::Dir,
};

/// What of it is wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    None,
    /// It executes the transactions of a block in another order.
    Order,
    /// Its clock goes before, by a millisecond.
    Clock,
    /// It misses one transaction at the end of a block.
    Misses,
}

pub struct Replica {
    name: &'static str,
    dir: Dir,
    options: Options,
    chance: Chance,
    /// It dies again and again.
    is_mortal: bool,
    pub bug: Bug,
    app: Option<App>,
    pub height: u64,
}

impl Replica {
    pub fn new(name: &'static str, seed: u64, options: Options, is_mortal: bool) -> Self {
        let (dir, chance, bug) = (Dir::in_memory(), Chance::of(seed, name), Bug::None);
        let mut replica = Self { name, dir, options, chance, is_mortal, bug, app: None, height: 0 };
        replica.open();
        replica
    }

    fn open(&mut self) {
        // One application at a time has the directory.
        self.app = None;
        let app = App::open_with(self.dir.path(), self.options).expect("it was whole");
        self.app = Some(app);
    }

    fn app(&self) -> &App {
        self.app.as_ref().expect("it is open")
    }

    pub fn app_hash(&self) -> [u8; 32] {
        self.app().snapshot().head().expect("it has a state").app_hash
    }

    /// Begins with the genesis, perhaps twice.
    pub fn init(&mut self, genesis: RequestInitChain) {
        let first = self.app().init_chain(genesis.clone()).expect("a sound genesis");
        if self.is_mortal {
            self.open();
            let again = self.app().init_chain(genesis).expect("a sound genesis");
            assert_eq!(first, again, "asked again, the same");
        }
    }

    /// Begins with a snapshot of another's state, once it is made.
    pub fn join(&mut self, other: &App, height: u64) {
        let snapshot = snapshot_of(other, height);
        let chunks = chunks_of(other, &snapshot);
        let head = other.snapshot().head().expect("it has a state");
        assert_eq!(head.height, height, "it stands while it gives its state");
        if self.is_mortal {
            // Part of it came, and then the end.
            assert_eq!(offer(self.app(), &snapshot, &head.app_hash), Offered::Accept);
            if chunks.len() > 1 {
                apply(self.app(), 0, &chunks[0], "somebody");
            }
            self.open();
        }
        take(self.app(), &snapshot, &chunks, &head.app_hash);
        self.height = height;
    }

    /// Executes the next block, and compares what comes of it.
    pub fn follow(&mut self, decided: &Decided) -> Result<(), Finding> {
        let Decided { request, response } = decided;
        let (replica, height) = (self.name, self.height + 1);
        self.propose(request, height)?;
        let request = self.understood(request);
        let mut ours = self
            .app()
            .finalize_block(request.clone())
            .map_err(|error| Finding::Halt(format!("{replica} at {height}: {error}")))?;
        if self.is_mortal && self.chance.once_in(3) {
            // Nothing of it was durable: the block is executed again.
            self.open();
            let info = self.app().info(RequestInfo::default()).expect("it is open");
            assert_eq!(info.last_block_height, height as i64 - 1, "nothing before the commit");
            let again = self.app().finalize_block(request).expect("as before");
            if again != ours {
                return Err(Finding::OtherAnswer { height });
            }
            ours = again;
        }
        let differs = |what| Err(Finding::Diverged { replica, height, what });
        if ours.tx_results != response.tx_results {
            return differs("results");
        }
        if ours.validator_updates != response.validator_updates {
            return differs("validators");
        }
        if ours.app_hash != response.app_hash {
            return differs("app hash");
        }
        if ours != *response {
            return differs("answer");
        }
        self.app()
            .commit()
            .map_err(|error| Finding::Halt(format!("{replica} at {height}: {error}")))?;
        self.height = height;
        if self.is_mortal && self.chance.once_in(4) {
            self.open();
        }
        let head = self.app().snapshot().head().expect("it has a state");
        if (head.height, &head.app_hash[..]) != (height, &response.app_hash[..]) {
            return differs("state");
        }
        Ok(())
    }

    /// A replica votes for what the node proposed, and for nothing that is not signed.
    fn propose(&mut self, request: &RequestFinalizeBlock, height: u64) -> Result<(), Finding> {
        // What it has heard of before is its own affair.
        let heard: Vec<Bytes> =
            request.txs.iter().filter(|_| self.chance.once_in(2)).cloned().collect();
        if self.chance.once_in(2) {
            self.app().expect_txs(&heard);
        }
        for tx in heard {
            let check = RequestCheckTx { tx, r#type: 0 };
            self.app().check_tx(check).expect("it is open");
        }
        let mut proposal = RequestProcessProposal {
            txs: request.txs.clone(),
            proposed_last_commit: request.decided_last_commit.clone(),
            height: request.height,
            time: request.time,
            ..RequestProcessProposal::default()
        };
        self.votes(proposal.clone(), height, ProposalStatus::Accept)?;
        if let Some(last) = proposal.txs.pop() {
            let mut forged = last.to_vec();
            *forged.last_mut().expect("a transaction has bytes") ^= 1;
            proposal.txs.push(forged.into());
            self.votes(proposal, height, ProposalStatus::Reject)?;
        }
        Ok(())
    }

    fn votes(
        &self,
        proposal: RequestProcessProposal,
        height: u64,
        expected: ProposalStatus,
    ) -> Result<(), Finding> {
        let given = self.app().process_proposal(proposal).expect("it is open").status();
        match given == expected {
            true => Ok(()),
            false => Err(Finding::Proposal {
                replica: self.name,
                height,
                given: given.as_str_name(),
                expected: expected.as_str_name(),
            }),
        }
    }

    /// The block as this replica takes it: as it is, unless it has a bug.
    fn understood(&self, request: &RequestFinalizeBlock) -> RequestFinalizeBlock {
        let mut request = request.clone();
        match self.bug {
            Bug::None => {}
            Bug::Order => request.txs.reverse(),
            Bug::Clock => {
                if let Some(time) = &mut request.time {
                    time.nanos += 1_000_000;
                }
            }
            Bug::Misses => {
                request.txs.pop();
            }
        }
        request
    }
}
